"""Peak memory and time of a translation from 64^3 to 1024^3, a process of its own for each.

A small network with random weights and three or more scales, uncompressed NIfTI in and out, told
to keep to one size of memory. The image is a textured ball that touches all faces. With it goes
what the published scheme would need, counted (``msgan.memory.translation.original_bytes``).

    python benchmarks/memory_sweep.py
    python benchmarks/memory_sweep.py --sides 1024 --append --log benchmarks/memory_sweep_1024.log
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from math import log2
from pathlib import Path
from typing import Any

import torch

from msgan.config import CascadeConfig, Preparation, SketchConfig, TrainConfig, network_of
from msgan.memory.translation import measured_translation, original_bytes, untrained_run
from msgan.paths import write_text
from msgan.runs.run import git_commit, versions

MEMORY = 1 << 30


def config(side: int) -> CascadeConfig:
    """A small network; as many scales as make s0 64 voxels a side, at least one."""
    return CascadeConfig(
        preparation=Preparation(scales=max(1, round(log2(side / 64))), margin=0),
        sketch=SketchConfig(),
        network=network_of(lr_width=8, lr_levels=3, hr_width=16, hr_blocks=2),
        training=TrainConfig(steps=1, lr_steps=1),
    )


def main() -> None:
    """Measure, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--append", action="store_true", help="keep the rows of other sides")
    parser.add_argument("--scratch", type=Path, help="folder for images; default: the system's")
    parser.add_argument("--log", type=Path, help="where what the last run says is kept")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/memory_sweep.json"))
    options = parser.parse_args()
    old: list[dict[str, Any]] = []
    if options.append and options.json.is_file():
        old = json.loads(options.json.read_text())["rows"]
    rows = []
    for side in options.sides:
        with tempfile.TemporaryDirectory(dir=options.scratch) as name:
            os.environ["MSGAN_SCRATCH"] = str(Path(name) / "scratch")
            run = untrained_run(Path(name) / "run", config(side))
            row = vars(
                measured_translation(run, side, name, MEMORY, options.device, log=options.log)
            )
        rows.append(row | {"original_bytes": original_bytes(side), "git": git_commit()})
        print(json.dumps(rows[-1]), flush=True)
    again = {(row["side"], row["device"]) for row in rows}
    kept = [row for row in old if (row["side"], row["device"]) not in again]
    rows = sorted(kept + rows, key=lambda r: (r["device"], r["side"]))
    report = {
        "what": f"network of width 16 with 2 blocks, told to keep to {MEMORY >> 20} MiB, 3D",
        "peaks": {
            f"{row['side']}^3, {row['device']}": {
                "host_peak_MiB": row["host_peak_bytes"] / 2**20,
                "seconds": row["seconds"],
                "published_GiB": row["original_bytes"] / 2**30,
            }
            for row in rows
        },
        "rows": rows,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "git": git_commit(),
    }
    write_text(options.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
