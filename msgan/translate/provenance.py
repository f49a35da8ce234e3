"""The sidecar of a translation, ``OUT.json`` beside ``OUT.nii.gz``: what it was made of, and how.

It is written when the image is complete, just before the image gets its name, so no result is
without one. What a killed process may leave is a sidecar without its image, which counts as
nothing, or the new one beside an image that was about to be replaced: the image says in itself
what translation it is of (:attr:`Provenance.id`), so :func:`trace_of` tells them apart.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgan
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.places import files_of
from msgan.data.store import suffix_of
from msgan.data.subject import Subject
from msgan.data.volume import READERS, open_volume
from msgan.data.writing import WRITERS
from msgan.documents import json_of
from msgan.paths import sha256, write_text
from msgan.types import InputError, Shape

OWN = {"method", "result", "tiles"}
"""Names in every sidecar, by which it is told from another program's JSON file."""

ID_DIGITS = 12

SUFFIXES = {*READERS, *WRITERS, ".hdr", ".img", ".dcm", ".ima"}
"""What says a format at the end of a name; any other end belongs to the name of a folder."""


@dataclass(frozen=True)
class Provenance:
    """One translation on disk: where it came from, how it was made, where its tiles lie.

    Attributes:
        subject: Whose image it is.
        method: Name of the row of a table.
        source: Modality that was translated; empty for a file without one.
        target: Modality it was translated to.
        result: The translated image.
        image: The image that was translated.
        real: The real image of the target, if it is known.
        labels: Pathology labels on the image's grid, if there are any.
        mask: What of the image is foreground, if that is known.
        run: Folder of the trained run, if there is one.
        low: Value of the result that counts as 0 in scores and is drawn black.
        high: Value that counts as 1.
        unit: Of the result's values; empty where they mean nothing by themselves.
        regions: Where voxels count in the scores; the first names no column.
        grid: s_n, the grid that tiles lie on; None for a method without.
        tiles: Voxels between the faces of tiles along each axis, of each scale that was made,
            the finest last; tiles begin at voxel 0 of ``grid``. Empty for a method without.
        notes: What is to be told of how it was made, as how the source was matched.
        id: Hash of all that decides the result: files, weights, settings, version.
        run_id: Key of the run.
        weights: SHA-256 of the weights of each network.
        hashes: SHA-256 of the files that were read: ``image``, ``labels``, ``mask``.
        match: How the source was matched (:class:`msgan.match.fusion.Polarity`), if it was.
        recolourings: From how many recoloured copies of the image s0 drew too.
        preparation: How the source became an image in [-1, 1] (:class:`msgan.config.Preparation`).
        versions: Of the packages that decide the numbers.
        commit: Of the code, where it is a checkout.
        computed: What the last bits depend on beside all that: ``precision``, ``device``,
            ``threads``, and what was asked for: ``tile``, ``memory``, ``gpu_memory``.
        made: When, in UTC (ISO 8601).
        seconds: That it took.
        scales: Folder with the images of all scales, where they were kept.
        uncertainty: Image of the spread, where it was written.
        identity: Whether the result is a DICOM series that states the source's patient.
        scores: Lines of a table, each with ``method``, ``region`` and scores against ``real``.
    """

    subject: str
    method: str
    source: str
    target: str
    result: Path
    image: Path
    real: Path | None = None
    labels: Path | None = None
    mask: Path | None = None
    run: Path | None = None
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    regions: tuple[str, ...] = ()
    grid: Grid | None = None
    tiles: tuple[Shape, ...] = ()
    notes: tuple[str, ...] = ()
    id: str = ""
    run_id: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    match: Mapping[str, Any] | None = None
    recolourings: int = 0
    preparation: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    computed: Mapping[str, Any] = field(default_factory=dict)
    made: str = ""
    seconds: float | None = None
    scales: Path | None = None
    uncertainty: Path | None = None
    identity: bool = False
    scores: tuple[Mapping[str, Any], ...] = ()

    @property
    def mark(self) -> str:
        """What the image says of itself, beside that it is synthetic."""
        return mark_of(self.run_id, self.id)

    @property
    def person(self) -> Subject:
        """Whose image was translated, with the files that are known."""
        name = self.source or "image"
        images = {name: self.image, **({self.target: self.real} if self.real else {})}
        return Subject(self.subject, images, labels=self.labels, mask=self.mask)

    @property
    def intensity(self) -> IntensityMap:
        """The range that the result was written in."""
        return IntensityMap(self.low, self.high, self.unit)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON; files are named relative to it, so that the whole can be moved."""
        base = Path(path).absolute().parent
        content: dict[str, Any] = {"synthetic": True, **vars(self)}
        for name in PATHS:
            if content[name] is not None:
                # Links stay: one in the middle may lead to another disk tomorrow.
                content[name] = Path(os.path.relpath(content[name], base)).as_posix()
        if self.grid is not None:
            content["grid"] = {"shape": self.grid.shape, "affine": self.grid.affine.tolist()}
        write_text(path, json.dumps(content, indent=1, default=dict) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Provenance:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: It is not such a file.
        """
        path = Path(path)
        base = path.absolute().parent
        try:
            content = dict(json_of(path))
            content.pop("synthetic", None)
            for name in PATHS:
                if content.get(name) is not None:
                    content[name] = Path(os.path.normpath(base / content[name]))
            if content["grid"] is not None:
                content["grid"] = Grid(tuple(content["grid"]["shape"]), content["grid"]["affine"])
            content["tiles"] = tuple(tuple(int(n) for n in tile) for tile in content["tiles"])
            content["regions"] = tuple(content["regions"])
            content["notes"] = tuple(map(str, content.get("notes", ())))
            content["scores"] = tuple(map(dict, content.get("scores", ())))
            return cls(**content)
        except (KeyError, TypeError, ValueError) as error:
            why = str(error).removeprefix(f"{path}: ")
            raise InputError(f"{path}: not the sidecar of a translation: {why}") from None


def provenance(
    source: Subject | str | os.PathLike[str],
    modality: str | None,
    target: str,
    result: str | os.PathLike[str],
    intensity: IntensityMap,
    *,
    method: str = "cascade",
    labels: str | os.PathLike[str] | None = None,
    **more: Any,
) -> Provenance:
    """The provenance of a translation.

    Args:
        source: Image file or subject of a cohort.
        modality: Which image of a subject.
        target: Modality it was translated to.
        result: The translated image.
        intensity: Range it was written in.
        method: Name of the row of a table.
        labels: Drawn over the sketch; None: the subject's own.
        more: Other attributes of :class:`Provenance`.
    """
    drawn = None if labels is None else Path(labels)
    if isinstance(source, Subject):
        modality, image = source.image(modality)
        more |= {"real": source.images.get(target), "labels": drawn or source.labels}
        more["mask"] = source.mask
        name = source.name
    else:
        image, name = Path(source), stem_of(Path(source))
        more["labels"] = drawn
    window: dict[str, Any] = {"low": intensity.low, "high": intensity.high, "unit": intensity.unit}
    return Provenance(name, method, modality or "", target, Path(result), image, **window, **more)


PATHS = ("result", "image", "real", "labels", "mask", "run", "scales", "uncertainty")


def now() -> str:
    """The time, as a sidecar states it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def files_read(
    source: Subject | str | os.PathLike[str],
    modality: str | None,
    labels: str | os.PathLike[str] | None,
) -> dict[str, Path]:
    """The files that a translation reads: ``image`` and, where there are any, ``mask``, ``labels``.

    Args:
        source: Image file or subject of a cohort.
        modality: Which image of a subject.
        labels: Drawn over the sketch; None: the subject's own.
    """
    if not isinstance(source, Subject):
        found = {"image": Path(source), "mask": None, "labels": labels}
    else:
        drawn = labels or source.labels
        found = {"image": source.image(modality)[1], "mask": source.mask, "labels": drawn}
    return {name: Path(path) for name, path in found.items() if path is not None}


def content_hash(path: Path) -> str:
    """SHA-256 of an image: of its file, or of all files it consists of.

    Raises:
        InputError: It cannot be read.
    """
    try:
        parts = [path, *(file for file in files_of(path) if file.is_file())]
        own = [sha256(part) for part in dict.fromkeys(parts)]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return own[0] if len(own) == 1 else hashlib.sha256("".join(own).encode()).hexdigest()


def id_of(decided: Any, hashes: Mapping[str, str]) -> str:
    """Hash of what decides a result beside the device: see :attr:`Provenance.id`.

    Args:
        decided: Method, settings and weights, as JSON holds them.
        hashes: Of the files that are read.
    """
    text = json.dumps([decided, dict(hashes), msgan.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def mark_of(run_id: str, number: str) -> str:
    """What an image says of itself, beside that it is synthetic: :attr:`Provenance.mark`."""
    return f"{f'run {run_id}, ' if run_id else ''}image {number}"


def beside(result: str | os.PathLike[str]) -> Path:
    """Where the sidecar of a result lies: ``patient000.json`` beside ``patient000.nii``.

    That of a DICOM series lies beside its folder.
    """
    result = Path(result)
    return result.with_name(f"{stem_of(result)}.json")


def sidecar(path: str | os.PathLike[str]) -> Provenance | None:
    """What a JSON file says of a translation; None where it is another program's, or none.

    Raises:
        InputError: It is damaged.
    """
    path = Path(path)
    try:
        content = json_of(path)
    except FileNotFoundError:  # a link to nowhere
        return None
    ours = isinstance(content, dict) and content.keys() >= OWN
    return Provenance.load(path) if ours else None


def trace_of(result: str | os.PathLike[str]) -> Provenance | None:
    """What the sidecar of an image says; None where there is none that is the image's own.

    Raises:
        InputError: The sidecar is damaged, or the image cannot be opened.
    """
    result = Path(result)
    if not beside(result).is_file() or not result.exists():
        return None
    found = sidecar(beside(result))
    if found is None or found.result.name != result.name:
        return None
    with open_volume(result, check=False) as volume:
        said = volume.about.rpartition("image ")[2] if volume.generated else ""
    # Another program that has saved the image again keeps no description.
    return found if not (said and found.id) or said == found.id else None


def traces_below(folder: str | os.PathLike[str]) -> Iterator[Provenance]:
    """Sidecars of the images that are there in a folder and below it, in order of their names.

    Raises:
        InputError: One is damaged.
    """
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f[-5:] != ".zarr")
        for name in sorted(n for n in names if n.endswith(".json") and not n.startswith(".")):
            found = sidecar(Path(here, name))
            if found is not None and trace_of(found.result) is not None:
                yield found


def require_sidecar(result: str | os.PathLike[str]) -> None:
    """Refuse a result whose sidecar would replace what is none, or that of another image.

    Raises:
        InputError: It would.
    """
    path = beside(result)
    if not os.path.lexists(path):
        return
    other = None
    with suppress(InputError):  # no JSON
        other = sidecar(path)
    if other is None:
        raise InputError(
            f"{path}: is of something else, and what {result} was made of is written there: "
            "choose another name"
        )
    if other.result.name != Path(result).name and other.result.exists():
        raise InputError(
            f"{path}: is what {other.result} was made of: two images of one name differ only in "
            f"their suffix: choose another name for {result}"
        )


def stem_of(path: Path) -> str:
    """Name without the suffix that says the format; of a folder of DICOM files, its name."""
    suffix = suffix_of(path)
    if suffix not in SUFFIXES or (path.is_dir() and suffix != ".zarr"):
        return path.name
    return path.name[: len(path.name) - len(suffix)] or path.name
