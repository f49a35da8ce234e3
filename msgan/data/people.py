"""Which names belong to one person: names that differ in case, visit or side only."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

ARCHIVES = re.compile(
    r"TCGA-\w{2}-\w{4}|LIDC-IDRI-\d{4}|UPENN-GBM-\d{5}|UCSF-PDGM-\d{4}|BraTS-[A-Za-z]+-\d{5}"
    r"|\d{3}_S_\d{4,5}|OAS[12]_\d{4}|OAS3\d{4}|C3[NL]-\d{5}|ReMIND-\d{3}|sub-[A-Za-z0-9]+",
    re.IGNORECASE,
)
"""How archives name their people; what follows is a visit, a series or a date."""

PIECES = re.compile(
    r"(?:run|frame|phase|slice|part|patch|crop|chunk|aug|rot|flip)\d*|lh|rh|left|right|l|r|hemi"
    r"|ed|es|flipped|augmented|copy",
    re.IGNORECASE,
)
"""Words for a side or a part of a person."""

VISITS = re.compile(
    r"baseline|bl|follow|up|fu\d*|followup\d*|[mvwdy]\d{1,4}|(?:visit|ses|session|tp|timepoint|day"
    r"|week|month|year|scan|study|mr)\d*|pre|post|preop|postop|intraop"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])(?:\d{6})?",
    re.IGNORECASE,
)
"""Words for a visit; some of them are numbers of people in other studies."""

MOST_VISITS = 12
MOST_PARTS = 6
"""Longer names of one person; where more begin alike, the beginning is a site or a study."""


def key_of(name: str, visits: bool = True) -> tuple[str, ...]:
    """What names of one person have in common: letters and numbers without sides.

    Args:
        name: Of a subject.
        visits: Words for visits do not count either.
    """
    if match := ARCHIVES.search(name):
        name = match[0]
    words = re.findall(r"[A-Za-z0-9]+", re.sub(r"(?<!\d)(?:19|20)\d\d-\d\d-\d\d(?!\d)", "", name))
    dropped = (PIECES, VISITS) if visits else (PIECES,)
    left = [w for k, w in enumerate(words) if not k or not any(d.fullmatch(w) for d in dropped)]
    if any(c.isdigit() for word in left for c in word):
        words = left
    runs = re.findall(r"[a-z]+|\d+", " ".join(words).casefold())
    return tuple(run.lstrip("0") or "0" for run in runs)


def one_person(names: Iterable[str], same: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """The person behind each name; the shortest name of a person stands for all.

    Args:
        names: Of people as files and headers name them.
        same: Pairs of names that are one person for another reason.
    """
    known = sorted(set(names), key=lambda n: (len(n), n))
    leader = {name: name for name in known}

    def first(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    def join(a: str, b: str) -> None:
        one, other = sorted((first(a), first(b)), key=lambda n: (len(n), n))
        leader[other] = one

    keys: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in known:
        keys[key_of(name)].append(name)
    for key, members in list(keys.items()):
        apart = {key_of(name, visits=False) for name in members}
        if len(apart) > MOST_VISITS or (len(keys) == 1 and len(apart) > MOST_PARTS):
            del keys[key]
            for name in members:
                keys[key_of(name, visits=False)].append(name)
    for members in keys.values():
        for name in members[1:]:
            join(members[0], name)
    for key, longer in _longer(keys).items():
        if len(longer) <= MOST_PARTS:
            for other in longer:
                join(keys[key][0], keys[other][0])
    for a, b in same:
        join(a, b)
    return {name: first(name) for name in known}


def _longer(keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Keys that end in words and begin with a whole other key, by that other key."""
    known = set(keys)
    found: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for key in known:
        for end in range(1, len(key)):
            begin = key[:end]
            if begin in known and any(run.isdecimal() for run in begin):
                found[begin].add(key)
    return found
