"""Spectra of CT kernels: a filter that gives an image the noise and sharpness of another kernel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d

from msgan.types import Array, Box, InputError, Reader, Shape

PATCH = 64
"""Side of the patches that spectra are measured in, voxels of a slice; of smaller slices theirs."""

BANDS = PATCH // 2
"""Radial bands up to the Nyquist frequency."""

LOW = 1 / 8
"""Share of the bands, the lowest, that is anatomy: there the two images are taken as equal."""

SMOOTH = 1.0
"""Standard deviation, bands, of the smoothing of a transfer function."""

RADIUS = 15
"""Of the filter, voxels: its side is 31."""


@dataclass(frozen=True)
class Spectrum:
    """Radial power spectrum of the slices of an image or of several.

    Attributes:
        power: (bands,) power per voxel of intensities in [-1, 1].
        nyquist: Cycles per mm at which the bands end.
    """

    power: Array = field(repr=False)
    nyquist: float

    @classmethod
    def of(
        cls, read: Reader, shape: Shape, spacing: tuple[float, ...], labels: Reader | None = None
    ) -> Spectrum:
        """Measure it within the slices (the first two axes), patch by patch.

        Patches are 64 x 64 voxels under a Hann window; those that are mostly background do not
        count. One patch of one slice is read at a time. What is labelled counts as background,
        and has no say in a patch: it is flat there.

        Raises:
            InputError: No patch of the image shows enough of the body.
        """
        side = min(PATCH, *(n // 2 * 2 for n in shape[:2]))
        window = np.outer(np.hanning(side), np.hanning(side))
        bands, count, number = _bands(side), 0, side // 2
        total = np.zeros(number)
        for place in _patches(shape, side):
            part = np.asarray(read(place), dtype=np.float64).reshape(side, side)
            hidden = np.zeros(part.shape, bool)
            if labels is not None:
                hidden = np.asarray(labels(place)).reshape(part.shape) != 0
            if ((part > -1) & ~hidden).mean() < 0.5:
                continue
            part[hidden] = part[~hidden].mean()
            power = np.abs(np.fft.fft2((part - part.mean()) * window)) ** 2
            total += np.bincount(bands.ravel(), power.ravel(), number + 1)[:number]
            count += 1
        if not count:
            raise InputError(
                f"image of {shape} voxels: no patch of {side} x {side} shows enough of a body "
                "to measure a spectrum"
            )
        sizes = np.bincount(bands.ravel(), minlength=number + 1)[:number] * (window**2).sum()
        return cls(total / count / sizes, 0.5 / float(np.mean(spacing[:2])))

    def at(self, frequencies: Array) -> Array:
        """Power at frequencies in cycles per mm; beyond the ends it is that of the ends."""
        centres = _centres(len(self.power)) * self.nyquist
        return np.exp(np.interp(frequencies, centres, np.log(self.power + 1e-12)))


def transfer(source: Spectrum, target: Spectrum) -> Array:
    """(32,) gain by which the source's amplitudes become the target's, at most 1.

    The root of the ratio of powers, normalised at the lowest frequencies, where anatomy is and not
    the kernel, smooth over frequencies, and never rising: noise is removed, nothing is sharpened.
    """
    centres = _centres(BANDS) * source.nyquist
    ratio = 0.5 * (np.log(target.at(centres)) - np.log(source.at(centres)))
    low = round(LOW * BANDS)
    ratio -= ratio[:low].mean()
    ratio[:low] = 0
    gain = np.exp(gaussian_filter1d(ratio, SMOOTH, mode="nearest"))
    return np.minimum.accumulate(np.minimum(gain, 1.0))


def kernel_of(gain: Array) -> Array:
    """(31, 31) filter with a radial gain; its sum is 1."""
    side = 2 * RADIUS + 1
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij"))
    response = np.interp(frequency, _centres(len(gain)) * 0.5, gain)
    filtered = np.fft.fftshift(np.fft.ifft2(response).real)
    window = np.hanning(side + 2)[1:-1]
    filtered = filtered * np.outer(window, window)
    return filtered / filtered.sum()


def filtered(read: Reader, kernel: Array) -> Reader:
    """An image filtered within its slices (the first two axes).

    Args:
        read: In any unit, of any box.
        kernel: Of odd sides; its radius is the halo.

    Returns:
        A reader of any box.
    """
    from scipy.signal import fftconvolve  # with scipy.stats it takes 40 MiB

    around = kernel.shape[0] // 2

    def made(box: Box) -> Array:
        halo = (around, around, *(0,) * (box.dims - 2))
        part = np.asarray(read(box.grown(halo)), dtype=np.float64)
        weights = kernel.reshape(*kernel.shape, *(1,) * (box.dims - 2))
        out = fftconvolve(part, weights, mode="valid", axes=(0, 1))
        return out.astype(np.float32)

    return made


def _centres(bands: int) -> Array:
    """Of bands, as shares of the Nyquist frequency."""
    return (np.arange(bands) + 0.5) / bands


def _bands(side: int) -> Array:
    """Band of each coefficient of a square patch; beyond the Nyquist frequency: side / 2."""
    axis = np.fft.fftfreq(side)
    radius = np.hypot(*np.meshgrid(axis, axis, indexing="ij"))
    return np.minimum((radius * side).astype(int), side // 2)


def _patches(shape: Shape, side: int) -> list[Box]:
    """Patches of every slice, half overlapping; slices are those along the third axis."""
    starts = [range(0, n - side + 1, side // 2) for n in shape[:2]]
    depth = range(shape[2]) if len(shape) > 2 else range(1)
    size = (side, side, *(1,) * (len(shape) - 2))
    return [
        Box((a, b, *((z,) if len(shape) > 2 else ())), size)
        for z in depth
        for a in starts[0]
        for b in starts[1]
    ]
