"""NIfTI-1 and NIfTI-2: .nii, .nii.gz, and pairs of .hdr and .img."""

from __future__ import annotations

import gzip
import shutil
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from msgan import paths
from msgan.data.formats.companions import lies_beside
from msgan.data.formats.fields import shown
from msgan.data.formats.nifti_header import (
    AFFINE_COMMENT,
    ANALYZE,
    UNIT_COMMENT,
    Header,
    frame_of,
    magic_of,
    put_frame,
    read_header,
)
from msgan.data.formats.nifti_place import apart, place
from msgan.data.formats.stored import DAMAGED, first_line, planar, spatial, with_voxels
from msgan.data.grid import TOLERANCE_MM, Grid
from msgan.data.raw import write_raw
from msgan.data.store import MARKS, Source
from msgan.types import Array, InputError, Reader

__all__ = ["ANALYZE", "SUFFIXES", "pair_of", "read", "write"]

SUFFIXES = (".nii", ".nii.gz")
"""Of files with header and voxels in one."""
PAIR = (".hdr", ".hdr.gz", ".img", ".img.gz")
NIFTI1_LONGEST_AXIS = 32767
ROUNDING_MM = 0.01
"""Numbers of 32 bits round places far from 0 by less."""

SHEAR = 0.1
"""A qform is written where it moves no corner by more than this fraction of a voxel."""


def read(path: Path, suffix: str) -> Source:
    """Header of ``path``; the voxels of uncompressed files stay where they are.

    Of a NIfTI's two transforms the sform counts where its code is not 0, else the qform, else
    the voxel sizes alone (:mod:`.nifti_place`). Scale factors, either byte order and units other
    than mm are honoured. Of a pair, ``path`` is the ``.hdr`` or the ``.img``.

    Raises:
        InputError: The file is no NIfTI, is shorter than its header says, or is 4D or RGB.
    """
    try:
        header_file, voxels = _pair(path) if suffix not in SUFFIXES else (path, path)
        header = read_header(header_file)
    except DAMAGED as error:
        raise InputError(f"not a readable {suffix} file: {first_line(error)}") from error
    if header.single and suffix not in SUFFIXES:
        raise InputError("the header of a single file (magic 'n+1'): name it .nii")
    shape = spatial(header.shape)
    affine = _exact(header)
    grid = Grid(shape, affine if len(shape) == 3 else planar(affine), header.frame)
    source = Source(
        grid,
        header.comments.get(UNIT_COMMENT, "a.u."),
        slope=header.slope,
        inter=header.inter,
        notes=header.place.notes,
        measured=header.place.measured,
        about=header.about,
    )
    return with_voxels(source, voxels, header.dtype, header.offset)


def _exact(header: Header) -> Array:
    """The affine; where our comment tells what the fields have rounded, that."""
    affine = header.place.affine
    try:
        rows = np.array(header.comments.get(AFFINE_COMMENT, "").split(), np.float64)
        exact = np.vstack([rows.reshape(3, 4), [0, 0, 0, 1]])
    except ValueError:
        return affine
    # Somebody may have moved the image since.
    return exact if np.abs(exact - affine).max() <= ROUNDING_MM else affine


def pair_of(path: Path) -> str:
    """``nifti`` or ``analyze`` for the header or the voxels of such a pair; empty for others."""
    name = path.name.lower()
    if not name.endswith(PAIR):
        return ""
    try:
        header = path if name.endswith((".hdr", ".hdr.gz")) else _pair(path)[0]
    except InputError:
        return ""
    magic = magic_of(header)
    return magic if magic in ("", "analyze") else "nifti"


def _pair(path: Path) -> tuple[Path, Path]:
    """Header and voxels of a pair of which one is ``path``."""
    ending = next(e for e in PAIR if path.name.lower().endswith(e))
    stem = path.name[: len(path.name) - len(ending)]
    header = ending.startswith(".hdr")
    wanted = (".img", ".img.gz") if header else (".hdr", ".hdr.gz")
    if ending.endswith(".gz"):
        wanted = wanted[::-1]
    # SPM and FSL differ in the case of suffixes, file systems in whether they care.
    beside = [path.with_name(stem + e) for w in wanted for e in (w, w.upper())]
    other = next((file for file in beside if file.is_file()), None)
    if other is None:
        raise InputError(f"the other half of the pair, {stem}{wanted[0]}, is not in its folder")
    if not lies_beside(path, other):
        raise InputError(
            f"{shown(other.name)}, the other half of the pair, is a link out of its folder: only "
            "files in the header's own folder are read"
        )
    return (path, other) if header else (other, path)


def write(
    path: Path, grid: Grid, read: Reader, unit: str, dtype: np.dtype, about: str = ""
) -> None:
    """Write an image to ``.nii`` or ``.nii.gz``, box by box.

    A grid that was read from a NIfTI is written as it was stated there, with its codes, both
    transforms and the unit, so that every program places the result where it places the source.
    Any other affine goes into the sform, and into the qform where it is free of shear. The file
    is NIfTI-1, which keeps affines in float32: where that is off by more than 1e-5 (origins
    beyond 256 mm), a comment extension has the exact numbers for :func:`read`. Only an axis
    longer than 32767 makes it NIfTI-2, which ITK does not open. A unit other than ``a.u.`` is
    kept in a comment extension, too; ``about`` is the description. Identical input gives
    identical bytes (no time stamp in the gzip header).

    A gzip file can only be written in order, plane after plane, and a reader that keeps chunks
    would read each of them again for nearly every plane. So the voxels go to a file in the
    scratch folder first, by boxes, and are compressed from there.

    Raises:
        InputError: The disk of the scratch folder is full.
    """
    if not path.name.lower().endswith(".gz"):
        with FileIO(path, "wb") as file:
            _write_to(file, grid, read, unit, dtype, about)
        return
    need = prod(grid.shape) * dtype.itemsize
    root = paths.scratch_root()
    with paths.scratch_folder() as folder:
        with (
            paths.room(root, need, "the image before compression (in MSGAN_SCRATCH)"),
            FileIO(folder / "image.nii", "wb") as file,
        ):
            _write_to(file, grid, read, unit, dtype, about)
        with (
            (folder / "image.nii").open("rb") as plain,
            path.open("wb") as out,
            gzip.GzipFile("", "wb", compresslevel=4, fileobj=out, mtime=0) as stream,
        ):
            shutil.copyfileobj(plain, stream, 1 << 20)


def _write_to(
    stream: FileIO, grid: Grid, read: Reader, unit: str, dtype: np.dtype, about: str
) -> None:
    import nibabel as nib

    affine = grid.affine if grid.dims == 3 else _spatial_affine(grid.affine)
    header, rounding = _header(grid, affine)
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header["descrip"] = about.encode()
    if about.startswith(MARKS):
        header["intent_name"] = b"synthetic"
    comments = [UNIT_COMMENT + unit] if unit != "a.u." else []
    if rounding > TOLERANCE_MM:
        comments.append(AFFINE_COMMENT + " ".join(repr(float(v)) for v in affine[:3].ravel()))
    for text in comments:
        header.extensions.append(nib.nifti1.Nifti1Extension("comment", text.encode()))
    header["vox_offset"] = 0  # nibabel then leaves just the room the extensions need
    header.write_to(stream)
    stream.write(bytes(int(header["vox_offset"]) - stream.tell()))
    write_raw(stream, grid.shape, dtype, read)


def _header(grid: Grid, affine: Array) -> tuple[Any, float]:
    """A header with shape and geometry, and by how much at most it rounds the affine (mm)."""
    import nibabel as nib

    short = max(grid.shape) <= NIFTI1_LONGEST_AXIS
    small = short and not (grid.frame is not None and grid.frame.nifti2)
    header: Any = nib.Nifti1Header() if small else nib.Nifti2Header()
    header.set_data_shape(grid.shape)
    if grid.frame is not None:
        put_frame(header, grid.frame)
    else:
        header.set_zooms(grid.spacing)
        header.set_xyzt_units("mm")
        header.set_sform(affine, code="scanner")
        header.set_qform(affine, code="scanner")  # without the shear
        if apart(affine, header.get_qform(), grid.shape) > SHEAR * min(grid.spacing):
            header["qform_code"] = 0
    stated = place(frame_of(header, not small), grid.shape).affine
    return header, float(np.abs(stated - affine).max())


def _spatial_affine(planar: Array) -> Array:
    affine = np.eye(4)
    affine[np.ix_([0, 1, 3], [0, 1, 3])] = planar
    return affine
