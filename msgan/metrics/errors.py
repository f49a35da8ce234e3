"""Voxel-wise errors of a translated image: MAE, MSE, PSNR, NMSE.

- PSNR = 10 log10(data_range^2 / MSE) in dB.
- NMSE = sum (fake - real)^2 / sum real^2. Ha et al. (mDAUNet, section 4) report NMSE without a
  formula; this is the usual definition.
"""

from __future__ import annotations

from math import inf, log10

import numpy as np

from msgan.types import Array, InputError, Shape


def psnr_from_mse(mse: float, data_range: float = 1.0) -> float:
    """PSNR in dB of a mean squared error; ``inf`` for zero.

    Raises:
        InputError: a negative or NaN ``mse``, or a ``data_range`` that is not positive.
    """
    check_range(data_range)
    if not mse >= 0:
        raise InputError(f"mean squared error {mse}: expected zero or more")
    return inf if mse == 0 else 20 * log10(data_range) - 10 * log10(mse)


def mae(fake: Array, real: Array, *, mask: Array | None = None) -> float:
    """Mean absolute error over the mask (or all voxels), in the unit of the images.

    Example:
        >>> fake, real = np.array([[0.0, 1.0]]), np.array([[0.0, 3.0]])
        >>> mae(fake, real), mae(fake, real, mask=real > 0)
        (1.0, 2.0)
    """
    error = _difference(fake, real, mask)
    return float(np.abs(error).mean())


def mse(fake: Array, real: Array, *, mask: Array | None = None) -> float:
    """Mean squared error over the mask (or all voxels), in squared units of the images."""
    return float(np.square(_difference(fake, real, mask)).mean())


def psnr(fake: Array, real: Array, *, data_range: float, mask: Array | None = None) -> float:
    """Peak signal-to-noise ratio in dB; ``inf`` for identical images.

    Example:
        >>> real = np.zeros((4, 4))
        >>> round(psnr(real + 0.1, real, data_range=1.0), 6)
        20.0
    """
    return psnr_from_mse(mse(fake, real, mask=mask), data_range)


def nmse(fake: Array, real: Array, *, black: float = 0.0, mask: Array | None = None) -> float:
    """Squared error over the real image's energy; see the module for the definition."""
    error = _difference(fake, real, mask)
    kept = real if mask is None else real[mask.astype(bool)]
    energy = float(np.square(kept.astype(np.float64) - black).sum())
    return ratio(float(np.square(error).sum()), energy)


def _difference(fake: Array, real: Array, mask: Array | None) -> Array:
    check_pair(fake.shape, real.shape, None if mask is None else mask.shape)
    check_finite("fake", fake)
    check_finite("real", real)
    error = fake.astype(np.float64) - real
    if mask is None:
        return error
    if not mask.any():
        raise InputError("mask: empty mask: expected at least one voxel")
    return error[mask.astype(bool)]


def ratio(error: float, energy: float) -> float:
    """``error / energy``; with no energy, 0 for no error and ``inf`` otherwise."""
    return error / energy if energy > 0 else (inf if error > 0 else 0.0)


def check_pair(fake: Shape, real: Shape, mask: Shape | None) -> None:
    """Raise InputError unless the shapes agree and have 2 or 3 axes."""
    if fake != real:
        raise InputError(f"fake of shape {fake}, real of shape {real}: expected the same shape")
    if mask is not None and mask != real:
        raise InputError(f"mask of shape {mask}, images of shape {real}: expected the same shape")
    if len(real) not in (2, 3):
        raise InputError(f"image of shape {real}: expected 2 or 3 axes")


def check_range(data_range: float) -> None:
    """Raise InputError unless ``data_range`` is positive and finite."""
    if not 0 < data_range < inf:
        raise InputError(f"data_range {data_range}: expected a positive number")


def check_finite(name: str, image: Array) -> None:
    """Raise InputError if a voxel is NaN or infinite."""
    bad = image.size - int(np.isfinite(image).sum())
    if bad:
        raise InputError(f"{name}: {bad} voxels are NaN or infinite: expected finite values")
