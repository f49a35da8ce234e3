"""The style of all figures: fonts, colours, captions, panels, colour bars and legends."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.paths import atomic
from msgan.plots.shown import describe_figures
from msgan.types import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 7.2
"""Width of a figure in inches: a text page with margins."""

SIZE = 9.0
"""Points of the smallest running text."""

APART = 4
"""How many lines are told apart by colour; more of them need markers or dashes."""

DASHES = ("-", "--", ":")
"""Styles of lines, for every ``APART`` of them the next."""

LABELS = ("#de8f05", "#648fff", "#029e73", "#fbafe4", "#f0e442", "#0173b2")
"""Colours of labels 1 to 6, then from the start again."""

SKETCH = "#cc3311"
"""Colour of a sketch over an image, none of the labels'."""


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
                "font.size": SIZE,
                "axes.titlesize": SIZE + 0.5,
                "axes.labelsize": SIZE,
                "xtick.labelsize": SIZE - 0.5,
                "ytick.labelsize": SIZE - 0.5,
                "legend.fontsize": SIZE - 0.5,
                "legend.frameon": False,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "image.cmap": "gray",
                # Names of subjects and methods are no formulas.
                "text.parse_math": False,
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


def new_figure(width: float, height: float, caption: str) -> Figure:
    """An empty figure of ``width`` x ``height`` inches and, below, its caption."""
    from matplotlib import pyplot as plt

    text = " ".join(caption.split())
    lines = textwrap.wrap(text, int(width * 72 / (SIZE * 0.53)))
    figure = plt.figure(figsize=(width, height + 0.19 * len(lines) + 0.05))
    describe_figures()
    plt.close(figure)  # pyplot would keep it for ever, and a notebook would show it twice
    figure.set_label(text)
    if lines:
        figure.supxlabel("\n".join(lines), x=0.012, ha="left", fontsize=SIZE)
    return figure


def settled(figure: Figure) -> Figure:
    """Lay out once ahead: titles above pictures of fixed shape find their place the second time."""
    figure.draw_without_rendering()
    return figure


def panels(
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
    figure = new_figure(width, inch * sum(tall) + gap * rows + title + below + 0.05, caption)
    ratios = {"width_ratios": [w for w, _ in sizes], "height_ratios": tall}
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios)
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    return figure, axes


def hide(axes: Any, used: int) -> None:
    """Blank the panels beyond the first ``used``."""
    for ax in axes.ravel()[used:]:
        ax.set_axis_off()


def colorbar(figure: Figure, mappable: Any, axes: list[Any], label: str, columns: int = 0) -> None:
    """A bar on the right of the axes, or below them if they are so many ``columns`` wide."""
    place: Any = "bottom" if columns else "right"
    aspect = 14 * columns or 30
    bar = figure.colorbar(
        mappable, ax=axes, location=place, extend="both", shrink=0.8, pad=0.02, aspect=aspect
    )
    bar.set_label(label.replace(" (", "\n(") if columns == 1 else label)
    bar.outline.set(linewidth=0.6, edgecolor="0.4")  # else white ends vanish on white paper


def legend(figure: Figure, labels: set[int], name: str) -> None:
    """Name the outlined labels above the panels."""
    from matplotlib.lines import Line2D

    if labels:
        lines = [
            Line2D([], [], color=label_colour(v), label=name if len(labels) == 1 else f"{name} {v}")
            for v in sorted(labels)
        ]
        figure.legend(handles=lines, loc="outside upper right", ncols=min(len(lines), 6))


def outlined() -> dict[str, Any]:
    """White text that stays readable on bright images."""
    from matplotlib.patheffects import withStroke

    return {"color": "white", "path_effects": [withStroke(linewidth=2, foreground="black")]}


def colours() -> list[Any]:
    """Ten colours, of which colour-blind readers can tell the first ``APART`` by colour alone."""
    import seaborn as sns

    palette = sns.color_palette("colorblind")
    return [palette[c] for c in (0, 1, 2, 9, 3, 4, 5, 6, 7, 8)]


def label_colour(value: int) -> Any:
    """The colour a label is outlined in, on black and gray: red, green, blue in [0, 1]."""
    return rgb(LABELS[(value - 1) % len(LABELS)])


def rgb(code: str) -> tuple[float, float, float]:
    """Red, green and blue in [0, 1] of ``#rrggbb``."""
    red, green, blue = bytes.fromhex(code.removeprefix("#"))
    return red / 255, green / 255, blue / 255


def with_unit(name: str, unit: str) -> str:
    """The label of an axis or a colour bar."""
    return f"{name} ({unit})" if unit else f"{name} (arbitrary unit)"


def wrapped(text: str, width: int) -> str:
    """``text`` in lines of at most ``width`` characters."""
    return "\n".join(textwrap.wrap(str(text), max(width, 6)))
