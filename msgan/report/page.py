"""The index page of a run: one self-contained HTML file."""

from __future__ import annotations

import base64
import io
import json
import os
import platform
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

import msgan
from msgan.paths import write_text
from msgan.printing import duration
from msgan.report.results import read_results, value_text
from msgan.report.run_cache import Run, source_hash
from msgan.report.template import CAUTION, render
from msgan.types import InputError

THUMBNAIL = 240
"""Longest side of a thumbnail, in pixels; its file has twice that, for dense screens."""


def write_index(out: Path, folder: Path, preset: str, runs: Sequence[Run]) -> None:
    """Write ``out/index.html``.

    Args:
        out: Folder of the run: pages, executed notebooks, results.
        folder: Holds the notebooks as they are in git.
        preset: Name of the preset, for the title.
        runs: A row each, in order.
    """
    count = Counter(run.status for run in runs)
    summary = ", ".join(f"{number} {status}" for status, number in count.items())
    ran = sum(run.seconds for run in runs if run.status in ("passed", "failed"))
    memory = psutil.virtual_memory().total / 2**30
    page = render(
        "index.html",
        preset=preset,
        summary=summary,
        caution=CAUTION,
        duration=duration(ran),
        machine=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} · msgan {msgan.__version__}, "
        f"source {source_hash()[:12]} · Python {platform.python_version()} · {os.cpu_count()} "
        f"CPUs, {memory:.0f} GiB memory",
        cards=[_card(out, folder, run) for run in runs],
    )
    write_text(out / "index.html", page)


def _card(out: Path, folder: Path, run: Run) -> dict[str, Any]:
    """What the index says of a notebook."""
    places = (out / f"{run.stem}.ipynb", folder / f"{run.stem}.ipynb")
    notebook = load_notebook(places[0]) or load_notebook(places[1])
    page = f"{run.stem}.html" if (out / f"{run.stem}.html").is_file() else ""
    facts = []
    if run.finished:
        ended = datetime.fromisoformat(run.finished)
        facts = [duration(run.seconds), memory_text(run.peak_bytes), f"{ended:%Y-%m-%d %H:%M}"]
    figures, problem = [], ""
    try:
        figures = [(k, value_text(v)) for k, v in read_results(out / run.stem).items()]
    except InputError as error:
        problem = str(error)
    return {
        "status": run.status,
        "title": title_of(notebook) or run.stem,
        "number": run.stem.partition("_")[0],
        "about": about_of(notebook),
        "page": page,
        "notebook": f"{run.stem}.ipynb" if page else f"notebooks/{run.stem}.ipynb",
        "results": f"{run.stem}/" if (out / run.stem).is_dir() else "",
        "picture": _thumbnail(notebook),
        "facts": facts,
        "error": run.error,
        "figures": figures,
        "problem": problem,
    }


def load_notebook(path: Path) -> dict[str, Any]:
    """A notebook as JSON; empty where there is none that can be read."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notebook if isinstance(notebook, dict) else {}


def title_of(notebook: dict[str, Any]) -> str:
    """The first heading of the text cells."""
    for cell in notebook.get("cells", []):
        if cell["cell_type"] == "markdown":
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("#"):
                    return line.lstrip("#").strip()
    return ""


def about_of(notebook: dict[str, Any]) -> str:
    """The first sentence below the first heading of the text cells, without marks."""
    for cell in notebook.get("cells", []):
        if cell["cell_type"] == "markdown":
            lines = "".join(cell["source"]).splitlines()
            text = " ".join(line for line in lines if not line.startswith("#")).strip()
            plain = re.sub(r"[`*]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text))
            return re.split(r"(?<=[^.]{4}[.!?])\s", " ".join(plain.split()), maxsplit=1)[0]
    return ""


def _thumbnail(notebook: dict[str, Any]) -> str:
    """The first picture of the outputs, reduced, as a data address; empty if there is none."""
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            encoded = "".join(output.get("data", {}).get("image/png", ""))
            if encoded:
                return reduced(base64.b64decode(encoded))
    return ""


def reduced(png: bytes, side: int = 2 * THUMBNAIL) -> str:
    """A picture with no side longer than ``side``, as a data address."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        image.thumbnail((side, side))
        small = io.BytesIO()
        image.save(small, "PNG")
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode()


def memory_text(size: int) -> str:
    """Bytes as MiB or GiB."""
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.2f} GiB"
