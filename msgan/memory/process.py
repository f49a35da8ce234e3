"""Measures the memory of work in its own process."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from msgan.paths import write_text
from msgan.types import InputError

STATUS = Path("/proc/self/status")
FORGET = Path("/proc/self/clear_refs")
GROUP = Path("/sys/fs/cgroup")

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 20)}
"""Environment with which glibc hands freed memory back at once; else it stays with the process."""


def resident_bytes() -> int:
    """Host memory of this process now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """Most host memory this process has held, or held since :func:`forget_peak`.

    Linux tells it in ``/proc``, where it begins with the program; ``getrusage``, asked elsewhere,
    may count the process that started this one.
    """
    if STATUS.is_file():
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Let the peak begin at what is held now, where the system can do that (Linux)."""
    try:
        FORGET.write_text("5")
    except OSError:
        return  # the peak of starting the program stays: a small measurement reads too high


def share_arena() -> None:
    """Let all threads take memory from one place, where the C library is glibc.

    By default each thread keeps an arena of what it once used, which adds up to a tile or two.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(-8, 1)  # M_ARENA_MAX


def give_back() -> None:
    """Return freed memory to the system, where the C library is glibc and would keep it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def available_bytes() -> int:
    """Host memory that can be taken now: of the machine, or of the group it is shared out by."""
    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            free = min(free, int((GROUP / limit).read_text()) - int((GROUP / used).read_text()))
        except (OSError, ValueError):  # no such group, or one without a limit
            continue
    return max(free, 0)


def fresh(
    code: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Any:
    """Run ``code`` in a new process of this interpreter and return the JSON it prints last.

    Args:
        code: Python, which finds ``arguments`` in ``sys.argv``.
        arguments: Handed on as they are.
        environment: Added to that of this process, :data:`ALLOCATOR` for example.
        log: Where to keep what it writes to stderr.

    Returns:
        What was printed; None where the system killed the process, which is how it ends one that
        takes more memory than there is.

    Raises:
        InputError: It failed otherwise; the last line it wrote says why.
    """
    command = [sys.executable, "-c", code, *arguments]
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if log is not None:
        write_text(log, done.stderr)
    if done.returncode in (-9, 137):
        return None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"measuring failed with status {done.returncode}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])
