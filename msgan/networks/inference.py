"""Trained generators rewritten for speed on a CPU: the same numbers, other arrangements.

Every form keeps the geometry of its generator (:class:`msgan.networks.generator.Geometry`) and
its weights, and computes only what is kept of a tile (``core``). All features lie channels last,
which oneDNN's convolutions read and write without rearranging them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msgan.networks import cpu_ops, layers
from msgan.networks.generator import Generator
from msgan.networks.hr_generators import (
    LEAK,
    GuidedGenerator,
    MeganGenerator,
    SeamlessGenerator,
    guided_reads,
)
from msgan.pyramid import upsample

SLAB = 16 << 20
"""Bytes of features read at once: what was just made is normalised while it is in cache."""

TOGETHER = 8
"""Patches computed at once: from 4 on their number changes nothing but memory."""


def optimised(generator: Generator, device: torch.device, whole: bool = False) -> Inference:
    """The inference form of a trained generator, on ``device``; the generator stays as it is.

    It has the same geometry and gives ``core(*reads)`` within 1e-4 of the training form; several
    samples at once are faster (``megan``: 4 to 8). It may keep room for features between calls, so
    it belongs to one thread at a time. On a CPU the fast forms compute in float32, autocast or
    not: half precision is slower there.

    A fast form computes what one class computes, so it is chosen by exact type: a subclass may
    compute something else. Any other generator that states its geometry runs as it is.

    Args:
        generator: As trained.
        device: Where it will compute; ``meta``: to count what the form for a CPU takes.
        whole: The rim, which padding has touched, counts as detail too.
    """
    copied: Any = deepcopy(generator).to(device).eval().requires_grad_(False)
    if device.type not in ("cpu", "meta"):
        return PlainInference(copied, whole)
    # Of use by themselves: PyTorch then takes oneDNN's channels-last kernels throughout.
    cpu_ops.channels_last_weights(copied)
    return FAST.get(type(copied), PlainInference)(copied, whole)


class Inference(nn.Module):
    """A generator for the tiles of a translation.

    Attributes:
        geometry: The generator's.
        workspace: Measured over counted bytes of large tiles: kernels rearrange what they read.
        own_kernels: Whether it calls oneDNN itself, which does not unroll what it reads as
            PyTorch's own choice for small tiles does.
    """

    workspace = 1.0
    own_kernels = True

    def __init__(self, generator: Generator, whole: bool = False) -> None:
        super().__init__()
        self.geometry = generator.geometry
        if whole and self.geometry.border is None:
            self.geometry = replace(self.geometry, rim=0)

    def core(self, *reads: Any, **_: Any) -> Tensor:  # named by implementations
        """The stage's image, (B, 1, ...), from the reads of one cut, (B, C, ...) each.

        Without the rim of what comes out; of a network with border all that comes out.
        """
        raise NotImplementedError


class PlainInference(Inference):
    """The generator itself, where nothing is known to be faster (CUDA, other classes)."""

    workspace = 1.2
    own_kernels = False

    def __init__(self, generator: Generator, whole: bool = False) -> None:
        super().__init__(generator, whole)
        self.generator = generator

    @torch.inference_mode()
    def core(self, *reads: Tensor) -> Tensor:
        """See :meth:`Inference.core`."""
        image: Tensor = self.generator(*reads)[0]
        return image if self.geometry.border is not None else layers.crop(image, self.geometry.rim)


class MeganInference(Inference):
    """The published HR generator; see :class:`msgan.networks.hr_generators.MeganGenerator`."""

    def __init__(self, generator: MeganGenerator, whole: bool = False) -> None:
        super().__init__(generator, whole)
        convs = [m for m in generator.body if isinstance(m, layers.Conv | layers.Transposed)]
        self.fall, self.rise = nn.ModuleList(convs[:3]), nn.ModuleList(convs[3:5])
        blocks = [m for m in generator.body if isinstance(m, layers.ResidualBlock)]
        self.blocks = nn.ModuleList(blocks)
        self.last = cpu_ops.SpreadConv(convs[5])

    @torch.inference_mode()
    @torch.autocast("cpu", enabled=False)
    def core(self, sketch: Tensor, context: Tensor) -> Tensor:
        """Sketch (B, C, 32, ...) and context (B, 1, 32, ...) -> core (B, 1, 20, ...)."""
        patches = torch.cat((sketch, context), dim=1).split(TOGETHER)
        made = [self._cores(layers.channels_last(some)) for some in patches]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _cores(self, x: Tensor) -> Tensor:
        # Fine features of several 3D patches do not fit the cache. Coarse ones do, and the 7 MB
        # of weights of a block's convolution are then read once for all of them.
        few = max(1, SLAB // (x[0, 0].numel() * self.last.inputs * x.element_size()))
        x = torch.cat([self._fall(some) for some in x.split(few)])
        block: Any
        for block in self.blocks:
            first, second = block.convolutions
            y = cpu_ops.normalise_(cpu_ops.convolve(first, x)).relu_()
            x += cpu_ops.normalise_(cpu_ops.convolve(second, y))
        return torch.cat([self._rise(some) for some in x.split(few)])

    def _fall(self, x: Tensor) -> Tensor:
        for conv in self.fall:
            x = cpu_ops.normalise_(cpu_ops.convolve(conv, x)).relu_()
        return x

    def _rise(self, x: Tensor) -> Tensor:
        coarse, fine = self.rise
        x = cpu_ops.normalise_(cpu_ops.convolve(coarse, x)).relu_()
        x = cpu_ops.normalise_(cpu_ops.convolve(fine, x))
        # Statistics need the whole patch, the last convolution no more than gives the core.
        x = layers.crop(x, max(self.geometry.rim - self.last.reach, 0)).relu()
        beyond = max(self.last.reach - self.geometry.rim, 0)  # what the last convolution pads
        return torch.tanh(self.last(F.pad(x, (beyond,) * 2 * (x.ndim - 2)) if beyond else x))


class SeamlessInference(Inference):
    """The seamless HR generator, all of it on the coarse grid.

    What follows the last block (``expand``, voxels of a block out of channels, ``join``) is linear
    up to the activation, so it is one convolution of side 2 from coarse features to the channels of
    a block of voxels. With 96 inputs and 64 outputs (preset ``small``) it runs at full speed, which
    the fine one with 16 and 8 does not, and features are never rearranged. So does ``last``; only
    the detail itself returns to the fine grid.
    """

    def __init__(self, generator: SeamlessGenerator, whole: bool = False) -> None:
        super().__init__(generator, whole)
        join: Any = generator.join
        last: Any = generator.last
        expand: Any = generator.expand
        self.first, self.blocks = generator.first, nn.ModuleList(generator.blocks)
        fine = last.in_channels
        self.width, self.corners = expand.in_channels, expand.out_channels // fine
        features, near, base = join.weight.split([fine, join.in_channels - fine - 1, 1], dim=1)
        spread = cpu_ops.on_coarse(features)
        from_blocks = torch.einsum("oi...,iw->ow...", spread, expand.weight.flatten(1))
        weight = torch.cat((from_blocks, cpu_ops.on_coarse(near), cpu_ops.on_coarse(base)), dim=1)
        # Nothing is padded, so a bias reaches every voxel through all taps.
        bias = torch.einsum("oi...,i->o", spread, expand.bias) + join.bias.repeat(self.corners)
        self.join = cpu_ops.conv_of(weight, bias)
        self.last = cpu_ops.conv_of(cpu_ops.on_coarse(last.weight), last.bias.repeat(self.corners))
        self.halo = generator.geometry.reads[1].halo
        self.room = Room()

    @torch.inference_mode()
    @torch.autocast("cpu", enabled=False)
    def core(self, sketch: Tensor, context: Tensor) -> Tensor:
        """Detail of side T from its sketch (T + 4c) and context (T/2 + 2c), c its halo."""
        pairs = zip(sketch.split(1), context.split(1), strict=True)
        made = [missing + base for base, missing in (self.parts(s, c) for s, c in pairs)]
        return made[0] if len(made) == 1 else torch.cat(made)

    def parts(self, sketch: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Of one sample; see :meth:`msgan.networks.hr_generators.SeamlessGenerator.parts`."""
        full = tuple(context.shape[2:])
        sides = [n - 2 * self.halo for n in full]
        drawn = sketch.shape[1] * self.corners
        x = self.room.take("first", context, 1 + drawn, full)
        x[:, :1] = context
        cpu_ops.space_to_depth_into(sketch, x[:, 1:])
        joined = self.room.take(
            "join", context, self.width + drawn + self.corners, [n + 2 for n in sides]
        )
        features, near, base = joined.split([self.width, drawn, self.corners], dim=1)
        near.copy_(layers.crop(x[:, 1:], self.halo - 1))
        upsampled = upsample(layers.crop(context, self.halo - 2), len(full))
        cpu_ops.space_to_depth_into(upsampled, base)

        out = self.room.take("even", context, self.width, [n - 2 for n in full])
        by_slabs(self._first, x, out)
        for k, block in enumerate(self.blocks, 1):
            x = out
            # What the first convolution saw is no longer needed: its room is used again.
            between = self.room.take("first", context, self.width, [n - 4 * k for n in full])
            out = self.room.take(
                ("even", "odd")[k % 2], context, self.width, [n - 4 * k - 2 for n in full]
            )
            self._block(block, x, between, features if k == len(self.blocks) else out)
        fine = self.room.take("first", context, self.corners, sides)
        by_slabs(self._last, joined, fine)
        return layers.crop(upsampled, 2), layers.depth_to_space(fine)

    def _first(self, x: Tensor, rows: slice) -> Tensor:
        return cpu_ops.convolve(self.first, x)

    def _last(self, x: Tensor, rows: slice) -> Tensor:
        return cpu_ops.convolve(self.last, F.leaky_relu_(cpu_ops.convolve(self.join, x), LEAK))

    def _block(self, block: Any, x: Tensor, between: Tensor, out: Tensor) -> None:
        shortcut = layers.crop(x, block.rim)
        convs = block.convolutions
        gains = [cpu_ops.per_feature(norm.gain, x) for norm in (block.body[1], block.body[4])]

        def activated(slab: Tensor, rows: slice) -> Tensor:
            return cpu_ops.equalise_(cpu_ops.convolve(convs[0], slab)).mul_(gains[0]).relu_()

        def added(slab: Tensor, rows: slice) -> Tensor:
            y = cpu_ops.equalise_(cpu_ops.convolve(convs[1], slab))
            return torch.addcmul(shortcut[:, :, rows], y, gains[1], out=y)

        by_slabs(activated, x, between)
        by_slabs(added, between, out)


class GuidedInference(Inference):
    """The guided HR generator: the slope transfer, and the fast form of what is added to it."""

    def __init__(self, generator: GuidedGenerator, whole: bool = False) -> None:
        super().__init__(generator, whole)
        self.rest = SeamlessInference(generator.rest)
        self.floor = generator.floor

    @torch.inference_mode()
    @torch.autocast("cpu", enabled=False)
    def core(self, sketch: Tensor, context: Tensor, source: Tensor) -> Tensor:
        """See :meth:`msgan.networks.hr_generators.GuidedGenerator.forward`."""
        made = [
            self._detail(*reads)
            for reads in zip(*(x.split(1) for x in (sketch, context, source)), strict=True)
        ]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _detail(self, sketch: Tensor, context: Tensor, source: Tensor) -> Tensor:
        seen, near = guided_reads(sketch, context, source, self.floor)
        base = layers.crop(seen[:, -1:], self.geometry.reads[0].halo)
        return self.rest.parts(seen, near)[1] + base


FAST: dict[type[nn.Module], Callable[..., Inference]] = {
    MeganGenerator: MeganInference,
    SeamlessGenerator: SeamlessInference,
    GuidedGenerator: GuidedInference,
}
"""The form of each class that is known to compute the same, faster on a CPU."""


class Room:
    """Memory for features that is kept from tile to tile.

    The C library maps new pages for every tensor above 32 MiB and gives them back: at a tile of
    128^3 touching them anew took as long as the convolutions.
    """

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def __deepcopy__(self, memo: Any) -> Room:
        """A copy of a network has room of its own."""
        return Room()

    def take(self, name: str, like: Tensor, channels: int, sides: Sequence[int]) -> Tensor:
        """(1, channels, *sides), channels last, of any content; ends what had that name before.

        Args:
            name: Of the piece of memory.
            like: Decides device and type.
            channels: Features.
            sides: Voxels along each axis.
        """
        size = channels * prod(sides)
        if name not in self._flat or self._flat[name].numel() < size:
            self._flat.pop(name, None)
            self._flat[name] = like.new_empty(size)
        return self._flat[name][:size].view(1, *sides, channels).movedim(-1, 1)


def by_slabs(make: Callable[[Tensor, slice], Tensor], x: Tensor, out: Tensor) -> None:
    """Unpadded layers of one sample, slab by slab along the first axis of space.

    Args:
        make: Gives the rows that are its second argument from the rows of ``x`` they need.
        x: (1, C, n, ...), channels last.
        out: (1, K, m, ...); row ``i`` needs rows ``i .. i + n - m`` of ``x``.
    """
    rows, reach = out.shape[2], x.shape[2] - out.shape[2]
    step = max(1, SLAB // (x[:, :, 0].numel() * x.element_size()))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        out[:, :, start:stop] = make(x[:, :, start : stop + reach], slice(start, stop))
