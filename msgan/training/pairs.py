"""One training step of the rivals of 3D-mDAUNet: pairs, a distance, a GAN, and what each adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from msgan import losses
from msgan.config import CascadeConfig
from msgan.networks.cyclegan import as_image
from msgan.networks.ea_gan import sobel
from msgan.networks.generator import Geometry, View
from msgan.networks.pairs import Layers, RealAndFake
from msgan.training.batches import Batch
from msgan.training.step import Adversaries, set_rate

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def _edges(fake: Tensor, real: Tensor) -> Tensor:
    return losses.l1(sobel(fake), sobel(real))


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l2": losses.l2, "edges": _edges}
"""Of two images; which of them a family is trained on, and with which weights, its configuration
says (:meth:`msgan.config.NetworkFamily.distances`)."""


class PairStep(Adversaries):
    """Networks and optimisers of a rival of 3D-mDAUNet, and the update of both.

    D first, then G, from one batch, all in [-1, 1]. D sees the source beside each image.

    Args:
        config: With a network of a family of pairs.
        scale: n of s_n.
        fabric: Launched.

    Attributes:
        geometry: What a training patch reads and makes: the source, which takes the place of the
            sketch, and the target. Patches begin anywhere; of ResViT they are slices.
    """

    def __init__(self, config: CascadeConfig, scale: int, fabric: Fabric) -> None:
        super().__init__(config, scale, fabric, called=RealAndFake)
        self.network = config.network
        views, sliced = (View("sketch", 0),), self.network.sliced
        self.geometry = Geometry(views, align=1, patch=self.config.patch, sliced=sliced)

    def update(self, batch: Batch, step: int, rate: float) -> dict[str, Tensor]:
        """Train on one batch; see :meth:`msgan.training.step.Step.update`."""
        set_rate(self.optimisers, rate)
        (read,), (real,) = batch.reads, batch.targets
        source = as_image(read)
        (fake,) = self._g(read)
        distance = losses.l1(fake, real)
        loss = self.config.l1_weight * distance
        logged = {"l1": distance.detach()}
        weights = self.network.distances(step, self.config.steps)
        feature_weight = weights.pop("features", 0.0)
        if self.config.l2_weight:
            weights = {"l2": self.config.l2_weight, **weights}
        for name, weight in weights.items():
            apart = DISTANCES[name](fake, real)
            loss = loss + weight * apart
            logged[name] = apart.detach()
        if self.discriminator is not None:
            said = self._d(source, real, fake.detach())
            logged |= self._improve_discriminator(*map(_logits, said))
            # The bare module: DDP would wait for gradients of D that nobody computes here.
            self.discriminator.requires_grad_(False)
            with self.fabric.autocast():
                false = self.discriminator(source, fake)
                adversarial = self.adversarial.generator((), _logits(false))
                loss = loss + self.config.gan_weight * adversarial
                logged["adversarial"] = adversarial.detach()
                if feature_weight:
                    with torch.no_grad():
                        true = self.discriminator(source, real)
                    apart = losses.feature_matching(_features(false), _features(true))
                    loss = loss + feature_weight * apart
                    logged["features"] = apart.detach()
            self.discriminator.requires_grad_(True)
        self._improve(loss, step)
        return {"loss": loss.detach(), **logged}


def _logits(layers: Layers) -> Sequence[Tensor]:
    """Of each resolution that D judges."""
    return [own[-1] for own in layers]


def _features(layers: Layers) -> Layers:
    """Of each resolution that D judges, before the logits."""
    return [own[:-1] for own in layers]
