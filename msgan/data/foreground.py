"""The foreground of an image, found while the image passes through memory piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from msgan.data.histogram import COUNTED, KEYS, keys
from msgan.data.pieces import Visitor
from msgan.types import Array, Box, InputError, Reader, Shape

BLOCK_VOXELS = 1 << 21
"""Voxels read at once when a whole image is scanned (8 MiB of float32)."""

Scan = Callable[[Visitor], None]
"""Shows a whole image to a function, piece by piece (as :meth:`.volume.Volume.scan` does)."""


def blocks(shape: Sequence[int]) -> list[Box]:
    """Boxes that cover an image of ``shape``, each of bounded size whatever the image's."""
    side = round(BLOCK_VOXELS ** (1 / len(shape)))
    return list(Box.whole(shape).tiles((side,) * len(shape)))


def scanning(read: Reader, shape: Sequence[int]) -> Scan:
    """The scan of an image that is read block by block."""

    def scan(look: Visitor) -> None:
        for block in blocks(shape):
            look(block, np.asarray(read(block)))

    return scan


class Foreground:
    """What lies above a threshold, found in one scan: its box and its range.

    Args:
        shape: Of the image on its source grid.
        threshold: In source units; a voxel equal to it is background, and so is NaN.

    Attributes:
        least: Smallest finite value of the foreground; infinite where there is none.
        most: Largest finite value of the foreground.
        counts: Finite values of the foreground by the first bits of their float32
            (:func:`.histogram.keys`): a histogram that no single value can spoil.
    """

    def __init__(self, shape: Sequence[int], threshold: float = 0.0) -> None:
        self.shape: Shape = tuple(shape)
        self.threshold = threshold
        self.least, self.most = np.inf, -np.inf
        self.counts = np.zeros(KEYS, dtype=np.int64)
        self._low, self._high = list(shape), [0] * len(shape)

    def add(self, box: Box, values: Array) -> None:
        """Look at one piece of the image."""
        mask = values > self.threshold
        if not mask.any():
            return
        for axis in range(box.dims):
            others = tuple(a for a in range(box.dims) if a != axis)
            hits = np.flatnonzero(mask.any(axis=others)) + box.start[axis]
            self._low[axis] = min(self._low[axis], int(hits[0]))
            self._high[axis] = max(self._high[axis], int(hits[-1]) + 1)
        seen = self.values(values)
        if seen.size:
            self.least = min(self.least, float(seen.min()))
            self.most = max(self.most, float(seen.max()))
            for first in range(0, seen.size, COUNTED):
                self.counts += np.bincount(keys(seen[first : first + COUNTED]), minlength=KEYS)

    def values(self, part: Array) -> Array:
        """The finite values of a piece that are foreground, one after the other."""
        return part[(part > self.threshold) & (part < np.inf)]

    def box(self) -> Box:
        """The smallest box around the foreground.

        Raises:
            InputError: No voxel is above the threshold.
        """
        if any(a >= b for a, b in zip(self._low, self._high, strict=True)):
            raise InputError(
                f"no voxel of an image of shape {self.shape} is above the foreground "
                f"threshold {self.threshold:g}"
            )
        size = tuple(b - a for a, b in zip(self._low, self._high, strict=True))
        return Box(tuple(self._low), size)


def foreground_box(read: Reader, shape: Sequence[int], threshold: float = 0.0) -> Box:
    """The smallest box around all voxels above ``threshold``, reading block by block.

    Args:
        read: The image on its source grid, in source units.
        shape: Its shape.
        threshold: See :class:`Foreground`.

    Raises:
        InputError: No voxel is above the threshold.
    """
    seen = Foreground(shape, threshold)
    scanning(read, shape)(seen.add)
    return seen.box()
