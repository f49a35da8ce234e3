"""Compares every published value with our measurement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from msgan.metrics import CATALOGUE
from msgan.report import published
from msgan.report.experiment import Experiment
from msgan.report.published import (
    FIGURES,
    HA,
    MEASURES,
    MICCAI_1,
    PRINTED,
    UZUNOVA,
    Figure,
    Printed,
)
from msgan.report.table import Cell, Table, number
from msgan.statistics import Interval, bootstrap_mean
from msgan.studies.table import IMAGE

if TYPE_CHECKING:
    import pandas as pd

NOT_RUN = "not run"

CARD_BYTES = 12e9
"""Memory of the GPU that the papers had (2020, section 3.1), in the unit it is sold by."""

STEPS, DISTANCES = "steps.csv", "distances.csv"

EDGES = "cascade, edges alone"
"""The row that is the papers' cascade in a table whose ``cascade`` is also guided by the source."""

VARIANTS = {"cascade": (EDGES, "cascade"), "Ea-GAN": ("dEa-GAN", "gEa-GAN")}
"""Rows of ours, by the printed method that they repeat: the first of them that is there."""

NOTE = (
    "The data differ: the papers measured images of their patients, ours are of what each row "
    "names. Where that is phantoms or other people, a difference says nothing about either method, "
    "and only the order within a task may be compared. The papers' tables count the whole image, "
    "or do not say what they count; ours do where the mask is image. Ours: mean over subjects and "
    "the 95 % bootstrap interval of the mean. Intensities in [0, 1]; 3D, but for x-ray, which is "
    "2D. Printed in: years without a name are of Uzunova et al."
)


@dataclass(frozen=True)
class Entry:
    """One printed number and ours.

    Attributes:
        task: What is translated to what.
        row: Method, network or pair of domains.
        quantity: What was measured.
        printed: The papers' number.
        sd: Its printed standard deviation.
        relation: ``≈`` or ``>`` where the paper says so.
        unit: Of both numbers.
        source: Paper, table or section.
        ours: Mean and interval; None where it was not run.
        n: Subjects behind ours.
        where: The experiment that measured ours.
        about: Data, mask and whatever else keeps the two from being compared.
        comparable: Whether both were measured in one unit; a difference says nothing otherwise.
    """

    task: str
    row: str
    quantity: str
    printed: float
    sd: float | None
    relation: str
    unit: str
    source: str
    ours: Interval | None = None
    n: int = 0
    where: str = ""
    about: str = ""
    comparable: bool = True

    @property
    def difference(self) -> float:
        """Ours minus printed; NaN where there is nothing to subtract."""
        if self.ours is None or not self.comparable:
            return math.nan
        return self.ours.mean - self.printed


Measured = tuple[Interval, int, str, str, bool]
"""Ours, n, where, about, comparable."""


def published_vs_ours(experiments: Sequence[Experiment]) -> list[Entry]:
    """An entry for each printed number and experiment that repeats it; at least one each.

    An experiment repeats a printed table where it has at least two of the table's rows.
    """
    entries: list[Entry] = []
    for row in PRINTED:
        for quantity in MEASURES:
            value = getattr(row, quantity)
            if value is None:
                continue
            sd = row.sd.get(quantity)
            name, unit = CATALOGUE[quantity].label, CATALOGUE[quantity].unit
            source = row.source
            if sd is not None and source.startswith(UZUNOVA) and source != MICCAI_1:
                source += f" (± {MICCAI_1})"
            known = (row.task, row.method, name, value, sd, "", unit, source)
            found = [m for e in experiments for m in _score(e, row, quantity)]
            entries += [Entry(*known, *m) for m in found] or [Entry(*known)]
    for figure in FIGURES:
        text = (figure.task, figure.row, figure.quantity, figure.value)
        stated = (*text, None, figure.relation, figure.unit, figure.source)
        found = [m for e in experiments for m in _figure(e, figure)]
        entries += [Entry(*stated, *m) for m in found] or [Entry(*stated)]
    return entries


def _rows(experiment: Experiment, task: str, source: str) -> pd.DataFrame | None:
    """Scores of a task, if at least two rows of its printed table are among them."""
    if experiment.scores is None:
        return None
    lines = experiment.scores[experiment.scores["task"] == task]
    printed = {row.method for row in PRINTED if (row.task, row.source) == (task, source)}
    return lines if sum(bool(_repeats(m, lines)) for m in printed) >= 2 else None


def _repeats(method: str, lines: pd.DataFrame) -> str | None:
    """The row of ours that repeats a printed method."""
    there = set(lines["method"])
    return next((m for m in VARIANTS.get(method, (method,)) if m in there), None)


def _mean(values: pd.Series) -> tuple[Interval, int] | None:
    x = values.to_numpy(float)
    x = x[np.isfinite(x)]
    return (bootstrap_mean(x), int(x.size)) if x.size else None


def _score(experiment: Experiment, row: Printed, quantity: str) -> Iterator[Measured]:
    lines = _rows(experiment, row.task, row.source)
    name = None if lines is None else _repeats(row.method, lines)
    if lines is None or name is None:
        return
    whole = f"{IMAGE}_{quantity}"
    column = whole if whole in lines else quantity
    mine = lines[lines["method"] == name]
    measured = _mean(mine[column]) if column in lines else None
    if measured is not None:
        mask = IMAGE if column == whole else experiment.convention("region")
        about = f"{experiment.data}; mask: {mask}"
        about += f"; ours: {name}" if name not in (row.method, EDGES) else ""
        yield *measured, experiment.stem, about, True


def _figure(experiment: Experiment, figure: Figure) -> Iterator[Measured]:
    where, quantity = experiment.stem, figure.quantity
    if quantity == published.FRECHET and DISTANCES in experiment.others:
        yield from _distances(experiment, figure.row)
    elif quantity == published.SLOWER:
        lines = _rows(experiment, figure.task, published.EXTENDED_1)
        if lines is not None and "seconds" in lines:
            times = lines.pivot_table(index="subject", columns="method", values="seconds")
            if {figure.row, "cascade"} <= set(times):
                measured = _mean(times[figure.row] / times["cascade"])
                if measured is not None:
                    yield *measured, where, f"{experiment.data}; one machine for both", True
    elif STEPS in experiment.others:
        yield from _step(experiment, figure)


def _distances(experiment: Experiment, domains: str) -> Iterator[Measured]:
    table = experiment.others[DISTANCES]
    if not {"domains", "distance", "low", "high", "extractor", "subjects"} <= set(table):
        return
    for line in table[table["domains"] == domains].to_dict("records"):
        features = str(line["extractor"])
        yield (
            Interval(line["distance"], line["low"], line["high"]),
            int(str(line["subjects"]).split("/")[0]),
            experiment.stem,
            f"{experiment.data}; features: {features}",
            "not comparable" not in features,
        )


def _step(experiment: Experiment, figure: Figure) -> Iterator[Measured]:
    """Memory of a training step, added up as the papers do: no subjects and no interval."""
    table = experiment.others[STEPS]
    if not {"network", "side", "summed_bytes"} <= set(table):
        return
    mine = table[table["network"] == figure.row]
    if figure.quantity == published.TRAINING:
        found = mine.loc[mine["side"] == 256, "summed_bytes"] / 1e9
    elif figure.quantity == published.LARGEST:
        found = mine.loc[mine["summed_bytes"] <= CARD_BYTES, "side"].nlargest(1)
    else:
        return
    for value in found.to_list():
        yield (
            Interval(float(value), math.nan, math.nan),
            0,
            experiment.stem,
            "added up as in the papers, batch of one",
            True,
        )


def printed_beside(scores: pd.DataFrame, data: str, by: str) -> pd.DataFrame:
    """What was printed of the tasks of a table of scores, and its means beside it.

    Args:
        scores: Of :func:`msgan.studies.crossval.cross_validate`.
        data: What was translated, in words.
        by: How the source of the printed rows begins, as ``Ha et al.``.

    Returns:
        One line a printed number: ``task``, ``method``, ``measure``, ``printed``, ``sd``
        (printed), ``ours``, ``low``, ``high`` (95 % bootstrap interval of the mean), ``n``,
        ``difference`` (ours - printed); NaN where ours was not run.
    """
    import pandas as pd

    tasks = set(scores["task"])
    entries = published_vs_ours([Experiment("", "", {"data": data}, scores=scores)])
    wanted = [e for e in entries if e.source.startswith(by) and e.task in tasks]
    unknown = Interval(math.nan, math.nan, math.nan)
    lines = []
    for e in wanted:
        mean, low, high = e.ours or unknown
        line = {"task": e.task, "method": e.row, "measure": e.quantity, "printed": e.printed}
        line |= {"sd": e.sd, "ours": mean, "low": low, "high": high, "n": e.n}
        lines.append(line | {"difference": e.difference})
    return pd.DataFrame(lines)


def comparison_table(entries: Sequence[Entry]) -> Table:
    """All entries as a table: one line an entry."""
    import pandas as pd

    frame = pd.DataFrame(
        {
            "task": e.task,
            "row": e.row,
            "quantity": e.quantity,
            "unit": e.unit,
            "relation": e.relation,
            "printed": e.printed,
            "printed_sd": e.sd,
            "ours": NOT_RUN if e.ours is None else e.ours.mean,
            "low": None if e.ours is None else e.ours.low,
            "high": None if e.ours is None else e.ours.high,
            "n": e.n or None,
            "difference": None if e.ours is None else e.difference,
            "experiment": e.where,
            "data_and_mask": e.about,
            "source": e.source,
        }
        for e in entries
    )
    columns = ("task", "row", "quantity", "printed", "ours", "n", "difference")
    return Table(
        name="ledger",
        title="Printed against ours",
        note=NOTE,
        columns=(*columns, "ours measured on", "printed in"),
        rows=tuple(map(_cells, entries)),
        frame=frame,
        words=3,
        tail=2,
    )


def _cells(entry: Entry) -> tuple[Cell, ...]:
    measure = entry.quantity.lower()

    def shown(value: float) -> str:
        return number(value, measure)

    printed = f"{entry.relation} {shown(entry.printed)}".strip()
    if measure == "mse":  # printed with three digits
        printed = f"{entry.printed:.3f}"
    digits = 2 if entry.source.startswith(HA) else 3
    printed += "" if entry.sd is None else f" ± {entry.sd:.{digits}f}"
    ours, low, high = entry.ours or (math.nan, math.nan, math.nan)
    interval = f"[{shown(low)}, {shown(high)}]" if math.isfinite(low + high) else ""
    difference = entry.difference
    return (
        Cell(entry.task),
        Cell(entry.row),
        Cell(f"{entry.quantity} ({entry.unit})" if entry.unit else entry.quantity),
        Cell(printed),
        Cell(NOT_RUN if entry.ours is None else shown(ours), interval),
        Cell(str(entry.n) if entry.n else "–"),
        Cell("–" if math.isnan(difference) else f"{'+' * (difference > 0)}{shown(difference)}"),
        Cell("; ".join(filter(None, (entry.where, entry.about))) or "–"),
        Cell(entry.source.replace(f"{UZUNOVA} ", "")),
    )
