"""Translations on disk, for a report: their scores, pictures beside the source, viewers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.metrics import SIMILARITY
from msgan.report.best import best_of
from msgan.report.catalog import Translated, catalog
from msgan.report.experiment import Experiment
from msgan.report.fault import Fault
from msgan.report.found import OURS, findings
from msgan.report.links import link
from msgan.report.shown import Shown, row_of, shown_of
from msgan.report.table import Cell, Table, number
from msgan.report.tables import header_of, score_tables
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 3
"""Pictures of a report; the table has all translations."""

NOTE = (
    "Every image named here is synthetic. Scores against the real image, where msgan evaluate has "
    "compared both; rows without a run are baselines, which use no network."
)

STEM = "translations"
"""How the files of their tables begin."""


@dataclass(frozen=True)
class Translations:
    """What a folder holds of them.

    Attributes:
        table: A line for each image, and for each row that it was compared with; None where all
            translations are of notebooks, which have their own tables.
        means: Scores by task and region, over all images that no table of a study has.
        found: What these say, a sentence each.
        shown: The first :data:`SHOWN`, of different tasks and runs as far as there are some.
        tasks: As ``t1→t2``: images and subjects.
        count: How many translations no notebook made.
        runs: Folders of the trained runs that made them, or those shown where notebooks did.
        problems: A line for each that cannot be shown.
    """

    table: Table | None
    means: tuple[Table, ...]
    found: tuple[str, ...]
    shown: tuple[Shown, ...]
    tasks: tuple[tuple[str, int, int], ...]
    count: int
    runs: tuple[Path, ...]
    problems: tuple[str, ...]


def translations(runs: Path, page: Path, scored: Sequence[Path] = ()) -> Translations | None:
    """Those below a folder; None where there are none.

    Args:
        runs: The folder.
        page: Folder of the page, from which links lead to the images.
        scored: Folders of studies whose tables have the scores of the translations below them.
    """
    found = catalog(runs)
    books = {path.with_suffix("") for path in found.pages}
    own = [one for one in found.translated if not one.provenance.regions]
    own = [one for one in own if not books & {*one.provenance.result.parents}]
    studied = [one for one in found.translated if one not in own and one.method == OURS]
    if not (own or studied):
        return None
    problems = [str(fault) for fault in found.faults if own and _concerns(fault, runs)]
    shown: list[Shown] = []
    chosen = _chosen(own or studied)
    for one in chosen:
        try:
            shown.append(shown_of(one))
        except (InputError, OSError, ValueError) as error:
            problems.append(" ".join(str(error).split()))
    tables = {folder.resolve() for folder in scored}
    alone = [one for one in own if not tables & {*one.provenance.result.resolve().parents}]
    means, sentences = _means(alone)
    return Translations(
        _table(own, runs, page) if own else None,
        tuple(means),
        tuple(sentences),
        tuple(shown),
        tuple(_tasks(own)),
        len(own),
        tuple(dict.fromkeys(o.provenance.run for o in own or chosen if o.provenance.run)),
        tuple(problems),
    )


def _concerns(fault: Fault, runs: Path) -> bool:
    """Faults of runs are told with the runs."""
    return fault.path.suffix == ".json" or not fault.path.is_dir()


def _tasks(own: Sequence[Translated]) -> Iterator[tuple[str, int, int]]:
    for task in dict.fromkeys(one.task for one in own):
        people = [one.subject for one in own if one.task == task]
        yield task, len(people), len(set(people))


def _chosen(found: Sequence[Translated]) -> list[Translated]:
    """A few of them: first one of each task and run, then of other subjects, then more."""
    first = {(one.task, one.provenance.run): one for one in reversed(found)}
    others = {(one.task, one.subject): one for one in reversed(found)}
    ordered = [one for kind in (first, others) for one in found if one in kind.values()]
    return list({id(one): one for one in (*ordered, *found)}.values())[:SHOWN]


# --- scores -------------------------------------------------------------------------------------


def _table(own: Sequence[Translated], runs: Path, page: Path) -> Table:
    import pandas as pd

    lines = [(one, line) for one in own for line in _lines(one, runs)]
    frame = pd.DataFrame([line for _, line in lines])
    measures = [m for m in SIMILARITY if m in frame]
    columns = ["image", "of", "task", "row", "region", *measures]
    best = _best(frame, measures)
    rows = []
    for k, (one, line) in enumerate(lines):
        cells = []
        for name in columns:
            value = line.get(name)
            if value is None or value != value:  # a number that is none
                cells.append(Cell("–"))
            elif name in measures:
                cells.append(Cell(number(float(value), name), best=(k, name) in best))
            else:
                there = link(one.provenance.result, page) if name == "image" else ""
                cells.append(Cell(str(value), link=there))
        rows.append(tuple(cells))
    heads = (*columns[:5], *(header_of(m) for m in measures))
    return Table(STEM, "Each translation", NOTE, heads, tuple(rows), frame, words=5)


def _best(frame: pd.DataFrame, measures: Sequence[str]) -> set[tuple[int, str]]:
    """Cells that are the best of an image and region, where several rows are compared."""
    found: set[tuple[int, str]] = set()
    for _, part in frame.groupby(["image", "region"], sort=False):
        for name in measures:
            places = best_of(name, part[name].astype(float).tolist())
            found |= {(int(part.index[k]), name) for k in places}
    return found


def _lines(one: Translated, runs: Path) -> Iterator[dict[str, Any]]:
    trace = one.provenance
    place, root = trace.result, runs.absolute()
    image = place.relative_to(root).as_posix() if place.is_relative_to(root) else place.name
    about = {"image": image, "of": one.subject, "task": one.task}
    if not trace.scores:
        yield {**about, "row": row_of(trace), "region": "not scored"}
    regions = [line.get("region") for line in trace.scores]
    for line in sorted(trace.scores, key=lambda one: regions.index(one.get("region"))):
        row = row_of(trace) if line.get("method") == trace.method else line.get("method")
        scores = {m: line[m] for m in SIMILARITY if m in line}
        yield {**about, "row": row, "region": line.get("region", ""), **scores}


def _means(own: Sequence[Translated]) -> tuple[list[Table], list[str]]:
    """Tables of means by region and task, and what the last region of each task says.

    The last is the narrowest: inside a mask, where there is one.
    """
    import pandas as pd

    lines = [line for one in own if one.provenance.scores for line in _lines(one, Path())]
    if not lines:
        return [], []
    frame = pd.DataFrame(lines).rename(columns={"row": "method", "of": "subject"})
    frame = frame.drop_duplicates(["task", "region", "method", "subject"]).drop(columns="image")
    frame = frame.assign(**{m: pd.to_numeric(frame[m], "coerce") for m in SIMILARITY if m in frame})
    frame["dims"] = f"{own[0].provenance.grid.dims}D" if own[0].provenance.grid else ""
    frame["range"] = "black to white of the real image"
    tables: list[Table] = []
    sentences: dict[object, list[str]] = {}
    for region, part in frame.groupby("region", sort=False):
        about = {"data": "the translations of this folder"}
        tables += score_tables(Experiment(f"{STEM}-{region}", "", about, scores=part))
        sentences |= {task: findings(own) for task, own in part.groupby("task", sort=False)}
    return tables, [line for own in sentences.values() for line in own]
