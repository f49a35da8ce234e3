"""Separable resampling of one tile at a time; any tiling gives the same values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log, prod, sqrt

import numpy as np

from msgan.types import Array, Box, Reader, read_extended

SAME = 1e-3
"""Spacings that differ by less than this share are the same: headers are rounded."""

PIECE_VOXELS = 1 << 21
"""Most input voxels that are resampled at once (8 MiB of float32); a few temporaries add to it."""

FAR = 1 << 40
"""Voxels; farther than any image reaches."""

FWHM = 2 * sqrt(2 * log(2))
"""Full width at half maximum of a Gaussian of standard deviation 1."""


def nearly(spacing: float, other: float) -> bool:
    """Whether two spacings are so close that nothing is to be interpolated."""
    return abs(spacing / other - 1) < SAME


@dataclass(frozen=True)
class Axis:
    """How output voxels along one axis find their input: ``input = ratio * output + offset``.

    Attributes:
        ratio: Input voxels in an output voxel.
        offset: Input index of output voxel 0.
        size: Input voxels; beyond the first and last centre those are repeated.
        first: First output voxel with a value; the fill value stands before it.
        last: One past the last output voxel with a value.
    """

    ratio: float
    offset: float
    size: int
    first: int
    last: int

    @property
    def extended(self) -> Axis:
        """The same with a value everywhere: the outermost input voxels are repeated."""
        return replace(self, first=-FAR, last=FAR)

    @property
    def shift(self) -> int | None:
        """The integer shift where the grids coincide, else None."""
        if self.ratio == 1 and self.offset == int(self.offset):
            return int(self.offset)
        return None

    @property
    def kernel(self) -> Array:
        """Smoothing before input voxels are merged; ``[1]`` where voxels do not get larger.

        A Gaussian whose width, added to that of an input voxel, is that of an output voxel
        (Cardoso et al., 2015, scale factor point spread function), cut off at four sigma.
        """
        if self.ratio <= 1:
            return np.ones(1)
        sigma = sqrt(self.ratio**2 - 1) / FWHM
        radius = ceil(4 * sigma)
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        return weights / weights.sum()

    def taps(self, start: int, stop: int, order: int) -> tuple[Array, Array]:
        """Input indices and weights, both (output voxels, taps), of outputs start..stop."""
        centre = self.ratio * np.arange(start, stop) + self.offset
        if order == 0:
            # Coordinates on the edge between two voxels must not fall by rounding error.
            index = np.floor(centre + 0.5 + 1e-6).astype(np.int64)[:, None]
            return index.clip(0, self.size - 1), np.ones_like(index, dtype=np.float32)
        below = np.floor(centre)
        part = (centre - below)[:, None]
        kernel = self.kernel
        radius = kernel.size // 2
        index = below.astype(np.int64)[:, None] + np.arange(-radius, radius + 2)
        weights = (1 - part) * np.append(kernel, 0.0) + part * np.insert(kernel, 0, 0.0)
        return index.clip(0, self.size - 1), weights.astype(np.float32)


def resample(read: Reader, axes: Sequence[Axis], box: Box, order: int, fill: float) -> Array:
    """Read ``box`` of the output grid from an input image.

    Every output voxel is the same sum in the same order whatever box it is read in, so tiles
    agree to the last bit. A box with much input is put together of tiles.

    Args:
        read: Input image; only boxes inside it are asked for.
        axes: One for each axis of the image.
        box: Output voxels wanted, also partly outside.
        order: 1: linear (float32); 0: nearest (keeps the type).
        fill: Value outside ``first..last``.
    """
    if order not in (0, 1):
        raise ValueError(f"interpolation order {order} is neither 0 (nearest) nor 1 (linear)")
    start = tuple(max(a, x.first) for a, x in zip(box.start, axes, strict=True))
    stop = tuple(min(b, x.last) for b, x in zip(box.stop, axes, strict=True))
    if any(a >= b for a, b in zip(start, stop, strict=True)):
        return np.full(box.size, fill, dtype=np.float32 if order else _dtype(read, box.dims))
    valid = Box(start, tuple(b - a for a, b in zip(start, stop, strict=True)))
    out = None
    for tile in valid.tiles(_sides(axes, valid.size)):
        part = _tile(read, axes, tile, order)
        if tile == box:
            return np.ascontiguousarray(part)
        if out is None:
            out = np.full(box.size, fill, dtype=part.dtype)
        out[tile.inside(box).slices] = part
    assert out is not None
    return out


def _sides(axes: Sequence[Axis], size: Sequence[int]) -> tuple[int, ...]:
    """Sides of the tiles of a box of ``size`` whose input is not too much for one piece."""
    sides = list(size)
    if all(axis.shift is not None for axis in axes):
        return tuple(sides)

    def needed(k: int) -> float:
        return sides[k] * axes[k].ratio + axes[k].kernel.size + 1

    while max(sides) > 1 and prod(map(needed, range(len(sides)))) > PIECE_VOXELS:
        k = max(range(len(sides)), key=lambda k: (sides[k] > 1, needed(k)))
        sides[k] = -(-sides[k] // 2)
    return tuple(sides)


def _tile(read: Reader, axes: Sequence[Axis], box: Box, order: int) -> Array:
    """``box`` of the output grid, all of which has values."""
    taps: dict[int, tuple[Array, Array]] = {}
    low, high = list(box.start), list(box.stop)
    for k, axis in enumerate(axes):
        if axis.shift is not None:
            low[k], high[k] = low[k] + axis.shift, high[k] + axis.shift
        else:
            index, weights = axis.taps(low[k], high[k], order)
            low[k], high[k] = int(index.min()), int(index.max()) + 1
            taps[k] = index - low[k], weights
    needed = Box(tuple(low), tuple(b - a for a, b in zip(low, high, strict=True)))
    known = Box.whole([axis.size for axis in axes])
    part = np.asarray(read_extended(read, known, needed))
    if order:
        part = part.astype(np.float32, copy=False)
    # Axes that lose most voxels first: the others then have less to do.
    for k in sorted(taps, key=lambda k: (-axes[k].ratio, k)):
        part = _along(part, k, *taps[k]) if order else part.take(taps[k][0][:, 0], axis=k)
    return part


def _along(part: Array, axis: int, index: Array, weights: Array) -> Array:
    """Weighted sum of voxels of ``part`` along one axis."""
    side = [1] * part.ndim
    side[axis] = -1
    out = part.take(index[:, 0], axis=axis) * weights[:, 0].reshape(side)
    for tap in range(1, index.shape[1]):
        out += part.take(index[:, tap], axis=axis) * weights[:, tap].reshape(side)
    return out


def _dtype(read: Reader, dims: int) -> np.dtype:
    """Type of the image's values, from its first voxel."""
    return np.asarray(read(Box((0,) * dims, (1,) * dims))).dtype
