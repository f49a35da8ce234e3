"""Random values that depend only on a seed and a position.

Only sums, products and shifts are used: they give the same bits whatever the length of the
arrays, which logarithms, sines and matrix products do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msgan.types import Array, Box


def _mix(x: Array) -> Array:
    """Scramble 64 bits (the finaliser of SplitMix64; Steele, Lea, Flood, OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def scramble(seed: int, axes: Sequence[Array]) -> Array:
    """64 random bits for each point of a grid of integer coordinates, a function of seed and point.

    Args:
        seed: 63 bits, see :func:`msgan.seeds.derive`.
        axes: int64 coordinates along each axis; negative ones are as good as others.

    Returns:
        uint64 of shape ``[len(a) for a in axes]``.
    """
    bits = np.full((1,) * len(axes), seed, np.uint64)
    for k, a in enumerate(axes):
        where = a.astype(np.int64).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = _mix(bits + where.reshape([-1 if k == j else 1 for j in range(len(axes))]))
    return bits


def white(seed: int, box: Box) -> Array:
    """Independent values of unit variance: sums of four uniforms, near enough to normal.

    Args:
        seed: 63 bits, see :func:`msgan.seeds.derive`.
        box: Voxels; it may lie anywhere.

    Returns:
        float32 of the box's shape.
    """
    axes = [np.arange(a, b, dtype=np.int64) for a, b in zip(box.start, box.stop, strict=True)]
    bits = scramble(seed, axes)
    total = np.zeros(box.size, np.int64)
    for shift in (0, 16, 32, 48):
        total += ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    return ((total - 2 * 65535) / (65536 / np.sqrt(3))).astype(np.float32)


def value_noise(seed: int, axes: Sequence[Array], lattice_mm: float) -> Array:
    """A smooth field, uniform in [-1, 1] at the points of a lattice and blended between them.

    Args:
        seed: 63 bits, see :func:`msgan.seeds.derive`.
        axes: Positions (float32, mm) along each axis.
        lattice_mm: Distance of the points.

    Returns:
        float32 of shape ``[len(a) for a in axes]``.
    """
    places = [a / np.float32(lattice_mm) for a in axes]
    cells = [np.floor(p).astype(np.int64) for p in places]
    knots = [np.arange(c.min(), c.max() + 2, dtype=np.int64) for c in cells]
    bits = scramble(seed, knots) >> np.uint64(40)
    out = bits.astype(np.float32) * np.float32(2 / 2**24) - np.float32(1)
    for axis, (place, cell, knot) in enumerate(zip(places, cells, knots, strict=True)):
        t = place - cell.astype(np.float32)
        t = t * t * (3 - 2 * t)
        t = t.reshape([-1 if k == axis else 1 for k in range(len(axes))])
        low = np.take(out, cell - knot[0], axis)
        out = low + t * (np.take(out, cell - knot[0] + 1, axis) - low)
    return out
