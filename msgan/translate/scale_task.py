"""The tiles of one scale as a value that can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import torch

from msgan import pyramid, sketch
from msgan.appearance import Appearance
from msgan.match import slope
from msgan.networks import inference
from msgan.pyramid import Store, read_continued
from msgan.runs.run import Run
from msgan.translate.overlap import OverlapScale, Window
from msgan.translate.scale import ImageSource, Precision, Source, TiledScale, blinded, sources
from msgan.translate.scratch import Scratch, StoredScale
from msgan.types import InputError, Reader, Shape

if TYPE_CHECKING:
    from msgan.translate.generation import GeneratedScale
    from msgan.translate.plan import ScalePlan

ONE = Lock()
"""A generator keeps room for one tile's features; threads of a worker take turns."""


@dataclass(frozen=True)
class ScaleTask:
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
        drop_inputs: What the generators of s1..sn do not see: more than the folder says if it is
            blacked out in this translation.
        after: See :class:`msgan.translate.generation.GeneratedScale`.
        window: Likewise.
        context: Likewise.
        recoloured: Likewise.
        matched: Likewise.
    """

    run: Path
    work: Path
    out: Path
    scale: int
    shape: Shape
    tile: Shape
    device: str
    precision: Precision
    drop_inputs: tuple[str, ...]
    after: str | None = None
    window: Window | None = None
    context: str | None = None
    recoloured: int = 0
    matched: bool = False

    @classmethod
    def of(
        cls,
        scale: GeneratedScale,
        own: ScalePlan,
        work: Scratch,
        stage: StoredScale,
        device: torch.device,
        precision: Precision = "float32",
    ) -> ScaleTask:
        """With folders in full: another process may stand elsewhere."""
        run = scale.run
        return cls(
            run.folder.resolve(),
            work.folder.resolve(),
            stage.store.path.resolve(),
            scale.scale,
            own.shape,
            own.tile,
            str(device),
            precision,
            run.config.drop_inputs,
            scale.after,
            scale.window,
            scale.context,
            scale.recoloured,
            scale.matched,
        )

    def open(self) -> TiledScale | OverlapScale:
        """Load the generator and find the stores."""
        run, work, device = Run.open(self.run), Scratch(self.work), torch.device(self.device)
        trained = run.generator(self.scale)
        generator = inference.optimised(trained, device, whole=self.window is not None)
        i = max(self.scale, 1)  # y0 is made from the sketch of s1
        image = self._stored(work, f"m{i}" if self.matched else f"s{i}")
        shown: Reader = image.read
        if self.recoloured:
            knots = run.config.contrast.knots
            look = Appearance.recoloured(len(image.shape), knots, self.recoloured)
            nothing = torch.Generator(device)  # no noise is drawn
            shown = look.reader(image.read, image.shape, lambda box: nothing)
        if self.after is not None:
            before = self._stored(work, self.after).read
            own = partial(read_continued, before, image.read, image.shape)
            shown = sketch.stacked(image.read, own)
        labels = work.finished(f"l{i}")
        drawn = sketch.sketch_reader(
            shown,
            image.shape,
            run.config.sketch,
            labels.read if labels else None,
            device,
            run.config.labels or (1,),
            image.rim,
        )
        rest = self.shape, self.tile, device, self.precision
        if self.window is not None:
            return OverlapScale(generator, drawn, *rest, self.window)
        seen: Source = drawn
        context: Source | None = None
        if self.context is not None:
            below = work.finished(self.context)
            seen, read = blinded(self.drop_inputs, drawn, below.read if below else None)
            # Beyond its faces a context goes on where the image does; a blank one is blank there.
            blank = "context" in self.drop_inputs
            source = None if blank else pyramid.halved(image.read, len(image.shape))
            coarse = tuple(n // 2 for n in self.shape)
            context = ImageSource(read, coarse, device, source)
        shown = image.read
        if labels is not None:
            hidden = slope.hiding(image.read, labels.read, image.shape)
            shown = pyramid.extended(hidden, image.shape, image.rim)
        guide = ImageSource(shown, None, device)
        reads = sources(generator.geometry, seen, context, guide)
        return TiledScale(generator, reads, *rest)

    def _stored(self, work: Scratch, name: str) -> Store:
        store = work.finished(name)
        if store is None:
            raise InputError(f"{self.work}: holds no image {name}, or is not seen here")
        return store

    def compute(self, number: int) -> int:
        """Make and store one tile, in a process that may be asked for more of the same job."""
        scale, store = _opened(self)
        loaded = scale.load(number)
        with ONE:
            box, values = scale.compute(loaded)  # type: ignore[arg-type]
        store.write(box, values)
        return number


@lru_cache(maxsize=1)
def _opened(job: ScaleTask) -> tuple[TiledScale | OverlapScale, Store]:
    return job.open(), Store.open(job.out)
