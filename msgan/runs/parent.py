"""Longer training: what a run has from a finished run, its parent, and how far it goes on.

The parent's folder is only read. A scale that is trained on begins with the parent's networks,
their moving average and optimisers, and counts its steps from there; all others are copied.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msgan.config import MOST_STEPS
from msgan.documents import json_of, shown
from msgan.paths import room, sha256
from msgan.training.log import LOG
from msgan.training.loop import CHECKPOINT, INHERITED, WEIGHTS, Span
from msgan.types import InputError

DONE = "done.json"
"""What is known of the training of a scale that came to its end."""


@dataclass(frozen=True)
class Parent:
    """The run that another one goes on from.

    Attributes:
        name: Of its folder.
        key: Of the run: configuration, target, data and version.
        weights: SHA-256 of its weights of each scale, as ``s0``.
        steps: That it had trained each scale that is trained on.
        more: Steps that each of these scales is trained beyond.
    """

    name: str
    key: str
    weights: Mapping[str, str]
    steps: Mapping[str, int]
    more: int

    @classmethod
    def of(
        cls, folder: Path, key: str, used: Iterable[int], scales: Iterable[int], more: int
    ) -> Parent:
        """A finished run as the parent of one that is trained longer.

        Args:
            folder: Of the finished run.
            key: Of it.
            used: Its scales.
            scales: Those to train longer.
            more: Steps for each of them.

        Raises:
            InputError: A scale is not finished, or has kept no state of its training.
        """
        if more < 1:
            raise InputError(f"{more} more steps: expected at least 1")
        for i in used:
            if not ((folder / f"s{i}" / DONE).is_file() and (folder / f"s{i}" / WEIGHTS).is_file()):
                raise InputError(
                    f"{folder}: the training of scale {i} is not finished: a run is trained "
                    "longer when all its scales are; go on with it by --resume"
                )
        steps = {}
        for i in scales:
            if not (folder / f"s{i}" / CHECKPOINT).is_file():
                raise InputError(
                    f"{folder}: scale {i} has no {CHECKPOINT}: exported models and runs of older "
                    "versions do not keep the state of their training, which must be begun anew"
                )
            steps[f"s{i}"] = _steps(folder / f"s{i}" / DONE)
            if steps[f"s{i}"] + more > MOST_STEPS:
                raise InputError(f"{steps[f's{i}']} and {more} more steps: at most {MOST_STEPS}")
        weights = {f"s{i}": sha256(folder / f"s{i}" / WEIGHTS) for i in used}
        return cls(folder.resolve().name, key, weights, steps, more)

    @classmethod
    def from_dict(cls, path: Path, content: Any) -> Parent:
        """What :meth:`to_dict` has written to the card at ``path``.

        Raises:
            InputError: It is damaged.
        """
        try:
            own = cls(**content)
            texts = [own.name, own.key, *own.weights, *own.weights.values(), *own.steps]
            counts = [own.more, *own.steps.values()]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError
            if not all(type(count) is int and 0 < count <= MOST_STEPS for count in counts):
                raise ValueError
        except (TypeError, ValueError, AttributeError):
            raise InputError(
                f"{path}: parent: is {shown(content)}: expected name, key, weights, steps and more"
            ) from None
        return own

    def to_dict(self) -> dict[str, Any]:
        """As a run's card states it."""
        return asdict(self)

    def span(self, scale: int) -> Span | None:
        """The steps that s_i is trained; None where it is copied."""
        begun = self.steps.get(f"s{scale}")
        return None if begun is None else Span(begun, begun + self.more)

    def __str__(self) -> str:
        begun = ", ".join(f"{name} from step {step}" for name, step in self.steps.items())
        return f"run {self.name} ({self.key}), {self.more} steps more: {begun}"

    def hand_on(self, folder: Path, new: Path) -> None:
        """Copy what the scales of the parent give to those of a new run.

        Args:
            folder: Of the parent.
            new: Of the new run, not yet under its name.

        Raises:
            InputError: The parent has changed, or the disk is full.
        """
        copies: list[tuple[Path, Path]] = []
        for name, known in self.weights.items():
            old = folder / name
            if sha256(old / WEIGHTS) != known:
                raise InputError(f"{old / WEIGHTS}: has changed since it was read")
            longer = name in self.steps
            files = {LOG: LOG, CHECKPOINT: CHECKPOINT, WEIGHTS: INHERITED if longer else WEIGHTS}
            files |= {} if longer else {DONE: DONE}
            copies += [(old / a, new / name / b) for a, b in files.items() if (old / a).is_file()]
        need = sum(source.stat().st_size for source, _ in copies)
        with room(new, need, "the state of the parent's training"):
            for source, path in copies:
                path.parent.mkdir(exist_ok=True)
                shutil.copyfile(source, path)


def _steps(path: Path) -> int:
    done = json_of(path)
    steps = done.get("step") if isinstance(done, dict) else None
    if not isinstance(steps, int):
        raise InputError(f"{path}: damaged: step is {shown(steps)}: expected a number")
    return steps
