"""Voxels on disk: what a format tells, unpacking into scratch, and the checks on the way."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from math import prod
from pathlib import Path

import numpy as np

from msgan import paths
from msgan.data.grid import Grid
from msgan.data.guard import call
from msgan.data.pieces import Look, in_order, pieces
from msgan.data.raw import put, raw_reader
from msgan.types import Array, Box, InputError, Reader, Shape

LABEL_TOLERANCE = 1e-3
"""A label may be this far from an integer: scale factors of 1/255 give 0.99999997."""

LONGEST_TEXT = 600
"""Characters of a message that are shown: some quote what a file states."""

UNPACKED = "the unpacked image (in MSGAN_SCRATCH)"


@dataclass(frozen=True)
class Source:
    """What a format's header tells and how its voxels come out.

    Attributes:
        grid: Shape and affine of the image.
        unit: ``HU``, or ``a.u.`` where the file does not tell.
        region: Reads a box of stored values; ``None`` for a file that must be unpacked.
        blocks: For a file that must be unpacked: stored values in boxes that follow each other,
            first axis fastest.
        last_fastest: The axes of ``blocks`` are those of the image in reverse.
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
    last_fastest: bool = False

    def pieces(self) -> Iterator[Box]:
        """Boxes that cover the image once, for ``region`` to read."""
        return (
            pieces(self.grid.shape, chunks=self.chunks)
            if self.chunks
            else in_order(self.grid.shape)
        )

    def values(self, stored: Array, labels: bool) -> Array:
        """Stored values as float32 voxels, or as int32 labels, in the same order in memory.

        Raises:
            InputError: A label is not an integer that fits 32 bits.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # Check refuses what does not fit
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
        if not max(map(abs, ends)) <= float(np.finfo(np.float32).max):
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
    turned = source.last_fastest
    shape = source.grid.shape[::-1] if turned else source.grid.shape
    if folder == paths.scratch_root():
        paths.require_scratch()
    folder.mkdir(parents=True, exist_ok=True)
    paths.sweep(folder, paths.SCRATCH)
    handle, name = tempfile.mkstemp(prefix=paths.owned(paths.SCRATCH), suffix=".raw", dir=folder)
    file, done, count = Path(name), 0, prod(shape)
    try:
        with FileIO(handle, "wb") as stream:
            blocks = call(source.blocks)
            first = call(lambda: next(blocks))
            dtype = first.dtype
            with paths.room(folder, count * dtype.itemsize, UNPACKED):
                for block in _all(first, blocks):
                    box = _next_box(shape, done, block, dtype)
                    if look:
                        look(*((_reversed(box), block.T) if turned else (box, block)))
                    done += box.voxels
                    put(stream, np.ravel(block, order="F").data.cast("B"))
            if done != count:
                raise InputError(f"truncated: {done} voxels, the header promises {count}")
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    reader = raw_reader(file, dtype, shape)
    return file, (lambda box: reader(_reversed(box)).T) if turned else reader


def _all(first: Array, blocks: Iterator[Array]) -> Iterator[Array]:
    """``first`` and the others, each decoded within the guard."""
    block: Array | None = first
    while block is not None:
        yield block
        block = call(lambda: next(blocks, None))


def _next_box(shape: Shape, done: int, block: Array, dtype: np.dtype) -> Box:
    """Where ``block`` lies behind the first ``done`` voxels.

    Raises:
        InputError: It leaves the image, or is of another type than the first.
    """
    if done < prod(shape) and block.ndim == len(shape):
        start = np.unravel_index(done, shape, order="F")
        box = Box(tuple(int(i) for i in start), block.shape)
        if box.clipped(shape) == box and block.dtype == dtype:
            return box
    raise InputError(
        f"decoded to {block.dtype} voxels of shape {block.shape} behind {done} voxels: "
        f"does not fit an image of {dtype} and shape {shape}"
    )


def _reversed(box: Box) -> Box:
    return Box(box.start[::-1], box.size[::-1])


def suffix_of(path: Path) -> str:
    """The lower-case suffix that decides the format; ``.nii.gz`` is one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def named(path: Path, error: InputError) -> InputError:
    """``error`` with the file in front, once, as one line of printable characters.

    Readers quote what files state, which may be anything.
    """
    text = str(error).removeprefix(f"{path}: ")
    text = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
    return InputError(f"{path}: " + "".join(c if c.isprintable() else "?" for c in text))
