"""The layout of nnU-Net and of the Medical Segmentation Decathlon: imagesTr, labelsTr, channels."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from msgan.data.scan.words import modality_of, words_of
from msgan.data.store import suffix_of
from msgan.documents import json_of
from msgan.types import InputError

IMAGES = ("imagesTr", "imagesTs", "imagesVal")
LABELS = ("labelsTr", "labelsTs", "labelsVal")
DESCRIPTION = "dataset.json"
RESULTS = re.compile(
    r"(nnUNetTrainer\w*|(infer|pred|predicted|predictions?)_?T[rs]|(images|labels)T[rs]_pred\w*"
    r"|labelsPr|nnUNet_(results|trained_models)|predictions?|postprocessed|cv_niftis_\w+)",
    re.IGNORECASE,
)
"""Folders of what a network has segmented."""

NORMALISATION = {"zscore", "nonorm", "rescale", "norm"}
"""Words for channels that name no modality, alone or among others."""


@dataclass
class Dataset:
    """One data set: what its channels are called, and whether files name them.

    Attributes:
        folder: Below the scanned folder.
        channels: Modality of each channel by its number.
        labels: Names of the labels, background left out.
        numbered: Whether the last four digits of an image's name are its channel.
        problem: Why ``dataset.json`` could not be used; empty where it could.
    """

    folder: str
    channels: dict[int, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    numbered: bool = False
    problem: str = ""


def datasets_in(root: Path, paths: Iterable[str]) -> dict[str, Dataset]:
    """Data sets by their folders; ``paths`` are below ``root``."""
    images: dict[str, set[str]] = defaultdict(set)
    labels: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        parts = PurePosixPath(path).parts
        for kind, holder in ((IMAGES, images), (LABELS, labels)):
            if len(parts) > 1 and parts[-2] in kind:
                holder["/".join(parts[:-2])].add(_stem(parts[-1]))
    found = {}
    for folder, stems in images.items():
        data = found[folder] = Dataset(folder)
        cut = {s: re.sub(r"_\d{4}$", "", s) for s in stems}
        whole = len(stems & labels[folder])
        case = sum(c != s and c in labels[folder] for s, c in cut.items())
        # Some sets number their people with four digits: amos_0004 has labels amos_0004.
        data.numbered = case > whole or (not whole and any(s.endswith("_0000") for s in stems))
        _describe(root, data)
    return found


def _describe(root: Path, data: Dataset) -> None:
    """Names of channels and labels: version 2 has ``channel_names``, version 1 ``modality``."""
    try:
        about = json_of(root / data.folder / DESCRIPTION)
    except FileNotFoundError:
        return
    except (InputError, OSError) as error:
        data.problem = str(error).removeprefix(f"{root / data.folder / DESCRIPTION}: ")
        return
    try:
        named = about.get("channel_names") or about.get("modality") or {}
        named = dict(enumerate(named)) if isinstance(named, list) else named
        names = {int(number): _modality(str(name)) for number, name in named.items()}
        # Version 1 has numbers for the keys, version 2 for the values.
        labels = [str(v) if str(k).isdecimal() else str(k) for k, v in about["labels"].items()]
    except (AttributeError, KeyError, TypeError, ValueError):
        data.problem = f"channels or labels are not named as {DESCRIPTION} has them"
        return
    several = {n for n in names.values() if list(names.values()).count(n) > 1}
    data.channels = {k: f"{n}_{k:04d}" if n in several else n for k, n in names.items() if n}
    data.labels = tuple(name for name in labels if name.lower() != "background")


def _modality(name: str) -> str:
    """A manifest's word for a channel; empty where its name is only how it is normalised."""
    words = words_of(name)
    known = modality_of(words)[0]
    if set(words) & {"mri", "mr"} and not known:
        return "mri"
    if known or not words or set(words) & NORMALISATION:
        return known
    return "_".join(words)[:32]


def kind_of(path: str, data: Dataset) -> tuple[str, str, str, str] | None:
    """Case, modality, role and what told them; None for a file in other folders of the set."""
    where = PurePosixPath(path)
    stem, parent = _stem(where.name), where.parts[-2]
    if parent in LABELS:
        return _case(stem), "", "labels", f"nnU-Net's folder {parent}"
    if parent not in IMAGES:
        return None
    match = re.fullmatch(r"(.+)_(\d{4})", stem)
    if match and data.numbered:
        case, channel, why = match[1], int(match[2]), f"the channel _{match[2]}"
    else:
        case, channel, why = stem, 0, f"nnU-Net's folder {parent}"
        if len(data.channels) != 1:
            return _case(case), "", "image", why
    if channel in data.channels:
        return case, data.channels[channel], "image", f"{why} and {DESCRIPTION}"
    return case, f"channel{channel:04d}", "image", why


def split_of(path: str) -> str:
    """``test`` for an image or label that its data set keeps for testing; else empty."""
    return "test" if PurePosixPath(path).parts[-2:-1] in (("imagesTs",), ("labelsTs",)) else ""


def channels_of(stems: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Case and channel of files of one folder whose names end in ``_0000``, ``_0001``.

    Numbers of people are not taken for channels: two cases with digits in their names must have
    the same channels, ``_0000`` and another.
    """
    cut = {s: m for s in stems if (m := re.fullmatch(r"(.*\d.*)_(\d{4})", s))}
    channels: dict[str, set[int]] = defaultdict(set)
    for match in cut.values():
        channels[match[1]].add(int(match[2]))
    several = {c for c, own in channels.items() if own == set(range(len(own))) and len(own) > 1}
    if len(several) < 2:
        return {}
    return {s: (m[1], int(m[2])) for s, m in cut.items() if m[1] in channels}


def is_result(parents: Iterable[str]) -> bool:
    """Whether a folder is one of a network's results."""
    return any(RESULTS.fullmatch(re.split(r"__", parent)[0]) for parent in parents)


def _case(stem: str) -> str:
    """``img0001`` and ``label0001`` of some sets are one case."""
    return re.sub(r"^(?:img|image|label|seg|mask)[_-]?(?=\d)", "", stem, flags=re.IGNORECASE)


def _stem(name: str) -> str:
    return name[: len(name) - len(suffix_of(Path(name)))]
