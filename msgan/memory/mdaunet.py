"""Memory of 3D-mDAUNet in half precision, counted: what its sizes are calibrated by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from msgan import losses
from msgan.config import CascadeConfig
from msgan.memory.count import peak_bytes
from msgan.networks.cyclegan import as_read
from msgan.networks.mdaunet import resolutions
from msgan.networks.vgg import vgg
from msgan.training.step import build_discriminator, build_generator


def training_bytes(config: CascadeConfig, batch: int, perceptual: bool = True) -> int:
    """Of one step of mixed precision: tensors that are alive, weights and states of optimisers.

    Features are counted in float16; of each weight there are its float16 copy, in float32 the
    weight itself, its gradient and two moments, and of a generator the moving average. What a
    program and its libraries take for themselves is not counted.

    Args:
        config: Of the family ``mdaunet``.
        batch: Patches a step.
        perceptual: Whether VGG-19 is part of it.
    """
    with _half():
        generator, judge = build_generator(config, 0), build_discriminator(config, 0)
        features = vgg(19)[:-1].requires_grad_(False) if perceptual else None
        patch = torch.empty(batch, 1, *[config.training.patch] * config.dims)
    gan = losses.ADVERSARIAL["relativistic"]

    def step() -> None:
        real = resolutions(patch, len(generator.geometry.makes))
        fake = tuple(as_read(image) for image in generator(patch))
        _update(judge, gan.discriminator, real, tuple(x.detach() for x in fake))
        apart = [losses.l1(x, y) for x, y in zip(fake, real, strict=True)]
        loss = torch.stack(apart).mean()
        if features is not None:
            loss = loss + losses.perceptual(features, fake[0], real[0])
        judge.requires_grad_(False)
        (loss + gan.generator(judge(*real), judge(*fake))).backward()
        judge.requires_grad_(True)

    weights, judging, seeing = (_parameters(m) for m in (generator, judge, features))
    return peak_bytes(step) + (2 + 16 + 4) * weights + (2 + 16) * judging + (2 + 4) * seeing


def translation_bytes(config: CascadeConfig) -> int:
    """Of one patch in float16: tensors that are alive, and the weights in float32."""
    with _half():
        generator = build_generator(config, 0)
        patch = torch.empty(1, 1, *[config.training.patch] * config.dims)

    def call() -> tuple[Tensor, ...]:
        with torch.inference_mode():
            return generator(patch)

    return peak_bytes(call) + 4 * _parameters(generator)


def _update(
    judge: nn.Module,
    objective: Callable[..., Tensor],
    real: tuple[Tensor, ...],
    fake: tuple[Tensor, ...],
) -> None:
    both = judge(*(torch.cat(pair) for pair in zip(real, fake, strict=True)))
    halves = zip(*(logits.chunk(2) for logits in both), strict=True)
    objective(*halves).backward()


def _parameters(module: nn.Module | None) -> int:
    return 0 if module is None else sum(p.numel() for p in module.parameters())


@contextmanager
def _half() -> Iterator[None]:
    """What is made inside has no data and counts as float16."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(before)
