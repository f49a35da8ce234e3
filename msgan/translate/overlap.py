"""Whole patches that overlap, joined by a weighted mean: of the patch GAN and families of pairs.

Weighted sums of the patches of a block are stored side by side, each block in a place of its own,
and added up as they are read. So every patch is computed once, a block may be computed again or by
another process, and neighbours never write the same voxel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, reduce
from itertools import product
from math import prod

import numpy as np
import torch
from torch import Tensor

from msgan.config import CascadeConfig
from msgan.memory import tiles
from msgan.networks.generator import Geometry
from msgan.networks.inference import TOGETHER, Inference
from msgan.patches import crop_padded
from msgan.sketch import DrawnSketch, SketchReader
from msgan.sketch.reader import Loaded
from msgan.translate.scale import BACKGROUND, SNAP, Precision, autocast
from msgan.types import Array, Box, InputError, Reader, Shape

AT_ONCE = 64**3
"""Voxels of the patches that are computed at once, if those are more than one patch."""

FLOOR = 1e-3
"""Least weight of a voxel of a Gaussian window, as in MONAI's sliding window."""


@dataclass(frozen=True)
class Window:
    """Which patches cover an image, and how much each of their voxels counts.

    Attributes:
        patch: Side of a patch, all of which is used.
        stride: Voxels from one patch to the next.
        sigma: Standard deviation of Gaussian weights about the middle of a patch, as a share of its
            side; None: all voxels weigh the same.
        inside: The last patch along an axis ends with the image, and one larger than the image lies
            about its middle, as MONAI's sliding window has it; else patches are equally far apart,
            and the last reaches beyond the image.
    """

    patch: int
    stride: int
    sigma: float | None = None
    inside: bool = False

    def starts(self, length: int) -> list[int]:
        """Where the patches along an axis of ``length`` voxels begin."""
        spare = length - self.patch
        count = 1 + max(0, -(-spare // self.stride))
        if not self.inside:
            return [k * self.stride for k in range(count)]
        return (
            [min(k * self.stride, spare) for k in range(count)] if spare > 0 else [-(-spare // 2)]
        )

    def together(self, dims: int) -> int:
        """Patches computed at once."""
        return max(1, min(TOGETHER, AT_ONCE // self.patch**dims))

    def weights(self, dims: int) -> Array:
        """Of the voxels of a patch, float32."""
        return _weights(self, dims)


@lru_cache(maxsize=8)
def _weights(window: Window, dims: int) -> Array:
    if window.sigma is None:
        return np.ones((window.patch,) * dims, np.float32)
    place = (np.arange(window.patch) - (window.patch - 1) / 2) / (window.sigma * window.patch)
    bell = np.exp(-(place**2) / 2)
    product = reduce(np.multiply.outer, [bell] * dims)
    return np.maximum(product, max(product.min(), FLOOR)).astype(np.float32)


MEAN = Window(32, 27)
"""Of the published patch GAN: patches share 5 voxels (extended paper, section 3.2.1)."""


def blended(patch: int) -> Window:
    """Of families of pairs, as Ha et al. 2025 (section 3.1): overlap .625, sigma .125 of a side."""
    return Window(patch, max(1, patch * 3 // 8), sigma=0.125, inside=True)


def window_of(config: CascadeConfig, geometry: Geometry) -> Window | None:
    """How whole patches of a generator are joined; None: it runs at any size."""
    if geometry.patch is None:
        return None
    return blended(geometry.patch) if config.network.blended else MEAN


@dataclass(frozen=True)
class OverlapScale:
    """Weighted sums of overlapping patches, block by block; each patch is computed once.

    A block is what ``tile / stride`` patches along each axis cover, so neighbouring blocks share
    voxels, where their sums are to be added. The first patch begins with the image; where a patch
    reaches beyond it, it sees there how the sketch goes on.

    Attributes:
        generator: In the form that gives whole patches
            (:func:`msgan.networks.inference.optimised`).
        sketch: Of s_n.
        shape: Of s_n.
        tile: Sides of a block but for the overlap, multiples of the stride.
        device: Where it computes.
        precision: Of the network.
        window: The patches.
    """

    generator: Inference
    sketch: SketchReader | DrawnSketch
    shape: Shape
    tile: Shape
    device: torch.device
    precision: Precision = "float32"
    window: Window = MEAN
    _empty: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _blocks(self) -> list[Box]:
        """In patches: where in the grid of patches a block begins, and how many it has."""
        several = [n // self.window.stride for n in self.tile]
        return list(Box.whole(patches(self.shape, self.window)).tiles(several))

    @cached_property
    def _starts(self) -> list[list[int]]:
        return [self.window.starts(n) for n in self.shape]

    def __len__(self) -> int:
        return len(self._blocks)

    def load(self, number: int) -> tuple[Box, Loaded]:
        """Which patches block ``number`` has, and the sketch they need, in host memory."""
        block = self._blocks[number]
        return block, self.sketch.load(_covered(block, self.shape, self.window))

    @torch.inference_mode()
    def compute(self, loaded: tuple[Box, Loaded]) -> tuple[Box, Array]:
        """The block's place in :func:`spread`, and the weighted sum of its patches."""
        block, seen = loaded
        region, sketch = _covered(block, self.shape, self.window), self.sketch.draw(seen)
        total = torch.zeros(region.size, device=self.device)
        weights = torch.from_numpy(self.window.weights(block.dims)).to(self.device)
        waiting: list[Box] = []
        for patch in self._patches(block):
            if bool(crop_padded(sketch, patch.inside(region), 0.0).any()):
                waiting.append(patch.inside(region))
            else:
                nothing = self._background(sketch.shape[1])
                total[patch.inside(region).slices] += nothing * weights
            if len(waiting) == self.window.together(block.dims):
                self._add(total, sketch, waiting, weights)
                waiting = []
        if waiting:
            self._add(total, sketch, waiting, weights)
        several = [n // self.window.stride for n in self.tile]
        number = [a // count for a, count in zip(block.start, several, strict=True)]
        sides = slot(self.tile, self.window)
        start = tuple(k * n for k, n in zip(number, sides, strict=True))
        return Box(start, region.size), total.cpu().numpy()

    def _patches(self, block: Box) -> Iterator[Box]:
        for place in block.tiles((1,) * block.dims):
            start = (own[k] for own, k in zip(self._starts, place.start, strict=True))
            yield Box(tuple(start), (self.window.patch,) * block.dims)

    def _add(self, total: Tensor, sketch: Tensor, places: Sequence[Box], weights: Tensor) -> None:
        made = self._call(torch.cat([crop_padded(sketch, box, 0.0) for box in places]))
        for box, patch in zip(places, made, strict=True):
            total[box.slices] += patch * weights

    def _call(self, sketch: Tensor) -> Tensor:
        """(B, C, patch, ..) -> (B, patch, ..); a context is background."""
        reads = [
            sketch if view.image == "sketch" else torch.full_like(sketch[:, :1], view.empty)
            for view in self.generator.geometry.reads
        ]
        with autocast(self.device, self.precision):
            made = self.generator.core(*reads)
        return made[:, 0].float()

    def _background(self, channels: int) -> Tensor:
        """What the generator makes of nothing; computed once."""
        if channels not in self._empty:
            sides = (self.window.patch,) * len(self.shape)
            nothing = torch.zeros((1, channels, *sides), device=self.device)
            self._empty[channels] = self._call(nothing)[0]
        return self._empty[channels]


def joined(sums: Reader, shape: Shape, tile: Shape, window: Window = MEAN) -> Reader:
    """The image of all blocks: at each voxel the weighted mean of the patches that cover it.

    Args:
        sums: Of :func:`spread`.
        shape: Of s_n.
        tile: Sides of a block but for the overlap.
        window: The patches.

    Returns:
        A reader of the image in [-1, 1], of boxes inside it; what is nearly background is
        background, as in a cascade (:data:`msgan.translate.scale.SNAP`).
    """
    sides = slot(tile, window)
    several = [n // window.stride for n in tile]
    blocks = [_spans(window, *pair) for pair in zip(shape, several, strict=True)]

    def read(box: Box) -> Array:
        image = np.zeros(box.size, np.float32)
        for place in product(*_touching(box, blocks)):
            spans = [own[k] for own, k in zip(blocks, place, strict=True)]
            block = Box(tuple(a for a, _ in spans), tuple(b - a for a, b in spans))
            part = box.inside(block).clipped(block.size)
            there = tuple(k * n for k, n in zip(place, sides, strict=True))
            image[part.shifted(block.start).inside(box).slices] += sums(part.shifted(there))
        image = np.clip(image / total_weight(box, shape, window), -1, 1)
        return np.where(image < BACKGROUND + SNAP, np.float32(BACKGROUND), image)

    return read


def total_weight(box: Box, shape: Shape, window: Window) -> Array:
    """What the patches of an image weigh together at each voxel of a box inside it."""
    weights = window.weights(box.dims)
    spans = [_spans(window, n, 1) for n in shape]
    total = np.zeros(box.size, np.float32)
    for place in product(*_touching(box, spans)):
        start = tuple(own[k][0] for own, k in zip(spans, place, strict=True))
        patch = Box(start, weights.shape)
        part = box.inside(patch).clipped(patch.size)
        total[part.shifted(patch.start).inside(box).slices] += weights[part.slices]
    return total


def slot(tile: Shape, window: Window = MEAN) -> Shape:
    """Sides of what a block covers at most."""
    return tuple(n - window.stride + window.patch for n in tile)


def counts(shape: Shape, tile: Shape, window: Window = MEAN) -> Shape:
    """Blocks along each axis."""
    pairs = zip(patches(shape, window), tile, strict=True)
    return tuple(-(-n * window.stride // side) for n, side in pairs)


def spread(shape: Shape, tile: Shape, window: Window = MEAN) -> Shape:
    """Sides of the image in which blocks lie side by side, without overlap."""
    pairs = zip(counts(shape, tile, window), slot(tile, window), strict=True)
    return tuple(k * n for k, n in pairs)


def patches(shape: Sequence[int], window: Window = MEAN) -> Shape:
    """Patches along each axis of an image."""
    return tuple(len(window.starts(n)) for n in shape)


def tiles_tried(dims: int, tile: int | None, window: Window = MEAN) -> list[Shape]:
    """Sides of blocks to try, largest first.

    Raises:
        InputError: ``tile`` is not a multiple of the stride.
    """
    stride = window.stride
    if tile is not None and (tile < 1 or tile % stride):
        raise InputError(f"tile {tile}: expected a multiple of the stride {stride}")
    several = [tile // stride] if tile is not None else list(tiles.CORES[dims])
    return [(stride * k,) * dims for k in several]


def need(
    generator: Inference, config: CascadeConfig, tile: Shape, window: Window = MEAN
) -> tiles.Need:
    """What a block takes: the patches computed at once, its region's sketch and its sums."""
    count = prod(n // window.stride for n in tile)
    few = min(count, window.together(len(tile)))
    sides = (window.patch * few, *(window.patch,) * (len(tile) - 1))
    batch = tiles.need(generator, config, sides, sides)
    region = Box.whole(slot(tile, window))
    # The sums on the device, and in host memory.
    rest = tiles.read_bytes(config, region) + 2 * 4 * region.voxels
    return tiles.Need(batch.network, batch.flops * count / few, rest)


def _covered(block: Box, shape: Shape, window: Window) -> Box:
    """The region of s_n that patches cover, from their places in the grid of patches."""
    starts = [window.starts(n) for n in shape]
    first = tuple(own[k] for own, k in zip(starts, block.start, strict=True))
    last = (own[k - 1] for own, k in zip(starts, block.stop, strict=True))
    return Box(first, tuple(b - a + window.patch for a, b in zip(first, last, strict=True)))


def _spans(window: Window, length: int, several: int) -> list[tuple[int, int]]:
    """First voxel, and one behind the last, that each group of patches covers along an axis."""
    starts = window.starts(length)
    ends = [min(k + several, len(starts)) - 1 for k in range(0, len(starts), several)]
    pairs = zip(starts[::several], ends, strict=True)
    return [(start, starts[last] + window.patch) for start, last in pairs]


def _touching(box: Box, spans: Sequence[Sequence[tuple[int, int]]]) -> list[list[int]]:
    """Along each axis the numbers of the spans that share a voxel with a box."""
    return [
        [k for k, (first, end) in enumerate(own) if first < stop and end > start]
        for own, start, stop in zip(spans, box.start, box.stop, strict=True)
    ]
