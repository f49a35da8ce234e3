"""Gray pictures, the 2D images: PNG and TIFF of 8 and 16 bit, and float TIFF.

A picture is held in memory, half a GiB of pixels at most; TIFF without compression is read where
it is. Affine and unit are kept in a comment (PNG text, TIFF description); without it a pixel is
1 mm wide, because the resolution that pictures carry is that of a screen or a printer, not of a
detector.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from msgan.data.formats.tiff import DEFLATE, MOST_BYTES, Page, read_page
from msgan.data.grid import Grid
from msgan.data.guard import line_of
from msgan.data.pieces import slabs
from msgan.data.store import Source
from msgan.types import Array, Box, InputError, Reader

SUFFIXES = (".png", ".tif", ".tiff")
PNG_TYPES = ("uint8", "uint16")
TIFF_TYPES = ("uint8", "uint16", "int16", "int32", "float32", "float64")
COMMENT = "msgan"
PNG_MARK = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: (1, 1), 2: (3, 6), 3: (1, 6), 4: (2, 6), 6: (4, 6)}
"""Channels of each colour type of PNG, and bytes in memory for a pixel of 8 bits."""
MOST_PIXELS = 178_956_970
"""Pixels that Pillow decodes at most."""


def read(path: Path, suffix: str) -> Source:
    """A gray picture of shape (rows, columns).

    Colour pictures load only where the colour channels are equal and alpha is opaque.

    Raises:
        InputError: The file cannot be decoded, is larger than ``MOST_BYTES``, is coloured,
            transparent or has several pages.
    """
    try:
        page = _png(path) if suffix == ".png" else read_page(path)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders raise what they like for damaged files
        raise InputError(f"not a readable {suffix} file: {line_of(error)}") from error
    own = _own(page.comment)
    unit = str(own.get("unit", "a.u."))
    # White as zero: the top minus the stored value.
    slope, inter = (1.0, 0.0) if page.top is None else (-1.0, float(page.top))
    if page.region:
        shape, region = page.shape, _transposed(page.region)
    else:
        assert page.array is not None
        gray = _gray(page.array)
        shape, region = gray.shape, lambda box: gray[box.slices]
    grid = Grid(shape, np.array(own.get("affine", np.eye(3)), dtype=np.float64))
    about = str(own.get("about", ""))
    return Source(grid, unit, region=region, slope=slope, inter=inter, about=about)


def write(
    path: Path, grid: Grid, read: Reader, unit: str, dtype: np.dtype, about: str = ""
) -> None:
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
    own = {"affine": grid.affine.tolist(), "unit": unit, **({"about": about} if about else {})}
    comment = json.dumps(own)
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


def _png(path: Path) -> Page:
    from PIL import Image

    with path.open("rb") as stream:
        head = stream.read(26)
    if head[:8] != PNG_MARK or len(head) < 26:
        raise InputError("not a PNG file: its first bytes are not those of one")
    columns, rows, depth, colour = struct.unpack(">II2B", head[16:])
    channels, held = CHANNELS.get(colour, (1, 1))
    have, bits = path.stat().st_size, depth * channels * columns
    if DEFLATE * have < (bits + 7) // 8 * rows:
        raise InputError(f"truncated: {have} bytes cannot hold {rows} x {columns} pixels")
    most = min(MOST_PIXELS, MOST_BYTES // (held * (1 + (depth == 16))))
    if rows * columns > most:
        raise InputError(
            f"PNG of {rows} x {columns} pixels: at most {most} of this kind are decoded; save it "
            "as gray TIFF without compression"
        )
    if depth == 16 and colour != 0:
        raise InputError("16-bit colour PNG: expected a gray picture")  # Pillow cuts it to 8
    with Image.open(path, formats=["PNG"]) as file:
        image: Image.Image = file
        comment = str(image.info.get(COMMENT, ""))
        if image.mode in ("1", "P", "PA"):
            image = image.convert("L" if image.mode == "1" else "RGBA")
        elif "transparency" in image.info:
            image = image.convert("RGBA")
        return Page(comment, np.asarray(image), None, (), None)


def _transposed(read: Reader) -> Reader:
    """(row, column) from (x, y)."""
    return lambda box: read(Box(box.start[::-1], box.size[::-1])).T


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
