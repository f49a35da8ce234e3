"""Compressed pixels of a DICOM slice, and the layout of pixels.

Run lengths are unpacked here, all other compressions by SimpleITK (GDCM), which is given the
compressed image alone: no tag but those that describe it can change what it does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from msgan import paths
from msgan.data.formats.dicom_header import Header, whole
from msgan.types import Array, InputError

PLAIN = ("", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RUN_LENGTHS = "1.2.840.10008.1.2.5"
JPEG = "1.2.840.10008.1.2.4."
BY_GDCM = [f"{JPEG}{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)]
NEWER = {110: "JPEG XL Lossless", 111: "JPEG XL JPEG Recompression", 112: "JPEG XL"}
"""Names of syntaxes that are younger than pydicom's dictionary."""

BAD = "DICOM pixels cannot be decoded: truncated or damaged file"
MOST_PIXELS = 1 << 26
"""Of a compressed slice, whose bytes do not tell whether its header lies."""

SIZE_AT = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""JPEG markers (the last is that of JPEG-LS) after which the size of the image stands."""


@dataclass(frozen=True)
class Layout:
    """How the pixels of a slice are stored; all counts are of bits but the first two."""

    rows: int
    columns: int
    allocated: int
    stored: int
    high: int
    signed: bool

    @classmethod
    def of(cls, header: Header) -> Layout:
        """What a header states.

        Raises:
            InputError: It contradicts itself, or states what no image has.
        """
        rows, columns = whole(header, "Rows"), whole(header, "Columns")
        allocated = whole(header, "BitsAllocated")
        stored = whole(header, "BitsStored", allocated)
        high = whole(header, "HighBit", stored - 1)
        signed = whole(header, "PixelRepresentation", 0)
        if rows < 1 or columns < 1:
            raise InputError(f"Rows {rows}, Columns {columns}: expected at least 1")
        if allocated not in (8, 16, 32):
            raise InputError(f"BitsAllocated {allocated}: expected 8, 16 or 32")
        if not 1 <= stored <= high + 1 <= allocated:
            raise InputError(
                f"BitsStored {stored}, HighBit {high} do not fit BitsAllocated {allocated}"
            )
        if signed not in (0, 1):
            raise InputError(f"PixelRepresentation {signed}: expected 0 or 1")
        return cls(rows, columns, allocated, stored, high, bool(signed))

    @property
    def count(self) -> int:
        """How many pixels there are."""
        return self.rows * self.columns

    @property
    def bytes(self) -> int:
        """Of one uncompressed image."""
        return self.count * self.allocated // 8


def require_syntax(syntax: str) -> None:
    """Refuse a compression that is not decoded here.

    Raises:
        InputError: It is one; names it and the way out.
    """
    if syntax in (*PLAIN, BIG_ENDIAN, RUN_LENGTHS, *BY_GDCM):
        return
    raise InputError(
        f"transfer syntax {named(syntax)} is not decoded here: "
        "decompress it first (gdcmconv --raw, dcmdjpeg, or dcm2niix to NIfTI)"
    )


def named(syntax: str) -> str:
    """Name and UID of a transfer syntax."""
    from pydicom.uid import UID

    own = {f"{JPEG}{n}": name for n, name in NEWER.items()}
    name = own.get(syntax) or str(UID(syntax).name)
    return syntax if name == syntax else f"{name} ({syntax})"


def unpacked(frame: bytes, layout: Layout, syntax: str) -> Array:
    """Stored values (rows, columns) of a compressed image.

    Raises:
        InputError: It cannot be decoded, or has another size than the header says.
    """
    if layout.count > MOST_PIXELS:
        raise InputError(
            f"compressed image of {layout.rows} x {layout.columns}: expected at most "
            f"{MOST_PIXELS} pixels"
        )
    if syntax == RUN_LENGTHS:
        kind = f"<{'i' if layout.signed else 'u'}{layout.allocated // 8}"
        plain = np.frombuffer(_run_lengths(frame, layout), kind)
        return plain.reshape(layout.rows, layout.columns).astype(plain.dtype.newbyteorder("="))
    _require_size(frame, layout, syntax)
    return _decoded(frame, layout, syntax)


def _run_lengths(frame: bytes, layout: Layout) -> bytes:
    """Uncompressed little-endian bytes of an image packed by run lengths (PS3.5, annex G)."""
    try:
        count, *starts = struct.unpack_from("<16I", frame)
    except struct.error as error:
        raise InputError(f"{BAD} (run lengths)") from error
    size = layout.allocated // 8
    if count != size:
        raise InputError(f"{BAD}: {count} planes of run lengths, expected {size}")
    planes = []
    for k, start in enumerate(starts[:count]):
        stop = starts[k + 1] if k + 1 < count else len(frame)
        plane = _unpacked(frame[start:stop], layout.count)
        if len(plane) < layout.count:
            raise InputError(f"{BAD}: {len(plane)} pixels of run lengths, expected {layout.count}")
        planes.append(np.frombuffer(plane, np.uint8, layout.count))
    return np.stack(planes[::-1], axis=-1).tobytes()  # the most significant byte comes first


def _unpacked(packed: bytes, need: int) -> bytes:
    out, place = bytearray(), 0
    while place < len(packed) - 1 and len(out) < need:
        head = packed[place]
        if head < 128:
            out += packed[place + 1 : place + 2 + head]
            place += head + 2
        else:
            out += packed[place + 1 : place + 2] * (257 - head if head > 128 else 0)
            place += 2 if head > 128 else 1
    return bytes(out)


def _require_size(frame: bytes, layout: Layout, syntax: str) -> None:
    """Refuse a compressed image of another size than the header's, which would be filled up."""
    size = _jpeg2000_size(frame) if int(syntax.rpartition(".")[2]) >= 90 else _jpeg_size(frame)
    if size is None:
        raise InputError(f"{BAD} ({named(syntax)})")
    rows, columns, samples = size
    if (rows, columns) != (layout.rows, layout.columns):
        raise InputError(
            f"compressed image of {rows} x {columns}, Rows x Columns are {layout.rows} x "
            f"{layout.columns}"
        )
    if samples != 1:
        raise InputError(f"compressed image of {samples} colours: expected one value a voxel")


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples as a JPEG or JPEG-LS states them."""
    place = 2
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        mark = frame[place + 1]
        if mark in SIZE_AT:
            rows, columns, samples = struct.unpack_from(">HHB", frame, place + 5)
            return rows, columns, samples
        place += 1 if mark == 0xFF else 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return None


def _jpeg2000_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples as a JPEG 2000 states them, alone or in a JP2 file."""
    place = frame.find(b"\xff\x4f\xff\x51")
    if place < 0 or place + 42 > len(frame):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, place + 8)
    return bottom - top, right - left, struct.unpack_from(">H", frame, place + 40)[0]


def _decoded(frame: bytes, layout: Layout, syntax: str) -> Array:
    """Stored values of a compressed image, by GDCM."""
    import SimpleITK as sitk
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, UID("1.2.3")
    data.Rows, data.Columns, data.SamplesPerPixel = layout.rows, layout.columns, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = layout.allocated, layout.stored, layout.high
    data.PixelRepresentation = int(layout.signed)
    data.PixelData = encapsulate([frame])
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    with paths.scratch_folder() as folder:
        data.save_as(folder / "slice.dcm", enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(folder / "slice.dcm"))
        shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            values = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise InputError(f"{BAD} ({named(syntax)})") from error
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    if values.shape != (1, layout.rows, layout.columns):
        raise InputError(f"{BAD}: decoded to {values.shape[1:]} ({named(syntax)})")
    return values[0]
