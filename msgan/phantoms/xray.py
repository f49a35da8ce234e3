"""X-ray phantoms: synthetic frontal chest X-rays, up to 2048 x 2048.

A person of the thorax phantom (:mod:`msgan.phantoms.thorax_anatomy`) stands between a source and
a detector (:mod:`msgan.phantoms.xray_rays`, :mod:`msgan.phantoms.xray_detector`). Everything is
read box by box; what is kept of a person is the same whatever the size, and any tiling gives the
same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from msgan.data.entry import Entry
from msgan.data.grid import Grid
from msgan.data.manifest import Manifest, write_manifest
from msgan.data.volume import write_volume
from msgan.paths import sha256
from msgan.phantoms.thorax import CITATION, LICENCE, thorax
from msgan.phantoms.thorax_anatomy import AIR, SOFT, VESSEL, WALL_MM, Person
from msgan.phantoms.xray_detector import Detector, decay, per_mm
from msgan.phantoms.xray_pipes import Beam, Pipes
from msgan.phantoms.xray_rays import PITCH_MM, Body, Layer, attenuation
from msgan.seeds import derive, numpy_rng
from msgan.types import Array, Box, InputError, Shape

LARGEST = 2048
SIDE_MM = 320.0
"""Side of the square picture, measured in the middle of the chest."""

MIDDLE_MM = -12.0
"""Height of the picture's middle: from above the lungs to below the diaphragm."""

DEPTH_MM = 264.0
FINEST = 256
"""Smaller pictures are means over rays as dense as those of this size, at least."""

MODALITY = "xray"
UNIT = "a.u."


def shape(size: int) -> Shape:
    """Pixels along each axis."""
    if not 16 <= size <= LARGEST:
        raise InputError(f"X-ray phantom size {size}: expected 16 to {LARGEST}")
    return (size, size)


@dataclass(frozen=True)
class XrayPhantom:
    """One subject's chest X-ray; nothing is computed before a box is read.

    Attributes:
        person: The anatomy.
        exposure: Names the noise.
        shape: Pixels along each axis; rows go from head to feet, columns from the patient's
            right to the left.
        beam: How rays go.
        detector: What is made of them.
    """

    person: Person
    exposure: int
    shape: Shape
    beam: Beam
    detector: Detector

    @property
    def spacing(self) -> tuple[float, float]:
        """Pixel sides in mm, in the middle of the chest."""
        return (SIDE_MM / self.shape[0], SIDE_MM / self.shape[1])

    @property
    def affine(self) -> Array:
        """3x3, pixel index to mm down and to the patient's left from the middle of the picture."""
        out = np.diag([*self.spacing, 1.0])
        out[:2, 2] = [(h - SIDE_MM) / 2 for h in self.spacing]
        return out

    @property
    def rays(self) -> int:
        """Rays along each axis of a pixel."""
        return -(-FINEST // self.shape[0])

    @cached_property
    def body(self) -> Body:
        """The person on the coarse grid: the same for all sizes, about 80 MB."""
        person = self.person
        widest = float(self.beam.width(np.float32(DEPTH_MM / 2 + PITCH_MM)))
        reach = (SIDE_MM * widest, (SIDE_MM + 2 * abs(MIDDLE_MM)) * widest)

        def fields(axes: Sequence[Array]) -> dict[str, Array]:
            hole = person.emphysema(axes)
            return {**person.surfaces(axes), "lung": person.parenchyma(axes, hole)}

        parts: list[Layer | Pipes] = [Layer(*layer) for layer in person.layers()]
        parts += [
            Layer("lungs", 0, "lung"),
            Pipes(person.vessels, 0, VESSEL, "lungs"),
            Pipes(person.airways, WALL_MM, SOFT, "lungs"),
            Pipes(person.airways, 0, AIR, None),
        ]
        return Body.sampled((reach[0], DEPTH_MM, reach[1]), fields, parts)

    def attenuation(self, box: Box) -> Array:
        """The true line integrals of a box, float32 without unit: the mean over a pixel's rays."""
        return _means(self._rays(box), self.rays)

    def transmitted(self, box: Box) -> Array:
        """Share of the radiation that reaches each pixel (Beer and Lambert), float32."""
        return _means(decay(self._rays(box)), self.rays)

    def image(self, box: Box) -> Array:
        """The picture: see :meth:`msgan.phantoms.xray_detector.Detector.image`; float32."""
        return self.detector.image(self.transmitted, self.shape, self.spacing, self.exposure, box)

    def _rays(self, box: Box) -> Array:
        """Line integrals of all rays of a box's pixels."""
        places = [
            (np.arange(a * self.rays, b * self.rays) + 0.5) * (h / self.rays) - SIDE_MM / 2
            for a, b, h in zip(box.start, box.stop, self.spacing, strict=True)
        ]
        return attenuation(self.body, self.beam, MIDDLE_MM - places[0], -places[1], per_mm)


def xray(
    seed: int,
    subject: int,
    *,
    size: int = 512,
    severity: float | None = None,
    beam: Beam | None = None,
    detector: Detector | None = None,
) -> XrayPhantom:
    """One subject, the same person as :func:`msgan.phantoms.thorax.thorax` of that number.

    Args:
        seed: Names the cohort.
        subject: Number of the subject; alone or in a cohort, it has the same bytes.
        size: Pixels along each axis, 16 to 2048; 2048 is 0.16 mm.
        severity: Share of the lungs that is emphysema, about; None draws it from 0 to 0.35.
        beam: How rays go; default from a source 1.65 m away.
        detector: What makes the picture.

    Raises:
        InputError: A number out of its range.
    """
    grid = shape(size)
    person = thorax(seed, subject, severity=severity).person
    exposure = derive(seed, "xray", subject, "exposure")
    return XrayPhantom(person, exposure, grid, beam or Beam(), detector or Detector())


def write_xray_cohort(
    folder: str | os.PathLike[str],
    *,
    subjects: int,
    size: int,
    seed: int,
    folds: int = 5,
    test_share: float = 0.1,
) -> Path:
    """Write a cohort as PNG of 16 bit with a manifest; the same arguments, the same bytes.

    Files are ``chest000.png`` and so on, with the modality ``xray``. A seeded order of the subjects
    is cut as in :func:`msgan.phantoms.brain.write_cohort`.

    Args:
        folder: Where to write; made if absent.
        subjects: How many.
        size: Pixels along each axis.
        seed: Names the cohort.
        folds: Of a cross-validation, at least 1.
        test_share: Share of subjects held out, 0 to 1 (0.1 in the 2019 paper, section 3.2).

    Returns:
        The manifest.

    Raises:
        InputError: A number out of its range, or a full disk.
    """
    shape(size)
    if subjects < 1 or folds < 1 or not 0 <= test_share <= 1:
        raise InputError(
            f"cohort of {subjects} subjects, {folds} folds, test share {test_share}: "
            "expected at least 1, at least 1, and 0 to 1"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rank = np.argsort(numpy_rng(seed, "xray", "order").permutation(subjects))
    rows: list[Entry] = []
    for k in range(subjects):
        phantom = xray(seed, k, size=size)
        path = folder / f"chest{k:03d}.png"
        grid = Grid(phantom.shape, phantom.affine)
        write_volume(path, grid, phantom.image, unit=UNIT, dtype=np.uint16)
        row = {
            "subject": path.stem,
            "role": "image",
            "modality": MODALITY,
            "path": path.name,
            "sha256": sha256(path),
            "licence": LICENCE,
            "citation": CITATION,
            "split": "test" if rank[k] < round(test_share * subjects) else "train",
            "fold": int(rank[k]) % folds,
            "unit": UNIT,
        }
        rows.append(Entry.model_validate(row))
    manifest = folder / "manifest.csv"
    write_manifest(manifest, Manifest(name=manifest.name, rows=tuple(rows)))
    return manifest


def _means(values: Array, side: int) -> Array:
    """Means over squares, added in one order, so that tiles have the same bytes."""
    if side == 1:
        return values
    out = values[::side, ::side].copy()
    for k in range(1, side * side):
        out += values[k // side :: side, k % side :: side]
    return out / np.float32(side * side)
