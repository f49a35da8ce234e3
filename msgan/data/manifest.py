"""The manifest of a data set: a CSV with one row for each file, never the data."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from msgan.data import table
from msgan.data.entry import COLUMNS, WILDCARDS, Entry
from msgan.data.findings import Finding, Report
from msgan.data.grid import Grid
from msgan.data.hounsfield import Air, doubt
from msgan.data.padding import Padding
from msgan.data.subject import person_of
from msgan.documents import requirement, shown
from msgan.paths import sha256, write_text
from msgan.types import InputError

SAME_MM = 1e-3
"""Affines of one subject's files may differ by this much in an entry: headers are rounded."""


class Manifest(BaseModel):
    """The rows of one data set.

    Attributes:
        name: For messages: the file's name.
        rows: Unique in subject, role and modality.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: tuple[Entry, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names (and patterns of names) in the order of the rows."""
        return tuple(dict.fromkeys(row.subject for row in self.rows))

    def expand(self, root: str | os.PathLike[str]) -> Manifest:
        """Replace patterns by one row for each subject found below ``root``.

        A row that names its subject keeps its place whether or not the file exists.

        Raises:
            InputError: The root is no folder, a path fits several files of one subject, or two
                rows give the same subject, role and modality.
        """
        if not Path(root).is_dir():
            raise InputError(f"{root}: no such folder (the root of {self.name})")
        rows, faults = self._expanded(root)
        if faults:
            raise InputError(f"{self.name}: {faults[0]}")
        return Manifest(name=self.name, rows=rows)

    def _expanded(self, root: str | os.PathLike[str]) -> tuple[tuple[Entry, ...], list[str]]:
        """The rows without patterns, and what is at fault with them as a whole."""
        rows: dict[tuple[str, str, str], Entry] = {}
        faults = []
        for row in self.rows:
            found = row.matches(root) if any(c in row.path + row.subject for c in WILDCARDS) else []
            if not found and not row.is_pattern:
                found = [(row.subject, row.path.replace("{subject}", row.subject))]
            for subject, path in found:
                new = row.model_copy(update={"subject": subject, "path": path})
                if new.key in rows:
                    faults.append(
                        f"{rows[new.key].path} and {path} are both the "
                        f"{' '.join(filter(None, new.key[1:]))} of subject {subject}"
                    )
                    continue
                rows[new.key] = new
        return tuple(rows.values()), [*faults, *_two_splits(rows.values())]


def _two_splits(rows: Iterable[Entry]) -> Iterator[str]:
    """People in two splits or folds: by session, also where names differ in case only."""
    first: dict[str, Entry] = {}
    told: set[str] = set()
    for row in rows:
        other = first.setdefault(person_of(row.subject).casefold(), row)
        if (row.split, row.fold) == (other.split, other.fold) or row.subject in told:
            continue
        told.add(row.subject)
        if row.subject == other.subject:
            yield f"rows of {row.subject} differ in split or fold"
        elif row.subject.casefold() != other.subject.casefold():
            yield (
                f"{other.subject} and {row.subject} are sessions of one person and differ in "
                "split or fold: expected one split for one person"
            )
        else:
            yield (
                f"{other.subject} and {row.subject} differ in case only, and in split or fold: "
                "expected one split for one person"
            )


def read_manifest(
    path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None
) -> Manifest:
    """Read a CSV with the columns of :class:`Entry`.

    As spreadsheets write it: UTF-8 or UTF-16 with a mark, separated by commas, semicolons or
    tabs; rows and columns that are empty do not count.

    Args:
        path: The CSV.
        root: Where given, patterns are expanded by what lies below it (:meth:`Manifest.expand`).

    Raises:
        InputError: Names file, line, column, value and rule of the first fault.
    """
    path = Path(path)
    lines = table.lines_of(path)
    first, header = next(lines, (1, []))
    header = table.columns_of(path, first, header)
    rows: list[Entry] = []
    seen: dict[tuple[str, str, str], int] = {}
    for line, cells in lines:
        where = f"{path}:{line}"
        try:
            row = Entry.model_validate(table.values_of(where, header, cells))
        except ValidationError as error:
            raise InputError(f"{where}: {_fault(error)}") from None
        if row.key in seen:
            raise InputError(
                f"{where}: subject '{row.subject}', role '{row.role}', modality "
                f"'{row.modality}' is already in line {seen[row.key]}"
            )
        seen[row.key] = line
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: no rows")
    manifest = Manifest(name=path.name, rows=tuple(rows))
    return manifest if root is None else manifest.expand(root)


def write_manifest(path: str | os.PathLike[str], manifest: Manifest) -> None:
    """Write a CSV that :func:`read_manifest` reads back the same, atomically."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in manifest.rows:
        cells = row.model_dump()
        writer.writerow(["" if cells[c] is None else cells[c] for c in COLUMNS])
    write_text(path, out.getvalue())


Progress = Callable[[int, int, str], None]
"""Called with files done, files in all, and the path of the current one."""


def check_manifest(
    manifest: Manifest | str | os.PathLike[str],
    root: str | os.PathLike[str],
    hashes: bool = True,
    paired: bool = True,
    progress: Progress | None = None,
    padding: Padding = None,
) -> Report:
    """Check that what a manifest names is there, unchanged, readable and consistent.

    Args:
        manifest: Or the path of its CSV.
        root: Folder the paths are below.
        hashes: Compare SHA-256 where a row states it (reads every file once).
        paired: Images of one subject on different grids are an error, not just a note; labels
            and masks must always lie on the grid of one of the subject's images.
        progress: Called before each file, and once at the end.
        padding: What of an image stands for nothing (:func:`msgan.data.volume.open_volume`).

    Raises:
        InputError: The manifest itself is at fault; all faults of the data are in the report.
    """
    if not isinstance(manifest, Manifest):
        manifest = read_manifest(manifest)
    findings: list[Finding] = []
    rows: Sequence[Entry] = ()
    if not Path(root).is_dir():
        problem = f"no such folder; {manifest.rows[0].whence}"
        findings.append(Finding(level="error", subject="*", path=str(root), problem=problem))
    else:
        findings += _unmatched(manifest, Path(root))
        rows, faults = manifest._expanded(root)
        findings += [
            Finding(level="error", subject="*", path=str(root), problem=f"{manifest.name}: {fault}")
            for fault in faults
        ]
    grids: dict[str, list[tuple[Entry, Grid]]] = {}
    for done, row in enumerate(rows):
        if progress:
            progress(done, len(rows), row.path)
        try:
            grid, notes = _inspect(row, Path(root), hashes, padding)
            grids.setdefault(row.subject, []).append((row, grid))
            findings += [_finding(row, note, note=True) for note in notes]
        except InputError as error:
            findings.append(_finding(row, str(error)))
        except OSError as error:
            findings.append(_finding(row, f"cannot be read: {error.strerror or error}"))
    if progress:
        progress(len(rows), len(rows), "")
    for members in grids.values():
        findings += _disagreements(members, paired)
    if any(row.is_pattern for row in manifest.rows):
        findings += _gaps(rows)
    return Report(
        name=manifest.name,
        root=str(root),
        subjects=len({row.subject for row in rows}),
        files=len(rows),
        findings=tuple(findings),
    )


def _finding(row: Entry, problem: str, note: bool = False) -> Finding:
    return Finding(
        level="note" if note else "error", subject=row.subject, path=row.path, problem=problem
    )


def _unmatched(manifest: Manifest, root: Path) -> Iterator[Finding]:
    """Patterns nothing fits."""
    for row in manifest.rows:
        if row.is_pattern and not row.matches(root):
            yield _finding(row, f"no file fits below {root}; {row.whence}")
        if any(c in row.path + row.subject for c in WILDCARDS):
            for name in row.unreadable(root):
                yield _finding(row, f"no manifest can hold the name {name}: rename the file")


def _inspect(
    row: Entry, root: Path, hashes: bool, padding: Padding = None
) -> tuple[Grid, tuple[str, ...]]:
    """Grid and remarks of a file that is there, unchanged and opens; else an error."""
    from msgan.data.volume import open_labels, open_volume

    file = root / row.path
    if not file.exists():
        lost = f", a link to {os.readlink(file)}" if file.is_symlink() else ""
        raise InputError(f"missing{lost}; {row.whence}")
    if not (file.is_file() or file.is_dir()):
        raise InputError("no ordinary file")
    if hashes and row.sha256 and (actual := sha256(file)) != row.sha256:
        raise InputError(f"SHA-256 is {actual}, not {row.sha256}; {row.whence}")
    try:
        if row.role != "image":
            with open_labels(file) as volume:
                volume.check_size()
                return volume.grid, volume.notes
        with open_volume(file, check=False, padding=padding) as volume:
            air = Air()
            volume.visit(air.add)
            volume.check_size()
            assert volume.extremes is not None
            text = doubt(air, volume.extremes, row.unit or volume.unit)
            return volume.grid, (*volume.notes, *([text] if text else []))
    except (InputError, OSError) as error:
        text = str(error).removeprefix(f"{file}: ")
        raise InputError(f"does not open: {text}") from None
    except Exception as error:  # a library's own: it is this file's fault, the others go on
        text = shown((str(error).splitlines() or [""])[0])
        raise InputError(f"does not open: {type(error).__name__}: {text}") from error


def _disagreements(members: list[tuple[Entry, Grid]], paired: bool) -> Iterator[Finding]:
    """Files of one subject that lie on different grids."""
    images = [(row, grid) for row, grid in members if row.role == "image"]
    if not images:
        return
    first, wanted = images[0]
    for row, grid in members:
        if row.role == "image" and not grid.same_as(wanted, SAME_MM):
            yield _finding(row, f"grid {grid} differs from {wanted} of {first.path}", not paired)
        elif row.role != "image" and not any(grid.same_as(g, SAME_MM) for _, g in images):
            yield _finding(row, f"grid {grid} is that of no image of the subject")


def _gaps(rows: Sequence[Entry]) -> Iterator[Finding]:
    """Subjects found by a pattern that lack what others have."""
    has: dict[str, set[str]] = {}
    for row in rows:
        has.setdefault(row.subject, set()).add(f"{row.modality} {row.role}".strip())
    everything = set().union(*has.values())
    for subject, own in has.items():
        for lack in sorted(everything - own):
            yield Finding(level="note", subject=subject, path="-", problem=f"has no {lack}")


def _fault(error: ValidationError) -> str:
    """The first fault of a row in one line."""
    first = error.errors(include_url=False)[0]
    rule = requirement(first, value=False)
    if not first["loc"]:
        return rule
    return f"column '{first['loc'][0]}', value '{shown(str(first['input']))}': {rule}"
