"""OME-Zarr: chunked images in a folder, read (0.4 and 0.5) and written (0.5) by region."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from msgan import paths
from msgan.data.formats.chunks import check_chunks
from msgan.data.formats.omezarr_place import oriented, placed
from msgan.data.grid import Grid
from msgan.data.pieces import SIDE, pieces
from msgan.data.store import MARKS, Source
from msgan.types import Array, Box, InputError, Reader

SUFFIXES = (".zarr",)
VERSION = "0.5"
OWN = "msgan"
"""Our attribute: the exact affine and the unit, which OME-Zarr 0.5 has no words for."""


def read(path: Path, suffix: str) -> Source:
    """Metadata of the finest level of ``path``.

    On disk the axes are (z, y, x), the index order here is (x, y, z); in 2D both are (y, x).
    Other orders on disk are turned. The affine is our own attribute where there is one, else
    scale and translation along the axes: towards where their stated anatomical orientation says
    (RFC 4), or right, front and up where none is stated.

    Raises:
        InputError: No OME-Zarr image, of a version that states no voxel size, of several images,
            with time or channel axes longer than 1, a rotation, an unknown unit of length, or a
            name or a link that leads out of the folder.
    """
    import zarr

    from msgan.data.formats.contained import Contained

    try:
        group: Any = zarr.open_group(Contained(path, read_only=True), mode="r")
        group, attributes = _image(group, path)
        # Version 0.4 keeps the same words one level higher.
        ome = attributes.get("ome", attributes)
        multiscale = ome["multiscales"][0]
        dataset = multiscale["datasets"][0]
        paths.inside(path / group.path, str(dataset["path"]))
        array: Any = group[dataset["path"]]
        check_chunks(path / array.path, array)
        shape = tuple(int(n) for n in array.shape)
        chunks, dtype = tuple(int(n) for n in array.chunks), np.dtype(array.dtype)
        version = str(multiscale.get("version") or ome.get("version") or "")
        place = placed(multiscale, dataset, version, shape)
        own = attributes.get(OWN, {})
        affine, unit = np.array(own.get("affine", place.affine)), str(own.get("unit", "a.u."))
    except InputError:
        raise
    except Exception as error:  # zarr and numpy raise what they like for damaged metadata
        text = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise InputError(f"not an OME-Zarr image: {text}") from error
    if dtype.kind not in "iuf":
        raise InputError(f"voxels of type {dtype}: expected real numbers")
    # Index axis a of the image is axis order[a] of the array.
    order = place.order
    rank = [sorted(order).index(a) for a in order]

    def region(box: Box) -> Array:
        index: list[Any] = [0] * len(shape)
        for a, extent in zip(order, box.slices, strict=True):
            index[a] = extent
        try:
            part = np.asarray(array[tuple(index)])
        except (InputError, MemoryError):
            raise
        except Exception as error:  # codecs raise what they like
            raise InputError(f"{path}: damaged chunk in {box}: {error}") from error
        return part.transpose(rank)

    return Source(
        Grid(tuple(shape[a] for a in order), affine),
        unit,
        region=region,
        chunks=tuple(chunks[a] for a in order),
        notes=() if "affine" in own else place.notes,
        measured="affine" not in own and place.measured,
        about=str(own.get("about", "")),
    )


def _image(group: Any, path: Path) -> tuple[Any, dict[str, Any]]:
    """The group that holds an image, and its attributes."""
    attributes = group.attrs.asdict()
    ome = attributes.get("ome", attributes)
    if "multiscales" in ome:
        return group, attributes
    if "plate" in ome or "well" in ome:
        raise InputError("a plate of many images: copy one of them out, to NAME.zarr")
    if "bioformats2raw.layout" in ome:
        images = [p.name for p in path.iterdir() if p.name.isdigit()]
        if len(images) != 1:
            raise InputError(
                f"holds {len(images)} images (bioformats2raw): copy one of them out, to NAME.zarr"
            )
        group = group[images[0]]
        return group, group.attrs.asdict()
    raise InputError("not an OME-Zarr image: its attributes name no multiscales")


def write(
    path: Path, grid: Grid, read: Reader, unit: str, dtype: np.dtype, about: str = ""
) -> None:
    """Stream an image to a new folder ``path``, some whole chunks at a time.

    Where the axes lie along the patient's, they state their orientation (RFC 4).
    """
    import zarr

    axes = ["z", "y", "x"][-grid.dims :]
    spacing = grid.spacing if grid.dims == 2 else grid.spacing[::-1]
    translation, words = oriented(grid)
    transformations = [
        {"type": "scale", "scale": [float(s) for s in spacing]},
        {"type": "translation", "translation": translation},
    ]
    multiscale = {
        "axes": [
            {"name": name, "type": "space", "unit": "millimeter", **word}
            for name, word in zip(axes, words, strict=True)
        ],
        "datasets": [{"path": "0", "coordinateTransformations": transformations}],
    }
    attributes: dict[str, Any] = {
        "ome": {"version": VERSION, "multiscales": [multiscale]},
        OWN: {"affine": grid.affine.tolist(), "unit": unit, **({"about": about} if about else {})},
    }
    if about.startswith(MARKS):
        attributes[OWN]["synthetic"] = True
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
