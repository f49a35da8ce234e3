"""DICOM: a folder with one series, or a file with one slice or all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgan.data.formats import dicom_enhanced
from msgan.data.formats.dicom_header import (
    DIRECTORY,
    TAGS,
    Header,
    about_of,
    header_of,
    is_dicom,
    kernel_of,
    kinds_of,
    number,
    series_number,
    series_of,
    whole,
)
from msgan.data.formats.dicom_packed import require_syntax
from msgan.data.formats.dicom_pixels import Stored, mirror_of, scaling, stored_in, unit_of
from msgan.data.formats.dicom_stack import Slice, spacing_of, stacked, turned
from msgan.data.grid import Grid
from msgan.data.store import MARKS, Source
from msgan.types import Array, InputError

__all__ = [
    "NO_IMAGES",
    "TAGS",
    "about_of",
    "header_of",
    "headers_of",
    "image_header",
    "is_dicom",
    "kernel_of",
    "kinds_of",
    "mark_of",
    "number",
    "read_file",
    "read_series",
    "series_number",
    "series_of",
    "slices_of",
    "unit_of",
]

NO_IMAGES = ("RTDOSE", "RTSTRUCT", "RTPLAN", "SEG", "SR", "PR", "KO", "REG")
"""Modalities of DICOM files that hold no image."""
ENHANCED = ("2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "128.1", "130")
"""Ends of the SOP classes that keep spacing and rescale of each frame in tables of their own."""

MARK_END = "; "
"""What the mark of a generated series ends with, in its DerivationDescription."""

NO_MARK = "not a DICOM file: the DICM mark at byte 128 is missing"
MOST_NAMED = 6
"""Series that an error about too many of them names."""


def read_series(folder: Path) -> Source:
    """Headers of all DICOM files in ``folder``, which must be one complete series.

    The slices are sorted by their position along the slice normal, never by name or number. A
    series that was generated has the direction of its source, which its numbers tell.
    Localizers and what holds no image (reports, plans) are passed over beside a series.

    Raises:
        InputError: No or several series, slices that are missing, doubled, tilted or unlike, or
            rescaled only in part.
    """
    headers, passed = _members(folder)
    if len(headers) == 1:
        return read_file(headers[0][0])
    grid, headers = _stacked(headers)
    first = headers[0][1]
    files = [file for file, _ in headers]
    dark = first.get("PhotometricInterpretation") == "MONOCHROME1"
    notes = [f"{len(passed)} files hold no slice of it, as {passed[0]}"] if passed else []

    def blocks() -> Iterator[Array]:
        mirror = None
        if dark:  # about what slices are inverted follows from all of them
            ends = [_stored(file).ends for file in files]
            mirror = mirror_of(min(e[0] for e in ends), max(e[1] for e in ends))
        for file in files:
            yield _stored(file).shown(mirror).T[:, :, None]

    told = (*notes, *_remarks(first))
    return Source(grid, unit_of(first), blocks=blocks, notes=told, about=mark_of(first))


def slices_of(path: Path) -> list[Slice]:
    """File and tags of each slice of a series, along the third axis of its image.

    Raises:
        InputError: See :func:`read_series`.
    """
    headers, _ = _members(path) if path.is_dir() else ([(path, header_of(path))], [])
    if len(headers) > 1:
        return _stacked(headers)[1]
    return dicom_enhanced.stack_of(headers[0][0])[1] if _of_frames(headers[0][1]) else headers


def _members(folder: Path) -> tuple[list[Slice], list[str]]:
    """The slices of the one series in a folder, by path, and the names of other files."""
    headers, passed = _slices(headers_of(p for p in folder.iterdir() if p.is_file()))
    if not headers:
        raise InputError("no DICOM files in this folder")
    series = {series_of(header) for _, header in headers}
    if len(series) > 1:
        raise InputError(
            f"{len(series)} DICOM series in one folder ({_listed(headers)}): expected one; "
            "`msgan data sort` gives each a folder of its own"
        )
    return headers, passed


def _stacked(headers: list[Slice]) -> tuple[Grid, list[Slice]]:
    """The grid of several slices, and the slices in the order of its third axis."""
    for file, header in headers:
        if _of_frames(header):
            raise InputError(
                f"{file.name}: all slices of an image ({header.get('NumberOfFrames')} frames) "
                "beside other files: give it a folder of its own"
            )
        try:
            _accept(header)
        except InputError as error:
            raise InputError(f"{file.name}: {error}") from error
    grid, slices = stacked(headers)
    ends = [number(slices[k][1], "InstanceNumber") or 0 for k in (0, -1)]
    return turned(grid, slices) if mark_of(slices[0][1]) and ends[0] > ends[1] else (grid, slices)


def read_file(path: Path) -> Source:
    """A single-slice file (a radiograph, or one slice of a series) as a 2D image.

    Enhanced CT and MR with several frames are images of 3 axes.

    Raises:
        InputError: No DICOM image, several frames of another kind or of several volumes, or colour.
    """
    if not is_dicom(path):
        raise InputError(NO_MARK)
    header = header_of(path)
    if _of_frames(header):
        return _read_frames(path)
    _accept(header)
    tag = "PixelSpacing" if header.get("PixelSpacing") else "ImagerPixelSpacing"
    spacing = spacing_of(header, tag) if header.get(tag) else [1.0, 1.0]
    grid = Grid.from_spacing((whole(header, "Rows"), whole(header, "Columns")), spacing)

    def blocks() -> Iterator[Array]:
        stored = stored_in(path)
        dark = header.get("PhotometricInterpretation") == "MONOCHROME1"
        yield stored.shown(mirror_of(*stored.ends) if dark else None)

    notes = () if header.get(tag) else ("no PixelSpacing: pixels are taken to be 1 mm",)
    told = (*notes, *_remarks(header))
    return Source(grid, unit_of(header), blocks=blocks, notes=told, about=mark_of(header))


def _of_frames(header: Header) -> bool:
    return dicom_enhanced.is_enhanced(header) and whole(header, "NumberOfFrames") > 1


def _read_frames(path: Path) -> Source:
    """An enhanced file; its frames are sorted by their position along their normal."""
    grid, frames = dicom_enhanced.stack_of(path)
    headers = [header for _, header in frames]
    for header in headers:
        _accept(header, frames=True)
    first = headers[0]
    dark = first.get("PhotometricInterpretation") == "MONOCHROME1"

    def blocks() -> Iterator[Array]:
        with dicom_enhanced.frame_reader(path, first) as read:
            mirror = None
            if dark:
                ends = [read(header).ends for header in headers]
                mirror = mirror_of(min(e[0] for e in ends), max(e[1] for e in ends))
            for header in headers:
                yield read(header).shown(mirror).T[:, :, None]

    return Source(grid, unit_of(first), blocks=blocks, notes=_remarks(first), about=mark_of(first))


def image_header(file: Path, tags: Iterable[str] = TAGS) -> Header:
    """The tags of a file, as of an enhanced one those that its first frame has in tables.

    Raises:
        InputError: The header cannot be read.
    """
    header = header_of(file, tags)
    if not _of_frames(header):
        return header
    first = dicom_enhanced.frames_of(file)[0][1]
    return Header({**header.tags, **first.tags}, header.syntax)


def headers_of(files: Iterable[Path]) -> list[Slice]:
    """Those of ``files`` that are DICOM, by path, with the tags that are used here.

    Raises:
        InputError: A header cannot be read.
    """
    dicom = sorted(f for f in files if f.name.upper() != "DICOMDIR" and is_dicom(f))
    headers = [(file, header_of(file)) for file in dicom]
    return [(file, h) for file, h in headers if h.get("SOPClassUID") != DIRECTORY]


def _slices(headers: list[Slice]) -> tuple[list[Slice], list[str]]:
    """The files that hold slices, and the names of others; all files where none does."""

    def is_slice(header: Header) -> bool:
        image = header.get("Modality") not in NO_IMAGES and bool(header.get("Rows"))
        return image and "LOCALIZER" not in kinds_of(header)

    slices = [(file, header) for file, header in headers if is_slice(header)]
    if not slices:
        return headers, []
    return slices, [file.name for file, header in headers if not is_slice(header)]


def _listed(headers: list[Slice]) -> str:
    """Sizes of the series in words, with their kernels or else their numbers.

    Descriptions are not told: people write names into them.
    """
    count = Counter(series_of(header) for _, header in headers)
    numbered = {series_of(header): series_number(header) for _, header in reversed(headers)}
    kernels = [kernel for _, kernel in count]
    if len(set(kernels)) == len(kernels):
        names = kernels
    else:
        names = [f"of series {numbered[key]}" if numbered[key] else "" for key in count]
    sizes = [f"{n} slices {x}".strip() for n, x in zip(count.values(), names, strict=True)]
    return ", ".join(sizes[:MOST_NAMED] + ["..."] * (len(sizes) > MOST_NAMED))


def _accept(header: Header, *, frames: bool = False) -> None:
    """Refuse what is no gray slice that can be decoded; ``frames``: it is one of many."""
    modality = header.get("Modality")
    if modality in NO_IMAGES:
        raise InputError(f"DICOM of modality {modality} is not an image")
    if not header.get("Rows") or not header.get("Columns"):
        raise InputError("DICOM file without pixels")
    if whole(header, "SamplesPerPixel", 1) != 1:
        raise InputError("RGB DICOM: expected one value for each voxel")
    kind = header.get("PhotometricInterpretation")
    if kind not in (None, "MONOCHROME1", "MONOCHROME2"):
        raise InputError(f"DICOM with {kind} pixels: expected MONOCHROME1 or MONOCHROME2")
    count = 1 if frames else whole(header, "NumberOfFrames", 1)
    enhanced = header.get("SOPClassUID") in [f"1.2.840.10008.5.1.4.1.1.{n}" for n in ENHANCED]
    if "MOSAIC" in kinds_of(header):
        raise InputError("a mosaic of all slices in one: convert it to NIfTI (dcm2niix) first")
    if enhanced and count == 1 and not frames:
        raise InputError("enhanced DICOM: convert it to NIfTI (dcm2niix) first")
    if count != 1:
        raise InputError(
            f"multi-frame DICOM ({count} frames): convert it to NIfTI (dcm2niix) first"
        )
    for tag in ("Rows", "Columns"):
        if whole(header, tag) < 1:
            raise InputError(f"{tag} {header.get(tag)}: expected at least 1")
    require_syntax(header.syntax)
    scaling(header)


def mark_of(header: Header) -> str:
    """What a series that was generated by msgan says of itself; empty for any other."""
    text = str(header.get("DerivationDescription") or "")
    return text.partition(MARK_END)[0] if text.startswith(MARKS) else ""


def _remarks(header: Header) -> tuple[str, ...]:
    """What the unit of a CT follows from, where that is not HU."""
    if header.get("Modality") != "CT" or unit_of(header) == "HU":
        return ()
    if header.get("RescaleIntercept") is None:
        return ("CT without RescaleIntercept: values are as they are stored, not in HU",)
    return (f"CT with RescaleType {header.get('RescaleType')}: values are not in HU",)


def _stored(file: Path) -> Stored:
    try:
        return stored_in(file)
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from error
