"""Gradient correlation: whether a translated image has its edges where the real one has them.

Penney et al. (1998, "A comparison of similarity measures for use in 2-D-3-D medical image
registration", IEEE TMI 17(4)): both images are filtered by Sobel templates along each axis, and the
normalised cross-correlations of the filtered images are averaged over axes,

    GC = 1/d sum_a NCC(S_a fake, S_a real),
    NCC(f, r) = sum (f - mean f)(r - mean r) / sqrt(sum (f - mean f)^2 sum (r - mean r)^2).

S_a is the central difference along axis a, smoothed by (1, 2, 1) along the others. GC is 1 for
equal images, near 0 for unrelated ones and -1 for an inverted one. It does not change when an image
is multiplied by a positive number or a constant is added, so it says nothing about grey values:
SSIM and errors do. A voxel counts where the 3^d voxels that the templates look at lie in the image,
and in the mask if there is one; so the border of the mask itself is no edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from msgan.metrics.errors import check_finite, check_pair
from msgan.metrics.structure import BLOCK, reader_of
from msgan.types import Array, Box, InputError, Reader

FLAT = 1e-9
"""A variance below this share of the mean square is rounding: along the axis nothing changes."""


def gradient_correlation(fake: Array, real: Array, *, mask: Array | None = None) -> float:
    """Gradient correlation of two images in memory, of shape (i, j) or (i, j, k); -1 to 1.

    An axis along which one image has no edge counts as 0; one along which neither has any is left
    out.

    Args:
        fake: The translated image.
        real: The real image on the same grid.
        mask: Voxels that count where not zero; default all.

    Raises:
        InputError: Shapes that differ or have not 2 or 3 axes, NaN or infinite voxels, no voxel
            whose neighbours count too, or no edge in either image.
    """
    check_pair(fake.shape, real.shape, None if mask is None else mask.shape)
    read_mask = None if mask is None else reader_of(mask)
    return gradient_correlation_of(
        reader_of(fake), reader_of(real), fake.shape, read_mask=read_mask
    )


def gradient_correlation_of(
    read_fake: Reader,
    read_real: Reader,
    shape: Sequence[int],
    *,
    read_mask: Reader | None = None,
    block: Sequence[int] | None = None,
) -> float:
    """:func:`gradient_correlation` of images of any size, by blocks with a halo of one voxel.

    The result does not depend on ``block`` (to float64 rounding); memory does.

    Args:
        read_fake: Reads a box of the translated image, of exactly the box's size.
        read_real: Reads a box of the real image.
        shape: Shape of both images.
        read_mask: Reads a box of the mask.
        block: Voxels read at a time along each axis, without the halo; default 112^3 or 1024^2.

    See :func:`gradient_correlation` for the errors.
    """
    shape = tuple(int(n) for n in shape)
    check_pair(shape, shape, None)
    dims = len(shape)
    sums, voxels = np.zeros((dims, 5)), 0
    for core in Box.whole(shape).tiles(block or (BLOCK[dims],) * dims):
        box = core.grown(1).clipped(shape)
        if min(box.size) < 3:  # a sliver at the border, which has no voxel with all neighbours
            continue
        keep = None if read_mask is None else _eroded(read_mask(box).astype(bool))
        if keep is not None and not keep.any():
            continue
        images = []
        for name, read in (("fake", read_fake), ("real", read_real)):
            images.append(read(box).astype(np.float64))
            check_finite(name, images[-1])
            if images[-1].shape != box.size:
                raise InputError(
                    f"reader: array of shape {images[-1].shape} for a box of size {box.size}"
                )
        for axis in range(dims):
            f, r = (sobel(image, axis) for image in images)
            f, r = (f.ravel(), r.ravel()) if keep is None else (f[keep], r[keep])
            sums[axis] += f.sum(), r.sum(), f @ f, r @ r, f @ r
        voxels += f.size
    if voxels == 0:
        raise InputError("no voxel has all its neighbours inside the image and the mask")
    found = [c for c in (_correlation(row / voxels) for row in sums) if c is not None]
    if not found:
        raise InputError("images: neither has an edge: expected one where voxels count")
    return sum(found) / len(found)


def sobel(image: Array, axis: int) -> Array:
    """Sobel's template along one axis, without the voxel at each border: sides less 2."""
    for a in range(image.ndim):
        low, mid, high = (
            image[(slice(None),) * a + (slice(k, image.shape[a] - 2 + k),)] for k in range(3)
        )
        image = high - low if a == axis else low + 2 * mid + high
    return image


def _eroded(mask: Array) -> Array:
    """Where all 3^d voxels around lie in the mask; sides less 2."""
    for a in range(mask.ndim):
        low, mid, high = (
            mask[(slice(None),) * a + (slice(k, mask.shape[a] - 2 + k),)] for k in range(3)
        )
        mask = low & mid & high
    return mask


def _correlation(means: Array) -> float | None:
    """NCC from the means of f, r, ff, rr and fr; 0 if one does not vary, None if neither does."""
    f, r, ff, rr, fr = (float(m) for m in means)
    varies = ff - f * f > FLAT * ff, rr - r * r > FLAT * rr
    if not any(varies):
        return None
    if not all(varies):
        return 0.0
    found = (fr - f * r) / sqrt((ff - f * f) * (rr - r * r))
    return max(-1.0, min(1.0, found))
