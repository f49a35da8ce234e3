"""DICOM series, grouped and classified by their headers, without reading pixels."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgan.data.formats.dicom import (
    NO_IMAGES,
    TAGS,
    image_header,
    kernel_of,
    kinds_of,
    number,
    series_of,
    unit_of,
)
from msgan.data.formats.dicom_enhanced import is_enhanced
from msgan.data.pseudonym import pseudonym
from msgan.data.scan.words import dosed, modality_of, words_of
from msgan.documents import shown
from msgan.types import InputError

MORE = (
    "StudyInstanceUID",
    "PatientName",
    "PatientIdentityRemoved",
    "ProtocolName",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "ContrastBolusAgent",
    "ViewPosition",
)
SINGLE = ("CR", "DX", "RG", "MG", "IO", "PX")
"""Kinds whose every file is an image of its own."""

NOBODY = re.compile(r"(anon\w*|unknown|none|patient|test|phantom|0+|)", re.IGNORECASE)
"""Patient IDs that many patients share."""

SUBJECT, STUDY = "subject", "study"
"""How names begin that are hashes: of a patient's ID, and of a study where the ID tells nobody."""

SEVERAL = "{} DICOM series in one folder; `msgan data sort` gives each a folder of its own"
SPREAD = "a DICOM series in {} folders; `msgan data sort` puts it into one"


@dataclass(frozen=True)
class Series:
    """One image in DICOM files.

    Attributes:
        path: Its folder, or its file where that is the whole image; below the scanned folder.
        files: How many it has.
        subject: Name that tells no one's identity by itself.
        person: Of whom several studies may be there.
        study: Salted hash of the study's UID.
        modality: Empty where the header does not tell.
        unit: ``HU`` for a CT that is rescaled to it.
        why: What the modality was read from.
        hashed: Whether the subject is a hash, because the patient's ID looked like a person's.
    """

    path: str
    files: int
    subject: str
    person: str
    study: str
    modality: str
    unit: str
    why: str
    hashed: bool


def series_in(
    folder: Path, files: Iterable[str], salt: bytes
) -> tuple[list[Series], list[tuple[str, str]]]:
    """Images in DICOM files, and what is left out.

    Args:
        folder: The scanned folder.
        files: Paths of its DICOM files.
        salt: Of names that are hashes.

    Returns:
        The images; and path and reason of each file that belongs to none.
    """
    left: list[tuple[str, str]] = []
    inside: dict[str, dict[tuple[str, str], list[tuple[str, Any]]]] = {}
    for path in files:
        try:
            header = image_header(folder / path, (*TAGS, *MORE))
            key = series_of(header)
            if header.get("Modality") in SINGLE:
                key = (path, key[1])
        except (InputError, OSError) as error:
            left.append((path, shown(str(error))))
            continue
        except Exception as error:  # of pydicom, for values that are none
            left.append((path, unreadable(error)))
            continue
        parent = path.rpartition("/")[0]
        inside.setdefault(parent, {}).setdefault(key, []).append((path, header))
    places: dict[tuple[str, str], set[str]] = defaultdict(set)
    for parent, series in inside.items():
        for key in series:
            places[key].add(parent)
    found = []
    for parent, series in inside.items():
        stacks = sum(len(members) > 1 for members in series.values())
        for key, members in series.items():
            first, header = members[0]
            alone = len(members) == 1
            understood = None
            try:
                reason = _refusal(header)
                place = first if alone else parent or "."
                understood = _understood(place, len(members), header, salt)
            except Exception as error:  # of pydicom, when it reads a value that is none
                reason = unreadable(error)
            if not reason and len(places[key]) > 1:
                reason = SPREAD.format(len(places[key]))
            if not reason and not alone and len(series) > 1:
                reason = SEVERAL.format(len(series))
            whole = header.get("Modality") in SINGLE or is_enhanced(header)
            if not reason and alone and stacks and not whole:
                reason = "a single slice beside a series"
            if reason:
                left += [(path, reason) for path, _ in members]
            elif understood is not None:
                found.append(understood)
    return found, left


def _refusal(header: Any) -> str:
    """Why a file is no image to train on; empty where it is one."""
    kind = str(header.get("Modality") or "")
    if kind in NO_IMAGES:
        return f"DICOM of modality {kind} is not an image"
    if "LOCALIZER" in kinds_of(header):
        return "a localizer"
    if (frames := number(header, "NumberOfFrames") or 1) > 1 and not is_enhanced(header):
        return f"multi-frame DICOM ({frames:g} frames): convert it to NIfTI (dcm2niix) first"
    if not header.get("PixelSpacing") and kind in ("CT", "MR", "PT"):
        return f"{kind} without PixelSpacing"
    return ""


def _understood(path: str, files: int, header: Any, salt: bytes) -> Series:
    modality, why = modality_in(header)
    subject, hashed = subject_in(header, salt)
    study = pseudonym("s", str(header.get("StudyInstanceUID") or ""), salt)
    unit = "HU" if unit_of(header) == "HU" else ""
    return Series(path, files, subject, subject, study, modality, unit, why, hashed)


def modality_in(header: Any) -> tuple[str, str]:
    """The modality a header tells, and the tags that tell it; empty where none does."""
    kind = str(header.get("Modality") or "").upper()
    if kind == "CT":
        kernel = re.sub(r"[^a-z0-9]+", "_", kernel_of(header).lower()).strip("_")
        about = words_of(str(header.get("SeriesDescription") or ""))
        why = "Modality and ConvolutionKernel" if kernel else "Modality, no ConvolutionKernel"
        return dosed("_".join(filter(None, ("ct", kernel))), about), why
    if kind in ("CR", "DX", "RG"):
        view = str(header.get("ViewPosition") or "").upper()
        lateral = view in ("LL", "RL", "LAT", "LATERAL")
        return "xray_lateral" if lateral else "xray", "Modality and ViewPosition"
    if kind != "MR":
        return {"PT": "pet", "MG": "mammography"}.get(kind, kind.lower()), "Modality"
    for tag in ("SeriesDescription", "ProtocolName"):
        modality, word = modality_of(words_of(str(header.get(tag) or "")))
        if modality:
            if modality == "t1" and header.get("ContrastBolusAgent"):
                return "t1c", f"'{word}' in {tag}, and ContrastBolusAgent"
            return modality, f"'{word}' in {tag}"
    return _by_times(header)


def _by_times(header: Any) -> tuple[str, str]:
    """T1, T2, PD or FLAIR by the times of an MR sequence, in ms."""
    echo, repetition, inversion = (
        number(header, tag) or 0.0 for tag in ("EchoTime", "RepetitionTime", "InversionTime")
    )
    times = "EchoTime, RepetitionTime and InversionTime"
    if not echo or not repetition:
        return "", ""
    if inversion > 1500 and echo > 60:
        return "flair", times
    if echo < 30 and (repetition < 1000 or 400 < inversion < 1400):
        return ("t1c" if header.get("ContrastBolusAgent") else "t1"), times
    if repetition >= 2000 and not inversion:
        if echo >= 60:
            return "t2", times
        if echo < 40:
            return "pd", times
    return "", ""


def subject_in(header: Any, salt: bytes) -> tuple[str, bool]:
    """A subject's name from a header, and whether it is a hash.

    The patient's ID is taken where it looks like a pseudonym. What looks like a person's (a name,
    a number as hospitals give them, a date) is replaced by a salted hash of it, and an ID that
    many share by one of the study. The patient's name is compared and goes nowhere.
    """
    own = str(header.get("PatientID") or "").strip()
    study = str(header.get("StudyInstanceUID") or "")
    if NOBODY.fullmatch(own):
        return pseudonym(STUDY, study or own, salt), True
    if looks_personal(own, str(header.get("PatientName") or "")):
        return pseudonym(SUBJECT, own, salt), True
    return re.sub(r"[^A-Za-z0-9.-]+", "_", own).strip("_."), False


def looks_personal(patient: str, name: str) -> bool:
    """Whether a patient's ID may say who it is.

    Args:
        patient: The ID.
        name: The patient's name; the same as the ID, or empty, once it was replaced.
    """
    parts = {p for p in re.findall(r"[a-z]{3,}", name.lower()) if not NOBODY.fullmatch(p)}
    named = name.strip() != patient and any(p in patient.lower() for p in parts)
    digits = re.sub(r"[^0-9]", "", patient)
    return (
        named
        or bool(re.search(r"[\^,@\s]", patient))
        or not digits  # a word, as a family's name
        or (len(digits) >= 6 and not re.search(r"[A-Za-z]{2}", patient))
    )


def unreadable(error: Exception) -> str:
    """What is wrong with a header that cannot be read, without the value, which may be a name."""
    return f"unreadable DICOM header: {type(error).__name__}"
