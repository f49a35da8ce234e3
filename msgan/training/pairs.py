"""One training step of the rivals of 3D-mDAUNet: pairs, a distance, a GAN, and what each adds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from msgan import losses
from msgan.config import (
    CascadeConfig,
    EaGanNetwork,
    PairNetwork,
    PtnetNetwork,
    ResvitNetwork,
)
from msgan.networks.cyclegan import as_image
from msgan.networks.ea_gan import EaGanDiscriminator, sobel
from msgan.networks.generator import Geometry, View
from msgan.networks.pairs import Layers, RealAndFake
from msgan.networks.ptnet import PyramidDiscriminator
from msgan.networks.resvit import SliceDiscriminator
from msgan.training.batches import Batch
from msgan.training.step import Adversaries, build_generator, set_rate

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def build_judge(config: CascadeConfig) -> nn.Module:
    """The discriminator of a family of pairs, with fresh weights from the global random state."""
    net = config.network
    if isinstance(net, ResvitNetwork):
        return SliceDiscriminator(net.discriminator_width)
    if isinstance(net, PtnetNetwork):
        return PyramidDiscriminator(config.dims, net.discriminator_width)
    assert isinstance(net, EaGanNetwork)
    return EaGanDiscriminator(config.dims, net.discriminator_width, net.edges_judged)


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
        assert isinstance(config.network, PairNetwork)
        generator, judge = build_generator(config, scale), partial(build_judge, config)
        super().__init__(config.training, fabric, generator, judge, called=RealAndFake)
        self.network = config.network
        sliced = isinstance(self.network, ResvitNetwork)
        views = (View("sketch", 0),)
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
        for name, weight, apart in self._further(fake, real, step):
            loss = loss + weight * apart
            logged[name] = apart.detach()
        if self.discriminator is not None:
            logged |= self._update_discriminator(source, real, fake.detach())
            # The bare module: DDP would wait for gradients of D that nobody computes here.
            self.discriminator.requires_grad_(False)
            with self.fabric.autocast():
                false = self.discriminator(source, fake)
                adversarial = self.adversarial.generator((), _logits(false))
                loss = loss + self.config.gan_weight * adversarial
                logged["adversarial"] = adversarial.detach()
                if isinstance(self.network, PtnetNetwork) and self.network.feature_weight:
                    with torch.no_grad():
                        true = self.discriminator(source, real)
                    apart = losses.feature_matching(_features(false), _features(true))
                    loss = loss + self.network.feature_weight * apart
                    logged["features"] = apart.detach()
            self.discriminator.requires_grad_(True)
        self._improve(loss, step)
        return {"loss": loss.detach(), **logged}

    def _further(self, fake: Tensor, real: Tensor, step: int) -> list[tuple[str, float, Tensor]]:
        """What is added to L1: name, weight and distance."""
        found = []
        if self.config.l2_weight:
            found.append(("l2", self.config.l2_weight, losses.l2(fake, real)))
        net = self.network
        if isinstance(net, EaGanNetwork) and net.edge_weight:
            rise = net.edge_rise * self.config.steps
            weight = net.edge_weight * min(1.0, step / rise if rise else 1.0)
            found.append(("edges", weight, losses.l1(sobel(fake), sobel(real))))
        return found

    def _update_discriminator(
        self, source: Tensor, real: Tensor, fake: Tensor
    ) -> dict[str, Tensor]:
        true, false = (_logits(layers) for layers in self._d(source, real, fake))
        accuracy = self.fabric.all_reduce(self.adversarial.accuracy(true, false))
        assert isinstance(accuracy, Tensor)
        loss = self.adversarial.discriminator(true, false)
        self._optimise_d.zero_grad()
        self.fabric.backward(loss)
        self._optimise_d.step()
        return {"discriminator": loss.detach(), "accuracy": accuracy}


def _logits(layers: Layers) -> Sequence[Tensor]:
    """Of each resolution that D judges."""
    return [own[-1] for own in layers]


def _features(layers: Layers) -> Layers:
    """Of each resolution that D judges, before the logits."""
    return [own[:-1] for own in layers]
