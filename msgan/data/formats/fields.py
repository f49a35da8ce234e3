"""Fields of text headers, parsed by our own strict rules before they are used."""

from __future__ import annotations

import math
import re

from msgan.types import InputError

NUMBER = re.compile(r"[+-]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][+-]?\d{1,4})?", re.ASCII)
LONGEST_SHOWN = 40


def shown(text: str) -> str:
    """``text`` for a message: quoted, cut, without control characters."""
    return ascii(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}...")


def number(name: str, text: str) -> float:
    """A finite number.

    Raises:
        InputError: ``text`` is none; ``name`` is the field in the message.
    """
    if not NUMBER.fullmatch(text) or not math.isfinite(value := float(text)):
        raise InputError(f"{name} {shown(text)}: expected a number")
    return value


def numbers(name: str, text: str, count: int) -> list[float]:
    """``count`` finite numbers with spaces between.

    Raises:
        InputError: There are more or fewer, or one is no number.
    """
    words = text.split()
    if len(words) != count:
        raise InputError(f"{name} {shown(text)}: expected {count} numbers")
    return [number(name, word) for word in words]


def whole(name: str, text: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``.

    Raises:
        InputError: It is none, or lies beyond.
    """
    value = number(name, text)
    if value != round(value) or not low <= value <= high:
        raise InputError(f"{name} {shown(text)}: expected a whole number from {low} to {high}")
    return int(value)


def truth(name: str, text: str) -> bool:
    """True or False, also as ``1`` and ``0``.

    Raises:
        InputError: It is neither.
    """
    word = text.lower()
    if word in ("true", "t", "1", "yes"):
        return True
    if word in ("false", "f", "0", "no"):
        return False
    raise InputError(f"{name} {shown(text)}: expected True or False")
