"""What all methods without networks share: one way to translate, and what the frame asks."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Unpack

import numpy as np
import torch

from msgan.config import Preparation
from msgan.data.cohort import Prepared
from msgan.data.intensity import IntensityMap
from msgan.memory.tiles import Need
from msgan.translate import Limits, Plan, Translation, translated
from msgan.translate.maker import Made, Making, Options, Source
from msgan.translate.plan import STREAM, largest, resident
from msgan.types import Array, InputError, Reader, Shape


class Untrained(ABC):
    """A method that computes in host memory (:class:`msgan.translate.maker.Maker`).

    Attributes:
        name: Of its row in a table.
        side: Of a tile, by dimensions; None: the result is computed as it is written.
        host: Bytes of host memory that tiles take.
        preparation: How the source becomes an image in [-1, 1].
        intensity: Range of the result in source units; None: the image's own.
    """

    name: str
    side: ClassVar[dict[int, int] | None] = None
    host: ClassVar[int] = 0
    target = ""
    labels: tuple[int, ...] = ()
    source: str | None = None
    run: Path | None = None
    weights: Mapping[str, str] = MappingProxyType({})
    dims: int | None = None

    def __init__(self, preparation: Preparation, intensity: IntensityMap | None) -> None:
        self.preparation = preparation
        self.intensity = intensity

    @abstractmethod
    def read(self, making: Making) -> Reader:
        """The result on the working grid, in [-1, 1]."""

    @abstractmethod
    def parameters(self) -> list[Any]:
        """All that decides the result beside preparation and range, as JSON holds it."""

    def scratch(self, shape: Shape) -> int:
        """Bytes it keeps in the scratch folder for an image of ``shape``."""
        return 0

    def identity(self) -> list[Any]:
        """See :class:`msgan.translate.maker.Maker`, as for the following."""
        return [*self.parameters(), self.intensity and self.intensity.to_dict()]

    def check(self, device: torch.device, limits: Limits) -> None:  # noqa: D102
        if limits.precision != "float32":
            raise InputError(f"precision {limits.precision}: the {self.name} computes in float32")
        if limits.tile is not None and limits.tile < 1:
            raise InputError(f"tile {limits.tile}: expected at least 1 voxel")

    def sides(self, shape: Shape, tile: int | None) -> Shape:
        """Of a tile."""
        side = tile or (self.side or {}).get(len(shape), max(shape))
        return tuple(min(side, n) for n in shape)

    def plan(  # noqa: D102
        self,
        subject: Prepared,
        device: torch.device,
        limits: Limits,
        *,
        output: int,
        keep: bool = False,
        staged: bool = False,
    ) -> Plan:
        shape, cpu = subject.grid.shape, torch.device("cpu")
        tried, need = [self.sides(shape, limits.tile)], Need(self.host, 0.0, 0)
        tiles = largest(self.name, shape, tried, lambda tile: need, Limits(limits.memory), cpu)
        scratch = self.scratch(shape) + (output if staged else 0) + subject.unpacked_bytes
        scales = (tiles,) if self.side else ()
        return Plan(scales, "float32", resident() + STREAM, scratch, output)

    def make(self, making: Making) -> Made:  # noqa: D102
        return Made(self.read(making), {})

    def faces(self, planned: Plan) -> tuple[Shape, ...]:  # noqa: D102
        return ()

    def translate(
        self, subject: Source, out: str | os.PathLike[str], **options: Unpack[Options]
    ) -> Translation:
        """Translate one image; see :func:`msgan.translate.frame.translated`."""
        return translated(self, subject, out, **options)


def digest(*arrays: Array) -> str:
    """SHA-256 of the values of arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
