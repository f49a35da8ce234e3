"""What an existing segmenter sees in synthetic and in real images (Ha et al. 2025, 3.4).

Without labels, the paper segments the synthetic and the real image of a person by one pre-trained
network, and compares the two segmentations by Dice. It does not say whether either is right.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import nan
from typing import Protocol

import numpy as np

from msgan.data.volume import open_volume
from msgan.metrics import dice_of
from msgan.studies.segmenter import Structure
from msgan.studies.table import Result
from msgan.types import Array, Box, InputError, Reader

ALL = "dice"
"""Column of the mean over structures."""


class Segmenter(Protocol):
    """A network that finds structures in an image.

    Those that exist: :class:`msgan.studies.pretrained.BrainMask`,
    :class:`msgan.studies.pretrained.TotalSegmentator`, and what
    :func:`msgan.studies.segmenter.train_segmenter` trains.
    """

    @property
    def structures(self) -> Mapping[str, Structure]:
        """The labels of each structure by its name; None: all but 0."""
        ...

    def segment(self, image: str | os.PathLike[str], stack: ExitStack) -> Reader:
        """Segment the image of a file.

        Args:
            image: The file.
            stack: Closes and removes what is of no use after it.

        Returns:
            Reads labels, of an integer type, on the grid of the file.

        Raises:
            InputError: The file is at fault, or what the segmenter needs is not there.
        """
        ...


@dataclass(frozen=True)
class Agreement:
    """Columns of a table: Dice of the segmentations of a result and of the real image.

    Attributes:
        segmenter: Segments both.
        columns: Structures that have a column of their own, ``NAME_dice``; beside them ``dice`` is
            the mean over all structures that are found in either image.
    """

    segmenter: Segmenter
    columns: tuple[str, ...] = ()
    _last: dict[str, Array] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = self.segmenter.structures
        if unknown := [name for name in self.columns if name not in known]:
            raise InputError(f"structure {unknown[0]!r} is none of {', '.join(known)}")

    def __call__(self, result: Result) -> dict[str, float]:
        """Score one result.

        The segmentation of the last real image is held in memory, as the methods of a table come
        one after the other.

        Returns:
            NaN for a structure that is found in neither image, which says nothing of them.

        Raises:
            InputError: The two images lie on different grids, or see :meth:`Segmenter.segment`.
        """
        real = result.subject.images[result.target]
        with ExitStack() as stack:
            fake = stack.enter_context(open_volume(result.path, check=False))
            image = stack.enter_context(open_volume(real, check=False))
            if not fake.grid.same_as(image.grid):
                raise InputError(
                    f"{result.path}: grid {fake.grid} is not the real image's, {image.grid}"
                )
            shape = image.grid.shape
            if str(real) not in self._last:
                read = self.segmenter.segment(real, stack)
                self._last.clear()
                self._last[str(real)] = read(Box.whole(shape))
            wanted = self._last[str(real)]
            found = self.segmenter.segment(result.path, stack)
            return self._scores(found, wanted)

    def _scores(self, found: Reader, wanted: Array) -> dict[str, float]:
        structures = self.segmenter.structures
        there = set(np.unique(wanted)) | set(np.unique(found(Box.whole(wanted.shape))))
        there.discard(0)
        dice = dice_of(found, lambda box: wanted[box.slices], wanted.shape, structures)
        seen = {
            name: dice[name] if (there if own is None else there & set(own)) else nan
            for name, own in structures.items()
        }
        values = [value for value in seen.values() if value == value]
        mean = float(np.mean(values)) if values else nan
        return {**{f"{name}_dice": seen[name] for name in self.columns}, ALL: mean}
