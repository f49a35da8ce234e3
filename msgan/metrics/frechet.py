"""Fréchet distance of two sets of features, from statistics collected patch by patch.

With Gaussians fitted to both sets (Heusel et al., 2017, eq. 6; the 2019 paper, section 3.2, with
features of an Inception network):

    d = |m_a - m_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2))

A covariance is kept as a factor R, C = R'R / (n - 1), which has at most min(n, d) rows. The
eigenvalues of C_a C_b are the squared singular values of R_a R_b', so the last term is their sum:
no root of a singular matrix is taken, nothing is regularised, and fewer samples than features are
no special case.

What remains is the bias of the estimate: with few samples it is too large, the more so the more
features there are (of n samples, at most n - 1 directions have any variance). Distances compare
only where extractor and numbers of samples agree, hence :func:`jackknife`, which says how far
they depend on the subjects that happen to be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import nan, sqrt
from typing import NamedTuple

import numpy as np

from msgan.types import Array, InputError


@dataclass(frozen=True)
class Moments:
    """Number, mean and scatter of feature vectors; two of them add up to those of all.

    Attributes:
        count: Vectors seen.
        mean: (d,) float64.
        root: (r, d) float64, r at most d; ``root.T @ root`` is the sum of squared deviations.
    """

    count: int
    mean: Array
    root: Array

    @classmethod
    def of(cls, features: Array) -> Moments:
        """Those of (n, d) feature vectors.

        Raises:
            InputError: Not two axes, nothing in them, or a value that is NaN or infinite.
        """
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or not x.size:
            raise InputError(f"features of shape {x.shape}: expected (n, d), at least one of each")
        if not np.isfinite(x).all():
            raise InputError(f"features: {(~np.isfinite(x)).sum()} values are NaN or infinite")
        mean = x.mean(axis=0)
        return cls(len(x), mean, _short(x - mean))

    def __add__(self, other: Moments) -> Moments:
        """Those of both sets together (Chan et al., 1979, with factors instead of sums)."""
        if self.mean.shape != other.mean.shape:
            raise InputError(
                f"features of {self.mean.size} and {other.mean.size} numbers: expected as many"
            )
        total = self.count + other.count
        apart = other.mean - self.mean
        between = sqrt(self.count * other.count / total) * apart
        root = np.concatenate([self.root, other.root, between[None]])
        return Moments(total, self.mean + other.count / total * apart, _short(root))

    @property
    def covariance(self) -> Array:
        """(d, d), divided by n - 1."""
        return self.root.T @ self.root / self._degrees

    @property
    def factor(self) -> Array:
        """(r, d), whose square is the covariance."""
        return self.root / sqrt(self._degrees)

    @property
    def _degrees(self) -> int:
        if self.count < 2:
            raise InputError(f"{self.count} feature vector: a covariance needs at least 2")
        return self.count - 1


class Stream:
    """Moments of vectors that come batch by batch; holds at most 2 d of them."""

    def __init__(self) -> None:
        self._done: Moments | None = None
        self._waiting: list[Array] = []

    def add(self, features: Array) -> None:
        """Take in (n, d) more vectors."""
        x = np.array(features, dtype=np.float64, ndmin=2)  # a copy: the caller may write to it
        self._waiting.append(x)
        # A decomposition for each patch would cost more than the network.
        if sum(map(len, self._waiting)) >= x.shape[1]:
            self._fold()

    def moments(self) -> Moments | None:
        """Those of everything that has been added; None for nothing."""
        self._fold()
        return self._done

    def _fold(self) -> None:
        if self._waiting:
            new = Moments.of(np.concatenate(self._waiting))
            self._done = new if self._done is None else self._done + new
            self._waiting = []


def together(parts: Iterable[Moments]) -> Moments:
    """Moments of several sets as one.

    Raises:
        InputError: There is none.
    """
    total: Moments | None = None
    for part in parts:
        total = part if total is None else total + part
    if total is None:
        raise InputError("no features: expected at least one set")
    return total


def frechet_distance(a: Moments, b: Moments) -> float:
    """Fréchet distance (squared 2-Wasserstein) of the Gaussians with these moments, 0 or more.

    Raises:
        InputError: Fewer than two vectors on a side, or unequal numbers of features.
    """
    if a.mean.shape != b.mean.shape:
        raise InputError(f"features of {a.mean.size} and {b.mean.size} numbers: expected as many")
    r, s = a.factor, b.factor
    shared = np.linalg.svd(r @ s.T, compute_uv=False).sum()
    apart = np.square(a.mean - b.mean).sum()
    # Rounding may take a distance of zero below it.
    return max(0.0, float(apart + np.square(r).sum() + np.square(s).sum() - 2 * shared))


class Estimate(NamedTuple):
    """A number that depends on subjects, and how much; NaN where that cannot be told.

    Attributes:
        value: Of all subjects.
        low: Lower end of the confidence interval; not cut off at zero.
        high: Its upper end.
        error: Standard error.
        bias: By how much ``value`` is too large because there are no more subjects, estimated.
    """

    value: float
    low: float
    high: float
    error: float
    bias: float


Group = Mapping[str, Moments]
"""Moments of each subject's features, by its name."""


def jackknife(
    statistic: Callable[..., float], *groups: Group, confidence: float = 0.95
) -> Estimate:
    """A statistic of groups of subjects and its interval, from leaving out each subject once.

    Patches of one subject are alike, so the subject is what is left out, and from all groups that
    have it: the same person's images at two doses go together. Not a bootstrap: a subject drawn
    twice adds no direction of variance, so that each resample looks farther away than the whole.

    Args:
        statistic: Of one :class:`Moments` for each group, as :func:`frechet_distance`.
        groups: Subjects' moments by name.
        confidence: Of the interval (Student's t).

    Raises:
        InputError: A group is empty, or the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence {confidence}: expected a number between 0 and 1")
    value = statistic(*(together(group.values()) for group in groups))
    # Subjects that are in the same groups are exchangeable with each other only.
    kinds: dict[tuple[bool, ...], list[str]] = {}
    for name in dict.fromkeys(name for group in groups for name in group):
        kinds.setdefault(tuple(name in group for group in groups), []).append(name)
    if min(map(len, kinds.values())) < 2:
        return Estimate(value, nan, nan, nan, nan)
    left = [_left_out(group) for group in groups]
    variance = bias = 0.0
    for names in kinds.values():
        n = len(names)
        found = np.array(
            [statistic(*(each.get(name, each[""]) for each in left)) for name in names]
        )
        variance += (n - 1) / n * float(np.square(found - found.mean()).sum())
        bias += (n - 1) * (float(found.mean()) - value)
    from scipy.stats import t

    free = sum(len(names) - 1 for names in kinds.values())
    reach = float(t.ppf((1 + confidence) / 2, free)) * sqrt(variance)
    return Estimate(value, value - reach, value + reach, sqrt(variance), bias)


def _left_out(group: Group) -> dict[str, Moments]:
    """Moments of the group without each of its subjects; those of all under no name."""
    parts = list(group.values())
    before: list[Moments | None] = [None]
    after: list[Moments | None] = [None]
    for part in parts:
        before.append(_sum(before[-1], part))
    for part in reversed(parts):
        after.append(_sum(part, after[-1]))
    whole = before[-1]
    assert whole is not None  # an empty group has been refused
    out = {"": whole}
    for k, name in enumerate(group):
        rest = _sum(before[k], after[len(parts) - 1 - k])
        if rest is not None:
            out[name] = rest
    return out


def _sum(a: Moments | None, b: Moments | None) -> Moments | None:
    return b if a is None else a if b is None else a + b


def _short(root: Array) -> Array:
    """A factor of the same square with no more rows than columns."""
    return np.asarray(np.linalg.qr(root, mode="r")) if len(root) > root.shape[1] else root
