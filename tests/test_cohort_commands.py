"""A manifest or a tree of folders is translated, scored with baselines, and reported."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import config_of, head, run_of, stored
from program import fails, msgan_cli

from msgan.config import CascadeConfig, Preparation, TrainConfig, network_of
from msgan.data.cohort import Cohort
from msgan.data.grid import Grid
from msgan.data.volume import write_volume
from msgan.match.profile import TargetProfile
from msgan.methods.baselines import baselines
from msgan.methods.cascade import fit
from msgan.methods.trained import Cascade
from msgan.report.catalog import catalog
from msgan.studies.table import score_table
from msgan.translate.provenance import Provenance

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 24
PEOPLE = ("sub-01", "sub-02", "sub-03")


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people of 2D images as BIDS has them, a manifest and a run trained for one step."""
    root = tmp_path_factory.mktemp("bids")
    rng = np.random.default_rng(0)
    rows = ["subject,role,modality,path,split,licence,citation"]
    for person in PEOPLE:
        form = rng.uniform(50, 100, (SIDE, SIDE))
        form[:4] = 0
        for modality, suffix, values in (("t1", "T1w", form), ("t2", "T2w", 150 - form)):
            path = root / person / "anat" / f"{person}_{suffix}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = np.where(form > 0, values, 0)
            grid = Grid.from_spacing(form.shape, (1.0, 1.0))
            write_volume(path, grid, lambda box, v=shown: v[box.slices])
            split = "train" if person == "sub-03" else "test"
            rows.append(f"{person},image,{modality},{path.relative_to(root)},{split},CC0,none")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    config = CascadeConfig(
        dims=2,
        network=network_of(lr_width=4, hr_width=4, hr_blocks=1, lr_levels=2),
        preparation=Preparation(scales=1, margin=0),
        training=TrainConfig(steps=1, lr_steps=1, patch=8, batch=1, lr_batch=1),
    )
    fit(Cohort.from_manifest(root / "manifest.csv", root), "t2", config, root / "run", device="cpu")
    return root


@pytest.fixture
def here(bids: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(bids, tmp_path / "bids"))


def test_a_split_is_translated_scored_and_reported(here: Path) -> None:
    manifest, out = here / "manifest.csv", here / "out"
    words = ("translate", here / "run", manifest, out)
    done = msgan_cli(*words)
    assert sorted(p.name for p in out.iterdir()) == [
        f"sub-0{k}{suffix}" for k in (1, 2) for suffix in (".json", ".nii.gz")
    ]
    assert "1/2 sub-01 s0" in done.stderr
    trace = Provenance.load(out / "sub-01.json")
    assert trace.real == here / "sub-01" / "anat" / "sub-01_T2w.nii.gz"
    assert (trace.subject, trace.source, trace.target) == ("sub-01", "t1", "t2")
    again = msgan_cli(*words)
    assert "2 of 2 results are there already, of the same images and weights" in again.stderr
    (out / "sub-02.nii.gz").unlink()
    assert "1/1 sub-02 s0" in msgan_cli(*words).stderr

    done = msgan_cli("evaluate", manifest, "--of", out, "--json", here / "scores.json")
    found = pd.read_csv(out / "scores.csv")
    cohort = Cohort.from_manifest(manifest, here)
    run = Cascade.fit(
        cohort, None, "t2", CascadeConfig.load(here / "run" / "config.yaml"), here / "run"
    ).run
    preparation = run.config.preparation
    methods = {"cascade": Cascade(run, "cpu"), **baselines(cohort, "t2", preparation)}
    wanted = score_table(
        methods, cohort.split("test"), "t1", "t2", run.intensity, preparation, here / "table"
    )
    assert list(found["method"].unique()) == list(methods)
    for name in ("ssim", "mae", "psnr", "voxels"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)
    means = {
        line["method"]: line for line in json.loads((here / "scores.json").read_text())["mean"]
    }
    own = wanted[wanted["method"] == "inverted, matched"]["mae"].mean()
    np.testing.assert_allclose(means["inverted, matched"]["mae"], own, rtol=1e-6)
    (line,) = (text for text in done.stdout.splitlines() if text.startswith("inverted, matched  "))
    assert line.split()[2] == "2"
    assert done.stdout.count("*") == 1 + 5  # the best of each column
    scores = Provenance.load(out / "sub-02.json").scores
    assert [score["method"] for score in scores] == list(methods)

    shutil.rmtree(here / "table")
    assert len(catalog(out).translated) == 2
    msgan_cli("report", out, "--out", here / "report")
    page = (here / "report" / "report.html").read_text(encoding="utf-8")
    assert "must not be read as if they were acquired" in page
    assert page.count("the translation is synthetic") == 4  # two pictures, each with its text
    assert "inverted, matched" in page


def test_one_bad_subject_does_not_stop_the_others(here: Path) -> None:
    manifest, out = here / "manifest.csv", here / "out"
    (here / "sub-01" / "anat" / "sub-01_T1w.nii.gz").write_bytes(b"broken")
    done = msgan_cli("translate", here / "run", manifest, out, status=2)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "sub-01" in errors[0]
    assert errors[1:] == ["error: 1 of 2 images could not be translated"]
    assert (out / "sub-02.nii.gz").is_file()
    real = here / "sub-02" / "anat" / "sub-02_T2w.nii.gz"
    text = manifest.read_text().replace("sub-02/anat/sub-02_T2w", "sub-03/anat/sub-03_T2w")
    (here / "mixed.csv").write_text(
        text.replace("sub-03,image,t2,sub-03/anat", "sub-03,image,t2,x")
    )
    line = msgan_cli("evaluate", here / "mixed.csv", "--of", out, status=2).stderr
    assert "sub-02 and sub-03 by their names: different people" in line
    assert not (out / "scores.csv").exists()
    assert real.is_file()


def test_what_was_made_otherwise_is_not_replaced_unasked(here: Path) -> None:
    manifest, out = here / "manifest.csv", here / "out"
    words = ("translate", here / "run", manifest, out)
    msgan_cli(*words)
    source = here / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    shutil.copy(here / "sub-03" / "anat" / "sub-03_T1w.nii.gz", source)
    before = (out / "sub-01.nii.gz").read_bytes()
    line = msgan_cli(*words, status=2).stderr.splitlines()[-1]
    assert f"{out / 'sub-01.nii.gz'}: is there already: pass --force" in line
    assert "every image has a result" in msgan_cli(*words, "--skip-existing").stdout
    assert (out / "sub-01.nii.gz").read_bytes() == before
    msgan_cli(*words, "--force")
    assert (out / "sub-01.nii.gz").read_bytes() != before


def test_a_result_that_was_cut_short_later_is_not_taken_for_whole(here: Path) -> None:
    words = ("translate", here / "run", here / "manifest.csv", here / "out")
    msgan_cli(*words)
    cut = here / "out" / "sub-01.nii.gz"
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    lines = msgan_cli(*words, status=2).stderr.splitlines()
    assert [line for line in lines if line.startswith(f"note: {cut}: ")]
    assert f"{cut}: is there already: pass --force" in lines[-1]
    msgan_cli(*words, "--force")
    assert cut.read_bytes() == whole


def test_folders_are_searched_below(here: Path) -> None:
    words = ("translate", here / "run", here, here / "out", "--match", "*T1w*")
    msgan_cli(*words)
    found = sorted(p.relative_to(here / "out").as_posix() for p in (here / "out").rglob("*.nii.gz"))
    assert found == [f"{person}/anat/{person}_T1w.nii.gz" for person in PEOPLE]
    assert "every image has a result" in msgan_cli(*words).stdout
    # The manifest knows them by the images that were translated.
    done = msgan_cli("evaluate", here / "manifest.csv", "--of", here / "out", "--no-baselines")
    assert "cascade    3" in done.stdout


def test_a_pair_has_baselines_beside_and_other_people_are_noticed(here: Path) -> None:
    images = here / "sub-01" / "anat"
    out, real = here / "a.nii.gz", images / "sub-01_T2w.nii.gz"
    msgan_cli("translate", here / "run", images / "sub-01_T1w.nii.gz", out)
    assert fails("evaluate", out) == (
        f"{out}: no sidecar names its real image: expected FAKE and REAL"
    )
    done = msgan_cli("evaluate", out, real)
    rows = [line.split("  ")[0] or line.strip().split("  ")[0] for line in done.stdout.splitlines()]
    names = ["source", "histogram-matched to REAL", "inverted, matched to REAL"]
    assert rows[1:5] == ["whole image", *names]
    assert done.stderr == ""
    assert Provenance.load(here / "a.json").real == real
    assert msgan_cli("evaluate", out).stdout == done.stdout  # the sidecar knows it now
    other = here / "sub-02" / "anat" / "sub-02_T2w.nii.gz"
    assert "different people" in msgan_cli("evaluate", out, other).stderr


# --- what the manifest or a sidecar does not say -----------------------------------------------


@pytest.fixture(scope="module")
def done(bids: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with the translations of the two test subjects in ``out``."""
    folder = Path(shutil.copytree(bids, tmp_path_factory.mktemp("done") / "bids"))
    msgan_cli("translate", folder / "run", folder / "manifest.csv", folder / "out")
    return folder


@pytest.fixture
def made(done: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(done, tmp_path / "made"))


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without(made: Path, what: str) -> Path:
    """The manifest without the lines that hold ``what``."""
    lines = (made / "manifest.csv").read_text().splitlines()
    path = made / "fewer.csv"
    path.write_text("\n".join(line for line in lines if what not in line) + "\n")
    return path


def scores(manifest: Path, *words: str, status: int = 0) -> tuple[pd.DataFrame, list[str]]:
    """The table of all translations in ``out``, and the lines of its errors."""
    found = msgan_cli("evaluate", manifest, "--of", manifest.parent / "out", *words, status=status)
    lines = [line for line in found.stderr.splitlines() if line.startswith(("error: ", "note: "))]
    return pd.read_csv(manifest.parent / "out" / "scores.csv"), lines


def test_a_translation_of_nobody_in_the_manifest_is_told(made: Path) -> None:
    first = made / "out" / "sub-01.nii.gz"
    table, lines = scores(without(made, "sub-01"), status=2)
    image = made / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    assert lines == [
        f"error: {first}: of {image}, which the manifest does not name",
        "error: 1 of 2 images could not be scored",
    ]
    assert set(table["subject"]) == {"sub-02"}


def test_a_subject_without_a_real_image_is_told(made: Path) -> None:
    table, lines = scores(without(made, "sub-01_T2w"), status=2)
    said = f"{made / 'out/sub-01.nii.gz'}: the manifest has no t2 image of sub-01"
    assert lines[0] == f"error: {said}"
    assert set(table["subject"]) == {"sub-02"}


def test_a_sidecar_without_a_preparation_cannot_be_scored(made: Path) -> None:
    edited(made / "out" / "sub-01.json", preparation={})
    table, lines = scores(made / "manifest.csv", status=2)
    said = f"{made / 'out/sub-01.nii.gz'}: its sidecar does not say how it was prepared"
    assert lines[0] == f"error: {said}"
    assert set(table["subject"]) == {"sub-02"}


def test_without_training_subjects_baselines_see_the_real_image_and_say_so(made: Path) -> None:
    edited(made / "out" / "sub-02.json", run=None)
    table, lines = scores(without(made, "sub-03"))
    assert lines == []
    rows = {name: list(part["method"]) for name, part in table.groupby("subject")}
    assert rows["sub-02"] == ["cascade"]  # of no run: nothing is known of its target
    learnt = ["source", "histogram-matched to REAL", "inverted, matched to REAL"]
    assert rows["sub-01"] == ["cascade (run)", *learnt]
    matched = table[table["method"] == "inverted, matched to REAL"]["mae"].item()
    assert matched < 0.02  # t2 is t1 turned round


def test_baselines_of_a_subject_stand_in_the_table_once(made: Path) -> None:
    shutil.copytree(made / "out", made / "out" / "again")
    for path in (made / "out" / "again").glob("*.json"):
        content = json.loads(path.read_text())
        moved = {k: f"../{content[k]}" for k in ("image", "real", "run")}
        edited(path, **moved)
    table, _ = scores(made / "manifest.csv")
    counts = table.groupby(["method", "subject"]).size()
    assert set(counts["cascade"]) == {2}
    assert set(counts.drop("cascade")) == {1}


def test_scores_that_no_sidecar_keeps_are_in_the_table(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Provenance.save

    def locked(self: Provenance, path: Path) -> None:
        if made in path.parents:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        save(self, path)

    monkeypatch.setattr(Provenance, "save", locked)
    before = (made / "out" / "sub-01.json").read_bytes()
    table, lines = scores(made / "manifest.csv", "--no-baselines")
    assert lines == [
        f"note: {made / 'out'}/sub-0{k}.json: not kept: Read-only file system" for k in (1, 2)
    ]
    assert list(table["subject"]) == ["sub-01", "sub-02"]
    assert (made / "out" / "sub-01.json").read_bytes() == before
    pair = (made / "out" / "sub-01.nii.gz", made / "sub-01" / "anat" / "sub-01_T2w.nii.gz")
    note = msgan_cli("evaluate", *pair).stderr
    assert note == (
        f"note: {made / 'out/sub-01.json'}: the scores were not kept: Read-only file system\n"
    )


# --- pairs -------------------------------------------------------------------------------------


def rows(text: str) -> list[str]:
    """What the table of a pair calls its rows."""
    return [line.strip().split("  ")[0] for line in text.splitlines() if "  0." in line]


def test_a_pair_whose_source_has_changed_has_no_baselines_beside(made: Path) -> None:
    pair = (made / "out" / "sub-01.nii.gz", made / "sub-01" / "anat" / "sub-01_T2w.nii.gz")
    source = made / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    shutil.copy(made / "sub-01" / "anat" / "sub-01_T2w.nii.gz", source)
    found = msgan_cli("evaluate", *pair)
    note = f"no baselines beside: {source}: has changed since it was translated"
    assert found.stderr == f"note: {note}\n"
    assert rows(found.stdout) == ["whole image"]
    edited(made / "out" / "sub-01.json", run=None)
    found = msgan_cli("evaluate", *pair)
    assert (found.stderr, rows(found.stdout)) == ("", ["whole image"])


def test_baselines_of_what_a_run_keeps_see_nothing_of_the_real_image(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", config_of(2).updated(guidance={"match": "histogram"}))
    TargetProfile("histogram", np.linspace(-1, 1, 1025)).save(run.folder)
    source = stored(tmp_path / "t1.nii", head((36, 30)))
    real = stored(tmp_path / "t2.nii", head((36, 30), 1))
    msgan_cli("translate", run.folder, source, tmp_path / "o.nii", "--polarity", "same")
    found = msgan_cli("evaluate", tmp_path / "o.nii", real)
    own = ["whole image", "source", "histogram-matched", "inverted, matched"]
    assert rows(found.stdout)[: len(own)] == own
    assert "baselines without a network" in found.stdout
    assert "REAL" not in found.stdout


def test_a_range_that_cannot_be_found_is_asked_for(tmp_path: Path) -> None:
    real, fake = (stored(tmp_path / f"{k}.nii", head((16, 16), k)) for k in (0, 1))
    line = fails("evaluate", fake, real, "--black", 1000)
    assert line.startswith(f"{real}: ")
    assert line.endswith(": pass --data-range and --black")
    stated = msgan_cli("evaluate", fake, real, "--data-range", 50, "--black", 1000)
    assert "intensities scaled from 1000..1050 " in stated.stdout
    line = fails("evaluate", fake, real, "--data-range", -1)
    assert line == "--data-range -1: expected a positive number"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("translate run manifest.csv out --split val", "--split val: no subject of this split"),
        ("translate run manifest.csv out --modality ct", "--modality ct: no such image"),
        ("translate run manifest.csv out --match *T1*", "--match: is of images and folders"),
        ("translate run sub-01 out --split test", "--split: expected a manifest"),
        ("evaluate manifest.csv --of run", "run: no translation with a sidecar"),
        ("evaluate manifest.csv --of none", "none: no such folder"),
        ("evaluate manifest.csv --of run --black 0", "--black: is of one pair, not of --of DIR"),
        ("evaluate run run --csv a.csv", "--csv: is for --of DIR"),
    ],
)
def test_bad_input_is_one_line(
    bids: Path, words: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bids)
    assert fails(*words.split()).startswith(message)
