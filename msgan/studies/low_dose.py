"""Low dose to high dose with a network trained on neither pairs nor low dose (2020, 3.2.1)."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from dataclasses import replace

from msgan.data.cohort import Cohort, Subject
from msgan.studies.table import Method, result_path
from msgan.types import InputError

TASKS = (("low", "b20f"), ("low_dose", "b20f"), ("low_dose", "full_dose"))
"""Source and target modality: phantoms; two cohorts as in the papers; scans made at both doses."""

TRANSLATED = "translated"
"""Name of a translation among a subject's images."""

PRINTED = {("low", "high"): 150.0, ("translated", "high"): 131.0, ("translated", "low"): 157.0}
"""Fréchet inception distances of the 2019 paper (section 3.2): of its data and of an extractor it
does not name. To be shown beside other numbers, not to be compared with them."""


def dose_task(cohort: Cohort) -> tuple[str, str]:
    """Source and target modality that a cohort has images of, not needing both of one person.

    Raises:
        InputError: None of :data:`TASKS` can be done.
    """
    for source, target in TASKS:
        if len(cohort.with_modality(source)) and len(cohort.with_modality(target)):
            return source, target
    has = ", ".join(sorted({m for subject in cohort for m in subject.images}))
    wanted = " or ".join(" and ".join(task) for task in TASKS)
    raise InputError(f"cohort with images {has}: expected {wanted}")


def translations(
    method: Method,
    name: str,
    subjects: Iterable[Subject],
    source: str,
    folder: str | os.PathLike[str],
    made: Container[str] = (),
) -> list[Subject]:
    """Subjects with their translations as one more image, ``translated``.

    Unlike :func:`msgan.studies.table.score_table`, which makes the same files, this needs no real
    image to compare with: the papers' low-dose scans have none.

    Args:
        method: Translates.
        name: Of its row.
        subjects: Those without a ``source`` image are left out.
        source: Modality that is translated.
        folder: Where the translations go (:func:`msgan.studies.table.result_path`).
        made: Names of subjects whose file has just been made there.

    Raises:
        InputError: A file is at fault.
    """
    out = []
    for subject in subjects:
        if source in subject.images:
            path = result_path(folder, name, subject.name)
            if subject.name not in made:
                method.translate(subject, path, modality=source)
            out.append(replace(subject, images={**subject.images, TRANSLATED: path}))
    return out
