"""How the calls of a generator become an image: the blocks that cover it, and what they read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from msgan.networks.generator import Cut, Geometry
from msgan.types import Box, Shape, trailing


@dataclass(frozen=True)
class Block:
    """A box of an image that is made at once, by one or more calls of a generator.

    Attributes:
        core: What is made: the block's part inside the image.
        cuts: One for a generator of free size. One of fixed patch size has as many as cover
            the block; they may be computed as one batch, and what they see is read once.
    """

    core: Box
    cuts: tuple[Cut, ...]

    @property
    def reads(self) -> tuple[Box, ...]:
        """All that is read of each image, on its own grid."""
        return tuple(hull(boxes) for boxes in zip(*(cut.reads for cut in self.cuts), strict=True))


@dataclass(frozen=True)
class Tiling:
    """The blocks that cover an image of s_i once, without overlap (section 2.2), by number.

    Args:
        geometry: Decides the side of a core where the generator runs at one size only.
        shape: Of s_i. Blocks end with the image, so its sides are even where they are free and the
            generator sees no border; cuts of fixed size may reach beyond it.
        tile: Sides of a block: even likewise, and whole cores where they have one size.
        shift: The first block begins this many voxels before the image, even.

    Raises:
        ValueError: A side of ``shape`` or ``tile`` does not fit.
    """

    geometry: Geometry
    shape: Shape
    tile: Shape
    shift: int = 0

    def __post_init__(self) -> None:
        side, step = self.geometry.core_side, self.geometry.align
        # With a border, cuts are aligned and not blocks; patches may reach beyond the image.
        ends = (*self.tile, *(self.shape if side is None else ()))
        if self.geometry.border is None and any(n % step for n in ends):
            rule = "even" if step == 2 else f"multiples of {step}"
            raise ValueError(f"tile {self.tile} and shape {self.shape} must be {rule}")
        if side is not None and any(n % side for n in self.tile):
            raise ValueError(f"tile {self.tile} is not a multiple of the kept side {side}")

    @property
    def counts(self) -> Shape:
        """Blocks along each axis."""
        pairs = zip(self.shape, self.tile, strict=True)
        return tuple(-(-(n + self.shift) // side) for n, side in pairs)

    def __len__(self) -> int:
        return prod(self.counts)

    def __getitem__(self, number: int) -> Block:
        """Block ``number`` of 0 .. len - 1, last axis fastest."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        place: list[int] = []
        for count in reversed(self.counts):
            number, k = divmod(number, count)
            place.insert(0, k)
        start = tuple(k * side - self.shift for k, side in zip(place, self.tile, strict=True))
        # The first block begins before a shifted image; inside, it begins at an even voxel.
        inside = Box(start, self.tile).clipped(self.shape)
        side = self.geometry.core_side
        cores = [inside]
        if side is not None:
            cores = list(Box(start, self.tile).tiles((side,) * len(self.tile)))
        used = [box for box in cores if box.clipped(self.shape).voxels]
        return Block(inside, tuple(self.geometry.cut(box, self.shape) for box in used))

    def __iter__(self) -> Iterator[Block]:
        return (self[k] for k in range(len(self)))


def hull(boxes: Sequence[Box]) -> Box:
    """The smallest box around others."""
    start = tuple(min(starts) for starts in zip(*(box.start for box in boxes), strict=True))
    stop = tuple(max(stops) for stops in zip(*(box.stop for box in boxes), strict=True))
    return Box(start, tuple(b - a for a, b in zip(start, stop, strict=True)))


def crop_padded(image: Tensor, box: Box, fill: float) -> Tensor:
    """Cut ``box`` out of (..., *spatial); what lies outside is ``fill``."""
    shape: Shape = tuple(image.shape[image.ndim - box.dims :])
    inside = box.clipped(shape)
    part = image[trailing(inside.slices)]
    if inside == box:
        return part
    out = torch.full(
        (*image.shape[: image.ndim - box.dims], *box.size),
        fill,
        dtype=image.dtype,
        device=image.device,
    )
    if inside.voxels:
        out[trailing(inside.inside(box).slices)] = part
    return out
