"""What becomes of an intensity: curves, clusters, random convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from msgan.appearance.draws import chance, intensities
from msgan.sketch import filters

BACKGROUND = -1.0

LEVELS = 17
"""Quantiles of the foreground that clusters and convolutions are fitted to."""

SAMPLED = 1 << 16
"""Voxels that quantiles are taken of."""


def levels(image: Tensor) -> Tensor:
    """Quantiles of the foreground of an image of any shape in [-1, 1]; of a sample if it is large.

    They are a statement about the whole image, so all boxes and scales must share one: s0's.
    """
    flat = image.flatten()[:: max(1, image.numel() // SAMPLED)].float()
    flat = flat[flat > BACKGROUND + 1e-3]
    places = torch.linspace(0, 1, LEVELS)
    return torch.quantile(flat, places) if len(flat) else 2 * places - 1


@dataclass(frozen=True)
class Curve:
    """A piecewise-linear curve of the intensity; ``values`` at evenly spaced knots over [-1, 1]."""

    values: Tensor
    halo: int = 0

    @classmethod
    def draw(cls, rng: torch.Generator, knots: int, turns: bool = True) -> Curve:
        """One that may turn, or one that rises or falls throughout."""
        values = intensities(knots, rng)
        return cls(values if turns else values.sort(descending=chance(rng, 0.5)).values)

    def __call__(self, image: Tensor) -> Tensor:
        """The image, mapped voxel by voxel."""
        values, knots = self.values.to(image.device), len(self.values)
        place = (image.clamp(-1, 1) + 1) / 2 * (knots - 1)
        low = place.floor().clamp(max=knots - 2)
        return torch.lerp(values[low.long()], values[low.long() + 1], place - low)


@dataclass(frozen=True)
class Clusters:
    """Each cluster of intensities has its own mean and gain (as in SynthSeg, Billot et al. 2023).

    Differs: SynthSeg knows anatomical labels and makes each of them anew; here a cluster is what is
    nearest to one of a few random quantiles of the image, and keeps its texture, times the gain.
    """

    centres: Tensor
    means: Tensor
    gains: Tensor
    halo: int = 0

    @classmethod
    def draw(cls, rng: torch.Generator, levels: Tensor) -> Clusters:
        """Three to seven clusters."""
        count = int(torch.randint(3, 8, (), generator=rng))
        chosen = levels[torch.randint(len(levels), (count,), generator=rng)]
        centres = (chosen + 0.05 * torch.randn(count, generator=rng)).sort().values
        return cls(centres, intensities(count, rng), 2 * torch.rand(count, generator=rng) - 1)

    def __call__(self, image: Tensor) -> Tensor:
        """The image, mapped voxel by voxel."""
        centres, means, gains = (t.to(image.device) for t in (self.centres, self.means, self.gains))
        nearest = torch.bucketize(image.contiguous(), (centres[1:] + centres[:-1]) / 2)
        return means[nearest] + gains[nearest] * (image - centres[nearest])


@dataclass(frozen=True)
class Convolutions:
    """Four random shallow convolutions, mixed with the image (GIN, Ouyang et al. 2022).

    Differs: the energy of the result is made the image's by what the network does to flat regions
    of the image's ``levels``, not by norms over the image, which a tile cannot know.

    Attributes:
        weights: Of each convolution.
        biases: Likewise.
        own: What the image is multiplied with.
        gain: What the convolutions' result is multiplied with.
        shift: Added to both.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    own: float
    gain: float
    shift: float

    @classmethod
    def draw(cls, rng: torch.Generator, dims: int, levels: Tensor) -> Convolutions:
        """Kernels of one or three voxels, two features between them."""
        weights, biases = [], []
        for inputs, outputs in ((1, 2), (2, 2), (2, 2), (2, 1)):
            side = 3 if chance(rng, 0.5) else 1
            weights.append(torch.randn(outputs, inputs, *[side] * dims, generator=rng))
            biases.append(torch.randn(outputs, generator=rng))
        share = float(torch.rand((), generator=rng))
        flat = tuple(w.sum(dim=tuple(range(2, w.ndim)), keepdim=True) for w in weights)
        found = _network(levels.view(-1, *[1] * (dims - 1)), flat, biases).flatten()
        gain = share * float(levels.std() / found.std().clamp(min=1e-3))
        mixed = (1 - share) * levels + gain * found
        energy = float(levels.std() / mixed.std().clamp(min=0.3 * float(levels.std()) + 1e-6))
        own, gain = (1 - share) * energy, gain * energy
        shift = float(levels.mean() - energy * mixed.mean())
        return cls(tuple(weights), tuple(biases), own, gain, shift)

    @property
    def halo(self) -> int:
        """Voxels needed on every side."""
        return sum(w.shape[-1] // 2 for w in self.weights)

    def __call__(self, image: Tensor) -> Tensor:
        """The image, mapped neighbourhood by neighbourhood."""
        found = _network(image, self.weights, self.biases).mul_(self.gain).add_(self.shift)
        return found.add_(filters.crop(image[None], self.halo)[0], alpha=self.own)


def _network(image: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Convolutions of (*spatial), a leaky ReLU between them; smaller by their halo."""
    features = [image]
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if k:
            features = [F.leaky_relu(feature) for feature in features]
        features = [
            _convolved(features, kernels, float(shift))
            for kernels, shift in zip(weight, bias, strict=True)
        ]
    return features[0]


def _convolved(features: Sequence[Tensor], kernels: Tensor, shift: float) -> Tensor:
    # So few features in one image are a quarter of the work as sums of slices.
    side = kernels.shape[-1]
    size = [n - side + 1 for n in features[0].shape]
    total = torch.full(size, shift, device=features[0].device)
    for feature, kernel in zip(features, kernels, strict=True):
        places = product(range(side), repeat=feature.ndim)
        for place, weight in zip(places, kernel.flatten().tolist(), strict=True):
            near = feature[tuple(slice(a, a + n) for a, n in zip(place, size, strict=True))]
            total.add_(near, alpha=weight)
    return total
