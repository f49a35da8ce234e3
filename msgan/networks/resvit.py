"""The generator of ResViT (Dalmaz et al. 2022): residual convolutions and a transformer, in 2D."""

from __future__ import annotations

from typing import cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msgan.networks import layers
from msgan.networks.baseline_gans import Pix2PixDiscriminator
from msgan.networks.cyclegan import as_image
from msgan.networks.generator import Generator, Geometry, View
from msgan.networks.pairs import Layers, transformer

ART_BLOCKS = 9
"""Aggregated residual transformer blocks (section II.B)."""

WITH_TRANSFORMER = (0, 5)
"""Those of them that have the transformer's branch: the first and the sixth."""

TOKEN = 16
"""Pixels of the image along a token's side: 256^2 are a grid of 16 x 16."""

RATIO = 4
"""Features between the two linear layers of a transformer's layer, over those of a token."""

SMALLEST = 24
"""Smallest side that D judges; smaller slices are extended by their border."""

AT_ONCE = 8
"""Slices of a volume that are translated together."""


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = layers.conv(2, inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    return [conv, layers.batch_norm(2, outputs), nn.ReLU()]


def _double(inputs: int, outputs: int) -> list[nn.Module]:
    conv = layers.transposed(2, inputs, outputs, 3, stride=2)
    return [conv, layers.batch_norm(2, outputs), nn.ReLU()]


class Tokens(nn.Module):
    """The transformer's branch of an ART block, around the transformer that blocks share.

    Features are halved twice, each pixel of what is left becomes a token, with a learnt place; the
    transformer's tokens are doubled twice, joined to the features and compressed (section II.B.1).

    Args:
        features: Of the block.
        width: Of a token.
        grid: Tokens along each side.
        dropout: Of tokens.
    """

    def __init__(self, features: int, width: int, grid: int, dropout: float) -> None:
        super().__init__()
        wide = _block(features, 2 * features, 3, 2) + _block(2 * features, 4 * features, 3, 2)
        self.down = nn.Sequential(*wide)
        self.embed = layers.conv(2, 4 * features, width, 1)
        self.place = nn.Parameter(torch.zeros(1, grid**2, width))
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Sequential(*_double(width, 2 * features), *_double(2 * features, features))
        first = _block(2 * features, features, 3)
        last = layers.conv(2, features, features, 3, padding=1)
        self.compress = nn.Sequential(*first, last, layers.batch_norm(2, features))
        self.skip = nn.Sequential(
            layers.conv(2, 2 * features, features, 1), layers.batch_norm(2, features)
        )

    def forward(self, x: Tensor, transformer: nn.Module) -> Tensor:
        """(B, features, n, n) -> the same shape."""
        y = self.embed(self.down(x))
        tokens = y.flatten(2).transpose(1, 2) + self.place
        y = transformer(self.dropout(tokens)).transpose(1, 2).view_as(y)
        both = torch.cat((self.up(y), x), dim=1)
        return F.relu(self.compress(both) + self.skip(both))


@final
class ResvitGenerator(Generator):
    """ResViT (Dalmaz et al. 2022, section II.B and fig. 1) of slices.

    Convolutions of side 7 and, with stride 2, of side 3 twice; nine ART blocks, of which the first
    and the sixth go through one and the same transformer first; transposed convolutions and tanh.
    A volume is translated slice by slice along its last axis: axial, as the working grid has it.

    Differs: the weights of the published transformer begin as those of a ViT trained on ImageNet,
    which come with no package; here all weights begin as PyTorch draws them, and transformers are
    there from the first step on, where the authors train without them first. Borders are padded
    with zeros instead of a reflection.

    Args:
        dims: 2 or 3.
        patch: Side of the slices it is trained on and translates, a multiple of 16.
        width: Features of the first convolution; twice and four times as many follow.
        tokens: Features of a token.
        depth: Layers of the transformer.
        heads: Of its attention.
        dropout: Of its tokens.
    """

    def __init__(
        self,
        dims: int,
        patch: int,
        width: int,
        tokens: int,
        depth: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.geometry = Geometry((View("sketch", 0),), align=TOKEN, patch=patch)
        half, features = 2 * width, 4 * width
        down = _block(1, width, 7) + _block(width, half, 3, 2) + _block(half, features, 3, 2)
        self.encode = nn.Sequential(*down)
        self.transformer = transformer(tokens, depth, heads, RATIO, dropout)
        self.transformer.norm = nn.LayerNorm(tokens)
        grid = patch // TOKEN
        self.tokens = nn.ModuleList(
            Tokens(features, tokens, grid, dropout) for _ in WITH_TRANSFORMER
        )
        self.blocks = nn.ModuleList(
            layers.ResidualBlock(2, features, 1, lambda n: layers.batch_norm(2, n))
            for _ in range(ART_BLOCKS)
        )
        up = _double(features, half) + _double(half, width)
        last = layers.conv(2, width, 1, 7, padding=3)
        self.decode = nn.Sequential(*up, last, nn.Tanh())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, patch, patch) or (B, 1, patch, patch, any) in [0, 1] -> [-1, 1]."""
        made = [self._slices(some) for some in layers.slices(as_image(image)).split(AT_ONCE)]
        return (layers.unsliced(torch.cat(made), image),)

    def _slices(self, x: Tensor) -> Tensor:
        x = self.encode(x)
        for k, block in enumerate(self.blocks):
            if k in WITH_TRANSFORMER:
                x = self.tokens[WITH_TRANSFORMER.index(k)](x, self.transformer)
            x = block(x)
        return cast(Tensor, self.decode(x))


@final
class SliceDiscriminator(nn.Module):
    """Real or fake for every patch of 70^2 pixels of source and image together (section II.B.3).

    Args:
        width: Features of the first level.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = Pix2PixDiscriminator(2, 2, width)

    def forward(self, source: Tensor, image: Tensor) -> Layers:
        """Slices as :class:`ResvitGenerator` takes them, in [-1, 1] -> logits."""
        pair = (layers.pad_to(layers.slices(x), SMALLEST) for x in (source, image))
        return ((self.body(*pair),),)
