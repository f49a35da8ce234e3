"""Scales source values to [-1, 1] and back; no layer above uses HU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from msgan.data.foreground import Foreground, Scan, scanning
from msgan.data.histogram import Refined, bin_of
from msgan.types import Array, InputError, Reader


@dataclass(frozen=True)
class IntensityMap:
    """A linear map that shows ``low`` as -1 and ``high`` as 1.

    Attributes:
        low: Source value shown as -1.
        high: Source value shown as 1.
        unit: Of the source: ``HU``, or empty where the numbers mean nothing by themselves.

    Raises:
        InputError: A value is not finite, or ``low`` is not below ``high``.

    Example:
        >>> window = IntensityMap(-1000.0, 1000.0, "HU")
        >>> window.to_unit(np.array([-1000.0, 0.0, 3000.0])).tolist()
        [-1.0, 0.0, 1.0]
        >>> window.from_unit(np.array([0.5])).tolist()
        [500.0]
    """

    low: float
    high: float
    unit: str = ""

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise InputError(
                f"intensity range {self.low:g} to {self.high:g} {self.unit}".rstrip()
                + ": low must be below high, both finite"
            )

    @classmethod
    def window(cls, low: float, high: float, unit: str = "") -> IntensityMap:
        """A range that is the same for all images."""
        return cls(float(low), float(high), unit)

    @classmethod
    def hounsfield(cls) -> IntensityMap:
        """All that a 12-bit CT can hold, -1024 to 3071 HU."""
        return cls(-1024.0, 3071.0, "HU")

    @classmethod
    def lung(cls) -> IntensityMap:
        """Level -600 HU, width 1500 HU, a usual lung window.

        The papers speak of "a lung window setting" (2019, section 3.2) and state no numbers.
        """
        return cls(-1350.0, 150.0, "HU")

    @classmethod
    def percentile(
        cls,
        read: Reader,
        shape: Sequence[int],
        high: float = 99.5,
        low: float | None = 0.0,
        threshold: float = 0.0,
        unit: str = "",
    ) -> IntensityMap:
        """A range that fits one image whose numbers have no unit (MR), reading block by block.

        The upper end is a percentile of the foreground, because single voxels are outliers; the
        lower end is the background's value, so that background is exactly -1. The percentile is
        read from a histogram that outliers of any size leave alone
        (:mod:`msgan.data.histogram`): it is the value of a voxel to about the precision of float32.

        Args:
            read: The image on its source grid, in source units.
            shape: Its shape.
            high: Percentile of the foreground shown as 1.
            low: Source value shown as -1, that of the background; None: the foreground's minimum.
            threshold: Voxels above this source value are foreground; NaN and infinity are not.
            unit: Of the source.

        Raises:
            InputError: There is no foreground, or it has a single value and no range.
        """
        seen, scan = Foreground(shape, threshold), scanning(read, shape)
        scan(seen.add)
        return cls.of_foreground(seen, scan, high, low, unit)

    @classmethod
    def of_foreground(
        cls,
        seen: Foreground,
        scan: Scan,
        high: float = 99.5,
        low: float | None = 0.0,
        unit: str = "",
    ) -> IntensityMap:
        """:meth:`percentile` of an image whose foreground is known: one more scan is enough.

        Args:
            seen: Has seen the whole image.
            scan: Shows the same image again.
            high: See :meth:`percentile`, and the others.
            low: Of the foreground.
            unit: Of the source.

        Raises:
            InputError: There is no foreground, or it has a single value and no range.
        """
        if not 0 < high <= 100:
            raise InputError(f"percentile {high:g} is not above 0 and at most 100")
        least, most = seen.least, seen.most
        if least > most:
            raise InputError(f"no voxel is above the foreground threshold {seen.threshold:g}")
        start = least if low is None else float(low)
        if least == most:
            return cls(start, most, unit)
        if high == 100:
            return cls(start, most, unit)
        key, below = bin_of(seen.counts, high)
        fine = Refined(key, least, most)
        scan(lambda _, part: fine.add(seen.values(part)))
        return cls(start, fine.value(below), unit)

    @classmethod
    def median(cls, maps: Sequence[IntensityMap]) -> IntensityMap:
        """The range of a target: the median over subjects, in the unit of the first."""
        low, high = (float(np.median([getattr(m, end) for m in maps])) for end in ("low", "high"))
        return cls(low, high, maps[0].unit)

    def to_unit(self, values: Array) -> Array:
        """Source values as float32 in [-1, 1]; what lies outside the range is clipped.

        Interpolation by a high-order spline leaves negative values around a skull-stripped
        brain: they become background. NaN, which some tools write there, does as well.
        """
        x = np.asarray(values, dtype=np.float32)
        # In place: an image passes through here by pieces, and temporaries are of their size.
        with np.errstate(over="ignore"):  # infinity is clipped as well
            y = np.subtract(x, np.float32(self.low), out=np.empty_like(x))
            y *= np.float32(2 / (self.high - self.low))
        y -= 1
        np.copyto(y, np.float32(-1), where=np.isnan(y))
        return y.clip(-1, 1, out=y)

    def from_unit(self, values: Array) -> Array:
        """Values of [-1, 1] in the source's unit (float32), the linear inverse."""
        y = np.asarray(values, dtype=np.float32)
        x = np.add(y, 1, out=np.empty_like(y))
        x *= np.float32((self.high - self.low) / 2)
        x += np.float32(self.low)
        return x

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` restores the same map."""
        return {"low": self.low, "high": self.high, "unit": self.unit}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IntensityMap:
        """Restore what :meth:`to_dict` wrote."""
        return cls(float(data["low"]), float(data["high"]), str(data["unit"]))


def darkest(read: Reader, shape: Sequence[int], least: float) -> float:
    """The smallest value of an image, without single voxels that lie far below all others.

    Far is further below the 0.5th percentile than the 99.5th lies above it.

    Args:
        read: The image, in source units; NaN counts as nothing.
        shape: Its shape.
        least: Its smallest value.
    """
    if least >= 0:
        return least
    ends = [
        IntensityMap.percentile(read, shape, percent, -1e39, -np.inf).high
        for percent in (0.5, 99.5)
    ]
    return least if least >= ends[0] - (ends[1] - ends[0]) else ends[0]
