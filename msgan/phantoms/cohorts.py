"""The cohorts of the notebooks: the user's data, or phantoms of the preset's size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path

from msgan.data.cohort import Cohort
from msgan.lock import alone
from msgan.paths import sha256
from msgan.phantoms.brain import write_cohort
from msgan.phantoms.thorax import write_thorax_cohort
from msgan.phantoms.xray import MODALITY as XRAY
from msgan.phantoms.xray import write_xray_cohort
from msgan.presets import Sizes, sizes
from msgan.types import InputError

MANIFEST = "manifest.csv"


def brain_manifest(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    healthy: bool = False,
    size: int | None = None,
) -> Path:
    """The manifest of the cohort; its files lie in the same folder.

    Args:
        preset: Number and size of the phantoms.
        folder: Phantoms are written below it once and found there again.
        data_root: Folder with ``manifest.csv`` and the data it names, used instead of phantoms.
        seed: Names the phantoms.
        healthy: Volunteers without tumours; phantoms only.
        size: Voxels along the longest axis of phantoms; None: the preset's.

    Raises:
        InputError: The preset is unknown, or ``data_root`` holds no manifest.
    """

    def write(out: Path, extent: Sizes) -> Path:
        return write_cohort(
            out,
            subjects=extent.subjects,
            size=extent.size,
            seed=seed,
            healthy=healthy,
            folds=extent.folds,
        )

    kind = "volunteers" if healthy else "patients"
    return _manifest(f"brain-{kind}", "brain", preset, folder, data_root, seed, write, size)


def brain_cohort(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    healthy: bool = False,
    size: int | None = None,
) -> Cohort:
    """The subjects of :func:`brain_manifest`, which see."""
    manifest = brain_manifest(
        preset, folder, data_root=data_root, seed=seed, healthy=healthy, size=size
    )
    return Cohort.from_manifest(manifest, manifest.parent)


def thorax_manifest(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    size: int | None = None,
) -> Path:
    """As :func:`brain_manifest`: thorax CT with kernels b20f, b50f, b80f and at low dose.

    Phantoms state their folds (:func:`msgan.presets.sizes`) and no test split: each is tested once.
    """

    def write(out: Path, extent: Sizes) -> Path:
        return write_thorax_cohort(
            out, subjects=extent.subjects, size=extent.size, seed=seed, folds=extent.folds
        )

    return _manifest("thorax", "thorax", preset, folder, data_root, seed, write, size)


def thorax_cohort(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    size: int | None = None,
) -> Cohort:
    """The subjects of :func:`thorax_manifest`, which see."""
    manifest = thorax_manifest(preset, folder, data_root=data_root, seed=seed, size=size)
    return Cohort.from_manifest(manifest, manifest.parent)


def xray_manifest(
    preset: str,
    folder: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Path:
    """As :func:`brain_manifest`: chest X-rays of modality ``xray``."""

    def write(out: Path, extent: Sizes) -> Path:
        return write_xray_cohort(
            out,
            subjects=extent.subjects,
            size=extent.size,
            seed=seed,
            test_share=extent.test_share,
        )

    return _manifest("xray", "xray", preset, folder, data_root, seed, write)


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
    anatomy: str,
    preset: str,
    folder: str | os.PathLike[str],
    data_root: str | os.PathLike[str] | None,
    seed: int,
    write: Callable[[Path, Sizes], Path],
    size: int | None = None,
) -> Path:
    """The reader's manifest, or that of phantoms, which are written where they are not yet."""
    if data_root is not None:
        manifest = Path(data_root) / MANIFEST
        if not manifest.is_file():
            raise InputError(f"{manifest}: no such file; a data root names its files in one")
        return manifest
    extent = sizes(preset, anatomy)
    extent = replace(extent, size=size or extent.size)
    name = f"{kind}-{extent.subjects}x{extent.size}-seed{seed}-{_code(Path(__file__).parent)}"
    manifest = Path(folder) / name / MANIFEST  # written last: where it is, the cohort is complete
    if not manifest.is_file():
        with alone(Path(folder, f".{name}.lock"), f"{manifest}: is being made", wait=inf):
            if not manifest.is_file():  # by another process, meanwhile
                write(manifest.parent, extent)
    return manifest


def _code(folder: Path) -> str:
    """8 hexadecimal digits of the source that draws phantoms: other code, another cohort."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(f"{file.name}\0{sha256(file)}".encode())
    return digest.hexdigest()[:8]
