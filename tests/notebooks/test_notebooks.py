"""What holds for every notebook of the papers, beside what test_repository.py asks of all.

Whether they run is seen by `./run_all.sh smoke`.
"""

import ast
import importlib
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("[0-9]*.ipynb"))
PARAMETERS = {"preset": "smoke", "data_root": None, "seed": 0, "device": "auto"}
MORE = {"13_explore": {"folder": None}}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param.stem, nbformat.read(request.param, as_version=4)


def code(cells: list[Any]) -> list[str]:
    return [cell.source for cell in cells if cell.cell_type == "code"]


def faults(stem: str, cells: list[Any]) -> list[str]:
    """Which of the rules a notebook breaks."""
    found = []
    text = [cell for cell in cells if cell.cell_type == "markdown"]
    if not (cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")):
        found.append("begins with no title")
    told, last = text[-1], cells[-1]
    if not told.source.startswith("Measured: ") or told not in cells[-2:]:
        found.append("does not end with what was measured")
    elif last is not told and "write_results(" not in last.source:
        found.append("does not end with what was found")
    if any(len(cell.source.split()) > 170 for cell in text):
        found.append("has a text nobody reads")
    sources = code(cells)
    first = {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(sources[0]).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if first != PARAMETERS | MORE.get(stem, {}):
        found.append(f"has the parameters {first}")
    calls = [
        (node.func.id, [a.value for a in node.args if isinstance(a, ast.Constant)])
        for node in ast.walk(ast.parse("\n".join(sources)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    if ("results_folder", [stem]) not in calls:
        found.append("has no results folder of its own name")
    if "write_results" not in [name for name, _ in calls]:
        found.append("leaves no key figures")
    return found


def test_notebooks_keep_the_rules(notebook: tuple[str, Any]) -> None:
    stem, content = notebook
    assert faults(stem, content.cells) == []


def test_what_notebooks_import_exists(notebook: tuple[str, Any]) -> None:
    missing = []
    for node in ast.walk(ast.parse("\n".join(code(notebook[1].cells)))):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("msgan"):
            continue
        module = importlib.import_module(str(node.module))
        for alias in node.names:
            if not hasattr(module, alias.name):
                try:
                    importlib.import_module(f"{node.module}.{alias.name}")
                except ModuleNotFoundError:
                    missing.append(f"{node.module}.{alias.name}")
    assert missing == []


def test_broken_rules_are_found() -> None:
    text, cell = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [
        text("No title"),
        cell("preset = 'smoke'"),
        text("word " * 171),
        cell("folder = results_folder('other', preset)"),
    ]
    assert len(faults("00_this", cells)) == 6


def test_there_are_notebooks() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS][:5] == ["00", "01", "02", "03", "04"]
