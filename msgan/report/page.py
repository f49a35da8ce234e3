"""The index page of a run: one self-contained HTML file."""

from __future__ import annotations

import base64
import io
import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import psutil

import msgan
from msgan.paths import write_text
from msgan.report.results import Figure, read_results
from msgan.report.stamp import Run, source_hash
from msgan.types import InputError

THUMBNAIL = 240
"""Longest side of a thumbnail, in pixels; its file has twice that, for dense screens."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5d6875; --page: #f6f7f9; --card: #fff;
  --line: #dde2e8; --good: #1a7f4b; --bad: #c0293b; --wait: #9a6700; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ef; --dim: #97a3b0; --page: #14181d;
  --card: #1c2229; --line: #323b45; --good: #4cc38a; --bad: #ff7b86; --wait: #e3b341;
  --link: #6cb2ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 72rem; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.5rem; } a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
.dim, footer { color: var(--dim); font-size: .87rem; } header p { margin: .25rem 0 0; }
article { display: grid; grid-template-columns: 15rem minmax(0, 1fr); gap: 1.25rem;
  margin-top: 1rem; padding: 1rem; background: var(--card); border: 1px solid var(--line);
  border-left: 4px solid var(--dim); border-radius: 6px; }
article.passed, article.unchanged { border-left-color: var(--good); }
article.failed { border-left-color: var(--bad); }
article.running, article.outdated { border-left-color: var(--wait); }
article h2 { margin: 0; font-size: 1.08rem; } .status { font-weight: 600; }
.passed .status, .unchanged .status { color: var(--good); } .failed .status { color: var(--bad); }
.running .status, .outdated .status { color: var(--wait); }
.thumb { display: flex; align-items: center; justify-content: center; min-height: 4rem;
  color: var(--dim); font-size: .87rem; }
.thumb img { max-width: 100%; max-height: 11rem; border-radius: 4px; background: #fff; }
.facts { margin: .2rem 0 0; } pre { margin: .6rem 0 0; padding: .5rem .7rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line);
  border-radius: 4px; color: var(--bad); font-size: .85rem; }
dl { display: flex; flex-wrap: wrap; gap: .35rem 1.6rem; margin: .7rem 0 0; }
dt { color: var(--dim); font-size: .8rem; } dd { margin: 0; font-variant-numeric: tabular-nums; }
footer { margin-top: 1.5rem; }
@media (max-width: 40rem) { article { grid-template-columns: 1fr; } }
"""


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
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>msgan: {escape(preset)}, {escape(summary)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>msgan notebooks, preset {escape(preset)}</h1>
<p>{escape(summary)}; {duration(ran)} in this run</p>
<p class="dim">{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} · msgan {msgan.__version__},
source {source_hash()[:12]} · Python {platform.python_version()} · {os.cpu_count()} CPUs,
{memory:.0f} GiB memory</p>
</header>
<main>
{"".join(_article(out, folder, run) for run in runs)}</main>
<footer>Memory is the sampled peak of the notebook's kernel and its worker processes on the host;
memory on a GPU is not part of it. Times are those of the execution, also where it was earlier.
</footer>
</body>
</html>
"""
    write_text(out / "index.html", page)


def _article(out: Path, folder: Path, run: Run) -> str:
    places = (out / f"{run.stem}.ipynb", folder / f"{run.stem}.ipynb")
    notebook = load_notebook(places[0]) or load_notebook(places[1])
    html = f"{run.stem}.html"
    title = escape(title_of(notebook) or run.stem)
    picture = _thumbnail(notebook)
    thumb = f'<img alt="first figure of {title}" src="{picture}">' if picture else "no figure"
    links = [f"notebooks/{run.stem}.ipynb"]
    if (out / html).is_file():
        title = f'<a href="{html}">{title}</a>'
        thumb = f'<a href="{html}">{thumb}</a>' if picture else thumb
        links = [f'<a href="{run.stem}.ipynb">{run.stem}.ipynb</a>']
    if (out / run.stem).is_dir():
        links.append(f'<a href="{run.stem}/">results</a>')
    facts = [f'<span class="status">{run.status}</span>']
    if run.finished:
        ended = datetime.fromisoformat(run.finished)
        facts += [duration(run.seconds), memory_text(run.peak_bytes), f"{ended:%Y-%m-%d %H:%M}"]
    error = f"<pre>{escape(run.error)}</pre>" if run.error else ""
    try:
        figures = _figures(read_results(out / run.stem))
    except InputError as problem:
        figures = f"<pre>{escape(str(problem))}</pre>"
    return f"""<article class="{run.status.replace(" ", "-")}">
<div class="thumb">{thumb}</div>
<div>
<h2>{title}</h2>
<p class="facts">{" · ".join(facts)}</p>
<p class="facts dim">{" · ".join(links)}</p>
{error}{figures}</div>
</article>
"""


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


def _figures(figures: dict[str, Figure]) -> str:
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value_text(value))}</dd></div>"
        for name, value in figures.items()
    )
    return f"<dl>{cells}</dl>" if cells else ""


def value_text(value: Figure) -> str:
    """A key figure as it is shown."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """As ``12.3 s``, ``34 min`` or ``2 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def memory_text(size: int) -> str:
    """Bytes as MiB or GiB."""
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.2f} GiB"
