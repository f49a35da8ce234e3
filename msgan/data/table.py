"""Reads a manifest as spreadsheets write it: separators, marks, empty columns, quotes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgan.data.entry import COLUMNS, REQUIRED
from msgan.documents import MOST_BYTES, shown, text_of
from msgan.types import InputError

SEPARATORS = ",;\t"
PROSE = ("licence", "citation")
"""Columns whose cells may have several lines."""


def lines_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Cells of each row that is not empty, and the line it begins in.

    Raises:
        InputError: There is no such file, it is no text, or a quote is not closed.
    """
    try:
        text = text_of(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    separator, skipped = _separator(text)
    stream = io.StringIO(text, newline="")
    for _ in range(skipped):
        stream.readline()
    csv.field_size_limit(MOST_BYTES)  # of the process; a cell is no longer than its file
    lines = csv.reader(stream, delimiter=separator, strict=True)
    while True:
        line = skipped + lines.line_num + 1
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            quote = "a quote is opened here and not closed"
            why = quote if "unexpected end" in str(error) else f"a quote within a value: {error}"
            raise InputError(f"{path}:{line}: {why}") from None
        if any(cell.strip() for cell in cells):
            yield line, cells


def columns_of(path: Path, line: int, header: Sequence[str]) -> list[str]:
    """Names of the columns; those without a name at the end, and between, are empty.

    Raises:
        InputError: A column is unknown, named twice, or missing.
    """
    names = [name.strip() for name in header]
    for name in names:
        if name and name not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise InputError(f"{path}:{line}: unknown column '{shown(name)}'; known are {known}")
        if name and names.count(name) > 1:
            raise InputError(f"{path}:{line}: column '{name}' is there twice")
    for name in REQUIRED:
        if name not in names:
            raise InputError(f"{path}:{line}: missing column '{name}'")
    return names


def values_of(where: str, header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """The values of a row by column.

    Args:
        where: File and line, for messages.
        header: Names of the columns; empty for one without.
        cells: Of the row.

    Raises:
        InputError: There are more or fewer cells, one is in a column without a name, or one holds
            what looks like the next rows.
    """
    for number, cell in enumerate(cells, 1):
        if number > len(header) and cell.strip():
            count = len(cells)
            raise InputError(f"{where}: {count} cells, the header names {len(header)} columns")
        if number <= len(header) and not header[number - 1] and cell.strip():
            raise InputError(f"{where}: column {number} has no name and holds '{shown(cell)}'")
    if len(cells) < len(header) and any(header[len(cells) :]):
        raise InputError(f"{where}: {len(cells)} cells, the header names {len(header)} columns")
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}
    for name, cell in values.items():
        rest = re.split(r"[\r\n]+", cell)[1:]
        if rest and (name not in PROSE or any(re.search(r"([,;\t][^,;\t]*){3}", r) for r in rest)):
            raise InputError(
                f"{where}: column '{name}' goes on in the next line: a quote is opened in it and "
                "closed too late"
            )
    return values


def _separator(text: str) -> tuple[str, int]:
    """What separates cells, and the lines in front of the header."""
    skipped = 0
    if match := re.match(r"sep=(.)[\r\n]", text):  # spreadsheets write and read this line
        if match[1] in SEPARATORS:
            return match[1], 1
        skipped = 1
        text = text[match.end() :]
    head = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    known = {s: sum(n.strip(' "') in COLUMNS for n in head.split(s)) for s in SEPARATORS}
    return max(SEPARATORS, key=lambda s: (known[s], s == ",")), skipped
