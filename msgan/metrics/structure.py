"""Structural similarity (SSIM) of images of any size, block by block.

SSIM after Wang et al. (2004): Gaussian window of ``sigma`` voxels cut to ``window`` voxels a side,
K1 = .01, K2 = .03, population covariance (weights sum to one, no n/(n-1)). The same as
scikit-image with ``gaussian_weights=True, use_sample_covariance=False`` and as MONAI.
"""

from __future__ import annotations

import numpy as np

from msgan.metrics.errors import check_finite, check_pair, check_range
from msgan.types import Array, Box, InputError, Reader, Shape

# Voxels a side of the blocks that bound memory: about 0.2 GB of work space in float64.
BLOCK = {2: 1024, 3: 112}


def ssim_map(
    fake: Array,
    real: Array,
    *,
    data_range: float,
    black: float = 0.0,
    window: int = 11,
    sigma: float = 1.5,
) -> Array:
    """SSIM of every voxel, float64, same shape; the images are mirrored at their border.

    Raises:
        InputError: as :func:`msgan.metrics.scores`.
    """
    check_pair(fake.shape, real.shape, None)
    check_window(fake.shape, data_range, window, sigma)
    check_finite("fake", fake)
    check_finite("real", real)
    out = np.empty(fake.shape, dtype=np.float64)
    whole = Box.whole(fake.shape)
    for block in whole.tiles((BLOCK[fake.ndim],) * fake.ndim):
        x = mirrored(reader_of(fake), whole.size, block, window // 2) - black
        y = mirrored(reader_of(real), whole.size, block, window // 2) - black
        out[block.slices] = similarity(x, y, data_range, window, sigma)
    return out


def similarity(x: Array, y: Array, data_range: float, window: int, sigma: float) -> Array:
    """SSIM map without the ``window // 2`` voxels at each border of float64 ``x`` and ``y``."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = _blurred(x, window, sigma), _blurred(y, window, sigma)
    product, power = mean_x * mean_y, mean_x**2 + mean_y**2
    # Only the sum of the two variances enters, so four filters do instead of five.
    variances = _blurred(x**2 + y**2, window, sigma) - power
    covariance = _blurred(x * y, window, sigma) - product
    return ((2 * product + c1) * (2 * covariance + c2)) / ((power + c1) * (variances + c2))


def _blurred(image: Array, window: int, sigma: float) -> Array:
    from scipy.ndimage import correlate1d

    halo = window // 2
    weights = np.exp(-0.5 * (np.arange(-halo, halo + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in range(image.ndim):
        image = correlate1d(image, weights, axis=axis)
        # Cropping before the next axis saves work on voxels that nobody uses.
        keep = [slice(None)] * image.ndim
        keep[axis] = slice(halo, image.shape[axis] - halo)
        image = image[tuple(keep)]
    return image


def mirrored(read: Reader, shape: Shape, core: Box, halo: int) -> Array:
    """``core`` with a halo as float64; what lies outside the image is its mirror image."""
    wanted = core.grown(halo)
    valid = wanted.clipped(shape)
    part = read(valid).astype(np.float64)
    if part.shape != valid.size:
        raise InputError(f"reader: array of shape {part.shape} for a box of size {valid.size}")
    before = np.subtract(valid.start, wanted.start)
    after = np.subtract(wanted.stop, valid.stop)
    return np.pad(part, list(zip(before, after, strict=True)), mode="symmetric")


def reader_of(array: Array) -> Reader:
    """A reader of an array in memory."""
    return lambda box: array[box.slices]


def check_window(shape: Shape, data_range: float, window: int, sigma: float) -> None:
    """Raise InputError for a window that is even, too small or wider than the image."""
    check_range(data_range)
    if window < 3 or window % 2 == 0:
        raise InputError(f"window {window}: expected an odd number of at least 3")
    if not sigma > 0:
        raise InputError(f"sigma {sigma}: expected a positive number")
    if min(shape) < window:
        raise InputError(f"image of shape {shape}: a side is shorter than the window {window}")
