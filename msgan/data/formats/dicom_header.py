"""Headers of DICOM files: which files are DICOM, their tags, and badly written numbers.

A value that breaks the rules of its type is kept as the text that stands there. What needs it says
so (:func:`numbers`), what only guesses from it goes on without (:func:`number`).
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgan.data.formats.dicom_deflated import require_bounded
from msgan.types import InputError

MAGIC = b"DICM"
DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR."""

APART = (
    "EchoTime",
    "EchoNumbers",
    "InversionTime",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "DiffusionBValue",
    "AcquisitionNumber",
    "ImageType",
    "FlipAngle",
    "AcquisitionTime",
    "ComplexImageComponent",
)
"""What tells volumes apart that share a series, the plainest first."""

TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
    "PatientID",
    "ConvolutionKernel",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "DerivationDescription",
    "InstanceNumber",
    *APART,
]
"""Elements that are read of every header."""

SNIFFED = 1 << 12
"""Bytes that are looked at where a file has no DICM mark."""

SHOWN = 60
"""Letters of a value that an error shows."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
LONG_FORM = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT")
"""Types whose elements have four bytes for their length, after two that are empty."""


@dataclass(frozen=True)
class Header:
    """Tags of one file.

    Attributes:
        tags: Plain values by keyword; only those that are there and not empty.
        syntax: UID of the transfer syntax; empty where the file states none.
    """

    tags: Mapping[str, Any]
    syntax: str = ""

    def get(self, tag: str, default: Any = None) -> Any:
        """The value of a tag: a number, a text, or a list of them."""
        return self.tags.get(tag, default)


def is_dicom(path: Path) -> bool:
    """Whether ``path`` starts like a DICOM file, or like one without its first 132 bytes.

    Without preamble and mark (old archives, network dumps) elements of the groups 2 or 8 stand
    at the start, in order, and one of them names a class of DICOM objects.
    """
    with path.open("rb") as stream:
        head = stream.read(132)
        if head[128:] == MAGIC:
            return True
        if head[:2] not in (b"\x02\x00", b"\x08\x00"):
            return False
        return _bare(head + stream.read(SNIFFED - len(head)))


def _bare(head: bytes) -> bool:
    """Whether ``head`` is elements in ascending order that name a class of DICOM objects."""
    place, last = 0, (0, 0)
    while place + 12 <= len(head):
        group, element = struct.unpack_from("<HH", head, place)
        if ((group, element) <= last and place) or group not in (2, 8):
            return False
        last, kind = (group, element), head[place + 4 : place + 6]
        if not (kind.isalpha() and kind.isupper()):
            start, length = place + 8, struct.unpack_from("<I", head, place + 4)[0]
        elif kind in LONG_FORM:
            start, length = place + 12, struct.unpack_from("<I", head, place + 8)[0]
        else:
            start, length = place + 8, struct.unpack_from("<H", head, place + 6)[0]
        value = head[start : start + length]
        if last in ((2, 2), (8, 0x16)):
            return bool(re.fullmatch(rb"1\.2\.840\.10008\.[0-9.]+\0?", value))
        place = start + length
    return False


def header_of(file: Path, tags: Iterable[str] = TAGS) -> Header:
    """Those of ``tags`` that a DICOM file has; its pixels are not read.

    Raises:
        InputError: The header cannot be read.
    """
    return header_in(dataset_of(file, tags, pixels=False))


def dataset_of(file: Path, tags: Iterable[str], pixels: bool) -> Any:
    """The data set of a file as pydicom reads it, without the elements not named.

    Raises:
        InputError: It cannot be read.
    """
    import pydicom

    require_bounded(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values the tags here do not use
            return pydicom.dcmread(
                file, stop_before_pixels=not pixels, specific_tags=list(tags), force=is_dicom(file)
            )
    except OSError:
        raise
    except Exception as error:  # a damaged length or nesting fails anywhere in pydicom
        text = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise InputError(f"unreadable DICOM header in {file.name}: {text}") from error


def header_in(data: Any) -> Header:
    """The header in a data set; a value that cannot be converted is its text."""
    tags = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers are looked at where they are used
        for tag in list(data.keys()):
            if tag >> 16 == 0x7FE0:  # the pixels
                continue
            keyword, value = _element(data, tag)
            if keyword and value not in (None, "", []):
                tags[keyword] = value
        meta = getattr(data, "file_meta", None)
        try:
            syntax = str(meta.get("TransferSyntaxUID") or "") if meta else ""
        except Exception:
            syntax = ""
    return Header(tags, syntax)


def _element(data: Any, tag: Any) -> tuple[str, Any]:
    """Keyword and value of an element; pydicom raises what it meets while it converts one."""
    from pydicom.datadict import keyword_for_tag

    try:
        return data[tag].keyword, _plain(data[tag].value)
    except Exception:
        try:
            return str(keyword_for_tag(tag)), _text(data.get_item(tag).value)
        except Exception:  # neither its type nor its bytes can be had
            return "", None


def _plain(value: Any) -> Any:
    """Numbers and texts without pydicom's types."""
    from pydicom.multival import MultiValue
    from pydicom.sequence import Sequence

    if isinstance(value, Sequence):
        return [len(value)] if len(value) else None
    if isinstance(value, MultiValue | list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, int) and not hasattr(value, "original_string"):
        return int(value)
    return None if value is None else str(value).strip()


def _text(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.strip(" \0")


def _parts(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else str(value).split("\\")
    return [str(part).strip() for part in parts]


def _shown(value: Any) -> str:
    text = "".join(c if c.isprintable() else "?" for c in "\\".join(_parts(value)))
    return f"'{text}'" if len(text) <= SHOWN else f"'{text[:SHOWN]}...'"


def number(header: Any, tag: str) -> float | None:
    """The one number of a tag; None where there is none, several, or no number stands there.

    For what is only guessed from: a comma or ``n/a`` in an EchoTime must not stop anything.
    """
    value = header.get(tag)
    parts = [] if value is None else _parts(value)
    if len(parts) != 1 or not NUMBER.fullmatch(parts[0]) or abs(float(parts[0])) == float("inf"):
        return None
    return float(parts[0])


def numbers(header: Any, tag: str, count: int) -> list[float]:
    """The ``count`` numbers of a tag that is needed.

    Raises:
        InputError: There are others, more or fewer, or what stands there are no numbers; names
            tag, value and rule.
    """
    value = header.get(tag)
    if value is None:
        raise InputError(f"has no {tag}")
    parts = _parts(value)
    found = [number({tag: part}, tag) for part in parts]
    known = [v for v in found if v is not None]
    if len(known) != count or len(found) != count:
        rule = "a number" if count == 1 else f"{count} numbers"
        raise InputError(f"{tag} is {_shown(value)}: expected {rule}, with a decimal point")
    return known


def whole(header: Any, tag: str, default: int | None = None) -> int:
    """The one integer of a tag.

    Args:
        header: Of a file.
        tag: Its keyword.
        default: What holds where the tag is missing; None: it is needed.

    Raises:
        InputError: It is missing, or is no integer.
    """
    if header.get(tag) is None and default is not None:
        return default
    (value,) = numbers(header, tag, 1)
    if value != int(value):
        raise InputError(f"{tag} is {_shown(header.get(tag))}: expected an integer")
    return int(value)


def kinds_of(header: Any) -> list[str]:
    """The values of ImageType, in capitals."""
    return [part.upper() for part in _parts(header.get("ImageType") or "")]


def kernel_of(header: Any) -> str:
    """Reconstruction kernel as the scanner calls it (``B20f``); empty where it does not say."""
    value = header.get("ConvolutionKernel") or ""
    parts = [value] if isinstance(value, str) else value  # newer scanners add a strength
    return " ".join(str(part).strip() for part in parts)


def about_of(header: Any) -> str:
    """Description of the series; empty where there is none."""
    return str(header.get("SeriesDescription") or "").strip()


def series_number(header: Any) -> int:
    """The number of a series; 0 where it has none."""
    text = str(header.get("SeriesNumber") or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 0


def series_of(header: Any) -> tuple[str, str]:
    """What tells series apart: UID and kernel (tools that rewrite UIDs may give all one)."""
    return str(header.get("SeriesInstanceUID")), kernel_of(header)
