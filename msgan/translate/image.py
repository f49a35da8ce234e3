"""One image through a trained cascade: any size in, any size out, bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

import msgan
from msgan import pyramid
from msgan.data.cohort import Prepared, Subject, prepare
from msgan.data.formats import picture
from msgan.data.grid import Grid
from msgan.data.padding import Padding
from msgan.data.places import require_apart, require_kind
from msgan.data.store import suffix_of
from msgan.data.writing import WRITERS, write_volume
from msgan.memory import process
from msgan.paths import require_scratch, require_space, room, scratch_root, sha256, together
from msgan.training.loop import WEIGHTS
from msgan.training.run import Run, git_commit
from msgan.translate.engine import Engine, Here
from msgan.translate.job import Job
from msgan.translate.plan import Limits, Plan, check, demands, plan
from msgan.translate.scale import Precision
from msgan.translate.trace import TRACE, faces, trace
from msgan.translate.work import Work
from msgan.types import Array, Box, InputError, Reader, Shape

SCRATCH = "the scratch of this translation (in MSGAN_SCRATCH; what is done is kept)"

Progress = Callable[[str, int, int], None]
"""Called with a stage, how many of its pieces are done, and how many there are; first before any
is computed."""


@dataclass(frozen=True)
class Translation:
    """What a translation did.

    Attributes:
        path: The written file.
        plan: Tiles, memory and disk as planned.
        seconds: Wall time.
        run: Folder of the run.
        grid: s_n, the grid the image was computed on.
        tiles: Voxels between the faces of tiles along each axis, of each scale that was made;
            of the published family those are the patches it keeps.
        notes: What to tell of the files that were read.
    """

    path: Path
    plan: Plan
    seconds: float
    run: Path
    grid: Grid
    tiles: tuple[Shape, ...]
    notes: tuple[str, ...] = ()


def translate(
    run: Run,
    source: Subject | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    modality: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    device: str = "auto",
    memory: int | None = None,
    gpu_memory: int | None = None,
    tile: int | None = None,
    precision: Precision = "float32",
    padding: Padding = None,
    keep: str | os.PathLike[str] | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    remark: Callable[[str], None] | None = None,
) -> Translation:
    """Translate one image to the target of ``run`` (extended paper, section 2.1).

    The result has the source's grid and affine and the target's intensity unit. It is written
    as a whole or not at all. Interrupted or killed, the same call goes on where it stopped: what
    is computed stays in the scratch folder for a week.

    Args:
        run: A trained cascade.
        source: Image file or subject of a cohort, of any modality.
        out: File to write; its suffix decides the format. One that is there is replaced.
        modality: Which image of a subject.
        labels: Pathology labels on the image's grid, laid over the sketch.
        device: ``auto``, ``cpu`` or ``cuda``.
        memory: Bytes the process may take in host memory; None: see :class:`plan.Limits`.
        gpu_memory: Bytes of tensors on the GPU; None: see :class:`plan.Limits`.
        tile: Side of a tile, even; None takes the largest that fits. The ``paper`` family takes
            a multiple of the 20 voxels it keeps.
        precision: Of the networks' arithmetic.
        padding: Voxels of the image that are background, ``nan`` or those of a value; None: as
            the run's preparation says.
        keep: Folder for the images of all scales that are made, ``y0.nii`` .. ``yn.nii`` on
            their own grids, with ``translation.json`` (:class:`msgan.translate.trace.Trace`).
        engine: Computes the tiles, as :class:`msgan.translate.cluster.Cluster`; None: this
            process.
        progress: Called as tiles are done.
        remark: Called with what is to be told of the image, before anything is computed.

    Raises:
        InputError: The image cannot be used, the run is not finished, labels are given that it
            was not trained with, ``out`` cannot hold the result or is what is read, memory or disk
            do not suffice, or another process is making the same.
    """
    start = perf_counter()
    process.share_arena()
    if labels is not None and not run.config.labels:
        raise InputError(f"{labels}: this run was trained without labels; leave them out")
    dtype = check_output(Path(out), run)
    _check_places(source, labels, Path(out), keep)
    limits = Limits(memory, gpu_memory, tile, precision)
    where = pick_device(device)
    check(run, where, limits)
    require_scratch()
    prep = run.config.preparation.padded(padding)
    with prepare(source, modality, prep, labels, **demands(run)) as subject:
        planned = plan(
            run,
            subject,
            where,
            limits,
            dtype=dtype,
            keep=keep is not None,
            staged=suffix_of(Path(out)) == ".nii.gz",
        )
        if remark is not None:
            for note in subject.notes:
                remark(note)
        root = scratch_root()
        own = replace(run, config=run.config.updated(preparation=prep))
        with Work.open(root, _key(own, source, modality, labels, where, precision, keep)) as work:
            there = work.bytes + subject.unpacked_bytes
            missing = max(0, planned.scratch_bytes - there)
            with room(root, missing, SCRATCH):
                require_space(Path(out).parent, planned.output_bytes, "the result")
                _scales(subject, run, work, progress)
                results = _cascade(run, work, planned, where, engine or Here(), keep, progress)
            with ExitStack() as stack:
                if keep is not None:
                    # They appear when the result is there, and a translation begun again is the
                    # same as one begun for the first time.
                    folder = stack.enter_context(together(keep))
                    for i, result in zip(run.used, results, strict=True):
                        shown, at = _in_units(result, run), subject.grid.grid_at(i)
                        write_volume(
                            folder / f"y{i}.nii",
                            at,
                            shown,
                            unit=run.intensity.unit,
                            generated=True,
                        )
                read = subject.to_source(results[-1], run.intensity)
                write_volume(
                    out,
                    subject.grid.source,
                    read,
                    unit=run.intensity.unit,
                    dtype=dtype,
                    generated=True,
                )
            grid, tiles = subject.grid.grid, faces(run, planned.scales)
            if keep is not None:
                made_by: dict[str, Any] = {
                    "run": run.folder,
                    "grid": grid,
                    "tiles": tiles,
                    "labels": labels,
                }
                kept = trace(source, modality, run.target, out, run.intensity, **made_by)
                kept.save(Path(keep) / TRACE)
    seconds = perf_counter() - start
    return Translation(Path(out), planned, seconds, run.folder, grid, tiles, subject.notes)


def _scales(subject: Prepared, run: Run, work: Work, progress: Progress | None) -> None:
    """s_n..s_1 of the image and of its labels into the work folder, as far as they are used."""
    dims, n = run.config.dims, run.scales
    shapes = pyramid.shapes(subject.grid.shape, n)
    sources: list[tuple[str, Reader, bool]] = [("s", subject.read, False)]
    if run.config.labels and subject.has_labels:
        sources.append(("l", lambda box: np.asarray(subject.read_labels(box)), True))
    for prefix, read, labels in sources:
        # s0 of the image is not needed: y0 is made from the sketch of s1.
        for i in range(n, max(run.first, 1) - 1, -1):
            if any(work.finished(f"y{k}") for k in range(i, n + 1)):
                break  # made before, used, and dropped
            tell = partial(progress, "reading") if progress and (prefix, i) == ("s", n) else None
            dtype = "uint8" if labels else "float32"
            store = work.fill(f"{prefix}{i}", shapes[i], read, dtype, tell)
            read = pyramid.halved(store.read, dims, labels)


def _cascade(
    run: Run,
    work: Work,
    planned: Plan,
    device: torch.device,
    engine: Engine,
    keep: object,
    progress: Progress | None,
) -> list[Reader]:
    """y0 from the sketch at s1, then y_i block by block from y_(i-1) and the sketch at s_i."""
    for i, scale in zip(run.used, planned.scales, strict=True):
        if work.finished(f"y{i}") is not None:
            continue
        later = range(i + 1, run.scales + 1)
        if any(work.finished(f"y{k}") for k in later):
            continue
        stage = work.stage(f"y{i}", scale.shape, scale.tile)
        job = Job.of(run, work, stage, i, scale.shape, scale.tile, device, planned.precision)
        todo = [k for k in range(scale.tiles) if k not in stage.done]
        if progress:
            progress(f"s{i}", len(stage.done), scale.tiles)
        for _ in engine.run(job, todo, stage):
            if progress:
                progress(f"s{i}", len(stage.done), scale.tiles)
        stage.finish()
        process.give_back()
        if keep is None:
            work.drop(f"y{i - 1}")
        if i:
            work.drop(f"s{i}")
            work.drop(f"l{i}")
    stores = [work.finished(f"y{i}") for i in run.used]
    return [store.read for store in stores if store is not None]


def kept_files(run: Run, folder: Path) -> list[Path]:
    """Files that ``keep`` writes to a folder."""
    return [*(folder / f"y{i}.nii" for i in run.used), folder / TRACE]


def _check_places(
    source: Subject | str | os.PathLike[str],
    labels: str | os.PathLike[str] | None,
    out: Path,
    keep: str | os.PathLike[str] | None,
) -> None:
    """Refuse to write onto what is read, and to where something of another kind is.

    Raises:
        InputError: See :mod:`msgan.data.places`.
    """
    read: list[Any] = [labels]
    if isinstance(source, Subject):
        read += [*source.images.values(), source.labels, source.mask]
    else:
        read.append(source)
    read = [path for path in read if path is not None]
    require_apart([out], read)
    require_kind(out)
    if keep is not None:
        folder = Path(keep)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file, expected a folder")
        require_apart([folder, *folder.glob("y*.nii"), folder / TRACE], read, holding=True)


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one.

    Raises:
        InputError: The name is unknown, or there is no CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {name!r} is none of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: PyTorch finds no CUDA device on this machine")
    found = name != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if found else "cpu")


def check_output(out: Path, run: Run) -> str:
    """Voxel type of the result; a file that cannot hold it is refused before the work is done.

    Raises:
        InputError: The format is unknown or cannot hold the result.
    """
    suffix = suffix_of(out)
    if suffix not in WRITERS:
        raise InputError(f"{out}: unknown suffix; expected one of {', '.join(WRITERS)}")
    if run.config.dims == 3 and suffix in picture.SUFFIXES:
        raise InputError(f"{out}: a picture has 2 axes, the run was trained on 3")
    if suffix != ".png":
        return "float32"
    low, high = run.intensity.low, run.intensity.high
    if low < 0 or high > 65535:
        raise InputError(f"{out}: PNG cannot hold values from {low:g} to {high:g}; take .tif")
    return "uint8" if high <= 255 else "uint16"


def _key(
    run: Run,
    source: Subject | str | os.PathLike[str],
    modality: str | None,
    labels: str | os.PathLike[str] | None,
    device: torch.device,
    precision: str,
    keep: object,
) -> list[Any]:
    """All that decides the result: code, weights, files (by path, size and time) and device."""
    if isinstance(source, Subject):
        files = [source.image(modality)[1], source.mask, labels or source.labels]
    else:
        files = [Path(source), None, None if labels is None else Path(labels)]
    weights = [sha256(run.folder_of(i) / WEIGHTS) for i in run.used]
    config = run.config.model_dump(mode="json")
    stamps = [None if file is None else _stamp(Path(file)) for file in files]
    return [
        msgan.__version__,
        git_commit(),
        config,
        weights,
        stamps,
        device.type,
        precision,
        keep is not None,
    ]


def _stamp(path: Path) -> list[Any]:
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [(p.name, p.stat()) for p in found]
    return [str(path.resolve()), [[name, s.st_size, s.st_mtime_ns] for name, s in stats]]


def _in_units(read: Reader, run: Run) -> Reader:
    def shown(box: Box) -> Array:
        return run.intensity.from_unit(read(box))

    return shown
