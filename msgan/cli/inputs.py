"""Arguments of the commands: memory sizes, runs and images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msgan.cli import console
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.runs.run import Run

ManifestFile = Annotated[
    Path, typer.Argument(metavar="MANIFEST", help="CSV with a row for each file.")
]

Root = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder that the paths start from.",
        show_default="the manifest's folder",
    ),
]

BESIDE = (".json", ".bval", ".bvec", ".csv", ".tsv", ".txt", ".md", ".yaml", ".yml", ".html")
"""Suffixes of what lies beside images and is none."""


def memory(text: str | None, option: str) -> int | None:
    """Bytes of an option; None where it is not given.

    Raises:
        InputError: It is no positive size.
    """
    return None if text is None else console.memory_bytes(text, option)


def open_run(folder: Path) -> Run:
    """A trained run, a model, or a shipped model by its name.

    Raises:
        InputError: It is none, or damaged.
    """
    require_run(folder)
    from msgan.runs.run import Run

    return Run.open(folder)


def require_run(folder: Path) -> None:
    """Refuse what cannot be a run, without reading it: no library is loaded that takes seconds.

    Raises:
        InputError: It is a file, an image, or not there.
    """
    from msgan.runs.bundled import located

    if folder.is_file():
        raise InputError(f"{folder}: is a file, expected the folder of a run: RUN comes first")
    if folder.name.lower().endswith(".zarr") and folder.is_dir():
        raise InputError(f"{folder}: is an image, expected the folder of a run: RUN comes first")
    located(folder)


def require_image(path: Path, *, many: bool = False) -> None:
    """Refuse a run where an image is meant, and a folder of images where one is.

    Args:
        path: As it was given.
        many: A folder of images is meant.

    Raises:
        InputError: It is none of what is meant, or there is nothing.
    """
    from msgan.runs.bundled import CARD, bundled

    if (path / CARD).is_file():
        raise InputError(f"{path}: is the folder of a run, expected an image")
    if not path.exists():
        hint = "; it is the name of a model: RUN comes first" if str(path) in bundled() else ""
        raise InputError(f"{path}: no such file or folder{hint}")
    if not many and path.is_dir() and (inner := _first_image(path)):
        raise InputError(
            f"{path}: is a folder of images, as {inner.name}, expected one image or a DICOM "
            "series; translate takes them all where OUT is a folder as well"
        )


def require_manifest(path: Path) -> None:
    """Refuse a folder or an image where a manifest is meant, and one that is not there.

    Raises:
        InputError: It is one, or there is nothing.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    from msgan.data.store import suffix_of
    from msgan.data.volume import READERS

    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a manifest (CSV): msgan init makes one")
    if suffix_of(path) in READERS and path.is_file():
        raise InputError(f"{path}: is an image, expected a manifest (CSV): msgan init makes one")


def _first_image(folder: Path) -> Path | None:
    """An image of a folder that holds images and is none itself."""
    from msgan.data.store import suffix_of
    from msgan.data.volume import READERS

    if suffix_of(folder) == ".zarr":
        return None
    files = [f for f in sorted(folder.iterdir()) if f.is_file() and not f.name.startswith(".")]
    if any(suffix_of(file) not in (*READERS, *BESIDE) for file in files):
        return None  # any other file may be DICOM
    return next((file for file in files if suffix_of(file) in READERS), None)
