"""LPIPS of images of any size, slice by slice (Zhang et al., 2018; Ha et al., section 3.4).

The network compares 2D pictures (:class:`msgan.networks.lpips.Lpips`). Of a volume all slices
across each of its three axes are compared; LPIPS is the mean over the slices of each view, and of
the views. Three views, because it then does not depend on how the axes are stored, and because
methods that work slice by slice or tile by tile leave steps that only other views show. Ha et al.
state no view; numbers of other choices do not compare.

Slices are as large as they are, in voxels, and grey values outside the range are clipped to it, as
the network has seen none there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Protocol

import numpy as np

from msgan.metrics.errors import check_finite, check_pair, check_range
from msgan.metrics.structure import reader_of
from msgan.types import Array, Box, InputError, Reader, Shape

SIDE = 512
"""Of the squares that bound memory: about 0.7 GB of features, with what is read around them."""


class Comparison(Protocol):
    """What compares two stacks of slices, such as :class:`msgan.networks.lpips.Lpips`.

    Attributes:
        reach: How far from a voxel its result depends on others, a multiple of ``stride``.
        stride: Voxels a side that one value of the coarsest map stands for, a power of two.
    """

    reach: int
    stride: int

    def maps(self, fake: Array, real: Array) -> Sequence[Array]:
        """(B, H, W) float32 in [-1, 1] -> (B, H // 2^k, W // 2^k) for k = 0, 1, and so on."""
        ...


def lpips(
    fake: Array,
    real: Array,
    network: Comparison,
    *,
    data_range: float,
    black: float = 0.0,
    mask: Array | None = None,
    every: int = 1,
) -> float:
    """LPIPS of two images in memory, of shape (i, j) or (i, j, k); 0 for equal ones.

    Args:
        fake: The translated image.
        real: The real image on the same grid.
        network: Compares slices.
        data_range: Brightest minus darkest possible intensity (not the range found).
        black: The darkest possible intensity.
        mask: Slices count that have a voxel of it, as a whole; default all.
        every: Compare every so many-th slice only; 1 is all of them.

    Raises:
        InputError: Shapes that differ or have not 2 or 3 axes, a side shorter than the network's
            stride, NaN or infinite voxels, a ``data_range`` that is not positive, ``every`` below
            1, or a mask with no voxel in it.
    """
    check_pair(fake.shape, real.shape, None if mask is None else mask.shape)
    return lpips_of(
        reader_of(fake),
        reader_of(real),
        fake.shape,
        network,
        data_range=data_range,
        black=black,
        read_mask=None if mask is None else reader_of(mask),
        every=every,
    )


def lpips_of(
    read_fake: Reader,
    read_real: Reader,
    shape: Sequence[int],
    network: Comparison,
    *,
    data_range: float,
    black: float = 0.0,
    read_mask: Reader | None = None,
    every: int = 1,
    side: int = SIDE,
) -> float:
    """:func:`lpips` of images of any size, read in slabs of few slices.

    Large slices are compared in squares with a margin as wide as the network sees, so the result
    does not depend on ``side`` (to float32 rounding); memory does.

    Args:
        read_fake: Reads a box of the translated image, of exactly the box's size.
        read_real: Reads a box of the real image.
        shape: Shape of both images.
        read_mask: Reads a box of the mask.
        side: Of a square, without its margin, voxels; a multiple of the network's stride.

    See :func:`lpips` for the other arguments and the errors.
    """
    shape = tuple(int(n) for n in shape)
    check_pair(shape, shape, None)
    check_range(data_range)
    if every < 1 or side < 1 or side % network.stride:
        raise InputError(
            f"every {every}, side {side}: expected at least 1, and a multiple of {network.stride}"
        )
    if min(shape) < network.stride:
        raise InputError(f"image of shape {shape}: a side is shorter than {network.stride} voxels")

    def stack(name: str, read: Reader, box: Box, axis: int | None) -> Array:
        """Slices of a slab, one behind the other, in [-1, 1]."""
        image = read(box)
        if image.shape != box.size:
            raise InputError(f"reader: array of shape {image.shape} for a box of size {box.size}")
        check_finite(name, image)
        unit = (image.astype(np.float32) - black) * (2 / data_range) - 1
        return _behind(np.clip(unit, -1, 1, out=unit), axis)

    views = []
    axes: Sequence[int | None] = (0, 1, 2) if len(shape) == 3 else (None,)
    for axis in axes:
        total, slices = 0.0, 0
        for slab in _slabs(shape, axis, every, side):
            counts: Array = np.ones(1 if axis is None else slab.size[axis], bool)
            if read_mask is not None:
                counts = np.asarray(_behind(read_mask(slab) != 0, axis).any(axis=(1, 2)))
            slices += int(counts.sum())
            if counts.any():
                for core in slab.tiles([n if a == axis else side for a, n in enumerate(shape)]):
                    grown = [0 if a == axis else network.reach for a in range(len(shape))]
                    box = core.grown(grown).clipped(shape)
                    fake = stack("fake", read_fake, box, axis)
                    real = stack("real", read_real, box, axis)
                    # Where both are equal, as in air, the distance is 0 without a network.
                    differs = counts & (fake != real).any(axis=(1, 2))
                    if differs.any():
                        maps = network.maps(fake[differs], real[differs])
                        total += _share(maps, shape, core, box, axis)
        if not slices:
            raise InputError("mask: empty mask: expected at least one voxel")
        views.append(total / slices)
    return float(np.mean(views))


def _behind(image: Array, axis: int | None) -> Array:
    """(slices, rows, columns) of an image that is cut across an axis; None: it is one slice."""
    return image[None] if axis is None else np.ascontiguousarray(np.moveaxis(image, axis, 0))


def _slabs(shape: Shape, axis: int | None, every: int, side: int) -> list[Box]:
    """The slices to compare, as many in a slab as have the pixels of one square."""
    whole = Box.whole(shape)
    if axis is None:
        return [whole]
    plane = prod(shape) // shape[axis]
    thick = 1 if every > 1 else max(1, side**2 // plane)
    # From the middle of a step, so that the few slices are not those of one end.
    starts = range(min((every - 1) // 2, shape[axis] - 1), shape[axis], max(every, thick))
    slabs = []
    for start in starts:
        size = min(thick, shape[axis] - start)
        slabs.append(
            Box(
                tuple(start if a == axis else 0 for a in range(len(shape))),
                tuple(size if a == axis else n for a, n in enumerate(shape)),
            )
        )
    return slabs


def _share(maps: Sequence[Array], shape: Shape, core: Box, box: Box, axis: int | None) -> float:
    """What the maps of ``box`` add to the sum over slices, of its ``core`` alone."""
    total = 0.0
    for k, found in enumerate(maps):
        inside: list[slice] = [slice(None)]
        positions = 1
        for a, n in enumerate(shape):
            if a != axis:
                first = box.start[a] >> k
                inside.append(slice((core.start[a] >> k) - first, (core.stop[a] >> k) - first))
                positions *= n >> k
        total += float(found[tuple(inside)].sum(dtype=np.float64)) / positions
    return total
