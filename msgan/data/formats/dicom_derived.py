"""Writes a generated image as a DICOM series that says so, slice by slice.

Classic CT or MR Image Storage, so that every viewer shows it as a volume: secondary captures have
no place in the patient.
"""

from __future__ import annotations

import re
from io import FileIO
from math import prod
from pathlib import Path

import numpy as np

from msgan import paths
from msgan.data.formats.dicom_derivation import MOST, Derivation, Extremes, Rescale, axes_of
from msgan.data.formats.dicom_stack import ANGLE_TOLERANCE, TILT_TOLERANCE
from msgan.data.formats.dicom_statement import of_dicom, series_statement, slice_statement
from msgan.data.grid import Grid
from msgan.data.raw import raw_reader, write_raw
from msgan.types import Box, InputError, Reader

OTHER_KINDS = re.compile(r"pet|pt|spect|nm|us|ultrasound|xray|x_ray|cr|dx|mg|mammo", re.IGNORECASE)
"""How modalities begin for which neither CT nor MR Image Storage is right."""


def require_series(grid: Grid, derived: Derivation) -> None:
    """Refuse what no series of slices can hold, before any work.

    Raises:
        InputError: The image has two axes, one slice, sheared axes or too long ones; its modality
            is neither CT nor MR; or an identity is to be kept that the source does not state.
    """
    if len(grid.shape) != 3 or grid.shape[2] < 2:
        raise InputError(
            f"image of shape {grid.shape}: a DICOM series is of 3 axes and at least 2 slices: "
            "choose another format"
        )
    if max(grid.shape) > MOST:
        raise InputError(f"image of shape {grid.shape}: DICOM counts rows and columns to {MOST}")
    if derived.modality == "MR" and OTHER_KINDS.match(derived.target):
        raise InputError(
            f"target {derived.target}: written are CT (results in HU) and MR, and it is neither: "
            "choose another format"
        )
    axes = axes_of(grid)
    cosines, spacing = axes / np.linalg.norm(axes, axis=0), np.linalg.norm(axes, axis=0)
    normal = np.cross(cosines[:, 0], cosines[:, 1])
    shift = np.linalg.norm(axes[:, 2] - normal * (axes[:, 2] @ normal))
    if abs(cosines[:, 0] @ cosines[:, 1]) > ANGLE_TOLERANCE or shift > TILT_TOLERANCE * spacing[2]:
        raise InputError(
            f"affine {np.round(grid.affine, 4).tolist()}: its axes are not at right angles, which "
            "those of a DICOM series are: choose another format"
        )
    if derived.identity and not (derived.source and of_dicom(derived.source)):
        raise InputError(
            f"{derived.source}: is no DICOM and states no patient: there is no identity to keep"
        )


def write(folder: Path, grid: Grid, read: Reader, derived: Derivation) -> Rescale:
    """Write a series to an empty folder, a file for each slice along the third axis.

    Slope and intercept are one for the series and follow from all values. So the image goes to a
    file in the scratch folder first, by boxes, and slices are written from there: a slice is all
    that is in memory.

    Args:
        folder: There already.
        grid: See :func:`require_series`.
        read: Values in the unit of ``derived``.
        derived: What it is.

    Raises:
        InputError: No series can hold it, the source cannot be read, or a disk is full.
    """
    require_series(grid, derived)
    values, kind = Extremes(), np.dtype(np.float32)
    root, need = paths.scratch_root(), prod(grid.shape) * kind.itemsize
    with paths.scratch_folder() as scratch:
        file = scratch / "image.raw"
        with (
            paths.room(root, need, "the image before its slices (in MSGAN_SCRATCH)"),
            FileIO(file, "wb") as stream,
        ):
            write_raw(stream, grid.shape, kind, values.watched(read))
        rescale = Rescale.of(values.low, values.high, derived.unit)
        plane = raw_reader(file, kind, grid.shape)
        base, references = series_statement(grid, derived, rescale, values)
        columns, rows = grid.shape[:2]
        for k in range(grid.shape[2]):
            box = Box((0, 0, k), (columns, rows, 1))
            pixels = rescale.stored(plane(box)[:, :, 0].T)
            data = slice_statement(base, grid, derived, k)
            if references:
                data.SourceImageSequence = [references[k]]
            data.PixelData = pixels.tobytes()
            data["PixelData"].VR = "OW"
            data.save_as(folder / f"{k:05d}.dcm", enforce_file_format=True)
    return rescale
