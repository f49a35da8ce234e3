"""Exchanges and reverses whole axes, so that all subjects have the same orientation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msgan.data.grid import Grid
from msgan.types import Array, Box, Shape


def canonical_axes(source: Grid) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Which source axis each canonical axis is, and whether it is reversed.

    Canonical is the axis order and direction closest to RAS in 3D and the file's own in 2D, so
    that anatomy points the same way in all subjects. Only whole axes are exchanged or reversed:
    an oblique image keeps its voxels and its obliqueness.
    """
    dims = len(source.shape)
    if dims != 3:
        return tuple(range(dims)), (False,) * dims
    from nibabel.orientations import io_orientation

    orientation = io_orientation(source.affine)
    order = np.argsort(orientation[:, 0])
    return tuple(int(a) for a in order), tuple(bool(orientation[a, 1] < 0) for a in order)


def flip(part: Array, flips: Sequence[bool]) -> Array:
    """Reverse the axes of ``part`` that are flagged."""
    return part[tuple(slice(None, None, -1) if f else slice(None) for f in flips)]


def to_canonical(box: Box, full: Shape, axes: Sequence[int], flips: Sequence[bool]) -> Box:
    """A box of source voxels in canonical voxels."""
    start = tuple(
        full[a] - box.stop[a] if f else box.start[a] for a, f in zip(axes, flips, strict=True)
    )
    return Box(start, tuple(box.size[a] for a in axes))


def from_canonical(box: Box, full: Shape, axes: Sequence[int], flips: Sequence[bool]) -> Box:
    """A box of canonical voxels in source voxels."""
    start, size = [0] * box.dims, [0] * box.dims
    for k, (a, f) in enumerate(zip(axes, flips, strict=True)):
        start[a] = full[a] - box.stop[k] if f else box.start[k]
        size[a] = box.size[k]
    return Box(tuple(start), tuple(size))
