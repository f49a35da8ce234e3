"""A report as one HTML page to share, with its tables for a paper."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgan
from msgan.metrics import CATALOGUE
from msgan.paths import atomic_folder, no_folder, write_text
from msgan.report import archive
from msgan.report.cards import RunCard, run_card
from msgan.report.csv_tables import SCORES
from msgan.report.experiment import Experiment, find
from msgan.report.found import findings
from msgan.report.links import link
from msgan.report.part import Part
from msgan.report.published_vs_ours import comparison_table, published_vs_ours
from msgan.report.results import FILE
from msgan.report.run_cache import source_hash
from msgan.report.summary import summarised
from msgan.report.tables import difference_tables, other_tables, score_tables
from msgan.report.template import CAUTION, FOLDER, hash_of, render
from msgan.report.translations import translations
from msgan.runs.run import CARD as RUN_CARD
from msgan.types import InputError

PAGE = "report.html"
TABLES = "tables"


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
    made = translations(runs, out, [e.folder for e in experiments if e.scores is not None])
    if not (experiments or trained or made):
        looked = f"{archive.CARD}, {SCORES}, {FILE}, *.stamp.json, {RUN_CARD} or translations"
        raise InputError(f"{runs}: nothing to report: looked for {looked}")
    _check_writable(out)
    parts = [_part(e, out) for e in experiments]
    cards, unread = _cards(trained, runs)
    entries = [e for e in published_vs_ours(experiments) if e.ours is not None]
    book = comparison_table(entries) if entries else None
    tables = [t for p in parts for t in (*p.tables, *p.tests, *p.others)]
    tables += [card.scales for card in cards]
    if made:
        tables += [*made.means, *([made.table] if made.table else [])]
    tables += [book] if book else []
    script = (FOLDER / "viewer.js").read_text(encoding="utf-8")
    page = render(
        "report.html",
        better=_better(),
        name=runs.resolve().name,
        caution=CAUTION,
        summary=summarised(parts, made, cards, out),
        translations=made,
        about=_about(parts, cards),
        experiments=parts,
        cards=cards,
        links={card.name: link(card.folder, out) for card in cards},
        unread=unread,
        ledger=book,
        script=script,
        script_hash=hash_of(script),
    )
    with atomic_folder(out / TABLES) as folder:
        for table in tables:
            table.frame.to_csv(folder / f"{table.name}.csv", index=False)
            (folder / f"{table.name}.tex").write_text(table.latex(), encoding="utf-8")
    write_text(out / PAGE, page)
    problems = [f"{e.stem}: {line}" for e in experiments for line in e.problems]
    problems += made.problems if made else ()
    return Written(out / PAGE, len(tables), (*problems, *unread))


def _part(experiment: Experiment, out: Path) -> Part:
    scores = experiment.scores
    return Part(
        experiment,
        score_tables(experiment),
        difference_tables(experiment),
        other_tables(experiment),
        () if scores is None else findings(scores, experiment.tests),
        link(experiment.page or experiment.folder, out),
    )


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
