"""Generator of scale s0: the whole image from its sketch at twice the resolution."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from msgan.networks import layers
from msgan.networks.generator import Generator, Geometry, View
from msgan.types import trailing


@final
class MeganLowGenerator(Generator):
    """U-Net with one upsampling fewer than downsamplings (extended paper, section 2.2, fig. 3).

    Strided convolutions of side 4 double the features up to eight times the width, each with
    instance normalisation and leaky ReLU; transposed convolutions go back and stop at half
    the input's resolution, which is s0.

    Args:
        dims: 2 or 3.
        sketch_channels: channels of the sketch.
        width: features of the first level (published: 64).
        levels: downsamplings (published: 4).
        dropout: share of features dropped on the way up; with the noise on the sketch it
            stands in for z.
    """

    geometry = Geometry((View("sketch", 1),), align=1, border=0)

    def __init__(
        self, dims: int, sketch_channels: int, width: int, levels: int, dropout: float
    ) -> None:
        super().__init__()
        self.multiple = 2**levels
        features = [min(width * 2**k, width * 8) for k in range(levels)]
        self.down = nn.ModuleList()
        inputs = sketch_channels
        for k, outputs in enumerate(features):
            block = [layers.conv(dims, inputs, outputs, 4, stride=2, padding=1)]
            if k:
                block.append(layers.instance_norm(dims, outputs))
            self.down.append(nn.Sequential(*block, nn.LeakyReLU(0.2)))
            inputs = outputs
        self.up = nn.ModuleList()
        for outputs in reversed(features[:-1]):
            self.up.append(
                nn.Sequential(
                    layers.transposed(dims, inputs, outputs, 4, stride=2),
                    layers.instance_norm(dims, outputs),
                    layers.dropout(dims, dropout),
                    nn.ReLU(),
                )
            )
            inputs = 2 * outputs
        self.out = nn.Sequential(
            layers.conv(dims, inputs, width, 3, padding=1),
            nn.ReLU(),
            layers.conv(dims, width, 1, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, sketch: Tensor) -> tuple[Tensor, ...]:
        """Sketch (B, C, 2a, 2b[, 2c]) in [0, 1] -> image (B, 1, a, b[, c]) in [-1, 1]."""
        size = [n // 2 for n in sketch.shape[2:]]
        x = layers.pad_to(sketch, 2 * self.multiple, self.multiple)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = torch.cat((block(x), skips.pop()), dim=1)
        return (self.out(x)[trailing(slice(n) for n in size)],)


@final
class LocalLowGenerator(Generator):
    """U-Net of bounded view with a residual block at every level.

    Differs: the published U-Net normalises over the whole image and reaches across all of it,
    so few subjects are learnt by heart. Here features are normalised over channels only and
    the view ends after a few levels: the network can be trained on crops, of which one subject
    has thousands, and judges tissue by what is near. Crops may reach beyond an image, and the
    whole image is then made with as much around. The output is linear:
    most of an image is background, which drives a tanh into saturation at -1 before anything else
    is learnt.

    Args:
        dims: 2 or 3.
        sketch_channels: channels of the sketch.
        width: features of the first level; they double up to four times that.
        levels: downsamplings, the first of them from the sketch's grid to s0.
        dropout: share of features dropped on the way up.
        border: what is seen around an image, so that where a crop ends and where the image ends
            are two things. A multiple of 2^(levels - 1).
    """

    def __init__(
        self,
        dims: int,
        sketch_channels: int,
        width: int,
        levels: int,
        dropout: float,
        border: int = 0,
    ) -> None:
        super().__init__()
        self.multiple = 2**levels
        self.geometry = Geometry(
            (View("sketch", 1),),
            rim=_reach(levels),
            align=2 ** (levels - 1),
            border=border,
            exact=True,
        )
        features = [min(width * 2**k, width * 4) for k in range(levels)]

        def refine(first: nn.Module, outputs: int, share: float) -> nn.Sequential:
            return nn.Sequential(
                first,
                layers.PixelNorm(outputs),
                layers.dropout(dims, share),
                nn.LeakyReLU(0.2),
                layers.ResidualBlock(dims, outputs, 1, layers.PixelNorm),
                nn.LeakyReLU(0.2),
            )

        self.down = nn.ModuleList()
        inputs = sketch_channels
        for outputs in features:
            strided = layers.conv(dims, inputs, outputs, 4, stride=2, padding=1)
            self.down.append(refine(strided, outputs, 0.0))
            inputs = outputs
        self.up = nn.ModuleList()
        self.join = nn.ModuleList()
        for outputs in reversed(features[:-1]):
            self.up.append(layers.transposed(dims, inputs, outputs, 4, stride=2))
            joined = layers.conv(dims, 2 * outputs, outputs, 3, padding=1)
            self.join.append(refine(joined, outputs, dropout))
            inputs = outputs
        self.out = layers.conv(dims, inputs, 1, 3, padding=1)

    def forward(self, sketch: Tensor) -> tuple[Tensor, ...]:
        """Sketch (B, C, 2a, 2b[, 2c]) in [0, 1] -> image (B, 1, a, b[, c]), about [-1, 1]."""
        size = [n // 2 for n in sketch.shape[2:]]
        x = layers.pad_to(sketch, 2 * self.multiple, self.multiple)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for enlarge, block in zip(self.up, self.join, strict=True):
            x = block(torch.cat((enlarge(x), skips.pop()), dim=1))
        return (self.out(x)[trailing(slice(n) for n in size)],)


def _reach(levels: int) -> int:
    """Voxels of s0 that :class:`LocalLowGenerator` sees beyond one voxel, on the wider side.

    Intervals of voxels are followed from the output back to the sketch. Where an output voxel
    lies between the strides decides how far it sees, so the widest of all places is taken.
    """
    widest = 0
    for voxel in range(2 ** (levels - 1)):
        seen = [(voxel - 1, voxel + 1)]  # the last convolution, on the grid of s0
        for level in range(levels - 1):  # joining: three convolutions of side 3
            low, high = seen[level][0] - 3, seen[level][1] + 3
            seen[level] = (low, high)  # through the skip
            seen.append((-(-(low - 2) // 2), (high + 1) // 2))  # through the transposed one
        low, high = seen[-1]
        for through in reversed(seen):  # a residual block, then a convolution with stride 2
            low, high = min(low, through[0]) - 2, max(high, through[1]) + 2
            low, high = 2 * low - 1, 2 * high + 2
        widest = max(widest, voxel - low // 2, high // 2 - voxel)
    return widest
