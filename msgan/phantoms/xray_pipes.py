"""Rays through cylinders with round ends: where each enters and leaves, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msgan.phantoms.thorax_tree import Tree
from msgan.types import Array, InputError

SURE_MM = np.float32(1e-3)
"""Further than this from a surface rounding cannot put a point on the other side."""

Values = Array | np.float32

Chord = tuple[tuple[slice, slice], Array, Array, float, float]
"""Pixels whose rays may hit a cylinder, y where they enter and leave, least and largest y of it."""


@dataclass(frozen=True)
class Beam:
    """Rays from a source behind the patient (PA) through the plane y = 0, where pixels are.

    Attributes:
        source_mm: Distance of the source from that plane; None for parallel rays.
    """

    source_mm: float | None = 1650.0

    def __post_init__(self) -> None:
        if self.source_mm is not None and not 500 <= self.source_mm < np.inf:
            raise InputError(f"source at {self.source_mm} mm: expected 500 or more, or None")

    @property
    def slope(self) -> np.float32:
        """Relative growth of a ray's x and z with each mm of y; 0 for parallel rays."""
        return np.float32(0 if self.source_mm is None else 1 / self.source_mm)

    def width(self, y: Any) -> Any:
        """x and z of a ray at ``y`` (float32) as multiples of those in the plane y = 0."""
        return np.float32(1) + y * self.slope


@dataclass(frozen=True)
class Pipes:
    """What is inside a tree's cylinders.

    Attributes:
        tree: The cylinders.
        grow_mm: Thickness of a wall, see :meth:`msgan.phantoms.thorax_tree.Tree.cover`.
        hu: Its value.
        within: Surface that limits it; None: everywhere.
    """

    tree: Tree
    grow_mm: float
    hu: float
    within: str | None


def chords(pipes: Pipes, beam: Beam, rows: Array, columns: Array) -> list[Chord]:
    """The cylinders that rays through a grid of (``columns``, 0, ``rows``) may hit."""
    tree, grow = pipes.tree, pipes.grow_mm
    radii = tree.radius * np.float32(1.15) + np.float32(grow) if grow else tree.radius
    low = np.minimum(tree.start, tree.stop) - radii[:, None]
    high = np.maximum(tree.start, tree.stop) + radii[:, None]
    # Shadows in the plane y = 0; which end of y magnifies most depends on the side.
    wide = beam.width(np.stack([low[:, 1], high[:, 1]], 1))
    near = np.ones(len(radii), bool)
    shadows = []
    for own, k in ((rows, 2), (columns, 0)):
        ends = np.stack([low[:, k], high[:, k]], 1)[:, :, None] / wide[:, None, :]
        first, last = ends.min((1, 2)) - SURE_MM, ends.max((1, 2)) + SURE_MM
        near &= (last >= own.min()) & (first <= own.max())
        shadows.append((own, first, last))
    out = []
    for n in np.flatnonzero(near):
        places = []
        for own, first, last in shadows:
            hits = np.flatnonzero((own >= first[n]) & (own <= last[n]))
            places.append((int(hits[0]), int(hits[-1]) + 1) if len(hits) else (0, 0))
        (top, bottom), (left, right) = places
        if top == bottom or left == right:
            continue
        z, x = rows[top:bottom, None], columns[left:right]
        enter, leave = _capsule(beam, z, x, tree.start[n], tree.stop[n], radii[n])
        where = slice(top, bottom), slice(left, right)
        out.append((where, enter, leave, float(low[n, 1]), float(high[n, 1])))
    return out


def _capsule(
    beam: Beam, z: Array, x: Array, a: Array, b: Array, r: np.float32
) -> tuple[Array, Array]:
    """y where rays through (x, 0, z) enter and leave a cylinder with round ends.

    A ray that misses leaves before it enters. Quadratic equations for the side and, where the ray
    leaves the side beyond an end, for the ball at that end.
    """
    middle = (a[1] + b[1]) * np.float32(0.5)  # numbers stay small where they are squared
    wide = beam.width(middle)
    ray = (x * beam.slope, np.float32(1), z * beam.slope)
    own = b - a
    to = (x * wide - a[0], middle - a[1], z * wide - a[2])

    def dot(p: Sequence[Values], q: Sequence[Values]) -> Any:
        return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]

    length = np.maximum(dot(own, own), np.float32(1e-6))
    along, offset, square = dot(own, ray), dot(own, to), dot(ray, ray)
    facing = dot(ray, to)
    lead = np.maximum(length * square - along * along, np.float32(1e-6))
    half = length * facing - offset * along
    rest = length * (dot(to, to) - r * r) - offset * offset
    inside = half * half - lead * rest
    root = np.sqrt(np.maximum(inside, 0))
    away = (x * wide - b[0], middle - b[1], z * wide - b[2])
    balls = []
    for place in (to, away):
        turn = dot(ray, place)
        below = turn * turn - square * (dot(place, place) - r * r)
        balls.append((turn, np.sqrt(np.maximum(below, 0)), below))
    ends = []
    miss = inside < 0
    for sign in (np.float32(-1), np.float32(1)):
        side = (sign * root - half) / lead
        where = offset + side * along
        first, last = ((sign * s - t) / square for t, s, _ in balls)
        ends.append(np.where(where < 0, first, np.where(where > length, last, side)))
        beyond = np.where(where < 0, balls[0][2] < 0, (where > length) & (balls[1][2] < 0))
        miss = miss | beyond
    enter, leave = ends
    shape = np.broadcast_shapes(enter.shape, z.shape, x.shape)
    enter = np.broadcast_to(np.where(miss, np.float32(np.inf), enter + middle), shape)
    leave = np.broadcast_to(np.where(miss, np.float32(-np.inf), leave + middle), shape)
    return enter, leave
