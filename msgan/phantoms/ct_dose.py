"""Simulates a CT at lower dose by adding the noise that fewer photons cause."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from math import sqrt

import numpy as np

from msgan.data.orientation import canonical_axes
from msgan.data.volume import open_volume, write_volume
from msgan.phantoms.ct_kernels import Kernel, noise
from msgan.types import Array, Box, InputError, Reader, Shape

TILE = {2: (512, 512), 3: (256, 256, 4)}
BINS = 1 << 14
WIDEST_HU = 2000.0
"""Largest detail that is counted; the median lies far below."""

MEDIAN = 0.6744897501960817
"""Median of the absolute value of a standard normal variable."""


def low_dose(
    read: Reader,
    shape: Shape,
    spacing: Sequence[float],
    kernel: Kernel,
    sigma_full: float,
    dose: float,
    seed: int,
) -> Reader:
    """A real CT with the noise of a lower dose.

    Noise variance goes with one over dose, so what is missing has 1 / dose - 1 times the variance
    that is there. It is shaped like noise of the CT's kernel and independent of what is there;
    means stay. It is equally strong everywhere: a real scan has more of it behind bones and
    in the middle of the body, and streaks at very low dose, which are not modelled.

    Args:
        read: The CT in HU.
        shape: Voxels; slices lie across the third axis if there is one.
        spacing: Voxel sides in mm.
        kernel: That the CT was reconstructed with.
        sigma_full: Standard deviation of its noise, HU; see :func:`noise_level`.
        dose: Wanted, as a share of the dose it has, above 0 to 1.
        seed: Names the scan.

    Returns:
        A reader of float32; any tiling gives the same bytes.

    Raises:
        InputError: A dose out of its range, a negative ``sigma_full``, not 2 or 3 axes, or
            something not positive.
    """
    if not 0 < dose <= 1:
        raise InputError(f"dose {dose}: expected above 0 to 1")
    if not 0 <= sigma_full < np.inf:
        raise InputError(f"noise of {sigma_full} HU: expected 0 or more")
    missing = sigma_full * sqrt(1 / dose - 1)
    rough = noise(shape, spacing, kernel, missing, seed, reference=kernel)
    return lambda box: np.asarray(read(box), np.float32) + rough(box)


def noise_level(
    read: Reader,
    shape: Shape,
    spacing: Sequence[float],
    kernel: Kernel,
    *,
    low: float = -200.0,
    high: float = 200.0,
) -> float:
    """Standard deviation of a CT's noise in HU, read block by block.

    From the median of the diagonal differences of 2 x 2 pixels (Donoho and Johnstone, 1994) in
    soft tissue, over what noise of that kernel has there. Only the finest detail is seen, the rest
    is inferred from the kernel: where the CT's own is sharper than ``kernel`` the level comes out
    too high. Real noise is uneven; the median takes the quieter part.

    Args:
        read: The CT in HU.
        shape: Voxels.
        spacing: Voxel sides in mm.
        kernel: Of the CT.
        low: Least HU of the pixels that count.
        high: Largest.

    Raises:
        InputError: No 2 x 2 pixels lie between ``low`` and ``high``, or as :func:`low_dose`.
    """
    plane = (128, 128)
    unit = noise(plane, spacing[:2], kernel, 1.0, 0, reference=kernel)(Box.whole(plane))
    expected = float(np.sqrt(np.square(_details(unit)).mean()))
    counts = np.zeros(BINS, np.int64)
    for box in Box.whole(shape).tiles(TILE[len(shape)]):
        part = np.asarray(read(box), np.float64)
        details = np.abs(_details(part))
        inside = np.ones(details.shape, bool)
        for corner in _corners(part):
            inside &= (corner >= low) & (corner <= high)
        counts += np.histogram(details[inside], BINS, (0, WIDEST_HU))[0]
    if not counts.any():
        raise InputError(f"no 2 x 2 pixels between {low:g} and {high:g} HU: expected soft tissue")
    edges = np.linspace(0, WIDEST_HU, BINS + 1)
    middle = np.interp(counts.sum() / 2, np.concatenate([[0], np.cumsum(counts)]), edges)
    return float(middle) / MEDIAN / expected


def write_low_dose(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    kernel: Kernel,
    dose: float,
    seed: int,
    *,
    sigma_full: float | None = None,
) -> float:
    """Write a CT file as :func:`low_dose` of it, on its grid, in HU.

    Args:
        path: Any format, slices across the third axis; nothing of image size is held.
        out: File to write.
        kernel: That the CT was reconstructed with.
        dose: Wanted, as a share of the CT's.
        seed: Names the scan; another for each CT.
        sigma_full: Noise of the CT, HU; None: :func:`noise_level`.

    Returns:
        The noise it was taken to have, HU.

    Raises:
        InputError: Its slices lie across another axis, a file is at fault, or see there.
    """
    with open_volume(path) as image:
        grid = image.grid
        if grid.dims == 3 and canonical_axes(grid)[0][2] != 2:
            raise InputError(f"{path}: axial slices across another axis than the third")
        spacing = grid.spacing
        if sigma_full is None:
            sigma_full = noise_level(image.read, grid.shape, spacing, kernel)
        made = low_dose(image.read, grid.shape, spacing, kernel, sigma_full, dose, seed)
        write_volume(out, grid, made, unit="HU")
    return sigma_full


def _corners(part: Array) -> list[Array]:
    """The four pixels of each 2 x 2 block in the plane."""
    rows, columns = (n // 2 * 2 for n in part.shape[:2])
    even = part[:rows, :columns]
    return [even[i::2, j::2] for i, j in product((0, 1), repeat=2)]


def _details(part: Array) -> Array:
    """Diagonal Haar coefficients in the plane."""
    a, b, c, d = _corners(part)
    return (a - b - c + d) / 2
