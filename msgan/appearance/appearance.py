"""One appearance of an image: what is drawn of it, and how it is applied box by box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from msgan import seeds
from msgan.appearance.colours import BACKGROUND, LEVELS, Clusters, Convolutions, Curve
from msgan.appearance.draws import between, chance
from msgan.appearance.places import Field, Filter, Slices, crop
from msgan.config import ContrastAugmentation
from msgan.types import Array, Box, Reader, Shape

UNFILTERED, THIN = Filter(), Slices()


@dataclass(frozen=True)
class Appearance:
    """What is random about one appearance of an image; the same in every box and at every scale.

    Differs: the papers train on sketches of the target's own contrast only. Background keeps its
    value. Curves need not rise: what is bright may become dark, as between T1 and T2. All but the
    noise is a function of a neighbourhood (:meth:`halo`) and of the place in the image, so any
    tiling gives the whole. Blur and slices are stated in voxels of the finest grid; convolutions
    and noise are of each scale's own voxels.

    Attributes:
        dims: Axes of the image.
        colours: None, one, or two that ``mixture`` mixes over the image.
        mixture: Of the two.
        bias: Logarithm of what the brightness above background is multiplied with.
        filter: Blur, or the change of a CT kernel.
        slices: Lower resolution across one axis.
        noise: Standard deviation.
        texture: Colours the noise.
        cut: Whether what is above the range is cut off.
    """

    dims: int
    colours: tuple[Curve | Clusters | Convolutions, ...] = ()
    mixture: Field | None = None
    bias: Field | None = None
    filter: Filter = UNFILTERED
    slices: Slices = THIN
    noise: float = 0.0
    texture: Filter = UNFILTERED
    cut: bool = True

    @classmethod
    def draw(
        cls,
        config: ContrastAugmentation,
        dims: int,
        seed: int,
        levels: Tensor | None = None,
        *,
        cut: bool = True,
    ) -> Appearance:
        """The appearance that a seed decides.

        Args:
            config: Its kind, number of knots and largest noise.
            dims: Axes of the image.
            seed: Of all that is drawn.
            levels: Of the image (:func:`levels`); used by the kind ``rich``. None: even ones.
            cut: Of a kernel, whether what is above the range is cut off; it must not be where the
                image is filtered again, as a CT is cut off at air alone.
        """
        rng = torch.Generator().manual_seed(seed)
        if config.kind == "curve":
            return cls(dims, (Curve.draw(rng, config.knots),), noise=_noise(config, rng))
        if config.kind == "kernel":
            kernel, texture = (Filter.kernel(rng, config.sharper) for _ in range(2))
            noise = _noise(config, rng)
            return cls(dims, filter=kernel, noise=noise, texture=texture, cut=cut)
        given = torch.linspace(-1, 1, LEVELS) if levels is None else levels
        count = 2 if chance(rng, 0.5) else 1
        colours = tuple(_colour(config, dims, rng, given) for _ in range(count))
        mixture = Field.draw(rng, dims)
        bias = Field(Field.draw(rng, dims).values * between(rng, 0, 0.2))
        soft = between(rng, 0.5, 1.5) if chance(rng, 0.3) else 0.0
        axis = int(torch.randint(dims, (), generator=rng))
        thick = (2, 4)[chance(rng, 0.5)] if chance(rng, 0.2) else 1
        grain = between(rng, 0.5, 1.2) if chance(rng, 0.5) else 0.0
        return cls(
            dims,
            colours,
            mixture,
            bias if chance(rng, 0.5) else None,
            Filter(((1.0, soft),)),
            Slices(axis, thick),
            _noise(config, rng),
            Filter(((1.0, grain),)),
        )

    @classmethod
    def recoloured(cls, dims: int, knots: int, number: int) -> Appearance:
        """One of the fixed curves that an image to translate is recoloured by, without noise.

        Differs: the papers draw from one sketch of the source. It rises or falls throughout: what
        can be told apart in the image stays so.

        Args:
            dims: Axes of the image.
            knots: Of the curve.
            number: Which of them, from 1.
        """
        rng = torch.Generator().manual_seed(seeds.derive(0, "recoloured", number))
        return cls(dims, (Curve.draw(rng, knots, turns=False),))

    def halo(self, factor: int = 1) -> Shape:
        """Voxels needed on every side of a box, by axis, at a scale ``factor`` times coarser."""
        steps = (self.filter.at(factor), self.slices.at(factor))
        colour = max((colour.halo for colour in self.colours), default=0)
        found = (step.halo(self.dims) for step in steps)
        return tuple(colour + sum(each) for each in zip(*found, strict=True))

    def apply(
        self, image: Tensor, box: Box, shape: Shape, rng: torch.Generator, factor: int = 1
    ) -> Tensor:
        """A box of an image in this appearance, (*box) in [-1, 1], on the image's device.

        Values of an appearance that is not ``cut`` may be above 1.

        Args:
            image: The box with the halo around, in [-1, 1].
            box: Its place in the image.
            shape: Of the image.
            rng: Draws the noise.
            factor: Voxels of the finest grid along the side of one of this image's.
        """
        soft, slices = self.filter.at(factor), self.slices.at(factor)
        thick = box.grown(slices.halo(self.dims))
        inner = thick.grown(soft.halo(self.dims))
        out = self._coloured(image, inner, shape)
        if self.bias is not None:
            out = (out - BACKGROUND) * self.bias(inner, shape, image.device).exp() + BACKGROUND
        out = slices(soft(out), box)
        if self.noise:
            size = box.grown(self.texture.halo(self.dims)).size
            drawn = self.texture(torch.randn(size, generator=rng, device=rng.device))
            out = out + self.noise / self.texture.spread(self.dims) * drawn.to(image.device)
        inside = crop(image, self.halo(factor)) > BACKGROUND + 1e-3
        out = out.clamp(BACKGROUND, 1 if self.cut else None)
        return torch.where(inside, out, torch.full_like(out, BACKGROUND))

    def _coloured(self, image: Tensor, box: Box, shape: Shape) -> Tensor:
        widest = max((colour.halo for colour in self.colours), default=0)
        seen = [colour(crop(image, (widest - colour.halo,) * self.dims)) for colour in self.colours]
        if len(seen) < 2 or self.mixture is None:
            return seen[0] if seen else image
        share = (4 * self.mixture(box, shape, image.device)).sigmoid()
        return torch.lerp(seen[0].clamp(-1, 1), seen[1].clamp(-1, 1), share)

    def reader(
        self,
        image: Reader,
        shape: Shape,
        noise: Callable[[Box], torch.Generator],
        factor: int = 1,
    ) -> Reader:
        """An image in this appearance, computed where the generators of the noise are.

        Args:
            image: Reads any box of it.
            shape: Of the image.
            noise: The generator for a box; noise differs between boxes.
            factor: See :meth:`apply`.
        """

        def read(box: Box) -> Array:
            rng = noise(box)
            part = np.ascontiguousarray(image(box.grown(self.halo(factor))), dtype=np.float32)
            near = torch.from_numpy(part).to(rng.device)
            out: Array = self.apply(near, box, shape, rng, factor).cpu().numpy()
            return out

        return read


def _colour(
    config: ContrastAugmentation, dims: int, rng: torch.Generator, levels: Tensor
) -> Curve | Clusters | Convolutions:
    kind = float(torch.rand((), generator=rng))
    if kind < 0.6:
        return Curve.draw(rng, config.knots, turns=kind < 0.4)
    if kind < 0.8:
        return Clusters.draw(rng, levels)
    return Convolutions.draw(rng, dims, levels)


def _noise(config: ContrastAugmentation, rng: torch.Generator) -> float:
    return config.noise * float(torch.rand((), generator=rng))
