"""Voxels as stored in NIfTI and MGH files: one after another, or in one gzip stream."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from msgan.data.grid import TOLERANCE_MM
from msgan.data.pieces import in_order
from msgan.data.raw import raw_reader
from msgan.data.store import Source
from msgan.types import Array, InputError, Shape

DEFLATE_RATIO = 1032
"""No gzip file holds more bytes than this many times its own."""

STEP = 1 << 20
"""Bytes that are decompressed at once; room for more is taken only as they come."""

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
"""What reading a gzip file raises that is cut short or none."""


def with_voxels(source: Source, file: Path, dtype: np.dtype, offset: int) -> Source:
    """``source`` with the way to its voxels."""
    shape = source.grid.shape
    if dtype.names:
        raise InputError(f"colour voxels {dtype.names}: expected one value for each voxel")
    if dtype.kind not in "iuf":
        raise InputError(f"voxels of type {dtype}: expected real numbers")
    if not file.name.lower().endswith((".gz", ".mgz")):
        need, have = offset + prod(shape) * dtype.itemsize, file.stat().st_size
        if have < need:
            raise InputError(f"truncated: {have} bytes, the header promises {need}")
        return replace(source, region=raw_reader(file, dtype, shape, offset))

    if offset + prod(shape) * dtype.itemsize > file.stat().st_size * DEFLATE_RATIO:
        raise InputError(f"truncated: fewer voxels in {file.stat().st_size} bytes than promised")

    def blocks() -> Iterator[Array]:
        return _unzipped(file, dtype, shape, offset)

    return replace(source, blocks=blocks)


def spatial(shape: Shape) -> Shape:
    """``shape`` without trailing axes of length 1 beyond the third."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3):
        raise InputError(f"{len(shape)}D image of shape {shape}: expected 3 axes")
    return shape


def planar(affine: Array) -> Array:
    """The (3, 3) affine of an image of two axes."""
    if np.abs(affine[2, :2]).max() > TOLERANCE_MM:
        raise InputError(f"a 2D image outside the plane of the first two axes: {affine.tolist()}")
    return affine[np.ix_([0, 1, 3], [0, 1, 3])]


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, KeyError):  # it says no more than a key
        return f"{error} is not known"
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__


def _unzipped(path: Path, dtype: np.dtype, shape: Shape, offset: int) -> Iterator[Array]:
    """Stored values of a gzip file in order; the checksum at its end is verified."""
    try:
        with gzip.open(path, "rb") as stream:
            for skipped in range(0, offset, STEP):
                stream.read(min(STEP, offset - skipped))
            for box in in_order(shape, dtype.itemsize):
                block = _taken(stream, box.voxels * dtype.itemsize)
                yield np.frombuffer(block, dtype).reshape(box.size, order="F")
            while stream.read(STEP):
                pass
    except DAMAGED as error:
        raise InputError(f"damaged or truncated gzip file: {error}") from error


def _taken(stream: gzip.GzipFile, count: int) -> bytearray:
    """The next ``count`` bytes."""
    block = bytearray()
    while len(block) < count:
        part = stream.read(min(STEP, count - len(block)))
        if not part:
            raise InputError("truncated: fewer voxels than the header promises")
        block += part
    return block
