"""Streaming translation: any size in, any size out, bounded memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn

from msgan import patches, pyramid, sketch
from msgan.data.cohort import Subject, prepare
from msgan.data.formats import picture
from msgan.data.store import suffix_of
from msgan.data.writing import WRITERS, write_volume
from msgan.memory import largest_tile
from msgan.patches import HighGenerator
from msgan.paths import scratch_root
from msgan.training.run import Run
from msgan.types import Array, Box, InputError, Reader, read_padded

BACKGROUND = -1.0
MEMORY = 2 << 30

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many of it are done, and how many there are."""


@dataclass(frozen=True)
class Translation:
    """What a translation did.

    Attributes:
        path: The written file.
        tiles: Side of a tile at each scale s1..sn, voxels.
        seconds: Wall time.
    """

    path: Path
    tiles: tuple[int, ...]
    seconds: float


def translate(
    run: Run,
    source: Subject | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    modality: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    device: str = "auto",
    memory: int = MEMORY,
    tile: int | None = None,
    keep: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Translation:
    """Translate one image to the target of ``run`` (extended paper, section 2.1).

    The result has the source's grid and affine and the target's intensity unit. It is written
    as a whole or not at all.

    Args:
        run: A trained cascade.
        source: Image file or subject of a cohort, of any modality.
        out: File to write; its suffix decides the format.
        modality: Which image of a subject.
        labels: Pathology labels on the image's grid, laid over the sketch.
        device: ``auto``, ``cpu`` or ``cuda``.
        memory: Bytes one tile's network may take on the device.
        tile: Side of a tile, even; None takes the largest that fits ``memory``. The ``paper``
            family has its own.
        keep: Folder for the images of all scales, ``y0.nii`` .. ``yn.nii`` on their own grids.
        progress: Called as tiles are done.

    Raises:
        InputError: The image cannot be used, the run is not finished, labels are given that it
            was not trained with, ``out`` cannot hold the result, or no tile fits ``memory``.
    """
    start = perf_counter()
    if labels is not None and not run.config.labels:
        raise InputError(f"{labels}: this run was trained without labels; leave them out")
    if tile is not None and (tile < 2 or tile % 2):
        raise InputError(f"tile {tile}: expected an even number of voxels, at least 2")
    dtype = _dtype(Path(out), run)
    where = pick_device(device)
    generators = [run.generator(i).to(where) for i in range(run.scales + 1)]
    sides = [_side(g, tile, memory, run) for g in generators[1:]]
    root = scratch_root()
    root.mkdir(parents=True, exist_ok=True)
    with (
        prepare(source, modality, run.config.preparation, labels) as subject,
        tempfile.TemporaryDirectory(prefix="msgan-", dir=root) as scratch,
    ):
        if len(subject.grid.shape) != run.config.dims:
            raise InputError(
                f"{subject.name}: image of {len(subject.grid.shape)} axes, the run was trained "
                f"on {run.config.dims}"
            )
        shapes = pyramid.shapes(subject.grid.shape, run.scales)
        images = pyramid.build(subject.read, shapes[-1], run.scales, Path(scratch) / "x")
        drawn: list[Reader | None] = [None] * len(shapes)
        if run.config.labels and subject.has_labels:
            drawn = list(
                pyramid.build(
                    lambda box: np.asarray(subject.read_labels(box)),
                    shapes[-1],
                    run.scales,
                    Path(scratch) / "labels",
                    labels=True,
                )
            )
        sketches = [
            sketch.sketch_reader(
                images[i], shapes[i], run.config.sketch, drawn[i], where, run.config.labels or (1,)
            )
            for i in range(1, run.scales + 1)
        ]
        results = cascade(generators, sketches, shapes, Path(scratch) / "y", sides, progress)
        if keep is not None:
            for i, result in enumerate(results):
                grid = subject.grid.grid_at(i)
                shown = _in_units(result, run)
                write_volume(Path(keep) / f"y{i}.nii", grid, shown, unit=run.intensity.unit)
        read = subject.to_source(results[-1], run.intensity)
        write_volume(out, subject.grid.source, read, unit=run.intensity.unit, dtype=dtype)
    return Translation(Path(out), tuple(sides), perf_counter() - start)


def cascade(
    generators: Sequence[nn.Module],
    sketches: Sequence[Reader],
    shapes: Sequence[Sequence[int]],
    folder: str | os.PathLike[str],
    tiles: Sequence[int],
    progress: Progress | None = None,
) -> list[Reader]:
    """y0 from the sketch at s1, then y_i tile by tile from y_(i-1) and the sketch at s_i.

    Args:
        generators: Of s0..sn, on one device.
        sketches: Readers of the sketch at s1..sn, (C, *box).
        shapes: Of s0..sn.
        folder: Where the stores of y0..yn go.
        tiles: Side of a tile at s1..sn.
        progress: Called as tiles are done.

    Returns:
        Readers of y0..yn, in [-1, 1].
    """
    device = next(generators[0].parameters()).device
    stores = [
        pyramid.Store.create(Path(folder) / f"y{i}.zarr", tuple(shape))
        for i, shape in enumerate(shapes)
    ]
    with torch.inference_mode():
        whole = _tensor(sketches[0](Box.whole(shapes[1])), device)
        stores[0].write(Box.whole(shapes[0]), _array(generators[0](whole)))
        for i in range(1, len(shapes)):
            generator: HighGenerator = generators[i]  # type: ignore[assignment]
            # Counted first, not listed: the cuts of a huge image take hundreds of megabytes.
            count = sum(1 for _ in patches.grid(generator, shapes[i], tiles[i - 1]))
            for done, cut in enumerate(patches.grid(generator, shapes[i], tiles[i - 1]), 1):
                seen = read_padded(sketches[i - 1], shapes[i], cut.sketch, 0.0)
                context = read_padded(stores[i - 1].read, shapes[i - 1], cut.context, BACKGROUND)
                made = generator(_tensor(seen, device), _tensor(context[None], device))
                inside = cut.core.clipped(shapes[i])
                part = _array(made)[inside.inside(cut.detail).slices]
                stores[i].write(inside, part)
                if progress:
                    progress(f"s{i}", done, count)
    return [store.read for store in stores]


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


def _side(generator: nn.Module, tile: int | None, memory: int, run: Run) -> int:
    geometry: HighGenerator = generator  # type: ignore[assignment]
    return geometry.patch or tile or largest_tile(generator, memory, run.config)


def _dtype(out: Path, run: Run) -> str:
    """Voxel type of the result; a file that cannot hold it is refused before the work is done."""
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


def _tensor(values: Array, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None].to(device)


def _array(image: torch.Tensor) -> Array:
    return image[0, 0].clamp(-1, 1).float().cpu().numpy()


def _in_units(read: Reader, run: Run) -> Reader:
    return lambda box: run.intensity.from_unit(read(box))
