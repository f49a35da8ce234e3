"""The score table of a study: every method translates every subject and is scored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from msgan.config import Preparation
from msgan.data.body import body_mask
from msgan.data.cohort import Prepared, Subject, prepare
from msgan.data.intensity import IntensityMap
from msgan.data.volume import Volume, open_labels, open_volume
from msgan.metrics import SIMILARITY, Scores, regional_scores_of
from msgan.translate import Translation
from msgan.translate.provenance import Provenance, beside, provenance
from msgan.types import Array, Box, InputError, Reader

if TYPE_CHECKING:
    import pandas as pd

FOREGROUND, BODY, IMAGE = "foreground", "body", "image"
"""Regions that need no file; others are those of the subject (:class:`Subject`)."""

LESION = "lesion"
"""Region of the subject's labels."""

SCORES = (*SIMILARITY, "voxels")
"""Columns of a table."""

CONVENTION = ("region", "dims", "range")
"""Columns that say how the scores of a line were measured: no numbers, which means would mix in."""


class Method(Protocol):
    """What a row of a table can do."""

    def translate(
        self, subject: Subject, out: str | os.PathLike[str], *, modality: str | None = None
    ) -> Translation:
        """Write the translation of one image of ``subject`` on its own grid."""
        ...


class Fixed:
    """A method that is always called with the same options, such as the side of a tile."""

    def __init__(self, method: Any, **options: Any) -> None:
        self.method = method
        self.options = options

    def translate(
        self, subject: Subject, out: str | os.PathLike[str], *, modality: str | None = None
    ) -> Translation:
        """Translate as the method does with these options."""
        done: Translation = self.method.translate(subject, out, modality=modality, **self.options)
        return done


@dataclass(frozen=True)
class Result:
    """One translation that a measure looks at.

    Attributes:
        method: Name of its row.
        path: Its file.
        subject: Who; the real image is ``subject.images[target]``.
        source: Modality that was translated.
        target: Modality it was translated to.
    """

    method: str
    path: Path
    subject: Subject
    source: str
    target: str


Measure = Callable[[Result], Mapping[str, float]]
"""Further columns of a table, by name; the same names for every result of a subject."""


def result_path(folder: str | os.PathLike[str], method: str, subject: str) -> Path:
    """Where :func:`score_table` writes a translation."""
    return Path(folder) / method.replace(" ", "_").replace(",", "") / f"{subject}.nii"


def score_table(
    methods: Mapping[str, Method],
    subjects: Iterable[Subject],
    source: str,
    target: str,
    intensity: IntensityMap,
    preparation: Preparation,
    folder: str | os.PathLike[str],
    *,
    regions: Sequence[str] = (FOREGROUND,),
    measures: Sequence[Measure] = (),
) -> pd.DataFrame:
    """Translate ``source`` images of subjects that have a real ``target`` image, and score them.

    Args:
        methods: By the name of their row.
        subjects: Usually the test split.
        source: Modality that is translated.
        target: Modality of the real image, on the grid of ``source``.
        intensity: The target's range that the methods write their results in.
        preparation: Decides foreground and range of the real image.
        folder: Where the translations go (:func:`result_path`), each with its provenance beside it
            (:class:`msgan.translate.provenance.Provenance`).
        regions: Where voxels count, see :func:`score_file`; those the subject has no file of are
            left out, apart from the first.
        measures: Give further columns.

    Returns:
        One line a method and subject: ``method``, ``subject``, ``ssim``, ``mae``, ``mse``,
        ``psnr`` (dB), ``nmse`` and ``voxels``, over the first region, intensities in [0, 1] as in
        the papers' tables; the same of further regions as ``lung_ssim`` and so on; ``seconds`` of
        the translation; :data:`CONVENTION`: name of the first region, ``2D`` or ``3D``, and what is
        shown as [0, 1] (:func:`range_of`); and what ``measures`` give.

    Raises:
        InputError: There is no subject with both images, or a file is at fault.
    """
    import pandas as pd

    lines = []
    for subject in subjects:
        if source not in subject.images or target not in subject.images:
            continue
        first, *others = regions
        known = [first, *(r for r in others if r in _regions(subject))]
        for name, method in methods.items():
            path = result_path(folder, name, subject.name)
            start = perf_counter()
            done = method.translate(subject, path, modality=source)
            seconds = perf_counter() - start
            if done is None:  # a method of one's own, which writes no sidecar
                trace = provenance(subject, source, target, path, intensity)
            else:
                trace = Provenance.load(beside(path))
            replace(trace, method=name, target=target, regions=tuple(known)).save(beside(path))
            line: dict[str, Any] = {"method": name, "subject": subject.name}
            line |= score_line(path, subject, target, intensity, preparation, known)
            line["seconds"] = seconds
            for measure in measures:
                line |= measure(Result(name, path, subject, source, target))
            lines.append(line)
    if not lines:
        raise InputError(f"no subject has both a {source} and a {target} image")
    return pd.DataFrame(lines)


def score_line(
    path: str | os.PathLike[str],
    subject: Subject,
    target: str,
    intensity: IntensityMap,
    preparation: Preparation,
    regions: Sequence[str],
) -> dict[str, Any]:
    """Scores of one translation as columns of a table; see :func:`score_table`."""
    line: dict[str, Any] = {}
    scored = score_regions(path, subject, target, intensity, preparation, regions)
    for region, score in scored.items():
        row = score.as_row()
        prefix = "" if region == regions[0] else f"{region}_"
        line |= {f"{prefix}{k}": row[k] for k in SCORES}
    dims = f"{scored[regions[0]].dims}D"
    stated = (regions[0], dims, range_of(preparation, intensity.unit))
    return line | dict(zip(CONVENTION, stated, strict=True))


def masked_regions(subject: Subject) -> tuple[str, ...]:
    """The foreground, and the regions that files of the subject state."""
    lesion = () if subject.labels is None else (LESION,)
    return (FOREGROUND, *lesion, *subject.regions)


def range_of(preparation: Preparation, unit: str) -> str:
    """What scores show as [0, 1], in words, with the unit of the source."""
    low = "the minimum" if preparation.low is None else f"{preparation.low:g}"
    if preparation.intensity == "window":
        return f"{low} to {preparation.high:g} {unit}".rstrip()
    return f"{low} to percentile {preparation.high:g} of the foreground"


def score_file(
    path: str | os.PathLike[str],
    subject: Subject,
    target: str,
    intensity: IntensityMap,
    preparation: Preparation,
    region: str = FOREGROUND,
) -> Scores:
    """Score a translation against the real image, each shown in its own range.

    The intensities of MR have no unit: the real image is mapped by its own range, as for
    training, the translation by the range it was written in. Voxels count where the real image
    is foreground: inside the subject's mask where there is one and above the threshold. With a
    ``crop`` of lungs, regions end at the real image's box around them: beyond it and its margin
    nothing was computed.
    Differs: the papers count the background as well, which every method gets right.

    Args:
        region: Where voxels count: ``foreground``, ``body`` (of the real image, holes filled:
            :func:`msgan.data.body.body_mask`), ``image`` (everywhere), ``lesion`` (the subject's
            labels) or a region of the subject.

    See :func:`score_table` for the other arguments.

    Raises:
        InputError: The two images lie on different grids, there is no such region, or a file is
            at fault.
    """
    return score_regions(path, subject, target, intensity, preparation, (region,))[region]


def score_regions(
    path: str | os.PathLike[str],
    subject: Subject,
    target: str,
    intensity: IntensityMap,
    preparation: Preparation,
    regions: Sequence[str],
) -> dict[str, Scores]:
    """:func:`score_file` in several regions, comparing the images once."""
    with ExitStack() as stack:
        pair = Pair.open(path, subject, target, intensity, preparation, stack)
        readers = {region: pair.region(region) for region in regions}
        scored: dict[str, Scores] = {}
        for group in (
            [r for r in regions if r == FOREGROUND],
            [r for r in regions if r != FOREGROUND],
        ):
            if group:
                scored |= regional_scores_of(
                    pair.fake,
                    pair.real(group[0]),
                    pair.image.grid.shape,
                    {r: readers[r] for r in group},
                    data_range=2.0,
                    black=-1.0,
                )
        return {r: scored[r].unit() for r in regions}


@dataclass(frozen=True)
class Pair:
    """A translation and the real image as scores compare them, each in [-1, 1] by its own range.

    Attributes:
        fake: Reads the translation.
        image: The real image, in source units.
        prepared: The same with its range and crop.
        mask: The subject's, if there is one.
        subject: Whose images they are.
        preparation: On the grid of the file.
        counted: Where there are values to score; None is everywhere.
        stack: Closes what is opened.
    """

    fake: Reader
    image: Volume
    prepared: Prepared
    mask: Volume | None
    subject: Subject
    preparation: Preparation
    counted: Reader | None
    stack: ExitStack

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        subject: Subject,
        target: str,
        intensity: IntensityMap,
        preparation: Preparation,
        stack: ExitStack,
    ) -> Pair:
        """Open both; see :func:`score_file` for the arguments and the errors."""
        own = preparation.updated(spacing_mm=None)
        # A result may be background and nothing else; what is not finite the scores refuse.
        fake = stack.enter_context(open_volume(path, check=False))
        image = stack.enter_context(open_volume(subject.images[target]))
        prepared = stack.enter_context(prepare(subject, target, own))
        if not fake.grid.same_as(image.grid):
            raise InputError(f"{path}: grid {fake.grid} is not the real image's, {image.grid}")
        mask = None
        if subject.mask is not None:
            mask = stack.enter_context(open_labels(subject.mask, like=image.grid))
        counted = computed_in(subject, target, own, stack)

        def read(box: Box) -> Array:
            return intensity.to_unit(fake.read(box))

        return cls(read, image, prepared, mask, subject, own, counted, stack)

    def region(self, name: str) -> Reader:
        """Where voxels count."""
        found = region_of(name, self.subject, self.image, self.mask, self.preparation, self.stack)
        return both(found, self.counted) or found

    def real(self, region: str) -> Reader:
        """The real image for a region: what is no foreground is background, as for a network."""
        mask = self.mask
        if region == FOREGROUND:
            own = self.preparation
            seen: Reader | None = region_of(region, self.subject, self.image, mask, own, self.stack)
        else:  # in other regions darkness is not background: lungs are below the threshold
            seen = None if mask is None else (lambda box: mask.read(box) != 0)
        crop = self.prepared.grid.in_crop if self.preparation.crop == "lungs" else None
        foreground = both(crop, seen)

        def read(box: Box) -> Array:
            values = self.prepared.intensity.to_unit(self.image.read(box))
            return values if foreground is None else np.where(foreground(box), values, -1.0)

        return read


def region_of(
    name: str,
    subject: Subject,
    image: Volume,
    mask: Volume | None,
    preparation: Preparation,
    stack: ExitStack,
) -> Reader:
    """A reader, bool, of a region of an image; see :func:`score_file` for the names.

    Args:
        name: Of the region.
        subject: Whose image it is.
        image: In source units.
        mask: The subject's, if there is one.
        preparation: States the threshold of the foreground.
        stack: Closes what has to be opened.

    Raises:
        InputError: The subject has no such region.
    """
    threshold = preparation.foreground
    if name in subject.regions:
        drawn = stack.enter_context(open_labels(subject.regions[name], like=image.grid))
        return lambda box: drawn.read(box) != 0
    if name == LESION and subject.labels is not None:
        labels = stack.enter_context(open_labels(subject.labels, like=image.grid))
        return lambda box: labels.read(box) != 0
    if name == IMAGE:
        return lambda box: np.ones(box.size, bool)
    if name == BODY:
        found = body_mask(image.read, image.grid, threshold)
    elif name == FOREGROUND:
        found = lambda box: image.read(box) > threshold  # noqa: E731
    else:
        raise InputError(
            f"{subject.name}: region {name!r} is none of {', '.join(_regions(subject))}"
        )
    return found if mask is None else (lambda box: found(box) & (mask.read(box) != 0))


def _regions(subject: Subject) -> tuple[str, ...]:
    """Names of the regions that results of a subject can be measured in."""
    lesion = () if subject.labels is None else (LESION,)
    return (FOREGROUND, BODY, IMAGE, *lesion, *subject.regions)


def computed_in(
    subject: Subject, target: str, preparation: Preparation, stack: ExitStack
) -> Reader | None:
    """Where a translation has values to score: with a crop of lungs the real image's box of them.

    The source's box may be another by less than the margin, which therefore does not count. None
    is everywhere.
    """
    if preparation.crop != "lungs":
        return None
    tight = preparation.updated(spacing_mm=None, margin=0)
    return stack.enter_context(prepare(subject, target, tight)).grid.in_crop


def both(one: Reader | None, other: Reader | None) -> Reader | None:
    """Where both are; None is everywhere."""
    if one is None or other is None:
        return one or other
    return lambda box: one(box) & other(box)
