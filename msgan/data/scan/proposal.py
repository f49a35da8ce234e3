"""Proposes a manifest from the contents of a folder; the user corrects it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, cast

from msgan.data.entry import Entry
from msgan.data.grid import Grid
from msgan.data.manifest import SAME_MM, Manifest
from msgan.data.pseudonym import new_salt
from msgan.data.scan.files import Omitted, files_below
from msgan.data.scan.guess import UNKNOWN, Found, guessed
from msgan.data.scan.images import grid_of
from msgan.data.scan.variants import order
from msgan.data.split import Split, deal
from msgan.documents import shown
from msgan.types import InputError

UNSTATED = "not stated"
"""Licence and citation, which no header has: for the owner to fill in."""

TEST_SHARE, VAL_SHARE = 0.2, 0.1

ATLAS = "anatomical labels by its name: the role labels is for pathology, drawn over sketches"

SECOND = "a second file of a kind of image that the subject has already"
ALONE = "labels, a mask or a region of a subject without an image"
ELSEWHERE = "labels, a mask or a region on the grid of no image of its subject"
LONGEST = 300
"""Characters of a reason."""

Progress = Callable[[int, int, str], None]
"""Called with images done, images in all, and the path of the current one."""


@dataclass(frozen=True)
class Proposal:
    """What a scan understood and what not.

    Attributes:
        manifest: Its paths are below its root.
        found: What is in it, in its order; paths are below the scanned folder.
        grids: By path of ``found``.
        omitted: What is not in it, with reasons, by path.
        files: How many files there are.
        pairs: Two modalities, and the subjects that have both on one grid.
        apart: Subjects whose images do not all lie on one grid.
        notes: By path: what a file's header leaves open or contradicts itself in.
        remarks: What a data set says of itself, and what is in doubt.
    """

    manifest: Manifest
    found: tuple[Found, ...]
    grids: Mapping[str, Grid]
    omitted: tuple[Omitted, ...]
    files: int
    pairs: Mapping[tuple[str, str], tuple[str, ...]]
    apart: tuple[str, ...]
    notes: Mapping[str, tuple[str, ...]]
    remarks: tuple[str, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Of the images; that of most subjects first, the unknown last."""
        count = Counter(f.modality for f in self.found if f.role == "image")
        return tuple(sorted(count, key=lambda m: (m == UNKNOWN, -count[m], m)))

    @property
    def split_of(self) -> dict[str, str]:
        """The split of each subject."""
        return {row.subject: row.split for row in self.manifest.rows}


def propose(
    folder: Path,
    prefix: str = "",
    progress: Progress | None = None,
    salt: bytes | None = None,
) -> Proposal:
    """Look through a folder and propose a manifest of it.

    Args:
        folder: Is only read, and of its files only headers.
        prefix: In front of each path in the manifest, where its root lies above ``folder``.
        progress: Called before each image, and once at the end.
        salt: Of names made of what identifies a patient (:mod:`msgan.data.pseudonym`); None: a
            new one, so that such names differ between calls.

    Raises:
        InputError: It is no folder, or holds no image that can be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = files_below(folder)
    omitted, count = files.omitted, files.count
    everything, remarks = guessed(folder, files, salt or new_salt())
    grids: dict[str, Grid] = {}
    notes: dict[str, tuple[str, ...]] = {}
    for done, one in enumerate(everything):
        if progress:
            progress(done, len(everything), one.path)
        try:
            if one.role == "atlas":
                raise InputError(one.why if one.why.startswith("one of") else ATLAS)
            grids[one.path], notes[one.path] = grid_of(folder / one.path)
        except InputError as error:
            omitted.append(Omitted(one.path, shown(str(error), LONGEST)))
        except Exception as error:  # of a library: it is this file's fault, the others go on
            text = shown((str(error).splitlines() or [""])[0])
            omitted.append(Omitted(one.path, f"cannot be read: {type(error).__name__}: {text}"))
    if progress:
        progress(len(everything), len(everything), "")
    kept = _consistent([f for f in everything if f.path in grids], grids, omitted)
    if not kept:
        first = f": {omitted[0].path}: {omitted[0].reason}" if omitted else ""
        raise InputError(f"{folder}: none of its {count} files is an image to use{first}")
    splits = _splits(kept)
    rows = [
        Entry(
            subject=f.subject,
            role=cast(Literal["image", "labels", "mask", "region"], f.role),
            modality=f.modality,
            path=f"{prefix}/{f.path}" if prefix else f.path,
            licence=UNSTATED,
            citation=UNSTATED,
            split=splits[f.person],
            unit=f.unit,
        )
        for f in kept
    ]
    return Proposal(
        Manifest(name="manifest.csv", rows=tuple(rows)),
        tuple(kept),
        grids,
        tuple(sorted(omitted, key=lambda o: o.path)),
        count,
        *_pairs(kept, grids),
        {f.path: notes[f.path] for f in kept if notes[f.path]},
        tuple(remarks),
    )


def _consistent(
    found: Sequence[Found], grids: Mapping[str, Grid], omitted: list[Omitted]
) -> list[Found]:
    """What a cohort can hold together; the rest is left out, with reasons."""
    axes: dict[str, Counter[int]] = defaultdict(Counter)
    for f in found:
        if f.role == "image":
            axes[f.modality][grids[f.path].dims] += 1
    kept: dict[tuple[str, str, str], Found] = {}
    images: dict[str, list[Grid]] = defaultdict(list)
    # Images first, for labels and masks to be compared with; of equals the less nested.
    for f in sorted(found, key=lambda f: (f.role != "image", order(f.path, f.variant))):
        grid, key = grids[f.path], (f.subject, f.role, f.modality)
        reason = kind = ""
        if f.role == "image":
            # Of as many 2D as 3D images, the 3D ones.
            most = max(axes[f.modality].items(), key=lambda item: (item[1], item[0]))[0]
            if grid.dims != most:
                reason = f"{grid.dims}D, where most images of modality {f.modality} are {most}D"
        elif not images[f.subject]:
            reason = f"{f.role} of a subject without an image ({f.subject})"
            kind = ALONE
        elif not any(grid.same_as(other, SAME_MM) for other in images[f.subject]):
            reason = f"{f.role} on the grid of no image of subject {f.subject}"
            kind = ELSEWHERE
        if not reason and key in kept:
            what = f.modality if f.role == "image" else f.role
            reason = f"subject {f.subject} has its {what} in {kept[key].path}"
            kind = SECOND
        if reason:
            omitted.append(Omitted(f.path, reason, kind))
            continue
        kept[key] = f
        if f.role == "image":
            images[f.subject].append(grid)
    return sorted(kept.values(), key=lambda f: (f.subject, f.role, f.modality))


def _splits(found: Sequence[Found]) -> dict[str, Split]:
    """The split of each person with an image."""
    has: dict[str, set[str]] = defaultdict(set)
    for f in found:
        if f.role == "image":
            has[f.person].add(f.modality)
    kept = [f.person for f in found if f.split == "test"]
    return deal(has, TEST_SHARE, VAL_SHARE, kept=kept)


def _pairs(
    found: Sequence[Found], grids: Mapping[str, Grid]
) -> tuple[dict[tuple[str, str], tuple[str, ...]], tuple[str, ...]]:
    """Subjects by the modalities they have on one grid, and those whose images lie apart."""
    images: dict[str, list[Found]] = defaultdict(list)
    for f in found:
        if f.role == "image":
            images[f.subject].append(f)
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    apart = []
    for subject, own in images.items():
        for a, b in combinations(own, 2):
            if grids[a.path].same_as(grids[b.path], SAME_MM):
                pairs[a.modality, b.modality].append(subject)
            elif subject not in apart:
                apart.append(subject)
    ordered = sorted(pairs, key=lambda pair: (-len(pairs[pair]), pair))
    return {pair: tuple(pairs[pair]) for pair in ordered}, tuple(apart)
