"""``msgan data``: look after data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgan.cli import console

app = typer.Typer(help="Look after data sets.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Look after data sets."""


@app.command()
def check(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="CSV with a row for each file.")
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder the paths are below.", show_default="the manifest's folder"
        ),
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="A subject's images may lie on different grids.")
    ] = False,
    no_hashes: Annotated[
        bool, typer.Option("--no-hashes", help="Do not compare checksums (SHA-256).")
    ] = False,
) -> None:
    """Check that the files of a manifest are there, unchanged, readable and consistent.

    One line on stdout for each fault, a summary as the last; exit status 2 if there are errors.

    \b
    Example:
        msgan data check phantoms/manifest.csv
    """
    from msgan.data.manifest import check_manifest

    with console.Bars("looking for files") as bars:
        report = check_manifest(
            manifest,
            root or manifest.parent,
            hashes=not no_hashes,
            paired=not unpaired,
            progress=lambda done, total, path: bars.update("check", done, total, "files"),
        )
    for line in report.lines():
        console.say(line)
    if not report.ok:
        raise typer.Exit(2)
