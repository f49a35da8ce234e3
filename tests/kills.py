"""A process that is killed at any system call that changes a disk, played in this process."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from msgan import leftovers, lock

CALLS = ("replace", "rename", "unlink", "rmdir", "mkdir", "utime")
"""Of ``os``; what is written is cut short by :func:`Life.write`."""


class Killed(BaseException):
    """SIGKILL: nothing that the process would still have done happens."""


class Life:
    """Processes one after the other, each with a number of its own, of which one is alive.

    Attributes:
        number: Of the process that lives.
    """

    def __init__(self) -> None:
        self.number = 10**7  # above those of the system
        self._left: int | None = None
        self._dead = False

    def step(self) -> None:
        """A change of the disk; the process is killed before it where its time has come."""
        if self._left is not None:
            self._left -= 1
            self._dead |= self._left < 0
        if self._dead:
            raise Killed

    def write(self, path: "os.PathLike[str]", content: bytes) -> None:
        """Write a file in two halves, between which the process may end."""
        self.step()
        with open(path, "wb") as stream:
            stream.write(content[: len(content) // 2])
            stream.flush()
            self.step()
            stream.write(content[len(content) // 2 :])

    def run(self, work: Callable[[], object], steps: int | None) -> bool:
        """Do some work in a process that is killed after so many steps; whether it was done."""
        self._left, self._dead = steps, False
        try:
            with self._watched():
                work()
            return True
        except Killed:
            self.number += 1
            lock._forget()  # the system takes the locks of a dead process back
            return False
        finally:
            self._left, self._dead = None, False

    @contextmanager
    def _watched(self) -> Iterator[None]:
        originals = {name: getattr(os, name) for name in CALLS}

        def watched(name: str) -> Callable[..., object]:
            def call(*words: object, **options: object) -> object:
                self.step()
                return originals[name](*words, **options)

            return call

        patches = [patch.object(os, name, watched(name)) for name in CALLS]
        patches += [
            patch.object(os, "getpid", lambda: self.number),
            patch.object(leftovers, "_lives", lambda process: process == self.number),
            patch.object(leftovers, "_renameat2", lambda: self._exchange),
        ]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()

    swaps = True
    """Whether the system can exchange two names at once."""

    def _exchange(self, *words: object) -> int:
        import ctypes
        import errno

        self.step()
        call = _swap()
        if not self.swaps or call is None:
            ctypes.set_errno(errno.ENOSYS)
            return -1
        return int(call(*words))


_swap = leftovers._renameat2
