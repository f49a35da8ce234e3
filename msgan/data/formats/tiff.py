"""The only page of a TIFF file, read in place or decoded into memory."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msgan import paths
from msgan.data.raw import raw_reader
from msgan.types import Array, InputError, Reader

MOST_BYTES = 1 << 29
"""Decoded pixels of the largest picture that is held in memory."""
BEST = {"NONE": 1, "PACKBITS": 64, "LZMA": 8192}
"""Bytes that one byte can hold at most, by compression."""
DEFLATE = 1032
INFLATERS: dict[str, Callable[[], Any]] = {
    "ADOBE_DEFLATE": zlib.decompressobj,
    "DEFLATE": zlib.decompressobj,
    "LZMA": lzma.LZMADecompressor,
}


@dataclass(frozen=True)
class Page:
    """Pixels of (rows, columns), perhaps with channels behind.

    Attributes:
        comment: The description.
        array: Pixels that had to be decoded.
        region: Else reads them where they are: a gray picture.
        shape: Of ``region``.
        top: What white as zero is subtracted from; ``None`` where black is zero.
    """

    comment: str
    array: Array | None
    region: Reader | None
    shape: tuple[int, ...]
    top: int | None


def read_page(path: Path) -> Page:
    """The page of a TIFF or BigTIFF file, in strips or tiles.

    Raises:
        InputError: There are several pages, the compression or the kind of pixels is not known,
            or the header promises more than the file, or memory, can hold.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        if len(file.pages) != 1:
            raise InputError(f"TIFF of {len(file.pages)} pages: expected one")
        page: Any = file.pages[0]
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            raise InputError("TIFF with a palette: expected a gray picture")
        if page.dtype is None or not page.nbytes:
            raise InputError(
                f"TIFF of {page.shape} pixels of {page.bitspersample} bits: expected a picture of "
                "8, 16, 32 or 64 bits"
            )
        dtype = np.dtype(page.dtype).newbyteorder(file.byteorder)
        top = None
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            if dtype.kind not in "bu":
                raise InputError(f"TIFF with white as zero and {dtype} pixels")
            top = 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)
        shape = tuple(int(n) for n in page.shape)
        plain = page.is_final and sum(page.databytecounts) == page.nbytes and len(shape) == 2
        if plain and dtype.kind in "iuf":
            offset, have = int(page.dataoffsets[0]), path.stat().st_size
            if have < offset + page.nbytes:
                raise InputError(
                    f"truncated: {have} bytes, the header promises {offset + page.nbytes}"
                )
            region = raw_reader(path, dtype, shape[::-1], offset)
            return Page(page.description, None, region, shape, top)
        _bounded(page, path.stat().st_size)
        return Page(page.description, page.asarray(maxworkers=1), None, shape, top)


def _bounded(page: Any, have: int) -> None:
    """Refuse what no file of ``have`` bytes can hold, and strips that inflate beyond the page."""
    kind = getattr(page.compression, "name", str(page.compression))
    best = BEST.get(kind, DEFLATE)
    if page.nbytes > MOST_BYTES:
        raise InputError(
            f"picture of {page.shape}: {paths.size(page.nbytes)} of pixels, {MOST_BYTES >> 20} MiB "
            "at most are decoded; save it without compression"
        )
    if page.size * page.bitspersample > 8 * best * have:
        raise InputError(f"truncated: {have} bytes cannot hold the picture of {page.shape}")
    if kind not in INFLATERS:
        return
    stream = page.parent.filehandle
    room = 2 * page.nbytes + (1 << 20)  # tiles reach beyond the border
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        stream.seek(offset)
        room -= len(INFLATERS[kind]().decompress(stream.read(length), max(1, room)))
        if room <= 1:
            raise InputError("damaged: its strips or tiles hold more than the picture")
