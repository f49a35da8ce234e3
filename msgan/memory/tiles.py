"""What one tile of a scale takes: bytes and operations, counted; and the sides to try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import torch
from torch import nn

from msgan import sketch
from msgan.config import CascadeConfig
from msgan.memory.count import counted
from msgan.networks.low import LowGenerator, low_cut
from msgan.patches import HighGenerator, Tiling
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

WORKSPACE = {"low": 1.2, "high": 1.0}
"""Measured over counted bytes of large tiles: kernels rearrange what they read (oneDNN)."""

KERNELS = 16 << 20
"""Bytes that the libraries' kernels take for themselves, whatever the tile."""


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


def high_need(generator: nn.Module, config: CascadeConfig, tile: Shape) -> Need:
    """Of a tile of s_i, i >= 1.

    Args:
        generator: Of s_i, in the form that is used to translate.
        config: Decides the channels of the sketch.
        tile: Sides.
    """
    geometry: HighGenerator = generator  # type: ignore[assignment]
    block = Tiling(geometry, tile, tile)[0]
    (cut, *_), batch = block.cuts, len(block.cuts)
    channels = sketch.channels(config.sketch, config.dims)

    def work(shadow: nn.Module) -> Any:
        drawn = torch.empty(batch, channels, *cut.sketch.size)
        context = torch.empty(batch, 1, *cut.context.size)
        return shadow.core(drawn, context)  # type: ignore[operator]

    rest = read_bytes(config, block.sketch) + 2 * 4 * (block.context.voxels + block.core.voxels)
    return Need(*_counted(generator, work, "high"), rest)


def low_need(generator: nn.Module, config: CascadeConfig, shape: Shape, tile: Shape) -> Need:
    """Of a tile of s0, with the halo it needs inside an image of ``shape``."""
    geometry: LowGenerator = generator  # type: ignore[assignment]
    start = tuple((n - min(side, n)) // 2 for n, side in zip(shape, tile, strict=True))
    made, core = low_cut(geometry, Box(start, tile), shape)
    channels = sketch.channels(config.sketch, config.dims)

    def work(shadow: nn.Module) -> Any:
        return shadow(torch.empty(1, channels, *made.scaled(2).size))

    rest = read_bytes(config, made.scaled(2)) + 2 * 4 * core.voxels
    return Need(*_counted(generator, work, "low"), rest)


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


def _counted(
    generator: nn.Module, work: Callable[[nn.Module], Any], kind: Literal["low", "high"]
) -> tuple[int, float]:
    """Bytes and operations of ``work`` on a copy of the generator without data."""
    with torch.device("meta"), torch.inference_mode():
        shadow = deepcopy(generator).to("meta")
        # Inference forms of s1..sn call oneDNN themselves, which unrolls nothing.
        found = counted(lambda: work(shadow), kernels=kind == "low")
    return int(found.peak * WORKSPACE[kind]) + KERNELS, float(found.flops)
