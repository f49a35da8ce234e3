"""Reads slices ahead while a user scrolls step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgan.types import Array, Box, Reader
from msgan.widgets.planes import Planes

DEPTH = 8
"""Slices read at once."""

SLAB_BYTES, KEPT_BYTES = 16 << 20, 64 << 20
"""Most that is read at once, and most that is kept of all images."""


@dataclass(frozen=True, eq=False)
class _Slab:
    first: int
    last: int  # of the slices asked for so far
    part: Array


class SlicePrefetch:
    """Slices of images of one grid; neighbours in the direction of travel are read with them.

    A slice across the rows of a file, or through chunks, costs the file as much as eight. The
    first of a plane is read alone, and so is one that was jumped to.
    """

    def __init__(self, grid: Planes, readers: Mapping[str, Reader]) -> None:
        self._grid, self._readers = grid, dict(readers)
        self._slabs: dict[tuple[str, str], _Slab] = {}  # used last, stands last

    def read(self, name: str, plane: str, index: int) -> Array:
        """The voxels of :meth:`msgan.widgets.planes.Planes.box`.

        Raises:
            InputError: There is no such plane or slice.
        """
        box = self._grid.box(plane, index)
        if not plane:
            return self._readers[name](box)
        through = self._grid.axes(plane)[2]
        slab = self._slabs.pop((name, plane), None)
        if slab is None or not slab.first <= index < slab.first + slab.part.shape[through]:
            step = 0 if slab is None else index - slab.last
            span = self._span(index, step, box, through)
            slab = _Slab(span.start[through], index, self._readers[name](span))
        self._slabs[name, plane] = _Slab(slab.first, index, slab.part)
        while sum(s.part.nbytes for s in self._slabs.values()) > KEPT_BYTES:
            self._slabs.pop(next(iter(self._slabs)))
        return slab.part.take([index - slab.first], axis=through)

    def voxel(self, name: str, at: Sequence[int]) -> float:
        """One voxel: of a slice that is kept, else read alone."""
        for (of, plane), slab in self._slabs.items():
            through = self._grid.axes(plane)[2]
            inside = at[through] - slab.first
            if of == name and 0 <= inside < slab.part.shape[through]:
                place = (inside if a == through else v for a, v in enumerate(at))
                return float(slab.part[tuple(place)])
        return float(self._readers[name](Box(tuple(at), (1,) * len(at))).item())

    def _span(self, index: int, step: int, box: Box, through: int) -> Box:
        depth = max(1, min(DEPTH, SLAB_BYTES // (4 * box.voxels))) if abs(step) == 1 else 1
        last = self._grid.shape[through]
        first, stop = (index, index + depth) if step >= 0 else (index - depth + 1, index + 1)
        first, stop = max(first, 0), min(stop, last)
        start = tuple(first if a == through else v for a, v in enumerate(box.start))
        return Box(
            start, tuple(stop - first if a == through else n for a, n in enumerate(box.size))
        )
