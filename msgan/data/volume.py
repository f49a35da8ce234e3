"""Images of any file format, read region by region.

Formats: NIfTI (:mod:`.formats.nifti`), MGH (:mod:`.formats.mgh`), MetaImage and NRRD
(:mod:`.formats.itk`), DICOM series (:mod:`.formats.dicom`), OME-Zarr (:mod:`.formats.omezarr`),
PNG and TIFF (:mod:`.formats.picture`).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from types import TracebackType

import numpy as np

from msgan import paths
from msgan.data.extent import implausible, uneven
from msgan.data.grid import Grid
from msgan.data.guard import call, guarded, silence
from msgan.data.padding import Padding, emptied, is_padding
from msgan.data.pieces import Visitor
from msgan.data.places import reading
from msgan.data.sources import READERS, source_of
from msgan.data.store import Check, Source, named, remove_own, unpack
from msgan.data.writing import write_volume
from msgan.types import Array, Box, InputError

__all__ = ["READERS", "Grid", "Volume", "open_labels", "open_volume", "write_volume"]

WAY_OUT = "correct the header, or let it state the unit of length"
LABEL_SHIFT = 1e-3
"""Labels lie on their image if no corner is further off than this fraction of a voxel."""


class Volume:
    """An image whose voxels are read region by region; close it to remove its scratch.

    Attributes:
        path: Where the image was opened from.
        grid: Shape and affine.
        unit: ``HU`` for CT where the file tells so, else ``a.u.``.
        notes: What to tell of the file: statements that contradict each other or are missing.
        about: What the file says of itself, as that it was generated; empty for most formats.
        generated: Whether it says that it was generated.
        extremes: Smallest and largest voxel value; ``None`` if opened with ``check=False``.
        unpacked_bytes: What lies in the scratch folder.
    """

    def __init__(
        self, path: Path, source: Source, scratch: Path, labels: bool, padding: Padding = None
    ) -> None:
        self.path = path
        self.grid = source.grid
        self.unit = source.unit
        self.about = source.about
        self.generated = source.generated
        self.notes = source.notes
        if note := uneven(source.grid):
            self.notes = (*self.notes, note)
        self._size = implausible(source.grid, source.measured)
        if self._size and source.measured and max(source.grid.spacing) < 1:
            # Microscopy states its unit: it is believed, but told.
            self.notes = (*self.notes, self._size)
            self._size = ""
        self.extremes: tuple[float, float] | None = None
        self.unpacked_bytes = 0
        self._source = source
        self._scratch = scratch
        self._labels = labels
        self._padding = padding
        self._region = source.region
        self._lock = Lock()
        self._remove: Callable[[], object] = lambda: None
        self._closed = False

    def read(self, box: Box) -> Array:
        """The voxels of ``box`` as float32 (int32 for labels); the box must lie in the image.

        Raises:
            ValueError: The box leaves the image, or the volume is closed.
            InputError: Labels opened with ``check=False`` are not integers; a chunk is damaged;
                or :func:`write_volume` is about to replace this very image.
        """
        if box.clipped(self.grid.shape) != box:
            raise ValueError(f"{box} leaves {self.path} of shape {self.grid.shape}")
        reading(self.path)
        try:
            self._unpack(None)
            return np.ascontiguousarray(self._values(self._stored(box)))
        except InputError as error:
            raise named(self.path, error) from error

    def check_size(self) -> None:
        """Refuse an image that no body can be as large or small as.

        Raises:
            InputError: Its longest side is above 10 m, or below 1 mm where the file states no
                unit of length, as micrometres, from which that follows.
        """
        if self._size:
            raise InputError(f"{self.path}: {self._size}: {WAY_OUT}")

    def whole(self) -> Array:
        """All voxels at once; memory grows with the image."""
        return self.read(Box.whole(self.grid.shape))

    def close(self) -> None:
        """Remove the scratch; reading is over."""
        self._closed = True
        self._remove()

    def __enter__(self) -> Volume:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Volume({str(self.path)!r}, {self.grid}, {self.unit})"

    def visit(self, *looks: Visitor) -> None:
        """Show each of ``looks`` every voxel once, in pieces of at most 8 MiB, as ``read`` does.

        The first scan also checks every voxel, as :func:`open_volume` says, and finds the
        ``extremes``; with ``check=False`` there are passes over the file to be saved so.

        Raises:
            ValueError: The volume is closed.
            InputError: Voxels are bad.
        """
        check = Check(self._source, self._labels) if self.extremes is None else None

        def show(box: Box, stored: Array) -> None:
            if check:
                there = self._measured(stored)
                if there.size:
                    check.add(there)
            if looks:
                values = self._values(stored)
                for look in looks:
                    look(box, values)

        try:
            if not self._unpack(show):
                for box in self._source.pieces():
                    show(box, self._stored(box))
            if check:
                if check.low > check.high and not check.bad:
                    raise InputError(f"every voxel is padding ({self._padding})")
                self.extremes = check.verdict()
        except InputError as error:
            raise named(self.path, error) from error

    def _stored(self, box: Box) -> Array:
        region = self._region
        if region is None or self._closed:
            raise ValueError(f"{self.path} is closed")
        stored = call(lambda: region(box))
        if stored.shape != box.size:
            raise InputError(f"decoded to shape {stored.shape} for {box}")
        return stored

    def _values(self, stored: Array) -> Array:
        return emptied(self._source.values(stored, self._labels), self._padding)

    def _measured(self, stored: Array) -> Array:
        """Stored values that are not padding; all of them, in their shape, where there is none."""
        if self._padding is None:
            return stored
        return stored[~is_padding(self._source.values(stored, self._labels), self._padding)]

    def _unpack(self, look: Visitor | None) -> bool:
        """Unpack the file if that has to be done and was not; whether ``look`` has seen it."""
        if self._region is not None:
            return False
        with self._lock:
            if self._closed or self._region is not None:
                return False
            with silence:
                file, self._region = unpack(self._source, self._scratch, look)
            self.unpacked_bytes = file.stat().st_size
            # Also runs when the volume is forgotten and when the program ends.
            self._remove = weakref.finalize(self, remove_own, file, os.getpid())
            return True


def open_volume(
    path: str | os.PathLike[str],
    *,
    scratch: Path | None = None,
    check: bool = True,
    padding: Padding = None,
) -> Volume:
    """Open an image of 2 or 3 axes.

    Voxels that are not compressed (NIfTI, MGH, MetaImage, NRRD, TIFF) are read where they are
    and OME-Zarr is read by chunks; everything compressed is unpacked once into ``scratch``, by
    streaming (pictures are held in memory).

    Args:
        path: ``.nii``, ``.nii.gz``, ``.hdr`` with its ``.img``, ``.mgh``, ``.mgz``, ``.mha``,
            ``.mhd``, ``.nrrd``, ``.nhdr``, ``.png``, ``.tif``, ``.tiff``, one DICOM slice, or a
            folder: ``.zarr`` or a DICOM series.
        scratch: Folder for unpacked voxels; by default ``MSGAN_SCRATCH`` or the temporary folder.
        check: Look at every voxel before returning. Without, only headers are read now, and
            unpacking waits for the first ``read``.
        padding: What stands for nothing, ``nan`` or a value: such voxels are read as NaN, and
            are none of the ``extremes``. Without, NaN is refused.

    Raises:
        InputError: The file is missing, damaged or of an unknown kind; is 4D or RGB; its affine
            is singular or not finite; it has NaN or infinite voxels or only one value; a series
            lacks slices, is tilted or mixed.
    """
    return _open(Path(path), scratch, labels=False, check=check, padding=padding)


def open_labels(
    path: str | os.PathLike[str], like: Grid | None = None, *, scratch: Path | None = None
) -> Volume:
    """Open a label map: like :func:`open_volume`, but voxels are int32 and all may be equal.

    Args:
        path: See :func:`open_volume`.
        like: The grid of the image the labels belong to.
        scratch: See :func:`open_volume`.

    Raises:
        InputError: A value is further than 0.001 from an integer, the grid is not that of
            ``like`` (to a thousandth of a voxel), or the file is bad.
    """
    volume = _open(Path(path), scratch, labels=True, check=False)
    try:
        if like is not None and (difference := _difference(volume.grid, like)):
            raise InputError(f"{path}: labels do not lie on their image: {difference}")
        _check(volume)
    except BaseException:
        volume.close()
        raise
    return volume


def _open(
    path: Path, scratch: Path | None, *, labels: bool, check: bool, padding: Padding = None
) -> Volume:
    try:
        with silence, guarded():
            source = source_of(path)
        if not all(map(np.isfinite, (source.slope, source.inter))) or not source.slope:
            raise InputError(f"voxels are stored value x {source.slope} + {source.inter}")
    except InputError as error:
        raise named(path, error) from error
    volume = Volume(path, source, scratch or paths.scratch_root(), labels, padding)
    if check:
        _check(volume)
    return volume


def _check(volume: Volume) -> None:
    try:
        volume.visit()
    except BaseException:
        volume.close()
        raise


def _difference(grid: Grid, like: Grid) -> str:
    """How ``grid`` differs from ``like``; empty where it does not."""
    if grid.dims != like.dims:
        return f"image of {grid.dims} axes instead of {like.dims}"
    if grid.shape != like.shape:
        return f"shape {grid.shape} instead of {like.shape}"
    corners = np.array(list(np.ndindex((2,) * grid.dims))) * (np.array(grid.shape) - 1)
    change = grid.affine - like.affine
    shift = np.linalg.norm(corners @ change[:-1, :-1].T + change[:-1, -1], axis=1).max()
    if shift <= LABEL_SHIFT * min(like.spacing):
        return ""
    return f"{grid} instead of {like} ({shift:.3g} mm off)"
