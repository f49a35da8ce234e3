"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr): text headers before raw or compressed voxels.

SimpleITK reads headers and unpacks what is compressed, which takes memory for the whole image.
Voxels that are not compressed are read by region where they are, and written so: SimpleITK
writes no file in pieces, and reads only MetaImage so.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msgan.data.grid import Grid
from msgan.data.pieces import slabs
from msgan.data.raw import raw_reader, write_raw
from msgan.data.store import Source
from msgan.data.units import require_mm
from msgan.types import Array, Box, InputError, Reader, Shape

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
META_TYPES = {
    **{"i1": "CHAR", "i2": "SHORT", "i4": "INT", "i8": "LONG_LONG"},
    **{"u1": "UCHAR", "u2": "USHORT", "u4": "UINT", "u8": "ULONG_LONG"},
    **{"f4": "FLOAT", "f8": "DOUBLE"},
}
NRRD_FLOATS = {"float32": "float", "float64": "double"}
HEADER_BYTES = 1 << 16
UNIT_KEY = "msgan_unit"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read(path: Path, suffix: str) -> Source:
    """Header of ``path``. 3D affines are turned from ITK's LPS to RAS; 2D arrays are (row, column).

    Raises:
        InputError: The file cannot be read, is 4D, has several values for each voxel, or states
            lengths in another unit than mm.
    """
    import SimpleITK as sitk

    _require_mm(path, suffix)
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

    shape = size[:d] if d == 3 else size[1::-1]
    dtype = _dtypes().get(reader.GetPixelIDValue())
    if dtype is not None and (plain := _plain(path, suffix, prod(size) * dtype.itemsize)):
        file, offset, order = plain
        stored = raw_reader(file, dtype.newbyteorder(order), size[:d], offset)
        region = stored if d == 3 else _transposed(stored)
        return Source(Grid(shape, affine), unit, region=region)

    def blocks() -> Iterator[Array]:
        image: Any = _quietly(path, suffix, reader.Execute)
        array = sitk.GetArrayViewFromImage(image)
        array = array.reshape(array.shape[array.ndim - d :])
        array = array.T if d == 3 else array
        for box in slabs(shape, array.itemsize):
            yield array[box.slices]

    return Source(Grid(shape, affine), unit, blocks=blocks)


def _require_mm(path: Path, suffix: str) -> None:
    """Refuse a header that states another unit of length than mm."""
    field = "DistanceUnits" if suffix in (".mha", ".mhd") else "space units"
    with path.open("rb") as stream:
        text = stream.read(HEADER_BYTES).partition(b"\n\n")[0].decode("latin-1")
    stated = re.search(rf"^{field} *[=:](.*)$", text, re.MULTILINE | re.IGNORECASE)
    if stated:
        require_mm(re.findall(r'"([^"]*)"', stated[1]) or stated[1].split(), field)


def write(path: Path, grid: Grid, read: Reader, unit: str, dtype: np.dtype) -> None:
    """Write ``.mha`` or ``.nrrd``, uncompressed, box by box."""
    d = grid.dims
    affine = LPS_TO_RAS @ grid.affine if d == 3 else _swapped(grid.affine)
    shape = grid.shape if d == 3 else grid.shape[::-1]
    header = (_meta if path.suffix.lower() == ".mha" else _nrrd)(affine, shape, unit, dtype)
    with FileIO(path, "wb") as stream:
        stream.write(header.encode())
        write_raw(stream, shape, dtype, read if d == 3 else _transposed(read))


def _meta(affine: Array, shape: Shape, unit: str, dtype: np.dtype) -> str:
    d = len(shape)
    spacing = np.linalg.norm(affine[:d, :d], axis=0)
    fields = {
        "ObjectType": "Image",
        "NDims": d,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": sys.byteorder == "big",
        "CompressedData": False,
        "TransformMatrix": _numbers((affine[:d, :d] / spacing).T.ravel()),
        "Offset": _numbers(affine[:d, d]),
        "ElementSpacing": _numbers(spacing),
        "DimSize": " ".join(map(str, shape)),
        **({UNIT_KEY: unit} if unit != "a.u." else {}),
        "ElementType": f"MET_{META_TYPES[dtype.str[1:]]}",
        "ElementDataFile": "LOCAL",  # the voxels begin behind this line
    }
    return "".join(f"{key} = {value}\n" for key, value in fields.items())


def _nrrd(affine: Array, shape: Shape, unit: str, dtype: np.dtype) -> str:
    d = len(shape)
    vectors = [f"({_numbers(vector, ',')})" for vector in affine[:d].T]
    fields = {
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
    return "\n".join(lines) + "\n\n"


def _plain(path: Path, suffix: str, length: int) -> tuple[Path, int, Literal["<", ">"]] | None:
    """File, offset and byte order of voxels that lie as they are in one file; else None.

    Args:
        path: The header, or header and voxels.
        suffix: Of ``path``.
        length: Of all voxels in bytes; a file that holds more (bytes to skip) or less is not
            read here.
    """
    with path.open("rb") as stream:
        text = stream.read(HEADER_BYTES)
    meta = suffix in (".mha", ".mhd")
    end = re.search(rb"^ElementDataFile *=.*\n" if meta else rb"\r?\n\r?\n", text, re.MULTILINE)
    header = text[: end.end()] if end else text
    pairs = (line.partition("=" if meta else ": ") for line in header.decode("latin-1").split("\n"))
    fields = {key.strip().lower(): value.strip() for key, _, value in pairs}
    if meta:
        data, local = fields.get("elementdatafile", ""), "LOCAL"
        swapped = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False"))
        order: Literal["<", ">"] = ">" if swapped.lower() == "true" else "<"
        plain = (
            fields.get("binarydata", "").lower() == "true"
            and fields.get("compresseddata", "False").lower() == "false"
            and "elementtointensityfunctionslope" not in fields
        )
    else:
        data, local = fields.get("data file", fields.get("datafile", "")), ""
        order = ">" if fields.get("endian") == "big" else "<"
        plain = fields.get("encoding", "").lower() == "raw"
    file, offset = (path, len(header)) if data == local else (path.parent / data, 0)
    if not plain or not file.is_file() or file.stat().st_size != offset + length:
        return None
    return file, offset, order


def _dtypes() -> dict[int, np.dtype]:
    """Types of voxels by SimpleITK's numbers for them."""
    import SimpleITK as sitk

    names = [f"{kind}{bits}" for kind in ("UInt", "Int") for bits in (8, 16, 32, 64)]
    known = {getattr(sitk, f"sitk{name}"): np.dtype(name.lower()) for name in names}
    return known | {sitk.sitkFloat32: np.dtype("float32"), sitk.sitkFloat64: np.dtype("float64")}


def _numbers(values: Array, between: str = " ") -> str:
    return between.join(repr(float(v)) for v in values)


def _transposed(read: Reader) -> Reader:
    """(row, column) from (x, y), or back."""
    return lambda box: read(Box(box.start[::-1], box.size[::-1])).T


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
