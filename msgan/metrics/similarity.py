"""Similarity of a translated image to the real one: SSIM, MAE, MSE, PSNR, NMSE.

SSIM is the mean of the SSIM map (see :mod:`msgan.metrics.structure`) over the voxels whose window
lies inside the image, and inside the mask if there is one.

SSIM and NMSE change when a constant is added to both images, so they need to know which
intensity is black: the papers' numbers are for intensities in [0, 1], ours are in [-1, 1], hence
``black=-1, data_range=2``; ``Scores.unit()`` then gives the numbers for [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from msgan.metrics.errors import check_finite, check_pair, psnr_from_mse, ratio
from msgan.metrics.structure import BLOCK, check_window, mirrored, reader_of, similarity
from msgan.types import Array, Box, InputError, Reader


@dataclass(frozen=True, slots=True)
class Scores:
    """Similarity of one image pair and what it was measured with.

    ``mae`` is in the unit of the images, ``mse`` in its square, ``psnr`` in dB. ``voxels`` is the
    number behind the errors and ``ssim_voxels`` the number behind SSIM (no border).
    """

    ssim: float
    mae: float
    mse: float
    psnr: float
    nmse: float
    voxels: int
    ssim_voxels: int
    data_range: float
    black: float
    mask: str | None
    dims: int
    window: int
    sigma: float

    def unit(self) -> Scores:
        """The same scores had the images been mapped to [0, 1] (the papers' convention)."""
        r = self.data_range
        return replace(self, mae=self.mae / r, mse=self.mse / r**2, data_range=1.0, black=0.0)

    def as_row(self) -> dict[str, float | int | str | None]:
        """A flat dictionary for a table or a line of JSON."""
        return asdict(self)


def ssim(
    fake: Array,
    real: Array,
    *,
    data_range: float,
    black: float = 0.0,
    mask: Array | None = None,
    window: int = 11,
    sigma: float = 1.5,
) -> float:
    """Mean structural similarity of two images of shape (i, j) or (i, j, k)."""
    kwargs = {"data_range": data_range, "black": black, "window": window, "sigma": sigma}
    return scores(fake, real, mask=mask, **kwargs).ssim  # type: ignore[arg-type]


def scores(
    fake: Array,
    real: Array,
    *,
    data_range: float,
    black: float = 0.0,
    mask: Array | None = None,
    mask_name: str = "mask",
    window: int = 11,
    sigma: float = 1.5,
) -> Scores:
    """All scores of two images in memory, of shape (i, j) or (i, j, k).

    Args:
        fake: The translated image.
        real: The real image on the same grid.
        data_range: Brightest minus darkest possible intensity (not the range found).
        black: The darkest possible intensity; SSIM and NMSE are computed above it.
        mask: Voxels that count where not zero; default all.
        mask_name: How the mask is called in ``Scores.mask``.
        window: Side of the SSIM window, odd, voxels.
        sigma: Standard deviation of the SSIM window, voxels.

    Raises:
        InputError: shapes that differ or have not 2 or 3 axes, a side shorter than the window,
            an even window, a ``data_range`` that is not positive, NaN or infinite voxels, or a
            mask with no voxel in it (or none away from the border).
    """
    check_pair(fake.shape, real.shape, None if mask is None else mask.shape)
    return scores_of(
        reader_of(fake),
        reader_of(real),
        fake.shape,
        data_range=data_range,
        black=black,
        read_mask=None if mask is None else reader_of(mask),
        mask_name=mask_name,
        window=window,
        sigma=sigma,
    )


def scores_of(
    read_fake: Reader,
    read_real: Reader,
    shape: Sequence[int],
    *,
    data_range: float,
    black: float = 0.0,
    read_mask: Reader | None = None,
    mask_name: str = "mask",
    window: int = 11,
    sigma: float = 1.5,
    block: Sequence[int] | None = None,
) -> Scores:
    """:func:`scores` of images of any size, read block by block with a halo.

    The result does not depend on ``block`` (to float64 rounding); memory does.

    Args:
        read_fake: Reads a box of the translated image, of exactly the box's size.
        read_real: Reads a box of the real image.
        shape: Shape of both images.
        read_mask: Reads a box of the mask.
        block: Voxels read at a time along each axis, without the halo; default 112^3 or 1024^2.

    See :func:`scores` for the other arguments and the errors.
    """
    shape = tuple(int(n) for n in shape)
    check_pair(shape, shape, None)
    check_window(shape, data_range, window, sigma)
    halo = window // 2
    inner = Box((halo,) * len(shape), tuple(n - 2 * halo for n in shape))
    absolute = squared = energy = total = 0.0
    voxels = ssim_voxels = 0
    for core in Box.whole(shape).tiles(block or (BLOCK[len(shape)],) * len(shape)):
        fake = mirrored(read_fake, shape, core, halo)
        real = mirrored(read_real, shape, core, halo)
        centre = tuple(slice(halo, halo + n) for n in core.size)
        check_finite("fake", fake[centre])
        check_finite("real", real[centre])
        keep = np.ones(core.size, bool) if read_mask is None else read_mask(core).astype(bool)
        if not keep.any():
            continue
        fake -= black
        real -= black
        error = (fake[centre] - real[centre])[keep]
        absolute += float(np.abs(error).sum())
        squared += float(np.square(error).sum())
        energy += float(np.square(real[centre][keep]).sum())
        voxels += error.size
        low = np.maximum(core.start, inner.start)
        high = np.maximum(np.minimum(core.stop, inner.stop), low)
        counted = Box(tuple(low), tuple(high - low)).inside(core).slices
        if keep[counted].any():
            values = similarity(fake, real, data_range, window, sigma)
            total += float(values[counted][keep[counted]].sum())
            ssim_voxels += int(keep[counted].sum())
    if voxels == 0:
        raise InputError(f"{mask_name}: empty mask: expected at least one voxel")
    if ssim_voxels == 0:
        raise InputError(f"{mask_name}: no voxel at least {halo} voxels from the image border")
    return Scores(
        ssim=total / ssim_voxels,
        mae=absolute / voxels,
        mse=squared / voxels,
        psnr=psnr_from_mse(squared / voxels, data_range),
        nmse=ratio(squared, energy),
        voxels=voxels,
        ssim_voxels=ssim_voxels,
        data_range=float(data_range),
        black=float(black),
        mask=None if read_mask is None else mask_name,
        dims=len(shape),
        window=window,
        sigma=float(sigma),
    )
