"""The start of a program: a signal or too little memory while libraries load is one line."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

LEAST = 1 << 30
"""Bytes of addresses that a program must be allowed (``ulimit -v``).

Measured: PyTorch on a CPU takes 600 MiB before anything is computed; with 500 MiB its libraries
end the process themselves, by SIGABRT or with words of their own.
"""

MEMORY = (
    "DefaultCPUAllocator",
    "bad_alloc",
    "can't start new thread",
    "Cannot allocate memory",
    "cannot allocate memory",
    "failed to map segment from shared object",
)
"""What is said where this machine has no memory, by libraries that raise what they like."""

ONEDNN = ("could not create a primitive", "could not execute a primitive")
"""All that oneDNN says where it gets no memory; of what it cannot compute it says more."""

LIFT = "lift a limit on memory (ulimit -v, a job's or container's)"

AGAIN = "run the same command again"

INTERRUPTED = 130
"""Exit status after a signal."""


def is_main() -> bool:
    """Whether this is the first (or only) process of torchrun or SLURM."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


@contextmanager
def loading() -> Iterator[None]:
    """Load libraries in the block; SIGINT and SIGTERM stay deadly until :func:`working`.

    Nothing has been done yet, so that a signal ends the process at once: libraries make all kinds
    of errors of an exception that reaches them while they are loaded.

    Raises:
        SystemExit: There is too little memory; one line on stderr has said so.
    """
    listen()
    if 0 < (allowed := _allowed()) < LEAST:
        _refuse(f"{LIFT}: {allowed >> 20} MiB are allowed, at least {LEAST >> 20} are needed")
    try:
        yield
    except (ImportError, MemoryError, OSError, RuntimeError, SystemError) as error:
        if not short_of_memory(error):
            raise
        _refuse(f"end other programs, or {LIFT}")


def listen() -> None:
    """SIGINT and SIGTERM end the process, in one line; for when there is nothing to be cleared.

    A SIGINT that is ignored, as of what a shell starts in the background, stays so.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)
    # A cluster's end of time is an interruption like any other.
    signal.signal(signal.SIGTERM, _leave)


@contextmanager
def working() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt in the block, so that scratch is removed.

    Where :func:`listen` has not been called, nothing changes.
    """
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is _leave]
    before = sys.unraisablehook
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    if numbers:
        sys.unraisablehook = _unraisable
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, _leave)
        sys.unraisablehook = before


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that this machine has no memory left."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    kinds = (ImportError, OSError, RuntimeError, SystemError)
    text = str(error)
    return isinstance(error, kinds) and (text in ONEDNN or any(mark in text for mark in MEMORY))


def interrupted(error: BaseException | None) -> bool:
    """Whether an error was made of an interruption, as by a library that was being loaded."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    if is_main():
        os.write(2, f"interrupted: {AGAIN}\n".encode())
    os._exit(INTERRUPTED)


def _refuse(what: str) -> NoReturn:
    if is_main():
        print(f"error: this machine is out of memory: {what}", file=sys.stderr)
    sys.exit(2)


def _allowed() -> int:
    """Bytes of addresses that the process is allowed; 0 without a limit."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return 0 if soft == resource.RLIM_INFINITY else soft


def _unraisable(about: sys.UnraisableHookArgs) -> None:
    """An interruption in a place that can raise nothing, as a finaliser, is raised outside it."""
    if isinstance(about.exc_value, KeyboardInterrupt):
        threading.Thread(target=_interrupt_soon, daemon=True).start()
    else:
        sys.__unraisablehook__(about)


def _interrupt_soon() -> None:
    time.sleep(0.01)
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)
