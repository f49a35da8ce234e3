"""What a generator sees of sketch and context to make one tile, and how tiles become an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from msgan.types import Box, Shape, trailing


class HighGenerator(Protocol):
    """What the cascade asks of a generator of scale s_i: the geometry of one call, in voxels.

    An output patch starts and ends at even voxels of s_i, so that its context is a box of voxels.

    Attributes:
        halo: Sketch needed around the output patch, on the grid of s_i.
        context_halo: Context needed around the output patch, on the grid of s_(i-1).
        rim: What is thrown away on every side of the output, because padding has touched it.
        tile_exact: Whether any tiling gives the result of the whole image.
        patch: The only output side the family runs at, or None where it is free.
    """

    halo: int
    context_halo: int
    rim: int
    tile_exact: bool
    patch: int | None

    def __call__(self, sketch: Tensor, context: Tensor) -> Tensor:
        """Sketch and context of one patch -> the patch, its rim included."""
        ...


@dataclass(frozen=True)
class Cut:
    """The boxes of one call of a generator of scale s_i.

    Attributes:
        core: What is kept of the output, on the grid of s_i.
        detail: What comes out: the core and its rim.
        sketch: What is needed of the sketch, on the grid of s_i.
        context: What is needed of the image at s_(i-1), on its grid.
    """

    core: Box
    detail: Box
    sketch: Box
    context: Box

    @classmethod
    def of(cls, generator: HighGenerator, core: Box) -> Cut:
        """The cut that makes ``core``.

        Raises:
            ValueError: The output would not start and end at even voxels, or the family runs at
                one size only and this is another.
        """
        detail = core.grown(generator.rim)
        if any(n % 2 for n in (*detail.start, *detail.size)):
            raise ValueError(f"{detail} does not start and end at even voxels")
        if generator.patch is not None and set(detail.size) != {generator.patch}:
            raise ValueError(f"{detail} is not a patch of side {generator.patch}")
        return cls(
            core,
            detail,
            detail.grown(generator.halo),
            detail.coarse(2).grown(generator.context_halo),
        )


@dataclass(frozen=True)
class Block:
    """A box of s_i that is made at once, by one or more calls of a generator.

    Attributes:
        core: What is made: the block's part inside the image.
        cuts: One for a family of free size. A family of fixed patch size has as many as cover
            the block; they may be computed as one batch, and what they see is read once.
    """

    core: Box
    cuts: tuple[Cut, ...]

    @property
    def sketch(self) -> Box:
        """All that is needed of the sketch, on the grid of s_i."""
        return _hull([cut.sketch for cut in self.cuts])

    @property
    def context(self) -> Box:
        """All that is needed of the image at s_(i-1), on its grid."""
        return _hull([cut.context for cut in self.cuts])


@dataclass(frozen=True)
class Tiling:
    """The blocks that cover an image of s_i once, without overlap (section 2.2), by number.

    Args:
        generator: Decides the side of a core where it runs at one size only.
        shape: Of s_i, even sides. Blocks end with the image; cuts of a family of fixed size may
            reach beyond it.
        tile: Sides of a block: even, and whole cores of a family of fixed size.
        shift: The first block begins this many voxels before the image, even.

    Raises:
        ValueError: A side of ``shape`` or ``tile`` does not fit.
    """

    generator: HighGenerator
    shape: Shape
    tile: Shape
    shift: int = 0

    def __post_init__(self) -> None:
        core = core_side(self.generator)
        if any(n % 2 for n in (*self.tile, *self.shape)):
            raise ValueError(f"tile {self.tile} and shape {self.shape} must be even")
        if core is not None and any(n % core for n in self.tile):
            raise ValueError(f"tile {self.tile} is not a multiple of the kept side {core}")

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
        inside = Box(start, self.tile).clipped(self.shape)
        core = core_side(self.generator)
        if core is None:
            # The first block begins before a shifted image; inside, it begins at an even voxel.
            return Block(inside, (Cut.of(self.generator, inside),))
        cores = Box(start, self.tile).tiles((core,) * len(self.tile))
        used = [box for box in cores if box.clipped(self.shape).voxels]
        return Block(inside, tuple(Cut.of(self.generator, box) for box in used))

    def __iter__(self) -> Iterator[Block]:
        return (self[k] for k in range(len(self)))


def core_side(generator: HighGenerator) -> int | None:
    """Side of what is kept of a patch, or None where it is free."""
    return None if generator.patch is None else generator.patch - 2 * generator.rim


def _hull(boxes: Sequence[Box]) -> Box:
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
