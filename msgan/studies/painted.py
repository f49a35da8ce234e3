"""Lesions painted by hand: balls in millimetres, so that a mask of any image takes no memory.

What figures 9 and 10 of the extended paper (section 3.2.2) do with tumours of patients, for a
lesion that somebody makes up.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from msgan.data.grid import Grid
from msgan.data.writing import write_volume
from msgan.types import Array, Box, InputError

ERASED = 0
"""Value of a ball that takes away what was painted before it."""


@dataclass(frozen=True)
class Ball:
    """One touch of the brush.

    Attributes:
        centre: Voxel.
        radius: mm.
        value: Label that it is painted with; :data:`ERASED` takes away.
    """

    centre: tuple[int, ...]
    radius: float
    value: int


@dataclass(frozen=True)
class PaintedLesion:
    """A label map of balls, later ones over earlier ones.

    Attributes:
        grid: Of the image that it lies on.
        balls: In the order of painting.
    """

    grid: Grid
    balls: tuple[Ball, ...] = ()

    def painted(self, centre: Sequence[int], radius: float, value: int) -> PaintedLesion:
        """With a ball more.

        Raises:
            InputError: It lies outside the image, has no size, or its value is no label.
        """
        at = tuple(int(v) for v in centre)
        shape = self.grid.shape
        if len(at) != len(shape) or any(not 0 <= v < n for v, n in zip(at, shape, strict=True)):
            raise InputError(f"centre {at}: outside an image of shape {shape}")
        if not 0 < radius < np.inf:
            raise InputError(f"radius {radius:g} mm: expected a number above 0")
        if not 0 <= value <= 255:
            raise InputError(f"label {value}: expected 0 to 255")
        return replace(self, balls=(*self.balls, Ball(at, float(radius), int(value))))

    def grown(self, by: float) -> PaintedLesion:
        """All of it larger by so many mm, or smaller: holes shrink as the rest grows."""
        sizes = [b.radius + (by if b.value else -by) for b in self.balls]
        kept = zip(self.balls, sizes, strict=True)
        return replace(self, balls=tuple(replace(b, radius=r) for b, r in kept if r > 0))

    def undone(self) -> PaintedLesion:
        """Without the last ball."""
        return replace(self, balls=self.balls[:-1])

    def read(self, box: Box) -> Array:
        """(*box) uint8 labels; 0 where nothing is painted."""
        out = np.zeros(box.size, dtype=np.uint8)
        for ball in self.balls:
            part = self._around(ball).inside(box).clipped(box.size).shifted(box.start)
            if not part.voxels:
                continue
            near = self._distance(ball, part) <= ball.radius
            out[part.inside(box).slices][near] = ball.value
        return out

    @property
    def volume_ml(self) -> float:
        """Of all labels together."""
        spans = [self._around(ball) for ball in self.balls if ball.value]
        if not spans:
            return 0.0
        start = tuple(min(axis) for axis in zip(*(s.start for s in spans), strict=True))
        stop = tuple(max(axis) for axis in zip(*(s.stop for s in spans), strict=True))
        whole = Box(start, tuple(b - a for a, b in zip(start, stop, strict=True)))
        side = (64,) * whole.dims
        count = sum(int((self.read(box) > 0).sum()) for box in whole.tiles(side))
        return count * float(np.prod(self.grid.spacing)) / 1000

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a label map on the image's grid, box by box."""
        write_volume(path, self.grid, self.read, dtype=np.uint8)

    def _around(self, ball: Ball) -> Box:
        """The voxels of the image that it may reach."""
        inverse = np.linalg.inv(self.grid.affine[:-1, :-1])
        reach = [int(np.ceil(ball.radius * float(n))) for n in np.linalg.norm(inverse, axis=1)]
        start = tuple(c - r for c, r in zip(ball.centre, reach, strict=True))
        return Box(start, tuple(2 * r + 1 for r in reach)).clipped(self.grid.shape)

    def _distance(self, ball: Ball, box: Box) -> Array:
        """(*box) mm from its centre."""
        linear, dims = self.grid.affine[:-1, :-1], box.dims
        steps = np.ix_(*(np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True)))
        away = [step - c for step, c in zip(steps, ball.centre, strict=True)]
        rows = (sum(linear[i, k] * away[k] for k in range(dims)) for i in range(dims))
        return np.asarray(np.sqrt(sum(np.square(row) for row in rows)))
