"""Layers for 2 or 3 dimensions; only here and in ``pyramid`` is the number of axes known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msgan.types import trailing

Conv = nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose2d | nn.ConvTranspose3d

_CONV: dict[int, type[Conv]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[Transposed]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MEAN_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}
_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def conv(
    dims: int, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0
) -> nn.Module:
    """Convolution over ``dims`` axes; unpadded unless told otherwise."""
    return _CONV[dims](inputs, outputs, kernel, stride=stride, padding=padding)


def transposed(dims: int, inputs: int, outputs: int, kernel: int, *, stride: int) -> nn.Module:
    """Transposed convolution that multiplies every side by ``stride`` exactly."""
    padding = (kernel - stride + 1) // 2
    rest = 2 * padding - kernel + stride  # 1 where nothing else makes the sides exact
    return _TRANSPOSED[dims](
        inputs, outputs, kernel, stride=stride, padding=padding, output_padding=rest
    )


def instance_norm(dims: int, features: int) -> nn.Module:
    """Instance normalisation without learnt parameters, as in the papers."""
    return _INSTANCE_NORM[dims](features)


def batch_norm(dims: int, features: int) -> nn.Module:
    """Batch normalisation with learnt gain and offset."""
    return _BATCH_NORM[dims](features)


def mean_pool(dims: int, kernel: int = 2) -> nn.Module:
    """Mean over 2^d blocks, or over the larger ones around every second voxel, as far as inside."""
    return _MEAN_POOL[dims](kernel, 2, (kernel - 1) // 2, count_include_pad=False)


def max_pool(dims: int) -> nn.Module:
    """Maximum over 2^d blocks; what is left of an odd side is dropped."""
    return _MAX_POOL[dims](2)


def dropout(dims: int, share: float) -> nn.Module:
    """Dropout of whole features; stands in for the noise z."""
    return _DROPOUT[dims](share)


def spectral(module: nn.Module) -> nn.Module:
    """Spectral normalisation of one layer's weight."""
    return nn.utils.parametrizations.spectral_norm(module)


class PixelNorm(nn.Module):
    """Divide every voxel's features by their root mean square.

    Uses no statistics over space: the output of a voxel depends on that voxel alone, which is
    what instance or batch normalisation break and exact tiling needs.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, features, ...) -> the same shape."""
        # In half precision squares overflow, and 1e-6 is too small for the backward pass.
        y = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        scale = torch.rsqrt(y.square().mean(dim=1, keepdim=True) + 1e-6)
        return (y * scale * self.gain.view(1, -1, *[1] * (x.ndim - 2))).to(x.dtype)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; with ``padding`` 0 it eats two voxels on every side."""

    def __init__(
        self, dims: int, features: int, padding: int, norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.rim = 2 * (1 - padding)
        self.body = nn.Sequential(
            conv(dims, features, features, 3, padding=padding),
            norm(features),
            nn.ReLU(),
            conv(dims, features, features, 3, padding=padding),
            norm(features),
        )

    @property
    def convolutions(self) -> tuple[nn.Module, nn.Module]:
        """The two convolutions, without what follows them."""
        return self.body[0], self.body[3]

    def forward(self, x: Tensor) -> Tensor:
        """(B, features, n, ...) -> (B, features, n - 4, ...), or n where padded."""
        return crop(x, self.rim) + self.body(x)


def crop(x: Tensor, rim: int) -> Tensor:
    """Remove ``rim`` voxels on both sides of every spatial axis."""
    if rim == 0:
        return x
    return x[trailing([slice(rim, -rim)] * (x.ndim - 2))]


def middle(x: Tensor, side: int) -> Tensor:
    """The middle of every spatial axis, at most ``side`` voxels."""
    starts = [max(0, (n - side) // 2) for n in x.shape[2:]]
    return x[trailing(slice(a, a + side) for a in starts)]


def space_to_depth(x: Tensor) -> Tensor:
    """Move every 2^d block of voxels into channels: (B, C, 2n, ...) -> (B, C 2^d, n, ...)."""
    corners = product((0, 1), repeat=x.ndim - 2)
    return torch.cat([x[trailing(slice(k, None, 2) for k in c)] for c in corners], dim=1)


def depth_to_space(x: Tensor) -> Tensor:
    """Undo :func:`space_to_depth`: (B, C 2^d, n, ...) -> (B, C, 2n, ...)."""
    dims = x.ndim - 2
    features = x.shape[1] // 2**dims
    blocks = x.unflatten(1, (*[2] * dims, features))
    # (B, 2.., C, n..) -> (B, C, n1, 2, n2, 2, ...)
    order = [0, dims + 1]
    for axis in range(dims):
        order += [dims + 2 + axis, 1 + axis]
    blocks = blocks.permute(order)
    return blocks.reshape(x.shape[0], features, *[2 * n for n in x.shape[2:]])


def nearest_half(x: Tensor) -> Tensor:
    """Every second voxel along each spatial axis, the first included: (.., 2n, ..) -> (.., n, ..).

    What nearest-neighbour resampling by a half takes.
    """
    return x[trailing([slice(None, None, 2)] * (x.ndim - 2))]


def nearest_double(x: Tensor) -> Tensor:
    """Every voxel as a 2^d block: (B, C, n, ...) -> (B, C, 2n, ...)."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def linear_double(x: Tensor) -> Tensor:
    """Linear interpolation, borders repeated: (B, C, n, ...) -> (B, C, 2n, ...)."""
    return F.interpolate(x, scale_factor=2, mode=_LINEAR[x.ndim - 2], align_corners=False)


def neighbours(x: Tensor, stride: int = 1) -> Tensor:
    """The 3^d voxels around every voxel, or every second one, as its features; 0 beyond the border.

    (B, C, n, ...) -> (B, C 3^d, n / stride, ...).
    """
    dims = x.ndim - 2
    x = F.pad(x, (1, 1) * dims)
    for axis in range(2, 2 + dims):
        x = x.unfold(axis, 3, stride)
    blocks = tuple(range(2 + dims, 2 + 2 * dims))
    return x.movedim(blocks, tuple(range(2, 2 + dims))).flatten(1, 1 + dims)


def slices(x: Tensor) -> Tensor:
    """Of a volume all slices across its last axis: (B, C, n, m, k) -> (B k, C, n, m); 2D as is."""
    return x if x.ndim == 4 else x.movedim(-1, 1).flatten(0, 1)


def unsliced(x: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`slices` of a tensor of the axes and the batch of ``like``."""
    return x if like.ndim == 4 else x.unflatten(0, (len(like), -1)).movedim(1, -1)


def channels_last(x: Tensor) -> Tensor:
    """The same tensor with each voxel's features side by side in memory."""
    return x.contiguous(memory_format=_CHANNELS_LAST[x.ndim - 2])


def pad_to(x: Tensor, smallest: int, multiple: int = 1) -> Tensor:
    """Repeat the border at the far end of every axis.

    Sides become at least ``smallest`` and a multiple of ``multiple``.
    """
    amounts = [-(-max(n, smallest) // multiple) * multiple - n for n in x.shape[2:]]
    if not any(amounts):
        return x
    return F.pad(x, [k for a in reversed(amounts) for k in (0, a)], mode="replicate")
