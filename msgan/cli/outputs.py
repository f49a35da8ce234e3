"""Output files of the commands: existing files are not overwritten without ``--force``."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from msgan.cli import console
from msgan.paths import no_folder
from msgan.types import InputError

Force = Annotated[bool, typer.Option("--force", help="Overwrite existing results.")]

SHOWN = 3
"""Names of a message, where there are many."""


def check(
    results: Sequence[Path],
    sources: Iterable[Path | None] = (),
    *,
    force: bool,
    instead: str = "",
    series: Collection[Path] = (),
) -> None:
    """Refuse results that would replace something, before any work is done.

    Args:
        results: Files, or ``.zarr`` folders, that will be written.
        sources: What is read: never replaced, with or without ``force``.
        force: Replace results that are there.
        instead: Another way out than ``--force``, for the message.
        series: Those that are folders for a DICOM series.

    Raises:
        InputError: A result is one of the sources, a part of one or in one; is there already and
            not to be replaced; is of another kind; shares its name with another result; or its
            folder cannot be made or written to.
    """
    from msgan.data.places import require_apart, require_kind

    given = [source for source in sources if source is not None]
    names: dict[str, Path] = {}
    require_apart(results, given)
    for result in results:
        require_kind(result, series=result in series)
        other = names.setdefault(_place(result), result)
        if other is not result:
            raise InputError(f"{result}: two results would have this name")
    if not force:
        require_free(results, instead)
    for place in dict.fromkeys(result.parent for result in results):
        writable(place)


def require_free(results: Sequence[Path], instead: str = "") -> None:
    """Refuse results that are there already.

    Args:
        results: Files or folders.
        instead: Another way out than ``--force``, for the message.

    Raises:
        InputError: One of them is there.
    """
    there = [result for result in results if os.path.lexists(result)]
    if not there:
        return
    way = f"pass --force to replace {'it' if len(there) == 1 else 'them'}{instead}"
    if len(there) == 1:
        raise InputError(f"{there[0]}: is there already: {way}")
    shown = ", ".join(map(str, there[:SHOWN])) + (" and others" if len(there) > SHOWN else "")
    raise InputError(f"{len(there)} of {len(results)} results are there already ({shown}): {way}")


def folder(out: Path) -> None:
    """Refuse a folder for results where a file is, or that cannot be made.

    Raises:
        InputError: It is one of these.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"{out}: is a file, expected a folder")
    writable(out)


def writable(place: Path) -> None:
    """Find out that a folder cannot be made or written to before hours of work, not after.

    Whatever is made to find out is removed again. One process asks for all.

    Raises:
        InputError: It cannot.
    """
    if not console.is_main():
        return
    missing = [f for f in (place, *place.parents) if not os.path.lexists(f)]
    fresh: list[Path] = []
    try:
        for step in reversed(missing):
            step.mkdir()
            fresh.append(step)
        # Permissions say yes to root, and know nothing of disks that can only be read.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        if (wrong := no_folder(place)) is not None:
            raise InputError(f"{wrong}, expected a folder") from error
        raise InputError(
            f"{place}: this folder cannot be {'made' if missing else 'written to'}: "
            f"{error.strerror or error}"
        ) from error
    finally:
        for step in reversed(fresh):
            with suppress(OSError):
                step.rmdir()


def _place(path: Path) -> str:
    """A name that two paths share if one would replace the other."""
    folder = Path(os.path.realpath(path.parent))
    turned = folder.with_name(folder.name.swapcase())
    if turned.name != folder.name and turned.exists() and turned.samefile(folder):
        # Capitals and composed letters are one name to file systems of macOS and Windows.
        return unicodedata.normalize("NFC", str(folder / path.name)).casefold()
    return str(folder / path.name)
