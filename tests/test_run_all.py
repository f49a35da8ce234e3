"""``run_all.sh``: which command it becomes, from wherever it is called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "run_all.sh"

PYTHON = """#!/bin/sh
if [ "$1" = -P ]; then cat >/dev/null; exit 0; fi  # asked whether it imports msgan from here
pwd -P
printf '%s\\n' "$@"
"""


@pytest.fixture
def called(tmp_path):
    """Calls a copy of the script from another folder: where it works, and with which words."""
    root, here, programs = (tmp_path / name for name in ("re po", "my data", "bin"))
    for folder in (root, here, programs):
        folder.mkdir()
    shutil.copy(SCRIPT, root)
    (programs / "python").write_text(PYTHON)
    (programs / "python").chmod(0o755)

    def call(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", str(root / "run_all.sh"), *words],
            cwd=here,
            env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        where, *command = done.stdout.splitlines()
        assert Path(where) == root.resolve()
        return [word.replace(str(here), "HERE") for word in command]

    return call


EXPLORE = ["-m", "msgan.cli", "explore"]
RUN = ["-m", "msgan.report", "run", "--preset"]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["explore"], EXPLORE),
        (["explore", "mine"], [*EXPLORE, "HERE/mine"]),
        (["explore", "."], [*EXPLORE, "HERE/."]),
        (["explore", "/mine"], [*EXPLORE, "/mine"]),
        (["explore", "--no-browser", "a b"], [*EXPLORE, "--no-browser", "HERE/a b"]),
        (["explore", "--port", "9", "mine"], [*EXPLORE, "--port", "9", "HERE/mine"]),
        (["explore", "--port"], [*EXPLORE, "--port"]),
        ([], [*RUN, "smoke"]),
        (["small", "--data-root", "mine"], [*RUN, "small", "--data-root", "HERE/mine"]),
        (["small", "--data-root=mine"], [*RUN, "small", "--data-root=HERE/mine"]),
        (
            ["--data-root", "/mine", "--jobs", "2"],
            [*RUN, "smoke", "--data-root", "/mine", "--jobs", "2"],
        ),
        (["--only", "03*"], [*RUN, "smoke", "--only", "03*"]),
        (
            ["repeat"],
            ["-m", "msgan.cli", "verify", "reports/runs/smoke/02_sketch_and_pyramid", "--again"],
        ),
    ],
    ids=lambda words: " ".join(words) or "nothing",
)
def test_paths_are_relative_to_where_the_user_stands(called, words, command):
    assert called(*words) == command
