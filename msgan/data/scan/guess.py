"""What each image of a folder is taken to be, before it is opened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msgan.data.scan.files import Files, Omitted
from msgan.data.scan.names import read_name, subjects_of
from msgan.data.scan.series import series_in

UNKNOWN = "unknown"
"""Modality of an image that nothing names; for its owner to correct."""


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


def guessed(folder: Path, files: Files) -> list[Found]:
    """Everything that may be an image, in the order of subjects and paths.

    What headers of DICOM files speak against is added to ``files.omitted``.
    """
    names = {path: read_name(path) for path in [*files.volumes, *files.pictures]}
    otherwise = "".join(c if c.isalnum() or c in "-_." else "_" for c in folder.resolve().name)
    subjects = subjects_of(names, otherwise or "subject")
    found = []
    for path, name in names.items():
        subject, person = subjects[path]
        image = name.role == "image"
        modality = (name.modality or UNKNOWN) if image else name.modality
        unit = "HU" if image and modality.split("_")[0] == "ct" else ""
        found.append(Found(path, subject, person, modality, name.role, unit, name.why))
    series, left = series_in(folder, files.dicom)
    files.omitted += [Omitted(path, reason) for path, reason in left]
    for s in series:
        one = Found(s.path, s.subject, s.person, s.modality or UNKNOWN, unit=s.unit)
        found.append(replace(one, why=s.why, files=s.files, study=s.study, hashed=s.hashed))
    return sorted(_by_study(found), key=lambda f: (f.subject, f.path))


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
