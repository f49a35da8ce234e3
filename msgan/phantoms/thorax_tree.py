"""Vessels and airways of the thorax phantom: trees of cylinders that fill the lungs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msgan.types import Array

MURRAY = 2.7
"""Radius goes with the number of leaves to one over this (3 in Murray's law, less in lungs)."""


@dataclass(frozen=True)
class Tree:
    """Cylinders with round ends: float32 ``start`` and ``stop`` (n, 3), ``radius`` (n,), in mm."""

    start: Array
    stop: Array
    radius: Array

    @classmethod
    def grow(
        cls, root: Sequence[float] | Array, leaves: Array, leaf_mm: float, widest_mm: float
    ) -> Tree:
        """Branch in two until each leaf has its own twig.

        Args:
            root: Where the tree enters, mm.
            leaves: (n, 3) ends of the twigs, mm.
            leaf_mm: Radius of a twig.
            widest_mm: Largest radius.
        """
        start, stop, radius = [], [], []
        rest = [(np.asarray(root, np.float64), np.asarray(leaves, np.float64))]
        while rest:
            place, ends = rest.pop()
            n = len(ends)
            if n == 1:
                fork = ends[0]
            else:
                fork = place + 0.42 * (ends.mean(0) - place)
                axis = int(np.ptp(ends, axis=0).argmax())
                order = ends[np.argsort(ends[:, axis], kind="stable")]
                rest += [(fork, order[: n // 2]), (fork, order[n // 2 :])]
            start.append(place)
            stop.append(fork)
            radius.append(min(leaf_mm * n ** (1 / MURRAY), widest_mm))
        return cls(*(np.array(v, np.float32) for v in (start, stop, radius)))

    def with_cylinder(
        self, start: Sequence[float] | Array, stop: Sequence[float] | Array, radius: float
    ) -> Tree:
        """The tree and one cylinder more."""
        return Tree(
            np.vstack([self.start, np.array([start], np.float32)]),
            np.vstack([self.stop, np.array([stop], np.float32)]),
            np.append(self.radius, np.array([radius], np.float32)),
        )

    def joined(self, other: Tree) -> Tree:
        """Both trees."""
        return Tree(
            np.vstack([self.start, other.start]),
            np.vstack([self.stop, other.stop]),
            np.append(self.radius, other.radius),
        )

    def cover(self, axes: Sequence[Array], voxel_mm: float, grow_mm: float = 0.0) -> Array:
        """Share of each voxel that is inside, about: 1 inside, 0 outside, between at the surface.

        Args:
            axes: Positions along each axis, float32 mm.
            voxel_mm: Side of a voxel; thinner cylinders fill a part of it.
            grow_mm: Added to each radius, which also grows by 15 % if this is not 0 (a wall).
        """
        out = np.zeros([len(a) for a in axes], np.float32)
        h = np.float32(voxel_mm)
        radius = self.radius * np.float32(1.15) + np.float32(grow_mm) if grow_mm else self.radius
        reach = (radius + h)[:, None]
        low = np.minimum(self.start, self.stop) - reach
        high = np.maximum(self.start, self.stop) + reach
        ends = np.array([[a[0], a[-1]] for a in axes], np.float32)
        near = np.flatnonzero(((high >= ends[:, 0]) & (low <= ends[:, 1])).all(1))
        for n in near:
            where = tuple(
                slice(*np.searchsorted(a, (low[n, k], high[n, k]))) for k, a in enumerate(axes)
            )
            if 0 in out[where].shape:
                continue
            along = self.stop[n] - self.start[n]
            length = along[0] * along[0] + along[1] * along[1] + along[2] * along[2]
            parts = [
                (a[w] - s).reshape([-1 if j == k else 1 for j in range(3)])
                for k, (a, w, s) in enumerate(zip(axes, where, self.start[n], strict=True))
            ]
            t = parts[0] * along[0] + parts[1] * along[1] + parts[2] * along[2]
            t = np.clip(t / max(length, np.float32(1e-6)), 0, 1)
            x, y, z = (p - t * c for p, c in zip(parts, along, strict=True))
            distance = np.sqrt(x * x + y * y + z * z) - radius[n]
            share = np.clip(np.float32(0.5) - distance / h, 0, 1)
            share = share * min(np.float32(1), 2 * radius[n] / h)
            out[where] = np.maximum(out[where], share)
        return out
