"""One translation as a report shows it: a picture beside its source, and a viewer of its slices."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from msgan.data.volume import Volume, open_volume
from msgan.plots.frame import Window, usual_window
from msgan.report.catalog import Translated
from msgan.report.pictures import Picture, drawn
from msgan.report.reduced import factors_for, reduced
from msgan.report.viewer import Viewer, viewer
from msgan.translate.provenance import Provenance
from msgan.types import Array, InputError

MOST_VOXELS = 1 << 26
"""Of an image that is drawn voxel by voxel; a larger one is drawn reduced."""


@dataclass(frozen=True)
class Shown:
    """One translation that is shown: its picture, and a viewer of its slices."""

    picture: Picture
    viewer: Viewer


def row_of(trace: Provenance) -> str:
    """Name of its row in a table."""
    return f"{trace.method} ({trace.run.name})" if trace.run else trace.method


def shown_of(one: Translated) -> Shown:
    """Source, translation and, where it is known, the real image and the difference.

    Raises:
        InputError: An image cannot be read, or they lie on different grids.
    """
    trace = one.provenance
    real = trace.real if trace.real is not None and trace.real.exists() else None
    with ExitStack() as stack:
        paths = {"source": trace.image, "translated": trace.result}
        paths |= {"real": real} if real else {}
        volumes = {t: stack.enter_context(open_volume(p, check=False)) for t, p in paths.items()}
        for volume in volumes.values():
            if not volume.grid.same_as(volumes["translated"].grid, 1e-3):
                raise InputError(f"{volume.path}: lies on another grid than {trace.result}")
        picture, windows = _picture(one, volumes)
        pair = ("translated", "real") if real else None
        return Shown(
            picture,
            viewer(trace.result.name, volumes, windows, unit=trace.unit, difference=pair),
        )


def _picture(one: Translated, volumes: dict[str, Volume]) -> tuple[Picture, dict[str, Window]]:
    """The picture, and the windows of its images."""
    from msgan import plots

    trace, grid = one.provenance, volumes["translated"].grid
    factors = factors_for(grid.shape, grid.spacing, MOST_VOXELS)
    images = {title: reduced(v.read, grid.shape, factors) for title, v in volumes.items()}
    place: dict[str, Any] = {"spacing": [s * f for s, f in zip(grid.spacing, factors, strict=True)]}
    if grid.dims == 3:
        place["affine"] = grid.affine
    windows = {title: _window(image) for title, image in images.items()}
    made = f"{one.subject}, {one.task} by {row_of(trace)}; the translation is synthetic."
    if "real" in images:
        windows["translated"] = windows["real"]
        figure = plots.compare(
            *images.values(),
            window=windows["real"],
            source_window=windows["source"],
            unit=trace.unit,
            **place,
        )
        text = f"{made} Left to right: source, translated, real, and translated minus real "
        text += "(red: brighter than real, blue: darker)."
    else:
        shown = {t: _scaled(image, windows[t]) for t, image in images.items()}
        figure = plots.slices(shown, unit="each in its own range", **place)
        text = f"{made} Above the source, below its translation. No real image is known."
        text = text.replace("Above", "Left").replace("below", "right") if grid.dims == 2 else text
    if max(factors) > 1:
        text += f" Drawn from means of {'×'.join(map(str, factors))} voxels."
    return drawn(figure, trace.result.name, text), windows


def _window(image: Array) -> Window:
    """0.5 and 99.5 % of the intensities."""
    return usual_window([image]) if np.isfinite(image).any() else (0.0, 1.0)


def _scaled(image: Array, window: Window) -> Array:
    low, high = window
    return np.clip((image - low) / (high - low), 0, 1)
