"""Results of record: a run of a notebook, small enough to be stored with the code."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.paths import copy, write_text
from msgan.report.csv_tables import SCORES, TESTS, read_scores, read_table, read_tests
from msgan.report.page import load_notebook, title_of
from msgan.report.results import read_results
from msgan.report.run_cache import last
from msgan.studies.table import CONVENTION
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd

CARD = "card.json"

DICE, COSTS = "dice.csv", "costs.csv"
"""Tables of a notebook that compares what methods are of use for, and what they cost."""


def archive(out: Path, reports: Path, preset: str, stems: Sequence[str]) -> list[Path]:
    """Keep the tables of notebooks that passed, each with a card that says how they were made.

    The card holds title, data and convention of the scores, the run's time and peak memory,
    machine, versions and commit, the key figures, and for each task the means and
    standard deviations over subjects of every row, tests, Dice of segmenters, and costs.

    Args:
        out: Folder of the run, as ``reports/runs/small``.
        reports: Where results of record are kept, one folder a preset and notebook.
        preset: The run's.
        stems: Notebooks, by file name without suffix.

    Returns:
        The cards.

    Raises:
        InputError: A notebook has not passed in this run, or left no key figures.
    """
    from msgan.runs.run import versions

    cards = []
    for stem in stems:
        run = last(out, stem)
        figures = read_results(out / stem)
        if run.status != "passed" or not figures:
            raise InputError(f"{out}: {stem} has not passed there: run it first")
        notebook = load_notebook(out / f"{stem}.ipynb")
        folder = reports / preset / stem
        folder.mkdir(parents=True, exist_ok=True)
        card: dict[str, Any] = {
            "notebook": stem,
            "title": title_of(notebook) or stem,
            "data": data_of(notebook)["data"],
            "preset": preset,
            "finished": run.finished,
            "seconds": round(run.seconds, 1),
            "peak MiB": round(run.peak_bytes / 2**20),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "versions": versions(),
            "git": run.git,
            "figures": figures,
        }
        for table in sorted((out / stem).glob("*.csv")):
            copy(table, folder / table.name)
        card |= tables_of(out / stem)
        write_text(folder / CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
        cards.append(folder / CARD)
    return cards


def data_of(notebook: Mapping[str, Any]) -> dict[str, str]:
    """What an executed notebook was given: phantoms, or the name of a folder of images."""
    given = notebook.get("metadata", {}).get("papermill", {}).get("parameters", {})
    root = given.get("data_root")
    about = {"data": "phantoms" if root is None else Path(str(root)).name}
    return about | ({"preset": str(given["preset"])} if "preset" in given else {})


def tables_of(folder: Path) -> dict[str, Any]:
    """What the tables of a notebook say: convention and means of scores, tests, Dice, costs."""
    found: dict[str, Any] = {}
    if (folder / SCORES).is_file():
        scores = read_scores(folder / SCORES)
        found |= _convention(scores) | means_of(scores)
    if (folder / TESTS).is_file():
        found |= tests_of(read_tests(folder / TESTS))
    if (folder / DICE).is_file():
        dice = means_of(read_table(folder / DICE))
        found |= {f"segmenters, {key}": value for key, value in dice.items()}
    if (folder / COSTS).is_file():
        found["costs"] = _plain(read_table(folder / COSTS).set_index("method"))
    return found


def _convention(table: pd.DataFrame) -> dict[str, Any]:
    """How the scores were measured, where their table says it."""
    stated = {
        name: "; ".join(dict.fromkeys(table[name].dropna().astype(str)))
        for name in CONVENTION
        if name in table
    }
    return {"convention": stated} if stated else {}


def means_of(table: pd.DataFrame) -> dict[str, Any]:
    """Means and standard deviations over subjects: task to row to column."""
    made: dict[str, Any] = {}
    for task, part in table.groupby("task", sort=False):
        rows = part.drop(columns=["fold"], errors="ignore").groupby("method", sort=False)
        made[f"{task}"] = _plain(rows.mean(numeric_only=True))
        made[f"{task}, standard deviation"] = _plain(rows.std(numeric_only=True))
        made[f"{task}, subjects"] = int(part["subject"].nunique())
    return made


def tests_of(table: pd.DataFrame) -> dict[str, Any]:
    """Every row against the reference: task and metric to row to column."""
    columns = ["n", "difference", "low", "high", "t_p_holm", "wilcoxon_p_holm"]
    made: dict[str, Any] = {}
    for (task, metric, other), part in table.groupby(["task", "metric", "reference"], sort=False):
        made[f"{task}, {metric}, minus {other}"] = _plain(part.set_index("method")[columns])
    return made


def _plain(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Rows of a table as JSON can hold them: what is not a number is left out."""
    return {
        str(row): {
            str(k): float(v if float(v).is_integer() else f"{v:.6g}")
            for k, v in cells.dropna().items()
        }
        for row, cells in table.iterrows()
    }
