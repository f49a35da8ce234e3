"""Many pictures at once: the scales of one image, the subjects of a cohort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from msgan.plots.frame import PLANES, Frame, Window, usual_window
from msgan.plots.style import (
    SIZE,
    colorbar,
    colours,
    hide,
    panels,
    settled,
    style,
    with_unit,
    wrapped,
)
from msgan.types import Array, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scales(
    images: Sequence[Array],
    *,
    spacing: Sequence[float] | None = None,
    window: Window | None = None,
    unit: str = "",
    plane: str = "axial",
    zoom: float = 0.25,
    at: Sequence[float] | None = None,
    caption: str = "",
) -> Figure:
    """The scales s0..sn of one image at equal physical size, whole and magnified.

    Args:
        images: s0 first; each (i, j, k) or (rows, columns).
        spacing: Of the **last** scale, mm along each axis.
        plane: For volumes: axial, coronal or sagittal.
        zoom: Side of the magnified part as a share of the image.
        at: Where the plane passes and what is magnified, as a share of the field of view along
            each axis, 0 to 1; None: the middle.

    See :func:`slices` for the other arguments and the errors.
    """
    if not images:
        raise InputError("images: no image: expected at least one scale")
    if len({np.ndim(v) for v in images}) > 1:
        raise InputError("images: scales with different numbers of axes")
    last = np.asarray(images[-1])
    place = tuple(at or (0.5,) * last.ndim)
    if len(place) != last.ndim or not all(0 <= share <= 1 for share in place):
        raise InputError(f"at {place}: expected a share of each of {last.ndim} axes, 0 to 1")
    whole = np.array(last.shape) * np.asarray(spacing or (1.0,) * last.ndim)
    low, high = window or usual_window([last])
    note = f"{caption} Upper row: each scale over the same field of view, title: its voxels. "
    note += "Lower row: the part in the frame, magnified; single voxels stay visible."
    with style():
        frames = [
            Frame.of(
                v,
                [min(int(n * share), n - 1) for n, share in zip(v.shape, place, strict=True)],
                (whole / v.shape).tolist(),
                None,
            )
            for v in map(np.asarray, images)
        ]
        name = plane if last.ndim == 3 else ""
        if name not in frames[0].names:
            raise InputError(f"plane {plane!r}: expected one of {', '.join(PLANES)}")
        size = frames[-1].extent(name)
        figure, axes = panels(2, len(images), [size] * len(images), note, side=1.35)
        middle = [place[axis] for axis in frames[-1].axes(name)[:2]]
        corner = [
            s * min(max(m - zoom / 2, 0.0), 1 - zoom) for s, m in zip(size, middle, strict=True)
        ]
        for column, (frame, image) in enumerate(zip(frames, images, strict=True)):
            top, bottom = axes[0][column], axes[1][column]
            shown = np.asarray(image)
            mappable = frame.show(top, shown, name, None, vmin=low, vmax=high, letters=False)
            frame.show(bottom, shown, name, None, vmin=low, vmax=high, letters=False)
            voxels = " × ".join(map(str, shown.shape))
            top.set_title(f"s{column}\n{voxels}")
            bottom.set_xlim(corner[0], corner[0] + zoom * size[0])
            bottom.set_ylim(corner[1], corner[1] + zoom * size[1])
            if frame.upside_down:
                bottom.invert_yaxis()
            colour = colours()[1]
            from matplotlib.patches import Rectangle

            inner = (zoom * size[0], zoom * size[1])
            top.add_patch(Rectangle((corner[0], corner[1]), *inner, fill=False, ec=colour, lw=1.2))
            for spine in bottom.spines.values():
                spine.set(visible=True, edgecolor=colour, linewidth=1.2)
        if spacing is not None:
            frames[-1].scale_bar(axes[0][0], name)
        colorbar(figure, mappable, [ax for row in axes for ax in row], with_unit("intensity", unit))
    return settled(figure)


def contact_sheet(
    subjects: Mapping[str, Array] | Iterable[tuple[str, Array]],
    *,
    spacing: Sequence[float] | None = None,
    window: Window | None = None,
    unit: str = "",
    plane: str = "axial",
    columns: int = 6,
    caption: str = "",
) -> Figure:
    """One middle slice of every subject, for a look at a whole cohort.

    Args:
        subjects: Name -> image, or pairs that may be read one at a time: only the slices are kept.
        plane: For volumes: axial, coronal or sagittal.
        columns: Pictures in a row.

    See :func:`slices` for the other arguments and the errors.
    """
    pairs = subjects.items() if isinstance(subjects, Mapping) else subjects
    kept: list[tuple[str, Array, Frame]] = []
    for name, image in pairs:
        image = np.asarray(image)
        frame = Frame.of(image, None, spacing, None)
        where = plane if image.ndim == 3 else ""
        if where not in frame.names:
            raise InputError(f"plane {plane!r}: expected one of {', '.join(PLANES)}")
        if image.ndim == 3:  # a slab one voxel thick: the volume can be forgotten
            fixed = PLANES[plane][2]
            image = image.take([frame.at[fixed]], axis=fixed).copy()
            at = tuple(0 if a == fixed else v for a, v in enumerate(frame.at))
            frame = Frame(image.shape, at, frame.spacing, None)
        kept.append((name, image, frame))
    if not kept:
        raise InputError("subjects: no image: expected at least one")
    low, high = window or usual_window([image for _, image, _ in kept])
    note = f"{caption} {len(kept)} subjects, one middle slice each, all in the same window."
    columns = min(columns, len(kept))
    with style():
        names = [plane if image.ndim == 3 else "" for _, image, _ in kept]
        sizes = [f.extent(n) for n, (_, _, f) in zip(names, kept, strict=True)]
        widest = (max(s[0] for s in sizes), max(s[1] for s in sizes))
        rows = ceil(len(kept) / columns)
        figure, axes = panels(
            rows, columns, [widest] * columns, note, side=1.1, title=0.05, gap=0.27
        )
        for index, (title, image, frame) in enumerate(kept):
            ax = axes[index // columns][index % columns]
            mappable = frame.show(ax, image, names[index], None, vmin=low, vmax=high, letters=False)
            ax.set_title(wrapped(title, 90 // columns), fontsize=SIZE - 1)
        hide(axes, len(kept))
        drawn = [ax for row in axes for ax in row if ax.images]
        colorbar(figure, mappable, drawn, with_unit("intensity", unit))
    return settled(figure)
