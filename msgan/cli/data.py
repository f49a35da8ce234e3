"""``msgan data``: check, measure, divide and sort data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgan.cli import console, inputs, outputs
from msgan.cli.padding import Padding
from msgan.types import InputError

app = typer.Typer(help="Check, measure, divide and sort data sets.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Check, measure, divide and sort data sets."""


@app.command()
def check(
    manifest: inputs.ManifestFile,
    root: inputs.Root = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="A subject's images may lie on different grids.")
    ] = False,
    no_hashes: Annotated[
        bool, typer.Option("--no-hashes", help="Do not compare checksums (SHA-256).")
    ] = False,
    padding: Padding = None,
) -> None:
    """Check the files of a manifest.

    They must be there, unchanged, readable and consistent.

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
def spacing(
    manifest: inputs.ManifestFile,
    modality: Annotated[
        str, typer.Option(metavar="NAME", help="Modality of the images to measure, such as t2.")
    ],
    root: inputs.Root = None,
) -> None:
    """Print the mean voxel size of a data set.

    It is printed as a setting for msgan train --config.

    Only headers are read. Axes are left-right, back-front, down-up (2D: those of the file).
    Without this setting, a run uses the median of its training subjects.

    \b
    Example:
        msgan data spacing phantoms/manifest.csv --modality t2
    """
    from msgan.data.cohort import Cohort
    from msgan.data.spacing import spacings

    inputs.require_manifest(manifest)
    found = spacings(Cohort.from_manifest(manifest, root or manifest.parent), modality)
    axes = zip(found.smallest, found.largest, strict=True)
    sides = " x ".join(f"{a:g}" if a == b else f"{a:g}-{b:g}" for a, b in axes)
    console.say(f"# {len(found.sizes)} images {modality}, voxels of {sides} mm; their mean:")
    console.say(f"preparation: {{spacing_mm: [{', '.join(f'{n:g}' for n in found.mean)}]}}")


@app.command()
def split(
    manifest: inputs.ManifestFile,
    out: Annotated[
        Path, typer.Option(metavar="FILE.csv", help="Manifest to write; paths stay as they are.")
    ],
    root: inputs.Root = None,
    test: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the people in split test.")
    ] = 0.25,
    val: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the people in split val.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the choice.")] = 0,
    force: outputs.Force = False,
) -> None:
    """Divide the people of a manifest into train, val and test.

    All images of a person are in one split, those of several sessions too. The choice depends
    on names and seed alone. Patterns are replaced by a row for each file.

    \b
    Example:
        msgan data split phantoms/manifest.csv --out split.csv --root phantoms --test 0.25 --seed 1
    """
    from collections import Counter

    from msgan.data.manifest import read_manifest, write_manifest
    from msgan.data.split import split_manifest

    inputs.require_manifest(manifest)
    outputs.check([out], [manifest], force=force)
    named = read_manifest(manifest, root or manifest.parent)
    if not named.rows:
        raise InputError(f"{manifest}: no file found below {root or manifest.parent}")
    dealt, person = split_manifest(named, test, val, seed)
    write_manifest(out, dealt)
    subjects = {row.subject: row.split for row in dealt.rows if row.split}
    people = Counter({person[name]: split for name, split in subjects.items()}.values())
    counts = Counter(subjects.values())
    kinds = sorted({row.modality for row in dealt.rows if row.role == "image"})
    for part in ("train", "val", "test"):
        if counts[part]:
            console.say(f"{part}: subjects {counts[part]}, people {people[part]}")
    for kind in kinds:
        has = {r.subject for r in dealt.rows if (r.role, r.modality) == ("image", kind)}
        if lacking := [name for name in subjects if name not in has]:
            console.note(f"note: subjects without {kind}: {len(lacking)}, as {lacking[0]}")
    console.say(f"{out}: {len(dealt.rows)} files")


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
            show_default="kernel for CT, known words of the description for others",
        ),
    ] = None,
) -> None:
    """Give each DICOM series its own folder.

    Folders are named by patient and kernel or description.

    In the example: copd/PATIENT/B20f, copd/PATIENT/B80f and so on. PATIENT is the patient's ID,
    or a hash where it looks like a person's (copd/.salt keeps its salt). MR series are named by
    the words of their description that tell what they are (--by description: by all of it), and
    by their number if two have the same name or there is none. Files are linked if
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
