"""The position that a NIfTI header gives its image, and notes where it contradicts itself.

The transform that counts is nibabel's: the sform where its code is not 0, else the qform where
its code is not 0, else the voxel sizes alone. ITK (ITK-SNAP, Slicer, ANTs) prefers the qform
unless the sform's code is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from msgan.data.grid import NiftiFrame
from msgan.types import Array, InputError, Shape

MM = {1: 1000.0, 2: 1.0, 3: 0.001}
"""mm of the units of length by their codes; 0 says nothing and is mm by custom."""

CODES = range(6)
SCANNER = 1
ITK = "ITK (ITK-SNAP, Slicer, ANTs)"
APART = 0.1
"""Forms disagree where they place a corner further apart than this fraction of a voxel."""

SHEAR = 1e-4
"""Cosine between two axes beyond which ITK takes them for sheared."""

NO_QUATERNION = 0.01
"""By how much b^2 + c^2 + d^2 may exceed 1: rounding of quaternions, and nothing else."""


@dataclass(frozen=True)
class Place:
    """Where an image lies.

    Attributes:
        affine: (4, 4), index to mm.
        measured: Whether a unit of length other than mm is stated.
        notes: What a user should know.
    """

    affine: Array
    measured: bool
    notes: tuple[str, ...]


def place(frame: NiftiFrame, shape: Shape) -> Place:
    """The affine that counts.

    Args:
        frame: The fields of the header.
        shape: Of the image, with all axes.

    Raises:
        InputError: The transform that counts is none.
    """
    notes: list[str] = []
    scode, qcode = (
        _code(name, code, notes)
        for name, code in (("sform_code", frame.sform_code), ("qform_code", frame.qform_code))
    )
    if frame.unit not in (0, *MM):
        notes.append(f"unit of length {frame.unit} is none of NIfTI's: taken as mm")
    sizes = _sizes(frame, len(shape), scode, qcode, notes)
    sform, qform = _sform(frame), _qform(frame, sizes)
    if scode:
        affine = sform
        _compare(frame, shape, sform, qform, scode, qcode, notes)
    elif qcode:
        if qform is None:
            raise InputError(
                f"quaternion {frame.quaternion} of the qform (code {qcode}): "
                "b^2 + c^2 + d^2 must not exceed 1"
            )
        affine = qform
    else:
        affine = _base(sizes, shape)
        if len(shape) > 2:
            notes.append(
                "states no orientation (qform_code and sform_code are 0): its axes are taken as "
                f"left, front, up (LAS), as nibabel does; {ITK} takes them as left, back, up"
            )
    affine = affine.copy()
    affine[:3] *= MM.get(frame.unit, 1.0)
    return Place(affine, frame.unit in MM and MM[frame.unit] != 1.0, tuple(notes))


def _code(name: str, code: int, notes: list[str]) -> int:
    if code in CODES:
        return code
    notes.append(f"{name} {code} is not one of 0 to 5: taken as 0, as nibabel does")
    return 0


def _sizes(frame: NiftiFrame, axes: int, scode: int, qcode: int, notes: list[str]) -> Array:
    """Voxel sizes and the sign of the third, as nibabel mends them."""
    sizes = np.array(frame.pixdim[1:4])
    used = sizes[: min(axes, 3)]
    if (used < 0).any():
        shown = ", ".join(f"{s:g}" for s in used)
        notes.append(f"voxel sizes {shown}: taken as positive, as nibabel does; {ITK} mirrors")
    if not scode and (used == 0).any():
        notes.append("voxel size 0: taken as 1")
    sizes = np.where(sizes == 0, 1.0, np.abs(sizes))
    if qcode and frame.pixdim[0] not in (-1.0, 0.0, 1.0):
        notes.append(f"qfac (pixdim[0]) {frame.pixdim[0]:g} is not 1 or -1: taken as 1")
    return sizes * (1, 1, -1 if frame.pixdim[0] == -1 else 1)


def _sform(frame: NiftiFrame) -> Array:
    return np.vstack([np.reshape(frame.rows, (3, 4)), [0, 0, 0, 1]])


def _qform(frame: NiftiFrame, sizes: Array) -> Array | None:
    """The qform; None where its quaternion is none."""
    from nibabel.quaternions import quat2mat

    rest = 1 - float(np.square(frame.quaternion).sum())
    if not rest > -NO_QUATERNION:  # NaN, too
        return None
    # Below the rounding of the fields it is a half turn: the same limit as nibabel's.
    rounding = 3 * np.finfo(np.float64 if frame.nifti2 else np.float32).eps
    first = np.sqrt(rest) if rest > rounding else 0.0
    affine = np.eye(4)
    affine[:3, :3] = quat2mat([first, *frame.quaternion]) * sizes
    affine[:3, 3] = frame.offset
    return affine


def _base(sizes: Array, shape: Shape) -> Array:
    """Voxel sizes alone: x flipped, the centre of the image at 0."""
    steps = np.abs(sizes) * (-1, 1, 1)
    sides = np.array([*shape, 1, 1][:3])
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (sides - 1) / 2
    return affine


def _compare(
    frame: NiftiFrame,
    shape: Shape,
    sform: Array,
    qform: Array | None,
    scode: int,
    qcode: int,
    notes: list[str],
) -> None:
    """Add what else the header says than the sform, which counts."""
    spacing = np.linalg.norm(sform[:3, :3], axis=0)
    if not np.isfinite(sform).all() or not prod(spacing):
        return  # refused as a grid
    axes = sform[:3, :3] / spacing
    sheared = np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR
    mm = MM.get(frame.unit, 1.0)
    if qcode and qform is None:
        notes.append(f"quaternion {frame.quaternion} of the qform is none: the sform counts")
    elif qcode and qform is not None:
        moved = apart(sform, qform, shape)
        if not moved <= APART * spacing.min():
            taken = f"{ITK} takes the qform" if scode != SCANNER or sheared else f"{ITK} as well"
            ways = "".join(_codes(sform)), "".join(_codes(qform))
            turned = f", one with axes {ways[0]}, one with {ways[1]}" if ways[0] != ways[1] else ""
            notes.append(
                f"sform (code {scode}) and qform (code {qcode}) place a corner of the image "
                f"{moved * mm:.3g} mm apart{turned}: the sform counts, as for nibabel; {taken}"
            )
            if scode != SCANNER or sheared:
                return
    if sheared and not qcode:
        notes.append(f"the sform is sheared and there is no qform: {ITK} reads no such image")
    # ITK takes the size of a voxel from pixdim, and 1 for what is no size.
    sizes = np.abs(frame.pixdim[1:4])
    sizes = np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1.0)
    used = min(len(shape), 3)
    most = np.abs((sizes - spacing)[:used] * np.array(shape[:used])).max()
    if most > APART * spacing.min():
        by_rows, by_sizes = (
            " x ".join(f"{v * mm:.4g}" for v in s[:used]) for s in (spacing, sizes)
        )
        notes.append(f"voxels of {by_rows} mm by sform, which counts, but {by_sizes} by pixdim")


def apart(one: Array, other: Array, shape: Shape) -> float:
    """How far the same corner of an image lies in two affines, at most."""
    sides = np.array([*shape, 1, 1][:3])
    corners = np.array(list(np.ndindex(2, 2, 2))) * (sides - 1)
    change = one - other
    shifts = corners @ change[:3, :3].T + change[:3, 3]
    return float(np.linalg.norm(shifts, axis=1).max())


def _codes(affine: Array) -> tuple[str, ...]:
    from nibabel.orientations import aff2axcodes

    return tuple(str(code) for code in aff2axcodes(affine))
