"""The grid of an image and whether it can be opened, from its header alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from msgan.data.formats import picture
from msgan.data.grid import Grid, NiftiFrame
from msgan.data.guard import silence
from msgan.data.store import MARKS, suffix_of
from msgan.data.volume import open_volume
from msgan.types import InputError

MARKED = "a result of msgan, as the file itself says: generated, not acquired"
DESCRIPTION = 270
"""Tag of a TIFF."""

SPACING_TOLERANCE = 0.01
"""Two statements of a voxel's size contradict each other beyond this fraction."""


def grid_of(path: Path) -> tuple[Grid, tuple[str, ...]]:
    """The grid that a file, a series or an OME-Zarr folder states, and what to tell of it.

    Raises:
        InputError: It does not open, or contradicts itself.
    """
    if suffix_of(path) in picture.SUFFIXES:
        return _picture(path), ()
    try:
        with open_volume(path, check=False) as volume:
            volume.check_size()
            if volume.generated:
                raise InputError(MARKED)
            grid, notes = volume.grid, volume.notes
        if grid.frame is not None:
            _one_size(grid.frame, grid.dims)
    except InputError as error:
        raise InputError(str(error).removeprefix(f"{path}: ")) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from error
    return grid, notes


def _picture(path: Path) -> Grid:
    """Size and form of a picture; its pixels may still turn out to be coloured."""
    from PIL import Image

    try:
        with silence, Image.open(path, formats=["PNG", "TIFF"]) as file:
            columns, rows = file.size
            frames = getattr(file, "n_frames", 1)
            tags = getattr(file, "tag_v2", {})
            comment = str(file.info.get(picture.COMMENT) or tags.get(DESCRIPTION, ""))
    except Exception as error:  # decoders raise what they like for damaged files
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"not a readable picture: {text.replace(str(path), path.name)}") from error
    if frames != 1:
        raise InputError(f"picture of {frames} pages: expected one")
    if any(mark in comment for mark in MARKS):
        raise InputError(MARKED)
    try:
        affine = json.loads(comment)["affine"]
    except (ValueError, KeyError, TypeError):  # the comment of another program
        affine = np.eye(3)
    return Grid((rows, columns), np.array(affine))


def _one_size(frame: NiftiFrame, dims: int) -> None:
    """Refuse a NIfTI whose two affines disagree about the size of a voxel."""
    if not frame.sform_code or not frame.qform_code:
        return
    by_sform = np.linalg.norm(np.reshape(frame.rows, (3, 4))[:, :3], axis=0)[:dims]
    by_qform = np.abs(frame.pixdim[1 : dims + 1])
    if not np.allclose(by_sform, by_qform, rtol=SPACING_TOLERANCE, atol=0):
        sizes = (tuple(float(round(v, 4)) for v in size) for size in (by_sform, by_qform))
        raise InputError(
            "contradictory geometry: voxels of {} mm by sform, {} by qform".format(*sizes)
        )
