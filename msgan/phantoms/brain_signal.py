"""Tissues, pulse sequences and noise of the brain phantom.

Relaxation times at 1.5 T: healthy tissue from the BrainWeb simulator (Kwan, Evans and Pike, IEEE
Trans. Med. Imaging 18:1085-1097, 1999); deep nuclei rich in
iron with the shorter T2 known for them; oedema, tumour and necrosis in the ranges reported by
Just and Thelen (Radiology 169:779-785, 1988) and reviewed by Bottomley et al. (Med. Phys. 14:1-37,
1987).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import ndimage

from msgan.phantoms.brain_anatomy import EXTENT_MM, ORIGIN_MM
from msgan.phantoms.fields import field
from msgan.types import Array, InputError


@dataclass(frozen=True, slots=True)
class Tissue:
    """Relaxation times in milliseconds and proton density relative to CSF."""

    t1_ms: float
    t2_ms: float
    density: float


TISSUES: dict[str, Tissue] = {
    "csf": Tissue(2569.0, 329.0, 1.00),
    "grey": Tissue(833.0, 83.0, 0.86),
    "white": Tissue(500.0, 70.0, 0.77),
    "nuclei": Tissue(780.0, 62.0, 0.81),
    "oedema": Tissue(1150.0, 150.0, 0.90),
    "enhancing": Tissue(860.0, 105.0, 0.86),
    "necrosis": Tissue(1800.0, 260.0, 0.95),
}


RELAXATION_MM = (9.0, 4.0)
"""Lattices of the texture that one modality alone sees (:attr:`Protocol.relaxation`)."""


TEXTURE = {
    "csf": 0.01,
    "grey": 0.02,
    "white": 0.015,
    "nuclei": 0.02,
    "oedema": 0.06,
    "enhancing": 0.08,
    "necrosis": 0.07,
}
"""Relative standard deviation of each of the two scales of texture in a tissue."""


@dataclass(frozen=True, slots=True)
class PulseSequence:
    """One acquisition; times in milliseconds, the flip angle in degrees.

    ``kind`` is ``se`` (spin echo), ``ir`` (inversion recovery, needs ``ti_ms``) or ``spgr``
    (spoiled gradient echo, needs ``flip_deg``). ``gain`` turns signal into the scanner's
    arbitrary units, ``slice_mm`` is the thickness of its axial slices (0: that of a voxel),
    ``noise`` its noise over that of the protocol.
    """

    kind: Literal["se", "ir", "spgr"]
    tr_ms: float
    te_ms: float
    ti_ms: float = 0.0
    flip_deg: float = 90.0
    gain: float = 1500.0
    slice_mm: float = 0.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("se", "ir", "spgr"):
            raise InputError(f"pulse sequence {self.kind!r}: expected se, ir or spgr")
        if self.tr_ms <= 0 or self.te_ms < 0:
            raise InputError(f"TR {self.tr_ms} ms, TE {self.te_ms} ms: expected TR > 0 and TE >= 0")
        if self.kind == "ir" and not 0 < self.ti_ms < self.tr_ms:
            raise InputError(f"TI {self.ti_ms} ms is not between 0 and TR {self.tr_ms} ms")

    def signal(self, tissue: Tissue) -> float:
        """Signal of pure ``tissue`` (arbitrary units); negative before the null of ``ir``."""
        recovery = np.exp(-self.tr_ms / tissue.t1_ms)
        if self.kind == "se":
            longitudinal = 1 - recovery
        elif self.kind == "ir":
            longitudinal = 1 - 2 * np.exp(-self.ti_ms / tissue.t1_ms) + recovery
        else:
            angle = np.deg2rad(self.flip_deg)
            longitudinal = np.sin(angle) * (1 - recovery) / (1 - np.cos(angle) * recovery)
        decay = np.exp(-self.te_ms / tissue.t2_ms)
        return float(self.gain * tissue.density * longitudinal * decay)

    def varied(self, rng: np.random.Generator, amount: float) -> PulseSequence:
        """The same sequence with times off by a few per cent, as between scanners."""
        tr, te, ti, flip = 1 + amount * rng.uniform(-1, 1, 4)
        gain = 1 + 4 * amount * rng.uniform(-1, 1)
        return replace(
            self,
            tr_ms=self.tr_ms * tr,
            te_ms=self.te_ms * te,
            # The fluid null is tuned on the scanner; a few per cent would light CSF up.
            ti_ms=self.ti_ms * (1 + (ti - 1) / 3),
            flip_deg=self.flip_deg * flip,
            gain=self.gain * gain,
        )


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a scanner does to a brain.

    Attributes:
        name: names the population as well: another name, other people.
        t1: T1-weighted sequence.
        t2: T2-weighted sequence.
        flair: fluid-attenuated sequence.
        snr: white-matter signal over the noise's standard deviation in one voxel, at any size.
        bias: largest relative deviation of the coil sensitivity from 1.
        variation: largest relative deviation of the sequence times between subjects.
        relaxation: relative standard deviation of each of the two scales of texture that a
            modality does not share with the others.
    """

    name: str
    t1: PulseSequence
    t2: PulseSequence
    flair: PulseSequence
    snr: float = 55.0
    bias: float = 0.12
    variation: float = 0.04
    relaxation: float = 0.05

    def __post_init__(self) -> None:
        if self.snr <= 0:
            raise InputError(f"SNR {self.snr} is not positive")
        if not 0 <= self.bias < 1 or not 0 <= self.variation < 0.2:
            raise InputError(
                f"bias {self.bias}, variation {self.variation}: expected [0, 1) and [0, 0.2)"
            )

    @property
    def sequences(self) -> dict[str, PulseSequence]:
        """Modality -> sequence."""
        return {"t1": self.t1, "t2": self.t2, "flair": self.flair}


PATIENTS = Protocol(
    "patients",
    t1=PulseSequence("ir", tr_ms=2000, te_ms=4, ti_ms=920, gain=1600),
    t2=PulseSequence("se", tr_ms=4500, te_ms=112, gain=1500, slice_mm=4, noise=2.0),
    flair=PulseSequence("ir", tr_ms=9000, te_ms=120, ti_ms=1705, gain=4500, slice_mm=3, noise=1.8),
)
"""Role of BraTS: inversion-prepared T1, spin-echo T2, FLAIR."""

VOLUNTEERS = Protocol(
    "volunteers",
    t1=PulseSequence("spgr", tr_ms=22, te_ms=9.2, flip_deg=30, gain=9000),
    t2=PulseSequence("se", tr_ms=3300, te_ms=90, gain=1500),
    flair=PulseSequence("ir", tr_ms=8000, te_ms=110, ti_ms=1670, gain=4500),
    snr=40.0,
    bias=0.18,
)
"""Role of LPBA40: another scanner, whose T1 is a spoiled gradient echo."""


def rician(signal: Array, sigma: float, rng: np.random.Generator) -> Array:
    """Magnitude of ``signal`` with Gaussian noise ``sigma`` in both channels, float32.

    Where there is no signal the mean is ``sigma * sqrt(pi / 2)`` (Gudbjartsson and Patz, Magn.
    Reson. Med. 34:910-914, 1995).
    """
    real = rng.standard_normal(signal.shape, dtype=np.float32)
    real *= sigma
    real += signal
    imaginary = rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary *= sigma
    return np.hypot(real, imaginary, out=real)


def _sliced(signal: Array, positions: Array, thickness_mm: float) -> Array:
    """``signal`` seen by axial slices: a Gaussian profile whose full width at half maximum is
    the thickness. What lies outside the head is empty.
    """
    step = float(positions[1] - positions[0])
    sigma = thickness_mm / step / (8 * np.log(2)) ** 0.5
    return np.asarray(ndimage.gaussian_filter1d(signal, sigma, axis=2, mode="constant"))


def acquire(
    rng: Callable[[str], np.random.Generator],
    protocol: Protocol,
    axes: Sequence[Array],
    tissue: dict[str, Array],
    mask: Array,
) -> dict[str, Array]:
    """Scan ``tissue``: signal equations, texture, coil, slices, noise, skull stripping.

    If modalities differed in their equations alone, one would nearly be a function of another,
    and a curve would do what a network is for. So each has texture of its own (relaxation times
    vary within a tissue where the density of protons does not), its own coil sensitivity, slice
    thickness and noise.

    Differs: noise is set per output voxel, so a small phantom is as noisy as a large one, where a
    real scan averaged to larger voxels would be cleaner.
    """

    def noise(stream: np.random.Generator, lattice: float) -> Array:
        return field(stream, axes, ORIGIN_MM, EXTENT_MM, lattice)

    stream = rng("texture")
    # One texture per tissue for all modalities: it stands for structure, not for the scanner.
    density = {
        name: part * (1 + TEXTURE[name] * (noise(stream, 13.0) + noise(stream, 5.0)))
        for name, part in tissue.items()
    }
    images = {}
    for modality, planned in protocol.sequences.items():
        stream = rng(modality)
        sequence = planned.varied(stream, protocol.variation)
        signal = np.zeros(mask.shape, np.float32)
        for name, part in density.items():
            signal += np.float32(sequence.signal(TISSUES[name])) * part
        coil = field(stream, axes, ORIGIN_MM, EXTENT_MM, 90.0, uniform=True)
        signal *= 1 + np.float32(protocol.bias) * coil
        own = sum(noise(stream, lattice) for lattice in RELAXATION_MM)
        signal *= 1 + np.float32(protocol.relaxation) * own
        if sequence.slice_mm:
            signal = _sliced(signal, axes[2], sequence.slice_mm)
        sigma = sequence.noise * abs(sequence.signal(TISSUES["white"])) / protocol.snr
        image = rician(signal, sigma, stream)
        image[~mask] = 0
        images[modality] = image
    return images
