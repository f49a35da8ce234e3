"""Headers of NIfTI-1 and NIfTI-2: their fields, checked, and the position of the image.

The fields are taken as they stand and not as nibabel mends them, because a result repeats them.
"""

from __future__ import annotations

import gzip
import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from msgan.data.formats.nifti_place import Place, place
from msgan.data.grid import NiftiFrame
from msgan.types import InputError, Shape

UNIT_COMMENT, AFFINE_COMMENT = "msgan unit: ", "msgan affine: "
"""Of our own: the unit of the voxels, and twelve numbers of an affine that float32 rounds."""

NIFTI1_BYTES, NIFTI2_BYTES = 348, 540
FIRST_OFFSET = {False: 352, True: 544}
"""Where the voxels of a single file can begin, by whether it is NIfTI-2."""

MOST_EXTENSIONS = 1 << 20
"""Bytes of extensions that are looked through; some programs keep whole DICOM headers there."""

ANALYZE = "not a NIfTI file but Analyze, which states no reliable orientation: convert it to NIfTI"
"""What is said of an Analyze file."""
EXTENSION_STEP = 16
COMMENT = 6


@dataclass(frozen=True)
class Header:
    """A header that can be used.

    Attributes:
        shape: As stated, with all axes.
        dtype: Of the stored voxels, with its byte order.
        offset: Byte at which they begin, in the file that holds them.
        slope: Voxel value = stored value x slope + inter.
        inter: See ``slope``.
        place: Affine in mm, and what is to be said about it.
        frame: The fields of the geometry as they stand.
        single: Whether the voxels are in the file of the header.
        comments: What our own comments say, by their beginnings.
        about: The description (``descrip``).
    """

    shape: Shape
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    place: Place
    frame: NiftiFrame
    single: bool
    comments: dict[str, str]
    about: str = ""


def opened(path: Path) -> AbstractContextManager[IO[bytes]]:
    """``path`` for reading; what ends in ``.gz`` is decompressed."""
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def magic_of(path: Path) -> str:
    """``n+1``, ``ni1``, ``n+2`` or ``ni2``; ``analyze``; or empty where a file is none of these."""
    try:
        with opened(path) as stream:
            return _magic(stream.read(NIFTI1_BYTES))
    except (OSError, EOFError, zlib.error):
        return ""


def read_header(path: Path) -> Header:
    """The header of ``path``.

    Raises:
        InputError: It is none, contradicts itself, or says what no image can have.
    """
    with opened(path) as stream:
        block = stream.read(NIFTI2_BYTES)
        magic = _magic(block)
        raw = _fields(block, magic)
        shape = _shape(raw)
        single, nifti2 = magic[1] == "+", magic[2] == "2"
        offset = _offset(raw, nifti2)
        if not single and path.name.lower().endswith((".nii", ".nii.gz")):
            # nibabel takes such a file for a single one, and so it is where the voxels follow.
            if offset < FIRST_OFFSET[nifti2]:
                raise InputError(
                    f"the header of a pair (magic {magic!r}): its voxels are in another file; "
                    "name it .hdr, beside its .img"
                )
            single = True
        if single and offset < FIRST_OFFSET[nifti2]:
            raise InputError(
                f"vox_offset {offset}: the voxels cannot begin before byte "
                f"{FIRST_OFFSET[nifti2]}, where the header ends"
            )
        end = offset if single else FIRST_OFFSET[nifti2] + MOST_EXTENSIONS
        behind = FIRST_OFFSET[nifti2] - 4
        rest = block[behind:] + stream.read(max(0, min(end - len(block), MOST_EXTENSIONS)))
        comments = _comments(rest[: max(0, end - behind)], raw.endianness)
    frame = frame_of(raw._structarr, nifti2)
    slope, inter = _scaling(raw)
    where = place(frame, shape)
    about = bytes(raw._structarr["descrip"].tobytes()).rstrip(b"\0").decode(errors="replace")
    return Header(shape, _dtype(raw), offset, slope, inter, where, frame, single, comments, about)


def frame_of(fields: Any, nifti2: bool) -> NiftiFrame:
    """The fields of the geometry as they stand."""
    return NiftiFrame(
        pixdim=tuple(float(v) for v in fields["pixdim"][:4]),
        quaternion=tuple(float(fields[f"quatern_{axis}"]) for axis in "bcd"),
        offset=tuple(float(fields[f"qoffset_{axis}"]) for axis in "xyz"),
        rows=tuple(float(v) for axis in "xyz" for v in fields[f"srow_{axis}"]),
        qform_code=int(fields["qform_code"]),
        sform_code=int(fields["sform_code"]),
        unit=int(fields["xyzt_units"]) & 7,
        nifti2=nifti2,
    )


def put_frame(fields: Any, frame: NiftiFrame) -> None:
    """Write the fields of the geometry as they were found."""
    fields["pixdim"][:4] = frame.pixdim
    for k, axis in enumerate("bcd"):
        fields[f"quatern_{axis}"] = frame.quaternion[k]
    for k, axis in enumerate("xyz"):
        fields[f"qoffset_{axis}"] = frame.offset[k]
        fields[f"srow_{axis}"] = frame.rows[4 * k : 4 * k + 4]
    fields["qform_code"], fields["sform_code"] = frame.qform_code, frame.sform_code
    fields["xyzt_units"] = frame.unit


def _magic(block: bytes) -> str:
    if block[344:347] in (b"n+1", b"ni1"):
        return block[344:347].decode()
    if block[4:7] in (b"n+2", b"ni2"):
        return block[4:7].decode()
    sizes = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    return "analyze" if len(block) >= NIFTI1_BYTES and NIFTI1_BYTES in sizes else ""


def _fields(block: bytes, magic: str) -> Any:
    """nibabel's header of the bytes, unchecked."""
    import nibabel as nib

    if block[:2] == b"\x1f\x8b":
        raise InputError("the file is compressed: its name must end in .gz")
    if magic == "analyze":
        raise InputError(ANALYZE)
    if not magic:
        raise InputError("not a NIfTI file: its header has none of the marks n+1, ni1, n+2, ni2")
    kind = nib.Nifti2Header if magic[2] == "2" else nib.Nifti1Header
    length = NIFTI2_BYTES if magic[2] == "2" else NIFTI1_BYTES
    if len(block) < length:
        raise InputError(f"not a NIfTI file: a header of {len(block)} bytes, expected {length}")
    # The size tells the order of the bytes; where it is wrong, too, nibabel looks at dim[0].
    order = next((o for o in "<>" if np.frombuffer(block, f"{o}i4", 1)[0] == length), None)
    raw: Any = kind(block[:length], order, check=False)
    return raw


def _shape(raw: Any) -> Shape:
    """The axes as stated; lengths of 0 behind the third axis are left out by many writers."""
    count = int(raw._structarr["dim"][0])
    if not 1 <= count <= 7:
        raise InputError(f"dim[0] is {count}: an image has 1 to 7 axes")
    try:
        shape = tuple(int(n) for n in raw.get_data_shape())
    except Exception as error:
        raise InputError(f"dim {raw._structarr['dim'].tolist()}: {error}") from None
    shape = tuple(1 if n == 0 and axis > 2 else n for axis, n in enumerate(shape))
    if min(shape) < 0:
        raise InputError(f"an axis of negative length in the shape {shape}")
    return shape


def _dtype(raw: Any) -> np.dtype:
    code = int(raw._structarr["datatype"])
    try:
        dtype = np.dtype(raw.get_data_dtype())
    except Exception:  # KeyError, HeaderDataError, TypeError, by the release of nibabel
        dtype = np.dtype(np.void)
    if not dtype.itemsize:
        raise InputError(f"datatype {code} is none of NIfTI's types of voxels")
    return dtype


def _offset(raw: Any, nifti2: bool) -> int:
    """Where the voxels begin; NIfTI-1 keeps it as a floating-point number."""
    stated = float(raw._structarr["vox_offset"])
    if not 0 <= stated <= 2**53 or stated != int(stated):
        raise InputError(f"vox_offset {stated:g}: expected a whole number of bytes")
    return int(stated)


def _scaling(raw: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means that there is none (and so for many writers NaN)."""
    slope, inter = (float(raw._structarr[name]) for name in ("scl_slope", "scl_inter"))
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    if not np.isfinite(inter):
        raise InputError(
            f"scl_slope {slope:g} with scl_inter {inter:g}: expected a number (0 for no intercept)"
        )
    return slope, inter


def _comments(rest: bytes, order: str) -> dict[str, str]:
    """Our comments among the extensions, without their beginnings; damage ends the search.

    Args:
        rest: The four bytes that announce extensions, and what follows up to the voxels.
        order: ``<`` or ``>``.
    """
    found: dict[str, str] = {}
    if not rest[:1] or rest[0] == 0:
        return found
    rest = rest[4:]
    while len(rest) >= EXTENSION_STEP:
        size, code = (int(v) for v in np.frombuffer(rest[:8], f"{order}i4"))
        if not 8 <= size <= len(rest):
            break
        text = rest[8:size].rstrip(b"\0 ").decode(errors="replace")
        for beginning in (UNIT_COMMENT, AFFINE_COMMENT):
            if code == COMMENT and text.startswith(beginning):
                found[beginning] = text.removeprefix(beginning)
        rest = rest[size:]
    return found
