"""Slope transfer: the fine detail of a coarse estimate, taken from the source."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
from scipy.ndimage import correlate1d

from msgan.pyramid import BACKGROUND, halve, upsample
from msgan.types import Array, Box, Reader

SIGMA = 1.0
"""Of the Gaussian window that a slope is fitted in, voxels of the coarse grid."""

FLOOR = 1e-3
"""Added to the variance of the source: where it is flat, nothing is carried."""


EPSILON = 1e-6


def reach(sigma: float = SIGMA) -> int:
    """Voxels of the coarse grid that a slope depends on, on every side."""
    return ceil(3 * sigma)


def halo(sigma: float = SIGMA) -> int:
    """Voxels of the fine source that a result depends on, on every side."""
    return 2 * (reach(sigma) + 1) + 1


def carried(
    source: Reader, coarse: Reader, *, sigma: float = SIGMA, floor: float = FLOOR
) -> Reader:
    """An estimate on the coarse grid, with the detail that the source has on the fine one.

    ``up(y) + up(a) (x - up(half x))``, ``a`` being the slope of a linear regression of the
    estimate ``y`` on the halved source ``half x`` in a Gaussian window: guided upsampling (as the
    guided filter, He et al. 2013), with the sign of the slope: what is dark in the source and
    bright in the estimate stays so. Background takes no part: blocks and windows are means of the
    foreground in them, or each border would be a slope of its own. Each voxel is one expression of
    a fixed neighbourhood (:func:`halo`), so tiles of any size agree.

    Args:
        source: x in [-1, 1], of any box.
        coarse: y in [-1, 1], of any box of the grid that is twice as coarse.
        sigma: Of the window, voxels of the coarse grid.
        floor: Added to the variance of the source.

    Returns:
        A reader of any box in [-1, 1]; background of the source is background.
    """
    around = reach(sigma)
    weights = _gaussian(sigma, around)

    def read(box: Box) -> Array:
        dims, inner = box.dims, box.coarse(2)
        near = inner.grown(1)  # what linear interpolation needs
        wide = near.grown(around)
        fine = np.asarray(source(wide.scaled(2)), dtype=np.float64)
        share = halve((fine > BACKGROUND).astype(np.float64), dims)
        x = _unmixed(halve(fine, dims), share)
        y = _unmixed(np.asarray(coarse(wide), dtype=np.float64), share)
        mean_x, mean_y, mean_xx, mean_xy = (
            _windowed(values, share, weights, around) for values in (x, y, x * x, x * y)
        )
        slope = (mean_xy - mean_x * mean_y) / (mean_xx - mean_x**2 + floor)
        kept = near.inside(wide).slices
        seen = (share[kept] > 0).astype(np.float64)
        level, rise, blurred = (_enlarged(v, seen) for v in (y[kept], slope, x[kept]))
        here = fine[inner.scaled(2).inside(wide.scaled(2)).slices]
        made = np.clip(level + rise * (here - blurred), -1, 1)
        made = np.where(here > BACKGROUND, made, BACKGROUND).astype(np.float32)
        return made[box.inside(inner.scaled(2)).slices]

    return read


def _gaussian(sigma: float, around: int) -> Array:
    bell = np.exp(-0.5 * (np.arange(-around, around + 1) / sigma) ** 2)
    return bell / bell.sum()


def _unmixed(values: Array, share: Array) -> Array:
    """Means of the foreground alone, from those of blocks of which ``share`` is foreground."""
    return np.clip((values - BACKGROUND) / np.maximum(share, EPSILON) + BACKGROUND, -1, 1)


def _windowed(values: Array, share: Array, weights: Array, around: int) -> Array:
    """Means over the foreground of a window, without the voxels whose window is not whole."""
    total, weight = values * share, share
    for axis in range(values.ndim):
        total, weight = correlate1d(total, weights, axis), correlate1d(weight, weights, axis)
    inner = (slice(around, -around),) * values.ndim
    return total[inner] / np.maximum(weight[inner], EPSILON)


def _enlarged(values: Array, seen: Array) -> Array:
    """Linear interpolation between voxels that are ``seen``: n -> 2n - 4."""
    dims = values.ndim
    total, weight = (
        upsample(torch.from_numpy(np.ascontiguousarray(v)), dims).numpy()
        for v in (values * seen, seen)
    )
    return np.asarray(total / np.maximum(weight, EPSILON))
