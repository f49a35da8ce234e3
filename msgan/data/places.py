"""Checks that results are not written over input files or into them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from msgan.data.store import suffix_of
from msgan.types import InputError

Identity = tuple[int, int]

HEADER_BYTES = 1 << 16
DATA_FILES = re.compile(
    rb"^(?:ElementDataFile[ \t]*=|data ?file:)[ \t]*(.*)$", re.MULTILINE | re.IGNORECASE
)
"""What a header of MetaImage or NRRD says of files that hold its voxels."""

PAIRS = {".hdr": ".img", ".img": ".hdr"}


def require_apart(
    results: Iterable[str | os.PathLike[str]],
    sources: Iterable[str | os.PathLike[str]],
    *,
    holding: bool = False,
) -> None:
    """Refuse results that would replace what is read, or come to lie in it.

    Names count for nothing: files are the same if the file system says so, whatever links, ``..``
    or letters lead there. An image of several files (a header and its data, a folder) is all of
    them.

    Args:
        results: Files and folders to write, which need not exist.
        sources: Files and folders that are read.
        holding: A result is a folder to write into, not to replace: it may hold a source.

    Raises:
        InputError: A result is one of them, a part of one, lies in one, or is a folder that holds
            one.
    """
    read = [Path(source) for source in sources]
    known: dict[Identity, tuple[Path, str]] = {}
    folders: dict[Identity, Path] = {}
    for source in read:
        for file in files_of(source):
            if (key := _identity(file)) is not None:
                known.setdefault(key, (source, "a part of "))
    for source in read:
        if (key := _identity(source)) is not None:
            known[key] = source, ""
            if source.is_dir():
                folders[key] = source
    for out in map(Path, results):
        found = known.get(_identity(out) or (0, 0))
        if found is not None:
            what = "an input" if found[0] == out else f"{found[1]}{found[0]}"
            raise InputError(
                f"{out}: is {what}, which is read and never replaced: choose another name"
            )
        for parent in _parents(out):
            holder = folders.get(_identity(parent) or (0, 0))
            if holder is not None:
                raise InputError(
                    f"{out}: lies in {holder}, which is read and left as it is: "
                    "choose another folder"
                )
        if holding or not out.is_dir():
            continue
        own = _identity(out)
        for source in read:
            if any(_identity(parent) == own for parent in _parents(source)):
                raise InputError(
                    f"{out}: holds {source}, which is read and never replaced: choose another name"
                )


_writing: ContextVar[tuple[Path, set[Path]] | None] = ContextVar("writing", default=None)
"""The result that is being written, and what is known to be apart from it."""


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """While the block runs, :func:`reading` refuses what ``out`` would replace."""
    token = _writing.set((out, set()))
    try:
        yield
    finally:
        _writing.reset(token)


def reading(source: Path) -> None:
    """Refuse to write a result from the very file that it will replace.

    Raises:
        InputError: See :func:`require_apart`.
    """
    target = _writing.get()
    if target is not None and source not in target[1]:
        require_apart([target[0]], [source])
        target[1].add(source)


def require_kind(out: str | os.PathLike[str], *, series: bool = False) -> None:
    """Refuse an image's name that something of another kind has; a file may be replaced.

    Args:
        out: File, or folder.
        series: A folder for a DICOM series is meant, where an older one of ours may be.

    Raises:
        InputError: A folder stands where a file is meant, or the reverse, or the name is too long.
    """
    out = Path(out)
    if series:
        _require_series(out)
        return
    zarr = suffix_of(out) == ".zarr"
    try:
        os.lstat(out)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        return  # a file among its folders: making the folder will say which
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}") from error
    if out.is_dir() and not zarr:
        raise InputError(f"{out}: is a folder, expected the name of a file")
    if zarr and not out.is_dir():
        raise InputError(f"{out}: is a file, expected a folder or a name that is free")
    if zarr and not (out / "zarr.json").is_file():
        raise InputError(f"{out}: exists and is not a Zarr folder")
    if not (out.is_dir() or out.is_file() or out.is_symlink()):
        raise InputError(f"{out}: is neither a file nor a folder, expected the name of a file")


def _require_series(out: Path) -> None:
    """Refuse a folder for a DICOM series that holds anything but an older one of ours."""
    from msgan.data.formats.dicom import header_of, is_dicom, mark_of

    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file, expected a folder for a DICOM series")
    for file in sorted(out.iterdir()):
        try:
            ours = file.is_file() and is_dicom(file) and bool(mark_of(header_of(file)))
        except InputError:
            ours = False
        if not ours:
            raise InputError(
                f"{out}: holds {file.name}, which is no slice of a synthetic series: choose "
                "another folder"
            )


def files_of(path: Path) -> Iterator[Path]:
    """Other files that the image at ``path`` consists of; those of a folder are not listed."""
    name = path.name
    plain = name[:-3] if name.lower().endswith(".gz") else name
    stem, suffix = os.path.splitext(plain)
    if (other := PAIRS.get(suffix.lower())) is not None:
        for end in (other, other.upper(), f"{other}.gz"):
            yield path.with_name(stem + end)
    if suffix.lower() in (".mhd", ".mha", ".nhdr", ".nrrd") and path.is_file():
        yield from _data_files(path)


def _parents(path: Path) -> Iterator[Path]:
    """Folders above a name that need not exist, and above what it leads to if it is a link."""
    place = Path(os.path.realpath(path.parent)) / path.name
    yield from place.parents
    if path.is_symlink():
        yield from Path(os.path.realpath(path)).parents


def _identity(path: Path) -> Identity | None:
    """What the file system knows a file by, links followed; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _data_files(header: Path) -> Iterator[Path]:
    """Files that a text header names: one, a list of lines, or a pattern with ``%``."""
    with suppress(OSError), header.open("rb") as stream:
        text = stream.read(HEADER_BYTES)
        for match in DATA_FILES.finditer(text):
            first = match[1].decode("utf-8", "replace").strip()
            words = first.split()
            if not words or words[0].upper() == "LOCAL":
                continue
            if words[0].upper() == "LIST":
                rest = text[match.end() :].decode("utf-8", "replace").splitlines()
                names = [line.strip() for line in rest if line.strip()]
            else:
                names = [first]
            for name in names:
                if "%" in name:
                    pattern = re.escape(name.split()[0])
                    pattern = re.sub(r"%\\?-?\d*d", r"\\d+", pattern)
                    with suppress(OSError, re.error):
                        yield from (
                            file
                            for file in header.parent.iterdir()
                            if re.fullmatch(pattern, file.name)
                        )
                else:
                    with suppress(ValueError):
                        yield header.parent / name
