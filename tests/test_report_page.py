"""The page of a report: its summary, pictures, curves, links, and the viewer of slices."""

import base64
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import head, stored
from PIL import Image
from test_report_document import Page, study, trained

from msgan.data.intensity import IntensityMap
from msgan.data.volume import open_volume
from msgan.methods import ea_gan, mdaunet, med_synth, paired, ptnet, replica, resvit
from msgan.report import shown, summary
from msgan.report.best import best_of
from msgan.report.cards import run_card
from msgan.report.catalog import catalog
from msgan.report.document import write_report
from msgan.report.found import NO_CLAIM, PAIRED, findings, found_in, is_paired, ordinal
from msgan.report.links import link
from msgan.report.reduced import factors_for, reduced
from msgan.report.viewer import MOST_VOXELS, viewer
from msgan.studies.crossval import significance
from msgan.translate.provenance import beside, provenance

EVIL = '"><script>alert(1)<'
"""In the name of a file."""


def scores(values: dict[str, tuple[float, ...]], task: str = "t1→t2", **more: object):
    """SSIM of methods by subject."""
    lines = [
        {"task": task, "method": method, "subject": f"s{k}", "ssim": value, **more}
        for method, own in values.items()
        for k, value in enumerate(own)
    ]
    return pd.DataFrame(lines)


def translated(folder: Path, name: str, dims: int, *, real: bool = True, scored: bool = True):
    """A translation with its sidecar, its source and its real image, as the commands leave it."""
    shape = (20, 16) if dims == 2 else (20, 16, 12)
    made, source, true = (
        stored(folder / f"{name}{end}.nii", head(shape, seed), spacing=2.0)
        for seed, end in enumerate(("", "_t1", "_t2"))
    )
    found = provenance(source, "t1", "t2", made, IntensityMap(0, 100))
    own = {"method": "cascade", "region": "whole image", "ssim": 0.5, "mae": 0.2}
    lines = (own, {**own, "method": "source", "ssim": 0.7, "mae": 0.1}) if scored else ()
    known = {**vars(found), "real": true if real else None, "scores": lines}
    type(found)(**known).save(beside(made))
    return made


def page_of(folder: Path, out: Path) -> tuple[str, Page]:
    text = write_report(folder, out).page.read_text(encoding="utf-8")
    return text, Page(text)


# --- sentences ----------------------------------------------------------------------------------


def test_a_sentence_names_the_best_row_without_pairs_and_where_the_cascade_stands():
    table = scores(
        {"cascade": (0.5, 0.7), "REPLICA": (0.9, 0.9), "source": (0.8, 0.6), "x": (0.1,)}
    )
    assert findings(table) == [
        "t1→t2 (2 subjects): of 3 rows without pairs, “source” (0.700) has the highest SSIM; "
        "“cascade” (0.600) is 2nd; the best with pairs is “REPLICA” (0.900)."
    ]
    first = scores({"source": (0.5,), "cascade, edges alone": (0.9,)}, region="brain")
    assert findings(first) == [
        "t1→t2 (1 subject, brain): of 2 rows, “cascade, edges alone” (0.900) has the highest "
        "SSIM; next is “source” (0.500)."
    ]


def test_a_sentence_follows_the_direction_of_its_metric():
    table = scores({"cascade": (0.5,), "source": (0.7,)}).rename(columns={"ssim": "lung_mae"})
    assert (
        "“cascade” (0.500) has the lowest lung MAE; next is “source” (0.700)" in findings(table)[0]
    )
    level = scores({"a": (0.5,), "cascade": (0.5,), "b": (0.1,)})
    assert (
        "“a” (0.500) and “cascade” (0.500) have the highest SSIM; next is “b”" in findings(level)[0]
    )


def test_a_sentence_has_the_interval_of_a_difference_that_was_tested():
    table = scores({"cascade": (0.5, 0.6, 0.7), "source": (0.7, 0.8, 0.9)})
    tests = significance(table, "cascade", ("ssim",))
    assert "“cascade” (0.600) is 2nd, difference 0.200 [" in findings(table, tests)[0]
    assert "difference" not in findings(table, tests[tests["task"] == "other"])[0]


def test_what_cannot_be_compared_is_not_claimed():
    assert findings(scores({"cascade": (0.5,)})) == [
        "t1→t2 (1 subject): SSIM of “cascade” (0.500); nothing was compared with it."
    ]
    assert findings(scores({"a": (np.nan,)})) == []
    assert findings(scores({"a": (0.5,)}).drop(columns="ssim")) == []
    only = findings(scores({"cascade": (0.5,), "MedSynth": (0.6,)}))[0]
    assert "without pairs only “cascade” (0.500) was measured, by SSIM" in only


def test_a_sentence_claims_no_more_than_there_is():
    with_pairs = scores({"MedSynth": (0.5,), "REPLICA": (0.6,)})
    assert findings(with_pairs) == ["t1→t2 (1 subject): the best with pairs is “REPLICA” (0.600)."]
    level = scores({"a": (0.5,), "cascade": (0.5,)})
    assert findings(level) == [  # none is next
        "t1→t2 (1 subject): of 2 rows, “a” (0.500) and “cascade” (0.500) have the highest SSIM."
    ]
    tests = pd.DataFrame(
        [("t1→t2", "source", "cascade", "ssim", 0.2, low, 0.3) for low in (np.nan, 0.1)],
        columns=["task", "method", "reference", "metric", "difference", "low", "high"],
    )
    table = scores({"cascade": (0.5, 0.5), "source": (0.7, 0.7)})
    # An interval that could not be computed is none.
    assert findings(table, tests)[0].endswith("is 2nd, difference 0.200 [0.100, 0.300].")
    assert findings(table, tests[:1])[0].endswith("“cascade” (0.500) is 2nd.")


def test_rows_that_learn_from_pairs_are_those_of_the_methods():
    names = set()
    for module in (ea_gan, mdaunet, med_synth, paired, ptnet, replica, resvit):
        own = [c for c in vars(module).values() if getattr(c, "__module__", "") == module.__name__]
        names |= {c.name for c in own if isinstance(getattr(c, "name", None), str)}
    assert names == set(PAIRED)
    assert is_paired("MedSynth, 2 models")
    assert not is_paired("cascade")
    assert not is_paired("MedSynthetic")


def test_found_is_read_from_the_tables_and_shown_as_text(tmp_path):
    folder = tmp_path / "smoke" / "06"
    folder.mkdir(parents=True)
    scores({"<b>": (0.5,), "cascade": (0.4,)}).to_csv(folder / "scores.csv", index=False)
    found = found_in(folder, {}, "smoke")
    assert found.sentences[-1] == NO_CLAIM
    assert "“<b>” (0.500) has the highest SSIM" in str(found)
    assert "&lt;b&gt;" in found._repr_html_()
    assert "<b>" not in found._repr_html_()
    assert len(found_in(folder, {"a": 1}, "small").sentences) == 1
    (folder / "scores.csv").write_text("a,b\n1,2\n")
    assert "Not read: scores.csv: no column 'method'." in str(found_in(folder, {"a": 1}, "small"))


@pytest.mark.parametrize(
    ("n", "text"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (11, "11th"), (22, "22nd")]
)
def test_ordinals(n, text):
    assert ordinal(n) == text


def test_best_values_follow_the_direction():
    nan = np.nan
    assert best_of("ssim", [0.1, 0.3, nan]) == {1}
    assert best_of("lesion_dice", [0.3, 0.3]) == {0, 1}
    assert best_of("nmse", [0.3, 0.1]) == {1}
    assert best_of("soft_hu", [-50, 3, 20]) == {1}
    assert best_of("psnr", [nan, 3]) == set()
    assert best_of("seconds", [1, 2]) == set()


# --- the page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_a_translation_has_scores_a_picture_and_a_viewer(tmp_path, dims):
    made = translated(tmp_path / "r", "a", dims)
    text, page = page_of(tmp_path / "r", tmp_path / "r" / "report")
    assert page.open == []
    assert "1 image of 1 subject translated, t1→t2." in page.words
    assert "“source” (0.700) has the highest SSIM; “cascade” (0.500) is 2nd." in page.words
    assert len(page.alts) == 1
    assert "source, translated, real, and translated minus real" in page.alts[0]
    assert text.count('class="viewer"') == 1
    assert text.count('type="range"') == (3 if dims == 3 else 0)
    assert f"../{made.name}" in page.addresses
    table = pd.read_csv(tmp_path / "r" / "report" / "tables" / "translations.csv")
    assert list(table["ssim"]) == [0.5, 0.7]


def test_pictures_are_of_different_tasks_and_people_first(tmp_path):
    for k, (subject, source) in enumerate((("a", "t1"), ("a", "t1"), ("b", "t1"), ("a", "pd"))):
        path = beside(translated(tmp_path / "r", f"{k}", 2, scored=False))
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"subject": subject, "source": source})
        )
    _, page = page_of(tmp_path / "r", tmp_path / "out")
    assert [alt.split(":")[0] for alt in page.alts] == ["0.nii", "3.nii", "2.nii"]
    assert "Pictures of 3 of 4" in page.words


def test_without_a_real_image_source_and_translation_are_shown(tmp_path):
    translated(tmp_path / "r", "a", 3, real=False, scored=False)
    _, page = page_of(tmp_path / "r", tmp_path / "out")
    assert "No real image is known." in page.words
    assert "No scores were found" in page.words
    assert "Difference: red" not in page.words


def test_no_published_number_stands_on_a_page_where_none_was_measured(tmp_path):
    run = trained(tmp_path / "runs" / "t2")
    text, page = page_of(tmp_path / "runs", tmp_path / "out")
    assert "ublished values" not in text
    assert not (tmp_path / "out" / "tables" / "ledger.csv").exists()
    shutil.rmtree(run)
    folder = study(tmp_path / "runs")
    rows = {"cascade": (0.5, 0.6), "MedSynth": (0.4, 0.5), "REPLICA": (0.6, 0.7)}
    table = scores(rows, region="foreground")
    table["image_ssim"] = table["ssim"]
    table.to_csv(folder / "scores.csv", index=False)
    text, page = page_of(tmp_path / "runs", tmp_path / "out")
    assert "Published values beside ours" in page.words
    ledger = pd.read_csv(tmp_path / "out" / "tables" / "ledger.csv")
    assert set(ledger["row"]) == set(rows)
    assert "not run" not in set(ledger["ours"].astype(str))


def test_curves_of_a_training_are_drawn_and_damaged_lines_left_out(tmp_path):
    folder = trained(tmp_path / "runs" / "t2")
    assert run_card(folder, "t2").curves is None
    lines = [{"step": 20 * k, "l1": 1 / (k + 1), "validation_l1": "x"} for k in range(20)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "s0" / "metrics.jsonl").write_text(text + "{\x00")
    _, page = page_of(tmp_path / "runs", tmp_path / "out")
    assert len(page.alts) == 1
    assert page.alts[0].startswith("t2: Mean absolute error")


def test_a_preset_that_makes_no_claim_is_said_to_make_none(tmp_path):
    study(tmp_path / "runs")
    _, page = page_of(tmp_path / "runs", tmp_path / "out")
    assert NO_CLAIM in page.words
    path = tmp_path / "runs" / "06_made_up.ipynb"
    path.write_text(path.read_text().replace('"smoke"', '"small"'))
    _, page = page_of(tmp_path / "runs", tmp_path / "out")
    assert NO_CLAIM not in page.words
    trained(tmp_path / "runs" / "t2")  # made of the preset smoke
    _, page = page_of(tmp_path / "runs", tmp_path / "out")
    assert "the numbers of t2 show that everything runs and make no claim" in page.words


def test_translations_by_a_smoke_run_make_no_claim_as_long_as_it_is_known(tmp_path):
    run, gone = trained(tmp_path / "t2"), tmp_path / "gone"
    own, both, lost = (SimpleNamespace(runs=runs) for runs in ((run,), (run, gone), (gone,)))
    assert summary._claim([], own, []) == NO_CLAIM
    assert summary._claim([], own, [run_card(run, "t2")]) == NO_CLAIM  # it is told once
    named = NO_CLAIM.replace("these numbers", "the numbers of t2")
    assert summary._claim([], both, []) == named
    assert summary._claim([], lost, []) == ""


def test_a_translation_that_cannot_be_shown_is_named_and_keeps_its_line(tmp_path):
    for name in ("a", "b", "c"):
        translated(tmp_path / "r", name, 2)
    stored(tmp_path / "r" / "b_t2.nii", head((9, 9)), spacing=2.0)
    (tmp_path / "r" / "c_t1.nii").write_bytes(b"broken")
    written = write_report(tmp_path / "r", tmp_path / "out")
    assert len(written.problems) == 2
    assert any("b_t2.nii: lies on another grid than " in line for line in written.problems)
    assert any("c_t1.nii: " in line for line in written.problems)
    page = Page(written.page.read_text(encoding="utf-8"))
    assert "3 images of 3 subjects translated" in page.words
    assert [alt.split(":")[0] for alt in page.alts] == ["a.nii"]


def test_a_damaged_run_is_told_once_beside_the_translations(tmp_path):
    translated(tmp_path / "r", "a", 2)
    beside(translated(tmp_path / "r", "b", 2)).write_text("{")
    (trained(tmp_path / "r" / "t2") / "run.json").write_text("{")
    written = write_report(tmp_path / "r", tmp_path / "out")
    told = "\n".join(written.problems)
    assert told.count("run.json") == 1
    assert told.count("b.json") == 1
    assert len(written.problems) == 2


def test_a_picture_of_a_large_image_says_how_it_was_reduced(tmp_path, monkeypatch):
    translated(tmp_path, "a", 2, real=False, scored=False)
    (one,) = catalog(tmp_path).translated
    assert "Drawn from means" not in shown.shown_of(one).picture.text
    monkeypatch.setattr(shown, "MOST_VOXELS", 20 * 16 // 4)
    text = shown.shown_of(one).picture.text
    assert text.endswith("Drawn from means of 2×2 voxels.")


def test_hostile_names_are_words_and_addresses_only(tmp_path):
    translated(tmp_path / "r", "ja vascript:x#1", 2)
    made = translated(tmp_path / "r", "b", 2)
    sidecar = json.loads(beside(made).read_text())
    sidecar["subject"] = EVIL
    sidecar["scores"][0]["region"] = EVIL
    sidecar["scores"][1]["method"] = EVIL
    beside(made).write_text(json.dumps(sidecar))
    text, page = page_of(tmp_path / "r", tmp_path / "r" / "report")
    assert page.open == []
    assert text.count("<script") == 1
    assert EVIL in page.words
    assert "../ja%20vascript%3Ax%231.nii" in page.addresses
    assert (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" in text
    )


def test_addresses_lead_to_files_and_to_no_scheme(tmp_path):
    assert link(tmp_path / "a" / "b c", tmp_path / "out") == "../a/b%20c"
    assert link(Path("javascript:x"), Path()) == "./javascript%3Ax"
    assert link(Path("//x.org"), Path("/")) == "./x.org"
    assert link(tmp_path / "\udcff", tmp_path) == "./%FF"


# --- reduced images and the viewer --------------------------------------------------------------


def test_means_are_those_of_the_blocks(dims, monkeypatch):
    monkeypatch.setattr("msgan.report.reduced.SLAB", 50)
    shape = (11, 7) if dims == 2 else (11, 7, 5)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    boxes = []
    factors = (3, 2, 1)[:dims]

    def read(box):
        boxes.append(box)
        return image[box.slices]

    small = reduced(read, shape, factors)
    assert small.shape == tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))
    assert small.flat[0] == pytest.approx(image[tuple(slice(f) for f in factors)].mean(), abs=1e-6)
    assert small.flat[-1] == pytest.approx(
        image[
            tuple(slice((n - 1) // f * f, n) for n, f in zip(shape, factors, strict=True))
        ].mean(),
        abs=1e-6,
    )
    assert len(boxes) > 1
    np.testing.assert_array_equal(reduced(read, shape, (1,) * dims), image)


def test_small_voxels_are_joined_first():
    assert factors_for((100, 100, 10), (1.0, 1.0, 10.0), 1000) == (10, 10, 1)
    assert factors_for((5, 5), (1.0, 1.0), 1) == (5, 5)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_a_sprite_holds_every_voxel_where_the_script_looks_for_it(tmp_path, flips):
    image = np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)
    order = np.eye(3)[[1, 0, 2]] * np.array(flips) * 2.0  # the first axis of the file is y
    affine = np.eye(4)
    affine[:3, :3] = order
    path = stored(tmp_path / "a.nii", image, affine)
    with open_volume(path) as volume:
        told = json.loads(viewer("a", {"a": volume}, {"a": (0.0, 119.0)}).data)
    assert told["shape"] == [5, 6, 4]
    sprite = base64.b64decode(told["images"][0]["sprite"].split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(sprite)))
    upright = image.transpose(1, 0, 2)[:: flips[1], :: flips[0], :: flips[2]]
    grey = np.rint(upright * 255 / 119)
    x, y, z = told["shape"]
    for k in range(z):  # as viewer.js does
        left, top = (k % told["across"]) * x, k // told["across"] * y
        np.testing.assert_array_equal(pixels[top : top + y, left : left + x].T, grey[:, :, k])


def test_a_large_image_is_reduced_and_the_viewer_says_so():
    shape = (200, 160, 120)
    grid = SimpleNamespace(shape=shape, spacing=(1.0, 1.0, 1.0), dims=3, affine=np.eye(4))
    volume = SimpleNamespace(grid=grid, read=lambda box: np.ones(box.size, np.float32))
    made = viewer("a", {"a": volume}, {"a": (0.0, 1.0)})
    assert "200×160×120 voxels reduced to means of 2×2×2" in made.note
    assert np.prod(json.loads(made.data)["shape"]) <= MOST_VOXELS
    assert [plane.count for plane in made.planes] == [60, 80, 100]
