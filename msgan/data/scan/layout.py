"""What the folder layout of a data set says about files whose names say too little."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from msgan.data.formats import picture
from msgan.data.scan import nnunet
from msgan.data.scan.files import VOLUMES
from msgan.data.scan.names import Name, read_name, stem_of
from msgan.data.scan.words import words_of
from msgan.data.store import suffix_of

CHEST = re.compile(r"(chest|thorax|cxr)\d*")
"""Words in the names of pictures, which are radiographs then."""


def names_in(paths: Sequence[str], datasets: Mapping[str, nnunet.Dataset]) -> dict[str, Name]:
    """The guess for each file by its name, its folder's, and the layout of a data set.

    Args:
        paths: Below the scanned folder.
        datasets: Those with the layout of nnU-Net, by their folders.
    """
    inside: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        inside[path.rpartition("/")[0]].append(path)
    cases: dict[str, list[str]] = defaultdict(list)
    names = {}
    outside = [p for p in paths if "/".join(PurePosixPath(p).parts[:-2]) not in datasets]
    channels = nnunet.channels_of(stem_of(path) for path in outside)
    for parent, members in inside.items():
        named = suffix_of(Path(parent)) in VOLUMES and len(members) == 1
        for path in members:
            # Some archives unpack a file into a folder that has the file's name.
            name = read_name(parent) if named else read_name(path)
            if named and not name.why:
                name = read_name(path)
            data = datasets.get("/".join(PurePosixPath(path).parts[:-2]))
            known = nnunet.kind_of(path, data) if data else None
            if known:
                case, modality, role, why = known
                cases[case].append(data.folder if data else "")
                name = replace(name, modality=modality, role=role, own=case, person=case, why=why)
                name = replace(name, sure=True, split=nnunet.split_of(path), folder="", session="")
            elif not name.modality and stem_of(path) in channels:
                case, channel = channels[stem_of(path)]
                name = replace(name, modality=f"channel{channel:04d}", own=case, person=case)
                name = replace(name, sure=True, why=f"the channel _{channel:04d}", folder="")
            elif not name.modality and name.role == "image" and is_picture(path):
                word = next((w for w in words_of(stem_of(path)) if CHEST.fullmatch(w)), "")
                why = f"'{word}' in a picture's name" if word else ""
                name = replace(name, modality="xray" if word else "", why=why)
            names[path] = name
    for path, name in names.items():
        data = datasets.get("/".join(PurePosixPath(path).parts[:-2]))
        if data and name.sure and len(set(cases.get(name.own, ()))) > 1:
            names[path] = replace(name, own=f"{PurePosixPath(data.folder).name}_{name.own}")
    return {path: names[path] for path in paths}


def is_picture(path: str) -> bool:
    """Whether a file is a PNG or TIFF by its name."""
    return suffix_of(Path(path)) in picture.SUFFIXES


def remarks_on(datasets: Mapping[str, nnunet.Dataset]) -> list[str]:
    """Remarks about data sets with the layout of nnU-Net."""
    out = []
    for data in datasets.values():
        where = f"{data.folder}/{nnunet.DESCRIPTION}" if data.folder else nnunet.DESCRIPTION
        if data.problem:
            out.append(f"{where} could not be used: {data.problem}. Channels keep their numbers.")
        elif data.numbered and not data.channels:
            out.append(
                f"No {where} names the channels: images are named channel0000 and so on. Write "
                "their modalities into the manifest."
            )
        if data.labels:
            out.append(
                f"Label maps have {', '.join(data.labels[:8])}{', ...' * (len(data.labels) > 8)} "
                f"({where}). The role labels is for pathology, which is drawn over sketches: "
                "remove the rows if this is anatomy."
            )
    return out
