"""Smooth random fields on a box in millimetres, the same at every resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msgan.types import Array


def centres(origin: Sequence[float], extent: Sequence[float], shape: Sequence[int]) -> list[Array]:
    """Voxel centres (mm) along each axis of a box of ``extent`` mm cut into ``shape`` voxels."""
    return [
        (o + (np.arange(n) + 0.5) * (e / n)).astype(np.float32)
        for o, e, n in zip(origin, extent, shape, strict=True)
    ]


def _basis(positions: Array, start: float, step: float, count: int) -> Array:
    """Cubic B-splines with ``count`` knots ``step`` mm apart, at ``positions``: (n, count)."""
    t = np.abs((positions[:, None] - start) / step - np.arange(count)[None])
    near = 2 / 3 - t**2 * (1 - t / 2)
    far = np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, near, far).astype(np.float32)


def field(
    rng: np.random.Generator,
    axes: Sequence[Array],
    origin: Sequence[float],
    extent: Sequence[float],
    lattice_mm: float,
    *,
    uniform: bool = False,
) -> Array:
    """A cubic B-spline field with random coefficients on a lattice over the box.

    The coefficients depend on the box and the lattice only, never on the voxels, so a subject is
    the same at 64 and at 192 voxels. Bases are separable: the cost is three small products.

    Args:
        rng: source of the coefficients.
        axes: positions (mm) along each axis, see :func:`centres`.
        origin: corner of the box in mm.
        extent: sides of the box in mm.
        lattice_mm: distance of the knots; structures are about twice as wide.
        uniform: coefficients uniform in [-1, 1], so that the field stays inside too (a B-spline is
            a convex sum); otherwise normal, scaled so that the field has unit variance.

    Returns:
        float32 of shape ``[len(a) for a in axes]``.
    """
    counts = [int(np.ceil(e / lattice_mm)) + 3 for e in extent]
    if uniform:
        coefficients = rng.uniform(-1, 1, counts)
    else:
        # Mean of the summed squared basis over a cell, per axis: the variance a field keeps.
        coefficients = rng.standard_normal(counts) / (151 / 315) ** (len(counts) / 2)
    out = coefficients.astype(np.float32)
    for axis, (a, o, n) in enumerate(zip(axes, origin, counts, strict=True)):
        basis = _basis(a, o - lattice_mm, lattice_mm, n)
        out = np.moveaxis(np.tensordot(basis, out, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(out)


def block_mean(values: Array, factor: int) -> Array:
    """Mean over blocks of ``factor`` voxels a side: what a coarser voxel would measure."""
    if factor == 1:
        return values
    split: list[int] = []
    for n in values.shape:
        split += [n // factor, factor]
    return values.reshape(split).mean(axis=tuple(range(1, 2 * values.ndim, 2)), dtype=np.float32)
