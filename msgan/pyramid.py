"""Image -> scales s0..sn, streamed from store to store; all resampling between scales."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from msgan.types import Array, Box, Reader, Shape, read_padded

CHUNK = {2: 512, 3: 64}
"""Side of the chunks of a scratch store: about a megabyte of float32 in either dimension."""

BACKGROUND = -1.0

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
    """An image of any size on disk (zarr v3, uncompressed), read and written box by box."""

    def __init__(self, path: str | os.PathLike[str], array: Any) -> None:
        self.path = Path(path)
        self.shape: Shape = tuple(array.shape)
        self._array = array

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        shape: Sequence[int],
        dtype: str = "float32",
        chunk: Sequence[int] | None = None,
    ) -> Store:
        """A new store of zeros; an old one at ``path`` is replaced.

        Args:
            path: Of the folder.
            shape: Of the image.
            dtype: Of the voxels.
            chunk: Sides of a chunk, which is a file; None takes those of ``CHUNK``.
        """
        import zarr

        sides = chunk or (CHUNK[len(shape)],) * len(shape)
        array = zarr.create_array(
            store=str(path),
            shape=tuple(shape),
            chunks=tuple(min(side, n) for side, n in zip(sides, shape, strict=True)),
            dtype=dtype,
            compressors=None,
            fill_value=0,
            overwrite=True,
        )
        return cls(path, array)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """A store that is there, to read and write."""
        import zarr

        return cls(path, zarr.open_array(store=str(path), mode="r+"))

    @property
    def tile(self) -> Shape:
        """Side of a piece that covers whole chunks, so that no chunk is written twice."""
        return tuple(self._array.chunks)

    def read(self, box: Box) -> Array:
        """The voxels of ``box``, which lies inside."""
        return np.asarray(self._array[box.slices])

    def write(self, box: Box, values: Array) -> None:
        """Set the voxels of ``box``."""
        self._array[box.slices] = values


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
) -> list[Reader]:
    """Readers of s0..sn of an image (or label map) given on s_n.

    Scales below s_n are computed once, tile by tile from the next finer one, and kept in
    ``folder``; s_n stays where it is. Memory does not grow with the image.

    Args:
        read: s_n, a box that lies inside ``shape``.
        shape: Of s_n, a multiple of 2^scales.
        scales: n.
        folder: Where stores ``s0.zarr`` .. ``s(n-1).zarr`` go.
        labels: Keep the largest label of a block instead of the mean.
    """
    readers = [read]
    for i, size in reversed(list(enumerate(shapes(shape, scales)[:-1]))):
        store = Store.create(Path(folder) / f"s{i}.zarr", size, "uint8" if labels else "float32")
        coarse = halved(readers[0], len(shape), labels)
        for box in Box.whole(size).tiles(store.tile):
            store.write(box, coarse(box))
        readers.insert(0, store.read)
    return readers


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
