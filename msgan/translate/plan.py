"""What a translation will take, before it begins: tiles, memory, disk and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from time import perf_counter
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from msgan import pyramid, sketch
from msgan.data.cohort import Prepared
from msgan.memory import tiles
from msgan.networks import inference
from msgan.patches import core_side
from msgan.paths import size
from msgan.pyramid import RIM, chunk_of
from msgan.training.run import Run
from msgan.translate.scale import HighScale, Precision, blinded
from msgan.translate.work import chunk
from msgan.types import InputError, Shape

MEMORY = {"cpu": 2 << 30, "cuda": 8 << 30}
"""Host memory a process keeps to where nothing is said; CUDA itself takes 2 to 4 GiB of it."""

GPU_SHARE = 0.8
"""Share of the free device memory that is taken where nothing is said."""

STREAM = 44 << 20
"""Bytes that reading and writing take, and that libraries keep, whatever the size of the image."""

RESERVE = 1.125
"""Memory allowed over memory planned: measured peaks are up to 11 % above and 18 % below a plan."""

GROWTH = 48 << 20
"""Bytes by which the program may grow between two plans, for what a message tells to give."""

DRAWING = {"cpu": 32 << 20, "cuda": 256 << 20}
"""Bytes that drawing a sketch takes beyond its image and its result."""


@dataclass(frozen=True)
class Limits:
    """What the user allows.

    Attributes:
        memory: Bytes of host memory for the process, all in all; None: 2 GiB on a CPU, 8 GiB
            with a GPU.
        gpu_memory: Bytes of tensors on the GPU; None: 80 % of what is free.
        tile: Side of a tile; None: the largest that fits.
        precision: Of the networks' arithmetic.
    """

    memory: int | None = None
    gpu_memory: int | None = None
    tile: int | None = None
    precision: Precision = "float32"


@dataclass(frozen=True)
class ScalePlan:
    """One scale of a translation.

    Attributes:
        name: ``s0`` .. ``sn``.
        shape: Voxels along each axis.
        tile: Sides of a tile.
        tiles: How many there are.
        host_bytes: Of host memory beside what the process has anyway.
        device_bytes: On the GPU; 0 on a CPU.
        flops: Floating-point operations of the network, halo included.
    """

    name: str
    shape: Shape
    tile: Shape
    tiles: int
    host_bytes: int
    device_bytes: int
    flops: float


@dataclass(frozen=True)
class Plan:
    """What a translation takes.

    Attributes:
        scales: s0 .. sn; sn alone where the run sees no context.
        precision: Of the networks' arithmetic.
        base_bytes: Host memory of the process apart from tiles.
        scratch_bytes: Most there is at any time in the scratch folder.
        output_bytes: Of the result, not compressed.
        seconds: Expected time of the tiles; None where it was not asked for.
    """

    scales: tuple[ScalePlan, ...]
    precision: Precision
    base_bytes: int
    scratch_bytes: int
    output_bytes: int
    seconds: float | None = None

    @property
    def host_bytes(self) -> int:
        """Peak of the process's host memory."""
        return self.base_bytes + max(scale.host_bytes for scale in self.scales)

    @property
    def device_bytes(self) -> int:
        """Peak of the tensors on the GPU; 0 on a CPU."""
        return max(scale.device_bytes for scale in self.scales)

    @property
    def tiles(self) -> tuple[Shape, ...]:
        """Sides of a tile at s1..sn."""
        return tuple(scale.tile for scale in self.scales if scale.name != "s0")


def plan(
    run: Run,
    subject: Prepared,
    device: torch.device,
    limits: Limits,
    *,
    dtype: str = "float32",
    keep: bool = False,
    staged: bool = False,
    probe: bool = False,
) -> Plan:
    """Plan the translation of an image.

    Args:
        run: A trained cascade.
        subject: The image on its working grid.
        device: Where it will be computed.
        limits: What the user allows.
        dtype: Of the result's voxels.
        keep: Whether all scales are kept to the end.
        staged: Whether the result is staged in the scratch folder, as for ``.nii.gz``.
        probe: Compute a tile in the middle of the image to tell the time.

    Raises:
        InputError: Memory does not suffice, or the image has other axes than the run.
    """
    require_axes(subject, run)
    shapes = pyramid.shapes(subject.grid.shape, run.scales)
    scales = _scale_plans(run, shapes, limits, device)
    labels = bool(run.config.labels and subject.has_labels)
    output = prod(subject.grid.source.shape) * np.dtype(dtype).itemsize
    scratch = (
        _scratch(scales, run.first, keep, labels, output if staged else 0) + subject.unpacked_bytes
    )
    planned = Plan(scales, limits.precision, _Room.of(limits, device).base, scratch, output)
    return replace(planned, seconds=_seconds(run, subject, planned, device)) if probe else planned


def check(run: Run, device: torch.device, limits: Limits) -> None:
    """Refuse what can be refused before an image is opened.

    Raises:
        InputError: The tile does not suit the run, a scale is not trained, not even the smallest
            tile fits, or the run sees results of another one.
    """
    if run.config.previous is not None:
        raise InputError(
            f"{run.folder}: sees results of the weights {run.config.previous}: "
            "translate with both runs (msgan.methods.med_synth.MedSynth)"
        )
    if limits.tile is not None and (limits.tile < 2 or limits.tile % 2):
        raise InputError(f"tile {limits.tile}: expected an even number of voxels, at least 2")
    dims, longest = run.config.dims, run.config.preparation.longest
    try:
        _scale_plans(run, [(2 ** (i + 1),) * dims for i in range(run.scales + 1)], limits, device)
    except NoRoom:
        # Not even the smallest image fits; what to give is said for one of the usual size.
        _scale_plans(run, [(longest << i,) * dims for i in range(run.scales + 1)], limits, device)
        raise


def demands(run: Run) -> dict[str, Any]:
    """What :func:`msgan.data.cohort.prepare` holds an image and its labels to, for ``run``."""
    return {
        "axes": (run.config.dims, "the run was trained on"),
        "values": run.config.labels,
        "wanted": run.intensity.unit,
    }


def require_axes(subject: Prepared, run: Run) -> None:
    """Refuse an image of other axes than the run was trained on.

    Raises:
        InputError: It is one.
    """
    axes = len(subject.grid.shape)
    if axes != run.config.dims:
        raise InputError(
            f"{subject.name}: image of {axes} axes, the run was trained on {run.config.dims}"
        )


def resident() -> int:
    """Host memory of this process, bytes."""
    return int(psutil.Process().memory_info().rss)


class NoRoom(InputError):
    """Memory does not suffice; ``least`` bytes of it would."""

    def __init__(self, text: str, least: int = 0) -> None:
        super().__init__(text)
        self.least = least


def _given(count: int) -> str:
    """Bytes as an option takes them, rounded up: ``0.6GB``."""
    step = 10**8 if count < 10**10 else 10**9
    return f"{-(-count // step) * step / 10**9:g}GB"


@dataclass(frozen=True)
class _Room:
    """Bytes there are: what the process may take in all, and on the device."""

    device: str
    host: int
    gpu: int

    @property
    def base(self) -> int:
        # Asked late: what counting loads (75 MiB of PyTorch) is there by then.
        return resident() + STREAM

    @classmethod
    def of(cls, limits: Limits, device: torch.device) -> _Room:
        gpu = 0
        if device.type == "cuda":
            gpu = limits.gpu_memory or int(torch.cuda.mem_get_info(device)[0] * GPU_SHARE)
        return cls(device.type, limits.memory or MEMORY[device.type], gpu)

    def split(self, need: tiles.Need) -> tuple[int, int]:
        """Bytes a tile takes in host memory, and on the device."""
        beside = need.beside + DRAWING[self.device]
        return (
            (need.network + beside, 0) if self.device == "cpu" else (beside, need.network + beside)
        )

    def fits(self, need: tiles.Need) -> bool:
        host, gpu = self.split(need)
        return (self.base + host) * RESERVE <= self.host and gpu <= self.gpu

    def refusal(self, what: str, need: tiles.Need) -> NoRoom:
        host, gpu = self.split(need)
        if gpu > self.gpu:
            text = f"GPU memory {size(self.gpu)}: {what} needs {size(gpu)}"
            return NoRoom(f"{text}: give at least {_given(gpu)}", gpu)
        least = int((self.base + host) * RESERVE) + GROWTH
        return NoRoom(
            f"memory {size(self.host)}: {what} needs {size(host)} beside the {size(self.base)} "
            "of the program itself, and an eighth in reserve: give at least "
            f"{_given(least)}",
            least,
        )


def _scale_plans(
    run: Run, shapes: Sequence[Shape], limits: Limits, device: torch.device
) -> tuple[ScalePlan, ...]:
    """Of all scales that are used; the refusal is that of the one that needs most."""
    plans: list[ScalePlan] = []
    refused: list[NoRoom] = []
    for i in run.used:
        try:
            plans.append(scale_plan(run, i, shapes[i], limits, device))
        except NoRoom as error:
            refused.append(error)
    if refused:
        raise max(refused, key=lambda error: error.least)
    return tuple(plans)


def scale_plan(run: Run, i: int, shape: Shape, limits: Limits, device: torch.device) -> ScalePlan:
    """The largest tile of s_i that fits, and what it takes.

    Raises:
        InputError: The scale is not trained, or not even its smallest tile fits.
    """
    generator = inference.prepare(run.generator(i), torch.device("cpu"))

    def need(tile: Shape) -> tiles.Need:
        if i:
            return tiles.high_need(generator, run.config, tile)
        return tiles.low_need(generator, run.config, shape, tile)

    tried = _tiles(generator, i, shape, limits, device.type)
    return largest(f"s{i}", shape, tried, need, limits, device)


def largest(
    name: str,
    shape: Shape,
    tried: Sequence[Shape],
    need: Callable[[Shape], tiles.Need],
    limits: Limits,
    device: torch.device,
) -> ScalePlan:
    """The first of the tiles that are ``tried`` that fits.

    Args:
        name: Of the scale.
        shape: Of the scale.
        tried: Sides of tiles, largest first.
        need: What a tile takes.
        limits: What the user allows.
        device: Where it will be computed.

    Raises:
        InputError: None fits.
    """
    room = _Room.of(limits, device)
    for tile in tried:
        found = need(tile)
        if room.fits(found):
            count = prod(-(-n // side) for n, side in zip(shape, tile, strict=True))
            return ScalePlan(name, shape, tile, count, *room.split(found), found.flops * count)
    raise room.refusal(f"the smallest tile of {name}, {' x '.join(map(str, tile))} voxels,", found)


def _tiles(generator: nn.Module, i: int, shape: Shape, limits: Limits, device: str) -> list[Shape]:
    """Tiles of s_i to try, largest first."""
    if i == 0:
        return list(tiles.candidates(shape, device)) if generator.tile_exact else [shape]
    core = core_side(generator)  # type: ignore[arg-type]
    if limits.tile is None:
        return list(tiles.candidates(shape, device, core))
    if core is not None and limits.tile % core:
        raise InputError(f"tile {limits.tile}: expected a multiple of the kept side {core}")
    return [tuple(min(limits.tile, n) if core is None else limits.tile for n in shape)]


def _scratch(scales: Sequence[ScalePlan], first: int, keep: bool, labels: bool, staged: int) -> int:
    """Most bytes there are at a time: scales not yet used, the image below, the one made.

    In the end there is what was made, and what is staged of the result. ``first`` is i of the
    s_i that ``scales`` begin with.
    """
    sources = [4 * _stored([n + 2 * RIM for n in s.shape], chunk_of(s.shape, RIM)) for s in scales]
    if labels:
        sources = [n + n // 4 for n in sources]
    made = [4 * _stored(s.shape, chunk(s.tile)) for s in scales]
    most = sum(made if keep else made[-1:]) + staged
    for i in range(len(scales)):
        # s1 serves y0 as well.
        below = sum(made[:i]) if keep else sum(made[max(i - 1, 0) : i])
        most = max(most, sum(sources[max(i, 1 - first) :]) + below + made[i])
    return most


def _stored(shape: Sequence[int], chunk: Shape) -> int:
    """Voxels in a store: chunks at the border are whole."""
    sides = [min(n, c) for n, c in zip(shape, chunk, strict=True)]
    return prod(-(-n // c) * c for n, c in zip(shape, sides, strict=True))


def _seconds(run: Run, subject: Prepared, planned: Plan, device: torch.device) -> float:
    """Expected time of all tiles, from one in the middle of s_n and the operations of the rest."""
    last, n = planned.scales[-1], run.scales
    drawn = sketch.sketch_reader(
        subject.read, last.shape, run.config.sketch, device=device, rim=pyramid.RIM
    )
    below = pyramid.halved(subject.read, len(last.shape))
    scale = HighScale(
        inference.prepare(run.generator(n), device),
        *blinded(run.config.blind, drawn, below),
        last.shape,
        last.tile,
        device,
        planned.precision,
    )
    counts = scale.tiling.counts
    middle = 0
    for count in counts:
        middle = middle * count + count // 2
    times = []
    for _ in range(2):  # the first warms up
        start = perf_counter()
        scale.compute(scale.load(middle))
        times.append(perf_counter() - start)
    return min(times) * sum(s.flops for s in planned.scales) / (last.flops / last.tiles)
