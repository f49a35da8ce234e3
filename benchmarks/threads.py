"""What a second thread is worth to a training step, by the size of the networks.

Steps of the networks of preset ``smoke`` on random batches: s0 of X-rays (2D) and of brains (3D) on
whole images of several sizes, and the finest scale on its patches. One thread and all take turns,
step by step, so that a busy machine slows both alike; the least time of a row is that of its least
disturbed step. ``msgan.training.threads.SMALL`` is chosen from what this writes.

    python benchmarks/threads.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from lightning_fabric import Fabric
from records import about

from msgan import sketch
from msgan.config import CascadeConfig
from msgan.paths import write_text
from msgan.presets import preset
from msgan.training.batches import Batch
from msgan.training.loop import learner_of
from msgan.training.step import Learner
from msgan.training.threads import computing_with, multiply_adds
from msgan.types import Box

SIDES = {2: (16, 32, 64, 128), 3: (8, 16, 24, 32)}
"""Sides of images at s0, voxels."""


def batch_of(learner: Learner, config: CascadeConfig, scale: int, whole: int) -> Batch:
    """A batch of random numbers, of the shapes that the loop would draw.

    Args:
        learner: Networks.
        config: Of the cascade.
        scale: i of s_i.
        whole: Side of the image at s0, without its border.
    """
    geometry, training, dims = learner.geometry, config.training, config.dims
    own = geometry.patch or training.patch
    if geometry.border is None:
        detail = Box((0,) * dims, geometry.sides(own, dims))
    else:
        detail = Box.whole((whole,) * dims).grown(geometry.border)
    count = training.batch if scale else training.lr_batch
    channels = sketch.channels(config.sketch, dims)
    views = zip(geometry.reads, geometry.read_boxes(detail), strict=True)
    return Batch(
        tuple(torch.rand(count, channels if v.image == "sketch" else 1, *b.size) for v, b in views),
        tuple(torch.rand(count, 1, *b.size) for b in geometry.make_boxes(detail)),
    )


def cases() -> Iterator[tuple[str, CascadeConfig, int, int]]:
    """Name, configuration, scale and side of the image at s0 of what is measured."""
    for body, dims in (("xray", 2), ("brain", 3)):
        config = preset("smoke", body, dims=dims)
        for side in SIDES[dims]:
            yield f"{dims}D, s0 of {side}^{dims}", config, 0, side
        yield f"{dims}D, s1 in patches", config, 1, SIDES[dims][0]


def main() -> None:
    """Time all cases and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="at most, of each number of threads")
    parser.add_argument("--seconds", type=float, default=10, help="about, of a row at most")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/threads.json"))
    options = parser.parse_args()
    both = (1, torch.get_num_threads())
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    load = os.getloadavg()[0]
    found: dict[str, dict[str, Any]] = {}
    for name, config, scale, side in cases():
        torch.manual_seed(0)
        learner = learner_of(config, scale, fabric, None)
        batch = batch_of(learner, config, scale, side)
        work = multiply_adds(lambda learner=learner, batch=batch: learner.score(batch))
        times: dict[int, list[float]] = {threads: [] for threads in both}
        begun = perf_counter()
        for step in range(options.steps + 1):
            for threads, own in times.items():
                with computing_with(threads):
                    start = perf_counter()
                    learner.update(batch, step, 1e-4)
                    own.append(1e3 * (perf_counter() - start))
            if step > 1 and perf_counter() - begun > options.seconds:
                break
        row: dict[str, Any] = {"million_multiply_adds_forward": round(work / 1e6, 1)}
        for threads, own in times.items():
            row[f"{threads} threads: least ms"] = round(min(own[1:]), 2)
            row[f"{threads} threads: median ms"] = round(statistics.median(own[1:]), 2)
        found[name] = row | {"steps": len(own) - 1}
        print(name, found[name], flush=True)
    told = {
        "what": "a training step on random batches, one thread and all in turns",
        "load average before": round(load, 2),
        "load average after": round(os.getloadavg()[0], 2),
        **about(),
    }
    write_text(options.json, json.dumps({**told, "steps": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
