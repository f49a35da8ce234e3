"""How fast the small seamless 3D network trains, and what its data cost it.

Three rows of the same steps (finest scale of preset ``small``), in turns so that a busy machine
slows all alike:

- ``device resident``: one batch, made before; what the networks alone take
- ``full pipeline``: every batch drawn, cut, flipped and degraded; subjects in the page cache,
  or on the GPU where there is one
- ``cold memory maps``: the same, and after each draw the system forgets what it has read of the
  subjects, as if they were many times larger than memory

Then, of s0 and the finest scale of the presets ``small`` for any image and for brains: what the
convolutions of a step (both networks, forward and backward) would take at the rate of one large
convolution, as a share of what the step takes. Step and convolution are timed in turns.

    python benchmarks/training_speed.py
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from lightning_fabric import Fabric
from records import about
from torch.utils.flop_counter import FlopCounterMode

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, prepare
from msgan.paths import write_text
from msgan.phantoms.brain import write_cohort
from msgan.presets import preset
from msgan.training.batches import Batch, Patches, Prefetch
from msgan.training.cache import CachedSubject, cached
from msgan.training.step import Step


class Cold(Patches):
    """Draws from files of which the system keeps nothing in memory."""

    files: tuple[Path, ...]

    def draw(self, purpose: str, step: int, samples: Any) -> Batch:
        batch = super().draw(purpose, step, samples)
        forget(self.subjects, self.files)
        return batch


def forget(subjects: tuple[CachedSubject, ...], files: tuple[Path, ...]) -> None:
    """Drop the pages of the files: first from this process, then from the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    for subject in subjects:
        for tensor in (*subject.images, *(t for v in subject.sketches for t in v)):
            start = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
            size = tensor.data_ptr() + tensor.numel() * tensor.element_size() - start
            done = libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)
            assert done == 0
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def read_bytes() -> int:
    """What this process has made the disks read."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def cohort(folder: Path, config: CascadeConfig, size: int, count: int) -> Iterator[CachedSubject]:
    """One phantom, prepared, and copies of what was prepared, each with files of its own."""
    manifest = write_cohort(folder, subjects=1, size=size, seed=0, test_share=0)
    subject = next(iter(Cohort.from_manifest(manifest, folder)))
    with prepare(subject, "t2", config.preparation) as opened:
        cached(opened, config, "0", folder / "0")
        for k in range(count):
            if k:
                shutil.copytree(folder / "0", folder / str(k))
            yield cached(opened, config, "0", folder / str(k))
    os.sync()  # only what is on the disk can be forgotten


def turn(step: Step, patches: Patches | Batch, first: int, count: int) -> dict[str, float]:
    """Some steps of one row; the step that fills the pipeline does not count."""
    batches = None
    if not isinstance(patches, Batch):
        size = range(step.config.batch)
        if not isinstance(patches, Cold):  # the row before has made the system forget
            for k in range(first, first + count):
                patches.draw("train", k, size)
        batches = Prefetch(patches, "train", size, stop=first + count)
    start, busy, waited, read = 0.0, 0.0, 0.0, 0
    for k in range(first, first + count):
        batch = batches.get(k) if batches else patches
        assert isinstance(batch, Batch)
        step.update(batch, k, 1e-4)
        if k == first:
            synchronize(step)
            start, busy, read = perf_counter(), process_time(), read_bytes()
            waited = batches.waited if batches else 0.0
    synchronize(step)
    seconds, busy = perf_counter() - start, process_time() - busy
    spent = batches.waited - waited if batches else 0.0
    if batches:
        batches.close()
    return {
        "seconds": seconds / (count - 1),
        "busy": busy / (count - 1),
        "waited": spent / seconds,
        "megabytes": (read_bytes() - read) / 1e6 / (count - 1),
    }


def synchronize(step: Step) -> None:
    if step.fabric.device.type == "cuda":
        torch.cuda.synchronize()


def alone(patches: Patches, count: int) -> float:
    """Seconds to draw a batch while nothing is trained; the median."""
    times = []
    for k in range(count + 1):
        start = perf_counter()
        patches.draw("alone", k, range(patches.config.training.batch))
        if patches.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(perf_counter() - start)
    return statistics.median(times[1:])


def shares(
    config: CascadeConfig, fabric: Fabric, subjects: tuple[CachedSubject, ...], turns: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Of s0 and the finest scale: operations of a step, its time, and the share of the rate."""
    image = torch.rand(1, 32, 64, 64, 64, device=fabric.device)
    kernel = torch.rand(32, 32, 3, 3, 3, device=fabric.device)
    large = 2 * kernel.numel() * image[0, 0].numel()
    for scale in (0, len(subjects[0].images) - 1):
        step = Step(config, scale, fabric)
        drawn = Patches(subjects, config, scale, step.generator.geometry, device=fabric.device)
        count = config.training.batch if scale else config.training.lr_batch
        batch = drawn.draw("train", 0, range(count))
        step.update(batch, 0, 1e-4)
        with FlopCounterMode(display=False) as counter:
            step.update(batch, 1, 1e-4)
        work, times, ratios = counter.get_total_flops(), [], []
        for _ in range(turns):
            start = perf_counter()
            with torch.inference_mode():
                torch.nn.functional.conv3d(image, kernel, padding=1)
            synchronize(step)
            middle = perf_counter()
            step.update(batch, 2, 1e-4)
            synchronize(step)
            times.append(perf_counter() - middle)
            ratios.append(work / times[-1] / (large / (middle - start)))
        yield (
            f"s{scale}",
            {
                "gigaflop_per_step": work / 1e9,
                "seconds_per_step": statistics.median(times),
                "share_of_convolution_rate": statistics.median(ratios),
            },
        )


def main() -> None:
    """Train, time, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=5, help="of each row")
    parser.add_argument("--steps", type=int, default=5, help="of a turn; the first does not count")
    parser.add_argument("--size", type=int, default=128, help="phantom, voxels")
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/training_speed.json"))
    options = parser.parse_args()
    config = preset("small").unguided()
    fabric = Fabric(accelerator="auto", devices=1)
    fabric.launch()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        mapped = tuple(cohort(folder, config, options.size, options.subjects))
        placed = mapped
        if fabric.device.type == "cuda":
            placed = tuple(subject.to(fabric.device) for subject in mapped)
        scale = len(mapped[0].images) - 1
        step = Step(config, scale, fabric)
        geometry = step.generator.geometry
        warm = Patches(placed, config, scale, geometry, device=fabric.device)
        cold = Cold(mapped, config, scale, geometry, device=fabric.device)
        cold.files = tuple(folder.rglob("*.npy"))
        rows: dict[str, Patches | Batch] = {
            "device resident": warm.draw("train", 0, range(config.training.batch)),
            "full pipeline": warm,
            "cold memory maps": cold,
        }
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
        for k in range(-1, options.turns):  # the first turn warms up
            for name, source in rows.items():
                measured = turn(step, source, (k + 1) * options.steps, options.steps)
                if k >= 0:
                    turns[name].append(measured)
        drawn = {"warm": alone(warm, 10), "cold": alone(cold, 10)}
        size = sum(subject.bytes for subject in mapped)
        found: dict[str, dict[str, float]] = {}
        for name in ("any", "brain"):
            own = preset("small", name).unguided()
            few = tuple(cohort(folder / name, own, options.size, 1))
            for scale, row in shares(own, fabric, few, options.turns * options.steps):
                found[f"{name}, {scale}"] = row
    report(options, config, fabric, turns, drawn, size, found)


def report(
    options: argparse.Namespace,
    config: CascadeConfig,
    fabric: Fabric,
    turns: dict[str, list[dict[str, float]]],
    drawn: dict[str, float],
    size: int,
    shares: dict[str, dict[str, float]],
) -> None:
    """Medians over turns; losses are medians of the ratios of turns that follow each other.

    Processor seconds, of all threads, say what the data cost where others use the machine too.
    """
    training = config.training
    voxels = training.batch * training.patch**config.dims
    speed: dict[str, dict[str, float]] = {}
    for name, measured in turns.items():
        seconds = statistics.median(m["seconds"] for m in measured)
        speed[name] = {
            "seconds_per_step": seconds,
            "processor_seconds_per_step": statistics.median(m["busy"] for m in measured),
            "voxels_per_second": voxels / seconds,
            "share_waiting_for_data": statistics.median(m["waited"] for m in measured),
            "megabytes_read_per_step": statistics.median(m["megabytes"] for m in measured),
        }
    against = {"full pipeline": "device resident", "cold memory maps": "full pipeline"}
    loss = {
        f"{name} against {base}": {
            unit: 1
            - statistics.median(
                b[key] / a[key] for a, b in zip(turns[name], turns[base], strict=True)
            )
            for unit, key in (("seconds", "seconds"), ("processor_seconds", "busy"))
        }
        for name, base in against.items()
    }
    found = {
        "what": f"finest scale of preset small, {options.subjects} subjects of size "
        f"{options.size}, {options.turns} turns of {options.steps - 1} steps a row",
        "speed": speed,
        "loss": loss,
        "share of the convolution rate": shares,
        "seconds_to_draw_a_batch_alone": drawn,
        "cohort_gigabytes": size / 1e9,
        "batch": training.batch,
        "patch": training.patch,
        "device": fabric.device.type,
        **about(),
    }
    write_text(options.json, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
