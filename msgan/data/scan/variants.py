"""Distinguishes images of one person and one kind: echoes, phases, inversions, repeats."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

Variant = tuple[tuple[str, str], ...]
"""Entities and their values in the order of a name, as ``(("acq", "fast"), ("echo", "1"))``."""

NAMING = ("phase", "task", "acq", "dir", "trc", "flip", "inv", "mt", "echo", "chunk", "hemi")
"""Entities that make another kind of image; others are repeats or versions of one image."""

ENTITIES = {*NAMING, "run", "rec", "space", "res", "den", "desc", "label", "part", "proc", "ce"}

PHASES = {
    *("arterial", "venous", "portal", "portalvenous", "portovenous", "delayed", "nephrographic"),
    *("corticomedullary", "excretory", "noncontrast", "precontrast", "insp", "inspiration"),
    *("inhale", "expi", "expiration", "exhale", "systole", "diastole", "art", "pv"),
}
"""Words for phases of contrast, of breath or of the heart."""

LESION = re.compile(r"lesion|tumou?r|wmh|stroke|infarct|h?emorrhage|necrosis|oedema|edema", re.I)

NO_MAGNITUDE = {"ph", "phase", "real", "imag", "imaginary"}


def variant_of(stem: str) -> Variant:
    """The entities of a file's name, as BIDS writes them or as dcm2niix and scanners do."""
    found = re.findall(r"(?:^|[_-])([a-z]+)-([A-Za-z0-9+]+)(?=[_.]|$)", stem)
    own = {key: value for key, value in found if key in ENTITIES}
    words = [word.lower() for word in re.findall(r"[A-Za-z0-9]+", stem)]
    for word in words[1:]:
        for key, sign in (("echo", "echo|e"), ("inv", "inv"), ("run", "run")):
            if match := re.fullmatch(rf"(?:{sign})(\d)", word):
                own.setdefault(key, match[1])
        if word in PHASES or re.fullmatch(r"t\d0", word):
            own.setdefault("phase", word)
    if match := re.search(r"_(ph|phase|real|imaginary)[a-z]?$", stem, re.IGNORECASE):
        own.setdefault("part", match[1].lower())
    return tuple(own.items())


def says_variant(word: str) -> bool:
    """Whether a word (lower case) tells images of one person apart, not people."""
    return word in PHASES or bool(re.fullmatch(r"(?:echo|inv|run)\d+|t\d0", word))


ECHO = re.compile(r"_e\d(?:_(?:ph|phase|real|imaginary))?[a-z]?$", re.IGNORECASE)
"""How dcm2niix ends the names of echoes and phases."""


def is_magnitude(variant: Variant) -> bool:
    """Whether an image is what is looked at, and not a phase or one part of a complex number."""
    return not any(key == "part" and value in NO_MAGNITUDE for key, value in variant)


def named_apart(images: Iterable[tuple[str, str, str, Variant]]) -> dict[str, str]:
    """Modalities of images by path: with an entity in the name where a subject has several of it.

    Args:
        images: Path, subject, modality and variant of each.
    """
    own: dict[str, list[tuple[str, str, dict[str, str]]]] = defaultdict(list)
    for path, subject, modality, variant in images:
        own[modality].append((path, subject, dict(variant)))
    result = {}
    for modality, members in own.items():
        differing = []
        for key in NAMING:
            values: dict[str, set[str]] = defaultdict(set)
            for _, subject, entities in members:
                values[subject].add(entities.get(key, ""))
            if any(len(several) > 1 for several in values.values()):
                differing.append(key)
        for path, _, entities in members:
            parts = [
                entities[key] if key in ("phase", "task", "acq") else f"{key}{entities[key]}"
                for key in differing
                if key in entities
            ]
            words = (re.sub(r"[^a-z0-9]+", "", part.lower()) for part in parts)
            result[path] = "_".join([modality, *filter(None, words)])
    return result


def order(path: str, variant: Variant) -> tuple[object, ...]:
    """Of images of one kind the first is taken: acquired before derived, first before repeated."""
    own = dict(variant)
    derived = "derivatives" in path.split("/")
    ill = bool(LESION.search(path.rpartition("/")[2]))  # of label maps, pathology
    versions = sum(key in own for key in ("space", "res", "den", "desc", "rec", "proc"))
    run = int(own["run"]) if own.get("run", "").isdecimal() else 0
    return derived, not ill, versions, path.count("/"), run, path
