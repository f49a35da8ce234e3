"""``msgan translate``: one image, or a folder of them, through a trained cascade."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msgan.cli import console
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.training.run import Run


def translate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run.")],
    image: Annotated[
        Path,
        typer.Argument(metavar="IN", help="Image, DICOM series, or folder with images."),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Image to write (its suffix decides the format), or a folder."
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="SEG",
            help="Label map on the grid of IN, drawn over its sketch; for a folder, a folder "
            "with a label map of the same name for each image.",
            show_default="none",
        ),
    ] = None,
    memory: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="Memory one tile may take on the device, as 2GB or 512MiB."
        ),
    ] = "2GiB",
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="auto: cuda where there is one.")
    ] = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            help="Side of a tile, an even number of voxels.",
            show_default="the largest that fits --memory",
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the images of all scales, y0.nii and so on; for a folder of images, "
            "a folder in it for each.",
            show_default="not kept",
        ),
    ] = None,
    match: Annotated[
        str, typer.Option(metavar="PATTERN", help="Names of the images to take from a folder.")
    ] = "*",
) -> None:
    """Translate images to the modality of a run.

    Results lie on the grids of the images, in the unit of the modality.

    OUT with the suffix of an image is one image; otherwise every readable image in the folder IN
    is written under its name (formats that cannot be written become .nii.gz) to the folder OUT.
    There a bad image is reported and the others go on; the exit status is 2 at the end.

    \b
    Examples:
        msgan translate runs/t2 phantoms/patient000/patient000_t1.nii.gz t2.nii.gz
        msgan translate runs/t2 phantoms/patient000 translated --match '*_t1*'
    """
    from msgan.data.store import suffix_of
    from msgan.data.writing import WRITERS
    from msgan.memory import largest_tile
    from msgan.training.run import Run
    from msgan.translate import pick_device
    from msgan.translate import translate as apply

    size = console.memory_bytes(memory)
    many = suffix_of(out) not in WRITERS
    if many and not image.is_dir():
        if not image.exists():
            raise InputError(f"{image}: no such file or folder")
        raise InputError(
            f"{out}: cannot write {suffix_of(out) or 'an image without suffix'}: expected one of "
            f"{', '.join(WRITERS)}"
        )
    if tile is not None and tile % 2:
        raise InputError(f"--tile {tile}: expected an even number of voxels")
    trained = Run.open(run)
    # What is wrong with the run or the device must not be said again for each image.
    pick_device(device)
    generators = [trained.generator(i) for i in range(trained.scales + 1)]
    if tile is None:
        for generator in generators[1:]:
            largest_tile(generator, size, trained.config)
    _unfinished(trained)
    jobs = _jobs(image, out, match) if many else [(image, out)]
    if many and labels is not None and not labels.is_dir():
        raise InputError(f"{labels}: expected a folder: IN is a folder of images")
    for _, result in jobs:
        console.check_writable(result)
    failed = 0
    for source, result in jobs:
        try:
            with console.Bars(f"preparing {source.name}") as bars:
                name = f"{source.name} " if many else ""
                done = apply(
                    trained,
                    source,
                    result,
                    labels=_labels(labels, source) if many else labels,
                    device=device,
                    memory=size,
                    tile=tile,
                    keep=keep / _stem(source) if many and keep is not None else keep,
                    progress=lambda stage, k, n, name=name, bars=bars: bars.update(  # type: ignore[misc]
                        f"{name}{stage}", k, n, "tiles"
                    ),
                )
        except (InputError, OSError) as error:
            if not many:
                raise
            failed += 1
            console.note(f"error: {' '.join(str(error).splitlines())}")
        else:
            console.say(f"{result} ({console.duration(done.seconds)})")
    if failed:
        console.note(f"error: {failed} of {len(jobs)} images could not be translated")
        raise typer.Exit(2)


def _jobs(folder: Path, out: Path, pattern: str) -> list[tuple[Path, Path]]:
    """Images of a folder and where each result goes."""
    from msgan.data.store import suffix_of
    from msgan.data.writing import WRITERS

    if out.resolve() == folder.resolve():
        raise InputError(f"{out}: is the folder the images are in: choose another")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, expected a folder: IN is a folder of images")
    jobs: dict[Path, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not fnmatch(path.name, pattern) or not _readable(path):
            continue
        kept = suffix_of(path) in WRITERS
        result = out / (path.name if kept else f"{_stem(path)}.nii.gz")
        if result in jobs:
            raise InputError(f"{path} and {jobs[result]} would both be written to {result}")
        jobs[result] = path
    if not jobs:
        raise InputError(f"{folder}: no image in this folder is named {pattern}")
    return [(path, result) for result, path in jobs.items()]


def _readable(path: Path) -> bool:
    """Whether a file or folder is an image by its suffix, or DICOM by its content."""
    from msgan.data.formats.dicom import is_dicom
    from msgan.data.store import suffix_of
    from msgan.data.volume import READERS

    if suffix_of(path) in READERS:
        return True
    if path.is_dir():
        return any(file.is_file() and is_dicom(file) for file in path.iterdir())
    return suffix_of(path) in (".dcm", ".ima") or is_dicom(path)


def _stem(path: Path) -> str:
    """Name without the suffix that says the format."""
    from msgan.data.store import suffix_of

    if path.is_dir() and suffix_of(path) != ".zarr":
        return path.name
    return path.name[: len(path.name) - len(suffix_of(path))] or path.name


def _labels(folder: Path | None, source: Path) -> Path | None:
    if folder is None:
        return None
    if not (folder / source.name).exists():
        raise InputError(f"{source}: no label map {folder / source.name}")
    return folder / source.name


def _unfinished(run: Run) -> None:
    """Say so where a scale has weights, but its training did not come to its end."""
    for i in range(run.scales + 1):
        if not run.finished(i):
            console.note(f"note: {run.folder}: the training of scale {i} is not finished")
