"""The body in a CT: everything inside the skin, lungs included."""

from __future__ import annotations

import numpy as np

from msgan.data.grid import Grid
from msgan.data.orientation import canonical_axes
from msgan.types import Array, Box, Reader

LEAST_SHARE = 0.1
"""Pieces of a slice smaller than this share of its largest are no body: table, tubes, noise."""


def body_mask(read: Reader, grid: Grid, threshold: float) -> Reader:
    """A reader of the body, bool: what is above ``threshold`` in axial slices, holes filled.

    Lungs and airways are dark but enclosed by the chest in every axial slice (the slice across
    the axis closest to head and foot; a 2D image is one slice). Reads the image once, slice by
    slice, and keeps a bit a voxel.

    Args:
        read: The image in source units, on ``grid``.
        grid: Its grid.
        threshold: Between air and skin; in HU about -300.
    """
    shape, dims = grid.shape, grid.dims
    across = canonical_axes(grid)[0][2] if dims == 3 else None
    count = 1 if across is None else shape[across]
    plane = tuple(n for axis, n in enumerate(shape) if axis != across)
    packed = []
    for k in range(count):
        start = tuple(k if axis == across else 0 for axis in range(dims))
        size = tuple(1 if axis == across else n for axis, n in enumerate(shape))
        values = read(Box(start, size)).reshape(plane)
        packed.append(np.packbits(_filled(values > threshold)))

    def unpacked(k: int) -> Array:
        bits = np.unpackbits(packed[k], count=int(np.prod(plane)))
        return bits.reshape(plane).astype(bool)

    def inside(box: Box) -> Array:
        if across is None:
            return unpacked(0)[box.slices]
        flat = tuple(s for axis, s in enumerate(box.slices) if axis != across)
        cuts = [unpacked(k)[flat] for k in range(box.start[across], box.stop[across])]
        if not cuts:
            return np.zeros(box.size, bool)
        return np.stack(cuts, axis=across)

    return inside


def _filled(dense: Array) -> Array:
    from scipy import ndimage

    filled = ndimage.binary_fill_holes(dense)
    pieces, count = ndimage.label(filled)
    if count < 2:
        return np.asarray(filled)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= LEAST_SHARE * sizes.max())[pieces] & (pieces > 0))
