"""Filters without padding, bit-identical at every position, in 2D and 3D.

An edge is a decision, so the last bit of what it is decided on matters: one tile must not round
differently from its neighbour. Everything here is therefore made of single additions,
multiplications, divisions and roots of whole slices, each correctly rounded by itself. On one
channel this is also two to four times as fast as torch's convolution on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil, exp, prod

import torch
from torch import Tensor

from msgan.types import Box, Shape

WINDOW = 7
"""Reach of :func:`local_mean`, voxels."""

CPU_TILE, GPU_TILE = 1 << 20, 1 << 22
"""Voxels worked on at once: what a CPU's cache holds; what keeps a GPU busy."""

SMALLEST_TILE = 1 << 18
"""Voxels below which a tile's halo costs more than another thread brings."""


def reach(sigma: float) -> int:
    """Voxels a Gaussian of ``sigma`` voxels needs on each side (three sigma, rounded up)."""
    return ceil(3 * sigma)


def gaussian(sigma: float) -> list[float]:
    """Weights of a Gaussian at 0, 1, ... ``reach(sigma)`` voxels; both sides together sum to 1."""
    weights = [exp(-0.5 * (k / sigma) ** 2) for k in range(reach(sigma) + 1)]
    total = 2 * sum(weights) - weights[0]
    return [w / total for w in weights]


def spatial(x: Tensor) -> range:
    """The spatial axes of a tensor of shape (batch, *spatial)."""
    return range(1, x.ndim)


def crop(x: Tensor, margin: int) -> Tensor:
    """``x`` of shape (batch, *spatial) without ``margin`` voxels on every side (a view)."""
    for axis in spatial(x):
        x = x.narrow(axis, margin, x.shape[axis] - 2 * margin)
    return x


def crop_across(x: Tensor, axis: int, margin: int) -> Tensor:
    """``x`` of shape (batch, *spatial) without ``margin`` voxels on all sides but ``axis``'s."""
    for other in spatial(x):
        if other != axis:
            x = x.narrow(other, margin, x.shape[other] - 2 * margin)
    return x


def part(x: Tensor, box: Box) -> Tensor:
    """The part of ``x`` of shape (..., *spatial) inside ``box`` (a view)."""
    for axis, (start, size) in enumerate(zip(box.start, box.size, strict=True), -box.dims):
        x = x.narrow(axis, start, size)
    return x


def smooth(x: Tensor, weights: list[float], spacing: int = 1) -> Tensor:
    """Convolve (batch, *spatial) with a symmetric kernel along each spatial axis.

    Args:
        x: the image; it is not changed.
        weights: of the centre and of one side.
        spacing: voxels between the kernel's points.

    Returns:
        ``x`` smoothed, smaller by ``(len(weights) - 1) * spacing`` voxels on every side.
    """
    margin = (len(weights) - 1) * spacing
    for axis in spatial(x):
        size = x.shape[axis] - 2 * margin
        total = x.narrow(axis, margin, size) * weights[0]
        pair = torch.empty_like(total)
        for k, weight in enumerate(weights[1:], 1):
            before = x.narrow(axis, margin - k * spacing, size)
            torch.add(before, x.narrow(axis, margin + k * spacing, size), out=pair)
            # Not add_(pair, alpha=weight): whether that rounds once or twice is left open.
            total.add_(pair.mul_(weight))
        x = total
    return x


def local_mean(x: Tensor) -> Tensor:
    """Mean in a triangular window of 15 voxels along each axis (standard deviation 3.2 voxels).

    The triangle is the convolution of three kernels of three points each.
    """
    for spacing in (1, 2, 4):
        x = smooth(x, [0.5, 0.25], spacing)
    return x


def relative(x: Tensor, floor: float) -> Tensor:
    """Unsigned ``x`` relative to its local root mean square, in [0, 1].

    The response to one flat step in an otherwise empty window is 1. Where the root mean square
    falls below ``floor`` (unit of ``x``) the result falls with it: noise is not blown up.

    Returns:
        ``x`` normalised, smaller by ``WINDOW`` voxels on every side.
    """
    scale = local_mean(x * x).add_(floor * floor).sqrt_().mul_(2.0)
    return crop(x, WINDOW).abs().div_(scale).clamp_(max=1.0)


def tile_size(shape: Shape, voxels: int) -> Shape:
    """Size of tiles of at most about ``voxels`` voxels: long rows, other sides nearly equal."""
    size = list(shape)
    while prod(size) > voxels:
        longest = max(range(max(len(size) - 1, 1)), key=lambda axis: size[axis])
        if size[longest] <= 16:
            break
        size[longest] = -(-size[longest] // 2)
    return tuple(size)


@contextmanager
def one_thread() -> Iterator[int]:
    """Have torch use one CPU thread for each operation; yields how many it used before.

    Threads that share out thousands of small operations wait for one another at the end of each,
    which on a busy machine takes most of the time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def tiled(image: Tensor, halo: int, function: Callable[[Tensor, Box], None]) -> None:
    """Call ``function(part of image with halo, box)`` for boxes that cover the image's core.

    On a CPU each of torch's threads takes a tile.

    Args:
        image: (batch, *spatial), with ``halo`` voxels more than the core on every side.
        halo: voxels the function needs around a box.
        function: gets (batch, *(box + 2 halo)) and the box in the core's coordinates; it must
            write nothing outside that box.
    """
    core = tuple(n - 2 * halo for n in image.shape[1:])

    def run(box: Box) -> None:
        with torch.no_grad():  # a mode of the thread
            function(part(image, box.grown(halo).shifted((halo,) * box.dims)), box)

    with one_thread() as threads:
        on_cpu = image.device.type == "cpu"
        voxels = max(CPU_TILE // threads, SMALLEST_TILE) if on_cpu else GPU_TILE
        boxes = list(Box.whole(core).tiles(tile_size(core, voxels // image.shape[0])))
        workers = min(threads, len(boxes)) if on_cpu else 1
        if workers == 1:
            for box in boxes:
                run(box)
            return
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(run, boxes))
