"""Bright regions of a T2 image and their position in the brain, in mm at any voxel size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msgan.data.grid import Grid
from msgan.data.orientation import canonical_axes, flip
from msgan.types import Array, InputError


@dataclass(frozen=True)
class Search:
    """How lesions are looked for.

    Attributes:
        around_mm: Standard deviation of the Gaussian that says how bright brain is nearby.
        brain: Range of intensities, as multiples of that, which count as brain.
        smooth_mm: Standard deviation of the Gaussian against noise and thin sulci.
        radius_mm: What a ball (2D: disc) of this radius does not fit into is no lesion: sulci.
        least_ml: Smaller pieces are no lesions (2D: of a slice 1 mm thick).
        apart_mm: Voxels as near to a label are not used to learn what is healthy.
        cells: Of the map of bright places, along each axis of the brain's box.
        often: Share of people that are bright at a place from which on it counts as healthy.
    """

    around_mm: float = 25.0
    brain: tuple[float, float] = (0.5, 1.35)
    smooth_mm: float = 3.0
    radius_mm: float = 5.0
    least_ml: float = 2.0
    apart_mm: float = 8.0
    cells: int = 48
    often: float = 0.1

    def __post_init__(self) -> None:
        lengths = (self.around_mm, self.smooth_mm, self.radius_mm, self.least_ml, self.apart_mm)
        if min(lengths) <= 0 or self.cells < 2 or not 0 < self.often <= 1:
            raise InputError(f"{self}: expected positive lengths, 2 cells or more, often in (0, 1]")


def relative(image: Array, brain: Array, grid: Grid, search: Search) -> Array:
    """Intensity as a multiple of the brain around it, smoothed; 0 outside the brain. float32.

    What counts as brain is what is neither fluid nor lesion, found in three turns from the median.

    Raises:
        InputError: There is no brain, or it is not brighter than 0.
    """
    if not brain.any():
        raise InputError("brain mask has no voxel")
    middle = float(np.median(image[brain]))
    if not middle > 0:
        raise InputError(f"median intensity in the brain is {middle:g}: expected more than 0")
    ratio = np.where(brain, image / np.float32(middle), 0).astype(np.float32)
    for _ in range(3):
        like = brain & (ratio > search.brain[0]) & (ratio < search.brain[1])
        near = _mean(image, like, grid, search.around_mm)
        ratio = np.where(brain & (near > 0), image / np.maximum(near, 1e-6 * middle), 0)
    return np.where(brain, _mean(ratio, brain, grid, search.smooth_mm), 0).astype(np.float32)


@dataclass(frozen=True)
class Place:
    """The box of a brain, cut into cells, in canonical voxels.

    Attributes:
        start: First voxel, (d,).
        size: Voxels along each axis, (d,).
        count: Cells along each axis.
    """

    start: Array
    size: Array
    count: int

    @classmethod
    def of(cls, brain: Array, grid: Grid, cells: int) -> Place:
        """The box of ``brain``, bool on ``grid``; InputError where it has no voxel."""
        places = np.argwhere(_canonical(brain, grid))
        if not len(places):
            raise InputError("brain mask has no voxel")
        low = places.min(axis=0)
        return cls(low, places.max(axis=0) + 1 - low, cells)

    def cells(self, values: Array, grid: Grid) -> Array:
        """The nearest voxel of each cell's centre."""
        share = (np.arange(self.count) + 0.5) / self.count
        index = [
            a + np.floor(share * n).astype(int) for a, n in zip(self.start, self.size, strict=True)
        ]
        return np.asarray(_canonical(values, grid)[np.ix_(*index)])

    def voxels(self, cells: Array, grid: Grid) -> Array:
        """The cell of each voxel, on the grid."""
        axes, flips = canonical_axes(grid)
        shape: Sequence[int] = [grid.shape[a] for a in axes]
        index = [
            np.clip((np.arange(n) + 0.5 - a) / s * self.count, 0, self.count - 1).astype(int)
            for n, a, s in zip(shape, self.start, self.size, strict=True)
        ]
        back = flip(cells[np.ix_(*index)], flips)
        return np.ascontiguousarray(back.transpose(np.argsort(axes)))


def _canonical(values: Array, grid: Grid) -> Array:
    axes, flips = canonical_axes(grid)
    return flip(values.transpose(axes), flips)


def _mean(image: Array, inside: Array, grid: Grid, sigma_mm: float) -> Array:
    """Gaussian mean over the voxels ``inside``; 0 where there is none near.

    A wide Gaussian is taken of blocks of a quarter of its width: the same within a per cent, in
    time that does not grow with the width in voxels.
    """
    from scipy import ndimage

    blocks = [max(1, int(sigma_mm / 4 / s)) for s in grid.spacing]
    sigma = [sigma_mm / s / n for s, n in zip(grid.spacing, blocks, strict=True)]
    weight = ndimage.gaussian_filter(_blocks(inside, blocks), sigma, truncate=3)
    total = ndimage.gaussian_filter(_blocks(np.where(inside, image, 0), blocks), sigma, truncate=3)
    mean = np.where(weight > 1e-4, total / np.maximum(weight, 1e-4), 0)
    if max(blocks) == 1:
        return mean
    steps = [1 / n for n in blocks]
    return np.asarray(
        ndimage.affine_transform(
            mean,
            np.array(steps),
            [s / 2 - 0.5 for s in steps],
            output_shape=image.shape,
            order=1,
            mode="nearest",
        )
    )


def _blocks(values: Array, sides: Sequence[int]) -> Array:
    """Means over blocks of ``sides`` voxels, 0 beyond the image; float32."""
    pads = [(0, -n % side) for n, side in zip(values.shape, sides, strict=True)]
    whole = np.pad(values.astype(np.float32), pads)
    split = [
        n for total, side in zip(whole.shape, sides, strict=True) for n in (total // side, side)
    ]
    return np.asarray(whole.reshape(split).mean(axis=tuple(range(1, 2 * values.ndim, 2))))


def distance(outside: Array, grid: Grid) -> Array:
    """mm from each voxel to the nearest that is False."""
    from scipy import ndimage

    if outside.all():
        return np.full(outside.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(outside, sampling=grid.spacing))


def opened(mask: Array, radius_mm: float, grid: Grid) -> Array:
    """Where a ball that fits into ``mask`` reaches; surfaces lie half a voxel from its centre."""
    half = min(grid.spacing) / 2
    padded = np.pad(mask, 1)
    core = (distance(padded, grid) - half > radius_mm)[(slice(1, -1),) * mask.ndim]
    return (distance(~core, grid) <= radius_mm + half) & mask if core.any() else core
