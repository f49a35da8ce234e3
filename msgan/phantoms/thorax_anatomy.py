"""Anatomy of the thorax phantom: a person as a function of position in mm, in HU.

Organs are ellipsoids and cylinders in a slightly deformed space, so that any box can be computed
alone. Positions are RAS mm; 0 is the middle of the chest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msgan.phantoms.lattice import value_noise
from msgan.phantoms.thorax_tree import Tree
from msgan.seeds import derive, numpy_rng
from msgan.types import Array

EXTENT_MM = (352.0, 264.0, 308.0)
"""Sides of the field of view: 8 : 6 : 7; its middle is 0."""

AIR, FAT, SOFT, HEART, LIVER, MARROW, BONE = -1000, -100, 40, 45, 55, 300, 650
EMPHYSEMA_HU = -950
"""Lung below this is emphysema (Gevenois et al., AJRCCM 154, 1996)."""

HOLE, VESSEL = -978, 40
LEAF_MM = 0.7
"""Radius of the finest vessels and airways: two voxels wide at 512 voxels."""

VESSEL_LEAVES, AIRWAY_LEAVES = 700, 120
"""Twigs in each lung."""

WALL_MM = 0.5
"""Thickness of the airways' walls, to which 15 % of the radius is added."""

SAMPLE_MM = 5.0
"""Grid on which leaves are chosen and the amount of emphysema is set."""

Point = Sequence[Array]


def _lerp(low: Any, high: Any, share: Array) -> Array:
    out: Array = low + share * (high - low)
    return out


def _ellipsoid(p: Point, centre: Sequence[float], radii: Sequence[float]) -> Array:
    """Distance from the surface in mm, about; a radius of infinity makes a cylinder."""
    square = sum(
        ((q - np.float32(c)) / np.float32(r)) ** 2 for q, c, r in zip(p, centre, radii, strict=True)
    )
    out: Array = (np.sqrt(square) - np.float32(1)) * np.float32(min(radii))
    return out


def _oval(p: Point, a: float, b: float) -> Array:
    """Distance from a cylinder between an ellipse and a rectangle, half axes ``a`` and ``b``."""
    u, v = (p[0] / np.float32(a)) ** 2, (p[1] / np.float32(b)) ** 2
    out: Array = (np.sqrt(np.sqrt(u * u + v * v + u * v)) - np.float32(1)) * np.float32(b)
    return out


@dataclass(frozen=True)
class Region:
    """A box of a person.

    Attributes:
        hu: float32, HU.
        lung: bool, the lungs without their airways.
        hole: bool, emphysema; always in ``lung``.
        vessel: Share of vessels in each voxel, 0 to 1; also outside the lungs.
    """

    hu: Array
    lung: Array
    hole: Array
    vessel: Array


@dataclass(frozen=True)
class Person:
    """One subject's chest.

    Attributes:
        key: Names the person for all fields.
        scale: Size along each axis.
        heart: Size of the heart.
        fat_mm: Thickness of the layer below the skin.
        domes_mm: Height of the diaphragm, right and left.
        level: Emphysema is where its field is above this.
        vessels: Of both lungs.
        airways: With the trachea.
    """

    key: int
    scale: tuple[float, float, float]
    heart: float
    fat_mm: float
    domes_mm: tuple[float, float]
    level: float
    vessels: Tree
    airways: Tree

    @classmethod
    def random(cls, seed: int, subject: int, severity: float) -> Person:
        """Grow a person whose emphysema takes about the share ``severity`` of the lungs.

        In large voxels it is less: one with a part of a vessel in it is no emphysema.
        """
        rng = numpy_rng(seed, "thorax", subject, "person")
        nowhere = np.zeros((0, 3), np.float32)
        empty = Tree(nowhere, nowhere, np.zeros(0, np.float32))
        x, y, z = (float(v) for v in rng.uniform(0.93, 1.04, 3))
        body = (
            derive(seed, "thorax", subject),
            (x, y, z),
            float(rng.uniform(0.9, 1.12)),
            float(rng.uniform(5, 14)),
            (float(rng.uniform(-75, -55)), float(rng.uniform(-85, -65))),
        )
        bare = cls(*body, np.inf, empty, empty)
        axes = [
            np.arange(-e / 2 + SAMPLE_MM / 2, e / 2, SAMPLE_MM, dtype=np.float32) for e in EXTENT_MM
        ]
        distance = bare._lungs(bare._place(axes), axes)
        vessels, airways = empty, empty
        for side in (-1, 1):
            inside = np.argwhere((distance < -3) & (side * axes[0] > 0)[:, None, None])
            spots = np.stack([axes[k][inside[:, k]] for k in range(3)], 1)
            hilum = np.array([side * 30 * x, -12 * y, 8 * z])
            for count, arterial in ((VESSEL_LEAVES, True), (AIRWAY_LEAVES, False)):
                chosen = spots[rng.choice(len(spots), count, replace=False)]
                leaves = chosen + rng.uniform(-2, 2, chosen.shape)
                grown = Tree.grow(hilum, leaves, LEAF_MM, 7.0 if arterial else 4.5)
                if arterial:
                    vessels = vessels.joined(grown)
                else:
                    airways = airways.joined(grown)
            airways = airways.with_cylinder((0, -12 * y, 30 * z), hilum, 5.5)
        airways = airways.with_cylinder((0, -8, 200), (0, -12 * y, 30 * z), 7.5)
        field = np.sort(bare._emphysema(axes)[distance < -1])
        rank = round((1 - severity) * len(field))
        level = float(field[rank]) if rank < len(field) else np.inf
        return cls(*body, level, vessels, airways)

    def _noise(self, name: str, axes: Sequence[Array], lattice_mm: float) -> Array:
        return value_noise(derive(self.key, name), axes, lattice_mm)

    def _place(self, axes: Sequence[Array]) -> list[Array]:
        """Positions in the space of the organs, before the person was deformed."""
        out = []
        for k, (a, s) in enumerate(zip(axes, self.scale, strict=True)):
            straight: Array = (a / np.float32(s)).reshape([-1 if j == k else 1 for j in range(3)])
            out.append(straight + 5 * self._noise(f"warp{k}", axes, 70.0))
        return out

    def _emphysema(self, axes: Sequence[Array]) -> Array:
        """High in the upper lungs and in blobs of about a centimetre."""
        field: Array = self._noise("hole", axes, 15.0) + np.float32(0.6) * self._noise(
            "holes", axes, 6.0
        )
        field = field + np.float32(0.25) * self._noise("small holes", axes, 3.0)
        return field + axes[2] * np.float32(0.5 / 120)

    def _heart(self, p: Point) -> Array:
        s = self.heart
        tilted = [p[0] + np.float32(0.35) * (p[2] + 35), p[1], p[2]]
        return _ellipsoid(tilted, (-18, 22, -38), (47 * s, 40 * s, 56 * s))

    @staticmethod
    def _spine(p: Point) -> Array:
        return _ellipsoid(p, (0, -64, 0), (19, 16, np.inf))

    def _lungs(self, p: Point, axes: Sequence[Array]) -> Array:
        """Distance from the pleura in mm, negative inside."""
        side = np.where(p[0] < 0, np.float32(-1), np.float32(1))
        mirrored = [p[0] * side, p[1], p[2]]
        out: Array = np.maximum(
            _oval(p, 138, 94) + 8, _ellipsoid(mirrored, (66, -4, -20), (70, 98, 150))
        )
        height = np.where(side > 0, np.float32(self.domes_mm[0]), np.float32(self.domes_mm[1]))
        below = [mirrored[0], p[1], p[2] - height]
        out = np.maximum(out, -_ellipsoid(below, (60, 8, -85), (84, 108, 85)))
        out = np.maximum(out, 3 - self._heart(p))
        out = np.maximum(out, 4 - self._spine(p))
        # The mediastinum: narrow in front, wide where the great vessels are.
        out = np.maximum(out, 5 - _ellipsoid(p, (-3, -8, 40), (26, 38, 90)))
        return np.maximum(out, 6 - mirrored[0])

    def surfaces(self, axes: Sequence[Array]) -> dict[str, Array]:
        """Distance in mm from the surface of each organ, negative inside; all named by layers."""
        p = self._place(axes)
        cage = _oval(p, 138, 94)
        return {
            "skin": _oval(p, 164, 120),
            "liver": _ellipsoid(p, (52, 8, -145), (75, 80, 80)),
            "heart": self._heart(p),
            "aorta": _ellipsoid(p, (-24, -44, 0), (12, 12, np.inf)),
            "ribs": self._ribs(p, cage),
            "vertebrae": self._vertebrae(p),
            "sternum": self._sternum(p),
            "lungs": self._lungs(p, axes),
        }

    def layers(self) -> list[tuple[str, float, float]]:
        """Surface, depth below it in mm, and HU from there on; later ones cover earlier ones.

        Lungs, vessels and airways, which are no single number, come after them.
        """
        out: list[tuple[str, float, float]] = [("skin", 0, FAT), ("skin", self.fat_mm, SOFT)]
        out += [("liver", 0, LIVER), ("heart", 0, HEART), ("aorta", 0, HEART)]
        for bone in ("ribs", "vertebrae", "sternum"):
            out += [(bone, 0, BONE), (bone, 2, MARROW)]
        return out

    def emphysema(self, axes: Sequence[Array]) -> Array:
        """Where lung is destroyed, were it lung everywhere: bool."""
        return self._emphysema(axes) >= np.float32(self.level)

    def parenchyma(self, axes: Sequence[Array], hole: Array) -> Array:
        """HU of lung without vessels and airways; ``hole`` says where it is destroyed."""
        grain = self._noise("grain", axes, 2.5)
        # Supine: the back is denser.
        gravity = (axes[1] * np.float32(-30 / 100)).reshape(1, -1, 1)
        tissue = np.float32(-855) + gravity + np.float32(12) * grain
        return np.where(hole, np.float32(HOLE) + np.float32(10) * grain, tissue)

    def region(self, axes: Sequence[Array], voxel_mm: float) -> Region:
        """The box whose voxel centres are ``axes`` (float32 mm), voxels ``voxel_mm`` wide."""
        h = np.float32(voxel_mm)

        def cover(distance: Array) -> Array:
            return np.clip(np.float32(0.5) - distance / h, 0, 1)

        surfaces = self.surfaces(axes)
        hu: Any = np.float32(AIR)
        for name, below, value in self.layers():
            hu = _lerp(hu, np.float32(value), cover(surfaces[name] + np.float32(below)))
        share = cover(surfaces["lungs"])
        vessel = self.vessels.cover(axes, voxel_mm)
        wall = self.airways.cover(axes, voxel_mm, WALL_MM)
        lumen = self.airways.cover(axes, voxel_mm)
        lung = (share >= np.float32(0.5)) & (wall == 0)
        # Vessels keep a sheath of healthy lung: a voxel is a hole or it is not.
        hole = self.emphysema(axes) & (share == 1) & (vessel == 0) & (wall == 0)
        hu = _lerp(hu, self.parenchyma(axes, hole), share)
        hu = _lerp(hu, np.float32(VESSEL), vessel * share)
        hu = _lerp(hu, np.float32(SOFT), wall * share)
        hu = _lerp(hu, np.float32(AIR), lumen)
        return Region(hu.astype(np.float32), lung, hole, vessel)

    @staticmethod
    def _ribs(p: Point, cage: Array) -> Array:
        """Every 26 mm, sloping down to the front, where they end in cartilage."""
        level = p[2] + np.float32(0.45) * (p[1] + 70)
        turn = level / np.float32(26)
        apart = (turn - np.rint(turn)) * np.float32(26 * 0.55)
        out: Array = np.sqrt(cage * cage + apart * apart) - np.float32(4)
        return np.maximum(out, np.maximum(level - 134, p[1] - 66))

    def _vertebrae(self, p: Point) -> Array:
        """Bodies of 20 mm with discs of 5 mm, and arches with a process behind the cord."""
        turn = p[2] / np.float32(25)
        apart = np.abs(turn - np.rint(turn)) * np.float32(25)
        body = np.maximum(self._spine(p), apart - 10)
        canal = _ellipsoid(p, (0, -87, 0), (8, 7.5, np.inf))
        ring = np.maximum(canal - 4, -canal)
        process = np.maximum(_ellipsoid(p, (0, -102, 0), (3.5, 9, np.inf)), apart - 9)
        wing = np.maximum(_ellipsoid(p, (0, -84, 0), (30, 5, np.inf)), apart - 6)
        arch = np.minimum(np.minimum(np.maximum(ring, apart - 11), process), wing)
        return np.minimum(body, np.maximum(arch, -canal))

    @staticmethod
    def _sternum(p: Point) -> Array:
        flat = _ellipsoid(p, (0, 95, 0), (17, 6, np.inf))
        return np.maximum(flat, np.abs(p[2] - 15) - 75)
