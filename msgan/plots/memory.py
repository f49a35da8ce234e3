"""Memory against the side of the image: of a training step, and of a translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgan.plots.style import WIDTH, colours, new_figure, settled, style
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GIB = 2**30

MARKERS = "osD^vP"

BLACK = "0.15"


def step_memory(rows: pd.DataFrame, *, card_gib: float = 24, caption: str = "") -> Figure:
    """Memory of a training step against the side (extended paper, fig. 4).

    Args:
        rows: Columns ``network``, ``side`` (voxels), ``counted_bytes``, ``cubic_bytes`` (of a
            curve through smaller sides) and ``measured_bytes``, the last two with gaps. A network
            with one row does not depend on the image.
        card_gib: Memory of the card that is drawn as a line, GiB.

    Raises:
        InputError: A column is missing, or there is no row.
    """
    _check(rows, ("network", "side", "counted_bytes", "cubic_bytes", "measured_bytes"))
    least, most = int(rows["side"].min()), int(rows["side"].max())
    note = f"{caption} What lies above the line of {card_gib:g} GiB does not train on such a card; "
    note += "where a network's line is level, the size of the image makes no difference."
    with style():
        figure = new_figure(WIDTH, 3.5, note)
        ax = figure.subplots()
        for colour, marker, (name, own) in zip(
            colours(), MARKERS, rows.groupby("network", sort=False), strict=False
        ):
            own = own.sort_values("side")
            counted = own["counted_bytes"] / GIB
            look: dict[str, Any] = {"color": colour, "lw": 1.6}
            point: dict[str, Any] = {"marker": marker, "ms": 3.5}
            if len(own) == 1:
                side, level = own["side"].iloc[0], counted.iloc[0]
                ax.plot([least, side], [level] * 2, ls=":", **look)
                ax.plot([side, most], [level] * 2, label=name, markevery=[0], **look, **point)
            else:
                ax.plot(own["side"], counted, label=name, **look, **point)
                guess = own["cubic_bytes"].notna()
                if guess.any():
                    # From the last side the curve was drawn through.
                    start = own[~guess].iloc[-1:]
                    sides = [*start["side"], *own["side"][guess]]
                    values = [*start["counted_bytes"], *own["cubic_bytes"][guess]]
                    ax.plot(sides, [v / GIB for v in values], ls="--", **look)
            seen = own["measured_bytes"].notna()
            ax.plot(
                own["side"][seen],
                own["measured_bytes"][seen].astype(float) / GIB,
                color=colour,
                marker=marker,
                ms=7,
                ls="none",
                mfc="none",
                mew=1.4,
                zorder=3,
            )
        _level(ax, card_gib, least, f"{card_gib:g} GiB")
        _axes(ax, sorted(set(rows["side"])), "memory of one training step (GiB)")
        kinds = [({}, "counted"), ({"ls": "--"}, "cubic, from sides up to 128")]
        kinds.append(({"ls": ":"}, "image smaller than what is made"))
        kinds.append(({"ls": "none", "marker": "o", "mfc": "none"}, "measured"))
        _legends(figure, ax, kinds)
    return settled(figure)


def translation_memory(
    rows: pd.DataFrame,
    original: Mapping[int, float],
    *,
    limit_gib: float | None = None,
    caption: str = "",
) -> Figure:
    """Peak memory of whole translations against the side, and what the published code needs.

    Args:
        rows: Columns ``side`` (voxels), ``device`` and ``host_peak_bytes``; optional
            ``device_peak_bytes`` (with gaps) and ``where``, which names sets of rows measured
            under different conditions.
        original: Side -> host bytes of the published code, counted.
        limit_gib: Host memory the translations were told to keep to, GiB; drawn as a line.

    Raises:
        InputError: A column is missing, or there is no row.
    """
    _check(rows, ("side", "device", "host_peak_bytes"))
    groups = ["where", "device"] if "where" in rows.columns else ["device"]
    note = f"{caption} A level line is memory that does not grow with the image. The published "
    note += "code holds all patches at once: its line follows the cube of the side."
    drawn = 0
    with style():
        figure = new_figure(WIDTH, 3.2, note)
        ax = figure.subplots()
        for names, own in rows.groupby(groups, sort=False):
            own = own.sort_values("side")
            place = ", ".join(str(n) for n in names[:-1])
            for column, what in (("host_peak_bytes", "host"), ("device_peak_bytes", "device")):
                if column not in own.columns or not own[column].notna().any():
                    continue
                label = f"{what} ({names[-1]}{', ' if place else ''}{place})"
                some = own.dropna(subset=[column])
                ax.plot(
                    some["side"],
                    some[column].astype(float) / GIB,
                    color=colours()[drawn],
                    marker=MARKERS[drawn % len(MARKERS)],
                    ms=4.5,
                    ls="--" if what == "device" else "-",
                    label=label,
                )
                drawn += 1
        sides = sorted(original)
        ax.plot(
            sides,
            [original[s] / GIB for s in sides],
            color=BLACK,
            ls=":",
            label="published code, host, counted",
        )
        shown = sorted({*rows["side"], *sides})
        if limit_gib is not None:
            _level(ax, limit_gib, shown[0], f"limit: {limit_gib:g} GiB")
        _axes(ax, shown, "peak memory (GiB)")
        figure.legend(loc="outside upper left", ncols=2)
    return settled(figure)


def _check(rows: pd.DataFrame, columns: tuple[str, ...]) -> None:
    for column in columns:
        if column not in rows.columns:
            raise InputError(f"rows: no column {column!r}: has {list(rows.columns)}")
    if rows.empty:
        raise InputError("rows: nothing to draw")


def _level(ax: Axes, gib: float, least: int, name: str) -> None:
    """A gray line across, named at its left end."""
    ax.axhline(gib, color="0.45", lw=1, zorder=0)
    place: dict[str, Any] = {"ha": "left", "va": "bottom", "color": "0.35", "size": "small"}
    ax.annotate(name, (least, gib), (0, 1.5), textcoords="offset points", **place)


def _axes(ax: Axes, sides: list[int], label: str) -> None:
    """Both axes logarithmic, labelled with the numbers themselves."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    powers = [s for s in sides if s & (s - 1) == 0]
    ax.set_xticks(powers or sides, [str(s) for s in powers or sides])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    ax.margins(x=0.03)
    ax.set_xlabel("side of the image (voxels)")
    ax.set_ylabel(label)


def _legends(figure: Figure, ax: Axes, kinds: list[tuple[dict[str, Any], str]]) -> None:
    """Colours name networks, lines in black what is drawn of them."""
    from matplotlib.lines import Line2D

    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(len(names), 6))
    lines = [Line2D([], [], color=BLACK, label=name, **look) for look, name in kinds]
    ax.legend(handles=lines, loc="upper left", handlelength=2.6)
