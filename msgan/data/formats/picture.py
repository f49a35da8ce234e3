"""Gray pictures, the 2D images: PNG and TIFF of 8 and 16 bit, and float TIFF.

A picture is held in memory. Its affine and unit are kept in a comment (PNG text, TIFF
description); without it a pixel is 1 mm wide, because the resolution that pictures
carry is that of a screen or a printer, not of a detector.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from msgan.data.grid import Grid
from msgan.data.pieces import slabs
from msgan.data.store import Source
from msgan.types import Array, Box, InputError, Reader

SUFFIXES = (".png", ".tif", ".tiff")
PNG_TYPES = ("uint8", "uint16")
TIFF_TYPES = ("uint8", "uint16", "int16", "int32", "float32", "float64")
COMMENT = "msgan"


def read(path: Path, suffix: str) -> Source:
    """A gray picture of shape (rows, columns).

    Colour pictures load only where the colour channels are equal and alpha is opaque.

    Raises:
        InputError: The file cannot be decoded, is coloured, transparent or has several pages.
    """
    try:
        array, comment = (_png if suffix == ".png" else _tiff)(path)
    except InputError:
        raise
    except Exception as error:  # decoders raise what they like for damaged files
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"not a readable {suffix} file: {text}") from error
    gray = _gray(array)
    own = _own(comment)
    grid = Grid(gray.shape, np.array(own.get("affine", np.eye(3))))

    def region(box: Box) -> Array:
        return gray[box.slices]

    return Source(grid, str(own.get("unit", "a.u.")), region=region)


def write(path: Path, grid: Grid, read: Reader, unit: str, dtype: np.dtype) -> None:
    """Write a gray picture; values must already be in the range of ``dtype``.

    Raises:
        InputError: A 3D grid, or a type the format cannot hold.
    """
    png = path.suffix.lower() == ".png"
    types = PNG_TYPES if png else TIFF_TYPES
    if grid.dims != 2:
        raise InputError(f"{grid.dims}D image of shape {grid.shape}: a picture has 2 axes")
    if dtype.name not in types:
        raise InputError(f"a {path.suffix} picture holds {', '.join(types)}, not {dtype.name}")
    array = np.empty(grid.shape, dtype)
    for box in slabs(grid.shape, dtype.itemsize, axis=0):
        array[box.slices] = read(box)
    comment = json.dumps({"affine": grid.affine.tolist(), "unit": unit})
    stream = io.BytesIO()  # tifffile does not say so when a disk is full
    if png:
        from PIL import Image, PngImagePlugin

        info = PngImagePlugin.PngInfo()
        info.add_text(COMMENT, comment)
        Image.fromarray(array).save(stream, format="PNG", pnginfo=info)
    else:
        import tifffile

        tifffile.imwrite(
            stream, array, photometric="minisblack", description=comment, metadata=None
        )
    path.write_bytes(stream.getbuffer())


def _png(path: Path) -> tuple[Array, str]:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as file:
        image: Image.Image = file
        comment = str(image.info.get(COMMENT, ""))
        with path.open("rb") as stream:
            depth, colour = stream.read(26)[24:26]
        if depth == 16 and colour != 0:
            raise InputError("16-bit colour PNG: expected a gray picture")  # Pillow cuts it to 8
        if image.mode in ("1", "P", "PA"):
            image = image.convert("L" if image.mode == "1" else "RGBA")
        elif "transparency" in image.info:
            image = image.convert("RGBA")
        return np.asarray(image), comment


def _tiff(path: Path) -> tuple[Array, str]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        if len(file.pages) != 1:
            raise InputError(f"TIFF of {len(file.pages)} pages: expected one")
        page: Any = file.pages[0]
        array = page.asarray()
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            if array.dtype.kind != "u":
                raise InputError(f"TIFF with white as zero and {array.dtype} pixels")
            array = np.iinfo(array.dtype).max - array
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            raise InputError("TIFF with a palette: expected a gray picture")
        return array, page.description


def _gray(array: Array) -> Array:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise InputError(f"pixels of type {array.dtype}: expected real numbers")
    if array.ndim == 2:
        return array
    if array.ndim != 3 or array.shape[2] not in (2, 3, 4):
        raise InputError(f"picture of shape {array.shape}: expected 2 axes")
    channels = array.shape[2]
    if channels in (2, 4):
        opaque = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else 1.0
        if (array[:, :, -1] != opaque).any():
            raise InputError("picture with transparent pixels: expected opaque gray")
    first = array[:, :, 0]
    if channels >= 3 and any((array[:, :, c] != first).any() for c in (1, 2)):
        raise InputError("RGB picture whose colour channels differ: expected gray")
    return np.ascontiguousarray(first)


def _own(comment: str) -> dict[str, Any]:
    """What :func:`write` put into the comment; empty for the comments of others."""
    try:
        own = json.loads(comment)
    except ValueError:
        return {}
    return own if isinstance(own, dict) and "affine" in own else {}
