"""Sorts DICOM downloads, with mixed or nested series, into one folder for each series."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from msgan.data.formats.dicom import (
    NO_IMAGES,
    TAGS,
    about_of,
    header_of,
    is_dicom,
    kernel_of,
    series_number,
    series_of,
)
from msgan.data.pseudonym import keep, pseudonym, salt_of
from msgan.data.scan.series import subject_in, unreadable
from msgan.data.scan.words import known_words
from msgan.documents import shown
from msgan.leftovers import PARTIAL
from msgan.paths import partial_folder
from msgan.types import InputError

NAMED_BY = {"kernel": kernel_of, "description": about_of}

AUTO = "auto"
"""Name a CT by its kernel, all others by the words of their description that say what they are."""

LEFT_OUT = "left out: "
"""How remarks on files begin that could not be read."""

MORE = ("ProtocolName", "StudyInstanceUID", "PatientName")
LONGEST = 80
"""Characters of a folder's name; file systems take 255 bytes."""

Progress = Callable[[int, int, str], None]
"""Called with series done, series in all, and the folder of the current one."""


def sort_series(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    by: str = AUTO,
    progress: Progress | None = None,
    remark: Callable[[str], None] | None = None,
) -> list[Path]:
    """Give each series below ``source`` its own folder ``out/PATIENT/NAME``.

    Files are found by their content, whatever their names and folders. They are linked (hard)
    where the file system can, else copied; ``source`` is left as it is. Localizers and what holds
    no images (reports, segmentations) are left out. A series appears when it is complete.

    PATIENT is the patient's ID where that looks like a pseudonym, else a salted hash
    (:func:`msgan.data.scan.series.subject_in`; the salt is kept in ``out``). Of a description
    only known words become a name, as people write names into it; ``by="description"`` takes it
    as it is.

    Args:
        source: A download, of one or many patients.
        out: Made where it does not exist; outside of ``source``.
        by: What names a series: ``kernel`` (``B20f``), ``description``, or ``auto``: the kernel
            of a CT and known words of the description of all others, and where there are none,
            of the protocol, or the number of the series.
        progress: Called before each series, and once at the end.
        remark: Called with what was named otherwise than by a kernel or a description, and with
            each file that cannot be read.

    Returns:
        The folders, in order of their names.

    Raises:
        InputError: There is no image, two series of a patient have one kernel, a series has no
            name, a folder is there already, or ``by`` is none of these. Two series of one
            description get its number too.
    """
    if by not in (*NAMED_BY, AUTO):
        raise InputError(f"sort by {by!r}: expected {' or '.join(NAMED_BY)}")
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    if out.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{out}: lies in {source}, which is to be sorted into it")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, expected a folder")
    salt = salt_of(out)
    series = _found(source, out, by, salt, remark or (lambda _: None))
    for folder in series:
        if folder.resolve().is_relative_to(source.resolve()):
            raise InputError(f"{folder}: lies in {source}, which is left as it is")
        if folder.exists():
            raise InputError(f"{folder}: is there already")
    out.mkdir(parents=True, exist_ok=True)
    keep(out, salt)
    for done, (folder, files) in enumerate(series.items()):
        if progress:
            progress(done, len(series), str(folder))
        _fill(folder, files)
    if progress:
        progress(len(series), len(series), "")
    return list(series)


def _found(
    source: Path, out: Path, by: str, salt: bytes, remark: Callable[[str], None]
) -> dict[Path, list[Path]]:
    """Files of each series by its new folder."""
    members: dict[tuple[str, ...], list[tuple[Path, Any]]] = {}
    for file in _files(source, remark):
        try:
            if file.name == "DICOMDIR" or not is_dicom(file):
                continue
            header = header_of(file, (*TAGS, *MORE))
            if _is_slice(header):
                key = (_patient(header, by, salt), *series_of(header))
                members.setdefault(key, []).append((file, header))
        except InputError as error:
            remark(f"{LEFT_OUT}{file.parent}: {shown(str(error))}")
        except OSError as error:
            remark(f"{LEFT_OUT}{file}: {error.strerror or error}")
        except Exception as error:  # of pydicom, when it reads a value that is none
            remark(f"{LEFT_OUT}{file}: {unreadable(error)}")
    if not members:
        raise InputError(f"{source}: no DICOM images below this folder")
    people = _people({patient for patient, *_ in members}, salt)
    named: dict[tuple[str, str], list[list[tuple[Path, Any]]]] = {}
    for (patient, *_), files in members.items():
        name, who = _name(files, by), people[patient]
        if not who:
            first = files[0][0].parent
            raise InputError(f"{first}: a series of {len(files)} files has no PatientID")
        named.setdefault((who, name), []).append(files)
    folders: dict[Path, list[Path]] = {}
    for (who, name), alike in _without_case(named).items():
        for end, files in _told_apart(name, alike, by):
            if end or name.startswith("series"):
                remark(f"{_described(files)} is named {who}/{name}{end}")
            folders[out / who / f"{name}{end}"] = [file for file, _ in files]
    return {folder: folders[folder] for folder in sorted(folders)}


def _files(source: Path, remark: Callable[[str], None]) -> list[Path]:
    """Ordinary files below a folder, in order; a folder that may not be read is told."""

    def refused(error: OSError) -> None:
        remark(f"{LEFT_OUT}{error.filename}: {error.strerror}")

    found = []
    for here, folders, names in os.walk(source, onerror=refused):
        folders[:] = [name for name in folders if not name.startswith(PARTIAL)]
        found += [Path(here) / name for name in names]
    return sorted(file for file in found if file.is_file())


def _patient(header: Any, by: str, salt: bytes) -> str:
    """The patient's ID where it tells nobody's identity, else a hash; empty where names need one.

    Where names are free, a study without an ID has one of its own.
    """
    own = str(header.get("PatientID") or "").strip()
    if by != AUTO and not _slug(own):
        return ""
    name, hashed = subject_in(header, salt)
    return name if hashed else own


def _people(patients: Iterable[str], salt: bytes) -> dict[str, str]:
    """Folders of patients by their IDs; two IDs never share one."""
    slugs = {patient: _slug(patient) for patient in patients}
    count = Counter(slug.casefold() for slug in slugs.values())
    return {
        patient: pseudonym(slug, patient, salt) if slug and count[slug.casefold()] > 1 else slug
        for patient, slug in slugs.items()
    }


def _name(files: list[tuple[Path, Any]], by: str) -> str:
    """The name of a series."""
    first, header = files[0]
    if by != AUTO:
        if name := _slug(NAMED_BY[by](header)):
            return name
        other = "description" if by == "kernel" else "kernel"
        raise InputError(
            f"{first.parent}: a series of {len(files)} files has no {by}: sort with --by {other}, "
            "or without --by"
        )
    texts = (about_of(header), str(header.get("ProtocolName") or ""))
    about = ["_".join(known_words(text)) for text in texts]
    if header.get("Modality") == "CT":
        about.insert(0, kernel_of(header))
    number = series_number(header)
    return next(filter(None, map(_slug, about)), f"series{number:03d}" if number else "series")


def _without_case(
    named: dict[tuple[str, str], list[list[tuple[Path, Any]]]],
) -> dict[tuple[str, str], list[list[tuple[Path, Any]]]]:
    """The same with names in one place that some file systems take for one."""
    result: dict[tuple[str, str], list[list[tuple[Path, Any]]]] = {}
    known: dict[tuple[str, str], str] = {}
    for (who, name), alike in named.items():
        first = known.setdefault((who, name.casefold()), name)
        result.setdefault((who, first), []).extend(alike)
    return result


def _told_apart(
    name: str, alike: list[list[tuple[Path, Any]]], by: str
) -> list[tuple[str, list[tuple[Path, Any]]]]:
    """What the name of each series of one name ends in: its number, else how many there are."""
    if len(alike) == 1:
        return [("", alike[0])]
    headers = [files[0][1] for files in alike]
    if by == "kernel" or (by == AUTO and _slug(kernel_of(headers[0])) == name):
        one, other = map(_described, alike[:2])
        raise InputError(
            f"{one} and {other} are of one patient and kernel {name}: sort with --by description"
        )
    numbers = [series_number(header) for header in headers]
    if len(set(numbers)) == len(numbers) and all(numbers):
        return [(f"_s{n:03d}", files) for n, files in zip(numbers, alike, strict=True)]
    ordered = sorted(alike, key=lambda files: (series_number(files[0][1]), str(files[0][0])))
    return [(f"_{k}", files) for k, files in enumerate(ordered, 1)]


def _described(files: list[tuple[Path, Any]]) -> str:
    """A series by its place, number and size; its description may name the patient."""
    first, header = files[0]
    number = series_number(header)
    return f"{first}: series {number or 'without a number'} of {len(files)} files"


def _is_slice(header: Any) -> bool:
    kinds = header.get("ImageType") or []
    kinds = [str(kind).upper() for kind in ([kinds] if isinstance(kinds, str) else kinds)]
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
    """``text`` as a folder's name: the kernel ``B20f`` stays, other characters become one ``_``."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_.-")[:LONGEST].rstrip("_.-")
    # Some systems keep these names for devices.
    device = re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE)
    return f"{name}_" if device else name
