"""``msgan translate``: translate an image, a folder of images, or the subjects of a manifest."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from msgan.cli import console, inputs, outputs
from msgan.cli.faults import explanation
from msgan.cli.jobs import (
    Job,
    changed,
    check_outputs,
    is_folder,
    is_images,
    is_manifest,
    missing,
    of_folder,
    of_manifest,
)
from msgan.cli.padding import Padding
from msgan.cli.plan import Device, GpuMemory, Memory, Trained
from msgan.printing import duration
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.runs.run import Run
    from msgan.translate.cluster import Cluster

Precision = Literal["float32", "bfloat16", "float16"]
Split = Literal["train", "val", "test", "all"]
Polarity = Literal["auto", "same", "inverted"]
Format = Literal["file", "dicom"]


def translate(
    run: Trained,
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Image, DICOM series, folder with images, or manifest (CSV)."
        ),
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
            show_default="none; of a manifest its own",
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
            help="Side of a tile, an even number of voxels; for the megan family a multiple of 20.",
            show_default="the largest that fits",
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Save the images of all scales, y0.nii and so on, in this folder; for a folder of "
            "images, in a subfolder for each.",
            show_default="not kept",
        ),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            metavar="float32|bfloat16|float16",
            help="Number format of the networks; 16 bits are faster on a GPU.",
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
        str,
        typer.Option(
            metavar="PATTERN",
            help="File name pattern: which images of a folder, and below it, to translate.",
        ),
    ] = "*",
    split: Annotated[
        Split | None,
        typer.Option(
            metavar="train|val|test|all",
            help="Which subjects of a manifest to translate.",
            show_default="test, or all where no split is stated",
        ),
    ] = None,
    root: inputs.Root = None,
    modality: Annotated[
        str | None,
        typer.Option(
            metavar="MODALITY",
            help="What IN shows, such as t1; a run that matches histograms knows some pairs. Of a "
            "manifest: which image of each subject.",
            show_default="not known; of a manifest the only one beside the target",
        ),
    ] = None,
    polarity: Annotated[
        Polarity,
        typer.Option(
            metavar="auto|same|inverted",
            help="For a run that matches histograms: whether what is dark in IN is bright in the "
            "modality of the run; auto: by known pairs (--modality), or by the images.",
        ),
    ] = "auto",
    uncertainty: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="For a run with guidance: image to write how far its estimates at the coarsest "
            "scale differ (standard deviation, in the unit of the result); for a folder, a folder.",
            show_default="not written",
        ),
    ] = None,
    recolourings: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Draw the coarsest scale from N recoloured copies of IN too, and take the mean of "
            "all drawings (test-time augmentation); takes longer.",
        ),
    ] = 0,
    kind: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="file|dicom",
            help="dicom: each result is a folder with a derived DICOM series (CT for results in "
            "HU, else MR). file: as the suffix says.",
        ),
    ] = "file",
    keep_identity: Annotated[
        bool,
        typer.Option(
            "--keep-identity",
            help="With --format dicom: patient and study of IN, a DICOM series, stand in the "
            "result too. Without, nothing of them does.",
        ),
    ] = False,
    padding: Padding = None,
    force: outputs.Force = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Skip images whose results exist already, whatever they were made of.",
        ),
    ] = False,
) -> None:
    """Translate images to the modality of a run.

    Results have the grids of the images and the unit of the modality. Beside each, OUT.json says
    that it is synthetic and what it was made of, by which weights; the image says so in itself.

    If OUT has the suffix of an image, one image is translated. Otherwise every readable image in
    the folder IN and below it is written to the folder OUT under its name (formats that cannot be
    written become .nii.gz); of a manifest, an image of each subject under the subject's name. There
    an unreadable image is reported and the others go on; the exit status is then 2.

    With --format dicom OUT is a folder for a series, or for one of each image. It refers to the
    slices of a DICOM source and has its frame of reference.

    Existing results are not overwritten: of a folder or a manifest, those of the same images and
    weights are left; if another exists, nothing is done, unless --force or --skip-existing is
    given. Input files are never overwritten.

    \b
    Examples:
        msgan translate runs/t2 phantoms/patient000/patient000_t1.nii.gz t2.nii.gz
        msgan translate runs/t2 phantoms/patient000 translated --match '*_t1*'
        msgan translate runs/t2 phantoms/manifest.csv cohort --modality t1
        msgan translate runs/t2 phantoms/patient000/patient000_t1.nii.gz t2_series --format dicom
        msgan translate brain-phantom-t2 phantoms/patient000/patient000_t1.nii.gz first.nii.gz
    """
    # Before the libraries are loaded, which takes seconds.
    inputs.require_run(run)
    if not image.exists():
        (inputs.require_manifest if is_manifest(image) else inputs.require_image)(image)
    from msgan.data.cohort import Cohort
    from msgan.data.padding import padding_of
    from msgan.translate import Generation, Limits, pick_device
    from msgan.translate import translate as apply

    limits = Limits(
        inputs.memory(memory, "--memory"),
        inputs.memory(gpu_memory, "--gpu-memory"),
        tile,
        precision,
    )
    if tile is not None and tile % 2:
        raise InputError(f"--tile {tile}: expected an even number of voxels")
    listed, dicom = is_manifest(image), kind == "dicom"
    if keep_identity and not dicom:
        raise InputError("--keep-identity: expected --format dicom")
    many = listed or (is_images(image, out) if dicom else is_folder(image, out))
    if skip_existing and (force or not many):
        raise InputError("--skip-existing: expected a folder or a manifest, and no --force")
    if not listed and (split or root):
        raise InputError(f"--{'split' if split else 'root'}: expected a manifest (CSV) as IN")
    if listed and (labels or match != "*"):
        raise InputError(
            f"--{'labels' if labels else 'match'}: is of images and folders: {image} is a manifest"
        )
    trained = inputs.open_run(run)
    if not listed:
        inputs.require_image(image, many=many)
    # What is wrong with the run or the device must not be said again for each image.
    stated: dict[str, Any] = {"polarity": polarity, "recolourings": recolourings}
    asked = Generation.of(trained, uncertainty=uncertainty is not None, **stated)
    asked.check(pick_device(device), limits)
    nothing = padding_of(padding) if padding is not None else None
    options = {**vars(limits), **stated, "device": device, "padding": nothing}
    options |= {"modality": modality}
    options |= {"dicom": dicom, "keep_identity": keep_identity}
    if listed:
        cohort = Cohort.from_manifest(image, (root or image.parent).absolute())
        jobs = of_manifest(cohort, asked, out, split, modality, keep, uncertainty, dicom=dicom)
    else:
        files = labels, keep, uncertainty
        jobs = [Job(image, out, *files, dicom=dicom)]
        if many:
            jobs = of_folder(image, out, match, *files, dicom=dicom)
    if many and not force:
        jobs = changed(asked, jobs, options)
    if skip_existing:
        jobs = missing(jobs)
    if not jobs:
        console.say(f"{out}: every image has a result")
        return
    check_outputs(trained, jobs, force)
    _unfinished(trained)
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
                    remark=bars.note,
                    labels=labels,
                    keep=keep,
                    uncertainty=uncertainty,
                    **options,
                )
            console.say(f"{out} ({duration(done.seconds)})")
            return
        _all(trained, jobs, options, engine)


UNITS = defaultdict(lambda: "tiles", reading="parts")
"""What the pieces of a stage are."""

GO_ON = "what is computed is kept for a week; run the same command again, without --force, to go on"
"""What to do after an interruption of a folder."""


def _all(run: Run, jobs: Sequence[Job], options: dict[str, Any], engine: Cluster | None) -> None:
    """Every image of a folder; a bad one does not stop the others."""
    failed = 0
    try:
        for job, done in _results(run, jobs, options, engine):
            if isinstance(done, Exception):
                failed += 1
                text = explanation(done, "translate")
                if text is None:
                    if os.environ.get("MSGAN_DEBUG") == "1":
                        raise done
                    text = f"{type(done).__name__}: {' '.join(str(done).split())} (a fault of "
                    text += "this program: MSGAN_DEBUG=1 shows where)"
                known = job.subject.name if job.subject else str(job.source)
                name = "" if known in text else f"{known}: "
                console.note(f"error: {name}{text}")
            else:
                if engine is not None:  # others were told before the work
                    console.notes(done.notes)
                console.say(f"{job.result} ({duration(done.seconds)})")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(GO_ON) from None
    if failed:
        console.note(f"error: {failed} of {len(jobs)} images could not be translated")
        raise typer.Exit(2)


def _results(
    run: Run, jobs: Sequence[Job], options: dict[str, Any], engine: Cluster | None
) -> Iterator[tuple[Job, Any]]:
    """Each image, and its translation or what is wrong with it."""
    from msgan.translate import translate as apply

    ready = []
    for job in jobs:
        if job.labels is not None and not job.labels.exists():
            yield job, InputError(f"{job.source}: no label map {job.labels}")
        else:
            ready.append(job)
    if engine is not None:
        pairs = [(job.reads, job.result) for job in ready]
        own = [options | _files(job) | _whose(job, options) for job in ready]
        yield from ((ready[k], done) for k, done in engine.images(run, pairs, own))
        return
    for number, job in enumerate(ready, 1):
        name = f"{number}/{len(ready)} {job.name}"
        try:
            with console.Bars(f"preparing {name}") as bars:
                told: dict[str, Any] = {"progress": partial(show, bars, name)}
                told |= {"remark": bars.note, **_files(job), **options, **_whose(job, options)}
                done: Any = apply(run, job.reads, job.result, **told)
        except Exception as error:
            done = error
        yield job, done


def _files(job: Job) -> dict[str, Any]:
    return {"labels": job.labels, "keep": job.keep, "uncertainty": job.uncertainty}


def _whose(job: Job, options: dict[str, Any]) -> dict[str, Any]:
    return {"modality": job.modality or options["modality"]}


def show(bars: console.Bars, name: str, stage: str, done: int, count: int) -> None:
    """Show how much of a stage of a translation is done."""
    bars.update(f"{name} {stage}", done, count, UNITS[stage])


def _unfinished(run: Run) -> None:
    """Say so where a scale has weights, but its training did not come to its end."""
    for i in run.used:
        if not run.finished(i):
            console.note(f"note: {run.folder}: the training of scale {i} is not finished")
