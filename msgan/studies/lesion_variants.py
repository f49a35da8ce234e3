"""The masks of figures 9 and 10: tumours of patients placed in brains of healthy people.

Extended paper, section 3.2.2.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.volume import open_volume
from msgan.phantoms.cohorts import MANIFEST, brain_cohort
from msgan.studies.label_transforms import LabelMap, fitted, grown, mirrored, placed, scaled
from msgan.studies.lesions import brain_of
from msgan.studies.table import result_path
from msgan.types import InputError

NONE = "no tumour"
"""The variant without a mask: every lesion found in it is invented."""

HEALTHY = "healthy.csv"
"""A second manifest below a data root, for healthy people of another data set."""

GROWN_MM = 8.0
"""Largest growth of the variant ``grown``."""


def healthy_and_patients(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> tuple[Cohort, Cohort]:
    """Healthy people with a ``t1`` image, and patients with ``t2`` and tumour labels.

    Args:
        preset: Number and size of the phantoms.
        folder: Phantoms are written below it once and found there again.
        data_root: Folder with ``manifest.csv``, where those without labels are the healthy, or
            where ``healthy.csv`` beside it names them; None: phantoms.
        seed: Names the phantoms.

    Raises:
        InputError: One of the two is empty, or a manifest is at fault.
    """
    patients = brain_cohort(preset, folder, data_root=data_root, seed=seed)
    if data_root is None:
        healthy = brain_cohort(preset, folder, seed=seed, healthy=True)
    elif (other := Path(data_root) / HEALTHY).is_file():
        healthy = Cohort.from_manifest(other, data_root)
    else:
        healthy = patients
    well = Cohort(
        tuple(s for s in healthy.with_modality("t1") if s.labels is None or not data_root)
    )
    ill = Cohort(tuple(s for s in patients.with_modality("t2") if s.labels is not None))
    for cohort, what in ((well, "healthy person with t1"), (ill, "patient with t2 and labels")):
        if not len(cohort):
            raise InputError(f"{data_root}: no {what} in {MANIFEST} or {HEALTHY}")
    return well, ill


@dataclass(frozen=True)
class Variant:
    """One person with one tumour, or with none.

    Attributes:
        name: Of the variant.
        subject: With the labels to draw.
        donor: Whose tumour it is; empty for none.
    """

    name: str
    subject: Subject
    donor: str = ""


def variants(
    subject: Subject,
    donors: Sequence[Subject],
    folder: str | os.PathLike[str],
    *,
    source: str = "t1",
    target: str = "t2",
    preparation: Preparation,
    seed: int = 0,
) -> list[Variant]:
    """The masks of figures 9 and 10 for one healthy person, written below ``folder``.

    No tumour; tumours of two patients, laid where they are in the patient's brain; the first
    mirrored, shrunk and enlarged by 15 %; and, not in the paper, grown unevenly. Each is kept in
    the brain (:func:`msgan.studies.label_transforms.fitted`).

    Args:
        subject: Healthy.
        donors: Patients; the first two are taken.
        folder: Files are ``FOLDER/SUBJECT/VARIANT.nii.gz``.
        source: Image of ``subject`` whose grid the labels get.
        target: Image of the donors, on whose grid their labels lie.
        preparation: States the threshold of the foreground, used where there is no mask.
        seed: Of the uneven growth.

    Raises:
        InputError: There are fewer than two donors, one has no lesion, or a lesion does not fit
            into the brain.
    """
    if len(donors) < 2:
        raise InputError(f"{len(donors)} donors of tumours: expected at least 2")
    with open_volume(subject.images[source], check=False) as image:
        grid = image.grid
    brain = brain_of(subject, source, preparation)
    tumours = []
    for donor in donors[:2]:
        if donor.labels is None:
            raise InputError(f"{donor.name}: no labels to take a tumour from")
        own = LabelMap.open(donor.labels)
        there = placed(own, grid, brain_of(donor, target, preparation), brain)
        tumours.append(fitted(there, brain))
    first, second = tumours
    made = {
        "tumour 1": first,
        "tumour 2": second,
        "mirrored": fitted(mirrored(first, brain), brain),
        "shrunk 15 %": fitted(scaled(first, 0.85), brain),
        "enlarged 15 %": fitted(scaled(first, 1.15), brain),
        "grown": fitted(grown(first, GROWN_MM, seed), brain),
    }
    out = [Variant(NONE, replace(subject, labels=None))]
    for name, labels in made.items():
        path = Path(folder) / subject.name / f"{_plain(name)}.nii.gz"
        labels.write(path)
        whose = donors[1 if name == "tumour 2" else 0].name
        out.append(Variant(name, replace(subject, labels=path), whose))
    return out


def variant_path(folder: str | os.PathLike[str], variant: str, subject: str) -> Path:
    """Where :func:`msgan.studies.lesion_study.lesion_table` writes a translation."""
    return result_path(folder, _plain(variant), subject)


def _plain(name: str) -> str:
    return name.replace(" %", "").replace(" ", "_")
