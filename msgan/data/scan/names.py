"""What names of files and folders say: the subject and the kind of image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from msgan.data.people import ARCHIVES
from msgan.data.scan import bids, nnunet, results
from msgan.data.scan.datasets import Name, known
from msgan.data.scan.variants import ECHO, is_magnitude, says_variant, variant_of
from msgan.data.scan.words import (
    CONTRAST,
    GENERIC,
    KERNEL,
    LABELS,
    MASKS,
    MODALITIES,
    PATHOLOGY,
    PROCESSING,
    REGIONS,
    RUN,
    SESSION,
    modality_of,
    role_of,
    words_of,
)
from msgan.data.store import suffix_of

SAYS_WHAT = {
    *(word for known in MODALITIES.values() for word in known if word != "lidc"),
    *(CONTRAST | LABELS | MASKS | PATHOLOGY | set(REGIONS)),
    "standard",
}
"""Words that say what an image is, not whose."""

DATE = r"(?:.*[_ ])?((?:19|20)\d\d[-.]\d\d[-.]\d\d|\d\d-\d\d-(?:19|20)\d\d)(?![0-9])"
"""Of a folder or name that begins with the day of a visit."""

PHASE = "a phase or one part of a complex image, not a magnitude"


def stem_of(path: str) -> str:
    """A file's name without the suffix that says its format."""
    name = path.rpartition("/")[2]
    return name[: len(name) - len(suffix_of(Path(name)))] or name


def read_name(path: str) -> Name:
    """The guess for one file; ``path`` is below the scanned folder, with forward slashes."""
    stem, parents = stem_of(path), PurePosixPath(path).parts[:-1]
    left = results.named_reason(stem)
    if nnunet.is_result(parents) or any(p.lower() in results.GENERATED for p in parents):
        left = results.PREDICTED
    found = known(stem, parents) or _general(stem, parents)
    variant = variant_of(stem)
    if found.role == "image" and not is_magnitude(variant):
        left = left or PHASE
    return replace(found, variant=variant, left=left or found.left)


def _general(stem: str, parents: tuple[str, ...]) -> Name:
    words = words_of(stem)
    modality, word = modality_of(words)
    role, sign = role_of(words, modality)
    why = f"'{sign or word}' in the file's name" if sign or word else ""
    known, left = bids.kind_of(stem, parents), ""
    if known is not None:
        modality, role, why, left = known
    for folder in reversed(parents):
        if why:
            break
        own = words_of(folder)
        modality, word = modality_of(own)
        role, sign = role_of(own, modality)
        if role != "image" and not set(own) <= SAYS_WHAT | GENERIC:
            role = "image"  # a cohort 'tumour_study' holds images
        if modality or role != "image":
            why = f"'{sign or word}' in the folder's name"
    if role != "image":
        modality = REGIONS.get(sign, "lung") if role == "region" else ""
    session = ""
    for part in (*parents, stem):
        session = _session(part) or session
    text = "/".join((*parents, stem))
    if match := re.search(r"(?:^|[/_])(sub-[A-Za-z0-9]+)", text):
        who = match[1]
        name = Name(modality, role, who, session=session, sure=True, person=who, why=why)
        return replace(name, left=left)
    if archive := re.findall(ARCHIVES, text):
        who = archive[-1]
        if not who.startswith("BraTS"):  # whose names end in the number of a visit
            return Name(modality, role, who, session=session, sure=True, person=who, why=why)
    own_name = _left_over(re.sub(ECHO, "", stem))
    person = ""
    if match := re.fullmatch(r"(BraTS-[A-Za-z]+-\d{5})-\d{3}", own_name):
        person = match[1]
    folder, inside = _folder(parents)
    return Name(modality, role, own_name, folder, inside, session, bool(person), person, why)


def _session(text: str) -> str:
    """``ses-01``, ``study1`` and the like in a name; empty where there is none."""
    words = "|".join(sorted(SESSION))
    pattern = rf"(?:^|[_./ -])(ses-[A-Za-z0-9]+|(?:{words})[-_]?\d+)(?![A-Za-z0-9])"
    match = re.search(pattern, text, re.IGNORECASE) or re.match(DATE, text)
    return match[1] if match else ""


def _left_over(stem: str) -> str:
    """A file's name without the words that say what it is, its session and its processing."""
    tokens = list(re.finditer(r"[A-Za-z0-9]+", stem))
    words = [t[0].lower() for t in tokens]
    if "to" in words and modality_of(words)[0]:
        tokens = tokens[: words.index("to")]
    kept = ""
    skip = False
    for token in tokens:
        word = token[0].lower()
        entity = word in SESSION | RUN
        if not (skip or entity or _tells_nothing(word)):
            between = stem[token.start() - 1] if token.start() else ""
            kept += (between if kept else "") + token[0]
        skip = entity and stem[token.end() : token.end() + 1] == "-"
    return kept


def _tells_nothing(word: str) -> bool:
    numbered = rf"(?:{'|'.join(sorted(SESSION | RUN))})\d+"
    size = r"\d+(?:x\d+)+(?:mm)?|\d+mm|\d+mm\w*|\d+x\d+x\d+mm"
    return (
        word in SAYS_WHAT | PROCESSING
        or says_variant(word)
        or word.startswith("regto")
        or bool(KERNEL.fullmatch(word) or re.fullmatch(f"{numbered}|{size}", word))
    )


def _folder(parents: tuple[str, ...]) -> tuple[str, str]:
    """The nearest folder that may be a subject's, and its path."""
    for k in range(len(parents), 0, -1):
        words = words_of(parents[k - 1])
        plain = all(w in GENERIC or _tells_nothing(w) for w in words)
        if not plain and not _session(parents[k - 1]):
            left = _left_over(parents[k - 1])
            # 'IXI-T1' holds the T1 of many.
            if modality_of(words)[0] and not re.search(r"\d", left):
                continue
            return parents[k - 1], "/".join(parents[:k])
    return "", ""


def subjects_of(names: Mapping[str, Name], otherwise: str) -> dict[str, tuple[str, str]]:
    """Subject and person of each file.

    A folder is a subject's where it holds no kind of image twice, and the file names within do
    not agree on another name.

    Args:
        names: By path.
        otherwise: The subject where neither file nor folders name one.
    """
    inside: dict[str, list[Name]] = defaultdict(list)
    for name in names.values():
        if name.inside and not name.sure:
            inside[name.inside].append(name)
    holds = {folder: _contents(members) for folder, members in inside.items()}
    result = {}
    for path, name in names.items():
        subject = name.own if name.sure else _subject(name, holds.get(name.inside))
        subject = subject or otherwise
        person = name.person or subject
        if name.session:
            subject = f"{subject}_{name.session}"
        result[path] = subject, person
    return result


def _contents(others: list[Name]) -> tuple[bool, bool, bool]:
    """Whether the files of a folder are one of each kind, agree on a name, and are series."""
    kinds = [(n.role, n.modality, n.session, n.variant) for n in others]
    own = {n.own for n in others}
    # Converters begin names with the number of a series.
    numbers = len(others) > 1 and all(re.fullmatch(r"\d{0,4}[a-z]?", name) for name in own)
    series = numbers and 2 * len(set(kinds)) > len(kinds)
    return len(set(kinds)) == len(kinds), len(own) == 1, series


def _subject(name: Name, folder: tuple[bool, bool, bool] | None) -> str:
    if not name.folder or folder is None:
        return name.own
    one, agree, series = folder
    numbered = bool(re.search(r"\d", name.own))
    if series and re.search(r"\d", name.folder):
        return name.folder
    if one and not (numbered and agree):
        return name.folder
    if not numbered and (one or not name.own or re.search(r"\d", name.folder)):
        return name.folder
    return name.own
