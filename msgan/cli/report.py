"""``msgan report``: one HTML page with all results, and their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgan.cli import console, outputs
from msgan.types import InputError

MARK = b"<title>msgan report: "
HEAD = 4096
"""Bytes of a page that its title lies in."""

SUFFIXES = (".csv", ".tex")
"""Of the tables of a report."""


def report(
    runs: Annotated[
        Path,
        typer.Argument(
            metavar="RUNS",
            help="Folder of executed notebooks, of results of record, of one notebook's results, "
            "or of trained runs.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for report.html and tables; an earlier report there is overwritten, "
            "other files only with --force.",
            show_default="RUNS/report",
        ),
    ] = None,
    force: outputs.Force = False,
) -> None:
    """Write a report: one HTML page, and its tables as CSV and LaTeX.

    First a summary: what was translated, how well beside baselines, pictures whose slices can be
    moved through, training curves. Then, folded, all scores with standard deviations and 95 %
    intervals, paired tests, figures, cards of the trained runs, and published values beside what
    was measured of them. The page needs no other file and no network; links lead to runs and
    images beside it. Files that cannot be read are listed, and the exit status is then 2.

    \b
    Examples:
        msgan report runs
        msgan report runs/t2 --out to_send
    """
    if not runs.is_dir():  # before the libraries are loaded, which takes seconds
        raise InputError(f"{runs}: the folder of the results must exist")
    from msgan.report.document import write_report

    place = out or runs / "report"
    _check(place, force)
    written = write_report(runs, place)
    console.say(f"{written.page} and {written.tables} tables in {written.page.parent / 'tables'}")
    for problem in written.problems:
        console.note(f"error: could not be read: {problem}")
    if written.problems:
        raise typer.Exit(2)


def _check(out: Path, force: bool) -> None:
    """Refuse a page or tables that no report has written."""
    from msgan.data.places import require_kind
    from msgan.report.document import PAGE, TABLES

    outputs.folder(out)
    page, tables = out / PAGE, out / TABLES
    require_kind(page)
    foreign = []
    if page.is_file() and MARK not in page.read_bytes()[:HEAD]:
        foreign = [page]
    elif tables.is_dir():
        foreign = [file for file in sorted(tables.iterdir()) if file.suffix not in SUFFIXES]
    if foreign and not force:
        raise InputError(
            f"{foreign[0]}: was written by no report: pass --force to replace it, or choose "
            "another folder with --out"
        )
