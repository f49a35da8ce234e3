"""Bytes and operations of one tile of a scale, counted; and the tile sizes to try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from math import ceil
from typing import Any
from weakref import WeakKeyDictionary

import torch

from msgan import sketch
from msgan.config import CascadeConfig
from msgan.memory.count import counted
from msgan.networks.inference import Inference
from msgan.patches import Block, Tiling
from msgan.pyramid import CHUNK
from msgan.types import Box, Shape

SIDES = {
    ("cpu", 3): (128, 112, 96, 80, 64, 48, 32, 24, 16, 8),
    ("cpu", 2): (1024, 768, 512, 384, 256, 128, 64, 32, 16),
    ("cuda", 3): (384, 320, 256, 224, 192, 160, 128, 112, 96, 80, 64, 48, 32, 24, 16, 8),
    ("cuda", 2): (4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 128, 64, 32, 16),
}
"""Sides tried for a tile, largest first. Past the largest the halo costs little; on a CPU, whose
memory programs share, it is not worth the features' bytes."""

CORES = {2: (16, 8, 4, 2, 1), 3: (4, 3, 2, 1)}
"""Cores of a family of fixed patch size along each side of a tile: its patches are one batch."""

KERNELS = 16 << 20
"""Bytes that the libraries' kernels take for themselves, whatever the tile."""

_COUNTS: WeakKeyDictionary[Inference, dict[tuple[Shape, ...], tuple[int, float]]] = (
    WeakKeyDictionary()
)
"""What forms take, by the shapes of their inputs: counting takes a fifth of a second."""


@dataclass(frozen=True)
class Need:
    """What computing one tile takes.

    Attributes:
        network: Bytes of inputs, features and kernels' workspace.
        flops: Floating-point operations of the network.
        beside: Bytes of what is read, of the sketch and of the result.
    """

    network: int
    flops: float
    beside: int


def need(form: Inference, config: CascadeConfig, shape: Shape, tile: Shape) -> Need:
    """Of a tile, with the halo it needs.

    Args:
        form: Of the scale's generator, as it is used to translate.
        config: Decides the channels of the sketch.
        shape: Of the scale, in whose middle a tile of a generator with border lies.
        tile: Sides.
    """
    geometry = form.geometry
    if geometry.border is None:
        block = Tiling(geometry, tile, tile)[0]
    else:
        start = tuple((n - min(side, n)) // 2 for n, side in zip(shape, tile, strict=True))
        core = Box(start, tile).clipped(shape)
        block = Block(core, (geometry.cut(core, shape),))
    count = sketch.channels(config.sketch, config.dims)
    inputs = tuple(
        (len(block.cuts), count if view.image == "sketch" else 1, *box.size)
        for view, box in zip(geometry.reads, block.cuts[0].reads, strict=True)
    )
    known = _COUNTS.setdefault(form, {})
    if inputs not in known:
        known[inputs] = _counted(form, lambda shadow: shadow.core(*map(torch.empty, inputs)))
    rest = 2 * 4 * block.core.voxels
    for view, box in zip(geometry.reads, block.reads, strict=True):
        rest += read_bytes(config, box) if view.image == "sketch" else 2 * 4 * box.voxels
        if view.image == "source" and config.labels:
            rest += 4 * box.voxels  # labels, where they are, what is near them
    return Need(*known[inputs], rest)


def within(form: Inference, config: CascadeConfig, shape: Shape, device: str, most: int) -> Shape:
    """The largest tile that takes at most so many bytes; the smallest if none does.

    Args:
        form: See :func:`need`.
        config: Likewise.
        shape: Of the scale.
        device: ``cpu`` or ``cuda``.
        most: Bytes of a tile, all in all.
    """
    if form.geometry.whole:
        return shape
    tile = shape
    for tile in candidates(shape, device, form.geometry.core_side):
        found = need(form, config, shape, tile)
        if found.network + found.beside <= most:
            break
    return tile


def candidates(shape: Shape, device: str, core: int | None = None) -> Iterator[Shape]:
    """Tiles to try for an image of ``shape``, largest first; each splits it evenly.

    Args:
        shape: Of s_i.
        device: ``cpu`` or ``cuda``.
        core: Side of what a family of fixed patch size keeps; None where a tile may have any.
    """
    dims = len(shape)
    last: Shape | None = None
    for side in SIDES[device, dims] if core is None else [k * core for k in CORES[dims]]:
        tile = tuple(even(n, side, CHUNK[dims]) if core is None else side for n in shape)
        if tile != last:
            yield tile
        last = tile


def even(n: int, side: int, chunk: int) -> int:
    """Side of the fewest equal tiles of at most about ``side`` voxels that cover ``n``.

    Even, so that tiles begin at even voxels, and whole chunks of at most ``chunk`` voxels.
    """
    share = ceil(n / ceil(n / side))
    step = 2 * ceil(share / chunk)
    return ceil(share / step) * step


def read_bytes(config: CascadeConfig, region: Box) -> int:
    """Bytes of a region's sketch and of the image it is drawn from.

    The image counts twice: the next tile's is read while this one is computed.
    """
    image = sketch.images(config.sketch) * region.grown(sketch.halo(config.sketch)).voxels
    return 4 * (2 * image + sketch.channels(config.sketch, config.dims) * region.voxels)


def _counted(form: Inference, work: Callable[[Any], Any]) -> tuple[int, float]:
    """Bytes and operations of ``work`` on a copy of the form without data."""
    with torch.device("meta"), torch.inference_mode():
        shadow = deepcopy(form).to("meta")
        found = counted(lambda: work(shadow), kernels=not form.own_kernels)
    return int(found.peak * form.workspace) + KERNELS, float(found.flops)
