"""Files on disk: atomic writes, scratch, room, hashes, and the places where things are kept."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgan.types import InputError

SHARED_DATA = "MSGAN_SHARED_DATA"
"""Environment variable: folder with the real images some tests use."""

SCRATCH_ROOT = "MSGAN_SCRATCH"
"""Environment variable: folder for temporary files."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

PARTIAL = ".partial-"
"""How names begin of what is not yet complete."""

SCRATCH = "msgan-"
"""How names begin in the scratch root."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it only when the block succeeds.

    The temporary name keeps the suffixes, because writers choose the format by them. After a
    crash ``path`` is either absent, the old file, or the complete new one; what a killed process
    left half-written in this folder is removed by the next write into it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, PARTIAL)
    suffix = "".join(path.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=owned(PARTIAL), suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files only their owner can read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Like :func:`atomic` for a folder, which exists while the block runs."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, PARTIAL)
    prefix = owned(PARTIAL)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=path.suffix, dir=path.parent))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        _exchange(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def together(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Like :func:`atomic` for several files: those written to the folder that is yielded.

    When the block succeeds they move to the folder ``path``, one after the other, and replace
    those of their names; what else is there stays.
    """
    path = Path(path)
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
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(new: Path, path: Path) -> None:
    """Put the folder ``new`` where ``path`` is, and what was there where ``new`` was."""
    old = new.with_name(new.name + ".old")
    there = path.exists()
    if there:
        os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        if there:
            os.replace(old, path)
        raise
    if there:
        os.replace(old, new)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces.

    Of a folder: over name, size and content of its sorted files, so that no two folders agree.
    """
    path = Path(path)
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            name = file.relative_to(path).as_posix()
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


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
    if root.exists() and not root.is_dir():
        raise InputError(f"{name}: {root}: is a file, expected a folder for temporary files")
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


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder in the scratch root, removed at the end; a killed process's by the next."""
    root = require_scratch()
    sweep(root, SCRATCH)
    with tempfile.TemporaryDirectory(prefix=owned(SCRATCH), dir=root) as folder:
        yield Path(folder)


def owned(prefix: str) -> str:
    """``prefix`` with this machine and process, so that :func:`sweep` knows whose a file is."""
    return f"{prefix}{_machine()}-{os.getpid()}-"


def sweep(folder: str | os.PathLike[str], prefix: str) -> None:
    """Remove files and folders that processes of this machine named by :func:`owned` and left.

    Those of living processes and of other machines (a shared disk) stay, and so does what
    another user owns. A number that is in use again keeps what its last process left. Names that
    end in ``.old`` are results that were being replaced, and stay as well.
    """
    names = re.compile(re.escape(f"{prefix}{_machine()}-") + r"(\d+)-\w{8}(?!.*\.old$)(\..*)?")
    try:
        with os.scandir(folder) as entries:
            found = [(entry, names.fullmatch(entry.name)) for entry in entries]
    except OSError:  # a folder that may be written and not be listed
        return
    for entry, match in found:
        if match is None or _lives(int(match[1])):
            continue
        # An error here: another process sweeps as well, or it is another user's.
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


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
    there = next(f for f in (folder, *folder.absolute().parents) if f.is_dir())
    free = shutil.disk_usage(there).free
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
                f"{folder}: no space left on this disk: {what} needs {amount}"
            ) from error
        if error.errno == errno.EFBIG:
            raise InputError(
                f"{folder}: {what} needs {amount}, more than this disk or a limit (ulimit -f) "
                "allows for a file"
            ) from error
        raise


def size(count: int) -> str:
    """``count`` bytes for a message: ``1.5 GiB``."""
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count / 1024:.1f} KiB"


def _machine() -> str:
    """This machine in a file's name; containers of one machine count as several."""
    try:
        numbers = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        numbers = ""  # no containers here
    return hashlib.sha256(f"{socket.gethostname()} {numbers}".encode()).hexdigest()[:8]


def _lives(process: int) -> bool:
    """Whether a process of that number runs."""
    import psutil

    return bool(psutil.pid_exists(process))
