"""Counts bytes and operations of work on tensors without computing anything."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

UNROLLED = 20480
"""On the CPU, PyTorch unrolls the input of a 3^3 convolution up to this size (batch x channels x
first two sides), which takes 27 times its bytes; larger ones and wider kernels go to oneDNN."""


class Counter(TorchDispatchMode):
    """Adds up the bytes of tensors that are alive, and the operations of convolutions.

    Args:
        kernels: Count what the CPU's convolution kernels take on top of their tensors.

    Attributes:
        peak: Most bytes alive at any time.
        flops: Additions and multiplications of all convolutions.
    """

    def __init__(self, kernels: bool = False) -> None:
        super().__init__()
        self.flops = 0
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
        if "conv" in func.__name__ and isinstance(out, torch.Tensor):  # not its backward pass
            image, weight = args[:2]
            # A transposed convolution spreads each input voxel, others gather for each output.
            every = image if len(args) > 6 and args[6] is True else out
            self.flops += 2 * weight.numel() * every.shape[0] * every[0, 0].numel()
            if self.kernels:
                self.peak = max(self.peak, self.now + _kernel_bytes(image, weight, out))
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


def counted(work: Callable[[], Any], kernels: bool = False) -> Counter:
    """What ``work`` run on meta tensors takes; nothing is computed.

    Args:
        work: What is run; what it returns is alive to the end.
        kernels: See :class:`Counter`.
    """
    with Counter(kernels) as counter:
        kept = work()
    del kept
    return counter


def peak_bytes(work: Callable[[], Any], kernels: bool = False) -> int:
    """Most bytes alive at any time in ``work``; see :func:`counted`."""
    return counted(work, kernels).peak
