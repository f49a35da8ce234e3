"""The results of one notebook for a report, whichever of its files exist."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.report import archive, run_cache
from msgan.report.csv_tables import (
    SCORES,
    TESTS,
    is_cut_short,
    read_scores,
    read_table,
    read_tests,
)
from msgan.report.page import load_notebook, title_of
from msgan.report.pictures import Picture, pictures
from msgan.report.results import FILE, Figure, read_results
from msgan.runs.run import CARD as RUN_CARD
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd

UNSTATED = "not stated in this record"


@dataclass(frozen=True)
class Experiment:
    """What a notebook left.

    Attributes:
        stem: Name of the notebook without suffix.
        title: Its first heading, or the stem.
        card: Of a record, else what a run's stamp says under the same names.
        figures: Key figures.
        scores: A line a task, method and subject; None where there are none.
        tests: Against the reference; None where there are none.
        others: Further tables by file name.
        pictures: Of the executed notebook.
        problems: A line for each file that could not be read.
        folder: Where they lie.
        page: Of the executed notebook, if there is one.
    """

    stem: str
    title: str
    card: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    scores: pd.DataFrame | None = None
    tests: pd.DataFrame | None = None
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    problems: tuple[str, ...] = ()
    folder: Path = Path()
    page: Path | None = None

    @property
    def data(self) -> str:
        """What was translated, in words."""
        return str(self.card.get("data", f"data {UNSTATED}"))

    def convention(self, name: str) -> str:
        """One of :data:`msgan.studies.table.CONVENTION`, of the scores or of the card."""
        if self.scores is not None and name in self.scores:
            return "; ".join(dict.fromkeys(map(str, self.scores[name].dropna())))
        stated = self.card.get("convention")
        known = stated.get(name) if isinstance(stated, Mapping) else None
        return str(known or f"{name} {UNSTATED}")


def find(runs: Path) -> tuple[list[Experiment], list[Path]]:
    """Results and run folders in ``runs``, sorted by name.

    Args:
        runs: Folder of executed notebooks, of results of record, of one notebook's results, or of
            trained cascades; or such a cascade.

    Raises:
        InputError: It is no folder.
    """
    if not runs.is_dir():
        raise InputError(f"{runs}: the folder of the results must exist")
    if _holds_results(runs):
        found = [_load(runs.resolve())]
    else:
        stems = {p.name for p in runs.iterdir() if p.is_dir() and _holds_results(p)}
        stems |= {p.name.removesuffix(".stamp.json") for p in runs.glob("[!.]*.stamp.json")}
        found = [_load(runs / stem) for stem in sorted(stems)]
    trained = [
        p.parent
        for p in sorted(runs.rglob(RUN_CARD))
        if not any(part.startswith(".") for part in p.relative_to(runs).parts)
    ]
    return found, trained


def _holds_results(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (archive.CARD, SCORES, FILE))


def _load(folder: Path) -> Experiment:
    problems: list[str] = []

    def reading(path: Path, read: Callable[[Path], Any], absent: Any) -> Any:
        if not path.is_file():
            return absent
        try:
            if path.suffix == ".csv" and is_cut_short(path):
                problems.append(f"{path.name}: its last line is cut short and left out")
            return read(path)
        except (InputError, OSError, ValueError) as error:
            text = " ".join(str(error).split())
            problems.append(text if path.name in text else f"{path.name}: {text}")
            return absent

    known = (SCORES, TESTS)
    scores, tests = (
        reading(folder / name, read, None)
        for name, read in zip(known, (read_scores, read_tests), strict=True)
    )
    others = {
        p.name: reading(p, read_table, None)
        for p in sorted(folder.glob("[!.]*.csv"))
        if p.name not in known
    }
    card = reading(folder / archive.CARD, _card, {})
    figures = card.get("figures") or reading(
        folder / FILE, lambda path: read_results(path.parent), {}
    )
    stem = str(card.get("notebook", folder.name))
    path = folder.parent / f"{folder.name}.ipynb"
    notebook = load_notebook(path)
    shown = reading(path, lambda path: pictures(notebook), ())
    return Experiment(
        stem=stem,
        title=str(card.get("title") or title_of(notebook) or stem),
        card=card or _of_the_run(folder, notebook),
        figures=figures,
        scores=scores,
        tests=tests,
        others={name: table for name, table in others.items() if table is not None},
        pictures=shown,
        problems=tuple(problems),
        folder=folder,
        page=page if (page := path.with_suffix(".html")).is_file() else None,
    )


def _card(path: Path) -> dict[str, Any]:
    card = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(card, dict) or not isinstance(card.get("figures", {}), dict):
        raise InputError(f"{path.name}: no card of a run")
    return card


def _of_the_run(folder: Path, notebook: Mapping[str, Any]) -> dict[str, Any]:
    """What a card would say of a run that nobody has kept yet."""
    run = run_cache.last(folder.parent, folder.name)
    if not run.finished:
        return {}
    card: dict[str, Any] = {"finished": run.finished, "seconds": run.seconds, "git": run.git}
    card |= {"peak MiB": round(run.peak_bytes / 2**20), "status": run.status}
    if run.error:
        card["error"] = run.error
    return card | archive.data_of(notebook)
