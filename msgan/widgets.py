"""Looking at volumes in JupyterLab: slices, planes and images at the speed of a hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from itertools import count
from typing import Any

import numpy as np

from msgan.types import Array, Box, InputError, Reader, Shape

Window = tuple[float, float]
Image = Array | tuple[Reader, Sequence[int]]
"""An image in memory, or the reader of one of any size with its shape."""

PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""Plane -> array axes that run right, up, and through it (index axes, as in the figures)."""

SIDE = 384
"""Longest side of the picture in pixels; images with more voxels are shown voxel by pixel."""

_numbers = count()


def browse(
    volumes: Mapping[str, Image],
    *,
    spacing: Sequence[float] | None = None,
    window: Window | Mapping[str, Window] | None = None,
    unit: str = "",
    caption: str = "",
) -> Browser:
    """Leaf through images of one grid: a slider for the slice, buttons for plane and image.

    Shown as the last line of a cell. Where there is no live kernel (a page made from the
    notebook) a picture of the first view is left.

    Args:
        volumes: Title -> image, (i, j, k) or (rows, columns), or its reader and shape; only the
            slice shown is read.
        spacing: Size of a voxel in mm along each axis; default 1.
        window: Darkest and brightest intensity, for all images or by title; default 0.5 and
            99.5 % of the image's middle slices, each its own.
        unit: Of the intensities.
        caption: What to see.

    Raises:
        InputError: No image, shapes that differ, not 2 or 3 axes, or a spacing or window that
            does not fit.
    """
    return Browser(Slices(volumes, spacing, window), unit=unit, caption=caption)


class Slices:
    """Planes of images of one grid as PNG files; what a browser shows, without any browser."""

    def __init__(
        self,
        volumes: Mapping[str, Image],
        spacing: Sequence[float] | None = None,
        window: Window | Mapping[str, Window] | None = None,
    ) -> None:
        if not volumes:
            raise InputError("volumes: no image: expected at least one")
        opened = {title: _opened(volume) for title, volume in volumes.items()}
        first, (_, self.shape) = next(iter(opened.items()))
        for title, (_, shape) in opened.items():
            if shape != self.shape:
                raise InputError(
                    f"{first} of shape {self.shape}, {title} of shape {shape}: expected the same"
                )
        if len(self.shape) not in (2, 3) or min(self.shape) < 1:
            raise InputError(f"{first}: image of shape {self.shape}: expected 2 or 3 axes")
        self.spacing = tuple(float(s) for s in spacing or (1.0,) * len(self.shape))
        if len(self.spacing) != len(self.shape) or min(self.spacing) <= 0:
            raise InputError(f"spacing {self.spacing}: expected {len(self.shape)} positive sizes")
        self._readers = {title: read for title, (read, _) in opened.items()}
        given = window if isinstance(window, Mapping) else dict.fromkeys(opened, window)
        self.windows = {title: given.get(title) or self._window(title) for title in opened}
        for title, (low, high) in self.windows.items():
            if not low < high:
                raise InputError(f"{title}: window {low:g} to {high:g}: expected low below high")

    @property
    def titles(self) -> tuple[str, ...]:
        """Of the images, in order."""
        return tuple(self._readers)

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the planes; a 2D image has one without a name."""
        return tuple(PLANES) if len(self.shape) == 3 else ("",)

    def slices(self, plane: str) -> int:
        """How many slices a plane has."""
        return self.shape[self._axes(plane)[2]] if plane else 1

    def read(self, title: str, plane: str, index: int) -> Array:
        """One slice as (up, right), row 0 at the top of the picture.

        Raises:
            InputError: There is no such image, plane or slice.
        """
        if title not in self._readers:
            raise InputError(f"image {title!r} is none of {', '.join(self.titles)}")
        if not plane and len(self.shape) == 2:
            return self._readers[title](Box.whole(self.shape))
        x, y, through = self._axes(plane)
        if not 0 <= index < self.shape[through]:
            raise InputError(
                f"slice {index}: the {plane} plane has slices 0 to {self.shape[through] - 1}"
            )
        start = tuple(index if a == through else 0 for a in range(3))
        size = tuple(1 if a == through else n for a, n in enumerate(self.shape))
        part = self._readers[title](Box(start, size)).squeeze(through)
        return (part.T if x < y else part)[::-1]

    def png(self, title: str, plane: str, index: int) -> bytes:
        """One slice as a grey PNG, its sides in proportion to millimetres.

        Raises:
            InputError: There is no such image, plane or slice.
        """
        from PIL import Image as Picture

        part = self.read(title, plane, index)
        low, high = self.windows[title]
        shown = np.nan_to_num((part - low) * (255 / (high - low)), nan=0.0).clip(0, 255)
        x, y, _ = self._axes(plane) if plane else (1, 0, -1)
        sides = (part.shape[1] * self.spacing[x], part.shape[0] * self.spacing[y])
        scale = max(SIDE, *part.shape) / max(sides)
        pixels = (max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale)))
        # Single voxels stay visible: nothing is smoothed that the image does not smooth itself.
        picture = Picture.fromarray(shown.astype(np.uint8)).resize(
            pixels, Picture.Resampling.NEAREST
        )
        file = io.BytesIO()
        picture.save(file, format="PNG", compress_level=1)
        return file.getvalue()

    def _axes(self, plane: str) -> tuple[int, int, int]:
        if plane not in self.planes or not plane:
            raise InputError(f"plane {plane!r} is none of {', '.join(self.planes) or 'none'}")
        return PLANES[plane]

    def _window(self, title: str) -> Window:
        middle = [self.read(title, p, self.slices(p) // 2).ravel() for p in self.planes]
        values = np.concatenate(middle)
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, [0.005, 0.995]) if values.size else (0.0, 0.0)
        return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


class Browser:
    """The controls of :func:`browse`.

    Attributes:
        slices: What is shown.
        image: Buttons, the title of the image.
        plane: Buttons, the plane.
        slice: Slider, the slice's index; each plane remembers its own.
        picture: The PNG shown.
    """

    def __init__(self, slices: Slices, *, unit: str = "", caption: str = "") -> None:
        import ipywidgets as widgets

        self.slices = slices
        self.unit = unit
        self.caption = " ".join(caption.split())
        plane = slices.planes[0]
        self._at = {p: slices.slices(p) // 2 for p in slices.planes}
        self.image = widgets.ToggleButtons(options=slices.titles, description="image")
        self.plane = widgets.ToggleButtons(options=slices.planes, description="plane")
        self.slice = widgets.IntSlider(
            value=self._at[plane], min=0, max=slices.slices(plane) - 1, description="slice"
        )
        flat = len(slices.shape) == 2
        for control in (self.plane, self.slice):
            control.layout.display = "none" if flat else None
        self.picture = widgets.Image(format="png")
        self._reading = widgets.Label()
        self._mark = f"msgan-still-{next(_numbers)}"
        for control in (self.image, self.plane, self.slice):
            control.observe(self._changed, names="value")
        self._draw()
        # Where the controls are alive their own style hides the still picture above them.
        style = widgets.HTML(f"<style>.{self._mark} {{ display: none; }}</style>")
        rows = [style, self.image, self.plane, self.slice, self.picture, self._reading]
        if self.caption:
            rows.append(widgets.HTML(escape(self.caption)))
        self.box = widgets.VBox(rows, layout={"align_items": "flex-start"})  # nothing stretched
        self.still = self.picture.value

    @property
    def reading(self) -> str:
        """What the picture shows, in words."""
        title, plane = self.image.value, self.plane.value
        low, high = self.slices.windows[title]
        words = [f"{title}, {low:.4g} (black) to {high:.4g} (white) {self.unit or 'a.u.'}"]
        if plane:
            x, y, through = PLANES[plane]
            place = f"{plane}, {'ijk'[through]} = {self.slice.value}"
            words += [place, f"{'ijk'[x]} to the right, {'ijk'[y]} up"]
        return "; ".join(words)

    def _changed(self, change: Any) -> None:
        plane = self.plane.value
        if change["owner"] is self.plane:
            self.slice.unobserve(self._changed, names="value")  # one redraw, not three
            self.slice.max = self.slices.slices(plane) - 1
            self.slice.value = self._at[plane]
            self.slice.observe(self._changed, names="value")
        self._at[plane] = self.slice.value
        self._draw()

    def _draw(self) -> None:
        self.picture.value = self.slices.png(self.image.value, self.plane.value, self.slice.value)
        self._reading.value = self.reading

    def _ipython_display_(self) -> None:
        """A still picture for pages, then the controls, which hide it where they are alive."""
        from IPython.display import display

        picture = base64.b64encode(self.picture.value).decode()
        text = escape(". ".join(filter(None, [self.caption.rstrip("."), self.reading])) + ".")
        still = (
            f'<figure class="{self._mark}" style="margin: 0"><img alt="{text}" '
            f'src="data:image/png;base64,{picture}"><figcaption>{text}</figcaption></figure>'
        )
        display({"text/html": still, "image/png": picture, "text/plain": text}, raw=True)
        note = "Slider and buttons work in JupyterLab."
        live = self.box._repr_mimebundle_()
        display({**live, "text/html": f"<small>{note}</small>", "text/plain": note}, raw=True)


def _opened(volume: Image) -> tuple[Reader, Shape]:
    if isinstance(volume, tuple):
        read, shape = volume
        return read, tuple(int(n) for n in shape)
    array = np.asarray(volume)
    return lambda box: array[box.slices], array.shape
