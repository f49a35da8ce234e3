"""DICOM: a folder with one series, or a single file with one slice.

pydicom reads the headers, SimpleITK (GDCM) decodes and rescales the pixels.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from msgan.data.formats.itk import LPS_TO_RAS
from msgan.data.grid import Grid
from msgan.data.store import Source
from msgan.types import Array, InputError

MAGIC = b"DICM"
TAGS = [
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "SeriesDescription",
    "PatientID",
    "ImageType",
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
]
NO_IMAGES = ("RTDOSE", "RTSTRUCT", "RTPLAN", "SEG", "SR", "PR", "KO", "REG")
GAP_TOLERANCE = 0.05
"""Slice distances may differ from their median by this fraction (headers round positions)."""
MOST_NAMED = 6
"""Series that an error about too many of them names."""
TILT_TOLERANCE = 0.01
"""Sideways shift of the slices for each mm along their normal."""


def is_dicom(path: Path) -> bool:
    """Whether ``path`` starts like a DICOM file."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == MAGIC


def read_series(folder: Path) -> Source:
    """Headers of all DICOM files in ``folder``, which must be one complete series.

    The slices are sorted by their position along the slice normal, never by name or number.

    Raises:
        InputError: No or several series, slices that are missing, doubled, tilted or unlike.
    """
    headers = headers_of(p for p in folder.iterdir() if p.is_file())
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
    for file, header in headers:
        _accept(header, file.name)
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            if not header.get(tag):
                raise InputError(f"{file.name} has no {tag}")
    _alike(headers)

    first = headers[0][1]
    along_row, along_column = np.reshape(_floats(first, "ImageOrientationPatient"), (2, 3))
    normal = np.cross(along_row, along_column)
    if abs(np.linalg.norm(normal) - 1) > 1e-3:
        raise InputError(f"ImageOrientationPatient {first.ImageOrientationPatient} is not a frame")
    positions = np.array([_floats(h, "ImagePositionPatient") for _, h in headers])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    _regular(positions, normal, [headers[i][0].name for i in order])

    row_mm, column_mm = _floats(first, "PixelSpacing")
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_mm  # the first index runs along a row
    affine[:3, 1] = along_column * row_mm
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 3] = positions[0]
    shape = (int(first.Columns), int(first.Rows), len(headers))
    files = [headers[i][0] for i in order]

    def blocks() -> Iterator[Array]:
        for file in files:
            try:
                yield _pixels(file).T[:, :, None]
            except InputError as error:
                raise InputError(f"{file.name}: {error}") from error

    return Source(Grid(shape, LPS_TO_RAS @ affine), _unit(first), blocks=blocks)


def read_file(path: Path) -> Source:
    """A single-slice file (a radiograph, or one slice of a series) as a 2D image.

    Raises:
        InputError: No DICOM image, several frames, or colour.
    """
    if not is_dicom(path):
        raise InputError("not a DICOM file: the DICM mark at byte 128 is missing")
    header = header_of(path)
    _accept(header, "")
    tag = "PixelSpacing" if header.get("PixelSpacing") else "ImagerPixelSpacing"
    spacing = _floats(header, tag) if header.get(tag) else [1.0, 1.0]
    grid = Grid.from_spacing((int(header.Rows), int(header.Columns)), spacing)
    return Source(grid, _unit(header), blocks=lambda: iter([_pixels(path)]))


def headers_of(files: Iterable[Path]) -> list[tuple[Path, Any]]:
    """Those of ``files`` that are DICOM, by path, with the tags that are used here.

    Raises:
        InputError: A header cannot be read.
    """
    found = sorted(f for f in files if f.name != "DICOMDIR" and is_dicom(f))
    return [(file, header_of(file)) for file in found]


def kernel_of(header: Any) -> str:
    """Reconstruction kernel as the scanner calls it (``B20f``); empty where it does not say."""
    value = header.get("ConvolutionKernel") or ""
    parts = [value] if isinstance(value, str) else value  # newer scanners add a strength
    return " ".join(str(part).strip() for part in parts)


def about_of(header: Any) -> str:
    """Description of the series; empty where there is none."""
    return str(header.get("SeriesDescription") or "").strip()


def series_of(header: Any) -> tuple[str, str]:
    """What tells series apart: UID and kernel (tools that rewrite UIDs may give all one)."""
    return str(header.get("SeriesInstanceUID")), kernel_of(header)


def _listed(headers: list[tuple[Path, Any]]) -> str:
    """Sizes of the series in words, with their kernels or else their descriptions."""
    count = Counter(series_of(header) for _, header in headers)
    about = {series_of(header): about_of(header) for _, header in reversed(headers)}
    kernels = [kernel for _, kernel in count]
    names = kernels if len(set(kernels)) == len(kernels) else [about[key] for key in count]
    sizes = [f"{n} slices {x}".strip() for n, x in zip(count.values(), names, strict=True)]
    return ", ".join(sizes[:MOST_NAMED] + ["..."] * (len(sizes) > MOST_NAMED))


def header_of(file: Path, tags: Iterable[str] = TAGS) -> Any:
    """Those of ``tags`` that a DICOM file has; its pixels are not read.

    Raises:
        InputError: The header cannot be read.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values the tags here do not use
            return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(tags))
    except (pydicom.errors.InvalidDicomError, ValueError, EOFError, KeyError) as error:
        raise InputError(f"unreadable DICOM header in {file.name}: {error}") from error


def _accept(header: Any, name: str) -> None:
    """Refuse what is no stack of gray slices; ``name`` is the file in its folder."""
    who = f"{name}: " if name else ""
    modality = header.get("Modality")
    if modality in NO_IMAGES:
        raise InputError(f"{who}DICOM of modality {modality} is not an image")
    if not header.get("Rows") or not header.get("Columns"):
        raise InputError(f"{who}DICOM file without pixels")
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise InputError(f"{who}RGB DICOM: expected one value for each voxel")
    if header.get("PhotometricInterpretation") not in (None, "MONOCHROME2"):
        kind = header.PhotometricInterpretation
        raise InputError(f"{who}DICOM with {kind} pixels: expected MONOCHROME2")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise InputError(
            f"{who}multi-frame DICOM ({frames} frames): convert it to NIfTI (dcm2niix) first"
        )


def _alike(headers: list[tuple[Path, Any]]) -> None:
    name, first = headers[0][0].name, headers[0][1]
    for file, header in headers[1:]:
        for tag in ("Rows", "Columns", "Modality"):
            if header.get(tag) != first.get(tag):
                values = f"{first.get(tag)} and {header.get(tag)}"
                raise InputError(f"slices {name} and {file.name} differ in {tag}: {values}")
        for tag in ("PixelSpacing", "ImageOrientationPatient"):
            if not np.allclose(_floats(header, tag), _floats(first, tag), rtol=0, atol=1e-4):
                values = f"{list(first[tag])} and {list(header[tag])}"
                raise InputError(f"slices {name} and {file.name} differ in {tag}: {values}")


def _regular(positions: Array, normal: Array, names: list[str]) -> None:
    """Refuse slices that do not lie on a straight line along the normal at equal distances."""
    gaps = np.diff(positions @ normal)
    typical = float(np.median(gaps))
    if (same := int(gaps.argmin())) >= 0 and gaps[same] < 1e-3:
        raise InputError(f"slices {names[same]} and {names[same + 1]} have the same position")
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


def _pixels(file: Path) -> Array:
    """The rescaled (rows, columns) pixels of one slice, float32."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        # Slices of one series may have different rescale factors, hence different types.
        return sitk.GetArrayFromImage(reader.Execute()).squeeze(0).astype(np.float32)
    except RuntimeError as error:
        raise InputError("DICOM pixels cannot be decoded: truncated or damaged file") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _floats(header: Any, tag: str) -> list[float]:
    return [float(v) for v in header[tag].value]


def _unit(header: Any) -> str:
    return "HU" if header.get("Modality") == "CT" else "a.u."
