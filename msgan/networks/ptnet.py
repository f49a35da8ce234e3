"""The networks of PTNet3D (Zhang et al. 2022): performers on voxels, transformers on few tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import final

import torch
from torch import Tensor, nn

from msgan.networks import layers
from msgan.networks.cyclegan import as_image
from msgan.networks.generator import Generator, Geometry, View
from msgan.networks.pairs import Layers, transformer
from msgan.pyramid import halve

RATIO = 2
"""Features between the two linear layers of a transformer's layer, over those of a token."""

LEAST = 1e-6
"""Added to random features, so that no query is left without a key (Choromanski et al. 2021)."""

SCALES = 3
"""Resolutions at which D judges an image: full, half, a quarter."""


def directions(count: int, width: int) -> Tensor:
    """Orthogonal random directions of FAVOR+ (Choromanski et al. 2021, section 2.4).

    Blocks of ``width`` are orthogonal; each direction is as long as a normally distributed vector,
    which leaves the estimate of the attention without a bias.

    Args:
        count: How many, of any number.
        width: Of queries and keys.

    Returns:
        (count, width), drawn from the global random state.
    """
    blocks = [nn.init.orthogonal_(torch.empty(width, width)) for _ in range(-(-count // width))]
    return torch.cat(blocks)[:count] * torch.randn(count, width).norm(dim=1, keepdim=True)


def linear_attention(query: Tensor, key: Tensor, value: Tensor, drawn: Tensor) -> Tensor:
    """Softmax attention, estimated by positive random features in linear memory (FAVOR+).

    exp(q.k / sqrt(width)) is the mean over directions w of exp(w.x - |x|^2 / 2) at x = q and at
    x = k, both over width^(1/4) (Choromanski et al. 2021, lemma 1). The largest exponent, of each
    query and of all keys, is subtracted: it cancels, and nothing overflows.

    Args:
        query: (B, count, width).
        key: (B, tokens, width).
        value: (B, tokens, features).
        drawn: Directions, (any, width).

    Returns:
        (B, count, features) in single precision, whatever the precision around.
    """
    # A sum over all voxels of a patch is beyond half precision. Of meta tensors there is no other.
    device = query.device.type
    with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
        of_query = _positive(query.float(), drawn, (-1,))
        of_key = _positive(key.float(), drawn, (-2, -1))
        gathered = of_key.transpose(1, 2) @ value.float()
        total = of_query @ of_key.sum(dim=1).unsqueeze(-1)
        return (of_query @ gathered) / total


def _positive(x: Tensor, drawn: Tensor, among: tuple[int, ...]) -> Tensor:
    x = x * x.shape[-1] ** -0.25
    exponent = x @ drawn.T - x.square().sum(dim=-1, keepdim=True) / 2
    return (exponent - exponent.detach().amax(dim=among, keepdim=True)).exp() + LEAST


def positions(count: int, width: int) -> Tensor:
    """Sines and cosines that tell tokens apart, (1, count, width) (Vaswani et al. 2017, 3.5)."""
    pair = torch.arange(width) // 2
    angle = torch.arange(count)[:, None] / 10000.0 ** (2 * pair / width)
    return torch.where(torch.arange(width) % 2 == 0, angle.sin(), angle.cos())[None]


class Performer(nn.Module):
    """A transformer's layer whose attention costs as many steps as there are tokens.

    Tokens are normalised, one head attends, the values are added to what it finds, and two linear
    layers follow. There are half as many random directions as features. They are drawn with the
    weights, stored with them and never trained, so a training that goes on has the same.

    Args:
        inputs: Features of a token.
        features: Of what becomes of it.
    """

    directions: Tensor

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.read = nn.Linear(inputs, 3 * features)
        self.attended = nn.Linear(features, features)
        self.add = nn.Sequential(
            nn.LayerNorm(features),
            nn.Linear(features, features),
            nn.GELU(),
            nn.Linear(features, features),
        )
        self.register_buffer("directions", directions(max(1, features // 2), features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, n, ...) -> (B, features, n, ...)."""
        tokens = self.read(self.norm(_tokens(x)))
        query, key, value = tokens.chunk(3, dim=-1)
        y = value + self.attended(linear_attention(query, key, value, self.directions))
        return _untokened(y + self.add(y), x)


class Bottleneck(nn.Module):
    """A transformer on tokens that are told where they lie.

    Args:
        inputs: Features of a voxel.
        width: Of a token.
        depth: Layers.
        heads: Of the attention.
        outputs: Features that leave.
        count: Of voxels, each a token.
    """

    place: Tensor

    def __init__(
        self, inputs: int, width: int, depth: int, heads: int, outputs: int, count: int
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.register_buffer("place", positions(count, width))
        self.transformer = transformer(width, depth, heads, RATIO)
        self.leave = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, n, ...) -> (B, outputs, n, ...)."""
        tokens = self.enter(_tokens(x)) + self.place
        return _untokened(self.leave(self.transformer(tokens)), x)


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _untokened(tokens: Tensor, like: Tensor) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, like.shape[2:])


@final
class PtnetGenerator(Generator):
    """PTNet3D (Zhang et al. 2022, and its public code): a U-Net of transformers.

    A voxel's token is its neighbourhood of 3^d voxels. Performers read those of the image and, at
    every second voxel, of their own features, twice; a global branch, a transformer on the image
    at a quarter of its resolution, joins them there. A transformer at an eighth is the bottleneck.
    On the way up features are enlarged by linear interpolation and joined to those of the way down
    and at last to the image; performers read each voxel alone; tanh.

    Differs: random directions, the width of queries and the largest exponent are treated as in
    Choromanski et al. (2021); the public code has directions of the length sqrt(features / 2), no
    width, and no safeguard against an overflow. The global branch reads means of 4^d voxels, and
    enlarged voxels keep their places, where the public code fits corners onto corners. In 2D the
    same network has one axis fewer; the authors' 2D network is another, wider one.

    Args:
        dims: 2 or 3.
        patch: Side of the patches it is trained on and translates, a multiple of 8.
        width: Features of the first performer; twice and four times as many follow.
        tokens: Features of a token of the bottleneck.
        depth: Layers of both transformers.
        heads: Of the bottleneck's attention.
        global_tokens: Features of a token of the global branch.
        global_heads: Of its attention.
    """

    def __init__(
        self,
        dims: int,
        patch: int,
        width: int,
        tokens: int,
        depth: int,
        heads: int,
        global_tokens: int,
        global_heads: int,
    ) -> None:
        super().__init__()
        self.geometry = Geometry((View("sketch", 0),), align=8, patch=patch)
        self.dims = dims
        near = 3**dims
        half, joined = 2 * width, 6 * width
        down = (near, width), (near * width, half), (near * half, 4 * width)
        up = (2 * joined, half), (2 * half, width), (2 * width, width), (width + 1, width)
        self.down = nn.ModuleList(Performer(*sizes) for sizes in down)
        self.overview = Bottleneck(
            near, global_tokens, depth, global_heads, half, (patch // 4) ** dims
        )
        self.bottom = Bottleneck(near * joined, tokens, depth, heads, joined, (patch // 8) ** dims)
        self.up = nn.ModuleList(Performer(*sizes) for sizes in up)
        self.last = layers.conv(dims, width, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, patch, ...) in [0, 1] -> (B, 1, patch, ...) in [-1, 1]."""
        source = as_image(image)
        x, skips = source, []
        for k, performer in enumerate(self.down):
            x = performer(layers.neighbours(x, 2 if k else 1))
            skips.append(x)
        small = halve(halve(source, self.dims), self.dims)
        skips[-1] = torch.cat((x, self.overview(layers.neighbours(small))), dim=1)
        x = self.bottom(layers.neighbours(skips[-1], 2))
        *enlarge, finish = self.up
        for performer in enlarge:
            x = performer(torch.cat((layers.linear_double(x), skips.pop()), dim=1))
        x = finish(torch.cat((x, source), dim=1))
        return (torch.tanh(self.last(x)),)


class _Judge(nn.Module):
    """Convolutions of side 4 down to logits, the first two of stride 2; keeps all features."""

    def __init__(self, dims: int, inputs: int, width: int) -> None:
        super().__init__()

        def level(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            return [layers.conv(dims, inputs, outputs, 4, stride=stride, padding=2)]

        def normalised(inputs: int, outputs: int, stride: int) -> nn.Module:
            norm = layers.instance_norm(dims, outputs)
            return nn.Sequential(*level(inputs, outputs, stride), norm, nn.LeakyReLU(0.2))

        self.levels = nn.ModuleList(
            (
                nn.Sequential(*level(inputs, width, 2), nn.LeakyReLU(0.2)),
                normalised(width, 2 * width, 2),
                normalised(2 * width, 4 * width, 1),
                *level(4 * width, 1, 1),
            )
        )

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        found = []
        for level in self.levels:
            x = level(x)
            found.append(x)
        return found


@final
class PyramidDiscriminator(nn.Module):
    """Real or fake for patches of source and image together, at three resolutions.

    The discriminator of pix2pixHD (Wang et al. 2018, section 3.2) with a level less, as in the
    public code of PTNet3D. Each
    resolution has its own network; the next one reads means over 3^d voxels around every second.

    Args:
        dims: 2 or 3.
        width: Features of the first level of each.
    """

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.judges = nn.ModuleList(_Judge(dims, 2, width) for _ in range(SCALES))
        self.shrink = layers.mean_pool(dims, 3)

    def forward(self, source: Tensor, image: Tensor) -> Layers:
        """(B, 1, n, ...) each, in [-1, 1], n at least 8 -> three times features and logits."""
        x, found = torch.cat((source, image), dim=1), []
        for k, judge in enumerate(self.judges):
            x = self.shrink(x) if k else x
            found.append(judge(x))
        return found
