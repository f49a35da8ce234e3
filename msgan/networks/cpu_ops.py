"""How trained layers are computed on a CPU: the same numbers in fewer passes over memory."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from msgan.networks import layers


def channels_last_weights(module: nn.Module) -> nn.Module:
    """Lay a module's convolution weights channels last, in place."""
    for parameter in module.parameters():
        if parameter.ndim > 3:
            parameter.data = layers.channels_last(parameter.data)
    return module


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution by oneDNN where it is there.

    PyTorch's own choice for small 3D inputs unrolls them instead, which is three times slower.
    """
    if not isinstance(conv, layers.Conv) or isinstance(conv.padding, str) or not _known(x):
        return conv(x)
    return torch.mkldnn_convolution(
        x, conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups
    )


def _known(x: Tensor) -> bool:
    """Whether oneDNN is there and computes with tensors of this kind."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32
    return plain and torch.backends.mkldnn.is_available()


def normalise_(x: Tensor) -> Tensor:
    """Instance normalisation, in place where features lie channels last.

    PyTorch's own copies them to another layout and back, and its batch normalisation, which does
    not, adds up all voxels one by one: 40 times less exact. Here means are those of rows' means.
    """
    x = layers.channels_last(x)
    features = x.movedim(1, -1).flatten(2, -2)  # (B, rows, voxels of a row, C)
    features.sub_(_mean(features))
    # A mean many times the deviation leaves its rounding behind, so what is left is taken as well.
    rest = _mean(features)
    scale = _mean(features.square()).sub_(rest.square()).add_(1e-5).rsqrt_()
    features.sub_(rest).mul_(scale)
    return x


def _mean(features: Tensor) -> Tensor:
    return features.mean(dim=2, keepdim=True).mean(dim=1, keepdim=True)


class SpreadConv(nn.Module):
    """An unpadded convolution to one channel, its taps along the last axis as channels.

    oneDNN computes 16 output channels at a time; of one alone 15 are thrown away. With the taps
    of one axis as outputs the rest is a sum of shifted slices.
    """

    def __init__(self, conv: Any) -> None:
        super().__init__()
        weight = conv.weight  # (1, C, k, .., k)
        self.inputs, self.taps = weight.shape[1], weight.shape[-1]
        self.reach = self.taps // 2
        # (k, C, k, .., 1), and the bias for one of the slices that are added.
        bias = torch.cat((conv.bias, conv.bias.new_zeros(self.taps - 1)))
        self.conv = conv_of(weight[0].movedim(-1, 0).unsqueeze(-1), bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, n, ...) -> (B, 1, n - k + 1, ...)."""
        parts = convolve(self.conv, x)
        size = x.shape[-1] - self.taps + 1
        out = parts[:, :1, ..., :size].contiguous()
        for k in range(1, self.taps):
            out += parts[:, k : k + 1, ..., k : k + size]
        return out


def conv_of(weight: Tensor, bias: Tensor) -> nn.Module:
    """The unpadded convolution of these weights (out, in, k, ...), laid channels last."""
    conv: Any = layers.conv(weight.ndim - 2, 1, 1, 1)  # sides and channels follow from the weights
    conv.weight.data = layers.channels_last(weight.detach())
    conv.bias = nn.Parameter(bias.detach())
    conv.requires_grad_(False)
    return conv


def on_coarse(weight: Tensor) -> Tensor:
    """A convolution of side 3 as one of side 2 between tensors of :func:`space_to_depth`.

    Output voxel ``2 o + r`` sees input voxels ``2 o + r .. 2 o + r + 2``, which lie in blocks
    ``o`` and ``o + 1``, whatever ``r``. (out, in, 3, ...) -> (2^d out, 2^d in, 2, ...).
    """
    outputs, inputs, *kernel = weight.shape
    dims = len(kernel)
    corners = list(product((0, 1), repeat=dims))
    spread = weight.new_zeros(len(corners), outputs, len(corners), inputs, *[2] * dims)
    for (i, to), (j, of), block in product(enumerate(corners), enumerate(corners), corners):
        tap: Any = [2 * q + s - r for q, s, r in zip(block, of, to, strict=True)]
        if all(0 <= k <= 2 for k in tap):
            at: Any = (i, slice(None), j, slice(None), *block)
            spread[at] = weight[(..., *tap)]
    return spread.flatten(2, 3).flatten(0, 1)


def space_to_depth_into(x: Tensor, out: Tensor) -> None:
    """:func:`space_to_depth` of one sample, written to channels-last features.

    In two steps, each of which moves runs of voxels or of features: in one it takes twice as long.
    A few rows at a time, so that what lies between the steps stays in cache.
    """
    dims, channels = x.ndim - 2, x.shape[1]
    order = [2 * a for a in range(dims)] + [2 * a + 1 for a in range(dims)] + [2 * dims]
    blocks = out[0].movedim(0, -1).unflatten(-1, (*[2] * dims, channels))
    for rows, made in zip(x[0].split(8, dim=1), blocks.split(4), strict=True):
        last = torch.stack(tuple(rows), dim=-1)  # (8, 2n, .., C)
        for axis in range(dims):
            last = last.unflatten(2 * axis, (-1, 2))
        made.copy_(last.permute(order))


def equalise_(x: Tensor) -> Tensor:
    """What :class:`PixelNorm` does before its gain, in place on channels-last features."""
    size = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x.mul_(size.square_().div_(x.shape[1]).add_(1e-6).rsqrt_())


def per_feature(values: Tensor, like: Tensor) -> Tensor:
    """Values of features in the shape that multiplies (B, features, ...)."""
    return values.view(1, -1, *[1] * (like.ndim - 2))
