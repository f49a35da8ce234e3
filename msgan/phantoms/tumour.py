"""Tumours of the brain phantom: necrotic core, enhancing rim, oedema along white matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from msgan.phantoms.brain_anatomy import EXTENT_MM, ORIGIN_MM, template
from msgan.phantoms.fields import field
from msgan.types import Array

LABELS = {"necrosis": 1, "oedema": 2, "enhancing": 4}
"""Label values of BraTS."""


@lru_cache(maxsize=1)
def _seats() -> Array:
    """Where a tumour may sit: (n, 3) MNI mm, deep white matter of the cerebrum."""
    maps = template()
    z = np.arange(maps.edge_mm.shape[2]) + maps.origin_mm[2]
    x = abs(np.arange(maps.edge_mm.shape[0]) + maps.origin_mm[0])
    # Two lattices of distance: far enough from the edge that rim and mass effect stay inside.
    inside = (maps.white > 2) & (maps.edge_mm > 17) & (z > -5) & (x > 15)[:, None, None]
    return np.argwhere(inside) + np.array(maps.origin_mm)


@dataclass(frozen=True)
class Tumour:
    """An ellipsoid in template space whose surface a random field roughens.

    Attributes:
        centre_mm: MNI coordinates.
        radii_mm: half axes of the enhancing surface.
        rim_mm: thickness of the enhancing rim.
        reach_mm: how far oedema spreads in pure white matter.
        push: strength of the mass effect, see :func:`msgan.phantoms.brain_anatomy.pull`.
    """

    centre_mm: tuple[float, ...]
    radii_mm: tuple[float, ...]
    rim_mm: float
    reach_mm: float
    push: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Tumour:
        """A glioma of 2 to 4 cm."""
        seats = _seats()
        centre = seats[rng.integers(len(seats))]
        radii = rng.uniform(11, 18) * rng.uniform(0.8, 1.2, 3)
        # Thin enough for a core inside, thick enough to show in voxels of 4 mm.
        rim = rng.uniform(0.28, 0.42) * np.prod(radii) ** (1 / 3)
        return cls(
            tuple(map(float, centre)),
            tuple(map(float, radii)),
            float(rim),
            float(rng.uniform(9, 20)),
            float(rng.uniform(0.15, 0.45)),
        )

    def fractions(
        self,
        rng: np.random.Generator,
        axes: Sequence[Array],
        points: Sequence[Array],
        tissue: dict[str, Array],
    ) -> dict[str, Array]:
        """Volume fractions of ``necrosis``, ``enhancing`` and ``oedema`` in each voxel.

        Args:
            rng: roughness of the surfaces.
            axes: voxel centres of the phantom (mm).
            points: template coordinates of each voxel before the mass effect.
            tissue: healthy fractions; oedema follows ``white`` and spares ``csf``.
        """

        def noise(lattice: float) -> Array:
            return field(rng, axes, ORIGIN_MM, EXTENT_MM, lattice)

        square = sum(
            ((p - np.float32(c)) / np.float32(r)) ** 2
            for p, c, r in zip(points, self.centre_mm, self.radii_mm, strict=True)
        )
        mean = float(np.prod(self.radii_mm)) ** (1 / 3)
        radius = np.sqrt(square)
        # Distance outside the surface in mm, roughened away from the centre, which stays core.
        rough = 0.2 * mean * noise(13.0) + 0.06 * mean * noise(5.0)
        outside = mean * (radius - 1) + rough * np.minimum(radius, 1)
        # The falx lets no fluid through; what gets across must go round it.
        side = np.float32(np.sign(self.centre_mm[0]))
        outside += 2 * np.maximum(-side * points[0], 0)
        solid = _inside(outside)
        core = _inside(outside + self.rim_mm + 1.5 * noise(6.0))
        spread = self.reach_mm * (0.1 + 0.9 * tissue["white"]) * (1 + 0.35 * noise(14.0))
        oedema = _inside((outside - spread) / 2.0) * (1 - solid) * (1 - tissue["csf"])
        return {"necrosis": core * solid, "enhancing": solid * (1 - core), "oedema": oedema}


def _inside(distance_mm: Array) -> Array:
    """1 inside, 0 outside, over about 2 mm."""
    return 1 / (1 + np.exp(np.clip(distance_mm / 0.5, -30, 30)))
