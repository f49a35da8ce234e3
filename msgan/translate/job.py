"""The tiles of one scale as a value that can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import torch

from msgan import pyramid, sketch
from msgan.networks import inference
from msgan.pyramid import Store
from msgan.training.run import Run
from msgan.translate.scale import HighScale, LowScale, Precision, blinded
from msgan.translate.work import Stage, Work
from msgan.types import InputError, Shape

ONE = Lock()
"""A generator keeps room for one tile's features; threads of a worker take turns."""


@dataclass(frozen=True)
class Job:
    """One scale of one translation.

    Attributes:
        run: Folder of the trained cascade.
        work: Folder of the translation's scratch; every process must see both.
        out: Store of y_i, which is there already.
        scale: i of s_i.
        shape: Of s_i.
        tile: Sides of a tile.
        device: Where to compute.
        precision: Of the network.
        blind: What the generators of s1..sn do not see: more than the folder says if it is
            blacked out in this translation.
    """

    run: Path
    work: Path
    out: Path
    scale: int
    shape: Shape
    tile: Shape
    device: str
    precision: Precision
    blind: tuple[str, ...]

    @classmethod
    def of(
        cls,
        run: Run,
        work: Work,
        stage: Stage,
        scale: int,
        shape: Shape,
        tile: Shape,
        device: torch.device,
        precision: Precision = "float32",
    ) -> Job:
        """With folders in full: another process may stand elsewhere."""
        folders = run.folder.resolve(), work.folder.resolve(), stage.store.path.resolve()
        blind = run.config.blind
        return cls(*folders, scale, shape, tile, str(device), precision, blind)

    def open(self) -> LowScale | HighScale:
        """Load the generator and find the stores."""
        run, work, device = Run.open(self.run), Work(self.work), torch.device(self.device)
        generator = inference.prepare(run.generator(self.scale), device)
        i = max(self.scale, 1)  # y0 is made from the sketch of s1
        image = work.finished(f"s{i}")
        if image is None:
            raise InputError(f"{self.work}: holds no scale {i} of an image, or is not seen here")
        labels = work.finished(f"l{i}")
        drawn = sketch.sketch_reader(
            image.read,
            image.shape,
            run.config.sketch,
            labels.read if labels else None,
            device,
            run.config.labels or (1,),
            image.rim,
        )
        if self.scale == 0:
            return LowScale(generator, drawn, self.shape, self.tile, device, self.precision)
        below = work.finished(f"y{self.scale - 1}")
        seen, context = blinded(self.blind, drawn, below.read if below else None)
        return HighScale(
            generator,
            seen,
            context,
            self.shape,
            self.tile,
            device,
            self.precision,
            source=pyramid.halved(image.read, len(image.shape)),
        )

    def compute(self, number: int) -> int:
        """Make and store one tile, in a process that may be asked for more of the same job."""
        scale, store = _opened(self)
        loaded = scale.load(number)
        with ONE:
            box, values = scale.compute(loaded)  # type: ignore[arg-type]
        store.write(box, values)
        return number


@lru_cache(maxsize=1)
def _opened(job: Job) -> tuple[LowScale | HighScale, Store]:
    return job.open(), Store.open(job.out)
