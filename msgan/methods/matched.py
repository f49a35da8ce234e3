"""The row that brings CT to the target's kernel without a network."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any, Self

from msgan.config import CascadeConfig, Preparation
from msgan.data.cohort import Cohort, prepare
from msgan.data.intensity import IntensityMap
from msgan.match.profile import TargetProfile
from msgan.methods.untrained import Untrained, digest
from msgan.translate.maker import Making
from msgan.types import InputError, Reader


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
