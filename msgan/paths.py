"""Files on disk: atomic writes, scratch folders, free space, hashes and standard locations."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgan.leftovers import PARTIAL, exchange, owned, remove, sweep
from msgan.types import InputError

SETTLED = 2 * 10**9
"""Nanoseconds after which a change of a file shows in its time."""

SHARED_DATA = "MSGAN_SHARED_DATA"
"""Environment variable: folder with the real images some tests use."""

SCRATCH_ROOT = "MSGAN_SCRATCH"
"""Environment variable: folder for temporary files."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

LONGEST_LINE = 300
"""Characters of a line that an error shows."""

SCRATCH = "msgan-"
"""How names begin in the scratch root."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it only when the block succeeds.

    The temporary name keeps the suffixes, because writers choose the format by them. After a
    crash ``path`` is either absent, the old file, or the complete new one; what a killed process
    left half-written in this folder is removed by the next write into it.

    Raises:
        OSError: It cannot be written; where the disk is full, with ``path`` and what is free.
    """
    path = Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, PARTIAL)
        suffix = "".join(path.suffixes[-2:])
        handle, name = tempfile.mkstemp(prefix=owned(PARTIAL), suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes files only their owner can read
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def partial_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder beside ``path``, to be renamed to it in the block; removed at the end if not.

    Raises:
        OSError: See :func:`atomic`.
    """
    path = Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, PARTIAL)
        prefix = owned(PARTIAL)
        temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=path.suffix, dir=path.parent))
        try:
            temporary.chmod(0o777 & ~_umask())
            yield temporary
        finally:
            remove(temporary)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Like :func:`atomic` for a folder, which exists while the block runs."""
    with partial_folder(path) as temporary:
        yield temporary
        exchange(temporary, Path(path))


@contextmanager
def together(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Like :func:`atomic` for several files: those written to the folder that is yielded.

    When the block succeeds they move to the folder ``path``, one after the other, and replace
    those of their names; what else is there stays.
    """
    path = Path(path)
    with naming(path):
        path.mkdir(parents=True, exist_ok=True)
        sweep(path, PARTIAL)
        temporary = Path(tempfile.mkdtemp(prefix=owned(PARTIAL), dir=path))
        try:
            yield temporary
            for file in sorted(temporary.iterdir()):
                os.replace(file, path / file.name)
        except InputError as error:
            raise InputError(str(error).replace(str(temporary), str(path))) from error
        finally:
            remove(temporary)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """A block that writes ``path``: where its disk is full, the error says so and names it.

    Raises:
        OSError: Of the same number, with ``path``, the rule and the bytes that are free.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            text = f"no space left on this disk: {size(_free(Path(path)))} are free"
        elif error.errno == errno.EFBIG:
            text = "larger than this disk or a limit (ulimit -f) allows for a file"
        else:
            raise
        raise OSError(error.errno, text, str(path)) from error


def copy(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Copy a file atomically."""
    with atomic(path) as temporary:
        shutil.copyfile(source, temporary)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically, in UTF-8.

    Raises:
        InputError: The text names a file whose name has other bytes.
    """
    with atomic(path) as temporary:
        try:
            temporary.write_text(text, encoding="utf-8")
        except UnicodeEncodeError as error:
            around = text[: error.end].rpartition("\n")[2] + text[error.end :].partition("\n")[0]
            raise InputError(
                f"{path}: cannot be written: bytes that are not UTF-8 in the line "
                f"{around[:LONGEST_LINE]!a}: rename the file or folder they name"
            ) from error


def inside(folder: str | os.PathLike[str], name: str) -> Path:
    """The path of a file that is named in a folder's own files.

    Args:
        folder: Whose files may be used; it may itself be a link.
        name: Path below it, with slashes.

    Raises:
        InputError: The name, or a link on its way, leads out of the folder.
    """
    path = Path(folder, name)
    try:
        below = path.resolve().is_relative_to(Path(folder).resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, or no name at all
        below = False
    if not below or Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(
            f"{folder}: {name!r} leads out of this folder, where all its files must lie: "
            "copy the file to its place"
        )
    return path


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces.

    Of a folder: over name, size and content of its sorted files, so that no two folders agree. A
    file that has not changed since this process read it is not read again.
    """
    path = Path(path)
    if not path.is_dir():
        found = path.stat()
        # A file just written may be written again without a later time.
        if time.time_ns() - found.st_mtime_ns < SETTLED:
            return _sha256(path).hexdigest()
        return _remembered(path.resolve(), found.st_ino, found.st_size, found.st_mtime_ns)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        _sha256(file, digest)
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _remembered(path: Path, inode: int, size: int, time: int) -> str:
    return _sha256(path).hexdigest()


def _sha256(path: Path, digest: Any = None) -> Any:
    """The digest, with the content of a file added."""
    digest = digest or hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest


def scratch_root() -> Path:
    """Where temporary stores go: ``MSGAN_SCRATCH``, or without one the system's folder."""
    return Path(os.environ.get(SCRATCH_ROOT) or tempfile.gettempdir())


def require_scratch() -> Path:
    """The scratch root, made where it is not there.

    Raises:
        InputError: It is a file, or cannot be made or written to.
    """
    root = scratch_root()
    name = SCRATCH_ROOT if os.environ.get(SCRATCH_ROOT) else f"{SCRATCH_ROOT} is not set"
    if (wrong := no_folder(root)) is not None:
        at = "" if wrong.startswith(f"{root}: ") else f"{root}: "
        raise InputError(f"{name}: {at}{wrong}, expected a folder for temporary files")
    try:
        root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()
    except OSError as error:
        if error.errno in NO_SPACE:
            return root  # what does not fit says so itself, with a number
        raise InputError(
            f"{name}: {root}: no folder for temporary files: {error.strerror or error}"
        ) from error
    return root


def no_folder(path: str | os.PathLike[str]) -> str | None:
    """Why ``path`` is no folder and none can be made there: which part of it is what.

    None where it is a folder, or nothing is in the way.
    """
    for part in (Path(path), *Path(path).absolute().parents):
        if part.is_dir():
            return None
        if os.path.lexists(part):
            lost = part.is_symlink() and not part.exists()
            return f"{part}: is a {'link that leads nowhere' if lost else 'file'}"
    return None


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder in the scratch root, removed at the end; a killed process's by the next."""
    root = require_scratch()
    sweep(root, SCRATCH)
    with tempfile.TemporaryDirectory(prefix=owned(SCRATCH), dir=root) as folder:
        yield Path(folder)


def require_space(folder: str | os.PathLike[str], need: int, what: str) -> None:
    """Refuse work whose result cannot fit, before it is done.

    Args:
        folder: Where the result will be; it need not exist yet.
        need: Bytes, as many as are known to be needed.
        what: The result, for the message: ``"the result"``.

    Raises:
        InputError: Fewer bytes are free on the disk of ``folder``.
    """
    folder = Path(folder)
    free = _free(folder)
    if free < need:
        raise InputError(
            f"{folder}: {what} needs {size(need)}, {size(free)} are free on this disk"
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def room(
    folder: str | os.PathLike[str], need: int, what: str, *, at_most: bool = False
) -> Iterator[None]:
    """Work that writes to a disk: refused or ended in one line where that is or becomes full.

    Args:
        folder: See :func:`require_space`.
        need: Bytes.
        what: The result, for the message.
        at_most: ``need`` is a bound, as for what will be compressed: nothing is refused before.

    Raises:
        InputError: The disk of ``folder`` is full, or cannot hold a file of that size.
    """
    if not at_most:
        require_space(folder, need, what)
    try:
        yield
    except OSError as error:
        amount = f"{'up to ' if at_most else ''}{size(need)}"
        if error.errno in NO_SPACE:
            raise InputError(
                f"{folder}: no space left on this disk: {what} needs {amount}, "
                f"{size(_free(Path(folder)))} are free"
            ) from error
        if error.errno == errno.EFBIG:
            raise InputError(
                f"{folder}: {what} needs {amount}, more than this disk or a limit (ulimit -f) "
                "allows for a file"
            ) from error
        raise


def _free(path: Path) -> int:
    """Bytes free on the disk of a file or folder that need not exist yet."""
    there = next(f for f in (path, *path.absolute().parents) if f.is_dir())
    return shutil.disk_usage(there).free


def size(count: int) -> str:
    """``count`` bytes for a message: ``1.5 GiB``."""
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count / 1024:.1f} KiB"
