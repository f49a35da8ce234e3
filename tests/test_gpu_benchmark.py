"""The benchmark of a GPU runs on a CPU too, of small sizes, and keeps to its time."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import gpu

from msgan.memory.translation import TranslationMemory

ROWS = ("device resident", "full pipeline")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def quick(monkeypatch, tmp_path) -> list[int]:
    """Translations that take a minute for 32^3 voxels, by a clock of their own; no training."""
    sides: list[int] = []
    clock = [0.0]

    def measured(run, side, folder, memory, device):
        sides.append(side)
        clock[0] += 60 * (side / 32) ** 3
        return TranslationMemory(side, device, 1 << 20, None, 1.5)

    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path))
    monkeypatch.setattr(gpu, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(gpu, "untrained_run", lambda *_: None)
    monkeypatch.setattr(gpu, "measured_translation", measured)
    monkeypatch.setattr(gpu, "training", lambda *_: {})
    return sides


def test_what_would_not_end_in_time_is_left_out_and_named(quick, tmp_path) -> None:
    words = ["--device", "cpu", "--sides", "128", "64", "32", "--json", str(tmp_path / "x.json")]
    gpu.main([*words, "--seconds", "600"])
    told = json.loads((tmp_path / "x.json").read_text())
    assert quick == [32, 64]
    assert told["left out"] == {"128^3": "would take 3840 s, 60 s are left"}
    assert list(told["translation"]) == ["32^3", "64^3"]
    assert told["translation"]["32^3"]["host_peak_MiB"] == 1
    assert told["device"] == "cpu"


@pytest.mark.slow
def test_it_measures_on_a_cpu(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path))
    words = [
        "--device",
        "cpu",
        "--sides",
        "16",
        "--preset",
        "smoke",
        "--size",
        "24",
        "--steps",
        "2",
        "--turns",
        "1",
    ]
    gpu.main([*words, "--json", str(tmp_path / "x.json")])
    told = json.loads((tmp_path / "x.json").read_text())
    assert told["translation"]["16^3"]["host_peak_MiB"] > 50
    assert told["translation"]["16^3"]["seconds"] > 0
    rows = [f"{w}, {p}" for p in ("32-true", "bf16-mixed") for w in ROWS]
    assert list(told["training"]) == rows
    assert all(row["seconds_per_step"] > 0 for row in told["training"].values())
