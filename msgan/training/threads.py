"""How many threads a training takes on a CPU: one where a step is too small to share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

GIVEN = "OMP_NUM_THREADS"
"""Environment variable by which a user chooses the threads of everything that computes."""

SMALL = 10**8
"""Multiply-adds of the generator's forward pass over a batch below which a step takes one thread.

Measured (``benchmarks/threads.json``: two cores kept busy by other processes, load 6 to 8; medians
of 2 or 3 steps): steps of 4 to 28 million took 7 to 21 times as long with two threads as with one,
those of 110 to 1526 million 3 to 9 times. A quiet machine was not measured: there a second thread
may pay for large steps, so only those are taken for small that have least to share.
"""


def multiply_adds(forward: Callable[[], object]) -> int:
    """Of the convolutions and matrix products that a call computes; it follows from shapes alone.

    Example:
        >>> image, kernel = torch.zeros(1, 2, 8, 8), torch.zeros(3, 2, 3, 3)
        >>> multiply_adds(lambda: torch.conv2d(image, kernel, padding=1)) == 2 * 3 * 9 * 8 * 8
        True
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return counter.get_total_flops() // 2


def chosen(work: int) -> int:
    """Threads of a training, of those that PyTorch may use here.

    Nothing is timed: the last bits of the weights depend on the number of threads, so one that a
    busy machine decides would give other weights each time, and other ones when resumed.

    Args:
        work: :func:`multiply_adds` of the generator's forward pass over a batch.

    Returns:
        1 where the work is less than :data:`SMALL`; else, or where ``OMP_NUM_THREADS`` is set, as
        many as there are.
    """
    there = torch.get_num_threads()
    return there if os.environ.get(GIVEN) or work >= SMALL else 1


@contextmanager
def computing_with(threads: int | None) -> Iterator[int]:
    """A block in which PyTorch has that many threads (None: as many as before): their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)
