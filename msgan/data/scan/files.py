"""The files below a folder by type; at most a few bytes of each are read."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from msgan.data.formats import itk, mgh, nifti, picture
from msgan.data.formats.dicom import is_dicom
from msgan.data.scan import results
from msgan.data.store import suffix_of

VOLUMES = (*nifti.SUFFIXES, *mgh.SUFFIXES, *itk.SUFFIXES)
ANALYZE = (".hdr", ".img", ".img.gz")
HEADER_BYTES = 1 << 16
DEEPEST = 60
"""Folders within each other; archives have ten."""


@dataclass(frozen=True)
class Omitted:
    """What is not in a manifest; ``path`` is below the scanned folder.

    Attributes:
        kind: What reasons have in common that name other files; empty where that is the reason.
    """

    path: str
    reason: str
    kind: str = ""


@dataclass
class Files:
    """What a folder holds; paths are below it, with forward slashes, in order.

    Attributes:
        volumes: Files and OME-Zarr folders.
        pictures: PNG and TIFF.
        dicom: Single files.
        omitted: All others.
    """

    volumes: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    dicom: list[str] = field(default_factory=list)
    omitted: list[Omitted] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.volumes) + len(self.pictures) + len(self.dicom) + len(self.omitted)

    def omit(self, path: str, reason: str) -> None:
        """Leave a file or folder out; odd characters of its name become ``\\x0a`` or ``\\xff``."""
        plain = os.fsencode(path).decode(errors="backslashreplace")
        plain = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain)
        self.omitted.append(Omitted(plain, reason))


def files_below(root: Path) -> Files:
    """Sort all files below ``root``. Links are followed, each folder is entered once."""
    found = Files()
    seen: set[tuple[int, int]] = set()

    def enter(folder: str, prefix: str) -> None:
        if prefix.count("/") > DEEPEST:
            found.omit(prefix.rstrip("/"), f"more than {DEEPEST} folders within each other")
            return
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                found.omit(prefix.rstrip("/"), "a link to a folder that is looked through already")
                return
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda e: (e.is_symlink(), e.name))
        except OSError as error:
            found.omit(prefix.rstrip("/") or ".", f"cannot be read: {error.strerror or error}")
            return
        folders: list[str] = []
        names: list[str] = []
        for entry in entries:
            with suppress(OSError):
                (folders if entry.is_dir() else names).append(entry.name)
        reason = results.folder_reason(folders, names, prefix.rstrip("/").rpartition("/")[2])
        if reason:
            found.omit(prefix.rstrip("/") or ".", reason)
            return
        made = results.traced(Path(folder), names)
        for entry in entries:
            path = prefix + entry.name
            try:
                if entry.name in made:
                    found.omit(path, results.SIDECAR)
                elif not entry.is_dir():
                    _sort(entry.path, path, found)
                elif entry.name.startswith("."):
                    found.omit(path, "a hidden folder")
                elif entry.name.lower().endswith(".zarr"):
                    _place(found.volumes, path, found)
                else:
                    enter(entry.path, path + "/")
            except OSError as error:
                found.omit(path, f"cannot be read: {error.strerror or error}")

    enter(str(root), "")
    _companions(root, found)
    return found


def _sort(file: str, path: str, found: Files) -> None:
    """Put one file where it belongs."""
    status = os.stat(file)
    name, suffix = path.rpartition("/")[2], suffix_of(Path(path))
    if not stat.S_ISREG(status.st_mode):
        found.omit(path, "no ordinary file")
    elif name.startswith("."):
        found.omit(path, "a hidden file")
    elif status.st_size == 0:
        found.omit(path, "the file has no bytes")
    elif suffix in VOLUMES:
        _place(found.volumes, path, found)
    elif suffix in picture.SUFFIXES:
        _place(found.pictures, path, found)
    elif name != "DICOMDIR" and is_dicom(Path(file)):
        _place(found.dicom, path, found)
    elif suffix in (".dcm", ".ima"):
        found.omit(path, "not a DICOM file: the DICM mark at byte 128 is missing")
    elif (pair := nifti.pair_of(Path(file))) == "nifti":
        if name.lower().endswith((".hdr", ".hdr.gz")):
            _place(found.volumes, path, found)
        else:
            found.omit(path, "the voxels of a NIfTI pair, which its .hdr stands for")
    elif pair or suffix in ANALYZE or name.lower().endswith(".img.gz"):
        found.omit(path, "Analyze states no reliable orientation: convert it to NIfTI")
    else:
        found.omit(path, "not an image")


def _place(kind: list[str], path: str, found: Files) -> None:
    """Take a path that a manifest can hold."""
    if not path.isprintable():
        why = "characters that cannot be shown" if _is_utf8(path) else "bytes that are not UTF-8"
        found.omit(path, f"its name has {why}: rename it")
    elif bad := re.search(r"[*?{}\\:]", path):
        found.omit(path, f"a manifest's path cannot hold '{bad[0]}': rename it")
    elif any(part != part.strip() for part in path.split("/")):
        found.omit(path, "a manifest's path cannot begin or end with a space: rename it")
    else:
        kind.append(path)


def _is_utf8(path: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in path)


def _companions(root: Path, found: Files) -> None:
    """Say of raw voxels whose they are."""
    owner = {}
    for path in found.volumes:
        if path.lower().endswith((".mhd", ".nhdr")):
            try:
                with (root / path).open("rb") as stream:
                    text = stream.read(HEADER_BYTES).decode("latin-1")
            except OSError:  # said of the header itself when it is opened
                continue
            data = re.search(
                r"^(?:ElementDataFile *=|data ?file:) *(\S.*?) *\r?$", text, re.M | re.I
            )
            if data:
                owner[(Path(path).parent / data[1]).as_posix()] = path
    found.omitted = [
        Omitted(o.path, f"the voxels of {owner[o.path]}") if o.path in owner else o
        for o in found.omitted
    ]
