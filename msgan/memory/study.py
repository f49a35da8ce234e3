"""Bytes of one training step against the side of the image (extended paper, 3.1, fig. 4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from msgan.memory import process
from msgan.memory.count import peak_bytes
from msgan.memory.gan_pairs import NETWORKS, OWN_SIDE, Players, step
from msgan.networks import layers
from msgan.types import InputError

HEADROOM = 2.0
"""A step is measured where this many times its counted bytes are free: kernels need scratch."""

COUNTED_TO = 128
"""Side up to which the paper could compute; it extrapolates from there."""


@dataclass(frozen=True)
class StepMemory:
    """One point of figure 4.

    Attributes:
        network: A key of :data:`NETWORKS`.
        side: Voxels along each axis of what the generator makes.
        summed_bytes: What the paper adds up, see :func:`summed`.
        counted_bytes: Lower bound: most bytes alive at a time, see :func:`counted`.
        cubic_bytes: Past :data:`COUNTED_TO`, what the cubic curve through smaller sides says.
        measured_bytes: Peak of a real step; None where it was not asked for or does not fit.
        device: What it was measured on.
    """

    network: str
    side: int
    summed_bytes: int
    counted_bytes: int
    cubic_bytes: int | None
    measured_bytes: int | None
    device: str


def summed(network: str, side: int, dims: int = 3) -> int:
    """Bytes of images, parameters and outputs of all layers, as a Keras summary adds them up.

    The paper's way (section 3.1): parameters and outputs count twice, the second time for their
    gradients. One pass through each network, batch of one, float32; nothing is computed.

    Raises:
        InputError: There is no such network, or it is not defined for this side.
    """
    total = 0

    def add(module: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal total
        total += 2 * output.numel()

    with torch.device("meta"):
        players = _builder(network)(dims, side)
        for player in (players.generator, players.discriminator):
            total += 2 * sum(p.numel() for p in player.parameters())
            for module in player.modules():
                if not any(module.children()):
                    module.register_forward_hook(add)
        made = players.generator(*players.inputs)
        players.discriminator(*players.judged, made)
    total += sum(image.numel() for image in (*players.inputs, players.real))
    return 4 * total


def counted(network: str, side: int, dims: int = 3) -> int:
    """Lower bound of the bytes of one training step, batch of one, float32; nothing is computed.

    Images, parameters, gradients, and what the forward and backward passes of G and D hold, as
    far as it is alive at the same time. Not counted: the state of an optimiser (with Adam twice
    the parameters), the moving average of G, scratch memory of convolution kernels, and PGGAN's
    gradient penalty.

    Differs: the paper adds up the outputs of all layers (:func:`summed`), although they are not
    all alive at a time. Here each tensor counts from the operation that makes it to the last
    that needs it.

    Raises:
        InputError: As :func:`summed`.
    """
    build = _builder(network)

    def work() -> Players:
        with torch.device("meta"):
            players = build(dims, side)
        step(players)
        return players

    return peak_bytes(work)


def measured(network: str, side: int, dims: int = 3, device: str = "cpu") -> int | None:
    """Peak bytes of building the networks and one step, in a process of its own.

    On the CPU the growth of the resident memory, on CUDA the peak of PyTorch's allocator.

    Returns:
        Bytes; None where the system or the device had no memory left.

    Raises:
        InputError: As :func:`summed`, or the process failed.
    """
    with torch.device("meta"):  # a mistake is found here sooner
        _builder(network)(dims, side)
    code = "import sys; from msgan.memory.study import _report; _report(*sys.argv[1:])"
    arguments = network, str(side), str(dims), device
    peak = process.fresh(code, *arguments, environment=process.ALLOCATOR)
    return None if peak is None else int(peak)


def _report(network: str, side: str, dims: str, device: str) -> None:
    """Print the peak of one step; runs in the process that :func:`measured` starts."""
    build, axes = _builder(network), int(dims)
    with torch.device(device):
        # Libraries load and compile kernels at the first use; that is no part of a step.
        warm = layers.conv(axes, 1, 1, 3)(torch.zeros(1, 1, *[8] * axes))
        warm.sum().backward()
    process.forget_peak()
    before = process.resident_bytes()
    try:
        with torch.device(device):
            step(build(axes, int(side)))
    except torch.cuda.OutOfMemoryError:
        print(json.dumps(None))
        return
    if device == "cpu":
        print(process.peak_resident_bytes() - before)
    else:
        print(torch.cuda.max_memory_allocated())


def step_memory(
    sides: Sequence[int],
    measure: Mapping[str, Sequence[int]] | None = None,
    dims: int = 3,
    device: str = "cpu",
) -> list[StepMemory]:
    """The rows of figure 4.

    Args:
        sides: Where the baselines are counted. The networks of the cascade give one row each, at
            their own side.
        measure: Network -> sides where a step is measured too, if enough memory is free.
        dims: 2 or 3.
        device: ``cpu`` or ``cuda``, for measuring.
    """
    measure = measure or {}
    if unknown := measure.keys() - NETWORKS.keys():
        raise InputError(f"network {min(unknown)!r} is none of {', '.join(NETWORKS)}")
    rows = []
    for name in NETWORKS:
        own = [OWN_SIDE[name]] if name in OWN_SIDE else sorted(sides)
        counts = {side: counted(name, side, dims) for side in own}
        known = [s for s in own if s <= COUNTED_TO]
        curve = cubic(known, [counts[s] for s in known]) if len(known) > 1 else None
        for side, count in counts.items():
            drawn = curve(side) if curve and side > COUNTED_TO else None
            peak = None
            if side in measure.get(name, ()) and count * HEADROOM <= _free(device):
                peak = measured(name, side, dims, device)
            added = summed(name, side, dims)
            rows.append(StepMemory(name, side, added, count, drawn, peak, device))
    return rows


def cubic(sides: Sequence[int], values: Sequence[int]) -> Callable[[int], int]:
    """The curve a + b side^3 closest to ``values``, by least squares."""
    b, a = np.polyfit(np.asarray(sides, float) ** 3, np.asarray(values, float), 1)
    return lambda side: int(a + b * float(side) ** 3)


def _builder(network: str) -> Callable[[int, int], Players]:
    if network not in NETWORKS:
        raise InputError(f"network {network!r} is none of {', '.join(NETWORKS)}")
    return NETWORKS[network]


def _free(device: str) -> int:
    return process.available_bytes() if device == "cpu" else int(torch.cuda.mem_get_info()[0])
