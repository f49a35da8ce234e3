"""Images in folders, and which of them can be shown side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgan.data.formats.dicom import is_dicom
from msgan.data.grid import Grid
from msgan.data.store import suffix_of
from msgan.data.volume import READERS, open_volume
from msgan.report.fault import Fault, tried


@dataclass(frozen=True)
class Images:
    """Images in one folder that are not results of ours.

    Attributes:
        name: The folder, relative to that of the catalog.
        paths: Files, folders of DICOM slices, Zarr stores; sorted.
    """

    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Group:
    """Images that lie on one grid, so that they can be shown side by side."""

    grid: Grid
    paths: tuple[Path, ...]


def images_in(here: Path, folders: list[str], names: list[str]) -> list[Path]:
    """Images in a folder; those that are folders themselves are not entered any more."""
    found = [here / n for n in names if suffix_of(Path(n)) in READERS]
    for name in list(folders):
        path = here / name
        if suffix_of(path) in READERS or _dicom(path):
            folders.remove(name)
            found.append(path)
    return sorted(found)


def _dicom(folder: Path) -> bool:
    """Whether a folder holds DICOM slices, as far as its first files tell."""
    try:
        files = [entry for entry in os.scandir(folder) if entry.is_file()]
        return any(is_dicom(Path(file.path)) for file in files[:4])
    except OSError:
        return False  # said when it is entered


def grouped(paths: Sequence[Path]) -> tuple[list[Group], list[Fault]]:
    """Images by the grid they lie on, in order; the headers are read, no voxel is.

    Returns:
        The groups, and which images cannot be read.
    """
    groups: list[tuple[Grid, list[Path]]] = []
    faults: list[Fault] = []
    for path in paths:
        grid = tried(partial(_grid, path), path, faults)
        if grid is None:
            continue
        for other, members in groups:
            if other.same_as(grid, 1e-3):  # files round; nobody sees a thousandth of a mm
                members.append(path)
                break
        else:
            groups.append((grid, [path]))
    return [Group(grid, tuple(members)) for grid, members in groups], faults


def _grid(path: Path) -> Grid:
    with open_volume(path, check=False) as volume:
        return volume.grid
