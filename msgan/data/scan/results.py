"""Finds generated images, those of msgan first; they are never proposed as acquired."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from msgan.data.scan.words import words_of
from msgan.data.store import suffix_of

RUN = "a run folder of msgan: what is in it was generated, not acquired"
REPORT = "a report of msgan: its pictures are no acquired images"
SIDECAR = "a result of msgan, as its sidecar says: generated, not acquired"
NAMED = "a result by its name (_as_{}): generated, not acquired"
SKETCH = "a sketch by its name, not an image"
WORD = "'{}' in its name: generated, not acquired"
GENERATED = ("generated", "translated", "synthesized", "synthesised", "predicted", "fake")
PREDICTED = "in a folder of a network's results: predicted, not acquired"

SMALL = 1 << 16
"""Bytes of a JSON file that may be the sidecar of a translation."""


def folder_reason(folders: Iterable[str], files: Iterable[str], name: str) -> str:
    """Why a folder is left out as a whole; empty where it is looked through.

    Args:
        folders: Names of the folders in it.
        files: Names of the files in it.
        name: Its own.
    """
    folders, files = set(folders), set(files)
    if {"run.json", "config.yaml"} <= files:
        return RUN
    if ("report.html" in files and "tables" in folders) or (
        name == "reports" and ("runs" in folders or "index.html" in files)
    ):
        return REPORT
    return ""


def named_reason(stem: str) -> str:
    """Why a file is left out by its name; empty where it may be an image."""
    if match := re.search(r"_as_([A-Za-z][A-Za-z0-9_-]*)$", stem):
        return NAMED.format(match[1])
    words = words_of(stem)
    if words and words[-1] in ("sketch", "sketches"):
        return SKETCH
    word = next((w for w in words[1:] if w in GENERATED), "")
    return WORD.format(word) if word else ""


def traced(folder: Path, names: Iterable[str]) -> set[str]:
    """Those names of files in a folder that sidecars beside them say are results."""
    names = set(names)
    found: set[str] = set()
    stems = {n[: len(n) - len(suffix_of(Path(n)))]: n for n in names if not n.endswith(".json")}
    for name in names:
        if not (name.endswith(".json") and name[:-5] in stems):
            continue
        try:
            with (folder / name).open("rb") as stream:
                content = json.loads(stream.read(SMALL))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict) and {"method", "result", "tiles"} <= content.keys():
            result = content["result"]
            if isinstance(result, str) and "/" not in result:
                found |= {result} & names
            found.add(stems[name[:-5]])
    return found
