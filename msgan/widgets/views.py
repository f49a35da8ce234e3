"""The views of one translation: compared images, scales, tiles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from operator import lt
from pathlib import Path
from typing import Any

from msgan.data.grid import Grid
from msgan.data.scan.names import read_name, stem_of
from msgan.data.volume import Volume, open_volume
from msgan.report.catalog import Catalog, Translated
from msgan.runs.run import Run
from msgan.training.log import LOG
from msgan.types import InputError
from msgan.widgets.compare import compared
from msgan.widgets.comparison import REAL, SOURCE, TRANSLATED, Comparison
from msgan.widgets.scales import Scales
from msgan.widgets.slices import Image, Slices
from msgan.widgets.tiles import TileGrid, Tiles
from msgan.widgets.viewer import Viewer
from msgan.widgets.volume3d import Renderings
from msgan.widgets.volume_cache import VolumeCache

NEAR = 1e-3
"""Grids that differ by less mm show the same place: files round."""


LONGEST = 28
"""Characters of a button."""

OVERLAYS = {"labels": "labels", "atlas": "labels", "mask": "masks", "region": "masks"}
"""Role that a name tells -> how an image of it is laid over others."""

COMPARE, SOLID, SCALES, TILES, CURVES, SCORES, LESION = VIEWS = (
    "compare",
    "3D",
    "scales",
    "tiles",
    "curves",
    "scores",
    "lesion",
)
"""What can be seen of a translation."""


def views_of(found: Catalog, shown: Translated) -> list[str]:
    """Those of :data:`VIEWS` that there is something to see in."""
    provenance, run = shown.provenance, None
    if provenance.run is not None:
        with suppress(InputError, OSError):  # a damaged run is among the faults
            run = Run.open(provenance.run)
    there = {
        COMPARE: True,
        SOLID: _solid(provenance.result),
        SCALES: bool(shown.scales),
        TILES: _several_tiles(shown),
        CURVES: run is not None and any((run.folder_of(i) / LOG).is_file() for i in run.used),
        SCORES: found.scores(shown.study) is not None or bool(provenance.scores),
        LESION: run is not None and bool(run.config.labels),
    }
    return [view for view in VIEWS if there[view]]


def _solid(path: Path) -> bool:
    """Whether an image has three axes; one that cannot be read is shown nowhere in 3D."""
    try:
        with open_volume(path, check=False) as volume:
            return volume.grid.dims == 3
    except (InputError, OSError):
        return False


def _several_tiles(shown: Translated) -> bool:
    grid, tiles = shown.provenance.grid, shown.provenance.tiles
    return grid is not None and bool(tiles) and any(map(lt, tiles[-1], grid.shape))


def caption_of(shown: Translated) -> str:
    """Who and what is shown, for below a picture."""
    study = "" if shown.study == "." else f", {shown.study}"  # a dot says nothing
    return f"{shown.subject}, {shown.task} by {shown.method}{study}."


def images_of(shown: Translated, volume_cache: VolumeCache) -> tuple[Slices, dict[str, Any]]:
    """The images of a comparison, and its other arguments.

    A real image on another grid is left out, and the caption says so.

    Raises:
        InputError: Source or translation cannot be read, or they lie on different grids.
    """
    provenance = shown.provenance
    source, made = volume_cache.volume(provenance.image), volume_cache.volume(provenance.result)
    if not source.grid.same_as(made.grid, NEAR):
        raise InputError(
            f"{provenance.result}: its grid {made.grid} is not the source's, {source.grid}"
        )
    caption, real = caption_of(shown), _there(provenance.real, made.grid, volume_cache)
    if provenance.real is not None and real is None:
        caption += " The real image is missing or lies on another grid."
    labels = None
    if provenance.labels is not None and provenance.labels.exists():
        labels = volume_cache.labels(provenance.labels)
    slices = compared(
        (source.read, source.grid.shape),
        (made.read, made.grid.shape),
        None if real is None else (real.read, real.grid.shape),
        affine=made.grid.affine,
        labels=None if labels is None else (labels.read, labels.grid.shape),
    )
    return slices, {"unit": provenance.unit, "source_unit": _unit(source), "caption": caption}


def comparison_of(
    shown: Translated, volume_cache: VolumeCache, before: Comparison | None = None
) -> Comparison:
    """Source, translation and real image; in the controls of ``before`` where there are some.

    Raises:
        InputError: See :func:`images_of`.
    """
    slices, words = images_of(shown, volume_cache)
    if before is None:
        return Comparison(slices, **words)
    before.set_slices(slices, **words)
    return before


def renderings_of(shown: Translated, volume_cache: VolumeCache, planes: Comparison) -> Renderings:
    """Source, translation and real image in 3D.

    Args:
        shown: The translation.
        volume_cache: Opens its images.
        planes: Of the same translation; its images and their windows are taken.
    """
    slices, provenance = planes.slices, shown.provenance
    made = volume_cache.volume(provenance.result)
    files = {SOURCE: provenance.image, TRANSLATED: provenance.result, REAL: provenance.real}
    images = {
        title: (volume_cache.volume(path).read, made.grid.shape)
        for title, path in files.items()
        if path is not None and title in slices.titles
    }
    units = dict.fromkeys(images, provenance.unit)
    units[SOURCE] = _unit(volume_cache.volume(provenance.image))
    windows = {title: slices.windows[title] for title in images}
    return Renderings(
        images,
        affine=made.grid.affine,
        units=units,
        windows=windows,
        caption=planes.controls.caption,
    )


def scales_of(shown: Translated, volume_cache: VolumeCache) -> Scales:
    """The scales of a translation that were kept.

    Raises:
        InputError: They were not kept, or cannot be read.
    """
    if not shown.scales:
        raise InputError(
            f"no scales of {shown.subject} by {shown.method} were kept: "
            "msgan translate RUN IN OUT --keep DIR keeps them"
        )
    return kept_scales(shown.scales, volume_cache, shown.provenance.unit, caption_of(shown))


def kept_scales(
    paths: Sequence[Path], volume_cache: VolumeCache, unit: str = "", caption: str = ""
) -> Scales:
    """The scales in a folder, y0 and so on.

    Raises:
        InputError: One cannot be read.
    """
    volumes = [volume_cache.volume(path) for path in paths]
    names = [f"s{path.name.split('.')[0].removeprefix('y')}" for path in paths]
    images = [(volume.read, volume.grid) for volume in volumes]
    return Scales(images, names=names, unit=unit, caption=caption)


def tiles_of(shown: Translated, volume_cache: VolumeCache) -> Tiles:
    """A translation with its tiles over it, and the real image as the control of its seams.

    Raises:
        InputError: The method has no tiles, or the image cannot be read.
    """
    provenance = shown.provenance
    if provenance.grid is None or not provenance.tiles:
        raise InputError(f"{shown.method} makes the whole image at once: it has no tiles")
    made = volume_cache.volume(provenance.result)
    tiles = TileGrid.of(made.grid, provenance.grid, provenance.tiles[-1])
    images = {"translated": made.read}
    if (real := _there(provenance.real, made.grid, volume_cache)) is not None:
        images["real"] = real.read
    sides = " x ".join(map(str, provenance.tiles[-1]))
    caption = f"{caption_of(shown)} Dashes: borders of tiles of {sides} voxels."
    return Tiles(images, made.grid, tiles, unit=provenance.unit, caption=caption)


def viewer_of(paths: Sequence[Path], volume_cache: VolumeCache, caption: str) -> Viewer:
    """Images of one grid; what their names call labels or masks lies over the others.

    Raises:
        InputError: One cannot be read.
    """
    titles = dict(zip(paths, shortened([path.name for path in paths]), strict=True))
    roles = {path: OVERLAYS.get(read_name(path.name).role) for path in paths}
    images = [path for path in paths if roles[path] is None] or [*paths]
    volumes = {titles[path]: volume_cache.volume(path) for path in images}
    labels: dict[str, Image] = {}
    masks: dict[str, Image] = {}
    for path in paths:
        if path not in images:
            opened = volume_cache.labels(path)
            over = masks if roles[path] == "masks" else labels
            over[titles[path]] = opened.read, opened.grid.shape
    slices = Slices(
        {title: (volume.read, volume.grid.shape) for title, volume in volumes.items()},
        affine=next(iter(volumes.values())).grid.affine,
        labels=labels,
        masks=masks,
    )
    units = {title: _unit(volume) for title, volume in volumes.items()}
    names = {titles[path]: path.name for path in images}
    return Viewer(slices, unit=units, caption=caption, names=names)


def shortened(names: Sequence[str]) -> list[str]:
    """Names of files by what tells them apart; long ones are cut in the middle.

    Example:
        >>> shortened(["sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz"])
        ['T1w', 'T2w']
    """
    stems = [stem_of(name) for name in names]
    words = [re.split(r"(?<=[_. -])", stem) for stem in stems]
    same = 0
    while len(names) > 1 and all(len(w) > same + 1 and w[same] == words[0][same] for w in words):
        same += 1
    own = ["".join(w[same:]) for w in words]
    own = own if len(set(own)) == len(names) else [*names]
    half = LONGEST // 2 - 1
    cut = [n if len(n) <= LONGEST else f"{n[:half]}…{n[-half:]}" for n in own]
    return cut if len(set(cut)) == len(names) else own


def _there(path: Path | None, grid: Grid, volume_cache: VolumeCache) -> Volume | None:
    """An image if it is there and lies on ``grid``."""
    if path is None or not path.exists():
        return None
    volume = volume_cache.volume(path)
    return volume if volume.grid.same_as(grid, NEAR) else None


def _unit(volume: Volume) -> str:
    return "" if volume.unit == "a.u." else volume.unit
