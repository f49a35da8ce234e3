"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr): text headers before raw or compressed voxels.

Both are read and written here, not by ITK: it takes memory for the whole image, believes what a
header promises, and gives what lay in memory where compressed voxels are damaged.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from io import FileIO
from pathlib import Path

import numpy as np

from msgan.data.formats import metaimage, nrrd
from msgan.data.grid import Grid
from msgan.data.raw import write_raw
from msgan.data.store import MARKS, Source
from msgan.types import Array, Box, InputError, Reader, Shape

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
META_TYPES = {
    **{"i1": "CHAR", "i2": "SHORT", "i4": "INT", "i8": "LONG_LONG"},
    **{"u1": "UCHAR", "u2": "USHORT", "u4": "UINT", "u8": "ULONG_LONG"},
    **{"f4": "FLOAT", "f8": "DOUBLE"},
}
NRRD_FLOATS = {"float32": "float", "float64": "double"}
UNIT_KEY, SYNTHETIC_KEY = "msgan_unit", "synthetic"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read(path: Path, suffix: str) -> Source:
    """Header of ``path``. 3D affines are turned from ITK's LPS to RAS; 2D arrays are (row, column).

    Voxels that are not compressed stay where they are; others are decoded in order.

    Raises:
        InputError: The header contradicts itself or the file, names a data file elsewhere, states
            lengths in another unit than mm, is 4D or has several values for each voxel.
    """
    module = metaimage if suffix in (".mha", ".mhd") else nrrd
    header = module.read_header(path, UNIT_KEY)
    sizes = header.sizes
    d = len(sizes)
    while d > 3 and sizes[d - 1] == 1:
        d -= 1
    if d not in (2, 3):
        raise InputError(f"{d}D image of shape {sizes}: expected 2 or 3 axes")
    ends = [*range(d), len(sizes)]
    affine = header.affine[np.ix_(ends, ends)]
    affine = LPS_TO_RAS @ affine if d == 3 else _swapped(affine)
    voxels = replace(header.voxels, sizes=sizes[:d])
    region = voxels.region()
    return Source(
        Grid(sizes[:d] if d == 3 else sizes[1::-1], affine),
        header.unit if header.unit.isprintable() and header.unit.strip() else "a.u.",
        region=region if region is None or d == 3 else _transposed(region),
        blocks=None if region else voxels.blocks,
        last_fastest=d == 2,
        slope=header.slope,
        inter=header.inter,
        notes=header.notes,
        about=header.about,
    )


def write(
    path: Path, grid: Grid, read: Reader, unit: str, dtype: np.dtype, about: str = ""
) -> None:
    """Write ``.mha`` or ``.nrrd``, uncompressed, box by box."""
    d = grid.dims
    affine = LPS_TO_RAS @ grid.affine if d == 3 else _swapped(grid.affine)
    shape = grid.shape if d == 3 else grid.shape[::-1]
    header = (_meta if path.suffix.lower() == ".mha" else _nrrd)(affine, shape, unit, dtype, about)
    with FileIO(path, "wb") as stream:
        stream.write(header.encode())
        write_raw(stream, shape, dtype, read if d == 3 else _transposed(read))


def _meta(affine: Array, shape: Shape, unit: str, dtype: np.dtype, about: str) -> str:
    d = len(shape)
    spacing = np.linalg.norm(affine[:d, :d], axis=0)
    fields = {
        "ObjectType": "Image",
        **({"Comment": about} if about else {}),
        "NDims": d,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": sys.byteorder == "big",
        "CompressedData": False,
        "TransformMatrix": _numbers((affine[:d, :d] / spacing).T.ravel()),
        "Offset": _numbers(affine[:d, d]),
        "ElementSpacing": _numbers(spacing),
        "DimSize": " ".join(map(str, shape)),
        **({UNIT_KEY: unit} if unit != "a.u." else {}),
        **({SYNTHETIC_KEY: "true"} if about.startswith(MARKS) else {}),
        "ElementType": f"MET_{META_TYPES[dtype.str[1:]]}",
        "ElementDataFile": "LOCAL",  # the voxels begin behind this line
    }
    return "".join(f"{key} = {value}\n" for key, value in fields.items())


def _nrrd(affine: Array, shape: Shape, unit: str, dtype: np.dtype, about: str) -> str:
    d = len(shape)
    vectors = [f"({_numbers(vector, ',')})" for vector in affine[:d].T]
    fields = {
        **({"content": about} if about else {}),
        "type": NRRD_FLOATS.get(dtype.name, dtype.name),
        "dimension": d,
        **({"space": "left-posterior-superior"} if d == 3 else {"space dimension": d}),
        "sizes": " ".join(map(str, shape)),
        "space directions": " ".join(vectors[:d]),
        "kinds": " ".join(["domain"] * d),
        "endian": sys.byteorder,
        "encoding": "raw",
        "space origin": vectors[d],
    }
    lines = ["NRRD0004", *(f"{key}: {value}" for key, value in fields.items())]
    lines += [f"{UNIT_KEY}:={unit}"] if unit != "a.u." else []
    lines += [f"{SYNTHETIC_KEY}:=true"] if about.startswith(MARKS) else []
    return "\n".join(lines) + "\n\n"


def _numbers(values: Array, between: str = " ") -> str:
    return between.join(repr(float(v)) for v in values)


def _transposed(read: Reader) -> Reader:
    """(row, column) from (x, y), or back."""
    return lambda box: read(Box(box.start[::-1], box.size[::-1])).T


def _swapped(affine: Array) -> Array:
    """A 2D affine with (x, y) turned into (row, column), or back."""
    return affine[np.ix_([1, 0, 2], [1, 0, 2])]
