"""Segments the lungs in a chest CT, without training, on a coarse grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from msgan.data.grid import Grid
from msgan.data.orientation import canonical_axes
from msgan.data.pieces import PIECE_BYTES
from msgan.types import Array, Box, InputError, Reader, Shape

COARSE_MM = 3.0
"""Voxel side to look for lungs with: wide enough that the noise of sharp kernels averages out."""

TISSUE_HU = -420.0
"""Halfway between lung (about -850 HU, less in emphysema) and soft tissue (about 40 HU): a voxel on
the border is lung if half of it is."""

GAS_HU = -965.0
"""Pure air is -1000 HU; lung has vessels in it and stays above, also with severe emphysema."""

CORE_MM = 10.0
"""Radius of the balls that fit into lungs and not into a trachea."""

REACH_MM = 24.0
"""How far lung goes on into recesses where no such ball fits."""

CLOSING_MM = 8.0
"""Radius of the closing that takes vessels and nodules in."""

OTHER_LUNG = 0.1
"""A second component smaller than this share of the first is not the other lung."""

LEAST_LITRES = 0.1


@dataclass(frozen=True)
class Lungs:
    """Where the lungs of one image are.

    Attributes:
        read: 1 in the lungs, with their vessels and without the trachea, else 0; uint8, on the
            image's grid.
        box: The smallest box of voxels of the image around them.
        litres: Volume of the two.
    """

    read: Reader = field(repr=False)
    box: Box
    litres: float


def lung_mask(read: Reader, grid: Grid) -> Lungs:
    """Find the lungs of a chest CT.

    The image is averaged to voxels of about 3 mm, box by box, and only this coarse image is held
    in memory. Lung is what is darker than tissue within the body, filled slice by slice; a table
    is another body and the air around is in none. Balls of a centimetre fit into lungs and not
    into airways: the largest one or two components of where they fit, which are not pure gas as
    in bowels, are the lungs. They grow back into narrow recesses and are closed over vessels.

    The paper crops to "a bounding box around the lungs" (2019, section 3.2) and does not say how
    they are found.

    Args:
        read: The image in HU.
        grid: Its grid; slices may lie across any axis, the affine tells.

    Raises:
        InputError: Not 3D, or nothing like a lung in it.
    """
    if grid.dims != 3:
        raise InputError(f"{grid.dims}D image: lungs are looked for in 3D CT")
    factors = tuple(max(1, round(COARSE_MM / h)) for h in grid.spacing)
    axes, _ = canonical_axes(grid)
    # Axial slices last, whatever the file's order.
    coarse = _coarse(read, grid.shape, factors).transpose(axes)
    spacing = tuple(grid.spacing[a] * factors[a] for a in axes)
    found = _lungs(coarse, spacing)
    litres = float(found.sum()) * prod(spacing) / 1e6
    if litres < LEAST_LITRES:
        raise InputError(
            f"no lungs found (dark regions within the body, above {GAS_HU:g} HU, of at least "
            f"{LEAST_LITRES} litres): expected a CT of the chest in HU"
        )
    mask = np.ascontiguousarray(found.transpose(np.argsort(axes))).astype(np.uint8)
    ends = [np.flatnonzero(mask.any(tuple({0, 1, 2} - {a}))) for a in range(3)]
    start = tuple(int(e[0]) * f for e, f in zip(ends, factors, strict=True))
    stop = tuple((int(e[-1]) + 1) * f for e, f in zip(ends, factors, strict=True))
    box = Box(start, tuple(b - a for a, b in zip(start, stop, strict=True))).clipped(grid.shape)

    def labels(part: Box) -> Array:
        at = [np.arange(a, b) // f for a, b, f in zip(part.start, part.stop, factors, strict=True)]
        return mask[np.ix_(*at)]

    return Lungs(labels, box, litres)


def _coarse(read: Reader, shape: Shape, factors: tuple[int, ...]) -> Array:
    """Means over blocks of ``factors`` voxels; the last block of an axis may be smaller."""
    small = tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))
    out = np.empty(small, np.float32)
    side = max(1, round((PIECE_BYTES / 4 / prod(factors)) ** (1 / 3)))
    for box in Box.whole(small).tiles((side,) * 3):
        start = tuple(a * f for a, f in zip(box.start, factors, strict=True))
        size = tuple(n * f for n, f in zip(box.size, factors, strict=True))
        fine = Box(start, size)
        kept = fine.clipped(shape)
        part = np.asarray(read(kept), np.float32)
        # A short block is filled up with its last voxel: 1 to 2 mm at the border do not matter.
        lack = [(0, n - m) for n, m in zip(fine.size, kept.size, strict=True)]
        part = np.pad(part, lack, mode="edge")
        split = [side for pair in zip(box.size, factors, strict=True) for side in pair]
        out[box.slices] = part.reshape(split).mean(axis=(1, 3, 5))
    return out


def _lungs(image: Array, spacing: tuple[float, ...]) -> Array:
    """Lungs of a coarse image in HU whose last axis runs across axial slices."""
    from scipy import ndimage

    everywhere = _body(image)
    around = _around(everywhere & (image < TISSUE_HU), 1)
    lungs = np.zeros(image.shape, bool)
    image, inside = image[around], everywhere[around]
    dark = inside & (image < TISSUE_HU)
    depth = ndimage.distance_transform_edt(dark, spacing)
    assert isinstance(depth, np.ndarray)
    parts, count = ndimage.label(depth >= CORE_MM)
    numbers = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, numbers)
    means = ndimage.mean(image, parts, numbers)
    chosen: list[int] = []
    for number in numbers[np.argsort(-sizes, kind="stable")]:
        large = not chosen or sizes[number - 1] >= OTHER_LUNG * sizes[chosen[0] - 1]
        if large and means[number - 1] > GAS_HU:
            chosen.append(int(number))
        if len(chosen) == 2:
            break
    steps = round((REACH_MM + CORE_MM) / max(spacing))
    for number in chosen:
        lung = ndimage.binary_dilation(parts == number, iterations=steps, mask=dark)
        lungs[around] |= _closed(lung, spacing) & inside
    return lungs


def _around(mask: Array, margin: int) -> tuple[slice, ...]:
    """The box around a mask and a margin, within the image; all of it where the mask is empty."""
    from scipy import ndimage

    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return (slice(None),) * mask.ndim
    return tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, n))
        for s, n in zip(found[0], mask.shape, strict=True)
    )


def _body(image: Array) -> Array:
    """The largest body of tissue, with all it encloses in each axial slice."""
    from scipy import ndimage

    parts, count = ndimage.label(image >= TISSUE_HU)
    if not count:
        return np.zeros(image.shape, bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body: Array = parts == sizes.argmax()
    for k in range(body.shape[2]):
        body[:, :, k] = ndimage.binary_fill_holes(body[:, :, k])
    return body


def _closed(mask: Array, spacing: tuple[float, ...]) -> Array:
    """Closing by a ball, then slice by slice without holes."""
    from scipy import ndimage

    around = _around(mask, 0)  # a closing stays in it
    reach = tuple(int(np.ceil(CLOSING_MM / h)) + 1 for h in spacing)
    part = np.pad(mask[around], [(r, r) for r in reach])
    grown = ndimage.distance_transform_edt(~part, spacing) <= CLOSING_MM
    part |= ndimage.distance_transform_edt(grown, spacing) > CLOSING_MM
    for k in range(part.shape[2]):
        part[:, :, k] = ndimage.binary_fill_holes(part[:, :, k])
    out = mask.copy()
    out[around] = part[tuple(slice(r, -r) for r in reach)]
    return out
