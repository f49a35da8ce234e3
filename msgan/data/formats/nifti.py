"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz, .hdr with .img) and FreeSurfer's MGH (.mgh, .mgz)."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from msgan import paths
from msgan.data.formats.nifti_header import (
    ANALYZE,
    UNIT_COMMENT,
    magic_of,
    put_frame,
    read_header,
)
from msgan.data.formats.nifti_place import apart
from msgan.data.grid import TOLERANCE_MM, Grid
from msgan.data.pieces import slabs
from msgan.data.raw import raw_reader, write_raw
from msgan.data.store import Source
from msgan.types import Array, InputError, Reader, Shape

__all__ = ["ANALYZE", "SUFFIXES", "pair_of", "read", "write"]

SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz")
PAIR = (".hdr", ".hdr.gz", ".img", ".img.gz")
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
"""What reading a gzip file raises that is cut short or none."""

NIFTI1_LONGEST_AXIS = 32767
SHEAR = 0.1
"""A qform is written where it moves no corner by more than this fraction of a voxel."""


def read(path: Path, suffix: str) -> Source:
    """Header of ``path``; the voxels of uncompressed files stay where they are.

    Of a NIfTI's two transforms the sform counts where its code is not 0, else the qform, else
    the voxel sizes alone (:mod:`.nifti_place`). Scale factors, either byte order and units other
    than mm are honoured. Of a pair, ``path`` is the ``.hdr`` or the ``.img``.

    Raises:
        InputError: The file is no NIfTI or MGH, is shorter than its header says, or is 4D or RGB.
    """
    try:
        if suffix in (".mgh", ".mgz"):
            return _mgh(path, suffix)
        header_file, voxels = _pair(path) if suffix not in SUFFIXES else (path, path)
        header = read_header(header_file)
    except DAMAGED as error:
        raise InputError(f"not a readable {suffix} file: {first_line(error)}") from error
    if header.single and suffix not in SUFFIXES:
        raise InputError("the header of a single file (magic 'n+1'): name it .nii")
    shape = _spatial(header.shape)
    affine = header.place.affine
    grid = Grid(shape, affine if len(shape) == 3 else _planar(affine), header.frame)
    source = Source(
        grid,
        header.unit or "a.u.",
        slope=header.slope,
        inter=header.inter,
        notes=header.place.notes,
        measured=header.place.measured,
    )
    return _with_voxels(source, voxels, header.dtype, header.offset)


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
    return (path, other) if header else (other, path)


def _mgh(path: Path, suffix: str) -> Source:
    """A file of FreeSurfer."""
    import nibabel as nib

    try:
        with nib.openers.ImageOpener(str(path)) as stream:
            header: Any = nib.freesurfer.mghformat.MGHHeader.from_fileobj(stream)
        affine = np.array(header.get_affine(), np.float64)
        shape, dtype = header.get_data_shape(), np.dtype(header.get_data_dtype())
        offset, oriented = int(header.get_data_offset()), int(header["goodRASFlag"]) == 1
    except Exception as error:  # nibabel raises what it likes for damaged files
        raise InputError(f"not a readable {suffix} file: {first_line(error)}") from error
    shape = _spatial(tuple(int(n) for n in shape))
    if min(shape) < 1:
        raise InputError(f"an axis without voxels in the shape {shape}")
    notes = () if oriented else ("states no orientation (goodRASFlag is 0): FreeSurfer's is taken",)
    grid = Grid(shape, affine if len(shape) == 3 else _planar(affine))
    return _with_voxels(Source(grid, notes=notes), path, dtype, offset)


def _with_voxels(source: Source, file: Path, dtype: np.dtype, offset: int) -> Source:
    """``source`` with the way to its voxels."""
    shape = source.grid.shape
    if dtype.names:
        raise InputError(f"colour voxels {dtype.names}: expected one value for each voxel")
    if dtype.kind not in "iuf":
        raise InputError(f"voxels of type {dtype}: expected real numbers")
    if not file.name.lower().endswith((".gz", ".mgz")):
        need, have = offset + prod(shape) * dtype.itemsize, file.stat().st_size
        if have < need:
            raise InputError(f"truncated: {have} bytes, the header promises {need}")
        return replace(source, region=raw_reader(file, dtype, shape, offset))

    def blocks() -> Iterator[Array]:
        return _unzipped(file, dtype, shape, offset)

    return replace(source, blocks=blocks)


def write(path: Path, grid: Grid, read: Reader, unit: str, dtype: np.dtype) -> None:
    """Write an image to ``.nii`` or ``.nii.gz``, box by box.

    A grid that was read from a NIfTI is written as it was stated there, with its codes, both
    transforms and the unit, so that every program places the result where it places the source.
    Any other affine goes into the sform, and into the qform where it is free of shear. NIfTI-1
    keeps affines in float32; where that is off by more than 1e-5 (origins beyond 256 mm), or an
    axis is longer than 32767, the file is NIfTI-2. A unit other than ``a.u.`` is kept in a comment
    extension. Identical input gives identical bytes (no time stamp in the gzip header).

    A gzip file can only be written in order, plane after plane, and a reader that keeps chunks
    would read each of them again for nearly every plane. So the voxels go to a file in the
    scratch folder first, by boxes, and are compressed from there.

    Raises:
        InputError: The disk of the scratch folder is full.
    """
    if not path.name.lower().endswith(".gz"):
        with FileIO(path, "wb") as file:
            _write_to(file, grid, read, unit, dtype)
        return
    need = prod(grid.shape) * dtype.itemsize
    root = paths.scratch_root()
    with paths.scratch_folder() as folder:
        with (
            paths.room(root, need, "the image before compression (in MSGAN_SCRATCH)"),
            FileIO(folder / "image.nii", "wb") as file,
        ):
            _write_to(file, grid, read, unit, dtype)
        with (
            (folder / "image.nii").open("rb") as plain,
            path.open("wb") as out,
            gzip.GzipFile("", "wb", compresslevel=4, fileobj=out, mtime=0) as stream,
        ):
            shutil.copyfileobj(plain, stream, 1 << 20)


def _write_to(stream: FileIO, grid: Grid, read: Reader, unit: str, dtype: np.dtype) -> None:
    import nibabel as nib

    header = _header(grid)
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    if unit != "a.u.":
        comment = nib.nifti1.Nifti1Extension("comment", UNIT_COMMENT + unit.encode())
        header.extensions.append(comment)
    header["vox_offset"] = 0  # nibabel then leaves just the room the extensions need
    header.write_to(stream)
    stream.write(bytes(int(header["vox_offset"]) - stream.tell()))
    write_raw(stream, grid.shape, dtype, read)


def _header(grid: Grid) -> Any:
    """A header with shape and geometry."""
    import nibabel as nib

    affine = grid.affine if grid.dims == 3 else _spatial_affine(grid.affine)
    if grid.frame is not None:
        small = not grid.frame.nifti2
    else:
        small = bool(np.abs(affine - affine.astype(np.float32)).max() <= TOLERANCE_MM)
    small = small and max(grid.shape) <= NIFTI1_LONGEST_AXIS
    header: Any = nib.Nifti1Header() if small else nib.Nifti2Header()
    header.set_data_shape(grid.shape)
    if grid.frame is not None:
        put_frame(header, grid.frame)
        return header
    header.set_zooms(grid.spacing)
    header.set_xyzt_units("mm")
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")  # without the shear
    if apart(affine, header.get_qform(), grid.shape) > SHEAR * min(grid.spacing):
        header["qform_code"] = 0
    return header


def _spatial(shape: Shape) -> Shape:
    """``shape`` without trailing axes of length 1 beyond the third."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3):
        raise InputError(f"{len(shape)}D image of shape {shape}: expected 3 axes")
    return shape


def _planar(affine: Array) -> Array:
    """The (3, 3) affine of an image of two axes."""
    if np.abs(affine[2, :2]).max() > TOLERANCE_MM:
        raise InputError(f"a 2D image outside the plane of the first two axes: {affine.tolist()}")
    return affine[np.ix_([0, 1, 3], [0, 1, 3])]


def _spatial_affine(planar: Array) -> Array:
    affine = np.eye(4)
    affine[np.ix_([0, 1, 3], [0, 1, 3])] = planar
    return affine


def _unzipped(path: Path, dtype: np.dtype, shape: Shape, offset: int) -> Iterator[Array]:
    """Stored values of a gzip file in slabs; the checksum at its end is verified."""
    try:
        with gzip.open(path, "rb") as stream:
            stream.read(offset)
            for box in slabs(shape, dtype.itemsize):
                block = stream.read(box.voxels * dtype.itemsize)
                if len(block) < box.voxels * dtype.itemsize:
                    raise InputError("truncated: fewer voxels than the header promises")
                yield np.frombuffer(block, dtype).reshape(box.size, order="F")
            while stream.read(1 << 20):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"damaged or truncated gzip file: {error}") from error


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
