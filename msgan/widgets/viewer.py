"""Three planes of an image with a crosshair that links them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgan.types import Array, InputError
from msgan.widgets.panes import Panes
from msgan.widgets.place import units_of
from msgan.widgets.slices import Image, Slices, Window
from msgan.widgets.viewer_controls import ViewerControls


def browse(
    volumes: Mapping[str, Image],
    *,
    spacing: Sequence[float] | None = None,
    affine: Array | None = None,
    window: Window | Mapping[str, Window] | None = None,
    unit: str | Mapping[str, str] = "",
    labels: Image | None = None,
    sketch: Image | None = None,
    caption: str = "",
) -> Viewer:
    """Look through images of one grid in three planes that a crosshair links.

    Click or drag in a plane to move the crosshair; the wheel, and arrow and page keys, move the
    slice. The wheel with Ctrl zooms, a drag with Shift or the right button moves what is zoomed,
    a double click shows the whole picture again. Shown as the last line of a cell. Where there is
    no live kernel (a page made from the notebook) a picture of the first view is left.

    Args:
        volumes: Title -> image, (i, j, k) or (rows, columns), or its reader and shape; only the
            slices shown are read.
        spacing: Size of a voxel in mm along each axis; default from ``affine``, else 1.
        affine: Index -> mm (RAS); with it the planes are anatomical and positions are told.
        window: Darkest and brightest intensity, for all images or by title; default 0.5 and
            99.5 % of the image's middle slices, each its own.
        unit: Of the intensities, for all images or by title; ``HU`` offers windows of CT.
        labels: Integers on the same grid, laid over the images; 0 stays clear.
        sketch: Strength of edges on the same grid, [0, 1], laid over the images.
        caption: What to see.

    Raises:
        InputError: No image, shapes that differ, not 2 or 3 axes, or a spacing, affine or
            window that does not fit.
    """
    slices = Slices(volumes, spacing, window, affine=affine, labels=labels, sketch=sketch)
    return Viewer(slices, unit=unit, caption=caption)


ALL, THREE = "all", "three planes"
"""Buttons: all images beside each other; all planes."""


class Viewer:
    """The controls of :func:`browse`.

    Args:
        slices: The images.
        unit: See :func:`browse`.
        caption: See :func:`browse`.
        names: Title -> what the page says of it where the cursor rests on its button.

    Attributes:
        slices: What is shown.
        image: Buttons, the title of the image, or all.
        plane: Buttons, the plane, or all three.
        controls: Pictures and all other controls.
        box: All of it, for a page.
    """

    def __init__(
        self,
        slices: Slices,
        *,
        unit: str | Mapping[str, str] = "",
        caption: str = "",
        names: Mapping[str, str] | None = None,
    ) -> None:
        import ipywidgets as widgets

        self.slices = slices
        self._unit = unit
        narrow, apart = {"button_width": "auto"}, {"margin": "2px 14px 2px 2px"}
        self.image = widgets.ToggleButtons(style=narrow, layout=apart)
        self.image.tooltips = [*(names or {}).values()]
        self.plane = widgets.ToggleButtons(style=narrow, layout=apart)
        self._offer()
        units = units_of(unit, slices.titles)
        above = [self.image, self.plane]
        self.controls = ViewerControls(slices, units, above=above, caption=caption)
        self.box = self.controls.box
        for control in (self.image, self.plane):
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

    def on_point(self, listener: Callable[[tuple[int, ...]], None]) -> None:
        """Call ``listener`` with the voxel at each click or drag in a picture."""
        self.panes.on_point(listener)

    def show(self, title: str) -> None:
        """Turn to another image, or to ``all`` beside each other.

        Raises:
            InputError: There is no such image.
        """
        if title not in self.image.options:
            raise InputError(f"image {title!r} is none of {', '.join(self.image.options)}")
        self.image.value = title

    def set_slices(
        self,
        slices: Slices,
        *,
        unit: str | Mapping[str, str] | None = None,
        caption: str | None = None,
    ) -> None:
        """Show other images in the same controls.

        The image of the same title stays chosen, windows stay where presets of that name exist,
        and the crosshair stays where the grid has the same size.

        Args:
            slices: The images.
            unit: See :func:`browse`; default as before.
            caption: What to see; default as before.
        """
        self.slices = slices
        self._unit = self._unit if unit is None else unit
        for control in (self.image, self.plane):  # one redraw, not three
            control.unobserve(self._turned, names="value")
        self._offer()
        for control in (self.image, self.plane):
            control.observe(self._turned, names="value")
        units = units_of(self._unit, slices.titles)
        panes, together = self._panes, self._together
        self.controls.swap(slices, units, panes=panes, together=together, caption=caption)
        self.controls.window.edit(self._titles[0])

    @property
    def reading(self) -> str:
        """What the pictures show, in words."""
        return self.controls.reading

    @property
    def static_fallback(self) -> bytes:
        """All planes as they are shown, in one PNG."""
        return self.panes.static_fallback()

    @property
    def _titles(self) -> list[str]:
        return [*self.slices.titles] if self.image.value == ALL else [self.image.value]

    @property
    def _planes(self) -> tuple[str, ...]:
        return self.slices.planes if self.plane.value == THREE else (self.plane.value,)

    @property
    def _panes(self) -> list[tuple[str, str]]:
        return [(title, plane) for title in self._titles for plane in self._planes]

    @property
    def _together(self) -> int:
        return len(self._planes)

    def _offer(self) -> None:
        """Fit the buttons to the images; what is chosen stays where it is offered."""
        titles, planes = self.slices.titles, self.slices.planes
        several, flat = len(titles) > 1, len(planes) == 1
        for control, options, usual in (
            (self.image, [*titles, *([ALL] if several else [])], titles[0]),
            (self.plane, planes if flat else [THREE, *planes], planes[0] if flat else THREE),
        ):
            chosen = control.value if control.value in options else usual
            control.options = options
            control.value = chosen
        self.image.layout.display = None if several else "none"
        self.plane.layout.display = "none" if flat else None

    def _turned(self, _: Any) -> None:
        self.controls.window.edit(self._titles[0])
        self.controls.show(self._panes, together=self._together)

    def _ipython_display_(self) -> None:
        self.controls.display()
