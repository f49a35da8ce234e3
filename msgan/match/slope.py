"""Slope transfer: the fine detail of a coarse estimate, taken from the source."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor

from msgan.pyramid import BACKGROUND, halve, upsample
from msgan.types import Array, Box, Reader, Shape

SIGMA = 1.0
"""Of the Gaussian window that a slope is fitted in, voxels of the coarse grid."""

FLOORS = {"histogram": 1e-3, "spectrum": 1e-6}
"""Floors by how the source was matched. One whose spectrum was matched is the estimate but for its
resolution, so nothing speaks against carrying its faintest detail: 1e-6 is that of 1 HU."""

FLOOR = FLOORS["histogram"]
"""Added to the variance of the source: where it is flat, nothing is carried."""

MASKED = True
"""Whether blocks and windows are means of the foreground in them, or of all their voxels."""

HIDDEN = -2.0
"""Value of the source where it may not be seen: in labels and near them. It is no intensity."""

HOLE = {2: 7, 3: 20}
"""Foreground voxels of the 3^d about a background voxel from which it is a hole in the body: of a
face 9 of 27 are foreground, of an edge seen from inside 18."""

EPSILON = 1e-6


def reach(sigma: float = SIGMA) -> int:
    """Voxels of the coarse grid that a slope depends on, on every side."""
    return ceil(3 * sigma)


def rim(sigma: float = SIGMA) -> int:
    """Voxels of the coarse grid that a result needs around it: windows, and interpolation."""
    return reach(sigma) + 1


def halo(sigma: float = SIGMA) -> int:
    """Voxels of the fine source that a result depends on, on every side."""
    return 2 * rim(sigma) + 1


MARGIN = 1
"""Voxels around a label within which the source is hidden too: a border voxel is partly filled."""


def slope_transfer(
    source: Tensor,
    coarse: Tensor,
    *,
    sigma: float = SIGMA,
    floor: float = FLOOR,
    masked: bool = MASKED,
) -> Tensor:
    """An estimate on the coarse grid, with the detail that the source has on the fine one.

    ``up(y) + up(a) (x - up(half x))``, ``a`` being the slope of a linear regression of the
    estimate ``y`` on the halved source ``half x`` in a Gaussian window: guided upsampling (as the
    guided filter, He et al. 2013), with the sign of the slope: what is dark in the source and
    bright in the estimate stays so. Each voxel is one expression of a fixed neighbourhood, in
    single additions and multiplications, so tiles of any size agree; nothing is padded.

    A source that is :data:`HIDDEN` has no say: a block with such a voxel is left out of every
    window, its slope is 0, and its voxels are those of the enlarged estimate.

    Args:
        source: x in [-1, 1] or :data:`HIDDEN`, (B, 1, 2n, ...), float32 or float64.
        coarse: y in [-1, 1], (B, 1, n, ...).
        sigma: Of the window, voxels of the coarse grid.
        floor: Added to the variance of the source.
        masked: Background takes no part, as where it does each border of the image is a slope of
            its own: blocks and windows are means of the foreground in them.

    Returns:
        (B, 1, 2 (n - 2 rim), ...) in [-1, 1]; background of the source is background, but for
        single voxels inside the body (:data:`HOLE`): there the estimate is enlarged.
    """
    dims, window = source.ndim - 2, reach(sigma)
    blank = halve((source <= HIDDEN).to(source.dtype), dims) > 0
    hidden = _doubled(blank, dims)
    x = halve(source.clamp(min=BACKGROUND), dims)
    ones = torch.ones_like(x)
    share = halve((source > BACKGROUND).to(source.dtype), dims) if masked else ones
    y = torch.where(blank, coarse, _unmixed(coarse, share)) if masked else coarse
    x = _unmixed(x, share) if masked else x
    share = share.masked_fill(blank, 0)
    weight, *sums = (
        _windowed(values, sigma, dims)
        for values in (share, share * x, share * y, share * x * x, share * x * y)
    )
    mean_x, mean_y, mean_xx, mean_xy = (total / weight.clamp(min=EPSILON) for total in sums)
    slope = (mean_xy - mean_x * mean_y) / (mean_xx - mean_x * mean_x + floor)
    x, y, share, blank = (_cropped(v, window, dims) for v in (x, y, share, blank))
    seen = (share > 0).to(x.dtype)
    told = seen.masked_fill(blank, 1)  # there the estimate is, and its slope is 0
    level, rise = _enlarged((y, slope.masked_fill(blank, 0)), told, dims)
    (blurred,) = _enlarged((x,), seen, dims)
    holes = _holes(_cropped(source, 2 * rim(sigma) - 1, dims), dims)
    here, hidden = (_cropped(v, 2 * rim(sigma), dims) for v in (source, hidden))
    flat = hidden | holes
    carried = torch.where(flat, level, level + rise * (here - blurred)).clamp(-1, 1)
    return carried.masked_fill((here <= BACKGROUND) & ~flat, BACKGROUND)


def carried(
    source: Reader,
    coarse: Reader,
    *,
    sigma: float = SIGMA,
    floor: float = FLOOR,
    masked: bool = MASKED,
) -> Reader:
    """:func:`slope_transfer` of images of any size.

    Args:
        source: x in [-1, 1], of any box.
        coarse: y in [-1, 1], of any box of the grid that is twice as coarse.
        sigma: Of the window, voxels of the coarse grid.
        floor: Added to the variance of the source.
        masked: See :func:`slope_transfer`.

    Returns:
        A reader of any box in [-1, 1].
    """

    def read(box: Box) -> Array:
        inner = box.coarse(2)
        wide = inner.grown(rim(sigma))
        x, y = (
            torch.from_numpy(np.asarray(part, dtype=np.float64, order="C"))[None, None]
            for part in (source(wide.scaled(2)), coarse(wide))
        )
        fine = slope_transfer(x, y, sigma=sigma, floor=floor, masked=masked)
        return fine[0, 0].numpy().astype(np.float32)[box.inside(inner.scaled(2)).slices]

    return read


def hiding(source: Reader, labels: Reader, shape: Shape, margin: int = MARGIN) -> Reader:
    """The source without what is in labels, or within a margin of them.

    What is hidden is not there for anything that reads it, so that no pathology of the source can
    pass into a label. Where an image ends in background, nothing is hidden beyond.

    Args:
        source: In [-1, 1], of any box.
        labels: On the same grid, of any box; 0 where nothing is.
        shape: Of the image.
        margin: Voxels.

    Returns:
        A reader of any box, :data:`HIDDEN` there.
    """

    def read(box: Box) -> Array:
        image = source(box)
        wide = box.grown(margin)
        marks = np.asarray(labels(wide)) != 0
        if not marks.any():
            return image
        near = maximum_filter(marks, 2 * margin + 1)[box.inside(wide).slices]
        inside, ended = box.clipped(shape), image <= BACKGROUND
        if inside.voxels:
            ended[inside.inside(box).slices] = False
        near = near & ~ended
        return np.where(near, np.float32(HIDDEN), image)

    return read


def _holes(source: Tensor, dims: int) -> Tensor:
    """Whether a voxel is background that foreground surrounds; one voxel less on every side."""
    count = (source > BACKGROUND).to(torch.int8)
    for axis in range(count.ndim - dims, count.ndim):
        size = count.shape[axis] - 2
        count = sum(count.narrow(axis, k, size) for k in range(3))  # type: ignore[assignment]
    return (count >= HOLE[dims]) & (_cropped(source, 1, dims) <= BACKGROUND)


def _unmixed(values: Tensor, share: Tensor) -> Tensor:
    """Means of the foreground alone, from those of blocks of which ``share`` is foreground."""
    return ((values - BACKGROUND) / share.clamp(min=EPSILON) + BACKGROUND).clamp(-1, 1)


def _windowed(values: Tensor, sigma: float, dims: int) -> Tensor:
    """Gaussian means, without the voxels whose window is not whole."""
    around = reach(sigma)
    bell = np.exp(-0.5 * (np.arange(-around, around + 1) / sigma) ** 2)
    weights = (bell / bell.sum()).tolist()
    for axis in range(values.ndim - dims, values.ndim):
        size = values.shape[axis] - 2 * around
        total = weights[0] * values.narrow(axis, 0, size)
        for k, weight in enumerate(weights[1:], 1):
            # Two roundings: fused ones differ with a voxel's place in the tile.
            total = total + weight * values.narrow(axis, k, size)
        values = total
    return values


def _enlarged(images: Sequence[Tensor], seen: Tensor, dims: int) -> list[Tensor]:
    """Linear interpolation between voxels that are ``seen``, of each image: n -> 2n - 4."""
    weight = upsample(seen, dims).clamp(min=EPSILON)
    return [upsample(image * seen, dims) / weight for image in images]


def _cropped(x: Tensor, rim: int, dims: int) -> Tensor:
    for axis in range(x.ndim - dims, x.ndim):
        x = x.narrow(axis, rim, x.shape[axis] - 2 * rim)
    return x


def _doubled(x: Tensor, dims: int) -> Tensor:
    """Each voxel as the 2^d it covers."""
    for axis in range(x.ndim - dims, x.ndim):
        x = x.repeat_interleave(2, axis)
    return x
