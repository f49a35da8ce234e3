"""A histogram of bounded size for any range of values, and percentiles computed from it.

Equal bins between the extremes of an image are spoilt by one voxel of 1e9: all others share a bin.
So values are counted by the first 16 bits of their float32, which are sign, exponent and the start
of the mantissa: 128 bins from each power of two to the next, whatever else there is. A second pass
divides the one bin that holds the percentile.
"""

from __future__ import annotations

import numpy as np

from msgan.types import Array

KEYS = 1 << 16
"""Bins of the first pass."""

BINS = 1 << 16
"""Bins that the second pass divides one of them into."""

COUNTED = 1 << 18
"""Voxels that are sorted into bins at once."""


def keys(values: Array) -> Array:
    """The bin of each finite value, ascending with the values."""
    with np.errstate(over="ignore"):
        # Adding 0 turns -0 into 0, which is the same value and must have the same bin.
        bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32)
    # Bits of negative numbers ascend away from 0: all are turned over; of others only the sign.
    turned = (bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(1 << 31)
    return ((bits ^ turned) >> 16).astype(np.int64)


def ends(key: int) -> tuple[float, float]:
    """Smallest and largest float32 of a bin."""
    bits = np.array([key << 16, key << 16 | 0xFFFF], dtype=np.uint32)
    positive = bits >> 31 == 1
    values = np.where(positive, bits & np.uint32((1 << 31) - 1), ~bits).view(np.float32)
    return float(values[0]), float(values[1])


def bin_of(counts: Array, percent: float) -> tuple[int, float]:
    """The bin a percentile lies in, and how many values of that bin lie below it.

    Args:
        counts: Of all bins; not all 0.
        percent: Above 0, at most 100.
    """
    below = np.concatenate([[0], np.cumsum(counts)])
    target = percent / 100 * below[-1]
    key = int(np.searchsorted(below, target)) - 1
    return key, target - float(below[key])


class Refined:
    """The values of one bin of the first pass in equal bins; filled by a second pass.

    Args:
        key: The bin.
        least: Smallest value of the image, which may lie in the bin.
        most: Largest value.
    """

    def __init__(self, key: int, least: float, most: float) -> None:
        self.ends = ends(key)
        self.low, self.high = max(self.ends[0], least), min(self.ends[1], most)
        self.counts = np.zeros(BINS, dtype=np.int64)

    def add(self, values: Array) -> None:
        """Count those of finite ``values`` that lie in the bin."""
        if self.low >= self.high:
            return
        for first in range(0, values.size, COUNTED):
            with np.errstate(over="ignore"):
                part = values[first : first + COUNTED].astype(np.float32)
            inside = part[(part >= self.ends[0]) & (part <= self.ends[1])].astype(np.float64)
            inside = inside.clip(self.low, self.high)  # these may be ends in float64
            self.counts += np.histogram(inside, bins=BINS, range=(self.low, self.high))[0]

    def value(self, below: float) -> float:
        """The value that ``below`` of the bin's values lie below, linear within a small bin."""
        if self.low >= self.high:
            return self.low
        sums = np.concatenate([[0], np.cumsum(self.counts)])
        right = max(1, int(np.searchsorted(sums, below)))
        share = (below - sums[right - 1]) / (sums[right] - sums[right - 1])
        width = (self.high - self.low) / BINS
        return float(self.low + (right - 1 + share) * width)
