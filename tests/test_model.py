import json
import re
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort
from msgan.methods.cascade import fit
from msgan.phantoms.brain import brain, write_cohort
from msgan.runs import bundled, model_card
from msgan.runs.checksums import checksums
from msgan.runs.model import NOT_STATED, About, card_of, describe, export, is_model
from msgan.runs.run import Run
from msgan.training.loop import WEIGHTS
from msgan.translate import translate
from msgan.types import InputError

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted(f for f in (ROOT / "msgan/models").glob("[!.]*") if f.is_dir())
MIB = 1 << 20

ABOUT = About(
    summary="Makes T2 of people who do not exist.",
    data="four phantoms",
    data_licence="Apache-2.0",
    licence="CC-BY-4.0",
    notice="Copyright of nobody.",
)

SECTIONS = (
    "What it does",
    "Intended use",
    "How to use it",
    "Training data",
    "How it was trained",
    "Evaluation",
    "Limits",
    "Licence",
    "Citation",
)

CONFIG = {
    "preparation": {"scales": 1},
    "sketch": {"channels": ["edges"]},
    "network": {
        "lr_width": 4,
        "lr_levels": 2,
        "hr_width": 4,
        "hr_blocks": 1,
        "discriminator_width": 4,
    },
    "training": {
        "steps": 20,
        "lr_steps": 20,
        "patch": 8,
        "learning_rate": 2e-3,
        "validate_every": 20,
        "checkpoint_every": 20,
    },
}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Phantoms in ``ph`` and a run in ``run``, trained on two of them."""
    folder = tmp_path_factory.mktemp("study")
    torch.manual_seed(0)
    write_cohort(folder / "ph", subjects=3, size=24, seed=0, test_share=0.34)
    cohort = Cohort.from_manifest(folder / "ph/manifest.csv", folder / "ph")
    config = CascadeConfig.model_validate(CONFIG)
    fit(cohort, "t2", config, folder / "run", device="cpu")
    return folder


@pytest.fixture
def run(folder) -> Run:
    return Run.open(folder / "run")


@pytest.fixture
def t1(folder) -> Path:
    return folder / "ph/patient000/patient000_t1.nii.gz"


@pytest.fixture
def model(run, tmp_path) -> Path:
    return export(run, tmp_path / "t2-model", ABOUT)


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


# --- export --------------------------------------------------------------------------------------


def test_a_model_holds_what_translates_and_nothing_else(model):
    files = {f.relative_to(model).as_posix() for f in model.rglob("*") if f.is_file()}
    of_scale = {f"s{i}/{name}" for i in (0, 1) for name in (WEIGHTS, "done.json")}
    assert files == {"README.md", "config.yaml", "run.json", "sketches.json", *of_scale}
    assert [f.name for f in model.parent.iterdir()] == ["t2-model"]


def test_a_model_tells_no_names_and_no_places(model, run, folder):
    assert all(name.startswith("patient") for name in run.data)
    for file in model.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for secret in (*run.data, str(folder), str(model.parent)):
                assert secret.encode() not in content, (file, secret)
    assert sorted(Run.open(model).data.values()) == sorted(run.data.values())


def test_names_are_kept_if_asked_for(run, tmp_path):
    model = export(run, tmp_path / "named", ABOUT, names=True)
    assert Run.open(model).data == run.data
    assert all(name in (model / "README.md").read_text() for name in run.data)


def test_a_model_translates_elsewhere_as_the_run_did(folder, run, t1, tmp_path):
    work = tmp_path / "here"
    shutil.copytree(folder / "run", work)
    own = Run.open(work)
    assert translate(own, t1, tmp_path / "run.nii", device="cpu").seconds > 0
    made = export(own, tmp_path / "m", ABOUT)
    shutil.move(made, tmp_path / "there")
    shutil.rmtree(work)
    translate(Run.open(tmp_path / "there"), t1, tmp_path / "model.nii", device="cpu")
    assert (tmp_path / "model.nii").read_bytes() == (tmp_path / "run.nii").read_bytes()


HALF_TOLERANCE = {"largest": 0.01, "mean": 0.001}
"""Differences that half weights may make, as shares of the intensity range."""


def test_half_weights_take_half_the_room_and_change_next_to_nothing(run, t1, tmp_path):
    whole, half = export(run, tmp_path / "a"), export(run, tmp_path / "b", half=True)
    images = []
    for model in (whole, half):
        translate(Run.open(model), t1, tmp_path / f"{model.name}.nii", device="cpu")
        images.append(nib.load(tmp_path / f"{model.name}.nii").get_fdata())
    span = run.intensity.high - run.intensity.low
    difference = np.abs(images[0] - images[1]) / span
    assert 0 < difference.max() < HALF_TOLERANCE["largest"]
    assert difference.mean() < HALF_TOLERANCE["mean"]
    assert np.ptp(images[0]) > 0.1 * span  # it is a picture, not a constant
    for i in run.used:
        stored = load_file(half / f"s{i}" / WEIGHTS)
        assert {t.dtype for t in stored.values()} == {torch.float16}
        assert {p.dtype for p in Run.open(half).generator(i).parameters()} == {torch.float32}
        sizes = [(m / f"s{i}" / WEIGHTS).stat().st_size for m in (whole, half)]
        assert sizes[1] < 0.65 * sizes[0]  # of small networks much is header
    assert "stored as float16" in (half / "README.md").read_text()
    assert "stored as float32" in (whole / "README.md").read_text()


def test_weights_beyond_half_precision_are_refused(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    path = tmp_path / "run/s1" / WEIGHTS
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = 1e5
    save_file(weights, path)
    with pytest.raises(InputError, match=r"has a value of 100000, float16 ends at 65504"):
        export(Run.open(tmp_path / "run"), tmp_path / "m", half=True)
    assert [f.name for f in tmp_path.iterdir()] == ["run"]


def test_what_is_there_is_not_replaced(run, tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(InputError, match="m: exists already: choose another folder"):
        export(run, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


def test_an_unfinished_scale_is_named(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run/s1/done.json").unlink()
    half_done = Run.open(tmp_path / "run")
    with pytest.raises(InputError, match="the training of scale 1 of 1 is not finished"):
        export(half_done, tmp_path / "m")
    with pytest.raises(InputError, match="the training of scale 1 of 1 is not finished"):
        card_of(half_done)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["done.json", WEIGHTS])
def test_a_damaged_run_is_refused_and_leaves_nothing(folder, tmp_path, name):
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run/s1" / name).write_text("[")
    with pytest.raises(InputError, match=re.escape(name)):
        export(Run.open(tmp_path / "run"), tmp_path / "m")
    assert [f.name for f in tmp_path.iterdir()] == ["run"]


def test_a_model_is_not_exported_again(model, run, tmp_path):
    assert is_model(Run.open(model))
    assert not is_model(run)
    with pytest.raises(InputError, match="is a model already: copy the folder"):
        export(Run.open(model), tmp_path / "m")


def test_a_run_that_needs_another_is_refused(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    config |= {"paired": "t1", "auto_context": "abc"}
    config["sketch"]["channels"] = ["edges", "auto_context"]
    config["contrast"]["share"] = 0.0
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match="sees results of the weights abc"):
        export(Run.open(tmp_path / "run"), tmp_path / "m")


def test_nothing_is_left_of_an_export_that_fails(run, tmp_path, monkeypatch):
    def broken(*_: object) -> str:
        raise OSError("the disk")

    monkeypatch.setattr(model_card, "text", broken)
    with pytest.raises(OSError, match="the disk"):
        export(run, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a CSV table"),
        (b"a,b\n", "expected a CSV table"),
        (b"a,b\n1\n", "expected a CSV table"),
        (b"\xff\xfe\n", "not a CSV table"),
        (None, "no such file"),
    ],
)
def test_scores_that_are_no_table_are_refused(run, tmp_path, content, message):
    path = tmp_path / "scores.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        export(run, tmp_path / "m", scores=path)
    assert not (tmp_path / "m").exists()


# --- the card ------------------------------------------------------------------------------------


def test_the_card_has_what_hubs_and_people_look_for(model, run):
    text = (model / "README.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(SECTIONS)
    assert front(text)["license"] == "cc-by-4.0"
    assert {"medical-imaging", "3d", "t2"} <= set(front(text)["tags"])
    assert text.count("\n# t2-model\n") == 1
    assert "Makes T2 of people who do not exist." in text
    data = section(text, "Training data")
    assert all(digest in data for digest in run.data.values())
    assert "four phantoms" in data
    assert "Subjects: 2" in data
    assert "Copyright of nobody." in section(text, "Licence")
    assert "Not a medical device" in section(text, "Limits")
    assert "invents and omits" in section(text, "Limits")
    assert "as good as the edges of its source. Where" in section(text, "Limits")
    assert "| s0 | " in section(text, "How it was trained")
    assert "20 |" in section(text, "How it was trained")
    assert section(text, "Evaluation").strip() == "Not stated."
    assert max(map(len, text.splitlines())) <= 140


def test_the_card_counts_parameters_and_names_spacings(model, run):
    text = (model / "README.md").read_text()
    for i in run.used:
        count = sum(p.numel() for p in run.generator(i).state_dict().values())
        assert f"| s{i} | {count:,} | 20 |" in text
    fine = run.config.preparation.spacing_mm
    assert fine is not None
    for factor in (1, 2):
        assert " x ".join(f"{s * factor:.3g}" for s in fine) + " mm" in text


def test_commands_of_the_card_run_as_they_stand(model, t1, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from msgan.cli import app

    text = section((model / "README.md").read_text(), "How to use it")
    lines = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert lines is not None
    monkeypatch.chdir(tmp_path)
    shutil.copy(t1, "image.nii.gz")
    for line in lines[1].splitlines():
        words = line.replace("FOLDER", str(model)).split()
        assert words.pop(0) == "msgan"
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    assert Path("t2.nii.gz").is_file()


def test_what_nobody_stated_is_said_to_be_not_stated(run, tmp_path):
    text = (export(run, tmp_path / "m") / "README.md").read_text()
    assert front(text)["license"] == "unknown"
    assert f"- Data: {NOT_STATED}" in text
    assert f"- Licence of the data: {NOT_STATED}" in text
    assert f"Weights: {NOT_STATED}." in text


def test_licences_hubs_do_not_know_are_named(run, tmp_path):
    made = export(run, tmp_path / "m", About(licence="Ours 1.0: ask"))
    text = (made / "README.md").read_text()
    assert front(text)["license"] == "other"
    assert front(text)["license_name"] == "Ours 1.0: ask"


def test_scores_stand_in_the_card_as_they_were_given(run, tmp_path):
    table = "task,ssim,note\nt1 to t2,0.5010,a|b\n"
    (tmp_path / "scores.csv").write_text(table)
    about = About(evaluation="Measured on nobody.")
    made = export(run, tmp_path / "m", about, scores=tmp_path / "scores.csv")
    text = section((made / "README.md").read_text(), "Evaluation")
    assert "Measured on nobody." in text
    assert "| t1 to t2 | 0.5010 | a\\|b |" in text
    assert "structural similarity" in text
    assert "psnr" not in text  # only what the table has is explained
    assert (made / "scores.csv").read_text() == table


def test_the_card_of_a_run_is_that_of_its_model(run, tmp_path):
    whole = export(run, tmp_path / "run")
    assert card_of(run) == (whole / "README.md").read_text()
    (whole / "README.md").write_text("# Edited\n")
    assert card_of(Run.open(whole)) == "# Edited\n"


def test_a_card_says_that_a_filtered_source_is_the_coarsest_image(run):
    card = describe(run, ABOUT)
    matched = run.config.updated(labels=(), guidance={"match": "spectrum"})
    first = "The image at the coarsest scale is the filtered source"
    said = " ".join(model_card.text("m", card, matched).split())
    assert first in said
    assert "draws the whole image" not in said
    said = " ".join(model_card.text("m", card, run.config).split())
    assert first not in said
    assert "draws the whole image" in said


def test_the_run_card_keeps_how_it_was_made(model, run):
    card = json.loads((model / "run.json").read_text())
    own = json.loads((run.folder / "run.json").read_text())
    for name in ("target", "intensity", "seed", "versions", "git", "machine"):
        assert card[name] == own[name]
    assert card["model"]["licence"] == "CC-BY-4.0"
    assert describe(run, ABOUT)["data"] == card["data"]


# --- the seal ------------------------------------------------------------------------------------


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (f"s1/{WEIGHTS}", flipped, "is damaged or another file: its SHA-256 begins"),
        (f"s0/{WEIGHTS}", cut_short, "the model's card states"),
        (f"s0/{WEIGHTS}", Path.unlink, "no such file: the model is not complete"),
        ("config.yaml", lambda p: p.write_text(p.read_text() + "\n"), "the model's card states"),
    ],
)
def test_damage_is_found_when_a_model_is_opened(model, name, damage, message):
    damage(model / name)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        Run.open(model)
    assert str(error.value).startswith(str(model / name))
    assert "\n" not in str(error.value)


def test_weights_without_a_hash_are_refused(model):
    card = json.loads((model / "run.json").read_text())
    del card["model"]["files"][f"s1/{WEIGHTS}"]
    (model / "run.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="the model's card states no hash of it"):
        Run.open(model)


@pytest.mark.parametrize("odd", [{}, {"files": 3}, {"files": {"config.yaml": {}}}, 7])
def test_a_damaged_card_is_one_error(model, odd):
    card = json.loads((model / "run.json").read_text())
    card["model"] = odd
    (model / "run.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"run\.json"):
        Run.open(model)


# --- shipped models ------------------------------------------------------------------------------


@pytest.fixture
def shelf(run, tmp_path, monkeypatch) -> Path:
    """A folder of shipped models with one of them, and an empty working directory."""
    shelf = tmp_path / "shelf"
    export(run, shelf / "toy-t2", ABOUT)
    monkeypatch.setattr(bundled, "MODELS", shelf)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return shelf


def test_a_shipped_model_is_opened_by_its_name(shelf, t1, tmp_path):
    assert list(bundled.bundled()) == ["toy-t2"]
    assert bundled.summary(shelf / "toy-t2") == ABOUT.summary
    assert Run.open("toy-t2").folder == shelf / "toy-t2"
    translate(Run.open("toy-t2"), t1, tmp_path / "out.nii", device="cpu")


def test_a_folder_of_that_name_wins(shelf):
    shutil.copytree(shelf / "toy-t2", "toy-t2")
    assert Run.open("toy-t2").folder == Path("toy-t2")
    (Path("toy-t2") / "run.json").unlink()
    with pytest.raises(InputError, match=r"toy-t2: not a run folder: it has no run\.json"):
        Run.open("toy-t2")


def test_a_name_that_is_neither_lists_the_shipped(shelf):
    for name in ("toy-t3", "runs/none", "../shelf/none"):
        with pytest.raises(InputError, match=re.escape(f"{name}: not a run folder")) as error:
            Run.open(name)
        assert "shipped: toy-t2" in str(error.value)


def test_without_shipped_models_the_error_says_none(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "MODELS", tmp_path / "gone")
    assert bundled.bundled() == {}
    with pytest.raises(InputError, match="shipped: none"):
        Run.open("anything-at-all")


@pytest.mark.parametrize("model", SHIPPED, ids=lambda f: f.name)
def test_what_is_shipped_is_small_complete_and_unchanged(model):
    files = [f for f in model.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 5 * MIB
    run = Run.open(model)  # compares hashes
    assert is_model(run)
    stated = json.loads((model / "run.json").read_text())["model"]["files"]
    assert stated == checksums(model, stated)
    text = (model / "README.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(SECTIONS)
    assert NOT_STATED not in text.lower()
    assert "ICBM152" in section(text, "Licence")
    assert "McConnell Brain Imaging Centre" in " ".join(section(text, "Licence").split())
    assert (model / "scores.csv").is_file()
    assert bundled.summary(model)


@pytest.mark.slow
@pytest.mark.parametrize("model", SHIPPED, ids=lambda f: f.name)
def test_what_is_shipped_translates_a_small_phantom_at_once(model, tmp_path):
    phantom = brain(7, 0, size=32)
    nib.save(nib.Nifti1Image(phantom.images["t1"], phantom.affine), tmp_path / "t1.nii")
    run = Run.open(model.name)
    done = translate(run, tmp_path / "t1.nii", tmp_path / "t2.nii", device="cpu")
    made, inside = nib.load(tmp_path / "t2.nii").get_fdata(), phantom.mask > 0
    assert done.seconds < 30
    assert made.shape == phantom.images["t1"].shape
    assert np.isfinite(made).all()
    assert made[inside].std() > 0.05 * (run.intensity.high - run.intensity.low)


# --- the package ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_wheel_holds_the_models_and_everything_else_that_is_read(tmp_path):
    import subprocess
    from zipfile import ZipFile

    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("msgan", "pyproject.toml", "README.md", "LICENSE"):
        at = ROOT / name
        if at.is_dir():
            shutil.copytree(at, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(at, source)
    toy = source / "msgan/models/toy-model"
    (toy / "s0").mkdir(parents=True)
    for name in ("run.json", "README.md", "config.yaml", f"s0/{WEIGHTS}"):
        (toy / name).write_text("toy")
    words = ["pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    made = subprocess.run(
        [sys.executable, "-m", *words], cwd=source, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in ZipFile(wheel).namelist() if name.startswith("msgan/")}
    there = {f.relative_to(source).as_posix() for f in (source / "msgan").rglob("*") if f.is_file()}
    assert f"msgan/models/toy-model/s0/{WEIGHTS}" in held
    assert {name for name in there if ".egg" not in name} == held
