"""A lock for one process at a time; it is released when the process ends."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgan.types import InputError

LOCKLESS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What file systems answer that know no locks."""

PAUSE = 0.05
"""Seconds between two attempts."""

_held: set[int] = set()
"""Descriptors of this process's locks."""


@contextmanager
def alone(path: str | os.PathLike[str], what: str, *, wait: float = 0.2) -> Iterator[None]:
    """Hold a lock file while the block runs.

    The system takes the lock back when the process ends, however it ends; children of the process
    do not keep it. The file says who holds it, and is removed at the end; one that a killed
    process left hinders nobody. Where the file system knows no locks, or the system has none
    (Windows), nothing is locked.

    Args:
        path: The lock file; its folder is made if absent.
        what: Begins the message: ``"runs/t2: scale 1 is being trained"``.
        wait: Seconds to wait for it; who has taken it just now has not said so yet.

    Raises:
        InputError: Another process holds it; the message names process and machine.
        OSError: The file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait
    while (handle := _take(path)) is None:
        if time.monotonic() >= deadline:
            raise InputError(f"{what} by {_holder(path)}")
        time.sleep(PAUSE)
    try:
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        if handle in _held:  # not in a child, which has closed it
            with suppress(OSError):
                path.unlink()  # while it is held: see _take
            _close(handle)


def _take(path: Path) -> int | None:
    """A descriptor that holds the lock; None where another process does."""
    # A link could lead to a file that is not ours to write to.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    _held.add(handle)
    ours = False
    try:
        # Whoever held it may have removed it after it was opened here.
        ours = _locked(handle) and os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        pass
    finally:
        if not ours:
            _close(handle)
    return handle if ours else None


def _locked(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in LOCKLESS:
            return True
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK):
            return False
        raise
    return True


def _holder(path: Path) -> str:
    """Who holds a lock, as its file says; the file is of another process and may say anything."""
    with suppress(OSError), path.open("rb") as stream:
        text = stream.read(200).decode("utf-8", "replace").partition("\n")[0]
        if text.startswith("process ") and text.isprintable():
            return text
    return "another process"


def _close(handle: int) -> None:
    _held.discard(handle)
    os.close(handle)


def _forget() -> None:
    """A child of the process does not hold on to its locks."""
    for handle in tuple(_held):
        _close(handle)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
