"""Raw voxel files, first axis fastest, read and written by region without memory mapping."""

from __future__ import annotations

import errno
import os
from io import FileIO
from math import prod
from pathlib import Path

import numpy as np

from msgan.data.pieces import pieces
from msgan.types import Array, Box, InputError, Reader, Shape

HULL_BYTES = 1 << 20
"""Most that is read at once where a box takes only parts of it."""

GAP_BYTES = 16 << 10
"""Bytes that are rather read in vain than skipped by another call."""


def raw_reader(file: Path, dtype: np.dtype, shape: Shape, offset: int = 0) -> Reader:
    """Reads boxes of an uncompressed image whose first axis is fastest in the file.

    By reads of at most a megabyte, not through a mapping: mapped pages count as memory of this
    process, and even a small box touches a page for each of its rows.
    """
    strides = _strides(shape, dtype)

    def read(box: Box) -> Array:
        out = np.empty(box.size, dtype, order="F")
        if not out.size:
            return out
        together, hull = _together(box.size, strides)
        buffer = np.empty(hull, np.uint8)
        with FileIO(file) as stream:
            for part in box.tiles(together):
                stream.seek(offset + sum(a * s for a, s in zip(part.start, strides, strict=True)))
                target = out[part.inside(box).slices]
                hull = sum((n - 1) * s for n, s in zip(part.size, strides, strict=True))
                if hull + dtype.itemsize == target.nbytes:
                    _fill(stream, target.T.data.cast("B"))
                else:
                    _fill(stream, buffer[: hull + dtype.itemsize].data)
                    target[...] = np.ndarray(part.size, dtype, buffer, 0, strides)
        return out

    return read


def write_raw(stream: FileIO, shape: Shape, dtype: np.dtype, read: Reader) -> None:
    """Write an image behind what ``stream`` holds, first axis fastest, in boxes like chunks.

    The room for the whole image is taken first, so that a full disk is found before the work.
    """
    offset, strides = stream.tell(), _strides(shape, dtype)
    _reserve(stream, offset + prod(shape) * dtype.itemsize)
    for box in pieces(shape, dtype.itemsize):
        values = np.asfortranarray(read(box), dtype)
        starts = np.array([offset + sum(a * s for a, s in zip(box.start, strides, strict=True))])
        run = dtype.itemsize
        for n, stride in zip(box.size, strides, strict=True):
            if run == stride:  # all of the axes before
                run *= n
            else:
                starts = (np.arange(n)[:, None] * stride + starts).ravel()
        data = values.ravel(order="K").data.cast("B")
        for k, start in enumerate(starts.tolist()):
            stream.seek(start)
            put(stream, data[k * run : (k + 1) * run])


def _strides(shape: Shape, dtype: np.dtype) -> tuple[int, ...]:
    return tuple(dtype.itemsize * prod(shape[:axis]) for axis in range(len(shape)))


def _together(size: Shape, strides: tuple[int, ...]) -> tuple[Shape, int]:
    """Sides of the parts of a box to read at once, and the most bytes a buffer must hold."""
    part = [1] * len(size)
    hull = wanted = strides[0]
    rows, buffer = 1, 0
    for axis, (n, stride) in enumerate(zip(size, strides, strict=True)):
        for count in (n, min(n, 1 + max(0, HULL_BYTES - hull) // stride), 1):
            length = (count - 1) * stride + hull
            left_out = length - count * wanted
            if not left_out or (length <= HULL_BYTES and left_out <= GAP_BYTES * rows * count):
                break
        part[axis] = count
        hull += (count - 1) * stride
        wanted *= count
        rows *= count if axis else 1
        if hull != wanted:
            buffer = hull
        if count < n:
            break
    return tuple(part), buffer


def _fill(stream: FileIO, view: memoryview) -> None:
    while view:
        count = stream.readinto(view)
        if not count:
            raise InputError(f"{stream.name!s}: truncated while it was read")
        view = view[count:]


def put(stream: FileIO, view: memoryview) -> None:
    """Write all of ``view``; a single call may write a part where a disk becomes full."""
    while view:
        view = view[stream.write(view) or 0 :]


def _reserve(stream: FileIO, length: int) -> None:
    try:
        os.posix_fallocate(stream.fileno(), 0, length)
    except AttributeError:  # not on this system
        stream.truncate(length)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        stream.truncate(length)
