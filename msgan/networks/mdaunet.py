"""The networks of 3D-mDAUNet (Ha et al. 2025): one image at several resolutions, finest first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msgan.networks import layers
from msgan.networks.cyclegan import as_image
from msgan.networks.generator import Generator, Geometry, View

LEAK = 0.2
"""Slope below 0 of every leaky ReLU."""

CONVOLUTIONS = 5
"""Of a residual dense block."""

RESIDUE = 0.2
"""What a residual dense block adds is multiplied by this."""

INITIAL = 0.1
"""Its initial weights are PyTorch's, multiplied by this."""

REDUCTION = 16
"""Of features between the two layers of the channel attention (Woo et al. 2018, section 3)."""

FEWEST = 4
"""Features there are at least: one that a ReLU has shut would leave no attention."""

MIDDLE = 0.5
"""About the value of all outputs, [0, 1], before the first step, so that no voxel is clipped."""


def resolutions(image: Tensor, count: int) -> tuple[Tensor, ...]:
    """(B, C, n, ...) -> (B, C, n, ...), (B, C, n/2, ...), ..: every second voxel again."""
    found = [image]
    while len(found) < count:
        found.append(layers.nearest_half(found[-1]))
    return tuple(found)


class _Clip(torch.autograd.Function):
    """Clip to [0, 1]; outside, gradients pass that lead back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x < 0, x > 1)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        low, high = ctx.saved_tensors
        away = (low & (gradient > 0)) | (high & (gradient < 0))
        return gradient.masked_fill(away, 0)


def clip(x: Tensor) -> Tensor:
    """Values outside [0, 1] become 0 or 1.

    Differs: in the first author's earlier public code a voxel outside has no gradient. Where the
    learning rate is large all voxels of an output may fall below 0, and it stays black for good;
    so here a gradient passes where descent along it leads back towards [0, 1].
    """
    return cast(Tensor, _Clip.apply(x))


class ResidualDense(nn.Module):
    """Residual dense block (Zhang et al. 2018): each convolution reads all that came before.

    The last one has no activation and is added to the input, times 0.2.

    Args:
        dims: 2 or 3.
        features: Of input and output.
        growth: Features that each convolution but the last adds to what the next ones read.
    """

    def __init__(self, dims: int, features: int, growth: int) -> None:
        super().__init__()
        outputs = [growth] * (CONVOLUTIONS - 1) + [features]
        inputs = [features + k * growth for k in range(CONVOLUTIONS)]
        self.convs = nn.ModuleList(
            layers.conv(dims, n, m, 3, padding=1) for n, m in zip(inputs, outputs, strict=True)
        )
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(INITIAL)

    def forward(self, x: Tensor) -> Tensor:
        """(B, features, n, ...) -> the same shape."""
        seen = [x]
        for conv in self.convs[:-1]:
            seen.append(F.leaky_relu(conv(torch.cat(seen, dim=1)), LEAK))
        added: Tensor = self.convs[-1](torch.cat(seen, dim=1))
        return x + RESIDUE * added


class Attention(nn.Module):
    """Convolutional block attention: first of channels, then of places (Woo et al. 2018, sec. 3).

    A channel's weight comes from its mean and its maximum over the patch by two shared layers, a
    place's weight from mean and maximum over channels by a convolution of side 7.

    Args:
        dims: 2 or 3.
        features: Of input and output.
    """

    def __init__(self, dims: int, features: int) -> None:
        super().__init__()
        few = max(FEWEST, features // REDUCTION)
        self.channels = nn.Sequential(nn.Linear(features, few), nn.ReLU(), nn.Linear(few, features))
        self.places = layers.conv(dims, 2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, features, n, ...) -> the same shape."""
        flat = x.flatten(2)
        weight = torch.sigmoid(self.channels(flat.mean(-1)) + self.channels(flat.amax(-1)))
        x = x * weight.view(*x.shape[:2], *[1] * (x.ndim - 2))
        seen = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), dim=1)
        return x * torch.sigmoid(self.places(seen))


@final
class MdaunetGenerator(Generator):
    """3D multi-resolution Dense-Attention U-Net (Ha et al. 2025, section 3.2 and fig. 1).

    A level of the encoder is a convolution and residual dense blocks; the next level reads every
    second voxel of its features and, beside them, of the image. A level of the decoder reads the
    features of the encoder and, enlarged, those of the level below: attention, a convolution, a
    leaky ReLU. Every level gives an image, the lowest that of its last residual dense block.

    It reads the image as a sketch's channel ``image``, in [0, 1], and works there as the paper
    does; what it makes is clipped to [0, 1] and mapped to [-1, 1].

    Args:
        dims: 2 or 3.
        features: Of each level, finest first.
        growth: Of the residual dense blocks of each level.
        patch: Side of the patches it is trained on and translates, a multiple of
            2^(levels - 1).
        blocks: Residual dense blocks of each level.
        multi_input: Whether the levels below the first see the image.
        multi_output: Whether the levels below the first give an image.
    """

    def __init__(
        self,
        dims: int,
        features: Sequence[int],
        growth: Sequence[int],
        patch: int,
        blocks: int = 1,
        multi_input: bool = True,
        multi_output: bool = True,
    ) -> None:
        super().__init__()
        levels = len(features)
        self.multi_input = multi_input
        made = levels if multi_output else 1
        self.geometry = Geometry(
            (View("sketch", 0),),
            tuple(View("target", -k) for k in range(made)),
            align=max(2, 2 ** (levels - 1)),
            patch=patch,
        )
        inputs = [1, *(n + multi_input for n in features[:-1])]
        self.enter = nn.ModuleList(
            layers.conv(dims, n, m, 3, padding=1) for n, m in zip(inputs, features, strict=True)
        )
        self.dense = nn.ModuleList(
            nn.Sequential(*[ResidualDense(dims, n, m) for _ in range(blocks)])
            for n, m in zip(features, growth, strict=True)
        )
        both = [n + m for n, m in pairwise(features)]
        self.attend = nn.ModuleList(Attention(dims, n) for n in both)
        self.join = nn.ModuleList(
            layers.conv(dims, n, m, 3, padding=1) for n, m in zip(both, features, strict=False)
        )
        self.make = nn.ModuleList(layers.conv(dims, n, 1, 3, padding=1) for n in features[:made])
        for conv in self.make:
            nn.init.constant_(conv.get_parameter("bias"), MIDDLE)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, n, ...) in [0, 1] -> (B, 1, n, ...), (B, 1, n/2, ...), .. in [-1, 1]."""
        x, encoded = image, []
        for k, (enter, dense) in enumerate(zip(self.enter, self.dense, strict=True)):
            if k:
                x, image = layers.nearest_half(x), layers.nearest_half(image)
                x = torch.cat((x, image), dim=1) if self.multi_input else x
            x = dense(enter(x))
            encoded.append(x)
        decoded = [encoded.pop()]
        for attend, join in zip(reversed(self.attend), reversed(self.join), strict=True):
            x = torch.cat((encoded.pop(), layers.nearest_double(decoded[-1])), dim=1)
            decoded.append(F.leaky_relu(join(attend(x)), LEAK))
        pairs = zip(self.make, reversed(decoded), strict=False)
        return tuple(as_image(clip(make(x))) for make, x in pairs)


class _Encoder(nn.Module):
    """What a discriminator sees of an image at each resolution, features doubling with each.

    The first convolution has side 3, the others side 4 and stride 2; of all but the first the
    weights are spectrally normalised.

    Attributes:
        features: Channels that come out of each level: beside its features the image, from the
            second level on if D sees more than one.
    """

    def __init__(self, dims: int, width: int, images: int, levels: int) -> None:
        super().__init__()
        sizes = [width << k for k in range(levels)]
        self.features = [n + (0 < k < images) for k, n in enumerate(sizes)]
        self.first = layers.conv(dims, 1, width, 3, padding=1)
        self.down = nn.ModuleList(
            layers.spectral(layers.conv(dims, n, m, 4, stride=2, padding=1))
            for n, m in zip(self.features, sizes[1:], strict=False)
        )

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:
        """(B, 1, n, ...), (B, 1, n/2, ...), .. -> (B, features, n, ...), .., finest first."""
        found = [F.leaky_relu(self.first(images[0]), LEAK)]
        for k, down in enumerate(self.down, 1):
            x = F.leaky_relu(down(found[-1]), LEAK)
            found.append(torch.cat((x, images[k]), dim=1) if k < len(images) else x)
        return found


@final
class VoxelDiscriminator(nn.Module):
    """Real or fake for every voxel and resolution: a multi-resolution U-Net (section 3.2).

    Features are enlarged by linear interpolation and, after a convolution, added to those of the
    encoder; three more convolutions follow at the finest level. All weights are spectrally
    normalised (Miyato et al. 2018) but those of the first convolution and of the last, which at
    each level gives the logits.

    Args:
        dims: 2 or 3.
        width: Features of the first level.
        images: Resolutions that are judged.
        levels: Of the U-Net, at least ``images``.
    """

    def __init__(self, dims: int, width: int, images: int, levels: int) -> None:
        super().__init__()

        def normalised(inputs: int, outputs: int) -> nn.Module:
            return layers.spectral(layers.conv(dims, inputs, outputs, 3, padding=1))

        self.encoder = _Encoder(dims, width, images, levels)
        sizes = [width << k for k in range(levels)]
        inputs = [*sizes[1:-1], self.encoder.features[-1]]
        self.up = nn.ModuleList(normalised(n, m) for n, m in zip(inputs, sizes, strict=False))
        self.finish = nn.ModuleList(normalised(width, width) for _ in range(2))
        said = [*sizes[:-1], self.encoder.features[-1]]
        self.say = nn.ModuleList(layers.conv(dims, n, 1, 3, padding=1) for n in said[:images])

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, n, ...), (B, 1, n/2, ...), .. in [0, 1] -> logits of the same shapes."""
        *skips, x = self.encoder(images)
        found = [x]
        for skip, up in zip(reversed(skips), reversed(self.up), strict=True):
            x = F.leaky_relu(up(layers.linear_double(x)), LEAK)
            # The image, which the encoder appends to its features, is not added to anything.
            found.append(x + skip[:, : x.shape[1]])
        for conv in self.finish:
            found[-1] = F.leaky_relu(conv(found[-1]), LEAK)
        return tuple(say(x) for say, x in zip(self.say, reversed(found), strict=False))


@final
class ImageDiscriminator(nn.Module):
    """Real or fake for an image as a whole: the plain discriminator of the ablation (table 2).

    The encoder of :class:`VoxelDiscriminator`, the mean of its deepest features over the patch,
    and one linear layer; so nothing differs but what is judged.
    """

    def __init__(self, dims: int, width: int, images: int, levels: int) -> None:
        super().__init__()
        self.encoder = _Encoder(dims, width, images, levels)
        self.say = nn.Linear(self.encoder.features[-1], 1)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, n, ...), (B, 1, n/2, ...), .. in [0, 1] -> logits (B, 1), one tensor."""
        return (self.say(self.encoder(images)[-1].flatten(2).mean(-1)),)
