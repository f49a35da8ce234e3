"""The script that changes the code a little: what it leaves out, and what its tests tell."""

# ruff: noqa: E402

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import mutants

CODE = """
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

@decorated(frozen=True)
class Thing:
    side: int | None = 3

    @decorated(maxsize=4)
    def double(self, by: int | None = 2) -> int | None:
        return self.side * by
"""


def test_annotations_decorators_and_what_type_checkers_read_are_left_out() -> None:
    spans = mutants.left_out(CODE)
    lines = CODE.splitlines()

    def inside(word: str, text: str) -> bool:
        line = next(n for n, code in enumerate(lines, start=1) if text in code)
        place = (line, lines[line - 1].index(word))
        return any(first <= place < last for first, last in spans)

    assert inside("|", "side: int")
    assert inside("|", "def double")
    assert inside("from", "PathLike")
    assert inside("True", "frozen=True")
    assert inside("4", "maxsize=4")
    assert not inside("3", "side: int")
    assert not inside("2", "def double")
    assert not inside("*", "self.side * by")


def test_the_changed_line_is_told() -> None:
    assert mutants.difference("a\n  b + 1\nc", "a\n  b - 1\nc") == (2, "b + 1", "b - 1")
    assert mutants.difference("a", "a") == (0, "", "")


def test_every_area_has_files_and_tests() -> None:
    for files, tests in mutants.AREAS.values():
        assert list((ROOT / "msgan").glob(files))
        assert all((ROOT / "tests" / f"test_{name}.py").is_file() for name in tests.split())


CASES = {
    "def total(a, b): return a + b": "passed",
    "def total(a, b): return a - b": "failed",
    "def total(a, b) return a + b": "failed",
    "import os\ndef total(a, b): os.abort()": "failed",
    "import time\ndef total(a, b): time.sleep(60)": "hung",
}

PROGRAM = """
import sys
from pathlib import Path
import mutants
mutants.AREAS = {"sums": ("", "sums")}
mutants.LIMIT_S = 12
for tree in sys.argv[1:]:
    print(mutants.tested(Path(tree), "sums"))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_a_copy_of_the_tree_is_tested(tmp_path: Path) -> None:
    # The copy has a package of the same name as the one that the script itself uses.
    trees = [tmp_path / str(number) for number in range(len(CASES))]
    for tree, code in zip(trees, CASES, strict=True):
        (tree / "msgan").mkdir(parents=True)
        (tree / "msgan" / "__init__.py").write_text(code + "\n")
        (tree / "tests").mkdir()
        (tree / "tests" / "test_sums.py").write_text(
            "from msgan import total\n\ndef test_sums():\n    assert total(2, 3) == 5\n"
        )
    command = [sys.executable, "-c", PROGRAM, *map(str, trees)]
    done = subprocess.run(
        command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.split() == list(CASES.values()), done.stderr
