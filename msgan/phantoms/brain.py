"""Brain phantoms: synthetic T1, T2 and FLAIR images, with and without a tumour.

A person is a deformed ICBM152 brain (:mod:`msgan.phantoms.brain_anatomy`), optionally with a
tumour (:mod:`msgan.phantoms.tumour`), seen by a scanner (:mod:`msgan.phantoms.brain_signal`).
Everything is a function of (seed, protocol name, subject); the size only sets how finely it is
sampled.
"""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msgan.paths import atomic, sha256, write_text
from msgan.phantoms.brain_anatomy import (
    EXTENT_MM,
    ORIGIN_MM,
    VENTRICLES_MM,
    Warp,
    fractions,
    pull,
)
from msgan.phantoms.brain_signal import PATIENTS, VOLUNTEERS, Protocol, acquire
from msgan.phantoms.fields import block_mean, centres
from msgan.phantoms.tumour import LABELS, Tumour
from msgan.seeds import numpy_rng
from msgan.types import Array, InputError, Shape

WORKING = 128
"""Fractions are computed with at least this many voxels along the longest side, then averaged."""

LARGEST = 256
"""Largest size, which takes about 3.3 GB (192: 1.6 GB); beyond 192 (1 mm) only noise gets finer."""


@dataclass(frozen=True)
class BrainPhantom:
    """One subject on one grid.

    Attributes:
        images: ``t1``, ``t2``, ``flair``; float32, arbitrary units, exactly 0 outside the brain.
        labels: uint8, 1 necrotic core, 2 oedema, 4 enhancing rim, 0 elsewhere.
        mask: uint8, 1 in the brain.
        tissue: volume fraction (float32, 0..1) of each tissue; they sum to 1 in the brain.
        affine: 4x4, voxel index to RAS millimetres.
        spacing: voxel sides in mm.
    """

    images: dict[str, Array]
    labels: Array
    mask: Array
    tissue: dict[str, Array]
    affine: Array
    spacing: tuple[float, ...]


def shape(size: int) -> Shape:
    """Voxels along each axis when the longest has ``size``; the box is 156 x 192 x 168 mm.

    Example:
        >>> shape(64)
        (52, 64, 56)
    """
    if not 16 <= size <= LARGEST:
        raise InputError(f"brain phantom size {size}: expected 16 to {LARGEST}")
    return tuple(round(e * size / max(EXTENT_MM)) for e in EXTENT_MM)


def brain(
    seed: int,
    subject: int,
    *,
    size: int = 64,
    pathological: bool = True,
    protocol: Protocol = PATIENTS,
) -> BrainPhantom:
    """Generate one subject.

    Args:
        seed: names the cohort.
        subject: number of the subject; any order, alone or in a cohort, gives the same bytes.
        size: voxels along the longest (second) axis, 16 to 256; 192 is 1 mm.
        pathological: grow a tumour. False gives the same person before the tumour.
        protocol: scanner and population.

    Raises:
        InputError: for a size outside the range.
    """
    coarse = shape(size)
    factor = -(-WORKING // size)
    axes = centres(ORIGIN_MM, EXTENT_MM, [n * factor for n in coarse])

    def rng(purpose: str) -> np.random.Generator:
        return numpy_rng(seed, "brain", protocol.name, subject, purpose)

    shape_rng = rng("shape")
    warp = Warp.random(shape_rng)
    points = warp(shape_rng, axes)
    tumour = Tumour.random(rng("tumour")) if pathological else None
    place = [p.copy() for p in points] if tumour else []
    if tumour:
        pull(points, tumour.centre_mm, [2.2 * r for r in tumour.radii_mm], tumour.push)
    pull(points, *VENTRICLES_MM, warp.ventricles)
    tissue, mask = fractions(rng("tissue"), axes, points)
    if tumour:
        lesion = tumour.fractions(rng("lesion"), axes, place, tissue)
        healthy = 1 - sum(lesion.values())
        tissue = {name: part * healthy for name, part in tissue.items()} | lesion
    inside = block_mean(mask, factor)
    small = {}
    for name, part in tissue.items():
        small[name] = block_mean(part * mask, factor) / np.maximum(inside, 1e-6)
    brain_mask = inside >= 0.5
    images = acquire(rng, protocol, centres(ORIGIN_MM, EXTENT_MM, coarse), small, brain_mask)
    spacing = tuple(e / n for e, n in zip(EXTENT_MM, coarse, strict=True))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(ORIGIN_MM) + np.array(spacing) / 2
    return BrainPhantom(
        images, _labels(small, brain_mask), brain_mask.astype(np.uint8), small, affine, spacing
    )


def _labels(tissue: dict[str, Array], mask: Array) -> Array:
    """The largest part of each voxel: one of the lesion's tissues or 0 (healthy)."""
    labels = np.zeros(mask.shape, np.uint8)
    if "oedema" not in tissue:
        return labels
    lesion = np.stack([tissue[name] for name in LABELS])
    diseased = (lesion.sum(0) > 0.5) & mask
    values = np.array(list(LABELS.values()), np.uint8)
    labels[diseased] = values[lesion.argmax(0)[diseased]]
    return labels


COLUMNS = (
    "subject",
    "role",
    "modality",
    "path",
    "sha256",
    "licence",
    "citation",
    "split",
    "fold",
    "unit",
    "source_url",
)
"""Columns of a manifest."""

LICENCE = (
    "Apache-2.0 (synthetic; anatomy from ICBM152 2009a, Copyright (C) 1993-2004 Louis Collins, "
    "McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University; use, "
    "copy, modification and distribution permitted without fee with this notice)"
)
CITATION = "Fonov et al., NeuroImage 54:313-327, 2011 (ICBM152 2009a, by way of nilearn)"
SOURCE_URL = "https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/"


def write_cohort(
    folder: str | os.PathLike[str],
    *,
    subjects: int,
    size: int,
    seed: int,
    healthy: bool = False,
    folds: int = 4,
    test_share: float = 0.25,
    protocol: Protocol | None = None,
) -> Path:
    """Write a cohort as compressed NIfTI with a manifest; the same arguments, the same bytes.

    Files are ``<subject>/<subject>_t1.nii.gz`` and so on, subjects ``patient000`` or
    ``healthy000``. A seeded order of the subjects is cut: the first ``test_share`` are
    ``test``, the others ``train``. ``fold`` numbers all of them, 0 to ``folds`` - 1, evenly, for
    cross-validation.

    Args:
        folder: where to write; made if absent.
        subjects: how many.
        size: voxels along the longest axis.
        seed: names the cohort.
        healthy: volunteers without tumours from another scanner (the role of LPBA40).
        folds: of the cross-validation, at least 1.
        test_share: share of subjects held out, 0 to 1.
        protocol: scanner and population instead of the usual of the cohort.

    Returns:
        The manifest.

    Raises:
        InputError: for a number out of range.
    """
    shape(size)
    if subjects < 1 or folds < 1 or not 0 <= test_share <= 1:
        raise InputError(
            f"cohort of {subjects} subjects, {folds} folds, test share {test_share}: "
            "expected at least 1, at least 1, and 0 to 1"
        )
    folder = Path(folder)
    protocol = protocol or (VOLUNTEERS if healthy else PATIENTS)
    order = numpy_rng(seed, "brain", protocol.name, "order").permutation(subjects)
    rank = np.argsort(order)
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for k in range(subjects):
        name = f"{'healthy' if healthy else 'patient'}{k:03d}"
        phantom = brain(seed, k, size=size, pathological=not healthy, protocol=protocol)
        rows = [("image", m, m, image, "a.u.") for m, image in phantom.images.items()]
        rows += [("labels", "", "labels", phantom.labels, "label")]
        rows += [("mask", "", "mask", phantom.mask, "label")]
        for role, modality, suffix, values, unit in rows:
            path = folder / name / f"{name}_{suffix}.nii.gz"
            _write(path, values, phantom.affine)
            table.writerow(
                {
                    "subject": name,
                    "role": role,
                    "modality": modality,
                    "path": path.relative_to(folder).as_posix(),
                    "sha256": sha256(path),
                    "licence": LICENCE,
                    "citation": CITATION,
                    "split": "test" if rank[k] < round(test_share * subjects) else "train",
                    "fold": int(rank[k]) % folds,
                    "unit": unit,
                    "source_url": SOURCE_URL,
                }
            )
    manifest = folder / "manifest.csv"
    write_text(manifest, text.getvalue())
    return manifest


def _write(path: Path, values: Array, affine: Array) -> None:
    import nibabel as nib

    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    with atomic(path) as temporary:
        nib.save(image, temporary)
