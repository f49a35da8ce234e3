"""Data files named by a text header; they must be in the header's own folder."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path, PureWindowsPath

from msgan.data.formats.fields import shown, whole
from msgan.types import InputError, Shape

MOST_FILES = 100_000
PATTERN = re.compile(r"([^%]*)%(0?)(\d{0,2})d([^%\s]*)\s+(\d+)\s+(\d+)(?:\s+(\d+))?", re.ASCII)
"""A name with one number in it as C writes it, the first number, the last, and the step."""


def companion(header: Path, name: str) -> Path:
    """The file ``name`` in the folder of ``header`` or below it.

    Links count by where they lead to: into the folder of the header, or into that to which the
    header itself is linked.

    Raises:
        InputError: The name leads elsewhere, or there is no such file.
    """
    plain, windows = Path(name), PureWindowsPath(name)
    if not name or "\0" in name or plain.is_absolute() or windows.drive or windows.root:
        raise InputError(f"names {shown(name)} as its data file: expected a name without a folder")
    file = header.parent / name
    if ".." in windows.parts or not lies_beside(header, file):
        raise InputError(
            f"names {shown(name)} as its data file: only files in the header's own folder are read"
        )
    if not file.is_file():
        raise InputError(f"without its data file: {shown(name)} is missing")
    return file.resolve()


def lies_beside(header: Path, file: Path) -> bool:
    """Whether ``file``, links followed, is in or below a folder of ``header``, links followed."""
    folders = {header.parent.resolve(), header.resolve().parent}
    try:
        target = file.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return False
    return any(target.is_relative_to(folder) for folder in folders)


def companions(header: Path, text: str, following: list[str], sizes: Shape) -> tuple[Path, ...]:
    """The data files that ``text`` names: one, a ``LIST`` of the lines below, or a numbered name.

    Args:
        header: The file that names them.
        text: ``name``, ``LIST [axes]`` (``2`` or ``2D``) or ``slice%03d.raw first last [step]``.
        following: Lines below the field.
        sizes: Of the axes; several files hold those of the first axes, all but one by default.

    Raises:
        InputError: The number of files is not that of the header; see :func:`companion`.
    """
    words = text.split()
    if words and words[0] == "LIST" and len(words) <= 2:
        axes = (
            whole("LIST", words[1].removesuffix("D"), 1, len(sizes))
            if len(words) == 2
            else len(sizes) - 1
        )
        names = [line.strip() for line in following if line.strip()]
    elif numbered := PATTERN.fullmatch(text.strip()):
        before, zero, width, after, *ends = numbered.groups()
        first, last, step = (whole("number of a data file", n or "1", 0, 10**9) for n in ends)
        pad = int(width or 0)
        count = (last - first) // max(step, 1) + 1
        if not 0 < count <= MOST_FILES or not step:
            raise InputError(f"data files {shown(text)}: expected first and last number and a step")
        form = "{:0{}d}" if zero else "{:{}d}"
        names = [
            before + form.format(n, pad) + after for n in range(first, first + count * step, step)
        ]
        axes = len(sizes) - 1
    elif "%" in text:
        raise InputError(f"data files {shown(text)}: expected a name like a%03d.raw 1 9 1")
    else:
        return (companion(header, text.removeprefix("./")),)
    count = prod(sizes[axes:])
    if len(names) != count:
        raise InputError(f"{len(names)} data files: the header promises {count}")
    return tuple(companion(header, name.removeprefix("./")) for name in names)
