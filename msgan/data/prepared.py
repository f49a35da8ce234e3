"""One image prepared for the cascade: on the working grid and in [-1, 1]."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from msgan.config import Preparation
from msgan.data.body import body_mask
from msgan.data.distinct import Distinct
from msgan.data.foreground import Foreground, Scan
from msgan.data.geometry import WorkingGrid
from msgan.data.grid import Grid
from msgan.data.hounsfield import Air, doubt
from msgan.data.intensity import IntensityMap
from msgan.data.lung import lung_mask
from msgan.data.padding import filled
from msgan.data.pieces import Visitor
from msgan.data.subject import Subject
from msgan.data.volume import Volume, open_labels, open_volume
from msgan.types import Array, Box, InputError, Reader

BACKGROUND = -1.0

NEARLY = 0.01
"""Beyond s_n what comes this near to background is background: half a per cent of the range."""

SKIN = 0.05
"""Skin is at least so far up the range; noise of the air around a body is not."""

DARKEST = 1 / 512
"""Of the range, where what is darker inside a body is shown: just above background, 4 HU of a CT's
2048."""

LARGEST = 255
"""Largest label: they are kept in 8 bits."""

SHOWN = 12
"""Labels of a message, where there are many."""

VACUUM = -1024.0
"""HU of padding while lungs are looked for."""


@dataclass(frozen=True)
class Prepared:
    """One image on its working grid; close it when done (or use it in a ``with``).

    Attributes:
        name: Of the subject.
        modality: Of the image.
        grid: Where the cascade computes, and the way back to the file.
        intensity: How source values became [-1, 1].
    """

    name: str
    modality: str
    grid: WorkingGrid
    intensity: IntensityMap
    _image: Reader = field(repr=False)
    _labels: Reader | None = field(default=None, repr=False)
    _volumes: tuple[Volume, ...] = field(default=(), repr=False)

    @property
    def has_labels(self) -> bool:
        """Whether there are pathology labels."""
        return self._labels is not None

    def read(self, box: Box) -> Array:
        """The image in ``box`` of s_n: float32 in [-1, 1].

        Beyond the file's faces it goes on by repeating its outermost voxels. Beyond s_n what is
        nearly background is background: smoothing for larger voxels reaches beyond the crop.
        """
        part = self.intensity.to_unit(self._image(box))
        inside = box.clipped(self.grid.shape)
        if inside == box:
            return part
        out = np.where(part < BACKGROUND + NEARLY, np.float32(BACKGROUND), part)
        if inside.voxels:
            out[inside.inside(box).slices] = part[inside.inside(box).slices]
        return out

    def read_source(self, box: Box) -> Array:
        """The image in ``box`` of s_n in source units, which nothing has cut off."""
        return self._image(box)

    def read_labels(self, box: Box) -> Array | None:
        """The labels in ``box`` of s_n, uint8, which go on as the image does; None: there are none.

        Raises:
            InputError: A label does not fit 8 bits.
        """
        if self._labels is None:
            return None
        labels = self._labels(box)
        if labels.size and not 0 <= labels.min() <= labels.max() <= LARGEST:
            raise InputError(
                f"{self.name}: labels from {labels.min()} to {labels.max()}: expected 0 to 255"
            )
        return labels.astype(np.uint8)

    def to_source(self, read_unit: Reader, intensity: IntensityMap | None = None) -> Reader:
        """A reader on the source grid, in source units, of an image in [-1, 1] on s_n.

        Args:
            read_unit: For example a translated image.
            intensity: Its own mapping where it is of another domain; by default this image's.
        """
        used = intensity or self.intensity
        return self.grid.read_source(lambda box: used.from_unit(read_unit(box)), used.low)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell of the files, each with its path."""
        return tuple(f"{volume.path}: {note}" for volume in self._volumes for note in volume.notes)

    @property
    def unpacked_bytes(self) -> int:
        """What lies in the scratch folder until it is closed."""
        return sum(volume.unpacked_bytes for volume in self._volumes)

    def close(self) -> None:
        """Close the files."""
        for volume in self._volumes:
            volume.close()

    def __enter__(self) -> Prepared:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def prepare(
    subject: Subject | str | os.PathLike[str],
    modality: str | None,
    prep: Preparation,
    labels: str | os.PathLike[str] | None = None,
    grid: WorkingGrid | None = None,
    *,
    axes: tuple[int, str] | None = None,
    values: Sequence[int] = (),
    wanted: str = "",
) -> Prepared:
    """Open an image, plan its working grid and find its intensity range.

    Where the subject has a mask, foreground is what the mask and the threshold say together, and
    everything outside the mask is background: a whole head becomes a skull-stripped one. So does
    what ``prep.padding`` names.

    With ``prep.body`` background is what lies outside the body found in the image itself
    (:func:`msgan.data.body.body_mask`), and nothing inside.

    With ``prep.crop`` of ``lungs`` the working grid is the box around the lungs of a chest CT
    (2019, section 3.2), found in the image itself (:func:`msgan.data.lung.lung_mask`), and not
    that of the foreground; within the box all is kept. Outside a result is background.

    Args:
        subject: Of a cohort, or simply the path of an image.
        modality: Of the image; None takes the only one.
        prep: How to prepare; of its ``ranges`` that of the modality counts.
        labels: Label map on the image's grid; by default the subject's own.
        grid: A grid planned before, of another image on the same source grid, so that both can
            be compared voxel by voxel; None plans one.
        axes: How many axes the image must have, and for the message who says so.
        values: Labels that may occur beside 0, where labels will be drawn; empty: any.
        wanted: Unit of the images a run was trained on; where values speak against it, the
            ``notes`` say so.

    Raises:
        InputError: A file is at fault or does not fit; the message begins with its path.
    """
    if not isinstance(subject, Subject):
        path = Path(subject)
        subject = Subject(path.name, {modality or "image": path})
    modality, path = subject.image(modality)
    prep = prep.of(modality)
    labels = labels or subject.labels
    opened: list[Volume] = []
    try:
        image = open_volume(path, check=False, padding=prep.padding)  # the first scan checks it
        opened.append(image)
        if axes is not None and image.grid.dims != axes[0]:
            raise InputError(f"{path}: image of {image.grid.dims} axes, {axes[1]} {axes[0]}")
        image.check_size()
        mask = None
        if subject.mask is not None:
            mask = open_labels(subject.mask, like=image.grid)
            opened.append(mask)
        shape = image.grid.shape
        seen = Foreground(shape, prep.foreground)
        air = Air()
        scan = _masked_scan(image, mask, prep.foreground)
        distinct = Distinct()

        def look(box: Box, part: Array) -> None:
            seen.add(box, part)
            distinct.add(box, part)

        scan(look, air.add)
        if distinct.note:
            image.notes = (*image.notes, distinct.note)
        try:
            if grid is None:
                lungs = prep.crop == "lungs"
                read = image.read if prep.padding is None else filled(image.read, VACUUM)
                box = lung_mask(read, image.grid).box if lungs else seen.box()
                grid = WorkingGrid.plan(
                    image.grid, box, prep.spacing_mm, prep.scales, prep.margin, prep.longest
                )
            elif not grid.source.same_as(image.grid):
                raise InputError(f"its grid {image.grid} is not that planned for, {grid.source}")
            unit = subject.units.get(modality, image.unit)
            assert image.extremes is not None
            if text := doubt(air, image.extremes, unit, prep, wanted):
                image.notes = (*image.notes, text)
            intensity = _intensity(prep, seen, scan, unit)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        shown = _masked(image.read, mask.read if mask else None, intensity.low)
        if prep.padding is not None:
            shown = filled(shown, intensity.low)
        if prep.body:
            shown = _body(shown, image.grid, prep, intensity)
        read_labels = None
        if labels is not None:
            opened.append(open_labels(labels, like=image.grid))
            if values:
                require_values(opened[-1], values)
            read_labels = grid.read_working(opened[-1].read, order=0)
        read = grid.read_working(shown)
        return Prepared(subject.name, modality, grid, intensity, read, read_labels, tuple(opened))
    except BaseException:
        for volume in opened:
            volume.close()
        raise


def require_values(labels: Volume, values: Sequence[int]) -> None:
    """Refuse a label map with other labels than those that are drawn.

    Args:
        labels: An open label map.
        values: Labels that may occur beside 0.

    Raises:
        InputError: Others do.
    """
    assert labels.extremes is not None
    low, high = (int(n) for n in labels.extremes)
    wanted = ", ".join(map(str, sorted({0, *values})))
    if not 0 <= low <= high <= LARGEST:
        raise InputError(f"{labels.path}: holds labels from {low} to {high}: expected {wanted}")
    counts = np.zeros(LARGEST + 1, dtype=np.int64)

    def count(box: Box, part: Array) -> None:
        counts[:] += np.bincount(part.ravel(), minlength=LARGEST + 1)

    labels.visit(count)
    there = [int(n) for n in counts.nonzero()[0]]
    if set(there) - {0, *values}:
        shown = ", ".join(map(str, there[:SHOWN])) + (", ..." if len(there) > SHOWN else "")
        raise InputError(f"{labels.path}: holds labels {shown}: expected {wanted}")


def resolve_scales(
    subjects: Iterable[Subject], modality: str | None, prep: Preparation
) -> Preparation:
    """The preparation with the number of scales that every subject can share.

    A cascade has one number of scales, but left open it follows from each image's size. The
    largest any image needs makes the longest side of s0 at most ``prep.longest`` for all.
    """
    if prep.scales is not None:
        return prep
    scales = 0
    for subject in subjects:
        with prepare(subject, modality, prep) as ready:
            scales = max(scales, ready.grid.scales)
    if scales == 0:
        raise InputError("no subject to find the number of scales of")
    return prep.updated(scales=scales)


def _masked(read: Reader, mask: Reader | None, outside: float) -> Reader:
    """The image where the mask is not 0, ``outside`` elsewhere."""
    if mask is None:
        return read
    return lambda box: np.where(mask(box) != 0, read(box), np.float32(outside))


def _body(read: Reader, grid: Grid, prep: Preparation, intensity: IntensityMap) -> Reader:
    """The image with background outside its body, and nowhere inside."""
    low, extent = intensity.low, intensity.high - intensity.low
    inside = body_mask(read, grid, max(prep.foreground, low + SKIN * extent))
    least = np.float32(low + DARKEST * extent)
    return lambda box: np.where(inside(box), np.maximum(read(box), least), np.float32(low))


def _masked_scan(image: Volume, mask: Volume | None, outside: float) -> Callable[..., None]:
    """The scan of an image with ``outside`` where the mask is 0.

    Called with a look at that, and where wanted with one at the image without mask.
    """

    def scan(look: Visitor, bare: Visitor | None = None) -> None:
        def masked(box: Box, part: Array) -> None:
            shown = part if mask is None else np.where(mask.read(box) != 0, part, outside)
            look(box, shown.astype(part.dtype, copy=False))

        image.visit(masked, *([bare] if bare else []))

    return scan


def _intensity(prep: Preparation, seen: Foreground, scan: Scan, unit: str) -> IntensityMap:
    if prep.intensity == "window":
        if prep.low is None:
            raise InputError("an intensity window needs its low end")
        return IntensityMap.window(prep.low, prep.high, unit)
    return IntensityMap.of_foreground(seen, scan, prep.high, prep.low, unit)
