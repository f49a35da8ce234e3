"""What of a catalog can be looked at, grouped and named as a person would name it."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from msgan.presets import PRESETS
from msgan.report.catalog import Catalog, Trained, Translated
from msgan.runs.run import Run

STUDIES, MINE, TRAININGS, SCALES, IMAGES, EMPTY = GROUPS = (
    "studies",
    "my translations",
    "trainings",
    "scales kept",
    "images",
    "failed or empty trainings",
)
"""Groups of entries, in the order in which they are offered."""

KEY = re.compile(r"(^|[-_])[0-9a-f]{12,}$")
"""The end of a folder's name that is a hash: nobody knows a training by it."""

DIFFERENCES = 3
"""Settings that are named to tell two trainings apart."""


@dataclass(frozen=True)
class Entry:
    """One thing to look at.

    Attributes:
        group: One of :data:`GROUPS`.
        name: What tells it from all others of its group.
        detail: What else is worth knowing before it is chosen; ends in the date.
        path: Its folder.
        place: The folder as the catalog names it, by which what is in it is found.
    """

    group: str
    name: str
    detail: str
    path: Path
    place: str

    @property
    def key(self) -> str:
        """What it is chosen by."""
        return f"{self.group}: {self.name}"


def entries(found: Catalog) -> list[Entry]:
    """All of a catalog, group by group; newest first where a date says more than a name."""
    root = Path(os.path.realpath(found.folder))
    made = [
        *_studies(found, root),
        *_trainings(found.runs, root),
        *(_of_files(SCALES, kept.name, kept.paths, root) for kept in found.kept),
        *(_of_files(IMAGES, images.name, images.paths, root) for images in found.images),
    ]
    return _numbered(sorted(made, key=lambda one: GROUPS.index(one.group)))


def learnt(run: Run) -> str:
    """What a run has learnt from what, as in ``T2 from edges``."""
    config = run.config
    if config.cycle is not None:
        source = f"{config.cycle.source.upper()} without pairs"
    elif config.paired is not None:
        source = f"{config.paired.upper()} in pairs"
    else:
        channels = [c.replace("_", "-") for c in config.sketch.channels]
        source = " and ".join(channels) + (", guided" if config.guidance.on else "")
    return f"{run.target.upper()} from {source}"


def preset_of(path: Path) -> str:
    """The preset whose folder a result lies in; empty for none."""
    return next((part for part in reversed(path.parts) if part in PRESETS), "")


def date_of(paths: Iterable[Path]) -> str:
    """When the newest of some files was written, as 2026-11-29; empty if none is there."""
    times = [path.stat().st_mtime for path in paths if path.exists()]
    return datetime.fromtimestamp(max(times)).date().isoformat() if times else ""


def _studies(found: Catalog, root: Path) -> Iterable[Entry]:
    """Folders with translations: of a notebook, which left tables, or of a person's own."""
    tables = {table.parent for table in found.tables}
    by_study: dict[str, list[Translated]] = defaultdict(list)
    for one in found.translated:
        by_study[one.study].append(one)
    for study, own in by_study.items():
        tasks = list(dict.fromkeys(shown_task(one.task) for one in own))
        subjects, methods = {one.subject for one in own}, {one.method for one in own}
        group = STUDIES if found.folder / study in tables else MINE
        count = [counted(len(subjects), "subject")]
        count += [counted(len(methods), "method")] if group == STUDIES else []
        date = date_of(one.provenance.result for one in own)
        path = root / study
        name = place_name(study, root)
        parts = Path(study).parts
        numbered = [i for i, part in enumerate(parts) if re.match(r"\d\d_", part)]
        if group == STUDIES and numbered:
            words = [part.replace("_", " ") for part in parts[numbered[-1] :]]
            name = ", ".join(filter(None, [*words, preset_of(path)]))
        yield Entry(group, name, _joined(*tasks, *count, date), path, study)


def _trainings(runs: Sequence[Trained], root: Path) -> Iterable[Entry]:
    """Trained runs, the newest first; those with nothing learnt yet in a group of their own."""
    made: list[tuple[Entry, Run, str]] = []
    for one in runs:
        run, path = one.run, root / one.name
        files = [run.folder / "run.json", *one.logs.values()]
        date = date_of(files)
        known = "" if KEY.search(path.name) else place_name(one.name, root)
        state = "" if one.finished else "not finished"
        group = TRAININGS if any(_rows(log) for log in one.logs.values()) else EMPTY
        name = ", ".join(filter(None, [learnt(run), preset_of(path), known, date]))
        kind = f"{run.config.network.family}, {run.config.dims}D"
        detail = _joined(kind, counted(len(run.data), "subject"), state)
        made.append((Entry(group, name, detail, path, one.name), run, date))
    made.sort(key=lambda each: each[2], reverse=True)
    alike: dict[str, list[Run]] = defaultdict(list)
    for entry, run, _ in made:
        alike[entry.key].append(run)
    for entry, run, _ in made:
        others = [other for other in alike[entry.key] if other is not run]
        words = _telling(run, others)
        yield replace(entry, name=f"{entry.name} ({words})") if words else entry


def _of_files(group: str, name: str, paths: Sequence[Path], root: Path) -> Entry:
    count = counted(len(paths), "image" if group == IMAGES else "scale")
    return Entry(group, place_name(name, root), _joined(count, date_of(paths)), root / name, name)


def place_name(name: str, root: Path) -> str:
    """A folder below the root; the root itself by its path."""
    return str(root) if name == "." else name


def shown_task(task: str) -> str:
    """A task as people write it: ``T1→T2``; of an image without a modality the target alone."""
    source, _, target = task.partition("→")
    return f"to {target.upper()}" if source == "image" else task.upper()


def counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _joined(*words: str) -> str:
    return " · ".join(filter(None, words))


def _rows(log: Path) -> bool:
    return log.stat().st_size > 0


def _telling(run: Run, others: Sequence[Run]) -> str:
    """The settings in which a run differs from others of its name, and their values."""
    own = dict(_settings(run.config.model_dump(mode="json")))
    differing = []
    for other in others:
        theirs = dict(_settings(other.config.model_dump(mode="json")))
        differing += [n for n in own if n not in differing and own[n] != theirs.get(n)]
    words = [f"{n.rpartition('.')[2].replace('_', ' ')} {own[n]}" for n in differing]
    if not words and any(dict(run.data) != dict(other.data) for other in others):
        words = [counted(len(run.data), "subject")]
    return ", ".join(words[:DIFFERENCES])


def _settings(part: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{prefix}{name}", "none" if shown in (None, "") else shown


def _numbered(made: Sequence[Entry]) -> list[Entry]:
    """Each with a name that no other of its group has."""
    count: dict[str, int] = defaultdict(int)
    out = []
    for one in made:
        count[one.key] += 1
        number = count[one.key]
        out.append(replace(one, name=f"{one.name}, no. {number}") if number > 1 else one)
    return out
