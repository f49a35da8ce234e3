"""Augmentations that keep the errors of one scale from the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from msgan.config import ConditioningAugmentation
from msgan.pyramid import halve
from msgan.types import Shape, trailing


@dataclass(frozen=True)
class SampleRng:
    """What is random about the augmentation of one sample, a function of one seed.

    A GPU draws other normal numbers than a CPU, so what a sample is augmented by is a function
    of the seed on each kind of device, and not the same on both.

    Attributes:
        choice: On the CPU, so that nobody waits for the device to know what to do.
        noise: On the device of the sample; on the CPU it is ``choice`` itself.
    """

    choice: torch.Generator
    noise: torch.Generator

    @classmethod
    def of(cls, seed: int, device: torch.device) -> SampleRng:
        """The random numbers of one sample."""
        choice = torch.Generator().manual_seed(seed)
        if device.type == "cpu":
            return cls(choice, choice)
        return cls(choice, torch.Generator(device).manual_seed(seed))


def augment_context(
    context: Tensor, config: ConditioningAugmentation, rngs: Sequence[SampleRng]
) -> Tensor:
    """Make real contexts look generated (extended paper, section 2.2).

    Gaussian blur on ``blur_share`` of the patches, resolution halved on ``half_share``, then
    noise on all. The choice is made for each patch, the work is done for all at once; a device
    is never waited for.

    Args:
        context: (batch, 1, *spatial) in [-1, 1].
        config: shares and strengths.
        rngs: one for each patch; the same give the same, alone or in a batch.
    """
    draws = [torch.rand(2, generator=own.choice).tolist() for own in rngs]
    out = context.clone()
    blurred = [k for k, (draw, _) in enumerate(draws) if draw < config.blur_share]
    halved = [k for k, (_, draw) in enumerate(draws) if draw < config.half_share]
    _change(out, blurred, lambda patches: blur(patches, config.blur_sigma))
    _change(out, halved, half_resolution)
    for patch, own in zip(out, rngs, strict=True):
        patch.add_(_noise(patch.shape, own.noise), alpha=config.noise)
    return out


def augment_sketch(
    sketch: Tensor,
    config: ConditioningAugmentation,
    rngs: Sequence[SampleRng],
    sizes: Sequence[Shape] | None = None,
) -> Tensor:
    """Noise on the sketch, so that a detail does not hang on perfect edges; stands in for z.

    Args:
        sketch: (batch, channels, *spatial) in [0, 1].
        config: strength.
        rngs: one for each patch.
        sizes: what each patch fills of ``spatial`` where they differ; the rest gets no noise.
    """
    noise = torch.empty_like(sketch)
    for k, own in enumerate(rngs):
        if sizes is None or sizes[k] == sketch.shape[2:]:
            noise[k].normal_(generator=own.noise)
        else:
            size = (sketch.shape[1], *sizes[k])
            noise[k].zero_()[trailing(slice(n) for n in sizes[k])] = _noise(size, own.noise)
    return noise.mul_(config.sketch_noise).add_(sketch)


def _change(batch: Tensor, chosen: Sequence[int], how: Callable[[Tensor], Tensor]) -> None:
    """Change some samples of a batch in place."""
    if not chosen:
        return
    # Slices, not a list as an index: a list is copied to the device, and that waits for it.
    for k, changed in zip(chosen, how(torch.stack([batch[k] for k in chosen])), strict=True):
        batch[k].copy_(changed)


def _noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of (batch, 1, *spatial); the border is repeated."""
    reach = math.ceil(3 * sigma)
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (bell / bell.sum()).tolist()
    dims = image.ndim - 2
    padded = F.pad(image, (reach, reach) * dims, mode="replicate")
    for axis in range(2, image.ndim):
        size = padded.shape[axis] - 2 * reach
        total = weights[0] * padded.narrow(axis, 0, size)
        for k, weight in enumerate(weights[1:], 1):
            # Two roundings: fused ones differ with a voxel's place in the batch.
            total += weight * padded.narrow(axis, k, size)
        padded = total
    return padded


def half_resolution(image: Tensor) -> Tensor:
    """Throw away the finer half of the resolution; the size stays."""
    odd = [n % 2 for n in image.shape[2:]]
    even = F.pad(image, [k for a in reversed(odd) for k in (0, a)], mode="replicate")
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    coarse = halve(even, image.ndim - 2)
    fine = F.interpolate(coarse, scale_factor=2, mode=mode, align_corners=False)
    return fine[trailing(slice(n) for n in image.shape[2:])]
