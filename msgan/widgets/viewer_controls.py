"""Pictures with their controls, used by the viewer and the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from msgan.widgets.canvas import Bar
from msgan.widgets.colours import colour_map, css
from msgan.widgets.panes import Pane, Panes
from msgan.widgets.place import PlaceControl
from msgan.widgets.slices import Slices, decimals
from msgan.widgets.static_fallback import leave, sentence
from msgan.widgets.window import WindowControl

WIDE = {"width": "auto", "align_self": "stretch", "margin": "0 2px"}
"""Layout of what is as wide as there is room, and no wider: a scroll bar cuts what is shown."""


class ViewerControls:
    """Panes, the controls of windows, places and overlays, and what is shown in words.

    Args:
        slices: The images.
        units: Title -> unit of the intensities.
        groups: Title -> name of the group that shares a window; default each its own.
        above: Widgets that choose what is shown.
        caption: What to see.

    Attributes:
        panes: The pictures.
        window: Which intensities are black and white.
        place: Sliders, overlay, readout.
        box: All of it, for a page.
    """

    def __init__(
        self,
        slices: Slices,
        units: Mapping[str, str],
        *,
        groups: Mapping[str, str] | None = None,
        above: Sequence[Any] = (),
        caption: str = "",
    ) -> None:
        import ipywidgets as widgets

        self.window = WindowControl(self.draw)
        self.window.follow(slices, units, groups)
        self._units = dict(units)
        self.panes = Panes(slices, self.window.of, self.window.colours_of, self._bars)
        self.place = PlaceControl(self.panes, units)
        self._caption = widgets.HTML(layout=WIDE)
        self.panes.canvas.widget.layout = WIDE
        wrap = {"flex_flow": "row wrap", "align_items": "center"}
        rows = [
            widgets.HBox([*above, self.window.box], layout=wrap),
            self.panes.canvas.widget,
            widgets.HBox([self.place.box, self.place.over], layout=wrap),
            self._caption,
        ]
        self.box = widgets.VBox(rows, layout={"align_items": "flex-start"})  # nothing stretched
        self.caption = caption

    @property
    def caption(self) -> str:
        """What to see."""
        return self._text

    @caption.setter
    def caption(self, text: str) -> None:
        self._text = " ".join(text.split())
        self._caption.value = escape(self._text)
        self._caption.layout.display = None if self._text else "none"

    @property
    def reading(self) -> str:
        """The images and planes shown, with windows and units, in words."""
        panes, grid = self.panes, self.panes.slices.grid
        words = [self._scale(title) for title in dict.fromkeys(t for t, _ in panes.shown)]
        planes = dict.fromkeys(plane for _, plane in panes.shown if plane)
        for plane in planes:
            x, y, _ = grid.axes(plane)
            ways = "" if grid.sides(plane) else f" ({'ijk'[x]} to the right, {'ijk'[y]} up)"
            words.append(grid.place(plane, grid.index(plane, panes.at)) + ways)
        if any(grid.sides(plane) for plane in planes):
            words.append("letters: directions of the body")
        if panes.opacity:
            words.append(f"{' and '.join(panes.slices.overlays)} over it at {panes.opacity:.0%}")
        return "; ".join(words)

    def show(self, panes: Sequence[Pane], *, swipe: bool = False, together: int = 1) -> None:
        """Show these panes instead; see :meth:`msgan.widgets.panes.Panes.show`."""
        self.panes.show(panes, swipe=swipe, together=together)

    def swap(
        self,
        slices: Slices,
        units: Mapping[str, str],
        *,
        panes: Sequence[Pane],
        groups: Mapping[str, str] | None = None,
        swipe: bool = False,
        together: int = 1,
        caption: str | None = None,
    ) -> None:
        """Show panes of other images in the same controls.

        Windows stay where a group of that name offers them, and the crosshair where the grid
        has the same size.
        """
        before, self._units = self.panes.at, dict(units)
        self.window.follow(slices, units, groups)
        self.panes.swap(slices)
        self.place.follow(units)
        self.caption = self.caption if caption is None else caption
        self.show(panes, swipe=swipe, together=together)
        if self.panes.at != before:
            self.panes.tell()

    def draw(self) -> None:
        """Draw what has changed since the last time."""
        self.panes.draw()

    def display(self) -> None:
        """Show all of it in a notebook, and leave a still picture."""
        words = sentence(self.caption, self.reading, self.place.text)
        leave(self.box, self.panes.static_fallback(), words)

    def _scale(self, title: str) -> str:
        low, high = self.window.of(title)
        unit = self.place.units[title] or "a.u."
        if title in self.panes.slices.diverging:
            return f"{title}, {low:.4g} (blue) through 0 (white) to {high:.4g} (red) {unit}"
        return f"{title}, {low:.4g} (black) to {high:.4g} (white) {unit}"

    def _bars(self, titles: Sequence[str]) -> list[Bar]:
        """What the colours of images mean, once for those that share a window."""
        bars = {}
        for title in titles:
            window, map_ = self.window.of(title), colour_map(self.window.colours_of(title))
            digits, unit = decimals(window), self._units[title] or "a.u."
            low, high = (f"{v:.{digits}f}" for v in window)
            colours = tuple(css(map_[k]) for k in range(0, 256, 15))
            group = self.window.group(title)
            bars[group] = Bar(group, colours, low, f"{high} {unit}")
        return list(bars.values())
