"""Generators of scales s1..sn: a detail patch from its sketch and its context.

Each states the geometry of a call; :class:`msgan.networks.generator.Geometry` says how.
"""

from __future__ import annotations

from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msgan.match import slope
from msgan.networks import layers
from msgan.networks.generator import Generator, Geometry, View
from msgan.pyramid import upsample

LEAK = 0.2
"""Slope below 0 of the last activation of :class:`SeamlessGenerator`: its few features are not
normalised, and one that a plain ReLU has shut everywhere never learns again."""


@final
class MeganGenerator(Generator):
    """The published HR generator: ResNet blocks between two strided and transposed levels.

    Extended paper, section 2.2 and fig. 3; sizes as in the first author's public code. Sketch
    and wide context are 32^d each and enter as two channels, although the context covers twice
    the width: they do not lie on each other in space. Instance normalisation makes a voxel
    depend on the whole patch, so patches disagree where they meet; 20 of 32 voxels are kept.
    """

    geometry = Geometry((View("sketch", 0), View("below", -1, halo=8)), rim=6, patch=32)

    def __init__(self, dims: int, sketch_channels: int, width: int, blocks: int) -> None:
        super().__init__()

        norm = partial(layers.instance_norm, dims)

        def level(module: nn.Module, features: int) -> list[nn.Module]:
            return [module, norm(features), nn.ReLU()]

        self.body = nn.Sequential(
            *level(layers.conv(dims, sketch_channels + 1, width, 3, padding=1), width),
            *level(layers.conv(dims, width, 2 * width, 4, stride=2, padding=1), 2 * width),
            *level(layers.conv(dims, 2 * width, 4 * width, 4, stride=2, padding=1), 4 * width),
            *[layers.ResidualBlock(dims, 4 * width, 1, norm) for _ in range(blocks)],
            *level(layers.transposed(dims, 4 * width, 2 * width, 4, stride=2), 2 * width),
            *level(layers.transposed(dims, 2 * width, width, 4, stride=2), width),
            layers.conv(dims, width, 1, 7, padding=3),
            nn.Tanh(),
        )

    def forward(self, sketch: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Sketch (B, C, 32, ...) and context (B, 1, 32, ...) -> detail (B, 1, 32, ...)."""
        return (self.body(torch.cat((sketch, context), dim=1)),)


@final
class SeamlessGenerator(Generator):
    """Residual blocks without padding and without statistics over space: tiles join exactly.

    Differs: the papers' ResNet pads, normalises over the patch and lays sketch and wide context
    on each other although they differ in width. Here both meet where they belong in space: the
    sketch's 2^d voxels per context voxel become channels, residual blocks run on the coarse
    grid (2^d times cheaper, twice the view), their features return to the fine grid and two
    convolutions with the sketch finish the detail. The network adds to the linearly upsampled
    context, so it starts as interpolation and learns only what is missing.
    """

    def __init__(self, dims: int, sketch_channels: int, width: int, blocks: int) -> None:
        super().__init__()
        fine = max(8, width // 4)
        corners = 2**dims
        halo = 2 * blocks + 2  # of the context; the sketch's is as wide in space
        self.geometry = Geometry((View("sketch", 0, 2 * halo), View("below", -1, halo)), exact=True)
        self.first = layers.conv(dims, 1 + sketch_channels * corners, width, 3)
        self.blocks = nn.Sequential(
            *[layers.ResidualBlock(dims, width, 0, layers.PixelNorm) for _ in range(blocks)]
        )
        self.expand = layers.conv(dims, width, fine * corners, 1)
        self.join = layers.conv(dims, fine + sketch_channels + 1, fine, 3)
        self.last = layers.conv(dims, fine, 1, 3)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, sketch: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Detail of side T from its sketch (T + 4c) and context (T/2 + 2c), c its halo."""
        base, missing = self.parts(sketch, context)
        return (base + missing,)

    def parts(self, sketch: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The two images whose sum is the detail: the enlarged context, and what is learnt."""
        drawn, below = (view.halo for view in self.geometry.reads)
        base = upsample(layers.crop(context, below - 2), context.ndim - 2)
        x = self.first(torch.cat((context, layers.space_to_depth(sketch)), dim=1))
        x = layers.depth_to_space(self.expand(self.blocks(x)))
        near = layers.crop(sketch, drawn - 2)
        x = F.leaky_relu(self.join(torch.cat((x, near, base), dim=1)), LEAK)
        return layers.crop(base, 2), self.last(x)


@final
class GuidedGenerator(Generator):
    """The seamless generator, which sees the source and adds to the detail that can be carried.

    Differs: the papers' generators see the source's sketch alone. Here the slope transfer of the
    context onto the source (:func:`msgan.match.slope.slope_transfer`) is a layer without
    parameters. The network sees its result and the source as if they were channels of the sketch,
    and adds to it, so training begins at the slope transfer. Where the source is hidden, in labels
    and near them, what it adds to is the enlarged context.
    """

    def __init__(
        self,
        dims: int,
        sketch_channels: int,
        width: int,
        blocks: int,
        floor: float = slope.FLOOR,
    ) -> None:
        super().__init__()
        self.floor = floor
        self.rest = SeamlessGenerator(dims, sketch_channels + 2, width, blocks)
        drawn, below = (view.halo for view in self.rest.geometry.reads)
        wide = below + slope.rim()
        views = View("sketch", 0, drawn), View("below", -1, wide), View("source", 0, 2 * wide)
        self.geometry = Geometry(views, exact=True)

    def forward(self, sketch: Tensor, context: Tensor, source: Tensor) -> tuple[Tensor, ...]:
        """Detail of side T from its sketch (T + 4c), context (T/2 + 2c + 2k), source (T + 4c + 4k).

        c is the halo of :class:`SeamlessGenerator`, k what the slope transfer needs.
        """
        seen, near = guided_reads(sketch, context, source, self.floor)
        base = layers.crop(seen[:, -1:], self.geometry.reads[0].halo)
        return (base + self.rest.parts(seen, near)[1],)


def guided_reads(
    sketch: Tensor, context: Tensor, source: Tensor, floor: float
) -> tuple[Tensor, Tensor]:
    """What :class:`GuidedGenerator` hands on: sketch, source and slope transfer; the context.

    The slope transfer is the last channel, in float32 whatever the precision of the network.
    """
    base = slope.slope_transfer(source.float(), context.float(), floor=floor)
    seen = torch.cat((sketch, layers.crop(source, 2 * slope.rim()), base), dim=1)
    return seen, layers.crop(context, slope.rim())
