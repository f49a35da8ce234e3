"""File names of the Brain Imaging Data Structure (BIDS 1.9): ``sub-01_ses-1_echo-2_T1w``."""

from __future__ import annotations

import re

from msgan.data.scan.variants import LESION

MODALITIES = {
    **{"T1w": "t1", "T2w": "t2", "FLAIR": "flair", "PDw": "pd", "PDT2": "pdt2"},
    **{"T2starw": "t2star", "T2star": "t2star", "UNIT1": "unit1", "MP2RAGE": "mp2rage"},
    **{"inplaneT1": "t1_inplane", "inplaneT2": "t2_inplane", "angio": "mra", "MTw": "mtw"},
    **{"T1rho": "t1rho", "FLASH": "flash", "PD": "pd", "SWI": "swi", "swi": "swi"},
    **{name: name.lower() for name in ("T1map", "T2map", "T2starmap", "R1map", "R2map", "PDmap")},
    **{name: name.lower() for name in ("R2starmap", "MTRmap", "MTsat", "MTVmap", "MWFmap")},
    **{name: name.lower() for name in ("Chimap", "S0map", "M0map", "TB1map", "RB1map", "MTR")},
    **{name: name.lower() for name in ("MEGRE", "MESE", "VFA", "IRT1", "MPM", "MTS", "TB1DAM")},
    **{name: name for name in ("dwi", "bold", "sbref", "cbv", "asl", "m0scan", "epi", "pet", "ct")},
    **{"ADC": "adc", "FA": "fa", "CT": "ct"},
}
"""Modality of each suffix of an image."""

PARTS = ("phase", "phasediff", "phase1", "phase2", "fieldmap", "magnitude1", "magnitude2")
FIELD = "an image of the field (fmap), not of a body"
SEGMENTED = ("fmriprep", "smriprep", "freesurfer", "fastsurfer", "synthseg", "cat12", "qsiprep")
"""Programs whose discrete segmentations (``dseg``) are tissues."""


def suffix_of(stem: str) -> str:
    """The last part of a BIDS name; empty where the name is none."""
    match = re.match(r"sub-[A-Za-z0-9+]+(?:_[a-z]+-[A-Za-z0-9+]+)*_([A-Za-z0-9]+)$", stem)
    return match[1] if match else ""


def kind_of(stem: str, parents: tuple[str, ...]) -> tuple[str, str, str, str] | None:
    """Modality, role, what told them, and why the file is left out; None for other names.

    The role is as in :class:`msgan.data.entry.Entry`, or ``atlas``.
    """
    suffix = suffix_of(stem)
    own = dict(re.findall(r"([a-z]+)-([A-Za-z0-9+]+)", stem))
    why = f"the BIDS suffix {suffix}"
    about = f"{own.get('label', '')} {own.get('desc', '')}"
    if suffix in PARTS:
        return "", "image", why, FIELD
    if suffix in MODALITIES:
        modality = MODALITIES[suffix]
        if modality == "t1" and "ce" in own:
            return "t1c", "image", f"{why} with ce-{own['ce']}", ""
        return modality, "image", why, ""
    if suffix in ("mask", "roi"):
        if LESION.search(about):
            return "", "labels", why, ""
        if re.search(r"lung", about, re.I):
            return "lung", "region", why, ""
        brain = re.search(r"brain|head|body", about, re.I) or not about.strip()
        return "", "mask" if brain and suffix == "mask" else "atlas", why, ""
    if suffix == "dseg":
        tissue = "atlas" in own or "seg" in own or re.search(r"aseg|aparc|tissue", about, re.I)
        program = any(p.lower().startswith(SEGMENTED) for p in parents)
        return "", "atlas" if tissue or program else "labels", why, ""
    if suffix in ("probseg", "defacemask"):
        return "", "atlas", why, ""
    return None
