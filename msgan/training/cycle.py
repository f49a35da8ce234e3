"""One training step of CycleGAN (Zhu et al. 2017): two generators, two discriminators, no pairs."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from msgan import losses, seeds
from msgan.config import CascadeConfig
from msgan.networks import layers
from msgan.networks.cyclegan import (
    BothDomains,
    BothWays,
    Generated,
    as_image,
    as_read,
    other_domain,
)
from msgan.networks.generator import Geometry, View
from msgan.training.batches import Batch, Patches
from msgan.training.step import (
    DISCRIMINATOR_PATCH,
    build_discriminator,
    build_generator,
    set_rate,
    update_ema,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import Precision


class Unpaired:
    """Draws patches of two domains independently of each other, from whatever subjects there are.

    Args:
        source: Patches of the source domain.
        target: Patches of the target domain.
    """

    def __init__(self, source: Patches, target: Patches) -> None:
        self.source = source
        self.target = target

    def draw(self, purpose: str, step: int, samples: Sequence[int]) -> Batch:
        """Samples of the batch of one step: (x, y), each (B, 1, ...) in [0, 1]."""
        x = self.source.draw(f"{purpose} source", step, samples)
        y = self.target.draw(f"{purpose} target", step, samples)
        return Batch((*x.reads, *y.reads), ())


class History(nn.Module):
    """Generated patches of earlier steps, of which D is shown some (Shrivastava et al. 2017).

    Until it is full it keeps and shows what it is given; then it shows, one time in two, one that
    it has kept, whose place the new one takes. A buffer, so checkpoints hold it.
    """

    images: Tensor

    def __init__(self, size: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))

    @torch.no_grad()
    def exchange(self, new: Tensor, number: int, rng: np.random.Generator) -> Tensor:
        """What D is shown instead of ``new`` (B, ...).

        Args:
            new: Generated patches.
            number: How many there were before.
            rng: Decides which are exchanged.
        """
        size, shown = len(self.images), new.clone()
        for k in range(len(new)) if size else ():
            place = number + k
            if place >= size:
                if rng.random() < 0.5:
                    continue
                place = int(rng.integers(size))
                shown[k] = self.images[place]
            self.images[place] = new[k]
        return shown


class CycleStep:
    """Networks and optimisers of CycleGAN, and the update of all.

    As the authors' public code has it: G and F first, then the discriminators, which are shown
    some patches of a history; one Adam for both generators and one for both discriminators. No
    patch is compared with one of the other domain.

    Attributes:
        geometry: What a patch of either domain is for training: the halos of two generators, so
            that nothing is padded on the way there and back.
        ema: Moving average of the generator of the target, which is what is kept.
        latest: The last weights are kept: without pairs no score tells which are best.
    """

    latest = True

    def __init__(self, config: CascadeConfig, scale: int, fabric: Fabric) -> None:
        assert config.cycle is not None
        self.config = config.training
        self.cycle = config.cycle
        self.names = config.seed, "history", scale
        self.adversarial = losses.ADVERSARIAL[self.config.gan]
        self.fabric = fabric
        there, back = (build_generator(config, scale) for _ in range(2))
        self.generators = BothWays(there, back)
        halo = self.generators.halo
        self.geometry = Geometry((View("sketch", 0, 2 * halo),), (), exact=True)
        self.ema = deepcopy(there).requires_grad_(False).eval()
        self.ema.to(fabric.device)
        both = (build_discriminator(config, scale) for _ in range(2))
        self.discriminators = BothDomains(*both)
        self.judged = min(DISCRIMINATOR_PATCH, self.config.patch + 2 * halo)
        shape = self.cycle.pool, (1, *(self.judged,) * config.dims)
        self.histories = nn.ModuleList(History(*shape) for _ in range(2)).to(fabric.device)
        betas, rate = (self.config.beta1, 0.999), self.config.learning_rate
        self.optimisers = {
            name: torch.optim.Adam(module.parameters(), rate, betas)
            for name, module in (
                ("generator", self.generators),
                ("discriminator", self.discriminators),
            )
        }
        self._g, self._optimise_g = fabric.setup(self.generators, self.optimisers["generator"])
        own = self.optimisers["discriminator"]
        self._d, self._optimise_d = fabric.setup(self.discriminators, own)

    def modules(self) -> dict[str, nn.Module]:
        """Everything with weights, and the histories, by name."""
        return {
            "generators": self.generators,
            "average": self.ema,
            "discriminators": self.discriminators,
            "histories": self.histories,
        }

    @property
    def precision(self) -> Precision:
        """As that of :class:`msgan.training.step.Step`."""
        return self.fabric.strategy.precision

    def update(self, batch: Batch, step: int, rate: float) -> dict[str, Tensor]:
        """Train on one batch; see :meth:`msgan.training.step.Step.update`.

        The objective of G and F is eq. 3 with least squares (section 3.3), and the identity loss
        of section 5.2.
        """
        set_rate(self.optimisers, rate)
        x, y = batch.reads
        generated: Generated = self._g(x, y)
        fake = [layers.middle(image, self.judged) for image in generated.fake]
        # The bare module: DDP would wait for gradients of D that nobody computes here.
        self.discriminators.requires_grad_(False)
        with self.fabric.autocast():
            logits = self.discriminators(*fake)
            adversarial = _sum([self.adversarial.generator((), (said,)) for said in logits])
        self.discriminators.requires_grad_(True)
        side = self.config.patch
        x, y = as_image(x), as_image(y)
        real_x, real_y = layers.middle(x, side), layers.middle(y, side)
        again_x, again_y = generated.again
        same_x, same_y = generated.same
        cycle = losses.l1(again_x, real_x) + losses.l1(again_y, real_y)
        identity = losses.l1(same_y, real_y) + losses.l1(same_x, real_x)
        distance = cycle + self.cycle.identity * identity
        loss = self.config.gan_weight * adversarial + self.cycle.weight * distance
        self._optimise_g.zero_grad()
        self.fabric.backward(loss)
        self._optimise_g.step()
        update_ema(self.ema, self.generators.there, self.config.ema, step)
        real = [layers.middle(image, self.judged) for image in (y, x)]
        return {
            "l1": cycle.detach() / 2,
            "identity": identity.detach() / 2,
            "loss": loss.detach(),
            "adversarial": adversarial.detach(),
            **self._update_discriminators(real, [image.detach() for image in fake], step),
        }

    @torch.no_grad()
    def score(self, batch: Batch) -> Tensor:
        """How much of x comes back: a sign that training goes on, and nothing to choose by."""
        x, _ = batch.reads
        again = other_domain(self.generators.back, as_read(other_domain(self.ema, x)))
        return losses.l1(again, as_image(layers.middle(x, self.config.patch)))

    def _update_discriminators(
        self, real: Sequence[Tensor], fake: Sequence[Tensor], step: int
    ) -> dict[str, Tensor]:
        """One update of both, each with half its objective, which slows D down (section 4)."""
        shown = [self._shown(k, image.float(), step) for k, image in enumerate(fake)]
        # One call for real and fake: DDP allows a single forward pass before the backward pass.
        both = self._d(*(torch.cat(pair) for pair in zip(real, shown, strict=True)))
        halves = [said.chunk(2) for said in both]
        objectives = [self.adversarial.discriminator((t,), (f,)) for t, f in halves]
        right = [self.adversarial.accuracy((t,), (f,)) for t, f in halves]
        accuracy: Any = self.fabric.all_reduce(_sum(right) / 2)
        loss = _sum(objectives)
        self._optimise_d.zero_grad()
        self.fabric.backward(loss)
        self._optimise_d.step()
        return {"discriminator": loss.detach(), "accuracy": accuracy}

    def _shown(self, domain: int, fake: Tensor, step: int) -> Tensor:
        """What D is shown of generated patches; every process keeps the history of all."""
        count, rank = self.fabric.world_size, self.fabric.global_rank
        every = fake
        if count > 1:
            apart = fake.new_zeros(count, *fake.shape)
            apart[rank] = fake
            every = cast(Tensor, self.fabric.all_reduce(apart, reduce_op="sum")).flatten(0, 1)
        rng = seeds.numpy_rng(*self.names, domain, step)
        history = cast(History, self.histories[domain])
        return history.exchange(every, step * len(every), rng).chunk(count)[rank]


def _sum(values: Sequence[Tensor]) -> Tensor:
    """Over both domains."""
    return torch.stack(tuple(values)).sum()
