"""Small changes of the code, one at a time: does a test fail?

Mutants are those of cosmic-ray: another operator, a comparison turned round, a number that is one
more, ``break`` for ``continue``, a loop that is not entered, and so on. Of each area as many are
drawn from a seed as ``--mutants`` says. Left out are annotations, decorators (such as
``@dataclass(frozen=True)``) and code that type checkers alone read.

    python benchmarks/mutants.py --mutants 40
    python benchmarks/mutants.py --areas pyramid --again

The tests of an area (``AREAS``; those marked slow are left out) run in a process that is forked for
each mutant, with a copy of the tree that holds it. A mutant is *killed* by a failing test, or by a
run that takes more than ``LIMIT_S`` seconds; the others *survived*, and are listed with the line as
it was and as it became. ``--again`` tries those of the record that survived once more, to see what
new tests do. Needs ``pip install cosmic-ray`` (MIT), which is no dependency of msgan.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import json
import os
import py_compile
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from records import ROOT, about

from msgan.paths import write_text

LIMIT_S = 240.0
"""Seconds after which a mutant hangs; undisturbed tests of an area take less than 100."""

MEMORY = 16 * 2**30
"""Bytes that the tests of a mutant may ask for."""

# fmt: off
AREAS = {
    "types": ("types.py", "types patches geometry pyramid volume"),
    "patches": ("patches.py", "patches overlap memory"),
    "pyramid": ("pyramid.py", "pyramid border appearance plan"),
    "sketch": ("sketch/*.py", "sketch strength border config"),
    "match": ("match/*.py", "match estimate guided guided_runs"),
    "metrics": ("metrics/*.py",
        "metrics catalogue distances features frechet gradients lpips lung"),
    "translate": ("translate/*.py",
        "plan overlap provenance states contexts translate one_reading guided ablation "
        "outputs lr_tiles side_by_side border patch_gan mdaunet"),
    "statistics": ("statistics.py", "statistics crossval tables"),
}
# fmt: on
"""Modules of the package, and the test files that are about them, the nearest first."""

LOADED = ("torch", "scipy.ndimage", "skimage", "zarr", "nibabel", "pandas", "SimpleITK", "pydantic")
LOADED += ("numcodecs", "monai", "matplotlib", "seaborn")
"""Packages that are loaded before processes are forked."""

SKIPPED = ("NoOp", "VariableReplacer", "VariableInserter", "RemoveDecorator")
"""Operators that change nothing, that need a name, or that take decorators away."""


@dataclass(frozen=True)
class Mutant:
    """A small change.

    Attributes:
        file: Of the package.
        operator: Of cosmic-ray.
        occurrence: Which of the places in the file where the operator could act.
        line: Number, from 1.
        before: The line as it is.
        after: As the mutant has it.
    """

    file: str
    operator: str
    occurrence: int
    line: int
    before: str
    after: str


def left_out(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Spans (line, column) of annotations, decorators and what type checkers alone read."""
    nodes: list[ast.AST] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign):
            nodes.append(node.annotation)
        if isinstance(node, ast.arg) and node.annotation:
            nodes.append(node.annotation)
        if isinstance(node, ast.FunctionDef):
            nodes += [part for part in (node.returns, *node.decorator_list) if part]
        if isinstance(node, ast.ClassDef):
            nodes += node.decorator_list
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            nodes.append(node)
    return [
        ((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset))  # type: ignore[attr-defined]
        for n in nodes
    ]


Place = tuple[Path, str, int]
"""Where a mutant could be: a file, an operator, and which of the places where that could act."""


def places_of(file: Path) -> list[Place]:
    """Every place in a file that is not left out."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    source = file.read_text(encoding="utf-8")
    spans = left_out(source)
    nodes = list(ast_nodes(get_ast(source)))
    found: list[Place] = []
    for name in operator_names():
        if any(part in name for part in SKIPPED):
            continue
        operator = get_operator(name)()
        starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        found += [
            (file, name.removeprefix("core/"), occurrence)
            for occurrence, start in enumerate(starts)
            if not any(first <= start < last for first, last in spans)
        ]
    return found


def changed(source: str, operator: str, occurrence: int) -> str:
    """The source with one change."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    code: str | None = mutate_code(source, get_operator(f"core/{operator}")(), occurrence)
    return source if code is None else code


def difference(before: str, after: str) -> tuple[int, str, str]:
    """The first line that differs: its number, and as it was and became."""
    for number, (old, new) in enumerate(
        zip(before.splitlines(), after.splitlines(), strict=False), start=1
    ):
        if old != new:
            return number, old.strip(), new.strip()
    return 0, "", ""


def drawn(area: str, count: int, seed: int) -> tuple[list[Mutant], int]:
    """So many mutants of an area, and how many there are."""
    files = sorted((ROOT / "msgan").glob(AREAS[area][0]))
    every = [place for file in files for place in places_of(file)]
    found = []
    for file, operator, occurrence in Random(f"{seed} {area}").sample(
        every, min(count, len(every))
    ):
        source = file.read_text(encoding="utf-8")
        told = difference(source, changed(source, operator, occurrence))
        found.append(Mutant(str(file.relative_to(ROOT)), operator, occurrence, *told))
    return found, len(every)


@contextlib.contextmanager
def mutated(tree: Path, mutant: Mutant) -> Iterator[None]:
    """The copy of the tree with one mutant in it."""
    file = tree / mutant.file
    source = file.read_text(encoding="utf-8")
    code = changed(source, mutant.operator, mutant.occurrence)
    if difference(source, code)[1:] != (mutant.before, mutant.after):
        raise SystemExit(f"{mutant.file}: line {mutant.line} is not what the record says")
    file.write_text(code, encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(source, encoding="utf-8")


def tested(tree: Path, area: str) -> str:
    """``passed``, ``failed`` or ``hung``: what the tests of an area say of the copy."""
    files = [str(tree / "tests" / f"test_{name}.py") for name in AREAS[area][1].split()]
    child = os.fork()
    if not child:
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            silent = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(silent, stream)
            sys.dont_write_bytecode = True
            sys.path[:] = [str(tree), *(p for p in sys.path if Path(p).resolve() != ROOT)]
            os.environ["PYTHONPATH"] = str(tree)
            for name in [n for n in sys.modules if n.split(".")[0] == "msgan"]:
                del sys.modules[name]
            os.chdir(tree)
            import pytest

            rc = pytest.main(
                ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-m", "not slow", *files]
            )
            os._exit(int(rc))
        finally:
            os._exit(99)
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            return "passed" if status == 0 else "failed"
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


def copied(place: Path) -> Path:
    """A copy of what tests need of the tree."""
    tree = place / "tree"
    skipped = shutil.ignore_patterns(
        "__pycache__", ".venv", ".git", "runs", ".*_cache", "*.egg-info"
    )
    shutil.copytree(ROOT, tree, ignore=skipped, symlinks=True)
    # Modules are compiled once; hashes tell which one has changed.
    by_hash = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(tree, quiet=2, invalidation_mode=by_hash)
    return tree


def main() -> None:
    """Draw, try, record; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--mutants", type=int, default=40, help="of each area")
    add("--areas", nargs="+", choices=list(AREAS), default=list(AREAS))
    add("--seed", type=int, default=0)
    add("--again", action="store_true", help="try those that survived once more")
    add("--json", type=Path, default=ROOT / "benchmarks" / "mutants.json")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in LOADED:
        __import__(name)
    old = json.loads(given.json.read_text()) if given.json.is_file() else {}
    rows: dict[str, Any] = old.get("areas", {})
    survivors: dict[str, list[dict[str, Any]]] = old.get("survivors", {})
    rows.pop("all", None)
    if given.again and (unknown := [area for area in given.areas if area not in rows]):
        parser.error(f"--again: {given.json} has no mutants of {unknown[0]}")
    with tempfile.TemporaryDirectory() as name:
        tree = copied(Path(name))
        for area in given.areas:
            if (clean := tested(tree, area)) != "passed":
                raise SystemExit(f"{area}: the tests of the code as it is {clean}")
            if given.again:
                every = rows[area]["mutants"]
                chosen = [Mutant(**one) for one in survivors[area]]
                row = dict(rows[area])
            else:
                chosen, every = drawn(area, given.mutants, given.seed)
                row = {"mutants": every, "tried": len(chosen), "killed": 0, "survived": 0}
            left = []
            for number, mutant in enumerate(chosen):
                with mutated(tree, mutant):
                    outcome = tested(tree, area)
                if outcome == "passed":
                    left.append(asdict(mutant))
                    print(f"{mutant.file}:{mutant.line}: {mutant.before} -> {mutant.after}")
                print(f"{area} {number + 1}/{len(chosen)}: {outcome}", flush=True)
            row |= {"survived": len(left), "killed": row["tried"] - len(left)}
            rows[area], survivors[area] = row, left
            total = {key: sum(one[key] for one in rows.values()) for key in row}
            report = {"seed": given.seed, "areas": {**rows, "all": total}, "survivors": survivors}
            write_text(given.json, json.dumps({**report, **about()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
