"""Runs all notebooks of a folder, each only if something it depends on changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatch
from math import inf
from pathlib import Path
from typing import Any

from msgan.leftovers import PARTIAL, sweep
from msgan.lock import alone
from msgan.paths import write_text
from msgan.printing import duration
from msgan.report import run_cache
from msgan.report.around import connect
from msgan.report.check import page_faults
from msgan.report.execute import declared, execute
from msgan.report.forecast import Forecast
from msgan.report.html import to_html
from msgan.report.page import load_notebook, title_of, write_index
from msgan.report.results import forget_results
from msgan.report.run_cache import Run
from msgan.report.side_by_side import THREADS, Processes, Task, side_by_side
from msgan.types import InputError

LAST = "last"
"""Tag of a parameter cell: the notebook looks at what the others leave, and waits for them."""


def run_notebooks(
    folder: Path,
    out: Path,
    preset: str,
    *,
    only: str = "*",
    data_root: Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> list[Run]:
    """Execute the notebooks of ``folder`` and render each, and an index, as pages in ``out``.

    A notebook fails where a cell raises, and where its page would not do: a warning, a figure
    that is missing, empty or not described, something to be loaded from elsewhere.

    A notebook gets those of ``preset``, ``data_root``, ``seed`` and ``device`` that its parameter
    cell assigns and that are not None. One that passed before with the same cells, parameters,
    data root, package source and environment is not run again. A failing one does not stop the
    others. At any moment ``out`` holds complete pages only.

    Args:
        folder: Holds the notebooks; those named ``[0-9]*.ipynb`` are run, sorted by name.
        out: Gets ``index.html`` and, a notebook, the executed ``.ipynb``, ``.html`` and a stamp.
        preset: Name of the preset.
        only: Pattern that the names (without suffix) of the notebooks to run match.
        data_root: Folder with the data; counts by the names, sizes and times of its files.
        seed: Seed; None leaves each notebook's own.
        device: Torch device; None leaves each notebook's own.
        jobs: Notebooks at a time. With more than one, each has its own process and as many threads
            as there are cores for it, and those that took longest, or are not known, begin.
        say: Called with each line of progress: one when a notebook begins and one when it is done,
            with the time that all that are left will take, where that can be told.

    Returns:
        What became of each notebook that ``only`` selects, in order.

    Raises:
        InputError: There is nothing to run, no such data root, ``jobs`` is below 1, or another run
            writes to ``out``.
    """
    folder, out = Path(folder).resolve(), Path(out).resolve()
    paths = {path.stem: path for path in sorted(folder.glob("[0-9]*.ipynb"))}
    selected = [stem for stem in paths if fnmatch(stem, only)]
    if not selected:
        raise InputError(f"{folder}: no notebook is named [0-9]*.ipynb and matches {only!r}")
    if jobs < 1:
        raise InputError(f"{jobs} notebooks at a time: expected at least 1")
    if data_root is not None:
        data_root = Path(data_root).resolve()
        if not data_root.is_dir():
            raise InputError(f"{data_root}: the data root must be an existing folder")

    given = {"preset": preset, "data_root": data_root, "seed": seed, "device": device}
    values: dict[str, object] = {
        k: str(v) if isinstance(v, Path) else v for k, v in given.items() if v is not None
    }
    surroundings = (run_cache.environment_hash(), run_cache.data_hash(data_root))

    def inputs(stem: str) -> tuple[dict[str, object], str]:
        notebook = _read(paths[stem])
        known = declared(notebook)
        parameters = {k: v for k, v in values.items() if k in known}
        key = run_cache.run_key(notebook, parameters, run_cache.source_hash(), *surroundings)
        return parameters, key

    titles = {stem: title_of(load_notebook(path)) or stem for stem, path in paths.items()}
    with _alone(out):
        runs = {stem: run_cache.recall(out, stem, inputs(stem)[1]) for stem in paths}
        forecast = Forecast(selected, {stem: runs[stem].seconds for stem in selected}, jobs)
        for stem in selected:
            if runs[stem].status == "unchanged":
                forecast.done(stem)

        def publish() -> None:
            write_index(out, folder, preset, list(runs.values()))
            connect(out, titles, [run.stem for run in runs.values() if run.status == "running"])

        def begin(stem: str) -> Task | None:
            parameters, key = inputs(stem)
            runs[stem] = run_cache.recall(out, stem, key)
            if runs[stem].status == "unchanged":
                done(runs[stem])
                return None
            run_cache.forget(out, stem)
            runs[stem] = Run(stem, "running", key)
            publish()
            forecast.begin(stem)
            left = forecast.left()
            told = forecast.count + ("" if left is None else f", about {duration(left)} left")
            say(f"{'running':9} {'':23}  {stem}  ({told})")
            return Task(folder, out, parameters, runs[stem])

        def done(run: Run) -> None:
            runs[run.stem] = run
            publish()
            forecast.done(run.stem, None if run.status == "unchanged" else run.seconds)
            say(_line(run))

        last = [stem for stem in selected if _is_last(_read(paths[stem]))]
        first = [stem for stem in selected if stem not in last]
        if jobs == 1:
            for stem in (*first, *last):
                if (task := begin(stem)) is not None:
                    run = run_one(task)
                    run_cache.remember(out, run)
                    done(run)
        else:
            taken = {stem: run_cache.last(out, stem).seconds or inf for stem in first}
            longest = sorted(first, key=lambda stem: (taken[stem], stem), reverse=True)
            processes = Processes(jobs)
            say(f"{jobs} notebooks at a time, threads of each: {processes.threads}")
            for stems in (longest, last):
                side_by_side(stems, begin, processes.execute, done, jobs, processes.stop)
    return [runs[stem] for stem in selected]


def _read(path: Path) -> Any:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises several kinds, some with many lines
        raise InputError(f"{path}: not a readable notebook ({type(error).__name__})") from error


def _is_last(notebook: Any) -> bool:
    return any(LAST in cell.metadata.get("tags", []) for cell in notebook.cells)


def run_one(task: Task) -> Run:
    """Execute a notebook, write its page, and say what became of it."""
    import nbformat

    from msgan.runs.run import git_commit

    stem, out = task.run.stem, task.out
    notebook = _read(task.folder / f"{stem}.ipynb")
    # Only the key figures: the folder may also hold stages that the notebook resumes.
    forget_results(out / stem)
    commit = git_commit() or ""
    start = time.monotonic()
    executed, error, peak = execute(notebook, task.folder, out, task.parameters)
    seconds = time.monotonic() - start
    page = to_html(executed, task.folder, stem)
    write_text(out / f"{stem}.html", page)
    write_text(out / f"{stem}.ipynb", nbformat.writes(executed))
    finished = datetime.now().astimezone().isoformat(timespec="seconds")
    error = error or "; ".join(page_faults(executed, page))
    status = "failed" if error else "passed"
    threads, left = os.environ.get(THREADS, ""), run_cache.results_of(out, stem)
    return Run(stem, status, task.run.key, seconds, peak, error, finished, commit, threads, left)


def _line(run: Run) -> str:
    figures = f"{run.seconds:8.1f} s {run.peak_bytes / 2**20:8.0f} MiB"
    return f"{run.status:9} {figures}  {run.stem}" + (f"  {run.error}" if run.failed else "")


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold ``out`` for this process, and clear what a killed one left half-written."""
    with alone(out / ".lock", f"{out}: another run is writing here, started"):
        sweep(out, PARTIAL)
        yield
