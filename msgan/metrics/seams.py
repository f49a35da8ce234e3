"""Seam score: whether jumps at the faces of tiles are larger than elsewhere.

The papers show seams in figures only (extended paper, fig. 5); this puts a number and a p-value
on them. At position k along an axis the jump is x[k] - x[k-1]. Anatomy jumps too, but much of it
goes on at the same slope, so by default the jump that the two neighbouring differences predict is
subtracted: e[k] = |(x[k] - x[k-1]) - ((x[k-1] - x[k-2]) + (x[k+1] - x[k])) / 2|. A step of height
h at k gives e[k] = h, and h / 2 at k - 1 and k + 1, which therefore count neither as face nor as
inside. Each face is compared with positions at most 5 voxels (and half a tile) away, so that
how anatomy changes along the axis cancels.

The test asks whether the position of the grid matters: under the null hypothesis the phase of
the grid has nothing to do with the image, so the observed phase is one draw among all
``tile^dims`` phases and its rank is the p-value. No distribution is assumed and voxels need not be
independent. Along each axis the middle whole number of tiles is used, so that every phase has the
same number of faces. The smallest possible p is one over the number of phases compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import inf, prod

import numpy as np

from msgan import seeds
from msgan.metrics.structure import reader_of
from msgan.types import Array, Box, InputError, Reader, Shape

_BLOCK = {2: 2048, 3: 128}
_SMALLEST_TILE = 4  # a face, its two neighbours, and one position that is inside
_NEAR = 5  # how far from a face its comparison reaches, voxels


@dataclass(frozen=True, slots=True)
class SeamScore:
    """Jumps across the faces of tiles against jumps inside tiles.

    ``face`` and ``inside`` (near the faces) are mean jumps in the unit of the image, ``ratio`` is
    their quotient (1: no seams; an image without any jump has ratio 1). ``faces``
    counts grid planes, ``n`` the voxels on them, ``phases`` the grid positions that ``p_value``
    (one-sided) compares, all there are if ``exact``.
    """

    ratio: float
    p_value: float
    face: float
    inside: float
    faces: int
    n: int
    phases: int
    exact: bool


def seam_score(
    image: Array,
    tile: int | Sequence[int],
    *,
    offset: int | Sequence[int] = 0,
    reference: Array | None = None,
    mask: Array | None = None,
    extrapolate: bool = True,
    pool: int = 1,
    permutations: int = 999,
    seed: int = 0,
) -> SeamScore:
    """Seam score of an image of shape (i, j) or (i, j, k) in memory.

    Args:
        image: The stitched image.
        tile: Voxels between faces (the core of a detail), at least 4; one number or one an axis.
        offset: Index of a face along each axis (faces lie before index ``offset + m * tile``).
        reference: The same translation without tiles (the whole-image result). It is subtracted,
            so that nothing but the tiling is left. Do not pass the real image: where the
            translation misses an edge, the difference has that edge. Score the real image by
            itself instead; it is the control and should give a ratio near 1.
        mask: Voxels that count where not zero (all voxels that a jump looks at must).
        extrapolate: Subtract the jump that the neighbouring differences predict; without it
            the plain absolute jump is taken.
        pool: Average jumps over squares of this many voxels a side within the plane of a face
            before the absolute value is taken. A step that is the same all along a face
            stays, texture averages out: small offsets between tiles show with 8.
        permutations: Random grid phases to compare with; if there are no more phases than
            this, all are compared and the p-value is exact.
        seed: Seed of the random phases.

    Raises:
        InputError: a tile below 4, no axis long enough to hold a face at every phase, shapes
            that differ, NaN, an empty mask or ``permutations`` below 1.
    """
    for name, other in (("reference", reference), ("mask", mask)):
        if other is not None and other.shape != image.shape:
            raise InputError(f"{name} of shape {other.shape}: expected {image.shape}, the image's")
    return seam_score_of(
        reader_of(image),
        image.shape,
        tile,
        offset=offset,
        read_reference=None if reference is None else reader_of(reference),
        read_mask=None if mask is None else reader_of(mask),
        extrapolate=extrapolate,
        pool=pool,
        permutations=permutations,
        seed=seed,
    )


def seam_score_of(
    read: Reader,
    shape: Sequence[int],
    tile: int | Sequence[int],
    *,
    offset: int | Sequence[int] = 0,
    read_reference: Reader | None = None,
    read_mask: Reader | None = None,
    extrapolate: bool = True,
    pool: int = 1,
    permutations: int = 999,
    seed: int = 0,
    block: Sequence[int] | None = None,
) -> SeamScore:
    """:func:`seam_score` of an image of any size, read block by block with a halo of 2 voxels."""
    shape = tuple(int(n) for n in shape)
    dims = len(shape)
    if dims not in (2, 3):
        raise InputError(f"image of shape {shape}: expected 2 or 3 axes")
    tiles, offsets = _per_axis("tile", tile, dims), _per_axis("offset", offset, dims)
    if min(tiles) < _SMALLEST_TILE:
        raise InputError(f"tile {tile}: expected at least {_SMALLEST_TILE} voxels")
    for name, number in (("permutations", permutations), ("pool", pool)):
        if number < 1:
            raise InputError(f"{name} {number}: expected at least 1")
    # An axis takes part if it has a face whatever the phase; else phases could not be compared.
    lost = 3 if extrapolate else 1  # positions at the ends of an axis that have no jump
    axes = [a for a in range(dims) if shape[a] - lost >= tiles[a]]
    if not axes:
        raise InputError(f"tile {tile}: no axis of an image of shape {shape} holds a face")
    wanted = block or (_BLOCK[dims],) * dims
    whole_pools = tuple(-(-b // pool) * pool for b in wanted)  # no square is cut by a block
    readers = (read, read_reference, read_mask)
    sums, counts = _profiles(readers, shape, whole_pools, extrapolate, pool)
    if not any(counts[a].sum() for a in axes):
        raise InputError("mask: empty mask: no jump lies inside it")

    table = [_phase_sums(sums[a], counts[a], tiles[a], extrapolate) for a in axes]
    observed = tuple(offsets[a] % tiles[a] for a in axes)
    total = prod(tiles[a] for a in axes)
    exact = total <= permutations
    if exact:
        phases = np.array(list(product(*(range(tiles[a]) for a in axes))))
    else:
        rng = seeds.numpy_rng(seed, "seam phases")
        draws = [rng.integers(tiles[a], size=permutations) for a in axes]
        # The observed phase is part of the null set: the p-value is never zero.
        phases = np.vstack([observed, np.stack(draws, axis=1)])
    face, inside, n = _means(table, np.array([observed]))
    ratio = _ratios(face, inside)[0]
    others = _ratios(*_means(table, phases)[:2])
    at_least = others >= ratio * (1 - 1e-12)  # ties count, whatever the rounding
    return SeamScore(
        ratio=float(ratio),
        p_value=float(at_least.mean()),
        face=float(face[0]),
        inside=float(inside[0]),
        faces=sum((shape[a] - lost) // tiles[a] for a in axes),
        n=int(n[0]),
        phases=len(phases),
        exact=exact,
    )


def _profiles(
    readers: tuple[Reader, Reader | None, Reader | None],
    shape: Shape,
    block: Shape,
    extrapolate: bool,
    pool: int,
) -> tuple[list[Array], list[Array]]:
    """Sum and number of jumps at each position along each axis; all the test needs to know."""
    sums = [np.zeros(n) for n in shape]
    counts = [np.zeros(n, dtype=np.int64) for n in shape]
    before, after = (2, 1) if extrapolate else (1, 0)  # what the jump at k looks at, beside k
    read, read_reference, read_mask = readers
    for core in Box.whole(shape).tiles(block):
        box = core.grown(2).clipped(shape)
        image = read(box).astype(np.float64)
        if read_reference is not None:
            image = image - read_reference(box)
        if not np.isfinite(image).all():
            raise InputError("image: a voxel is NaN or infinite: expected finite values")
        mask = None if read_mask is None else read_mask(box).astype(bool)
        for axis, n in enumerate(shape):
            low = max(core.start[axis], before)
            high = min(core.stop[axis], n - after)
            if high <= low:
                continue
            views = []
            for step in range(-before, after + 1):
                size = list(core.size)
                start = list(core.start)
                start[axis], size[axis] = low + step, high - low
                views.append(Box(tuple(start), tuple(size)).inside(box).slices)
            jump = _jump([image[v] for v in views])
            keep = np.ones(jump.shape, bool)
            if mask is not None:
                keep = np.logical_and.reduce([mask[v] for v in views])
            across = tuple(a for a in range(len(shape)) if a != axis)
            jump = np.where(keep, jump, 0)
            if pool > 1:
                for a in across:
                    jump = np.add.reduceat(jump, np.arange(0, jump.shape[a], pool), axis=a)
            sums[axis][low:high] += np.abs(jump).sum(axis=across)
            counts[axis][low:high] += keep.sum(axis=across)
    return sums, counts


def _jump(x: list[Array]) -> Array:
    if len(x) == 2:
        return x[1] - x[0]
    return (x[2] - x[1]) - ((x[1] - x[0]) + (x[3] - x[2])) / 2


def _phase_sums(total: Array, count: Array, tile: int, extrapolate: bool) -> Array:
    """(tile, 3): over the faces of each phase, sum of jumps, sum expected from inside, number."""
    near, apart = min(_NEAR, tile // 2), 2 if extrapolate else 1
    weights = np.zeros(2 * near + 1)
    weights[: near - apart + 1] = weights[near + apart :] = 1
    number = np.convolve(count, weights, mode="same")
    expected = np.convolve(total, weights, mode="same") / np.maximum(number, 1) * count
    usable = number > 0
    first, last = (2, len(total) - 1) if extrapolate else (1, len(total))
    kept = (last - first) // tile * tile
    first += (last - first - kept) // 2
    out = np.zeros((tile, 3))
    for k in range(first, first + kept):
        if usable[k]:
            out[k % tile] += total[k], expected[k], count[k]
    return out


def _means(table: list[Array], phases: Array) -> tuple[Array, Array, Array]:
    """Mean jump on faces and near them for each row of phases, all axes pooled; voxels on faces."""
    pooled = np.zeros((len(phases), 3))
    for column, sums in zip(phases.T, table, strict=True):
        pooled += sums[column]
    n = np.maximum(pooled[:, 2], 1)
    return pooled[:, 0] / n, pooled[:, 1] / n, pooled[:, 2]


def _ratios(face: Array, inside: Array) -> Array:
    safe = np.where(inside > 0, inside, 1)
    return np.where(inside > 0, face / safe, np.where(face > 0, inf, 1.0))


def _per_axis(name: str, value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    values = (value,) * dims if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != dims:
        raise InputError(f"{name} {value}: expected one number or {dims}, one an axis")
    return values
