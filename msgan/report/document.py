"""A report as one HTML page to share, with its tables for a paper."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgan
from msgan.metrics import CATALOGUE
from msgan.paths import atomic_folder, no_folder, write_text
from msgan.report import archive
from msgan.report.cards import RunCard, run_card
from msgan.report.csv_tables import SCORES
from msgan.report.experiment import Experiment, find
from msgan.report.page import duration, value_text
from msgan.report.published_vs_ours import NOT_RUN, Entry, comparison_table, published_vs_ours
from msgan.report.results import FILE
from msgan.report.run_cache import source_hash
from msgan.report.table import Table
from msgan.report.tables import difference_tables, other_tables, score_tables
from msgan.report.template import CAUTION, render
from msgan.report.translations import Translations, translations
from msgan.runs.run import CARD as RUN_CARD
from msgan.types import InputError

PAGE = "report.html"
TABLES = "tables"


@dataclass(frozen=True)
class Part:
    """One experiment of the page."""

    experiment: Experiment
    tables: Sequence[Table]
    tests: Sequence[Table]
    others: Sequence[Table]

    @property
    def figures(self) -> list[tuple[str, str]]:
        """Key figures as they are read."""
        return [(name, value_text(value)) for name, value in self.experiment.figures.items()]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What, when, from which code and with what."""
        card = self.experiment.card
        versions = card.get("versions")
        known = {
            "notebook": self.experiment.stem,
            "preset": card.get("preset"),
            "data": card.get("data"),
            "finished": card.get("finished"),
            "status": card.get("status"),
            "error": card.get("error"),
            "time": duration(card["seconds"]) if _is_number(card.get("seconds")) else None,
            "peak memory": f"{card['peak MiB']} MiB" if _is_number(card.get("peak MiB")) else None,
            "machine": card.get("machine"),
            "commit": card.get("git"),
            "versions": _listed(versions) if isinstance(versions, Mapping) else None,
        }
        return [(name, str(value)) for name, value in known.items() if value]


@dataclass(frozen=True)
class Written:
    """What a report consists of.

    Attributes:
        page: The HTML file.
        tables: Number of tables, each as CSV and LaTeX.
        problems: A line for each thing that could not be read and is missing.
    """

    page: Path
    tables: int
    problems: tuple[str, ...]


def write_report(runs: str | os.PathLike[str], out: str | os.PathLike[str]) -> Written:
    """Write ``report.html`` and the folder ``tables`` of CSV and LaTeX files.

    What cannot be read is named on the page and in the result; the rest is written.

    Args:
        runs: See :func:`msgan.report.experiment.find`.
        out: Folder; an earlier report in it is replaced.

    Raises:
        InputError: There is nothing to report, or ``out`` cannot be written.
    """
    runs, out = Path(runs), Path(out)
    experiments, trained = find(runs)
    made = translations(runs)
    if not (experiments or trained or made):
        looked = f"{archive.CARD}, {SCORES}, {FILE}, *.stamp.json, {RUN_CARD} or translations"
        raise InputError(f"{runs}: nothing to report: looked for {looked}")
    _check_writable(out)
    parts = [Part(e, score_tables(e), difference_tables(e), other_tables(e)) for e in experiments]
    cards, unread = _cards(trained, runs)
    entries = published_vs_ours(experiments)
    book = comparison_table(entries)
    tables = [t for p in parts for t in (*p.tables, *p.tests, *p.others)]
    tables += [*(card.scales for card in cards), *([made.table] if made else []), book]
    name = runs.resolve().name
    page = render(
        "report.html",
        better=_better(),
        name=name,
        summary=_summary(parts, made, cards, entries),
        caution=CAUTION,
        translations=made,
        about=_about(parts, cards),
        experiments=parts,
        cards=cards,
        unread=unread,
        ledger=book,
    )
    with atomic_folder(out / TABLES) as folder:
        for table in tables:
            table.frame.to_csv(folder / f"{table.name}.csv", index=False)
            (folder / f"{table.name}.tex").write_text(table.latex(), encoding="utf-8")
    write_text(out / PAGE, page)
    problems = [f"{e.stem}: {line}" for e in experiments for line in e.problems]
    problems += made.problems if made else ()
    return Written(out / PAGE, len(tables), (*problems, *unread))


def _better() -> str:
    """Which end of each metric is better, in words, and what is known against it."""
    ends: dict[str, list[str]] = {"higher": [], "lower": []}
    for metric in CATALOGUE.values():
        ends[metric.better].append(metric.label)
    parts = [f"{', '.join(labels)}: {end} is better" for end, labels in ends.items()]
    parts += [f"{m.label}: {m.caveat}" for m in CATALOGUE.values() if m.caveat]
    return "; ".join(parts) + "."


def _check_writable(out: Path) -> None:
    """Find out before the work that nothing stands in its way."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if (wrong := no_folder(out)) is not None:
            raise InputError(f"{wrong}, expected a folder") from error
        raise InputError(f"{out}: no folder can be made there: {error.strerror}") from error
    if not os.access(out, os.W_OK):
        raise InputError(f"{out}: this folder may not be written to")
    if (out / TABLES).exists() and not (out / PAGE).is_file():
        raise InputError(
            f"{out}: holds {TABLES} that are of no report: choose another folder with --out"
        )


def _cards(trained: Iterable[Path], runs: Path) -> tuple[list[RunCard], list[str]]:
    cards, unread = [], []
    for folder in trained:
        name = folder.relative_to(runs).as_posix() if folder != runs else runs.resolve().name
        try:
            cards.append(run_card(folder, name))
        except (InputError, OSError, ValueError) as error:
            unread.append(f"{name}: {' '.join(str(error).split())}")
    return cards, unread


def _summary(
    parts: Sequence[Part],
    made: Translations | None,
    cards: Sequence[RunCard],
    entries: Sequence[Entry],
) -> str:
    done = sum(entry.ours is not None for entry in entries)
    missing = sum(entry.ours is None for entry in entries)
    images = f"{_count(made.count, 'translation')}, " if made else ""
    return images + (
        f"{_count(len(parts), 'experiment')}, {_count(len(cards), 'trained cascade')}; of the "
        f"papers' numbers {done} stand beside ours and {missing} were {NOT_RUN}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _about(parts: Sequence[Part], cards: Sequence[RunCard]) -> list[tuple[str, str]]:
    """Facts of the report itself, and of what it reports where all agree on them."""
    facts = [dict(part.facts) for part in parts] + [dict(card.facts) for card in cards]

    def shared(name: str) -> str:
        return "; ".join(dict.fromkeys(f[name] for f in facts if name in f)) or "not recorded"

    made = datetime.now().astimezone()
    return [
        ("written", f"{made:%Y-%m-%d %H:%M %Z}"),
        (
            "by",
            f"msgan {msgan.__version__}, source {source_hash()[:12]}, Python "
            f"{platform.python_version()}",
        ),
        ("results from commits", shared("commit")),
        ("machines", shared("machine")),
        ("versions", shared("versions")),
    ]


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
