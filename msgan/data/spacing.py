"""Voxel sizes of a data set, read from headers alone."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from msgan.data.cohort import Cohort
from msgan.data.orientation import canonical_axes
from msgan.data.volume import open_volume
from msgan.types import InputError


@dataclass(frozen=True)
class Spacings:
    """Voxel sizes of the images of one modality, mm along each canonical axis.

    Attributes:
        modality: Of the images.
        sizes: Of each image, in the order of the subjects.
    """

    modality: str
    sizes: tuple[tuple[float, ...], ...]

    @property
    def mean(self) -> tuple[float, ...]:
        """Of all images alike, each axis by itself; to a tenth of a micrometre."""
        return tuple(round(fmean(axis), 4) for axis in zip(*self.sizes, strict=True))

    @property
    def smallest(self) -> tuple[float, ...]:
        """Along each axis."""
        return tuple(map(min, zip(*self.sizes, strict=True)))

    @property
    def largest(self) -> tuple[float, ...]:
        """Along each axis."""
        return tuple(map(max, zip(*self.sizes, strict=True)))


def spacings(cohort: Cohort, modality: str) -> Spacings:
    """Voxel sizes of a cohort's images: headers are read, voxels are not.

    The mean over the whole data set, tested subjects included, is what Ha et al. (2025, 3.1)
    resample to. State it as ``spacing_mm`` of :class:`msgan.config.Preparation`, whose axes are
    the same; where that is open, a run takes the median of its training subjects.

    Args:
        cohort: Subjects; those with such an image count.
        modality: Of the images.

    Raises:
        InputError: No subject has such an image, one does not open, or some have two axes and
            some three.
    """
    sizes: list[tuple[float, ...]] = []
    for subject in cohort.with_modality(modality):
        path = subject.images[modality]
        with open_volume(path, check=False) as volume:
            grid = volume.grid
        axes, _ = canonical_axes(grid)
        sizes.append(tuple(float(grid.spacing[a]) for a in axes))
        if len(sizes[-1]) != len(sizes[0]):
            raise InputError(f"{path}: image of {len(axes)} axes, others have {len(sizes[0])}")
    if not sizes:
        raise InputError(f"no subject has an image {modality}; there are {_known(cohort)}")
    return Spacings(modality, tuple(sizes))


def _known(cohort: Cohort) -> str:
    names = sorted({name for subject in cohort for name in subject.images})
    return ", ".join(names) or "none"
