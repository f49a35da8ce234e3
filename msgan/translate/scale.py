"""One scale of a cascade, block by block: what is read, what is computed, what comes out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from msgan.networks.low import LowGenerator, low_cut
from msgan.patches import Block, Cut, HighGenerator, Tiling, core_side, crop_padded
from msgan.pyramid import read_continued
from msgan.sketch import DrawnSketch, SketchReader, channels
from msgan.sketch.reader import Loaded
from msgan.types import Array, Box, Reader, Shape

BACKGROUND = -1.0

SNAP = 0.01
"""What comes out within this of background becomes background: 0.5 % of the intensity range.

Differs: the papers keep what comes out. Decided voxel by voxel, so tiles still agree; and what is
background exactly need not be computed again at the next scale."""

SPARED = 0.9
"""A block is cut down to where something is if that leaves less than this share of it."""

Precision = Literal["float32", "bfloat16", "float16"]
"""Of the networks' arithmetic; images and sketches stay float32."""


@dataclass(frozen=True)
class LowScale:
    """s0: the image from the sketch of s1, whole or in tiles that join exactly.

    Attributes:
        generator: Of s0, on ``device``.
        sketch: Of s1.
        shape: Of s0.
        tile: Sides of a tile on s0; the whole image where the generator is not ``tile_exact``.
        device: Where it computes.
        precision: Of the network.
    """

    generator: nn.Module
    sketch: SketchReader | DrawnSketch
    shape: Shape
    tile: Shape
    device: torch.device
    precision: Precision = "float32"

    @cached_property
    def _boxes(self) -> list[Box]:
        return list(Box.whole(self.shape).tiles(self.tile))

    def __len__(self) -> int:
        return len(self._boxes)

    def load(self, number: int) -> tuple[Box, Box, Loaded]:
        """What tile ``number`` needs, in host memory."""
        geometry: LowGenerator = self.generator  # type: ignore[assignment]
        made, core = low_cut(geometry, self._boxes[number], self.shape)
        return made, core, self.sketch.load(made.scaled(2))

    @torch.inference_mode()
    def compute(self, loaded: tuple[Box, Box, Loaded]) -> tuple[Box, Array]:
        """The tile's box and its values in [-1, 1]."""
        made, core, seen = loaded
        with autocast(self.device, self.precision):
            image = self.generator(self.sketch.draw(seen))
        return core, _array(image[0, 0])[core.inside(made).slices]


@dataclass(frozen=True)
class HighScale:
    """s_i from the sketch of s_i and the image at s_(i-1), tile by tile (section 2.2).

    Attributes:
        generator: Of s_i, a :class:`msgan.patches.HighGenerator`, on ``device``.
        sketch: Of s_i.
        context: The image at s_(i-1), in [-1, 1].
        shape: Of s_i, even sides.
        tile: Sides of a block.
        device: Where it computes.
        precision: Of the network.
        shift: The first block begins this many voxels before the image, even.
        source: The image at s_(i-1) that the context was made from, any box: where it goes on
            beyond its faces, so does the context. None: contexts end in background.
    """

    generator: nn.Module
    sketch: SketchReader | DrawnSketch
    context: Reader
    shape: Shape
    tile: Shape
    device: torch.device
    precision: Precision = "float32"
    shift: int = 0
    source: Reader | None = None
    _empty: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def _geometry(self) -> HighGenerator:
        return self.generator  # type: ignore[return-value]

    @cached_property
    def tiling(self) -> Tiling:
        """The blocks."""
        return Tiling(self._geometry, self.shape, self.tile, self.shift)

    def __len__(self) -> int:
        return len(self.tiling)

    def load(self, number: int) -> tuple[Block, Loaded, Array]:
        """What block ``number`` needs, in host memory."""
        block = self.tiling[number]
        coarse = tuple(n // 2 for n in self.shape)
        around = read_continued(self.context, self.source, coarse, block.context)
        return block, self.sketch.load(block.sketch), around

    @torch.inference_mode()
    def compute(self, loaded: tuple[Block, Loaded, Array]) -> tuple[Box, Array]:
        """The block's box inside the image and its values in [-1, 1]."""
        block, seen, around = loaded
        context = torch.from_numpy(np.ascontiguousarray(around, dtype=np.float32))
        context = context[None, None].to(self.device)
        sketch = self.sketch.draw(seen)
        make = self._free if self._geometry.patch is None else self._patches
        return block.core, _array(make(block, sketch, context))

    def _free(self, block: Block, sketch: Tensor, context: Tensor) -> Tensor:
        """A block of a family of free size, computed only where something is.

        Where sketch and context are background as far as the generator sees, the result is what
        it makes of background, which repeats from one voxel of the context to the next.
        """
        (whole,) = block.cuts
        box = _active(self._geometry, whole, sketch, context)
        if box == whole.core:
            return self._call(sketch, context)[0, 0]
        out = self._background(whole.core, sketch.shape[1])
        if box.voxels:
            cut = Cut.of(self._geometry, box)
            made = self._call(
                crop_padded(sketch, cut.sketch.inside(whole.sketch), 0.0),
                crop_padded(context, cut.context.inside(whole.context), BACKGROUND),
            )
            out[box.inside(whole.core).slices] = made[0, 0]
        return out

    def _patches(self, block: Block, sketch: Tensor, context: Tensor) -> Tensor:
        """A block of a family of fixed patch size: its patches as one batch."""
        sketches, contexts = [], []
        for cut in block.cuts:
            sketches.append(crop_padded(sketch, cut.sketch.inside(block.sketch), 0.0))
            contexts.append(crop_padded(context, cut.context.inside(block.context), BACKGROUND))
        filled = [
            k
            for k, pair in enumerate(zip(sketches, contexts, strict=True))
            if bool(pair[0].any()) or bool((pair[1] != BACKGROUND).any())
        ]
        made: dict[int, Tensor] = {}
        if filled:
            drawn = torch.cat([sketches[k] for k in filled])
            below = torch.cat([contexts[k] for k in filled])
            made = dict(zip(filled, self._call(drawn, below)[:, 0], strict=True))
        out = sketch.new_empty(block.core.size)
        for k, cut in enumerate(block.cuts):
            core = made[k] if k in made else self._background(cut.core, sketch.shape[1])
            inside = cut.core.clipped(self.shape)
            out[inside.inside(block.core).slices] = core[inside.inside(cut.core).slices]
        return out

    def _call(self, sketch: Tensor, context: Tensor) -> Tensor:
        """The cores of a batch."""
        with autocast(self.device, self.precision):
            made: Tensor = self.generator.core(sketch, context)  # type: ignore[operator]
        return made.float()

    def _background(self, core: Box, channels: int) -> Tensor:
        """What the generator makes of background; computed once."""
        side = core_side(self._geometry) or 2
        if channels not in self._empty:
            cut = Cut.of(self._geometry, Box((0,) * core.dims, (side,) * core.dims))
            sketch = torch.zeros((1, channels, *cut.sketch.size), device=self.device)
            context = torch.full((1, 1, *cut.context.size), BACKGROUND, device=self.device)
            self._empty[channels] = self._call(sketch, context)[0, 0]
        return self._empty[channels].repeat([n // side for n in core.size])


def blinded(
    blind: Collection[str], sketch: SketchReader, context: Reader | None
) -> tuple[SketchReader | DrawnSketch, Reader]:
    """Sketch and context as the generators of s1..sn see them: constant if named in ``blind``.

    ``context`` may be None where they see none.
    """
    if "context" in blind:
        context = constant(BACKGROUND)
    assert context is not None
    if "sketch" not in blind:
        return sketch, context
    count = channels(sketch.config, len(sketch.shape))
    return DrawnSketch(constant(0.0, count), sketch.shape, sketch.device), context


def constant(value: float, *lead: int) -> Reader:
    """Reads an image (*lead, *box) that is the same everywhere, float32."""
    return lambda box: np.full((*lead, *box.size), value, dtype=np.float32)


class Blocks(Protocol):
    """An image in numbered pieces, each of which is read and then computed."""

    def load(self, number: int) -> Any:
        """What a piece needs, in host memory."""
        ...

    def compute(self, loaded: Any) -> tuple[Box, Array]:
        """The piece's box and its values."""
        ...


def make(scale: Blocks, numbers: Iterable[int]) -> Iterator[tuple[int, Box, Array]]:
    """Number, box and values of blocks; the next one is read while one is computed."""
    with ThreadPoolExecutor(1, thread_name_prefix="msgan-read") as reader:
        ahead: tuple[int, Future[Any]] | None = None
        for number in numbers:
            coming = number, reader.submit(scale.load, number)
            if ahead is not None:
                yield ahead[0], *scale.compute(ahead[1].result())
            ahead = coming
        if ahead is not None:
            yield ahead[0], *scale.compute(ahead[1].result())


def _active(generator: HighGenerator, cut: Cut, sketch: Tensor, context: Tensor) -> Box:
    """The part of the core that sees anything but background; all of it where little is spared."""
    coarse = cut.core.coarse(2)
    seen = [
        _hull_of(sketch[0].any(dim=0), cut.sketch, 2, generator.halo // 2),
        _hull_of(context[0, 0] != BACKGROUND, cut.context, 1, generator.context_halo),
    ]
    found = [box for box in seen if box is not None]
    if not found:
        return Box(cut.core.start, (0,) * cut.core.dims)
    start = tuple(max(min(b.start[a] for b in found), coarse.start[a]) for a in range(coarse.dims))
    stop = tuple(min(max(b.stop[a] for b in found), coarse.stop[a]) for a in range(coarse.dims))
    if any(a >= b for a, b in zip(start, stop, strict=True)):
        return Box(cut.core.start, (0,) * cut.core.dims)
    box = Box(start, tuple(b - a for a, b in zip(start, stop, strict=True))).scaled(2)
    return box if box.voxels < SPARED * cut.core.voxels else cut.core


def _hull_of(mask: Tensor, box: Box, factor: int, reach: int) -> Box | None:
    """Voxels of s_(i-1) that see a voxel of ``mask``, which lies at ``box``; None: none do."""
    start, stop = [], []
    for axis in range(box.dims):
        others = [a for a in range(box.dims) if a != axis]
        hits = mask.any(dim=others[0]) if len(others) == 1 else mask.amax(dim=others)
        index = hits.nonzero()
        if not len(index):
            return None
        first, last = (int(index[k, 0]) + box.start[axis] for k in (0, -1))
        start.append(first // factor - reach)
        stop.append(last // factor + reach + 1)
    return Box(tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True)))


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The networks' arithmetic in ``precision``."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def _array(image: Tensor) -> Array:
    """In [-1, 1] in host memory; what is nearly background is background."""
    image = image.float().clamp(-1, 1)
    return image.masked_fill_(image < BACKGROUND + SNAP, BACKGROUND).cpu().numpy()
