"""The results folder and key figures of a notebook, for the index page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgan.paths import write_text
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.report.found import Found

RESULTS = "MSGAN_RESULTS"
"""Environment variable the runner sets for a notebook: the folder of the whole run."""

NOTEBOOK = "JPY_SESSION_NAME"
"""Environment variable JupyterLab sets for a kernel: the path of its notebook."""

SHARED, MINE = "shared", "mine"
"""Folder of phantoms, caches and trainings, named by what they are made of; and of what is tried
out by hand, beside the results of record."""

FILE = "results.json"

Figure = float | int | str | bool
"""A key figure: one value that fits in a cell of a table."""


def results_folder(stem: str, preset: str) -> Path:
    """The folder (made on demand) a notebook writes its results to.

    Under the runner it lies beside the executed notebook. In JupyterLab it is a folder of its own,
    ``reports/runs/mine/PRESET/NAME``, NAME being that of the notebook, so that no experiment
    replaces results of record, which the runner alone writes, and no copy those of another.
    Phantoms and trainings (``shared``) are where the runner has them: they are named by all that
    decides them, so an experiment finds what is there and changes nothing.

    Args:
        stem: Name of the notebook without its suffix; ``shared``.
        preset: Name of the preset it runs with.
    """
    checkout = Path(__file__).resolve().parents[2]
    default = checkout if (checkout / "notebooks").is_dir() else Path.cwd()
    runs = default / "reports" / "runs"
    if RESULTS in os.environ:
        folder = Path(os.environ[RESULTS]) / stem
    elif stem == SHARED:
        folder = runs / preset / stem
    else:
        folder = runs / MINE / preset / (Path(os.environ.get(NOTEBOOK, "")).stem or stem)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_results(folder: Path, figures: Mapping[str, Figure]) -> Found:
    """Write the key figures of a notebook to ``folder/results.json`` for the index page.

    Args:
        folder: The notebook's results folder.
        figures: Name (with its unit) to value, in the order of display.

    Returns:
        What was found, for the last cell to show: a sentence for each task of the scores that the
        notebook has written to ``folder``, else the key figures.
    """
    from msgan.report.found import found_in, preset_below

    write_text(folder / FILE, json.dumps(dict(figures), indent=1) + "\n")
    return found_in(folder, figures, preset_below(folder))


def read_results(folder: Path) -> dict[str, Figure]:
    """The key figures a notebook left in ``folder``; none where it left none.

    Raises:
        InputError: ``results.json`` is not one flat JSON object of numbers and strings.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path.name}: not JSON ({error})") from error
    if not isinstance(figures, dict) or not all(isinstance(v, Figure) for v in figures.values()):
        raise InputError(f"{path.name}: expected one flat object of numbers and strings")
    return figures


def value_text(value: Figure) -> str:
    """A key figure as it is shown."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def forget_results(folder: Path) -> None:
    """Drop the key figures in ``folder``, so that they are not shown as those of a later run."""
    (folder / FILE).unlink(missing_ok=True)
