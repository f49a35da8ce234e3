"""Orientation of planes in an image, and the voxel below a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from msgan.data.grid import Grid
from msgan.plots.frame import PLANES, SIDES
from msgan.types import Array, Box, InputError, Shape


@dataclass(frozen=True, eq=False)
class Planes:
    """The planes of a grid, with the conventions of the figures (:mod:`msgan.plots`).

    Attributes:
        shape: Voxels along each axis.
        spacing: Size of a voxel in mm along each axis.
        affine: Index -> mm. In 3D it makes the planes anatomical, the left of the body on the
            left; without it they follow the index axes. Row 0 of a 2D image is at its top.
        radiological: Instead the left of the body is on the right, where planes are anatomical.
    """

    shape: Shape
    spacing: tuple[float, ...]
    affine: Array | None = None
    radiological: bool = False

    @classmethod
    def of(
        cls, shape: Shape, spacing: Sequence[float] | None, affine: Array | None, name: str
    ) -> Planes:
        """The planes of the image ``name``; spacing by default from the affine, else 1.

        Raises:
            InputError: Not 2 or 3 axes, or a spacing or affine that does not fit.
        """
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise InputError(f"{name}: image of shape {shape}: expected 2 or 3 axes")
        grid = None if affine is None else Grid(shape, affine)
        usual = (1.0,) * len(shape) if grid is None else grid.spacing
        sizes = usual if spacing is None else tuple(float(s) for s in spacing)
        if len(sizes) != len(shape) or not min(sizes) > 0:
            raise InputError(f"spacing {sizes}: expected {len(shape)} positive sizes")
        return cls(shape, sizes, None if grid is None else grid.affine)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the planes; a 2D image has one without a name."""
        return tuple(PLANES) if len(self.shape) == 3 else ("",)

    @property
    def middle(self) -> tuple[int, ...]:
        """The voxel in the middle."""
        return tuple(n // 2 for n in self.shape)

    def axes(self, plane: str) -> tuple[int, int, int]:
        """Array axes that run right, up (of a 2D image: down), and through the plane.

        Raises:
            InputError: There is no such plane.
        """
        if plane not in self.names:
            raise InputError(f"plane {plane!r} is none of {', '.join(self.names) or 'none'}")
        if not plane:
            return 1, 0, -1
        if self._orientation is None:
            return PLANES[plane]
        order = [int(np.flatnonzero(self._orientation[:, 0] == a)[0]) for a in range(3)]
        x, y, through = (order[a] for a in PLANES[plane])
        return x, y, through

    def count(self, plane: str) -> int:
        """How many slices a plane has."""
        return self.shape[self.axes(plane)[2]] if plane else 1

    def size(self, plane: str) -> tuple[float, float]:
        """Width and height of a slice in mm."""
        x, y, _ = self.axes(plane)
        return self.shape[x] * self.spacing[x], self.shape[y] * self.spacing[y]

    def index(self, plane: str, at: Sequence[int]) -> int:
        """Which slice of a plane the voxel ``at`` lies in."""
        return at[self.axes(plane)[2]] if plane else 0

    def box(self, plane: str, index: int) -> Box:
        """The voxels of one slice.

        Raises:
            InputError: There is no such plane or slice.
        """
        through = self.axes(plane)[2]
        if not 0 <= index < self.count(plane):
            raise InputError(
                f"slice {index}: the {plane} plane has slices 0 to {self.count(plane) - 1}"
            )
        if not plane:
            return Box.whole(self.shape)
        start = tuple(index if a == through else 0 for a in range(3))
        return Box(start, tuple(1 if a == through else n for a, n in enumerate(self.shape)))

    def upright(self, part: Array, plane: str) -> Array:
        """The voxels of :meth:`box` as a picture, row 0 at its top."""
        if not plane:
            return part
        x, y, through = self.axes(plane)
        part = part.squeeze(through)
        right, down = self._forward(plane)
        return (part.T if x < y else part)[:: 1 if down else -1, :: 1 if right else -1]

    def point(self, plane: str, at: Sequence[int]) -> tuple[float, float]:
        """Where the middle of a voxel lies: shares of the picture from its left and its top."""
        ends = zip(self.axes(plane)[:2], self._forward(plane), strict=True)
        right, down = (
            ((at[a] if on else self.shape[a] - 1 - at[a]) + 0.5) / self.shape[a] for a, on in ends
        )
        return right, down

    def voxel(self, plane: str, right: float, down: float, at: Sequence[int]) -> tuple[int, ...]:
        """The voxel at a point of the slice through ``at``; the nearest, of points outside."""
        found = list(at)
        ends = zip(self.axes(plane)[:2], self._forward(plane), (right, down), strict=True)
        for axis, on, share in ends:
            last = self.shape[axis] - 1
            index = min(max(int(share * (last + 1)), 0), last)
            found[axis] = index if on else last - index
        return tuple(found)

    def position(self, at: Sequence[int]) -> tuple[float, ...] | None:
        """Where a voxel lies in mm; ``None`` without an affine."""
        if self.affine is None:
            return None
        return tuple(float(v) for v in (self.affine @ [*at, 1])[:-1])

    def shares(self, at: Sequence[int]) -> tuple[float, ...]:
        """Where the middle of a voxel lies from left, back and bottom of a 3D image, as shares."""
        found = []
        for plane in reversed(self.names):  # sagittal, coronal, axial: x, y, z
            axis = self.axes(plane)[2]
            share = (at[axis] + 0.5) / self.shape[axis]
            ahead = self._orientation is None or self._orientation[axis, 1] > 0
            found.append(float(share if ahead else 1 - share))
        return tuple(found)

    def sides(self, plane: str) -> str:
        """Letters of the body's directions at left, right, bottom, top; empty if not known."""
        if not plane or self._orientation is None:
            return ""
        sides = SIDES[plane]
        return sides[1] + sides[0] + sides[2:] if self._mirrored(plane) else sides

    @property
    def anatomical(self) -> bool:
        """Whether the planes are those of the body, so that they can be radiological."""
        return self._orientation is not None

    def place(self, plane: str, index: int) -> str:
        """A slice in words, as in ``axial, k = 12``; empty of a 2D image."""
        return f"{plane}, {'ijk'[self.axes(plane)[2]]} = {index}" if plane else ""

    def _forward(self, plane: str) -> tuple[bool, bool]:
        """Whether the index grows to the right, and downwards."""
        if not plane:
            return True, True
        if self._orientation is None:
            return True, False
        x, y, _ = self.axes(plane)
        right = bool(self._orientation[x, 1] > 0) != self._mirrored(plane)
        return right, bool(self._orientation[y, 1] < 0)

    def _mirrored(self, plane: str) -> bool:
        """Whether left and right of the body are exchanged; sagittal planes show neither."""
        return self.radiological and "L" in SIDES[plane]

    @cached_property
    def _orientation(self) -> Array | None:
        if self.affine is None or len(self.shape) == 2:
            return None
        from nibabel.orientations import io_orientation

        return np.asarray(io_orientation(self.affine))
