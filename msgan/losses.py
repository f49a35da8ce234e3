"""Objectives of one scale (extended paper, eq. 2, and the distances added to it)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Gan = Literal["log", "least_squares"]


def discriminator_loss(real: Tensor, fake: Tensor, gan: Gan) -> Tensor:
    """What D minimises, from its logits of real and generated images.

    ``log`` is the negative of eq. 2, ``least_squares`` (LSGAN) what the first author's public
    code uses; both are the mean over real and fake.
    """
    return (_judged(real, 1.0, gan) + _judged(fake, 0.0, gan)) / 2


def adversarial_loss(fake: Tensor, gan: Gan) -> Tensor:
    """What G minimises to be judged real.

    Differs: for ``log`` this is the non-saturating -log D(G(x)), which has the fixed points of
    eq. 2 but a gradient that does not vanish while D wins.
    """
    return _judged(fake, 1.0, gan)


def _judged(logits: Tensor, target: float, gan: Gan) -> Tensor:
    wanted = torch.full_like(logits, target)
    if gan == "log":
        return F.binary_cross_entropy_with_logits(logits, wanted)
    return F.mse_loss(logits, wanted)


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


@torch.no_grad()
def accuracy(real: Tensor, fake: Tensor, gan: Gan) -> Tensor:
    """Share of judgements of D that are right; D rests while it is too good."""
    threshold = 0.0 if gan == "log" else 0.5
    right = (real > threshold).float().mean() + (fake <= threshold).float().mean()
    return right / 2
