"""Data sets whose names of files mean what their distributors say: nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgan.data.scan.variants import Variant


@dataclass(frozen=True)
class Name:
    """What is read from a path below the scanned folder.

    Attributes:
        modality: Empty where nothing tells.
        role: ``image``, ``labels``, ``mask``, ``region`` or ``atlas`` (anatomical labels).
        own: Subject by the file's own name; may be empty.
        folder: Subject by its folders; may be empty.
        inside: Path of the folder that ``folder`` names.
        session: As ``ses-01``; empty where there is none.
        sure: ``own`` is known to be the subject.
        person: Who it is, where that is less than the subject's name; else empty.
        why: Where modality or role were read from.
        variant: What tells images of one person and kind apart.
        left: Why the file is no image to propose; empty where it is one.
        split: That its data set states; empty where it does not.
    """

    modality: str
    role: str
    own: str
    folder: str = ""
    inside: str = ""
    session: str = ""
    sure: bool = False
    person: str = ""
    why: str = ""
    variant: Variant = ()
    left: str = ""
    split: str = ""


HCP = (
    "of HCP the restored images without the skull are used: T1w/T1w_acpc_dc_restore_brain and "
    "T1w/T2w_acpc_dc_restore_brain"
)
DHCP = (
    "of dHCP the restored images of the structural pipeline, on the grid of the T2, and one brain "
    "mask are used"
)
OVERVIEW = "an overview picture of SynthRAD, not an image"

HCP_FILES = {
    "T1w_acpc_dc_restore_brain": ("t1", "image"),
    "T2w_acpc_dc_restore_brain": ("t2", "image"),
    "brainmask_fs": ("", "mask"),
}
"""What is used of a person's folder ``T1w``, which has up to seven versions of an image."""

DHCP_FILES = {
    # Third release (2021), second (2019), and first (2017: 40 people).
    **dict.fromkeys(
        ("desc-restore_T1w", "desc-restore_space-T2w_T1w", "T1w_restore"), ("t1", "image")
    ),
    **dict.fromkeys(("desc-restore_T2w", "T2w_restore"), ("t2", "image")),
    **dict.fromkeys(
        ("desc-brain_mask", "desc-drawem_space-T2w_brainmask", "brainmask_drawem"), ("", "mask")
    ),
}
"""What is used of each session, by the end of its name. A T1 as it was reconstructed lies on a
grid of its own."""

SYNTHRAD_FILES = {
    "mr": ("mr", "image"),
    "cbct": ("cbct", "image"),
    "ct": ("ct", "image"),
    "mask": ("", "mask"),
}
"""What a person's folder holds. Contrast of the MR differs between centres, so it has no name."""


def known(stem: str, parents: Sequence[str]) -> Name | None:
    """What a file of a known data set is; None for all others.

    Args:
        stem: Its name without the suffix.
        parents: Names of the folders it lies in, the outermost first.
    """
    for read in (_brats2015, _lpba40, _xrays, _hcp, _dhcp, _synthrad):
        if (name := read(stem, parents)) is not None:
            return name
    return None


def _brats2015(stem: str, parents: Sequence[str]) -> Name | None:
    """``VSD.Brain.XX.O.MR_T1c.54514``."""
    if not stem.startswith("VSD.Brain"):
        return None
    kind = re.search(r"\.(?:MR_)?(T1c|T1|T2|Flair|OT|CT)\.", stem + ".")
    folders = [p for p in parents if not p.startswith("VSD.")]
    if not (kind and folders):
        return None
    role = "labels" if kind[1] == "OT" else "image"
    modality = "" if role == "labels" else kind[1].lower()
    return Name(modality, role, folders[-1], sure=True, why=f"'{kind[1]}' in names of BraTS 2015")


def _lpba40(stem: str, parents: Sequence[str]) -> Name | None:
    """``S01.delineation.skullstripped``."""
    match = re.fullmatch(r"(S\d\d)\.(?:delineation|native)\.([\w.]+)", stem)
    if not match:
        return None
    roles = {"skullstripped": "image", "mri": "image", "brain.mask": "mask"}
    role = roles.get(match[2].lower(), "atlas")
    modality = "t1" if role == "image" else ""
    return Name(modality, role, match[1], sure=True, why="names of LPBA40, which is T1")


def _xrays(stem: str, parents: Sequence[str]) -> Name | None:
    """``00000001_000`` of the NIH, ``CXR1_1_IM-0001-3001`` of Open-i."""
    if match := re.fullmatch(r"(\d{8})_\d{3}", stem):
        return Name("xray", "image", stem, sure=True, person=match[1], why="names of NIH X-rays")
    if re.fullmatch(r"CXR\d+_(?:\d+_)?IM-.*", stem):
        person = stem.split("_", 1)[0]
        return Name("xray", "image", stem, sure=True, person=person, why="names of Open-i X-rays")
    return None


def _hcp(stem: str, parents: Sequence[str]) -> Name | None:
    """``100307/T1w/T1w_acpc_dc_restore_brain`` of the Human Connectome Project (HCP1200)."""
    folders = re.search(r"(?:^|/)(\d{6})/(T1w|MNINonLinear|unprocessed)(?:/|$)", "/".join(parents))
    if not folders:
        return None
    name = Name("", "image", folders[1], sure=True, person=folders[1], why="names of HCP")
    if parents[-1] == "T1w" and folders[2] == "T1w" and stem in HCP_FILES:
        modality, role = HCP_FILES[stem]
        return replace(name, modality=modality, role=role)
    return replace(name, left=HCP)


def _dhcp(stem: str, parents: Sequence[str]) -> Name | None:
    """``sub-CC00050XX01_ses-7201_desc-restore_T2w`` of the developing HCP."""
    match = re.match(r"(sub-CC\d{5}[A-Z]{2}\d{2})_(ses-[A-Za-z0-9]+)_(.+)$", stem)
    if not match:
        return None
    modality, role = DHCP_FILES.get(match[3], ("", "image"))
    left = "" if match[3] in DHCP_FILES else DHCP
    return Name(
        modality,
        role,
        match[1],
        session=match[2],
        sure=True,
        person=match[1],
        why="names of dHCP",
        left=left,
    )


def _synthrad(stem: str, parents: Sequence[str]) -> Name | None:
    """``Task1/pelvis/1PA001/mr`` of SynthRAD2023."""
    case = r"[12][BP][A-C]\d{3}"
    folder = parents[-1] if parents else ""
    if re.fullmatch(case, folder) and stem in SYNTHRAD_FILES:
        modality, role = SYNTHRAD_FILES[stem]
        return Name(modality, role, folder, sure=True, person=folder, why="names of SynthRAD")
    if folder.lower() == "overview" and (match := re.match(case, stem)):
        return Name("", "image", match[0], sure=True, person=match[0], left=OVERVIEW)
    return None
