"""Padding voxels outside of the measured image: NaN, or one constant value."""

from __future__ import annotations

from math import isfinite
from typing import Literal

import numpy as np

from msgan.types import Array, Box, InputError, Reader

Padding = Literal["nan"] | float | None
"""What stands for nothing: NaN, voxels of one value (in source units), or no voxel."""

ROUNDING = 1e-6
"""Padding may be off by this share: it has passed a slope and an intercept."""


def padding_of(text: str) -> Padding:
    """The padding a text names.

    Raises:
        InputError: It is neither ``nan`` nor a finite number.
    """
    if text.strip().lower() == "nan":
        return "nan"
    try:
        value = float(text)
    except ValueError:
        value = np.inf
    if not isfinite(value):
        raise InputError(f"padding {text!r}: expected nan or a number, as -2000")
    return value


def is_padding(values: Array, padding: Padding) -> Array:
    """Which float32 ``values`` stand for nothing."""
    if padding is None:
        return np.zeros(values.shape, bool)
    if padding == "nan":
        return np.isnan(values)
    return np.abs(values - np.float32(padding)) <= ROUNDING * abs(padding)


def emptied(values: Array, padding: Padding) -> Array:
    """``values`` with NaN where they stand for nothing."""
    if padding is None or padding == "nan":
        return values
    return np.where(is_padding(values, padding), np.float32(np.nan), values)


def filled(read: Reader, outside: float) -> Reader:
    """A reader that has ``outside`` where ``read`` has NaN."""

    def shown(box: Box) -> Array:
        part = read(box)
        return np.where(np.isnan(part), np.float32(outside), part)

    return shown
