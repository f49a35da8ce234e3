"""The models that come with the package: folders below ``msgan/models``, known by their names."""

from __future__ import annotations

import os
from pathlib import Path

from msgan.documents import json_of
from msgan.types import InputError

MODELS = Path(__file__).resolve().parents[1] / "models"

CARD = "run.json"
"""Of a run folder as well (:mod:`msgan.runs.run`)."""


def bundled() -> dict[str, Path]:
    """Their folders by name, in alphabetical order."""
    if not MODELS.is_dir():
        return {}
    return {f.name: f for f in sorted(MODELS.iterdir()) if (f / CARD).is_file()}


def summary(folder: Path) -> str:
    """What an exported model does, in one line.

    Raises:
        InputError: Its card is damaged.
    """
    card = json_of(folder / CARD)
    try:
        return str(card["model"]["summary"])
    except (KeyError, TypeError):
        raise InputError(f"{folder / CARD}: says nothing of a model") from None


def located(name: str | os.PathLike[str]) -> Path:
    """The folder that is meant: one on disk, or else a shipped model's.

    Raises:
        InputError: There is neither.
    """
    folder = Path(name)
    if folder.exists():
        return folder
    known = bundled()
    if str(name) in known:
        return known[str(name)]
    raise InputError(
        f"{folder}: not a run folder: there is no such folder, and no model of this name is "
        f"shipped; shipped: {', '.join(known) or 'none'}"
    )
