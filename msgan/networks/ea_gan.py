"""The networks of Ea-GAN (Yu et al. 2019): a U-Net, a patch discriminator, and the map of edges."""

from __future__ import annotations

from functools import reduce
from math import log2
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msgan.networks.baseline_gans import Pix2PixDiscriminator, Pix2PixGenerator
from msgan.networks.cyclegan import BACKGROUND, as_image
from msgan.networks.generator import Generator, Geometry, View
from msgan.networks.pairs import Layers


def sobel(image: Tensor) -> Tensor:
    """Strength of the edges at every voxel (Yu et al. 2019, section III).

    The Euclidean norm of what Sobel kernels of side 3 give, one along each axis: (1 2 1; 2 4 2;
    1 2 1) and its negative two voxels on, over 4. Beyond the image lies background. In 2D the
    kernels are (1 2 1) and its negative, of the same sum.

    Differs: the authors' public code goes on to tanh and to the range [-1, 1]; here steps of any
    height stay apart, and a difference of maps is one of slopes.

    Args:
        image: (B, 1, n, ...) in [-1, 1].

    Returns:
        (B, 1, n, ...), from 0 on.
    """
    axes = range(2, image.ndim)
    padded = F.pad(image, (1, 1) * len(axes), value=BACKGROUND)
    found = [
        reduce(_smoothed, (a for a in axes if a != axis), _step(padded, axis)) for axis in axes
    ]
    share = 4 ** (len(axes) - 2)
    return torch.linalg.vector_norm(torch.cat(found, dim=1), dim=1, keepdim=True) / share


def _step(x: Tensor, axis: int) -> Tensor:
    n = x.shape[axis] - 2
    return x.narrow(axis, 2, n) - x.narrow(axis, 0, n)


def _smoothed(x: Tensor, axis: int) -> Tensor:
    n = x.shape[axis] - 2
    return x.narrow(axis, 0, n) + 2 * x.narrow(axis, 1, n) + x.narrow(axis, 2, n)


@final
class EaGanGenerator(Generator):
    """The U-Net of Pix2Pix, down to one voxel: of 128^3 in seven levels (section III).

    Convolutions of side 4 and stride 2, batch normalisation, dropout in the levels of most
    features but the innermost, tanh. Its weights begin as PyTorch draws them.

    Args:
        dims: 2 or 3.
        patch: Side of the patches it is trained on and translates, a power of two.
        width: Features of the first level; they double up to eight times as many.
    """

    def __init__(self, dims: int, patch: int, width: int) -> None:
        super().__init__()
        levels = int(log2(patch))
        self.geometry = Geometry((View("sketch", 0),), align=patch, patch=patch)
        dropped = range(1, levels - 4)
        self.body = Pix2PixGenerator(dims, patch, 1, 1, width, levels, dropped)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, patch, ...) in [0, 1] -> (B, 1, patch, ...) in [-1, 1]."""
        return (self.body(as_image(image)),)


@final
class EaGanDiscriminator(nn.Module):
    """Real or fake for every patch of 70^d voxels of source and image together (section III).

    Args:
        dims: 2 or 3.
        width: Features of the first level.
        edges: Whether it sees the Sobel map of the image too (dEa-GAN).
    """

    def __init__(self, dims: int, width: int, edges: bool) -> None:
        super().__init__()
        self.edges = edges
        self.body = Pix2PixDiscriminator(dims, 2 + edges, width, padding=2)

    def forward(self, source: Tensor, image: Tensor) -> Layers:
        """(B, 1, n, ...) each, in [-1, 1] -> logits (B, 1, m, ...), of one resolution."""
        seen = torch.cat((image, sobel(image)), dim=1) if self.edges else image
        return ((self.body(source, seen),),)
