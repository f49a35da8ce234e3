"""``msgan translate``: one image, or a folder of them, through a trained cascade."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from msgan.cli import console
from msgan.cli.plan import Device, GpuMemory, Memory, Trained
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.training.run import Run
    from msgan.translate.cluster import Cluster

Precision = Literal["float32", "bfloat16", "float16"]


def translate(
    run: Trained,
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
    memory: Memory = None,
    gpu_memory: GpuMemory = None,
    device: Device = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            help="Side of a tile, an even number of voxels; for the paper family a multiple of 20.",
            show_default="the largest that fits",
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
    precision: Annotated[
        Precision,
        typer.Option(
            metavar="float32|bfloat16|float16",
            help="Of the networks' arithmetic; the shorter ones are faster on a GPU.",
        ),
    ] = "float32",
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Scheduler of a dask cluster that computes the tiles of IN or, for a folder, its "
            "images; its workers must see RUN, MSGAN_SCRATCH, IN and OUT under the same paths.",
            show_default="this process",
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
        msgan translate brain-phantom-t2 phantoms/patient000/patient000_t1.nii.gz first.nii.gz
    """
    from msgan.data.store import suffix_of
    from msgan.data.writing import WRITERS
    from msgan.training.run import Run
    from msgan.translate import Limits, pick_device
    from msgan.translate import translate as apply
    from msgan.translate.plan import check

    limits = Limits(
        console.memory_bytes(memory) if memory else None,
        console.memory_bytes(gpu_memory) if gpu_memory else None,
        tile,
        precision,
    )
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
    check(trained, pick_device(device), limits)
    _unfinished(trained)
    jobs = _jobs(image, out, match) if many else [(image, out)]
    if many and labels is not None and not labels.is_dir():
        raise InputError(f"{labels}: expected a folder: IN is a folder of images")
    for _, result in jobs:
        console.check_writable(result)
    options: list[dict[str, Any]] = [
        {
            **vars(limits),
            "device": device,
            "labels": labels / source.name if many and labels is not None else labels,
            "keep": keep / _stem(source) if many and keep is not None else keep,
        }
        for source, _ in jobs
    ]
    with ExitStack() as stack:
        engine: Cluster | None = None
        if cluster is not None:
            from msgan.translate.cluster import Cluster

            engine = stack.enter_context(Cluster(cluster))
        if not many:
            with console.Bars(f"preparing {image.name}") as bars:
                done = apply(
                    trained,
                    image,
                    out,
                    engine=engine,
                    progress=lambda stage, k, n: bars.update(stage, k, n, UNITS[stage]),
                    **options[0],
                )
            console.notes(done.notes)
            console.say(f"{out} ({console.duration(done.seconds)})")
            return
        _all(trained, jobs, options, engine)


UNITS = defaultdict(lambda: "tiles", reading="parts")
"""What the pieces of a stage are."""


def _all(
    run: Run, jobs: list[tuple[Path, Path]], options: list[dict[str, Any]], engine: Cluster | None
) -> None:
    """Every image of a folder; a bad one does not stop the others."""
    failed = 0
    for k, done in _results(run, jobs, options, engine):
        if isinstance(done, InputError | OSError):
            failed += 1
            console.note(f"error: {' '.join(str(done).splitlines())}")
        elif isinstance(done, Exception):
            raise done
        else:
            console.notes(done.notes)
            console.say(f"{jobs[k][1]} ({console.duration(done.seconds)})")
    if failed:
        console.note(f"error: {failed} of {len(jobs)} images could not be translated")
        raise typer.Exit(2)


def _results(
    run: Run, jobs: list[tuple[Path, Path]], options: list[dict[str, Any]], engine: Cluster | None
) -> Iterator[tuple[int, Any]]:
    """Number of each image, and its translation or what is wrong with it."""
    from msgan.translate import translate as apply

    ready = []
    for k, wanted in enumerate(options):
        path = wanted["labels"]
        if path is not None and not path.exists():
            yield k, InputError(f"{jobs[k][0]}: no label map {path}")
        else:
            ready.append(k)
    if engine is not None:
        chosen = [jobs[k] for k in ready], [options[k] for k in ready]
        yield from ((ready[k], done) for k, done in engine.images(run, *chosen))
        return
    for k in ready:
        source, result = jobs[k]
        try:
            with console.Bars(f"preparing {source.name}") as bars:
                show = partial(_show, bars, source.name)
                done: Any = apply(run, source, result, progress=show, **options[k])
        except (InputError, OSError) as error:
            done = error
        yield k, done


def _show(bars: console.Bars, name: str, stage: str, done: int, count: int) -> None:
    bars.update(f"{name} {stage}", done, count, UNITS[stage])


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
    from msgan.data.formats.nifti import pair_of
    from msgan.data.store import suffix_of
    from msgan.data.volume import READERS

    if suffix_of(path) in READERS:
        return True
    if pair_of(path) == "nifti":  # one image: its header stands for both files
        return path.name.lower().endswith((".hdr", ".hdr.gz"))
    if path.is_dir():
        return any(file.is_file() and is_dicom(file) for file in path.iterdir())
    return suffix_of(path) in (".dcm", ".ima") or is_dicom(path)


def _stem(path: Path) -> str:
    """Name without the suffix that says the format."""
    from msgan.data.store import suffix_of

    if path.is_dir() and suffix_of(path) != ".zarr":
        return path.name
    return path.name[: len(path.name) - len(suffix_of(path))] or path.name


def _unfinished(run: Run) -> None:
    """Say so where a scale has weights, but its training did not come to its end."""
    for i in run.used:
        if not run.finished(i):
            console.note(f"note: {run.folder}: the training of scale {i} is not finished")
