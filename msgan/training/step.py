"""One training step of one scale: D, then G (extended paper, eq. 2 with a distance)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

from msgan import losses
from msgan.config import CascadeConfig, CascadeNetwork
from msgan.networks import discriminators, layers
from msgan.networks.discriminators import Options
from msgan.networks.families import FAMILIES, CascadeFamily
from msgan.networks.generator import Generator, Geometry
from msgan.training.batches import Batch

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import Precision


def build_generator(config: CascadeConfig, scale: int) -> Generator:
    """The generator of s_i, with fresh weights from the global random state."""
    return FAMILIES[config.network.family].generator(config, scale)


def geometry(config: CascadeConfig, scale: int) -> Geometry:
    """What the generator of s_i reads and makes, without its weights."""
    with torch.device("meta"):
        return build_generator(config, scale).geometry


def options(config: CascadeConfig, scale: int) -> Options:
    """How the images of s_i of a cascade are judged."""
    return cast(CascadeFamily, FAMILIES[config.network.family]).options(scale)


def build_discriminator(config: CascadeConfig, scale: int) -> nn.Module:
    """The discriminator of s_i, with fresh weights from the global random state."""
    return FAMILIES[config.network.family].discriminator(config, scale)


DISCRIMINATOR_PATCH = 32
"""Side of what D judges at s_i, voxels: the papers' patch. Differs: seamless patches may be
larger, because the halo then costs less; D still sees 32^d, their middle."""


class Learner(Protocol):
    """What the loop trains: networks with their optimisers.

    Attributes:
        geometry: What a training patch reads and makes.
        ema: Moving average of the generator, which is what is kept for translation.
        optimisers: By name.
        latest: The last average is kept, and not the one with the best score.
    """

    geometry: Geometry
    optimisers: dict[str, torch.optim.Adam]
    latest: bool

    @property
    def ema(self) -> nn.Module: ...  # noqa: D102

    def modules(self) -> dict[str, nn.Module]:
        """Everything with weights, by name."""
        ...

    @property
    def precision(self) -> Precision:
        """How numbers are rounded."""
        ...

    def update(self, batch: Batch, step: int, rate: float) -> dict[str, Tensor]:
        """Train on one batch; see :meth:`Step.update`."""
        ...

    def score(self, batch: Batch) -> Tensor:
        """What validation tells of a batch; less is better."""
        ...


class Adversaries:
    """A generator, its moving average and a discriminator, with an optimiser each.

    Attributes:
        config: Of the training.
        fabric: Launched.
        adversarial: What both want.
        generator: As trained.
        ema: Its exponential moving average, which is what is kept for translation.
        discriminator: None where the adversarial loss has no weight.
    """

    latest = False

    def __init__(
        self,
        config: CascadeConfig,
        scale: int,
        fabric: Fabric,
        *,
        beta2: float = 0.999,
        called: Callable[[nn.Module], nn.Module] = lambda judge: judge,
    ) -> None:
        """Set both up.

        Args:
            config: Of the cascade.
            scale: i of s_i.
            fabric: Launched.
            beta2: Of Adam; beta1 is the configuration's.
            called: Wraps the discriminator as its update calls it.
        """
        self.config, self.fabric = config.training, fabric
        self.generator = build_generator(config, scale)
        self.adversarial = losses.ADVERSARIAL[self.config.gan]
        self.ema = deepcopy(self.generator).requires_grad_(False).eval()
        self.ema.to(fabric.device)
        rate, betas = self.config.learning_rate, (self.config.beta1, beta2)
        own = torch.optim.Adam(self.generator.parameters(), rate, betas)
        self._g, self._optimise_g = fabric.setup(self.generator, own)
        self.optimisers = {"generator": own}
        self.discriminator: nn.Module | None = None
        if self.config.gan_weight:
            self.discriminator = build_discriminator(config, scale)
            other = torch.optim.Adam(self.discriminator.parameters(), rate, betas)
            self._d, self._optimise_d = fabric.setup(called(self.discriminator), other)
            self.optimisers["discriminator"] = other

    def modules(self) -> dict[str, nn.Module]:
        """Everything with weights that are trained, by name."""
        found: dict[str, nn.Module] = {"generator": self.generator, "average": self.ema}
        if self.discriminator is not None:
            found["discriminator"] = self.discriminator
        return found

    @property
    def precision(self) -> Precision:
        """How numbers are rounded; ``16-mixed`` has a state, the scale of its gradients."""
        return self.fabric.strategy.precision

    @torch.no_grad()
    def score(self, batch: Batch) -> Tensor:
        """L1 of the averaged generator, at the finest resolution that it makes."""
        return losses.l1(self.ema(*batch.reads)[0], batch.targets[0])

    def _improve(self, loss: Tensor, step: int) -> None:
        """Update the generator and its average."""
        self._optimise_g.zero_grad()
        self.fabric.backward(loss)
        self._optimise_g.step()
        update_ema(self.ema, self.generator, self.config.ema, step)

    def _improve_discriminator(
        self, true: Sequence[Tensor], false: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Update D from its logits; it rests while it is right too often."""
        accuracy: Any = self.fabric.all_reduce(self.adversarial.accuracy(true, false))
        loss = self.adversarial.discriminator(true, false)
        self._optimise_d.zero_grad()
        self.fabric.backward(loss)
        most = self.config.discriminator_accuracy
        if most >= 1 or accuracy <= most:  # to compare, the host waits for the device
            self._optimise_d.step()
        return {"discriminator": loss.detach(), "accuracy": accuracy}

    def _all(self, logits: Sequence[Tensor]) -> Sequence[Tensor]:
        return of_all_processes(self.fabric, self.adversarial, logits)


class Step(Adversaries):
    """Networks and optimisers of one scale, and the update of both (:class:`Learner`)."""

    def __init__(self, config: CascadeConfig, scale: int, fabric: Fabric) -> None:
        super().__init__(config, scale, fabric)
        self.conditional = cast(CascadeNetwork, config.network).conditional
        self.aligned = options(config, scale).aligned
        self.judged = DISCRIMINATOR_PATCH if scale else sys.maxsize  # s0 is judged as a whole
        self.geometry = self.generator.geometry

    def update(self, batch: Batch, step: int, rate: float) -> dict[str, Tensor]:
        """Train on one batch.

        Args:
            batch: This process's share of the batch.
            step: Number of updates before this one.
            rate: Learning rate of this step.

        Returns:
            Scalars to log, detached.
        """
        set_rate(self.optimisers, rate)
        fake = self._g(*batch.reads)
        pairs = list(zip(fake, batch.targets, strict=True))
        logged: dict[str, Tensor] = {}
        distance = _mean([losses.l1(x, y) for x, y in pairs])
        loss = self.config.l1_weight * distance
        for name, weight, measure in (
            ("l2", self.config.l2_weight, losses.l2),
            ("gradient_difference", self.config.gradient_weight, losses.gradient_difference),
        ):
            if weight:
                further = _mean([measure(x, y) for x, y in pairs])
                loss = loss + weight * further
                logged[name] = further.detach()
        if self.discriminator is not None:
            shown, real = self._middles(fake), self._middles(batch.targets)
            seen = real[0][:, :0]
            if self.conditional:
                every = discriminators.condition(batch.reads, self.geometry, self.aligned)
                seen = layers.middle(every, self.judged)
            logged |= self._update_discriminator(seen, real, tuple(x.detach() for x in shown))
            # The bare module: DDP would wait for gradients of D that nobody computes here.
            self.discriminator.requires_grad_(False)
            with self.fabric.autocast():
                # The weights of D have moved, so what it said of real images is out of date.
                true = self.discriminator(seen, real) if self.adversarial.relative else ()
                false = self.discriminator(seen, shown)
                adversarial = self.adversarial.generator(self._all(true), self._all(false))
            self.discriminator.requires_grad_(True)
            loss = loss + self.config.gan_weight * adversarial
            logged["adversarial"] = adversarial.detach()
        self._improve(loss, step)
        return {"l1": distance.detach(), "loss": loss.detach(), **logged}

    def _middles(self, images: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What D judges of images, finest first."""
        views = self.geometry.makes
        return tuple(
            layers.middle(x, self.judged >> -view.scale)
            for x, view in zip(images, views, strict=True)
        )

    def _update_discriminator(
        self, seen: Tensor, real: Sequence[Tensor], fake: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """One update of D."""
        # One call for real and fake: DDP allows a single forward pass before the backward pass.
        images = [torch.cat(pair) for pair in zip(real, fake, strict=True)]
        both = self._d(torch.cat((seen, seen)), images)
        halves = zip(*(logits.chunk(2) for logits in both), strict=True)
        true, false = (self._all(half) for half in halves)
        return self._improve_discriminator(true, false)


def of_all_processes(
    fabric: Fabric, adversarial: losses.Adversarial, logits: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Logits of all processes where each is compared with the mean of all, else those given.

    Returns:
        (B, ...) each, of one process after the other; gradients reach this one's.
    """
    if not adversarial.relative or fabric.world_size == 1:
        return logits
    return [_gathered(fabric, x) for x in logits]


def _gathered(fabric: Fabric, x: Tensor) -> Tensor:
    count, rank = fabric.world_size, fabric.global_rank
    own = x.detach()
    every = own.new_zeros(count, *own.shape)
    every[rank] = own
    every = cast(Tensor, fabric.all_reduce(every, reduce_op="sum"))
    # The loss is the same everywhere; DDP takes the mean of gradients where the sum is due.
    own = own + count * (x - own)
    return torch.cat((every[:rank].flatten(0, 1), own, every[rank + 1 :].flatten(0, 1)))


def set_rate(optimisers: Mapping[str, torch.optim.Adam], rate: float) -> None:
    """Let all learn at this rate."""
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = rate


@torch.no_grad()
def update_ema(ema: nn.Module, network: nn.Module, most: float, step: int) -> None:
    """Move an average; early on it follows faster, or it would keep the random start.

    Args:
        ema: The average, which is changed.
        network: What it follows.
        most: Decay of the average once ``step`` is large.
        step: Number of updates before this one.
    """
    decay = min(most, (1 + step) / (10 + step))
    for mean, value in zip(ema.parameters(), network.parameters(), strict=True):
        mean.lerp_(value.detach(), 1 - decay)
    for own, buffer in zip(ema.buffers(), network.buffers(), strict=True):
        if own.is_floating_point():  # statistics of batch normalisation
            own.lerp_(buffer, 1 - decay)
        else:
            own.copy_(buffer)


def _mean(values: Sequence[Tensor]) -> Tensor:
    """Over resolutions."""
    return torch.stack(tuple(values)).mean() if len(values) > 1 else values[0]
