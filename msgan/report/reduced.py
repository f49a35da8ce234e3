"""An image reduced to what a page can hold, read part by part."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import numpy as np

from msgan.types import Array, Box, Reader, Shape

SLAB = 1 << 23
"""Voxels that are read at once, unless a few slices have more."""


def factors_for(shape: Sequence[int], spacing: Sequence[float], most: int) -> Shape:
    """Voxels along each axis to be averaged, so that at most ``most`` are left.

    Axes with small voxels are reduced first, so that what is left is about as long as wide.

    Example:
        >>> factors_for((64, 64, 16), (1, 1, 4), 16 * 16 * 16)
        (4, 4, 1)
        >>> factors_for((64, 64), (1, 1), 4096)
        (1, 1)
    """
    factors = [1] * len(shape)
    while prod(ceil(n / f) for n, f in zip(shape, factors, strict=True)) > most:
        sizes = [
            s * f if f < n else np.inf for s, f, n in zip(spacing, factors, shape, strict=True)
        ]
        factors[int(np.argmin(sizes))] += 1
    return tuple(factors)


def reduced(read: Reader, shape: Sequence[int], factors: Sequence[int]) -> Array:
    """Means over blocks of ``factors`` voxels, those at the ends over what they hold.

    Args:
        read: The image; it is read in slabs, so it may be of any size.
        shape: Of the image.
        factors: Along each axis; all 1 is the image itself.

    Returns:
        float32, ``ceil(n / factor)`` voxels along each axis.
    """
    first, rest = factors[0], tuple(shape[1:])
    rows = first * max(1, SLAB // (first * prod(rest)))
    parts = []
    for start in range(0, shape[0], rows):
        box = Box((start, *(0 for _ in rest)), (min(rows, shape[0] - start), *rest))
        part = np.asarray(read(box), dtype=np.float32)
        for axis, factor in enumerate(factors):
            part = _means(part, axis, factor)
        parts.append(part)
    return np.concatenate(parts)


def _means(image: Array, axis: int, factor: int) -> Array:
    if factor == 1:
        return image
    starts = np.arange(0, image.shape[axis], factor)
    counts = np.diff([*starts, image.shape[axis]]).astype(np.float32)
    sums = np.add.reduceat(image, starts, axis=axis, dtype=np.float32)
    return np.asarray(sums / counts.reshape([-1 if a == axis else 1 for a in range(image.ndim)]))
