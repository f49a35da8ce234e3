"""Which values of a column of scores are the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msgan.metrics import metric_of

SIGNED = ("hu", "error")
"""Ends of the names of columns with signed errors: what is nearest to 0 is best."""


def best_of(column: str, values: Sequence[float]) -> set[int]:
    """Places of the best values; none where the column has no better end, or one value only.

    Args:
        column: Its name, as ``lung_ssim`` or ``soft_hu``.
        values: Of the rows that are compared; what is NaN does not count.

    Example:
        >>> best_of("lung_ssim", [0.5, 0.9, 0.9]), best_of("soft_hu", [-3, 1]), best_of("n", [1, 2])
        ({1, 2}, {1}, set())
    """
    metric, end = metric_of(column), column.rpartition("_")[2]
    if metric is None and end not in SIGNED:
        return set()
    x = np.asarray(values, dtype=float)
    if np.isfinite(x).sum() < 2:
        return set()
    badness = np.abs(x) if metric is None else x if metric.better == "lower" else -x
    return {int(k) for k in np.flatnonzero(badness == np.nanmin(badness))}
