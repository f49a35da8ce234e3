"""Figures: slices, comparisons, scales, training curves, seams, contact sheets.

Every function returns a Matplotlib figure whose caption is drawn below it and says what to see.
Colours are safe for colour-blind readers; only the area behind images is dark. Figures do not
depend on pyplot's list of open figures: shown in a notebook once, closed by nobody.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msgan.paths import atomic
from msgan.types import Array, InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2
"""Width of a figure in inches: a text page with margins."""

_SIZE = 9.0  # points of the smallest running text
_PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}  # x, y, fixed axis
_UNITS = {"psnr": "psnr (dB)", "seconds": "time (s)", "memory_bytes": "memory (bytes)"}
Window = tuple[float, float]


@contextmanager
def style() -> Iterator[None]:
    """Fonts, colours and layout of every figure; the caller's settings come back afterwards."""
    import seaborn as sns
    from matplotlib import rc_context

    with rc_context():
        sns.set_theme(context="paper", style="ticks", palette="colorblind", font_scale=1.1)
        from matplotlib import rcParams

        rcParams.update(
            {
                "figure.constrained_layout.use": True,
                "figure.facecolor": "white",
                "savefig.facecolor": "white",
                "font.size": _SIZE,
                "axes.titlesize": _SIZE + 0.5,
                "axes.labelsize": _SIZE,
                "xtick.labelsize": _SIZE - 0.5,
                "ytick.labelsize": _SIZE - 0.5,
                "legend.fontsize": _SIZE - 0.5,
                "legend.frameon": False,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "image.cmap": "gray",
            }
        )
        yield


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 200) -> Path:
    """Write a figure as PNG, caption in the picture and in the file's description; close it.

    Raises:
        InputError: a path that does not end in ``.png``.
    """
    from matplotlib import pyplot as plt

    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: expected a name that ends in .png")
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=dpi, metadata={"Description": caption_of(figure)})
    plt.close(figure)
    return path


def caption_of(figure: Figure) -> str:
    """The caption of a figure made here, on one line."""
    return str(figure.get_label())


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
    shape = _common_shape(images)
    labels = overlay if isinstance(overlay, Mapping) else dict.fromkeys(images, overlay)
    frame = _Frame.of(next(iter(images.values())), at, spacing, affine)
    low, high = window or _window(list(images.values()))
    names = frame.names
    cells = [(title, name) for title in images for name in names]
    columns = len(names) if len(shape) == 3 else min(len(images), 4)
    note = frame.note(caption)
    with style():
        rows = ceil(len(cells) / columns)
        sizes = [frame.extent(n) for n in names] if len(shape) == 3 else [frame.extent("")]
        gap = 0.2 if len(shape) == 3 and affine is None else 0.04
        figure, axes = _grid(rows, columns, sizes, note, side=1.35, title=0.27, gap=gap)
        used: set[int] = set()
        for index, (title, name) in enumerate(cells):
            ax = axes[index // columns][index % columns]
            room = (frame.extent(name)[0], max(h for _, h in sizes))
            mappable = frame.show(ax, images[title], name, room, vmin=low, vmax=high)
            if labels.get(title) is not None:
                used |= frame.outline(ax, np.asarray(labels[title]), name)
            if len(shape) == 2:
                ax.set_title(_wrapped(title, 26))
            elif index < columns:
                ax.set_title(frame.title(name))
            if len(shape) == 3 and index % columns == 0:
                ax.set_ylabel(_wrapped(title, 22), labelpad=14 if affine is None else 6)
        frame.scale_bar(axes[0][0], names[0])
        _hide(axes, len(cells))
        drawn = [ax for row in axes for ax in row if ax.axison or ax.images]
        _colorbar(figure, mappable, drawn, _label("intensity", unit))
        _legend(figure, used, overlay_name)
    return _settled(figure)


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
    shape = _common_shape(images)
    images["translated − real"] = images["translated"] - images["real"]
    frame = _Frame.of(images["real"], at, spacing, affine)
    main = window or _window([images["real"]])
    error = difference or _quantile(np.abs(images["translated − real"]), 0.995) or 1.0
    windows = [source_window or _window([images["source"]]), main, main, (-error, error)]
    reading = "Red: the translation is brighter than the real image, blue: darker; white: no error."
    note = frame.note(f"{caption} {reading}")
    names = frame.names
    with style():
        sizes = [max((frame.extent(n) for n in names), key=lambda e: e[0])] * 4
        tall = [frame.extent(n)[1] for n in names]
        gap = 0.2 if len(shape) == 3 and affine is None else 0.04
        figure, axes = _grid(
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
        own, both = _label("source", unit if source_unit is None else source_unit), unit
        for first, last, label in [
            (0, 1, own),
            (1, 3, _label("intensity", both)),
            (3, 4, _label("difference", both)),
        ]:
            below = [row[c] for row in axes for c in range(first, last)]
            _colorbar(figure, axes[-1][first].images[0], below, label, last - first)
    return _settled(figure)


def scales(
    images: Sequence[Array],
    *,
    spacing: Sequence[float] | None = None,
    window: Window | None = None,
    unit: str = "",
    plane: str = "axial",
    zoom: float = 0.25,
    caption: str = "",
) -> Figure:
    """The scales s0..sn of one image at equal physical size, whole and magnified.

    Args:
        images: s0 first; each (i, j, k) or (rows, columns).
        spacing: Of the **last** scale, mm along each axis.
        plane: For volumes: axial, coronal or sagittal, through the middle.
        zoom: Side of the magnified part as a share of the image.

    See :func:`slices` for the other arguments and the errors.
    """
    if not images:
        raise InputError("images: no image: expected at least one scale")
    if len({np.ndim(v) for v in images}) > 1:
        raise InputError("images: scales with different numbers of axes")
    last = np.asarray(images[-1])
    whole = np.array(last.shape) * np.asarray(spacing or (1.0,) * last.ndim)
    low, high = window or _window([last])
    note = f"{caption} Upper row: each scale over the same field of view, title: its voxels. "
    note += "Lower row: the part in the frame, magnified; single voxels stay visible."
    with style():
        frames = [
            _Frame.of(v, [n // 2 for n in v.shape], (whole / v.shape).tolist(), None)
            for v in map(np.asarray, images)
        ]
        name = plane if last.ndim == 3 else ""
        if name not in frames[0].names:
            raise InputError(f"plane {plane!r}: expected one of {', '.join(_PLANES)}")
        size = frames[-1].extent(name)
        figure, axes = _grid(2, len(images), [size] * len(images), note, side=1.35)
        corner = [s * (1 - zoom) / 2 for s in size]
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
            colour = _palette()[1]
            from matplotlib.patches import Rectangle

            inner = (zoom * size[0], zoom * size[1])
            top.add_patch(Rectangle((corner[0], corner[1]), *inner, fill=False, ec=colour, lw=1.2))
            for spine in bottom.spines.values():
                spine.set(visible=True, edgecolor=colour, linewidth=1.2)
        if spacing is not None:
            frames[-1].scale_bar(axes[0][0], name)
        _colorbar(figure, mappable, [ax for row in axes for ax in row], _label("intensity", unit))
    return _settled(figure)


def curves(
    metrics: pd.DataFrame | str | os.PathLike[str],
    *,
    x: str = "step",
    hue: str | None = "scale",
    columns: Sequence[str] | None = None,
    smooth: int = 1,
    caption: str = "",
) -> Figure:
    """Training curves: a panel for each metric, a line for each scale.

    Args:
        metrics: A table, or the path of a ``metrics.jsonl`` (one JSON object a line; lines need
            not have the same keys).
        x: Column of the horizontal axis.
        hue: Column that separates lines; ignored if absent.
        columns: Metrics to draw; default every other numeric column.
        smooth: Width of a running mean in rows; the raw values stay visible behind it.

    Raises:
        InputError: no such column, nothing to draw, or a line that is not JSON.
    """
    import pandas as pd
    import seaborn as sns

    table = metrics if isinstance(metrics, pd.DataFrame) else _read_jsonl(Path(metrics))
    hue = hue if hue in table.columns else None
    numeric = [c for c in table.select_dtypes("number").columns if c not in (x, hue)]
    chosen = (
        list(columns) if columns is not None else [c for c in numeric if table[c].notna().any()]
    )
    for column in (x, *chosen):
        if column not in table.columns:
            raise InputError(f"metrics: no column {column!r}: has {list(table.columns)}")
    if not chosen:
        raise InputError("metrics: no numeric column to draw")
    note = caption or "Training curves."
    if smooth > 1:
        note += (
            f" Strong: running mean over {smooth} rows; faint: every row; short curves as they are."
        )
    across = min(3, len(chosen))
    down = ceil(len(chosen) / across)
    with style():
        figure = _figure(WIDTH, 2.1 * down + 0.45, note)
        axes = figure.subplots(down, across, squeeze=False)
        groups = [(None, table)] if hue is None else list(table.groupby(hue, sort=True))
        palette = sns.color_palette("colorblind", len(groups))
        for index, name in enumerate(chosen):
            ax = axes[index // across][index % across]
            for colour, (group, rows) in zip(palette, groups, strict=True):
                rows = rows.dropna(subset=[name]).sort_values(x)
                label = None if group is None else f"{hue} {group!s}"
                look: dict[str, Any] = {"color": colour, "label": label}
                if len(rows) < 12:
                    look |= {"marker": "o", "ms": 3}
                if 1 < smooth < len(rows) / 2:  # a wider mean would hide the curve
                    ax.plot(rows[x], rows[name], color=colour, alpha=0.25, lw=0.8)
                    mean = rows[name].rolling(smooth, center=True, min_periods=1).mean()
                    ax.plot(rows[x], mean, **look)
                else:
                    ax.plot(rows[x], rows[name], **look)
            ax.set(xlabel=x, ylabel=_UNITS.get(name, name.replace("_", " ")))
            ax.margins(x=0.02)
        for ax in axes.ravel()[len(chosen) :]:
            ax.remove()
        if hue is not None:
            handles, texts = axes[0][0].get_legend_handles_labels()
            figure.legend(handles, texts, loc="outside upper right", ncols=min(len(texts), 6))
    return _settled(figure)


def seam_profile(
    image: Array,
    tile: int,
    *,
    offset: int = 0,
    extrapolate: bool = True,
    pool: int = 1,
    unit: str = "",
    caption: str = "",
) -> Figure:
    """Mean absolute jump between neighbouring voxels against the distance to a face of a tile.

    Args:
        image: The stitched image, (i, j, k) or (rows, columns).
        tile: Voxels between faces, at least 4.
        offset: Index of a face along each axis.
        extrapolate: Subtract what the two neighbouring differences predict, as the seam score
            does; a step then also raises its two neighbours to half its height.
        pool: Average over squares of this many voxels within the face before the absolute value,
            as the seam score does; small steps that go on along a face then show.

    Raises:
        InputError: a tile below 4, or an image with no axis longer than the tile.
    """
    x = np.asarray(image)
    if tile < 4:
        raise InputError(f"tile {tile}: expected at least 4 voxels")
    axes = [a for a in range(x.ndim) if x.shape[a] - 3 >= tile]
    if not axes:
        raise InputError(f"tile {tile}: no axis of an image of shape {x.shape} holds a face")
    note = f"{caption} A peak at 0 is a seam between tiles of {tile} voxels; without seams "
    note += "0 is like any other place."
    with style():
        figure = _figure(WIDTH * 0.72, 3.1, note)
        ax = figure.subplots()
        names = ("rows", "columns") if x.ndim == 2 else ("i", "j", "k")
        positions = np.arange(-(tile // 2), tile - tile // 2)
        for axis, colour, marker in zip(axes, _palette(), "os^", strict=False):
            jump = np.moveaxis(np.diff(x.astype(np.float64), axis=axis), axis, 0)
            first = 1
            if extrapolate:
                jump, first = jump[1:-1] - (jump[:-2] + jump[2:]) / 2, 2
            area = jump[0].size
            for a in range(1, x.ndim) if pool > 1 else ():
                jump = np.add.reduceat(jump, np.arange(0, jump.shape[a], pool), axis=a)
            profile = np.abs(jump).reshape(len(jump), -1).sum(axis=1) / area
            phase = (np.arange(first, first + len(profile)) - offset + tile // 2) % tile
            mean = np.bincount(phase, profile, tile) / np.bincount(phase, minlength=tile)
            ax.plot(
                positions, mean, color=colour, marker=marker, ms=3.5, label=f"along {names[axis]}"
            )
        ax.axvline(0, color="0.6", lw=1, ls="--", zorder=0)
        ax.set_ylim(bottom=0)
        ax.locator_params(axis="x", integer=True)
        kind = "mean |jump − predicted|" if extrapolate else "mean |jump|"
        ax.set_xlabel("distance to the face of a tile (voxels)")
        ax.set_ylabel(_label(kind, unit).replace(" (", "\n("))
        figure.legend(loc="outside upper right", ncols=len(axes))
    return _settled(figure)


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
    kept: list[tuple[str, Array, _Frame]] = []
    for name, image in pairs:
        image = np.asarray(image)
        frame = _Frame.of(image, None, spacing, None)
        where = plane if image.ndim == 3 else ""
        if where not in frame.names:
            raise InputError(f"plane {plane!r}: expected one of {', '.join(_PLANES)}")
        if image.ndim == 3:  # a slab one voxel thick: the volume can be forgotten
            fixed = _PLANES[plane][2]
            image = image.take([frame.at[fixed]], axis=fixed).copy()
            at = tuple(0 if a == fixed else v for a, v in enumerate(frame.at))
            frame = _Frame(image.shape, at, frame.spacing, None)
        kept.append((name, image, frame))
    if not kept:
        raise InputError("subjects: no image: expected at least one")
    low, high = window or _window([image for _, image, _ in kept])
    note = f"{caption} {len(kept)} subjects, one middle slice each, all in the same window."
    columns = min(columns, len(kept))
    with style():
        names = [plane if image.ndim == 3 else "" for _, image, _ in kept]
        sizes = [f.extent(n) for n, (_, _, f) in zip(names, kept, strict=True)]
        widest = (max(s[0] for s in sizes), max(s[1] for s in sizes))
        rows = ceil(len(kept) / columns)
        figure, axes = _grid(
            rows, columns, [widest] * columns, note, side=1.1, title=0.05, gap=0.27
        )
        for index, (title, image, frame) in enumerate(kept):
            ax = axes[index // columns][index % columns]
            mappable = frame.show(ax, image, names[index], None, vmin=low, vmax=high, letters=False)
            ax.set_title(_wrapped(title, 90 // columns), fontsize=_SIZE - 1)
        _hide(axes, len(kept))
        drawn = [ax for row in axes for ax in row if ax.images]
        _colorbar(figure, mappable, drawn, _label("intensity", unit))
    return _settled(figure)


@dataclass(frozen=True)
class _Frame:
    """How an image is cut and laid out: where, voxel size, and anatomical axes if known."""

    shape: tuple[int, ...]
    at: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: Any  # nibabel's (3, 2) axis and flip of each array axis, or None

    @classmethod
    def of(
        cls,
        image: Array,
        at: Sequence[int] | None,
        spacing: Sequence[float] | None,
        affine: Array | None,
    ) -> _Frame:
        shape = image.shape
        if affine is not None and len(shape) == 3:
            from nibabel.affines import voxel_sizes
            from nibabel.orientations import io_orientation

            spacing = spacing or voxel_sizes(affine).tolist()
            orientation = io_orientation(affine)
        else:
            orientation = None
        where = _middle(image) if at is None else tuple(int(v) for v in at)
        if len(where) != len(shape) or not all(
            0 <= v < n for v, n in zip(where, shape, strict=True)
        ):
            raise InputError(f"at {where}: outside an image of shape {shape}")
        return cls(shape, where, tuple(spacing or (1.0,) * len(shape)), orientation)

    @property
    def names(self) -> list[str]:
        return list(_PLANES) if len(self.shape) == 3 else [""]

    @property
    def upside_down(self) -> bool:
        return len(self.shape) == 2  # row 0 of a 2D image is its top

    def axes(self, name: str) -> tuple[int, int, int]:
        """Array axes that run right, up, and through the plane."""
        if not name:
            return 1, 0, -1
        if self.orientation is None:
            return _PLANES[name]
        order = [int(np.flatnonzero(self.orientation[:, 0] == a)[0]) for a in range(3)]
        x, y, fixed = (order[a] for a in _PLANES[name])
        return x, y, fixed

    def extent(self, name: str) -> tuple[float, float]:
        """Width and height of a plane, mm."""
        x, y, _ = self.axes(name)
        return self.shape[x] * self.spacing[x], self.shape[y] * self.spacing[y]

    def title(self, name: str) -> str:
        return f"{name} ({'ijk'[self.axes(name)[2]]} = {self.at[self.axes(name)[2]]})"

    def note(self, caption: str) -> str:
        if len(self.shape) == 2:
            how = "Row 0 of the image is at the top."
        elif self.orientation is None:
            how = "Planes follow the index axes i, j, k of the array; left and right are not known."
        else:
            how = "Letters: directions of the body; its left is on the left of the picture."
        return f"{caption} {how}".strip()

    def cut(self, image: Array, name: str) -> Array:
        """The plane as (up, right)."""
        if not name:
            return image
        x, y, fixed = self.axes(name)
        plane = image.take(self.at[fixed], axis=fixed)
        plane = plane.T if x < y else plane
        if self.orientation is not None:
            plane = plane[:: int(self.orientation[y, 1]), :: int(self.orientation[x, 1])]
        return plane

    def show(
        self,
        ax: Axes,
        image: Array,
        name: str,
        room: tuple[float, float] | None,
        letters: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Draw a plane in the middle of ``room`` (width and height in mm; default its own)."""
        width, height = self.extent(name)
        box = (0, width, height, 0) if self.upside_down else (0, width, 0, height)
        origin: Any = "upper" if self.upside_down else "lower"
        shown = self.cut(image, name)
        mappable = ax.imshow(shown, origin=origin, extent=box, interpolation="nearest", **kwargs)
        if room is not None:  # equal limits in a row: equal millimetres on paper
            across, up = (room[0] - width) / 2, (room[1] - height) / 2
            ax.set_xlim(-across, width + across)
            ax.set_ylim(*((height + up, -up) if self.upside_down else (-up, height + up)))
        diverging = kwargs.get("cmap", "gray") != "gray"
        ground = mappable.cmap(0.5) if diverging else "black"
        ax.set(xticks=[], yticks=[], facecolor=ground)
        for spine in ax.spines.values():
            spine.set_visible(False)
        if name and letters:
            self._directions(ax, name, {"color": "black"} if diverging else _outlined())
        return mappable

    def _directions(self, ax: Axes, name: str, look: dict[str, Any]) -> None:
        x, y, _ = self.axes(name)
        common: dict[str, Any] = {"transform": ax.transAxes, "fontsize": _SIZE - 1, "va": "center"}
        if self.orientation is None:
            ax.set_xlabel(f"{'ijk'[x]} →", labelpad=1, fontsize=_SIZE - 1)
            ax.text(-0.01, 0.5, f"{'ijk'[y]} →", rotation=90, ha="right", **common)
            return
        across, up = {
            "axial": ("LR", "PA"),
            "coronal": ("LR", "IS"),
            "sagittal": ("PA", "IS"),
        }[name]
        places = [(0.04, 0.5), (0.96, 0.5), (0.5, 0.045), (0.5, 0.955)]
        for (px, py), letter in zip(places, across + up, strict=True):
            ax.text(px, py, letter, ha="center", **common, **look)

    def outline(self, ax: Axes, labels: Array, name: str) -> set[int]:
        if labels.shape != self.shape:
            raise InputError(f"overlay of shape {labels.shape}: expected {self.shape}, the image's")
        plane = self.cut(labels, name)
        width, height = self.extent(name)
        x = (np.arange(plane.shape[1]) + 0.5) * width / plane.shape[1]
        y = (np.arange(plane.shape[0]) + 0.5) * height / plane.shape[0]
        found = {int(v) for v in np.unique(plane) if v}
        for value in found:
            ax.contour(
                x, y, plane == value, levels=[0.5], colors=[_label_colour(value)], linewidths=0.9
            )
        return found

    def scale_bar(self, ax: Axes, name: str) -> None:
        if self.spacing == (1.0,) * len(self.shape) and self.orientation is None:
            return  # unit spacing is what is assumed when nobody said
        width, height = self.extent(name)
        length = max((v for v in (1, 2, 5, 10, 20, 50, 100, 200) if v <= width / 3), default=1)
        low = 0.93 * height if self.upside_down else 0.07 * height
        ax.plot(
            [0.05 * width, 0.05 * width + length],
            [low, low],
            color="white",
            lw=2.5,
            solid_capstyle="butt",
            path_effects=_outlined()["path_effects"],
        )
        ax.annotate(
            f"{length} mm",
            (0.05 * width + length / 2, low),
            (0, 4),
            ha="center",
            textcoords="offset points",
            fontsize=_SIZE - 1.5,
            **_outlined(),
        )


def _outlined() -> dict[str, Any]:
    """White text that stays readable on bright images."""
    from matplotlib.patheffects import withStroke

    return {"color": "white", "path_effects": [withStroke(linewidth=2, foreground="black")]}


def _palette() -> list[Any]:
    import seaborn as sns

    return list(sns.color_palette("colorblind"))


def _label_colour(value: int) -> Any:
    return [_palette()[c] for c in (1, 9, 2, 4, 8, 0)][(value - 1) % 6]


def _figure(width: float, height: float, caption: str) -> Figure:
    from matplotlib import pyplot as plt

    text = " ".join(caption.split())
    lines = textwrap.wrap(text, int(width * 72 / (_SIZE * 0.53)))
    figure = plt.figure(figsize=(width, height + 0.19 * len(lines) + 0.05))
    plt.close(figure)  # pyplot would keep it for ever, and a notebook would show it twice
    figure.set_label(text)
    if lines:
        figure.supxlabel("\n".join(lines), x=0.012, ha="left", fontsize=_SIZE)
    return figure


def _settled(figure: Figure) -> Figure:
    """Lay out once ahead: titles above pictures of fixed shape find their place the second time."""
    figure.draw_without_rendering()
    return figure


def _grid(
    rows: int,
    columns: int,
    sizes: Sequence[tuple[float, float]],
    caption: str,
    *,
    side: float,
    below: float = 0.0,
    title: float = 0.42,
    gap: float = 0.04,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, Any]:
    """Axes whose boxes have the shape of the pictures, so that nothing is left empty."""
    sizes = list(sizes) * (columns if len(sizes) == 1 else 1)
    inch = (WIDTH - side - 0.06 * columns) / sum(w for w, _ in sizes)
    # A narrow column of pictures must not become taller than a page.
    tall = list(heights or [max(h for _, h in sizes)] * rows)
    inch = min(inch, 8.6 / sum(tall), 3.6 / max(w for w, _ in sizes))
    width = max(inch * sum(w for w, _ in sizes) + side + 0.06 * columns, 3.4)
    figure = _figure(width, inch * sum(tall) + gap * rows + title + below + 0.05, caption)
    ratios = {"width_ratios": [w for w, _ in sizes], "height_ratios": tall}
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios)
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    return figure, axes


def _hide(axes: Any, used: int) -> None:
    for ax in axes.ravel()[used:]:
        ax.set_axis_off()


def _colorbar(figure: Figure, mappable: Any, axes: list[Any], label: str, columns: int = 0) -> None:
    """A bar on the right of the axes, or below them if they are so many ``columns`` wide."""
    place: Any = "bottom" if columns else "right"
    aspect = 14 * columns or 30
    bar = figure.colorbar(
        mappable, ax=axes, location=place, extend="both", shrink=0.8, pad=0.02, aspect=aspect
    )
    bar.set_label(label.replace(" (", "\n(") if columns == 1 else label)
    bar.outline.set(linewidth=0.6, edgecolor="0.4")  # else white ends vanish on white paper


def _legend(figure: Figure, labels: set[int], name: str) -> None:
    from matplotlib.lines import Line2D

    if labels:
        lines = [
            Line2D(
                [], [], color=_label_colour(v), label=name if len(labels) == 1 else f"{name} {v}"
            )
            for v in sorted(labels)
        ]
        figure.legend(handles=lines, loc="outside upper right", ncols=min(len(lines), 6))


def _label(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else f"{name} (arbitrary unit)"


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(str(text), max(width, 6)))


def _common_shape(images: Mapping[str, Array]) -> tuple[int, ...]:
    if not images:
        raise InputError("images: no image: expected at least one")
    for (a, x), (b, y) in pairwise(images.items()):
        if x.shape != y.shape:
            raise InputError(f"{a} of shape {x.shape}, {b} of shape {y.shape}: expected the same")
    shape = next(iter(images.values())).shape
    if len(shape) not in (2, 3):
        raise InputError(f"image of shape {shape}: expected 2 or 3 axes")
    return shape


def _window(images: Sequence[Array]) -> Window:
    low = min(_quantile(v, 0.005) for v in images)
    high = max(_quantile(v, 0.995) for v in images)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _quantile(image: Array, q: float) -> float:
    step = max(1, image.size // 1_000_000)  # a million voxels say enough
    return float(np.nanquantile(image.ravel()[::step], q))


def _middle(image: Array) -> tuple[int, ...]:
    """Middle of the bounding box of what is brighter than the background."""
    bright = image > (float(np.nanmin(image)) + float(np.nanmean(image))) / 2
    out = []
    for axis, n in enumerate(image.shape):
        line = np.flatnonzero(bright.any(axis=tuple(a for a in range(image.ndim) if a != axis)))
        out.append(int(line[0] + line[-1]) // 2 if line.size else n // 2)
    return tuple(out)


def _read_jsonl(path: Path) -> pd.DataFrame:
    import json

    import pandas as pd

    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not a JSON object: {error.msg}") from None
    return pd.DataFrame(rows)
