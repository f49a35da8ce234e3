"""Rows that bring the source to the target without a network, and keep its detail."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from msgan import pyramid
from msgan.config import CascadeConfig, Preparation
from msgan.data.cohort import Cohort, Prepared, prepare
from msgan.data.intensity import IntensityMap
from msgan.match import slope, spectrum
from msgan.match.spectrum import Spectrum
from msgan.methods.baselines import HistogramMatched
from msgan.methods.untrained import Untrained, digest
from msgan.translate.maker import Making
from msgan.types import Array, Box, InputError, Reader


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


@dataclass(frozen=True)
class SpectrumProfile:
    """What is learnt of the target's kernel, from training subjects only.

    Attributes:
        intensity: Its range in source units: the median over subjects, as in a cascade.
        spectra: Of each subject.
    """

    intensity: IntensityMap
    spectra: tuple[Spectrum, ...]

    @classmethod
    def of(cls, cohort: Cohort, target: str, preparation: Preparation) -> SpectrumProfile:
        """Learn it from the training and validation subjects that have a ``target`` image.

        Raises:
            InputError: None of them has one, or a file is at fault.
        """
        own, maps, spectra = preparation.updated(spacing_mm=None), [], []
        for subject in cohort.with_modality(target):
            if subject.split == "test":
                continue
            with prepare(subject, target, own) as ready:
                maps.append(ready.intensity)
                spectra.append(_spectrum(ready))
        if not maps:
            raise InputError(f"no training subject has a {target} image")
        return cls(IntensityMap.median(maps), tuple(spectra))


class SpectrumMatched(Untrained):
    """The source filtered to the noise and sharpness of the target's kernel.

    For CT: values are HU in both, and what differs is the reconstruction kernel. The gain of each
    radial frequency within slices is the root of the ratio of the target's and the source's power
    (:func:`msgan.match.spectrum.transfer`), never above 1. No network, no pairs. Values are
    filtered before they are cut off at the ends of the range: of noise cut off at one end the mean
    would be another.
    """

    name = "spectrum-matched"

    def __init__(self, profile: SpectrumProfile, preparation: Preparation) -> None:
        super().__init__(preparation.updated(spacing_mm=None), profile.intensity)
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
        """Measure the target's spectra; nothing is written to ``out``.

        Raises:
            InputError: See :meth:`SpectrumProfile.of`.
        """
        profile = SpectrumProfile.of(cohort, target, config.preparation)
        return cls(profile, config.preparation)

    def parameters(self) -> list[Any]:
        """The target's spectra."""
        return [digest(*(one.power for one in self.profile.spectra))]

    def read(self, making: Making) -> Reader:
        """The filtered image on its own grid."""
        ready = making.subject
        own = _spectrum(ready)
        gains = [spectrum.transfer(own, other) for other in self.profile.spectra]
        kernel = spectrum.kernel_of(np.exp(np.mean(np.log(gains), axis=0)))
        filtered = spectrum.filtered(ready.read_source, kernel)

        def read(box: Box) -> Array:
            return ready.intensity.to_unit(filtered(box))

        return read


def _spectrum(ready: Prepared) -> Spectrum:
    return Spectrum.of(ready.read, ready.grid.shape, ready.grid.spacing)
