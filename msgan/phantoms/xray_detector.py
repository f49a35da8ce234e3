"""From attenuation to the X-ray image: quanta, noise, light spread, and bright bone on black.

Logarithms and exponentials are written out as sums, products and quotients: those of libraries
may differ in the last bit with the length of an array, and then tiles would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msgan.phantoms.lattice import white
from msgan.types import Array, Box, InputError, Reader, Shape

WATER_PER_MM = 0.02059
"""Attenuation of water at 60 keV, about the effective energy of a chest X-ray of 120 kV
(0.2059 cm2/g; Hubbell and Seltzer, NISTIR 5632, 1995)."""

LEVELS = 4095
"""Value of what lets nothing through: pictures have twelve bits."""


def per_mm(hu: float) -> float:
    """Attenuation of a value in HU, 1/mm: their definition, at one energy for all tissues."""
    return WATER_PER_MM * (1 + hu / 1000)


def decay(x: Array) -> Array:
    """exp(-x) of float32 from -80 to 80, to a few parts in ten million."""
    turns = np.rint(x * np.float32(1 / np.log(2)))
    # ln 2 in two parts: the first has few digits, so that its multiples are exact.
    rest = turns * np.float32(0.693359375) - x - turns * np.float32(2.12194440e-4)
    out = rest * np.float32(1 / 5040) + np.float32(1 / 720)
    for factorial in (120, 24, 6, 2, 1, 1):
        out = out * rest + np.float32(1 / factorial)
    return np.ldexp(out, -turns.astype(np.int32))


def logarithm(x: Array) -> Array:
    """The natural logarithm of positive float32, to a few parts in ten million."""
    share, turns = np.frexp(x)
    middle = np.float32(np.sqrt(0.5))
    z = (share - middle) / (share + middle)
    square = z * z
    out = square * np.float32(2 / 7) + np.float32(2 / 5)
    out = out * square + np.float32(2 / 3)
    out = out * square + np.float32(2)
    return out * z + (turns.astype(np.float32) - np.float32(0.5)) * np.float32(np.log(2))


@dataclass(frozen=True)
class Detector:
    """A flat panel behind a grid that stops scattered radiation, and how its values are shown.

    A radiograph is not shown linear in attenuation: a sigmoid curve, as a film has and as DICOM
    provides for (PS3.3, C.11.2.1.3.1), gives the lungs most of the greys.

    Attributes:
        quanta_mm2: Detected without a patient. A chest is exposed to a few microgray at the
            detector, 30,174 quanta/mm2 each for a beam like this (RQA5 of IEC 62220-1).
        blur_mm: Standard deviation of the light's spread in the scintillator.
        centre: Attenuation shown as half of white.
        width: Range of attenuation in which most greys are.
        black: Attenuation up to this is exactly 0, and so is air with its noise.
    """

    quanta_mm2: float = 1.0e6
    blur_mm: float = 0.15
    centre: float = 3.0
    width: float = 5.0
    black: float = 0.2

    def __post_init__(self) -> None:
        if not (self.quanta_mm2 > 0 and 0 <= self.blur_mm <= 5):
            raise InputError(
                f"{self.quanta_mm2:g} quanta/mm2, blur of {self.blur_mm} mm: "
                "expected above 0 (inf: no noise), and 0 to 5"
            )
        if not 0 <= self.black < self.centre <= 10 or not 0.5 <= self.width <= 20:
            raise InputError(
                f"greys of attenuation {self.centre} with width {self.width}, black up to "
                f"{self.black}: expected black of 0 or more < centre <= 10, width 0.5 to 20"
            )

    def image(
        self,
        transmitted: Reader,
        shape: Shape,
        spacing: Sequence[float],
        seed: int,
        box: Box,
    ) -> Array:
        """A box of the picture: the measured attenuation as greys of 0 to :data:`LEVELS`.

        The noise is that of counting: its variance is the number of quanta, its values are those
        of :func:`msgan.phantoms.lattice.white`. Light spreads after quanta were counted, so
        the noise is blurred with the image. Scatter and electronic noise are left out.

        Args:
            transmitted: Share of the radiation that reaches a pixel.
            shape: Of the whole picture.
            spacing: Pixel sides in mm.
            seed: Names the exposure.
            box: Inside the picture.

        Returns:
            float32.
        """
        spread = [_gauss(self.blur_mm / h) for h in spacing]
        wide = box.grown([len(w) // 2 for w in spread])
        valid = wide.clipped(shape)
        rim = [
            (a - b, d - c)
            for a, b, c, d in zip(valid.start, wide.start, valid.stop, wide.stop, strict=True)
        ]
        light = np.pad(transmitted(valid), rim, mode="edge")
        if np.isfinite(self.quanta_mm2):
            quanta = np.float32(self.quanta_mm2 * np.prod(spacing))
            light = light + np.sqrt(light / quanta) * white(seed, wide)
            least = np.float32(0.5) / quanta
        else:
            least = np.float32(1e-12)
        for axis, weights in enumerate(spread):
            size = box.size[axis]
            parts = [w * np.take(light, range(k, k + size), axis) for k, w in enumerate(weights)]
            light = sum(parts[1:], parts[0])
        return self.shown(-logarithm(np.maximum(light, least)))

    def shown(self, measured: Array) -> Array:
        """Attenuation as greys, rising from 0 to :data:`LEVELS`."""
        steep = np.float32(4 / self.width)
        dark = 1 / (1 + np.exp(4 / self.width * (self.centre - self.black)))
        curve = 1 / (1 + decay(steep * (measured - np.float32(self.centre))))
        return np.maximum((curve - np.float32(dark)) * np.float32(LEVELS / (1 - dark)), 0)


def _gauss(sigma: float) -> Array:
    """Weights of a Gaussian over pixels, odd in number: (1,) if it is much narrower than one."""
    reach = int(np.ceil(3 * sigma)) if sigma >= 0.1 else 0
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    return (weights / weights.sum()).astype(np.float32)
