"""Reconstruction kernels of CT: the sharpness of an image and the spectrum of its noise.

A kernel is its in-plane transfer function; slices are independent. Images (2D, or 3D with slices
across the last axis) are read box by box. Every value is a fixed sum over a neighbourhood, in a
fixed order, so any tiling gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from msgan.phantoms.lattice import white
from msgan.seeds import derive
from msgan.types import Array, Box, InputError, Reader, Shape

RAMP_RADIUS = 8
"""Voxels: reach of the filter that gives noise the spectrum of filtered back-projection."""

LEAST_RADIUS = 8
"""Voxels: taps of narrow Gaussians fall as the square of the distance; the rest is below 1 %."""

DESIGN = 128
"""Samples of a transfer function on which filters are designed."""


@dataclass(frozen=True)
class Kernel:
    """A transfer function ``sum(weight * exp(-2 pi^2 sigma^2 f^2))``, 1 at zero frequency.

    Sums of Gaussians are both isotropic and separable; a negative weight enhances edges.

    Attributes:
        name: As the scanner calls it.
        parts: (weight, sigma in mm); the weights sum to 1.
    """

    name: str
    parts: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if abs(sum(w for w, _ in self.parts) - 1) > 1e-9 or any(s < 0 for _, s in self.parts):
            raise InputError(
                f"kernel {self.name}: parts {self.parts}: expected weights that sum to 1 and "
                "sigmas of at least 0"
            )

    def mtf(self, frequency: Array | float) -> Array:
        """Transfer at spatial frequencies in 1/mm."""
        square = np.asarray(frequency, np.float64) ** 2
        return np.asarray(sum(w * np.exp(-2 * np.pi**2 * s**2 * square) for w, s in self.parts))

    def nps(self, frequency: Array | float) -> Array:
        """Noise power spectrum, up to a factor: ramp times squared transfer (1/mm)."""
        return np.abs(np.asarray(frequency, np.float64)) * self.mtf(frequency) ** 2

    def stretched(self, factor: float) -> Kernel:
        """The kernel of a scanner whose detail is ``factor`` times as large."""
        if not factor > 0:
            raise InputError(f"kernel {self.name} stretched by {factor}: expected more than 0")
        return Kernel(self.name, tuple((w, s * factor) for w, s in self.parts))

    def halo(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Voxels a box needs around it on each axis; ``spacing`` in mm."""
        plane = [max(_radius(s / h) for _, s in self.parts) for h in spacing[:2]]
        return (*plane, *(0 for _ in spacing[2:]))


KERNELS = {
    "b20f": Kernel("b20f", ((1.0, 0.60),)),
    "b50f": Kernel("b50f", ((1.25, 0.37), (-0.25, 0.80))),
    "b80f": Kernel("b80f", ((1.60, 0.24), (-0.60, 0.55))),
}
"""Smooth, medium sharp and ultra sharp.

The numbers are ours, not a vendor's: chosen to be ordered as kernels of these names are, the two
sharp ones with enhanced edges. Transfer falls to 50 % (10 %) at 0.31 (0.57) per mm for b20f, 0.58
(0.97) for b50f and 1.01 (1.56) for b80f.
"""

REFERENCE = KERNELS["b20f"]
"""The kernel in whose image noise has the stated standard deviation."""


def _radius(sigma: float) -> int:
    return 0 if sigma == 0 else max(LEAST_RADIUS, int(np.ceil(4 * sigma)))


@lru_cache(maxsize=64)
def _taps(sigma: float) -> tuple[float, ...]:
    """A Gaussian of ``sigma`` voxels by its transfer up to Nyquist; the taps sum to 1."""
    radius = _radius(sigma)
    count = max(DESIGN, 4 * radius)
    transfer = np.exp(-2 * np.pi**2 * sigma**2 * np.fft.rfftfreq(count) ** 2)
    half = np.fft.irfft(transfer, count)[: radius + 1]
    taps = np.concatenate([half[:0:-1], half])
    return tuple(taps / taps.sum())


def _checked(shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, ...]:
    if len(shape) not in (2, 3) or len(shape) != len(spacing) or min(*spacing, *shape) <= 0:
        raise InputError(
            f"shape {tuple(shape)}, spacing {tuple(spacing)} mm: expected 2 or 3 axes, all positive"
        )
    return tuple(float(h) for h in spacing)


def _filtered(part: Array, spacing: Sequence[float], kernel: Kernel) -> Array:
    """``part`` (with the halo of ``kernel``) filtered, without its halo."""
    halo = kernel.halo(spacing)
    total = np.zeros(part.shape, np.float64)
    for weight, sigma in kernel.parts:
        term = part.astype(np.float64)
        for axis in (0, 1):
            term = ndimage.correlate1d(term, _taps(sigma / spacing[axis]), axis, mode="nearest")
        total += weight * term
    inner = tuple(slice(h, n - h) for h, n in zip(halo, part.shape, strict=True))
    return total[inner].astype(np.float32)


def _continued(read: Reader, shape: Shape, box: Box) -> Array:
    """``box`` of an image that goes on beyond its border as at the border."""
    valid = box.clipped(shape)
    ends = zip(box.start, valid.start, valid.stop, box.stop, strict=True)
    return np.pad(read(valid), [(b - a, d - c) for a, b, c, d in ends], mode="edge")


def blur(read: Reader, shape: Shape, spacing: Sequence[float], kernel: Kernel) -> Reader:
    """The image a scanner with ``kernel`` would reconstruct, without noise.

    Args:
        read: The true image in HU.
        shape: Voxels; slices lie across the third axis if there is one.
        spacing: Voxel sides in mm.
        kernel: The transfer function; ``kernel.halo(spacing)`` voxels are read around each box.

    Returns:
        A reader of float32; beyond the border the image goes on as at the border.

    Raises:
        InputError: Not 2 or 3 axes, or something not positive.
    """
    sides = _checked(shape, spacing)
    halo = kernel.halo(sides)

    def blurred(box: Box) -> Array:
        return _filtered(_continued(read, shape, box.grown(halo)), sides, kernel)

    return blurred


@lru_cache(maxsize=16)
def _ramp(spacing: tuple[float, ...]) -> Array:
    """Square root of the ramp as a filter in the plane, without response to a constant."""
    u, v = (np.fft.fftfreq(DESIGN, h) for h in spacing[:2])
    taps = np.fft.ifft2(np.sqrt(np.hypot(u[:, None], v[None]))).real
    r = RAMP_RADIUS
    taps = np.roll(taps, (r, r), (0, 1))[: 2 * r + 1, : 2 * r + 1].copy()
    window = np.hanning(2 * r + 3)[1:-1]
    smooth = window[:, None] * window[None]
    # Taken off smoothly, what was cut away changes low frequencies only.
    return taps - taps.sum() * smooth / smooth.sum()


@lru_cache(maxsize=64)
def _norm(kernel: Kernel, spacing: tuple[float, ...]) -> float:
    """Standard deviation of white noise of unit variance after ramp and kernel."""
    plane = spacing[:2]
    spread = np.pad(_ramp(plane), [(2 * h, 2 * h) for h in kernel.halo(plane)])
    return float(np.sqrt((_filtered(spread, plane, kernel).astype(np.float64) ** 2).sum()))


def noise_gain(kernel: Kernel, spacing: Sequence[float]) -> float:
    """Standard deviation of the noise of a kernel over that of :data:`REFERENCE`."""
    plane = tuple(float(h) for h in spacing[:2])
    return _norm(kernel, plane) / _norm(REFERENCE, plane)


def noise(
    shape: Shape,
    spacing: Sequence[float],
    kernel: Kernel,
    sigma_hu: float,
    seed: int,
    *,
    reference: Kernel = REFERENCE,
) -> Reader:
    """Noise of filtered back-projection: one white realisation, shaped by ramp and kernel.

    Kernels of one scan (one seed) see the same realisation. Variance goes with one over dose: a
    quarter of the dose is twice the ``sigma_hu``.

    Args:
        shape: Voxels.
        spacing: Voxel sides in mm.
        kernel: Sharper kernels have more noise.
        sigma_hu: Standard deviation in the image of the ``reference`` kernel, HU.
        seed: Names the scan.
        reference: Give the stretched one where ``kernel`` is stretched.

    Raises:
        InputError: Not 2 or 3 axes, something not positive, or a negative ``sigma_hu``.
    """
    sides = _checked(shape, spacing)
    if not 0 <= sigma_hu < np.inf:
        raise InputError(f"noise of {sigma_hu} HU: expected 0 or more")
    taps = _ramp(sides[:2])
    taps = taps.reshape(taps.shape + (1,) * (len(shape) - 2))
    scale = np.float32(sigma_hu / (_norm(reference, sides[:2])))
    key = derive(seed, "ct noise")
    reach = tuple(RAMP_RADIUS if k < 2 else 0 for k in range(len(shape)))

    def noisy(box: Box) -> Array:
        outer = box.grown(kernel.halo(sides))
        values = white(key, outer.grown(reach)).astype(np.float64)
        ramped = ndimage.correlate(values, taps, mode="constant")
        inner = tuple(slice(h, n - h) for h, n in zip(reach, values.shape, strict=True))
        return scale * _filtered(ramped[inner], sides, kernel)

    return noisy


@lru_cache(maxsize=32)
def _relative(
    old: Kernel, new: Kernel, spacing: tuple[float, ...], cap: float, radius: int
) -> Array:
    """``new / old`` in the plane, where ``new`` enhances at most by ``cap``, as a filter."""
    u, v = (np.fft.fftfreq(DESIGN, h) for h in spacing)
    frequency = np.hypot(u[:, None], v[None])
    ratio = np.clip(new.mtf(frequency) / np.maximum(old.mtf(frequency), 1e-9), -cap, cap)
    taps = np.roll(np.fft.ifft2(ratio).real, (radius, radius), (0, 1))
    side = 2 * radius + 1
    window = np.hanning(side + 2)[1:-1]  # cut off bluntly, a steep filter rings everywhere
    taps = taps[:side, :side] * window[:, None] * window[None]
    return taps / taps.sum()


def as_kernel(
    read: Reader,
    shape: Shape,
    spacing: Sequence[float],
    old: Kernel,
    new: Kernel,
    *,
    cap: float = 4.0,
    radius: int = 10,
) -> Reader:
    """A real CT reconstructed with ``old`` as if with ``new``; its noise is shaped with it.

    Args:
        read: The CT in HU.
        shape: Voxels.
        spacing: Voxel sides in mm.
        old: Kernel of the CT.
        new: Kernel wanted; sharper or softer.
        cap: Largest factor on any frequency: what ``old`` has removed cannot come back.
        radius: Voxels read around each box in the plane, 1 to 63.

    Raises:
        InputError: Not 2 or 3 axes, something not positive, a cap below 1, or a bad radius.
    """
    sides = _checked(shape, spacing)
    if not 1 <= cap < np.inf or not 1 <= radius < DESIGN // 2:
        raise InputError(f"cap {cap}, radius {radius}: expected 1 or more, and 1 to 63")
    taps = _relative(old, new, sides[:2], float(cap), radius)
    taps = taps.reshape(taps.shape + (1,) * (len(shape) - 2))
    reach = tuple(radius if k < 2 else 0 for k in range(len(shape)))

    def converted(box: Box) -> Array:
        part = _continued(read, shape, box.grown(reach)).astype(np.float64)
        out = ndimage.correlate(part, taps, mode="nearest")
        inner = tuple(slice(h, n - h) for h, n in zip(reach, part.shape, strict=True))
        return out[inner].astype(np.float32)

    return converted
