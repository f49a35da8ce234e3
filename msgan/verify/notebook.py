"""Results of a notebook: checked, compared with those of another execution, executed again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgan.report import archive, run_cache
from msgan.report.csv_tables import SCORES, TESTS, read_fields, read_scores, read_tests
from msgan.report.execute import execute
from msgan.report.experiment import Experiment, find
from msgan.report.page import load_notebook
from msgan.report.results import FILE
from msgan.report.side_by_side import THREADS
from msgan.runs.run import git_commit, versions
from msgan.types import InputError
from msgan.verify.verdict import Finding, State, Verdict, differences, judged, only_in
from msgan.verify.weights import relative

MEASURED = re.compile(
    r"\((s|ms|MiB|GiB)\)"
    r"|(?<![a-z])(seconds|time|waiting|waited|measured|peak|resident|MiB|GiB)(?![a-z])"
)
"""Names of columns and figures that state times and memory, which no two executions share."""


def is_measured(name: str) -> bool:
    """Whether a column or a figure states a time or memory.

    Example:
        >>> is_measured("training (s)"), is_measured("host_peak_bytes"), is_measured("ssim")
        (True, True, False)
    """
    return MEASURED.search(name) is not None


def holds_results(folder: Path) -> bool:
    """Whether a folder holds what a notebook leaves: key figures, tables or a card."""
    return any((folder / name).is_file() for name in (FILE, archive.CARD)) or (
        folder.is_dir() and run_cache.last(folder.parent, folder.name).status != "not run"
    )


def check_notebook(folder: Path) -> Verdict:
    """Whether all files of a notebook's results can be read and agree with each other."""
    own = _loaded(folder)
    found = [Finding("a file", State.DIFFERENT, problem) for problem in own.problems]
    names = _tables(folder)
    told = f"{len(names)} tables, {len(own.figures)} figures"
    found.append(
        Finding("files can be read", State.UNCHECKED if own.problems else State.IDENTICAL, told)
    )
    if (folder / archive.CARD).is_file() and not own.problems:
        found.append(_card(folder, own.card))
    run = run_cache.last(folder.parent, folder.name)
    if run.failed:
        found.append(Finding("execution", State.DIFFERENT, run.error))
    then = {"git": own.card.get("git"), **(own.card.get("versions") or {})}
    today = {"git": git_commit(), **versions()}
    known = {name for name, value in then.items() if value is not None}
    return Verdict(
        str(folder),
        tuple(found),
        differences(*({k: v for k, v in side.items() if k in known} for side in (then, today))),
    )


def compare_notebooks(folder: Path, other: Path, tolerance: float | None = None) -> Verdict:
    """Whether two executions have left the same tables and key figures, to the last digit.

    Times and memory (:func:`is_measured`) are left out.

    Args:
        folder: Results of one execution.
        other: Of the other.
        tolerance: Largest relative difference of a number that is accepted; None: none is.
    """
    for side in (folder, other):
        if not holds_results(side):
            raise InputError(
                f"{side}: holds no results of a notebook: no {FILE}, no {archive.CARD}"
            )
    names = [_tables(side) for side in (folder, other)]
    found: list[Finding] = []
    if odd := only_in(*names):
        found.append(Finding("tables", State.DIFFERENT, odd))
    for name in sorted({*names[0]} & {*names[1]}):
        found.append(compare_tables(name, folder / name, other / name, tolerance))
    found.append(_figures(folder, other, tolerance))
    return Verdict(str(folder), tuple(found), differences(_made_by(folder), _made_by(other)))


def notebook_again(
    folder: Path, out: Path, *, tolerance: float | None = None, threads: int | None = None
) -> Verdict:
    """Execute the notebook again, with nothing of its first execution, and compare.

    Its cells are those that were executed, its parameters and threads too; the code is today's.

    Args:
        folder: Results, beside the executed notebook.
        out: Empty folder for the results of this execution.
        tolerance: See :func:`compare_notebooks`.
        threads: ``OMP_NUM_THREADS``; None: as it was, where that is known.

    Raises:
        InputError: There is no executed notebook, or a cell fails.
    """
    import nbformat

    path = folder.parent / f"{folder.name}.ipynb"
    if not path.is_file():
        raise InputError(f"{path}: no such file: the executed notebook lies beside its results")
    given = load_notebook(path).get("metadata", {}).get("papermill", {}).get("parameters", {})
    known = str(threads or run_cache.last(folder.parent, folder.name).threads)
    environment = {THREADS: known} if known else {}
    notebook = nbformat.read(path, as_version=4)
    _, error, _ = execute(notebook, folder.parent, out, given, environment)
    if error:
        raise InputError(f"{path}: executed again it fails: {error}")
    verdict = compare_notebooks(folder, out / folder.name, tolerance)
    then, today = _made_by(folder), {"git": git_commit() or "", "threads": known}
    return replace(verdict, circumstances=differences(then, today) if then else ())


def compare_tables(what: str, one: Path, other: Path, tolerance: float | None = None) -> Finding:
    """Whether two CSV files hold the same text in every field, but for times and memory.

    Raises:
        InputError: One is damaged.
    """
    first, second = read_fields(one), read_fields(other)
    if first[0] != second[0]:
        return Finding(what, State.DIFFERENT, only_in(first[0], second[0]) or "order of columns")
    if len(first) != len(second):
        return Finding(what, State.DIFFERENT, f"{len(first) - 1} and {len(second) - 1} lines")
    left = [name for name in first[0] if is_measured(name)]
    where, worst = "", 0.0
    for line, name, a, b in _unequal(first, second):
        where = where or f"line {line}, {name}: {a} and {b}"
        worst = max(worst, relative(a, b))
    told = f"{len(first) - 1} lines of {len(first[0]) - len(left)} columns"
    if left:
        told += f"; measured, not compared: {', '.join(left)}"
    return judged(what, worst, tolerance, where) if where else Finding(what, State.IDENTICAL, told)


def _unequal(one: list[list[str]], other: list[list[str]]) -> Iterator[tuple[int, str, str, str]]:
    for number, (first, second) in enumerate(zip(one[1:], other[1:], strict=True), 1):
        for name, a, b in zip(one[0], first, second, strict=True):
            if a != b and not is_measured(name):
                yield number, name, a, b


def _figures(folder: Path, other: Path, tolerance: float | None) -> Finding:
    sides = [_loaded(side).figures for side in (folder, other)]
    kept = [{k: v for k, v in side.items() if not is_measured(k)} for side in sides]
    if odd := only_in(tuple(kept[0]), tuple(kept[1])):
        return Finding("key figures", State.DIFFERENT, odd)
    where, worst = "", 0.0
    for name, value in kept[0].items():
        if value != kept[1][name]:
            where = where or f"{name}: {value} and {kept[1][name]}"
            worst = max(worst, relative(value, kept[1][name]))
    if where:
        return judged("key figures", worst, tolerance, where)
    left = [name for name in sides[0] if is_measured(name)]
    told = f"measured, not compared: {', '.join(left)}" if left else ""
    return Finding("key figures", State.IDENTICAL, told)


def _card(folder: Path, card: Mapping[str, Any]) -> Finding:
    """Whether the means and tests of a card are those of the tables beside it."""
    made: dict[str, Any] = {}
    if (folder / SCORES).is_file():
        made |= archive.means_of(read_scores(folder / SCORES))
    if (folder / TESTS).is_file():
        made |= archive.tests_of(read_tests(folder / TESTS))
    wrong = differences({k: card.get(k) for k in made}, made)
    what = f"{archive.CARD}: means and tests"
    detail = f"{wrong[0]} of the tables" if wrong else ""
    return Finding(what, State.DIFFERENT if wrong else State.IDENTICAL, detail)


def _tables(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*.csv"))


def _loaded(folder: Path) -> Experiment:
    (own,), _ = find(folder)
    return own


def _made_by(folder: Path) -> dict[str, Any]:
    run = run_cache.last(folder.parent, folder.name)
    known: dict[str, Any] = {"git": run.git, "threads": run.threads} if run.finished else {}
    path = folder / archive.CARD
    if path.is_file():
        card = _loaded(folder).card
        known |= {k: card.get(k) for k in ("git", "versions", "machine")}
    return known
