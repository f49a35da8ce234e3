"""One slice of many images: the whole slice, then the same part of each, magnified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from msgan.plots.frame import PLANES, Frame, Window, usual_window
from msgan.plots.style import (
    colorbar,
    colours,
    hide,
    panels,
    settled,
    style,
    with_unit,
    wrapped,
)
from msgan.types import Array, Box, InputError, Reader

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEARLY_ALL = 0.9
"""Share of a plane from which on its magnified part is taken for all of it."""


def zooms(
    images: Mapping[str, Reader],
    shape: Sequence[int],
    *,
    affine: Array | None = None,
    plane: str = "axial",
    at: int | None = None,
    centre: tuple[float, float] = (0.3, 0.5),
    zoom: float = 0.25,
    window: Window | None = None,
    unit: str = "",
    columns: int = 4,
    caption: str = "",
) -> Figure:
    """A slice of the first image with a frame, and what lies in it of every image (2020, fig. 5).

    Only the slice is read, so images may be of any size.

    Args:
        images: Title -> reader; all on one grid.
        shape: Of the grid, 2 or 3 axes.
        affine: (4, 4), index -> mm (RAS); without it planes follow the index axes.
        plane: For volumes: axial, coronal or sagittal.
        at: Index of the slice; None: the middle.
        centre: Of the magnified part, as shares of the plane's width and height from the lower
            left (2D: upper left).
        zoom: Side of the magnified part as a share of the plane's. One that is nearly all of it
            is not shown a second time as a whole.
        window: Darkest and brightest intensity; default 0.5 and 99.5 % of the first slice.
        unit: Of the intensities.
        columns: Pictures in a row.
        caption: What to see.

    Raises:
        InputError: no image, an unknown plane, a slice outside the image, or a part that does
            not lie within it.
    """
    shape = tuple(shape)
    if not images:
        raise InputError("images: no image: expected at least one")
    name = plane if len(shape) == 3 else ""
    if name and name not in PLANES:
        raise InputError(f"plane {plane!r}: expected one of {', '.join(PLANES)}")
    if not 0 < zoom < 1 or any(abs(c - 0.5) + zoom / 2 > 0.5 for c in centre):
        raise InputError(f"zoom {zoom} around {centre}: expected a part within the image, 0 to 1")
    frame, slab = _slab(shape, affine, name, at)
    shown = {title: np.asarray(read(slab)) for title, read in images.items()}
    first = next(iter(shown))
    low, high = window or usual_window([shown[first]])
    extent = frame.extent(name)
    inner = (zoom * extent[0], zoom * extent[1])
    corner = (centre[0] * extent[0] - inner[0] / 2, centre[1] * extent[1] - inner[1] / 2)
    framed = zoom < NEARLY_ALL
    what = "First the whole slice, then the part in its frame" if framed else "The same slice"
    note = f"{caption} {what} of each image{', magnified' * framed}; single voxels stay visible."
    colour = colours()[1]
    count = len(shown) + framed
    columns = min(columns, count)
    with style():
        figure, axes = panels(
            ceil(count / columns), columns, [extent], note, side=1.2, title=0.27, gap=0.34
        )
        look: dict[str, Any] = {"vmin": low, "vmax": high, "letters": False}
        if framed:
            from matplotlib.patches import Rectangle

            whole = axes[0][0]
            frame.show(whole, shown[first], name, None, **look)
            whole.set_title(wrapped(first, 100 // columns))
            whole.add_patch(Rectangle(corner, *inner, fill=False, ec=colour, lw=1.2))
        for ax, (title, image) in zip(axes.ravel()[framed:], shown.items(), strict=False):
            mappable = frame.show(ax, image, name, None, **look)
            ax.set_title(wrapped(title, 100 // columns))
            if not framed:
                continue
            ax.set_xlim(corner[0], corner[0] + inner[0])
            ends = (corner[1], corner[1] + inner[1])
            ax.set_ylim(ends[::-1] if frame.upside_down else ends)
            for spine in ax.spines.values():
                spine.set(visible=True, edgecolor=colour, linewidth=1.2)
        if affine is not None:
            frame.scale_bar(axes[0][0], name)
        hide(axes, count)
        drawn = [ax for row in axes for ax in row if ax.images]
        colorbar(figure, mappable, drawn, with_unit("intensity", unit))
    return settled(figure)


def _slab(
    shape: tuple[int, ...], affine: Array | None, name: str, at: int | None
) -> tuple[Frame, Box]:
    """A frame of one slice of an image of ``shape``, and the box that holds it."""
    where = tuple(n // 2 for n in shape)
    # The image itself is never in memory: its frame follows from one voxel of its shape.
    frame = Frame.of(np.broadcast_to(np.float32(0), shape), where, None, affine)
    if not name:
        return frame, Box.whole(shape)
    fixed = frame.axes(name)[2]
    index = where[fixed] if at is None else at
    if not 0 <= index < shape[fixed]:
        raise InputError(f"slice {index}: outside an image of shape {shape}")
    thin = tuple(1 if a == fixed else n for a, n in enumerate(shape))
    start = tuple(index if a == fixed else 0 for a in range(len(shape)))
    here = tuple(0 if a == fixed else w for a, w in enumerate(where))
    return Frame(thin, here, frame.spacing, frame.orientation), Box(start, thin)
