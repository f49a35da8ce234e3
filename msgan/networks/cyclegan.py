"""The networks of CycleGAN (Zhu et al. 2017) as modules that are called once a step."""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from msgan.networks import layers
from msgan.networks.generator import Generator

BACKGROUND = -1.0


def as_image(read: Tensor) -> Tensor:
    """What a generator has read, [0, 1], as an image in [-1, 1]."""
    return 2 * read - 1


def as_read(image: Tensor) -> Tensor:
    """An image in [-1, 1] as a generator reads it, [0, 1]."""
    return (image + 1) / 2


def other_domain(generator: Generator, read: Tensor) -> Tensor:
    """The image that a generator of s1..sn makes of one of the other domain, without context.

    Args:
        generator: Of the family ``seamless``.
        read: (B, 1, ...) in [0, 1]: it takes the place of the sketch.

    Returns:
        (B, 1, ...) in [-1, 1], smaller by the halo on every side.
    """
    half = (n // 2 for n in read.shape[2:])
    below = read.new_full((*read.shape[:2], *half), BACKGROUND)
    image: Tensor = generator(read, below)[0]
    return image


class Generated(NamedTuple):
    """What both generators make of x, of the source domain, and y, of the target domain.

    Attributes:
        fake: G(x) and F(y).
        again: F(G(x)) and G(F(y)).
        same: F(x) and G(y).
    """

    fake: tuple[Tensor, Tensor]
    again: tuple[Tensor, Tensor]
    same: tuple[Tensor, Tensor]


@final
class BothWays(nn.Module):
    """Both generators: to the target domain (G) and back (F).

    One call gives all that a step compares, as training in several processes needs it.
    """

    def __init__(self, there: Generator, back: Generator) -> None:
        super().__init__()
        self.there = there
        self.back = back
        self.halo = there.geometry.reads[0].halo

    def forward(self, x: Tensor, y: Tensor) -> Generated:
        """Of images of side T + 4 halos in [0, 1]; ``fake`` has T + 2 halos, the others T."""
        x_near, y_near = (layers.crop(image, self.halo) for image in (x, y))
        to_y, to_x = other_domain(self.there, x), other_domain(self.back, y)
        # Two calls as one batch: narrow networks take less time so.
        of_y = other_domain(self.back, torch.cat((as_read(to_y), x_near)))
        of_x = other_domain(self.there, torch.cat((as_read(to_x), y_near)))
        (again_x, same_x), (again_y, same_y) = of_y.chunk(2), of_x.chunk(2)
        return Generated((to_y, to_x), (again_x, again_y), (same_x, same_y))


@final
class BothDomains(nn.Module):
    """Discriminators of the target domain and of the source domain."""

    def __init__(self, target: nn.Module, source: nn.Module) -> None:
        super().__init__()
        self.target = target
        self.source = source

    def forward(self, target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of images (B, 1, ...) of either domain; nothing else is seen."""
        pairs = ((self.target, target), (self.source, source))
        (of_target,), (of_source,) = (judge(image[:, :0], (image,)) for judge, image in pairs)
        return of_target, of_source
