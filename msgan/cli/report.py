"""``msgan report``: one page and tables of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgan.cli import console


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
            help="Folder for report.html and tables; an earlier report there is replaced.",
            show_default="RUNS/report",
        ),
    ] = None,
) -> None:
    """Write a report: one HTML page to send, and its tables as CSV and LaTeX.

    Scores with standard deviations and 95 % intervals, paired tests, figures, cards of the
    trained runs, and every number the papers printed beside ours. The page needs no other file
    and no network. A file that cannot be read is named, the rest is written, and the exit status
    is 2.

    \b
    Examples:
        msgan report runs
        msgan report runs/t2 --out to_send
    """
    from msgan.report.document import write_report

    written = write_report(runs, out or runs / "report")
    console.say(f"{written.page} and {written.tables} tables in {written.page.parent / 'tables'}")
    for problem in written.problems:
        console.note(f"error: could not be read: {problem}")
    if written.problems:
        raise typer.Exit(2)
