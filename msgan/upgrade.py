"""Converts configurations of older runs and models to the current names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgan.types import InputError

PARTS = {"degradation": "conditioning", "blind": "drop_inputs", "previous": "auto_context"}
"""Settings of the cascade itself."""

SETTINGS = {
    "conditioning": {"made_share": "generated_share"},
    "network": {
        "low_width": "lr_width",
        "low_levels": "lr_levels",
        "low_border": "lr_border",
        "high_width": "hr_width",
        "high_blocks": "hr_blocks",
    },
    "training": {"low_steps": "lr_steps", "low_batch": "lr_batch", "low_patch": "lr_patch"},
}
"""Settings of its parts, which have today's names."""

FAMILIES = {"paper": "megan"}
CHANNELS = {"previous": "auto_context"}


def upgraded(content: Any, path: Path) -> Any:
    """What the configuration file ``path`` holds, with the names and values of today.

    Whatever else it holds is left as it is: validation tells what is wrong with it.

    Raises:
        InputError: It has a setting twice, by its old and its new name.
    """
    if not isinstance(content, Mapping):
        return content
    new = _renamed(content, PARTS, f"{path}: ", "")
    for part, names in SETTINGS.items():
        if isinstance(new.get(part), Mapping):
            new[part] = _renamed(new[part], names, f"{path}: ", f"{part}.")
    network, sketch = new.get("network"), new.get("sketch")
    if isinstance(network, Mapping):
        new["network"] = {k: _word(v, FAMILIES) if k == "family" else v for k, v in network.items()}
    if isinstance(sketch, Mapping) and isinstance(sketch.get("channels"), list | tuple):
        new["sketch"] = {**sketch, "channels": [_word(c, CHANNELS) for c in sketch["channels"]]}
    return new


def _renamed(
    content: Mapping[Any, Any], names: Mapping[str, str], file: str, part: str
) -> dict[Any, Any]:
    for old, new in names.items():
        if old in content and new in content:
            raise InputError(f"{file}{part}{old} is the older name of {part}{new}: state one")
    return {_word(key, names): value for key, value in content.items()}


def _word(value: Any, words: Mapping[str, str]) -> Any:
    return words.get(value, value) if isinstance(value, str) else value
