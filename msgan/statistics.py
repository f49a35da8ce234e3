"""Statistics of the tables: paired tests, their correction, and confidence intervals.

The papers report a paired two-sided t-test (extended paper, section 3.2.1). Beside it stand the
Wilcoxon signed-rank test, which does not assume normal differences, a bootstrap interval of the
mean difference, which says how large the effect is, and Holm's correction for testing often.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from msgan import seeds
from msgan.types import Array, InputError

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 9999


class Interval(NamedTuple):
    """A mean and its confidence interval; the bounds are NaN for a single value."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Differences ``a - b`` of paired values: size, two-sided p-values, interval of the mean.

    What cannot be computed is NaN and ``note`` says why.
    """

    n: int
    mean_difference: float
    low: float
    high: float
    t_p: float
    wilcoxon_p: float
    note: str = ""


def paired(
    a: Sequence[float] | Array,
    b: Sequence[float] | Array,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Compare paired values, such as the SSIM of two methods on the same subjects.

    One pair has no p-value. Differences that are all zero have p = 1. Differences that are all
    the same number but not zero have no t-test (their spread is zero).

    Raises:
        InputError: lengths that differ, no pair at all, or a value that is NaN or infinite.

    Example:
        >>> test = paired([0.81, 0.84, 0.80, 0.90], [0.79, 0.80, 0.79, 0.85])
        >>> test.n, round(test.mean_difference, 3), test.t_p < 0.05 < test.wilcoxon_p
        (4, 0.03, True)
    """
    x, y = _values("a", a), _values("b", b)
    if x.size != y.size:
        raise InputError(f"{x.size} and {y.size} values: expected pairs")
    difference = x - y
    interval = bootstrap_mean(difference, confidence=confidence, seed=seed)
    n = difference.size
    if n < 2:
        return PairedTest(n, *interval, t_p=nan, wilcoxon_p=nan, note="one pair: no test")
    # Rounding of the subtraction must not pass for spread.
    scale = float(np.abs(np.concatenate([x, y])).max())
    if np.ptp(difference) <= 4 * np.finfo(float).eps * scale:
        if np.abs(difference).max() <= 4 * np.finfo(float).eps * scale:
            return PairedTest(n, *interval, t_p=1.0, wilcoxon_p=1.0, note="no difference")
        note = "all differences are equal: no t-test"
        return PairedTest(n, *interval, t_p=nan, wilcoxon_p=_wilcoxon(difference), note=note)
    from scipy.stats import ttest_1samp

    t_p = float(ttest_1samp(difference, 0.0).pvalue)
    return PairedTest(n, *interval, t_p=t_p, wilcoxon_p=_wilcoxon(difference))


def bootstrap_mean(
    values: Sequence[float] | Array, *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean with its bootstrap confidence interval (BCa, 9999 resamples, seeded).

    Where BCa is undefined (few or nearly equal values) the percentile interval is taken.

    Raises:
        InputError: no value, a value that is not finite, or a confidence outside (0, 1).
    """
    x = _values("values", values)
    if not 0 < confidence < 1:
        raise InputError(f"confidence {confidence}: expected a number between 0 and 1")
    mean = float(x.mean())
    if x.size < 2:
        return Interval(mean, nan, nan)
    if np.ptp(x) == 0:
        return Interval(mean, mean, mean)
    from scipy.stats import bootstrap

    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # BCa warns when degenerate; the NaN says the same
            result = bootstrap(
                (x,),
                np.mean,
                n_resamples=RESAMPLES,
                confidence_level=confidence,
                method=method,
                random_state=seeds.numpy_rng(seed, "bootstrap"),
            )
        low, high = map(float, result.confidence_interval)
        if np.isfinite([low, high]).all():
            break
    return Interval(mean, low, high)


def holm(pvalues: Sequence[float] | Array) -> Array:
    """Holm's step-down correction: p-values that keep the family-wise error rate.

    NaN (a test that could not be done) stays NaN and is not counted.

    Raises:
        InputError: a p-value outside [0, 1].

    Example:
        >>> [round(float(p), 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(pvalues, dtype=float).ravel()
    done = np.flatnonzero(~np.isnan(p))
    if ((p[done] < 0) | (p[done] > 1)).any():
        raise InputError(f"p-values {p[done].min()} ... {p[done].max()}: expected [0, 1]")
    order = done[np.argsort(p[done], kind="stable")]
    out = np.full(p.shape, nan)
    factors = np.arange(order.size, 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1) if order.size else nan
    return out


def compare(
    table: pd.DataFrame,
    reference: str,
    *,
    metrics: Sequence[str] | None = None,
    subject: str = "subject",
    method: str = "method",
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every method with a reference method on the subjects both have.

    Args:
        table: A row for each subject and method, a column for each metric.
        reference: The method the others are compared with (differences are other - reference).
        metrics: Columns to compare; default every numeric column.
        subject: Column that pairs rows.
        method: Column with the method's name.
        confidence: Of the bootstrap interval of the mean difference.
        seed: Of the bootstrap.

    Returns:
        A row for each other method and metric: ``n``, both means, ``difference`` with ``low``
        and ``high``, ``t_p``, ``wilcoxon_p``, and both corrected by Holm over the whole
        table (``t_p_holm``, ``wilcoxon_p_holm``). ``note`` says what was left out.

    Raises:
        InputError: a missing column or reference, or two rows for one subject and method.
    """
    import pandas as pd

    if metrics is None:
        numeric = table.drop(columns=[subject, method], errors="ignore")
        metrics = list(numeric.select_dtypes("number").columns)
    for column in (subject, method, *metrics):
        if column not in table.columns:
            raise InputError(f"table: no column {column!r}: has {list(map(str, table.columns))}")
    if reference not in set(table[method]):
        raise InputError(f"table: no rows of the reference method {reference!r}")
    twice = table[table.duplicated([subject, method])]
    if len(twice):
        row = twice.iloc[0]
        raise InputError(f"table: two rows for {subject} {row[subject]!r}, {row[method]!r}")

    rows = []
    base = table[table[method] == reference].set_index(subject)
    for other in [m for m in table[method].unique() if m != reference]:
        mine = table[table[method] == other].set_index(subject)
        common = sorted(mine.index.intersection(base.index), key=str)
        alone = len(mine) + len(base) - 2 * len(common)
        for metric in metrics:
            pair = np.array([mine.loc[common, metric], base.loc[common, metric]], dtype=float)
            finite = np.isfinite(pair).all(axis=0)
            notes = [f"{alone} subjects without a partner"] if alone else []
            if not finite.all():
                notes.append(f"{(~finite).sum()} pairs not finite")
            x, y = pair[:, finite]
            entry: dict[str, object] = {
                "method": other,
                "reference": reference,
                "metric": metric,
                "n": x.size,
            }
            test = PairedTest(0, nan, nan, nan, nan, nan, "no pair")
            if x.size:
                test = paired(x, y, confidence=confidence, seed=seed)
            entry |= {"mean": x.mean() if x.size else nan}
            entry |= {"reference_mean": y.mean() if y.size else nan}
            entry |= {"difference": test.mean_difference, "low": test.low, "high": test.high}
            entry |= {"t_p": test.t_p, "wilcoxon_p": test.wilcoxon_p}
            rows.append(entry | {"note": "; ".join(filter(None, [test.note, *notes]))})
    columns = ["method", "reference", "metric", "n", "mean", "reference_mean", "difference"]
    columns += ["low", "high", "t_p", "wilcoxon_p", "note"]
    out = pd.DataFrame(rows, columns=columns)
    # One family for the whole table: the reader looks at all of it.
    for name in ("t_p", "wilcoxon_p"):
        out[f"{name}_holm"] = holm(out[name].to_numpy(float))
    return out[[*columns[:-1], "t_p_holm", "wilcoxon_p_holm", "note"]]


def _wilcoxon(difference: Array) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(difference).pvalue)


def _values(name: str, values: Sequence[float] | Array) -> Array:
    x = np.asarray(values, dtype=float).ravel()
    if x.size == 0:
        raise InputError(f"{name}: no values: expected at least one")
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise InputError(f"{name}: {bad} of {x.size} values are NaN or infinite")
    return x
