"""What a run keeps of its target's images, so that sources can be matched to them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msgan.data.cohort import Prepared
from msgan.documents import json_of
from msgan.match import histogram, spectrum
from msgan.match.spectrum import Spectrum
from msgan.paths import write_text
from msgan.types import Array, Box, InputError, Reader, Shape

FILE = "match.json"

SHARE = 0.05
"""Of the filter's weights that lie outside labels, the least that a mean is taken over."""

Kind = Literal["histogram", "spectrum"]


@dataclass(frozen=True)
class TargetProfile:
    """Statistics of a target domain, learnt from training subjects only.

    Attributes:
        kind: How sources are matched.
        quantiles: (1025,) intensity in [-1, 1] of each rank; empty for spectra.
        spectra: Of each subject; empty for a histogram.
        error: Mean squared error of what s0 draws of recoloured training images, of intensities in
            [-1, 1], once s0 is trained; None: not known.
    """

    kind: Kind
    quantiles: Array = field(repr=False)
    spectra: tuple[Spectrum, ...] = ()
    error: float | None = None

    @classmethod
    def of(cls, kind: Kind, images: Iterable[Prepared]) -> TargetProfile:
        """Of open images; labelled voxels do not count.

        Raises:
            InputError: A spectrum cannot be measured.
        """
        if kind == "spectrum":
            return cls(kind, np.empty(0), tuple(spectrum_of(image) for image in images))
        return cls(kind, histogram.mean_quantiles([_cumulative(image) for image in images]))

    def filter_for(
        self,
        read: Reader,
        shape: Shape,
        spacing: tuple[float, ...],
        labels: Reader | None = None,
    ) -> Array:
        """The filter that brings an image to the target's mean spectrum.

        Raises:
            InputError: Its spectrum cannot be measured.
        """
        own = Spectrum.of(read, shape, spacing, labels)
        gains = [spectrum.transfer(own, other) for other in self.spectra]
        return spectrum.kernel_of(np.exp(np.mean(np.log(gains), axis=0)))

    def filtered(self, image: Prepared, labels: Reader | None = None) -> Reader:
        """A prepared image with the target's mean spectrum, in [-1, 1], of any box.

        Values are filtered before they are cut off at the ends of the range: of noise cut off at
        one end the mean would be another.

        Args:
            image: In any unit.
            labels: Labels on its grid, of any box; what is labelled has no say outside, so that a
                filter carries nothing out of a label.

        Raises:
            InputError: Its spectrum cannot be measured.
        """
        kernel = self.filter_for(image.read, image.grid.shape, image.grid.spacing, labels)
        if labels is None:
            smooth = spectrum.filtered(image.read_source, kernel)
            return lambda box: image.intensity.to_unit(smooth(box))

        def seen(box: Box) -> Array:
            return np.asarray(labels(box) == 0, dtype=np.float32)

        def shown(box: Box) -> Array:
            return np.where(labels(box) == 0, image.read_source(box), 0)

        total, share = spectrum.filtered(shown, kernel), spectrum.filtered(seen, kernel)
        return lambda box: image.intensity.to_unit(total(box) / np.maximum(share(box), SHARE))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it below a folder."""
        content: dict[str, Any] = {
            "kind": self.kind,
            "quantiles": [round(float(v), 6) for v in self.quantiles],
            "spectra": [
                {"nyquist": one.nyquist, "power": [float(p) for p in one.power]}
                for one in self.spectra
            ],
        }
        if self.error is not None:
            content["error"] = self.error
        write_text(Path(folder) / FILE, json.dumps(content) + "\n")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TargetProfile:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: It is not there, or damaged.
        """
        path = Path(folder) / FILE
        try:
            content = json_of(path)
            quantiles = np.asarray(content["quantiles"], dtype=np.float64)
            spectra = tuple(
                Spectrum(np.asarray(one["power"], dtype=np.float64), float(one["nyquist"]))
                for one in content["spectra"]
            )
            kind: Kind = content["kind"]
            drawn = content.get("error")
            if drawn is not None and not 0 <= (drawn := float(drawn)) < np.inf:
                raise ValueError(f"error {drawn} is none")
            wanted = {"histogram": len(histogram.RANKS), "spectrum": 0}[kind]
            if quantiles.shape != (wanted,) or (kind == "spectrum") != bool(spectra):
                raise ValueError("its numbers do not fit its kind")
        except FileNotFoundError:
            raise InputError(f"{path}: no such file: the run needs it to match sources") from None
        except (KeyError, TypeError, ValueError) as error:
            why = str(error).removeprefix(f"{path}: ")
            raise InputError(f"{path}: not the profile of a target: {why}") from None
        return cls(kind, quantiles, spectra, drawn)


def _cumulative(image: Prepared) -> Array:
    return histogram.cumulative(image.read, image.grid.shape, _labels(image))


def spectrum_of(image: Prepared) -> Spectrum:
    """Of a prepared image; labelled voxels do not count."""
    return Spectrum.of(image.read, image.grid.shape, image.grid.spacing, _labels(image))


def _labels(image: Prepared) -> Reader | None:
    if not image.has_labels:
        return None
    return lambda box: np.asarray(image.read_labels(box))
