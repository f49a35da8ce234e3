"""The table of a study: every method translates every subject, every result is scored."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from msgan.config import Preparation
from msgan.data.cohort import Subject, prepare
from msgan.data.intensity import IntensityMap
from msgan.data.volume import open_labels, open_volume
from msgan.metrics import Scores, scores_of
from msgan.types import Array, Box, InputError

if TYPE_CHECKING:
    import pandas as pd


class Method(Protocol):
    """What a row of a table can do."""

    def translate(
        self, subject: Subject, out: str | os.PathLike[str], *, modality: str | None = None
    ) -> Any:
        """Write the translation of one image of ``subject`` on its own grid."""
        ...


def result_path(folder: str | os.PathLike[str], method: str, subject: str) -> Path:
    """Where :func:`score_table` writes a translation."""
    return Path(folder) / method.replace(" ", "_").replace(",", "") / f"{subject}.nii"


def score_table(
    methods: Mapping[str, Method],
    subjects: Iterable[Subject],
    source: str,
    target: str,
    intensity: IntensityMap,
    preparation: Preparation,
    folder: str | os.PathLike[str],
) -> pd.DataFrame:
    """Translate ``source`` images of subjects that have a real ``target`` image, and score them.

    Args:
        methods: By the name of their row.
        subjects: Usually the test split.
        source: Modality that is translated.
        target: Modality of the real image, on the grid of ``source``.
        intensity: The target's range that the methods write their results in.
        preparation: Decides foreground and range of the real image.
        folder: Where the translations go (:func:`result_path`).

    Returns:
        One line a method and subject: ``method``, ``subject``, ``ssim``, ``mae``, ``mse``,
        ``psnr`` (dB) and ``voxels``, over the foreground of the real image, intensities in [0, 1]
        as in the papers' tables.

    Raises:
        InputError: There is no subject with both images, or a file is at fault.
    """
    import pandas as pd

    lines = []
    for subject in subjects:
        if source not in subject.images or target not in subject.images:
            continue
        for name, method in methods.items():
            path = result_path(folder, name, subject.name)
            method.translate(subject, path, modality=source)
            score = score_file(path, subject, target, intensity, preparation)
            row = score.as_row()
            kept = {k: row[k] for k in ("ssim", "mae", "mse", "psnr", "voxels")}
            lines.append({"method": name, "subject": subject.name, **kept})
    if not lines:
        raise InputError(f"no subject has both a {source} and a {target} image")
    return pd.DataFrame(lines)


def score_file(
    path: str | os.PathLike[str],
    subject: Subject,
    target: str,
    intensity: IntensityMap,
    preparation: Preparation,
) -> Scores:
    """Score a translation against the real image, each shown in its own range.

    The intensities of MR have no unit: the real image is mapped by its own range, as for
    training, the translation by the range it was written in. Voxels count where the real image
    is foreground: inside the subject's mask where there is one and above the threshold.
    Differs: the papers count the background as well, which every method gets right.

    See :func:`score_table` for the arguments.

    Raises:
        InputError: The two images lie on different grids, or a file is at fault.
    """
    own = preparation.model_copy(update={"spacing_mm": None})
    with (
        open_volume(path) as fake,
        open_volume(subject.images[target]) as image,
        prepare(subject, target, own) as real,
    ):
        if not fake.grid.same_as(image.grid):
            raise InputError(f"{path}: grid {fake.grid} is not the real image's, {image.grid}")
        mask = open_labels(subject.mask, like=image.grid) if subject.mask is not None else None

        def foreground(box: Box) -> Array:
            inside = image.read(box) > preparation.foreground
            return inside if mask is None else inside & (mask.read(box) != 0)

        def shown(box: Box) -> Array:
            return np.where(foreground(box), real.intensity.to_unit(image.read(box)), -1.0)

        try:
            return scores_of(
                lambda box: intensity.to_unit(fake.read(box)),
                shown,
                image.grid.shape,
                data_range=2.0,
                black=-1.0,
                read_mask=foreground,
                mask_name="foreground",
            ).unit()
        finally:
            if mask is not None:
                mask.close()
