"""What a translation will take, before it begins: tiles, memory, disk and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING

import psutil
import torch

from msgan import pyramid, sketch
from msgan.data.cohort import Prepared
from msgan.memory import tiles
from msgan.networks import inference
from msgan.paths import size
from msgan.pyramid import RIM, chunk_of
from msgan.translate import overlap
from msgan.translate.scale import Blocks, ImageSource, Precision, TiledScale, blinded, sources
from msgan.translate.scratch import chunk
from msgan.types import InputError, Shape

if TYPE_CHECKING:
    from msgan.translate.generation import GeneratedScale, Generation

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

AMPLE = 1 << 30
"""Bytes beside the program that suffice for a small tile of any network in use: to find out whether
one fits, before an image is opened, nothing is counted then."""

ESTIMATE = (64 << 20, 160 << 20)
"""Bytes that the estimate of a guided s0 takes, and more with a student: a block and its features,
and scikit-learn."""

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
        scales: What networks make, in order: s0 .. sn; sn alone where the run sees no context.
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
        return self.base_bytes + max((scale.host_bytes for scale in self.scales), default=0)

    @property
    def device_bytes(self) -> int:
        """Peak of the tensors on the GPU; 0 on a CPU."""
        return max((scale.device_bytes for scale in self.scales), default=0)

    @property
    def tiles(self) -> tuple[Shape, ...]:
        """Sides of a tile at s1..sn."""
        return tuple(scale.tile for scale in self.scales if scale.name != "s0")


def plan(
    generation: Generation,
    subject: Prepared,
    device: torch.device,
    limits: Limits,
    *,
    output: int | None = None,
    keep: bool = False,
    staged: bool = False,
    probe: bool = False,
) -> Plan:
    """Plan the translation of an image.

    Args:
        generation: What is made.
        subject: The image on its working grid.
        device: Where it will be computed.
        limits: What the user allows.
        output: Bytes of the result; None: as float32.
        keep: Whether all scales are kept to the end.
        staged: Whether the result is staged in the scratch folder, as for ``.nii.gz``.
        probe: Compute a tile in the middle of the image to tell the time.

    Raises:
        InputError: Memory does not suffice.
    """
    shapes = generation.shapes(subject.grid.shape)
    scales = _scale_plans(generation, shapes, limits, device)
    labels = bool(generation.labels and subject.has_labels)
    if output is None:
        output = 4 * prod(subject.grid.source.shape)
    scratch = (
        _scratch(generation, scales, shapes, keep, labels, output if staged else 0)
        + subject.unpacked_bytes
    )
    planned = Plan(scales, limits.precision, _Room.of(limits, device).base, scratch, output)
    if not probe:
        return planned
    return replace(planned, seconds=_seconds(generation, subject, planned, device))


def check(generation: Generation, device: torch.device, limits: Limits) -> None:
    """Refuse what can be refused before an image is opened.

    Raises:
        InputError: The tile does not suit, a scale is not trained, not even the smallest tile
            fits, or a run sees results of another one that are not made.
    """
    dims, n = generation.dims, generation.last.scales
    for scale in generation.scales:
        run = scale.run
        if run.config.auto_context is not None and scale.after is None:
            raise InputError(
                f"{run.folder}: sees results of the weights {run.config.auto_context}: "
                "translate with both runs (msgan.methods.med_synth.MedSynth)"
            )
        run.weights(scale.scale)
        _tiles(scale, generation, (2,) * dims, limits, device.type)
    room = _Room.of(limits, device)
    if room.host - room.base > AMPLE and (device.type == "cpu" or room.gpu > AMPLE):
        return
    try:
        _scale_plans(generation, [(2 ** (i + 1),) * dims for i in range(n + 1)], limits, device)
    except NoRoom:
        # Not even the smallest image fits; what to give is said for one of the usual size.
        longest = generation.preparation.longest
        _scale_plans(generation, [(longest << i,) * dims for i in range(n + 1)], limits, device)
        raise


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
    generation: Generation, shapes: Sequence[Shape], limits: Limits, device: torch.device
) -> tuple[ScalePlan, ...]:
    """Of all scales that are made; the refusal is that of the one that needs most."""
    plans: list[ScalePlan] = []
    refused: list[NoRoom] = []
    for k, scale in enumerate(generation.scales):
        try:
            plans.append(scale_plan(generation, k, shapes[scale.scale], limits, device))
        except NoRoom as error:
            refused.append(error)
    if refused:
        raise max(refused, key=lambda error: error.least)
    return tuple(plans)


def scale_plan(
    generation: Generation, k: int, shape: Shape, limits: Limits, device: torch.device
) -> ScalePlan:
    """The largest tile that fits of scale ``k`` of a generation, and what it takes.

    Raises:
        InputError: Not even the smallest tile fits.
    """
    scale = generation.scales[k]
    shadow, config = scale.shadow(), scale.run.config

    def need(tile: Shape) -> tiles.Need:
        if scale.window is not None:
            return overlap.need(shadow, config, tile, scale.window)
        found = tiles.need(shadow, config, shape, tile)
        if scale.result == scale.name or not config.guidance.on:
            return found
        least = sum(ESTIMATE[: 1 + config.guidance.student]) - found.network
        return replace(found, beside=max(found.beside, least))

    tried = _tiles(scale, generation, shape, limits, device.type)
    found = largest(scale.label, shape, tried, need, limits, device)
    if scale.window is not None:
        count = prod(overlap.counts(shape, found.tile, scale.window))
        return replace(found, tiles=count, flops=found.flops / found.tiles * count)
    return found


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


def _tiles(
    scale: GeneratedScale, generation: Generation, shape: Shape, limits: Limits, device: str
) -> list[Shape]:
    """Tiles of a scale to try, largest first.

    Raises:
        InputError: The tile that the user asks for does not suit.
    """
    tile, geometry = limits.tile, scale.geometry
    core = geometry.core_side
    if scale.window is not None:
        return overlap.tiles_tried(len(shape), tile, scale.window)
    if tile is not None and (tile < 2 or tile % 2):
        raise InputError(f"tile {tile}: expected an even number of voxels, at least 2")
    if geometry.whole:
        return [shape]
    if tile is None or (scale.scale == 0 and scale is not generation.scales[-1]):
        return list(tiles.candidates(shape, device, core))
    if core is not None and tile % core:
        raise InputError(f"tile {tile}: expected a multiple of the kept side {core}")
    return [tuple(min(tile, n) if core is None else tile for n in shape)]


def _scratch(
    generation: Generation,
    scales: Sequence[ScalePlan],
    shapes: Sequence[Shape],
    keep: bool,
    labels: bool,
    staged: int,
) -> int:
    """Most bytes there are at a time: scales not yet used, the image below, the one made.

    In the end there is what was made, and what is staged of the result.
    """
    of_source = [4 * _stored([n + 2 * RIM for n in s], chunk_of(s, RIM)) for s in shapes]
    if labels:
        of_source = [n + n // 4 for n in of_source]
    used = [scale.sketched for scale in generation.scales]
    made, beside = [], []
    for scale, own in zip(generation.scales, scales, strict=True):
        sums = 0
        if scale.window is not None:
            spread = overlap.spread(own.shape, own.tile, scale.window)
            sums = 4 * _stored(spread, chunk(overlap.slot(own.tile, scale.window)))
        made.append(4 * _stored(own.shape, chunk_of(own.shape) if sums else chunk(own.tile)))
        beside.append(sums)
    config = generation.last.config
    last = max(sum(scale.scale == 0 for scale in generation.scales) - 1, 0)  # drawing of s0
    if config.guidance.on:  # the estimate at s0: three images, it, and labels; or it alone
        images = (6 if generation.spread else 5) if config.drawn else 1
        made[last] += images * 4 * _stored(shapes[0], chunk_of(shapes[0]))
    if last:  # all drawings but the last two, which count anyway; the estimate or their mean
        beside[last] += sum(made[: last - 1]) + 4 * _stored(shapes[0], chunk_of(shapes[0]))
    if generation.scales[last].matched:
        beside[last] += 4 * _stored([n + 2 * RIM for n in shapes[1]], chunk_of(shapes[1], RIM))
    most = sum(made if keep else made[-1:]) + staged
    for i in range(min(used), len(shapes) - 1):  # a finer one that is not used is dropped
        if i + 1 not in used and i + 1 < len(shapes) - 1:
            most = max(most, of_source[i] + of_source[i + 1])
    for k in range(len(scales)):
        # s1 serves y0 as well.
        below = sum(made[:k]) if keep else sum(made[max(k - 1, 0) : k])
        most = max(most, sum(of_source[i] for i in set(used[k:])) + below + made[k] + beside[k])
    return most


def _stored(shape: Sequence[int], chunk: Shape) -> int:
    """Voxels in a store: chunks at the border are whole."""
    sides = [min(n, c) for n, c in zip(shape, chunk, strict=True)]
    return prod(-(-n // c) * c for n, c in zip(shape, sides, strict=True))


def _seconds(
    generation: Generation, subject: Prepared, planned: Plan, device: torch.device
) -> float:
    """Expected time of all tiles, from one in the middle of s_n and the operations of the rest."""
    blocks, counts = _last_blocks(generation, subject, planned, device)
    middle = 0
    for count in counts:
        middle = middle * count + count // 2
    times = []
    for _ in range(2):  # the first warms up
        start = perf_counter()
        blocks.compute(blocks.load(middle))
        times.append(perf_counter() - start)
    last = planned.scales[-1]
    return min(times) * sum(s.flops for s in planned.scales) / (last.flops / last.tiles)


def _last_blocks(
    generation: Generation, subject: Prepared, planned: Plan, device: torch.device
) -> tuple[Blocks, Shape]:
    """The blocks of s_n, as of a translation of which nothing else is made, and their number."""
    last, scale = planned.scales[-1], generation.scales[-1]
    run = scale.run
    drawn = sketch.sketch_reader(
        subject.read, last.shape, run.config.sketch, device=device, rim=pyramid.RIM
    )
    below = pyramid.halved(subject.read, len(last.shape))
    whole = scale.window is not None
    generator = inference.optimised(run.generator(scale.scale), device, whole=whole)
    seen, context = blinded(run.config.drop_inputs, drawn, below)
    rest = last.shape, last.tile, device, planned.precision
    if scale.window is not None:
        counts = overlap.counts(last.shape, last.tile, scale.window)
        return overlap.OverlapScale(generator, seen, *rest, scale.window), counts
    around = ImageSource(context, tuple(n // 2 for n in last.shape), device)
    guide = ImageSource(pyramid.extended(subject.read, last.shape, RIM), None, device)
    reads = sources(generator.geometry, seen, around, guide)
    tiled = TiledScale(generator, reads, *rest)
    return tiled, tiled.tiling.counts
