"""The cohorts a notebook works on: the reader's data, or phantoms of the preset's size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgan.data.cohort import Cohort
from msgan.paths import sha256
from msgan.phantoms.brain import write_cohort
from msgan.phantoms.thorax import write_thorax_cohort
from msgan.phantoms.xray import MODALITY as XRAY
from msgan.phantoms.xray import write_xray_cohort
from msgan.types import InputError

MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class Extent:
    """How much of a phantom cohort there is: subjects, and voxels along the longest axis."""

    subjects: int
    size: int


BRAIN = {"smoke": Extent(5, 48), "small": Extent(12, 96), "paper": Extent(40, 192)}
"""Brain phantoms by preset."""

BRAIN_FOLDS = {"smoke": 2, "small": 2, "paper": 4}
"""Folds of the cross-validation by preset (2020, 3.2.2: four)."""

THORAX = {"smoke": Extent(5, 48), "small": Extent(12, 128), "paper": Extent(56, 512)}
"""Thorax phantoms by preset; the published cohort has 56 subjects of about 512^3 (2020, 3.2.1)."""

XRAYS = {"smoke": Extent(10, 128), "small": Extent(32, 512), "paper": Extent(100, 2048)}
"""X-ray phantoms by preset; the published cohort has about 1500 of 2048^2 (2019, 3.1)."""

XRAY_TEST_SHARE = {"smoke": 0.4, "small": 0.25, "paper": 0.1}
"""Share of the X-rays that is tested: a tenth as published, more where a tenth is too few."""

THORAX_FOLDS = {"smoke": 2, "small": 2, "paper": 5}
"""Folds of the cross-validation by preset (2020, 3.2.1: five)."""


def brain_manifest(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    healthy: bool = False,
) -> Path:
    """The manifest of the cohort; its files lie in the same folder.

    Args:
        preset: Number and size of the phantoms.
        folder: Phantoms are written below it once and found there again.
        data_root: Folder with ``manifest.csv`` and the data it names, used instead of phantoms.
        seed: Names the phantoms.
        healthy: Volunteers without tumours; phantoms only.

    Raises:
        InputError: The preset is unknown, or ``data_root`` holds no manifest.
    """

    def write(out: Path, extent: Extent) -> Path:
        return write_cohort(
            out,
            subjects=extent.subjects,
            size=extent.size,
            seed=seed,
            healthy=healthy,
            folds=BRAIN_FOLDS[preset],
        )

    kind = "volunteers" if healthy else "patients"
    return _manifest(f"brain-{kind}", BRAIN, preset, folder, data_root, seed, write)


def brain_cohort(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    healthy: bool = False,
) -> Cohort:
    """The subjects of :func:`brain_manifest`, which see."""
    manifest = brain_manifest(preset, folder, data_root=data_root, seed=seed, healthy=healthy)
    return Cohort.from_manifest(manifest, manifest.parent)


def thorax_manifest(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Path:
    """As :func:`brain_manifest`: thorax CT with kernels b20f, b50f, b80f and at low dose.

    Phantoms state their folds (:data:`THORAX_FOLDS`) and no test split: each is tested once.
    """

    def write(out: Path, extent: Extent) -> Path:
        folds = THORAX_FOLDS[preset]
        return write_thorax_cohort(
            out, subjects=extent.subjects, size=extent.size, seed=seed, folds=folds
        )

    return _manifest("thorax", THORAX, preset, folder, data_root, seed, write)


def thorax_cohort(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Cohort:
    """The subjects of :func:`thorax_manifest`, which see."""
    manifest = thorax_manifest(preset, folder, data_root=data_root, seed=seed)
    return Cohort.from_manifest(manifest, manifest.parent)


def xray_manifest(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Path:
    """As :func:`brain_manifest`: chest X-rays of modality ``xray``."""

    def write(out: Path, extent: Extent) -> Path:
        share = XRAY_TEST_SHARE[preset]
        return write_xray_cohort(
            out, subjects=extent.subjects, size=extent.size, seed=seed, test_share=share
        )

    return _manifest("xray", XRAYS, preset, folder, data_root, seed, write)


def xray_cohort(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Cohort:
    """The subjects of :func:`xray_manifest`, which see.

    Where the reader's manifest states no split at all, as those of public collections do, a tenth
    is held out for testing (2019, section 3.2), but not fewer than four or a third.
    """
    manifest = xray_manifest(preset, folder, data_root=data_root, seed=seed)
    cohort = Cohort.from_manifest(manifest, manifest.parent).with_modality(XRAY)
    if any(subject.split for subject in cohort):
        return cohort
    return cohort.held_out(max(round(0.1 * len(cohort)), min(4, len(cohort) // 3)))


def _manifest(
    kind: str,
    extents: dict[str, Extent],
    preset: str,
    folder: str | os.PathLike[str],
    data_root: str | os.PathLike[str] | None,
    seed: int,
    write: Callable[[Path, Extent], Path],
) -> Path:
    """The reader's manifest, or that of phantoms, which are written where they are not yet."""
    if data_root is not None:
        manifest = Path(data_root) / MANIFEST
        if not manifest.is_file():
            raise InputError(f"{manifest}: no such file; a data root names its files in one")
        return manifest
    if preset not in extents:
        raise InputError(f"preset {preset!r} is none of {', '.join(extents)}")
    extent = extents[preset]
    name = f"{kind}-{extent.subjects}x{extent.size}-seed{seed}-{_code(Path(__file__).parent)}"
    manifest = Path(folder) / name / MANIFEST  # written last: where it is, the cohort is complete
    if not manifest.is_file():
        write(manifest.parent, extent)
    return manifest


def _code(folder: Path) -> str:
    """8 hexadecimal digits of the source that draws phantoms: other code, another cohort."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(f"{file.name}\0{sha256(file)}".encode())
    return digest.hexdigest()[:8]
