"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) through SimpleITK.

SimpleITK holds the whole image in memory while it is unpacked or written: use NIfTI or OME-Zarr
for images larger than that.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from msgan.data.grid import Grid
from msgan.data.store import Source
from msgan.types import Array, Box, InputError, Reader

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
UNIT_KEY = "msgan_unit"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read(path: Path, suffix: str) -> Source:
    """Header of ``path``. 3D affines are turned from ITK's LPS to RAS; 2D arrays are (row, column).

    Raises:
        InputError: The file cannot be read, is 4D or has several values for each voxel.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO" if suffix in (".mha", ".mhd") else "NrrdImageIO")
    reader.SetFileName(str(path))
    _quietly(path, suffix, reader.ReadImageInformation)
    size = reader.GetSize()
    d = len(size)
    while d > 3 and size[d - 1] == 1:
        d -= 1
    if d not in (2, 3):
        raise InputError(f"{d}D image of shape {size}: expected 2 or 3 axes")
    components = reader.GetNumberOfComponents()
    if components != 1:
        raise InputError(f"{components} values for each voxel: expected one")
    axes = np.reshape(reader.GetDirection(), (len(size), len(size)))[:d, :d]
    affine = np.eye(d + 1)
    affine[:d, :d] = axes * np.array(reader.GetSpacing()[:d])
    affine[:d, d] = reader.GetOrigin()[:d]
    affine = LPS_TO_RAS @ affine if d == 3 else _swapped(affine)
    unit = reader.GetMetaData(UNIT_KEY) if reader.HasMetaDataKey(UNIT_KEY) else "a.u."

    def blocks() -> Iterator[Array]:
        image: Any = _quietly(path, suffix, reader.Execute)
        array = sitk.GetArrayViewFromImage(image)
        array = array.reshape(array.shape[array.ndim - d :])
        yield array.T if d == 3 else array

    return Source(Grid(size[:d] if d == 3 else size[1::-1], affine), unit, blocks=blocks)


def write(path: Path, grid: Grid, read: Reader, unit: str, dtype: np.dtype) -> None:
    """Write ``.mha`` or ``.nrrd``, uncompressed; the whole image is held in memory.

    Raises:
        InputError: SimpleITK cannot write the image.
    """
    import SimpleITK as sitk

    array = read(Box.whole(grid.shape))
    d = grid.dims
    affine = LPS_TO_RAS @ grid.affine if d == 3 else _swapped(grid.affine)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T if d == 3 else array))
    spacing = np.linalg.norm(affine[:d, :d], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:d, d].tolist())
    image.SetDirection((affine[:d, :d] / spacing).ravel().tolist())
    if unit != "a.u.":
        image.SetMetaData(UNIT_KEY, unit)
    if shutil.disk_usage(path.parent).free < prod(grid.shape) * dtype.itemsize:
        # SimpleITK does not say why a write fails.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    try:
        sitk.WriteImage(image, str(path))
    except RuntimeError as error:
        raise InputError(f"cannot be written: {_last_line(error)}") from error


def _swapped(affine: Array) -> Array:
    """A 2D affine with (x, y) turned into (row, column), or back."""
    return affine[np.ix_([1, 0, 2], [1, 0, 2])]


def _quietly(path: Path, suffix: str, action: Any) -> Any:
    """Run ``action``; a failure becomes one line instead of ITK's stack of C++ files."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return action()
    except RuntimeError as error:
        raise InputError(
            f"not a readable {suffix} file (damaged, truncated or without its data file): "
            f"{_last_line(error)}"
        ) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # "Reason:" is whatever the system last complained about, most often something else.
    lines = [line for line in lines if not line.startswith("Reason:")]
    return lines[-1].split("): ")[-1] if lines else "unknown error"
