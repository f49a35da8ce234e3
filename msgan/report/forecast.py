"""How much longer a run of all notebooks takes, from earlier runs and from what is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic


class Forecast:
    """The time that is left.

    A notebook that ran before is taken to need as long again, times how much longer or shorter
    those that are done took than before; one that never ran, the mean of the others.

    Args:
        stems: Notebooks to run.
        before: Seconds that each took when it last ran, of those that ever did.
        jobs: Notebooks at a time.
    """

    def __init__(self, stems: Iterable[str], before: Mapping[str, float], jobs: int = 1) -> None:
        self._left = dict.fromkeys(stems)
        self._before = {stem: seconds for stem, seconds in before.items() if seconds > 0}
        self._jobs = jobs
        self._total = len(self._left)
        self._taken: dict[str, float] = {}
        self._begun: dict[str, float] = {}

    @property
    def count(self) -> str:
        """How many are done, as ``3 of 14 done``."""
        return f"{self._total - len(self._left)} of {self._total} done"

    def begin(self, stem: str) -> None:
        """A notebook has begun."""
        self._begun[stem] = monotonic()

    def done(self, stem: str, seconds: float | None = None) -> None:
        """A notebook is done: in that time, or it had not to be run."""
        self._left.pop(stem, None)
        if seconds is not None:
            self._taken[stem] = seconds

    def left(self) -> float | None:
        """Seconds until all are done; None where nothing is known, or nothing is left."""
        known = [self._needs(stem) for stem in self._left]
        sure = [seconds for seconds in known if seconds is not None]
        if not sure:
            return None
        mean, now = sum(sure) / len(sure), monotonic()
        rest = [
            max(0.0, (mean if own is None else own) - (now - self._begun.get(stem, now)))
            for stem, own in zip(self._left, known, strict=True)
        ]
        return max(sum(rest) / self._jobs, *rest)

    def _needs(self, stem: str) -> float | None:
        """Seconds of one from its beginning to its end; None: not known."""
        both = [other for other in self._taken if other in self._before]
        pace = 1.0
        if both:
            pace = sum(self._taken[k] for k in both) / sum(self._before[k] for k in both)
        if stem in self._before:
            return pace * self._before[stem]
        if self._taken:
            return sum(self._taken.values()) / len(self._taken)
        return None
