"""What the guide to one's own data shows is true, and its commands run in order."""

import re
import shlex
from pathlib import Path

import pytest
from program import TINY, msgan_cli
from test_cli import leaves
from test_docs import blocks, read

from msgan import presets
from msgan.cli import app
from msgan.config import CascadeConfig
from msgan.data.entry import COLUMNS
from msgan.data.manifest import read_manifest

GUIDE = "docs/your_data.md"


@pytest.mark.slow
def test_the_commands_of_the_guide_run(tmp_path: Path, monkeypatch) -> None:
    tiny = CascadeConfig.model_validate(TINY)
    monkeypatch.setattr(presets, "preset", lambda *_, **__: tiny)
    monkeypatch.chdir(tmp_path)
    lines = blocks(read(GUIDE))[0].splitlines()
    assert [line.split()[1] for line in lines] == [
        *("phantom", "init", "data", "train", "plan", "translate", "evaluate", "report", "explore")
    ]
    monkeypatch.setattr("msgan.cli.explore.run", lambda command: None)  # a server has no end
    printed = ""
    for line in lines:
        assert line.startswith("msgan ")
        done = msgan_cli(*shlex.split(line.replace("--size 64", "--size 24"))[1:])
        printed = printed or (done.stdout if " init " in line else "")
    shown = [
        line
        for line in lines
        if re.match("msgan (data|train|translate|evaluate|report|explore)", line)
    ]
    assert [line for line in shown if f"  {line}\n" not in printed] == []  # what init says is next


def test_tables_and_examples_are_those_of_the_code(tmp_path: Path) -> None:
    text = read(GUIDE)
    columns = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.M)))
    assert [c for c in columns if c in COLUMNS] == list(COLUMNS)
    assert [c for c in columns if c in presets.PRESETS] == list(presets.PRESETS)
    examples = blocks(text, "csv")
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "manifest.csv").write_text(example)
        assert read_manifest(tmp_path / "manifest.csv").subjects == ("case07",)


def test_settings_are_those_that_init_writes(tmp_path: Path) -> None:
    import yaml

    from msgan.cli.init import _settings
    from msgan.cli.train import configuration

    labels, window = blocks(read(GUIDE), "yaml")
    (tmp_path / "a.yaml").write_text(labels)
    assert configuration("smoke", tmp_path / "a.yaml", lambda: 3).labels == (1, 2, 4)
    assert yaml.safe_load(window) == yaml.safe_load(_settings("ct_b80f", "ct_b20f"))


def test_commands_that_the_text_names_exist() -> None:
    import typer

    known = {name for name, _ in leaves(typer.main.get_command(app))}
    named = set(re.findall(r"`(msgan [a-z]+(?: (?:check|sort|spacing|split))?)", read(GUIDE)))
    assert len(named) > 5
    assert named <= known
