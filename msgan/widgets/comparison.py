"""Source, translation and real image in one set of controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgan.types import InputError
from msgan.widgets.slices import Slices
from msgan.widgets.viewer_controls import ViewerControls

Names = tuple[str, str, str]
"""Titles of the source, and of the two images of one contrast that are compared."""

NAMES = SOURCE, TRANSLATED, REAL = "source", "translated", "real"
"""Titles of the images, in this order."""

SIDE_BY_SIDE, SWIPE, SUBTRACT = "side by side", "swipe", "difference"


class Comparison:
    """The controls of :func:`msgan.widgets.compare.compare`.

    Args:
        slices: Made by :func:`msgan.widgets.compare.compared`.
        unit: See :func:`msgan.widgets.compare.compare`.
        source_unit: See :func:`msgan.widgets.compare.compare`.
        caption: See :func:`msgan.widgets.compare.compare`.
        names: Titles of the images, where others than source, translated and real are compared.

    Attributes:
        slices: What is shown: source, translated, real, their difference.
        view: Buttons: side by side, swipe or difference.
        plane: Buttons, the plane.
        left: Menu, the image left of the swipe's divider.
        right: Menu, the image right of it.
        adjusted: Menu, the images whose window is set; translated and real share one.
        controls: Pictures and all other controls.
        box: All of it, for a page.
    """

    def __init__(
        self,
        slices: Slices,
        *,
        unit: str = "",
        source_unit: str | None = None,
        caption: str = "",
        names: Names = NAMES,
    ) -> None:
        import ipywidgets as widgets

        self.slices = slices
        self._source, *self._results = names
        self._difference = difference_of(names)
        self._unit, self._source_unit = unit, source_unit
        self.view = widgets.ToggleButtons(description="layout")
        self.plane = widgets.ToggleButtons(description="plane")
        short = {"width": "220px"}
        self.left = widgets.Dropdown(description="left", layout=short)
        self.right = widgets.Dropdown(description="right", layout=short)
        self.adjusted = widgets.Dropdown(description="window of", layout={"width": "300px"})
        self._pair = widgets.HBox([self.left, self.right])
        self._silent = False
        self._offer()
        above = [self.view, self.plane, self._pair, self.adjusted]
        self.controls = ViewerControls(
            slices, self._units, groups=self._groups, above=above, caption=caption
        )
        self.box = self.controls.box
        for control in (self.view, self.plane, self.left, self.right, self.adjusted):
            control.observe(self._turned, names="value")
        self._turned(None)

    @property
    def at(self) -> tuple[int, ...]:
        """The voxel under the crosshair.

        Raises:
            InputError: It is set to what is outside the images.
        """
        return self.controls.panes.at

    @at.setter
    def at(self, voxel: Sequence[int]) -> None:
        self.controls.panes.at = tuple(voxel)

    def on_move(self, listener: Callable[[tuple[int, ...]], None]) -> None:
        """Call ``listener`` with the voxel whenever the crosshair has moved."""
        self.controls.panes.on_move(listener)

    def show(self, view: str) -> None:
        """Turn to ``side by side``, ``swipe`` or ``difference``.

        Raises:
            InputError: There is no such view of these images.
        """
        if view not in self.view.options:
            raise InputError(f"view {view!r} is none of {', '.join(self.view.options)}")
        self.view.value = view

    def set_slices(
        self,
        slices: Slices,
        *,
        unit: str | None = None,
        source_unit: str | None = None,
        caption: str | None = None,
    ) -> None:
        """Show other images, made by :func:`msgan.widgets.compare.compared`, in the same controls.

        Args:
            slices: The images.
            unit: See :func:`msgan.widgets.compare.compare`; default as before.
            source_unit: See there; default as before.
            caption: What to see; default as before.
        """
        self.slices = slices
        self._unit = self._unit if unit is None else unit
        self._source_unit = self._source_unit if source_unit is None else source_unit
        self._offer()
        self.controls.swap(
            slices,
            self._units,
            panes=self._panes,
            groups=self._groups,
            swipe=self.view.value == SWIPE,
            caption=caption,
        )
        self.controls.window.edit(self._adjusted)

    @property
    def reading(self) -> str:
        """What the pictures show, in words."""
        return self.controls.reading

    @property
    def static_fallback(self) -> bytes:
        """The pictures as they are shown, in one PNG; of a swipe both beside each other."""
        return self.controls.panes.static_fallback()

    @property
    def _units(self) -> dict[str, str]:
        source = self._unit if self._source_unit is None else self._source_unit
        return {t: source if t == self._source else self._unit for t in self.slices.titles}

    @property
    def _groups(self) -> dict[str, str]:
        results = self._results
        shared = " and ".join(t for t in self.slices.titles if t in results)
        return {t: shared if t in results else t for t in self.slices.titles}

    @property
    def _images(self) -> list[str]:
        return [t for t in self.slices.titles if t not in self.slices.diverging]

    @property
    def _adjusted(self) -> str:
        return next(t for t, group in self._groups.items() if group == self.adjusted.value)

    @property
    def _panes(self) -> list[tuple[str, str]]:
        titles = {
            SIDE_BY_SIDE: self._images,
            SWIPE: [self.left.value, self.right.value],
            SUBTRACT: [*self._results, self._difference],
        }[self.view.value]
        return [(title, self.plane.value) for title in titles]

    def _offer(self) -> None:
        """Fit the menus to the images; what is chosen stays where it is offered."""
        self._silent = True
        views = [SIDE_BY_SIDE, SWIPE, *([SUBTRACT] if self.slices.diverging else [])]
        last = self._images[-2:]
        groups = [*dict.fromkeys(self._groups.values())]
        for control, options, usual in [
            (self.view, views, views[0]),
            (self.plane, list(self.slices.planes), self.slices.planes[0]),
            (self.left, self._images, last[0]),
            (self.right, self._images, last[1]),
            (self.adjusted, groups, groups[1]),
        ]:
            chosen = control.value if control.value in options else usual
            control.options = options
            control.value = chosen
        self.plane.layout.display = "none" if len(self.slices.shape) == 2 else None
        self._silent = False

    def _turned(self, _: Any) -> None:
        if self._silent:
            return
        self._pair.layout.display = None if self.view.value == SWIPE else "none"
        self.controls.window.edit(self._adjusted)
        self.controls.show(self._panes, swipe=self.view.value == SWIPE)

    def _ipython_display_(self) -> None:
        self.controls.display()


def difference_of(names: Names) -> str:
    """Title of the difference of the second and third of three images."""
    return f"{names[1]} − {names[2]}"
