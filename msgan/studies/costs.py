"""What methods cost beside what they score: weights, memory, time, and seams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgan.data.cohort import Subject
from msgan.memory.training import training_cost
from msgan.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd

MIB = 2**20


def cost_table(runs: Mapping[str, Run], subject: Subject, scores: pd.DataFrame) -> pd.DataFrame:
    """A line a method that is trained.

    Args:
        runs: Trained for one task, by the name of their row.
        subject: Has an image as large as those of the training
            (:func:`msgan.memory.training.training_cost`).
        scores: Of that task (:func:`msgan.studies.crossval.cross_validate`); of its columns
            ``seconds`` and, where they are there, ``seam`` and ``seam_p`` are averaged.

    Returns:
        Indexed by ``method``: ``parameters`` (of the generators), ``parameters of D``,
        ``step (MiB)`` (counted memory of a training step), ``steps``, ``training (s)``,
        ``translation (s)``, ``seam``, ``seam_p``.

    Raises:
        InputError: A run is not trained, or its steps cannot be counted.
    """
    import pandas as pd

    lines = {}
    for name, run in runs.items():
        cost = training_cost(run, subject)
        lines[name] = {
            "parameters": int(cost["parameters"]),
            "parameters of D": int(cost["judging"]),
            "step (MiB)": cost["step_bytes"] / MIB,
            "steps": int(cost["steps"]),
            "training (s)": cost["seconds"],
        }
    table = pd.DataFrame.from_dict(lines, orient="index").rename_axis("method")
    columns = [c for c in ("seconds", "seam", "seam_p") if c in scores]
    means = scores.groupby("method")[columns].mean()
    return table.join(means).rename(columns={"seconds": "translation (s)"})
