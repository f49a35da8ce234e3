"""Records of a notebook's last run, found by a hash of everything it depends on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgan
from msgan.paths import write_text


@dataclass(frozen=True)
class Run:
    """One notebook's row of the index page.

    Attributes:
        stem: File name of the notebook without its suffix.
        status: ``passed`` or ``failed`` just now; ``unchanged`` (passed earlier from the same
            inputs); ``outdated`` (ran earlier from other inputs, or a result is gone);
            ``running``; ``not run``.
        key: Hash of everything the run depended on.
        seconds: Duration of the execution.
        peak_bytes: Largest memory of the kernel and its children together.
        error: One line that says what failed; empty otherwise.
        finished: Local time of the end, ISO 8601.
        git: The commit of the code, marked where files were changed; empty outside a checkout.
        threads: That ``OMP_NUM_THREADS`` allowed; empty where it was not set.
        results: Names of the files it has left in its folder: without one of them it has not run.
    """

    stem: str
    status: str
    key: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    error: str = ""
    finished: str = ""
    git: str = ""
    threads: str = ""
    results: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", tuple(self.results))  # JSON has lists

    @property
    def failed(self) -> bool:
        """Whether it failed, now or when last run."""
        return self.status == "failed"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def source_hash() -> str:
    """Hash of the package's own files, by content."""
    root = Path(msgan.__file__).parent
    files = sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def environment_hash() -> str:
    """Hash of the interpreter's version and of every installed distribution's version."""
    # Each access to `metadata` reads the file anew.
    found = [d.metadata for d in importlib.metadata.distributions()]
    installed = {
        f"{about['Name'].lower()}=={about['Version']}"
        for about in found
        if about["Name"].lower() != "msgan"  # covered, more finely, by `source_hash`
    }
    return _digest([sys.version, *sorted(installed)])


def data_hash(root: Path | None) -> str:
    """Hash of the names, sizes and times of all files under ``root``.

    Contents are not read: a data root may hold terabytes.
    """
    if root is None:
        return ""
    lines = []
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            state = path.lstat()
            lines.append(f"{path.relative_to(root)} {state.st_size} {state.st_mtime_ns}")
    return _digest([str(root), *lines])


def run_key(notebook: Any, parameters: Mapping[str, object], *hashes: str) -> str:
    """Address of one run.

    Only the cells' text and tags count, so that outputs left by JupyterLab do not.

    Args:
        notebook: A notebook as read by nbformat.
        parameters: The values its parameter cell is overridden with.
        hashes: Hashes of whatever else the run depends on.
    """
    cells = [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in notebook.cells]
    return _digest([json.dumps([cells, dict(parameters)], sort_keys=True), *hashes])


def results_of(out: Path, stem: str) -> tuple[str, ...]:
    """Names of the files in the folder of a notebook's results."""
    folder = out / stem
    there = folder.iterdir() if folder.is_dir() else ()
    return tuple(sorted(p.name for p in there if p.is_file() and not p.name.startswith(".")))


def _stamp(out: Path, stem: str) -> Path:
    return out / f"{stem}.stamp.json"


def remember(out: Path, run: Run) -> None:
    """Keep ``run`` beside its outputs."""
    write_text(_stamp(out, run.stem), json.dumps(asdict(run), indent=1) + "\n")


def forget(out: Path, stem: str) -> None:
    """Drop what is known, so that a run that is killed half-way counts as no run."""
    _stamp(out, stem).unlink(missing_ok=True)


def last(out: Path, stem: str) -> Run:
    """The last run of ``stem``, whatever has changed since."""
    pages = [out / f"{stem}{suffix}" for suffix in (".ipynb", ".html")]
    try:
        run = Run(**json.loads(_stamp(out, stem).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Run(stem, "not run")
    return run if all(page.is_file() for page in pages) else Run(stem, "not run")


def recall(out: Path, stem: str, key: str) -> Run:
    """The last run of ``stem``, seen from the inputs of today (``key``) and the results there."""
    run = last(out, stem)
    gone = not all((out / stem / name).is_file() for name in run.results)
    if run.key and (run.key != key or gone):
        return Run(**{**asdict(run), "status": "outdated"})
    return Run(**{**asdict(run), "status": "unchanged"}) if run.status == "passed" else run
