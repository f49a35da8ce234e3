"""Clinical measures of a CT: emphysema index, and whether HU are preserved."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np

from msgan.data.cohort import Cohort
from msgan.data.foreground import blocks
from msgan.data.lung import lung_mask
from msgan.data.volume import open_labels, open_volume, write_volume
from msgan.paths import sha256
from msgan.studies.table import Result
from msgan.types import Box, InputError, Reader

EMPHYSEMA_HU = -950.0
"""Lung below this is emphysema (Gevenois et al., AJRCCM 154, 1996)."""

SOFT_HU = (0.0, 100.0)
"""Heart, vessels, liver and muscle in the real soft image."""

BONE_HU = 250.0
"""Bone and its marrow are above this in the real soft image."""

LUNG, EMPHYSEMA = "lung", "emphysema"
"""Regions of a subject: the lungs, and what of them is emphysema for certain (phantoms)."""


def with_lungs(cohort: Cohort, modality: str, folder: str | os.PathLike[str]) -> Cohort:
    """The cohort with a region ``lung`` for everybody, found where the manifest names none.

    Args:
        cohort: Chest CTs.
        modality: Image in which lungs are looked for (:func:`msgan.data.lung.lung_mask`), the
            softest: least noise. Subjects without it stay as they are.
        folder: Masks are written below it once, named by subject and image.

    Raises:
        InputError: An image is no CT of a chest.
    """
    subjects = []
    for subject in cohort:
        if LUNG not in subject.regions and modality in subject.images:
            image = subject.images[modality]
            path = Path(folder) / "lungs" / f"{subject.name}-{sha256(image)[:16]}.nii.gz"
            if not path.exists():
                with open_volume(image) as volume:
                    try:
                        found = lung_mask(volume.read, volume.grid)
                    except InputError as error:
                        raise InputError(f"{image}: {error}") from None
                    write_volume(path, volume.grid, found.read, unit="label", dtype=np.uint8)
            subject = replace(subject, regions={**subject.regions, LUNG: path})
        subjects.append(subject)
    return Cohort(tuple(subjects))


def emphysema_index(image: str | os.PathLike[str], lung: str | os.PathLike[str]) -> float:
    """Share of lung voxels below -950 HU, reading block by block (2020, 3.2.1, refs. 31, 32).

    Args:
        image: CT in HU.
        lung: Mask on the same grid, lung is not 0.

    Raises:
        InputError: No lung, other grids, or a file is at fault.
    """
    with open_volume(image) as volume, open_labels(lung, like=volume.grid) as mask:
        count = low = 0
        for box in blocks(volume.grid.shape):
            inside = mask.read(box) != 0
            if inside.any():
                count += int(inside.sum())
                low += int((volume.read(box)[inside] < EMPHYSEMA_HU).sum())
    if not count:
        raise InputError(f"{lung}: no voxel is lung")
    return low / count


def lung_measures(result: Result) -> dict[str, float]:
    """Errors of one translation in the units a radiologist reads.

    Returns:
        ``soft_hu`` and ``bone_hu``: mean of result minus real image, HU, where the real (target)
        image says soft tissue (0 to 100 HU) or bone (above 250 HU). With a region ``lung`` of the
        subject also ``lung_hu``, and shares of the lung: ``emphysema`` (index of the result),
        ``emphysema_real`` (of the real image), ``emphysema_error`` (their difference) and
        ``emphysema_true`` (known by geometry; NaN without a region ``emphysema``).

    Raises:
        InputError: Grids differ, no voxel is lung, or a file is at fault.
    """
    regions = result.subject.regions
    with ExitStack() as stack:
        fake = stack.enter_context(open_volume(result.path))
        real = stack.enter_context(open_volume(result.subject.images[result.target]))
        masks: dict[str, Reader] = {
            name: stack.enter_context(open_labels(regions[name], like=real.grid)).read
            for name in (LUNG, EMPHYSEMA)
            if name in regions
        }
        sums, counts = dict.fromkeys(("lung", "soft", "bone"), 0.0), {}
        counts = dict.fromkeys(("lung", "soft", "bone", "low", "low_real", "true"), 0)
        for box in blocks(real.grid.shape):
            found = _add(box, fake.read(box), real.read(box), masks, sums)
            for name, number in found.items():
                counts[name] += number
    out = {f"{n}_hu": sums[n] / counts[n] if counts[n] else nan for n in ("soft", "bone")}
    if LUNG not in masks:
        return out
    lung = counts["lung"]
    if not lung:
        raise InputError(f"{regions[LUNG]}: no voxel is lung")
    return out | {
        "lung_hu": sums["lung"] / lung,
        "emphysema": counts["low"] / lung,
        "emphysema_real": counts["low_real"] / lung,
        "emphysema_error": (counts["low"] - counts["low_real"]) / lung,
        "emphysema_true": counts["true"] / lung if EMPHYSEMA in masks else nan,
    }


def _add(
    box: Box,
    fake: np.ndarray,
    real: np.ndarray,
    masks: dict[str, Reader],
    sums: dict[str, float],
) -> dict[str, int]:
    """Add the differences of a box to ``sums``; how many voxels are what."""
    where = {"soft": (real >= SOFT_HU[0]) & (real <= SOFT_HU[1]), "bone": real > BONE_HU}
    found = {}
    if LUNG in masks:
        where["lung"] = lung = masks[LUNG](box) != 0
        found["low"] = int((fake[lung] < EMPHYSEMA_HU).sum())
        found["low_real"] = int((real[lung] < EMPHYSEMA_HU).sum())
        if EMPHYSEMA in masks:
            found["true"] = int((masks[EMPHYSEMA](box)[lung] != 0).sum())
    for name, inside in where.items():
        sums[name] += float((fake[inside].astype(np.float64) - real[inside]).sum())
        found[name] = int(inside.sum())
    return found
