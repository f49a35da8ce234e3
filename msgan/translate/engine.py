"""Who computes the tiles of a scale: this process, or a cluster (:mod:`.cluster`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from msgan.memory import process
from msgan.translate.scale import make
from msgan.translate.scale_task import ScaleTask
from msgan.translate.scratch import StoredScale


class Engine(Protocol):
    """Computes the tiles of a job into the store of a stage."""

    def run(self, job: ScaleTask, numbers: Iterable[int], stage: StoredScale) -> Iterator[int]:
        """Compute, write and note tiles; yield the number of each when that is done."""
        ...


class LocalExecutor:
    """Tiles one after the other in this process, the next one read meanwhile."""

    def run(self, job: ScaleTask, numbers: Iterable[int], stage: StoredScale) -> Iterator[int]:
        """See :class:`Engine`."""
        for number, box, values in make(job.open(), numbers):
            stage.write(number, box, values)
            process.give_back()  # else peaks vary by half: the heap is left in pieces
            yield number
