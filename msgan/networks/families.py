"""The networks of every family, built from its configuration: a row a family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from msgan import sketch
from msgan.config import CascadeConfig
from msgan.match import slope
from msgan.networks.discriminators import Options, PatchDiscriminator
from msgan.networks.ea_gan import EaGanDiscriminator, EaGanGenerator
from msgan.networks.generator import Generator
from msgan.networks.hr_generators import GuidedGenerator, MeganGenerator, SeamlessGenerator
from msgan.networks.lr_generators import LocalLowGenerator, MeganLowGenerator
from msgan.networks.mdaunet import ImageDiscriminator, MdaunetGenerator, VoxelDiscriminator
from msgan.networks.ptnet import PtnetGenerator, PyramidDiscriminator
from msgan.networks.resvit import ResvitGenerator, SliceDiscriminator


@dataclass(frozen=True)
class CascadeFamily:
    """A family of cascades (:class:`msgan.config.CascadeNetwork`).

    Attributes:
        lr: Makes the generator of s0 from dims, channels of the sketch, ``lr_width``,
            ``lr_levels`` and ``dropout``, and from ``border`` where the family has ``lr_border``.
        hr: Makes those of s1..sn from dims, channels of the sketch, ``hr_width``, ``hr_blocks``.
        judged: How the images of s1..sn are judged.
    """

    lr: Callable[..., Generator]
    hr: Callable[..., Generator]
    judged: Options

    def generator(self, config: CascadeConfig, scale: int) -> Generator:
        """That of s_i, with fresh weights from the global random state."""
        net: Any = config.network
        channels = sketch.channels(config.sketch, config.dims)
        if scale == 0:
            own = {"border": net.lr_border} if getattr(net, "lr_border", 0) else {}
            return self.lr(config.dims, channels, net.lr_width, net.lr_levels, net.dropout, **own)
        finer = self.hr
        if config.guidance.detail:
            floor = slope.FLOORS.get(config.guidance.match, slope.FLOOR)
            finer = partial(GuidedGenerator, floor=floor)
        return finer(config.dims, channels, net.hr_width, net.hr_blocks)

    def discriminator(self, config: CascadeConfig, scale: int) -> nn.Module:
        """That of s_i; its condition is all that the generator reads, or nothing."""
        net: Any = config.network
        inputs = 1
        if net.conditional:
            count = sketch.channels(config.sketch, config.dims)
            with torch.device("meta"):
                reads = self.generator(config, scale).geometry.reads
            inputs += sum(count if view.image == "sketch" else 1 for view in reads)
        norm = self.options(scale).instance_norm
        return PatchDiscriminator(config.dims, inputs, net.discriminator_width, instance_norm=norm)

    def options(self, scale: int) -> Options:
        """How the images of s_i are judged; those of s0 in one way in all families."""
        return self.judged if scale else Options()


@dataclass(frozen=True)
class PairFamily:
    """A family of pairs (:class:`msgan.config.PairNetwork`), which is one scale, whichever.

    Attributes:
        g: Makes the generator from the sizes, dims and the side of a patch.
        d: Makes the discriminator, which judges an image beside its source, from sizes and dims.
    """

    g: Callable[[Any, int, int], Generator]
    d: Callable[[Any, int], nn.Module]

    def generator(self, config: CascadeConfig, scale: int) -> Generator:
        """See :meth:`CascadeFamily.generator`."""
        return self.g(config.network, config.dims, config.training.patch)

    def discriminator(self, config: CascadeConfig, scale: int) -> nn.Module:
        """With fresh weights; each family states what its own sees."""
        return self.d(config.network, config.dims)


FAMILIES: dict[str, CascadeFamily | PairFamily] = {
    "megan": CascadeFamily(MeganLowGenerator, MeganGenerator, Options(aligned=False)),
    "seamless": CascadeFamily(LocalLowGenerator, SeamlessGenerator, Options(instance_norm=False)),
    "mdaunet": PairFamily(
        lambda net, dims, patch: MdaunetGenerator(
            dims, net.features, net.growth, patch, net.blocks, net.multi_input, net.multi_output
        ),
        lambda net, dims: (VoxelDiscriminator if net.voxelwise else ImageDiscriminator)(
            dims, net.discriminator_width, net.images, len(net.features)
        ),
    ),
    "ea_gan": PairFamily(
        lambda net, dims, patch: EaGanGenerator(dims, patch, net.width),
        lambda net, dims: EaGanDiscriminator(dims, net.discriminator_width, net.edges_judged),
    ),
    "resvit": PairFamily(
        lambda net, dims, patch: ResvitGenerator(
            dims, patch, net.width, net.tokens, net.depth, net.heads, net.dropout
        ),
        lambda net, dims: SliceDiscriminator(net.discriminator_width),
    ),
    "ptnet": PairFamily(
        lambda net, dims, patch: PtnetGenerator(
            *(dims, patch, net.width, net.tokens, net.depth, net.heads),
            *(net.global_tokens, net.global_heads),
        ),
        lambda net, dims: PyramidDiscriminator(dims, net.discriminator_width),
    ),
}
"""By the ``family`` that a configuration states."""
