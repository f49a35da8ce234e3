"""One training step of one scale: D, then G (extended paper, eq. 2 with a distance)."""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from msgan import losses, sketch
from msgan.config import CascadeConfig
from msgan.networks import high, layers, low
from msgan.networks.discriminators import PatchDiscriminator
from msgan.pyramid import halve, upsample
from msgan.training.batches import Batch

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import Precision


def build_generator(config: CascadeConfig, scale: int) -> nn.Module:
    """The generator of s_i, with fresh weights from the global random state."""
    channels = sketch.channels(config.sketch, config.dims)
    net = config.network
    if scale == 0:
        first: Any = low.FAMILIES[net.family]
        own = {"border": net.low_border} if net.low_border else {}
        return first(config.dims, channels, net.low_width, net.low_levels, net.dropout, **own)
    return high.FAMILIES[net.family](config.dims, channels, net.high_width, net.high_blocks)


def build_discriminator(config: CascadeConfig, scale: int) -> nn.Module:
    """The discriminator of s_i; its condition is what :func:`condition` makes, or nothing."""
    inputs = 1
    if config.network.conditional:
        inputs += sketch.channels(config.sketch, config.dims) + (scale > 0)
    published = config.network.family == "paper" or scale == 0
    width = config.network.discriminator_width
    return PatchDiscriminator(config.dims, inputs, width, instance_norm=published)


def condition(batch: Batch, family: str) -> Tensor:
    """What D sees beside the image, on the image's grid.

    The sketch at s0 is halved. At s_i the ``paper`` family's context is used as it comes, twice
    as wide as the detail. Differs: for ``seamless`` sketch and context are cut to the detail,
    the context upsampled, so that D compares what lies on each other.
    """
    dims = batch.detail.ndim - 2
    if batch.context is None:
        return halve(batch.sketch, dims)
    if family == "paper":
        return torch.cat((batch.sketch, batch.context), dim=1)
    halo = (batch.sketch.shape[2] - batch.detail.shape[2]) // 2
    near = layers.crop(batch.context, halo // 2 - 2)
    seen = layers.crop(upsample(near, dims), 2)
    return torch.cat((layers.crop(batch.sketch, halo), seen), dim=1)


JUDGED = 32
"""Side of what D judges at s_i, voxels: the papers' patch. Differs: seamless patches may be
larger, because the halo then costs less; D still sees 32^d, their middle."""


class Step:
    """Networks and optimisers of one scale, and the update of both.

    Attributes:
        generator: As trained.
        average: Its exponential moving average, which is what is kept for translation.
    """

    def __init__(self, config: CascadeConfig, scale: int, fabric: Fabric) -> None:
        self.config = config.training
        self.family = config.network.family
        self.conditional = config.network.conditional
        self.scale = scale
        self.judged = JUDGED if scale else sys.maxsize  # s0 is judged as a whole
        self.fabric = fabric
        self.generator = build_generator(config, scale)
        self.average = deepcopy(self.generator).requires_grad_(False).eval()
        self.average.to(fabric.device)
        betas = (self.config.beta1, 0.999)
        rate = self.config.learning_rate
        own = torch.optim.Adam(self.generator.parameters(), rate, betas)
        self._g, self._optimise_g = fabric.setup(self.generator, own)
        self.optimisers = {"generator": own}
        self.discriminator: nn.Module | None = None
        if self.config.gan_weight:
            self.discriminator = build_discriminator(config, scale)
            other = torch.optim.Adam(self.discriminator.parameters(), rate, betas)
            self._d, self._optimise_d = fabric.setup(self.discriminator, other)
            self.optimisers["discriminator"] = other

    def modules(self) -> dict[str, nn.Module]:
        """Everything with weights, by name."""
        found = {"generator": self.generator, "average": self.average}
        if self.discriminator is not None:
            found["discriminator"] = self.discriminator
        return found

    @property
    def precision(self) -> Precision:
        """How numbers are rounded; ``16-mixed`` has a state, the scale of its gradients."""
        return self.fabric.strategy.precision

    def update(self, batch: Batch, step: int, rate: float) -> dict[str, Tensor]:
        """Train on one batch.

        Args:
            batch: This process's share of the batch.
            step: Number of updates before this one.
            rate: Learning rate of this step.

        Returns:
            Scalars to log, detached.
        """
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate
        inputs = (batch.sketch,) if batch.context is None else (batch.sketch, batch.context)
        fake = self._g(*inputs)
        logged: dict[str, Tensor] = {}
        distance = losses.l1(fake, batch.detail)
        loss = self.config.l1_weight * distance
        for name, weight, measure in (
            ("l2", self.config.l2_weight, losses.l2),
            ("gradient_difference", self.config.gradient_weight, losses.gradient_difference),
        ):
            if weight:
                further = measure(fake, batch.detail)
                loss = loss + weight * further
                logged[name] = further.detach()
        if self.discriminator is not None:
            side = self.judged
            shown = layers.middle(fake, side)
            real = layers.middle(batch.detail, side)
            seen = real[:, :0]
            if self.conditional:
                seen = layers.middle(condition(batch, self.family), side)
            logged |= self._update_discriminator(seen, real, shown.detach())
            # The bare module: DDP would wait for gradients of D that nobody computes here.
            self.discriminator.requires_grad_(False)
            with self.fabric.autocast():
                adversarial = losses.adversarial_loss(
                    self.discriminator(seen, shown), self.config.gan
                )
            self.discriminator.requires_grad_(True)
            loss = loss + self.config.gan_weight * adversarial
            logged["adversarial"] = adversarial.detach()
        self._optimise_g.zero_grad()
        self.fabric.backward(loss)
        self._optimise_g.step()
        self._follow(step)
        return {"l1": distance.detach(), "loss": loss.detach(), **logged}

    def _update_discriminator(self, seen: Tensor, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """One update of D, which rests while it is right too often."""
        gan = self.config.gan
        # One call for real and fake: DDP allows a single forward pass before the backward pass.
        both = self._d(torch.cat((seen, seen)), torch.cat((real, fake)))
        true, false = both.chunk(2)
        accuracy: Any = self.fabric.all_reduce(losses.accuracy(true, false, gan))
        loss = losses.discriminator_loss(true, false, gan)
        self._optimise_d.zero_grad()
        self.fabric.backward(loss)
        if accuracy <= self.config.discriminator_accuracy:
            self._optimise_d.step()
        return {"discriminator": loss.detach(), "accuracy": accuracy}

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Move the average; early on it follows faster, or it would keep the random start."""
        decay = min(self.config.ema, (1 + step) / (10 + step))
        pairs = zip(self.average.parameters(), self.generator.parameters(), strict=True)
        for mean, value in pairs:
            mean.lerp_(value.detach(), 1 - decay)
