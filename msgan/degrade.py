"""Augmentations that keep the errors of one scale from the next, and colours from the sketch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from msgan.config import ContrastAugmentation, Degradation
from msgan.pyramid import halve
from msgan.types import trailing

BACKGROUND = -1.0


def degrade_context(context: Tensor, config: Degradation, generator: torch.Generator) -> Tensor:
    """Make real contexts look generated (extended paper, section 2.2).

    Gaussian blur on ``blur_share`` of the patches, resolution halved on ``half_share``, then
    noise on all. The choice is made for each patch.

    Args:
        context: (batch, 1, *spatial) in [-1, 1].
        config: shares and strengths.
        generator: on the CPU, so that a GPU sees the same patches degraded.
    """
    batch = context.shape[0]
    draws = torch.rand(2, batch, generator=generator)
    noise = torch.randn(context.shape, generator=generator).to(context.device)
    blurred = (draws[0] < config.blur_share).nonzero().flatten().tolist()
    halved = (draws[1] < config.half_share).nonzero().flatten().tolist()
    out = context.clone()
    if blurred:
        out[blurred] = blur(out[blurred], config.blur_sigma)
    if halved:
        out[halved] = half_resolution(out[halved])
    return out.add_(noise, alpha=config.noise)


def degrade_sketch(sketch: Tensor, config: Degradation, generator: torch.Generator) -> Tensor:
    """Noise on the sketch, so that a detail does not hang on perfect edges; stands in for z."""
    noise = torch.randn(sketch.shape, generator=generator).to(sketch.device)
    return sketch + config.sketch_noise * noise


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of (batch, 1, *spatial); the border is repeated."""
    reach = math.ceil(3 * sigma)
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (bell / bell.sum()).tolist()
    dims = image.ndim - 2
    padded = F.pad(image, (reach, reach) * dims, mode="replicate")
    for axis in range(2, image.ndim):
        size = padded.shape[axis] - 2 * reach
        padded = torch.stack([w * padded.narrow(axis, k, size) for k, w in enumerate(weights)]).sum(
            0
        )
    return padded


def half_resolution(image: Tensor) -> Tensor:
    """Throw away the finer half of the resolution; the size stays."""
    odd = [n % 2 for n in image.shape[2:]]
    even = F.pad(image, [k for a in reversed(odd) for k in (0, a)], mode="replicate")
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    coarse = halve(even, image.ndim - 2)
    fine = F.interpolate(coarse, scale_factor=2, mode=mode, align_corners=False)
    return fine[trailing(slice(n) for n in image.shape[2:])]


def recolour(
    image: Tensor,
    config: ContrastAugmentation,
    curve: torch.Generator,
    noise: torch.Generator,
) -> Tensor:
    """The same anatomy in another contrast: a random piecewise-linear curve of the intensity.

    Background keeps its value. Curves need not rise: what is bright may become dark, as
    between T1 and T2. Differs: the papers train on sketches of the target's own contrast only.

    Args:
        image: any shape, in [-1, 1]; voxels are mapped one by one.
        config: number of knots and the largest noise.
        curve: decides the curve and how strong the noise is.
        noise: draws the noise.
    """
    values = torch.rand(config.knots, generator=curve) * 1.8 - 0.8
    strength = config.noise * float(torch.rand((), generator=curve))
    values = values.to(image.device)
    place = (image.clamp(-1, 1) + 1) / 2 * (config.knots - 1)
    low = place.floor().clamp(max=config.knots - 2)
    out = torch.lerp(values[low.long()], values[low.long() + 1], place - low)
    if strength:
        out = out + strength * torch.randn(image.shape, generator=noise).to(image.device)
    inside = image > BACKGROUND + 1e-3
    return torch.where(inside, out.clamp(-1, 1), torch.full_like(out, BACKGROUND))
