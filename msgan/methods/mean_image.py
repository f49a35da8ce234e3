"""The mean of the training images: what is known of a subject before anything is seen of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.intensity import IntensityMap
from msgan.data.volume import write_volume
from msgan.methods.small_gan import enlarged
from msgan.types import Array, Box, InputError

SIDE = 128
"""Voxels of the mean along each axis: people differ by more than a hundredth of their size."""


@dataclass(frozen=True)
class MeanImage:
    """A row without a network and without a sketch: the same picture for everybody.

    Differs: the papers have no such row. Chests are much alike, and so are brains; a method that
    draws from sketches must beat what needs none.

    Attributes:
        intensity: The target's range in source units: the median over subjects, as in a cascade.
        mean: In [-1, 1], :data:`SIDE` voxels along each axis whatever the shape of the image.
    """

    intensity: IntensityMap
    preparation: Preparation
    mean: Array = field(repr=False)

    name = "mean image"

    @classmethod
    def fit(cls, cohort: Cohort, target: str, preparation: Preparation) -> MeanImage:
        """Average the ``target`` images of the training and validation subjects.

        Raises:
            InputError: None of them has one, or a file is at fault.
        """
        maps, cells = [], []
        for subject in cohort.with_modality(target):
            if subject.split == "test":
                continue
            with prepare(subject, target, preparation) as ready:
                maps.append(ready.intensity)
                side = (SIDE,) * len(ready.grid.shape)
                cells.append(enlarged(ready.read, ready.grid.shape, side)(Box.whole(side)))
        if not maps:
            raise InputError(f"no training subject has a {target} image")
        low, high = (float(np.median([getattr(m, end) for m in maps])) for end in ("low", "high"))
        return cls(IntensityMap(low, high, maps[0].unit), preparation, np.mean(cells, axis=0))

    def translate(
        self,
        subject: Subject | str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        modality: str | None = None,
    ) -> None:
        """Write the mean on the image's own grid, in the target's unit.

        Of the image itself only the foreground's box is used.

        Raises:
            InputError: The image cannot be used, or has another number of axes.
        """
        with prepare(subject, modality, self.preparation) as ready:
            full = ready.grid.shape
            if len(full) != self.mean.ndim:
                raise InputError(
                    f"{ready.name}: image of {len(full)} axes, the mean has {self.mean.ndim}"
                )
            read = enlarged(lambda box: self.mean[box.slices], self.mean.shape, full)
            write_volume(
                out,
                ready.grid.source,
                ready.to_source(read, self.intensity),
                unit=self.intensity.unit,
                generated=True,
            )
