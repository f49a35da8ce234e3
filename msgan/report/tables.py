"""The tables of an experiment: scores, their tests, and other tables it wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msgan import metrics
from msgan.report.best import best_of
from msgan.report.experiment import UNSTATED, Experiment
from msgan.report.table import Cell, Table, file_name, number, p_value
from msgan.statistics import bootstrap_mean
from msgan.studies.table import CONVENTION, SCORES

if TYPE_CHECKING:
    import pandas as pd

UNITS = {"hu": "HU", "ml": "ml", "seconds": "s"}
"""Ends of the names of columns, and the unit they state."""

SPREAD = (
    "Mean ± standard deviation over subjects; in brackets the 95 % bootstrap interval of the mean."
)

ALONE = "One subject: no spread and no interval."

BEST = "Best of a column: bold and marked *."


def score_tables(experiment: Experiment) -> list[Table]:
    """A table for each task and region, and one for whatever else was measured.

    Every cell is the mean over subjects with its standard deviation and bootstrap interval.
    """
    scores = experiment.scores
    if scores is None:
        return []
    known = {"task", "fold", "method", "subject", *CONVENTION}
    numeric = [str(c) for c in scores.select_dtypes("number") if c not in known]
    prefixes = [c.removesuffix("ssim") for c in numeric if c == "ssim" or c.endswith("_ssim")]
    groups = [
        (p.removesuffix("_"), [f"{p}{m}" for m in SCORES[:-1] if f"{p}{m}" in numeric])
        for p in prefixes
    ]
    shown = {c for _, columns in groups for c in columns}
    counts = [c for c in numeric if c.rpartition("_")[2] == "voxels"]
    groups.append(("measures", [c for c in numeric if c not in shown and c not in counts]))
    tables = []
    for task, lines in scores.groupby("task", sort=False):
        for region, columns in groups:
            if columns and lines[columns].notna().any(axis=None):
                tables.append(_scores(experiment, str(task), region, lines, columns))
    return tables


def _scores(
    experiment: Experiment, task: str, region: str, lines: pd.DataFrame, columns: Sequence[str]
) -> Table:
    import pandas as pd

    n = lines["subject"].nunique()
    records: list[dict[str, Any]] = []
    for method, part in lines.groupby("method", sort=False):
        for column in columns:
            values = part[column].to_numpy(float)
            values = values[np.isfinite(values)]
            record = {"task": task, "method": str(method), "measure": column, "n": values.size}
            if values.size:
                spread = float(values.std(ddof=1)) if values.size > 1 else math.nan
                record |= {"mean": float(values.mean()), "sd": spread}
                record |= dict(zip(("low", "high"), bootstrap_mean(values)[1:], strict=True))
            records.append(record)
    names = ["task", "method", "measure", "n", "mean", "sd", "low", "high"]
    frame = pd.DataFrame(records, columns=names)
    rows = []
    for method, part in frame.groupby("method", sort=False):
        own = int(part["n"].max())
        cells = (_cell(record, frame, own) for record in part.to_dict("records"))
        rows.append((Cell(str(method)), Cell(str(own)), *cells))
    whole = experiment.convention("region")
    where, what = {
        "": ("scores" if whole.endswith(UNSTATED) else whole, f"mask: {whole}"),
        "measures": ("further measures", ""),
    }.get(region, (region, f"mask: {region}"))
    marked = any(cell.best for row in rows for cell in row)
    return Table(
        name=file_name(experiment.stem, task, region or "scores"),
        title=": ".join(filter(None, (task, where))),
        note=" ".join(
            [_about(experiment, n, what), SPREAD if n > 1 else ALONE, BEST * marked]
        ).strip(),
        columns=("row", "n", *(header_of(column) for column in columns)),
        rows=tuple(rows),
        frame=frame,
    )


def _about(experiment: Experiment, n: int, what: str) -> str:
    """Data, n, mask, dimension and range; without ``what`` no scores of intensities are meant."""
    span = experiment.convention("range")
    shown = "" if span.endswith(UNSTATED) else " shown as [0, 1]"
    stated = (
        f"Data: {experiment.data}",
        f"n = {n} subject{'s' * (n != 1)}",
        what,
        experiment.convention("dims"),
    )
    return "; ".join(filter(None, (*stated, f"{span}{shown}" * bool(what)))) + "."


def _cell(record: Mapping[Any, Any], frame: pd.DataFrame, n: int) -> Cell:
    if not record["n"]:
        return Cell("–")
    column = record["measure"]
    measure = column.rpartition("_")[2]
    text = number(record["mean"], measure)
    if math.isfinite(record["sd"]):
        text += f" ± {number(record['sd'], measure)}"
    if record["n"] != n:
        text += f" (n = {record['n']})"
    bounds = (record["low"], record["high"])
    interval = ", ".join(number(bound, measure) for bound in bounds)
    rivals = frame.loc[frame["measure"] == column]
    winners = rivals["method"].iloc[sorted(best_of(column, rivals["mean"].tolist()))]
    best = record["method"] in set(winners)
    return Cell(text, f"[{interval}]" if math.isfinite(sum(bounds)) else "", best)


def header_of(column: str) -> str:
    """Name of a column with its unit, as it is read."""
    name, _, measure = column.rpartition("_")
    if measure in UNITS:
        return f"{name or 'time'} ({UNITS[measure]})"
    return metrics.header_of(column)


def difference_tables(experiment: Experiment) -> list[Table]:
    """Every row against the reference, a table for each task."""
    tests = experiment.tests
    if tests is None:
        return []
    tables = []
    for (task, reference), lines in tests.groupby(["task", "reference"], sort=False, dropna=False):
        rows = []
        for line in lines.to_dict("records"):
            measure = str(line["metric"]).rpartition("_")[2]
            difference, low, high = (
                number(line[k], measure) for k in ("difference", "low", "high")
            )
            note = line.get("note")
            rows.append(
                (
                    Cell(str(line["method"])),
                    Cell(header_of(str(line["metric"]))),
                    Cell(str(line["n"])),
                    Cell(difference),
                    Cell(f"[{low}, {high}]"),
                    Cell(p_value(line["t_p_holm"])),
                    Cell(p_value(line["wilcoxon_p_holm"])),
                    Cell(note if isinstance(note, str) else ""),
                )
            )
        task = task if isinstance(task, str) else ""
        what = f"mask: {experiment.convention('region')}, or the region a measure names"
        note = (
            f"Differences are row minus {reference} over the same subjects, with the 95 % "
            "bootstrap interval of their mean; two-sided paired t-test and Wilcoxon's signed-rank "
            f"test, p corrected by Holm over all {len(tests)} comparisons of {experiment.stem}."
        )
        columns = ("row", "measure", "n", "difference", "interval", "p (t)", "p (Wilcoxon)", "note")
        used = len(columns) - (not any(row[-1].text for row in rows))
        tables.append(
            Table(
                name=file_name(experiment.stem, task, "tests"),
                title=": ".join(filter(None, (task, f"against {reference}"))),
                note=f"{_about(experiment, int(lines['n'].max()), what)} {note}",
                columns=columns[:used],
                rows=tuple(row[:used] for row in rows),
                frame=lines,
                words=2,
                tail=used - 7,
            )
        )
    return tables


def other_tables(experiment: Experiment) -> list[Table]:
    """Whatever else a notebook wrote, as it is."""
    return [
        Table(
            name=file_name(experiment.stem, name.removesuffix(".csv")),
            title=name,
            note=f"As the notebook wrote it; data: {experiment.data}.",
            columns=tuple(map(str, frame)),
            rows=tuple(
                tuple(Cell(number(v) if isinstance(v, float) else str(v)) for v in line)
                for line in frame.itertuples(index=False)
            ),
            frame=frame,
        )
        for name, frame in experiment.others.items()
    ]
