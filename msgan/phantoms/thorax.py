"""Thorax phantoms: synthetic CTs with three kernels and at low dose.

A person (:mod:`msgan.phantoms.thorax_anatomy`) is a function of (seed, subject) and of position,
seen through kernels (:mod:`msgan.phantoms.ct_kernels`). Everything is read box by box: any size
fits in memory, and any tiling gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from msgan import maps
from msgan.data.entry import Entry
from msgan.data.grid import Grid
from msgan.data.manifest import Manifest, write_manifest
from msgan.data.volume import write_volume
from msgan.paths import room, scratch_folder, sha256
from msgan.phantoms.ct_kernels import KERNELS, Kernel, blur, noise
from msgan.phantoms.thorax_anatomy import EXTENT_MM, Person, Region
from msgan.seeds import derive, numpy_rng
from msgan.types import Array, Box, InputError, Reader, Shape

LARGEST = 512
TILE = (64, 64, 64)
DETAIL_MM = EXTENT_MM[0] / LARGEST
"""Voxel side for which kernels are as they are; in larger voxels they are stretched with them."""

SEVEREST = 0.35
"""Emphysema of a cohort is uniform from 0 to this share of the lungs."""

MODALITIES = ("b20f", "b50f", "b80f", "low")
LOW_KERNEL = "b50f"

REGIONS = ("lung", "emphysema")
"""Files of a cohort beside the images: the lungs, and what of them is emphysema by geometry."""

LICENCE = "Apache-2.0 (synthetic)"
CITATION = "msgan thorax phantom"


def shape(size: int) -> Shape:
    """Voxels along each axis when the longest has ``size``; the box is 352 x 264 x 308 mm."""
    if not 16 <= size <= LARGEST:
        raise InputError(f"thorax phantom size {size}: expected 16 to {LARGEST}")
    return tuple(round(e * size / max(EXTENT_MM)) for e in EXTENT_MM)


@dataclass(frozen=True)
class ThoraxPhantom:
    """One subject on one grid; nothing is computed before a box is read.

    Attributes:
        person: The anatomy.
        scan: Names the noise.
        shape: Voxels along each axis.
        sigma_hu: Standard deviation of the noise of b20f, HU.
        dose: Dose of the low-dose image as a share; variance is 1 / dose as large.
    """

    person: Person
    scan: int
    shape: Shape
    sigma_hu: float
    dose: float

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel sides in mm."""
        return tuple(e / n for e, n in zip(EXTENT_MM, self.shape, strict=True))

    @property
    def affine(self) -> Array:
        """4x4, voxel index to RAS millimetres."""
        out = np.diag([*self.spacing, 1.0])
        out[:3, 3] = [(h - e) / 2 for h, e in zip(self.spacing, EXTENT_MM, strict=True)]
        return out

    def region(self, box: Box) -> Region:
        """The anatomy of a box."""
        axes = [
            ((np.arange(a, b) + 0.5) * h - e / 2).astype(np.float32)
            for a, b, h, e in zip(box.start, box.stop, self.spacing, EXTENT_MM, strict=True)
        ]
        return self.person.region(axes, max(self.spacing))

    def clean(self, box: Box) -> Array:
        """The true image: HU, float32."""
        return self.region(box).hu

    def lung(self, box: Box) -> Array:
        """1 in the lungs without their airways, float32."""
        return self.region(box).lung.astype(np.float32)

    def kernel(self, name: str) -> Kernel:
        """A kernel for this grid: as wide in voxels as at the largest size, at least."""
        if name not in KERNELS:
            raise InputError(f"kernel {name!r} is none of {', '.join(KERNELS)}")
        return KERNELS[name].stretched(max(1.0, max(self.spacing) / DETAIL_MM))

    def image(self, modality: str, clean: Reader | None = None) -> Reader:
        """The image of ``b20f``, ``b50f``, ``b80f`` or ``low`` (b50f of another, weaker scan).

        Args:
            modality: One of :data:`MODALITIES`.
            clean: The true image, if it has been kept.

        Raises:
            InputError: Another modality.
        """
        if modality not in MODALITIES:
            raise InputError(f"modality {modality!r} is none of {', '.join(MODALITIES)}")
        low = modality == "low"
        kernel = self.kernel(LOW_KERNEL if low else modality)
        sigma = self.sigma_hu / (self.dose**0.5 if low else 1)
        scan = derive(self.scan, "low") if low else self.scan
        blurred = blur(clean or self.clean, self.shape, self.spacing, kernel)
        reference = self.kernel("b20f")
        rough = noise(self.shape, self.spacing, kernel, sigma, scan, reference=reference)
        return lambda box: blurred(box) + rough(box)

    @property
    def b20f(self) -> Reader:
        """The smooth image."""
        return self.image("b20f")

    @property
    def b50f(self) -> Reader:
        """The medium sharp image of the same scan."""
        return self.image("b50f")

    @property
    def b80f(self) -> Reader:
        """The ultra sharp image of the same scan."""
        return self.image("b80f")

    @property
    def low_dose(self) -> Reader:
        """A scan with less dose."""
        return self.image("low")

    @cached_property
    def emphysema_index(self) -> float:
        """Share of the lung's voxels in emphysema, by its geometry; reads the whole person."""
        holes = lungs = 0
        for box in Box.whole(self.shape).tiles(TILE):
            part = self.region(box)
            holes += int(part.hole.sum())
            lungs += int(part.lung.sum())
        return holes / lungs


def thorax(
    seed: int,
    subject: int,
    *,
    size: int = 64,
    severity: float | None = None,
    sigma_hu: float = 12.0,
    dose: float = 0.25,
) -> ThoraxPhantom:
    """One subject.

    Args:
        seed: Names the cohort.
        subject: Number of the subject; alone or in a cohort, it has the same bytes.
        size: Voxels along the longest (first) axis, 16 to 512; 512 is 0.69 mm.
        severity: Share of the lungs that is emphysema, about; None draws it from 0 to 0.35.
        sigma_hu: Standard deviation of the noise of b20f, HU.
        dose: Dose of the low-dose scan as a share of the other.

    Raises:
        InputError: A number out of its range.
    """
    if severity is None:
        severity = float(numpy_rng(seed, "thorax", subject, "severity").uniform(0, SEVEREST))
    if not 0 <= severity <= 0.9 or not 0 <= sigma_hu < np.inf or not 0 < dose <= 1:
        raise InputError(
            f"severity {severity}, noise {sigma_hu} HU, dose {dose}: "
            "expected 0 to 0.9, 0 or more, and above 0 to 1"
        )
    grid = shape(size)
    person = Person.random(seed, subject, severity)
    return ThoraxPhantom(person, derive(seed, "thorax", subject, "scan"), grid, sigma_hu, dose)


def write_thorax_cohort(
    folder: str | os.PathLike[str],
    *,
    subjects: int,
    size: int,
    seed: int,
    folds: int = 5,
    test_share: float = 0.0,
    sigma_hu: float = 12.0,
    dose: float = 0.25,
) -> Path:
    """Write a cohort as compressed NIfTI with a manifest; the same arguments, the same bytes.

    Files are ``copd000/copd000_b20f.nii.gz`` and so on, and as regions the lungs and their
    emphysema, by geometry. They are no ``mask``: the whole body is translated. A seeded order of
    the subjects is cut as in :func:`msgan.phantoms.brain.write_cohort`.

    Args:
        folder: Where to write; made if absent.
        subjects: How many.
        size: Voxels along the longest axis.
        seed: Names the cohort.
        folds: Of the cross-validation (5 in the extended paper, 3.2.1), at least 1.
        test_share: Share of subjects held out, 0 to 1.
        sigma_hu: See :func:`thorax`.
        dose: See :func:`thorax`.

    Returns:
        The manifest.

    Raises:
        InputError: A number out of its range, or a full disk.
    """
    if subjects < 1 or folds < 1 or not 0 <= test_share <= 1:
        raise InputError(
            f"cohort of {subjects} subjects, {folds} folds, test share {test_share}: "
            "expected at least 1, at least 1, and 0 to 1"
        )
    folder = Path(folder)
    rank = np.argsort(numpy_rng(seed, "thorax", "order").permutation(subjects))
    rows: list[Entry] = []
    with scratch_folder() as scratch:
        for k in range(subjects):
            phantom = thorax(seed, k, size=size, sigma_hu=sigma_hu, dose=dose)
            split = "test" if rank[k] < round(test_share * subjects) else "train"
            subject = folder / f"copd{k:03d}"
            for path, role, modality in _write(phantom, subject, scratch):
                row = {
                    "subject": subject.name,
                    "role": role,
                    "modality": modality,
                    "path": path.relative_to(folder).as_posix(),
                    "sha256": sha256(path),
                    "licence": LICENCE,
                    "citation": CITATION,
                    "split": split,
                    "fold": int(rank[k]) % folds,
                    "unit": "HU" if role == "image" else "label",
                }
                rows.append(Entry.model_validate(row))
    manifest = folder / "manifest.csv"
    write_manifest(manifest, Manifest(name=manifest.name, rows=tuple(rows)))
    return manifest


def _write(phantom: ThoraxPhantom, folder: Path, scratch: Path) -> Iterator[tuple[Path, str, str]]:
    """Write one subject; gives path, role and modality of each file."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = Grid(phantom.shape, phantom.affine)
    # Four images and their halos read it: computed once, and on disk, since it may be large.
    with room(scratch, 6 * int(np.prod(phantom.shape)), "a phantom"):
        clean = maps.scratch(scratch / "clean", phantom.shape, np.float32)
        regions = {name: maps.scratch(scratch / name, phantom.shape, np.uint8) for name in REGIONS}
    for box in Box.whole(phantom.shape).tiles(TILE):
        part = phantom.region(box)
        clean[box.slices] = part.hu
        regions["lung"][box.slices] = part.lung
        regions["emphysema"][box.slices] = part.hole
    for modality in MODALITIES:
        path = folder / f"{folder.name}_{modality}.nii.gz"
        read = phantom.image(modality, partial(_boxed, clean))
        write_volume(path, grid, read, unit="HU")
        yield path, "image", modality
    for name, inside in regions.items():
        path = folder / f"{folder.name}_{name}.nii.gz"
        read = partial(_boxed, inside)
        write_volume(path, grid, read, unit="label", dtype=np.uint8)
        yield path, "region", name


def _boxed(image: Array, box: Box) -> Array:
    return image[box.slices]
