"""Random numbers that appearances are made of."""

from __future__ import annotations

import torch
from torch import Tensor


def intensities(count: int, rng: torch.Generator) -> Tensor:
    """Intensities that are no background."""
    return torch.rand(count, generator=rng) * 1.8 - 0.8


def between(rng: torch.Generator, low: float, high: float) -> float:
    """A number of a range."""
    return low + (high - low) * float(torch.rand((), generator=rng))


def chance(rng: torch.Generator, share: float) -> bool:
    """True in a share of the draws."""
    return float(torch.rand((), generator=rng)) < share
