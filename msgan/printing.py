"""What is printed: text from files cannot steer a terminal, forge a line or hide a part of one."""

from __future__ import annotations

import re
from typing import Any, TextIO

PROGRESS = "MSGAN_PROGRESS"
"""Environment variable: 0 keeps notebooks quiet, as those that ``run_all.sh`` executes."""

MARKS = re.compile(r"[\\*_\[\]<>|]")
"""Of what Markdown makes links, pictures, HTML and cells of tables."""


def printable(text: str) -> str:
    r"""``text`` as one line in which everything is seen.

    Line breaks, ``ESC`` and other control characters, marks that turn the direction of writing
    (U+202A to U+202E, U+2066 to U+2069), spaces of other kinds and bytes that are no UTF-8
    become escapes as in Python: ``\n``, ``\x1b``, ``\u202e``, ``\udcff``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def markdown(text: str) -> str:
    """``text`` within a line of Markdown: no link, picture, HTML or cell of a table comes of it.

    An ``_`` within a word means nothing and stays; so do ticks, whose code is shown as it is.
    """
    marked = MARKS.sub(lambda m: f"\\{m[0]}", printable(text))
    return re.sub(r"(?<=[A-Za-z0-9])\\_(?=[A-Za-z0-9])", "_", marked)


def code(text: str) -> str:
    """``text`` as code within a line of Markdown, whatever ticks it has."""
    text = printable(text)
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks} {text} {ticks}" if "`" in text else f"{ticks}{text}{ticks}"


class Escaped:
    """A text stream on which every line is :func:`printable`; for all else the stream itself.

    For standard streams: what libraries print, warn, log or trace goes the same way as our lines.

    Args:
        stream: Where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write lines; their ends stay what they are."""
        self._stream.write("\n".join(map(printable, text.split("\n"))))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def bare(stream: Any) -> TextIO:
    """The stream behind an :class:`Escaped` one, else the stream; for bars that draw themselves."""
    return stream._stream if isinstance(stream, Escaped) else stream


def duration(seconds: float) -> str:
    """As ``1.2 s``, ``12 s``, ``3:05 min`` or ``1:02:07 h``."""
    whole = round(seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h"
