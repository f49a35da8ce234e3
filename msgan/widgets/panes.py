"""Pictures of one grid that share a crosshair, used by the viewer and the comparison."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

from msgan.types import InputError
from msgan.widgets.canvas import Canvas, Picture, Touch
from msgan.widgets.contact_sheet import Tile, contact_sheet
from msgan.widgets.slices import Slices, Window, encoded

Pane = tuple[str, str]
"""Title of an image and name of a plane."""

WIDE = 300.0
"""Longest side of a picture on the page in CSS pixels."""


class Panes:
    """Planes of images on a canvas, all through the voxel ``at``.

    Attributes:
        slices: The images.
        canvas: Where they are shown.
        shown: The panes in order.
    """

    def __init__(self, slices: Slices, window: Callable[[str], Window]) -> None:
        self.slices = slices
        self.canvas = Canvas()
        self.shown: tuple[Pane, ...] = ()
        self.opacity = 0.0
        self._window = window
        self._at = slices.grid.middle
        self._swipe = False
        self._drawn: dict[tuple, bytes] = {}
        self._listeners: list[Callable[[tuple[int, ...]], None]] = []
        self._pointed: list[Callable[[tuple[int, ...]], None]] = []
        self.canvas.on_touch(self._touched)

    @property
    def at(self) -> tuple[int, ...]:
        """The voxel all planes pass through.

        Raises:
            InputError: It is set to what is outside the images.
        """
        return self._at

    @at.setter
    def at(self, voxel: Sequence[int]) -> None:
        where = tuple(int(v) for v in voxel)
        shape = self.slices.shape
        if len(where) != len(shape) or not all(
            0 <= v < n for v, n in zip(where, shape, strict=True)
        ):
            raise InputError(f"at {where}: outside images of shape {shape}")
        if where == self._at:
            return
        self._at = where
        self.draw()
        self.tell()

    def on_move(self, listener: Callable[[tuple[int, ...]], None]) -> None:
        """Call ``listener`` with the voxel whenever the crosshair has moved."""
        self._listeners.append(listener)

    def on_point(self, listener: Callable[[tuple[int, ...]], None]) -> None:
        """Call ``listener`` with the voxel at each click or drag in a picture."""
        self._pointed.append(listener)

    def tell(self) -> None:
        """Call those who listen."""
        for listener in self._listeners:
            listener(self._at)

    def move(self, plane: str, index: int) -> None:
        """Move the crosshair to a slice of a plane; the nearest, of slices outside."""
        if plane:
            axis = self.slices.grid.axes(plane)[2]
            found = list(self._at)
            found[axis] = min(max(index, 0), self.slices.shape[axis] - 1)
            self.at = tuple(found)

    def show(self, panes: Sequence[Pane], *, swipe: bool = False) -> None:
        """Show these panes instead; see :meth:`msgan.widgets.canvas.Canvas.show`."""
        self.shown, self._swipe = tuple(panes), swipe
        self.draw()

    def swap(self, slices: Slices) -> None:
        """Take other images; the crosshair stays where the grid is the same size."""
        same = slices.shape == self.slices.shape
        self.slices, self._drawn = slices, {}
        if not same:
            self._at = slices.grid.middle

    def draw(self) -> None:
        """Draw what has changed since the last time."""
        grid = self.slices.grid
        drawn, pictures = {}, []
        for title, plane in self.shown:
            index = grid.index(plane, self._at)
            key = (title, plane, index, self._window(title), self.opacity)
            png = self._drawn.get(key) or self._png(title, plane, index)
            drawn[key] = png
            name = self.name(title, plane)
            where = f"{title}: {name}" if plane else title
            keys = f", of 0 to {grid.count(plane) - 1}; arrow keys move the slice" if plane else ""
            mark = grid.point(plane, self._at)
            sides = grid.sides(plane)
            pictures.append(Picture(png, name, where + keys, self._size(plane), mark, sides))
        self._drawn = drawn
        self.canvas.show(pictures, swipe=self._swipe)

    def name(self, title: str, plane: str) -> str:
        """What stands above a pane: whatever tells it from the others."""
        place = self.slices.grid.place(plane, self.slices.grid.index(plane, self._at))
        titles = {t for t, _ in self.shown}
        return ", ".join(filter(None, [title if len(titles) > 1 or not plane else "", place]))

    def static_fallback(self) -> bytes:
        """All panes side by side with their names and the crosshair, as one PNG."""
        from PIL import Image

        grid, tiles = self.slices.grid, []
        for title, plane in self.shown:
            index, window = grid.index(plane, self._at), self._window(title)
            png = self.slices.png(title, plane, index, window=window, opacity=self.opacity)
            tile = Image.open(io.BytesIO(png)).convert("RGB")
            width, height = (max(1, round(s)) for s in self._size(plane))
            tile = tile.resize((width, height), Image.Resampling.BOX)
            name, mark = self.name(title, plane), grid.point(plane, self._at)
            tiles.append(Tile(tile, name, mark, grid.sides(plane)))
        return encoded(contact_sheet(tiles))

    def _size(self, plane: str) -> tuple[float, float]:
        """Width and height on the page; all panes have the same scale."""
        grid = self.slices.grid
        longest = max(max(grid.size(plane)) for _, plane in self.shown)
        width, height = (WIDE * side / longest for side in grid.size(plane))
        return width, height

    def _png(self, title: str, plane: str, index: int) -> bytes:
        window = self._window(title)
        picture = self.slices.picture(title, plane, index, window=window, opacity=self.opacity)
        return encoded(picture)

    def _touched(self, touch: Touch) -> None:
        _, plane = self.shown[touch.picture]
        grid = self.slices.grid
        if touch.kind == "point":
            self.at = grid.voxel(plane, touch.right, touch.down, self._at)
            for listener in self._pointed:
                listener(self._at)
        elif touch.kind == "step":
            self.move(plane, grid.index(plane, self._at) + touch.by)
        elif touch.kind in ("first", "last"):
            self.move(plane, 0 if touch.kind == "first" else grid.count(plane) - 1)
