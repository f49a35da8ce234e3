"""Checkpoints and run folders: read back, refused, never a pickle."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training import (
    a_run,
    fabric,
    patches,
    tiny,
    twins,
    with_,
)

from msgan.runs.run import Run
from msgan.training import checkpoint, loop
from msgan.training.loop import train_scale
from msgan.training.step import Step
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_checkpoint_holds_tensors_only(dims, tmp_path):
    config = tiny(dims, steps=3, checkpoint_every=2)
    train_scale(config, 1, [twins(dims)], [twins(dims)], tmp_path, fabric())
    for name in (loop.CHECKPOINT, loop.WEIGHTS):
        data = (tmp_path / name).read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])  # safetensors: a JSON header, then numbers
        about = json.loads(header.pop("__metadata__")["about"])
        assert about["step"] == 3
        end = max(entry["data_offsets"][1] for entry in header.values())
        assert len(data) == 8 + size + end
        assert {entry["dtype"] for entry in header.values()} == {"F32"}
    left = {p.name.split(".")[0] for p in tmp_path.iterdir()}
    assert left == {"checkpoint", "generator", "metrics", "events"}


def test_no_code_loads_pickles():
    """Tensors alone may be read of weights that others distribute so."""
    import msgan

    for path in Path(msgan.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        own = re.sub(r"torch\.load\([^()]*weights_only=True\)", "", text)
        assert not re.search(r"torch\.(load|save)\(|import pickle|allow_pickle=True", own), path


def test_a_checkpoint_restores_weights_and_optimisers(dims, tmp_path):
    config = tiny(dims, discriminator_accuracy=1.0)
    drawn = patches([twins(dims)], config, 1)
    torch.manual_seed(0)
    one = Step(config, 1, fabric())
    for k in range(3):
        one.update(drawn.draw("train", k, range(2)), k, 1e-3)
    checkpoint.save(one, tmp_path / "c", {"step": 3, "best": float("inf")})
    torch.manual_seed(1)
    two = Step(config, 1, fabric())
    assert checkpoint.load(two, tmp_path / "c") == {"step": 3, "best": float("inf")}
    for step in (one, two):
        step.update(drawn.draw("train", 3, range(2)), 3, 1e-3)
    for name, module in one.modules().items():
        other = two.modules()[name].state_dict()
        assert all(torch.equal(v, other[k]) for k, v in module.state_dict().items()), name


def test_bad_checkpoints_are_refused(dims, tmp_path):
    step = Step(tiny(dims), 1, fabric())
    path = tmp_path / "c.safetensors"
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint.load(step, path)
    checkpoint.save(step, path, {})
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-10]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="not a safetensors file"):
            checkpoint.load(step, path)
    path.write_bytes(whole)
    with pytest.raises(InputError, match="is on one side only"):
        checkpoint.load(Step(with_(tiny(dims), "network", hr_blocks=2), 1, fabric()), path)
    with pytest.raises(InputError, match=r"has shape .*, expected "):
        checkpoint.load(Step(with_(tiny(dims), "network", hr_width=5), 1, fabric()), path)


def test_a_run_folder_is_read_back(dims, tmp_path):
    run = a_run(tmp_path / "run", dims)
    run.create()
    run.create()  # the same run goes on
    assert Run.open(run.folder) == run
    card = json.loads((run.folder / "run.json").read_text())
    assert card["key"] == run.key
    assert card["seed"] == 0
    assert card["versions"]["torch"] == torch.__version__
    assert not run.finished(0)
    with pytest.raises(InputError, match="scale 1 of 2 is not trained yet"):
        run.generator(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": tiny(2, steps=41)}, "training.steps is 40 there and 41 here"),
        ({"config": tiny(2).model_copy(update={"seed": 4})}, "seed is 0 there and 4 here"),
        ({"target": "t1"}, "target is t2 there and t1 here"),
        ({"data": {"a": "00", "b": "12"}}, "data.b is 11 there and 12 here"),
        ({"data": {"a": "00"}}, "data.b is 11 there and None here"),
    ],
)
def test_another_run_is_refused(tmp_path, changes, message):
    run = a_run(tmp_path)
    run.create()
    with pytest.raises(InputError, match=re.escape(message)) as error:
        replace(run, **changes).create()
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(error.value)


def test_a_run_of_another_version_is_refused(tmp_path, monkeypatch):
    a_run(tmp_path).create()
    monkeypatch.setattr("msgan.__version__", "999")
    with pytest.raises(InputError, match="this is 999"):
        a_run(tmp_path).create()


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        a_run(tmp_path).create()
    assert os.listdir(tmp_path) == ["thesis.doc"]


def test_a_run_killed_while_it_was_created_can_be_created(tmp_path):
    run = a_run(tmp_path)
    run.create()
    (tmp_path / "run.json").rename(tmp_path / ".partial-1.json")
    run.create()
    assert Run.open(tmp_path) == run


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("run.json", "{", "run.json: not JSON"),
        ("run.json", "[]", "run.json: not a JSON object"),
        ("run.json", '{"target": "t2"}', "run.json: has no 'intensity'"),
        ("run.json", '{"intensity": 3}', "run.json: "),
        ("config.yaml", "dims: 2", "config.yaml: training: is missing"),
    ],
)
def test_damaged_run_folders_are_refused(tmp_path, file, text, message):
    a_run(tmp_path).create()
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        Run.open(tmp_path)
    assert "\n" not in str(error.value)


def test_other_folders_are_no_runs(tmp_path):
    with pytest.raises(InputError, match=r"not a run folder: it has no run\.json"):
        Run.open(tmp_path)
    with pytest.raises(InputError, match="not a run folder"):
        Run.open(tmp_path / "none")
