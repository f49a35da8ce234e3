"""Histograms: a curve on intensities that gives an image the distribution of another domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msgan.data.geometry import blocks
from msgan.pyramid import BACKGROUND
from msgan.types import Array, Box, Reader, Shape

BINS = 4096
"""Bins of a histogram over [-1, 1]: two of them to a step of an 11-bit image."""

RANKS = np.linspace(0, 1, 1025)
"""Ranks that a distribution states the intensity of."""

EDGES = np.linspace(-1, 1, BINS + 1)
"""Of the bins."""


def cumulative(read: Reader, shape: Shape, labels: Reader | None = None) -> Array:
    """(4097,) share of foreground voxels below each edge of the bins, reading block by block.

    Args:
        read: An image in [-1, 1], of any box.
        shape: Of the image.
        labels: Labels of the same boxes; labelled voxels do not count.
    """
    counts = np.zeros(BINS, dtype=np.int64)
    for box in blocks(shape):
        part = read(box)
        counted = part > BACKGROUND
        if labels is not None:
            counted &= labels(box) == 0
        counts += np.histogram(part[counted], bins=BINS, range=(-1, 1))[0]
    return np.concatenate([[0], np.cumsum(counts)]) / max(counts.sum(), 1)


def quantiles(shares: Array) -> Array:
    """(1025,) intensity in [-1, 1] of each rank among foreground voxels, of :func:`cumulative`."""
    return np.interp(RANKS, shares, EDGES)


def mean_quantiles(every: Sequence[Array]) -> Array:
    """(1025,) of a cohort: the mean over images of the intensity of each rank."""
    return np.mean([quantiles(shares) for shares in every], axis=0)


def matched(read: Reader, shares: Array, target: Array, *, inverted: bool) -> Reader:
    """An image whose foreground has the distribution of another.

    Args:
        read: The image in [-1, 1], of any box.
        shares: Its :func:`cumulative`.
        target: (1025,) quantiles that it is given.
        inverted: Ranks are turned round: what is dark becomes bright.

    Returns:
        A reader of any box in [-1, 1], float32; background stays background, and what is hidden
        (:data:`msgan.match.slope.HIDDEN`) hidden.
    """
    curve = np.interp(1 - shares if inverted else shares, RANKS, target)
    rise = np.append(np.diff(curve), 0)

    def mapped(box: Box) -> Array:
        values = read(box)
        # Bins are even, so that of a voxel need not be searched: a tenth of the time of np.interp.
        seen = np.clip((values.astype(np.float64) + 1) * (BINS / 2), 0, BINS)
        place = seen.astype(np.int16)
        seen = curve[place] + (seen - place) * rise[place]
        return np.where(values > BACKGROUND, seen, values).astype(np.float32)

    return mapped
