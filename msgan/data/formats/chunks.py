"""Compares the chunks that the metadata of a Zarr array state with the stored chunks."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

from msgan import paths
from msgan.types import InputError

CHUNKS, BYTES = 1 << 14, 1 << 30
"""Absent chunks (they hold one value) and their bytes that any array may promise: seconds."""
CHUNKS_EACH, BYTES_EACH = 1000, 100_000
"""How many more for each chunk and byte that is stored."""
CHUNK_BYTES = 1 << 28
"""Largest chunk of any array; larger ones must be filled as zlib fills at best."""
BEST = 1032
UNSAFE = ("pickle",)
"""Codecs whose decoding runs what a file says."""


def check_chunks(folder: Path, array: Any) -> None:
    """Refuse an array of which next to nothing is stored: reading it would never end.

    Args:
        folder: Where the metadata and chunks of ``array`` are.
        array: A Zarr array.

    Raises:
        InputError: Shape or chunks promise far more than is stored, are empty, or need a codec
            that runs programs.
    """
    words = str(array.metadata.to_dict()).lower()
    if unsafe := [name for name in UNSAFE if f"'{name}'" in words]:
        raise InputError(f"chunks encoded by {unsafe[0]}, which would run what the file says")
    shape = tuple(int(n) for n in array.shape)
    sides = tuple(int(n) for n in array.shards or array.chunks)
    inner = tuple(int(n) for n in array.chunks)
    if not shape or min(*shape, *sides, *inner, 1) < 1 or len(sides) != len(shape):
        raise InputError(f"chunks of shape {sides} in an image of shape {shape}")
    count = prod(-(-n // side) for n, side in zip(shape, sides, strict=True))
    count *= prod(-(-side // n) for side, n in zip(sides, inner, strict=True))
    itemsize = int(array.dtype.itemsize)
    need, each = prod(shape) * itemsize, prod(inner) * itemsize
    if count <= CHUNKS and need <= BYTES and each <= CHUNK_BYTES:
        return
    files = length = 0
    for home, _, names in os.walk(folder):
        files += len(names)
        length += sum((Path(home) / name).stat().st_size for name in names)
        if (
            count <= CHUNKS + CHUNKS_EACH * files
            and need <= BYTES + BYTES_EACH * length
            and each <= CHUNK_BYTES + BEST * length
        ):
            return
    raise InputError(
        f"shape {shape} promises {count} chunks of {paths.size(each)}, {paths.size(length)} in "
        f"{files} files are stored"
    )
