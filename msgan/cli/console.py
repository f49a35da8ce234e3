"""Functions that all commands share: output, memory sizes and progress bars."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from time import perf_counter
from types import TracebackType
from typing import Any

from msgan.printing import bare, duration, printable
from msgan.start import is_main
from msgan.types import InputError

UNITS = {
    **{"": 1, "b": 1},
    **{f"{p}{b}": 1000**k for k, p in enumerate("kmgt", 1) for b in ("", "b")},
    **{f"{p}i{b}": 1024**k for k, p in enumerate("kmgt", 1) for b in ("", "b")},
}
"""Bytes of a unit of memory, in lower case; the B may be left out, as of Slurm and Kubernetes."""


def say(text: str) -> None:
    """A result in one line, to stdout; one process speaks for all."""
    if is_main():
        print(printable(text))


def note(text: str) -> None:
    """A remark or an error in one line, to stderr; one process speaks for all."""
    if is_main():
        print(printable(text), file=sys.stderr)


def notes(texts: Iterable[str]) -> None:
    """Remarks on files, one line each."""
    for text in texts:
        note(f"note: {text}")


def memory_bytes(text: str, name: str = "memory") -> int:
    """Bytes of ``2GB``, ``512MiB``, ``4G``, ``4 Gi`` or ``1000000``; G are 1000^3, Gi 1024^3.

    Args:
        text: Number and unit, in capitals or not.
        name: Of the option, for the message.

    Raises:
        InputError: It is no positive size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text, re.IGNORECASE)
    if match is None or match[2].lower() not in UNITS:
        raise InputError(
            f"{name} {text!r}: expected a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, "
            "as in 2GB, 512MiB or 4G"
        )
    size = int(float(match[1]) * UNITS[match[2].lower()])
    if size < 1:
        raise InputError(f"{name} {text!r}: expected at least one byte")
    return size


class Bars:
    """A bar on stderr for each stage; where stderr is no terminal, a line when a stage ends.

    Used in a ``with``; a stage ends when another begins or the block does.

    Args:
        first: What is done before the first stage, shown on a terminal only.
    """

    def __init__(self, first: str) -> None:
        self._first = printable(first)
        self._bars: Any = None
        self._task: Any = None
        self._stage = ""
        self._line = ""
        self._start = 0.0

    def update(
        self,
        stage: str,
        done: int,
        total: int,
        unit: str,
        note: str = "",
        seconds: float | None = None,
    ) -> None:
        """Show that ``done`` of ``total`` parts of a stage are done.

        Args:
            stage: Its name, shown in front.
            done: Parts done.
            total: Parts there are.
            unit: What the parts are.
            note: What else to show.
            seconds: Time the parts took; by default since the first call for this stage.
        """
        stage = printable(stage)
        if stage != self._stage:
            self._end()
            self._stage, self._start = stage, perf_counter()
            if self._bars is not None:
                if self._first:
                    self._bars.remove_task(self._task)
                    self._first = ""
                self._task = self._bars.add_task(stage, total=total, text="", left="")
        spent = perf_counter() - self._start if seconds is None else seconds
        text = f"{done}/{total} {unit}{note and ', '}{note}"
        self._line = f"{stage}: {text}, {duration(spent)}"
        if self._bars is not None:
            left = f"{duration(spent * (total - done) / done)} left" if done else ""
            self._bars.update(self._task, completed=done, text=printable(text), left=left)

    def note(self, text: str) -> None:
        """A remark on a file, above the bars."""
        if self._bars is None:
            notes([text])
        else:
            self._bars.console.print(printable(f"note: {text}"), markup=False, highlight=False)

    def _end(self) -> None:
        if self._line and self._bars is None:
            note(self._line)
        self._line = ""

    def __enter__(self) -> Bars:
        if is_main() and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            fields = ("{task.description}", "{task.fields[text]}", "{task.fields[left]}")
            # A name with brackets is no markup, and only the bars themselves may move the cursor.
            name, text, left = (TextColumn(field, markup=False) for field in fields)
            bars = Console(file=bare(sys.stderr))
            self._bars = Progress(name, BarColumn(), text, left, console=bars)
            self._bars.start()
            self._task = self._bars.add_task(self._first, total=None, text="", left="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        elif kind is None:
            self._end()
