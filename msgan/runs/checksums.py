"""Checksums of an exported model: sizes and hashes of its files, checked at opening."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgan.paths import inside, sha256, size
from msgan.runs.bundled import CARD
from msgan.types import InputError


def checksums(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``sha256`` and ``bytes`` of files, by their paths below the folder, with slashes."""
    return {
        name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
        for name in names
    }


def check(folder: Path, model: Any, needed: Iterable[str]) -> None:
    """Find out whether the files are those that were sealed.

    Args:
        folder: Of the model.
        model: What its card states; ``files`` is what :func:`checksums` has given.
        needed: Names that must be stated.

    Raises:
        InputError: A file is missing, of another size or content, outside the folder, or not
            stated.
    """
    files = model.get("files") if isinstance(model, Mapping) else None
    if not isinstance(files, Mapping) or not all(map(_complete, files.values())):
        raise InputError(f"{folder / CARD}: model: expected files, with sha256 and bytes of each")
    for name in {**dict.fromkeys(needed), **files}:
        path, stated = inside(folder, name), files.get(name)
        if stated is None:
            raise InputError(f"{path}: the model's card states no hash of it")
        if not path.is_file():
            raise InputError(f"{path}: no such file: the model is not complete, fetch it again")
        there = path.stat().st_size
        if there != stated["bytes"]:
            raise InputError(
                f"{path}: has {size(there)} ({there} bytes), the model's card states "
                f"{stated['bytes']} bytes: fetch the model again"
            )
        if (found := sha256(path)) != stated["sha256"]:
            raise InputError(
                f"{path}: is damaged or another file: its SHA-256 begins {found[:12]}, the model's "
                f"card states {str(stated['sha256'])[:12]}: fetch the model again"
            )


def _complete(stated: Any) -> bool:
    return isinstance(stated, Mapping) and {"sha256", "bytes"} <= stated.keys()
