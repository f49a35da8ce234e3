"""Finds everything below a folder: trained runs, translations, tables, plain images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgan.data.store import suffix_of
from msgan.documents import json_of
from msgan.report.fault import Fault, tried
from msgan.report.images import Images, images_in
from msgan.runs.run import CARD, Run
from msgan.training.log import LOG
from msgan.translate.provenance import PROVENANCE, Provenance
from msgan.types import InputError

SCALE = re.compile(r"y(\d+)\.(nii|nii\.gz|mha|nrrd|zarr)")
TABLES = ("scores.csv", "tests.csv", "results.json")
HIDDEN = {"cache", "tb", "node_modules", "__pycache__"}
"""Folders that hold nothing to look at."""


@dataclass(frozen=True)
class Trained:
    """A trained run, or one in training.

    Attributes:
        name: Its folder, relative to that of the catalog.
        run: As it was opened.
        logs: Curves by scale, of the scales whose training has begun.
        finished: Whether all scales are trained.
    """

    name: str
    run: Run
    logs: dict[int, Path]
    finished: bool


@dataclass(frozen=True)
class Translated:
    """A translated image and what it was made of.

    Attributes:
        study: What made it: a notebook's folder, relative to that of the catalog.
        task: As ``t1→t2``.
        provenance: Files, ranges and tiles.
        scales: y0..yn where they were kept, else empty.
    """

    study: str
    task: str
    provenance: Provenance
    scales: tuple[Path, ...] = ()

    @property
    def method(self) -> str:
        """Name of the row of a table."""
        return self.provenance.method

    @property
    def subject(self) -> str:
        """Whose image it is."""
        return self.provenance.subject


@dataclass(frozen=True)
class Catalog:
    """What there is below a folder; see :func:`catalog`.

    Attributes:
        folder: Where it was looked for.
        runs: Trained, or in training.
        translated: Results, each with its provenance.
        kept: Folders of scales that have no provenance, by name.
        tables: Scores, tests and key figures that notebooks left.
        pages: Executed notebooks as pages.
        images: Other images, by folder.
        faults: What cannot be shown.
    """

    folder: Path
    runs: tuple[Trained, ...] = ()
    translated: tuple[Translated, ...] = ()
    kept: tuple[Images, ...] = ()
    tables: tuple[Path, ...] = ()
    pages: tuple[Path, ...] = ()
    images: tuple[Images, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to look at."""
        return not (self.runs or self.translated or self.kept or self.images)

    def scores(self, study: str) -> Path | None:
        """The table of scores of a study, if it left one."""
        path = self.folder / study / TABLES[0]
        return path if path in self.tables else None


def catalog(folder: str | os.PathLike[str]) -> Catalog:
    """Find what there is to look at below a folder.

    Only names, small JSON files and run cards are read, no image. What is damaged is listed
    among the faults and does not hide the rest.

    Raises:
        InputError: There is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    faults: list[Fault] = []
    runs, kept, tables, pages, images = [], [], [], [], []
    found: dict[tuple[str, ...], Translated] = {}
    for here, folders, names in _walk(root, faults):
        name = here.relative_to(root).as_posix()
        if CARD in names:
            folders.clear()
            if made := tried(partial(_trained, name, here), here, faults):
                runs.append(made)
            continue
        tables += [here / t for t in TABLES if t in names]
        pages += [here / n for n in names if n.endswith(".html") and f"{n[:-5]}.ipynb" in names]
        files = images_in(here, folders, names)
        scales = _scales(files)
        for path in _traces(here, names, files):
            provenance = tried(partial(_provenance, path), path, faults)
            if provenance is None:
                continue
            files = [file for file in files if file != provenance.result]
            faults += _missing(provenance)
            if not provenance.result.exists():
                continue
            own = scales if path.name == PROVENANCE else ()
            study = _study(root, here)
            task = f"{provenance.source or 'image'}→{provenance.target}"
            key = (study, task, provenance.method, provenance.subject)
            if key not in found or own:
                old = found.get(key)  # the trace of the table knows where its voxels count
                found[key] = Translated(study, task, old.provenance if old else provenance, own)
            elif found[key].scales:
                found[key] = Translated(study, task, provenance, found[key].scales)
        if scales and PROVENANCE not in names:
            kept.append(Images(name, scales))
        if plain := [file for file in files if file not in scales]:
            images.append(Images(name, tuple(plain)))
    return Catalog(
        root,
        tuple(runs),
        tuple(found.values()),
        tuple(kept),
        tuple(tables),
        tuple(pages),
        tuple(images),
        tuple(faults),
    )


def _walk(root: Path, faults: list[Fault]) -> Iterator[tuple[Path, list[str], list[str]]]:
    def refused(error: OSError) -> None:
        faults.append(Fault(Path(error.filename), error.strerror or "cannot be read"))

    for here, folders, names in os.walk(root, onerror=refused):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in HIDDEN)
        yield Path(here), folders, sorted(n for n in names if not n.startswith("."))


def _trained(name: str, folder: Path) -> Trained:
    run = Run.open(folder)
    logs = {i: run.folder_of(i) / LOG for i in run.used if (run.folder_of(i) / LOG).is_file()}
    return Trained(name, run, logs, all(run.finished(i) for i in run.used))


def _scales(files: Sequence[Path]) -> tuple[Path, ...]:
    """y0..yn among the files of a folder, in order."""
    numbers = {int(m[1]): f for f in files if (m := SCALE.fullmatch(f.name))}
    return tuple(numbers[i] for i in sorted(numbers))


def _traces(here: Path, names: Sequence[str], files: Sequence[Path]) -> list[Path]:
    """JSON files that may be traces: in a folder of scales, or beside an image."""
    stems = {f.name[: len(f.name) - len(suffix_of(f))] for f in files}
    return [here / n for n in names if n == PROVENANCE or (n.endswith(".json") and n[:-5] in stems)]


def _provenance(path: Path) -> Provenance | None:
    """Provenance; None for a JSON file of somebody else's, as BIDS has beside its images."""
    try:
        content = json_of(path)
    except FileNotFoundError:  # a link to nowhere
        return None
    ours = isinstance(content, dict) and {"method", "result", "tiles"} <= set(content)
    return Provenance.load(path) if ours or path.name == PROVENANCE else None


def _missing(provenance: Provenance) -> Iterator[Fault]:
    """Files of a translation that are not there any more."""
    for name, what in (
        ("result", "the translation"),
        ("image", f"the image that was translated to {provenance.result}"),
        ("real", f"the real image to {provenance.result}"),
    ):
        path = getattr(provenance, name)
        if path is not None and not path.exists():
            yield Fault(path, f"{what} is not there any more")


def _study(root: Path, here: Path) -> str:
    """Folder of the notebook or command that left results in ``here``."""
    parts = here.relative_to(root).parts
    if "translated" in parts:
        parts = parts[: parts.index("translated")]
    elif parts and parts[-1] == "scales":
        parts = parts[:-1]
    return "/".join(parts) or "."
