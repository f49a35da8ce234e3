"""Similarity of a translated image to the real one: SSIM, MAE, MSE, PSNR, NMSE.

SSIM is the mean of the SSIM map (see :mod:`msgan.metrics.structure`) over the voxels whose window
lies inside the image, and inside the mask if there is one.

SSIM and NMSE change when a constant is added to both images, so they need to know which
intensity is black: the papers' numbers are for intensities in [0, 1], ours are in [-1, 1], hence
``black=-1, data_range=2``; ``Scores.unit()`` then gives the numbers for [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

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
    """Mean structural similarity of two images of shape (i, j) or (i, j, k).

    Example:
        >>> import numpy as np
        >>> real = np.random.default_rng(0).random((16, 16))
        >>> ssim(real, real, data_range=1.0)
        1.0
        >>> ssim(1 - real, real, data_range=1.0) < 0
        True
    """
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
    name = None if read_mask is None else mask_name
    return regional_scores_of(
        read_fake,
        read_real,
        shape,
        {name: read_mask},
        data_range=data_range,
        black=black,
        window=window,
        sigma=sigma,
        block=block,
    )[name]


Name = TypeVar("Name", str, str | None)


def regional_scores_of(
    read_fake: Reader,
    read_real: Reader,
    shape: Sequence[int],
    masks: Mapping[Name, Reader | None],
    *,
    data_range: float,
    black: float = 0.0,
    window: int = 11,
    sigma: float = 1.5,
    block: Sequence[int] | None = None,
) -> dict[Name, Scores]:
    """:func:`scores_of` in several masks at once: both images are read and compared once.

    Args:
        masks: Name to a reader of the mask; None for all voxels.

    See :func:`scores_of` for the other arguments and the errors.
    """
    shape = tuple(int(n) for n in shape)
    check_pair(shape, shape, None)
    check_window(shape, data_range, window, sigma)
    halo = window // 2
    inner = Box((halo,) * len(shape), tuple(n - 2 * halo for n in shape))
    sums = {name: _Sums() for name in masks}
    for core in Box.whole(shape).tiles(block or (BLOCK[len(shape)],) * len(shape)):
        keeps = {
            name: np.ones(core.size, bool) if read is None else read(core).astype(bool)
            for name, read in masks.items()
        }
        fake = mirrored(read_fake, shape, core, halo)
        real = mirrored(read_real, shape, core, halo)
        centre = tuple(slice(halo, halo + n) for n in core.size)
        check_finite("fake", fake[centre])
        check_finite("real", real[centre])
        if not any(keep.any() for keep in keeps.values()):
            continue
        fake -= black
        real -= black
        error = fake[centre] - real[centre]
        low = np.maximum(core.start, inner.start)
        high = np.maximum(np.minimum(core.stop, inner.stop), low)
        counted = Box(tuple(low), tuple(high - low)).inside(core).slices
        values = None
        for name, keep in keeps.items():
            own, within = sums[name], keep[counted]
            own.add(error[keep], real[centre][keep])
            if within.any():
                if values is None:
                    values = similarity(fake, real, data_range, window, sigma)[counted]
                own.similarity += float(values[within].sum())
                own.ssim_voxels += int(within.sum())
    return {
        name: own.scores(name, halo, data_range, black, len(shape), window, sigma)
        for name, own in sums.items()
    }


@dataclass(slots=True)
class _Sums:
    """What has been added up of one mask."""

    absolute: float = 0.0
    squared: float = 0.0
    energy: float = 0.0
    similarity: float = 0.0
    voxels: int = 0
    ssim_voxels: int = 0

    def add(self, error: Array, real: Array) -> None:
        self.absolute += float(np.abs(error).sum())
        self.squared += float(np.square(error).sum())
        self.energy += float(np.square(real).sum())
        self.voxels += error.size

    def scores(
        self,
        name: str | None,
        halo: int,
        data_range: float,
        black: float,
        dims: int,
        window: int,
        sigma: float,
    ) -> Scores:
        if self.voxels == 0:
            raise InputError(f"{name}: empty mask: expected at least one voxel")
        if self.ssim_voxels == 0:
            raise InputError(
                f"{name or 'mask'}: no voxel at least {halo} voxels from the image border"
            )
        return Scores(
            ssim=self.similarity / self.ssim_voxels,
            mae=self.absolute / self.voxels,
            mse=self.squared / self.voxels,
            psnr=psnr_from_mse(self.squared / self.voxels, data_range),
            nmse=ratio(self.squared, self.energy),
            voxels=self.voxels,
            ssim_voxels=self.ssim_voxels,
            data_range=float(data_range),
            black=float(black),
            mask=name,
            dims=dims,
            window=window,
            sigma=float(sigma),
        )
