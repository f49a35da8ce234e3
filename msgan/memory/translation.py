"""Memory of a translation: measured here, and counted for the published scheme.

The paper's figure ends with the training step. Its public code then translates a volume with all
of its patches in host memory, which grows with the cube of the side after all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import torch

from msgan.config import CascadeConfig
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.writing import write_volume
from msgan.match.histogram import RANKS
from msgan.match.profile import TargetProfile
from msgan.memory import process
from msgan.runs.run import Run
from msgan.training import checkpoint
from msgan.training.loop import WEIGHTS
from msgan.training.step import build_generator
from msgan.types import Array, Box, InputError

PATCH, KEPT = 32, 20
"""Sides of a published patch and of the part that is kept of it, which is also the stride."""

PATCH_SETS = {"sketch": 1, "context": 1, "made": 1, "made, joined": 1}
"""Sets of all patches that the public code holds at once, float32, in 3D."""

VOLUMES = {
    "sketch and target, as read": 2,
    "sketch and target at the scale": 2,
    "whole patches stitched": 2,
    "kept parts: sum, number of patches, mean": 6,
}
"""Images that it holds beside them, in float32 images of the last scale; what is stitched is
float64 and counts twice."""


@dataclass(frozen=True)
class TranslationMemory:
    """One measured translation.

    Attributes:
        side: Voxels along each axis.
        device: What the networks ran on.
        host_peak_bytes: Most resident memory of the process, interpreter and libraries included.
        device_peak_bytes: Peak of PyTorch's allocator on the device; None on the CPU.
        seconds: Wall time.
    """

    side: int
    device: str
    host_peak_bytes: int
    device_peak_bytes: int | None
    seconds: float


def original_patches(side: int) -> int:
    """Patches of a side^3 volume in the public code: every 20 voxels, the last at the border."""
    return (ceil(max(side - PATCH, 0) / KEPT) + 1) ** 3


def original_bytes(side: int) -> int:
    """Host memory of the public code while it stitches a volume of side^3, all on the CPU.

    Four sets of all patches of 32^3 voxels and twelve images, float32: about 13.6 GiB at 512^3
    and 113 GiB at 1024^3. On CUDA the patches of sketch and context move to the device, all of
    them, which takes two sets off the host and puts as much on the device.
    """
    patches = sum(PATCH_SETS.values()) * original_patches(side) * PATCH**3
    return 4 * (patches + sum(VOLUMES.values()) * side**3)


def untrained_run(folder: str | os.PathLike[str], config: CascadeConfig, seed: int = 0) -> Run:
    """A run whose weights are random: it takes the memory of a trained one, not its time.

    With guidance, sources are matched to an even histogram.

    Raises:
        InputError: The number of scales is open, or ``folder`` holds another run.
    """
    if config.preparation.scales is None:
        raise InputError("preparation.scales is open: an untrained run needs a number")
    if config.guidance.on:
        config = config.updated(guidance={"match": "histogram"})
    run = Run(Path(folder), config, "random", IntensityMap(0.0, 1.0, "a.u."), {})
    run.create()
    if config.guidance.on:
        TargetProfile("histogram", 2 * RANKS - 1).save(run.folder)
    for i in run.used:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed + i)
            network = build_generator(config, i)
            for parameter in network.parameters():  # some begin at zero and would do nothing
                if not parameter.detach().any():
                    torch.nn.init.normal_(parameter, std=0.05)
        checkpoint.save_weights(network, run.folder_of(i) / WEIGHTS, {"step": 0})
        run.finish(i, {"step": 0})
    return run


def write_ball(path: str | os.PathLike[str], side: int) -> Path:
    """Write a textured ball that touches all faces of a side^3 volume, slab by slab."""

    def read(box: Box) -> Array:
        x, y, z = (
            (np.arange(a, b, dtype=np.float32).reshape([-1 if k == i else 1 for k in range(3)]))
            for i, (a, b) in enumerate(zip(box.start, box.stop, strict=True))
        )
        centre = (side - 1) / 2
        inside = (x - centre) ** 2 + (y - centre) ** 2 + (z - centre) ** 2 <= (side / 2) ** 2
        texture = np.sin(x / 5) * np.cos(y / 7) + np.sin(z / 6) + 3
        return np.where(inside, texture, 0).astype(np.float32)

    write_volume(path, Grid.from_spacing((side,) * 3, (1.0,) * 3), read)
    return Path(path)


_CODE = """
import json, sys
from time import perf_counter
from msgan.cli import main
from msgan.memory.process import peak_resident_bytes
start = perf_counter()
try:
    main()
except SystemExit as end:
    if end.code:
        raise
seconds = perf_counter() - start
import torch
used = torch.cuda.is_initialized()
print(json.dumps([peak_resident_bytes(), torch.cuda.max_memory_allocated() if used else None,
                  seconds]))
"""


def measured_translation(
    run: Run,
    side: int,
    folder: str | os.PathLike[str],
    memory: int,
    device: str = "cpu",
    gpu_memory: int | None = None,
    log: Path | None = None,
) -> TranslationMemory:
    """Translate a ball of side^3 with ``msgan translate`` in a process of its own.

    Args:
        run: What translates; see :func:`untrained_run`.
        side: Voxels along each axis.
        folder: Where input and result lie while it runs; both are removed.
        memory: Bytes of host memory it is told to keep to (``--memory``).
        device: ``cpu`` or ``cuda``.
        gpu_memory: Bytes on the device it is told to keep to (``--gpu-memory``); None: its own
            default.
        log: Where to keep what the command says.

    Raises:
        InputError: The command failed, or was killed for want of memory.
    """
    folder = Path(folder)
    source, out = write_ball(folder / f"ball{side}.nii", side), folder / f"made{side}.nii"
    words = ["translate", run.folder, source, out, "--device", device, "--memory", _mib(memory)]
    if gpu_memory is not None:
        words += ["--gpu-memory", _mib(gpu_memory)]
    try:
        found = process.fresh(_CODE, *map(str, words), log=log)
    finally:
        source.unlink()
        for file in (out, out.with_suffix(".json")):  # with its sidecar
            file.unlink(missing_ok=True)
    if found is None:
        raise InputError(f"translation of {side}^3 was killed: not enough memory")
    host, used, seconds = found
    return TranslationMemory(side, device, host, used, seconds)


def _mib(size: int) -> str:
    return f"{size // 2**20}MiB"
