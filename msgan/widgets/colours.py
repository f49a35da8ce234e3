"""Colours of images and overlays, [0, 255]; colour-blind readers can tell them apart."""

from __future__ import annotations

from functools import cache

import numpy as np

from msgan.types import Array, InputError

MAPS = ("grey", "inverted grey", "viridis", "cividis", "inferno")
"""Colour maps that are offered for an image; each gets brighter, or darker, throughout."""

DIFFERENCE = "blue, white, red"
"""The colour map of differences: white is zero."""

OUTLINE = "#a8ff3e"
"""Colour of the outline of a mask, none of the labels' and not the crosshair's."""


@cache
def colour_map(name: str) -> Array:
    """(256, 3) uint8, of the lowest intensity first.

    Raises:
        InputError: There is no such map.
    """
    from matplotlib import colormaps

    names = {"grey": "gray", "inverted grey": "gray_r", DIFFERENCE: "RdBu_r"}
    if name not in (*MAPS, DIFFERENCE):
        raise InputError(f"colour map {name!r} is none of {', '.join(MAPS)}")
    colours = colormaps[names.get(name, name)](np.arange(256))[:, :3]
    return np.rint(colours * 255).astype(np.uint8)


def css(colour: Array) -> str:
    """A colour as pages write it."""
    return "#" + bytes(np.rint(colour).astype(np.uint8)).hex()


@cache
def outline_colour() -> Array:
    """(3,), of :data:`OUTLINE`."""
    from msgan.plots.style import rgb

    return np.array(rgb(OUTLINE), np.float32) * 255


@cache
def label_colours() -> Array:
    """(6, 3) of label 1 and on, then from the start again; those of the figures' outlines."""
    from msgan.plots.style import label_colour

    return np.array([label_colour(v) for v in range(1, 7)], np.float32) * 255


@cache
def sketch_colour() -> Array:
    """(3,), none of the labels'."""
    from msgan.plots.style import SKETCH, rgb

    return np.array(rgb(SKETCH), np.float32) * 255
