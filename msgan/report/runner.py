"""Runs all notebooks of a folder in order, each only if something it depends on changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from msgan.leftovers import PARTIAL, sweep
from msgan.lock import alone
from msgan.paths import write_text
from msgan.report import run_cache
from msgan.report.check import page_faults
from msgan.report.execute import declared, execute
from msgan.report.html import to_html
from msgan.report.page import write_index
from msgan.report.results import forget_results
from msgan.report.run_cache import Run
from msgan.types import InputError


def run_notebooks(
    folder: Path,
    out: Path,
    preset: str,
    *,
    only: str = "*",
    data_root: Path | None = None,
    seed: int | None = None,
    device: str | None = None,
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
        say: Called with each line of progress.

    Returns:
        What became of each notebook that ``only`` selects, in order.

    Raises:
        InputError: There is nothing to run, no such data root, or another run writes to ``out``.
    """
    folder, out = Path(folder).resolve(), Path(out).resolve()
    paths = {path.stem: path for path in sorted(folder.glob("[0-9]*.ipynb"))}
    selected = [stem for stem in paths if fnmatch(stem, only)]
    if not selected:
        raise InputError(f"{folder}: no notebook is named [0-9]*.ipynb and matches {only!r}")
    if data_root is not None:
        data_root = Path(data_root).resolve()
        if not data_root.is_dir():
            raise InputError(f"{data_root}: the data root must be an existing folder")

    given = {"preset": preset, "data_root": data_root, "seed": seed, "device": device}
    values: dict[str, object] = {
        k: str(v) if isinstance(v, Path) else v for k, v in given.items() if v is not None
    }
    surroundings = (run_cache.environment_hash(), run_cache.data_hash(data_root))

    def inputs(stem: str) -> tuple[Any, dict[str, object], str]:
        notebook = _read(paths[stem])
        known = declared(notebook)
        parameters = {k: v for k, v in values.items() if k in known}
        key = run_cache.run_key(notebook, parameters, run_cache.source_hash(), *surroundings)
        return notebook, parameters, key

    with _alone(out):
        runs = {stem: run_cache.recall(out, stem, inputs(stem)[2]) for stem in paths}

        def publish() -> None:
            write_index(out, folder, preset, list(runs.values()))

        for stem in selected:
            notebook, parameters, key = inputs(stem)
            runs[stem] = run_cache.recall(out, stem, key)
            if runs[stem].status != "unchanged":
                run_cache.forget(out, stem)
                runs[stem] = Run(stem, "running", key)
                publish()
                runs[stem] = _run(notebook, folder, out, parameters, runs[stem])
                run_cache.remember(out, runs[stem])
            publish()
            say(_line(runs[stem]))
    return [runs[stem] for stem in selected]


def _read(path: Path) -> Any:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises several kinds, some with many lines
        raise InputError(f"{path}: not a readable notebook ({type(error).__name__})") from error


def _run(notebook: Any, folder: Path, out: Path, parameters: dict[str, object], run: Run) -> Run:
    import nbformat

    from msgan.runs.run import git_commit

    # Only the key figures: the folder may also hold stages that the notebook resumes.
    forget_results(out / run.stem)
    commit = git_commit() or ""
    start = time.monotonic()
    executed, error, peak = execute(notebook, folder, out, parameters)
    seconds = time.monotonic() - start
    page = to_html(executed, folder, run.stem)
    write_text(out / f"{run.stem}.html", page)
    write_text(out / f"{run.stem}.ipynb", nbformat.writes(executed))
    finished = datetime.now().astimezone().isoformat(timespec="seconds")
    error = error or "; ".join(page_faults(executed, page))
    status = "failed" if error else "passed"
    return Run(run.stem, status, run.key, seconds, peak, error, finished, commit)


def _line(run: Run) -> str:
    figures = f"{run.seconds:8.1f} s {run.peak_bytes / 2**20:8.0f} MiB"
    return f"{run.status:9} {figures}  {run.stem}" + (f"  {run.error}" if run.failed else "")


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold ``out`` for this process, and clear what a killed one left half-written."""
    with alone(out / ".lock", f"{out}: another run is writing here, started"):
        sweep(out, PARTIAL)
        yield
