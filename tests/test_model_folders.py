"""Models of runs with random weights: what is refused, and what their cards say of a run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import config_of, run_of
from safetensors.torch import load_file, save_file

from msgan.config import CascadeConfig
from msgan.runs import model_card
from msgan.runs.model import About, card_of, describe, export, read_scores
from msgan.runs.run import Run
from msgan.training.loop import WEIGHTS
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def finished(folder: Path, **changes: Any) -> Run:
    """A run of two scales, as if its training had come to its end."""
    config = config_of(3, scales=1, preparation={"scales": 1}).updated(**changes)
    run = run_of(folder, config)
    for i in run.used:
        run.finish(i, {"step": 1, "seconds": 2.0})
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return finished(tmp_path / "run")


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def card(run: Run, about: About | None = None) -> str:
    """Its card for people, each paragraph in one line."""
    text = model_card.text("m", describe(run, about or About()), run.config)
    return " ".join(text.split())


# --- what is refused ---------------------------------------------------------------------------


def test_a_model_is_copied_and_not_exported_again(run: Run, tmp_path: Path) -> None:
    made = Run.open(export(run, tmp_path / "model"))
    with pytest.raises(InputError, match="model: is a model already: copy the folder"):
        export(made, tmp_path / "again")
    with pytest.raises(InputError, match="model: exists already: choose another folder"):
        export(run, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "run"]
    assert card_of(made) == (tmp_path / "model" / "README.md").read_text()


def test_a_run_that_sees_results_of_another_is_not_exported(tmp_path: Path) -> None:
    sketch = {"channels": ("image", "auto_context")}
    run = finished(tmp_path / "run", paired="t1", auto_context="abc", sketch=sketch)
    with pytest.raises(InputError, match="sees results of the weights abc and does not translate"):
        export(run, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_run_that_is_not_finished_is_not_exported(run: Run, tmp_path: Path) -> None:
    (run.folder_of(1) / "done.json").unlink()
    for give in (lambda: export(run, tmp_path / "model"), lambda: card_of(run)):
        with pytest.raises(InputError, match="run: the training of scale 1 of 1 is not finished"):
            give()
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ("3", "damaged: not a JSON object"),
        ('{"step": "x"}', "damaged: step is x: expected a number"),
    ],
)
def test_a_damaged_note_of_a_training_is_named(
    run: Run, tmp_path: Path, note: str, message: str
) -> None:
    path = run.folder_of(1) / "done.json"
    path.write_text(note)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        export(run, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_card_without_versions_is_named(run: Run, tmp_path: Path) -> None:
    edited(run.folder / "run.json", versions=3)
    said = f"{run.folder / 'run.json'}: versions: expected names with values"
    with pytest.raises(InputError, match=re.escape(said)):
        export(run, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_weights_beyond_half_precision_are_named_with_their_value(run: Run, tmp_path: Path) -> None:
    path = run.folder_of(1) / WEIGHTS
    weights = load_file(path)
    name = next(iter(weights))
    weights[name].view(-1)[0] = -1e5
    save_file(weights, path)
    said = f"{path}: {name} has a value of 100000, float16 ends at 65504: export without half"
    with pytest.raises(InputError, match=re.escape(said)):
        export(run, tmp_path / "model", half=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    whole = Run.open(export(run, tmp_path / "model"))
    assert torch.equal(whole.generator(1).state_dict()[name], weights[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n", "expected a CSV table with a first row of names"),
        (b"a,b\n1\n", "expected a CSV table with a first row of names"),
        (b"a,b\n\xff,1\n", "not a CSV table: cannot be read as UTF-8 text: byte 0xff in line 2"),
        (None, "no such file"),
    ],
)
def test_scores_that_are_no_table_are_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "scores.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_scores(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert str(error.value).count(str(path)) == 1


# --- the seal ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd", [{}, {"files": 3}, {"files": {"config.yaml": {"bytes": 1}}}, 7, None]
)
def test_a_model_whose_card_has_no_hashes_is_refused(run: Run, tmp_path: Path, odd: Any) -> None:
    made = export(run, tmp_path / "model")
    edited(made / "run.json", model=odd)
    said = f"{made / 'run.json'}: model: expected files, with sha256 and bytes of each"
    with pytest.raises(InputError, match=re.escape(said)):
        Run.open(made)


def test_weights_that_the_card_has_no_hash_of_are_refused(run: Run, tmp_path: Path) -> None:
    made = export(run, tmp_path / "model")
    model = json.loads((made / "run.json").read_text())["model"]
    del model["files"][f"s1/{WEIGHTS}"]
    edited(made / "run.json", model=model)
    said = f"{made / 's1' / WEIGHTS}: the model's card states no hash of it"
    with pytest.raises(InputError, match=re.escape(said)):
        Run.open(made)


# --- what a card says --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("licence", "lines"),
    [
        ("Ours 1.0", ["license: other", "license_name: Ours 1.0"]),
        ("CC-BY-4.0", ["license: cc-by-4.0"]),
        ("not stated", ["license: unknown"]),
    ],
)
def test_hubs_are_told_the_licences_they_know(run: Run, licence: str, lines: list[str]) -> None:
    text = model_card.text("m", describe(run, About(licence=licence)), run.config)
    assert text.splitlines()[1 : len(lines) + 2] == [*lines, "library_name: msgan"]
    assert f"Weights: {licence}." in text


def test_a_card_says_what_is_cut_off_of_a_window(run: Run, tmp_path: Path) -> None:
    assert "the 99.5th percentile of the rest becomes white" in card(run)
    window = {"intensity": "window", "low": -1000.0, "high": 400.0, "foreground": -300.0}
    of_ct = card(finished(tmp_path / "ct", preparation=window))
    assert "with intensities from -1000 to 400 a.u.; what lies outside is cut off" in of_ct
    assert "percentile" not in of_ct


def test_a_card_shows_the_command_with_labels_where_they_are_drawn(
    run: Run, tmp_path: Path
) -> None:
    assert "--labels" not in card(run)
    labelled = finished(tmp_path / "labelled", labels=(1, 4))
    text = card(labelled)
    assert "msgan translate FOLDER image.nii.gz t2.nii.gz --labels seg.nii.gz" in text
    assert "Labels 1, 4 of a label map can be drawn over the sketch" in text


@pytest.mark.parametrize("match", ["histogram", "spectrum"])
def test_a_card_says_how_sources_are_matched(run: Run, match: str) -> None:
    content = describe(run, About())
    config = CascadeConfig.model_validate(run.config.model_dump() | {"guidance": {"match": match}})
    text = model_card.text("m", content, config)
    assert f"Match: {match}. " in text
    assert "and the match of its intensities" in text
    assert "Match: " not in model_card.text("m", content, run.config)
