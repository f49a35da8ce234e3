"""The GANs whose training steps figure 4 of the extended paper compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from msgan import presets
from msgan.networks import baseline_gans
from msgan.networks.discriminators import condition
from msgan.training.batches import Batch
from msgan.training.step import build_discriminator, build_generator, options


@dataclass(frozen=True)
class Players:
    """Two networks and one image.

    Attributes:
        generator: What is called with ``inputs``.
        discriminator: What is called with ``seen``, if there is such a thing, and an image.
        inputs: z, a sketch, or a sketch and a context.
        seen: Condition that D sees beside the image.
        real: Image, (1, 1, n, ...).
    """

    generator: nn.Module
    discriminator: nn.Module
    inputs: tuple[Tensor, ...]
    seen: Tensor | None
    real: Tensor

    @property
    def judged(self) -> tuple[Tensor, ...]:
        """What D is called with before the image."""
        return () if self.seen is None else (self.seen,)


def _dcgan(dims: int, side: int) -> Players:
    z = torch.randn(1, baseline_gans.LATENT)
    generator = baseline_gans.DcganGenerator(dims, side)
    return Players(
        generator, baseline_gans.DcganDiscriminator(dims, side), (z,), None, _image(dims, side)
    )


def _pix2pix(dims: int, side: int) -> Players:
    seen = _image(dims, side)
    generator, discriminator = (
        baseline_gans.Pix2PixGenerator(dims, side),
        baseline_gans.Pix2PixDiscriminator(dims),
    )
    return Players(generator, discriminator, (seen,), seen, _image(dims, side))


def _pggan(dims: int, side: int) -> Players:
    generator, discriminator = (
        baseline_gans.PgganGenerator(dims, side),
        baseline_gans.PgganDiscriminator(dims, side),
    )
    z = torch.randn(1, baseline_gans.pggan_features(side)[0])
    return Players(generator, discriminator, (z,), None, _image(dims, side))


def _cascade(dims: int, scale: int, batch: Batch) -> Players:
    """The published networks of a scale, as :mod:`msgan.training.step` builds them."""
    config = presets.preset("published", dims=dims)
    generator, discriminator = build_generator(config, scale), build_discriminator(config, scale)
    seen = condition(batch.reads, generator.geometry, options(config, scale).aligned)
    players = _OfOne(generator), _JudgeOfOne(discriminator)
    return Players(*players, batch.reads, seen, batch.targets[0])


class _OfOne(nn.Module):
    """A generator of one image, which it gives by itself."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *reads: Tensor) -> Tensor:
        return self.generator(*reads)[0]


class _JudgeOfOne(nn.Module):
    """A discriminator of one image, likewise."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, condition: Tensor, image: Tensor) -> Tensor:
        return self.discriminator(condition, (image,))[0]


def _low(dims: int, side: int) -> Players:
    return _cascade(dims, 0, Batch((_image(dims, 2 * side),), (_image(dims, side),)))


def _high(dims: int, side: int) -> Players:
    sketch, context, detail = (_image(dims, side) for _ in range(3))
    return _cascade(dims, 1, Batch((sketch, context), (detail,)))


def _image(dims: int, side: int) -> Tensor:
    return torch.rand(1, 1, *[side] * dims)


NETWORKS: dict[str, Callable[[int, int], Players]] = {
    "DCGAN": _dcgan,
    "Pix2Pix": _pix2pix,
    "PGGAN": _pggan,
    "LR 64": _low,
    "HR 32": _high,
}
"""Name in figure 4 -> networks for dims and side."""

OWN_SIDE = {"LR 64": 64, "HR 32": 32}
"""What the networks of the cascade make, however large the image is."""


def step(players: Players) -> None:
    """Forward and backward pass of D on a real and a made image, and of G through D.

    Gradients of both networks are kept, as an optimiser would find them. The losses are least
    squares; which loss it is changes the bytes of one number.
    """
    judge, seen = players.discriminator, players.judged
    made = players.generator(*players.inputs)
    for image, wanted in ((players.real, 1.0), (made.detach(), 0.0)):
        (judge(*seen, image) - wanted).square().mean().backward()
    judge.requires_grad_(False)
    (judge(*seen, made) - 1.0).square().mean().backward()
    judge.requires_grad_(True)
