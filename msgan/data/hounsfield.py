"""Checks by the amount of air whether the values of an image can be in Hounsfield units.

NIfTI states no unit, and a manifest may state a wrong one: a CT in stored units (HU + 1024), or an
MR, would be shown in a window of HU as something it is not.
"""

from __future__ import annotations

import numpy as np

from msgan.config import Preparation
from msgan.types import Array, Box

AIR = (-1500.0, -200.0)
"""HU of air and lung, with room for noise; below it is padding, above it fat."""

SOME = 1e-3
"""Less air than this share of an image is none: interpolation leaves single low values."""

MUCH = 1e-2
"""An image that is no CT has not so many values like those of air."""


class Air:
    """Counts voxels like air in one scan of an image."""

    def __init__(self) -> None:
        self.voxels = self.air = 0

    def add(self, _: Box, values: Array) -> None:
        """Look at one piece of the image; NaN is none of it."""
        self.voxels += int(np.count_nonzero(np.isfinite(values)))
        self.air += int(np.count_nonzero((values >= AIR[0]) & (values <= AIR[1])))

    @property
    def share(self) -> float:
        """Of the voxels with a value."""
        return self.air / max(1, self.voxels)


def doubt(
    air: Air,
    extremes: tuple[float, float],
    unit: str,
    prep: Preparation | None = None,
    wanted: str = "",
) -> str:
    """What speaks against taking an image for a CT in HU, or for none; empty where nothing does.

    Args:
        air: Has seen the whole image.
        extremes: Smallest and largest value of the image.
        unit: That the file or the manifest states.
        prep: How it will be prepared; None: that is not known.
        wanted: The unit of the images a run was trained on.
    """
    window = prep is not None and prep.intensity == "window"
    low = prep.low if prep is not None and prep.low is not None else -np.inf
    values = f"values from {extremes[0]:g} to {extremes[1]:g}"
    as_ct = window and (low <= AIR[1] or wanted == "HU")
    if (unit == "HU" or as_ct) and air.share < SOME:
        who = "it is said to be in HU" if unit == "HU" else "it is prepared as a CT in HU"
        return (
            f"{who}, but has {values}, none like air (-1000): are they stored values without "
            "their rescale, or is it no CT?"
        )
    if prep is None or as_ct or (black := low if window else prep.foreground) < AIR[1]:
        return ""
    if unit == "HU" or air.share >= MUCH:
        who = "it is in HU" if unit == "HU" else f"{values}, as of a CT in HU"
        return f"{who}, but prepared as MR: what is at or below {black:g} is background"
    return ""


def apart(first: tuple[float, float], second: tuple[float, float], units: tuple[str, str]) -> str:
    """Whether two images that are compared can have one unit; in words where they cannot.

    Args:
        first: Smallest and largest value of one image.
        second: Of the other.
        units: That their files state.
    """
    stated = [unit for unit in units if unit != "a.u."]
    if len(set(stated)) > 1:
        return f"the images are in {units[0]} and {units[1]}"
    lows = sorted((first[0], second[0]))
    if lows[0] <= -500 and lows[1] > AIR[1]:
        return (
            f"values from {first[0]:g} to {first[1]:g} and from {second[0]:g} to {second[1]:g}: "
            "is one of them in HU and the other not?"
        )
    return ""
