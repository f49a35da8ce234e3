"""Simulates the cone-beam CT of a person from their CT: scatter, cupping and noise of few photons.

The wide beam of a cone-beam CT (CBCT) makes scatter reach the detector, more of it than primary
photons behind a pelvis (Siewerdsen and Jaffray, Medical Physics 28, 2001). It is smooth, while the
primary is small behind thick parts, so reconstructed values fall towards the middle of the body
(cupping) and between dense parts (streaks), and contrast is lost.

Here a CT in HU is projected, each projection gets scatter and the noise of counted photons, and
what results is reconstructed by filtered back-projection. Scatter is a first-order superposition of
kernels (Ruehrnschopf and Klingenbeck, Medical Physics 38, 2011): each ray of primary I and line
integral p scatters in proportion to I p, spread by a Gaussian.

Not modelled: rays that diverge (each slice is projected in its own plane, so there are no artefacts
of the cone), a beam of several energies, a bow-tie filter, a field of view smaller than the body,
motion, and a vendor's correction of scatter: the stated ratio is what a correction has left.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, hypot, inf, pi
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft, ndimage, sparse

from msgan.data.cohort import Cohort
from msgan.data.orientation import canonical_axes
from msgan.data.volume import open_volume, write_volume
from msgan.paths import sha256
from msgan.seeds import derive, numpy_rng
from msgan.types import Array, InputError

WATER_PER_MM = 0.0206
"""Attenuation of water at 60 keV, 1/mm (NIST, X-ray mass attenuation coefficients)."""

SLAB_MM = 200.0
"""Water behind which scatter has the stated ratio to primary."""

CT, CBCT = "ct", "cbct"
"""Modalities of :func:`with_cone_beam`."""


@dataclass(frozen=True)
class Scanner:
    """A cone-beam CT.

    Attributes:
        spr: Scatter over primary behind a wide slab of :data:`SLAB_MM` of water; behind thicker
            parts it is more.
        scatter_mm: Standard deviation of the kernel that spreads scatter, mm at the rotation axis.
        photons: That reach one element of the detector where nothing is in their way; inf: no
            noise. The default makes 13 to 23 HU in soft tissue of chests of 48 to 128 voxels.
    """

    spr: float = 0.5
    scatter_mm: float = 60.0
    photons: float = 4e3

    def __post_init__(self) -> None:
        if not 0 <= self.spr < inf or not 0 < self.scatter_mm < inf or not self.photons > 0:
            raise InputError(
                f"scatter over primary {self.spr}, kernel of {self.scatter_mm} mm, "
                f"{self.photons} photons: expected 0 or more, and the others positive"
            )

    def scatter(self, line: Array, sides: Sequence[float]) -> Array:
        """What is scattered onto a projection, as a share of the photons that were sent.

        Args:
            line: Line integrals of the attenuation, (detector, slices).
            sides: Of an element of the detector, mm.
        """
        source = self.spr / (WATER_PER_MM * SLAB_MM) * line * np.exp(-line)
        # The body goes on beyond the first and the last slice, and beside the body there is air.
        blur = [self.scatter_mm / side for side in sides]
        return np.asarray(ndimage.gaussian_filter(source, blur, mode=("constant", "nearest")))

    def measured(self, line: Array, sides: Sequence[float], rng: np.random.Generator) -> Array:
        """Line integrals as they are measured, with scatter and noise."""
        share = np.exp(-line) + self.scatter(line, sides)
        if self.photons < inf:
            # An element that counted nothing is taken to have counted half a photon.
            share = np.maximum(rng.poisson(share * self.photons), 0.5) / self.photons
        return np.asarray(-np.log(share), np.float32)


def cone_beam(image: Array, spacing: Sequence[float], scanner: Scanner, seed: int) -> Array:
    """The CBCT of a CT.

    Args:
        image: In HU, slices across the third axis if there is one; below -1000 counts as air. It
            and the result are held as a whole.
        spacing: Voxel sides in mm.
        scanner: See there.
        seed: Names the scan.

    Returns:
        float32 of the same shape in HU.

    Raises:
        InputError: Not 2 or 3 axes, or something not positive.
    """
    shape = image.shape
    if len(shape) not in (2, 3) or len(spacing) != len(shape) or min(*spacing, *shape) <= 0:
        raise InputError(
            f"shape {shape}, spacing {tuple(spacing)} mm: expected 2 or 3 axes, all positive"
        )
    plane = np.asarray(image, np.float32).reshape(shape[0] * shape[1], -1)
    attenuation = np.maximum(1 + plane / 1000, 0) * np.float32(WATER_PER_MM)
    geometry = _Plane((shape[0], shape[1]), (float(spacing[0]), float(spacing[1])))
    sides = (geometry.bin_mm, float(spacing[2]) if len(shape) == 3 else 1.0)
    found = np.zeros_like(attenuation)
    for view, angle in enumerate(geometry.angles):
        line = geometry.projection(angle) @ attenuation
        measured = scanner.measured(line, sides, numpy_rng(seed, "cone beam", view))
        found += geometry.back_projection(angle) @ geometry.filtered(measured)
    found *= np.float32(pi / len(geometry.angles))
    return np.asarray(1000 * (found / np.float32(WATER_PER_MM) - 1)).reshape(shape)


def write_cone_beam(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    seed: int,
    scanner: Scanner | None = None,
) -> None:
    """Write a CT file as :func:`cone_beam` of it, on its grid, in HU.

    Args:
        path: Any format, slices across the third axis.
        out: File to write.
        seed: Names the scan; another for each CT.
        scanner: None: that of the defaults.

    Raises:
        InputError: Its slices lie across another axis, or a file is at fault.
    """
    with open_volume(path) as image:
        grid = image.grid
        if grid.dims == 3 and canonical_axes(grid)[0][2] != 2:
            raise InputError(f"{path}: axial slices across another axis than the third")
        made = cone_beam(image.whole(), grid.spacing, scanner or Scanner(), seed)
        write_volume(out, grid, lambda box: made[box.slices], unit="HU")


def with_cone_beam(
    cohort: Cohort,
    modality: str,
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    scanner: Scanner | None = None,
) -> Cohort:
    """The cohort with a ``ct`` and a simulated ``cbct`` for everybody who has none.

    Args:
        cohort: CTs in HU.
        modality: Image that is the ``ct`` and that the ``cbct`` is simulated from. Subjects
            without it stay as they are, and so do those that have a ``cbct``.
        folder: Images are written below it once, named by subject, image, scanner and seed.
        seed: Names the scans.
        scanner: None: that of the defaults.

    Raises:
        InputError: See :func:`write_cone_beam`.
    """
    scanner = scanner or Scanner()
    subjects = []
    for subject in cohort:
        if CBCT not in subject.images and modality in subject.images:
            image = subject.images[modality]
            own = derive(seed, "cone beam", subject.name)
            name = f"{subject.name}-{derive(own, sha256(image), scanner):016x}.nii.gz"
            path = Path(folder) / CBCT / name
            if not path.exists():
                write_cone_beam(image, path, own, scanner)
            images: dict[str, Any] = {**subject.images, CT: image, CBCT: path}
            subject = replace(subject, images=images, units={**subject.units, CT: "HU", CBCT: "HU"})
        subjects.append(subject)
    return Cohort(tuple(subjects))


@dataclass(frozen=True)
class _Plane:
    """Parallel rays through one slice, whose pixels are the rows of a column."""

    shape: tuple[int, int]
    spacing: tuple[float, float]

    @property
    def bin_mm(self) -> float:
        """Side of an element of the detector."""
        return min(self.spacing)

    @property
    def angles(self) -> Array:
        """Of the views over half a turn: as many as it takes to see every frequency."""
        return np.asarray(np.arange(count := ceil(pi / 2 * max(self.shape))) * pi / count)

    @property
    def bins(self) -> Array:
        """Distances of the rays from the middle, mm; they cover the diagonal."""
        diagonal = hypot(*(n * h for n, h in zip(self.shape, self.spacing, strict=True)))
        count = ceil(diagonal / self.bin_mm / 2)
        return np.arange(-count, count + 1) * self.bin_mm

    def _positions(self) -> Iterator[Array]:
        for n, h in zip(self.shape, self.spacing, strict=True):
            yield (np.arange(n) - (n - 1) / 2) * h

    def projection(self, angle: float) -> sparse.csr_array:
        """Line integrals of one view, (rays, pixels).

        Along each ray rows of pixels are crossed, and between two neighbours in a row values are
        interpolated (Joseph, IEEE Transactions on Medical Imaging 1, 1982).
        """
        direction = np.cos(angle), np.sin(angle)
        across = int(abs(direction[1]) > abs(direction[0]))  # the axis that is interpolated on
        along = 1 - across
        places, h = list(self._positions()), self.spacing
        at = (self.bins[:, None] - places[along] * direction[along]) / direction[across]
        at = (at - places[across][0]) / h[across]
        low = np.floor(at).astype(int)
        length = h[along] / abs(direction[across])
        steps = np.broadcast_to(np.arange(self.shape[along]), at.shape)
        rays = np.broadcast_to(np.arange(len(self.bins))[:, None], at.shape)
        parts = []
        for place, share in ((low, 1 - (at - low)), (low + 1, at - low)):
            there = (place >= 0) & (place < self.shape[across])
            where = (place, steps) if across == 0 else (steps, place)
            pixel = where[0] * self.shape[1] + where[1]
            parts.append((share[there] * length, rays[there], pixel[there]))
        values, rows, columns = (np.concatenate(part) for part in zip(*parts, strict=True))
        size = len(self.bins), self.shape[0] * self.shape[1]
        return sparse.csr_array((values.astype(np.float32), (rows, columns)), shape=size)

    def back_projection(self, angle: float) -> sparse.csr_array:
        """What one view adds to each pixel, interpolated between rays, (pixels, rays)."""
        x, y = self._positions()
        at = (x[:, None] * np.cos(angle) + y * np.sin(angle)).ravel() / self.bin_mm
        at += (len(self.bins) - 1) / 2
        low = np.floor(at).astype(int)
        values = np.stack([1 - (at - low), at - low], axis=1).astype(np.float32)
        columns = np.stack([low, low + 1], axis=1)
        ends = np.arange(at.size + 1) * 2
        size = at.size, len(self.bins)
        return sparse.csr_array((values.ravel(), columns.ravel(), ends), shape=size)

    def filtered(self, line: Array) -> Array:
        """A view after ramp and Hann window, (rays, slices).

        The ramp is that of the band-limited taps (Kak and Slaney, 1988, eq. 3.61), whose response
        to a constant is exact.
        """
        count = fft.next_fast_len(2 * len(line), real=True)
        offset = np.minimum(np.arange(count), count - np.arange(count))
        taps = np.where(offset % 2, -1 / (pi * np.maximum(offset, 1)) ** 2, 0.0)
        taps[0] = 0.25
        ramp = fft.rfft(taps).real / self.bin_mm
        ramp *= (1 + np.cos(2 * pi * fft.rfftfreq(count))) / 2
        spectrum = fft.rfft(line, count, axis=0) * ramp[:, None].astype(np.float32)
        return np.asarray(fft.irfft(spectrum, count, axis=0)[: len(line)])
