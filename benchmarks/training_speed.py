"""How fast two CPU cores train the small seamless 3D network, and how long they wait for data.

Trains scale 1 of the ``small`` preset on one brain phantom for a number of steps, the first
tenth of which warms up and does not count.

    python benchmarks/training_speed.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from msgan.data.cohort import Cohort
from msgan.methods.cascade import fit
from msgan.paths import write_text
from msgan.phantoms.brain import write_cohort
from msgan.presets import small
from msgan.training.loop import LOG_EVERY
from msgan.training.run import git_commit, versions


def main() -> None:
    """Train, time, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=128, help="phantom, voxels")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/training_speed.json"))
    options = parser.parse_args()
    config = small()
    training = config.training.model_copy(
        update={"steps": options.steps, "validate_every": 10 * options.steps}
    )
    config = config.model_copy(update={"training": training})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_cohort(folder, subjects=1, size=options.size, seed=0, test_share=0)
        cohort = Cohort.from_manifest(manifest, folder)
        fit(cohort, "t2", config, Path(folder) / "run", scales=[2], report=rows.append)
    rows = [row for row in rows if row["step"] > options.steps // 10]
    first, last = rows[0], rows[-1]
    steps = last["step"] - first["step"]
    seconds = last["seconds"] - first["seconds"]
    waited = last["waited"] - first["waited"]
    pace = [(b["seconds"] - a["seconds"]) / LOG_EVERY for a, b in itertools.pairwise(rows)]
    voxels = training.batch * training.patch**config.dims
    report = {
        "what": f"scale 2 of preset small, phantom of size {options.size}, {steps} steps",
        "speed": {
            "scale 2": {
                "seconds_per_step": statistics.median(pace),
                "voxels_per_second": voxels * steps / seconds,
                "share_waiting_for_data": waited / seconds,
            }
        },
        "batch": training.batch,
        "patch": training.patch,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "git": git_commit(),
    }
    write_text(options.json, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
