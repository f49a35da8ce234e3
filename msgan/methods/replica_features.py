"""What REPLICA's forests know of a voxel: neighbours, rings around it, and the coarser guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import cos, pi, sin

import numpy as np

from msgan.pyramid import extended, halved, read_continued
from msgan.types import Array, Box, Reader, Shape

BACKGROUND = -1.0

DIRECTIONS = 8
"""Regions on a ring, 45 degrees apart."""


@dataclass(frozen=True)
class Rings:
    """Where the context descriptor of one scale looks (Jog et al., 2017; their public code).

    Attributes:
        radii: Of the rings, voxels of the scale.
        widths: Sides of the cubes on each ring that intensities are averaged in, odd.
    """

    radii: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def halo(self) -> int:
        """Voxels around a voxel that its features depend on."""
        return max(r + w // 2 for r, w in zip(self.radii, self.widths, strict=True))


RINGS = (
    Rings((4, 8, 16, 32), (3, 5, 7, 9)),
    Rings((2, 4, 8, 16), (3, 5, 7, 9)),
    Rings((2, 4, 8, 16), (1, 3, 5, 7)),
)
"""Of the three scales, the finest first."""


class Surroundings:
    """The features of the voxels of one box, at one scale.

    A voxel has 3^d intensities around it; the means of cubes on rings in the axial plane, counted
    from the direction towards the middle of the image; and, but for the coarsest scale, what the
    coarser forest made of this place, interpolated linearly.
    Differs: REPLICA turns the rings towards the middle of a whole image, of heads that lie alike
    in it. Here it is the middle of the working grid, which is cropped to the foreground, so that
    nothing has to be aligned.

    Each feature is a fixed order of single additions, multiplications, divisions and roots of
    the same voxels, so that it is equal to the bit whatever box it is computed in: a tree
    decides, and a last bit could turn a decision.
    """

    def __init__(
        self,
        image: Reader,
        shape: Shape,
        box: Box,
        rings: Rings,
        below: Reader | None = None,
        rim: int = 0,
    ) -> None:
        """Read what is needed around ``box``, and no more.

        Args:
            image: The source in [-1, 1] at this scale; canonical axes, so that the first two
                are the axial plane.
            shape: Of this scale.
            box: Whose voxels will be asked for, inside ``shape``.
            rings: Of this scale.
            below: What was predicted at half the resolution; None at the coarsest scale.
            rim: Voxels beyond ``shape`` that ``image`` gives.
        """
        self.shape = shape
        self.rings = rings
        # Beyond this nothing changes: a cube farther out has the mean of one just outside.
        seen = Box.whole(shape).grown(max(rings.widths))
        endless = extended(image, shape, rim)
        around = box.grown(rings.halo).inside(seen).clipped(seen.size)
        self._around = around.shifted(seen.start)
        self._part = endless(self._around)
        self._means = [_means(self._part, width) for width in rings.widths]
        self._coarse = box.coarse(2).grown(1)
        self._below: Array | None = None
        if below is not None:
            half = tuple(n // 2 for n in shape)
            source = halved(endless, len(shape))
            self._below = read_continued(below, source, half, self._coarse)

    def of(self, voxels: Array) -> Array:
        """(n, features) float32 of (n, d) indices at this scale, which lie inside the box."""
        dims = voxels.shape[1]
        here = voxels - np.array(self._around.start)
        columns = [
            _picked(self._part, here + np.array(step)) for step in product((-1, 0, 1), repeat=dims)
        ]
        towards = self._towards(voxels)
        size = np.array(self.shape)
        for radius, width, means in zip(
            self.rings.radii, self.rings.widths, self._means, strict=True
        ):
            reach = width // 2
            begin = np.array(self._around.start) + reach  # a mean is kept where its cube begins
            for k in range(DIRECTIONS):
                place = voxels.copy()
                turned = _turned(towards, 2 * pi * k / DIRECTIONS)
                place[:, :2] += np.rint(radius * turned).astype(place.dtype)
                columns.append(_picked(means, place.clip(-reach - 1, size + reach) - begin))
        if self._below is not None:
            columns.append(_linear(self._below, voxels, self._coarse.start))
        return np.stack(columns, axis=1)

    def _towards(self, voxels: Array) -> Array:
        """(n, 2) unit vectors in the axial plane to the middle of the image; 0 in the middle."""
        middle = (np.array(self.shape[:2]) - 1) / 2
        way = middle - voxels[:, :2]
        length = np.sqrt(way[:, 0] * way[:, 0] + way[:, 1] * way[:, 1])
        return way / np.where(length > 0, length, 1)[:, None]


def _turned(vectors: Array, angle: float) -> Array:
    x, y = vectors[:, 0], vectors[:, 1]
    return np.stack([cos(angle) * x - sin(angle) * y, sin(angle) * x + cos(angle) * y], axis=1)


def _means(part: Array, width: int) -> Array:
    """Means of all cubes of ``width`` that fit into ``part``, by the voxel they begin at.

    Plain sums: a running sum would depend on where it began.
    """
    total = part
    for axis in range(part.ndim):
        lines = np.moveaxis(total, axis, 0)
        size = len(lines) - width + 1
        summed = lines[:size].copy()
        for k in range(1, width):
            summed += lines[k : k + size]
        total = np.moveaxis(summed, 0, axis)
    return np.ascontiguousarray(total) * np.float32(1 / width**part.ndim)


def _picked(values: Array, at: Array) -> Array:
    return values[tuple(at.T)]


def _linear(coarse: Array, voxels: Array, start: Sequence[int]) -> Array:
    """Values at twice the resolution; ``coarse`` begins at voxel ``start`` of its scale."""
    middle = voxels // 2 - np.array(start)
    other = np.where(voxels % 2, 1, -1)
    total = np.zeros(len(voxels), np.float32)
    for corner in product((0, 1), repeat=voxels.shape[1]):
        weight = np.float32(0.75 ** corner.count(0) * 0.25 ** corner.count(1))
        total += weight * _picked(coarse, middle + other * np.array(corner))
    return total
