"""A result that cannot be shown, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")


@dataclass(frozen=True)
class Fault:
    """Something that cannot be shown: where, and what is wrong with it."""

    path: Path
    what: str

    def __str__(self) -> str:
        return self.what if str(self.path) in self.what else f"{self.path}: {self.what}"


def tried(make: Callable[[], Made], path: Path, faults: list[Fault]) -> Made | None:
    """What ``make`` gives; None where it fails, which is noted among the faults."""
    try:
        return make()
    except (ValueError, OSError) as error:  # text that is not UTF-8 is a ValueError too
        reason = getattr(error, "strerror", None) or str(error)
        faults.append(Fault(path, " ".join(reason.split())))
        return None
