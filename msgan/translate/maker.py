"""What the frame of a translation and a method have to say to each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import torch

from msgan.config import Preparation
from msgan.data.cohort import Prepared, Subject
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.padding import Padding
from msgan.translate.plan import Limits, Plan
from msgan.translate.provenance import Provenance
from msgan.translate.scale import Precision
from msgan.translate.scratch import Scratch
from msgan.types import Reader, Shape

if TYPE_CHECKING:
    from msgan.translate.engine import Engine

Source = Subject | str | os.PathLike[str]

Progress = Callable[[str, int, int], None]
"""Called with a stage, how many of its pieces are done, and how many there are; first before any
is computed."""


def silent(stage: str, done: int, count: int) -> None:
    """Progress that nobody asked for."""


class Options(TypedDict, total=False):
    """What every method's ``translate`` takes beside the image and the result.

    Attributes:
        modality: Which image of a subject; None: the only one, or what the method was trained on.
            Of a file, what it shows, if that is known.
        labels: Pathology labels on the image's grid, for a method that was trained with labels.
        device: ``auto``, ``cpu`` or ``cuda``.
        memory: Bytes the process may take in host memory; None: see :class:`Limits`.
        gpu_memory: Bytes of tensors on the GPU; None: see :class:`Limits`.
        tile: Side of a tile; None takes the largest that fits.
        precision: Of the networks' arithmetic.
        padding: Voxels of the image that are background, ``nan`` or those of a value; None: as
            the preparation says.
        keep: Folder for the images of all scales that are made, each ``.nii`` on its own grid.
        engine: Computes the tiles, as :class:`msgan.translate.cluster.Cluster`; None: this
            process.
        progress: Called as tiles are done.
        remark: Called with what is to be told of the image, before anything is computed.
        dicom: The result is a DICOM series, and ``out`` a folder.
        keep_identity: The series states patient and study of the source, which is DICOM too.
    """

    modality: str | None
    labels: str | os.PathLike[str] | None
    device: str
    memory: int | None
    gpu_memory: int | None
    tile: int | None
    precision: Precision
    padding: Padding
    keep: str | os.PathLike[str] | None
    engine: Engine | None
    progress: Progress | None
    remark: Callable[[str], None] | None
    dicom: bool
    keep_identity: bool


@dataclass(frozen=True)
class Translation:
    """What a translation did.

    Attributes:
        path: The written file, or folder of a DICOM series.
        plan: Tiles, memory and disk as planned.
        seconds: Wall time.
        run: Folder of the run; None for a method without one.
        grid: The working grid the image was computed on.
        tiles: Voxels between the faces of tiles along each axis, of each scale that networks made;
            of the published family those are the patches it keeps.
        notes: What to tell of the files that were read, and of how the result was made.
        trace: What its sidecar says.
    """

    path: Path
    plan: Plan
    seconds: float
    run: Path | None
    grid: Grid
    tiles: tuple[Shape, ...]
    notes: tuple[str, ...]
    trace: Provenance


@dataclass(frozen=True)
class Making:
    """What a method is to make, of which image, and by what means.

    Attributes:
        subject: The image on its working grid.
        work: Scratch of this translation: what is complete in it is made already.
        device: Where networks compute.
        limits: What the user allows.
        plan: What the method has planned.
        engine: Computes the tiles of networks; None: this process.
        keep: Whether all images that are made are kept to the end.
        progress: See :data:`Progress`.
        modality: Name of the source modality, if it is known.
    """

    subject: Prepared
    work: Scratch
    device: torch.device
    limits: Limits
    plan: Plan
    engine: Engine | None = None
    keep: bool = False
    progress: Progress | None = None
    modality: str | None = None


@dataclass(frozen=True)
class Made:
    """What a method has made: images in [-1, 1].

    Attributes:
        result: On the working grid.
        images: Those that are kept if wanted, with their grids, by name.
        notes: What to tell of how it was made.
        spread: Standard deviation of the estimates it is made of, less 1, on the working grid; of
            a method that is asked for it.
        match: How the source was matched (:class:`msgan.match.fusion.Polarity`), if it was.
        recolourings: From how many recoloured copies of the image s0 drew too.
    """

    result: Reader
    images: Mapping[str, tuple[Grid, Reader]]
    notes: tuple[str, ...] = ()
    spread: Reader | None = None
    match: Mapping[str, Any] | None = None
    recolourings: int = 0


class Maker(Protocol):
    """What the frame asks of a method.

    Attributes:
        name: Of its row in a table.
        preparation: How the source becomes an image in [-1, 1].
        intensity: Range of the result in source units; None: the image's own.
        target: Modality it makes; empty where it makes none in particular.
        labels: Values of the labels that it sees; empty: it sees none.
        source: Modality that it was trained to translate; None: any.
        run: Folder of its run, if it has one.
        weights: SHA-256 of the weights of each network, by the name of what it makes.
        dims: Axes of the images it takes; None: 2 or 3.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def preparation(self) -> Preparation: ...  # noqa: D102

    @property
    def intensity(self) -> IntensityMap | None: ...  # noqa: D102

    @property
    def target(self) -> str: ...  # noqa: D102

    @property
    def labels(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def source(self) -> str | None: ...  # noqa: D102

    @property
    def run(self) -> Path | None: ...  # noqa: D102

    @property
    def weights(self) -> Mapping[str, str]: ...  # noqa: D102

    @property
    def dims(self) -> int | None: ...  # noqa: D102

    def identity(self) -> list[Any]:
        """All that decides the result beside the image and the code, as JSON holds it."""
        ...

    def check(self, device: torch.device, limits: Limits) -> None:
        """Refuse with an :class:`InputError` what can be refused before an image is opened."""
        ...

    def plan(
        self,
        subject: Prepared,
        device: torch.device,
        limits: Limits,
        *,
        output: int,
        keep: bool = False,
        staged: bool = False,
    ) -> Plan:
        """What a translation takes.

        Args:
            subject: The image on its working grid.
            device: Where it will be computed.
            limits: What the user allows.
            output: Bytes of the result.
            keep: Whether all images are kept to the end.
            staged: Whether the result is staged in the scratch folder, as for ``.nii.gz``.

        Raises:
            InputError: Memory does not suffice.
        """
        ...

    def make(self, making: Making) -> Made:
        """Make the result, or go on where an interrupted translation stopped."""
        ...

    def faces(self, planned: Plan) -> tuple[Shape, ...]:
        """See :attr:`Translation.tiles`."""
        ...
