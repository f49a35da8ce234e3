"""Translations made by commands, for a report: a table of them, and pictures beside the source."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from msgan.data.volume import open_volume
from msgan.metrics import SIMILARITY
from msgan.report.catalog import Translated, catalog
from msgan.report.fault import Fault
from msgan.report.page import reduced
from msgan.report.pictures import WIDTH, Picture
from msgan.report.table import Cell, Table, number
from msgan.report.tables import header_of
from msgan.translate.provenance import Provenance
from msgan.types import Array, InputError

SHOWN = 6
"""Pictures of a report; the table has all translations."""

MOST_VOXELS = 1 << 26
"""Of an image that is drawn: it is read as a whole."""

NOTE = (
    "Every image named here is synthetic. Scores against the real image, where msgan evaluate has "
    "compared both; rows without a run are baselines, which use no network."
)


@dataclass(frozen=True)
class Translations:
    """What a folder holds of them.

    Attributes:
        table: A line for each image, and for each row that it was compared with.
        pictures: Of the first :data:`SHOWN`.
        count: How many there are.
        problems: A line for each that cannot be shown.
    """

    table: Table
    pictures: tuple[Picture, ...]
    count: int
    problems: tuple[str, ...]


def translations(runs: Path) -> Translations | None:
    """Those below a folder that no notebook made; None where there are none."""
    found = catalog(runs)
    books = {page.with_suffix("") for page in found.pages}
    own = [one for one in found.translated if not one.provenance.regions]
    own = [one for one in own if not books & {*one.provenance.result.parents}]
    faults = [fault for fault in found.faults if _concerns(fault, runs)]
    if not own:
        return None
    problems = [str(fault) for fault in faults]
    pictures: list[Picture] = []
    for one in own[:SHOWN]:
        try:
            pictures.append(_picture(one))
        except (InputError, OSError) as error:
            problems.append(" ".join(str(error).split()))
    return Translations(_table(own, runs), tuple(pictures), len(own), tuple(problems))


def _concerns(fault: Fault, runs: Path) -> bool:
    """Faults of runs are told with the runs."""
    return fault.path.suffix == ".json" or not fault.path.is_dir()


def _table(own: Sequence[Translated], runs: Path) -> Table:
    import pandas as pd

    lines = [line for one in own for line in _lines(one, runs)]
    frame = pd.DataFrame(lines)
    measures = [m for m in SIMILARITY if m in frame]
    columns = ["image", "of", "task", "row", "region", *measures]
    best = _best(frame, measures)
    rows = tuple(
        tuple(
            Cell(number(value, name) if name in measures else str(value), best=(k, name) in best)
            if value == value and value is not None  # a number that is none
            else Cell("–")
            for name, value in ((name, frame[name].iloc[k]) for name in columns)
        )
        for k in range(len(frame))
    )
    heads = (*columns[:5], *(header_of(m) for m in measures))
    return Table("translations", "Translations", NOTE, heads, rows, frame, words=5)


def _best(frame: Any, measures: Sequence[str]) -> set[tuple[int, str]]:
    """Cells that are the best of an image and region, where several rows are compared."""
    from msgan.metrics import CATALOGUE

    found: set[tuple[int, str]] = set()
    for _, part in frame.groupby(["image", "region"], sort=False):
        for name in measures:
            values = part[name].astype(float).dropna()
            if len(values) > 1:
                end = values.max() if CATALOGUE[name].better == "higher" else values.min()
                found |= {(int(k), name) for k in values.index[values == end]}
    return found


def _lines(one: Translated, runs: Path) -> Iterator[dict[str, Any]]:
    trace = one.provenance
    place = trace.result
    image = place.relative_to(runs).as_posix() if place.is_relative_to(runs) else place.name
    about = {"image": image, "of": one.subject, "task": one.task}
    if not trace.scores:
        yield {**about, "row": _row(trace), "region": "not scored"}
    regions = [line.get("region") for line in trace.scores]
    for line in sorted(trace.scores, key=lambda one: regions.index(one.get("region"))):
        row = _row(trace) if line.get("method") == trace.method else line.get("method")
        scores = {m: line[m] for m in SIMILARITY if m in line}
        yield {**about, "row": row, "region": line.get("region", ""), **scores}


def _row(trace: Provenance) -> str:
    return f"{trace.method}, {trace.run.name}" if trace.run else trace.method


def _picture(one: Translated) -> Picture:
    """Source, translation and, where it is known, the real image and the difference."""
    from msgan import plots

    trace = one.provenance
    real = trace.real if trace.real is not None and trace.real.exists() else None
    with ExitStack() as stack:
        paths = [trace.image, trace.result, *([real] if real else [])]
        volumes = [stack.enter_context(open_volume(path, check=False)) for path in paths]
        for volume in volumes:
            if not volume.grid.same_as(volumes[1].grid, 1e-3):
                raise InputError(f"{volume.path}: lies on another grid than {trace.result}")
            if prod(volume.grid.shape) > MOST_VOXELS:
                raise InputError(
                    f"{volume.path}: {prod(volume.grid.shape)} voxels: too large to be drawn here; "
                    "msgan explore shows it"
                )
        images = [volume.whole() for volume in volumes]
        affine = volumes[1].grid.affine
    place: dict[str, Any] = {"affine": affine} if affine.shape == (4, 4) else {}
    if len(images) == 3:
        figure = plots.compare(*images, unit=trace.unit, **place)
    else:
        shown = dict(zip(("source", "translated"), map(_scaled, images), strict=True))
        figure = plots.slices(shown, unit="each in its own range", **place)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    text = f"{one.subject}, {one.task} by {_row(trace)}; the translation is synthetic."
    text += "" if real else " No real image is known."
    return Picture(reduced(stream.getvalue(), WIDTH), trace.result.name, text)


def _scaled(image: Array) -> Array:
    low, high = np.percentile(image, (0.5, 99.5))
    return np.clip((image - low) / ((high - low) or 1), 0, 1)
