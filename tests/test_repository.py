"""What holds for the repository as a whole."""

import ast
import importlib.metadata
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def tracked(*patterns: str) -> list[str]:
    return [name for name in git("ls-files", "-z", "--", *patterns).split("\0") if name]


# --- notebooks ---------------------------------------------------------------------------------


def has_outputs(notebook) -> bool:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return any(cell.outputs or cell.execution_count is not None for cell in code)


def breaches(notebook) -> list[str]:
    """Which rules for a notebook of the papers are broken."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = []
    if not code or "parameters" not in code[0].metadata.get("tags", []):
        found.append("the first code cell is not tagged 'parameters'")
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    if len(lines) > 120:
        found.append(f"{len(lines)} lines of code are more than 120")
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    python = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
    for node in ast.walk(ast.parse(python)):
        if isinstance(node, definitions):
            found.append(f"{node.name} is defined in the notebook, not in msgan/")
    return found


def test_notebooks_in_git_have_no_outputs() -> None:
    names = tracked("*.ipynb")
    assert names
    notebooks = {name: nbformat.reads(git("show", f":{name}"), as_version=4) for name in names}
    assert [name for name, notebook in notebooks.items() if has_outputs(notebook)] == []


def test_notebooks_read_like_papers() -> None:
    names = tracked("notebooks/*.ipynb", "tests/notebooks/*.ipynb")
    notebooks = {name: nbformat.reads(git("show", f":{name}"), as_version=4) for name in names}
    found = {name: breaches(notebook) for name, notebook in notebooks.items()}
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_the_rules_for_notebooks_bite() -> None:
    cell = nbformat.v4.new_code_cell
    long = "\n".join(f"a{i} = {i}" for i in range(120))
    bad = nbformat.v4.new_notebook(
        cells=[cell("%matplotlib inline\n" + long), cell("def f(): ...")]
    )
    assert [fault.split()[0] for fault in breaches(bad)] == ["the", "122", "f"]
    parameters = cell("preset = 1", metadata={"tags": ["parameters"]})
    good = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Hi"), parameters])
    assert breaches(good) == []
    assert not has_outputs(good)
    good.cells[1].execution_count = 1
    assert has_outputs(good)


# --- the package -------------------------------------------------------------------------------


def test_imports_point_downward_only() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache", "--no-logo"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Imports point downward only KEPT" in run.stdout


PROBE = """
import importlib, json, os, pkgutil, random, sys, threading
import numpy
import msgan

HEAVY = {"IPython", "SimpleITK", "anywidget", "ipykernel", "ipyniivue", "ipywidgets",
         "jupyter_client", "matplotlib", "monai", "nbclient", "nbconvert", "nbformat", "nilearn",
         "pandas", "papermill", "pydicom", "seaborn", "skimage", "sklearn", "tensorboard",
         "torchmetrics", "torchvision"}

def torch_state():
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    return torch.get_rng_state().tolist(), torch.get_num_threads(), str(torch.get_default_dtype())

def state():
    seeds = repr(random.getstate()), repr(numpy.random.get_state())
    return {"environment": dict(os.environ), "random state": seeds,
            "threads": threading.active_count(), "folder": os.getcwd()}

names = sorted(m.name for m in pkgutil.walk_packages(msgan.__path__, "msgan.")
               if not m.name.endswith(".__main__"))
found, seen = {}, set()
for name in names:
    before, torch_before = state(), torch_state()
    importlib.import_module(name)
    after, torch_after = state(), torch_state()
    faults = [key for key in before if before[key] != after[key]]
    if torch_before is not None and torch_before != torch_after:
        faults.append("torch state")
    heavy = HEAVY & {m.partition(".")[0] for m in sys.modules}
    faults += sorted(heavy - seen)
    seen |= heavy
    if faults:
        found[name] = faults
print(json.dumps([names, found]))
"""


def probe(folder: Path, path: Path = ROOT) -> tuple[list[str], dict[str, list[str]]]:
    """All module names, and what importing each one, in turn, changed or pulled in."""
    folder.mkdir()
    home = {"HOME": str(folder), "PATH": "", "PYTHONPATH": str(path), "TMPDIR": str(folder)}
    home["PYTHONDONTWRITEBYTECODE"] = "1"
    run = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=folder, env=home, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    names, found = json.loads(run.stdout)  # fails where an import printed something
    if left := [p.name for p in folder.rglob("*")]:
        found["files"] = left
    return names, found


def test_importing_does_nothing_and_pulls_nothing_heavy(tmp_path: Path) -> None:
    names, found = probe(tmp_path / "home")
    paths = (file.relative_to(ROOT).with_suffix("") for file in (ROOT / "msgan").rglob("*.py"))
    modules = {".".join(p.parts).removesuffix(".__init__") for p in paths if p.name != "__main__"}
    assert {"msgan", *names} == modules  # a folder without __init__.py would be missing here
    assert found == {}


def test_the_probe_sees_what_an_import_does(tmp_path: Path) -> None:
    package = tmp_path / "other" / "msgan"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("import os, random; os.environ['A'] = ''; random.seed(0)")
    (package / "b.py").write_text("import nbformat; open('left', 'w').close()")
    names, found = probe(tmp_path / "home", tmp_path / "other")
    assert names == ["msgan.a", "msgan.b"]
    assert found == {
        "msgan.a": ["environment", "random state"],
        "msgan.b": ["nbformat"],
        "files": ["left"],
    }


EVALUATES = {"eval", "exec", "compile", "__import__"}
"""Functions that run what a text says."""
UNSAFE_MODULES = {"pickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
"""Whose files run code when they are loaded."""
YAML_LOADERS = {"Loader", "UnsafeLoader", "FullLoader"}


def unsafe(text: str) -> list[str]:
    """Lines of a module that run what a file or a text says, and what they call."""
    found = []

    def told(node: ast.AST, what: str) -> None:
        found.append(f"{getattr(node, 'lineno', 0)}: {what}")

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in UNSAFE_MODULES & {name.partition(".")[0] for name in names}:
                told(node, f"import {name}")
        if isinstance(node, ast.Attribute) and node.attr in YAML_LOADERS:
            told(node, node.attr)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg: word.value for word in node.keywords}
        stated = {word: getattr(value, "value", None) for word, value in given.items()}
        if name in EVALUATES or name in ("os.system", "os.popen", "runpy.run_path", "joblib.load"):
            told(node, name)
        if name.startswith("yaml.") and "load" in name and not name.startswith("yaml.safe_load"):
            told(node, name)
        if name == "torch.load" and stated.get("weights_only") is not True:
            told(node, "torch.load without weights_only=True")
        if name.endswith((".load", ".read_pickle")) and stated.get("allow_pickle") is True:
            told(node, f"{name} with allow_pickle")
        if name.endswith(("read_pickle", "to_pickle")):
            told(node, name)
        if "shell" in given and stated["shell"] is not False:
            told(node, "shell=True")
    return found


def test_no_module_runs_what_a_file_says() -> None:
    files = sorted((ROOT / "msgan").rglob("*.py"))
    assert len(files) > 100
    found = {
        str(file.relative_to(ROOT)): lines
        for file in files
        if (lines := unsafe(file.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("import pickle\nfrom pickle import loads\nimport dill.session", 3),
        ("eval('1')\nexec(text)\n__import__(name)\ncompile(t, '', 'exec')", 4),
        ("yaml.load(text)\nyaml.load(t, Loader=yaml.Loader)\nyaml.unsafe_load(t)", 4),
        ("torch.load(p)\ntorch.load(p, weights_only=False)\ntorch.load(p, weights_only=w)", 3),
        ("numpy.load(p, allow_pickle=True)\npandas.read_pickle(p)", 2),
        ("subprocess.run(c, shell=True)\nf(shell=x)\nos.system(c)\njoblib.load(p)", 4),
        (
            '"""No pickle, no eval."""\nmodel.eval()\nre.compile(p)\nyaml.safe_load(t)\n'
            "torch.load(p, weights_only=True)\nnumpy.load(p)\nsubprocess.run(c, shell=False)",
            0,
        ),
    ],
)
def test_what_runs_code_is_found(text: str, hits: int) -> None:
    assert len(unsafe(text)) == hits, unsafe(text)


# --- documents and files -----------------------------------------------------------------------


def unknown_names(text: str) -> list[str]:
    """Names in backticks, `msgan.x.y` or `msgan.x.y(...)`, that cannot be imported."""
    unknown = []
    for name in re.findall(r"`(msgan(?:\.\w+)+)(?:\(.*?\))?`", text):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            unknown.append(name)
    return unknown


def test_names_in_paper_to_code_can_be_imported() -> None:
    assert unknown_names((ROOT / "docs" / "paper_to_code.md").read_text(encoding="utf-8")) == []


def test_unknown_names_are_found() -> None:
    text = "`msgan.types.Box.scaled(2)` `msgan.types` `msgan.types.Bax` `msgan.absent.f()`"
    assert unknown_names(text) == ["msgan.types.Bax", "msgan.absent.f"]


# Put together here, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(
    "(?<![\\w.])(?:/" + "home/|/" + "Users/|/" + "root/|/" + "work/|[A-Z]:\\\\" + "Users)\\w"
)


def machine_paths(text: str) -> list[str]:
    return [line for line in text.splitlines() if MACHINE_PATH.search(line)]


def test_no_path_of_a_machine_is_tracked() -> None:
    found = {}
    for name in tracked():
        path = ROOT / name
        if not path.is_file() or b"\0" in (content := path.read_bytes()):
            continue
        if lines := machine_paths(content.decode(errors="replace")):
            found[name] = lines
    assert found == {}


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("root = '/" + "home/anna/data'", 1),
        ("see /" + "Users/anna and\n\\n", 1),
        ("~/data ../shared/data https://example.org/" + "work/x docs/" + "work/x", 0),
    ],
)
def test_machine_paths_are_found(text: str, hits: int) -> None:
    assert len(machine_paths(text)) == hits


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = map(Requirement, [*project["dependencies"], *(line for e in extras for line in e)])
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(versions) == len(pins)
    faults = [
        str(need)
        for need in wanted
        if need.name != project["name"]
        and not need.specifier.contains(versions.get(canonicalize_name(need.name), "0.dev0"))
    ]
    assert faults == []
    assert "==" in str(pins[0].specifier)
    assert importlib.metadata.version("numpy").split(".")[0] == versions["numpy"].split(".")[0]


NOT_IMPORTED = {"ipykernel", "jupyterlab", "nbdime", "playwright", "torchmetrics"}
"""Packages of use without an import: commands, what others import, browser tests, a data file."""


def imported_packages() -> set[str]:
    """Names, as on the index, of the packages that modules of msgan import."""
    owners = importlib.metadata.packages_distributions()
    names = set()
    for file in (ROOT / "msgan").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    others = names - set(sys.stdlib_module_names) - {"msgan"}
    return {canonicalize_name(owner) for name in others for owner in owners.get(name, [name])}


def test_packages_that_are_imported_are_declared_and_no_others() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tools = ("dev", "docs")
    lines = [*project["dependencies"], *(x for k in extras if k not in tools for x in extras[k])]
    declared = {canonicalize_name(Requirement(line).name) for line in lines} - {"msgan"}
    assert imported_packages() - declared == set()
    assert declared - imported_packages() == NOT_IMPORTED
