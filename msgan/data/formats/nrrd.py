"""Headers of NRRD (.nrrd, .nhdr), read as ITK reads them if they state a position."""

from __future__ import annotations

import io
import re
from itertools import product
from math import prod
from pathlib import Path

import numpy as np

from msgan.data.formats import fields
from msgan.data.formats.companions import companions
from msgan.data.formats.encoded import Encoded
from msgan.data.formats.metaimage import HEADER_BYTES, LONGEST_AXIS, MOST_AXES, Header
from msgan.data.units import require_mm
from msgan.types import Array, InputError

MAGIC = re.compile(rb"NRRD00(0[1-5]|\.01)\s*")
TYPES = {
    **{"signedchar": "i1", "uchar": "u1", "unsignedchar": "u1", "float": "f4", "double": "f8"},
    **{
        f"{sign}{name}": f"{kind}{size}"
        for (sign, kind), (name, size) in product(
            [("", "i"), ("signed", "i"), ("u", "u"), ("unsigned", "u")],
            [("short", 2), ("shortint", 2), ("int", 4), ("longlong", 8), ("longlongint", 8)],
        )
    },
    **{
        f"{sign}int{8 * size}{end}": f"{sign or 'i'}{size}"
        for sign, size, end in product(["", "u"], [1, 2, 4, 8], ["", "_t"])
    },
}
"""NumPy's types by those of NRRD without spaces."""
ENCODINGS = {
    **{"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"},
    **{"txt": "text", "text": "text", "ascii": "text", "hex": "hex"},
}
SPACES = {
    **{"right-anterior-superior": (-1, -1), "ras": (-1, -1)},
    **{"left-anterior-superior": (1, -1), "las": (1, -1)},
    **{"left-posterior-superior": (1, 1), "lps": (1, 1)},
    # Of these nobody says where the patient lies; ITK takes them for LPS.
    **{"scanner-xyz": (1, 1), "3d-right-handed": (1, 1), "3d-left-handed": (1, 1)},
}
"""Signs of x and y that turn each space into LPS."""
OLD = {"oldmin": "old min", "oldmax": "old max"}
ALIASES = {"centerings": "centers", "spaceunit": "spaceunits"}
KNOWN = {
    *("type", "dimension", "sizes", "endian", "encoding", "datafile", "lineskip", "byteskip"),
    *("space", "spacedimension", "spacedirections", "spaceorigin", "spaceunits", "spacings"),
    *("units", "kinds", "centers", "axismins", "axismaxs"),
    # Known, and of no account here.
    *("content", "number", "sampleunits", "labels", "thicknesses", "measurementframe", "min"),
    *("max", "oldmin", "oldmax", "blocksize"),
}
VECTOR = re.compile(r"\s*(none|\(([^()]*)\))", re.IGNORECASE)


def read_header(path: Path, unit_key: str) -> Header:
    """The header of a NRRD file; see :func:`msgan.data.formats.metaimage.read_header`.

    Axes that are none of space (kinds, ``none`` directions) are left out; their length must be 1.

    Raises:
        InputError: See there.
    """
    with path.open("rb") as stream:
        text = stream.read(HEADER_BYTES)
    stated, pairs, length, following = _fields(text)
    n = fields.whole("dimension", stated["dimension"], 1, MOST_AXES)
    fields.numbers("sizes", stated["sizes"], n)
    sizes = [fields.whole("sizes", word, 1, LONGEST_AXIS) for word in stated["sizes"].split()]
    kind = "".join(stated["type"].lower().split())
    if kind not in TYPES:
        raise InputError(f"type {fields.shown(stated['type'])}: expected a type of numbers")
    encoding = ENCODINGS.get(stated["encoding"].lower())
    if encoding is None:
        raise InputError(f"encoding {fields.shown(stated['encoding'])}: not known")
    order = stated.get("endian", "").lower()
    dtype = np.dtype(TYPES[kind])
    if order not in ("little", "big") and (order or (dtype.itemsize > 1 and encoding != "text")):
        raise InputError(f"endian {fields.shown(order)}: expected little or big")
    dtype = dtype.newbyteorder(">" if order == "big" else "<")

    axes, affine = _geometry(stated, n)
    if prod(sizes[axis] for axis in range(n) if axis not in axes) != 1:
        lengths = [sizes[axis] for axis in range(n) if axis not in axes]
        raise InputError(f"{prod(lengths)} values for each voxel: expected one")
    spatial = tuple(sizes[axis] for axis in axes)

    detached = "datafile" in stated
    files = companions(path, stated["datafile"], following, spatial) if detached else (path,)
    lines = fields.whole("line skip", stated.get("lineskip", "0"), 0, 10**6)
    skip = fields.whole("byte skip", stated.get("byteskip", "0"), -1, LONGEST_AXIS)
    offset, inside = 0 if detached else length, skip
    if skip < 0 and encoding == "raw":
        offset, inside = -1, 0
    voxels = Encoded(files, spatial, dtype, encoding, offset, lines, inside)
    scaled = {word: stated[key] for key, word in OLD.items() if key in stated}
    notes: tuple[str, ...] = ()
    if scaled:
        said = " and ".join(f"{word} {fields.shown(value)}" for word, value in scaled.items())
        notes = (f"states {said} of values before they were rounded; voxels are as stored",)
    unit = pairs.get(unit_key, "")
    return Header(spatial, affine, voxels, unit, notes=notes, about=stated.get("content", ""))


def _fields(text: bytes) -> tuple[dict[str, str], dict[str, str], int, list[str]]:
    """Fields and key/value pairs by name, bytes of the header, and the lines of a list of files."""
    lines = io.BytesIO(text)
    if not MAGIC.fullmatch(lines.readline()):
        raise InputError("not a NRRD header: its first line is not NRRD0001 to NRRD0005")
    stated: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for data in lines:
        line = data.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not line:
            break
        if line.startswith("#"):
            continue
        name, mark, value = re.split("(:=|: |:$|$)", line, maxsplit=1)
        if mark == ":=":
            pairs[name] = value
            continue
        key = "".join(name.lower().split())
        key = ALIASES.get(key, key)
        if key not in KNOWN:
            raise InputError(f"field {fields.shown(name)}: not known")
        if key in stated:
            raise InputError(f"field {fields.shown(name)}: is stated twice")
        stated[key] = value.strip()
        if key == "datafile" and value.strip().startswith("LIST"):
            break
    else:
        if "datafile" not in stated:
            raise InputError("damaged or truncated: no empty line ends the header")
    for key in ("type", "dimension", "sizes", "encoding"):
        if key not in stated:
            raise InputError(f"not a NRRD header: it does not state its {key}")
    length = lines.tell()
    return stated, pairs, length, text[length:].decode("utf-8", "surrogateescape").splitlines()


def _geometry(stated: dict[str, str], n: int) -> tuple[list[int], Array]:
    """Axes of space, and the affine from their index to LPS mm."""
    kinds = stated["kinds"].lower().split() if "kinds" in stated else []
    if kinds and len(kinds) != n:
        raise InputError(f"kinds {fields.shown(stated['kinds'])}: expected {n} words")
    axes = [
        a for a in range(n) if not kinds or kinds[a] in ("domain", "space", "time", "???", "none")
    ]
    if "space" not in stated and "spacedimension" not in stated:
        _in_mm(stated, "units", n, axes)
        return axes, _by_axis(stated, n, axes)
    space = stated.get("space", "").lower()
    d = fields.whole("space dimension", stated.get("spacedimension", "3"), 1, MOST_AXES)
    if space and (space not in SPACES or d != 3):
        raise InputError(f"space {fields.shown(stated['space'])}: not known as one of 3 axes")
    vectors = _vectors("space directions", stated.get("spacedirections", ""), d)
    if vectors and len(vectors) != n:
        raise InputError(f"space directions: {len(vectors)} vectors for {n} axes")
    if any(vectors):
        axes = [axis for axis in axes if vectors[axis]]
        if len(axes) != d:
            raise InputError(f"{len(axes)} axes with a direction in a space of {d}")
        affine = np.eye(d + 1)
        affine[:d, :d] = np.transpose([vectors[axis] for axis in axes])
    else:
        affine = _by_axis(stated, n, axes)
        if len(axes) != d:
            raise InputError(f"{len(axes)} axes in a space of {d}")
    origin = _vectors("space origin", stated.get("spaceorigin", ""), d)
    if len(origin) > 1:
        raise InputError(f"space origin {fields.shown(stated['spaceorigin'])}: expected one vector")
    if any(origin):
        affine[:d, d] = origin[0]
    _in_mm(stated, "spaceunits", d, list(range(d)))
    if space:
        affine[:2] *= np.array(SPACES[space])[:, None]
    return axes, affine


def _by_axis(stated: dict[str, str], n: int, axes: list[int]) -> Array:
    """The affine of spacings and positions for each axis, without directions."""
    spacing, low, high = (_axes(stated, key, n) for key in ("spacings", "axismins", "axismaxs"))
    cells = [w.lower() != "node" for w in stated.get("centers", "").split()] or [True] * n
    if len(cells) != n:
        raise InputError(f"centers {fields.shown(stated['centers'])}: expected {n} words")
    sizes = [float(word) for word in stated["sizes"].split()]
    affine = np.eye(len(axes) + 1)
    for row, a in enumerate(axes):
        step, start, end = spacing[a], low[a], high[a]
        if step is None and start is not None and end is not None:
            step = (end - start) / (sizes[a] if cells[a] else max(sizes[a] - 1, 1))
        affine[row, row] = 1.0 if step is None else step
        if step is not None and start is not None:
            affine[row, -1] = start + step / 2 * cells[a]
    return affine


def _axes(stated: dict[str, str], key: str, n: int) -> list[float | None]:
    """A number for each axis; ``None`` where it is NaN or the field is missing."""
    words = stated[key].split() if key in stated else ["nan"] * n
    if len(words) != n:
        raise InputError(f"{key} {fields.shown(stated[key])}: expected {n} numbers")
    return [None if w.lower().strip("-+") == "nan" else fields.number(key, w) for w in words]


def _in_mm(stated: dict[str, str], key: str, n: int, axes: list[int]) -> None:
    """Refuse lengths that are not in mm; where no unit is stated they are."""
    text = stated.get(key, "")
    words = re.findall(r'"([^"]*)"', text) or text.split() or [""] * n
    if len(words) != n:
        raise InputError(f"{key} {fields.shown(text)}: expected {n} units")
    require_mm([words[axis].strip("? ") for axis in axes], key.replace("units", " units").strip())


def _vectors(name: str, text: str, d: int) -> list[list[float]]:
    """Vectors as in ``(1,0,0) none``; ``none`` is empty."""
    vectors, place = [], 0
    while text[place:].strip():
        vector = VECTOR.match(text, place)
        if not vector:
            raise InputError(f"{name} {fields.shown(text)}: expected vectors as in (1,0,0)")
        inner = (vector[2] or "").replace(",", " ")
        vectors.append([] if vector[2] is None else fields.numbers(name, inner, d))
        place = vector.end()
    return vectors
