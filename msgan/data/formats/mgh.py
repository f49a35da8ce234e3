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


def read(path: Path, suffix: str) -> Source:
    """Header of ``path``; the voxels of uncompressed files stay where they are.

    Raises:
        InputError: The file is no MGH, is shorter than its header says, or is 4D.
    """
    import nibabel as nib

    try:
        with nib.openers.ImageOpener(str(path)) as stream:
            header: Any = nib.freesurfer.mghformat.MGHHeader.from_fileobj(stream)
        affine = np.array(header.get_affine(), np.float64)
        shape, dtype = header.get_data_shape(), np.dtype(header.get_data_dtype())
        offset, oriented = int(header.get_data_offset()), int(header["goodRASFlag"]) == 1
    except Exception as error:  # nibabel raises what it likes for damaged files
        raise InputError(f"not a readable {suffix} file: {first_line(error)}") from error
    shape = spatial(tuple(int(n) for n in shape))
    if min(shape) < 1:
        raise InputError(f"an axis without voxels in the shape {shape}")
    notes = () if oriented else ("states no orientation (goodRASFlag is 0): FreeSurfer's is taken",)
    grid = Grid(shape, affine if len(shape) == 3 else planar(affine))
    return with_voxels(Source(grid, notes=notes), path, dtype, offset)
