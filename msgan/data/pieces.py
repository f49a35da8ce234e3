"""Splits images of any size into pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

from msgan.types import Array, Box, Shape

PIECE_BYTES = 8 << 20
"""Largest piece of an image that is held in memory while it streams; work on it takes a few."""

SIDE = {2: 512, 3: 64}
"""Sides of the boxes that pieces are made of: readers often keep chunks of this size."""

Visitor = Callable[[Box, Array], None]
"""Called with a piece of an image and its values."""


def slabs(shape: Shape, itemsize: int = 4, axis: int = -1) -> Iterator[Box]:
    """Boxes along ``axis`` that cover an image once, each of at most ``PIECE_BYTES`` (or a plane).

    For what must be read or written in order; their thickness is a power of two.
    """
    axis %= len(shape)
    plane = max(itemsize, 4) * prod(shape) // shape[axis]
    thickness = 1 << (max(1, PIECE_BYTES // plane).bit_length() - 1)
    size = tuple(thickness if a == axis else n for a, n in enumerate(shape))
    return Box.whole(shape).tiles(size)


def in_order(shape: Shape, itemsize: int = 4) -> Iterator[Box]:
    """Boxes of at most ``PIECE_BYTES`` that follow each other in a file, first axis fastest.

    Slabs where a plane is small enough, else parts of planes: a header may promise any plane.
    """
    size = [1] * len(shape)
    for axis, n in enumerate(shape):
        size[axis] = min(n, max(1, PIECE_BYTES // (max(itemsize, 4) * prod(size))))
        if size[axis] < n:
            size[axis] = 1 << (size[axis].bit_length() - 1)
            break
    for box in Box.whole(shape[::-1]).tiles(size[::-1]):
        yield Box(box.start[::-1], box.size[::-1])


def pieces(shape: Shape, itemsize: int = 4, chunks: Shape | None = None) -> Iterator[Box]:
    """Boxes of about ``PIECE_BYTES`` that cover an image once, the first axis fastest.

    They are whole multiples of ``chunks`` (cubes of ``SIDE``, where none are given), longest
    along the first axis: each chunk of a store is read once, and rows of a file are long.
    """
    itemsize = max(itemsize, 4)
    if chunks is None:
        side = SIDE[len(shape)]
        while side > 1 and side ** len(shape) * itemsize > PIECE_BYTES:
            side //= 2
        chunks = (side,) * len(shape)
    size = [min(c, n) for c, n in zip(chunks, shape, strict=True)]
    for axis, n in enumerate(shape):
        while size[axis] < n and 2 * prod(size) * itemsize <= PIECE_BYTES:
            size[axis] = min(2 * size[axis], n)
    for box in Box.whole(shape[::-1]).tiles(size[::-1]):
        yield Box(box.start[::-1], box.size[::-1])
