"""Healthy people translated with and without tumours: what was asked for, what was drawn.

Figures 9 and 10 of the extended paper (section 3.2.2) as files and numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.volume import open_volume
from msgan.methods.label_transforms import (
    LabelMap,
    fitted,
    grown,
    mirrored,
    placed,
    scaled,
)
from msgan.methods.lesions import Healthy, brain_of, count, dice, lesions_in
from msgan.methods.table import Method, result_path
from msgan.phantoms.cohorts import MANIFEST, brain_cohort
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd

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
    the brain (:func:`msgan.methods.label_transforms.fitted`).

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
        "shrunk 15 %": scaled(first, 0.85),
        "enlarged 15 %": fitted(scaled(first, 1.15), brain),
        "grown": fitted(grown(first, GROWN_MM, seed), brain),
    }
    out = [Variant(NONE, replace(subject, labels=None))]
    for name, labels in made.items():
        path = Path(folder) / subject.name / f"{_plain(name)}.nii.gz"
        labels.write(path)
        donor = donors[1 if name == "tumour 2" else 0].name
        out.append(Variant(name, replace(subject, labels=path), donor))
    return out


def lesion_table(
    method: Method,
    made: Iterable[Variant],
    healthy: Healthy,
    folder: str | os.PathLike[str],
    *,
    source: str = "t1",
    preparation: Preparation,
) -> pd.DataFrame:
    """Translate every variant and look for lesions in the result.

    Args:
        method: Translates and draws the labels of a subject.
        made: Of :func:`variants`.
        healthy: What is no lesion.
        folder: Translations go to :func:`variant_path`.
        source: Modality that is translated.
        preparation: States the threshold of the foreground.

    Returns:
        A line each: ``subject``, ``variant``, ``donor``, and the columns of :func:`measured`.

    Raises:
        InputError: A file is at fault.
    """
    import pandas as pd

    lines = []
    for variant in made:
        path = variant_path(folder, variant.name, variant.subject.name)
        method.translate(variant.subject, path, modality=source)
        lines.append(
            {"subject": variant.subject.name, "variant": variant.name, "donor": variant.donor}
            | measured(path, variant.subject, source, preparation, healthy)
        )
    return pd.DataFrame(lines)


def reference_table(
    groups: Mapping[str, Iterable[Subject]],
    target: str,
    healthy: Healthy,
    preparation: Preparation,
) -> pd.DataFrame:
    """The same measures of real images: what the finder itself gets wrong.

    Args:
        groups: Subjects by the name of their row; those without a ``target`` image are left out.
        target: T2.
        healthy: What is no lesion.
        preparation: States the threshold of the foreground.

    Returns:
        As :func:`lesion_table`, with the group as ``variant``; without lines if there is no image.
    """
    import pandas as pd

    lines = [
        {"subject": s.name, "variant": name, "donor": ""}
        | measured(s.images[target], s, target, preparation, healthy)
        for name, subjects in groups.items()
        for s in subjects
        if target in s.images
    ]
    return pd.DataFrame(lines)


def measured(
    path: str | os.PathLike[str],
    subject: Subject,
    modality: str,
    preparation: Preparation,
    healthy: Healthy,
) -> dict[str, Any]:
    """What was asked for and what is found in one image.

    Args:
        path: T2, translated or real.
        subject: Its labels are what was asked for; None or empty labels: nothing was.
        modality: Image of the subject that the labels lie on.
        preparation: States the threshold of the foreground.
        healthy: What is no lesion.

    Returns:
        ``lesions`` (found), ``invented`` (of them those that touch no label), ``asked_ml``,
        ``found_ml``, and ``dice`` of asked and found, NaN where nothing was asked for.

    Raises:
        InputError: Grids differ, or a file is at fault.
    """
    found = lesions_in(path, subject, modality, preparation, healthy)
    with open_volume(subject.images[modality], check=False) as image:
        grid = image.grid
    asked = np.zeros(found.shape, np.uint8)
    if subject.labels is not None:
        asked = LabelMap.open(subject.labels, like=grid).values
    millilitres = abs(np.linalg.det(grid.affine[:-1, :-1])) / 1000
    return {
        "lesions": count(found),
        "invented": count(found) - len(np.unique(found[(asked > 0) & (found > 0)])),
        "asked_ml": float((asked > 0).sum() * millilitres),
        "found_ml": float((found > 0).sum() * millilitres),
        "dice": dice(asked, found) if asked.any() else float("nan"),
    }


def lesion_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Each variant over subjects: how many, how many without an invention, mean Dice.

    Args:
        table: Of :func:`lesion_table` or :func:`reference_table`, or both.

    Returns:
        By variant: ``n``, ``subjects without invented lesions``, ``invented lesions`` (sum),
        ``asked (ml)``, ``found (ml)``, ``Dice`` (means) and ``Dice sd``.
    """
    import pandas as pd

    groups = table.groupby("variant", sort=False)
    return pd.DataFrame(
        {
            "n": groups["subject"].nunique(),
            "subjects without invented lesions": groups["invented"].apply(
                lambda c: int((c == 0).sum())
            ),
            "invented lesions": groups["invented"].sum(),
            "asked (ml)": groups["asked_ml"].mean(),
            "found (ml)": groups["found_ml"].mean(),
            "Dice": groups["dice"].mean(),
            "Dice sd": groups["dice"].std(),
        }
    )


def variant_path(folder: str | os.PathLike[str], variant: str, subject: str) -> Path:
    """Where :func:`lesion_table` writes a translation."""
    return result_path(folder, _plain(variant), subject)


def _plain(name: str) -> str:
    return name.replace(" %", "").replace(" ", "_")
