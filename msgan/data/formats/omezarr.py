"""OME-Zarr 0.5: chunked images in a folder, read and written by region."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from msgan import paths
from msgan.data.grid import Grid
from msgan.data.pieces import SIDE, pieces
from msgan.data.store import Source
from msgan.types import Array, Box, InputError, Reader

SUFFIXES = (".zarr",)
VERSION = "0.5"
OWN = "msgan"
"""Our attribute: the exact affine and the unit, which OME-Zarr 0.5 has no words for."""
MM = {"micrometer": 1e-3, "nanometer": 1e-6, "centimeter": 10.0, "meter": 1e3, "millimeter": 1.0}


def read(path: Path, suffix: str) -> Source:
    """Metadata of the finest level of ``path``.

    On disk the axes are (z, y, x), the index order here is (x, y, z); in 2D both are (y, x). The
    affine is our own attribute where there is one, else scale and translation read as RAS mm.

    Raises:
        InputError: No OME-Zarr image, time or channel axes longer than 1, or a rotation.
    """
    import zarr

    try:
        group = zarr.open_group(str(path), mode="r")
        attributes: Any = group.attrs.asdict()
        # Version 0.4 keeps the same words one level higher.
        multiscale = attributes.get("ome", attributes)["multiscales"][0]
        dataset = multiscale["datasets"][0]
        array: Any = group[dataset["path"]]
        axes = [axis["name"] for axis in multiscale["axes"]]
        types = [axis.get("type", "space") for axis in multiscale["axes"]]
        factors = [MM.get(axis.get("unit", "millimeter"), 1.0) for axis in multiscale["axes"]]
        scale, translation = _transformation(dataset, multiscale, len(axes))
        shape = tuple(int(n) for n in array.shape)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        text = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise InputError(f"not an OME-Zarr image: {text}") from error
    space = [a for a, kind in enumerate(types) if kind == "space"]
    others = [a for a in range(len(axes)) if a not in space]
    if len(axes) != len(shape) or any(shape[a] != 1 for a in others) or len(space) not in (2, 3):
        raise InputError(f"{len(shape)}D image of shape {shape} with axes {axes}: expected 3 axes")
    if array.dtype.kind not in "iuf":
        raise InputError(f"voxels of type {array.dtype}: expected real numbers")
    # Index axis a of the image is axis order[a] of the array.
    order = sorted(space, key=lambda a: axes[a]) if len(space) == 3 else space
    rank = [space.index(a) for a in order]

    def region(box: Box) -> Array:
        index: list[Any] = [0] * len(shape)
        for a, extent in zip(order, box.slices, strict=True):
            index[a] = extent
        try:
            part = np.asarray(array[tuple(index)])
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{path}: damaged chunk in {box}: {error}") from error
        return part.transpose(rank)

    own = attributes.get(OWN, {})
    affine = np.diag([*(scale[a] * factors[a] for a in order), 1.0])
    affine[:-1, -1] = [translation[a] * factors[a] for a in order]
    grid = Grid(tuple(shape[a] for a in order), np.array(own.get("affine", affine)))
    chunks = tuple(int(array.chunks[a]) for a in order)
    return Source(grid, str(own.get("unit", "a.u.")), region=region, chunks=chunks)


def write(path: Path, grid: Grid, read: Reader, unit: str, dtype: np.dtype) -> None:
    """Stream an image to a new folder ``path``, some whole chunks at a time."""
    import zarr

    axes = ["z", "y", "x"][-grid.dims :]
    affine = grid.affine if grid.dims == 2 else grid.affine[np.ix_([2, 1, 0, 3], [2, 1, 0, 3])]
    spacing = grid.spacing if grid.dims == 2 else grid.spacing[::-1]
    transformations = [
        {"type": "scale", "scale": [float(s) for s in spacing]},
        {"type": "translation", "translation": affine[:-1, -1].tolist()},
    ]
    multiscale = {
        "axes": [{"name": name, "type": "space", "unit": "millimeter"} for name in axes],
        "datasets": [{"path": "0", "coordinateTransformations": transformations}],
    }
    attributes = {
        "ome": {"version": VERSION, "multiscales": [multiscale]},
        OWN: {"affine": grid.affine.tolist(), "unit": unit},
    }
    group = zarr.create_group(store=str(path), zarr_format=3, attributes=attributes)
    shape = grid.shape if grid.dims == 2 else grid.shape[::-1]
    chunks = tuple(min(SIDE[grid.dims], n) for n in shape)
    array: Any = group.create_array(
        "0", shape=shape, chunks=chunks, dtype=dtype, dimension_names=axes
    )
    size = chunks if grid.dims == 2 else chunks[::-1]
    for box in pieces(grid.shape, dtype.itemsize, size):
        part = read(box)
        # One chunk at a time: zarr writes the chunks of a larger piece concurrently, and those
        # still under way after a failure would come back into the folder being removed.
        for tile in box.tiles(size):
            chunk = part[tile.inside(box).slices]
            index = tile.slices if grid.dims == 2 else tile.slices[::-1]
            array[index] = chunk if grid.dims == 2 else chunk.T


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """:func:`msgan.paths.atomic_folder`, for Zarr folders only.

    Raises:
        InputError: ``path`` exists and is no Zarr folder, so replacing it would lose other files.
    """
    if path.exists() and not (path / "zarr.json").is_file():
        raise InputError(f"{path}: exists and is not a Zarr folder")
    with paths.atomic_folder(path) as temporary:
        yield temporary


def _transformation(dataset: Any, multiscale: Any, d: int) -> tuple[Array, Array]:
    """Scale and translation of a level: its own transformations, then those of all levels."""
    scale, translation = np.ones(d), np.zeros(d)
    for holder in (dataset, multiscale):
        for step in holder.get("coordinateTransformations", []):
            if step["type"] == "scale":
                factor = np.array(step["scale"], dtype=np.float64)
                scale, translation = scale * factor, translation * factor
            elif step["type"] == "translation":
                translation = translation + np.array(step["translation"], dtype=np.float64)
            elif step["type"] != "identity":
                raise ValueError(f"coordinate transformation {step['type']!r}")
    return scale, translation
