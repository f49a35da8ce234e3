"""Text files that are damaged, hostile or by another program: one line that says what is wrong."""

import os
import time
from pathlib import Path

import pytest

from msgan.config import CascadeConfig
from msgan.documents import LONGEST, MOST_BYTES, json_of, shown, text_of, yaml_of
from msgan.types import InputError

TRAINING = "training: {steps: 1, lr_steps: 1}\n"
LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def refused(path: Path, content: bytes | str, read) -> str:
    """The line that says why a file is not read, without its path; within seconds."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    started = time.process_time()
    with pytest.raises(InputError) as error:
        read(path)
    assert time.process_time() - started < 10
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < len(str(path)) + 300
    assert "pydantic" not in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("paired: ä\n".encode("latin-1"), "cannot be read as UTF-8 text: byte 0xe4 in line 1"),
        (b"a: 1\nb: \0\n", "has a byte of value 0 in line 2"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply: expected 32 levels at most"),
        ("a: " + "[" * 40 + "]" * 40, "line 1: nested too deeply: expected 32 levels at most"),
        ("a: &a [*a]\n", "line 1: nested too deeply"),
        (LAUGHS, "holds more than 100000 values"),
        ("a: [" + "1, " * 200_000 + "1]", "expected at most 262144"),
        ("dims: 3\ndims: 2\n", "line 2: key 'dims' is there twice"),
        ("training:\n\tsteps: 1\n", r"not YAML: line 2: .*indent with spaces, not tabs"),
        ("a: !!python/object/apply:os.system ['ls']\n", "not YAML: line 1: could not determine"),
        ("a: 1\n---\nb: 2\n", "not YAML: line 2"),
        ("a: " + "9" * 5000, "a value cannot be read"),
        ("a: 2020-13-45\n", "a value cannot be read: month must be in 1..12"),
        ("? [1, 2]\n: 3\n", "not YAML: line 1"),
    ],
)
def test_yaml_that_is_not_read_is_one_line(tmp_path, content, rule) -> None:
    import re

    assert re.search(rule, refused(tmp_path / "c.yaml", content, yaml_of))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "not JSON: line 1: "),
        ('{"a":\n', "not JSON: line 2: "),
        ("[" * 100_000, "not JSON: nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON: a number of too many digits"),
        ('{"a": "ä"}'.encode("latin-1"), "cannot be read as UTF-8 text"),
    ],
)
def test_json_that_is_not_read_is_one_line(tmp_path, content, rule) -> None:
    assert rule in refused(tmp_path / "run.json", content, json_of)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (
            f"training: {{steps: {10**30}, lr_steps: 1}}",
            "training.steps: expected at most 1000000",
        ),
        (
            "training: {steps: 1, lr_steps: 1, patch: 1000000000}",
            "training.patch: expected at most",
        ),
        (
            "preparation: {scales: 60}\n" + TRAINING,
            "preparation.scales: expected at most 12, not 60",
        ),
        ("preparation: {spacing_mm: [0, 1, 1]}\n" + TRAINING, "preparation.spacing_mm.0: expected"),
        (
            "sketch: {channels: [" + "a, " * 1000 + "a]}\n" + TRAINING,
            "sketch.channels: expected at m",
        ),
        ("network: {hr_width: 1000000}\n" + TRAINING, "network.hr_width: expected at most"),
        ("network: {lr_levels: 12}\n" + TRAINING, "lr_width 64 doubles in each of lr_levels 12"),
        ("training: {steps: 1, lr_steps: 1, learning_rate: .nan}", "expected a finite number"),
        ("training: {steps: yes, lr_steps: 1}", "steps is true (or yes, no, on, off)"),
        ("training: {steps: many, lr_steps: 1}", "steps: expected a whole number, not 'many'"),
        ("training: [1, 2]", "training: expected keys and values, not [1, 2]"),
        ("training:\n", "training: expected keys and values, not nothing"),
        ("1: 2\n" + TRAINING, "1: expected a name"),
        ("dims: " + "a" * 100_000 + "\n" + TRAINING, "dims: expected 2 or 3, not 'aaa"),
    ],
)
def test_settings_no_machine_could_use_are_refused(tmp_path, content, rule) -> None:
    assert rule in refused(tmp_path / "c.yaml", content, CascadeConfig.load)


def test_anchors_and_utf16_are_read(tmp_path) -> None:
    (tmp_path / "c.yaml").write_text("a: &one {b: 1}\nc: {<<: *one, d: 2}\n", encoding="utf-16")
    assert yaml_of(tmp_path / "c.yaml") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


def test_what_is_no_file_is_named(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: is no ordinary file"):
        text_of(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a folder, expected a file"):
        text_of(tmp_path)
    with pytest.raises(FileNotFoundError):
        text_of(tmp_path / "absent")


def test_a_file_that_is_no_text_by_its_size_is_not_read(tmp_path, monkeypatch) -> None:
    def read(path: Path) -> bytes:
        raise AssertionError(f"{path} was read")

    with (tmp_path / "a.yaml").open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", read)
    rule = f"a.yaml: {MOST_BYTES + 1} bytes: expected at most {MOST_BYTES} of a text file"
    with pytest.raises(InputError, match=rule):
        text_of(tmp_path / "a.yaml")


def test_a_disk_that_does_not_read_is_told(tmp_path, monkeypatch) -> None:
    def read(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    (tmp_path / "a.yaml").write_text("a: 1")
    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(InputError, match=r"a\.yaml: cannot be read: Input/output error$"):
        yaml_of(tmp_path / "a.yaml")


@pytest.mark.parametrize("value", ["a\nb", "\x1b[31m", "x" * 10**6, [10**5000], [1] * 10**5])
def test_values_in_messages_are_short_and_on_one_line(value) -> None:
    text = shown(value)
    assert len(text) <= LONGEST
    assert text.isprintable()
