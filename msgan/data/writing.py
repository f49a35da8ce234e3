"""Writes images region by region where the format allows; a file is complete or absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from msgan import paths
from msgan.data.formats import dicom_derived, itk, nifti, omezarr, picture
from msgan.data.formats.dicom_derivation import Derivation
from msgan.data.grid import Grid
from msgan.data.places import require_kind, writing
from msgan.data.store import description, named, suffix_of
from msgan.types import Array, Box, InputError, Reader

WRITERS: dict[str, Callable[[Path, Grid, Reader, str, np.dtype, str], None]] = {
    ".nii": nifti.write,
    ".nii.gz": nifti.write,
    ".mha": itk.write,
    ".nrrd": itk.write,
    ".zarr": omezarr.write,
    ".png": picture.write,
    ".tif": picture.write,
    ".tiff": picture.write,
}
COMPRESSED = (".nii.gz", ".zarr", ".png")


def write_volume(
    path: str | os.PathLike[str],
    grid: Grid,
    read: Reader,
    *,
    unit: str = "a.u.",
    dtype: DTypeLike = np.float32,
    generated: bool | str = False,
    ready: Callable[[], None] | None = None,
) -> None:
    """Write the image that ``read`` gives, box by box; ``path`` appears only when complete.

    A file of that name is replaced.

    ``read`` is asked for boxes of at most 8 MiB that are multiples of 64 voxels wide where they
    can be (:func:`msgan.data.pieces.pieces`). ``.nii.gz`` is compressed from a file in the scratch
    folder, so that it is read alike. Pictures are held in memory. Integer types are rounded,
    never clipped.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.mha``, ``.nrrd``, ``.zarr``; in 2D ``.png``, ``.tif``, too.
        grid: Shape and affine.
        read: Called with boxes that cover the grid once.
        unit: Unit of the voxels, kept in a comment or attribute that :func:`open_volume` reads.
        dtype: Type of the stored voxels.
        generated: The file says that it was generated, not acquired; a text is what it says more
            (:func:`msgan.data.store.description`).
        ready: Called when the image is complete, just before it gets its name.

    Raises:
        InputError: Unknown suffix, a value that is not finite or does not fit ``dtype``, a full
            disk, a folder (or other files) of that name, or ``read`` reads the very image that
            would be replaced; nothing is left behind.
    """
    path, kind = Path(path), np.dtype(dtype).newbyteorder("=")
    suffix = suffix_of(path)
    if suffix not in WRITERS:
        raise InputError(
            f"{path}: cannot write {suffix or 'files without suffix'}: expected "
            f"one of {', '.join(WRITERS)}"
        )
    require_kind(path)
    if kind.kind not in "iuf" or kind.itemsize > 8 or kind == np.float16:  # not in NIfTI
        raise InputError(f"{path}: cannot write voxels of type {kind}")

    def stored(box: Box) -> Array:
        return _stored(path, read(box), box, kind)

    need = prod(grid.shape) * kind.itemsize
    replace = omezarr.atomic_folder if suffix == ".zarr" else paths.atomic
    bound = suffix in COMPRESSED
    with (
        writing(path),
        paths.room(path.parent, need, path.name, at_most=bound),
        replace(path) as t,
    ):
        try:
            about = description("" if generated is True else generated) if generated else ""
            WRITERS[suffix](t, grid, stored, unit, kind, about)
            if ready is not None:
                ready()
        except InputError as error:
            raise named(path, error) from error


def write_series(
    path: str | os.PathLike[str],
    grid: Grid,
    read: Reader,
    derived: Derivation,
    *,
    ready: Callable[[], None] | None = None,
) -> None:
    """Write the image that ``read`` gives as a DICOM series; the folder appears when complete.

    An older series of ours in ``path`` is replaced as a whole. Memory is that of a slice.

    Args:
        path: Folder.
        grid: Shape and affine, in 3D.
        read: See :func:`write_volume`; 16 bits are stored of its values.
        derived: What the series says of itself.
        ready: Called when it is complete, just before it gets its name.

    Raises:
        InputError: The folder holds anything else, a value is not finite, no series can hold the
            image (:func:`msgan.data.formats.dicom_derived.require_series`), or a disk is full;
            nothing is left behind.
    """
    path, kind = Path(path), np.dtype(np.float32)
    require_kind(path, series=True)

    def stored(box: Box) -> Array:
        return _stored(path, read(box), box, kind)

    need = prod(grid.shape) * 2
    with (
        writing(path),
        paths.room(path.parent, need, path.name),
        paths.atomic_folder(path) as folder,
    ):
        try:
            dicom_derived.write(folder, grid, stored, derived)
            if ready is not None:
                ready()
        except InputError as error:
            raise named(path, error) from error


def _stored(path: Path, part: Array, box: Box, dtype: np.dtype) -> Array:
    """``part`` as ``dtype``: rounded, and refused where it does not fit."""
    part = np.asarray(part)
    if part.shape != box.size:
        raise ValueError(f"the reader gave shape {part.shape} for {box}")
    low, high = float(part.min()), float(part.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{path}: NaN or infinite voxels in {box}")
    if dtype.kind == "f":
        if max(-low, high) > float(np.finfo(dtype).max):
            raise InputError(f"{path}: values {low:g}..{high:g} do not fit {dtype}")
        return part.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if np.rint(low) < limits.min or np.rint(high) > limits.max:
        value = low if np.rint(low) < limits.min else high
        raise InputError(
            f"{path}: value {value:g} does not fit {dtype} ({limits.min}..{limits.max})"
        )
    return (np.rint(part) if part.dtype.kind == "f" else part).astype(dtype, copy=False)
