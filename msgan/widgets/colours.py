"""Colours of overlays, [0, 255]; colour-blind readers can tell them apart."""

from __future__ import annotations

from functools import cache

import numpy as np

from msgan.types import Array


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


@cache
def blue_to_red() -> Array:
    """(256, 3) uint8: blue, white in the middle, red; as in the figures."""
    from matplotlib import colormaps

    return np.rint(colormaps["RdBu_r"](np.arange(256))[:, :3] * 255).astype(np.uint8)
