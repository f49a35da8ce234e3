"""Which lesions a T2 image shows: a fixed threshold, for counting what a network has invented.

A lesion is brighter in T2 than brain, but so is the fluid in ventricles and sulci. What is to be
called healthy is therefore learnt from the training cohort outside its labels: how bright, and
where. Intensities are compared with the brain around them, so the scanner's scale and a smooth
coil sensitivity do not matter, and all lengths are mm, so the size of a voxel does not either.
Not in the paper, which shows pictures. Images are held in memory as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.orientation import canonical_axes, flip
from msgan.data.volume import open_labels, open_volume
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


@dataclass(frozen=True)
class Healthy:
    """What healthy T2 looks like.

    Attributes:
        level: Brighter voxels may be lesions; a multiple of the brain around them.
        bright: Bool, ``cells`` along each axis of the brain's box (in 3D left to right, back to
            front, down to up): where healthy people are brighter than ``level`` (fluid).
        search: How it was learnt, and how lesions are found.
    """

    level: float
    bright: Array = field(repr=False)
    search: Search = Search()


def healthy_level(
    cohort: Cohort, modality: str, preparation: Preparation, search: Search | None = None
) -> Healthy:
    """Learn from the training and validation subjects what is healthy, outside their labels.

    The level lies midway between the median of healthy and that of labelled voxels, the mean over
    subjects. A place of the brain's box is bright in health where more than ``search.often`` of the
    subjects who have no lesion there exceed the level.

    Args:
        cohort: Subjects of split ``test`` are left alone, and those without labels or lesions.
        modality: T2.
        preparation: States the threshold of the foreground, used where there is no mask.
        search: Lengths.

    Raises:
        InputError: No training subject has the image and a lesion, or a file is at fault.
    """
    search = search or Search()
    seen = []
    for subject in cohort.with_modality(modality):
        if subject.split == "test" or subject.labels is None:
            continue
        with ExitStack() as stack:
            image = stack.enter_context(open_volume(subject.images[modality]))
            drawn = stack.enter_context(open_labels(subject.labels, like=image.grid)).whole() > 0
            brain = brain_of(subject, modality, preparation)
            if (drawn & brain).any():
                near = _distance(~drawn, image.grid) <= search.apart_mm
                bright = relative(image.whole(), brain, image.grid, search)
                healthy = np.median(bright[brain & ~near])
                middle = (healthy + np.median(bright[brain & drawn])) / 2
                place = _Place.of(brain, image.grid, search.cells)
                cells = place.cells(np.where(near, np.nan, bright), image.grid)
                seen.append((float(middle), cells))
    if not seen:
        raise InputError(f"no training subject has a {modality} image and a lesion in its labels")
    level = float(np.mean([middle for middle, _ in seen]))
    known = np.sum([~np.isnan(cells) for _, cells in seen], axis=0)
    above = np.sum([cells > level for _, cells in seen], axis=0)
    return Healthy(level, (above > 0) & (above >= search.often * known), search)


def find_lesions(image: Array, brain: Array, grid: Grid, healthy: Healthy) -> Array:
    """The lesions of a T2 image: connected bright voxels where healthy people are not bright.

    Voxels above the level, without the places that are bright in health, opened with a ball;
    pieces large enough are lesions.

    Args:
        image: On ``grid``; any scale on which background is 0.
        brain: Bool, on ``grid``.
        grid: 2D or 3D.
        healthy: Of :func:`healthy_level`.

    Returns:
        uint8 or wider, shape of the image: 0, or the number of the lesion, 1 the largest.

    Raises:
        InputError: Shapes or numbers of axes differ, or there is no brain.
    """
    from scipy import ndimage

    search = healthy.search
    if not image.shape == brain.shape == grid.shape or healthy.bright.ndim != grid.dims:
        raise InputError(
            f"image of {image.shape}, brain of {brain.shape}, grid of {grid.shape}, "
            f"healthy map of {healthy.bright.ndim} axes: expected one shape"
        )
    bright = relative(image, brain, grid, search) > healthy.level
    usual = _Place.of(brain, grid, search.cells).voxels(healthy.bright, grid)
    pieces, number = ndimage.label(_opened(bright & brain & ~usual, search.radius_mm, grid))
    sizes = np.bincount(pieces.ravel(), minlength=number + 1)[1:]
    large = sizes * abs(np.linalg.det(grid.affine[:-1, :-1])) / 1000 >= search.least_ml
    order = [k for k in np.argsort(-sizes, kind="stable") if large[k]]
    names = np.zeros(number + 1, np.uint8 if len(order) < 256 else np.uint16)
    names[[k + 1 for k in order]] = np.arange(1, len(order) + 1)
    return np.asarray(names[pieces])


def lesions_in(
    path: str | os.PathLike[str],
    subject: Subject,
    modality: str,
    preparation: Preparation,
    healthy: Healthy,
) -> Array:
    """:func:`find_lesions` in a file: a real T2, or a translation on the grid of the source.

    Args:
        path: The T2 image.
        subject: Whose it is.
        modality: Image of the subject that says where the brain is, if there is no mask.
        preparation: States the threshold of the foreground.
        healthy: Of :func:`healthy_level`.

    Raises:
        InputError: The image does not lie on the subject's grid, or a file is at fault.
    """
    brain = brain_of(subject, modality, preparation)
    with open_volume(path) as image:
        return find_lesions(image.whole(), brain, image.grid, healthy)


def brain_of(subject: Subject, modality: str, preparation: Preparation) -> Array:
    """Bool: the subject's mask, or where there is none what of its image is foreground."""
    with ExitStack() as stack:
        image = stack.enter_context(open_volume(subject.images[modality]))
        if subject.mask is not None:
            return stack.enter_context(open_labels(subject.mask, like=image.grid)).whole() != 0
        return image.whole() > preparation.foreground


def count(found: Array) -> int:
    """How many lesions :func:`find_lesions` has found."""
    return int(found.max(initial=0))


def dice(asked: Array, found: Array) -> float:
    """2 |A and F| / (|A| + |F|) of what is not 0; 1 where both are empty.

    Raises:
        InputError: The shapes differ.
    """
    if asked.shape != found.shape:
        raise InputError(f"asked has shape {asked.shape}, found {found.shape}")
    a, f = asked != 0, found != 0
    both = int(a.sum() + f.sum())
    return 2 * int((a & f).sum()) / both if both else 1.0


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
class _Place:
    """The box of a brain, cut into cells, in canonical voxels."""

    start: Array
    size: Array
    count: int

    @classmethod
    def of(cls, brain: Array, grid: Grid, cells: int) -> _Place:
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


def _distance(outside: Array, grid: Grid) -> Array:
    """mm from each voxel to the nearest that is False."""
    from scipy import ndimage

    if outside.all():
        return np.full(outside.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(outside, sampling=grid.spacing))


def _opened(mask: Array, radius_mm: float, grid: Grid) -> Array:
    """Where a ball that fits into ``mask`` reaches; surfaces lie half a voxel from its centre."""
    half = min(grid.spacing) / 2
    padded = np.pad(mask, 1)
    core = (_distance(padded, grid) - half > radius_mm)[(slice(1, -1),) * mask.ndim]
    return (_distance(~core, grid) <= radius_mm + half) & mask if core.any() else core
