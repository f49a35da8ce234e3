"""One scale of a cascade, block by block: what is read, what is computed, what comes out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from msgan.networks.generator import Cut, Geometry
from msgan.networks.inference import Inference
from msgan.patches import Block, Tiling, crop_padded
from msgan.pyramid import read_continued
from msgan.sketch import DrawnSketch, SketchReader, channels
from msgan.types import Array, Box, InputError, Reader, Shape

BACKGROUND = -1.0

SNAP = 0.01
"""What comes out within this of background becomes background: 0.5 % of the intensity range.

Differs: the papers keep what comes out. Decided voxel by voxel, so tiles still agree; and what is
background exactly need not be computed again at the next scale."""

SPARED = 0.9
"""A block is cut down to where something is if that leaves less than this share of it."""

Precision = Literal["float32", "bfloat16", "float16"]
"""Of the networks' arithmetic; images and sketches stay float32."""


class Source(Protocol):
    """An image that a generator reads, in two steps: in host memory, then where it is computed."""

    def load(self, box: Box) -> Any:
        """Read what is needed of a box that may lie anywhere."""
        ...

    def draw(self, loaded: Any) -> Tensor:
        """(1, C, *box) on the device."""
        ...


@dataclass(frozen=True)
class ImageSource:
    """An image in [-1, 1], as a generator reads it.

    Attributes:
        read: The image, a box inside ``shape``.
        shape: Of the image; None: any box can be read.
        device: Where it is wanted.
        source: The image on the same grid that it was made from, any box: where that goes on beyond
            its faces, so does this one. None: it ends in background.
    """

    read: Reader
    shape: Shape | None
    device: torch.device
    source: Reader | None = None

    def load(self, box: Box) -> Array:
        """See :class:`Source`."""
        if self.shape is None:
            return self.read(box)
        return read_continued(self.read, self.source, self.shape, box)

    def draw(self, loaded: Array) -> Tensor:
        """See :class:`Source`."""
        image = torch.from_numpy(np.ascontiguousarray(loaded, dtype=np.float32))
        return image[None, None].to(self.device)


@dataclass(frozen=True)
class TiledScale:
    """One scale, block by block (section 2.2).

    Attributes:
        generator: Its inference form, on ``device``; its geometry decides what a block reads.
        reads: Where each of the images is read from, in the order of the geometry.
        shape: Of the scale.
        tile: Sides of a block; see :class:`msgan.patches.Tiling`.
        device: Where it computes.
        precision: Of the network.
        shift: The first block begins this many voxels before the image, even.
    """

    generator: Inference
    reads: tuple[Source, ...]
    shape: Shape
    tile: Shape
    device: torch.device
    precision: Precision = "float32"
    shift: int = 0
    _empty: list[Tensor] = field(default_factory=list, repr=False, compare=False)

    @property
    def _geometry(self) -> Geometry:
        return self.generator.geometry

    @cached_property
    def tiling(self) -> Tiling:
        """The blocks."""
        return Tiling(self._geometry, self.shape, self.tile, self.shift)

    def __len__(self) -> int:
        return len(self.tiling)

    def load(self, number: int) -> tuple[Block, tuple[Any, ...]]:
        """What block ``number`` needs, in host memory."""
        block = self.tiling[number]
        pairs = zip(self.reads, block.reads, strict=True)
        return block, tuple(source.load(box) for source, box in pairs)

    @torch.inference_mode()
    def compute(self, loaded: tuple[Block, tuple[Any, ...]]) -> tuple[Box, Array]:
        """The block's box inside the image and its values in [-1, 1]."""
        block, parts = loaded
        seen = [source.draw(part) for source, part in zip(self.reads, parts, strict=True)]
        make = self._free if self._geometry.patch is None else self._patches
        return block.core, _array(make(block, seen))

    def _free(self, block: Block, seen: Sequence[Tensor]) -> Tensor:
        """A block of a generator of free size, computed only where something is.

        Where everything is background as far as the generator sees, the result is what it makes of
        background, which repeats from one aligned voxel to the next; but not where it sees a
        border of the image, or is not exact.
        """
        (whole,) = block.cuts
        geometry = self._geometry
        if geometry.border is not None or geometry.whole:
            made = self._call(seen)[0, 0]
            return made[whole.core.inside(_given(geometry, whole)).slices]
        box = _active(geometry, whole, seen)
        if box == whole.core:
            return self._call(seen)[0, 0]
        out = self._background(whole.core, seen)
        if box.voxels:
            cut = geometry.cut(box, self.shape)
            made = self._call(self._parts(seen, cut, whole.reads))
            out[box.inside(whole.core).slices] = made[0, 0]
        return out

    def _patches(self, block: Block, seen: Sequence[Tensor]) -> Tensor:
        """A block of a generator of fixed patch size: its patches as one batch."""
        parts = [self._parts(seen, cut, block.reads) for cut in block.cuts]
        filled = [k for k, patch in enumerate(parts) if self._filled(patch)]
        made: dict[int, Tensor] = {}
        if filled:
            reads = [torch.cat(same) for same in zip(*(parts[k] for k in filled), strict=True)]
            made = dict(zip(filled, self._call(reads)[:, 0], strict=True))
        out = seen[0].new_empty(block.core.size)
        for k, cut in enumerate(block.cuts):
            core = made[k] if k in made else self._background(cut.core, seen)
            inside = cut.core.clipped(self.shape)
            out[inside.inside(block.core).slices] = core[inside.inside(cut.core).slices]
        return out

    def _parts(self, seen: Sequence[Tensor], cut: Cut, boxes: Sequence[Box]) -> list[Tensor]:
        """What a cut reads, from tensors that lie at ``boxes``."""
        return [
            crop_padded(x, own.inside(box), view.empty)
            for x, own, box, view in zip(seen, cut.reads, boxes, self._geometry.reads, strict=True)
        ]

    def _filled(self, reads: Sequence[Tensor]) -> bool:
        """Whether anything is there but background."""
        pairs = zip(reads, self._geometry.reads, strict=True)
        return any(bool((x != view.empty).any()) for x, view in pairs)

    def _call(self, reads: Sequence[Tensor]) -> Tensor:
        """The cores of a batch."""
        with autocast(self.device, self.precision):
            made = self.generator.core(*reads)
        return made.float()

    def _background(self, core: Box, seen: Sequence[Tensor]) -> Tensor:
        """What the generator makes of background; computed once."""
        geometry = self._geometry
        side = geometry.core_side or geometry.align
        if not self._empty:
            cut = geometry.cut(Box((0,) * core.dims, (side,) * core.dims), self.shape)
            nothing = [
                torch.full((1, x.shape[1], *box.size), view.empty, device=self.device)
                for x, box, view in zip(seen, cut.reads, geometry.reads, strict=True)
            ]
            self._empty.append(self._call(nothing)[0, 0])
        return self._empty[0].repeat([n // side for n in core.size])


def sources(
    geometry: Geometry,
    sketch: Source,
    context: Source | None = None,
    guide: Source | None = None,
) -> tuple[Source, ...]:
    """Where a generator reads its sketch, context and source from, in its order.

    Args:
        geometry: The generator's.
        sketch: Of the source.
        context: The image below.
        guide: The source itself, on the grid of its sketch.

    Raises:
        InputError: It reads another image, or one that is not there or on another grid.
    """
    known = {"sketch": sketch, "below": context, "source": guide}
    found = [known.get(view.image) for view in geometry.reads]
    grids = {view.scale for view in geometry.reads if view.image in ("sketch", "source")}
    for view, source in zip(geometry.reads, found, strict=True):
        if source is None or (view.image == "source" and len(grids) > 1):
            raise InputError(f"the generator reads {view.image}, which is not there")
    return tuple(source for source in found if source is not None)


def blinded(
    drop_inputs: Collection[str], sketch: SketchReader, context: Reader | None
) -> tuple[SketchReader | DrawnSketch, Reader]:
    """Sketch and context as the generators of s1..sn see them: constant if named in
    ``drop_inputs``.

    ``context`` may be None where they see none.
    """
    if "context" in drop_inputs:
        context = constant(BACKGROUND)
    assert context is not None
    if "sketch" not in drop_inputs:
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


def _given(geometry: Geometry, cut: Cut) -> Box:
    """What an inference form gives of a call."""
    return cut.detail if geometry.border is not None else cut.detail.grown(-geometry.rim)


def _active(geometry: Geometry, cut: Cut, seen: Sequence[Tensor]) -> Box:
    """The part of the core that sees anything but background; all of it where little is spared."""
    step = geometry.align
    coarse = cut.core.coarse(step)
    found: list[Box] = []
    for x, box, view in zip(seen, cut.reads, geometry.reads, strict=True):
        factor = step << view.scale if view.scale > 0 else step >> -view.scale
        reach = -(-view.halo // factor) - (-geometry.rim // step)
        hull = _hull_of((x[0] != view.empty).any(dim=0), box, factor, reach)
        found += [hull] if hull is not None else []
    if not found:
        return Box(cut.core.start, (0,) * cut.core.dims)
    start = tuple(max(min(b.start[a] for b in found), coarse.start[a]) for a in range(coarse.dims))
    stop = tuple(min(max(b.stop[a] for b in found), coarse.stop[a]) for a in range(coarse.dims))
    if any(a >= b for a, b in zip(start, stop, strict=True)):
        return Box(cut.core.start, (0,) * cut.core.dims)
    box = Box(start, tuple(b - a for a, b in zip(start, stop, strict=True))).scaled(step)
    return box if box.voxels < SPARED * cut.core.voxels else cut.core


def _hull_of(mask: Tensor, box: Box, factor: int, reach: int) -> Box | None:
    """Aligned voxels that see a voxel of ``mask``, which lies at ``box``; None: none do."""
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
