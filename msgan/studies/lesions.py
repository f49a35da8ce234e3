"""Detects lesions in a T2 image with a fixed threshold, to count invented ones.

A lesion is brighter in T2 than brain, but so is the fluid in ventricles and sulci. What is to be
called healthy is therefore learnt from the training cohort outside its labels: how bright, and
where. Intensities are compared with the brain around them, so the scanner's scale and a smooth
coil sensitivity do not matter, and all lengths are mm, so the size of a voxel does not either.
Not in the paper, which shows pictures. Images are held in memory as a whole.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.volume import open_labels, open_volume
from msgan.studies.lesion_maps import Place, Search, distance, opened, relative
from msgan.types import Array, InputError


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
    search: Search


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
                near = distance(~drawn, image.grid) <= search.apart_mm
                bright = relative(image.whole(), brain, image.grid, search)
                healthy = np.median(bright[brain & ~near])
                middle = (healthy + np.median(bright[brain & drawn])) / 2
                place = Place.of(brain, image.grid, search.cells)
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
    usual = Place.of(brain, grid, search.cells).voxels(healthy.bright, grid)
    pieces, number = ndimage.label(opened(bright & brain & ~usual, search.radius_mm, grid))
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
