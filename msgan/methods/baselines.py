"""The rows a trained method must beat: the source as it is, and curves on its intensities.

No network: each voxel of the result depends on the same voxel of the source and on histograms.
Differs: the papers' tables have the untouched source only. Matched histograms say how much of a
score is grey values, and the inverted curve is the simplest guess of how T1 relates to T2.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Self

from msgan import pyramid
from msgan.config import CascadeConfig, Preparation
from msgan.data.cohort import Cohort, Prepared, prepare
from msgan.data.intensity import IntensityMap
from msgan.match import histogram, slope
from msgan.methods.matched import SpectrumMatched
from msgan.methods.untrained import Untrained, digest
from msgan.runs.run import Run
from msgan.translate.maker import Making
from msgan.types import Array, InputError, Reader


@dataclass(frozen=True)
class Profile:
    """How the target domain's intensities are distributed, learnt from training subjects only.

    Attributes:
        intensity: Its range in source units: the median over subjects, as in a cascade.
        quantiles: (1025,) intensity in [-1, 1] of each rank among foreground voxels, the mean
            over subjects.
    """

    intensity: IntensityMap
    quantiles: Array = field(repr=False)

    @classmethod
    def of(cls, cohort: Cohort, target: str, preparation: Preparation) -> Profile:
        """Learn it from the training and validation subjects that have a ``target`` image.

        Raises:
            InputError: None of them has one, or a file is at fault.
        """
        own = _own_grid(preparation)
        maps, shares = [], []
        for subject in cohort.with_modality(target):
            if subject.split == "test":
                continue
            with prepare(subject, target, own) as ready:
                maps.append(ready.intensity)
                shares.append(histogram.cumulative(ready.read, ready.grid.shape))
        if not maps:
            raise InputError(f"no training subject has a {target} image")
        return cls(IntensityMap.median(maps), histogram.mean_quantiles(shares))


class Curve(Untrained):
    """A row whose result depends voxel by voxel on the source, on its own grid."""

    def __init__(self, profile: Profile, preparation: Preparation) -> None:
        super().__init__(_own_grid(preparation), profile.intensity)
        self.profile = profile

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        source: str | None,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """Learn the target's range and distribution; nothing is written to ``out``.

        Raises:
            InputError: No training subject has a ``target`` image, or a file is at fault.
        """
        return cls(Profile.of(cohort, target, config.preparation), config.preparation, **options)


class Source(Curve):
    """The source image itself, its own range shown as the target's."""

    name = "source"

    def parameters(self) -> list[Any]:
        """None."""
        return []

    def read(self, making: Making) -> Reader:
        """The image on its own grid."""
        return making.subject.read


class HistogramMatched(Curve):
    """The source with the target domain's distribution of intensities.

    The curve is monotonic: ranks stay (``inverted``: are turned round), background stays
    background. The target's distribution is that of the training subjects, never the test
    subject's own image.
    """

    def __init__(
        self, profile: Profile, preparation: Preparation, *, inverted: bool = False
    ) -> None:
        super().__init__(profile, preparation)
        self.name = "inverted, matched" if inverted else "histogram-matched"
        self.inverted = inverted

    def parameters(self) -> list[Any]:
        """Direction and distribution."""
        return [self.inverted, digest(self.profile.quantiles)]

    def read(self, making: Making) -> Reader:
        """The image with matched intensities on its own grid."""
        return self.matched(making.subject)

    def matched(self, ready: Prepared) -> Reader:
        """A prepared image with matched intensities, of any box."""
        shares = histogram.cumulative(ready.read, ready.grid.shape)
        target = self.profile.quantiles
        return histogram.matched(ready.read, shares, target, inverted=self.inverted)


class SlopeTransfer(HistogramMatched):
    """The matched source at half the resolution, with the source's own detail on top.

    A curve on intensities makes noise and steps as steep as the curve is; the slope of a local
    regression (:func:`msgan.match.slope.carried`) carries what the source shows in fine detail at
    the steepness that tissue around has. No network, no pairs.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.name = f"{self.name} + slope transfer"

    def matched(self, ready: Prepared) -> Reader:
        """A prepared image, matched at half the resolution, with its detail."""
        dims = len(ready.grid.shape)
        return slope.carried(ready.read, pyramid.halved(super().matched(ready), dims))


def baselines(
    cohort: Cohort, target: str, preparation: Preparation
) -> dict[str, Source | HistogramMatched]:
    """The baselines of a table, by name.

    Args:
        cohort: The distribution of the target is learnt from its training subjects.
        target: Modality to translate to.
        preparation: Decides foreground and intensity range; images stay on their own grid.
    """
    profile = Profile.of(cohort, target, preparation)
    made = (
        Source(profile, preparation),
        HistogramMatched(profile, preparation),
        HistogramMatched(profile, preparation, inverted=True),
        SlopeTransfer(profile, preparation),
        SlopeTransfer(profile, preparation, inverted=True),
    )
    return {row.name: row for row in made}


def yardsticks(run: Run, preparation: Preparation, like: Cohort) -> dict[str, Untrained]:
    """The baselines of a translation by a run, by name: the source as it is, and matched.

    It is matched to what the run keeps of its training subjects. A run that keeps nothing of them
    leaves the images in ``like``, which the names then say.

    Args:
        run: Trained.
        preparation: Of the source.
        like: Subjects with the target image, of no split: the real images themselves.

    Raises:
        InputError: What sources are matched to is damaged, or an image is.
    """
    kind = run.config.guidance.match
    known = run.profile if kind != "none" else None
    own = Profile.of(like, run.target, preparation).quantiles if known is None else known.quantiles
    profile = Profile(run.intensity, own)
    made: list[Untrained] = [Source(profile, preparation)]
    if known is not None and kind == "spectrum":
        made.append(SpectrumMatched(known, run.intensity, preparation))
        return {row.name: row for row in made}
    if run.intensity.unit != "HU":  # which mean the same in both
        made += [HistogramMatched(profile, preparation, inverted=way) for way in (False, True)]
    more = " to REAL" if known is None else ""
    return {f"{row.name}{more * (row is not made[0])}": row for row in made}


def _own_grid(preparation: Preparation) -> Preparation:
    """The same without resampling: these rows need no common spacing."""
    return preparation.updated(spacing_mm=None)
