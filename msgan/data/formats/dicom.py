"""DICOM: a folder with one series, or a single file with one slice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from msgan.data.formats.dicom_header import (
    APART,
    DIRECTORY,
    TAGS,
    Header,
    about_of,
    header_of,
    is_dicom,
    kernel_of,
    kinds_of,
    number,
    numbers,
    series_number,
    series_of,
    whole,
)
from msgan.data.formats.dicom_packed import require_syntax
from msgan.data.formats.dicom_pixels import Stored, mirror_of, scaling, stored_in, unit_of
from msgan.data.formats.itk import LPS_TO_RAS
from msgan.data.grid import Grid
from msgan.data.store import Source
from msgan.types import Array, InputError

__all__ = [
    "NO_IMAGES",
    "TAGS",
    "about_of",
    "header_of",
    "headers_of",
    "is_dicom",
    "kernel_of",
    "kinds_of",
    "number",
    "read_file",
    "read_series",
    "series_number",
    "series_of",
    "unit_of",
]

NO_IMAGES = ("RTDOSE", "RTSTRUCT", "RTPLAN", "SEG", "SR", "PR", "KO", "REG")
"""Modalities of DICOM files that hold no image."""
ENHANCED = ("2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "128.1", "130")
"""Ends of the SOP classes that keep spacing and rescale of each frame in tables of their own."""

NO_MARK = "not a DICOM file: the DICM mark at byte 128 is missing"
GAP_TOLERANCE = 0.05
"""Slice distances may differ from their median by this fraction (headers round positions)."""
MOST_NAMED = 6
"""Series that an error about too many of them names."""
TILT_TOLERANCE = 0.01
"""Sideways shift of the slices for each mm along their normal."""
ANGLE_TOLERANCE = 1e-3
"""Cosines may be off by this much (headers round them)."""
SAME_MM = 1e-3
"""Slices closer than this lie at one position."""


def read_series(folder: Path) -> Source:
    """Headers of all DICOM files in ``folder``, which must be one complete series.

    The slices are sorted by their position along the slice normal, never by name or number.
    Localizers and what holds no image (reports, plans) are passed over beside a series.

    Raises:
        InputError: No or several series, slices that are missing, doubled, tilted or unlike, or
            rescaled only in part.
    """
    headers, passed = _slices(headers_of(p for p in folder.iterdir() if p.is_file()))
    if not headers:
        raise InputError("no DICOM files in this folder")
    series = {series_of(header) for _, header in headers}
    if len(series) > 1:
        raise InputError(
            f"{len(series)} DICOM series in one folder ({_listed(headers)}): expected one; "
            "`msgan data sort` gives each a folder of its own"
        )
    if len(headers) == 1:
        return read_file(headers[0][0])
    along, across = [], []
    for file, header in headers:
        try:
            _accept(header)
            along.append(numbers(header, "ImagePositionPatient", 3))
            across.append(numbers(header, "ImageOrientationPatient", 6) + _spacing(header))
        except InputError as error:
            raise InputError(f"{file.name}: {error}") from error
    _alike(headers, across)
    first, cosines = headers[0][1], np.reshape(across[0][:6], (2, 3))
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > ANGLE_TOLERANCE:
        raise InputError(f"ImageOrientationPatient {across[0][:6]} is not a frame")
    along_row, along_column = cosines
    normal = np.cross(along_row, along_column)
    positions = np.array(along)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    headers = [headers[i] for i in order]
    _regular(positions, normal, headers)

    row_mm, column_mm = across[0][6:]
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_mm  # the first index runs along a row
    affine[:3, 1] = along_column * row_mm
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 3] = positions[0]
    shape = (whole(first, "Columns"), whole(first, "Rows"), len(headers))
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

    grid = Grid(shape, LPS_TO_RAS @ affine)
    return Source(grid, unit_of(first), blocks=blocks, notes=(*notes, *_remarks(first)))


def read_file(path: Path) -> Source:
    """A single-slice file (a radiograph, or one slice of a series) as a 2D image.

    Raises:
        InputError: No DICOM image, several frames, or colour.
    """
    if not is_dicom(path):
        raise InputError(NO_MARK)
    header = header_of(path)
    _accept(header)
    tag = "PixelSpacing" if header.get("PixelSpacing") else "ImagerPixelSpacing"
    spacing = _spacing(header, tag) if header.get(tag) else [1.0, 1.0]
    grid = Grid.from_spacing((whole(header, "Rows"), whole(header, "Columns")), spacing)

    def blocks() -> Iterator[Array]:
        stored = stored_in(path)
        dark = header.get("PhotometricInterpretation") == "MONOCHROME1"
        yield stored.shown(mirror_of(*stored.ends) if dark else None)

    notes = () if header.get(tag) else ("no PixelSpacing: pixels are taken to be 1 mm",)
    return Source(grid, unit_of(header), blocks=blocks, notes=(*notes, *_remarks(header)))


def headers_of(files: Iterable[Path]) -> list[tuple[Path, Header]]:
    """Those of ``files`` that are DICOM, by path, with the tags that are used here.

    Raises:
        InputError: A header cannot be read.
    """
    dicom = sorted(f for f in files if f.name.upper() != "DICOMDIR" and is_dicom(f))
    headers = [(file, header_of(file)) for file in dicom]
    return [(file, h) for file, h in headers if h.get("SOPClassUID") != DIRECTORY]


def _slices(headers: list[tuple[Path, Header]]) -> tuple[list[tuple[Path, Header]], list[str]]:
    """The files that hold slices, and the names of others; all files where none does."""

    def is_slice(header: Header) -> bool:
        image = header.get("Modality") not in NO_IMAGES and bool(header.get("Rows"))
        return image and "LOCALIZER" not in kinds_of(header)

    slices = [(file, header) for file, header in headers if is_slice(header)]
    if not slices:
        return headers, []
    return slices, [file.name for file, header in headers if not is_slice(header)]


def _listed(headers: list[tuple[Path, Header]]) -> str:
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


def _spacing(header: Header, tag: str = "PixelSpacing") -> list[float]:
    spacing = numbers(header, tag, 2)
    if min(spacing) <= 0:
        raise InputError(f"{tag} is {spacing}: expected two sizes above 0")
    return spacing


def _accept(header: Header) -> None:
    """Refuse what is no gray slice that can be decoded."""
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
    frames = whole(header, "NumberOfFrames", 1)
    enhanced = header.get("SOPClassUID") in [f"1.2.840.10008.5.1.4.1.1.{n}" for n in ENHANCED]
    if "MOSAIC" in kinds_of(header):
        raise InputError("a mosaic of all slices in one: convert it to NIfTI (dcm2niix) first")
    if enhanced and frames == 1:
        raise InputError("enhanced DICOM: convert it to NIfTI (dcm2niix) first")
    if frames != 1:
        raise InputError(
            f"multi-frame DICOM ({frames} frames): convert it to NIfTI (dcm2niix) first"
        )
    for tag in ("Rows", "Columns"):
        if whole(header, tag) < 1:
            raise InputError(f"{tag} {header.get(tag)}: expected at least 1")
    require_syntax(header.syntax)
    scaling(header)


def _remarks(header: Header) -> tuple[str, ...]:
    """What the unit of a CT follows from, where that is not HU."""
    if header.get("Modality") != "CT" or unit_of(header) == "HU":
        return ()
    if header.get("RescaleIntercept") is None:
        return ("CT without RescaleIntercept: values are as they are stored, not in HU",)
    return (f"CT with RescaleType {header.get('RescaleType')}: values are not in HU",)


def _alike(headers: list[tuple[Path, Header]], across: list[list[float]]) -> None:
    """Refuse slices that cannot be of one image."""
    name, first = headers[0][0].name, headers[0][1]
    for (file, header), own in zip(headers[1:], across[1:], strict=True):
        who = f"slices {name} and {file.name} differ in"
        usual = {"PhotometricInterpretation": "MONOCHROME2"}
        usual["RescaleType"] = "HU" if first.get("Modality") == "CT" else "US"
        for tag in ("Rows", "Columns", "Modality", *usual):
            pair = [h.get(tag, usual.get(tag)) for h in (first, header)]
            if pair[0] != pair[1]:
                raise InputError(f"{who} {tag}: {pair[0]} and {pair[1]}")
        for tag in ("RescaleSlope", "RescaleIntercept"):
            with_it, without = (file.name, name) if first.get(tag) is None else (name, file.name)
            if (header.get(tag) is None) != (first.get(tag) is None):
                raise InputError(
                    f"{without} has no {tag}, {with_it} has: values would be of two units"
                )
        parts = (("ImageOrientationPatient", slice(6)), ("PixelSpacing", slice(6, None)))
        for tag, part in parts:
            if not np.allclose(own[part], across[0][part], rtol=0, atol=1e-4):
                raise InputError(f"{who} {tag}: {across[0][part]} and {own[part]}")


def _regular(positions: Array, normal: Array, headers: list[tuple[Path, Header]]) -> None:
    """Refuse slices that do not lie on a straight line along the normal at equal distances."""
    names = [file.name for file, _ in headers]
    places = positions @ normal
    gaps = np.diff(places)
    typical = float(np.median(gaps))
    if gaps[same := int(gaps.argmin())] < SAME_MM:
        raise InputError(
            f"slices {names[same]} and {names[same + 1]} have the same position"
            + _volumes(places, headers)
        )
    worst = int(np.abs(gaps - typical).argmax())
    if abs(gaps[worst] - typical) > GAP_TOLERANCE * typical:
        raise InputError(
            f"missing slices or irregular positions: {gaps[worst]:.4g} mm between "
            f"{names[worst]} and {names[worst + 1]}, {typical:.4g} mm elsewhere"
        )
    steps = np.diff(positions, axis=0)
    shift = float(np.linalg.norm(steps - np.outer(gaps, normal), axis=1).max())
    if shift > TILT_TOLERANCE * typical:
        angle = np.degrees(np.arctan2(shift, typical))
        raise InputError(f"gantry tilt of {angle:.1f} degrees: slices shift by {shift:.3g} mm each")


def _volumes(places: Array, headers: list[tuple[Path, Header]]) -> str:
    """What tells volumes of one series apart, in words."""
    if len({header.get("SOPInstanceUID") for _, header in headers}) < len(headers):
        return ": a slice is there twice"
    for tag in APART:
        volumes: dict[str, list[float]] = defaultdict(list)
        for place, (_, header) in zip(places, headers, strict=True):
            volumes[str(header.get(tag))].append(place)
        once = all(np.diff(own).min(initial=np.inf) >= SAME_MM for own in volumes.values())
        if len(volumes) > 1 and once and len(volumes) < len(places):
            values = ", ".join([*volumes][:MOST_NAMED] + ["..."] * (len(volumes) > MOST_NAMED))
            return (
                f": {len(volumes)} volumes in one series, which differ in {tag} ({values}): "
                "give each a folder of its own"
            )
    return ": several volumes in one series"


def _stored(file: Path) -> Stored:
    try:
        return stored_in(file)
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from error
