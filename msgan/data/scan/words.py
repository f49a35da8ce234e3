"""Meaning of words in names of files, folders and DICOM series."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

MODALITIES = {
    "t1": ("t1", "t1w", "t1n", "mprage", "mp2rage", "spgr", "fspgr", "bravo"),
    "t1c": ("t1c", "t1ce", "t1gd", "t1post", "t1km"),
    "t2": ("t2", "t2w"),
    "flair": ("flair", "t2flair", "t2f", "darkfluid"),
    "pd": ("pd", "pdw"),
    "dwi": ("dwi", "dti"),
    "adc": ("adc",),
    "swi": ("swi",),
    "t2star": ("t2star", "t2starw", "t2s"),
    "t1map": ("t1map",),
    "t2map": ("t2map",),
    "bold": ("bold", "fmri"),
    "mra": ("mra",),
    "ct": ("ct", "ncct", "chestct", "headct", "lidc"),
    "cbct": ("cbct",),
    "pet": ("pet",),
    "xray": ("xray", "xr", "cxr", "radiograph", "chestxray"),
}
"""Names of modalities, and the words (lower case) that stand for them."""

CONTRAST = {"gd", "ce", "gad", "gadolinium", "contrast", "postgd", "postcontrast", "km"}
KERNEL = re.compile(r"(b|br|bl|bv|bf|hr|qr|i|u|h)\d{2}[a-z]")
"""Siemens' names of reconstruction kernels, as ``b20f``; the same word may be a folder's name."""

LABELS = {
    *("seg", "dseg", "segmentation", "segmentations", "label", "labels", "labelstr", "labelsts"),
    *("gt", "groundtruth", "truth", "gold", "consensus", "annotation", "annotations", "roi"),
    *("lesionmask", "tumormask", "tumourmask", "wmh", "segm", "gtv", "ctv", "ptv"),
}
PATHOLOGY = {"lesion", "lesions", "tumor", "tumour", "tumors", "tumours"}
MASKS = {"mask", "masks", "brainmask", "bodymask", "headmask"}
LUNGS = {"lung", "lungs", "lungmask"}
REGIONS = {"emphysema": "emphysema"} | dict.fromkeys(LUNGS, "lung")
"""Words for where something is measured, and the region's name."""
ATLAS = {"aparc", "aseg", "wmparc", "parcellation", "atlas", "probseg", "pseg", "structure"}

PROCESSING = {
    *("n4", "mni", "brain", "bet", "skullstripped", "stripped", "ss", "noneck", "reduced"),
    *("winsor", "registered", "coreg", "coregistered", "resampled", "warped", "normalized"),
    *("normalised", "native", "raw", "orig", "original", "final", "iso", "crop", "cropped"),
    *("image", "img", "scan", "volume", "mr", "mri", "3d", "2d", "ax", "axial", "sag", "cor"),
    *("sagittal", "coronal", "long", "standard", "tse", "fse", "se", "gre", "delineation"),
    *("images", "uni", "den", "low", "full", "dose", "chest", "head", "thorax"),
}
"""Words of a file's name that say nothing of whose it is."""

GENERIC = PROCESSING | {
    *("anat", "func", "images", "imagestr", "imagests", "data", "dataset", "nifti", "niftis"),
    *("nii", "dicom", "dicoms", "dcm", "derivatives", "sourcedata", "rawdata", "train", "test"),
    *("val", "training", "testing", "validation", "hgg", "lgg", "scans", "resources", "files"),
    *("png", "tif", "tiff", "mha", "nrrd", "frontal", "lateral", "series", "st0", "input"),
    *("xrays", "cts", "mris", "brains"),
}
"""Words of folders that are no subject's."""

SESSION = {"ses", "session", "visit", "tp", "timepoint", "study"}
RUN = {"run", "acq", "echo", "rec", "desc", "space", "res", "dir"}


def words_of(text: str) -> list[str]:
    """The words of a name in lower case: letters and digits that stand together."""
    text = re.sub(r"(?i)mp(2?)[-_ ]rage", r"mp\1rage", text)
    return [word.lower() for word in re.findall(r"[A-Za-z0-9]+", text)]


def known_words(text: str) -> list[str]:
    """The words of a description that say what an image is, as they are written; no others.

    Descriptions are free text, in which names and dates of people have been found.
    """
    known = {w for words in MODALITIES.values() for w in words} | CONTRAST | PROCESSING
    written = re.findall(r"[A-Za-z0-9]+", text)
    return [w for w in written if w.lower() in known or KERNEL.fullmatch(w.lower())]


def modality_of(words: Sequence[str]) -> tuple[str, str]:
    """The modality that words name, and the word that says so; both empty where none does.

    What follows ``to`` is what an image was registered to (``t2_to_t1``).
    """
    if "to" in words:
        words = words[: list(words).index("to")]
    found = [(name, w) for w in words for name, known in MODALITIES.items() if w in known]
    kernel = next((w for w in words if KERNEL.fullmatch(w)), "")
    if not found:
        return (dosed(f"ct_{kernel}", words), kernel) if kernel else _dose_alone(words)
    name, word = found[0]
    if word == "mp2rage" or "mp2rage" in words:
        return _mp2rage(words)
    flair = next((w for n, w in found if n == "flair"), "")
    if flair and name in ("t2", "t1"):
        return "flair", flair
    contrast = next((w for w in words if w in CONTRAST), "")
    later = words[list(words).index(word) + 1 :]
    if name == "t1" and later[:1] == ["post"]:
        contrast = "post"
    if any(n == "t1c" for n, _ in found) or (name == "t1" and contrast):
        return "t1c", f"{word} {contrast}".strip()
    if name == "ct":
        return dosed(f"ct_{kernel}" if kernel else "ct", words), kernel or word
    return name, word


def _mp2rage(words: Sequence[str]) -> tuple[str, str]:
    """The images of an MP2RAGE: two inversions, the uniform one, and the map of T1."""
    text = " ".join(words)
    for name, pattern in {
        "mp2rage": r"\binv ?\d",
        "unit1": r"\buni",
        "t1map": r"\bt1 (images?|map)\b|\bt1map\b",
    }.items():
        if match := re.search(pattern, text):
            return name, f"mp2rage {match[0]}"
    return "t1", "mp2rage"


def role_of(words: Sequence[str], modality: str) -> tuple[str, str]:
    """``image``, ``labels``, ``mask``, ``region`` or ``atlas``, and the word that says so.

    Pathology alone tells labels only where it is the last word or no modality is named: patients
    with a tumour have images, too.
    """

    def first(known: set[str]) -> str:
        return next((w for w in words if w in known), "")

    if "probseg" in words or "pseg" in words or (first(ATLAS) and first(LABELS | MASKS | ATLAS)):
        return "atlas", first(ATLAS)
    masked, labelled, ill = first(MASKS), first(LABELS), first(PATHOLOGY)
    lungs = first(set(REGIONS))
    last = bool(lungs) and words[-1] == lungs and not modality
    if lungs and (masked or labelled or last or lungs == "lungmask"):
        return "region", lungs
    if labelled or (ill and masked):
        return "labels", labelled or ill
    if masked:
        return "mask", masked
    if ill and (not modality or words[-1] == ill):
        return "labels", ill
    return "image", ""


def dosed(name: str, words: Sequence[str]) -> str:
    """The name of a CT with its dose, where words tell it."""
    dose = next((w for w, n in pairwise(words) if n == "dose"), "")
    return f"{name}_{dose}_dose" if dose in ("low", "full") else name


def _dose_alone(words: Sequence[str]) -> tuple[str, str]:
    name = dosed("ct", words)
    return (name, "dose") if name != "ct" else ("", "")
