"""``import msgan as ms``: what it offers, and that it costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import msgan as ms


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    slow = ("torch", "numpy", "pydantic", "pandas", "matplotlib")
    loaded = f"[m for m in sys.modules if m in {slow} or m.startswith('msgan.')]"
    assert run(f"import msgan, sys; print({loaded})") == "[]\n"
    timed = "import time; t = time.perf_counter(); import msgan; print(time.perf_counter() - t)"
    assert min(float(run(timed)) for _ in range(3)) < 0.1


@pytest.mark.parametrize("name", ms.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(ms, name) is getattr(ms, name)
    assert name in dir(ms)


def test_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(ms.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    packages = set(ms.__all__) - set(ms._NAMES)
    stated = {n: m if ":" in m else f"{m}:{n}" for n, m in ms._NAMES.items()}
    assert stated | {name: f"msgan:{name}" for name in packages} == seen


def test_what_is_not_there_is_missing() -> None:
    with pytest.raises(AttributeError, match="no attribute 'cascade'"):
        ms.cascade  # noqa: B018


@pytest.mark.parametrize("first", ["", "import msgan.translate", "ms.translate_image"])
def test_translate_is_the_package_whatever_was_imported_before(first: str) -> None:
    code = f"import msgan as ms\n{first}\nprint(ms.translate.translate is ms.translate_image)"
    assert run(code) == "True\n"


def test_the_package_itself_imports_nothing_from_its_face() -> None:
    """The order of its layers does not look at what the face imports."""
    for path in Path(ms.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "msgan":
                assert {alias.name for alias in node.names}.isdisjoint(ms._NAMES), path
