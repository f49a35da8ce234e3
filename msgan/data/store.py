"""Voxels on disk: what a format tells, unpacking into scratch, and the checks on the way."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np

from msgan import paths
from msgan.data.grid import Grid
from msgan.data.pieces import Look, pieces, slabs
from msgan.data.raw import put, raw_reader
from msgan.types import Array, Box, InputError, Reader, Shape

LABEL_TOLERANCE = 1e-3
"""A label may be this far from an integer: scale factors of 1/255 give 0.99999997."""

UNPACKED = "the unpacked image (in MSGAN_SCRATCH)"


@dataclass(frozen=True)
class Source:
    """What a format's header tells and how its voxels come out.

    Attributes:
        grid: Shape and affine of the image.
        unit: ``HU``, or ``a.u.`` where the file does not tell.
        region: Reads a box of stored values; ``None`` for a file that must be unpacked.
        blocks: For a file that must be unpacked: stored values in slabs along the last axis.
        chunks: Sides of the boxes ``region`` reads best; ``None`` where whole planes are best.
        slope: Voxel value = stored value x slope + inter.
        inter: See ``slope``.
        notes: What its user should know of the file, as where it contradicts itself.
        measured: Whether the file states a unit of length other than mm.
    """

    grid: Grid
    unit: str = "a.u."
    region: Reader | None = None
    blocks: Callable[[], Iterator[Array]] | None = None
    slope: float = 1.0
    inter: float = 0.0
    chunks: Shape | None = None
    notes: tuple[str, ...] = ()
    measured: bool = False

    def pieces(self) -> Iterator[Box]:
        """Boxes that cover the image once, for ``region`` to read."""
        return (
            pieces(self.grid.shape, chunks=self.chunks) if self.chunks else slabs(self.grid.shape)
        )

    def values(self, stored: Array, labels: bool) -> Array:
        """Stored values as float32 voxels, or as int32 labels, in the same order in memory.

        Raises:
            InputError: A label is not an integer that fits 32 bits.
        """
        if (self.slope, self.inter) != (1.0, 0.0):
            stored = stored * np.float64(self.slope)
            stored += np.float64(self.inter)
        if not labels:
            return stored.astype(np.float32, copy=False)
        whole = np.rint(stored) if stored.dtype.kind == "f" else stored
        if stored.dtype.kind == "f" and stored.size:
            off = np.abs(stored - whole)
            if not off.max() <= LABEL_TOLERANCE:
                raise InputError(f"label {stored.flat[int(off.argmax())]} is not an integer")
        limits = np.iinfo(np.int32)
        if stored.size and not (limits.min <= whole.min() and whole.max() <= limits.max):
            raise InputError(f"labels {whole.min()}..{whole.max()} do not fit 32-bit integers")
        return whole.astype(np.int32, copy=False)


@dataclass
class Check:
    """Looks at every stored value once: NaN, infinity, constant images, labels.

    Attributes:
        low: Smallest stored value seen so far.
        high: Largest stored value seen so far.
    """

    source: Source
    labels: bool
    low: float = field(default=np.inf, init=False)
    high: float = field(default=-np.inf, init=False)
    bad: int = field(default=0, init=False)
    nan: bool = field(default=False, init=False)

    def add(self, stored: Array) -> None:
        """Look at one piece of the image."""
        low, high = float(stored.min()), float(stored.max())
        if not np.isfinite([low, high]).all():  # NaN propagates through min and max
            self.bad += int(np.count_nonzero(~np.isfinite(stored)))
            self.nan |= bool(np.isnan(stored).any()) and not self.labels
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.labels:
            self.source.values(stored, labels=True)

    def verdict(self) -> tuple[float, float]:
        """Smallest and largest voxel value of the image.

        Raises:
            InputError: Some voxels are not finite or, in an image, all are equal.
        """
        if self.bad:
            count = prod(self.source.grid.shape)
            hint = ": --padding nan takes NaN for background" if self.nan else ""
            raise InputError(f"{self.bad} of {count} voxels are NaN or infinite{hint}")
        ends = [v * self.source.slope + self.source.inter for v in (self.low, self.high)]
        if max(map(abs, ends)) > float(np.finfo(np.float32).max):
            raise InputError(f"voxel values {ends} do not fit float32")
        if self.low == self.high and not self.labels:
            what = "empty image" if ends[0] == 0 else "constant image"
            raise InputError(f"{what}: every voxel is {ends[0]:g}")
        return min(ends), max(ends)


def remove_own(file: Path, process: int) -> None:
    """Remove ``file`` unless this is a fork of the ``process`` that made it and may still read."""
    if os.getpid() == process:
        file.unlink(missing_ok=True)


def unpack(source: Source, folder: Path, look: Look | None) -> tuple[Path, Reader]:
    """Write the blocks of ``source`` to a new raw file in ``folder``; the caller removes it.

    Args:
        source: Has ``blocks``.
        folder: Made where it does not exist.
        look: Sees every block on the way.

    Raises:
        InputError: The disk is full, or ``look`` raises it.
    """
    assert source.blocks is not None
    shape = source.grid.shape
    if folder == paths.scratch_root():
        paths.require_scratch()
    folder.mkdir(parents=True, exist_ok=True)
    paths.sweep(folder, paths.SCRATCH)
    handle, name = tempfile.mkstemp(prefix=paths.owned(paths.SCRATCH), suffix=".raw", dir=folder)
    file, done = Path(name), 0
    try:
        with FileIO(handle, "wb") as stream:
            blocks = source.blocks()
            first = next(blocks)
            dtype = first.dtype
            with paths.room(folder, prod(shape) * dtype.itemsize, UNPACKED):
                for block in chain([first], blocks):
                    if look:
                        start = (*(0,) * (len(shape) - 1), done)
                        look(Box(start, block.shape), block)
                    done += block.shape[-1]
                    put(stream, np.ravel(block, order="F").data.cast("B"))
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return file, raw_reader(file, dtype, shape)


def suffix_of(path: Path) -> str:
    """The lower-case suffix that decides the format; ``.nii.gz`` is one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def named(path: Path, error: InputError) -> InputError:
    """``error`` with the file in front, once."""
    text = str(error)
    return error if text.startswith(str(path)) else InputError(f"{path}: {text}")
