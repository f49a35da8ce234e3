"""Source, translation and real image of one subject: side by side, swiped, subtracted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msgan.types import Array, Box, InputError, Reader
from msgan.widgets.comparison import NAMES, Comparison, Names, difference_of
from msgan.widgets.slices import Image, Slices, Window, opened


def compare(
    source: Image,
    translated: Image,
    real: Image | None = None,
    *,
    spacing: Sequence[float] | None = None,
    affine: Array | None = None,
    window: Window | None = None,
    source_window: Window | None = None,
    difference: float | None = None,
    unit: str = "",
    source_unit: str | None = None,
    labels: Image | None = None,
    sketch: Image | None = None,
    caption: str = "",
) -> Comparison:
    """Compare a translation with its source and, where there is one, the real image.

    Beside each other, two on top of each other with a divider to swipe, or subtracted. One
    crosshair runs through all. Shown as the last line of a cell.

    Args:
        source: Image the sketch comes from, or its reader and shape; it has its own window.
        translated: The result on the same grid.
        real: The real image of the target domain on the same grid.
        spacing: See :func:`msgan.widgets.browse`, as for the others not named here.
        affine: See there.
        window: Of ``translated`` and ``real``; default 0.5 and 99.5 % of the real image.
        source_window: Of ``source``; default the same percentiles of it.
        difference: Largest difference shown; default 99.5 % of the absolute differences.
        unit: Of ``translated``, ``real`` and the difference.
        source_unit: Of ``source``; default ``unit``.
        labels: See there.
        sketch: See there.
        caption: What to see.

    Raises:
        InputError: Shapes that differ, not 2 or 3 axes, or a spacing, affine, window or
            difference that does not fit.
    """
    slices = compared(
        source,
        translated,
        real,
        spacing=spacing,
        affine=affine,
        window=window,
        source_window=source_window,
        difference=difference,
        labels=labels,
        sketch=sketch,
    )
    return Comparison(slices, unit=unit, source_unit=source_unit, caption=caption)


def compared(
    source: Image,
    translated: Image,
    real: Image | None = None,
    *,
    spacing: Sequence[float] | None = None,
    affine: Array | None = None,
    window: Window | None = None,
    source_window: Window | None = None,
    difference: float | None = None,
    labels: Image | None = None,
    sketch: Image | None = None,
    names: Names = NAMES,
) -> Slices:
    """The images of :func:`compare` and their difference, for :class:`Comparison`.

    Args:
        source: See :func:`compare`, as for all but the last.
        names: Titles of the three images.

    Raises:
        InputError: See :func:`compare`.
    """
    if difference is not None and not difference > 0:
        raise InputError(f"difference {difference:g}: expected the largest shown, above 0")
    first, second, third = names
    between = difference_of(names)
    images: dict[str, Image] = {first: source, second: translated}
    given = {first: source_window, second: window, third: window}
    if real is not None:
        (made, shape), (truth, other) = opened(translated), opened(real)
        if shape != other:
            raise InputError(
                f"{second} of shape {shape}, {third} of shape {other}: expected the same"
            )
        images |= {third: real, between: (_minus(made, truth), shape)}
        given[between] = None if difference is None else (-difference, difference)
    slices = Slices(
        images,
        spacing,
        {title: w for title, w in given.items() if w is not None},
        affine=affine,
        labels=labels,
        sketch=sketch,
        diverging=[between] if real is not None else [],
    )
    if real is not None:
        slices.windows[second] = slices.windows[third]
    return slices


def _minus(made: Reader, truth: Reader) -> Reader:
    def read(box: Box) -> Array:
        return made(box).astype(np.float32) - truth(box).astype(np.float32)

    return read
