"""Voxels after a text header: raw, compressed or as text, decoded in parts of a megabyte.

Nothing is believed of a header before it is compared with the file: what it promises must fit
into what the file can hold at the best compression, and no more than that is decoded.
"""

from __future__ import annotations

import binascii
import bz2
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from msgan.data.pieces import in_order
from msgan.data.raw import raw_reader
from msgan.types import Array, InputError, Reader, Shape

PART = 1 << 20
GZIP = b"\x1f\x8b"
LONGEST_NUMBER = 64
"""Characters of one voxel as text."""
BEST = {"raw": 1, "hex": 1, "text": 4, "zlib": 1032, "gzip": 1032, "bzip2": 1 << 21}
"""Bytes of voxels that one byte can give at most (text: a digit and a space for a double)."""


@dataclass(frozen=True)
class Encoded:
    """Where and how voxels are stored, as a header says.

    Attributes:
        files: One, or several with equal parts of the image that follow each other.
        sizes: Voxels along the axes, the first is fastest.
        dtype: With the order of bytes.
        encoding: One of ``BEST``.
        offset: Bytes before the voxels of a file; -1 where they are the last of the file.
        lines: Lines to skip behind ``offset``.
        inside: Bytes to skip of what was decoded; -1 where the voxels are the last of it.
    """

    files: tuple[Path, ...]
    sizes: Shape
    dtype: np.dtype
    encoding: str = "raw"
    offset: int = 0
    lines: int = 0
    inside: int = 0

    @property
    def length(self) -> int:
        """Bytes of decoded voxels in each file."""
        return prod(self.sizes) * self.dtype.itemsize // len(self.files)

    @cached_property
    def starts(self) -> list[int]:
        """Where each file's voxels begin.

        Raises:
            InputError: A file is too short for what the header promises.
        """
        starts = []
        for file in self.files:
            have = file.stat().st_size
            start = have - self.length if self.offset < 0 else self.offset
            if self.lines:
                start = _behind(file, start, self.lines)
            need = -(-(self.length + max(self.inside, 0)) // BEST[self.encoding])
            if start < 0 or have - start < need:
                least = "" if self.encoding == "raw" else "at least "
                raise InputError(
                    f"truncated: {have} bytes in {file.name}, the header promises {least}"
                    f"{max(start, 0) + need}"
                )
            starts.append(start)
        return starts

    def region(self) -> Reader | None:
        """Reads boxes where they are; ``None`` where the voxels must be decoded in order."""
        if self.encoding != "raw" or len(self.files) > 1:
            return None
        return raw_reader(self.files[0], self.dtype, self.sizes, self.starts[0] + self.inside)

    def blocks(self) -> Iterator[Array]:
        """The image in boxes that follow each other, first axis fastest.

        Raises:
            InputError: A file is damaged or holds too little.
        """
        held, parts = bytearray(), self._decoded()
        for box in in_order(self.sizes, self.dtype.itemsize):
            length = box.voxels * self.dtype.itemsize
            while len(held) < length:
                held += next(parts)
            yield np.frombuffer(bytes(held[:length]), self.dtype).reshape(box.size, order="F")
            del held[:length]
        for _ in parts:  # looks at a checksum behind the last voxel
            pass

    def _decoded(self) -> Iterator[bytes]:
        for file, start in zip(self.files, self.starts, strict=True):
            left = self.length
            with file.open("rb") as stream:
                try:
                    skip = self.inside if self.inside >= 0 else self._surplus(stream, start)
                    stream.seek(start)
                    parts = DECODERS[self.encoding](stream, self.dtype)
                    while left and (part := next(parts, None)) is not None:
                        data = part[skip : skip + left]
                        skip = max(0, skip - len(part))
                        left -= len(data)
                        yield data
                    next(parts, None)
                except (zlib.error, OSError, ValueError, EOFError) as error:
                    if isinstance(error, InputError):
                        raise
                    text = f"damaged or truncated {self.encoding} data in {file.name}: {error}"
                    raise InputError(text) from error
            if left:
                raise InputError(f"truncated: {file.name} holds {left} bytes less than promised")

    def _surplus(self, stream: BinaryIO, start: int) -> int:
        """Bytes that are decoded before the voxels, where those are the last."""
        stream.seek(start)
        surplus = -self.length
        for part in DECODERS[self.encoding](stream, self.dtype):
            surplus += len(part)
            if surplus > PART:
                raise ValueError(f"more than {PART} bytes before the voxels")
        return max(surplus, 0)


def _behind(file: Path, start: int, lines: int) -> int:
    """The place ``lines`` lines behind ``start``."""
    with file.open("rb") as stream:
        stream.seek(max(start, 0))
        while lines and (part := stream.readline(PART)):
            start += len(part)
            lines -= part.endswith(b"\n")
    return start


def _raw(stream: BinaryIO, _: np.dtype) -> Iterator[bytes]:
    while part := stream.read(PART):
        yield part


def _inflated(stream: BinaryIO, _: np.dtype, bits: int) -> Iterator[bytes]:
    """Members of a zlib or gzip stream; bytes behind the last are no part of it."""
    inflate, data = zlib.decompressobj(bits), b""
    while data := data or stream.read(PART):
        part = inflate.decompress(data, PART)
        data = inflate.unconsumed_tail
        if part:
            yield part
        if inflate.eof:
            data = inflate.unused_data or stream.read(PART)
            if not data.startswith(GZIP):
                return
            inflate = zlib.decompressobj(bits)
    raise EOFError("it ends too early")


def _bunzipped(stream: BinaryIO, _: np.dtype) -> Iterator[bytes]:
    """Members of a bzip2 stream; bytes behind the last are no part of it."""
    bunzip, data = bz2.BZ2Decompressor(), b""
    while data := data or stream.read(PART >> 4):
        if part := bunzip.decompress(data, PART):
            yield part
        while not bunzip.needs_input and not bunzip.eof:
            yield bunzip.decompress(b"", PART)
        data = b""
        if bunzip.eof:
            data = bunzip.unused_data or stream.read(PART >> 4)
            if not data.startswith(b"BZh"):
                return
            bunzip = bz2.BZ2Decompressor()
    raise EOFError("it ends too early")


def _unhexed(stream: BinaryIO, _: np.dtype) -> Iterator[bytes]:
    odd = b""
    while part := stream.read(PART):
        digits = odd + part.translate(None, b" \t\r\n\v\f")
        even = len(digits) & ~1
        odd = digits[even:]
        if even:
            yield binascii.unhexlify(digits[:even])


def _numbers(stream: BinaryIO, dtype: np.dtype) -> Iterator[bytes]:
    """Numbers with white space between, as bytes of ``dtype``."""
    begun = b""
    while (part := stream.read(PART >> 4)) or begun:
        words = (begun + part).split()
        begun = words.pop() if part and words and not part[-1:].isspace() else b""
        if max(map(len, [*words, begun]), default=0) > LONGEST_NUMBER:
            raise ValueError(f"a number of more than {LONGEST_NUMBER} characters")
        if dtype.kind == "f":
            yield np.array([float(word) for word in words]).astype(dtype).tobytes()
        else:
            values, limits = [int(word) for word in words], np.iinfo(dtype)
            if values and not (limits.min <= min(values) and max(values) <= limits.max):
                raise ValueError(f"values {min(values)}..{max(values)} do not fit {dtype}")
            yield np.array(values, dtype).tobytes()


DECODERS: dict[str, Callable[[BinaryIO, np.dtype], Iterator[bytes]]] = {
    "raw": _raw,
    "hex": _unhexed,
    "text": _numbers,
    "zlib": partial(_inflated, bits=47),  # either kind of header
    "gzip": partial(_inflated, bits=31),
    "bzip2": _bunzipped,
}
