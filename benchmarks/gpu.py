"""What a GPU does in ten minutes: memory and time of translations, and of training steps.

Translations from 128^3 to 1024^3, each in a process of its own (as ``memory_sweep.py``), of which
512^3 is one; steps of the finest scale of preset ``small`` with a batch that is on the device and
with the whole pipeline (as ``training_speed.py``), and what they take of the device's memory. The
steps come first, then small images before large ones. What would not end in time, by eight times
the time of the side before, is left out and named. On a CPU it measures the same, of smaller sizes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --preset smoke --sides 32 --size 32 --json cpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import memory_sweep
import torch
import training_speed
from lightning_fabric import Fabric
from records import about

from msgan.memory.translation import measured_translation, original_bytes, untrained_run
from msgan.paths import write_text
from msgan.presets import preset
from msgan.runs.run import device_name
from msgan.training.batches import Patches
from msgan.training.step import Step
from msgan.translate import pick_device


def training(device: str, name: str, size: int, turns: int, steps: int) -> dict[str, Any]:
    """Seconds of a step of the finest scale of a preset and its peak memory, for each precision."""
    found: dict[str, Any] = {}
    cuda = device == "cuda"
    for precision in ("32-true", "bf16-mixed"):
        config = preset(name).unguided().updated(training={"precision": precision})
        fabric = Fabric(accelerator=device, devices=1, precision=precision)
        fabric.launch()
        with tempfile.TemporaryDirectory() as folder:
            subjects = tuple(training_speed.cohort(Path(folder), config, size, 1))
            if cuda:
                subjects = tuple(subject.to(fabric.device) for subject in subjects)
            scale = len(subjects[0].images) - 1
            step = Step(config, scale, fabric)
            patches = Patches(
                subjects, config, scale, step.generator.geometry, device=fabric.device
            )
            sources = {
                "device resident": patches.draw("train", 0, range(config.training.batch)),
                "full pipeline": patches,
            }
            if cuda:
                torch.cuda.reset_peak_memory_stats(fabric.device)
            for what, source in sources.items():
                rows = [
                    training_speed.turn(step, source, k * steps, steps) for k in range(turns + 1)
                ][1:]  # the first warms up
                found[f"{what}, {precision}"] = {
                    "seconds_per_step": statistics.median(row["seconds"] for row in rows),
                    "share_waiting_for_data": statistics.median(row["waited"] for row in rows),
                }
            if cuda:
                peak = torch.cuda.max_memory_allocated(fabric.device) / 2**20
                found[f"device resident, {precision}"]["device_peak_MiB"] = peak
    return found


def translations(
    device: str, sides: list[int], left: Callable[[], float], scratch: Path | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Peaks and seconds by side, and why a side was left out."""
    found: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    before: tuple[int, float] | None = None
    for side in sorted(sides):
        expected = before[1] * (side / before[0]) ** 3 if before else 0.0
        if expected > left():
            skipped[f"{side}^3"] = f"would take {expected:.0f} s, {max(left(), 0):.0f} s are left"
            continue
        start = perf_counter()
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            os.environ["MSGAN_SCRATCH"] = str(Path(name) / "scratch")
            config = memory_sweep.config(memory_sweep.CASCADE, side)
            run = untrained_run(Path(name) / "run", config)
            row = measured_translation(run, side, name, memory_sweep.MEMORY, device)
        before = side, perf_counter() - start
        device_peak = row.device_peak_bytes
        found[f"{side}^3"] = {
            "seconds": row.seconds,
            "host_peak_MiB": row.host_peak_bytes / 2**20,
            "device_peak_MiB": None if device_peak is None else device_peak / 2**20,
            "published_GiB": original_bytes(side) / 2**30,
        }
        print(json.dumps({side: found[f"{side}^3"]}), flush=True)
    return found, skipped


def main(arguments: list[str] | None = None) -> None:
    """Measure, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cpu or cuda")
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--preset", default="small", help="of the steps")
    parser.add_argument("--size", type=int, default=128, help="phantom to train on, voxels")
    parser.add_argument("--turns", type=int, default=3, help="of each row of steps")
    parser.add_argument("--steps", type=int, default=20, help="of a turn; the first does not count")
    parser.add_argument("--seconds", type=float, default=600, help="to keep to")
    parser.add_argument("--scratch", type=Path, help="folder for images; default: the system's")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/gpu.json"))
    options = parser.parse_args(arguments)
    start = perf_counter()
    device = pick_device(options.device)
    steps = training(device.type, options.preset, options.size, options.turns, options.steps)
    print(json.dumps(steps), flush=True)
    made, skipped = translations(
        device.type,
        options.sides,
        lambda: options.seconds - (perf_counter() - start),
        options.scratch,
    )
    report = {
        "what": f"finest scale of preset {options.preset}; translations by small networks",
        "training": steps,
        "translation": made,
        "left out": skipped,
        "seconds": perf_counter() - start,
        "device": device_name(device),
        **about(),
    }
    write_text(options.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
