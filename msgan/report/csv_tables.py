"""Reads the tables of a study, also if a kill or a full disk has cut them short."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from msgan.studies.table import CONVENTION
from msgan.studies.table import SCORES as MEASURES
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd

SCORES = "scores.csv"
TESTS = "tests.csv"


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file whose lines are all as long as its header; without a last one that is cut short.

    Raises:
        InputError: It is empty, no text, or another line is cut short.
    """
    import pandas as pd

    text, _ = _whole(path)
    _fields(path, text)
    return pd.read_csv(io.StringIO(text, newline=""))


def read_fields(path: Path) -> list[list[str]]:
    """Header and lines of a CSV file as they are written, to the last digit.

    Raises:
        InputError: See :func:`read_table`.
    """
    return _fields(path, _whole(path)[0])


def _fields(path: Path, text: str) -> list[list[str]]:
    try:
        lines = _lines(text)
    except csv.Error as error:
        raise InputError(f"{path.name}: not a CSV file ({error})") from error
    if not lines:
        raise InputError(f"{path.name}: empty")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(lines[0]):
            raise InputError(
                f"{path.name}: line {number} has {len(line)} fields, the header {len(lines[0])}"
            )
    return lines


def is_cut_short(path: Path) -> bool:
    """Whether the last line of a CSV file is one that a kill or a full disk has cut short.

    Zeros, as a loss of power leaves them, are no part of a line.

    Raises:
        InputError: It is no text.
    """
    return _whole(path)[1]


def _whole(path: Path) -> tuple[str, bool]:
    """The text of a CSV file as far as it is whole, and whether a line was cut short."""
    content = path.read_bytes()
    end = content.rstrip(b"\0")
    try:
        text = end.decode("utf-8")
    except UnicodeDecodeError as error:
        if (line := end.rfind(b"\n") + 1) and error.start >= line:  # in the middle of a sign
            return end[:line].decode("utf-8"), True
        raise InputError(f"{path.name}: not a CSV file ({error})") from error
    before = text[: text.rfind("\n") + 1]
    if text == before or not before:
        return text, len(end) < len(content)
    try:
        lines = _lines(text)
        cut = len(end) < len(content) or len(lines[-1]) < len(lines[0])
    except csv.Error:  # a quote that is not closed
        cut = True
    return (before, True) if cut else (text, False)


def _lines(text: str) -> list[list[str]]:
    return [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]


def read_scores(path: Path) -> pd.DataFrame:
    """The scores of a study, with a column ``task`` in any case.

    Raises:
        InputError: A column is missing or holds no numbers, or the file is damaged.
    """
    table = _with_columns(path, ("method", "subject"))
    measures = [
        str(c) for c in table if c not in ("task", "fold", "method", "subject", *CONVENTION)
    ]
    numeric = table[measures].select_dtypes("number").columns
    for column in measures:
        if column.rpartition("_")[2] in MEASURES and column not in numeric:
            raise InputError(f"{path.name}: column {column} holds more than numbers")
    if "task" not in table:
        table.insert(0, "task", "")
    return table.fillna({"task": ""})


def read_tests(path: Path) -> pd.DataFrame:
    """The tests of a study.

    Raises:
        InputError: A column is missing, or the file is damaged.
    """
    names = ("task", "method", "reference", "metric", "n", "difference", "low", "high")
    return _with_columns(path, (*names, "t_p_holm", "wilcoxon_p_holm"))


def _with_columns(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    table = read_table(path)
    missing = [name for name in names if name not in table]
    if missing:
        raise InputError(f"{path.name}: no column {missing[0]!r}")
    return table
