"""One training step of 3D-mDAUNet (Ha et al. 2025): pairs, several resolutions, voxel-wise GAN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from msgan import losses
from msgan.config import CascadeConfig
from msgan.networks.cyclegan import as_read
from msgan.networks.generator import Geometry, View
from msgan.networks.mdaunet import resolutions
from msgan.training.batches import Batch
from msgan.training.step import Adversaries, set_rate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BETA2 = 0.99
"""Of Adam, as in the first author's earlier public code; beta1 is ``training.beta1``."""


class MdaunetStep(Adversaries):
    """Networks and optimisers of 3D-mDAUNet, and the update of both.

    D first, then G, from one batch. All that eqs. 1 to 5 compare is in [0, 1], as in the paper,
    where this project has [-1, 1]; G clips what it makes. L1 and adversarial loss are means over
    the resolutions, so that their weights mean the same with one resolution. A real image of a
    lower resolution is made like the generator's input: by nearest-neighbour resampling.

    Args:
        config: With a network of the family ``mdaunet``.
        scale: n of s_n.
        fabric: Launched.
        features: Of the perceptual loss (:func:`msgan.losses.perceptual`), where ``config`` states
            one.

    Attributes:
        geometry: What a training patch reads and makes: the source, which takes the place of the
            sketch, and the target at full resolution. Patches begin anywhere.
    """

    def __init__(
        self, config: CascadeConfig, scale: int, fabric: Fabric, features: nn.Module | None = None
    ) -> None:
        super().__init__(config, scale, fabric, beta2=BETA2)
        self.perceptual, self.features = config.perceptual, features
        assert (self.perceptual is None) == (features is None)
        if features is not None:
            features.requires_grad_(False).eval().to(fabric.device)
        self.geometry = Geometry((View("sketch", 0),), align=1, patch=self.config.patch)

    def update(self, batch: Batch, step: int, rate: float) -> dict[str, Tensor]:
        """Train on one batch; see :meth:`msgan.training.step.Step.update`.

        The objective of G is eq. 2, that of D eq. 1.
        """
        set_rate(self.optimisers, rate)
        fake = tuple(as_read(image) for image in self._g(*batch.reads))
        real = resolutions(as_read(batch.targets[0]), len(fake))
        apart = [losses.l1(x, y) for x, y in zip(fake, real, strict=True)]  # eq. 3
        loss = self.config.l1_weight * torch.stack(apart).mean()
        # The finest alone, and in [-1, 1], as all methods tell it.
        logged = {"l1": 2 * apart[0].detach()}
        if self.perceptual is not None:
            assert self.features is not None
            with self.fabric.autocast():
                seen = losses.perceptual(self.features, fake[0], real[0])
            loss = loss + self.perceptual.weight * seen
            logged["perceptual"] = seen.detach()
        if self.discriminator is not None:
            logged |= self._update_discriminator(real, [image.detach() for image in fake])
            # The bare module: DDP would wait for gradients of D that nobody computes here.
            self.discriminator.requires_grad_(False)
            with self.fabric.autocast():
                true = self.discriminator(*real) if self.adversarial.relative else ()
                false = self.discriminator(*fake)
                adversarial = self.adversarial.generator(self._all(true), self._all(false))
            self.discriminator.requires_grad_(True)
            loss = loss + self.config.gan_weight * adversarial
            logged["adversarial"] = adversarial.detach()
        self._improve(loss, step)
        return {"loss": loss.detach(), **logged}

    def _update_discriminator(
        self, real: Sequence[Tensor], fake: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """One update of D (eq. 1)."""
        # One call for real and fake: DDP allows a single forward pass before the backward pass.
        both = self._d(*(torch.cat(pair) for pair in zip(real, fake, strict=True)))
        halves = zip(*(logits.chunk(2) for logits in both), strict=True)
        true, false = (self._all(half) for half in halves)
        return self._improve_discriminator(true, false)
