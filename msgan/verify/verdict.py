"""What a comparison has found: of each part whether it is the same, and if not, where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from msgan.runs.run import flat
from msgan.types import InputError


class State(Enum):
    """Of one part of a result."""

    IDENTICAL = "identical"
    CLOSE = "within tolerance"
    DIFFERENT = "different"
    UNCHECKED = "not checked"


@dataclass(frozen=True)
class Finding:
    """One part of a result.

    Attributes:
        what: Its name, as ``s1: weights``.
        state: Whether it is as it should be.
        detail: Where it differs and by how much, or why it was not checked.
        apart: Largest relative difference; None where nothing was measured.
    """

    what: str
    state: State
    detail: str = ""
    apart: float | None = None

    def __str__(self) -> str:
        return f"{self.state.value:16}  {self.what}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True)
class Verdict:
    """All parts of a result.

    Attributes:
        result: What was checked.
        findings: In the order in which the parts were made: the first that differs comes first.
        circumstances: What differs between the machines or programs that have made both.
    """

    result: str
    findings: tuple[Finding, ...]
    circumstances: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """Different where any part is, else within tolerance where any part is."""
        found = {finding.state for finding in self.findings}
        known = (State.DIFFERENT, State.CLOSE, State.IDENTICAL)
        return next((state for state in known if state in found), State.UNCHECKED)

    @property
    def passed(self) -> bool:
        """Whether every part that was checked is identical or within the tolerance."""
        return self.state in (State.IDENTICAL, State.CLOSE)

    def __str__(self) -> str:
        """The verdict in one line, with the first part that differs."""
        first = next((f for f in self.findings if f.state is self.state), None)
        if first is None or self.state is State.IDENTICAL:
            return f"{self.result}: {self.state.value}"
        if self.state is State.CLOSE:
            most = max(f.apart or 0.0 for f in self.findings)
            return f"{self.result}: {self.state.value}: largest relative difference {most:.3g}"
        detail = f": {first.detail}" if first.detail else ""
        return f"{self.result}: {self.state.value}: first in {first.what}{detail}"


def judged(what: str, apart: float, tolerance: float | None, where: str) -> Finding:
    """A finding of what was measured and is not equal.

    Args:
        what: The part.
        apart: Its largest relative difference; not finite: no tolerance covers it.
        tolerance: Largest that is accepted; None: nothing but equality is.
        where: Says where it is.
    """
    close = tolerance is not None and apart <= tolerance
    detail = f"{where}, relative difference {apart:.3g}"
    return Finding(what, State.CLOSE if close else State.DIFFERENT, detail, apart)


def tried(what: str, check: Callable[[], str | None]) -> Finding:
    """A finding of a check that tells what is wrong, or raises it; None: nothing is."""
    try:
        wrong = check()
    except (InputError, OSError) as error:
        wrong = str(error)
    return Finding(what, State.DIFFERENT, wrong) if wrong else Finding(what, State.IDENTICAL)


def stated(what: str, is_: Any, should: Any) -> Finding:
    """A finding of a value that a card states; None: it states none."""
    if should is None:
        return Finding(what, State.UNCHECKED, "the card does not state it")
    if is_ == should:
        return Finding(what, State.IDENTICAL)
    return Finding(what, State.DIFFERENT, f"is {short(is_)}, the card states {short(should)}")


def short(value: Any) -> str:
    """A value in a line; of a hash the beginning."""
    text = str(value)
    return text[:12] if len(text) >= 32 and " " not in text else text


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """What two descriptions of circumstances say differently, a line each."""
    first, second = flat(one), flat(other)
    names = {**first, **second}
    return tuple(
        f"{name}: {short(first.get(name, 'not stated'))} and "
        f"{short(second.get(name, 'not stated'))}"
        for name in names
        if first.get(name) != second.get(name)
    )


def only_in(one: Sequence[str], other: Sequence[str]) -> str | None:
    """Names that one side alone has, in a line; None: both have the same."""
    odd = sorted(set(one) ^ set(other))
    return f"{', '.join(odd)}: on one side only" if odd else None
