"""Objectives of one scale (extended paper, eq. 2, and the distances added to it)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from msgan.networks.vgg import as_photograph

Logits = Sequence[Tensor]
"""What D says of the images of a batch: a tensor for each resolution it judges."""


class Adversarial(ABC):
    """What two players want. Each value is a mean over voxels, batch and resolutions.

    Attributes:
        relative: Whether ``generator`` looks at the logits of real images too.
    """

    relative = False

    @abstractmethod
    def discriminator(self, real: Logits, fake: Logits) -> Tensor:
        """What D minimises, from its logits of real and generated images."""

    @abstractmethod
    def generator(self, real: Logits, fake: Logits) -> Tensor:
        """What G minimises; ``real`` may be empty unless it is ``relative``."""

    @abstractmethod
    def accuracy(self, real: Logits, fake: Logits) -> Tensor:
        """Share of judgements of D that are right; D rests while it is too good."""


@dataclass(frozen=True)
class Absolute(Adversarial):
    """D says of each image for itself whether it is real (1) or not (0).

    As ``log`` D's is the negative of eq. 2, as ``least_squares`` (LSGAN) what the first author's
    public code uses; both are the mean over real and fake.

    Differs: as ``log`` G's is the non-saturating -log D(G(x)), which has the fixed points of
    eq. 2 but a gradient that does not vanish while D wins.

    Attributes:
        distance: Of logits from what is wanted.
        threshold: Logit above which D says real.
        smooth: What is wanted is drawn anew from PyTorch's state on the CPU each time: of real
            images from 0.7 to 1.2, of generated ones from 0 to 0.3, as in the public code of Ea-GAN
            (Yu et al. 2019).
    """

    distance: Callable[[Tensor, Tensor], Tensor]
    threshold: float
    smooth: bool = False

    def discriminator(self, real: Logits, fake: Logits) -> Tensor:
        """See :class:`Adversarial`."""
        return (self._judged(real, 1.0) + self._judged(fake, 0.0)) / 2

    def generator(self, real: Logits, fake: Logits) -> Tensor:
        """See :class:`Adversarial`."""
        return self._judged(fake, 1.0)

    @torch.no_grad()
    def accuracy(self, real: Logits, fake: Logits) -> Tensor:
        """See :class:`Adversarial`."""
        pairs = zip(real, fake, strict=True)
        return _mean([_right(r - self.threshold, f - self.threshold) for r, f in pairs])

    def _judged(self, logits: Logits, wanted: float) -> Tensor:
        if self.smooth:
            drawn = float(torch.rand(()))
            wanted = wanted - 0.3 + 0.5 * drawn if wanted else 0.3 * drawn
        return _mean([self.distance(x, torch.full_like(x, wanted)) for x in logits])


@dataclass(frozen=True)
class Relativistic(Adversarial):
    """D says how much more real an image is than the mean of the others (Ha et al. 2025).

    Equations 1 and 5, the relativistic average of Jolicoeur-Martineau (2019), voxel by voxel. The
    expectations are over images and their voxels alike: one number, the mean over everything of
    the batch.

    Attributes:
        over_batch: The mean is over the images of the batch alone, another number at every voxel.
            Then a voxel is compared with the same place of the other images, so a bright place of
            all patches is no sign of either; but a batch of few says little of a mean, and one of
            pairs compares each voxel mostly with its own counterpart.
    """

    over_batch: bool = False
    relative = True

    def discriminator(self, real: Logits, fake: Logits) -> Tensor:
        """-log s(D(real) - E D(fake)) - log(1 - s(D(fake) - E D(real))) (eq. 1)."""
        return _mean([self._above(r, f) for r, f in zip(real, fake, strict=True)])

    def generator(self, real: Logits, fake: Logits) -> Tensor:
        """The same the other way round (eq. 5)."""
        return _mean([self._above(f, r) for r, f in zip(real, fake, strict=True)])

    @torch.no_grad()
    def accuracy(self, real: Logits, fake: Logits) -> Tensor:
        """See :class:`Adversarial`."""
        pairs = zip(real, fake, strict=True)
        return _mean([_right(r - self._expected(f), f - self._expected(r)) for r, f in pairs])

    def _expected(self, logits: Tensor) -> Tensor:
        return logits.mean(0, keepdim=True) if self.over_batch else logits.mean()

    def _above(self, high: Tensor, low: Tensor) -> Tensor:
        """Loss until ``high`` is above the mean of ``low``, and ``low`` below that of ``high``."""
        above = F.softplus(self._expected(low) - high).mean()
        return above + F.softplus(low - self._expected(high)).mean()


def _right(real: Tensor, fake: Tensor) -> Tensor:
    return ((real > 0).float().mean() + (fake <= 0).float().mean()) / 2


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean() if len(values) > 1 else values[0]


ADVERSARIAL: dict[str, Adversarial] = {
    "log": Absolute(F.binary_cross_entropy_with_logits, 0.0),
    "least_squares": Absolute(F.mse_loss, 0.5),
    "least_squares_smooth": Absolute(F.mse_loss, 0.5, smooth=True),
    "relativistic": Relativistic(),
    "relativistic_batch": Relativistic(over_batch=True),
}
"""By the name that a configuration states (``training.gan``)."""


def l1(fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference; less blurred than L2 (extended paper, section 2.1)."""
    return F.l1_loss(fake, real)


def l2(fake: Tensor, real: Tensor) -> Tensor:
    """Mean squared difference, the voxel-wise distance of MedSynth (Nie et al. 2018)."""
    return F.mse_loss(fake, real)


def gradient_difference(fake: Tensor, real: Tensor) -> Tensor:
    """How much flatter or steeper than the real image the generated one is (Nie et al. 2018).

    Along each axis the mean over neighbours of (|real step| - |generated step|)^2, added up over
    the axes. Only the size of a step counts, not its direction.

    Args:
        fake: (batch, channels, *spatial), at least two voxels along each axis.
        real: Likewise.
    """
    total = fake.new_zeros(())
    for axis in range(2, fake.ndim):
        total = total + F.mse_loss(fake.diff(dim=axis).abs(), real.diff(dim=axis).abs())
    return total


def feature_matching(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """How far the features of D lie apart (pix2pixHD, Wang et al. 2018, section 3.2).

    The mean over resolutions of the sum over layers of the mean absolute difference.

    Args:
        fake: Of each resolution the features of its layers; gradients reach them.
        real: Likewise, taken as given.
    """
    return _mean(
        [
            torch.stack([F.l1_loss(x, y) for x, y in zip(ours, theirs, strict=True)]).sum()
            for ours, theirs in zip(fake, real, strict=True)
        ]
    )


def perceptual(features: Callable[[Tensor], Tensor], fake: Tensor, real: Tensor) -> Tensor:
    """How far the features of all slices lie apart, in 2.5D (Ha et al. 2025, eq. 4).

    Slices of a volume are taken along each of its axes; the mean absolute difference of their
    features is added up over the three views and divided by three. An image of two axes is one
    slice. Slices are grey and shown as photographs (:func:`msgan.networks.vgg.as_photograph`).

    Args:
        features: Of photographs (B, 3, H, W), as :class:`msgan.networks.vgg.Vgg19Features`.
        fake: (batch, 1, *spatial) in [0, 1]; gradients reach it.
        real: Likewise, taken as given.
    """
    views = range(2, fake.ndim) if fake.ndim == 5 else (None,)
    apart = []
    for axis in views:
        with torch.no_grad():
            wanted = features(as_photograph(_slices(real, axis)))
        seen = features(as_photograph(_slices(fake, axis)))
        apart.append(F.l1_loss(seen, wanted))
    return _mean(apart)


def _slices(image: Tensor, axis: int | None) -> Tensor:
    """All slices of (batch, 1, *spatial) along an axis, (slices, 1, H, W); None: it is 2D."""
    return image if axis is None else image.movedim(axis, 1).flatten(0, 1)
