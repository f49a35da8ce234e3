"""New tumours from old ones: label maps moved, mirrored, shrunk, enlarged (2020, section 3.2.2).

Every transform says for each voxel of the result which place of the old map it shows, in mm, and
takes the nearest label there: labels stay integers, all of them move alike, so a core stays in
its rim. Label maps are held in memory as a whole, a byte a voxel.

This lies beside the methods and not beside the data on purpose: no training reads it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from msgan.data.grid import Grid
from msgan.data.volume import open_labels, write_volume
from msgan.phantoms.fields import centres, field
from msgan.seeds import numpy_rng
from msgan.types import Array, InputError

LEAST = 0.8
"""Share of a lesion that must lie in the brain, else it is moved inwards."""

REACH_MM = 30.0
"""How far a lesion is moved inwards at most."""


@dataclass(frozen=True)
class LabelMap:
    """Pathology labels of one image.

    Attributes:
        values: uint8, shape of the grid, 0 where nothing is.
        grid: Where the voxels lie, 2D or 3D.
    """

    values: Array
    grid: Grid

    def __post_init__(self) -> None:
        if self.values.shape != self.grid.shape:
            raise InputError(f"labels of shape {self.values.shape} on a grid of {self.grid.shape}")

    @classmethod
    def open(cls, path: str | os.PathLike[str], like: Grid | None = None) -> LabelMap:
        """Read a file; see :func:`msgan.data.volume.open_labels`.

        Raises:
            InputError: The file is at fault, or a label does not fit 8 bits.
        """
        with open_labels(path, like=like) as volume:
            values = volume.whole()
            if not 0 <= values.min() <= values.max() <= 255:
                raise InputError(f"{path}: labels {values.min()} to {values.max()}: expected 0-255")
            return cls(values.astype(np.uint8), volume.grid)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a file with the grid's affine; it appears under its name when complete."""
        write_volume(
            path,
            self.grid,
            lambda box: self.values[box.slices],
            unit="label",
            dtype=np.uint8,
            generated=True,
        )

    @property
    def centre_mm(self) -> Array:
        """Centre of mass of everything labelled, (d,) mm.

        Raises:
            InputError: Nothing is labelled.
        """
        if not self.values.any():
            raise InputError("labels are empty: there is no lesion to transform")
        return np.asarray(_to_mm(self.grid, np.argwhere(self.values).mean(axis=0)))

    @property
    def volume_ml(self) -> float:
        """Volume of everything labelled, ml (2D: of a slice 1 mm thick)."""
        voxel = abs(np.linalg.det(self.grid.affine[:-1, :-1]))
        return float((self.values > 0).sum() * voxel / 1000)


def brain_box(brain: Array, grid: Grid) -> tuple[Array, Array]:
    """Least and largest mm of a brain along each anatomical axis, (d,) each.

    Raises:
        InputError: The mask has another shape than the grid, or no voxel.
    """
    if brain.shape != grid.shape:
        raise InputError(f"brain of shape {brain.shape} on a grid of {grid.shape}")
    if not brain.any():
        raise InputError("brain mask has no voxel")
    places = _to_mm(grid, np.argwhere(brain))
    return places.min(axis=0), places.max(axis=0)


def mirrored(labels: LabelMap, brain: Array, axis: int = 0) -> LabelMap:
    """Mirror about the middle of the brain (2020, figure 10).

    The paper mirrors "on the y-axis", which is read as the line one mirrors at: in an axial slice
    left and right change places, and a lesion comes to lie in the other hemisphere.

    Args:
        labels: To mirror.
        brain: Bool, on the grid of ``labels``; the middle is that of its box.
        axis: Anatomical axis (RAS mm; 2D: of the picture) that is reversed: 0 left and right, 1
            back and front, 2 down and up. The order of the file's own axes does not matter.

    Raises:
        InputError: There is no such axis, or no brain.
    """
    dims = labels.grid.dims
    if not 0 <= axis < dims:
        raise InputError(f"axis {axis} to mirror on: expected 0 to {dims - 1}")
    low, high = brain_box(brain, labels.grid)
    turn, shift = np.eye(dims), np.zeros(dims)
    turn[axis, axis] = -1
    shift[axis] = low[axis] + high[axis]
    return _affine(labels, turn, shift)


def scaled(labels: LabelMap, factor: float) -> LabelMap:
    """Shrink or enlarge about the lesion's centre of mass; 0.85 and 1.15 in 2020, figure 10.

    Raises:
        InputError: The factor is not positive, or nothing is labelled.
    """
    if not (np.isfinite(factor) and factor > 0):
        raise InputError(f"factor {factor} to scale labels by: expected a positive number")
    middle = labels.centre_mm
    return _affine(labels, np.eye(labels.grid.dims) / factor, middle - middle / factor)


def moved(labels: LabelMap, offset_mm: Sequence[float]) -> LabelMap:
    """Translate by ``offset_mm`` along the anatomical axes (RAS; 2D: of the picture).

    Raises:
        InputError: The offset has another number of axes.
    """
    if len(offset_mm) != labels.grid.dims:
        raise InputError(f"offset {tuple(offset_mm)} mm: expected {labels.grid.dims} numbers")
    return _affine(labels, np.eye(labels.grid.dims), -np.asarray(offset_mm, dtype=float))


def grown(
    labels: LabelMap, amplitude_mm: float, seed: int, *, lattice_mm: float = 25.0
) -> LabelMap:
    """Grow unevenly: the surface moves outwards by 0 to ``amplitude_mm``, smoothly varying.

    Not in the paper. A place at distance r from the centre of mass shows what was at r R / (R + a),
    where R is the radius of a ball (2D: disc) of the lesion's size and a a random field, so ``a``
    is how far a surface at R moves and others move in proportion.

    Args:
        labels: To grow.
        amplitude_mm: Largest growth at R.
        seed: Of the field, which is the same at every resolution of one field of view.
        lattice_mm: Distance of the field's knots; bumps are about twice as wide.

    Raises:
        InputError: The amplitude is negative, or nothing is labelled.
    """
    if not (np.isfinite(amplitude_mm) and amplitude_mm >= 0):
        raise InputError(f"amplitude {amplitude_mm} mm to grow by: expected at least 0")
    grid, middle = labels.grid, labels.centre_mm
    voxel = abs(np.linalg.det(grid.affine[:-1, :-1]))
    size = (labels.values > 0).sum() * voxel
    radius = (size / np.pi) ** 0.5 if grid.dims == 2 else (0.75 * size / np.pi) ** (1 / 3)
    extent = [n * side for n, side in zip(grid.shape, grid.spacing, strict=True)]
    origin = [0.0] * grid.dims
    axes = centres(origin, extent, grid.shape)
    rng = numpy_rng(seed, "labels", "grown")
    push = amplitude_mm * (1 + field(rng, axes, origin, extent, lattice_mm, uniform=True)) / 2
    # In index space, which the affine maps linearly to mm, so proportions are the same.
    start = _to_index(grid, middle)
    share = radius / (radius + push)
    index = np.indices(grid.shape, dtype=np.float32)
    for k in range(grid.dims):
        index[k] = start[k] + (index[k] - start[k]) * share
    return replace(labels, values=_nearest(labels.values, index))


def placed(
    labels: LabelMap, grid: Grid, own: Array | None = None, other: Array | None = None
) -> LabelMap:
    """One person's labels on another person's grid.

    Places correspond by their mm. Where brains are given, they correspond by their share of the
    brain's box along each anatomical axis instead: data sets seldom share an origin.

    Args:
        labels: Of the patient.
        grid: Of the other person's image.
        own: Brain of the patient, bool, on the grid of ``labels``.
        other: Brain of the other person, bool, on ``grid``.

    Raises:
        InputError: The numbers of axes differ, one brain comes without the other, or is empty.
    """
    if grid.dims != labels.grid.dims:
        raise InputError(f"labels of {labels.grid.dims} axes for an image of {grid.dims}")
    if (own is None) != (other is None):
        raise InputError("one brain mask of two: expected both or none")
    turn, shift = np.eye(grid.dims), np.zeros(grid.dims)
    if own is not None and other is not None:
        low, high = brain_box(own, labels.grid)
        there = brain_box(other, grid)
        ratio = (high - low) / np.maximum(there[1] - there[0], 1e-6)
        turn, shift = np.diag(ratio), low - ratio * there[0]
    return _affine(labels, turn, shift, grid)


def fitted(
    labels: LabelMap, brain: Array, *, least: float = LEAST, reach_mm: float = REACH_MM
) -> LabelMap:
    """Keep a lesion in the brain: what is outside is cut off.

    Where less than ``least`` of it would remain, it is first moved towards the middle of the
    brain, a voxel at a time, until enough remains.

    Args:
        labels: To fit.
        brain: Bool, on the grid of ``labels``.
        least: Share of the lesion's voxels that must remain, 0 to 1.
        reach_mm: How far it may be moved.

    Raises:
        InputError: Nothing is labelled, or less remains however it is moved.
    """
    if not 0 <= least <= 1:
        raise InputError(f"share {least} of a lesion to keep: expected 0 to 1")
    low, high = brain_box(brain, labels.grid)
    whole = int((labels.values > 0).sum())
    way = (low + high) / 2 - labels.centre_mm
    length = float(np.linalg.norm(way))
    step, best = min(labels.grid.spacing), 0.0
    for far in np.arange(0.0, min(reach_mm, length) + step / 2, step):
        tried = moved(labels, way / max(length, 1e-6) * far) if far else labels
        share = int((brain & (tried.values > 0)).sum()) / whole
        if share >= least:
            return replace(tried, values=np.where(brain, tried.values, 0).astype(np.uint8))
        best = max(best, share)
    raise InputError(
        f"lesion of {labels.volume_ml:.3g} ml: at most {best:.0%} lie in the brain within "
        f"{reach_mm:g} mm: expected at least {least:.0%}"
    )


def _affine(labels: LabelMap, turn: Array, shift: Array, grid: Grid | None = None) -> LabelMap:
    """Each place p (mm) of ``grid`` shows the label that was at ``turn p + shift``."""
    from scipy import ndimage

    grid = grid or labels.grid
    dims = grid.dims
    there = np.eye(dims + 1)
    there[:dims, :dims], there[:dims, dims] = turn, shift
    pull = np.linalg.inv(labels.grid.affine) @ there @ grid.affine
    values = ndimage.affine_transform(
        labels.values, pull, output_shape=grid.shape, order=0, mode="constant", cval=0
    )
    return LabelMap(values, grid)


def _nearest(values: Array, index: Array) -> Array:
    from scipy import ndimage

    return np.asarray(ndimage.map_coordinates(values, index, order=0, mode="constant", cval=0))


def _to_mm(grid: Grid, index: Array) -> Array:
    return np.asarray(index @ grid.affine[:-1, :-1].T + grid.affine[:-1, -1])


def _to_index(grid: Grid, places: Array) -> Array:
    back = np.linalg.inv(grid.affine)
    return np.asarray(places @ back[:-1, :-1].T + back[:-1, -1])
