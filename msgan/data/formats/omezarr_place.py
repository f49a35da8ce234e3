"""The position of an OME-Zarr image from its metadata: axes, units, orientation, scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msgan.data.grid import Grid
from msgan.data.units import millimetres
from msgan.types import Array, InputError, Shape

OLD = ("0.1", "0.2", "0.3")
"""Versions without voxel sizes."""

NEWEST = "0.5"
ORIENTATION_KEYS = ("orientation", "anatomicalOrientation", "anatomical_orientation")
TOWARDS = {
    **{"left-to-right": (0, 1), "right-to-left": (0, -1)},
    **{"posterior-to-anterior": (1, 1), "anterior-to-posterior": (1, -1)},
    **{"inferior-to-superior": (2, 1), "superior-to-inferior": (2, -1)},
    **{"caudal-to-cranial": (2, 1), "cranial-to-caudal": (2, -1)},
}
"""Axis of RAS, and the sign, of the orientations that have a place in it."""

ALONG = 1e-6
"""Cosine off 1 up to which an axis lies along one of the patient's."""


@dataclass(frozen=True)
class Place:
    """Where an image lies.

    Attributes:
        order: Axis of the array for each index axis of the image.
        affine: Index to mm.
        measured: Whether a unit of length other than mm is stated.
        notes: What a user should know.
    """

    order: tuple[int, ...]
    affine: Array
    measured: bool
    notes: tuple[str, ...]


def placed(multiscale: Any, dataset: Any, version: str, shape: Shape) -> Place:
    """The affine of one level.

    Args:
        multiscale: Metadata of all levels.
        dataset: Of the level.
        version: Of OME-Zarr; may be empty.
        shape: Of the array.

    Raises:
        InputError: As :func:`msgan.data.formats.omezarr.read` says.
        ValueError: The metadata do not fit the array; and KeyError and TypeError.
    """
    steps = [s for h in (dataset, multiscale) for s in h.get("coordinateTransformations") or []]
    if "axes" not in multiscale or (version in OLD and not steps):
        raise InputError(_of_another_version(multiscale, version))
    notes: list[str] = []
    # Version 0.3 has axes as mere names.
    axes = [a if isinstance(a, dict) else {"name": a} for a in multiscale["axes"]]
    names = [str(axis["name"]).lower() for axis in axes]
    space = [a for a, axis in enumerate(axes) if axis.get("type", _kind(names[a])) == "space"]
    others = [a for a in range(len(axes)) if a not in space]
    if len(axes) != len(shape) or any(shape[a] != 1 for a in others) or len(space) not in (2, 3):
        raise InputError(f"{len(shape)}D image of shape {shape} with axes {names}: expected 3 axes")
    scale, translation = _scale(steps, len(axes))
    if not steps:
        notes.append("states no voxel size: 1 is taken")
    stated = [millimetres(axes[a].get("unit")) for a in space]
    if None in stated and steps:
        notes.append("states no unit of length: mm is taken")
    factors = {a: 1.0 if mm is None else mm for a, mm in zip(space, stated, strict=True)}
    order = _order(space, names, notes)
    towards = _orientation([axes[a] for a in order], notes)
    d = len(order)
    affine = np.zeros((d + 1, d + 1))
    affine[d, d] = 1.0
    for k, (a, (row, sign)) in enumerate(zip(order, towards, strict=True)):
        affine[row, k] = sign * scale[a] * factors[a]
        affine[row, d] = sign * translation[a] * factors[a]
    measured = any(mm not in (None, 1.0) for mm in stated)
    return Place(tuple(order), affine, measured, tuple(notes))


def oriented(grid: Grid) -> tuple[list[float], list[dict[str, Any]]]:
    """Translation of a grid, and the orientation its axes state, both in the order on disk.

    Only axes along the patient's have an orientation in words; then the translation is along
    these axes. Else, and in 2D, it is the place of the first voxel, and the words are empty.
    """
    d = grid.dims
    origin = grid.affine[:d, d]
    if d == 2:
        return origin.tolist(), [{}, {}]
    cosines = grid.affine[:d, :d] / grid.spacing
    rows = np.abs(cosines).argmax(axis=0)
    along = cosines[rows, range(d)]
    if (np.abs(along) < 1 - ALONG).any():
        return origin[::-1].tolist(), [{}] * d
    signs = np.sign(along).astype(int)
    words = {where: name for name, where in reversed(TOWARDS.items())}
    translation = [float(origin[row] * sign) for row, sign in zip(rows, signs, strict=True)]
    axes = [
        {"orientation": {"type": "anatomical", "value": words[int(row), int(sign)]}}
        for row, sign in zip(rows, signs, strict=True)
    ]
    return translation[::-1], axes[::-1]


def _kind(name: str) -> str:
    """What an axis is that does not say so."""
    return {"t": "time", "time": "time", "c": "channel", "channel": "channel"}.get(name, "space")


def _of_another_version(multiscale: Any, version: str) -> str:
    later = "coordinateSystems" in multiscale
    name = f"OME-Zarr {version}" if version else "OME-Zarr without a version"
    lack = "places images in another way" if later else "states no voxel size"
    return f"{name} {lack}: convert it to OME-Zarr 0.4 or {NEWEST}, or to NIfTI"


def _scale(steps: Sequence[Any], d: int) -> tuple[Array, Array]:
    """Scale and translation of a level: its own transformations, then those of all levels."""
    scale, translation = np.ones(d), np.zeros(d)
    for step in steps:
        kind = step["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation"):
            raise ValueError(f"coordinate transformation {kind!r}")
        numbers = np.array(step[kind], dtype=np.float64)
        if numbers.shape != (d,):
            raise ValueError(f"a {kind} of {numbers.size} numbers for {d} axes")
        if kind == "scale":
            scale, translation = scale * numbers, translation * numbers
        else:
            translation = translation + numbers
    return scale, translation


def _order(space: list[int], names: list[str], notes: list[str]) -> list[int]:
    """Axes of the array in the order of the index: (x, y, z), in 2D (y, x)."""
    own = [names[a] for a in space]
    if len(space) == 2:
        return space[::-1] if own == ["x", "y"] else space
    if sorted(own) == ["x", "y", "z"]:
        return sorted(space, key=lambda a: names[a])
    notes.append(f"axes {', '.join(own)} are not named z, y, x: taken as these, in this order")
    return space[::-1]


def _orientation(axes: list[Any], notes: list[str]) -> list[tuple[int, int]]:
    """Row of RAS and sign of each index axis."""
    plain = [(row, 1) for row in range(len(axes))]
    if len(axes) == 2:
        return plain
    words = [_word(axis) for axis in axes]
    if not any(words):
        notes.append("states no orientation: x, y and z are taken as right, front and up (RAS)")
        return plain
    names = [str(axis["name"]) for axis in axes]
    for name, word in zip(names, words, strict=True):
        if word not in TOWARDS:
            text = f"orientation {word!r}" if word else "no orientation, where others have one"
            raise InputError(f"axis {name} has {text}: expected one of {', '.join(TOWARDS)}")
    towards = [TOWARDS[word] for word in words]
    if len({row for row, _ in towards}) < len(towards):
        raise InputError(f"orientations {', '.join(words)} of {', '.join(names)}: two on one line")
    return towards


def _word(axis: Any) -> str:
    """The orientation an axis states, in the words of RFC 4; empty where it states none."""
    stated = next((axis[key] for key in ORIENTATION_KEYS if axis.get(key)), "")
    if isinstance(stated, dict):
        stated = stated.get("value") or ""
    return str(stated).strip().lower().replace("_", "-").replace(" ", "-")
