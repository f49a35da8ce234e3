"""Slices of images, side by side and compared with the real image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from msgan.plots.frame import Frame, Window, common_shape, quantile, usual_window
from msgan.plots.style import colorbar, hide, legend, panels, settled, style, with_unit, wrapped
from msgan.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def slices(
    volumes: Mapping[str, Array],
    *,
    at: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    affine: Array | None = None,
    window: Window | None = None,
    unit: str = "",
    overlay: Array | Mapping[str, Array] | None = None,
    overlay_name: str = "label",
    caption: str = "",
) -> Figure:
    """Volumes below each other in three planes, or 2D images side by side, with one window.

    Args:
        volumes: Title -> image, (i, j, k) or (rows, columns); all of one shape.
        at: Voxel the planes pass through; default the middle of the first image's foreground.
        spacing: Size of a voxel in mm along each axis; default from ``affine``, else 1.
        affine: (4, 4), index -> mm (RAS). With it the planes are anatomical and carry letters,
            the left of the body on the left. Without it they follow the index axes.
        window: Darkest and brightest intensity; default 0.5 and 99.5 % of all images.
        unit: Of the intensities.
        overlay: Labels drawn as outlines, for all images or by title.
        overlay_name: What the labels are called.
        caption: What to see; how to read the planes is added.

    Raises:
        InputError: no image, shapes that differ, or an ``at`` outside the image.
    """
    images = {title: np.asarray(v) for title, v in volumes.items()}
    shape = common_shape(images)
    labels = overlay if isinstance(overlay, Mapping) else dict.fromkeys(images, overlay)
    frame = Frame.of(next(iter(images.values())), at, spacing, affine)
    low, high = window or usual_window(list(images.values()))
    names = frame.names
    cells = [(title, name) for title in images for name in names]
    columns = len(names) if len(shape) == 3 else min(len(images), 4)
    note = frame.note(caption)
    with style():
        rows = ceil(len(cells) / columns)
        sizes = [frame.extent(n) for n in names] if len(shape) == 3 else [frame.extent("")]
        gap = 0.2 if len(shape) == 3 and affine is None else 0.04
        figure, axes = panels(rows, columns, sizes, note, side=1.35, title=0.27, gap=gap)
        used: set[int] = set()
        for index, (title, name) in enumerate(cells):
            ax = axes[index // columns][index % columns]
            room = (frame.extent(name)[0], max(h for _, h in sizes))
            mappable = frame.show(ax, images[title], name, room, vmin=low, vmax=high)
            if labels.get(title) is not None:
                used |= frame.outline(ax, np.asarray(labels[title]), name)
            if len(shape) == 2:
                ax.set_title(wrapped(title, 26))
            elif index < columns:
                ax.set_title(frame.title(name))
            if len(shape) == 3 and index % columns == 0:
                ax.set_ylabel(wrapped(title, 22), labelpad=14 if affine is None else 6)
        frame.scale_bar(axes[0][0], names[0])
        hide(axes, len(cells))
        drawn = [ax for row in axes for ax in row if ax.axison or ax.images]
        colorbar(figure, mappable, drawn, with_unit("intensity", unit))
        legend(figure, used, overlay_name)
    return settled(figure)


def compare(
    source: Array,
    translated: Array,
    real: Array,
    *,
    at: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    affine: Array | None = None,
    window: Window | None = None,
    source_window: Window | None = None,
    difference: float | None = None,
    unit: str = "",
    source_unit: str | None = None,
    caption: str = "",
) -> Figure:
    """Source, translation, real image and their difference, a row for each plane.

    Args:
        source: Image the sketch comes from; it has its own window.
        translated: The result, (i, j, k) or (rows, columns).
        real: The real image of the target domain on the same grid.
        window: Of ``translated`` and ``real``; default 0.5 and 99.5 % of the real image.
        source_window: Of ``source``; default the same percentiles of it.
        difference: Largest difference shown; default 99.5 % of the absolute differences.
        unit: Of ``translated``, ``real`` and the difference.
        source_unit: Of ``source``; default ``unit``.

    See :func:`slices` for the other arguments and the errors.
    """
    images = {"source": source, "translated": translated, "real": real}
    images = {title: np.asarray(v, dtype=np.float32) for title, v in images.items()}
    shape = common_shape(images)
    images["translated − real"] = images["translated"] - images["real"]
    frame = Frame.of(images["real"], at, spacing, affine)
    main = window or usual_window([images["real"]])
    error = difference or quantile(np.abs(images["translated − real"]), 0.995) or 1.0
    windows = [source_window or usual_window([images["source"]]), main, main, (-error, error)]
    reading = "Red: the translation is brighter than the real image, blue: darker; white: no error."
    note = frame.note(f"{caption} {reading}")
    names = frame.names
    with style():
        sizes = [max((frame.extent(n) for n in names), key=lambda e: e[0])] * 4
        tall = [frame.extent(n)[1] for n in names]
        gap = 0.2 if len(shape) == 3 and affine is None else 0.04
        figure, axes = panels(
            len(names), 4, sizes, note, side=0.4, title=0.27, below=0.75, heights=tall, gap=gap
        )
        for row, name in enumerate(names):
            for column, (title, image) in enumerate(images.items()):
                ax = axes[row][column]
                low, high = windows[column]
                cmap = "RdBu_r" if column == 3 else "gray"
                room = (sizes[0][0], tall[row])
                frame.show(ax, image, name, room, vmin=low, vmax=high, cmap=cmap)
                if row == 0:
                    ax.set_title(title)
            if len(shape) == 3:
                axes[row][0].set_ylabel(frame.title(name), labelpad=14 if affine is None else 6)
        frame.scale_bar(axes[0][0], names[0])
        own, both = with_unit("source", unit if source_unit is None else source_unit), unit
        for first, last, label in [
            (0, 1, own),
            (1, 3, with_unit("intensity", both)),
            (3, 4, with_unit("difference", both)),
        ]:
            below = [row[c] for row in axes for c in range(first, last)]
            colorbar(figure, axes[-1][first].images[0], below, label, last - first)
    return settled(figure)
