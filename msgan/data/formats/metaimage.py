"""Headers of MetaImage (.mha, .mhd), read as ITK reads them if they are consistent."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msgan.data.formats import fields
from msgan.data.formats.companions import companions
from msgan.data.formats.encoded import Encoded
from msgan.data.units import require_mm
from msgan.types import Array, InputError, Shape

HEADER_BYTES = 1 << 20
MOST_AXES = 10
LONGEST_AXIS = 1 << 40
TYPES = {
    **{"CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4"},
    **{"LONG": "i4", "ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8"},
    **{"FLOAT": "f4", "DOUBLE": "f8"},
}
ORIGIN = ("Offset", "Position", "Origin")
AXES = ("TransformMatrix", "Rotation", "Orientation")
ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
INTENSITY = {"ElementToIntensityFunctionSlope": "1", "ElementToIntensityFunctionOffset": "0"}
REQUIRED = ("NDims", "DimSize", "ElementType", "ElementDataFile")
KNOWN = {
    *("ElementSpacing", "ElementSize", "BinaryData", "CompressedData", "HeaderSize", "Modality"),
    *("ElementNumberOfChannels", "DistanceUnits"),
    *(*REQUIRED, *ORIGIN, *AXES, *ORDER, *INTENSITY),
}
"""Fields that count here; each may be stated once."""
SPELLED = {key.lower(): key for key in KNOWN if key.startswith(("Element", "Dim", "Transform"))}
"""Names that mean nothing else: written otherwise they would be passed over, as by ITK."""


@dataclass(frozen=True)
class Header:
    """What a header says of an image.

    Attributes:
        sizes: Voxels along the axes of the file.
        affine: From index to ITK's mm (LPS), of all axes.
        voxels: Where they are stored.
        unit: Of the voxels, where it is stated.
        slope: Voxel = stored value x slope + inter.
        inter: See ``slope``.
        notes: What a user of the image should know.
        about: Its description.
    """

    sizes: Shape
    affine: Array
    voxels: Encoded
    unit: str = ""
    slope: float = 1.0
    inter: float = 0.0
    notes: tuple[str, ...] = ()
    about: str = ""


def read_header(path: Path, unit_key: str) -> Header:
    """The header of a MetaImage.

    Args:
        path: ``.mha`` or ``.mhd``.
        unit_key: Field that states a unit of the voxels.

    Raises:
        InputError: A field is missing, is stated twice, is not what it should be, or
            contradicts another; a data file lies elsewhere; there are fewer voxels than promised.
    """
    with path.open("rb") as stream:
        text = stream.read(HEADER_BYTES)
    stated, length, following = _fields(text)
    n = fields.whole("NDims", stated["NDims"], 1, MOST_AXES)
    fields.numbers("DimSize", stated["DimSize"], n)
    sizes = tuple(fields.whole("DimSize", w, 1, LONGEST_AXIS) for w in stated["DimSize"].split())
    channels = stated.get("ElementNumberOfChannels", "1")
    if (count := fields.whole("ElementNumberOfChannels", channels, 1, 1 << 20)) != 1:
        raise InputError(f"{count} values for each voxel: expected one")
    kind = stated["ElementType"].removeprefix("MET_")
    if kind not in TYPES:
        raise InputError(f"ElementType {fields.shown(stated['ElementType'])}: not known")
    big = fields.truth(ORDER[0], _one(stated, ORDER) or "False")
    dtype = np.dtype(TYPES[kind]).newbyteorder(">" if big else "<")

    affine = np.eye(n + 1)
    spacing = stated.get("ElementSpacing", stated.get("ElementSize"))
    if axes := _one(stated, AXES):
        affine[:n, :n] = np.reshape(fields.numbers("TransformMatrix", axes, n * n), (n, n)).T
    if spacing:
        affine[:n, :n] *= fields.numbers("ElementSpacing", spacing, n)
    if origin := _one(stated, ORIGIN):
        affine[:n, n] = fields.numbers("Offset", origin, n)
    require_mm([stated.get("DistanceUnits", "").strip("? ")], "DistanceUnits")

    name = stated["ElementDataFile"]
    local = name.lower() == "local"
    start = fields.whole("HeaderSize", stated.get("HeaderSize", "0"), -1, LONGEST_AXIS)
    files = (path,) if local else companions(path, name, following, sizes)
    encoding = "raw" if fields.truth("BinaryData", stated.get("BinaryData", "True")) else "text"
    if fields.truth("CompressedData", stated.get("CompressedData", "False")):
        if encoding == "text" or len(files) > 1 or start < 0:
            raise InputError("CompressedData: expected binary data in one file without HeaderSize")
        encoding = "zlib"
    slope, inter = (
        fields.number(name, stated.get(name, default)) for name, default in INTENSITY.items()
    )
    if slope == 0:
        raise InputError("ElementToIntensityFunctionSlope 0: every voxel would be the same")
    return Header(
        sizes,
        affine,
        Encoded(files, sizes, dtype, encoding, offset=start or (length if local else 0)),
        stated.get(unit_key, "HU" if stated.get("Modality") == "MET_MOD_CT" else ""),
        slope,
        inter,
        about=stated.get("Comment", ""),
    )


def _fields(text: bytes) -> tuple[dict[str, str], int, list[str]]:
    """Fields by name, bytes of the header, and the lines behind the last field."""
    stated: dict[str, str] = {}
    length = 0
    for line in io.BytesIO(text):
        length += len(line)
        key, mark, value = re.split("([=:]|$)", line.decode("utf-8", "surrogateescape"), maxsplit=1)
        key, value = key.strip(), value.strip()
        if not mark:
            continue  # a comment, or an empty line
        if key in KNOWN and stated.get(key, value) != value:
            raise InputError(
                f"{key} is stated twice: {fields.shown(stated[key])} and {fields.shown(value)}"
            )
        stated[key] = value
        if key == "ElementDataFile":
            break
    for key in stated:
        if (exact := SPELLED.get(key.lower(), key)) not in stated:
            raise InputError(f"field {fields.shown(key)}: is written {exact}")
    if missing := [key for key in REQUIRED if key not in stated]:
        raise InputError(f"not a MetaImage header: it does not state {missing[0]}")
    rest = text[length:] if stated["ElementDataFile"].startswith("LIST") else b""
    return stated, length, rest.decode("utf-8", "surrogateescape").splitlines()


def _one(stated: dict[str, str], names: tuple[str, ...]) -> str | None:
    """What the fields ``names``, which mean the same, say; ``None`` where none of them is there.

    Raises:
        InputError: They contradict each other.
    """
    values = {name: stated[name] for name in names if name in stated}
    if len({_meaning(value) for value in values.values()}) > 1:
        said = " and ".join(f"{name} {fields.shown(value)}" for name, value in values.items())
        raise InputError(f"{said} contradict each other")
    return next(iter(values.values()), None)


def _meaning(value: str) -> tuple[float | str, ...]:
    """``value`` in a form in which ``1 0`` and ``1.0 0`` are the same."""
    return tuple(
        float(word) if fields.NUMBER.fullmatch(word) else word.lower()[:1] for word in value.split()
    )
