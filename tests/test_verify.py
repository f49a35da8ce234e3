"""What was made is checked against its card and made again; what was changed is found."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from helpers import cohort_in, head, pairs, run_of, stored, tiny, whole
from program import fails, msgan_cli
from safetensors.torch import load_file, save_file

from msgan import presets
from msgan.cli import verify as command
from msgan.data.cohort import Cohort
from msgan.data.entry import Entry
from msgan.data.grid import Grid
from msgan.data.manifest import Manifest, write_manifest
from msgan.data.volume import open_volume, write_volume
from msgan.match.profile import TargetProfile
from msgan.methods.cascade import data_hashes, fit
from msgan.report import run_cache
from msgan.runs.model import export
from msgan.runs.run import Run, git_commit
from msgan.training.log import LOG
from msgan.training.loop import WEIGHTS
from msgan.translate import translate
from msgan.translate.provenance import Provenance, beside
from msgan.types import InputError
from msgan.verify import (
    State,
    check_notebook,
    check_training,
    check_translation,
    compare_notebooks,
    compare_trainings,
    compare_translations,
    notebook_again,
    training_again,
    translation_again,
)
from msgan.verify.notebook import is_measured
from msgan.verify.translation import compare_images
from msgan.verify.verdict import Verdict
from msgan.verify.weights import compare_logs, compare_weights, relative

pytestmark = pytest.mark.usefixtures("one_thread")


def config():
    training = {"steps": 30, "lr_steps": 20, "validate_every": 10, "checkpoint_every": 30}
    return tiny(2, preparation={"scales": 1}, **training)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Cohort, Run]:
    folder = tmp_path_factory.mktemp("study")
    cohort = cohort_in(folder)
    return cohort, fit(cohort, "t2", config(), folder / "run", device="cpu")


@pytest.fixture
def run(study, tmp_path) -> Run:
    """A copy that may be spoilt."""
    shutil.copytree(study[1].folder, tmp_path / "run", ignore=shutil.ignore_patterns("cache"))
    return Run.open(tmp_path / "run")


def wrong(verdict: Verdict) -> dict[str, str]:
    return {f.what: f.detail for f in verdict.findings if f.state is State.DIFFERENT}


# --- trainings ---------------------------------------------------------------------------------


def test_a_run_is_what_its_card_says(study) -> None:
    cohort, run = study
    verdict = check_training(run, cohort)
    assert {f.state for f in verdict.findings} == {State.IDENTICAL}
    assert len(verdict.findings) == 11
    assert verdict.passed
    assert str(verdict) == f"{run.folder}: identical"
    without = check_training(run)
    assert [f.what for f in without.findings if f.state is State.UNCHECKED] == ["images"]
    assert without.passed


def test_a_model_that_comes_with_the_package_is_checked() -> None:
    verdict = check_training(Run.open("brain-phantom-t2"))
    assert verdict.passed, wrong(verdict)


def edited(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def lines(run: Run, scale: int, change) -> None:
    path = run.folder_of(scale) / LOG
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))


def one_bit(run: Run) -> None:
    path = run.folder_of(1) / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


SPOILT = {
    "a bit of the weights": (one_bit, "s1: SHA-256 of the weights", "is "),
    "weights cut short": (
        lambda run: (run.folder_of(1) / WEIGHTS).write_bytes(b"x"),
        "s1: weights can be read",
        "not a safetensors file",
    ),
    "the seed": (
        lambda run: (run.folder / "config.yaml").write_text(
            (run.folder / "config.yaml").read_text().replace("seed: 0", "seed: 1")
        ),
        "run.json and config.yaml: key",
        "the card states",
    ),
    "the best score": (
        lambda run: edited(run.folder_of(0) / "done.json", best=0.001),
        "s0: header of the weights",
        "best",
    ),
    "a line of the log": (
        lambda run: (run.folder_of(1) / LOG).write_text("x\n"),
        "s1: metrics.jsonl",
        "line 1 cannot be read",
    ),
    "no log": (lambda run: (run.folder_of(1) / LOG).unlink(), "s1: metrics.jsonl", "missing"),
    "the order": (
        lambda run: lines(run, 1, lambda rows: rows[::-1]),
        "s1: metrics.jsonl",
        "step 20 after 30",
    ),
    "the end": (lambda run: lines(run, 1, lambda rows: rows[:1]), "s1: metrics.jsonl", "ends at"),
    "a loss": (
        lambda run: lines(run, 1, lambda rows: [rows[0] | {"l1": float("nan")}, *rows[1:]]),
        "s1: metrics.jsonl",
        "l1 is nan",
    ),
    "a rate": (
        lambda run: lines(run, 1, lambda rows: [rows[0] | {"learning_rate": 1.0}, *rows[1:]]),
        "s1: metrics.jsonl",
        "expected",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_was_changed_in_a_run_is_found(name: str, run: Run, capsys) -> None:
    spoil, what, detail = SPOILT[name]
    spoil(run)
    found = wrong(check_training(Run.open(run.folder)))
    assert what in found
    assert detail in found[what]
    msgan_cli("verify", run.folder, status=command.DIFFERENT)


def test_a_score_that_the_log_contradicts_is_found(run: Run) -> None:
    lines(run, 1, lambda rows: [row | {"validation_l1": 9.0} for row in rows])
    assert "validation_l1 9.0" in wrong(check_training(run))["s1: metrics.jsonl"]


def test_other_images_are_found(study, tmp_path) -> None:
    _, run = study
    other = cohort_in(tmp_path, splits=("train", "train", "train"))
    found = wrong(check_training(run, other))
    assert found == {}  # a validation subject is data as well, and the files are the same
    with open_volume(tmp_path / "0.nii") as volume:
        image, grid = volume.whole(), volume.grid
    write_volume(tmp_path / "0.nii", grid, lambda box: image[box.slices] * 1.01)
    found = wrong(check_training(run, other))
    assert found["images"].startswith("s0: SHA-256")
    with pytest.raises(InputError, match="was trained on other images: s0"):
        training_again(run, other, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    fewer = Cohort(other.subjects[1:])
    assert wrong(check_training(run, fewer))["images"] == "s0: not among the images"


def test_trained_again_a_run_is_identical(study, tmp_path) -> None:
    cohort, run = study
    told = []
    verdict = training_again(run, cohort, tmp_path / "again", report=told.append)
    assert {f.state for f in verdict.findings} == {State.IDENTICAL}, wrong(verdict)
    assert len(verdict.findings) == 7
    assert told
    assert verdict.circumstances == ()
    assert dict(data_hashes(cohort, "t2", run.config)) == dict(run.data)


def test_the_first_step_that_differs_is_named(study, run: Run, tmp_path) -> None:
    _, first = study
    lines(run, 1, lambda rows: [rows[0], rows[1] | {"l1": rows[1]["l1"] * (1 + 1e-6)}])
    verdict = compare_trainings(first, run)
    assert str(verdict).startswith(f"{first.folder}: different: first in s1: losses: from step 30")
    close = compare_trainings(first, run, 1e-5)
    assert close.state is State.CLOSE
    assert close.passed
    assert not compare_trainings(first, run, 1e-7).passed


def test_weights_are_compared_by_size(study, run: Run) -> None:
    _, first = study
    one_bit(run)
    assert load_file(run.folder_of(1) / WEIGHTS).keys()
    (found,) = [f for f in compare_trainings(first, run).findings if f.what == "s1: weights"]
    assert found.state is State.DIFFERENT
    assert found.detail.startswith("1 of ")
    assert 0 < (found.apart or 0) < 1e-6
    assert compare_trainings(first, run, 1e-6).passed


def test_what_differs_between_machines_is_told(study, run: Run) -> None:
    _, first = study
    edited(run.folder_of(1) / "done.json", threads=7, device="A GPU")
    card = json.loads((run.folder / "run.json").read_text())
    edited(run.folder / "run.json", versions=card["versions"] | {"torch": "0.1"})
    told = compare_trainings(first, run).circumstances
    assert "s1: threads: 1 and 7" in told
    assert "s1: device: cpu and A GPU" in told
    assert any(line.startswith("versions.torch: ") and "0.1" in line for line in told)
    assert any(line.startswith("torch: 0.1 and ") for line in check_training(run).circumstances)
    edited(run.folder_of(1) / "done.json", code="another")
    assert any("have changed since" in line for line in check_training(run).circumstances)


def test_another_configuration_is_no_repetition(study, tmp_path) -> None:
    cohort, run = study
    other = fit(cohort, "t2", config().updated(seed=5), tmp_path / "other", device="cpu")
    verdict = compare_trainings(run, other, 1e-5)
    assert not verdict.passed
    assert wrong(verdict)["configuration and data"] == "seed: 0 and 5"
    assert {"s0: weights", "s1: losses"} <= wrong(verdict).keys()


def test_what_cannot_be_trained_again_is_refused(study, run: Run, tmp_path) -> None:
    cohort, _ = study
    with pytest.raises(InputError, match="is a model"):
        training_again(Run.open("brain-phantom-t2"), cohort, tmp_path / "x")
    for scale in run.used:
        (run.folder_of(scale) / "done.json").unlink()
    with pytest.raises(InputError, match="of no scale is finished"):
        training_again(run, cohort, tmp_path / "x")
    found = check_training(run)
    assert found.passed
    assert {f.what for f in found.findings if f.state is State.UNCHECKED} >= {"s0: done.json"}


def test_a_run_that_sees_what_another_has_made_is_not_trained_again(study, tmp_path) -> None:
    cohort, first = study
    other = replace(first, config=first.config.model_copy(update={"auto_context": "abc"}))
    with pytest.raises(InputError, match="sees results of the weights abc"):
        training_again(other, cohort, tmp_path / "x")


def test_a_subject_that_the_card_does_not_name_is_found(study) -> None:
    cohort, first = study
    data = dict(sorted(first.data.items())[1:])
    fewer = replace(first, data=data)
    assert "not in the card" in wrong(check_training(fewer, cohort))["images"]


def test_scales_without_weights_or_with_damaged_notes(run: Run) -> None:
    (run.folder_of(0) / "done.json").write_text("[1]\n")
    (run.folder_of(1) / WEIGHTS).unlink()
    verdict = check_training(run)
    assert "not a JSON object" in wrong(verdict)["s0: done.json"]
    told = {f.what: f.detail for f in verdict.findings if f.state is State.UNCHECKED}
    assert told["s1: weights"] == "not trained yet"


def test_weights_of_other_tensors_or_shapes_differ(tmp_path) -> None:
    files = []
    for k, values in enumerate(({"a": [1.0]}, {"b": [1.0]}, {"a": [1.0, 2.0]})):
        files.append(tmp_path / f"{k}.safetensors")
        save_file({name: torch.tensor(own) for name, own in values.items()}, files[-1])
    other = compare_weights("weights", files[0], files[1], 1.0)
    assert other.state is State.DIFFERENT
    assert "a" in other.detail
    shape = compare_weights("weights", files[0], files[2], 1e9)
    assert shape.state is State.DIFFERENT
    assert shape.apart == math.inf


def test_logs_of_other_steps_differ() -> None:
    found = compare_logs("log", [{"step": 1}, {"step": 2}], [{"step": 1}], 1.0)
    assert found.state is State.DIFFERENT
    assert found.detail == "step 2: on one side only"
    assert relative("x", 1) == relative(math.inf, 1) == math.inf
    assert relative(0, 0) == 0


def test_a_log_without_scores_of_validation_contradicts_nothing(run: Run) -> None:
    without = lambda rows: [{k: v for k, v in r.items() if k != "validation_l1"} for r in rows]  # noqa: E731
    lines(run, 1, without)
    assert check_training(run).passed


def test_a_model_without_names_is_held_against_images_by_their_hashes(study, tmp_path) -> None:
    cohort, run = study
    made = Run.open(export(run, tmp_path / "model"))
    verdict = check_training(made, cohort)
    assert verdict.passed
    states = {f.what: f.state for f in verdict.findings}
    assert states["images"] is State.IDENTICAL
    assert states["run.json and config.yaml: key"] is State.UNCHECKED
    fewer = Cohort(cohort.subjects[1:])
    assert wrong(check_training(made, fewer)) == {"images": "are not those of the card"}


def test_a_note_that_is_no_object_is_refused_by_its_name(run: Run) -> None:
    path = run.folder_of(1) / "done.json"
    path.write_text("3")
    with pytest.raises(InputError, match=r"done\.json: damaged: not a JSON object"):
        compare_trainings(run, run)


def test_the_device_of_a_repetition_may_be_chosen(study, run: Run, tmp_path) -> None:
    (run.folder_of(1) / "done.json").unlink()  # one scale is enough
    edited(run.folder_of(0) / "done.json", device="A GPU")
    verdict = training_again(run, study[0], tmp_path / "again", device="cpu")
    assert verdict.passed, wrong(verdict)
    assert verdict.circumstances == ("s0: device: A GPU and cpu",)
    (left,) = [f for f in verdict.findings if f.state is State.UNCHECKED]
    sides = f"{run.folder} and {tmp_path / 'again'}"
    assert str(left) == f"not checked       s1: its training is not finished in {sides}"


# --- weights and logs --------------------------------------------------------------------------


def of_weights(folder: Path, name: str, **tensors: torch.Tensor) -> Path:
    save_file(tensors, folder / name)
    return folder / name


def test_weights_that_cannot_be_subtracted_are_different_at_any_tolerance(tmp_path) -> None:
    plain = of_weights(tmp_path, "a", w=torch.ones(3), b=torch.zeros(2))
    for other, detail in (
        ({"w": torch.ones(3)}, "b: on one side only"),
        ({"w": torch.ones(4), "b": torch.zeros(2)}, "1 of 2 tensors, most in w"),
        ({"w": torch.ones(3).double(), "b": torch.zeros(2)}, "1 of 2 tensors, most in w"),
        ({"w": torch.full((3,), torch.inf), "b": torch.ones(2)}, "2 of 2 tensors, most in w"),
    ):
        found = compare_weights("s0", plain, of_weights(tmp_path, "b", **other), 1e9)
        assert found.state is State.DIFFERENT
        assert found.detail.startswith(detail)


def test_weights_that_differ_in_their_header_alone_are_identical(tmp_path) -> None:
    save_file({"w": torch.ones(3)}, tmp_path / "a", {"about": '{"seconds": 1}'})
    save_file({"w": torch.ones(3)}, tmp_path / "b", {"about": '{"seconds": 2}'})
    assert compare_weights("s0", tmp_path / "a", tmp_path / "b", None).state is State.IDENTICAL


def test_logs_of_unequal_length_and_of_no_numbers_have_no_tolerance() -> None:
    rows = [{"step": 1, "l1": 0.5, "seconds": 1}, {"step": 2, "l1": 0.4, "seconds": 2}]
    found = compare_logs("losses", rows, rows[:1], 1e9)
    assert (found.state, found.detail) == (State.DIFFERENT, "step 2: on one side only")
    for value in (float("inf"), float("nan"), None, "x"):
        other = [rows[0] | {"seconds": 9}, rows[1] | {"l1": value}]
        found = compare_logs("losses", rows, other, 1e9)
        assert found.state is State.DIFFERENT
        assert found.detail.startswith(f"from step 2 on: l1 0.4 and {value}")
    assert relative(2, 1) == 0.5
    assert relative(0, 0.0) == 0


# --- translations ------------------------------------------------------------------------------


@pytest.fixture
def trace(study, tmp_path) -> Provenance:
    cohort, run = study
    source = cohort["s2"].images["t2"]
    translate(run, source, tmp_path / "y.nii", device="cpu", modality="t1")
    return Provenance.load(tmp_path / "y.json")


def test_translated_again_an_image_is_identical(trace: Provenance, tmp_path) -> None:
    assert check_translation(trace).state is State.IDENTICAL
    (tmp_path / "again").mkdir()
    verdict = translation_again(trace, tmp_path / "again")
    assert verdict.state is State.IDENTICAL, wrong(verdict)
    assert {line.partition(":")[0] for line in verdict.circumstances} == set()


def test_a_changed_voxel_is_found_where_it_is(trace: Provenance, tmp_path) -> None:
    image = whole(trace.result)
    with open_volume(trace.result) as volume:
        grid, about = volume.grid, volume.about
    assert "image" in about
    image[7, 5] += 0.5
    write_volume(trace.result, grid, lambda box: image[box.slices], generated=trace.mark)
    assert check_translation(trace).passed  # its hash is nowhere: only another translation tells
    (tmp_path / "again").mkdir()
    verdict = translation_again(trace, tmp_path / "again")
    assert not verdict.passed
    assert "1 of 1920 voxels, most (0.5) at (7, 5)" in wrong(verdict)["voxels"]
    other = Provenance.load(tmp_path / "again" / "again.json")
    assert compare_translations(trace, other, 0.1).state is State.CLOSE


def test_what_a_sidecar_does_not_state_is_not_checked(trace: Provenance) -> None:
    verdict = check_translation(replace(trace, hashes={}, run=None))
    told = {f.what: f.state for f in verdict.findings}
    assert told["image: SHA-256"] is State.UNCHECKED
    assert not any(what.startswith(("run", "weights", "settings")) for what in told)
    older = replace(trace, versions=trace.versions | {"msgan": "0.0.1"})
    settings = {f.what: f.detail for f in check_translation(older).findings}["settings: id"]
    assert settings == "made by another version"


def test_images_on_other_grids_differ(trace: Provenance, tmp_path) -> None:
    with open_volume(trace.result) as volume:
        values, grid = volume.whole(), volume.grid
    moved, cut = tmp_path / "moved.nii", tmp_path / "cut.nii"
    affine = grid.affine.copy()
    affine[0, -1] += 1
    write_volume(moved, Grid(grid.shape, affine), lambda box: values[box.slices])
    short = (grid.shape[0] - 1, *grid.shape[1:])
    write_volume(cut, Grid(short, grid.affine), lambda box: values[box.slices])
    found = [compare_images("voxels", trace.result, p, 1.0, 1.0) for p in (moved, cut)]
    assert [f.state for f in found] == [State.DIFFERENT] * 2
    assert found[0].detail == "the affines differ"
    assert found[1].detail == f"shapes {grid.shape} and {short}"


def test_another_match_is_named(trace: Provenance) -> None:
    ways = [replace(trace, match={"inverted": way, "stated": "user"}) for way in (True, False)]
    assert "inverted" in wrong(compare_translations(*ways))["match"]
    assert "match" not in wrong(compare_translations(ways[0], ways[0]))


def test_what_a_translation_was_made_of_is_checked(trace: Provenance, study, tmp_path) -> None:
    image = tmp_path / "copy.nii"
    shutil.copy(trace.image, image)
    moved = replace(trace, image=image)
    assert check_translation(moved).passed
    image.write_bytes(image.read_bytes()[:-1] + b"\1")
    assert set(wrong(check_translation(moved))) == {"image: SHA-256"}
    image.unlink()
    assert "is not there" in wrong(check_translation(moved))["image: SHA-256"]
    with pytest.raises(InputError, match=r"cannot be made again: image: SHA-256"):
        translation_again(moved, tmp_path)
    weights = dict.fromkeys(trace.weights, "0" * 64)
    found = wrong(check_translation(replace(trace, weights=weights)))
    assert set(found) == {"weights of s0: SHA-256", "weights of s1: SHA-256"}
    settings = trace.computed | {"precision": "bfloat16"}
    assert set(wrong(check_translation(replace(trace, computed=settings)))) == {"settings: id"}
    assert set(wrong(check_translation(replace(trace, run_id="0")))) == {"run: key"}
    gone = check_translation(replace(trace, run=tmp_path / "gone"))
    assert set(wrong(gone)) == {"run"}
    older = check_translation(replace(trace, versions={"msgan": "0.0"}))
    assert older.passed
    assert any(line.startswith("msgan: 0.0 and") for line in older.circumstances)
    with pytest.raises(InputError, match="without a run"):
        translation_again(replace(trace, run=None), tmp_path)


def test_a_sidecar_that_states_less_is_checked_for_what_it_states(trace: Provenance) -> None:
    verdict = check_translation(replace(trace, hashes={}, run=None))
    assert [(f.what, f.state) for f in verdict.findings] == [
        ("the image can be read", State.IDENTICAL),
        ("image: SHA-256", State.UNCHECKED),
    ]
    unknown = check_translation(replace(trace, id=""))
    told = {f.what: f.detail for f in unknown.findings if f.state is State.UNCHECKED}
    assert told == {"settings: id": "the sidecar does not state it"}


def test_weights_that_are_gone_are_found(trace: Provenance, run: Run) -> None:
    assert check_translation(replace(trace, run=run.folder)).passed
    (run.folder_of(1) / WEIGHTS).unlink()
    found = wrong(check_translation(replace(trace, run=run.folder)))
    assert found == {"weights": f"{run.folder}: scale 1 of 1 is not trained yet"}


def test_sources_that_were_matched_otherwise_are_told_apart(trace: Provenance) -> None:
    own = replace(trace, match={"inverted": True, "stated": "user", "error": 0.1})
    assert compare_translations(own, replace(own, match={**own.match, "error": 0.2})).passed
    other = compare_translations(own, replace(own, match={"inverted": False, "stated": "user"}))
    assert wrong(other) == {"match": "inverted: True and False"}
    assert set(wrong(compare_translations(trace, own))) == {"match"}


def test_images_on_other_grids_are_different(tmp_path) -> None:
    image = head((8, 6))
    one = stored(tmp_path / "a.nii", image)
    for name, other, spacing, detail in (
        ("b.nii", image[:7], 1.0, "shapes (8, 6) and (7, 6)"),
        ("c.nii", image, 2.0, "the affines differ"),
    ):
        found = compare_images("voxels", one, stored(tmp_path / name, other, spacing=spacing), 1, 9)
        assert (found.state, found.detail) == (State.DIFFERENT, detail)


def test_a_difference_of_images_without_a_range_has_no_tolerance(tmp_path) -> None:
    image = head((8, 6))
    one, other = (stored(tmp_path / f"{k}.nii", image + k) for k in (0, 1))
    assert compare_images("voxels", one, one, 0.0, None).state is State.IDENTICAL
    assert compare_images("voxels", one, other, 10.0, 0.1).state is State.CLOSE
    assert compare_images("voxels", one, other, 0.0, 1e9).state is State.DIFFERENT


def test_a_spread_is_made_again_with_its_image(tmp_path, scratch) -> None:
    guided = config().updated(guidance={"match": "histogram", "student": True})
    run = run_of(tmp_path / "run", guided)
    TargetProfile("histogram", np.linspace(-1, 1, 1025)).save(run.folder)
    source = stored(tmp_path / "x.nii", head((48, 40)))
    asked = {"uncertainty": tmp_path / "spread.nii.gz", "polarity": "same", "tile": 24}
    translate(run, source, tmp_path / "y.nii", device="cpu", **asked)
    trace = Provenance.load(tmp_path / "y.json")
    edited(tmp_path / "y.json", computed={**trace.computed, "device": "A GPU"})
    (tmp_path / "again").mkdir()
    trace = Provenance.load(tmp_path / "y.json")
    verdict = translation_again(trace, tmp_path / "again", device="cpu")
    assert verdict.state is State.IDENTICAL, wrong(verdict)
    assert verdict.circumstances == ("device: A GPU and cpu",)
    np.testing.assert_array_equal(
        whole(tmp_path / "again" / "spread.nii.gz"), whole(tmp_path / "spread.nii.gz")
    )


@pytest.mark.slow
def test_a_guided_translation_with_stated_polarity_is_repeated(tmp_path, scratch) -> None:
    cohort = pairs(tmp_path, 2)
    guided = config().updated(
        training={"steps": 2, "lr_steps": 2}, guidance=presets.GUIDED.model_dump()
    )
    run = fit(cohort, "t2", guided, tmp_path / "run", device="cpu")
    asked = {"polarity": "inverted", "uncertainty": tmp_path / "spread.nii", "tile": 8}
    image = cohort["s3"].images["t1"]
    translate(run, image, tmp_path / "y.nii.gz", modality="t1", device="cpu", **asked)
    trace = Provenance.load(tmp_path / "y.json")
    assert trace.computed["tile"] == 8
    assert trace.match["stated"] == "user"
    (tmp_path / "again").mkdir()
    assert translation_again(trace, tmp_path / "again").state is State.IDENTICAL


# --- notebooks ---------------------------------------------------------------------------------

CELLS = """
from pathlib import Path
import os
import numpy as np
import pandas as pd
from msgan.report import results_folder, write_results
folder = results_folder("01_two", preset)
values = np.random.default_rng(seed).normal(size=3)
pd.DataFrame({"name": list("abc"), "value": values, "seconds": np.random.random(3)}).to_csv(
    folder / "values.csv", index=False
)
write_results(folder, {"mean": float(values.mean()), "time (s)": np.random.random()})
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What two executions of a notebook would leave, without a kernel."""
    folder = tmp_path / "runs" / "01_two"
    folder.mkdir(parents=True)
    (folder / "values.csv").write_text("name,value,seconds\na,0.1234567890123456,1.5\nb,2,1.5\n")
    (folder / "results.json").write_text('{"mean": 0.5, "time (s)": 3}')
    return folder


def twin(folder: Path, table: str, figures: str) -> Path:
    other = folder.parents[1] / "other" / folder.name
    other.mkdir(parents=True)
    (other / "values.csv").write_text(table)
    (other / "results.json").write_text(figures)
    return other


def test_tables_are_compared_to_the_last_digit(results: Path) -> None:
    table = "name,value,seconds\na,0.1234567890123456,9.5\nb,2,0\n"
    other = twin(results, table, '{"mean": 0.5, "time (s)": 9}')
    verdict = compare_notebooks(results, other)
    assert verdict.state is State.IDENTICAL
    assert [f.detail for f in verdict.findings] == [
        "2 lines of 2 columns; measured, not compared: seconds",
        "measured, not compared: time (s)",
    ]
    (other / "values.csv").write_text(table.replace("456,", "457,"))
    verdict = compare_notebooks(results, other)
    assert wrong(verdict)["values.csv"].startswith("line 1, value: 0.1234567890123456 and 0.12")
    assert compare_notebooks(results, other, 1e-12).state is State.CLOSE
    (other / "values.csv").write_text(table.replace("b,2", "c,2"))
    assert not compare_notebooks(results, other, 1e-3).passed  # a name has no tolerance
    for changed in ("name,value\na,1\n", "name,value,seconds\n", "name,seconds,value\na,1,1\n"):
        (other / "values.csv").write_text(changed)
        assert set(wrong(compare_notebooks(results, other))) == {"values.csv"}
    (other / "values.csv").unlink()
    assert wrong(compare_notebooks(results, other))["tables"].startswith("values.csv")


def test_key_figures_are_compared(results: Path) -> None:
    table = (results / "values.csv").read_text()
    other = twin(results, table, '{"mean": 0.6, "time (s)": 9}')
    assert wrong(compare_notebooks(results, other))["key figures"].startswith("mean: 0.5 and 0.6")
    (other / "results.json").write_text('{"middle": 0.5}')
    assert "on one side only" in wrong(compare_notebooks(results, other))["key figures"]


def test_results_without_times_are_compared_whole(results: Path) -> None:
    (results / "values.csv").write_text("name,value\na,1\n")
    other = twin(results, "name,value\na,1\n", '{"mean": 0.5, "time (s)": 3}')
    found = compare_notebooks(results, other).findings[0]
    assert (found.state, found.detail) == (State.IDENTICAL, "1 lines of 2 columns")


def test_machines_that_cards_name_are_circumstances(results: Path) -> None:
    other = twin(results, (results / "values.csv").read_text(), '{"mean": 0.5}')
    for folder, machine in ((results, "a"), (other, "b")):
        card = {"figures": {"mean": 0.5}, "git": "1", "machine": machine, "versions": {"numpy": 2}}
        (folder / "card.json").write_text(json.dumps(card))
    verdict = compare_notebooks(results, other)
    assert "machine: a and b" in verdict.circumstances
    assert all("numpy" not in line for line in verdict.circumstances)


def test_an_execution_that_failed_is_a_finding(results: Path) -> None:
    executed(results, status="failed", error="ValueError: x (cell 3)")
    assert wrong(check_notebook(results)) == {"execution": "ValueError: x (cell 3)"}


def test_a_card_without_scores_is_held_against_the_tests_alone(tmp_path) -> None:
    own = Path(__file__).parents[1] / "reports" / "small" / "10_lpba_to_brats"
    copy = shutil.copytree(own, tmp_path / "10_lpba_to_brats")
    (copy / "scores.csv").unlink()
    found = {f.what: f.state for f in check_notebook(copy).findings}
    assert found["card.json: means and tests"] is State.IDENTICAL


def executed(results: Path, **changes: str) -> None:
    """What the runner leaves beside the results of a notebook."""
    cell = nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["papermill"] = {"parameters": {"seed": 3}}
    nbformat.write(notebook, results.parent / f"{results.name}.ipynb")
    (results.parent / f"{results.name}.html").write_text("<html></html>")
    row = {"stem": results.name, "status": "passed", "finished": "2026-01-01", "threads": "2"}
    run_cache.remember(results.parent, run_cache.Run(**row | changes))


@pytest.mark.parametrize(("asked", "threads"), [(None, "2"), (5, "5")])
def test_a_notebook_is_executed_as_it_was(results: Path, tmp_path, monkeypatch, asked, threads):
    """With the parameters it was given and its threads; a kernel takes seconds, so none is used."""
    executed(results, git=git_commit() or "")
    given = []

    def execute(notebook, folder, out, parameters, environment):
        given.append((folder, parameters, environment))
        shutil.copytree(results, out / results.name)
        return notebook, "", 0

    monkeypatch.setattr("msgan.verify.notebook.execute", execute)
    verdict = notebook_again(results, tmp_path / "again", threads=asked)
    assert verdict.state is State.IDENTICAL, wrong(verdict)
    assert given == [(results.parent, {"seed": 3}, {"OMP_NUM_THREADS": threads})]
    assert verdict.circumstances == (() if asked is None else ("threads: 2 and 5",))


def test_a_notebook_that_fails_now_is_one_line(results: Path, tmp_path, monkeypatch) -> None:
    executed(results)
    fault = ("x", "KeyError: 'a' (cell 2)", 0)
    monkeypatch.setattr("msgan.verify.notebook.execute", lambda *_: fault)
    with pytest.raises(InputError, match=r"01_two\.ipynb: executed again it fails: KeyError: 'a'"):
        notebook_again(results, tmp_path / "again")


def test_damaged_results_are_found(results: Path) -> None:
    assert check_notebook(results).passed
    (results / "values.csv").write_text("name,value\na,1,2\nb,1\n")
    assert not check_notebook(results).passed


def test_results_of_record_agree_with_their_cards() -> None:
    folder = Path(__file__).parents[1] / "reports" / "small"
    for own in sorted(folder.iterdir()):
        verdict = check_notebook(own)
        assert verdict.passed, wrong(verdict)


def test_a_changed_score_contradicts_its_card(tmp_path) -> None:
    own = Path(__file__).parents[1] / "reports" / "small" / "10_lpba_to_brats"
    copy = shutil.copytree(own, tmp_path / "10_lpba_to_brats")
    text = (copy / "scores.csv").read_text().splitlines()
    fields = text[1].split(",")
    fields[3] = str(float(fields[3]) + 1)
    (copy / "scores.csv").write_text("\n".join([text[0], ",".join(fields), *text[2:]]) + "\n")
    assert set(wrong(check_notebook(copy))) == {"card.json: means and tests"}


@pytest.mark.parametrize(
    ("name", "times"),
    [
        *((n, True) for n in ("seconds", "training (s)", "peak MiB", "host_peak_bytes")),
        *((n, True) for n in ("measured_bytes", "step (MiB)", "translation (s)", "waiting for")),
        *((n, False) for n in ("ssim", "lung_psnr", "subjects", "times", "T1-T2 correlation, s2")),
        *((n, False) for n in ("seam_p", "MAE at s0", "counted_bytes", "lesions", "t_p_holm")),
    ],
)
def test_times_and_memory_are_told_from_scores(name: str, times: bool) -> None:
    assert is_measured(name) is times


@pytest.mark.slow
def test_a_notebook_is_executed_again(tmp_path) -> None:
    from msgan.report.runner import run_notebooks

    cell = nbformat.v4.new_code_cell
    first = cell('preset = "smoke"\nseed = 0', metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Two"), first, cell(CELLS)],
        metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
    )
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "01_two.ipynb")
    (done,) = run_notebooks(tmp_path / "notebooks", tmp_path / "runs", "smoke", seed=3)
    assert not done.failed, done.error
    verdict = notebook_again(tmp_path / "runs" / "01_two", tmp_path / "again")
    assert verdict.state is State.IDENTICAL, wrong(verdict)
    assert [f.what for f in verdict.findings] == ["values.csv", "key figures"]
    assert verdict.circumstances == ()
    executed = tmp_path / "runs" / "01_two.ipynb"
    executed.write_text(executed.read_text().replace("normal(", "uniform("))
    assert not notebook_again(tmp_path / "runs" / "01_two", tmp_path / "once more").passed


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def manifest(study) -> Path:
    cohort, run = study
    told = {"role": "image", "modality": "t2", "licence": "none", "citation": "none"}
    rows = [Entry(subject=s.name, path=s.images["t2"].name, split=s.split, **told) for s in cohort]
    path = run.folder.parent / "manifest.csv"
    write_manifest(path, Manifest(name="manifest.csv", rows=tuple(rows)))
    return path


def test_the_command_trains_again(study, manifest: Path, tmp_path) -> None:
    run = study[1].folder
    told = msgan_cli("verify", run, "--manifest", manifest).stdout.splitlines()
    assert told[1] == "identical         images"
    assert told[-1] == f"{run}: identical"
    again = ("verify", run, "--again", "--manifest", manifest, "--out", tmp_path / "kept")
    assert msgan_cli(*again).stdout.splitlines()[-1] == f"{run}: identical"
    kept = tmp_path / "kept" / "run"
    lines(Run.open(kept), 1, lambda rows: [rows[0], rows[1] | {"loss": rows[1]["loss"] * 1.01}])
    done = msgan_cli("verify", run, "--against", kept, status=command.DIFFERENT)
    assert done.stdout.splitlines()[-1].startswith(f"{run}: different: first in s1: losses: from")
    close = msgan_cli("verify", run, "--against", kept, "--tolerance", 0.1)
    assert "within tolerance: largest relative difference 0.0099" in close.stdout
    assert fails(*again) == f"{tmp_path / 'kept'}: exists already: choose another folder"


def test_the_command_translates_again(trace: Provenance, tmp_path, here) -> None:
    edited(beside(trace.result), computed={**trace.computed, "threads": 2})
    done = msgan_cli("verify", trace.result)
    assert done.stdout.splitlines()[-1] == f"{trace.result}: identical"
    done = msgan_cli("verify", beside(trace.result), "--again", "--threads", 1)
    assert done.stdout.splitlines()[-1] == f"{trace.result}: identical"
    assert "note: differs: threads: 2 and 1\n" in done.stderr
    assert list((tmp_path / ".scratch").glob("msgan-*")) == []


def test_the_command_compares_notebooks(results: Path) -> None:
    other = twin(results, (results / "values.csv").read_text(), '{"mean": 0.6}')
    assert msgan_cli("verify", results).stdout.endswith(f"{results}: identical\n")
    done = msgan_cli("verify", results, "--against", other, status=command.DIFFERENT)
    assert done.stdout.endswith("mean: 0.5 and 0.6, relative difference 0.167\n")


def test_what_cannot_be_verified_is_one_line(
    study, results: Path, manifest: Path, tmp_path
) -> None:
    run = study[1].folder
    image = study[0]["s0"].images["t2"]
    for words, text in (
        (("nowhere",), "nowhere: no such file or folder"),
        ((image,), "is no trained run, no translation with its sidecar"),
        ((tmp_path,), "is no trained run"),
        ((run, "--again"), "--manifest is missing"),
        ((run, "--again", "--against", run), "expected one of them"),
        ((run, "--threads", 1), "--threads: is for --again"),
        ((run, "--tolerance", 1), "--tolerance: is for --again and --against"),
        ((run, "--root", tmp_path), "--root: expected --manifest"),
        ((results, "--manifest", manifest), "is for trained runs"),
        ((results, "--again"), "no such file: the executed notebook"),
        ((results, "--again", "--device", "cpu"), "the parameters of a notebook state it"),
        ((results, "--against", tmp_path), "holds no results of a notebook"),
    ):
        assert text in fails("verify", *words)


def test_a_sidecar_without_its_image_is_named(trace: Provenance, tmp_path) -> None:
    path = beside(trace.result)
    assert "has no sidecar" in fails("verify", path, "--against", trace.image)
    trace.result.unlink()
    assert "is not there, or another one now" in fails("verify", path)
