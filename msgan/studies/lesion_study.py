"""Healthy people translated with and without tumour masks: requested and generated lesions.

Figures 9 and 10 of the extended paper (section 3.2.2) as numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from msgan.config import Preparation
from msgan.data.cohort import Subject
from msgan.data.volume import open_volume
from msgan.metrics import dice
from msgan.studies.label_transforms import LabelMap
from msgan.studies.lesion_variants import Variant, variant_path
from msgan.studies.lesions import Healthy, count, lesions_in
from msgan.studies.table import Method

if TYPE_CHECKING:
    import pandas as pd


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
        made: Of :func:`msgan.studies.lesion_variants.variants`.
        healthy: What is no lesion.
        folder: Translations go to :func:`msgan.studies.lesion_variants.variant_path`.
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
