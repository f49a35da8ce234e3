"""Peak memory and time of a translation from 64^3 to 1024^3, a process of its own for each.

A small network with random weights and three or more scales, uncompressed NIfTI in and out, told
to keep to one size of memory. The image is a textured ball that touches all faces. With it goes
what the published scheme would need, counted (``msgan.memory.translation.original_bytes``).
Methods: ``cascade`` sees the sketch alone; ``cascade, guided`` is guided by all that may guide it,
its sources matched to an even histogram; ``3D-mDAUNet`` is small and made of patches of 32^3 that
overlap by .625 and are blended, as published.

    python benchmarks/memory_sweep.py
    python benchmarks/memory_sweep.py --sides 1024 --append --log benchmarks/memory_sweep_1024.log
    python benchmarks/memory_sweep.py --method "cascade, guided" --append
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from math import log2
from pathlib import Path
from typing import Any

from records import about

from msgan import presets
from msgan.config import CascadeConfig, Preparation, SketchConfig, TrainConfig, network_of
from msgan.memory.translation import measured_translation, original_bytes, untrained_run
from msgan.methods.mdaunet import MDAUNet
from msgan.paths import write_text
from msgan.runs.run import git_commit

MEMORY = 1 << 30
CASCADE, GUIDED, MDAUNET = "cascade", "cascade, guided", "3D-mDAUNet"


def config(method: str, side: int) -> CascadeConfig:
    """Small networks; a cascade has as many scales as make s0 64 voxels a side, at least one."""
    cascade = CascadeConfig(
        preparation=Preparation(scales=max(1, round(log2(side / 64))), margin=0),
        sketch=SketchConfig(),
        network=network_of(lr_width=8, lr_levels=3, hr_width=16, hr_blocks=2),
        training=TrainConfig(steps=1, lr_steps=1),
    )
    if method == GUIDED:
        return cascade.updated(guidance=presets.GUIDED.model_dump())
    if method == MDAUNET:
        tiny = {"features": (2, 2, 4, 4), "growth": (1, 1, 2, 2), "blocks": 1}
        return MDAUNet.configured(cascade, "source").updated(network=tiny)
    return cascade


def key(row: dict[str, Any]) -> tuple[str, str, int]:
    """What makes a row one of its own."""
    return row["method"], row["device"], row["side"]


def tables(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """A table a method: peak, time, and what the published scheme would need."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        table = found.setdefault(f"peaks, {row['method']}", {})
        table[f"{row['side']}^3, {row['device']}"] = {
            "host_peak_MiB": row["host_peak_bytes"] / 2**20,
            "seconds": row["seconds"],
            "us_per_voxel": row["seconds"] * 1e6 / row["side"] ** 3,
            "published_GiB": row["original_bytes"] / 2**30,
        }
    return found


def main() -> None:
    """Measure, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", choices=(CASCADE, GUIDED, MDAUNET), default=CASCADE)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--append", action="store_true", help="keep the other rows")
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
            run = untrained_run(Path(name) / "run", config(options.method, side))
            row = vars(
                measured_translation(run, side, name, MEMORY, options.device, log=options.log)
            )
        told = {"method": options.method, "original_bytes": original_bytes(side)}
        rows.append(told | row | {"git": git_commit()})
        print(json.dumps(rows[-1]), flush=True)
    again = {key(row) for row in rows}
    rows = sorted([row for row in old if key(row) not in again] + rows, key=key)
    report = {
        "what": f"small networks, told to keep to {MEMORY >> 20} MiB, 3D",
        **tables(rows),
        "rows": rows,
        **about(),
    }
    write_text(options.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
