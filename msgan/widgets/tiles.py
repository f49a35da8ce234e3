"""The borders of the tiles of a translation, and whether they are visible."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from msgan.data.grid import Grid
from msgan.types import Array, Box, InputError, Reader, Shape
from msgan.widgets.slices import Slices, Window, encoded
from msgan.widgets.static_fallback import leave, sentence
from msgan.widgets.viewer import Viewer

REACH = 8
"""Voxels before and after a border that its profile shows."""


@dataclass(frozen=True)
class Border:
    """The border of two tiles nearest to a voxel.

    Attributes:
        axis: Of the image, across the border.
        index: The border lies before this voxel.
        box: The voxels of the profile: some on both sides, and the tile's own along other axes.
    """

    axis: int
    index: int
    box: Box


@dataclass(frozen=True)
class TileGrid:
    """The borders of tiles in the voxels of an image.

    Attributes:
        shape: Of the image.
        borders: Along each axis, the voxels that borders lie before, ascending.
    """

    shape: Shape
    borders: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, grid: Grid, working: Grid, tile: Sequence[int]) -> TileGrid:
        """The borders of tiles that begin at voxel 0 of ``working``, in voxels of ``grid``.

        Where the two have other spacings, borders go to the nearest place between voxels.

        Raises:
            InputError: The axes of the two grids are not parallel, or tiles have other axes.
        """
        if not grid.dims == working.dims == len(tile):
            raise InputError(f"tile {tuple(tile)}: expected {grid.dims} sides, as the image's axes")
        way = np.linalg.inv(grid.affine) @ working.affine
        turn = way[:-1, :-1]
        along = np.abs(turn).argmax(axis=0)
        rest = turn.copy()
        rest[along, range(grid.dims)] = 0
        if len(set(along)) < grid.dims or np.abs(rest).max() > 1e-3 * np.abs(turn).max():
            raise InputError(f"tiles lie on {working}, which is not parallel to {grid}")
        found: list[tuple[int, ...]] = [()] * grid.dims
        for own, axis in enumerate(along):
            at = np.arange(tile[own], working.shape[own], tile[own]) - 0.5
            places = np.rint(turn[axis, own] * at + way[axis, -1] + 0.5).astype(int)
            inside = {int(k) for k in places if 0 < k < grid.shape[axis]}
            found[axis] = tuple(sorted(inside))
        return cls(grid.shape, tuple(found))

    def lines(self, box: Box) -> Array:
        """The borders in a slice or box as dots, 1 on them and 0 elsewhere, float32.

        Dots, because a line would hide what is to be seen. An axis of one voxel, which is that
        through a slice, has none.
        """
        out = np.zeros(box.size, np.float32)
        places = np.indices(box.size, sparse=True)
        dots = np.asarray((sum(places) + sum(box.start)) % 4 < 2)
        for axis, borders in enumerate(self.borders):
            start, size = box.start[axis], box.size[axis]
            for k in borders:
                if size > 1 and start <= k < start + size:
                    at = tuple(
                        slice(k - start, k - start + 1) if a == axis else slice(None)
                        for a in range(box.dims)
                    )
                    out[at] = dots[at]
        return out

    def nearest(self, voxel: Sequence[int]) -> Border | None:
        """The border nearest to a voxel; None where there is one tile only."""
        near = [
            (abs(k - 0.5 - voxel[axis]), axis, k)
            for axis, borders in enumerate(self.borders)
            for k in borders
        ]
        if not near:
            return None
        _, axis, k = min(near)
        start, stop = [], []
        for a, n in enumerate(self.shape):
            if a == axis:
                start.append(max(0, k - REACH - 1))
                stop.append(min(n, k + REACH + 1))
            else:
                start.append(max((b for b in self.borders[a] if b <= voxel[a]), default=0))
                stop.append(min((b for b in self.borders[a] if b > voxel[a]), default=n))
        size = tuple(b - a for a, b in zip(start, stop, strict=True))
        return Border(axis, k, Box(tuple(start), size))


def profile(read: Reader, border: Border) -> tuple[Array, Array]:
    """Mean absolute difference of neighbours across a border and near it.

    Returns:
        Distance to the border in voxels (0: across it), and the mean in the image's unit.
    """
    part = read(border.box).astype(np.float64)
    jumps = np.abs(np.diff(part, axis=border.axis))
    across = tuple(a for a in range(part.ndim) if a != border.axis)
    first = border.box.start[border.axis] + 1 - border.index
    return np.arange(first, first + jumps.shape[border.axis]), jumps.mean(axis=across)


class Tiles:
    """An image with the borders of its tiles over it, and the profile across the nearest one.

    Click into the image: the profile is that of the nearest border, within the tile clicked.

    Args:
        images: Title -> reader; the first is the translation, others are controls that have no
            tiles, as the real image.
        grid: Of the images.
        tiles: Where tiles meet.
        window: Of all images; default 0.5 and 99.5 % of each.
        unit: Of the intensities.
        caption: What to see.

    Attributes:
        viewer: The image.
        profile: The picture of the profile.
        box: All of it, for a page.

    Raises:
        InputError: Images of another shape than the tiles'.
    """

    def __init__(
        self,
        images: Mapping[str, Reader],
        grid: Grid,
        tiles: TileGrid,
        *,
        window: Window | None = None,
        unit: str = "",
        caption: str = "",
    ) -> None:
        import ipywidgets as widgets

        if grid.shape != tiles.shape:
            raise InputError(f"images of shape {grid.shape}, tiles of {tiles.shape}")
        self.tiles = tiles
        self._images, self._unit, self._caption = dict(images), unit, caption
        slices = Slices(
            {title: (read, grid.shape) for title, read in images.items()},
            window=window,
            affine=grid.affine,
            sketch=(tiles.lines, grid.shape),
            lines="tile border",
        )
        self.viewer = Viewer(slices, unit=unit, caption=caption)
        self.profile = widgets.Image(format="png", layout={"max_width": "100%"})
        self.profile.add_class("msgan-profile")
        self._words = widgets.HTML()
        self._drawn: Border | None = None
        rows = [self.viewer.box, self._words, self.profile]
        self.box = widgets.VBox(rows, layout={"align_items": "flex-start"})  # nothing stretched
        self.box.add_class("msgan-tiles")
        self.viewer.on_move(self._moved)
        self._moved(self.viewer.at)

    @property
    def border(self) -> Border | None:
        """The border whose profile is shown."""
        return self.tiles.nearest(self.viewer.at)

    @property
    def reading(self) -> str:
        """The nearest border and how it compares with what is beside it, in words."""
        border = self.border
        if border is None:
            return "One tile holds the whole image: there is no border"
        parts = []
        for title, read in self._images.items():
            where, mean = profile(read, border)
            face, beside = float(mean[where == 0][0]), float(mean[where != 0].mean())
            parts.append(f"{title} {face:.3g} across it and {beside:.3g} beside it")
        place = f"border before voxel {border.index} along {'ijk'[border.axis]}"
        return f"Nearest {place}: mean |difference| of {', '.join(parts)} {self._unit or 'a.u.'}"

    @property
    def static_fallback(self) -> bytes:
        """The image with its tiles, and the profile below, as one PNG."""
        from PIL import Image

        parts = [png for png in (self.viewer.static_fallback, bytes(self.profile.value)) if png]
        sheets = [Image.open(io.BytesIO(png)).convert("RGB") for png in parts]
        whole = (max(s.width for s in sheets), sum(s.height for s in sheets))
        picture = Image.new("RGB", whole, "white")
        for k, sheet in enumerate(sheets):
            picture.paste(sheet, (0, sum(s.height for s in sheets[:k])))
        return encoded(picture)

    def _moved(self, _: Any) -> None:
        border = self.border
        if border is None or border != self._drawn:
            self._words.value = escape(sentence(self.reading))
            self._drawn = border
            self.profile.value = b"" if border is None else self._figure(border)
            # A page shows a picture without a file as a broken one.
            self.profile.layout.display = None if self.profile.value else "none"

    def _figure(self, border: Border) -> bytes:
        from msgan.plots.style import WIDTH, colours, new_figure, style, with_unit

        with style():
            figure = new_figure(WIDTH * 0.72, 2.5, "A peak at 0 is a seam between two tiles.")
            ax = figure.subplots()
            curves = zip(self._images.items(), colours(), "os^v", strict=False)
            for (title, read), colour, marker in curves:
                where, mean = profile(read, border)
                ax.plot(where, mean, color=colour, marker=marker, ms=3.5, label=title)
            ax.axvline(0, color="0.6", lw=1, ls="--", zorder=0)
            ax.set_ylim(bottom=0)
            ax.set_xlabel(f"distance to the border along {'ijk'[border.axis]} (voxels)")
            ax.set_ylabel(with_unit("mean |difference|", self._unit or "a.u."))
            ax.legend(loc="best")
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=100)
        return file.getvalue()

    def _ipython_display_(self) -> None:
        leave(self.box, self.static_fallback, sentence(self._caption, self.reading))
