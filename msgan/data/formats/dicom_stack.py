"""Slices of one image in space: alike, on a straight line, at equal distances."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from msgan.data.formats.dicom_header import APART, Header, numbers, whole
from msgan.data.formats.itk import LPS_TO_RAS
from msgan.data.grid import Grid
from msgan.types import Array, InputError

Slice = tuple[Path, Header]
"""Where a slice is stored, which messages name, and its tags."""

GAP_TOLERANCE = 0.05
"""Slice distances may differ from their median by this fraction (headers round positions)."""
MOST_NAMED = 6
"""Values that an error about several volumes names."""
TILT_TOLERANCE = 0.01
"""Sideways shift of the slices for each mm along their normal."""
ANGLE_TOLERANCE = 1e-3
"""Cosines may be off by this much (headers round them)."""
SAME_MM = 1e-3
"""Slices closer than this lie at one position."""


class SeveralVolumes(InputError):
    """Slices lie at one position."""


def stacked(
    slices: list[Slice],
    what: str = "series",
    way_out: str = "give each a folder of its own",
) -> tuple[Grid, list[Slice]]:
    """The grid of an image, and its slices along the third axis of it.

    They are sorted by their position along the slice normal, never by name or number.

    Args:
        slices: At least two, in any order.
        what: They are of, for messages.
        way_out: Where several volumes are in it.

    Raises:
        InputError: Slices are missing, doubled, tilted or unlike, or rescaled only in part.
    """
    along, across = [], []
    for file, header in slices:
        try:
            along.append(numbers(header, "ImagePositionPatient", 3))
            across.append(numbers(header, "ImageOrientationPatient", 6) + spacing_of(header))
        except InputError as error:
            raise InputError(f"{file.name}: {error}") from error
    _alike(slices, across)
    first, cosines = slices[0][1], np.reshape(across[0][:6], (2, 3))
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > ANGLE_TOLERANCE:
        raise InputError(f"ImageOrientationPatient {across[0][:6]} is not a frame")
    along_row, along_column = cosines
    normal = np.cross(along_row, along_column)
    positions = np.array(along)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    slices = [slices[i] for i in order]
    try:
        _regular(positions, normal, slices)
    except SeveralVolumes as error:
        raise InputError(f"{error}{_volumes(positions @ normal, slices, what, way_out)}") from None

    row_mm, column_mm = across[0][6:]
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_mm  # the first index runs along a row
    affine[:3, 1] = along_column * row_mm
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 3] = positions[0]
    shape = (whole(first, "Columns"), whole(first, "Rows"), len(slices))
    return Grid(shape, LPS_TO_RAS @ affine), slices


def turned(grid: Grid, slices: list[Slice]) -> tuple[Grid, list[Slice]]:
    """The same image with its third axis against the slice normal."""
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (grid.shape[2] - 1)
    affine[:3, 2] *= -1
    return Grid(grid.shape, affine), slices[::-1]


def spacing_of(header: Header, tag: str = "PixelSpacing") -> list[float]:
    """Distances of rows and of columns, in mm.

    Raises:
        InputError: There are none, or one is not above 0.
    """
    spacing = numbers(header, tag, 2)
    if min(spacing) <= 0:
        raise InputError(f"{tag} is {spacing}: expected two sizes above 0")
    return spacing


def _alike(slices: list[Slice], across: list[list[float]]) -> None:
    """Refuse slices that cannot be of one image."""
    name, first = slices[0][0].name, slices[0][1]
    for (file, header), own in zip(slices[1:], across[1:], strict=True):
        who = f"slices {name} and {file.name} differ in"
        usual = {"PhotometricInterpretation": "MONOCHROME2"}
        usual["RescaleType"] = "HU" if first.get("Modality") == "CT" else "US"
        for tag in ("Rows", "Columns", "Modality", *usual):
            pair = [h.get(tag, usual.get(tag)) for h in (first, header)]
            if pair[0] != pair[1]:
                raise InputError(f"{who} {tag}: {pair[0]} and {pair[1]}")
        for tag in ("RescaleSlope", "RescaleIntercept"):
            with_it, without = (file.name, name) if first.get(tag) is None else (name, file.name)
            if (header.get(tag) is None) != (first.get(tag) is None):
                raise InputError(
                    f"{without} has no {tag}, {with_it} has: values would be of two units"
                )
        parts = (("ImageOrientationPatient", slice(6)), ("PixelSpacing", slice(6, None)))
        for tag, part in parts:
            if not np.allclose(own[part], across[0][part], rtol=0, atol=1e-4):
                raise InputError(f"{who} {tag}: {across[0][part]} and {own[part]}")


def _regular(positions: Array, normal: Array, slices: list[Slice]) -> None:
    """Refuse slices that do not lie on a straight line along the normal at equal distances."""
    names = [file.name for file, _ in slices]
    places = positions @ normal
    gaps = np.diff(places)
    typical = float(np.median(gaps))
    if gaps[same := int(gaps.argmin())] < SAME_MM:
        raise SeveralVolumes(f"slices {names[same]} and {names[same + 1]} have the same position")
    worst = int(np.abs(gaps - typical).argmax())
    if abs(gaps[worst] - typical) > GAP_TOLERANCE * typical:
        raise InputError(
            f"missing slices or irregular positions: {gaps[worst]:.4g} mm between "
            f"{names[worst]} and {names[worst + 1]}, {typical:.4g} mm elsewhere"
        )
    steps = np.diff(positions, axis=0)
    shift = float(np.linalg.norm(steps - np.outer(gaps, normal), axis=1).max())
    if shift > TILT_TOLERANCE * typical:
        angle = np.degrees(np.arctan2(shift, typical))
        raise InputError(f"gantry tilt of {angle:.1f} degrees: slices shift by {shift:.3g} mm each")


def _volumes(places: Array, slices: list[Slice], what: str, way_out: str) -> str:
    """What tells volumes of one series apart, in words."""
    known = {(header.get("SOPInstanceUID"), header.get("FrameNumber")) for _, header in slices}
    if len(known) < len(slices):
        return ": a slice is there twice"
    for tag in APART:
        volumes: dict[str, list[float]] = defaultdict(list)
        for place, (_, header) in zip(places, slices, strict=True):
            volumes[str(header.get(tag))].append(place)
        once = all(np.diff(own).min(initial=np.inf) >= SAME_MM for own in volumes.values())
        if len(volumes) > 1 and once and len(volumes) < len(places):
            values = ", ".join([*volumes][:MOST_NAMED] + ["..."] * (len(volumes) > MOST_NAMED))
            return (
                f": {len(volumes)} volumes in one {what}, which differ in {tag} ({values}): "
                f"{way_out}"
            )
    return f": several volumes in one {what}"
