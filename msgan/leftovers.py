"""Files that killed processes leave on disk: who owns them, and when they are removed."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
import socket
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any

PARTIAL = ".partial-"
"""How names begin of what is not yet complete."""

REPLACED = ".replaced-"
"""How names begin of a folder that is about to be replaced; they end with its own name."""

EXCHANGE = 2
"""Of ``renameat2``: both names stay, and what they name changes places."""

HERE = -100
"""Of ``renameat2``: paths are as the process sees them."""

ATTEMPTS = 20
"""Others may exchange the same folder at the same time."""


def owned(prefix: str) -> str:
    """``prefix`` with this machine and process, so that :func:`sweep` knows whose a file is."""
    return f"{prefix}{_machine()}-{os.getpid()}-"


def sweep(folder: str | os.PathLike[str], prefix: str) -> None:
    """Remove files and folders that processes of this machine named by :func:`owned` and left.

    Those of living processes and of other machines (a shared disk) stay, and so does what
    another user owns. A number that is in use again keeps what its last process left. With
    :data:`PARTIAL`, a folder whose replacement was cut short gets its name back. Names that end in
    ``.old`` are results that older versions were replacing, and stay as well.
    """
    owner = re.escape(f"{_machine()}-")
    names = re.compile(re.escape(prefix) + owner + r"(\d+)-\w{8}(?!.*\.old$)(\..*)?")
    replaced = re.compile(re.escape(REPLACED) + owner + r"(\d+)-\w{8}\.(.+)")
    try:
        with os.scandir(folder) as entries:
            there = [entry.name for entry in entries]
    except OSError:  # a folder that may be written and not be listed
        return
    for name in there:
        path = Path(folder, name)
        match = names.fullmatch(name)
        if match is not None and not _lives(int(match[1])):
            remove(path)
        match = replaced.fullmatch(name) if prefix == PARTIAL else None
        if match is not None and not _lives(int(match[1])):
            if os.path.lexists(Path(folder, match[2])):
                remove(path)
            else:
                with suppress(OSError):  # another process sweeps as well
                    path.rename(Path(folder, match[2]))


def remove(path: Path) -> None:
    """Remove a file, a folder or a link; what another process removes or owns is let be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def exchange(new: Path, path: Path) -> None:
    """Put the folder ``new`` where ``path`` is, and remove what was there.

    In one step where the system can. Elsewhere ``path`` is absent for a moment; a process killed
    in it leaves the old folder under a name that :func:`sweep` understands.

    Raises:
        OSError: It cannot be done; ``path`` is as it was.
    """
    for attempt in range(ATTEMPTS):
        try:
            if not os.path.lexists(path):
                os.rename(new, path)
            elif _swapped(new, path):
                remove(new)
            else:
                _replace(new, path)
            return
        except OSError as error:
            # Another process has put the same there, or taken it away, in the meantime.
            overtaken = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT)
            if not overtaken or attempt == ATTEMPTS - 1 or not new.exists():
                raise


def _replace(new: Path, path: Path) -> None:
    old = path.with_name(f"{owned(REPLACED)}{token_hex(4)}.{path.name}")
    os.replace(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        try:
            os.rename(old, path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was first
                remove(old)
        raise
    remove(old)


def _swapped(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where system or file system cannot."""
    call = _renameat2()
    if call is None:
        return False
    if call(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


@cache
def _renameat2() -> Any:
    if sys.platform != "linux":
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # an older or another C library
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call


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
