"""Pixels of one DICOM slice: checked against the header, and rescaled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msgan.data.formats.dicom_header import Header, dataset_of, header_in, number, numbers
from msgan.data.formats.dicom_packed import (
    BAD,
    BIG_ENDIAN,
    PLAIN,
    RUN_LENGTHS,
    Layout,
    named,
    require_syntax,
    unpacked,
)
from msgan.types import Array, InputError

TAGS = [
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PhotometricInterpretation", "Modality", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "RescaleType", "PixelData"),
]
AT_ONCE = 1 << 18
"""Pixels that are rescaled at once."""

UNDEFINED = 0xFFFFFFFF
"""Length of an element that ends with a mark."""

AIR = -1024.0
"""HU of what lies outside a CT's field of view: the least its 12 bits hold."""


def scaling(header: Header) -> tuple[float, float]:
    """Slope and intercept: value = stored value x slope + intercept; 1 and 0 where none is stated.

    Raises:
        InputError: A number is none, the slope is 0, or there is a table instead.
    """
    if header.get("ModalityLUTSequence") is not None:
        raise InputError(
            "has a Modality LUT Sequence (a table of values), which is not applied here: "
            "convert it (dcm2niix, dcmj2pnm)"
        )
    slope, intercept = (
        numbers(header, tag, 1)[0] if header.get(tag) is not None else neutral
        for tag, neutral in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if slope == 0:
        raise InputError("RescaleSlope is 0: every voxel would have one value")
    return slope, intercept


def unit_of(header: Any) -> str:
    """``HU`` for a CT whose rescale gives HU, else ``a.u.``."""
    rescaled = header.get("RescaleIntercept") is not None
    kind = str(header.get("RescaleType") or "HU").upper()
    return "HU" if header.get("Modality") == "CT" and rescaled and kind == "HU" else "a.u."


@dataclass(frozen=True)
class Stored:
    """A slice as it is stored.

    Attributes:
        header: Of the file.
        values: Stored values (rows, columns).
        padding: Which of them stand for nothing.
    """

    header: Header
    values: Array
    padding: Array | None

    @property
    def ends(self) -> tuple[int, int]:
        """Smallest and largest value that is not padding."""
        seen = self.values if self.padding is None else self.values[~self.padding]
        return (int(seen.min()), int(seen.max())) if seen.size else (0, 0)

    def shown(self, mirror: int | None = None) -> Array:
        """Rescaled float32 pixels.

        Args:
            mirror: The stored value that becomes 0, and 0 becomes it (see :func:`mirror_of`);
                None: values stay as they are.
        """
        slope, intercept = scaling(self.header)
        out = np.empty(self.values.shape, np.float32)
        rows = max(1, AT_ONCE // out[0].size)
        for first in range(0, len(out), rows):  # float64 of a whole radiograph is large
            values = self.values[first : first + rows].astype(np.float64)
            if mirror is not None:
                values = mirror - values
            with np.errstate(over="ignore"):  # infinity is refused with all other voxels
                out[first : first + rows] = values * slope + intercept
        if self.padding is not None:
            out[self.padding] = AIR if unit_of(self.header) == "HU" else 0.0
        return out


def mirror_of(least: int, most: int) -> int:
    """About what an image is inverted whose high stored values are dark (MONOCHROME1).

    The largest number of the bits in use becomes 0 (4095 where the largest value is 3000), as
    many files state more bits than their values have; signed values turn about -1/2.
    """
    return -1 if least < 0 else 2 ** most.bit_length() - 1


def stored_in(file: Path) -> Stored:
    """The pixels of one slice as they are stored.

    Raises:
        InputError: There are fewer than the header says, they cannot be decoded, or the header
            contradicts itself.
    """
    data = dataset_of(file, TAGS, pixels=True)
    header = header_in(data)
    layout = Layout.of(header)
    require_syntax(header.syntax)
    try:
        element = data.get_item(0x7FE00010)
    except Exception as error:  # its type or length is damaged
        raise InputError(BAD) from error
    raw = getattr(element, "value", None)
    if not isinstance(raw, bytes) or not raw:
        raise InputError("DICOM file without pixels")
    packed = getattr(element, "is_undefined_length", False) or element.length == UNDEFINED
    if header.syntax in (*PLAIN, BIG_ENDIAN):
        if packed:
            raise InputError("compressed pixels, but the file states no compression for them")
        full = _plain(raw, layout, data.original_encoding[1] is not False, element.VR)
        return Stored(header, *_split(full, layout, header))
    try:
        from pydicom.encaps import get_frame

        frame = get_frame(raw, 0, number_of_frames=1)
    except Exception as error:  # lengths that lie fail anywhere in pydicom
        raise InputError(f"{BAD} ({named(header.syntax)})") from error
    return unpacked_values(header, layout, frame)


def stored_values(header: Header, layout: Layout, raw: bytes, *, little: bool = True) -> Stored:
    """The values of one uncompressed frame.

    Args:
        header: Of the frame.
        layout: As the header states it.
        raw: Bytes of this frame alone.
        little: Whether the least significant byte comes first.

    Raises:
        InputError: There are too few bytes.
    """
    return Stored(header, *_split(_plain(raw, layout, little, "OW"), layout, header))


def unpacked_values(header: Header, layout: Layout, frame: bytes) -> Stored:
    """The values of one compressed frame.

    Raises:
        InputError: It cannot be decoded, or has another size than the header says.
    """
    full = unpacked(frame, layout, header.syntax)
    if header.syntax == RUN_LENGTHS:
        return Stored(header, *_split(full, layout, header))
    return Stored(header, full, _padding(full, layout, header))


def _plain(raw: bytes, layout: Layout, little: bool, kind: str) -> Array:
    """Allocated bits of uncompressed pixels as integers."""
    if len(raw) < layout.bytes:
        raise InputError(
            f"{BAD}: {len(raw)} bytes of pixels, {layout.rows} x {layout.columns} of "
            f"{layout.allocated} bits are {layout.bytes}"
        )
    if len(raw) >= 2 * layout.bytes > 1:
        raise InputError(
            f"{len(raw)} bytes of pixels, {layout.rows} x {layout.columns} of {layout.allocated} "
            f"bits are {layout.bytes}: Rows, Columns or BitsAllocated do not fit them"
        )
    if layout.allocated == 8 and not little and kind == "OW":
        even = raw if len(raw) % 2 == 0 else raw + b"\0"
        raw = np.frombuffer(even, ">u2").astype("<u2").tobytes()
    order, letter = "<" if little else ">", "i" if layout.signed else "u"
    flat = np.frombuffer(raw, f"{order}{letter}{layout.allocated // 8}", layout.count)
    return flat.reshape(layout.rows, layout.columns).astype(flat.dtype.newbyteorder("="))


def _split(full: Array, layout: Layout, header: Header) -> tuple[Array, Array | None]:
    """Stored values from all allocated bits, and which of them are padding.

    Padding is looked for first: scanners write it in more bits than they say values have.
    """
    padding = _padding(full, layout, header)
    if layout.stored == layout.allocated:
        return full, padding
    values = (full >> (layout.high + 1 - layout.stored)) & (2**layout.stored - 1)
    if layout.signed:
        sign = 2 ** (layout.stored - 1)
        values = (values ^ sign) - sign
    return values, padding


def _padding(values: Array, layout: Layout, header: Header) -> Array | None:
    """Where the value of padding stands, if it lies beyond all others, as it should."""
    ends = [number(header, tag) for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    patterns = [int(v) % 2**layout.allocated for v in ends if v is not None]
    half = 2 ** (layout.allocated - 1)
    low, *_, high = sorted(p - 2 * half if layout.signed and p >= half else p for p in patterns * 2)
    padding = (values >= low) & (values <= high)
    others = values[~padding]
    if not padding.any() or (others.size and others.min() < low and others.max() > high):
        return None
    return padding
