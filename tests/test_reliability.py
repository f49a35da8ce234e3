"""The counts of docs/reliability.md are those measured, and the tests that it names exist."""

import json
import re
from pathlib import Path

from test_docs import numeric_cells, read, wrong_cells

ROOT = Path(__file__).resolve().parents[1]


def counted(name: str) -> dict:
    return json.loads((ROOT / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))


def test_counts_are_those_of_the_files() -> None:
    text = read("docs/reliability.md")
    words = " ".join(text.split())
    count, wrong = wrong_cells(text, ROOT / "docs")
    assert wrong == []
    assert count == len(numeric_cells(text)) > 60
    found = counted("fuzz_readers")
    for number in (found["inputs"], found["outcomes"]["opened"], found["outcomes"]["error"]):
        assert f" {number:,} " in words
    assert f"and {len(found['wrong'])} in anything else" in words
    assert f"slowest took {found['slowest_s']} s" in words


def test_a_changed_count_is_found() -> None:
    text = read("docs/reliability.md")
    (cell, *_) = numeric_cells(text)
    changed = text[: cell.start()] + f"{int(cell[0]) + 1}" + text[cell.end() :]
    assert len(wrong_cells(changed, ROOT / "docs")[1]) == 1


def test_every_kind_and_every_stage_is_shown() -> None:
    text = read("docs/reliability.md")
    rows = set(re.findall(r"^\| ([^|]+?) \|", text, re.M))
    assert set(counted("fuzz_readers")["formats"]) - {"known"} <= rows
    assert set(counted("faults")["stages"]) <= rows
    assert set(counted("mutants")["areas"]) <= rows
    assert counted("faults")["stages"]["all"]["wrong"] == 0


def test_each_defect_has_a_test() -> None:
    named = set(re.findall(r"`(tests/\w+\.py)`", read("docs/reliability.md")))
    assert len(named) >= 4
    assert [name for name in named if not (ROOT / name).is_file()] == []
