"""Cross-validation: every subject is translated once, by methods not trained on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.config import Preparation
from msgan.data.cohort import Cohort
from msgan.data.intensity import IntensityMap
from msgan.metrics import SIMILARITY, header_of, metric_of
from msgan.statistics import compare, holm
from msgan.studies.table import FOREGROUND, Measure, Method, score_table
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Fold:
    """Who is trained and who is tested on in one fold.

    Attributes:
        number: From 0.
        train: All others; their split is ``train``, or ``val`` where the manifest says so.
        test: The fold's own subjects; their split is ``test``.
    """

    number: int
    train: Cohort
    test: Cohort


@dataclass(frozen=True)
class Fitted:
    """The methods of one fold.

    Attributes:
        methods: By the name of their row.
        intensity: The target's range they write their results in.
    """

    methods: Mapping[str, Method]
    intensity: IntensityMap


def folds_of(cohort: Cohort, folds: int, chosen: Sequence[int] | None = None) -> list[Fold]:
    """The folds of a cross-validation (extended paper, section 3.2.1).

    A manifest that states folds decides their number; where it states none, subjects are dealt
    into ``folds`` of equal size. Whatever split the manifest states, each subject is tested in
    their own fold and trained on in the others; ``val`` stays ``val`` there.

    Args:
        cohort: The subjects.
        folds: How many, where the manifest states none; at least 2.
        chosen: Numbers of the folds wanted; None: all.

    Raises:
        InputError: Too few folds or subjects, some subjects state a fold and some do not, or a
            chosen fold does not exist.
    """
    stated = [s.fold for s in cohort if s.fold is not None]
    if stated and len(stated) < len(cohort):
        raise InputError(f"{len(stated)} of {len(cohort)} subjects state a fold: all or none must")
    if not stated:
        if folds < 2:
            raise InputError(f"{folds} folds: expected at least 2")
        cohort = cohort.with_folds(folds)
    count = max(stated) + 1 if stated else folds
    made = [
        Fold(
            number,
            Cohort(tuple(replace(s, split="val" if s.split == "val" else "train") for s in train)),
            Cohort(tuple(replace(s, split="test") for s in test)),
        )
        for number, (train, test) in enumerate(cohort.folds(count))
    ]
    for number in chosen if chosen is not None else ():
        if not 0 <= number < count:
            raise InputError(f"fold {number} does not exist: there are 0 to {count - 1}")
    return made if chosen is None else [made[number] for number in chosen]


def cross_validate(
    folds: Sequence[Fold],
    fit: Callable[[Fold, str], Fitted],
    tasks: Sequence[tuple[str, str]],
    preparation: Preparation,
    folder: str | os.PathLike[str],
    *,
    regions: Sequence[str] = (FOREGROUND,),
    measures: Sequence[Measure] = (),
    report: Callable[[str], Any] | None = None,
) -> pd.DataFrame:
    """Translate and score the subjects of each fold by methods fitted to the other folds.

    Args:
        folds: Of :func:`folds_of`.
        fit: Gives the methods for a fold and a source modality. It sees the whole fold, but must
            train on ``fold.train`` alone. Called once a fold and task: what is trained for several
            tasks should be kept.
        tasks: Pairs of source and target modality.
        preparation: Decides foreground and range of the real images.
        folder: Translations go to ``FOLDER/SOURCE-TARGET/foldK/METHOD/SUBJECT.nii``
            (:func:`task_folder`).
        regions: Where voxels count; see :func:`msgan.studies.table.score_file`.
        measures: Give further columns, such as :func:`msgan.studies.lung.lung_measures`.
        report: Called with a line before each fold of each task.

    Returns:
        ``task`` (as ``b80f→b20f``), ``fold`` and the columns of
        :func:`msgan.studies.table.score_table`: a line for each task, subject and method.

    Raises:
        InputError: No fold or task, a subject is tested twice or trained and tested on, or a file
            is at fault.
    """
    import pandas as pd

    if not folds or not tasks:
        raise InputError(f"{len(folds)} folds and {len(tasks)} tasks: expected at least one each")
    tested: set[str] = set()
    for fold in folds:
        own = set(fold.test.names)
        for other, what in ((tested, "tested twice"), (set(fold.train.names), "trained on too")):
            if both := own & other:
                raise InputError(f"fold {fold.number}: {min(both)} is tested and {what}")
        tested |= own
    tables = []
    for source, target in tasks:
        for fold in folds:
            if report:
                report(f"{source} to {target}, fold {fold.number}: {len(fold.test)} subjects")
            fitted = fit(fold, source)
            table = score_table(
                fitted.methods,
                fold.test,
                source,
                target,
                fitted.intensity,
                preparation,
                task_folder(folder, source, target, fold),
                regions=regions,
                measures=measures,
            )
            table.insert(0, "task", f"{source}→{target}")
            table.insert(1, "fold", fold.number)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def task_folder(folder: str | os.PathLike[str], source: str, target: str, fold: Fold) -> Path:
    """Where :func:`cross_validate` writes the translations of a fold."""
    return Path(folder) / f"{source}-{target}" / f"fold{fold.number}"


def summary(
    table: pd.DataFrame, columns: Sequence[str] = SIMILARITY, *, region: str = ""
) -> pd.DataFrame:
    """``mean ± sd`` over subjects of each task and method, and how many subjects (``n``).

    Args:
        table: Of :func:`cross_validate`.
        columns: To summarise, in this order, with the digits of :data:`msgan.metrics.CATALOGUE`;
            any other column has four.
        region: Where voxels count, as ``lung``; empty is the first region of the table.

    Raises:
        InputError: A column is not there.
    """
    import pandas as pd

    if region:
        columns = [f"{region}_{column}" for column in columns]
    if missing := [c for c in columns if c not in table.columns]:
        raise InputError(f"table: no column {missing[0]!r}: has {list(table.columns)}")
    groups = table.groupby(["task", "method"], sort=False)
    out = pd.DataFrame({"n": groups["subject"].nunique()})
    for column in columns:
        metric = metric_of(column)
        digits = metric.digits if metric else 4
        mean, sd = groups[column].mean(), groups[column].std()  # sd of subjects, n - 1
        texts = (f"{m:.{digits}f} ± {s:.{digits}f}" for m, s in zip(mean, sd, strict=True))
        out[header_of(column)] = [text.replace(" ± nan", "") for text in texts]
    return out


def significance(
    table: pd.DataFrame,
    reference: str = "cascade",
    metrics: Sequence[str] = ("ssim", "mae", "psnr"),
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """:func:`msgan.statistics.compare` within each task, as in the papers' tables 1 and 2.

    Holm's correction runs over the whole result, because a reader looks at all of it.

    Args:
        table: Of :func:`cross_validate`.
        reference: Row that the others are compared with.
        metrics: Columns that are compared.
        seed: Of the bootstrap.

    Returns:
        Its columns with ``task`` in front.
    """
    import pandas as pd

    parts = []
    for task, rows in table.groupby("task", sort=False):
        part = compare(rows, reference, metrics=metrics, seed=seed)
        part.insert(0, "task", task)
        parts.append(part)
    out = pd.concat(parts, ignore_index=True)
    for name in ("t_p", "wilcoxon_p"):
        out[f"{name}_holm"] = holm(out[name].to_numpy(float))
    return out
