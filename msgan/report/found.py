"""What a table of scores says, in sentences that are computed from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msgan.metrics import CATALOGUE, metric_of
from msgan.report.csv_tables import SCORES, TESTS, read_scores, read_tests
from msgan.report.results import Figure, value_text
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd

OURS = "cascade"
"""The row that is looked for; variants of it are called ``cascade, ...`` or ``cascade (RUN)``."""

PAIRED = (
    *("REPLICA", "MedSynth", "paired regression", "3D-mDAUNet"),
    *("dEa-GAN", "gEa-GAN", "ResViT", "PTNet3D"),
)
"""Rows that learn from pairs of source and target of the same people."""

NO_CLAIM = "Preset smoke: these numbers show that everything runs and make no claim of quality."

MAY_BE_SMOKE = "Numbers of the preset smoke make no claim of quality."
"""Where the preset is not known."""


@dataclass(frozen=True)
class Found:
    """Sentences, shown as a list where a notebook or a page shows them."""

    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)
        return f'<div class="found"><strong>Found</strong><ul>{items}</ul></div>'


def found_in(folder: Path, figures: Mapping[str, Figure], preset: str | None = None) -> Found:
    """What the tables in the folder of a notebook's results say.

    Tables that cannot be read say so in place of their sentences.

    Args:
        folder: With ``scores.csv`` and ``tests.csv``, where the notebook wrote them.
        figures: Key figures, which stand in for sentences where there is no table.
        preset: The one that the notebook ran with; None: not known.
    """
    scores = tests = None
    sentences: list[str] = []
    try:
        if (folder / SCORES).is_file():
            scores = read_scores(folder / SCORES)
        if (folder / TESTS).is_file():
            tests = read_tests(folder / TESTS)
    except (InputError, OSError, ValueError) as error:
        sentences.append(f"Not read: {' '.join(str(error).split())}.")
    if scores is not None:
        sentences += findings(scores, tests)
    if not sentences:
        sentences = [f"{name}: {value_text(value)}" for name, value in figures.items()]
    return Found((*sentences, *caution(preset)))


def caution(preset: str | None) -> tuple[str, ...]:
    """The sentence that keeps numbers of ``smoke`` from being read as a claim."""
    if preset is None:
        return (MAY_BE_SMOKE,)
    return (NO_CLAIM,) if preset == "smoke" else ()


def findings(scores: pd.DataFrame, tests: pd.DataFrame | None = None) -> list[str]:
    """A sentence for each task: the best row without pairs, and where the cascade stands.

    Rows are compared by their means over subjects of the first of SSIM, Dice and the other
    metrics that was measured, in the table's first region.

    Args:
        scores: A line each task, method and subject.
        tests: Of rows against a reference, which add an interval of the difference.
    """
    found = []
    for task, lines in scores.groupby("task", sort=False):
        column = _deciding(lines)
        if column is not None:
            own = None if tests is None else tests[tests["task"].fillna("") == task]
            found.append(_sentence(str(task), column, lines, own))
    return found


def _deciding(lines: pd.DataFrame) -> str | None:
    """The column that rows are compared by."""
    there = [str(c) for c in lines.select_dtypes("number") if lines[c].notna().any()]
    plain = [name for name in ("ssim", "dice", *CATALOGUE) if name in there]
    return next(iter(plain), next((c for c in there if metric_of(c)), None))


def _sentence(task: str, column: str, lines: pd.DataFrame, tests: pd.DataFrame | None) -> str:
    metric = metric_of(column)
    assert metric is not None
    means = lines.groupby("method", sort=False)[column].mean().dropna()
    ranked = means.sort_values(ascending=metric.better == "lower", kind="stable")
    values = {str(row): float(value) for row, value in ranked.items()}
    free = [row for row in values if not is_paired(row)]
    paired = [row for row in values if is_paired(row)]

    def shown(row: str) -> str:
        sees = ", which sees the real image's histogram" * row.endswith("to REAL")
        return f"“{row}” ({metric.text(values[row])}{sees})"

    name = " ".join(filter(None, (column.rpartition("_")[0].replace("_", " "), metric.label)))
    people = int(lines["subject"].nunique())
    where = f"{task or 'Scores'} ({people} subject{'s' * (people != 1)}{_region(lines)})"
    if len(values) == 1:
        return f"{where}: {name} of {shown(next(iter(values)))}; nothing was compared with it."
    parts = []
    if len(free) == 1:
        parts.append(f"without pairs only {shown(free[0])} was measured, by {name}")
    elif free:
        best = [row for row in free if values[row] == values[free[0]]]
        verb = "has" if len(best) == 1 else "have"
        end = "highest" if metric.better == "higher" else "lowest"
        which = f"of {len(free)} rows{' without pairs' * bool(paired)}"
        parts.append(f"{which}, {' and '.join(map(shown, best))} {verb} the {end} {name}")
        parts += _standing(free, values, shown, tests, column)
    if paired:
        parts.append(f"the best with pairs is {shown(paired[0])}")
    return f"{where}: {'; '.join(parts)}."


def _region(lines: pd.DataFrame) -> str:
    """Where voxels count, if the table says it."""
    stated = list(lines["region"].dropna().unique()) if "region" in lines else []
    return f", {stated[0]}" if len(stated) == 1 else ""


def _standing(
    free: Sequence[str],
    values: Mapping[str, float],
    shown: Callable[[str], str],
    tests: pd.DataFrame | None,
    column: str,
) -> Iterator[str]:
    """Where the cascade stands among the rows without pairs, which are ordered, the best first."""
    known = [row for row in free if row.startswith((f"{OURS},", f"{OURS} ("))]
    ours = OURS if OURS in free else next(iter(known), None)
    if ours is None:
        return
    level = [row for row in free if values[row] == values[ours]]
    if free[0] not in level:
        place = ordinal(1 + free.index(level[0]))
        yield f"{shown(ours)} is {place}{_interval(tests, free[0], ours, column)}"
    elif rest := [row for row in free if row not in level]:
        yield f"next is {shown(rest[0])}{_interval(tests, rest[0], ours, column)}"


def _interval(tests: pd.DataFrame | None, row: str, reference: str, column: str) -> str:
    """The interval of the difference of two rows, where it was tested."""
    if tests is None:
        return ""
    own = tests[
        (tests["method"] == row) & (tests["reference"] == reference) & (tests["metric"] == column)
    ]
    metric = metric_of(column)
    for line in own.to_dict("records"):
        values = (line["difference"], line["low"], line["high"])
        if metric is not None and np.isfinite(np.array(values, dtype=float)).all():
            mean, low, high = map(metric.text, values)
            return f", difference {mean} [{low}, {high}]"
    return ""


def ordinal(number: int) -> str:
    """As ``1st``, ``2nd``, ``11th``."""
    end = (
        "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{end}"


def is_paired(row: str) -> bool:
    """Whether the row of a table learnt from pairs; variants are called ``NAME, ...``."""
    return any(row == name or row.startswith((f"{name},", f"{name} ")) for name in PAIRED)


def preset_below(folder: Path) -> str | None:
    """The preset of a folder of results that lies where :func:`results_folder` makes it."""
    from msgan.presets import PRESETS

    name = folder.resolve().parent.name
    return name if name in PRESETS else None
