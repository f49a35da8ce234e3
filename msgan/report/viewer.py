"""A viewer that moves through the slices of a few images on a page, without a kernel.

As nilearn's ``view_img``: an image is one picture of all its axial slices in 256 greys, from which
the page's script (``templates/viewer.js``) cuts all three planes. Nothing else is loaded.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from msgan.plots.frame import PLANES, SIDES, Window
from msgan.report.reduced import factors_for, reduced
from msgan.types import Array

if TYPE_CHECKING:
    from msgan.data.grid import Grid
    from msgan.data.volume import Volume

MOST_VOXELS = 700_000
"""Of an image of a viewer: three of them are about a megabyte of a page."""


@dataclass(frozen=True)
class Plane:
    """One plane of a viewer.

    Attributes:
        name: As ``axial``; empty of a 2D image.
        count: Slices.
        first: The one that is shown first.
        width: In mm.
        height: In mm.
        letters: Directions at left, right, bottom and top; empty if not known.
    """

    name: str
    count: int
    first: int
    width: float
    height: float
    letters: str


@dataclass(frozen=True)
class Viewer:
    """What the template of a viewer shows.

    Attributes:
        name: What is shown, in words.
        titles: Of the images, and ``difference`` where there are a translation and a real one.
        planes: Three, or one of a 2D image.
        data: For the script, as JSON.
        note: What a reader has to know of it.
    """

    name: str
    titles: tuple[str, ...]
    planes: tuple[Plane, ...]
    data: str
    note: str


def viewer(
    name: str,
    volumes: Mapping[str, Volume],
    windows: Mapping[str, Window],
    *,
    unit: str = "",
    difference: tuple[str, str] | None = None,
) -> Viewer:
    """The viewer of some images on one grid.

    Args:
        name: What is shown, in words.
        volumes: Title -> image, open; all on one grid of 2 or 3 axes.
        windows: Title -> darkest and brightest intensity.
        unit: Of the intensities.
        difference: Titles of two images with one window, of which the first less the second is
            shown too.
    """
    grid = next(iter(volumes.values())).grid
    factors = factors_for(grid.shape, grid.spacing, MOST_VOXELS)
    images = {t: _upright(reduced(v.read, grid.shape, factors), grid) for t, v in volumes.items()}
    shape = next(iter(images.values())).shape
    titles = (*volumes, *(("difference",) if difference else ()))
    data: dict[str, Any] = {
        "shape": shape,
        "across": _across(shape),
        "unit": unit,
        "difference": [list(volumes).index(title) for title in difference or ()],
        "images": [
            {"title": t, "window": windows[t], "sprite": _sprite(image, windows[t])}
            for t, image in images.items()
        ],
    }
    return Viewer(
        name,
        titles,
        tuple(_planes(grid, shape, _spacing(grid, factors))),
        json.dumps(data),
        _note(grid, factors, difference),
    )


def _note(grid: Grid, factors: Sequence[int], difference: tuple[str, str] | None) -> str:
    """How what is shown departs from the images, and how to read it."""
    sides = "×".join(map(str, grid.shape))
    text = f"In 256 greys; all {sides} voxels."
    if max(factors) > 1:
        blocks = "×".join(map(str, factors))
        text = (
            f"In 256 greys; {sides} voxels reduced to means of {blocks}: msgan explore shows all."
        )
    if difference:
        text += f" Difference: red where {difference[0]} is brighter than {difference[1]}, blue "
        text += "where darker, white where equal."
    return text


def _orientation(grid: Grid) -> Array | None:
    """nibabel's axis and flip of each array axis, of a volume in space."""
    if grid.dims != 3:
        return None
    from nibabel.orientations import io_orientation

    return np.asarray(io_orientation(grid.affine))


def _upright(image: Array, grid: Grid) -> Array:
    """The image with its axes to the right, front and top of the body; a 2D one as (y, x)."""
    orientation = _orientation(grid)
    if orientation is None:
        return image
    from nibabel.orientations import apply_orientation

    return np.asarray(apply_orientation(image, orientation))


def _spacing(grid: Grid, factors: Sequence[int]) -> tuple[float, ...]:
    """Size in mm of a voxel that is shown, in the order of :func:`_upright`."""
    own = [s * f for s, f in zip(grid.spacing, factors, strict=True)]
    orientation = _orientation(grid)
    if orientation is None:
        return tuple(own)
    return tuple(own[int(np.flatnonzero(orientation[:, 0] == axis)[0])] for axis in range(3))


def _planes(grid: Grid, shape: Sequence[int], spacing: Sequence[float]) -> list[Plane]:
    size = [n * s for n, s in zip(shape, spacing, strict=True)]
    if grid.dims == 2:
        return [Plane("", 1, 0, size[1], size[0], "")]
    return [
        Plane(name, shape[z], shape[z] // 2, size[x], size[y], SIDES[name])
        for name, (x, y, z) in PLANES.items()
    ]


def _across(shape: Sequence[int]) -> int:
    """Slices beside each other in a sprite, so that it is about square."""
    if len(shape) == 2:
        return 1
    x, y, z = shape
    return max(1, min(z, ceil(sqrt(z * y / x))))


def _sprite(image: Array, window: Window) -> str:
    """All axial slices below and beside each other, as the address of a PNG.

    Row 0 of a slice is its first along y, so that the script can index voxels.
    """
    from PIL import Image

    low, high = window
    grey = np.nan_to_num((image - low) * (255 / (high - low)), nan=0.0).clip(0, 255)
    grey = np.rint(grey).astype(np.uint8)
    if grey.ndim == 3:
        x, y, z = grey.shape
        across = _across(grey.shape)
        down = ceil(z / across)
        page = np.zeros((down * across, y, x), np.uint8)
        page[:z] = grey.transpose(2, 1, 0)
        grey = page.reshape(down, across, y, x).swapaxes(1, 2).reshape(down * y, across * x)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
