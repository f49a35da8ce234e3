"""What depends on the place in an image: random fields, filters, thick slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from msgan.appearance.draws import between, chance
from msgan.sketch import filters
from msgan.types import Box, Shape

GRID = 5
"""Knots of a random field along each axis of an image."""

SHARPEST = 0.3
"""Standard deviation of a Gaussian, voxels, below which nothing is smoothed."""


@dataclass(frozen=True)
class Field:
    """A smooth random field over the whole image, the same for any box of it and at any scale.

    Attributes:
        values: At the knots of a coarse grid that spans the image.
    """

    values: Tensor

    @classmethod
    def draw(cls, rng: torch.Generator, dims: int) -> Field:
        """Normal numbers at the knots."""
        return cls(torch.randn((GRID,) * dims, generator=rng))

    def __call__(self, box: Box, shape: Shape, device: torch.device) -> Tensor:
        """(*box), of an image of ``shape``; beyond the image it is constant."""
        out = self.values
        for start, size, whole, knots in zip(
            box.start, box.size, shape, self.values.shape, strict=True
        ):
            voxels = torch.arange(start, start + size, dtype=torch.float64) + 0.5
            place = (voxels / whole).clamp(0, 1) * (knots - 1)
            low = place.floor().clamp(max=knots - 2)
            part = place - low
            part = (part * part * (3 - 2 * part))[:, None]  # no kink at a knot
            one = F.one_hot(low.long(), knots)
            other = F.one_hot(low.long() + 1, knots)
            out = torch.tensordot(out, (one * (1 - part) + other * part).float(), ([0], [1]))
        return out.to(device)


@dataclass(frozen=True)
class Filter:
    """A sum of Gaussians, of which one may be subtracted: softens, sharpens, colours noise.

    Attributes:
        terms: Weight and standard deviation of each, voxels.
        flat: Within slices (the first two axes, as :mod:`msgan.match.spectrum` has it) only.
    """

    terms: tuple[tuple[float, float], ...] = ()
    flat: bool = False

    @classmethod
    def kernel(cls, rng: torch.Generator, sharper: float = 0.5) -> Filter:
        """The change from one CT kernel to another: softer, or sharper at fine detail.

        Args:
            rng: Draws it.
            sharper: Probability of a sharper one.
        """
        if chance(rng, 1 - sharper):
            return cls(((1.0, between(rng, 0.4, 1.5)),), True)
        amount, sigma = between(rng, 0.5, 3), between(rng, 0.5, 1.5)
        return cls(((1 + amount, 0.0), (-amount, sigma)), True)

    def at(self, factor: int) -> Filter:
        """The same on a grid that is ``factor`` times coarser."""
        return Filter(tuple((w, sigma / factor) for w, sigma in self.terms), self.flat)

    def halo(self, dims: int) -> Shape:
        """Voxels needed on every side, by axis."""
        reach = max((filters.reach(s) for _, s in self.terms if s > SHARPEST), default=0)
        return (reach,) * 2 + (0 if self.flat else reach,) * (dims - 2)

    def __call__(self, image: Tensor) -> Tensor:
        """The image filtered, smaller by the halo."""
        halo = self.halo(image.ndim)
        if not any(halo):
            return image
        total = torch.zeros_like(crop(image, halo))
        for weight, sigma in self.terms:
            if sigma > SHARPEST:
                whole = image.movedim(2, 0) if self.flat and image.ndim > 2 else image[None]
                near = filters.smooth(whole, filters.gaussian(sigma))
                near = near.movedim(0, 2) if self.flat and image.ndim > 2 else near[0]
            else:
                near = image
            rest = [(n - m) // 2 for n, m in zip(near.shape, total.shape, strict=True)]
            total.add_(crop(near, rest) * weight)
        return total

    def spread(self, dims: int) -> float:
        """Standard deviation of white noise of 1 after the filter."""
        impulse = torch.zeros([4 * n + 1 for n in self.halo(dims)])
        impulse[tuple(2 * n for n in self.halo(dims))] = 1
        return sqrt(float(self(impulse).square().sum()))


@dataclass(frozen=True)
class Slices:
    """Thick slices across one axis, and what lies between their middles interpolated linearly.

    Attributes:
        axis: Across which.
        thickness: Voxels; slices begin at multiples of it in the image.
    """

    axis: int = 0
    thickness: int = 1

    def at(self, factor: int) -> Slices:
        """The same on a grid that is ``factor`` times coarser."""
        return Slices(self.axis, max(self.thickness // factor, 1))

    def halo(self, dims: int) -> Shape:
        """Voxels needed on every side, by axis."""
        reach = 2 * self.thickness if self.thickness > 1 else 0
        return tuple(reach if axis == self.axis else 0 for axis in range(dims))

    def __call__(self, image: Tensor, box: Box) -> Tensor:
        """``box`` of the image, which holds the halo around."""
        if self.thickness == 1:
            return image
        start, size, step = box.start[self.axis], box.size[self.axis], self.thickness
        place = (torch.arange(start, start + size) - (step - 1) / 2) / step
        low = place.floor().long()
        first = int(low[0])
        voxels = torch.arange(first, int(low[-1]) + 2) * step - (start - 2 * step)
        voxels = voxels.to(image.device)
        parts = (image.index_select(self.axis, voxels + k) for k in range(step))
        thick = torch.stack(list(parts)).mean(dim=0)
        near = (low - first).to(image.device)
        share = (place - low).view(-1, *[1] * (image.ndim - 1 - self.axis)).to(image.device)
        return torch.lerp(
            thick.index_select(self.axis, near), thick.index_select(self.axis, near + 1), share
        )


def crop(image: Tensor, margins: Sequence[int]) -> Tensor:
    """(*spatial) without so many voxels on both sides of each axis."""
    return image[tuple(slice(m, n - m) for m, n in zip(margins, image.shape, strict=True))]
