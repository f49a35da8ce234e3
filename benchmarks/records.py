"""What the benchmarks on real images share: options, where the images are, and the JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from msgan.paths import write_text
from msgan.runs.run import Run, git_commit, versions

if TYPE_CHECKING:
    from methods import Fitted

ROOT = Path(__file__).resolve().parents[1]
MANIFESTS = ROOT / "data_manifests"
SHARED_DATA = "MSGAN_SHARED_DATA"


def data_folder() -> Path:
    """Folder of the real images: ``MSGAN_SHARED_DATA``, else ``shared/data`` beside this tree."""
    return Path(os.environ.get(SHARED_DATA, ROOT.parent / "shared" / "data"))


def options(name: str, doc: str | None, methods: Sequence[str]) -> argparse.ArgumentParser:
    """Options that every benchmark on real images has.

    Args:
        name: Of the script, its JSON file and its picture.
        doc: Of the script.
        methods: Names of its methods.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=data_folder(), help="holds brain_ms/ etc.")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "runs" / name)
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(methods),
        metavar="METHOD",
        help=f"of: {'; '.join(methods)}",
    )
    parser.add_argument("--quick", action="store_true", help="to see that it runs; no record")
    parser.add_argument("--json", type=Path, help=f"default: {name}.json beside the script")
    parser.add_argument("--picture", type=Path, help=f"default: docs/images/{name}.png")
    return parser


def parsed(parser: argparse.ArgumentParser, name: str) -> argparse.Namespace:
    """The options given; a quick run keeps what it makes apart, below its own ``out``."""
    given = parser.parse_args()
    if not given.data.is_dir():
        parser.error(f"{given.data}: no such folder: set {SHARED_DATA} or give --data")
    if given.quick:
        given.out = given.out / "quick"
    beside, pictures = (
        (given.out, given.out) if given.quick else (ROOT / "benchmarks", ROOT / "docs" / "images")
    )
    given.json = given.json or beside / f"{name}.json"
    given.picture = given.picture or pictures / f"{name}.png"
    return given


def about() -> dict[str, Any]:
    """Where and with what code numbers are measured."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "git": git_commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def about_method(fitted: Fitted) -> dict[str, Any]:
    """What is told of a method: what it saw, how long it was fitted, and where."""
    known = {"sees": fitted.candidate.sees, "seconds of fit": round(fitted.seconds, 2)}
    run = getattr(fitted.method, "run", None)
    if isinstance(run, Run):
        known |= {"seconds of training": training_seconds(run)}
        known |= {"steps": {k: getattr(run.config.training, k) for k in ("lr_steps", "steps")}}
    return known | {k: v for k, v in about().items() if k != "versions"}


def training_seconds(run: Run) -> dict[str, float]:
    """Training time of each scale that was trained."""
    files = {f"s{i}": run.folder_of(i) / "done.json" for i in run.used}
    return {
        name: json.loads(file.read_text())["seconds"]
        for name, file in files.items()
        if file.is_file()
    }


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Both, part by part; where both have a value the new one counts."""
    result = dict(old)
    for key, value in new.items():
        before = old.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = merged(before, value) if both else value
    return result


def record(path: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """Write a report, beside the methods of an earlier one that were not measured again.

    Each method says under ``methods`` at which commit it was measured; what is not named there is
    older and was measured as ``before`` says. Returns what is in the file.
    """
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if old and "methods" not in old:
        old["before"] = {key: old[key] for key in about() if key in old}
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = merged(old, report)
    write_text(path, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(report, indent=1, ensure_ascii=False))
    return whole
