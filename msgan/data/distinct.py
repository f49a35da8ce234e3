"""The distinct values of an image, while they are few and whole numbers, as in a label map."""

from __future__ import annotations

import numpy as np

from msgan.types import Array, Box

MOST = 32
"""Label maps of organs, tissues and tumours hold fewer; images of 5 bits and less are rare."""

SPARSE = 61
"""One of so many voxels shows first whether it is worth looking at all."""


class Distinct:
    """Gathers the values of an image, until there are too many for a label map."""

    def __init__(self) -> None:
        self._values: set[float] | None = set()

    def add(self, box: Box, part: Array) -> None:
        """Look at one piece of the image."""
        for voxels in (part.ravel()[::SPARSE], part.ravel()):
            if self._values is None:
                return
            values = np.unique(voxels)
            few = len(values) <= MOST and bool((values == np.rint(values)).all())
            self._values = self._values | set(map(float, values)) if few else None
            if self._values is not None and len(self._values) > MOST:
                self._values = None

    @property
    def note(self) -> str:
        """What to tell; empty for an image that is none of this kind."""
        if not self._values:
            return ""
        shown = ", ".join(f"{value:g}" for value in sorted(self._values))
        return f"holds the whole numbers {shown} and no others: is it a label map (--labels)?"
