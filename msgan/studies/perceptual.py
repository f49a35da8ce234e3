"""Whether a result looks like the real image to a network that has seen photographs: LPIPS."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from msgan.config import Preparation
from msgan.data.intensity import IntensityMap
from msgan.metrics import lpips_of
from msgan.metrics.perceptual import Comparison
from msgan.studies.table import FOREGROUND, Pair, Result


@dataclass(frozen=True)
class Perceptual:
    """Column ``lpips`` of a table: :func:`msgan.metrics.lpips_of` of slices that show a region.

    Slices are compared as a whole, with what lies around the region, in the intensities that the
    other scores use (:class:`msgan.studies.table.Pair`): around the foreground the real image is
    background, so what a method draws there counts against it.

    Attributes:
        network: Compares slices: :class:`msgan.networks.lpips.Lpips`.
        intensity: The target's range that the methods write their results in.
        preparation: Decides foreground and range of the real image.
        region: Slices count that show a voxel of it; see :func:`msgan.studies.table.score_file`.
        every: Compare every so many-th slice only: on one CPU thread a pair of slices of 96^2 takes
            about half a second.
    """

    network: Comparison
    intensity: IntensityMap
    preparation: Preparation
    region: str = FOREGROUND
    every: int = 1

    def __call__(self, result: Result) -> dict[str, float]:
        """Score one result.

        Raises:
            InputError: The two images lie on different grids, there is no such region or nothing
                in it, a side of the image is below 16 voxels, or a file is at fault.
        """
        subject, target = result.subject, result.target
        with ExitStack() as stack:
            pair = Pair.open(result.path, subject, target, self.intensity, self.preparation, stack)
            found = lpips_of(
                pair.fake,
                pair.real(self.region),
                pair.image.grid.shape,
                self.network,
                data_range=2.0,
                black=-1.0,
                read_mask=pair.region(self.region),
                every=self.every,
            )
        return {"lpips": found}
