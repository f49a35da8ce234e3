"""Translation of a folder: which images are read, and where each result is written."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.cli import console, outputs
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.data.cohort import Cohort, Subject
    from msgan.runs.run import Run
    from msgan.translate import Generation


OTHERS = (".dcm", ".ima", ".hdr", ".img", ".jpg", ".jpeg", ".bmp", ".gif", ".gz", ".zip")
"""Suffixes of images and archives that no result can be, and that no folder is called by."""


@dataclass(frozen=True)
class Job:
    """One translation.

    Attributes:
        source: Image that is read.
        subject: Whose image it is, of a manifest.
        modality: Which of the subject's.
        result: Image to write.
        labels: Label map that is read, too.
        keep: Folder for the images of all scales.
        uncertainty: Spread to write.
        dicom: The result is a folder for a DICOM series.
    """

    source: Path
    result: Path
    labels: Path | None = None
    keep: Path | None = None
    uncertainty: Path | None = None
    subject: Subject | None = None
    modality: str | None = None
    dicom: bool = False

    @property
    def reads(self) -> Subject | Path:
        """What is translated."""
        return self.subject or self.source

    @property
    def name(self) -> str:
        """Whose image it is, for messages."""
        return self.subject.name if self.subject else self.source.name


def is_manifest(image: Path) -> bool:
    """Whether every subject of a manifest is meant."""
    return image.suffix.lower() in (".csv", ".tsv") and not image.is_dir()


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


def is_images(image: Path, out: Path) -> bool:
    """Whether every image of a folder is meant where results are DICOM series; by what is there.

    Raises:
        InputError: There is nothing, or the result has the name of a file.
    """
    from msgan.data.store import suffix_of
    from msgan.data.volume import READERS

    if not image.exists():
        raise InputError(f"{image}: no such file or folder")
    if suffix_of(out) in (*READERS, *OTHERS):
        raise InputError(f"{out}: a DICOM series is a folder: leave out {suffix_of(out)}")
    return image.is_dir() and not _readable(image)


def missing(jobs: Sequence[Job]) -> list[Job]:
    """Jobs whose results are not there yet; says how many are."""
    left = [job for job in jobs if not os.path.lexists(job.result)]
    if len(left) < len(jobs):
        count = f"{len(jobs) - len(left)} of {len(jobs)}"
        console.note(f"note: {count} results are there already and left as they are")
        _sweep()
    return left


def changed(method: Generation, jobs: Sequence[Job], options: Mapping[str, Any]) -> list[Job]:
    """Jobs whose results are not there as they would be made; says how many are.

    Args:
        method: What makes the results.
        jobs: All of them.
        options: Of the translations.
    """
    wanted = {name: options[name] for name in ("precision", "padding")}
    who, kept = options["modality"], options["keep_identity"]
    left = [job for job in jobs if not _unchanged(method, job, wanted, who, kept)]
    if len(left) < len(jobs):
        console.note(
            f"note: {len(jobs) - len(left)} of {len(jobs)} results are there already, of the same "
            "images and weights, and left as they are"
        )
        _sweep()
    return left


def _sweep() -> None:
    """Remove what a translation has left that was killed when its result was there."""
    from msgan.paths import scratch_root
    from msgan.translate.scratch import sweep

    sweep(scratch_root())


def _unchanged(
    method: Generation, job: Job, wanted: dict[str, Any], modality: str | None, identity: bool
) -> bool:
    from msgan.data.volume import open_volume
    from msgan.translate import expected_id
    from msgan.translate.provenance import trace_of

    if job.labels is not None and not job.labels.exists():
        return False
    try:
        found = trace_of(job.result)
        if found is None or found.identity != identity:
            return False
        if job.keep is not None and found.scales is None:
            return False
        own: dict[str, Any] = {"modality": job.modality or modality, "labels": job.labels}
        if found.id != expected_id(method, job.reads, **own, **wanted):
            return False
    except (InputError, OSError):
        return False  # said where it is translated
    try:  # to the end: a compressed file that was cut short begins like a whole one
        open_volume(job.result).close()
    except (InputError, OSError) as error:
        console.note(f"note: {error}")
        return False
    return True


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
    sources += [path for job in jobs if job.subject for path in job.subject.images.values()]
    owners: dict[Path, Path] = {}
    told: dict[Path, Job] = {}
    for job in jobs:
        require_sidecar(job.result)
        other = told.setdefault(beside(job.result), job)
        if other is not job:
            raise InputError(
                f"{other.source} and {job.source}: what both results were made of would be "
                f"written to {beside(job.result)}: choose one of them with --match"
            )
        if job.keep is None:
            continue
        owners[job.keep] = job.source
        outputs.folder(job.keep)
        results += kept_files(run, job.keep)
    # A folder of scales may hold a source, but not be one or lie in one.
    require_apart(owners, sources, holding=True)
    instead = "" if len(jobs) == 1 else ", or --skip-existing to translate the others"
    series = {job.result for job in jobs if job.dicom}
    outputs.check(results, sources, force=force, instead=instead, series=series)


def of_folder(
    folder: Path,
    out: Path,
    pattern: str,
    labels: Path | None = None,
    keep: Path | None = None,
    uncertainty: Path | None = None,
    *,
    dicom: bool = False,
) -> list[Job]:
    """A translation for each image of a folder.

    Args:
        folder: With images, in it or below it.
        out: Folder for the results, which get the same folders below it.
        pattern: Of the names of the images to take.
        labels: Folder with a label map of the same name for each.
        keep: Folder that gets a folder of scales for each.
        uncertainty: Folder that gets a spread for each, under the name of the result.
        dicom: Each result is a folder with a DICOM series.

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
    own = {place.resolve() for place in (out, keep, uncertainty) if place is not None}
    for path in _images(folder, own):
        if not fnmatch(path.name, pattern):
            continue
        inner = path.parent.relative_to(folder)
        name = path.name if suffix_of(path) in WRITERS else f"{stem_of(path)}.nii.gz"
        result = out / inner / (stem_of(path) if dicom else name)
        if result in jobs:
            raise InputError(f"{path} and {jobs[result].source} would both be written to {result}")
        drawn = None if labels is None else labels / inner / path.name
        scales = None if keep is None else keep / inner / stem_of(path)
        spread = None if uncertainty is None else uncertainty / inner / name
        jobs[result] = Job(path, result, drawn, scales, spread, dicom=dicom)
    if not jobs:
        raise InputError(f"{folder}: no image in this folder or below it is named {pattern}")
    return list(jobs.values())


def _images(folder: Path, own: Collection[Path]) -> Iterator[Path]:
    """Images in a folder and below it, in order; results, runs and hidden folders are left out."""
    from msgan.runs.bundled import CARD

    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if _readable(path):
            if not _result(path):
                yield path
        elif path.is_dir() and path.resolve() not in own and not (path / CARD).is_file():
            yield from _images(path, own)


def _result(path: Path) -> bool:
    """Whether a sidecar says that an image is a translation."""
    from msgan.translate.provenance import beside, sidecar

    try:
        return beside(path).is_file() and sidecar(beside(path)) is not None
    except InputError:
        return False


def of_manifest(
    cohort: Cohort,
    method: Generation,
    out: Path,
    split: str | None,
    modality: str | None,
    keep: Path | None = None,
    uncertainty: Path | None = None,
    *,
    dicom: bool = False,
) -> list[Job]:
    """A translation for each subject of a split.

    Args:
        cohort: Subjects of a manifest.
        method: What makes the results.
        out: Folder for the results, each named by its subject.
        split: ``train``, ``val``, ``test`` or ``all``; None: ``test`` where there is one.
        modality: Which image of each; None: the only one that is not the target.
        keep: Folder that gets a folder of scales for each.
        uncertainty: Folder that gets a spread for each.
        dicom: Each result is a folder with a DICOM series.

    Raises:
        InputError: There is no such subject or image, or it is not told which image is meant.
    """
    from msgan.data.store import suffix_of
    from msgan.data.writing import WRITERS

    for place in filter(None, (out, uncertainty)):
        if place.exists() and not place.is_dir():
            raise InputError(f"{place}: is a file, expected a folder: IN is a manifest")
    splits = {subject.split for subject in cohort}
    chosen = split or ("test" if "test" in splits else "all")
    people = [s for s in cohort if chosen in ("all", s.split)]
    if not people:
        raise InputError(
            f"--split {chosen}: no subject of this split; there are "
            f"{', '.join(sorted(filter(None, splits))) or 'none'}"
        )
    asked = modality or method.source or _only(people, method.target)
    usable = [subject for subject in people if asked in subject.images]
    if not usable:
        there = ", ".join(dict.fromkeys(m for s in people for m in s.images))
        raise InputError(f"--modality {asked}: no such image of split {chosen}; there are {there}")
    if len(usable) < len(people):
        console.note(f"note: {len(people) - len(usable)} of {len(people)} subjects have no {asked}")
    jobs = []
    for subject in usable:
        path = subject.images[asked]
        suffix = suffix_of(path) if suffix_of(path) in WRITERS else ".nii.gz"
        scales = None if keep is None else keep / subject.name
        spread = None if uncertainty is None else uncertainty / f"{subject.name}{suffix}"
        result = out / (subject.name if dicom else f"{subject.name}{suffix}")
        jobs.append(Job(path, result, None, scales, spread, subject, asked, dicom))
    return jobs


def _only(people: Sequence[Subject], target: str) -> str:
    """The modality of the subjects that is not the target."""
    found = list(dict.fromkeys(m for s in people for m in s.images if m != target))
    if len(found) != 1:
        raise InputError(
            f"--modality is missing: which image of each subject is translated; there are "
            f"{', '.join(found) or f'none beside {target}'}"
        )
    return found[0]


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
