"""How fast one HR scale runs on a CPU: as published, here, and with MONAI's sliding window.

All contestants get the same context image and sketch of a brain phantom (its middle, mirrored
where the volume is larger, so that no patch is empty and none is skipped) and random weights,
which change no time. Every measurement has a process of its own; contestants take turns.

    python benchmarks/inference_speed.py --size 128 256

published      the published network; all 32^3 patches, 20 apart, in RAM, one at a time
megan          the same network and weights in this repository
monai_constant the same network in MONAI's SlidingWindowInferer, 32^3 windows 20 apart, averaged
monai_gaussian the same with Gaussian weights
seamless       this repository's default network (preset ``small``)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import product
from math import ceil, prod
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from records import about
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from msgan import pyramid, sketch
from msgan.memory.process import peak_resident_bytes
from msgan.networks.hr_generators import MeganGenerator, SeamlessGenerator
from msgan.networks.inference import optimised
from msgan.patches import Tiling
from msgan.paths import write_text
from msgan.phantoms.brain import brain
from msgan.presets import preset
from msgan.pyramid import Store
from msgan.sketch import DrawnSketch
from msgan.translate.scale import BACKGROUND, SNAP, ImageSource, TiledScale, make
from msgan.types import Array, Box, Shape

CONTESTANTS = ("published", "megan", "monai_constant", "monai_gaussian", "seamless")
PATCH, CORE, RIM = 32, 20, 6
TILE = {"megan": 3 * CORE, "seamless": 128}
CPU = torch.device("cpu")
FULL = 128
"""Up to this size the published scheme computes the whole volume once, to be compared; else, and
in other rounds, a stated number of patches."""


def network(name: str) -> nn.Module:
    """The contestant's generator with random weights, also in its last layer."""
    torch.manual_seed(0)
    config = preset("small" if name == "seamless" else "published")
    family = SeamlessGenerator if name == "seamless" else MeganGenerator
    channels = sketch.channels(config.sketch, 3)
    size = config.network
    generator = family(3, channels, size.hr_width, size.hr_blocks)
    for parameter in generator.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return generator.eval().requires_grad_(False)


def write_scene(folder: Path, size: int) -> None:
    """Context, and the sketches of both networks, as stores."""
    middle = brain(0, 0, size=192).images["t2"][14:142, 32:160, 20:148]
    image = np.clip(middle / np.percentile(middle, 99.5), 0, 1).astype(np.float32) * 2 - 1
    image = np.pad(image, [(0, max(0, size - n)) for n in image.shape], mode="symmetric")
    image = image[:size, :size, :size]
    arrays = {"context": pyramid.halve(image, 3)}
    for name, config in (("megan", preset("published")), ("seamless", preset("small"))):
        read = sketch.sketch_reader(lambda box: image[box.slices], image.shape, config.sketch)
        arrays[name] = read(Box.whole(image.shape))
    for name, values in arrays.items():
        lead = values.ndim - 3
        store = Store.create(folder / name, values.shape, chunk=(*values.shape[:lead], *[64] * 3))
        store.write(Box.whole(values.shape), values)


class Scene:
    """What :func:`write_scene` wrote."""

    def __init__(self, folder: Path, name: str) -> None:
        self._drawn = Store.open(folder / ("seamless" if name == "seamless" else "megan"))
        self._context = Store.open(folder / "context")
        self.shape: Shape = self._drawn.shape[1:]

    def sketch(self, box: Box) -> Array:
        count = self._drawn.shape[0]
        return self._drawn.read(Box((0, *box.start), (count, *box.size)))

    def context(self, box: Box) -> Array:
        return self._context.read(box)

    def whole(self) -> tuple[Array, Array]:
        """Sketch and context in RAM."""
        coarse = tuple(n // 2 for n in self.shape)
        return self.sketch(Box.whole(self.shape)), self.context(Box.whole(coarse))


Result = tuple[float, int, int, Array | None]
"""Seconds, parts computed, parts in all, the volume if it is whole."""


def published(scene: Scene, limit: int | None) -> Result:
    """Cut all patches, run them one by one, keep 20 of 32 voxels, write a volume in RAM."""
    generator = network("published")
    drawn, context = scene.whole()
    counts = [ceil(n / CORE) for n in scene.shape]
    rounded = [k * CORE for k in counts]
    start = perf_counter()
    far = [r - n + RIM for r, n in zip(rounded, scene.shape, strict=True)]
    drawn = np.pad(drawn, [(0, 0), *[(RIM, k) for k in far]])
    wide = RIM // 2 + 8  # the context's patch reaches 8 voxels further than the detail
    context = np.pad(context, [(wide, k // 2 + 8) for k in far], constant_values=BACKGROUND)
    corners = [[a * CORE for a in place] for place in product(*map(range, counts))]
    patches = [
        (
            drawn[(None, slice(None), *[slice(a, a + PATCH) for a in corner])].copy(),
            context[(None, None, *[slice(a // 2, a // 2 + PATCH) for a in corner])].copy(),
        )
        for corner in corners
    ]
    out = np.empty(rounded, np.float32)
    cut = perf_counter() - start
    keep = (0, 0, *[slice(RIM, RIM + CORE)] * 3)
    start = perf_counter()
    done = corners[:limit]
    for corner, (seen, below) in zip(done, patches, strict=False):
        (made,) = generator(torch.from_numpy(seen), torch.from_numpy(below))
        out[tuple(slice(a, a + CORE) for a in corner)] = made[keep].numpy()
    seconds = perf_counter() - start + cut * len(done) / len(corners)
    whole = out[tuple(slice(n) for n in scene.shape)]
    return seconds, len(done), len(corners), whole if len(done) == len(corners) else None


def ours(name: str, scene: Scene, folder: Path, limit: int | None) -> Result:
    """Blocks from stores to a store; what :func:`msgan.translate.translate` does for a scale."""
    generator = optimised(network(name), CPU)
    tile = (min(TILE[name], max(scene.shape)),) * 3
    drawn = DrawnSketch(scene.sketch, scene.shape)
    coarse = tuple(n // 2 for n in scene.shape)
    reads = (drawn, ImageSource(scene.context, coarse, CPU))
    scale = TiledScale(generator, reads, scene.shape, tile, CPU)
    numbers = range(len(scale) if limit is None else min(limit, len(scale)))
    store = Store.create(folder / f"made_{os.getpid()}", scene.shape)
    start = perf_counter()
    for _, box, values in make(scale, numbers):
        store.write(box, values)
    seconds = perf_counter() - start
    parts = [len(block.cuts) for block in scale.tiling]
    done = sum(parts[k] for k in numbers)
    whole = store.read(Box.whole(scene.shape)) if len(numbers) == len(scale) else None
    return seconds, done, sum(parts), whole


class Stacked(nn.Module):
    """The network behind one input: sketch, and the wide context of the window's middle.

    MONAI cuts one input into windows of one grid, and the context is on another, so a second
    channel carries the place of each voxel, by which the wide context is looked up.
    """

    def __init__(self, generator: nn.Module, context: torch.Tensor, shape: Shape) -> None:
        super().__init__()
        self.generator, self.shape = generator, shape
        self.context = nn.functional.pad(context, (PATCH // 4,) * 6, value=BACKGROUND)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Sketch and place (B, 2, 32, 32, 32) -> detail (B, 1, 32, 32, 32)."""
        below = []
        for number in window[:, 1, 0, 0, 0].long().tolist():
            corner = np.unravel_index(number, self.shape)
            index = [slice(a // 2, a // 2 + PATCH) for a in corner]
            below.append(self.context[(slice(None), slice(None), *index)])
        return self.generator(window[:, :1], torch.cat(below))[0]


def monai(mode: str, scene: Scene, limit: int | None) -> Result:
    """Windows of 32^3, 20 apart, blended; a part of the volume if ``limit`` is given."""
    from monai.inferers import SlidingWindowInferer

    drawn, context = scene.whole()
    if limit is not None:  # a corner of the volume with about so many windows
        sides = [PATCH, PATCH, PATCH]
        while prod((n - PATCH) // CORE + 1 for n in sides) < limit:
            sides[sides.index(min(sides))] += CORE
        drawn = drawn[(slice(None), *[slice(n) for n in sides])]
    shape = drawn.shape[1:]
    windows = [prod(ceil((n - PATCH) / CORE) + 1 for n in s) for s in (shape, scene.shape)]
    place = np.arange(prod(shape), dtype=np.float32).reshape(1, *shape)  # exact up to 256^3
    inputs = torch.from_numpy(np.concatenate((drawn, place)))[None]
    model = Stacked(network("published"), torch.from_numpy(context)[None, None], shape)
    inferer = SlidingWindowInferer(
        (PATCH,) * 3, sw_batch_size=4, overlap=1 - CORE / PATCH, mode=mode
    )
    start = perf_counter()
    made = inferer(inputs, model)
    seconds = perf_counter() - start
    return seconds, windows[0], windows[1], made[0, 0].numpy() if limit is None else None


def measure(name: str, folder: Path, limit: int | None) -> dict[str, Any]:
    """One measurement, in this process."""
    scene = Scene(folder, name)
    with torch.inference_mode():
        if name == "published":
            result = published(scene, limit)
        elif name.startswith("monai"):
            result = monai(name.removeprefix("monai_"), scene, limit)
        else:
            result = ours(name, scene, folder, None if limit is None else -(-limit // 27))
    seconds, done, parts, made = result
    if made is not None:
        made = np.where(made < BACKGROUND + SNAP, BACKGROUND, np.clip(made, -1, 1))
        np.save(folder / f"{name}.npy", made)
    return {"seconds": seconds, "done": done, "parts": parts, "rss": peak_resident_bytes()}


def machine_rates() -> dict[str, float]:
    """GFLOP/s of a matrix product (MKL) and of a residual block's convolution (oneDNN)."""
    matrix = torch.randn(2048, 2048)
    shape = (8, 256, 8, 8, 8)
    image = torch.randn(shape).to(memory_format=torch.channels_last_3d)
    weight = torch.randn(256, 256, 3, 3, 3).to(memory_format=torch.channels_last_3d)
    works = {
        "gemm_2048": (lambda: matrix @ matrix, 2 * 2048**3),
        "convolution": (
            lambda: torch.conv3d(image, weight, padding=1),
            2 * weight.numel() * shape[0] * 8**3,
        ),
    }
    rates = {}
    for name, (work, flops) in works.items():
        times = []
        for _ in range(8):
            start = perf_counter()
            work()
            times.append(perf_counter() - start)
        rates[name] = flops / statistics.median(times[2:]) / 1e9
    return rates


def flops(name: str, shape: Shape) -> float:
    """Floating-point operations a voxel of the volume, halo and what lies beyond it included."""
    generator = network("published" if name.startswith("monai") else name)
    if name in TILE:
        form = optimised(generator, CPU).to("meta")
        tiling = Tiling(form.geometry, shape, (min(TILE[name], max(shape)),) * 3)
        cuts = Counter(
            tuple(box.size for box in cut.reads) for block in tiling for cut in block.cuts
        )
        return sum(
            count * counted(form.core, sketch_channels(name), *sizes)
            for sizes, count in cuts.items()
        ) / prod(shape)
    counts = [
        ceil((n - PATCH) / CORE) + 1 if name.startswith("monai") else ceil(n / CORE) for n in shape
    ]
    patch = counted(generator.to("meta"), sketch_channels(name), (PATCH,) * 3, (PATCH,) * 3)
    return patch * prod(counts) / prod(shape)


def counted(call: Callable[..., Any], channels: int, drawn: Shape, below: Shape) -> int:
    """Operations of one call, counted without data."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        call(
            torch.empty(1, channels, *drawn, device="meta"),
            torch.empty(1, 1, *below, device="meta"),
        )
    return counter.get_total_flops()


def sketch_channels(name: str) -> int:
    """Channels of the contestant's sketch."""
    return sketch.channels(preset("small" if name == "seamless" else "published").sketch, 3)


def run(name: str, folder: Path, limit: int | None, threads: int) -> dict[str, Any]:
    """One measurement in a fresh process."""
    command = [sys.executable, __file__, "--one", name, "--folder", str(folder)]
    if limit is not None:
        command += ["--patches", str(limit)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(
    size: int, rounds: int, patches: int, threads: int, root: Path
) -> tuple[dict[str, Any], dict[str, float]]:
    """All contestants at one size, and rates of this machine, GFLOP/s."""
    folder = root / str(size)
    write_scene(folder, size)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    rates: list[dict[str, float]] = []
    for turn in range(rounds):
        rates.append(machine_rates())
        for name in CONTESTANTS:
            once = name in ("published", "megan") and turn == 0 and size <= FULL
            limit = None if once or name == "seamless" else patches
            found[name].append(run(name, folder, limit, threads))
            print(size, turn, name, found[name][-1], flush=True)
    gemm = statistics.median(rate["gemm_2048"] for rate in rates)
    shape = (size,) * 3
    report: dict[str, Any] = {}
    for name, rows in found.items():
        paces = [row["seconds"] / row["done"] * row["parts"] / size**3 for row in rows]
        pace, counted = statistics.median(paces), flops(name, shape)
        whole = [row for row in rows if row["done"] == row["parts"]]
        report[name] = {
            "seconds": pace * size**3,
            "us_per_voxel": pace * 1e6,
            "us_per_voxel_of_each_round": [p * 1e6 for p in paces],
            "patches_timed": [row["done"] for row in rows],
            "patches": rows[0]["parts"],
            "peak_rss_MiB": max(row["rss"] for row in (whole or rows)) / 2**20,
            "peak_rss_is_of_the_whole_volume": bool(whole) or name in ("published", *TILE),
            "flops_per_voxel": counted,
            "GFLOPS": counted / pace / 1e9,
            "share_of_gemm": counted / pace / 1e9 / gemm,
        }
    base = report["published"]["us_per_voxel"]
    for row in report.values():
        row["times_faster_than_published"] = base / row["us_per_voxel"]
    if (folder / "published.npy").is_file():
        gap = np.load(folder / "megan.npy") - np.load(folder / "published.npy")
        report["megan"]["largest_difference_to_published"] = float(np.abs(gap).max())
    return report, {k: statistics.median(r[k] for r in rates) for k in rates[0]}


def main() -> None:
    """Measure and write the JSON; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patches", type=int, help="timed in a round that is not whole")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.folder, options.patches)))
        return
    patches = options.patches or 54
    torch.set_num_threads(options.threads)
    report: dict[str, Any] = {
        "what": "one HR scale from a given context and sketch, CPU, float32; seconds of parts "
        "are scaled to the whole volume where patches_timed is less than patches",
        "tile": TILE,
        "machine_GFLOPS": {},
        "rounds": options.rounds,
        **about(),
        "threads": options.threads,
        "load_average_before": os.getloadavg(),
    }
    with tempfile.TemporaryDirectory() as root:
        for size in options.size:
            name = f"{size}^3"
            report[name], report["machine_GFLOPS"][name] = compare(
                size, options.rounds, patches, options.threads, Path(root)
            )
    write_text(options.json, json.dumps(report, indent=1) + "\n")
    for size in options.size:
        for name, row in report[f"{size}^3"].items():
            print(
                f"{size}^3 {name:15} {row['us_per_voxel']:7.2f} us/voxel  "
                f"{row['times_faster_than_published']:6.2f} x  {row['peak_rss_MiB']:6.0f} MiB  "
                f"{row['GFLOPS']:5.0f} GF/s  {row.get('largest_difference_to_published', '')}"
            )


if __name__ == "__main__":
    main()
