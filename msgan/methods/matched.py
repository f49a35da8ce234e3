"""Rows that bring the source to the target without a network, and keep its detail."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any, Self

from msgan import pyramid
from msgan.config import CascadeConfig, Preparation
from msgan.data.cohort import Cohort, Prepared, prepare
from msgan.data.intensity import IntensityMap
from msgan.match import slope
from msgan.match.profile import TargetProfile
from msgan.methods.baselines import HistogramMatched
from msgan.methods.untrained import Untrained, digest
from msgan.translate.maker import Making
from msgan.types import InputError, Reader


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


class SpectrumMatched(Untrained):
    """The source filtered to the noise and sharpness of the target's kernel.

    For CT: values are HU in both, and what differs is the reconstruction kernel. The gain of each
    radial frequency within slices is the root of the ratio of the target's and the source's power
    (:func:`msgan.match.spectrum.transfer`), never above 1. No network, no pairs.
    """

    name = "spectrum-matched"

    def __init__(
        self, profile: TargetProfile, intensity: IntensityMap, preparation: Preparation
    ) -> None:
        super().__init__(preparation.updated(spacing_mm=None), intensity)
        self.profile = profile

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        source: str | None,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Measure the target's spectra in training subjects; nothing is written to ``out``.

        Raises:
            InputError: None of them has a ``target`` image, or a file is at fault.
        """
        own = config.preparation.updated(spacing_mm=None)
        usable = [s for s in cohort.with_modality(target) if s.split != "test"]
        if not usable:
            raise InputError(f"no training subject has a {target} image")
        with ExitStack() as stack:
            images = [stack.enter_context(prepare(s, target, own)) for s in usable]
            profile = TargetProfile.of("spectrum", images)
            intensity = IntensityMap.median([image.intensity for image in images])
        return cls(profile, intensity, config.preparation)

    def parameters(self) -> list[Any]:
        """The target's spectra."""
        return [digest(*(one.power for one in self.profile.spectra))]

    def read(self, making: Making) -> Reader:
        """The filtered image on its own grid."""
        return self.profile.filtered(making.subject)
