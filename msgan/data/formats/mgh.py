"""FreeSurfer's MGH (.mgh, .mgz)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from msgan.data.formats.stored import first_line, planar, spatial, with_voxels
from msgan.data.grid import Grid
from msgan.data.store import Source
from msgan.types import InputError

SUFFIXES = (".mgh", ".mgz")
ORIENTED = 28
"""Byte of the flag (16 bits) that an orientation is stated."""

UNORIENTED = (
    "states no orientation (goodRASFlag is 0): its axes are taken as left, up, back, as nibabel "
    "does; FreeSurfer takes them as left, down, front"
)


def read(path: Path, suffix: str) -> Source:
    """Header of ``path``; the voxels of uncompressed files stay where they are.

    Raises:
        InputError: The file is no MGH, is shorter than its header says, or is 4D.
    """
    import nibabel as nib

    try:
        with nib.openers.ImageOpener(str(path)) as stream:
            # nibabel sets the flag where it is not set.
            oriented = any(stream.read(ORIENTED + 2)[ORIENTED:])
            stream.seek(0)
            header: Any = nib.freesurfer.mghformat.MGHHeader.from_fileobj(stream, check=False)
        affine = np.array(header.get_affine(), np.float64)
        shape, dtype = header.get_data_shape(), np.dtype(header.get_data_dtype())
        offset, version = int(header.get_data_offset()), int(header["version"])
    except Exception as error:  # nibabel raises what it likes for damaged files
        raise InputError(f"not a readable {suffix} file: {first_line(error)}") from error
    if version != 1:
        raise InputError(f"not a readable {suffix} file: version {version}, expected 1")
    shape = spatial(tuple(int(n) for n in shape))
    if min(shape) < 1:
        raise InputError(f"an axis without voxels in the shape {shape}")
    notes = () if oriented else (UNORIENTED,)
    grid = Grid(shape, affine if len(shape) == 3 else planar(affine))
    return with_voxels(Source(grid, notes=notes), path, dtype, offset)
