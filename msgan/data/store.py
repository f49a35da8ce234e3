"""Voxels on disk: region reading, unpacking into scratch, and the checks on the way."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from msgan.data.grid import Grid
from msgan.types import Array, Box, InputError, Reader, Shape

SLAB_BYTES = 64 << 20
"""Largest piece of an image that is held in memory while it streams."""

LABEL_TOLERANCE = 1e-3
"""A label may be this far from an integer: scale factors of 1/255 give 0.99999997."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Source:
    """What a format's header tells and how its voxels come out.

    Attributes:
        grid: Shape and affine of the image.
        unit: ``HU``, or ``a.u.`` where the file does not tell.
        region: Reads a box of stored values; ``None`` for a file that must be unpacked.
        blocks: For a file that must be unpacked: stored values in slabs along the last axis.
        slope: Voxel value = stored value x slope + inter.
        inter: See ``slope``.
    """

    grid: Grid
    unit: str = "a.u."
    region: Reader | None = None
    blocks: Callable[[], Iterator[Array]] | None = None
    slope: float = 1.0
    inter: float = 0.0

    def values(self, stored: Array, labels: bool) -> Array:
        """Stored values as float32 voxels, or as int32 labels.

        Raises:
            InputError: A label is not an integer that fits 32 bits.
        """
        if (self.slope, self.inter) != (1.0, 0.0):
            stored = stored * np.float64(self.slope) + np.float64(self.inter)
        if not labels:
            return np.ascontiguousarray(stored, dtype=np.float32)
        whole = np.rint(stored) if stored.dtype.kind == "f" else stored
        if stored.dtype.kind == "f" and stored.size:
            off = np.abs(stored - whole)
            if not off.max() <= LABEL_TOLERANCE:
                raise InputError(f"label {stored.flat[int(off.argmax())]} is not an integer")
        limits = np.iinfo(np.int32)
        if stored.size and not (limits.min <= whole.min() and whole.max() <= limits.max):
            raise InputError(f"labels {whole.min()}..{whole.max()} do not fit 32-bit integers")
        return np.ascontiguousarray(whole, dtype=np.int32)


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

    def add(self, stored: Array) -> None:
        """Look at one piece of the image."""
        low, high = float(stored.min()), float(stored.max())
        if not np.isfinite([low, high]).all():  # NaN propagates through min and max
            self.bad += int(np.count_nonzero(~np.isfinite(stored)))
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
            raise InputError(f"{self.bad} of {count} voxels are NaN or infinite")
        ends = [v * self.source.slope + self.source.inter for v in (self.low, self.high)]
        if max(map(abs, ends)) > float(np.finfo(np.float32).max):
            raise InputError(f"voxel values {ends} do not fit float32")
        if self.low == self.high and not self.labels:
            what = "empty image" if ends[0] == 0 else "constant image"
            raise InputError(f"{what}: every voxel is {ends[0]:g}")
        return min(ends), max(ends)


def slabs(shape: Shape, itemsize: int = 4, axis: int = -1) -> Iterator[Box]:
    """Boxes along ``axis`` that cover an image once, each of at most ``SLAB_BYTES`` (or one plane).

    Their thickness is a multiple of 32, or a power of two below, so that they line up with the
    chunks of a store they may be read from.
    """
    axis %= len(shape)
    plane = max(itemsize, 4) * prod(shape) // shape[axis]
    thickness = max(1, SLAB_BYTES // plane)
    thickness = thickness // 32 * 32 or 1 << (thickness.bit_length() - 1)
    size = tuple(thickness if a == axis else n for a, n in enumerate(shape))
    return Box.whole(shape).tiles(size)


def raw_reader(file: Path, dtype: np.dtype, shape: Shape, offset: int = 0) -> Reader:
    """Reads boxes of an uncompressed image whose first axis is fastest in the file."""

    def read(box: Box) -> Array:
        # A mapping for each read: the pages of past boxes do not pile up in this process.
        data = np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape, order="F")
        return np.array(data[box.slices])

    return read


def remove_own(file: Path, process: int) -> None:
    """Remove ``file`` unless this is a fork of the ``process`` that made it and may still read."""
    if os.getpid() == process:
        file.unlink(missing_ok=True)


def unpack(source: Source, folder: Path, check: Check | None) -> tuple[Path, Reader]:
    """Write the blocks of ``source`` to a new raw file in ``folder``; the caller removes it.

    Raises:
        InputError: The disk is full, or ``check`` finds bad voxels.
    """
    assert source.blocks is not None
    file: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="msgan-", suffix=".raw", dir=folder)
        file = Path(name)
        with os.fdopen(handle, "wb") as stream:
            for block in source.blocks():
                if check:
                    check.add(block)
                dtype = block.dtype
                stream.write(np.ravel(block, order="F").data.cast("B"))
    except BaseException as error:
        if file:
            file.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise InputError(
                f"no space left in the scratch folder {folder} to unpack the image: "
                "set MSGAN_SCRATCH to a larger disk"
            ) from error
        raise
    return file, raw_reader(file, dtype, source.grid.shape)


def suffix_of(path: Path) -> str:
    """The lower-case suffix that decides the format; ``.nii.gz`` is one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def named(path: Path, error: InputError) -> InputError:
    """``error`` with the file in front, once."""
    text = str(error)
    return error if text.startswith(str(path)) else InputError(f"{path}: {text}")
