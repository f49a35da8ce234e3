"""One table of a report: its text, its LaTeX, and its numbers."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgan.metrics import CATALOGUE
from msgan.report import latex

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Cell:
    """One cell as it is read; ``link`` is where a page leads from it."""

    text: str
    interval: str = ""
    best: bool = False
    link: str = ""

    @property
    def plain(self) -> str:
        """All of it in one line."""
        return f"{self.text}{'*' if self.best else ''} {self.interval}".strip()


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Of its files, without suffix.
        title: What it shows.
        note: Data, n, region, dimension, range, and how to read it.
        columns: Headers.
        rows: As many cells each as there are columns.
        frame: The numbers as they were measured, for the CSV file.
        words: Leading columns of words.
        tail: Last columns of words.
    """

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    frame: pd.DataFrame
    words: int = 1
    tail: int = 0

    def latex(self) -> str:
        """For a paper; needs booktabs."""
        return latex.table(
            self.columns,
            [[cell.plain for cell in row] for row in self.rows],
            caption=f"{self.title}. {self.note}",
            label=self.name,
            bold=[[cell.best for cell in row] for row in self.rows],
            words=self.words,
        )


def file_name(*parts: str) -> str:
    """Parts as one name that every file system takes.

    Where letters are lost, the first digits of a hash keep two names apart.
    """
    joined = "-".join(filter(None, parts))
    text = joined.replace("→", "-to-").replace("/", "-").replace(" ", "_")
    plain = re.sub(r"[^\w-]+", "_", text, flags=re.ASCII)
    lost = hashlib.sha256(joined.encode()).hexdigest()[:6]
    return plain if plain == text else f"{plain}-{lost}"


def number(value: float, measure: str = "") -> str:
    """A number with the digits its measure is given with, else four that count."""
    if metric := CATALOGUE.get(measure):
        return metric.text(value)
    return f"{value:.4g}" if math.isfinite(value) else "–"


def p_value(value: float) -> str:
    """A p-value; what is below 0.0001 is not told apart."""
    if math.isnan(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
