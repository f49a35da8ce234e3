"""Whole patches that overlap, averaged where they do: how the patch GAN of the papers joins.

Sums of the patches of a block are stored side by side, each block in a place of its own, and added
up as they are read. So every patch is computed once, a block may be computed again or by another
process, and neighbours never write the same voxel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import prod

import numpy as np
import torch
from torch import Tensor

from msgan.config import CascadeConfig
from msgan.memory import tiles
from msgan.networks.inference import TOGETHER, Inference
from msgan.patches import crop_padded
from msgan.sketch import DrawnSketch, SketchReader
from msgan.sketch.reader import Loaded
from msgan.translate.scale import BACKGROUND, SNAP, Precision, autocast
from msgan.types import Array, Box, InputError, Reader, Shape

PATCH = 32
"""Side of a patch, all of which is used."""

OVERLAP = 5
"""Voxels that neighbouring patches share (extended paper, section 3.2.1)."""

STRIDE = PATCH - OVERLAP


@dataclass(frozen=True)
class OverlapScale:
    """Sums of overlapping patches, block by block; each patch is computed once.

    A block is what ``tile / 27`` patches along each axis cover, so neighbouring blocks share 5
    voxels, where their sums are to be added. The first patch begins with the image; the last
    reaches beyond it where the sides do not fit, and sees there how the sketch goes on.

    Attributes:
        generator: In the form that gives whole patches
            (:func:`msgan.networks.inference.optimised`).
        sketch: Of s_n.
        shape: Of s_n.
        tile: Sides of a block but for the overlap, multiples of 27.
        device: Where it computes.
        precision: Of the network.
    """

    generator: Inference
    sketch: SketchReader | DrawnSketch
    shape: Shape
    tile: Shape
    device: torch.device
    precision: Precision = "float32"
    _empty: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _blocks(self) -> list[Box]:
        """In patches: where in the grid of patches a block begins, and how many it has."""
        counts = patches(self.shape)
        return list(Box.whole(counts).tiles([n // STRIDE for n in self.tile]))

    def __len__(self) -> int:
        return len(self._blocks)

    def load(self, number: int) -> tuple[Box, Loaded]:
        """Which patches block ``number`` has, and the sketch they need, in host memory."""
        block = self._blocks[number]
        return block, self.sketch.load(_covered(block))

    @torch.inference_mode()
    def compute(self, loaded: tuple[Box, Loaded]) -> tuple[Box, Array]:
        """The block's place in :func:`spread`, and the sum of its patches."""
        block, seen = loaded
        region, sketch = _covered(block), self.sketch.draw(seen)
        total = torch.zeros(region.size, device=self.device)
        waiting: list[Box] = []
        for patch in self._patches(block):
            if bool(crop_padded(sketch, patch.inside(region), 0.0).any()):
                waiting.append(patch.inside(region))
            else:
                total[patch.inside(region).slices] += self._background(sketch.shape[1])
            if len(waiting) == TOGETHER:
                self._add(total, sketch, waiting)
                waiting = []
        if waiting:
            self._add(total, sketch, waiting)
        number = [a * STRIDE // side for a, side in zip(block.start, self.tile, strict=True)]
        start = tuple(k * n for k, n in zip(number, slot(self.tile), strict=True))
        return Box(start, region.size), total.cpu().numpy()

    def _patches(self, block: Box) -> Iterator[Box]:
        for place in block.tiles((1,) * block.dims):
            yield Box(tuple(k * STRIDE for k in place.start), (PATCH,) * block.dims)

    def _add(self, total: Tensor, sketch: Tensor, places: Sequence[Box]) -> None:
        made = self._call(torch.cat([crop_padded(sketch, box, 0.0) for box in places]))
        for box, patch in zip(places, made, strict=True):
            total[box.slices] += patch

    def _call(self, sketch: Tensor) -> Tensor:
        """(B, C, 32, ..) -> (B, 32, ..); the context is background."""
        around = torch.full_like(sketch[:, :1], BACKGROUND)
        with autocast(self.device, self.precision):
            made = self.generator.core(sketch, around)
        return made[:, 0].float()

    def _background(self, channels: int) -> Tensor:
        """What the generator makes of nothing; computed once."""
        if channels not in self._empty:
            sides = (PATCH,) * len(self.shape)
            nothing = torch.zeros((1, channels, *sides), device=self.device)
            self._empty[channels] = self._call(nothing)[0]
        return self._empty[channels]


def joined(sums: Reader, shape: Shape, tile: Shape) -> Reader:
    """The image of all blocks, patches averaged where they overlap.

    Args:
        sums: Of :func:`spread`.
        shape: Of s_n.
        tile: Sides of a block but for the overlap.

    Returns:
        A reader of the image in [-1, 1], of boxes inside it; what is nearly background is
        background, as in a cascade (:data:`msgan.translate.scale.SNAP`).
    """
    sides = slot(tile)

    def read(box: Box) -> Array:
        image = np.zeros(box.size, np.float32)
        first = [max(0, (a - OVERLAP) // n) for a, n in zip(box.start, tile, strict=True)]
        last = [
            min((b - 1) // n, count - 1)
            for b, n, count in zip(box.stop, tile, counts(shape, tile), strict=True)
        ]
        for place in product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))):
            block = Box(tuple(k * n for k, n in zip(place, tile, strict=True)), sides)
            there = Box(tuple(k * n for k, n in zip(place, sides, strict=True)), sides)
            part = box.inside(block).clipped(sides)
            if part.voxels:
                seen = part.shifted(there.start)
                image[part.shifted(block.start).inside(box).slices] += sums(seen)
        for axis, (start, size) in enumerate(zip(box.start, box.size, strict=True)):
            count = _counts(start, size, shape[axis])
            image = image / count.reshape([-1 if a == axis else 1 for a in range(box.dims)])
        image = np.clip(image, -1, 1)
        return np.where(image < BACKGROUND + SNAP, np.float32(BACKGROUND), image)

    return read


def slot(tile: Shape) -> Shape:
    """Sides of what a block covers."""
    return tuple(n + OVERLAP for n in tile)


def counts(shape: Shape, tile: Shape) -> Shape:
    """Blocks along each axis."""
    pairs = zip(patches(shape), tile, strict=True)
    return tuple(-(-n * STRIDE // side) for n, side in pairs)


def spread(shape: Shape, tile: Shape) -> Shape:
    """Sides of the image in which blocks lie side by side, without overlap."""
    return tuple(k * n for k, n in zip(counts(shape, tile), slot(tile), strict=True))


def patches(shape: Sequence[int]) -> Shape:
    """Patches along each axis of an image."""
    return tuple(1 + max(0, -(-(n - PATCH) // STRIDE)) for n in shape)


def tiles_tried(dims: int, tile: int | None) -> list[Shape]:
    """Sides of blocks to try, largest first.

    Raises:
        InputError: ``tile`` is not a multiple of the stride.
    """
    if tile is not None and (tile < 1 or tile % STRIDE):
        raise InputError(f"tile {tile}: expected a multiple of the stride {STRIDE}")
    several = [tile // STRIDE] if tile is not None else list(tiles.CORES[dims])
    return [(STRIDE * k,) * dims for k in several]


def need(generator: Inference, config: CascadeConfig, tile: Shape) -> tiles.Need:
    """What a block takes: the patches computed at once, its region's sketch and its sums."""
    count = prod(n // STRIDE for n in tile)
    few = min(count, TOGETHER)
    sides = (PATCH * few, *(PATCH,) * (len(tile) - 1))
    batch = tiles.need(generator, config, sides, sides)
    region = Box.whole([n + OVERLAP for n in tile])
    # The sums on the device, and in host memory.
    rest = tiles.read_bytes(config, region) + 2 * 4 * region.voxels
    return tiles.Need(batch.network, batch.flops * count / few, rest)


def _covered(block: Box) -> Box:
    """The region of s_n that patches cover, from their places in the grid of patches."""
    size = tuple(n * STRIDE + OVERLAP for n in block.size)
    return Box(tuple(k * STRIDE for k in block.start), size)


def _counts(start: int, size: int, length: int) -> Array:
    """How many patches along an axis of ``length`` cover each of ``size`` voxels."""
    place = np.arange(start, start + size)
    last = np.minimum(place // STRIDE, patches((length,))[0] - 1)
    before = (last > 0) & (place - (last - 1) * STRIDE < PATCH)
    return (1 + before).astype(np.float32)
