"""What can be shown of one translation: the images compared, its scales, its tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgan.data.grid import Grid
from msgan.data.volume import Volume
from msgan.report.catalog import Translated
from msgan.types import InputError
from msgan.widgets.compare import compared
from msgan.widgets.comparison import Comparison
from msgan.widgets.scales import Scales
from msgan.widgets.shelf import Shelf
from msgan.widgets.slices import Slices
from msgan.widgets.tiles import TileGrid, Tiles
from msgan.widgets.viewer import Viewer

NEAR = 1e-3
"""Grids that differ by less mm show the same place: files round."""


def caption_of(shown: Translated) -> str:
    """Who and what is shown, for below a picture."""
    return f"{shown.subject}, {shown.task} by {shown.method}, {shown.study}."


def images_of(shown: Translated, shelf: Shelf) -> tuple[Slices, dict[str, Any]]:
    """The images of a comparison, and its other arguments.

    A real image on another grid is left out, and the caption says so.

    Raises:
        InputError: Source or translation cannot be read, or they lie on different grids.
    """
    trace = shown.trace
    source, made = shelf.volume(trace.image), shelf.volume(trace.result)
    if not source.grid.same_as(made.grid, NEAR):
        raise InputError(f"{trace.result}: its grid {made.grid} is not the source's, {source.grid}")
    caption, real = caption_of(shown), _there(trace.real, made.grid, shelf)
    if trace.real is not None and real is None:
        caption += " The real image is missing or lies on another grid."
    labels = None
    if trace.labels is not None and trace.labels.exists():
        labels = shelf.labels(trace.labels)
    slices = compared(
        (source.read, source.grid.shape),
        (made.read, made.grid.shape),
        None if real is None else (real.read, real.grid.shape),
        affine=made.grid.affine,
        labels=None if labels is None else (labels.read, labels.grid.shape),
    )
    return slices, {"unit": trace.unit, "source_unit": _unit(source), "caption": caption}


def comparison_of(shown: Translated, shelf: Shelf, before: Comparison | None = None) -> Comparison:
    """Source, translation and real image; in the controls of ``before`` where there are some.

    Raises:
        InputError: See :func:`images_of`.
    """
    slices, words = images_of(shown, shelf)
    if before is None:
        return Comparison(slices, **words)
    before.set_slices(slices, **words)
    return before


def scales_of(shown: Translated, shelf: Shelf) -> Scales:
    """The scales of a translation that were kept.

    Raises:
        InputError: They were not kept, or cannot be read.
    """
    if not shown.scales:
        raise InputError(
            f"no scales of {shown.subject} by {shown.method} were kept: "
            "msgan translate RUN IN OUT --keep DIR keeps them"
        )
    return kept_scales(shown.scales, shelf, shown.trace.unit, caption_of(shown))


def kept_scales(paths: Sequence[Path], shelf: Shelf, unit: str = "", caption: str = "") -> Scales:
    """The scales in a folder, y0 and so on.

    Raises:
        InputError: One cannot be read.
    """
    volumes = [shelf.volume(path) for path in paths]
    names = [f"s{path.name.split('.')[0].removeprefix('y')}" for path in paths]
    images = [(volume.read, volume.grid) for volume in volumes]
    return Scales(images, names=names, unit=unit, caption=caption)


def tiles_of(shown: Translated, shelf: Shelf) -> Tiles:
    """A translation with its tiles over it, and the real image as the control of its seams.

    Raises:
        InputError: The method has no tiles, or the image cannot be read.
    """
    trace = shown.trace
    if trace.grid is None or not trace.tiles:
        raise InputError(f"{shown.method} makes the whole image at once: it has no tiles")
    made = shelf.volume(trace.result)
    tiles = TileGrid.of(made.grid, trace.grid, trace.tiles[-1])
    images = {"translated": made.read}
    if (real := _there(trace.real, made.grid, shelf)) is not None:
        images["real"] = real.read
    sides = " x ".join(map(str, trace.tiles[-1]))
    caption = f"{caption_of(shown)} Dots: borders of tiles of {sides} voxels."
    return Tiles(images, made.grid, tiles, unit=trace.unit, caption=caption)


def viewer_of(paths: Sequence[Path], shelf: Shelf, caption: str) -> Viewer:
    """Images of one grid.

    Raises:
        InputError: One cannot be read.
    """
    volumes = [shelf.volume(path) for path in paths]
    names = [path.name for path in paths]
    images = {name: (v.read, v.grid.shape) for name, v in zip(names, volumes, strict=True)}
    units = {name: _unit(volume) for name, volume in zip(names, volumes, strict=True)}
    slices = Slices(images, affine=volumes[0].grid.affine)
    return Viewer(slices, unit=units, caption=caption)


def _there(path: Path | None, grid: Grid, shelf: Shelf) -> Volume | None:
    """An image if it is there and lies on ``grid``."""
    if path is None or not path.exists():
        return None
    volume = shelf.volume(path)
    return volume if volume.grid.same_as(grid, NEAR) else None


def _unit(volume: Volume) -> str:
    return "" if volume.unit == "a.u." else volume.unit
