"""Computes scales s0..sn of an image from store to store; all resampling between scales."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from msgan.types import Array, Box, Reader, Shape, read_extended, read_padded

CHUNK = {2: 512, 3: 64}
"""Side of the chunks of a scratch store: about a megabyte of float32 in either dimension."""

RIM = 1
"""Voxels beyond an image that a coarse scale of it keeps.

An image goes on by repeating its outermost voxels (:func:`msgan.types.read_extended`), so a coarse
voxel beyond it is the mean of those. The outermost coarse voxel *inside* is not to be repeated: it
is the mean of deeper ones as well, and the image may end in background within it."""

BACKGROUND = -1.0

LITTLE = 0.25
"""Beyond an image a source this bright, relative to the image's outermost voxel, goes on fully."""

T = TypeVar("T", Array, Tensor)


def _blocks(image: T, dims: int, join: Callable[[T, T], T]) -> T:
    """Join the two halves of every block along each of the last ``dims`` axes."""
    for axis in range(image.ndim - dims, image.ndim):
        lead: list[Any] = [slice(None)] * axis
        even, odd = (*lead, slice(0, None, 2)), (*lead, slice(1, None, 2))
        image = join(image[even], image[odd])
    return image


def halve(image: T, dims: int) -> T:
    """Mean over 2^d blocks of the last ``dims`` axes: (..., 2n) -> (..., n).

    An area mean needs nothing around a block, so a scale can be made tile by tile; voxel
    ``k`` of the coarse grid covers voxels ``2k`` and ``2k + 1`` of the fine one exactly.
    """
    return _blocks(image, dims, lambda a, b: (a + b) * 0.5)


def halve_labels(labels: Array) -> Array:
    """The largest label of each 2^d block: a thin lesion does not vanish at a coarse scale."""
    return _blocks(labels, labels.ndim, np.maximum)


def upsample(image: Tensor, dims: int) -> Tensor:
    """Linear interpolation to twice the resolution: (..., n) -> (..., 2n - 4).

    Unpadded: needs one coarse voxel around the result, so that no tile invents a border value
    of its own. Voxel centres stay where they belong in space.
    """
    for axis in range(image.ndim - dims, image.ndim):
        n = image.shape[axis] - 2
        middle = image.narrow(axis, 1, n)
        even = torch.lerp(middle, image.narrow(axis, 0, n), 0.25)
        odd = torch.lerp(middle, image.narrow(axis, 2, n), 0.25)
        image = torch.stack((even, odd), dim=axis + 1).flatten(axis, axis + 1)
    return image


def shapes(shape: Sequence[int], scales: int) -> list[Shape]:
    """Shapes of s0..sn for a working grid of ``shape``.

    Raises:
        ValueError: A side is not a multiple of 2^n.
    """
    if any(n % 2**scales for n in shape):
        raise ValueError(f"shape {tuple(shape)} is not a multiple of 2^{scales}")
    return [tuple(n // 2 ** (scales - i) for n in shape) for i in range(scales + 1)]


class Store:
    """An image of any size on disk (zarr v3, uncompressed), read and written box by box.

    Attributes:
        path: Of the folder.
        shape: Of the image.
        rim: Voxels beyond the image that are kept on every side (see :data:`RIM`).
        known: The box of all that is kept.
    """

    def __init__(self, path: str | os.PathLike[str], array: Any) -> None:
        self.path = Path(path)
        self.rim = int(array.attrs.get("rim", 0))
        self.shape: Shape = tuple(n - 2 * self.rim for n in array.shape)
        self.known = Box.whole(self.shape).grown(self.rim)
        self._array = array

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        shape: Sequence[int],
        dtype: str = "float32",
        chunk: Sequence[int] | None = None,
        rim: int = 0,
    ) -> Store:
        """A new store of zeros; an old one at ``path`` is replaced.

        Args:
            path: Of the folder.
            shape: Of the image.
            dtype: Of the voxels.
            chunk: Sides of a chunk, which is a file; None takes those of :func:`chunk_of`.
            rim: Voxels beyond the image that are kept on every side.
        """
        import zarr

        full = tuple(n + 2 * rim for n in shape)
        sides = chunk or chunk_of(shape, rim)
        array = zarr.create_array(
            store=str(path),
            shape=full,
            chunks=tuple(min(side, n) for side, n in zip(sides, full, strict=True)),
            dtype=dtype,
            compressors=None,
            fill_value=0,
            attributes={"rim": rim},
            overwrite=True,
            # A chunk of zeros is a file as well, so that one that is lost is missed.
            config={"write_empty_chunks": True},
        )
        return cls(path, array)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """A store that is there, to read and write."""
        import zarr

        with zarr.config.set({"array.write_empty_chunks": True}):
            return cls(path, zarr.open_array(store=str(path), mode="r+"))

    def holds(self, box: Box) -> bool:
        """Whether the chunks of ``box`` are there as whole files, once it was written."""
        size = prod(self.tile) * self._array.dtype.itemsize
        for part in box.inside(self.known).clipped(self._array.shape).tiles(self.tile):
            place = (str(a // n) for a, n in zip(part.start, self.tile, strict=True))
            try:
                if self.path.joinpath("c", *place).stat().st_size != size:
                    return False
            except OSError:
                return False
        return True

    @property
    def tile(self) -> Shape:
        """Side of a piece that covers whole chunks, so that no chunk is written twice."""
        return tuple(self._array.chunks)

    def read(self, box: Box) -> Array:
        """The voxels of ``box``; beyond what is kept the outermost are repeated."""
        return read_extended(self._inside, self.known, box)

    def _inside(self, box: Box) -> Array:
        return np.asarray(self._array[box.inside(self.known).slices])

    def write(self, box: Box, values: Array) -> None:
        """Set the voxels of ``box``."""
        self._array[box.inside(self.known).slices] = values


def chunk_of(shape: Sequence[int], rim: int = 0) -> Shape:
    """Sides of the chunks of a store: about ``CHUNK``, so that a rim needs no chunks of its own."""
    side = CHUNK[len(shape)]
    return tuple(-(-(n + 2 * rim) // -(-n // side)) if rim else min(side, n) for n in shape)


def halved(read: Reader, dims: int, labels: bool = False) -> Reader:
    """A reader of the next coarser scale: means, or of label maps the largest of a block."""
    if labels:
        return lambda box: halve_labels(read(box.scaled(2)))
    return lambda box: halve(read(box.scaled(2)), dims)


def build(
    read: Reader,
    shape: Sequence[int],
    scales: int,
    folder: str | os.PathLike[str],
    labels: bool = False,
    rim: int = 0,
) -> list[Reader]:
    """Readers of s0..sn of an image (or label map) given on s_n.

    Scales below s_n are computed once, tile by tile from the next finer one, and kept in
    ``folder``; s_n stays where it is. Memory does not grow with the image. Any box may be asked
    for: the image goes on beyond its faces by repeating its outermost voxels.

    Args:
        read: s_n, a box that lies inside ``shape`` and ``rim`` voxels around.
        shape: Of s_n, a multiple of 2^scales.
        scales: n.
        folder: Where stores ``s0.zarr`` .. ``s(n-1).zarr`` go.
        labels: Keep the largest label of a block instead of the mean.
        rim: Voxels beyond s_n that ``read`` gives.
    """
    readers = [extended(read, shape, rim)]
    for i, size in reversed(list(enumerate(shapes(shape, scales)[:-1]))):
        path, dtype = Path(folder) / f"s{i}.zarr", "uint8" if labels else "float32"
        store = Store.create(path, size, dtype, rim=RIM)
        coarse = halved(readers[0], len(shape), labels)
        for box in store.known.tiles(store.tile):
            store.write(box, coarse(box))
        readers.insert(0, store.read)
    return readers


def extended(read: Reader, shape: Sequence[int], rim: int = 0) -> Reader:
    """A reader of any box of an image that goes on by repeating its outermost voxels.

    Args:
        read: A box that lies inside ``shape`` and ``rim`` voxels around.
        shape: Of the image.
        rim: Voxels beyond the image that ``read`` gives.
    """
    known = Box.whole(shape).grown(rim)
    return lambda box: read_extended(read, known, box)


def read_continued(read: Reader, source: Reader | None, shape: Sequence[int], box: Box) -> Array:
    """Read ``box`` of an image that goes on beyond its faces as the one it was made from does.

    Where the source ends in background the image does; where the source goes on, the image goes on
    by repeating its outermost voxels; in between, in proportion.

    Args:
        read: The image in [-1, 1], a box inside ``shape``.
        source: What it was made from, any box on the same grid; None: it ends in background.
        shape: Of the image.
        box: Anywhere.
    """
    if source is None:
        return read_padded(read, shape, box, BACKGROUND)
    whole = Box.whole(shape)
    inside = region = box.nearest(whole)
    part = out = read(inside)
    if inside == box:
        return part
    sides = [
        (axis, low)
        for axis in range(box.dims)
        for low in (True, False)
        if (box.start[axis] < 0 if low else box.stop[axis] > whole.size[axis])
    ]

    def share(axis: int, low: bool) -> Array:
        """How much of the outermost voxels of ``region`` goes on."""
        last = 0 if low else whole.size[axis] - 1
        side = Box(_put(region.start, axis, last), _put(region.size, axis, 1))
        beyond = side.shifted(_put((0,) * box.dims, axis, -1 if low else 1))
        return _share(source(beyond), source(side))

    if not any(share(*side).any() for side in sides):
        return read_padded(lambda near: part[near.inside(inside).slices], shape, box, BACKGROUND)
    for axis, low in sides:  # one axis after the other, so that corners go on from edges
        much = share(axis, low)
        layer = out.take([0 if low else -1], axis) * much + BACKGROUND * (1 - much)
        out = np.concatenate((layer, out) if low else (out, layer), axis)
        start = _put(region.start, axis, region.start[axis] - low)
        region = Box(start, _put(region.size, axis, region.size[axis] + 1))
    return read_extended(lambda near: out[near.inside(region).slices], region, box)


def _share(beyond: Array, last: Array) -> Array:
    """How much of an image goes on: of its outermost voxels and those of its source beyond."""
    here = np.maximum(last - BACKGROUND, 1e-6)
    return np.clip((beyond - BACKGROUND) / (LITTLE * here), 0, 1).astype(np.float32)


def _put(values: Sequence[int], axis: int, value: int) -> tuple[int, ...]:
    return (*values[:axis], value, *values[axis + 1 :])


def enlarge(read: Reader, shape: Sequence[int]) -> Reader:
    """A reader of the next finer scale by linear interpolation; the plain upsampling.

    Args:
        read: The coarse image.
        shape: Of the coarse image; outside it is background.
    """

    def fine(box: Box) -> Array:
        coarse = box.coarse(2)
        part = read_padded(read, shape, coarse.grown(1), BACKGROUND)
        whole = upsample(torch.from_numpy(np.ascontiguousarray(part)), box.dims).numpy()
        return whole[box.inside(coarse.scaled(2)).slices]

    return fine
