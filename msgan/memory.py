"""Bytes a network needs, counted without computing anything, and the tile that fits."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from copy import deepcopy
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from msgan import sketch
from msgan.config import CascadeConfig
from msgan.patches import Cut, HighGenerator
from msgan.types import Box, InputError

TILES = (128, 112, 96, 80, 64, 48, 40, 32, 24, 16, 8)
"""Sides tried for a 3D tile, largest first; past the largest the halo costs little."""

TILES_2D = (1024, 768, 512, 384, 256, 128, 64, 32, 16)
"""Sides tried for a 2D tile, largest first."""

WORKSPACE = 1.7
"""Measured peak over counted peak: convolution kernels rearrange input and output (oneDNN)."""

UNROLLED = 20480
"""On the CPU, PyTorch unrolls the input of a 3^3 convolution up to this size (batch x channels x
first two sides), which takes 27 times its bytes; larger ones and wider kernels go to oneDNN."""


class Counter(TorchDispatchMode):
    """Adds up the bytes of tensors that are alive; ``peak`` is the most at any time.

    Args:
        kernels: Count what the CPU's convolution kernels take on top of their tensors.
    """

    def __init__(self, kernels: bool = False) -> None:
        super().__init__()
        self.kernels = kernels
        self.now = 0
        self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and look at what it made."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        if self.kernels and "conv" in func.__name__:
            self.peak = max(self.peak, self.now + _kernel_bytes(args[0], args[1], out))
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._seen:
            return
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _kernel_bytes(image: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> int:
    """Bytes of the weights rearranged and, for a small 3D convolution, the input unrolled."""
    size = weight.numel()
    if image.ndim == 5 and weight.shape[-1] == 3 and prod(image.shape[:4]) <= UNROLLED:
        size += weight[0].numel() * out[0, 0].numel()
    return size * weight.element_size()


def peak_bytes(work: Callable[[], Any], kernels: bool = False) -> int:
    """Most bytes alive at any time in ``work`` run on meta tensors; nothing is computed.

    Args:
        work: What is run; what it returns is alive to the end.
        kernels: See :class:`Counter`.
    """
    with Counter(kernels) as counter:
        kept = work()
    del kept
    return counter.peak


def tile_bytes(generator: nn.Module, config: CascadeConfig, tile: int) -> int:
    """Bytes of translating one tile of side ``tile``: inputs, features and kernels' workspace."""
    geometry: HighGenerator = generator  # type: ignore[assignment]
    side = (geometry.patch or tile) - 2 * geometry.rim
    cut = Cut.of(geometry, Box((0,) * config.dims, (side,) * config.dims))
    shadow = deepcopy(generator).to("meta")
    channels = sketch.channels(config.sketch, config.dims)

    def work() -> Any:
        drawn = torch.empty(1, channels, *cut.sketch.size, device="meta")
        context = torch.empty(1, 1, *cut.context.size, device="meta")
        with torch.inference_mode():
            return shadow(drawn, context)

    return int(peak_bytes(work, kernels=True) * WORKSPACE)


def largest_tile(generator: nn.Module, memory: int, config: CascadeConfig) -> int:
    """Side of the largest tile whose translation fits ``memory`` bytes.

    Raises:
        InputError: Not even the smallest does.
    """
    geometry: HighGenerator = generator  # type: ignore[assignment]
    tiles: tuple[int, ...] = TILES if config.dims == 3 else TILES_2D
    if geometry.patch is not None:
        tiles = (geometry.patch,)
    for tile in tiles:
        need = tile_bytes(generator, config, tile)
        if need <= memory:
            return tile
    raise InputError(
        f"memory {memory / 2**20:.0f} MiB: the smallest tile of side {tile} needs "
        f"{need / 2**20:.0f} MiB"
    )
