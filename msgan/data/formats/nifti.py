"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz) and FreeSurfer's MGH (.mgh, .mgz)."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterator
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from msgan import paths
from msgan.data.grid import TOLERANCE_MM, Grid
from msgan.data.pieces import slabs
from msgan.data.raw import raw_reader, write_raw
from msgan.data.store import Source
from msgan.types import Array, InputError, Reader, Shape

SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz")
COMPRESSED = (".nii.gz", ".mgz")
UNIT_COMMENT = b"msgan unit: "
NIFTI1_LONGEST_AXIS = 32767
DAMAGED = (ValueError, TypeError, KeyError, EOFError, OSError, zlib.error)
"""What nibabel raises where a header is cut short or is none."""
MM = {"meter": 1000.0, "micron": 0.001}


def read(path: Path, suffix: str) -> Source:
    """Header of ``path``; the voxels of uncompressed files stay where they are.

    Without sform and qform codes the affine is nibabel's: voxel sizes only, x flipped, the
    centre of the image at 0. Scale factors, either byte order and units other than mm are
    honoured.

    Raises:
        InputError: The file is no NIfTI or MGH, is shorter than its header says, or is 4D or RGB.
    """
    import nibabel as nib

    nifti = suffix in (".nii", ".nii.gz")
    try:
        if nifti:
            image: Any = nib.load(path)
            if not issubclass(type(image), nib.Nifti1Image):  # CIFTI: surfaces in a NIfTI-2
                raise ValueError(f"{type(image).__name__} holds no volume")
            header, proxy, affine = image.header, image.dataobj, np.array(image.affine)
            slope, inter = float(proxy.slope), float(proxy.inter)
            stored_shape, dtype, offset = proxy.shape, np.dtype(proxy.dtype), int(proxy.offset)
        else:
            with nib.openers.ImageOpener(str(path)) as stream:
                header = nib.freesurfer.mghformat.MGHHeader.from_fileobj(stream)
            affine, slope, inter = header.get_affine(), 1.0, 0.0
            stored_shape, dtype = header.get_data_shape(), np.dtype(header.get_data_dtype())
            offset = int(header.get_data_offset())
    except (*DAMAGED, nib.filebasedimages.ImageFileError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"not a readable {suffix} file: {text}") from error
    shape = _spatial(tuple(int(n) for n in stored_shape))
    if dtype.names:
        raise InputError(f"colour voxels {dtype.names}: expected one value for each voxel")
    if dtype.kind not in "iuf":
        raise InputError(f"voxels of type {dtype}: expected real numbers")
    affine = affine.astype(np.float64)
    unit = "a.u."
    if nifti:
        affine[:3] *= MM.get(header.get_xyzt_units()[0], 1.0)
        unit = _unit(header) or unit
    grid = Grid(shape, affine if len(shape) == 3 else _planar(affine))

    if suffix not in COMPRESSED:
        need, have = offset + prod(shape) * dtype.itemsize, path.stat().st_size
        if have < need:
            raise InputError(f"truncated: {have} bytes, the header promises {need}")
        region = raw_reader(path, dtype, shape, offset)
        return Source(grid, unit, region=region, slope=slope, inter=inter)

    def blocks() -> Iterator[Array]:
        return _unzipped(path, dtype, shape, offset)

    return Source(grid, unit, blocks=blocks, slope=slope, inter=inter)


def write(path: Path, grid: Grid, read: Reader, unit: str, dtype: np.dtype) -> None:
    """Write an image to ``.nii`` or ``.nii.gz``, box by box.

    The affine goes into the sform, and into the qform where it is free of shear. NIfTI-1 keeps
    affines in float32; where that is off by more than 1e-5 (origins beyond 256 mm), or an axis is
    longer than 32767, the file is NIfTI-2. A unit other than ``a.u.`` is kept in a comment
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

    affine = grid.affine if grid.dims == 3 else _spatial_affine(grid.affine)
    rounding = np.abs(affine - affine.astype(np.float32)).max()
    small = rounding <= TOLERANCE_MM and max(grid.shape) <= NIFTI1_LONGEST_AXIS
    header: Any = nib.Nifti1Header() if small else nib.Nifti2Header()
    header.set_data_shape(grid.shape)
    header.set_data_dtype(dtype)
    header.set_zooms(grid.spacing)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header.set_sform(affine, code="scanner")
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(axes.T @ axes, np.eye(3), rtol=0, atol=1e-6):
        header.set_qform(affine, code="scanner")
    if unit != "a.u.":
        comment = nib.nifti1.Nifti1Extension("comment", UNIT_COMMENT + unit.encode())
        header.extensions.append(comment)
    header["vox_offset"] = 0  # nibabel then leaves just the room the extensions need
    header.write_to(stream)
    stream.write(bytes(int(header["vox_offset"]) - stream.tell()))
    write_raw(stream, grid.shape, dtype, read)


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


def _unit(header: Any) -> str | None:
    for extension in header.extensions:
        content = extension.get_content()
        text = content.encode() if isinstance(content, str) else bytes(content)
        if text.startswith(UNIT_COMMENT):
            return text.removeprefix(UNIT_COMMENT).rstrip(b"\0 ").decode()
    return None


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
