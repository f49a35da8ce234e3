"""Source, translation and real image in one set of controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgan.types import InputError
from msgan.widgets.panes import Panes
from msgan.widgets.slices import Slices
from msgan.widgets.viewer_controls import ViewerControls

Names = tuple[str, str, str]
"""Titles of the source, and of the two images of one contrast that are compared."""

NAMES = SOURCE, TRANSLATED, REAL = "source", "translated", "real"
"""Titles of the images, in this order."""

THREE = "three planes"
"""Button: all planes."""

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
        plane: Buttons, the plane, or all three.
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
        apart = {"margin": "2px 14px 2px 2px"}
        narrow = {"button_width": "auto"}
        self.view = widgets.ToggleButtons(style=narrow, layout=apart)
        self.plane = widgets.ToggleButtons(style=narrow, layout=apart)
        short = {"width": "180px"}
        self.left = widgets.Dropdown(description="left", layout=short)
        self.right = widgets.Dropdown(description="right", layout=short)
        self.adjusted = widgets.Dropdown(description="adjust", layout={"width": "220px"})
        for menu in (self.left, self.right, self.adjusted):
            menu.style.description_width = "50px"
        self._pair = widgets.HBox([self.left, self.right], layout={"display": "contents"})
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
    def panes(self) -> Panes:
        """The pictures."""
        return self.controls.panes

    @property
    def at(self) -> tuple[int, ...]:
        """The voxel under the crosshair.

        Raises:
            InputError: It is set to what is outside the images.
        """
        return self.panes.at

    @at.setter
    def at(self, voxel: Sequence[int]) -> None:
        self.panes.at = tuple(voxel)

    def on_move(self, listener: Callable[[tuple[int, ...]], None]) -> None:
        """Call ``listener`` with the voxel whenever the crosshair has moved."""
        self.panes.on_move(listener)

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
            together=self._together,
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
        return self.panes.static_fallback()

    @property
    def _units(self) -> dict[str, str]:
        source = self._unit if self._source_unit is None else self._source_unit
        return {t: source if t == self._source else self._unit for t in self.slices.titles}

    @property
    def _groups(self) -> dict[str, str]:
        one = {*self._results}
        if set(self._units.values()) == {"HU"}:  # of one scale: told apart by one window
            one.add(self._source)
        shared = _listed([t for t in self.slices.titles if t in one])
        return {t: shared if t in one else t for t in self.slices.titles}

    @property
    def _images(self) -> list[str]:
        return [t for t in self.slices.titles if t not in self.slices.diverging]

    @property
    def _adjusted(self) -> str:
        return next(t for t, group in self._groups.items() if group == self.adjusted.value)

    @property
    def _titles(self) -> list[str]:
        """Of the images that are shown."""
        return {
            SIDE_BY_SIDE: self._images,
            SWIPE: [self.left.value, self.right.value],
            SUBTRACT: [*self._results, self._difference],
        }[self.view.value]

    @property
    def _planes(self) -> tuple[str, ...]:
        return self.slices.planes if self.plane.value == THREE else (self.plane.value,)

    @property
    def _panes(self) -> list[tuple[str, str]]:
        if self.view.value == SWIPE:
            return [(title, plane) for plane in self._planes for title in self._titles]
        return [(title, plane) for title in self._titles for plane in self._planes]

    @property
    def _together(self) -> int:
        return len(self._planes)

    def _offer(self) -> None:
        """Fit the menus to the images; what is chosen stays where it is offered."""
        self._silent = True
        views = [SIDE_BY_SIDE, SWIPE, *([SUBTRACT] if self.slices.diverging else [])]
        last, planes = self._images[-2:], self.slices.planes
        for control, options, usual in [
            (self.view, views, views[0]),
            (self.plane, [*planes, *([THREE] if len(planes) > 1 else [])], planes[0]),
            (self.left, self._images, last[0]),
            (self.right, self._images, last[1]),
        ]:
            _offer(control, options, usual)
        self._offer_windows()
        self.plane.layout.display = "none" if len(self.slices.shape) == 2 else None
        self._silent = False

    def _offer_windows(self) -> None:
        """Offer to adjust the windows of the images that are shown, and of no others."""
        groups = [*dict.fromkeys(self._groups[title] for title in self._titles)]
        _offer(self.adjusted, groups, self._groups[self._titles[-1 if len(groups) == 1 else 1]])
        self.adjusted.layout.display = None if len(groups) > 1 else "none"

    def _turned(self, _: Any) -> None:
        if self._silent:
            return
        self._silent = True
        self._offer_windows()
        self._silent = False
        self._pair.layout.display = "contents" if self.view.value == SWIPE else "none"
        self.controls.window.edit(self._adjusted)
        swipe = self.view.value == SWIPE
        self.controls.show(self._panes, swipe=swipe, together=self._together)

    def _ipython_display_(self) -> None:
        self.controls.display()


def difference_of(names: Names) -> str:
    """Title of the difference of the second and third of three images."""
    return f"{names[1]} − {names[2]}"


def _offer(control: Any, options: Sequence[str], usual: str) -> None:
    """Fill a menu; what is chosen stays where it is offered."""
    chosen = control.value if control.value in options else usual
    control.options = options
    control.value = chosen


def _listed(names: Sequence[str]) -> str:
    """Names as one phrase: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
