"""Basic types: boxes, shapes, readers, and the error for bad input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, TypeVar

import numpy as np

Shape = tuple[int, ...]
"""Voxels along each spatial axis; its length is the number of dimensions (2 or 3)."""

Array = np.ndarray


class InputError(ValueError):
    """Bad input from outside; the message names the file or value and the rule it breaks."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box of voxels: ``start`` (may be negative) and ``size`` along each spatial axis.

    Example:
        >>> box = Box((4, 0), (8, 6))
        >>> box.grown(2)
        Box(start=(2, -2), size=(12, 10))
        >>> box.grown(2).clipped((16, 6))
        Box(start=(2, 0), size=(12, 6))
        >>> box.scaled(2).coarse(2) == box
        True
        >>> [tile.size for tile in box.tiles((5, 6))]
        [(5, 6), (3, 6)]
    """

    start: tuple[int, ...]
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.size):
            raise ValueError(f"box start {self.start} and size {self.size} differ in length")
        if any(s < 0 for s in self.size):
            raise ValueError(f"box size {self.size} has a negative side")

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """The box that covers an image of ``shape``."""
        return cls((0,) * len(shape), tuple(int(s) for s in shape))

    @classmethod
    def around(cls, centre: Sequence[int], size: Sequence[int]) -> Box:
        """The box of ``size`` whose middle voxel (of two, the second) is ``centre``."""
        return cls(tuple(int(c) - s // 2 for c, s in zip(centre, size, strict=True)), tuple(size))

    @property
    def dims(self) -> int:
        """Number of axes."""
        return len(self.start)

    @property
    def stop(self) -> tuple[int, ...]:
        """One past the last voxel along each axis."""
        return tuple(a + n for a, n in zip(self.start, self.size, strict=True))

    @property
    def voxels(self) -> int:
        """How many voxels it holds."""
        return prod(self.size)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index for an array; only valid for a box with no negative start."""
        if any(a < 0 for a in self.start):
            raise ValueError(f"{self} starts outside the array; clip it first")
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grown(self, halo: int | Sequence[int]) -> Box:
        """The box with ``halo`` more voxels on both sides of every axis."""
        h = (halo,) * self.dims if isinstance(halo, int) else tuple(halo)
        return Box(
            tuple(a - k for a, k in zip(self.start, h, strict=True)),
            tuple(n + 2 * k for n, k in zip(self.size, h, strict=True)),
        )

    def scaled(self, factor: int) -> Box:
        """The same region on a grid ``factor`` times finer."""
        return Box(tuple(a * factor for a in self.start), tuple(n * factor for n in self.size))

    def coarse(self, factor: int) -> Box:
        """The smallest box on a grid ``factor`` times coarser that covers this one."""
        start = tuple(a // factor for a in self.start)
        stop = tuple(-(-b // factor) for b in self.stop)
        return Box(start, tuple(b - a for a, b in zip(start, stop, strict=True)))

    def shifted(self, offset: Sequence[int]) -> Box:
        """The box moved by ``offset``."""
        return Box(tuple(a + o for a, o in zip(self.start, offset, strict=True)), self.size)

    def inside(self, outer: Box) -> Box:
        """This box in the coordinates of ``outer`` (whose start becomes the origin)."""
        return self.shifted(tuple(-a for a in outer.start))

    def clipped(self, shape: Sequence[int]) -> Box:
        """The part of this box that lies inside an image of ``shape`` (may be empty)."""
        start = tuple(min(max(a, 0), n) for a, n in zip(self.start, shape, strict=True))
        stop = tuple(max(min(b, n), a) for a, b, n in zip(start, self.stop, shape, strict=True))
        return Box(start, tuple(b - a for a, b in zip(start, stop, strict=True)))

    def nearest(self, outer: Box) -> Box:
        """The part inside ``outer``, or along axes where there is none its nearest voxel."""
        start, stop = [], []
        for a, b, low, high in zip(self.start, self.stop, outer.start, outer.stop, strict=True):
            start.append(min(max(a, low), high - 1))
            stop.append(max(min(b, high), start[-1] + 1))
        return Box(tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True)))

    def tiles(self, size: Sequence[int]) -> Iterator[Box]:
        """Boxes of at most ``size`` that cover this box exactly once, last axis fastest."""
        ranges = (range(a, b, s) for a, b, s in zip(self.start, self.stop, size, strict=True))
        for start in product(*ranges):
            stop = tuple(min(a + s, b) for a, s, b in zip(start, size, self.stop, strict=True))
            yield Box(start, tuple(b - a for a, b in zip(start, stop, strict=True)))


def trailing(slices: Iterable[slice | list[int]]) -> Any:
    """Index of the last axes of an array that may lead with channels: ``array[..., slices]``."""
    return (..., *slices)


T = TypeVar("T")

Reader = Callable[[Box], Array]
"""Reads one box of an image of any size; how images larger than memory are handed around."""


def read_extended(read: Callable[[Box], T], known: Box, box: Box) -> T:
    """Read ``box`` of an image that goes on beyond ``known`` by repeating its outermost voxels.

    What lies beyond an image is unknown, not background, unless it ends in background there: then
    that is what is repeated. Every consumer sees the same infinite image, whatever tile it asks
    for: that is what makes tiles join exactly at the border of the image too. Nothing but the part
    inside is read, or the voxels nearest to it.

    Args:
        read: Gives an array or a tensor, which may lead with channel axes; only boxes inside
            ``known`` are asked for.
        known: Of at least one voxel.
        box: Anywhere.
    """
    valid = box.nearest(known)
    part: Any = read(valid)
    for axis in range(box.dims):
        start, stop = box.start[axis], box.stop[axis]
        if (start, stop) != (valid.start[axis], valid.stop[axis]):
            low, high = valid.start[axis], valid.stop[axis] - 1
            places = [min(max(k, low), high) - low for k in range(start, stop)]
            part = part[trailing((places, *[slice(None)] * (box.dims - 1 - axis)))]
    out: T = part
    return out


def read_padded(read: Reader, shape: Sequence[int], box: Box, fill: float = 0.0) -> Array:
    """Read ``box`` where it overlaps an image of ``shape`` and ``fill`` elsewhere.

    For images of which it is known what lies beyond; others: :func:`read_extended`.
    """
    valid = box.clipped(shape)
    part = read(valid)
    lead = part.shape[: part.ndim - box.dims]
    if valid == box:
        return part
    out = np.full((*lead, *box.size), fill, dtype=part.dtype)
    if valid.voxels:  # a box wholly outside has an overlap of no size, and no place in itself
        out[trailing(valid.inside(box).slices)] = part
    return out
