"""Pictures of one grid that share a crosshair, used by the viewer and the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgan.types import Array, InputError
from msgan.widgets.canvas import Bar, Canvas, Key, Picture, Scene, Touch
from msgan.widgets.colours import css, label_colours, outline_colour, sketch_colour
from msgan.widgets.contact_sheet import Tile, contact_sheet
from msgan.widgets.slices import Slices, Window, encoded

Pane = tuple[str, str]
"""Title of an image and name of a plane."""

WIDE = 300.0
"""Longest side of a picture in a still one, pixels."""


class Panes:
    """Planes of images on a canvas, all through the voxel ``at``.

    Attributes:
        slices: The images.
        canvas: Where they are shown.
        shown: The panes in order.
        opacity: Of overlays, 0 (none) to 1.
        brush: Radius in mm of the circle around the cursor; 0 for none.

    Args:
        slices: The images.
        window: Of an image.
        colours: Name of an image's colour map.
        bars: What the colours of the images with these titles mean.
    """

    def __init__(
        self,
        slices: Slices,
        window: Callable[[str], Window],
        colours: Callable[[str], str],
        bars: Callable[[Sequence[str]], Sequence[Bar]],
    ) -> None:
        self.slices = slices
        self.canvas = Canvas()
        self.shown: tuple[Pane, ...] = ()
        self.opacity = 0.0
        self.brush = 0.0
        self._window, self._colours, self._bars = window, colours, bars
        self._at = slices.grid.middle
        self._swipe = False
        self._drawn: dict[tuple, bytes] = {}
        self._together = 1
        self._hovered: list[Callable[[tuple[int, ...] | None], None]] = []
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

    def on_hover(self, listener: Callable[[tuple[int, ...] | None], None]) -> None:
        """Call ``listener`` with the voxel under the cursor, and with None when it has left."""
        self._hovered.append(listener)

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

    def show(self, panes: Sequence[Pane], *, swipe: bool = False, together: int = 1) -> None:
        """Show these panes instead; see :class:`msgan.widgets.canvas.Scene`."""
        self.shown, self._swipe, self._together = tuple(panes), swipe, together
        self.draw()

    def swap(self, slices: Slices) -> None:
        """Take other images; the crosshair stays where the grid is the same size."""
        same = slices.shape == self.slices.shape
        slices.turn(self.slices.grid.radiological)
        self.slices, self._drawn = slices, {}
        if not same:
            self._at = slices.grid.middle

    def turn(self, radiological: bool) -> None:
        """Show the left of the body on the right, or on the left."""
        if radiological != self.slices.grid.radiological:
            self.slices.turn(radiological)
            self.draw()

    def draw(self) -> None:
        """Draw what has changed since the last time."""
        grid, hidden = self.slices.grid, frozenset(self.slices.hidden)
        drawn, pictures = {}, []
        for title, plane in self.shown:
            index = grid.index(plane, self._at)
            look = (self._window(title), self._colours(title), self.opacity, hidden)
            key = (title, plane, index, grid.radiological, *look)
            png = self._drawn.get(key) or encoded(self._picture(title, plane))
            drawn[key] = png
            name = self.name(title, plane)
            where = f"{title}: {name}" if plane else title
            keys = f", of 0 to {grid.count(plane) - 1}; arrow keys move the slice" if plane else ""
            mark, sides = grid.point(plane, self._at), grid.sides(plane)
            pictures.append(Picture(png, name, where + keys, grid.size(plane), plane, mark, sides))
        self._drawn = drawn
        scene = Scene(
            tuple(pictures),
            self._swipe,
            self._together,
            tuple(self._bars([*dict.fromkeys(title for title, _ in self.shown)])),
            tuple(self.legend),
            grid.radiological if grid.anatomical else None,
            self.brush,
        )
        self.canvas.show(scene)

    @property
    def legend(self) -> list[Key]:
        """The overlays in the slices that are shown, and their colours."""
        slices, keys = self.slices, []
        if not self.opacity:
            return []
        for name in slices.overlays:
            if name in slices.hidden:
                continue
            if name in slices.masks:
                keys.append(Key(name, css(outline_colour()), outline=True))
                continue
            if not slices.maps_labels(name):
                keys.append(Key(name, css(sketch_colour())))
                continue
            planes = dict.fromkeys(plane for _, plane in self.shown)
            here = [slices.found(name, p, slices.grid.index(p, self._at)) for p in planes]
            kind = "label" if name == "labels" else name
            for value in sorted({v for values in here for v in values}):
                keys.append(Key(f"{kind} {value}", css(label_colours()[(value - 1) % 6])))
        return keys

    def name(self, title: str, plane: str) -> str:
        """What stands above a pane: whatever tells it from the others."""
        place = self.slices.grid.place(plane, self.slices.grid.index(plane, self._at))
        titles = {t for t, _ in self.shown}
        return ", ".join(filter(None, [title if len(titles) > 1 or not plane else "", place]))

    def static_fallback(self) -> bytes:
        """All panes in rows with their names and the crosshair, as one PNG."""
        from PIL import Image

        grid, tiles = self.slices.grid, []
        for title, plane in self.shown:
            tile = Image.fromarray(self._picture(title, plane)).convert("RGB")
            tile = tile.resize(self._pixels(plane), Image.Resampling.BOX)
            name, mark = self.name(title, plane), grid.point(plane, self._at)
            tiles.append(Tile(tile, name, mark, grid.sides(plane)))
        row = self._together if 1 < self._together < len(tiles) and not self._swipe else len(tiles)
        return encoded(contact_sheet(tiles, row))

    def _pixels(self, plane: str) -> tuple[int, int]:
        """Width and height in a still picture; all panes have the same scale."""
        grid = self.slices.grid
        longest = max(max(grid.size(plane)) for _, plane in self.shown)
        width, height = (max(1, round(WIDE * side / longest)) for side in grid.size(plane))
        return width, height

    def _picture(self, title: str, plane: str) -> Array:
        return self.slices.picture(
            title,
            plane,
            self.slices.grid.index(plane, self._at),
            window=self._window(title),
            opacity=self.opacity,
            colours=self._colours(title),
        )

    def _touched(self, touch: Touch) -> None:
        number = touch.picture * (2 if self._swipe else 1)
        if number >= len(self.shown):  # of a picture that has gone
            return
        plane, grid = self.shown[number][1], self.slices.grid
        if touch.kind in ("point", "hover"):
            voxel = grid.voxel(plane, touch.right, touch.down, self._at)
            if touch.kind == "point":
                self.at = voxel
                for listener in self._pointed:
                    listener(voxel)
            else:
                self._told(voxel)
        elif touch.kind == "leave":
            self._told(None)
        elif touch.kind == "flip":
            self.turn(not grid.radiological)
        elif touch.kind == "step":
            self.move(plane, grid.index(plane, self._at) + touch.by)
        elif touch.kind in ("first", "last"):
            self.move(plane, 0 if touch.kind == "first" else grid.count(plane) - 1)

    def _told(self, voxel: tuple[int, ...] | None) -> None:
        for listener in self._hovered:
            listener(voxel)
