"""Writable memory-mapped files; their disk space is reserved before.

A page that is written through a mapping and finds no room on the disk ends the process (SIGBUS);
no error can be caught.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

BLOCK = 1 << 20
"""Bytes written at once where room cannot be reserved."""

UNABLE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""What file systems answer that cannot reserve."""


def create(path: str | os.PathLike[str], shape: Sequence[int], dtype: DTypeLike) -> np.memmap:
    """A new ``.npy`` file of zeros to be written through a mapping.

    Raises:
        OSError: The disk is full, or a file may not be that large; the file is incomplete then.
    """
    # Writes the header and the last byte, and nothing through the mapping.
    out: Any = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), tuple(shape))
    reserve(path, out.offset)
    return out


def scratch(path: str | os.PathLike[str], shape: Sequence[int], dtype: DTypeLike) -> np.memmap:
    """As :func:`create`, without a header."""
    out = np.memmap(path, np.dtype(dtype), "w+", shape=tuple(shape))
    reserve(path)
    return out


def reserve(path: str | os.PathLike[str], start: int = 0) -> None:
    """Take the room on the disk for all bytes of a file, which are zeros from ``start`` on.

    Raises:
        OSError: The disk is full.
    """
    length = Path(path).stat().st_size
    with Path(path).open("r+b", buffering=0) as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, length)
        except AttributeError:  # not on this system
            pass
        except OSError as error:
            if error.errno not in UNABLE:
                raise
        else:
            return
        stream.seek(start)
        zeros = memoryview(bytes(BLOCK))
        while start < length:  # a disk that becomes full takes a part first
            start += stream.write(zeros[: length - start]) or 0
        os.fsync(stream.fileno())  # file systems of a network may refuse only here
