"""Healthy anatomy of the brain phantom: ICBM152 tissue maps, sharpened, deformed, varied.

The maps are the averages of 152 registered people (Fonov et al., NeuroImage 54:313-327, 2011) that
nilearn carries in its package. An average has a thick blurred cortex and hardly any sulci, so they
are turned into log-odds, sharpened, and given fluid where grey matter lies further from white
matter than a cortex is thick. Random fields on the log-odds and a random deformation then make
individuals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from msgan.phantoms.fields import field
from msgan.types import Array

ORIGIN_MM = (-78.0, -112.5, -78.0)
"""Corner of the box that holds every phantom, in MNI millimetres (RAS)."""

EXTENT_MM = (156.0, 192.0, 168.0)
"""Sides of the box: 13 : 16 : 14, so multiples of 16 along the longest side divide evenly."""

CORTEX_MM = 2.9
"""Thickness of grey matter beyond which the distance to white matter speaks for fluid."""


@dataclass(frozen=True)
class Template:
    """Log-odds maps on the 1 mm ICBM152 grid; ``origin_mm`` is the position of voxel 0."""

    csf: Array
    white: Array
    edge_mm: Array
    origin_mm: tuple[float, float, float]


def _bump(axes: Sequence[Array], centre: Sequence[float], radii: Sequence[float]) -> Array:
    """Gaussian bump, mirrored at the midline: both hemispheres get one."""
    x, y, z = axes
    square = ((abs(x) - centre[0]) / radii[0]) ** 2
    square = square + ((y - centre[1]) / radii[1]) ** 2 + ((z - centre[2]) / radii[2]) ** 2
    return np.exp(-square)


def _distance(mask: Array) -> Array:
    """Of each voxel of a 3D mask to the nearest outside, in voxels.

    As that of SciPy, but slice by slice from the nearest voxels: what it holds beside them costs it
    most of its time.
    """
    nearest = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    out = np.empty(mask.shape)
    j, k = np.ogrid[: mask.shape[1], : mask.shape[2]]
    for i, square in enumerate(out):
        x, y, z = nearest[:, i]
        np.sqrt((x - i) ** 2 + (y - j) ** 2 + (z - k) ** 2, out=square)
    return out


@lru_cache(maxsize=1)
def template() -> Template:
    """Log-odds of fluid and white against grey matter, and distance to the brain's edge."""
    from nilearn import datasets

    images = (
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    )
    # The maps end within the brain stem; a margin of background closes it there.
    crop, margin = np.s_[20:177, 20:216, :164], ((0, 0), (0, 0), (4, 0))
    t1, grey, white = (np.pad(np.asarray(i.dataobj[crop], np.float32), margin) for i in images)
    origin = np.asarray(images[0].affine)[:3, 3] + (20, 20, -4)
    axes = np.ogrid[tuple(slice(o, o + n) for o, n in zip(origin, t1.shape, strict=True))]

    brain = t1 > 0
    edge = _distance(brain) - _distance(~brain)
    # The fluid in narrow sulci shows in the average T1 though not in the maps.
    fluid = np.maximum(1 - grey - white, np.clip((0.60 - t1) / 0.33, 0, 1))
    fluid[~brain] = 1
    cortex = 1 - np.clip(
        _bump(axes, (0, -8, 2), (38, 45, 34))  # basal ganglia, thalamus
        + _bump(axes, (0, -30, -40), (26, 26, 40))  # brain stem
        + 0.9 * _bump(axes, (20, -65, -42), (42, 32, 24)),  # cerebellum
        0,
        1,
    )
    depth = _distance(white < 0.5)
    depth = ndimage.gaussian_filter(depth.astype(np.float32), 0.6)
    floor = 0.02
    gain = 1 + 1.2 * cortex
    base = np.log(grey + floor)
    csf = gain * (np.log(fluid + floor) - base)
    csf += cortex * 2.4 * np.clip(depth - CORTEX_MM, -1, 1.5)
    log_white = gain * (np.log(white + floor) - base)
    return Template(
        csf.astype(np.float32),
        log_white.astype(np.float32),
        edge.astype(np.float32),
        (float(origin[0]), float(origin[1]), float(origin[2])),
    )


@dataclass(frozen=True)
class Warp:
    """Where in the template each phantom voxel lies.

    A composition of maps with positive Jacobian: B-splines whose coefficients keep the bound of
    Choi and Lee (IEEE PAMI 22, 2000): the sum over lattices of displacement / knot distance is
    below 0.403; an affine map; radial maps around the ventricles and a tumour.
    """

    LATTICES = ((44.0, 8.5), (17.0, 2.2), (9.0, 0.7))
    """(knot distance, largest displacement) in mm: 0.193 + 0.129 + 0.078 < 0.403."""

    matrix: Array
    shift_mm: Array
    ventricles: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Warp:
        """Size, aspect, pose and ventricles of a person (ICBM152 is larger than most people)."""
        scale = rng.uniform(0.90, 0.97) * (1 + rng.uniform(-0.025, 0.025, 3))
        turn = rng.uniform(-0.05, 0.05, 3)
        (sx, cx), (sy, cy), (sz, cz) = ((np.sin(a), np.cos(a)) for a in turn)
        rotation = (
            np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
            @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
            @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        )
        return cls(
            rotation / scale,
            rng.uniform(-1, 1, 3),
            float(np.clip(rng.normal(0.15, 0.22), -0.3, 0.6)),
        )

    def __call__(self, rng: np.random.Generator, axes: Sequence[Array]) -> list[Array]:
        """Template coordinates (mm) before radial maps: three float32 arrays, the grid's shape."""
        centre = np.array(ORIGIN_MM) + np.array(EXTENT_MM) / 2
        grid = np.meshgrid(*axes, indexing="ij", copy=False, sparse=True)
        moved = []
        for k in range(3):
            position = np.zeros([len(a) for a in axes], np.float32) + (grid[k] - centre[k])
            for lattice, reach in self.LATTICES:
                position += reach * field(rng, axes, ORIGIN_MM, EXTENT_MM, lattice, uniform=True)
            moved.append(position)
        matrix = self.matrix.astype(np.float32)
        return [
            matrix[k, 0] * moved[0]
            + matrix[k, 1] * moved[1]
            + matrix[k, 2] * moved[2]
            + np.float32(centre[k] + self.shift_mm[k])
            for k in range(3)
        ]


def pull(points: list[Array], centre: Sequence[float], radii: Sequence[float], by: float) -> None:
    """Magnify (``by`` > 0) what lies around ``centre``, in place; injective for -0.8 < by < 1.

    The map is ``p - by * (p - centre) * exp(-r^4)``, r in units of ``radii``: along a ray its slope
    is ``1 - by * (1 - 4 r^4) exp(-r^4)``, across it ``1 - by * exp(-r^4)``; both stay positive.
    """
    square = sum(((p - c) / r) ** 2 for p, c, r in zip(points, centre, radii, strict=True))
    weight = by * np.exp(-(square**2))
    for k, c in enumerate(centre):
        points[k] -= weight * (points[k] - np.float32(c))


VENTRICLES_MM = ((0.0, -14.0, 14.0), (26.0, 48.0, 22.0))
"""Centre and radii of the map that widens the lateral ventricles."""


def sampler(points: Sequence[Array]) -> Callable[[Array], Array]:
    """Read a template map at ``points`` (mm): linear, the border value outside."""
    origin = template().origin_mm
    index = [p - np.float32(o) for p, o in zip(points, origin, strict=True)]

    def read(values: Array) -> Array:
        return ndimage.map_coordinates(values, index, np.float32, order=1, mode="nearest")

    return read


def fractions(
    rng: np.random.Generator, axes: Sequence[Array], points: Sequence[Array]
) -> tuple[dict[str, Array], Array]:
    """Volume fractions ``csf``, ``grey``, ``white``, ``nuclei`` of a person; brain mask (0..1).

    Args:
        rng: what makes the person's folds differ.
        axes: voxel centres of the phantom (mm).
        points: the template coordinates of each voxel, see :class:`Warp`.

    Returns:
        Fractions that sum to 1 everywhere, and a soft mask about 1 mm wide at its edge.
    """
    maps, read = template(), sampler(points)
    atrophy = rng.normal(-0.6, 0.5)

    def noise(lattice: float) -> Array:
        return field(rng, axes, ORIGIN_MM, EXTENT_MM, lattice)

    edge = read(maps.edge_mm)
    # Sulci of one's own: sheets where a random field crosses zero, as deep as sulci go, above the
    # cerebellum; fluid in the middle (sheet_mm is roughly the distance from it), cortex beside it.
    sheet_mm = 9.0 * np.abs(noise(13.0))
    band = 1 / (1 + np.exp((edge - np.float32(rng.uniform(11, 17))) / 2))
    band *= 1 / (1 + np.exp(-(points[2] + 12) / 4))
    csf = read(maps.csf)
    csf += 5.5 * band * np.exp(-((sheet_mm / 1.2) ** 2))
    csf += 1.0 * noise(9.0)
    csf += 1.1 * noise(4.5) + np.float32(atrophy)
    np.exp(np.clip(csf, -20, 20, out=csf), out=csf)
    white = read(maps.white)
    white -= 9.0 * band * np.exp(-((sheet_mm / 3.2) ** 2))
    white += 0.6 * noise(9.0)
    white += 0.7 * noise(4.5)
    np.exp(np.clip(white, -20, 20, out=white), out=white)
    total = 1 + csf + white
    csf /= total
    white /= total
    edge += 0.7 * noise(14.0) + np.float32(rng.uniform(-1.4, 0.2))
    mask = np.clip(edge + 0.5, 0, 1)
    # Nuclei rich in iron, which shortens T2: pallidum, and red nucleus with substantia nigra.
    nuclei = 0.85 * _bump(points, (19, -3, -1), (6, 10, 5))
    nuclei += 0.6 * _bump(points, (8, -18, -10), (5, 5, 5))
    nuclei = np.minimum(nuclei, 1) * (1 - csf)
    rest = 1 - nuclei / (1 - csf + 1e-6)
    return {"csf": csf, "grey": rest / total, "white": white * rest, "nuclei": nuclei}, mask
