"""The brain cohort a notebook works on: the reader's data, or phantoms of the preset's size."""

from __future__ import annotations

import os
from pathlib import Path

import msgan
from msgan.data.cohort import Cohort
from msgan.phantoms.brain import write_cohort
from msgan.types import InputError

MANIFEST = "manifest.csv"

SUBJECTS = {"smoke": 5, "small": 12, "paper": 40}
"""Phantoms of a cohort by preset."""

SIZES = {"smoke": 48, "small": 96, "paper": 192}
"""Voxels along a phantom's longest axis by preset."""


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
    if data_root is not None:
        manifest = Path(data_root) / MANIFEST
        if not manifest.is_file():
            raise InputError(f"{manifest}: no such file; a data root names its files in one")
        return manifest
    if preset not in SIZES:
        raise InputError(f"preset {preset!r} is none of {', '.join(SIZES)}")
    size, subjects = SIZES[preset], SUBJECTS[preset]
    kind = "volunteers" if healthy else "patients"
    name = f"brain-{kind}-{subjects}x{size}-seed{seed}-{msgan.__version__}"
    manifest = Path(folder) / name / MANIFEST  # written last: where it is, the cohort is complete
    if not manifest.is_file():
        write_cohort(manifest.parent, subjects=subjects, size=size, seed=seed, healthy=healthy)
    return manifest


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
