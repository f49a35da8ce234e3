"""``msgan data``: check and sort data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgan.cli import console
from msgan.cli.padding import Padding

app = typer.Typer(help="Check and sort data sets.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Check and sort data sets."""


@app.command()
def check(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="CSV with a row for each file.")
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that the paths start from.",
            show_default="the manifest's folder",
        ),
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="A subject's images may lie on different grids.")
    ] = False,
    no_hashes: Annotated[
        bool, typer.Option("--no-hashes", help="Do not compare checksums (SHA-256).")
    ] = False,
    padding: Padding = None,
) -> None:
    """Check that the files of a manifest are there, unchanged, readable and consistent.

    Prints one line for each fault and a summary at the end; exit status 2 if there are errors.

    \b
    Example:
        msgan data check phantoms/manifest.csv
    """
    from msgan.data.manifest import check_manifest
    from msgan.data.padding import padding_of

    nothing = padding_of(padding) if padding is not None else None

    with console.Bars("looking for files") as bars:
        report = check_manifest(
            manifest,
            root or manifest.parent,
            hashes=not no_hashes,
            paired=not unpaired,
            padding=nothing,
            progress=lambda done, total, path: bars.update("check", done, total, "files"),
        )
    for line in report.lines():
        console.say(line)
    if not report.ok:
        raise typer.Exit(2)


@app.command()
def sort(
    source: Annotated[
        Path, typer.Argument(metavar="DOWNLOAD", help="Folder with DICOM files at any depth.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Gets a folder PATIENT/NAME for each series.")
    ],
    by: Annotated[
        str | None,
        typer.Option(
            metavar="kernel|description",
            help="Name series by this.",
            show_default="kernel for CT, description for others",
        ),
    ] = None,
) -> None:
    """Give each DICOM series its own folder, named by patient and kernel or description.

    In the example: copd/PATIENT/B20f, copd/PATIENT/B80f and so on. MR series are named by their
    description, and also by their number if two have the same description. Files are linked if
    the file system supports it, else copied; the download does not change. Files that cannot be
    read are listed, and the exit status is 2.

    \b
    Example:
        msgan data sort download copd
    """
    from msgan.data.series import AUTO, LEFT_OUT, sort_series

    remarks: list[str] = []
    with console.Bars("reading headers") as bars:
        made = sort_series(
            source,
            out,
            by or AUTO,
            progress=lambda done, total, path: bars.update("sort", done, total, "series"),
            remark=remarks.append,
        )
    for remark in remarks:
        console.note(f"note: {remark}")
    left = sum(remark.startswith(LEFT_OUT) for remark in remarks)
    for folder in made:
        console.say(f"{folder}: {sum(1 for _ in folder.iterdir())} files")
    if left:
        raise typer.Exit(2)
