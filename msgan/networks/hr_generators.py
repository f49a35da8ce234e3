"""Generators of scales s1..sn: a detail patch from its sketch and its context.

Each states the geometry of a call; :class:`msgan.networks.generator.Geometry` says how.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        drawn, below = (view.halo for view in self.geometry.reads)
        base = upsample(layers.crop(context, below - 2), context.ndim - 2)
        x = self.first(torch.cat((context, layers.space_to_depth(sketch)), dim=1))
        x = layers.depth_to_space(self.expand(self.blocks(x)))
        near = layers.crop(sketch, drawn - 2)
        x = F.leaky_relu(self.join(torch.cat((x, near, base), dim=1)), LEAK)
        return (layers.crop(base, 2) + self.last(x),)


FAMILIES: dict[str, Callable[..., Generator]] = {
    "megan": MeganGenerator,
    "seamless": SeamlessGenerator,
}
