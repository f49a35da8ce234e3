"""Deflated DICOM files: pydicom inflates one at once, so its size is counted before."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from msgan import paths
from msgan.types import InputError

SYNTAX = b"1.2.840.10008.1.2.1.99"
MOST = 1 << 28
"""Bytes of a data set: a slice of 8192 x 8192 voxels of 32 bits."""

PART = 1 << 20
META = 1 << 12
"""Bytes in which a file's own description ends."""


def require_bounded(file: Path) -> None:
    """Refuse a deflated file that would take more memory than any slice.

    Raises:
        InputError: It holds more than :data:`MOST`.
    """
    with file.open("rb") as stream:
        head = stream.read(META)
        start = 132 if head[128:132] == b"DICM" else 0
        # First comes the length of the description; the data set follows it, deflated.
        if SYNTAX not in head or head[start : start + 6] != b"\x02\0\0\0UL":
            return
        stream.seek(start + 12 + struct.unpack_from("<I", head, start + 8)[0])
        inflater, length, waiting = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
        while not inflater.eof and (block := waiting or stream.read(PART)):
            try:
                length += len(inflater.decompress(block, PART))
            except zlib.error:
                return  # reading it will say so
            waiting = inflater.unconsumed_tail
            if length > MOST:
                raise InputError(
                    f"deflated data of more than {paths.size(MOST)} in {file.name}: no slice of an "
                    "image is so large"
                )
