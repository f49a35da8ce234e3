"""Discriminators: fully convolutional, one judgement for every patch of their input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msgan.networks import layers
from msgan.networks.generator import Geometry
from msgan.pyramid import halve, upsample


class PatchDiscriminator(nn.Module):
    """Real or fake for every receptive field (extended paper, section 2.2 and fig. 3).

    Unpadded convolutions of side 4, the first with stride 1, then stride 2, as in the first
    author's public code. It sees condition and image together: (sketch, image) at s0, (sketch,
    context, detail) at s_i (eq. 2), all brought to the image's grid.

    Args:
        dims: 2 or 3.
        inputs: channels of condition and image together.
        width: features of the first layer (published: 64).
        instance_norm: as published; False leaves normalisation out, which lets voxels far from
            the patch have no say and is what the ``seamless`` family uses.
    """

    smallest = 25
    """Smallest side that gives one judgement; smaller images are extended by their border."""

    def __init__(self, dims: int, inputs: int, width: int, instance_norm: bool) -> None:
        super().__init__()
        blocks: list[nn.Module] = [layers.conv(dims, inputs, width, 4), nn.LeakyReLU(0.2)]
        for features in (width, 2 * width):
            blocks.append(layers.conv(dims, features, 2 * features, 4, stride=2))
            if instance_norm:
                blocks.append(layers.instance_norm(dims, 2 * features))
            blocks.append(nn.LeakyReLU(0.2))
        self.body = nn.Sequential(*blocks, layers.conv(dims, 4 * width, 1, 4, stride=2))

    def forward(self, condition: Tensor, images: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(B, C, n, ...) and images, of which the finest (B, 1, n, ...) is judged.

        Returns:
            Logits (B, 1, m, ...), one tensor.
        """
        seen = torch.cat((condition, images[0]), dim=1)
        return (self.body(layers.pad_to(seen, self.smallest)),)


@dataclass(frozen=True)
class Options:
    """How the images of a stage are judged.

    Attributes:
        instance_norm: See :class:`PatchDiscriminator`.
        aligned: Whether what D sees of the reads lies on the image (:func:`condition`).
    """

    instance_norm: bool = True
    aligned: bool = True


def condition(reads: Sequence[Tensor], geometry: Geometry, aligned: bool) -> Tensor:
    """What D sees beside an image: all that the generator has read.

    Published: it comes as it is, the context twice as wide as the detail. Differs: where
    ``aligned``, each read is cut to the image and brought to its grid, so that D compares what
    lies on each other. The sketch at s0 is halved in both.

    Args:
        reads: Of a batch, as the generator takes them.
        geometry: The generator's.
        aligned: See above.

    Returns:
        (B, C, ...), on the grid of the image.
    """
    if not aligned:
        return torch.cat(tuple(reads), dim=1)
    pairs = zip(reads, geometry.reads, strict=True)
    return torch.cat([_on_image(x, view.scale, view.halo) for x, view in pairs], dim=1)


def _on_image(x: Tensor, scale: int, halo: int) -> Tensor:
    """What was read with its halo, on the grid of the image and without."""
    dims = x.ndim - 2
    if scale >= 0:
        x = layers.crop(x, halo)
        for _ in range(scale):
            x = halve(x, dims)
        return x
    # Interpolation eats one coarse voxel on every side, which leaves two of two.
    missing = max(2 - halo, 0)
    x = F.pad(x, [missing] * (2 * dims), mode="replicate") if missing else x
    x = layers.crop(x, max(halo - 2, 0))
    for _ in range(-scale):
        x = upsample(x, dims)
    return layers.crop(x, 2)
