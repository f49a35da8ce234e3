"""``msgan explore``: open JupyterLab with the explorer notebook."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from msgan.cli import console, outputs
from msgan.types import InputError

RUNS = Path("reports/runs")
"""Where notebooks leave their results."""

QUIET = Path(__file__).parent / "jupyter"
"""Settings of JupyterLab: it neither asks for news nor whether to, nothing leaves the machine."""

NEEDED = ("jupyterlab", "ipykernel", "ipywidgets", "anywidget")


def explore(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="Folder with runs and results, or with images of any readable format.",
            show_default="reports/runs; in a clone an example is made where it is empty",
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser window.")
    ] = True,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=65535,
            help="Port of the server on this machine.",
            show_default="8888, or the next that is free",
        ),
    ] = None,
) -> None:
    """Look at images, translations and training curves in JupyterLab.

    Writes a notebook, explore.ipynb, to the working folder and opens it; run its cells (Run > Run
    All Cells). If you have changed an earlier one, it is kept and a new one gets another name. The
    server is reachable from this machine only, at the address it prints; Ctrl-C stops it.

    \b
    Examples:
        msgan explore
        msgan explore translated --no-browser
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise InputError(
            f"{missing[0]} is not installed: install it with pip install 'msgan[notebooks]'"
        )
    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if folder is None and RUNS.is_dir() and any(RUNS.iterdir()):
        folder = RUNS
    outputs.writable(Path())
    path = write_notebook(Path(), folder)
    shown = "what there is, or an example" if folder is None else folder
    console.note(f"{path}: shows {shown}; Run > Run All Cells starts it")
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1"]
    # In the address that is printed too, which people copy to another browser.
    command += [f"--LabApp.default_url=/lab/tree/{path}"]
    command += [f"--ServerApp.root_dir={Path.cwd()}"]
    command += [] if browser else ["--no-browser"]
    if port is not None:
        command += [f"--port={port}", "--ServerApp.port_retries=0"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command += ["--allow-root"]  # usual in a container, where Jupyter would refuse to start
    sys.stdout.flush()
    run(command)


def run(command: Sequence[str]) -> None:
    """Become the server, so that Ctrl-C and signals are its own."""
    paths = [str(QUIET), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    os.execve(command[0], [*command], {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(paths)})


def write_notebook(here: Path, folder: Path | None) -> Path:
    """``explore.ipynb``, or where somebody has changed that, the next free name.

    Args:
        here: Where it goes.
        folder: What it shows; None: the notebook's own choice.

    Returns:
        The notebook, relative to ``here``.
    """
    content = notebook(None if folder is None else folder.as_posix())
    for number in range(1, 1000):
        path = here / ("explore.ipynb" if number == 1 else f"explore_{number}.ipynb")
        old = _read(path)
        if path.exists() and (old is None or old["metadata"].get("msgan") != _digest(old)):
            continue  # changed by its owner, or another notebook
        if old is None or _digest(old) != content["metadata"]["msgan"]:
            from msgan.paths import write_text

            write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return path
    raise InputError(f"{here}: explore.ipynb and 998 others are there: remove some")


def notebook(folder: str | None) -> dict[str, Any]:
    """The notebook of a checkout with ``folder`` set; outside one, its essence."""
    original = Path(__file__).resolve().parents[2] / "notebooks" / "13_explore.ipynb"
    content = _read(original) or _essence()
    for cell in content["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            text = "".join(cell["source"])
            # A function, so that backslashes in a folder's name mean themselves.
            cell["source"] = re.sub(r"(?m)^folder = .*$", lambda _: f"folder = {folder!r}", text)
    content["metadata"]["msgan"] = _digest(content)
    return content


def _essence() -> dict[str, Any]:
    texts = [
        ("markdown", "# Explore\n\nRun > Run All Cells shows what the folder holds."),
        ("code", "folder = None"),
        ("code", 'from msgan.widgets.explorer import explore\n\nexplore(folder or ".")'),
    ]
    cells: list[dict[str, Any]] = [
        {"cell_type": kind, "id": f"explore-{k}", "metadata": {}, "source": text}
        for k, (kind, text) in enumerate(texts)
    ]
    for cell in cells[1:]:
        cell |= {"execution_count": None, "outputs": []}
    cells[1]["metadata"]["tags"] = ["parameters"]
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _read(path: Path) -> dict[str, Any] | None:
    """A notebook; None where there is none or it is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content["cells"], list) and content["metadata"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(content: dict[str, Any]) -> str:
    """Of what the cells say; outputs and counts come and go."""
    sources = [[cell["cell_type"], "".join(cell["source"])] for cell in content["cells"]]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]
