"""Checkpoints and run folders: read back, refused, never a pickle."""

import json
import os
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
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


def spoilt(path: Path, header: dict[str, str] | None = None, **tensors: torch.Tensor) -> None:
    """The file with other tensors and another header, which is whole."""
    save_file(load_file(path) | tensors, path, header)


def test_a_checkpoint_with_something_else_in_it_is_refused(tmp_path):
    step, path = Step(tiny(2), 1, fabric()), tmp_path / "c.safetensors"
    checkpoint.save(step, path, {})
    spoilt(path, **{"optimiser/generator/first/exp_avg": torch.ones(2)})
    said = f"{path}: damaged: optimiser/generator/first/exp_avg is no state of an optimiser"
    with pytest.raises(InputError, match=re.escape(said)):
        checkpoint.load(step, path)
    checkpoint.save(step, path, {})
    fields = ("exp_avg", "exp_avg_sq")  # of another shape than the weights
    spoilt(path, **{f"optimiser/generator/0/{name}": torch.ones(2, 99) for name in fields})
    with pytest.raises(InputError, match="damaged: state of the optimiser generator"):
        checkpoint.load(step, path)


@pytest.mark.parametrize("name", ["about", "precision"])
@pytest.mark.parametrize("text", ["{", "3", "[1]", "[" * 10**5])
def test_a_header_that_is_no_object_is_refused(tmp_path, name, text):
    step, path = Step(tiny(2), 1, fabric()), tmp_path / "c.safetensors"
    checkpoint.save(step, path, {})
    spoilt(path, {name: text})
    said = f"{path}: damaged: '{name}' in its header is not a JSON object"
    with pytest.raises(InputError, match=re.escape(said)):
        checkpoint.load(step, path)


def test_weights_of_another_kind_of_number_are_refused(tmp_path):
    network, path = torch.nn.Linear(2, 1), tmp_path / "w.safetensors"
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    checkpoint.save_weights(network, path, {})
    spoilt(path, weight=torch.ones(1, 2, dtype=torch.int32))
    said = f"{path}: weight holds torch.int32, expected torch.float32"
    with pytest.raises(InputError, match=re.escape(said)):
        checkpoint.load_weights(network, path)
    assert all(torch.equal(tensor, before[k]) for k, tensor in network.state_dict().items())
    spoilt(path, weight=torch.ones(1, 2, dtype=torch.float16))
    checkpoint.load_weights(network, path)  # of fewer digits they are
    assert torch.equal(network.weight, torch.ones(1, 2))


def test_a_fault_of_the_writer_of_weights_leaves_the_old_ones(tmp_path, monkeypatch):
    network, path = torch.nn.Linear(2, 1), tmp_path / "w.safetensors"
    checkpoint.save_weights(network, path, {})
    before = path.read_bytes()

    def broken(tensors, where, header):
        where.write_bytes(b"half")
        raise SafetensorError("invalid dtype")

    monkeypatch.setattr(checkpoint, "save_file", broken)
    with pytest.raises(SafetensorError, match="invalid dtype"):
        checkpoint.save_weights(network, path, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


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


@pytest.mark.parametrize("same", [True, False], ids=["the same", "another"])
def test_a_run_that_another_process_begins_meanwhile_is_looked_at(tmp_path, monkeypatch, same):
    run = a_run(tmp_path / "run")
    other = run if same else replace(run, target="t1")

    @contextmanager
    def late(*_, **__):  # the lock is had when the other process has let go of it
        other._write(run.folder)
        yield

    monkeypatch.setattr("msgan.runs.run.alone", late)
    run.folder.mkdir()
    if same:
        run.create()
    else:
        with pytest.raises(InputError, match=r"holds another run \(target is t1 there and t2 here"):
            run.create()
    assert Run.open(run.folder) == other


def test_a_run_states_its_number_of_scales(tmp_path):
    run = a_run(tmp_path / "run")
    run.create()
    run.config.updated(preparation={"scales": None}).save(run.folder / "config.yaml")
    said = f"{run.folder / 'config.yaml'}: preparation.scales: is not stated, as a run must"
    with pytest.raises(InputError, match=re.escape(said)):
        Run.open(run.folder)


def test_without_git_no_commit_is_stated(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    run = a_run(tmp_path / "run")
    run.create()
    assert json.loads((run.folder / "run.json").read_text())["git"] is None
    assert Run.open(run.folder) == run


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
