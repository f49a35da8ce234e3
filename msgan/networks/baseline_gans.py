"""GANs that make an image as a whole: what the extended paper compares in section 3.1, fig. 4.

DCGAN, Pix2Pix and PGGAN, translated to 3D by replacing 2D layers with 3D ones, as that section
does; written from their papers. Discriminators return logits: the last sigmoid of DCGAN and
Pix2Pix belongs to the loss. ``width`` is the number of features their papers start from.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from math import log2

import torch
from torch import Tensor, nn

from msgan.networks import layers
from msgan.types import InputError

LATENT = 100
"""Length of DCGAN's z (Radford et al. 2016, fig. 1)."""


def doublings(side: int, smallest: int) -> int:
    """How often ``smallest`` doubles to become ``side``.

    Raises:
        InputError: ``side`` is no power of two from 32 to 1024.
    """
    if side not in (32, 64, 128, 256, 512, 1024):
        raise InputError(f"side {side}: expected a power of two from 32 to 1024")
    return int(log2(side // smallest))


def dcgan_features(side: int, width: int = 1024) -> list[int]:
    """Features from 4^d voxels up to half of ``side``: each doubling of the side halves them.

    At 64 these are 1024, 512, 256, 128 (Radford et al. 2016, fig. 1). Differs: the paper has
    only this table and, at 32, one level less (section 5.1: D's layers there have 1024 + 512 +
    256 features); larger sides go on in the same way.
    """
    return [max(1, width >> k) for k in range(doublings(side, 4))]


class DcganGenerator(nn.Module):
    """z is projected to 4^d voxels and doubled by transposed convolutions of side 5.

    Radford et al. 2016 (arXiv:1511.06434), fig. 1 and the guidelines of section 3: batch
    normalisation and ReLU everywhere but at the output, which is a tanh.

    Args:
        dims: 2 or 3.
        side: Voxels along each axis, a power of two from 32 to 1024.
        channels: Of the image.
        width: Features of the 4^d voxels (published: 1024).
    """

    def __init__(self, dims: int, side: int, channels: int = 1, width: int = 1024) -> None:
        super().__init__()
        features = dcgan_features(side, width)
        self.seed = (features[0], *[4] * dims)
        self.project = nn.Linear(LATENT, features[0] * 4**dims)
        body: list[nn.Module] = [layers.batch_norm(dims, features[0]), nn.ReLU()]
        for inputs, outputs in pairwise(features):
            body += [layers.transposed(dims, inputs, outputs, 5, stride=2)]
            body += [layers.batch_norm(dims, outputs), nn.ReLU()]
        last = layers.transposed(dims, features[-1], channels, 5, stride=2)
        self.body = nn.Sequential(*body, last, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """(B, 100) -> image (B, channels, side, ...) in [-1, 1]."""
        return self.body(self.project(z).unflatten(1, self.seed))


class DcganDiscriminator(nn.Module):
    """Strided convolutions of side 5 down to 4^d voxels, flattened into one logit.

    Radford et al. 2016, sections 3 and 4: leaky ReLU of slope 0.2, batch normalisation but at
    the input. The paper has no table of it; section 5.1 gives the generator's features.
    """

    def __init__(self, dims: int, side: int, channels: int = 1, width: int = 1024) -> None:
        super().__init__()
        features = [channels, *reversed(dcgan_features(side, width))]
        body: list[nn.Module] = []
        for inputs, outputs in pairwise(features):
            body.append(layers.conv(dims, inputs, outputs, 5, stride=2, padding=2))
            if len(body) > 1:
                body.append(layers.batch_norm(dims, outputs))
            body.append(nn.LeakyReLU(0.2))
        self.body = nn.Sequential(*body, nn.Flatten(), nn.Linear(features[-1] * 4**dims, 1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, side, ...) -> logit (B, 1)."""
        return self.body(image)


class Pix2PixGenerator(nn.Module):
    """U-Net with skip connections between all levels.

    Isola et al. 2017 (arXiv:1611.07004), section 6.1.1: encoder C64-C128-C256-C512 and four
    more of 512, its mirror image with the skipped features joined, convolutions of side 4 and
    stride 2, batch normalisation but at the first level and, by the paper's erratum, the
    innermost one; dropout of 50 % in the first three levels of the decoder.

    Differs: the paper's U-Net ends at one voxel for images of 256^2; smaller images have as
    many levels as they can, larger ones the same eight.

    Args:
        dims: 2 or 3.
        side: Voxels along each axis, a power of two from 32 to 1024.
        inputs: Channels of the condition.
        channels: Of the image.
        width: Features of the first level (published: 64).
        levels: None: as said above.
        dropped: Levels of the decoder with dropout, the innermost is 0.
    """

    def __init__(
        self,
        dims: int,
        side: int,
        inputs: int = 1,
        channels: int = 1,
        width: int = 64,
        levels: int | None = None,
        dropped: Collection[int] = (0, 1, 2),
    ) -> None:
        super().__init__()
        if levels is None:
            levels = min(8, doublings(side, 1))
        features = [min(width << k, width * 8) for k in range(levels)]
        self.down = nn.ModuleList()
        for k, outputs in enumerate(features):
            block: list[nn.Module] = [nn.LeakyReLU(0.2)] if k else []
            block.append(layers.conv(dims, inputs, outputs, 4, stride=2, padding=1))
            if 0 < k < levels - 1:
                block.append(layers.batch_norm(dims, outputs))
            self.down.append(nn.Sequential(*block))
            inputs = outputs
        self.up = nn.ModuleList()
        for k, outputs in enumerate(reversed(features[:-1])):
            block = [nn.ReLU(), layers.transposed(dims, inputs, outputs, 4, stride=2)]
            block.append(layers.batch_norm(dims, outputs))
            if k in dropped:
                block.append(nn.Dropout(0.5))
            self.up.append(nn.Sequential(*block))
            inputs = 2 * outputs
        last = layers.transposed(dims, inputs, channels, 4, stride=2)
        self.out = nn.Sequential(nn.ReLU(), last, nn.Tanh())

    def forward(self, condition: Tensor) -> Tensor:
        """(B, inputs, side, ...) -> image (B, channels, side, ...) in [-1, 1]."""
        x = condition
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = torch.cat((block(x), skips.pop()), dim=1)
        return self.out(x)


class Pix2PixDiscriminator(nn.Module):
    """A judgement for every patch of 70^d voxels, whatever the side of the image.

    Isola et al. 2017, section 6.1.2: C64-C128-C256-C512 and one logit, convolutions of side 4,
    the last two with stride 1; batch normalisation but at the first.

    Args:
        dims: 2 or 3.
        inputs: Channels of condition and image together.
        width: Features of the first level (published: 64).
        padding: Voxels around the input of each convolution; 1 needs images of side 24 or more.
    """

    def __init__(self, dims: int, inputs: int = 2, width: int = 64, padding: int = 1) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, stride: int) -> nn.Module:
            return layers.conv(dims, inputs, outputs, 4, stride=stride, padding=padding)

        body: list[nn.Module] = [conv(inputs, width, 2)]
        body.append(nn.LeakyReLU(0.2))
        for k, stride in enumerate((2, 2, 1)):
            features = width << k
            body.append(conv(features, 2 * features, stride))
            body += [layers.batch_norm(dims, 2 * features), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*body, conv(8 * width, 1, 1))

    def forward(self, condition: Tensor, image: Tensor) -> Tensor:
        """(B, C, n, ...) and (B, channels, n, ...) -> logits (B, 1, m, ...)."""
        return self.body(torch.cat((condition, image), dim=1))


def pggan_features(side: int, width: int = 512) -> list[int]:
    """Features at 4^d, 8^d, .. side^d voxels (Karras et al. 2018, table 2).

    512 up to 32 voxels, halved with each doubling from there, 16 at 1024.
    """
    return [max(1, min(width, width * 8 >> k)) for k in range(doublings(side, 4) + 1)]


class PixelNorm(nn.Module):
    """Divide every voxel's features by their root mean square (Karras et al. 2018, 4.2)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape."""
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class BatchDeviation(nn.Module):
    """Append one channel: how much the images of the batch differ (Karras et al. 2018, 3)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C + 1, ...)."""
        spread = ((x - x.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt().mean()
        return torch.cat((x, spread.expand_as(x[:, :1])), dim=1)


class PgganGenerator(nn.Module):
    """PGGAN's generator, grown to ``side``.

    Karras et al. 2018 (arXiv:1710.10196), table 2: nearest upsampling and two convolutions of
    side 3 at each resolution, leaky ReLU and pixel normalisation after each, a linear layer of
    side 1 at the end.

    Differs: the layers that fade in while it grows and the equalised learning rate are left
    out; neither is there, or takes memory of note, in the finished network.

    Args:
        dims: 2 or 3.
        side: Voxels along each axis, a power of two from 32 to 1024.
        channels: Of the image.
        width: Features of the coarse resolutions and length of z (published: 512).
    """

    def __init__(self, dims: int, side: int, channels: int = 1, width: int = 512) -> None:
        super().__init__()
        self.spatial = (1,) * dims

        def level(conv: nn.Module) -> list[nn.Module]:
            return [conv, nn.LeakyReLU(0.2), PixelNorm()]

        features = pggan_features(side, width)
        body = level(layers.conv(dims, width, features[0], 4, padding=3))
        body += level(layers.conv(dims, features[0], features[0], 3, padding=1))
        for inputs, outputs in pairwise(features):
            body.append(nn.Upsample(scale_factor=2, mode="nearest"))
            body += level(layers.conv(dims, inputs, outputs, 3, padding=1))
            body += level(layers.conv(dims, outputs, outputs, 3, padding=1))
        self.body = nn.Sequential(*body, layers.conv(dims, features[-1], channels, 1))

    def forward(self, z: Tensor) -> Tensor:
        """(B, width) -> image (B, channels, side, ...)."""
        return self.body(z.unflatten(1, (-1, *self.spatial)))


class PgganDiscriminator(nn.Module):
    """PGGAN's discriminator, grown to ``side`` (Karras et al. 2018, table 2).

    The generator's mirror image: means over 2^d blocks, no normalisation, the deviation over
    the batch as a last feature.
    """

    def __init__(self, dims: int, side: int, channels: int = 1, width: int = 512) -> None:
        super().__init__()

        def level(conv: nn.Module) -> list[nn.Module]:
            return [conv, nn.LeakyReLU(0.2)]

        features = pggan_features(side, width)[::-1]
        body = level(layers.conv(dims, channels, features[0], 1))
        for inputs, outputs in pairwise(features):
            body += level(layers.conv(dims, inputs, inputs, 3, padding=1))
            body += level(layers.conv(dims, inputs, outputs, 3, padding=1))
            body.append(layers.mean_pool(dims))
        body.append(BatchDeviation())
        body += level(layers.conv(dims, features[-1] + 1, width, 3, padding=1))
        body += level(layers.conv(dims, width, width, 4))
        self.body = nn.Sequential(*body, nn.Flatten(), nn.Linear(width, 1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, side, ...) -> logit (B, 1)."""
        return self.body(image)
