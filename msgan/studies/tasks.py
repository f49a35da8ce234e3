"""Several tasks, each with cohort, folds and trained methods of its own, in one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgan.data.cohort import Cohort
from msgan.metrics.perceptual import Comparison
from msgan.runs.run import Run
from msgan.studies.crossval import Fitted, Fold, cross_validate
from msgan.studies.perceptual import Perceptual
from msgan.studies.seams import Seams, faces, joined
from msgan.studies.table import BODY, FOREGROUND, IMAGE, Fixed, Measure, Method

if TYPE_CHECKING:
    import pandas as pd

Task = tuple[str, str]
"""Source and target."""

Methods = Callable[[Mapping[str, Run], Cohort], Mapping[str, Method]]
"""The methods of a fold, of its runs by row and of those they were trained on."""


def runs_of(
    runs: Mapping[tuple[str, str, int, str], Run], task: Task, fold: Fold
) -> dict[str, Run]:
    """Those of a task and fold, by row."""
    return {key[3]: run for key, run in runs.items() if key[:3] == (*task, fold.number)}


def score_tasks(
    runs: Mapping[tuple[str, str, int, str], Run],
    folds: Mapping[Task, Sequence[Fold]],
    methods: Methods,
    folder: str | os.PathLike[str],
    *,
    reference: str = "cascade",
    tile: int | None = None,
    lpips: Comparison | None = None,
) -> pd.DataFrame:
    """Cross-validate every task, count everything and the body as well, and look for seams.

    Args:
        runs: By source, target, number of the fold and row.
        folds: By task.
        methods: See :data:`Methods`.
        folder: See :func:`msgan.studies.crossval.cross_validate`.
        reference: Row of the runs whose preparation and range decide what scores see.
        tile: Side of a tile where a method may have any; smaller than the image, so that seams
            could show. None: as large as memory allows, and no column of seams.
        lpips: Compares slices (:class:`msgan.networks.lpips.Lpips`), if it is at hand.

    Returns:
        The tables of :func:`msgan.studies.crossval.cross_validate` one after the other. The first
        region is the foreground, or the body with its lungs where the unit is HU; ``image_ssim``
        and so on count everything.

    Raises:
        InputError: As there.
    """
    import pandas as pd

    tables = []
    options: dict[str, Any] = {"tile": tile}
    for task, own in folds.items():
        first = runs_of(runs, task, own[0])
        preparation, intensity = first[reference].config.preparation, first[reference].intensity

        def fitted(fold: Fold, source: str, task: Task = task) -> Fitted:
            mine = runs_of(runs, task, fold)
            made = methods(mine, fold.train)
            free = [name for name, run in mine.items() if joined(run) is None]
            rows = {k: Fixed(v, **options) if k in free else v for k, v in made.items()}
            return Fitted(rows, mine[reference].intensity)

        measures: list[Measure] = []
        if tile is not None:
            measures.append(Seams(faces(first, tile), preparation))
        if lpips is not None:
            measures.append(Perceptual(lpips, intensity, preparation))
        region = BODY if intensity.unit == "HU" else FOREGROUND
        regions = (region, IMAGE)
        asked: dict[str, Any] = {"regions": regions, "measures": measures}
        tables.append(cross_validate(own, fitted, [task], preparation, folder, **asked))
    return pd.concat(tables, ignore_index=True)
