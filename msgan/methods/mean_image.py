"""The mean of the training images: what is known of a subject before anything is seen of it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from msgan.config import CascadeConfig, Preparation
from msgan.data.cohort import Cohort, prepare
from msgan.data.intensity import IntensityMap
from msgan.methods.untrained import Untrained, digest
from msgan.translate.generation import enlarged
from msgan.translate.maker import Making
from msgan.types import Array, Box, InputError, Reader

SIDE = 128
"""Voxels of the mean along each axis: people differ by more than a hundredth of their size."""


class MeanImage(Untrained):
    """A row without a network and without a sketch: the same picture for everybody.

    Differs: the papers have no such row. Chests are much alike, and so are brains; a method that
    draws from sketches must beat what needs none. Of the image itself only the foreground's box is
    used.

    Attributes:
        mean: In [-1, 1], :data:`SIDE` voxels along each axis whatever the shape of the image.
    """

    name = "mean image"

    def __init__(self, intensity: IntensityMap, preparation: Preparation, mean: Array) -> None:
        super().__init__(preparation, intensity)
        self.mean = mean
        self.dims = mean.ndim

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        source: str | None,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str] | None = None,
    ) -> MeanImage:
        """Average the ``target`` images of the training and validation subjects.

        Raises:
            InputError: None of them has one, or a file is at fault.
        """
        maps, cells = [], []
        for subject in cohort.with_modality(target):
            if subject.split == "test":
                continue
            with prepare(subject, target, config.preparation) as ready:
                maps.append(ready.intensity)
                side = (SIDE,) * len(ready.grid.shape)
                cells.append(enlarged(ready.read, ready.grid.shape, side)(Box.whole(side)))
        if not maps:
            raise InputError(f"no training subject has a {target} image")
        return cls(IntensityMap.median(maps), config.preparation, np.mean(cells, axis=0))

    def parameters(self) -> list[Any]:
        """The mean."""
        return [digest(self.mean)]

    def read(self, making: Making) -> Reader:
        """The mean on the image's grid."""
        full = making.subject.grid.shape
        return enlarged(lambda box: self.mean[box.slices], self.mean.shape, full)
