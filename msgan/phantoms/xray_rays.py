"""Rays through a body: the attenuation of each X-ray.

Organs are distances from their surfaces, which are smooth, so they are sampled on a coarse grid
once, whatever the size of the image; along a ray and between the samples they are taken as
linear, which places a surface to a small part of the pitch. Vessels are finer than that
(:mod:`msgan.phantoms.xray_pipes`). Everything is sums, products and roots of single values, so any
tiling of the image gives the same bytes.

The patient stands upright and is seen from the front: rows go from head to feet, the patient's
right is on the left of the picture. Positions are RAS mm, 0 the middle of the chest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from msgan.phantoms.xray_pipes import SURE_MM, Beam, Chord, Pipes, Values, chords
from msgan.types import Array, Box, InputError

PITCH_MM = 2.5
"""Of the coarse grid; a rib's radius of 4 mm bends 0.2 mm between two samples."""

BLOCK = 128
"""Pixels a side that are worked on at once: few surfaces cross a block, the others cost nothing."""


@dataclass(frozen=True)
class Layer:
    """What is inside a surface, over what was there before.

    Attributes:
        surface: Name of a field of distances.
        below_mm: Depth below it from which on this is.
        hu: Its value, or the name of a field of values.
    """

    surface: str
    below_mm: float
    hu: float | str


@dataclass(frozen=True)
class Body:
    """What rays pass.

    Attributes:
        axes: Coarse grid, mm along x, y and z (float32, :data:`PITCH_MM` apart).
        fields: By name: float32 of shape (y, z, x).
        parts: What is where; later parts cover earlier ones, air is below all.
    """

    axes: tuple[Array, Array, Array]
    fields: dict[str, Array] = field(repr=False)
    parts: tuple[Layer | Pipes, ...] = field(repr=False)

    @classmethod
    def sampled(
        cls,
        extent_mm: Sequence[float],
        fields: Callable[[Sequence[Array]], dict[str, Array]],
        parts: Sequence[Layer | Pipes],
    ) -> Body:
        """Sample ``fields(axes)``, given as (x, y, z), over a box of ``extent_mm`` around 0."""
        axes = [
            (np.arange(-np.ceil(e / 2 / PITCH_MM), np.ceil(e / 2 / PITCH_MM) + 1) * PITCH_MM)
            for e in extent_mm
        ]
        x, y, z = (a.astype(np.float32) for a in axes)
        out: dict[str, Array] = {}
        step = 4  # thin slabs stay in the processor's cache
        for first in range(0, len(y), step):
            some = slice(first, first + step)
            for name, values in fields((x, y[some], z)).items():
                whole = out.setdefault(name, np.empty((len(y), len(z), len(x)), np.float32))
                whole[some] = values.transpose(1, 2, 0)
        return cls((x, y, z), out, tuple(parts))


def attenuation(
    body: Body,
    beam: Beam,
    rows: Array,
    columns: Array,
    per_mm: Callable[[float], float],
) -> Array:
    """The line integral of attenuation along the ray of each pixel.

    Args:
        body: What the rays pass.
        beam: How they go.
        rows: z of the pixels in the plane y = 0, mm, in any order.
        columns: x of the pixels there.
        per_mm: Attenuation of a value in HU, 1/mm; linear in HU.

    Returns:
        float32 of shape (rows, columns), without unit.

    Raises:
        InputError: A ray leaves the sides of the body's grid.
    """
    rows, columns = (np.asarray(a, np.float32) for a in (rows, columns))
    out = np.empty((len(rows), len(columns)), np.float32)
    base, slope = np.float32(per_mm(0.0)), np.float32(per_mm(1.0) - per_mm(0.0))
    _require_inside(body, beam, rows, columns)
    for box in Box.whole(out.shape).tiles((BLOCK, BLOCK)):
        down, across = box.slices
        block = _Block(body, beam, rows[down], columns[across], base, slope)
        out[box.slices] = block.integral()
    return out


def _require_inside(body: Body, beam: Beam, rows: Array, columns: Array) -> None:
    x, y, z = body.axes
    widest = float(beam.width(y[-1]))
    for name, own, places in (("z", z, rows), ("x", x, columns)):
        most = max((float(np.abs(places).max(initial=0)) * widest), 0)
        if most > float(own[-1]):
            raise InputError(
                f"rays as far as {most:.0f} mm from the middle along {name}: "
                f"the body is known to {own[-1]:.0f} mm"
            )


class _Block:
    """The rays of a few pixels, followed from back to front."""

    def __init__(
        self,
        body: Body,
        beam: Beam,
        rows: Array,
        columns: Array,
        base: np.float32,
        slope: np.float32,
    ) -> None:
        self.body, self.beam, self.rows, self.columns = body, beam, rows, columns
        self.base, self.slope = base, slope
        self.cells: dict[int, tuple[slice, slice, tuple[Array, ...]]] = {}
        self.fine: dict[tuple[str, int], Array] = {}
        self.crossed = [
            chords(part, beam, rows, columns) if isinstance(part, Pipes) else []
            for part in body.parts
        ]

    def integral(self) -> Array:
        """See :func:`attenuation`."""
        y = self.body.axes[1]
        total = np.zeros((len(self.rows), len(self.columns)), np.float32)
        for j in range(len(y) - 1):
            total += self._slab(j)
            self.fine = {key: v for key, v in self.fine.items() if key[1] == j + 1}
        u, v = self.columns * self.beam.slope, (self.rows * self.beam.slope)[:, None]
        slant = np.sqrt(np.float32(1) + u * u + v * v)
        return total * np.float32(PITCH_MM) * slant

    def _slab(self, j: int) -> Values:
        """Mean attenuation between two planes of the grid."""
        mu: Values = np.float32(0)
        shares: dict[str, Values] = {}
        for part, crossed in zip(self.body.parts, self.crossed, strict=True):
            share: Values
            if isinstance(part, Layer):
                share = self._share(part.surface, np.float32(part.below_mm), j)
                shares[part.surface] = share
            else:
                share = self._filled(crossed, j)
                if part.within is not None:
                    share = share * shares[part.within]
            if not (np.ndim(share) == 0 and share == 0):
                mu = mu + share * (self._value(part.hu, j) - mu)
        return mu

    def _value(self, hu: float | str, j: int) -> Values:
        if isinstance(hu, str):
            middle = (self._at(hu, j) + self._at(hu, j + 1)) * np.float32(0.5)
            return self.base + self.slope * middle
        return self.base + self.slope * np.float32(hu)

    def _share(self, name: str, below: np.float32, j: int) -> Values:
        """Share of the slab that is inside a surface, along each ray."""
        near, far = (self._window(name, k) for k in (j, j + 1))
        if min(near.min(), far.min()) + below > SURE_MM:
            return np.float32(0)
        if max(near.max(), far.max()) + below < -SURE_MM:
            return np.float32(1)
        a, b = self._at(name, j) + below, self._at(name, j + 1) + below
        inside = np.maximum(-a, 0) + np.maximum(-b, 0)
        return inside / np.maximum(np.abs(a) + np.abs(b), np.float32(1e-6))

    def _cell(self, j: int) -> tuple[slice, slice, tuple[Array, ...]]:
        """Where the block lies on the coarse grid in plane ``j``: window, cells, weights."""
        if j not in self.cells:
            x, y, z = self.body.axes
            wide = self.beam.width(y[j])
            found = []
            for own, places in ((z, self.rows), (x, self.columns)):
                at = (places * wide - own[0]) / np.float32(PITCH_MM)
                cell = np.clip(np.floor(at).astype(np.int64), 0, len(own) - 2)
                window = slice(int(cell.min()), int(cell.max()) + 2)
                found.append((window, cell - window.start, at - cell.astype(np.float32)))
            (down, row, s), (across, column, t) = found
            self.cells[j] = down, across, (row, s[:, None], column, t)
        return self.cells[j]

    def _window(self, name: str, j: int) -> Array:
        down, across, _ = self._cell(j)
        return self.body.fields[name][j, down, across]

    def _at(self, name: str, j: int) -> Array:
        """A field where the rays pass plane ``j``, bilinear between its samples."""
        if (name, j) not in self.fine:
            row, s, column, t = self._cell(j)[2]
            part = self._window(name, j)
            part = part[row] + s * (part[row + 1] - part[row])
            left = part[:, column]
            self.fine[name, j] = left + t * (part[:, column + 1] - left)
        return self.fine[name, j]

    def _filled(self, crossed: list[Chord], j: int) -> Values:
        """Share of the slab that is inside cylinders; where they overlap, the larger."""
        start = self.body.axes[1][j]
        stop = start + np.float32(PITCH_MM)
        out: Values = np.float32(0)
        for where, enter, leave, first, last in crossed:
            if last <= start or first >= stop:
                continue
            if not isinstance(out, np.ndarray):
                out = np.zeros((len(self.rows), len(self.columns)), np.float32)
            share = np.minimum(leave, stop) - np.maximum(enter, start)
            share = share * np.float32(1 / PITCH_MM)
            out[where] = np.maximum(out[where], share)
        return out
