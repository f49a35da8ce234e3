"""Discriminators: fully convolutional, one judgement for every patch of their input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msgan.networks import layers


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

    def forward(self, condition: Tensor, image: Tensor) -> Tensor:
        """(B, C, n, ...) and (B, 1, n, ...) -> logits (B, 1, m, ...)."""
        return self.body(layers.pad_to(torch.cat((condition, image), dim=1), self.smallest))
