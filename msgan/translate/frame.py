"""The way of every translation: open, working grid, make, back to the source's grid, write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import msgan
from msgan.config import Preparation
from msgan.data.cohort import Prepared, Subject, prepare
from msgan.data.formats import picture
from msgan.data.formats.dicom_derivation import Derivation
from msgan.data.formats.dicom_derived import require_series
from msgan.data.intensity import IntensityMap
from msgan.data.padding import Padding
from msgan.data.places import require_apart, require_kind
from msgan.data.store import description, suffix_of
from msgan.data.volume import READERS
from msgan.data.writing import WRITERS, write_series, write_volume
from msgan.documents import json_of
from msgan.memory import process
from msgan.paths import require_scratch, require_space, room, scratch_root, together, write_text
from msgan.runs.bundled import CARD
from msgan.runs.run import device_name, git_commit, versions
from msgan.translate.maker import Maker, Making, Progress, Source, Translation
from msgan.translate.plan import Limits
from msgan.translate.provenance import (
    beside,
    content_hash,
    files_read,
    id_of,
    mark_of,
    now,
    provenance,
    require_sidecar,
)
from msgan.translate.scale import Precision
from msgan.translate.scratch import Scratch
from msgan.types import Array, Box, InputError, Reader

if TYPE_CHECKING:
    from msgan.translate.engine import Engine

SCRATCH = "the scratch of this translation (in MSGAN_SCRATCH; what is done is kept)"


def translated(
    method: Maker,
    source: Source,
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
    uncertainty: str | os.PathLike[str] | None = None,
    dicom: bool = False,
    keep_identity: bool = False,
) -> Translation:
    """Translate one image by any method.

    The result has the source's grid and affine and the target's intensity unit. It is written
    as a whole or not at all, with its sidecar (:mod:`msgan.translate.provenance`). Interrupted or
    killed, the same call goes on where it stopped: what is computed stays in the scratch folder for
    a week.

    Args:
        method: What makes the result.
        source: Image file or subject of a cohort.
        out: File to write; its suffix decides the format. One that is there is replaced. With
            ``dicom`` a folder.
        uncertainty: File for the spread of what the result is made of, of a method that tells it.

    See :class:`Options` for the other arguments.

    Raises:
        InputError: The image cannot be used, the method is not trained, labels are given that it
            was not trained with, ``out`` cannot hold the result or is what is read, memory or disk
            do not suffice, or another process is making the same.
    """
    start = perf_counter()
    process.share_arena()
    out = Path(out)
    if labels is not None and not method.labels:
        raise InputError(f"{labels}: this run was trained without labels; leave them out")
    files = [] if dicom else [out]
    files += [] if uncertainty is None else [Path(uncertainty)]
    if dicom:
        _check_series(out, method.dims)
    elif keep_identity:
        raise InputError("an identity can be kept in a DICOM series only")
    for path in files:
        if suffix_of(path) not in WRITERS:
            raise InputError(f"{path}: unknown suffix; expected one of {', '.join(WRITERS)}")
        if method.intensity is not None:
            voxel_type(path, method.dims, method.intensity)
    _check_places(source, labels, out, files, keep)
    limits, where = Limits(memory, gpu_memory, tile, precision), pick_device(device)
    method.check(where, limits)
    require_scratch()
    modality, prep, decided = _decided(method, source, modality, padding)
    hashes = _hashes(source, modality, labels)
    with prepare(source, modality, prep, labels, **demands(method)) as subject:
        intensity = method.intensity or subject.intensity
        dims = len(subject.grid.shape)
        dtype = "float32" if dicom else voxel_type(out, dims, intensity)
        output = prod(subject.grid.source.shape) * np.dtype(dtype).itemsize
        staged = dicom or ".nii.gz" in map(suffix_of, files)
        asked = {"keep": keep is not None, "staged": staged}
        number = id_of([decided, precision], hashes)
        derived = None
        if dicom:
            derived = Derivation(
                number,
                description(mark_of(_run_id(method), number)),
                method.target,
                intensity.unit,
                intensity.low,
                intensity.high,
                files_read(source, modality, labels)["image"],
                keep_identity,
            )
            require_series(subject.grid.source, derived)
        planned = method.plan(subject, where, limits, output=output, **asked)
        for note in subject.notes if remark is not None else ():
            remark(note)  # type: ignore[misc]
        here = _stamps(source, modality, labels)
        commit = git_commit()
        key = [decided, here, msgan.__version__, commit, where.type, precision, bool(keep)]
        with Scratch.open(scratch_root(), key) as work:
            missing = planned.scratch_bytes - work.bytes - subject.unpacked_bytes
            with room(scratch_root(), max(0, missing), SCRATCH):
                for path in dict.fromkeys((out, *files)):
                    require_space(path.parent, planned.output_bytes, "the result")
                made = method.make(
                    Making(
                        subject,
                        work,
                        where,
                        limits,
                        planned,
                        engine,
                        keep is not None,
                        progress,
                        modality,
                    )
                )
            for note in made.notes if remark is not None else ():
                remark(note)  # type: ignore[misc]
            process.give_back()
            with ExitStack() as stack:
                grid, tiles = subject.grid.grid, method.faces(planned)
                trace = provenance(
                    source,
                    modality,
                    method.target,
                    out,
                    intensity,
                    method=method.name,
                    labels=labels,
                    run=method.run,
                    run_id=_run_id(method),
                    weights=method.weights,
                    hashes=hashes,
                    id=number,
                    grid=grid if tiles else None,
                    tiles=tiles,
                    notes=made.notes,
                    match=made.match,
                    recolourings=made.recolourings,
                    preparation=prep.model_dump(mode="json"),
                    versions=versions(),
                    commit=commit,
                    computed=_computed(where, limits),
                    scales=keep and Path(keep),
                    uncertainty=uncertainty and Path(uncertainty),
                    identity=keep_identity,
                )
                options: dict[str, Any] = {"unit": intensity.unit, "generated": trace.mark}
                if keep is not None:
                    # They appear when the result is there, and a translation begun again is the
                    # same as one begun for the first time.
                    folder = stack.enter_context(together(keep))
                    for name, (grid, read) in made.images.items():
                        shown = _in_units(read, intensity)
                        write_volume(folder / f"{name}.nii", grid, shown, **options)
                read = subject.to_source(made.result, method.intensity)
                if uncertainty is not None:
                    assert made.spread is not None
                    _write_spread(Path(uncertainty), subject, made.spread, intensity, trace.mark)

                def told() -> None:
                    own = replace(trace, made=now(), seconds=round(perf_counter() - start, 1))
                    own.save(beside(out))
                    work.promise(out, number)

                with _restored(beside(out)):
                    if derived is not None:
                        write_series(out, subject.grid.source, read, derived, ready=told)
                    else:
                        told_by = {"dtype": dtype, "ready": told, **options}
                        write_volume(out, subject.grid.source, read, **told_by)
            seconds, notes = perf_counter() - start, (*subject.notes, *made.notes)
            return Translation(out, planned, seconds, method.run, grid, tiles, notes, trace)


@contextmanager
def _restored(path: Path) -> Iterator[None]:
    """Give a file back what was in it if the block fails, as the image keeps what was in it."""
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    try:
        yield
    except Exception:
        if before is None:
            path.unlink(missing_ok=True)
        elif path.read_text(encoding="utf-8") != before:
            write_text(path, before)
        raise


def expected_id(
    method: Maker,
    source: Source,
    *,
    modality: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    precision: Precision = "float32",
    padding: Padding = None,
) -> str:
    """What :attr:`Provenance.id` of a translation would be; see :func:`translated`.

    Raises:
        InputError: A file cannot be read.
    """
    modality, _, decided = _decided(method, source, modality, padding)
    return id_of([decided, precision], _hashes(source, modality, labels))


def _decided(
    method: Maker, source: Source, modality: str | None, padding: Padding
) -> tuple[str | None, Preparation, list[Any]]:
    """The source's modality, its preparation, and what decides a result beside files."""
    if isinstance(source, Subject):
        modality = source.image(modality or method.source)[0]
    prep = method.preparation.padded(padding).of(modality or method.source)
    decided = [method.name, *method.identity(), prep.model_dump(mode="json"), modality]
    return modality, prep, decided


def _hashes(
    source: Source, modality: str | None, labels: str | os.PathLike[str] | None
) -> dict[str, str]:
    return {name: content_hash(path) for name, path in files_read(source, modality, labels).items()}


def _computed(device: torch.device, limits: Limits) -> dict[str, Any]:
    """See :attr:`msgan.translate.provenance.Provenance.computed`."""
    where = {"device": device_name(device), "threads": torch.get_num_threads()}
    return {**vars(limits), **where}


def _run_id(method: Maker) -> str:
    """The key that the card of the method's run states."""
    card = method.run and method.run / CARD
    return str(json_of(card).get("key", "")) if card and card.is_file() else ""


def demands(method: Maker) -> dict[str, Any]:
    """What :func:`msgan.data.cohort.prepare` holds an image and its labels to."""
    found: dict[str, Any] = {"values": method.labels}
    if method.dims is not None:
        found["axes"] = (method.dims, _learnt_on(method))
    if method.run is not None and method.intensity is not None:
        found["wanted"] = method.intensity.unit
    return found


def _learnt_on(method: Maker) -> str:
    return "the run was trained on" if method.run else f"{method.name} was fitted to"


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


def voxel_type(out: Path, dims: int | None, intensity: IntensityMap) -> str:
    """Voxel type of the result; a file that cannot hold it is refused before the work is done.

    Raises:
        InputError: The format cannot hold the result.
    """
    suffix = suffix_of(out)
    if dims == 3 and suffix in picture.SUFFIXES:
        raise InputError(f"{out}: a picture has 2 axes, the run was trained on 3")
    if suffix != ".png":
        return "float32"
    low, high = intensity.low, intensity.high
    if low < 0 or high > 65535:
        raise InputError(f"{out}: PNG cannot hold values from {low:g} to {high:g}; take .tif")
    return "uint8" if high <= 255 else "uint16"


def _check_series(out: Path, dims: int | None) -> None:
    """Refuse what no DICOM series can be, before the image is opened."""
    if dims == 2:
        raise InputError(
            f"{out}: a DICOM series is of 3 axes, the run was trained on 2: choose another format"
        )
    if suffix_of(out) in (*READERS, ".dcm", ".ima"):
        raise InputError(f"{out}: a DICOM series is a folder: leave out {suffix_of(out)}")


def _write_spread(
    path: Path, subject: Prepared, read: Reader, intensity: IntensityMap, mark: str
) -> None:
    """Write a spread, of which -1 stands for 0, on the source's grid in the unit of the result."""
    scale = IntensityMap(0.0, intensity.high - intensity.low, intensity.unit)
    grid = subject.grid.source
    dtype = voxel_type(path, len(grid.shape), scale)
    shown = subject.to_source(read, scale)
    write_volume(path, grid, shown, dtype=dtype, unit=intensity.unit, generated=mark)


def _check_places(
    source: Source,
    labels: str | os.PathLike[str] | None,
    out: Path,
    files: Sequence[Path],
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
    results = list(dict.fromkeys((out, *files)))
    require_apart(results, read)
    for path in results:
        require_kind(path, series=path not in files)
    require_sidecar(out)
    if out in files[1:] or len({os.path.realpath(path) for path in results}) < len(results):
        raise InputError(f"{results[-1]}: is the result itself: name another file")
    if keep is not None:
        folder = Path(keep)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file, expected a folder")
        require_apart([folder, *folder.glob("y*.nii")], read, holding=True)


def _stamps(
    source: Source, modality: str | None, labels: str | os.PathLike[str] | None
) -> list[Any]:
    """The files that are read, by path, size and time."""
    return [[name, _stamp(path)] for name, path in files_read(source, modality, labels).items()]


def _stamp(path: Path) -> list[Any]:
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [(p.name, p.stat()) for p in found]
    return [str(path.resolve()), [[name, s.st_size, s.st_mtime_ns] for name, s in stats]]


def _in_units(read: Reader, intensity: IntensityMap) -> Reader:
    def shown(box: Box) -> Array:
        return intensity.from_unit(read(box))

    return shown
