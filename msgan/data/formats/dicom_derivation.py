"""What a generated DICOM series is of, and how its values are stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from pathlib import Path
from uuid import UUID

import numpy as np

from msgan.data.formats.itk import LPS_TO_RAS
from msgan.data.grid import Grid
from msgan.types import Array, Box, Reader

ROOT = "2.25."
"""What UIDs begin with that are made of a UUID (PS3.5, annex B.2)."""

MOST = 2**16 - 1
"""Largest stored value."""

AIR = -1024
"""Intercept of a CT in HU, whose stored values are whole HU above it."""

DIGITS = 6
"""Of slope and intercept; a DS has 16 characters."""


@dataclass(frozen=True)
class Derivation:
    """What a derived series says of itself and of what it was made of.

    Attributes:
        id: Of the translation; the same gives the same UIDs.
        mark: That it is synthetic (:func:`msgan.data.store.description`).
        target: Modality it shows.
        unit: Of its values; ``HU`` makes it a CT, anything else an MR.
        low: Value that is shown black.
        high: Value that is shown white.
        source: Image it was made of; of DICOM, frame of reference and source references are kept.
        identity: Whether patient and study are the source's; else nothing of them is there.
    """

    id: str
    mark: str
    target: str
    unit: str
    low: float
    high: float
    source: Path | None = None
    identity: bool = False

    @property
    def modality(self) -> str:
        """``CT`` or ``MR``."""
        return "CT" if self.unit == "HU" else "MR"

    def uid(self, what: str) -> str:
        """A UID of its own for a study, a series, an instance or a frame of reference."""
        text = f"{self.id} {self.identity} {what}"
        digest = hashlib.sha256(text.encode()).digest()
        return f"{ROOT}{UUID(bytes=digest[:16], version=4).int}"


@dataclass(frozen=True)
class Rescale:
    """How values are stored: value = stored x slope + intercept, stored from 0 to 65535.

    Attributes:
        slope: Above 0, as it is written.
        intercept: As it is written.
    """

    slope: str
    intercept: str

    @classmethod
    def of(cls, low: float, high: float, unit: str) -> Rescale:
        """For values from ``low`` to ``high``: of a CT whole HU, else as fine as 16 bits are.

        Example:
            >>> Rescale.of(-1000.4, 3000.0, "HU")
            Rescale(slope='1', intercept='-1024')
            >>> Rescale.of(0.0, 800.0, "a.u.")
            Rescale(slope='0.0122073', intercept='0')
        """
        if unit == "HU":
            start = min(AIR, int(np.floor(low)))
            if np.rint(high) - start <= MOST:
                return cls("1", str(start))
        intercept = f"{Context(DIGITS, ROUND_FLOOR).create_decimal(low)}" if low < 0 else "0"
        steps = (high - float(intercept)) / MOST
        slope = Context(DIGITS, ROUND_CEILING).create_decimal(steps) if steps else 1
        return cls(f"{slope}", intercept)

    def stored(self, values: Array) -> Array:
        """Values as they are stored, uint16; each within half a slope."""
        steps = (values.astype(np.float64) - float(self.intercept)) / float(self.slope)
        return np.clip(np.rint(steps), 0, MOST).astype(np.uint16)


@dataclass
class Extremes:
    """Smallest and largest value that were read."""

    low: float = field(default=np.inf, init=False)
    high: float = field(default=-np.inf, init=False)

    def watched(self, read: Reader) -> Reader:
        """The same reader, looked at."""

        def seen(box: Box) -> Array:
            values = read(box)
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))
            return values

        return seen


def axes_of(grid: Grid) -> Array:
    """Steps of the three axes in mm of the patient, LPS, one in each column."""
    return (LPS_TO_RAS @ grid.affine)[:3, :3]
