"""The grid of an image: its shape and the position of its voxels in the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from msgan.types import Array, InputError, Shape

TOLERANCE_MM = 1e-5
"""Two affines that differ by less in every entry are the same."""


@dataclass(frozen=True)
class NiftiFrame:
    """The geometry of a NIfTI header as it stands there, valid or not.

    Programs differ in what they make of codes, of forms that disagree and of units. A result
    that repeats the header of its source lies on it in all of them.

    Attributes:
        pixdim: qfac and the voxel sizes, in the header's unit.
        quaternion: b, c, d of the qform.
        offset: Of the qform, in the header's unit.
        rows: The sform's twelve numbers, row after row.
        qform_code: 0 to 5 where valid.
        sform_code: 0 to 5 where valid.
        unit: Code of the unit of length.
        nifti2: Whether the numbers are of 64 bits.
    """

    pixdim: tuple[float, ...]
    quaternion: tuple[float, ...]
    offset: tuple[float, ...]
    rows: tuple[float, ...]
    qform_code: int
    sform_code: int
    unit: int
    nifti2: bool


@dataclass(frozen=True, eq=False)
class Grid:
    """A lattice of voxels: ``shape`` and the affine from index to mm.

    Attributes:
        shape: Voxels along each axis, in the index order of the file.
        affine: (d+1, d+1) float64, read-only. In 3D the mm are RAS (nibabel's convention:
            x to the right, y to the front, z up). In 2D they are (down the rows, along the
            columns): a picture has no anatomical frame.
        frame: What the NIfTI header says that the affine was taken from; a grid that was computed
            has none. It is written again with what lies on the grid, and not compared.

    Raises:
        InputError: The shape has no voxels, or the affine is not finite, not affine or singular.
    """

    shape: Shape
    affine: Array
    frame: NiftiFrame | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)
        if len(shape) not in (2, 3):
            raise InputError(f"{len(shape)}D image of shape {shape}: expected 2 or 3 axes")
        if min(shape) < 1:
            raise InputError(f"empty image of shape {shape}")
        d = len(shape)
        if affine.shape != (d + 1, d + 1):
            raise InputError(f"affine of shape {affine.shape} for an image of {d} axes")
        if not np.isfinite(affine).all():
            raise InputError(f"affine {affine.tolist()} is not finite")
        if not np.array_equal(affine[d], np.eye(d + 1)[d]):
            raise InputError(f"last row {affine[d].tolist()} of the affine is not 0 ... 0 1")
        if min(self.spacing) < 1e-6:  # a nanometre: no image, but rounding of a zero
            raise InputError(f"voxel spacing {self.spacing} mm is zero along an axis")
        if abs(np.linalg.det(affine[:d, :d] / self.spacing)) < 1e-6:
            raise InputError(f"affine {affine.tolist()} is singular")

    @classmethod
    def from_spacing(
        cls, shape: Sequence[int], spacing: Sequence[float], origin: Sequence[float] | None = None
    ) -> Grid:
        """The grid with axes along the mm axes, ``spacing`` in mm and voxel 0 at ``origin``.

        Example:
            >>> grid = Grid.from_spacing((4, 4, 2), (1, 1, 2.5))
            >>> grid.spacing, grid.orientation
            ((1.0, 1.0, 2.5), ('R', 'A', 'S'))
        """
        affine = np.diag([*spacing, 1.0])
        if origin is not None:
            affine[:-1, -1] = origin
        return cls(tuple(shape), affine)

    @property
    def dims(self) -> int:
        """Number of axes, 2 or 3."""
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbours along each axis, in mm."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def orientation(self) -> tuple[str, ...]:
        """Where each axis of a 3D grid points, as in ``('L', 'A', 'S')``; empty in 2D."""
        if self.dims == 2:
            return ()
        from nibabel.orientations import aff2axcodes

        return tuple(str(code) for code in aff2axcodes(self.affine))

    def same_as(self, other: Grid, tolerance: float = TOLERANCE_MM) -> bool:
        """Whether shape and affine agree, the latter within ``tolerance`` in every entry."""
        return self.shape == other.shape and bool(
            np.allclose(self.affine, other.affine, rtol=0, atol=tolerance)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` restores the same grid."""
        frame = {} if self.frame is None else {"frame": asdict(self.frame)}
        return {"shape": list(self.shape), "affine": self.affine.tolist(), **frame}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Grid:
        """Restore what :meth:`to_dict` wrote."""
        frame = data.get("frame")
        if frame is not None:
            # JSON has lists for tuples.
            content: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in frame.items()
            }
            frame = NiftiFrame(**content)
        return cls(tuple(data["shape"]), np.array(data["affine"]), frame)

    def __eq__(self, other: object) -> bool:
        return self.same_as(other) if isinstance(other, Grid) else NotImplemented

    def __hash__(self) -> int:
        # Equality is approximate, so only what is compared exactly may enter the hash.
        return hash(self.shape)

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{s:.6g}" for s in self.spacing)
        origin = ", ".join(f"{o:.6g}" for o in self.affine[:-1, -1])
        axes = "".join(self.orientation)
        return f"{size} voxels of {spacing} mm from ({origin}){' ' * bool(axes)}{axes}"
