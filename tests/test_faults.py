"""A short subset of the harness of faults: commands killed, cut short and begun twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and looked at in /proc")
def test_commands_that_are_disturbed_leave_what_others_leave(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--seed", "5"]
    command += ["--stages", "sketch", "phantoms", "--kills", "6", "--others", "1"]
    command += ["--json", str(tmp_path / "faults.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "faults.json").read_text())
    assert {name: row["faults"] for name, row in found["stages"].items() if name != "all"} == {
        "sketch": [],
        "phantoms": [],
    }
    every = found["stages"]["all"]
    assert every["wrong"] == 0
    assert every["signals"] >= 12  # sent; a quick command may be done before one reaches it
    assert every["two at once"] == every["memory"] == 2
    again = sum(n for name, n in found["counts"].items() if name.startswith("after kills: "))
    assert again == 12
