"""Translation of a folder: which images are read, and where each result is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from msgan.cli import console, outputs
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.runs.run import Run


OTHERS = (".dcm", ".ima", ".hdr", ".img", ".jpg", ".jpeg", ".bmp", ".gif", ".gz", ".zip")
"""Suffixes of images and archives that no result can be, and that no folder is called by."""


@dataclass(frozen=True)
class Job:
    """One translation.

    Attributes:
        source: Image that is read.
        result: Image to write.
        labels: Label map that is read, too.
        keep: Folder for the images of all scales.
        uncertainty: Spread to write.
    """

    source: Path
    result: Path
    labels: Path | None = None
    keep: Path | None = None
    uncertainty: Path | None = None


def is_folder(image: Path, out: Path) -> bool:
    """Whether every image of a folder is meant; by the name of the result."""
    from msgan.data.store import suffix_of
    from msgan.data.volume import READERS
    from msgan.data.writing import WRITERS

    suffix = suffix_of(out)
    if suffix in WRITERS:
        return False
    if not image.exists():
        raise InputError(f"{image}: no such file or folder")
    known = f"expected one of {', '.join(WRITERS)}"
    if not image.is_dir():
        if out.is_dir():
            raise InputError(f"{out}: is a folder: name the image to write in it; {known}")
        raise InputError(f"{out}: cannot write {suffix or 'an image without suffix'}: {known}")
    if (suffix in READERS or suffix in OTHERS) and not out.is_dir():
        raise InputError(f"{out}: cannot write {suffix}: {known}, or the name of a folder")
    return True


def missing(jobs: Sequence[Job]) -> list[Job]:
    """Jobs whose results are not there yet; says how many are."""
    left = [job for job in jobs if not os.path.lexists(job.result)]
    if len(left) < len(jobs):
        count = f"{len(jobs) - len(left)} of {len(jobs)}"
        console.note(f"note: {count} results are there already and left as they are")
    return left


def check_outputs(run: Run, jobs: Sequence[Job], force: bool) -> None:
    """Refuse results and folders of scales that would replace something.

    Raises:
        InputError: They would, or two images share one (:func:`msgan.cli.outputs.check`).
    """
    from msgan.data.places import require_apart
    from msgan.translate.image import kept_files
    from msgan.translate.provenance import beside, require_sidecar

    results = [path for job in jobs for path in (job.result, job.uncertainty) if path is not None]
    sources = [path for job in jobs for path in (job.source, job.labels) if path is not None]
    owners: dict[Path, Path] = {}
    told: dict[Path, Job] = {}
    for job in jobs:
        require_sidecar(job.result)
        other = told.setdefault(beside(job.result), job)
        if other is not job:
            raise InputError(
                f"{other.source} and {job.source}: what both results were made of would be "
                f"written to {beside(job.result)}: translate one of them by itself"
            )
        if job.keep is None:
            continue
        if job.keep in owners:
            raise InputError(
                f"{owners[job.keep]} and {job.source} would both keep their scales in "
                f"{job.keep}: translate one of them by itself"
            )
        owners[job.keep] = job.source
        outputs.folder(job.keep)
        results += kept_files(run, job.keep)
    # A folder of scales may hold a source, but not be one or lie in one.
    require_apart(owners, sources, holding=True)
    instead = "" if len(jobs) == 1 else ", or --skip-existing to translate the others"
    outputs.check(results, sources, force=force, instead=instead)


def of_folder(
    folder: Path,
    out: Path,
    pattern: str,
    labels: Path | None = None,
    keep: Path | None = None,
    uncertainty: Path | None = None,
) -> list[Job]:
    """A translation for each image of a folder.

    Args:
        folder: With images.
        out: Folder for the results.
        pattern: Of the names of the images to take.
        labels: Folder with a label map of the same name for each.
        keep: Folder that gets a folder of scales for each.
        uncertainty: Folder that gets a spread for each, under the name of the result.

    Raises:
        InputError: There is no image, or two would be written to one name.
    """
    from msgan.data.store import suffix_of
    from msgan.data.writing import WRITERS
    from msgan.translate.provenance import stem_of

    for place in filter(None, (out, uncertainty)):
        if place.exists() and not place.is_dir():
            raise InputError(f"{place}: is a file, expected a folder: IN is a folder of images")
        if place.exists() and place.samefile(folder):
            raise InputError(f"{place}: is the folder the images are in: choose another")
    if labels is not None and not labels.is_dir():
        raise InputError(f"{labels}: expected a folder: IN is a folder of images")
    jobs: dict[Path, Job] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not fnmatch(path.name, pattern) or not _readable(path):
            continue
        kept = suffix_of(path) in WRITERS
        result = out / (path.name if kept else f"{stem_of(path)}.nii.gz")
        if result in jobs:
            raise InputError(f"{path} and {jobs[result].source} would both be written to {result}")
        drawn = None if labels is None else labels / path.name
        scales = None if keep is None else keep / stem_of(path)
        spread = None if uncertainty is None else uncertainty / result.name
        jobs[result] = Job(path, result, drawn, scales, spread)
    if not jobs:
        raise InputError(f"{folder}: no image in this folder is named {pattern}")
    return list(jobs.values())


def _readable(path: Path) -> bool:
    """Whether a file or folder is an image by its suffix, or DICOM by its content."""
    from msgan.data.formats.dicom import is_dicom
    from msgan.data.formats.nifti import pair_of
    from msgan.data.store import suffix_of
    from msgan.data.volume import READERS

    if suffix_of(path) in READERS:
        return True
    if pair_of(path) == "nifti":  # one image: its header stands for both files
        return path.name.lower().endswith((".hdr", ".hdr.gz"))
    if path.is_dir():
        return any(file.is_file() and is_dicom(file) for file in path.iterdir())
    return suffix_of(path) in (".dcm", ".ima") or is_dicom(path)
