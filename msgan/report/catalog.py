"""Finds everything below a folder: trained runs, translations, tables, plain images."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from msgan.report.fault import Fault, tried
from msgan.report.images import Images, images_in
from msgan.runs.run import CARD, Run
from msgan.training.log import LOG
from msgan.translate.provenance import Provenance, sidecar, stem_of, trace_of
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
        name: What it is chosen by, beside study, task and method: the subject, and the result
            where several are of one subject.
    """

    study: str
    task: str
    provenance: Provenance
    scales: tuple[Path, ...] = ()
    name: str = ""

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
        translated: Results, each with what its sidecar says.
        kept: Folders of scales that no sidecar names, by name.
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

    Only names, small JSON files, run cards and headers of results are read, no voxel. What is
    damaged is listed among the faults and does not hide the rest.

    Raises:
        InputError: There is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    faults: list[Fault] = []
    runs, tables, pages, images = [], [], [], []
    kept: dict[Path, tuple[Path, ...]] = {}
    found: list[Translated] = []
    spreads: set[Path] = set()
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
        for path in _sidecars(here, names, files):
            trace = tried(partial(sidecar, path), path, faults)
            if trace is None:
                continue
            faults += _missing(trace)
            if not trace.result.exists():
                continue
            files = [file for file in files if file != here / trace.result.name]
            if tried(partial(_own, trace), path, faults) is None:
                continue
            task = f"{trace.source or 'image'}→{trace.target}"
            found.append(Translated(_study(root, here), task, trace))
            spreads |= {_real(trace.uncertainty)} if trace.uncertainty else set()
        if scales:
            kept[_real(here)] = scales
        if plain := [file for file in files if file not in scales]:
            images.append(Images(name, tuple(plain)))
    named = {_real(one.provenance.scales) for one in found if one.provenance.scales}
    alone = [Images(_name(root, here), own) for here, own in kept.items() if here not in named]
    return Catalog(
        root,
        tuple(runs),
        tuple(_distinct(root, list(_merged(found, kept)))),
        tuple(alone),
        tuple(tables),
        tuple(pages),
        tuple(_without(images, spreads)),
        tuple(faults),
    )


def _without(images: Sequence[Images], spreads: Collection[Path]) -> Iterator[Images]:
    """The images that are no spread of a translation."""
    for one in images:
        left = tuple(p for p in one.paths if not spreads or _real(p) not in spreads)
        if left:
            yield Images(one.name, left)


def _merged(
    found: Sequence[Translated], kept: Mapping[Path, tuple[Path, ...]]
) -> Iterator[Translated]:
    """Each translation with its scales.

    A notebook translates a subject of its table again to keep the scales: both are one, with the
    sidecar of the table, which knows where voxels count.
    """
    own = [kept.get(_real(one.provenance.scales or one.provenance.result), ()) for one in found]
    tables = {_key(one) for one in found if one.provenance.regions}
    scales = {_key(one): paths for one, paths in zip(found, own, strict=True) if paths}
    for one, paths in zip(found, own, strict=True):
        if one.provenance.regions:
            yield replace(one, scales=paths or scales.get(_key(one), ()))
        elif not (paths and _key(one) in tables):
            yield replace(one, scales=paths)


def _distinct(root: Path, found: Sequence[Translated]) -> Iterator[Translated]:
    """Each with a name that no other of its study, task and method has."""
    count = Counter(map(_key, found))
    for one in found:
        place = Path(os.path.relpath(one.provenance.result, root)).as_posix()
        yield replace(one, name=f"{one.subject} ({place})" if count[_key(one)] > 1 else one.subject)


def _key(one: Translated) -> tuple[str, ...]:
    return one.study, one.task, one.method, one.subject


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


def _sidecars(here: Path, names: Sequence[str], files: Sequence[Path]) -> list[Path]:
    """JSON files beside an image, as BIDS has them as well."""
    stems = {stem_of(f) for f in files}
    return [here / n for n in names if n.endswith(".json") and n[:-5] in stems]


def _own(trace: Provenance) -> Provenance:
    """The sidecar, where it is that of its image.

    Raises:
        InputError: The image is of another translation.
    """
    try:
        found = trace_of(trace.result)
    except (InputError, OSError):  # of the image, which says so where it is shown
        return trace
    if found is None:
        raise InputError(
            f"is of another translation than {trace.result.name} beside it: translate it again"
        )
    return trace


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _name(root: Path, here: Path) -> str:
    return Path(os.path.relpath(here, _real(root))).as_posix()


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
