"""Guesses the role of each image of a folder before it is opened."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from msgan.data.people import key_of, one_person
from msgan.data.scan import nnunet
from msgan.data.scan.files import Files
from msgan.data.scan.layout import names_in, remarks_on
from msgan.data.scan.names import Name, read_name, stem_of, subjects_of
from msgan.data.scan.series import STUDY, series_in
from msgan.data.scan.variants import LESION, Variant, named_apart
from msgan.data.scan.words import words_of

UNKNOWN = "unknown"
"""Modality of an image that nothing names; for its owner to correct."""

SEVERAL = "one of {} label maps of a subject in one folder: no more than one can be drawn"
MOST_MAPS = 2

FEW = 3
"""Names in a folder of one person; folders of batches hold more."""


@dataclass(frozen=True)
class Found:
    """One image, label map, mask or region.

    Attributes:
        path: Below the scanned folder.
        subject: Its name in the manifest.
        person: Who it is: all subjects of a person are in one split.
        modality: Empty for labels and masks.
        role: As in :class:`msgan.data.entry.Entry`, or ``atlas`` for anatomical labels.
        unit: ``HU`` or empty.
        why: What modality or role were read from; empty where nothing tells.
        files: How many it has.
        study: Of a DICOM study, where a person may have several; else empty.
        hashed: Whether ``subject`` is a hash of what a DICOM header says.
        variant: What tells images of one person and kind apart.
        split: That its data set states; else empty.
    """

    path: str
    subject: str
    person: str
    modality: str
    role: str = "image"
    unit: str = ""
    why: str = ""
    files: int = 1
    study: str = ""
    hashed: bool = False
    variant: Variant = ()
    split: str = ""


def guessed(folder: Path, files: Files, salt: bytes) -> tuple[list[Found], list[str]]:
    """Everything that may be an image, in the order of subjects and paths; and remarks.

    What names and headers of DICOM files speak against is added to ``files.omitted``.

    Args:
        folder: The scanned folder.
        files: What it holds.
        salt: Of names that are hashes.
    """
    paths = [*files.volumes, *files.pictures]
    datasets = nnunet.datasets_in(folder, paths)
    names = names_in(paths, datasets)
    for path in [p for p in names if names[p].left]:
        files.omit(path, names.pop(path).left)
    otherwise = "".join(c if c.isalnum() or c in "-_." else "_" for c in folder.resolve().name)
    subjects = subjects_of(names, otherwise or "subject")
    found = []
    for path, name in names.items():
        subject, person = subjects[path]
        modality = (name.modality or UNKNOWN) if name.role == "image" else name.modality
        one = Found(path, subject, person, modality, name.role, why=name.why)
        found.append(replace(one, variant=name.variant, split=name.split))
    same = [pair for path, name in names.items() for pair in _by_folder(name, subjects[path][1])]
    series, left = series_in(folder, files.dicom, salt)
    for path, reason in left:
        files.omit(path, reason)
    for s in series:
        one = Found(s.path, s.subject, s.person, s.modality or UNKNOWN, unit=s.unit)
        found.append(replace(one, why=s.why, files=s.files, study=s.study, hashed=s.hashed))
    for s in series:
        beside = read_name(f"{s.path}/slice")
        if beside.sure:  # the folder names a person, as sub-01 or TCGA-02-0001
            same.append((s.person, beside.person or beside.own))
    same += _few_in_folders(names, subjects)
    same += _anonymous({s.path: s.person for s in series if s.person.startswith(f"{STUDY}-")})
    found, merged = _people(_told_apart(_weighed(_by_study(found))), same)
    return sorted(found, key=lambda f: (f.subject, f.path)), [*remarks_on(datasets), *merged]


def _by_study(found: Sequence[Found]) -> list[Found]:
    """A subject for each study of a person where two have the same kind of image."""
    kinds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in found:
        kinds[one.subject, one.modality].add(one.study)
    doubled = {subject for (subject, _), studies in kinds.items() if len(studies) > 1}
    return [
        replace(f, subject=f"{f.subject}_{f.study}") if f.study and f.subject in doubled else f
        for f in found
    ]


def _weighed(found: Sequence[Found]) -> list[Found]:
    """Corrections by what else a subject has.

    ``low`` beside CTs is a dose; what is called ``lung`` and has no image beside it is one.
    """
    has: dict[str, set[str]] = defaultdict(set)
    for one in found:
        if one.role == "image":
            has[one.subject].add(one.modality)
    maps = Counter((f.subject, f.path.rpartition("/")[0]) for f in found if f.role == "labels")
    out = []
    for one in found:
        count = maps[one.subject, one.path.rpartition("/")[0]]
        if one.role == "labels" and count > MOST_MAPS and not LESION.search(one.path):
            one = replace(one, role="atlas", why=SEVERAL.format(count))
        words = words_of(stem_of(one.path))
        ct = any(m.split("_")[0] == "ct" for m in has[one.subject])
        if one.modality == UNKNOWN and words and words[-1] in ("low", "full") and ct:
            name = f"ct_{words[-1]}_dose"
            one = replace(one, modality=name, why=f"'{words[-1]}' beside other CTs")
        elif one.role == "region" and not has[one.subject]:
            one = replace(one, role="image", modality=UNKNOWN, why="")
        hu = one.role == "image" and one.modality.split("_")[0] == "ct" and not one.study
        out.append(replace(one, unit="HU") if hu and one.files == 1 else one)
    return out


def _told_apart(found: Sequence[Found]) -> list[Found]:
    """Names of modalities that tell echoes, inversions and acquisitions of a subject apart."""
    images = [f for f in found if f.role == "image"]
    names = named_apart((f.path, f.subject, f.modality, f.variant) for f in images)
    return [replace(f, modality=names.get(f.path, f.modality)) for f in found]


def _by_folder(name: Name, person: str) -> list[tuple[str, str]]:
    """The folder is the same person where the file's name begins with the folder's."""
    own, above = key_of(person), key_of(name.folder) if name.folder else ()
    numbered = any(run.isdecimal() for run in above)
    return [(person, name.folder)] if numbered and own[: len(above)] == above else []


def _few_in_folders(
    names: Mapping[str, Name], subjects: Mapping[str, tuple[str, str]]
) -> list[tuple[str, str]]:
    """In doubt, the few numbers in each of several numbered folders are of one person a folder."""
    inside: dict[str, set[str]] = defaultdict(set)
    for path, name in names.items():
        if not name.sure and name.inside and re.search(r"\d", name.folder):
            inside[name.inside].add(subjects[path][1])
    if len(inside) < FEW or any(len(people) > FEW for people in inside.values()):
        return []
    sorted_people = [sorted(people) for people in inside.values()]
    return [(people[0], other) for people in sorted_people for other in people[1:]]


def _anonymous(people: Mapping[str, str]) -> list[tuple[str, str]]:
    """Studies without a patient's ID are of one person where they are in one folder of several."""
    parts = {path: PurePosixPath(path).parts for path in people}
    for depth in range(max(map(len, parts.values()), default=0) - 1):
        folders: dict[str, list[str]] = defaultdict(list)
        for path, own in parts.items():
            folders[own[depth] if len(own) > depth + 1 else path].append(people[path])
        if len(folders) > 1:
            return [(who[0], other) for who in folders.values() for other in who[1:]]
    return []


def _people(
    found: Sequence[Found], same: Sequence[tuple[str, str]]
) -> tuple[list[Found], list[str]]:
    """One name for each person, and remarks about names that may be one person's."""
    names = {f.person for f in found}
    of = one_person(names | {n for pair in same for n in pair}, same)
    merged: dict[str, set[str]] = defaultdict(set)
    for name in names:
        merged[of[name]].add(name)
    remarks = []
    if several := {who: own for who, own in merged.items() if len(own) > 1}:
        own = several[min(several)]
        remarks.append(
            f"Kept in one split, because they may be one person: {', '.join(sorted(own)[:4])}"
            + (f" and {len(own) - 4} more" if len(own) > 4 else "")
            + (f", and {len(several) - 1} more such groups" if len(several) > 1 else "")
            + "."
        )
    return [replace(f, person=of[f.person]) for f in found], remarks
