"""DICOM downloads, where series lie mixed or deeply nested, as one folder for each series."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgan.data.formats.dicom import NO_IMAGES, about_of, headers_of, kernel_of, series_of
from msgan.paths import partial_folder
from msgan.types import InputError

NAMED_BY = {"kernel": kernel_of, "description": about_of}

Progress = Callable[[int, int, str], None]
"""Called with series done, series in all, and the folder of the current one."""


def sort_series(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    by: str = "kernel",
    progress: Progress | None = None,
) -> list[Path]:
    """Give each series below ``source`` its own folder ``out/PATIENT/NAME``.

    Files are found by their content, whatever their names and folders. They are linked (hard)
    where the file system can, else copied; ``source`` is left as it is. Localizers and what holds
    no images (reports, segmentations) are left out. A series appears when it is complete.

    Args:
        source: A download, of one or many patients.
        out: Made where it does not exist; outside of ``source``.
        by: What names a series: ``kernel`` (``B20f``) or ``description``.
        progress: Called before each series, and once at the end.

    Returns:
        The folders, in order of their names.

    Raises:
        InputError: There is no image, two series of a patient would have one name, a series has
            none, a folder is there already, a header cannot be read, or ``by`` is neither.
    """
    if by not in NAMED_BY:
        raise InputError(f"sort by {by!r}: expected {' or '.join(NAMED_BY)}")
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    if out.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{out}: lies in {source}, which is to be sorted into it")
    series = _found(source, out, by)
    for folder in series:
        if folder.exists():
            raise InputError(f"{folder}: is there already")
    for done, (folder, files) in enumerate(series.items()):
        if progress:
            progress(done, len(series), str(folder))
        _fill(folder, files)
    if progress:
        progress(len(series), len(series), "")
    return list(series)


def _found(source: Path, out: Path, by: str) -> dict[Path, list[Path]]:
    """Files of each series by its new folder."""
    members: dict[tuple[str, ...], list[tuple[Path, Any]]] = {}
    for file, header in headers_of(p for p in source.rglob("*") if p.is_file()):
        if _is_slice(header):
            patient = str(header.get("PatientID") or "").strip()
            members.setdefault((patient, *series_of(header)), []).append((file, header))
    if not members:
        raise InputError(f"{source}: no DICOM images below this folder")
    folders: dict[Path, list[tuple[Path, Any]]] = {}
    for (patient, *_), files in members.items():
        first, header = files[0]
        name, who = _slug(NAMED_BY[by](header)), _slug(patient)
        if not name or not who:
            lack = by if not name else "PatientID"
            raise InputError(f"{first.parent}: a series of {len(files)} files has no {lack}")
        same = folders.setdefault(out / who / name, files)
        if same is not files:
            others = " and ".join(_described(h) for _, h in (same[0], files[0]))
            raise InputError(f"{source}: patient {patient} has two series {name}: {others}")
    return {folder: [file for file, _ in folders[folder]] for folder in sorted(folders)}


def _described(header: Any) -> str:
    return f"'{about_of(header)}' ({kernel_of(header) or 'no kernel'})"


def _is_slice(header: Any) -> bool:
    kinds = [str(kind).upper() for kind in header.get("ImageType") or []]
    return (
        header.get("Modality") not in NO_IMAGES
        and bool(header.get("Rows"))
        and "LOCALIZER" not in kinds
    )


def _fill(folder: Path, files: list[Path]) -> None:
    try:
        with partial_folder(folder) as partial:
            for number, file in enumerate(files):
                new = partial / f"{number:05d}.dcm"
                try:
                    os.link(file, new)
                except OSError:  # another file system, or one without links
                    shutil.copy2(file, new)
            partial.rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _slug(text: str) -> str:
    """``text`` as a folder's name: the kernel ``B20f`` stays, other signs become one ``_``."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_.")
