"""Minimal images of every format open; damaged ones end in no worse than one clear line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INPUTS = 360


@pytest.mark.slow
def test_damaged_images_of_every_format(tmp_path: Path) -> None:
    """In processes of their own, which are watched: a crash ends no test run."""
    command = [sys.executable, str(ROOT / "benchmarks" / "fuzz_readers.py")]
    command += ["--inputs", str(INPUTS), "--seed", "11", "--json", str(tmp_path / "counts.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    result = json.loads((tmp_path / "counts.json").read_text())
    assert result["wrong"] == []
    assert done.returncode == 0
    formats = result["formats"]
    assert len(formats) > 25
    assert sum(sum(count.values()) for count in formats.values()) > INPUTS + len(formats)
    # The damage is neither always fatal nor always of no account.
    assert set(result["outcomes"]) == {"opened", "error"}
    assert formats.pop("known").keys() == {"error"}
    assert all(count["opened"] >= 1 and count.get("error", 0) >= 1 for count in formats.values())
