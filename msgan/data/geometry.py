"""The working grid of the cascade, and resampling to it and back for any tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np

from msgan.data.foreground import blocks, foreground_box
from msgan.data.grid import Grid
from msgan.data.orientation import canonical_axes, flip, from_canonical, to_canonical
from msgan.data.resample import Axis, nearly, resample
from msgan.types import Array, Box, InputError, Reader, Shape

__all__ = ["WorkingGrid", "blocks", "foreground_box", "scales_for"]


def scales_for(shape: Sequence[int], longest: int = 64) -> int:
    """The number of scales n (at least 1) that makes the longest side of s0 at most ``longest``."""
    scales = 1
    while ceil(max(shape) / 2**scales) > longest:
        scales += 1
    return scales


@dataclass(frozen=True)
class WorkingGrid:
    """The grid the cascade computes on, planned once for each image.

    Source grid -> canonical axes (exact) -> cropped to the foreground and a margin -> resampled
    to a fixed spacing (nothing is interpolated where that is the source's) -> padded evenly on
    both sides to ``base * 2**scales``. Padding shows the image beyond the crop where there is
    any, and then repeats its outermost voxels, so that networks see no artificial edge.

    Differs: the papers and their code squeeze each image into a cube of fixed shape. Here the
    spacing, not the shape, is fixed across a cohort, so that a voxel means the same in mm for
    each subject and aspect ratios stay; the number of scales is what makes the longest side of
    s0 at most 64 (:func:`scales_for`).

    Attributes:
        source: Grid of the file.
        box: The crop, in canonical source voxels: foreground and margin, clipped to the image.
        spacing: Of s_n, mm along each canonical axis.
        scales: n, the number of doublings from s0 to s_n.
        shape: Of s_n.
    """

    source: Grid
    box: Box
    spacing: tuple[float, ...]
    scales: int
    shape: Shape

    @classmethod
    def plan(
        cls,
        source: Grid,
        foreground: Box,
        spacing_mm: Sequence[float] | None = None,
        scales: int | None = None,
        margin: int = 3,
        longest: int = 64,
    ) -> WorkingGrid:
        """Plan the grid of one image.

        Args:
            source: Grid of the file.
            foreground: In source voxels, as :func:`foreground_box` finds it.
            spacing_mm: Along each *canonical* axis; None keeps the source's. Where it is within
                a thousandth of the source's, the source's is kept and nothing is interpolated.
            scales: Doublings from s0 to s_n; None takes :func:`scales_for` with ``longest``.
            margin: Source voxels kept around the foreground.
            longest: Longest side of s0 where ``scales`` is None.

        Raises:
            InputError: The foreground is empty or outside the image, or a value is out of range.
        """
        dims = len(source.shape)
        kept = foreground.clipped(source.shape)
        if kept.voxels == 0:
            raise InputError(f"foreground {foreground} holds no voxel of shape {source.shape}")
        if margin < 0 or longest < 1 or (scales is not None and scales < 1):
            raise InputError(
                f"margin {margin}, longest {longest} and scales {scales} must be at least 0, 1, 1"
            )
        axes, flips = canonical_axes(source)
        own = tuple(float(source.spacing[a]) for a in axes)
        wanted = own if spacing_mm is None else tuple(float(s) for s in spacing_mm)
        if len(wanted) != dims or not all(np.isfinite(s) and s > 0 for s in wanted):
            raise InputError(f"spacing {wanted} mm: expected {dims} positive numbers")
        spacing = tuple(o if nearly(w, o) else w for w, o in zip(wanted, own, strict=True))
        grown = kept.grown(margin).clipped(source.shape)
        box = to_canonical(grown, source.shape, axes, flips)
        content = tuple(map(_content, box.size, spacing, own))
        count = scales_for(content, longest) if scales is None else scales
        shape = tuple(-(-n // 2**count) * 2**count for n in content)
        return cls(source, box, spacing, count, shape)

    @property
    def dims(self) -> int:
        """Number of axes, 2 or 3."""
        return len(self.shape)

    def shape_at(self, scale: int) -> Shape:
        """Shape of s_``scale``; 0 is the coarsest, ``scales`` the working grid itself."""
        if not 0 <= scale <= self.scales:
            raise ValueError(f"scale {scale} is not one of s0..s{self.scales}")
        return tuple(n >> (self.scales - scale) for n in self.shape)

    def in_crop(self, box: Box) -> Array:
        """Which voxels of ``box``, of the source grid, lie in the crop; bool."""
        crop = from_canonical(self.box, self.source.shape, *canonical_axes(self.source))
        out = np.zeros(box.size, bool)
        start = (max(a - b, 0) for a, b in zip(crop.start, box.start, strict=True))
        stop = (max(a - b, 0) for a, b in zip(crop.stop, box.start, strict=True))
        out[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
        return out

    @property
    def grid(self) -> Grid:
        """Shape and affine (index -> mm, of the source's world) of s_n."""
        return self.grid_at(self.scales)

    def grid_at(self, scale: int) -> Grid:
        """Shape and affine of s_``scale``, one voxel of which covers 2^d of the next scale."""
        factor = 2 ** (self.scales - scale)
        axes, flips = canonical_axes(self.source)
        to_source = np.zeros((self.dims + 1, self.dims + 1))
        to_source[-1, -1] = 1.0
        for k, (axis, turned, inward) in enumerate(zip(axes, flips, self._inward(), strict=True)):
            step = inward.ratio * factor
            offset = inward.offset + (factor - 1) / 2 * inward.ratio
            to_source[axis, k] = -step if turned else step
            to_source[axis, -1] = self.source.shape[axis] - 1 - offset if turned else offset
        affine = np.asarray(self.source.affine, dtype=float) @ to_source
        return Grid(self.shape_at(scale), affine)

    def read_working(
        self, read_source: Reader, fill: float | None = None, order: int = 1
    ) -> Reader:
        """A reader on the working grid (s_n) of an image given on its source grid.

        Any box may be asked for, also one that reaches outside: it reads the source region it
        needs and no more, and its values do not depend on how the image is tiled.

        Args:
            read_source: Image on the source grid.
            fill: Value outside the image; None: it goes on by repeating its outermost voxels.
            order: 1: linear, after a Gaussian where voxels get larger (float32). 0: nearest, for
                labels (keeps the type).
        """
        axes, flips = canonical_axes(self.source)
        inward, full = self._inward(), self.source.shape
        if fill is None:
            inward = tuple(axis.extended for axis in inward)

        def read_canonical(box: Box) -> Array:
            part = np.asarray(read_source(from_canonical(box, full, axes, flips)))
            return flip(part.transpose(axes), flips)

        outside = 0.0 if fill is None else fill
        return lambda box: resample(read_canonical, inward, box, order, outside)

    def read_source(self, read_working: Reader, fill: float = 0.0, order: int = 1) -> Reader:
        """A reader on the source grid of an image given on the working grid: what is saved.

        Args:
            read_working: Image on s_n; only boxes inside it are asked for.
            fill: Value outside the crop ``box``, where the cascade has computed nothing.
            order: As in :meth:`read_working`.
        """
        axes, flips = canonical_axes(self.source)
        outward, full = self._outward(), self.source.shape
        back = tuple(int(a) for a in np.argsort(axes))

        def read(box: Box) -> Array:
            turned = to_canonical(box, full, axes, flips)
            part = resample(read_working, outward, turned, order, fill)
            return np.ascontiguousarray(flip(part, flips).transpose(back))

        return read

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` restores the same grid."""
        return {
            "source": self.source.to_dict(),
            "box": {"start": list(self.box.start), "size": list(self.box.size)},
            "spacing": list(self.spacing),
            "scales": self.scales,
            "shape": list(self.shape),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorkingGrid:
        """Restore what :meth:`to_dict` wrote."""
        source = Grid.from_dict(data["source"])
        box = Box(tuple(data["box"]["start"]), tuple(data["box"]["size"]))
        return cls(source, box, tuple(data["spacing"]), data["scales"], tuple(data["shape"]))

    def _pads(self) -> list[tuple[float, int]]:
        """Along each canonical axis: source voxels in a working voxel, and voxels padded first."""
        axes, _ = canonical_axes(self.source)
        own = [float(self.source.spacing[a]) for a in axes]
        content = map(_content, self.box.size, self.spacing, own)
        ratios = (s / o for s, o in zip(self.spacing, own, strict=True))
        return [(r, (n - m) // 2) for r, n, m in zip(ratios, self.shape, content, strict=True)]

    def _inward(self) -> tuple[Axis, ...]:
        """Working index -> canonical source index; the outer faces of the crop coincide."""
        axes, _ = canonical_axes(self.source)
        result = []
        for (r, pad), start, axis in zip(self._pads(), self.box.start, axes, strict=True):
            size = self.source.shape[axis]
            offset = start - 0.5 + (0.5 - pad) * r
            first = ceil((-0.5 - offset) / r - 1e-6)
            last = floor((size - 0.5 - offset) / r - 1e-6) + 1
            result.append(Axis(r, offset, size, first, last))
        return tuple(result)

    def _outward(self) -> tuple[Axis, ...]:
        """Canonical source index -> working index."""
        result = []
        sides = zip(self._pads(), self.box.start, self.box.stop, self.shape, strict=True)
        for (r, pad), start, stop, size in sides:
            result.append(Axis(1 / r, (0.5 - start) / r + pad - 0.5, size, start, stop))
        return tuple(result)


def _content(size: int, spacing: float, own: float) -> int:
    """Working voxels that cover ``size`` source voxels."""
    return max(1, ceil(size * own / spacing - 1e-6))
