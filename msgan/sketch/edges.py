"""Canny edges weighted by their gradient magnitude (extended paper, section 2.2)."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from msgan.config import SketchConfig
from msgan.sketch import filters
from msgan.types import Box

FLOOR = 0.03
"""Smallest contrast that ``weight = "local"`` scales up fully; share of a full-range step."""

TIE = (1.0, 0.7549, 0.5698)
"""A direction no edge of a grid has; of two equally steep voxels the one against it wins."""

WEAK, KEPT = 1, 2


def halo(config: SketchConfig) -> int:
    """Voxels needed around a region: those of a thin edge and one for each hysteresis step."""
    return _thin_halo(config) + config.steps


def edges(image: Tensor, out: Tensor, config: SketchConfig) -> None:
    """Write the weighted edges of ``image`` (batch, *core + 2 halo) to ``out`` (batch, 1, *core).

    Gaussian smoothing, gradient, suppression of all but the steepest voxel across the edge, two
    thresholds, hysteresis; what is kept has the gradient magnitude as its value.

    Differs: thresholds and weight are shares of the response to a step over the whole range
    [-1, 1], not of the image's largest magnitude, which a tile cannot know. With
    ``weight = "local"`` they are shares of the local root mean square instead, so that a
    low-contrast modality has the edges of a high-contrast one. Hysteresis follows a weak edge
    for ``config.steps`` voxels only.
    """
    steps, core = config.steps, Box.whole(out.shape[2:])
    # One voxel of rim, so that a neighbour's index never leaves the array or enters the next row.
    state = image.new_zeros(
        (image.shape[0], *(n + 2 * steps + 2 for n in core.size)), dtype=torch.uint8
    )

    def thin(tile: Tensor, box: Box) -> None:
        kind, strength = _thin(tile, config)
        filters.part(state, box.shifted((1,) * box.dims)).copy_(kind)
        inner = box.shifted((-steps,) * box.dims).clipped(core.size)
        source = inner.shifted((steps,) * box.dims).inside(box)
        if inner.voxels:
            filters.part(out[:, 0], inner).copy_(filters.part(strength, source))

    filters.tiled(image, _thin_halo(config), thin)
    with filters.one_thread():
        _follow(state, steps)
        out[:, 0].masked_fill_(filters.crop(state, steps + 1) != KEPT, 0.0)


def full_step(sigma: float) -> float:
    """Gradient magnitude, per voxel, beside a step from -1 to 1 across an axis."""
    weights = filters.gaussian(sigma)
    return weights[0] + weights[1]


def _thin_halo(config: SketchConfig) -> int:
    around = filters.WINDOW if config.weight == "local" else 1
    return filters.reach(config.sigma) + 1 + around


def _thin(tile: Tensor, config: SketchConfig) -> tuple[Tensor, Tensor]:
    """One voxel thick edges of (batch, *core + 2 thin halo).

    Returns:
        Per voxel of the core: 0, ``WEAK`` or ``KEPT`` (uint8), and the strength in [0, 1].
    """
    smoothed = filters.smooth(tile, filters.gaussian(config.sigma))
    slopes = []
    for axis in filters.spatial(smoothed):
        inner = filters.crop_across(smoothed, axis, 1)
        size = inner.shape[axis] - 2
        slopes.append(inner.narrow(axis, 2, size) - inner.narrow(axis, 0, size))
    square = slopes[0] * slopes[0]
    for slope in slopes[1:]:
        square.add_(slope * slope)
    magnitude = square.sqrt_().mul_(0.5 / full_step(config.sigma))
    if config.weight == "local":
        strength = filters.relative(magnitude, FLOOR)
        outside = filters.WINDOW - 1
        magnitude = filters.crop(magnitude, outside).contiguous()
        slopes = [filters.crop(slope, outside).contiguous() for slope in slopes]
    else:
        strength = filters.crop(magnitude, 1).clamp(max=1.0)
    candidates = torch.zeros_like(magnitude, dtype=torch.bool)
    filters.crop(candidates, 1).copy_(strength > config.low)
    index = candidates.view(-1).nonzero()[:, 0]
    index = index[_is_ridge(magnitude, slopes, index)]
    kind = torch.zeros_like(magnitude, dtype=torch.uint8)
    kind.view(-1)[index] = WEAK
    kind = filters.crop(kind, 1)
    return kind + (kind * (strength >= config.high)), strength


def _is_ridge(magnitude: Tensor, slopes: list[Tensor], index: Tensor) -> Tensor:
    """Whether the magnitude at each flat ``index`` tops that one voxel uphill and downhill.

    Both are interpolated linearly along each axis, at a distance of one voxel along the gradient.
    """
    values = magnitude.view(-1)
    direction = [slope.view(-1)[index] for slope in slopes]
    length = sum((d * d for d in direction[1:]), direction[0] * direction[0]).sqrt()
    # The gradient of -x points the other way: both must ask the same of the same neighbour.
    along = sum(
        (d * t for d, t in zip(direction[1:], TIE[1:], strict=False)), direction[0] * TIE[0]
    )
    strides = [magnitude.stride(axis) for axis in filters.spatial(magnitude)]
    jumps, near, far = [], [], []
    for d, stride in zip(direction, strides, strict=True):
        jumps.append(torch.where((d >= 0) == (along >= 0), stride, -stride))
        far.append(d.abs().div_(length))
        near.append(1.0 - far[-1])
    ahead, behind = torch.zeros_like(length), torch.zeros_like(length)
    for corner in product((False, True), repeat=len(strides)):
        weight = near[0] if not corner[0] else far[0]
        for axis, moved in enumerate(corner[1:], 1):
            weight = weight * (far if moved else near)[axis]
        offset = torch.zeros_like(index)
        for axis, moved in enumerate(corner):
            if moved:
                offset += jumps[axis]
        ahead.add_(values[index + offset].mul_(weight))
        behind.add_(values[index - offset].mul_(weight))
    here = values[index]
    return (here > ahead) & (here >= behind)


def _follow(state: Tensor, steps: int) -> None:
    """Keep weak voxels within ``steps`` steps of a kept one, diagonal steps included, in place."""
    flat = state.view(-1)
    strides = [state.stride(axis) for axis in filters.spatial(state)]
    moves = [
        sum(d * s for d, s in zip(delta, strides, strict=True))
        for delta in product((-1, 0, 1), repeat=len(strides))
        if any(delta)
    ]
    front = (flat == KEPT).nonzero()[:, 0]
    for _ in range(steps):
        found = []
        for move in moves:
            beside = front + move
            beside = beside[flat[beside] == WEAK]
            flat[beside] = KEPT
            found.append(beside)
        front = torch.cat(found)
        if not len(front):
            break
