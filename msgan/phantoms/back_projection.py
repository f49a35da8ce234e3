"""Compares the kernel model with filtered back-projection, which scanners use.

A scanner filters projections and adds them up; :mod:`msgan.phantoms.ct_kernels` filters images.
By the projection-slice theorem both are the same transfer function in the plane. Here a disc and
pure noise go both ways (scikit-image's ``radon`` and ``iradon``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from msgan.phantoms.ct_kernels import Kernel, blur, noise
from msgan.seeds import numpy_rng
from msgan.types import Array, Box, InputError

FINE = 2
"""Pixels of the projected disc per pixel of the image: ``radon`` interpolates, hence blurs."""

ANGLE = 0.6
"""Degrees between projections."""

BINS = 24
"""Of frequency, 0 to Nyquist."""


@dataclass(frozen=True)
class BackProjection:
    """An edge and a noise power spectrum, made both ways.

    Attributes:
        kernel: Its name.
        spacing: Pixel side, mm.
        distance: (n,) from the edge, mm; negative is inside the disc.
        edge: (n,) profile by the kernel model, HU.
        edge_projected: (n,) by filtered back-projection, HU.
        frequency: (bins,) 1/mm.
        nps: (bins,) noise power spectrum by the kernel model, HU^2 mm^2.
        nps_projected: (bins,) by filtered back-projection, scaled to the same variance.
    """

    kernel: str
    spacing: float
    distance: Array = field(repr=False)
    edge: Array = field(repr=False)
    edge_projected: Array = field(repr=False)
    frequency: Array = field(repr=False)
    nps: Array = field(repr=False)
    nps_projected: Array = field(repr=False)

    @property
    def edge_difference(self) -> float:
        """Largest difference of the two profiles as a share of the step."""
        step = float(np.ptp(self.edge))
        return float(np.abs(self.edge - self.edge_projected).max() / step)

    @property
    def nps_difference(self) -> float:
        """Half the area between the two spectra as a share of the variance; 1: nothing shared."""
        apart = np.abs(self._ring(self.nps) - self._ring(self.nps_projected))
        return float(apart.sum() / 2)

    def _ring(self, nps: Array) -> Array:
        """Share of the variance in each ring of frequencies."""
        power = nps * self.frequency
        return np.asarray(power / power.sum())


def back_projection(
    kernel: Kernel,
    *,
    size: int = 128,
    spacing: float = 0.7,
    inside_hu: float = 40.0,
    outside_hu: float = -850.0,
    sigma_hu: float = 12.0,
    scans: int = 4,
    seed: int = 0,
) -> BackProjection:
    """Send a disc and noise through the kernel model and through filtered back-projection.

    Args:
        kernel: Transfer function; noise is relative to it, so the model's has ``sigma_hu``.
        size: Pixels a side, at least 64.
        spacing: Pixel side, mm.
        inside_hu: Of the disc, as soft tissue.
        outside_hu: Around it, as lung.
        sigma_hu: Standard deviation of the noise, HU.
        scans: Noise realisations that spectra are averaged over.
        seed: Names the noise.

    Raises:
        InputError: A size below 64, or something not positive.
    """
    if size < 64 or scans < 1 or not spacing > 0 or not sigma_hu > 0:
        raise InputError(
            f"size {size}, spacing {spacing} mm, noise {sigma_hu} HU, {scans} scans: expected at "
            "least 64, and the others positive"
        )
    shape, sides = (size, size), (spacing, spacing)
    whole = Box.whole(shape)
    disc = _disc(size)
    low = np.float32(outside_hu)
    true = low + np.float32(inside_hu - outside_hu) * disc
    soft = blur(lambda box: true[box.slices], shape, sides, kernel)(whole)
    projected = low + (inside_hu - outside_hu) * _projected_disc(size, spacing, kernel)
    distance, edge, edge_projected = _profiles(soft, projected, spacing)
    ours = [
        noise(shape, sides, kernel, sigma_hu, seed + k, reference=kernel)(whole)
        for k in range(scans)
    ]
    theirs = [_projected_noise(size, spacing, kernel, seed, k) for k in range(scans)]
    frequency, nps = _spectrum(ours, spacing)
    _, nps_projected = _spectrum(theirs, spacing)
    nps_projected *= (nps * frequency).sum() / (nps_projected * frequency).sum()
    return BackProjection(
        kernel.name, spacing, distance, edge, edge_projected, frequency, nps, nps_projected
    )


def _radius(size: int) -> float:
    return 0.3 * size


def _disc(size: int, fine: int = 1) -> Array:
    """(size * fine)^2, the share of each pixel inside a disc around the middle pixel."""
    parts = 4
    at = (np.arange(size * fine * parts) + 0.5) / (parts * fine) - (size // 2 + 0.5)
    inside = (np.hypot(at[:, None], at[None]) < _radius(size)).astype(np.float32)
    side = size * fine
    return inside.reshape(side, parts, side, parts).mean((1, 3))


def _angles() -> Array:
    return np.arange(0, 180, ANGLE)


def _filtered(sinogram: Array, spacing: float, kernel: Kernel) -> Array:
    """Projections (detector, angle) after the kernel; the ramp is ``iradon``'s."""
    count = 2 * len(sinogram)
    transfer = kernel.mtf(np.fft.rfftfreq(count, spacing))
    spectrum = np.fft.rfft(sinogram, count, axis=0) * transfer[:, None]
    return np.fft.irfft(spectrum, count, axis=0)[: len(sinogram)]


def _back(sinogram: Array) -> Array:
    from skimage.transform import iradon

    return np.asarray(iradon(sinogram, _angles(), filter_name="ramp", interpolation="cubic"))


def _projected_disc(size: int, spacing: float, kernel: Kernel) -> Array:
    return _back(_filtered(_sinogram(size), spacing, kernel))


@lru_cache(maxsize=4)
def _sinogram(size: int) -> Array:
    """(detector, angle) of the disc: lengths in pixels; the same for all kernels."""
    from skimage.transform import radon

    fine = radon(_disc(size, FINE), _angles(), circle=True) / FINE  # lengths in pixels of size
    # Detector bins as wide as a pixel; scikit-image turns about the bin side // 2.
    centre, bins = FINE * size // 2, np.arange(size)
    at = centre + FINE * (bins - size // 2)[:, None] + np.arange(FINE) - (FINE - 1) / 2
    line = np.arange(len(fine))
    detector = np.stack([np.interp(at.ravel(), line, row) for row in fine.T], axis=1)
    return np.asarray(detector.reshape(size, FINE, -1).mean(1))


def _projected_noise(size: int, spacing: float, kernel: Kernel, seed: int, scan: int) -> Array:
    rng = numpy_rng(seed, "projections", scan)
    sinogram = rng.normal(size=(size, len(_angles())))
    return _back(_filtered(sinogram, spacing, kernel))


def _profiles(model: Array, projected: Array, spacing: float) -> tuple[Array, Array, Array]:
    """Mean over all directions against the distance to the edge, in half pixels."""
    size = len(model)
    at = np.arange(size) - size // 2
    radius = np.hypot(at[:, None], at[None]) - _radius(size)
    near = np.abs(radius) < 10
    index = np.floor(2 * radius[near]).astype(int) + 20
    counts = np.bincount(index, minlength=40)
    means = [np.bincount(index, v[near], 40) / counts for v in (radius, model, projected)]
    return means[0] * spacing, means[1], means[2]


def _spectrum(images: list[Array], spacing: float) -> tuple[Array, Array]:
    """Radial noise power spectrum of the middle, HU^2 mm^2, without the lowest frequencies."""
    size = len(images[0])
    side = size // 2  # inside the circle that projections cover
    cut = slice((size - side) // 2, (size - side) // 2 + side)
    window = np.hanning(side)[:, None] * np.hanning(side)
    power = np.mean([np.abs(np.fft.fft2(v[cut, cut] * window)) ** 2 for v in images], axis=0)
    power *= spacing**2 / (window**2).sum()
    f = np.fft.fftfreq(side, spacing)
    radial = np.hypot(f[:, None], f)
    edges = np.linspace(0, 0.5 / spacing, BINS + 1)[1:]  # the first bin is the mean's
    index = np.digitize(radial.ravel(), edges) - 1
    kept = (index >= 0) & (index < BINS - 1)
    counts = np.bincount(index[kept], minlength=BINS - 1)
    frequency = np.bincount(index[kept], radial.ravel()[kept], BINS - 1) / counts
    return frequency, np.bincount(index[kept], power.ravel()[kept], BINS - 1) / counts
