"""Curves: training against steps, and jumps between voxels against the faces of tiles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msgan.documents import text_of
from msgan.metrics import header_of
from msgan.plots.style import (
    APART,
    DASHES,
    WIDTH,
    colours,
    new_figure,
    settled,
    style,
    with_unit,
)
from msgan.types import Array, InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

UNITS = {"seconds": "time (s)", "memory_bytes": "memory (bytes)"}
"""How columns that have a unit are labelled."""


def curves(
    metrics: pd.DataFrame | str | os.PathLike[str],
    *,
    x: str = "step",
    hue: str | None = "scale",
    columns: Sequence[str] | None = None,
    smooth: int = 1,
    across: int = 3,
    width: float = WIDTH,
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
        across: Panels beside each other.
        width: Of the figure in inches.

    Raises:
        InputError: no such column, nothing to draw, or a line that is not JSON.
    """
    import pandas as pd

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
            f" Bold: mean of {smooth} logged values; thin: raw values; "
            "short curves are not smoothed."
        )
    across = min(across, len(chosen))
    down = ceil(len(chosen) / across)
    with style():
        figure = new_figure(width, 2.1 * down + 0.45, note)
        axes = figure.subplots(down, across, squeeze=False)
        groups = [(None, table)] if hue is None else list(table.groupby(hue, sort=True))
        for index, name in enumerate(chosen):
            ax = axes[index // across][index % across]
            for number, (group, rows) in enumerate(groups):
                colour = colours()[number % APART]
                rows = rows.dropna(subset=[name]).sort_values(x)
                label = None if group is None else f"{hue} {group!s}"
                line = DASHES[number // APART % len(DASHES)]
                look: dict[str, Any] = {"color": colour, "label": label, "ls": line}
                if len(rows) < 12:
                    look |= {"marker": "o", "ms": 3}
                if 1 < smooth < len(rows) / 2:  # a wider mean would hide the curve
                    ax.plot(rows[x], rows[name], color=colour, alpha=0.25, lw=0.8)
                    mean = rows[name].rolling(smooth, center=True, min_periods=1).mean()
                    ax.plot(rows[x], mean, **look)
                else:
                    ax.plot(rows[x], rows[name], **look)
            ax.set(xlabel=x, ylabel=UNITS.get(name, header_of(name).replace("_", " ")))
            ax.margins(x=0.02)
        for ax in axes.ravel()[len(chosen) :]:
            ax.remove()
        if hue is not None:
            handles, texts = axes[0][0].get_legend_handles_labels()
            figure.legend(handles, texts, loc="outside upper right", ncols=min(len(texts), 6))
    return settled(figure)


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
        figure = new_figure(WIDTH * 0.72, 3.1, note)
        ax = figure.subplots()
        names = ("rows", "columns") if x.ndim == 2 else ("i", "j", "k")
        positions = np.arange(-(tile // 2), tile - tile // 2)
        for axis, colour, marker in zip(axes, colours(), "os^", strict=False):
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
        ax.set_ylabel(with_unit(kind, unit).replace(" (", "\n("))
        figure.legend(loc="outside upper right", ncols=len(axes))
    return settled(figure)


def _read_jsonl(path: Path) -> pd.DataFrame:
    import json

    import pandas as pd

    rows = []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            why = getattr(error, "msg", "it cannot be read")
            raise InputError(f"{path}:{number}: not a JSON object: {why}") from None
    return pd.DataFrame(rows)
