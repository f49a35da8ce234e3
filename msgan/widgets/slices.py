"""Planes of several images of one grid as pictures, with overlays."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from msgan.types import Array, InputError, Reader, Shape
from msgan.widgets.colours import (
    DIFFERENCE,
    colour_map,
    label_colours,
    outline_colour,
    sketch_colour,
)
from msgan.widgets.planes import Planes
from msgan.widgets.slice_prefetch import SlicePrefetch

Window = tuple[float, float]
"""Darkest and brightest intensity shown."""

Image = Array | tuple[Reader, Sequence[int]]
"""An image in memory, or the reader of one of any size with its shape."""

SIDE = 384
"""Longest side of a PNG in pixels; images with more voxels are shown voxel by pixel."""


class Slices:
    """Planes of images of one grid as pictures; only the slice shown is read.

    Args:
        volumes: Title -> image, (i, j, k) or (rows, columns), or its reader and shape.
        spacing: Size of a voxel in mm along each axis; default from ``affine``, else 1.
        window: Darkest and brightest intensity, for all images or by title; default 0.5 and
            99.5 % of the image's middle slices, each its own.
        affine: Index -> mm; see :class:`msgan.widgets.planes.Planes`.
        labels: Integers on the same grid, laid over the images in colours; 0 stays clear. Several
            by name.
        masks: By name; of what is not 0 in them the outline is drawn.
        sketch: Strength of edges on the same grid, [0, 1], laid over the images in one colour.
        lines: What the readout calls ``sketch`` where it holds other lines.
        diverging: Titles of differences: blue below zero, white at it, red above, about a
            window that is symmetric unless it is given.

    Attributes:
        grid: How the planes lie.
        windows: Title -> window.
        extremes: Title -> smallest and largest intensity of the middle slices, where its window
            was not given.
        given: Titles whose window was given.
        hidden: Names of overlays that are not drawn.

    Raises:
        InputError: No image, shapes that differ, not 2 or 3 axes, or a spacing, affine or
            window that does not fit.
    """

    def __init__(
        self,
        volumes: Mapping[str, Image],
        spacing: Sequence[float] | None = None,
        window: Window | Mapping[str, Window] | None = None,
        *,
        affine: Array | None = None,
        labels: Image | Mapping[str, Image] | None = None,
        masks: Mapping[str, Image] | None = None,
        sketch: Image | None = None,
        lines: str = "sketch",
        diverging: Collection[str] = (),
    ) -> None:
        if not volumes:
            raise InputError("volumes: no image: expected at least one")
        images = {title: opened(volume) for title, volume in volumes.items()}
        maps = dict(labels) if isinstance(labels, Mapping) else {"labels": labels}
        laid = {**maps, **(masks or {}), lines: sketch}
        over = {name: opened(image) for name, image in laid.items() if image is not None}
        self._labels, self.masks = frozenset(maps), frozenset(masks or {})
        self.hidden: set[str] = set()
        first, (_, self.shape) = next(iter(images.items()))
        for title, (_, shape) in [*images.items(), *over.items()]:
            if shape != self.shape:
                raise InputError(
                    f"{first} of shape {self.shape}, {title} of shape {shape}: expected the same"
                )
        self.grid = Planes.of(self.shape, spacing, affine, first)
        self.diverging = frozenset(diverging)
        if unknown := self.diverging - set(images):
            raise InputError(f"difference {min(unknown)!r} is none of {', '.join(images)}")
        self._readers = {title: read for title, (read, _) in images.items()}
        self._over = {name: read for name, (read, _) in over.items()}
        # Two, since an image may be called as an overlay is.
        self._ahead, self._laid = (
            SlicePrefetch(self.grid, self._readers),
            SlicePrefetch(self.grid, self._over),
        )
        every = window if isinstance(window, Mapping) else dict.fromkeys(images, window)
        self.given = frozenset(title for title in images if every.get(title))
        self.extremes: dict[str, Window] = {}
        self.windows = {title: every.get(title) or self._window(title) for title in images}
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
        return self.grid.names

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a voxel in mm along each axis."""
        return self.grid.spacing

    @property
    def overlays(self) -> tuple[str, ...]:
        """What can be laid over the images: ``labels``, ``sketch`` or what that is called."""
        return tuple(self._over)

    def turn(self, radiological: bool) -> None:
        """Show the left of the body on the right, or on the left."""
        self.grid = replace(self.grid, radiological=radiological)

    def slices(self, plane: str) -> int:
        """How many slices a plane has."""
        return self.grid.count(plane)

    def read(self, title: str, plane: str, index: int) -> Array:
        """One slice as (up, right), row 0 at the top of the picture.

        Raises:
            InputError: There is no such image, plane or slice.
        """
        self._reader(title)
        return self.grid.upright(self._ahead.read(title, plane, index), plane)

    def value(self, title: str, at: Sequence[int]) -> float:
        """The intensity of one voxel.

        Raises:
            InputError: There is no such image.
        """
        self._reader(title)
        return self._ahead.voxel(title, at)

    def laid(self, name: str, at: Sequence[int]) -> float:
        """The label, or the strength of the edges, at one voxel."""
        return self._laid.voxel(name, at)

    def maps_labels(self, name: str) -> bool:
        """Whether an overlay holds labels."""
        return name in self._labels

    def found(self, name: str, plane: str, index: int) -> tuple[int, ...]:
        """Which labels occur in a slice; empty of what is no label map."""
        if name not in self._labels:
            return ()
        values = np.unique(self._laid.read(name, plane, index)).astype(int)
        return tuple(int(v) for v in values if v)

    def picture(
        self,
        title: str,
        plane: str,
        index: int,
        *,
        window: Window | None = None,
        opacity: float = 0.0,
        colours: str = "grey",
    ) -> Array:
        """One slice as it is shown, a pixel for each voxel.

        Args:
            title: Of the image.
            plane: Name of the plane.
            index: Of the slice.
            window: Instead of the image's own.
            opacity: Of labels and of the strongest edges, 0 (not shown) to 1.
            colours: One of :data:`msgan.widgets.colours.MAPS`; a difference has its own.

        Returns:
            uint8, (up, right) in grey or (up, right, 3) in colour; row 0 at the top.

        Raises:
            InputError: There is no such image, plane or slice.
        """
        part = self.read(title, plane, index)
        low, high = window or self.windows[title]
        shown = np.nan_to_num((part - low) * (255 / (high - low)), nan=0.0).clip(0, 255)
        shown = shown.astype(np.uint8)
        colours = DIFFERENCE if title in self.diverging else colours
        shown = shown if colours == "grey" else colour_map(colours)[shown]
        over = [name for name in self._over if name not in self.hidden]
        if not over or not opacity:
            return shown
        colour = shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)
        for name in over:
            part = self.grid.upright(self._laid.read(name, plane, index), plane)
            if name in self.masks:
                ink, share = outline_colour(), _outline(part != 0)
            elif name in self._labels:
                ink, share = label_colours()[(part.astype(np.int64) - 1) % 6], part != 0
            else:
                ink, share = sketch_colour(), np.nan_to_num(part, nan=0.0).clip(0, 1)
            weight = (share * opacity)[..., None].astype(np.float32)
            colour = colour + weight * (ink - colour)
        return np.rint(colour).astype(np.uint8)

    def png(
        self,
        title: str,
        plane: str,
        index: int,
        *,
        window: Window | None = None,
        opacity: float = 0.0,
    ) -> bytes:
        """:meth:`picture` as a PNG, its sides in proportion to millimetres.

        Raises:
            InputError: There is no such image, plane or slice.
        """
        from PIL import Image as Picture

        shown = self.picture(title, plane, index, window=window, opacity=opacity)
        sides = self.grid.size(plane)
        scale = max(SIDE, *shown.shape[:2]) / max(sides)
        pixels = (max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale)))
        # Single voxels stay visible: nothing is smoothed that the image does not smooth itself.
        return encoded(Picture.fromarray(shown).resize(pixels, Picture.Resampling.NEAREST))

    def _reader(self, title: str) -> Reader:
        if title not in self._readers:
            raise InputError(f"image {title!r} is none of {', '.join(self.titles)}")
        return self._readers[title]

    def _window(self, title: str) -> Window:
        middle = [self.read(title, p, self.slices(p) // 2).ravel() for p in self.planes]
        values = np.concatenate(middle)
        values = values[np.isfinite(values)]
        if values.size and np.ptp(values) > 0:
            self.extremes[title] = float(values.min()), float(values.max())
        if title in self.diverging:
            most = float(np.quantile(np.abs(values), 0.995)) if values.size else 0.0
            return (-most, most) if most else (-1.0, 1.0)
        low, high = np.quantile(values, [0.005, 0.995]) if values.size else (0.0, 0.0)
        if not high > low:
            return float(low) - 0.5, float(low) + 0.5
        # To a millionth of the range: a background of -6e-14 is 0.
        digits = 6 - math.ceil(math.log10(high - low))
        return round(float(low), digits) + 0.0, round(float(high), digits)


def encoded(picture: object) -> bytes:
    """A Pillow image, or an array of uint8, as a PNG."""
    from PIL import Image as Picture

    made = Picture.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    assert isinstance(made, Picture.Image)
    file = io.BytesIO()
    made.save(file, format="PNG", compress_level=1)
    return file.getvalue()


def decimals(window: Window) -> int:
    """Digits behind the point that tell a thousandth of a window: 0 of 900, 3 of 1."""
    return max(0, 3 - math.ceil(math.log10(window[1] - window[0])))


def _outline(inside: Array) -> Array:
    """What of a mask has a neighbour that is not in it, (up, right)."""
    around = np.pad(inside, 1)
    core = around[2:, 1:-1] & around[:-2, 1:-1] & around[1:-1, 2:] & around[1:-1, :-2]
    return np.asarray(inside & ~core)


def opened(volume: Image) -> tuple[Reader, Shape]:
    """The reader of an image, and its shape."""
    if isinstance(volume, tuple):
        read, shape = volume
        return read, tuple(int(n) for n in shape)
    array = np.asarray(volume)
    return lambda box: array[box.slices], array.shape
