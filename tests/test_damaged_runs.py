"""Runs whose files are damaged: one line that names the file, in every part of the program."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from msgan.runs.bundled import bundled
from msgan.runs.model import card_of
from msgan.runs.run import Run
from msgan.training.loop import WEIGHTS
from msgan.types import InputError


@pytest.fixture
def run(tmp_path) -> Path:
    """A run as its training leaves it: what a shipped model has, without a seal."""
    folder = shutil.copytree(next(iter(bundled().values())), tmp_path / "run")
    (folder / "README.md").unlink()
    card = json.loads((folder / "run.json").read_text())
    del card["model"]
    (folder / "run.json").write_text(json.dumps(card))
    return folder


def card_with(**changes) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        card = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**card, **changes}))

    return change


def weights_with(change) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        path = run / "s1" / WEIGHTS
        path.write_bytes(change(path.read_bytes()))

    return damage


def not_a_number(run: Path) -> None:
    tensors = load_file(run / "s1" / WEIGHTS)
    next(iter(tensors.values()))[...] = float("nan")
    save_file(tensors, run / "s1" / WEIGHTS)


@pytest.mark.parametrize(
    ("damage", "where", "rule"),
    [
        (card_with(target=3), "run.json", "target: is 3: expected text"),
        (card_with(data=[1]), "run.json", "data: is [1]: expected names with values"),
        (card_with(data={"a": 1}), "run.json", "data: expected a hash of each subject"),
        (
            card_with(intensity={"low": "x", "high": 1, "unit": ""}),
            "run.json",
            "two finite",
        ),
        (card_with(intensity={"low": 1, "high": 1, "unit": ""}), "run.json", "two finite"),
        (card_with(intensity={"low": 1}), "run.json", "intensity: has no 'high'"),
        (lambda run: (run / "run.json").write_text("[" * 10**5), "run.json", "nested too deeply"),
        (lambda run: (run / "run.json").write_bytes(b'"\xff"'), "run.json", "UTF-8 text"),
        (lambda run: (run / "config.yaml").write_bytes(b"\xff"), "config.yaml", "UTF-8 text"),
        (weights_with(lambda b: b[: len(b) // 2]), f"s1/{WEIGHTS}", "or a damaged one"),
        (weights_with(lambda b: b""), f"s1/{WEIGHTS}", "or a damaged one"),
        (weights_with(lambda b: b"\xff" * 8 + b[8:]), f"s1/{WEIGHTS}", "or a damaged one"),
        (not_a_number, f"s1/{WEIGHTS}", "has values that are NaN or infinite"),
    ],
)
def test_a_damaged_run_is_one_line_that_names_the_file(run, damage, where, rule):
    damage(run)
    with pytest.raises(InputError) as error:
        Run.open(run).generator(1)
    assert str(error.value).startswith(f"{run / where}: ")
    assert rule in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("s1/done.json", "["), ("s1/done.json", '{"seconds": []}'), ("s1/done.json", "3")],
)
def test_the_card_of_a_damaged_run_is_one_line(run, name, text):
    (run / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(f"{run / name}: ")):
        card_of(Run.open(run))
