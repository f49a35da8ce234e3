"""What trained networks make of an image, scale by scale; every trained method is one of these."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from msgan import pyramid, sketch
from msgan.config import Preparation
from msgan.data.intensity import IntensityMap
from msgan.data.resample import Axis, resample
from msgan.documents import json_of, text_of
from msgan.match import fusion, histogram, profile, slope
from msgan.memory import process
from msgan.networks import inference
from msgan.networks.generator import Geometry
from msgan.networks.inference import Inference
from msgan.paths import sha256, write_text
from msgan.runs.run import Run
from msgan.sketch.strength import Strengths, strengths
from msgan.training.step import build_generator, geometry
from msgan.translate import overlap
from msgan.translate.engine import LocalExecutor
from msgan.translate.estimate import KEPT, Guided, Match, estimate, matching
from msgan.translate.maker import Made, Making, silent
from msgan.translate.overlap import Window
from msgan.translate.plan import Limits, Plan, ScalePlan, check, plan
from msgan.translate.scale_task import ScaleTask
from msgan.types import Array, Box, InputError, Reader, Shape

DRAWN = "drawn0"
"""Name of what s0 draws from the sketch where that is not yet the image at s0: of a run with
guidance, and where recoloured copies of the image are drawn too."""

REDRAWN = "redrawn0"
"""Name of what s0 draws from the sketch of the matched source."""

MEAN = "mean0"
"""Name of the mean of what s0 draws from the image and from recoloured copies of it."""

MATCHED, DOUBT = "match.json", "sketch.txt"
"""Files of the scratch that say how the source was matched, and whether its sketch is unusual."""

SPREAD = "spread0"
"""Name of the spread of the estimates at s0, less 1, so that background is background."""

Polarity = Literal["auto", "same", "inverted"]
"""Whether what is dark in the source is bright in the target; ``auto``: it is found out."""


@dataclass(frozen=True)
class GeneratedScale:
    """An image that one trained generator makes.

    Attributes:
        run: Holds the generator.
        scale: i of its s_i.
        name: Of the image in the scratch.
        after: Name of an image on the same grid that the sketch shows beside the source
            (auto-context); None: the source alone.
        window: The whole patches that are made and joined where they overlap
            (:mod:`msgan.translate.overlap`); None: tiles that do not.
        recoloured: Which recoloured copy of the image its sketch is taken from
            (:meth:`msgan.appearance.appearance.Appearance.recoloured`); 0: the image itself.
        matched: Its sketch is taken from the matched image; which way round that is follows from
            what was drawn before.
    """

    run: Run
    scale: int
    name: str
    after: str | None = None
    window: Window | None = None
    recoloured: int = 0
    matched: bool = False

    @classmethod
    def whole(cls, run: Run, name: str, after: str | None = None) -> GeneratedScale:
        """s_n of a run by itself: whole patches, joined, of a family of fixed patch size."""
        window = overlap.window_of(run.config, geometry(run.config, run.scales))
        return cls(run, run.scales, name, after, window)

    @property
    def label(self) -> str:
        """What it is called in plans and progress."""
        if self.recoloured:
            return f"s{self.scale}, recoloured {self.recoloured}"
        if self.matched:
            return f"s{self.scale}, matched"
        return f"s{self.scale}" if self.result == f"y{self.scale}" else self.name

    @property
    def sketched(self) -> int:
        """i of the s_i whose sketch it is made from."""
        return max(self.scale, 1)

    @property
    def result(self) -> str:
        """Name of the image in the scratch that the next scale reads: of what s0 draws, the
        estimate (:mod:`msgan.translate.estimate`)."""
        return "y0" if self.name in (DRAWN, REDRAWN) else self.name

    @property
    def beside(self) -> bool:
        """Whether it draws s0 beside what is drawn from the image itself."""
        return self.matched or self.recoloured > 0

    @property
    def context(self) -> str | None:
        """Name of the image in the scratch that it is made from beside the sketch; None: none."""
        return f"y{self.scale - 1}" if self.scale else None

    @property
    def geometry(self) -> Geometry:
        """What its generator reads and makes."""
        return geometry(self.run.config, self.scale)

    def shadow(self) -> Inference:
        """Its generator in the form that is used to translate, without weights, to be counted.

        The same for scales of equal configurations, so that each is counted once.
        """
        whole = self.window is not None
        key = self.run.config.model_dump_json(), self.scale, whole
        if key not in _SHADOWS:
            with torch.device("meta"):
                network = build_generator(self.run.config, self.scale)
                _SHADOWS[key] = inference.optimised(network, torch.device("meta"), whole=whole)
        return _SHADOWS[key]


_SHADOWS: dict[tuple[str, int, bool], Inference] = {}
"""By configuration, scale and whether whole patches are made; without weights they are small."""


@dataclass(frozen=True)
class Generation:
    """A translation by trained networks (:class:`msgan.translate.maker.Maker`).

    Attributes:
        name: Of the method.
        scales: What is made, in order; the last is the result.
        enlarged: The last is of a coarser scale and is interpolated to s_n.
        inverted: Polarity of the source that the user states; None: it is found out.
        spread: Whether the spread of the estimates at s0 is kept as well.
    """

    name: str
    scales: tuple[GeneratedScale, ...]
    enlarged: bool = False
    inverted: bool | None = None
    spread: bool = False

    @classmethod
    def of(
        cls,
        run: Run,
        name: str = "cascade",
        *,
        polarity: Polarity | None = None,
        uncertainty: bool = False,
        recolourings: int = 0,
    ) -> Generation:
        """All scales that a translation by a cascade goes through; of a family of pairs the only.

        Args:
            run: Trained.
            name: Of the method.
            polarity: What the user says of the source; None or ``auto``: it is found out.
            uncertainty: Whether the spread of the estimates at s0 is wanted.
            recolourings: From how many recoloured copies of the image s0 draws too.

        Raises:
            InputError: One is stated of a run without guidance or of spectra, or is none; or the
                run has not learnt from recoloured images.
        """
        if recolourings:
            _require_recoloured(run, recolourings)
        inverted = _stated(run, polarity)
        if uncertainty and not run.config.guidance.on:
            raise InputError(f"{run.folder}: has no guidance, so no uncertainty can be told")
        if uncertainty and not run.config.drawn:
            raise InputError(
                f"{run.folder}: matches spectra and draws nothing beside, so no uncertainty can be "
                "told"
            )
        if run.config.network.pairs:
            return cls(name, (GeneratedScale.whole(run, f"y{run.scales}"),))
        copies = range(1, recolourings + 1)
        scales = [GeneratedScale(run, 0, f"{DRAWN}_{k}", recoloured=k) for k in copies]
        guidance = run.config.guidance
        names = {0: DRAWN} if guidance.on or recolourings else {}
        own = [GeneratedScale(run, i, names.get(i, f"y{i}")) for i in run.used]
        if guidance.redraw and guidance.match == "histogram":
            own.insert(1, GeneratedScale(run, 0, REDRAWN, matched=True))
        scales += own
        return cls(name, tuple(scales), inverted=inverted, spread=uncertainty)

    @property
    def recolourings(self) -> int:
        """From how many recoloured copies of the image s0 draws too."""
        return sum(scale.recoloured > 0 for scale in self.scales)

    @property
    def last(self) -> Run:
        """The run whose target, range and preparation are those of the method."""
        return self.scales[-1].run

    @property
    def preparation(self) -> Preparation:
        """See :class:`msgan.translate.maker.Maker`, as for the following."""
        return self.last.config.preparation

    @property
    def intensity(self) -> IntensityMap:  # noqa: D102
        return self.last.intensity

    @property
    def target(self) -> str:  # noqa: D102
        return self.last.target

    @property
    def labels(self) -> tuple[int, ...]:  # noqa: D102
        return self.last.config.labels

    @property
    def source(self) -> str | None:  # noqa: D102
        config = self.last.config
        return config.cycle.source if config.cycle else config.paired

    @property
    def run(self) -> Path:  # noqa: D102
        return self.last.folder

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of the weights of each scale."""
        return {s.label: sha256(s.run.weights(s.scale)) for s in self.scales if not s.beside}

    @property
    def dims(self) -> int:  # noqa: D102
        return self.last.config.dims

    def shapes(self, shape: Shape) -> list[Shape]:
        """Of s0..sn on a working grid of ``shape``."""
        return pyramid.shapes(shape, self.last.scales)

    def identity(self) -> list[Any]:
        """Configurations and weights, and what sources are matched to."""
        found: list[Any] = [
            [s.scale, sha256(s.run.weights(s.scale)), s.run.config.model_dump(mode="json")]
            for s in self.scales
            if not s.beside
        ]
        if self.recolourings:
            found.append(self.recolourings)
        if self.last.config.guidance.on:
            found += [self.inverted, self.spread, sha256(self.last.folder / profile.FILE)]
        return found

    def check(self, device: torch.device, limits: Limits) -> None:
        """See :func:`msgan.translate.plan.check`; what sources are matched to must be there."""
        check(self, device, limits)
        if self.last.config.guidance.on:
            _ = self.last.profile

    def plan(self, *args: Any, **options: Any) -> Plan:
        """See :func:`msgan.translate.plan.plan`."""
        return plan(self, *args, **options)

    def faces(self, planned: Plan) -> tuple[Shape, ...]:
        """Voxels between places where neighbours were made apart from each other.

        Of a family of fixed patch size those are the patches of which a tile consists. An
        interpolated image has none.
        """
        if self.enlarged:
            return ()
        pairs = zip(self.scales, planned.scales, strict=True)
        return tuple(_face(scale, own.tile) for scale, own in pairs if not scale.beside)

    def make(self, making: Making) -> Made:
        """Each scale from the image below it and its sketch."""
        _sources(self, making)
        doubt = _doubt(self.scales[0], making)
        work, planned = making.work, making.plan
        if not self.last.config.drawn and all(work.finished(s.result) is None for s in self.scales):
            _take(self.scales[0], making)
        for k, (scale, own) in enumerate(zip(self.scales, planned.scales, strict=True)):
            later = self.scales[k + 1 :]
            if any(work.finished(other.result) is not None for other in (scale, *later)):
                continue
            found: Match | None = None
            if work.finished(scale.name) is None:
                found = _match(scale.run, making, self) if scale.matched else None
                if found is None or _rematched(found, scale, making):
                    _generate(scale, own, making)
            if scale.result not in (scale.name, *(other.result for other in later)):
                _estimate(scale, making, self, found)
            process.give_back()
            if not making.keep:
                for other in self.scales[:k]:
                    if not other.beside and other.result != scale.result:
                        work.drop(other.result)
                if not k and not self.last.config.drawn:
                    work.drop("y0")
            for i in {scale.sketched} - {other.sketched for other in later}:
                work.drop(f"s{i}")
                work.drop(f"l{i}")
        grid = making.subject.grid
        names = {s.result: s.scale for s in self.scales if not s.beside}
        if not self.last.config.drawn:
            names = {"y0": 0} | names
        stores = [(name, scale, work.finished(name)) for name, scale in names.items()]
        images = {name: (grid.grid_at(i), store.read) for name, i, store in stores if store}
        result: Reader = images[self.scales[-1].result][1]
        last = self.scales[-1].scale
        if self.enlarged:
            result = enlarged(result, self.shapes(grid.shape)[last], grid.shape)
        told, spread = work.folder / MATCHED, work.finished(SPREAD)
        match = fusion.Polarity(**json_of(told)) if told.is_file() else None
        return Made(
            result,
            images,
            tuple(filter(None, [doubt, "" if match is None else str(match)])),
            enlarged(spread.read, spread.shape, grid.shape) if spread else None,
            None if match is None else {**vars(match), "weight": match.weight},
            self.recolourings,
        )


def _stated(run: Run, polarity: Polarity | None) -> bool | None:
    """Whether a polarity is inverted; None: it is to be found out."""
    known: dict[str | None, bool | None] = {None: None, "auto": None}
    known |= {"same": False, "inverted": True}
    if polarity not in known:
        raise InputError(f"polarity {polarity!r} is none of auto, same, inverted")
    if known[polarity] is not None and run.config.guidance.match != "histogram":
        raise InputError(f"polarity {polarity}: {run.folder} matches no histograms: leave it out")
    return known[polarity]


def _require_recoloured(run: Run, count: int) -> None:
    """Refuse recoloured copies where nothing is drawn of them, or of a run that knows none."""
    asked, contrast = f"recolourings {count}: {run.folder}", run.config.contrast
    if count < 0:
        raise InputError(f"recolourings {count}: expected 0 or more")
    if 0 not in run.used or not run.config.drawn:
        raise InputError(f"{asked} draws no s0 from a sketch: leave it out")
    if not contrast.share or contrast.kind == "kernel":
        raise InputError(f"{asked} has not learnt from recoloured images: leave it out")


def _face(scale: GeneratedScale, tile: Shape) -> Shape:
    side = scale.geometry.core_side
    if side is None:
        return tile
    return (side if scale.window is None else scale.window.stride,) * len(tile)


def _sources(generation: Generation, making: Making) -> None:
    """The scales of the image, and of its labels, that sketches are taken from, into the scratch.

    A finer scale is kept only if it is used, and no longer than it is; s_n that is not used is not
    stored at all.
    """
    subject, work, n = making.subject, making.work, generation.last.scales
    shapes = generation.shapes(subject.grid.shape)
    done = [k for k, scale in enumerate(generation.scales, 1) if work.finished(scale.result)]
    used = {scale.sketched for scale in generation.scales[max(done, default=0) :]}
    tell = making.progress
    marks: Reader | None = None
    if generation.labels and subject.has_labels:

        def marks(box: Box) -> Array:
            return np.asarray(subject.read_labels(box))

    seen: Reader = subject.read
    if generation.last.config.guidance.match == "spectrum" and used:
        seen = generation.last.profile.filtered(subject, marks)
    sources: list[tuple[str, Reader, bool]] = [("s", seen, False)]
    if marks is not None:
        sources.append(("l", marks, True))
    for prefix, whole, labels in sources:
        read: Reader = whole
        for i in range(n, min(used, default=n + 1) - 1, -1):
            if all(work.finished(f"{prefix}{k}") for k in used if k <= i):
                break  # made before
            if i < n:
                read = pyramid.halved(read, len(shapes[-1]), labels)
            elif i not in used:
                continue
            dtype, told = "uint8" if labels else "float32", tell and partial(tell, "reading")
            read, tell = work.fill(f"{prefix}{i}", shapes[i], read, dtype, told).read, None
            if i + 1 not in used:
                work.drop(f"{prefix}{i + 1}")


def _doubt(scale: GeneratedScale, making: Making) -> str:
    """What is to be said of a sketch unlike those its run has learnt from; kept for a resume."""
    work, run = making.work, scale.run
    path = work.folder / DOUBT
    if path.is_file():
        return text_of(path)
    known, image = Strengths.load(run.folder), work.finished(f"s{scale.sketched}")
    if known is None or image is None or known.scale != scale.sketched:
        return ""
    labels, shape = work.finished(f"l{scale.sketched}"), image.shape
    drawn = sketch.sketch_reader(
        image.read,
        shape,
        run.config.sketch,
        labels.read if labels else None,
        making.device,
        run.config.labels or (1,),
        image.rim,
    )
    found = known.doubt(strengths(drawn, image.read, shape, run.config.sketch))
    write_text(path, found)
    return found


def _generate(scale: GeneratedScale, own: ScalePlan, making: Making) -> None:
    """The tiles of one scale that are not there yet."""
    work, name, window = making.work, scale.name, scale.window
    shape, tile = own.shape, own.tile
    if window is not None:
        name, shape = f"{name}sums", overlap.spread(shape, tile, window)
        tile = overlap.slot(tile, window)
    # Begun with other tiles it begins anew: sums of other blocks lie in other places.
    stage = work.stage(name, shape, tile)
    job = ScaleTask.of(scale, own, work, stage, making.device, making.plan.precision)
    todo = [k for k in range(own.tiles) if k not in stage.done]
    tell = making.progress or silent
    tell(scale.label, len(stage.done), own.tiles)
    for _ in (making.engine or LocalExecutor()).run(job, todo, stage):
        tell(scale.label, len(stage.done), own.tiles)
    stage.finish()
    if window is not None:
        sums = overlap.joined(stage.store.read, own.shape, own.tile, window)
        work.fill(scale.name, own.shape, sums, rim=0)
        work.drop(name)


def _take(scale: GeneratedScale, making: Making) -> None:
    """Put the matched source in the place of the estimate at s0, of a run that draws none."""
    work, shape = making.work, pyramid.shapes(making.subject.grid.shape, scale.run.scales)[0]
    image = work.finished("s1")
    assert image is not None
    write_text(work.folder / MATCHED, json.dumps(vars(fusion.Polarity(False, None, 0.0, "unit"))))
    work.fill("y0", shape, pyramid.halved(image.read, len(shape)), rim=0)


def _rematched(match: Match, scale: GeneratedScale, making: Making) -> bool:
    """Store the matched image whose sketch is drawn from; whether the match has a weight."""
    work, image = making.work, making.work.finished(f"s{scale.sketched}")
    assert image is not None
    if not match.polarity.weight or match.shares is None:
        return False
    turned, target = bool(match.polarity.inverted), scale.run.profile.quantiles
    curve = histogram.matched(image.read, match.shares, target, inverted=turned)
    work.fill(f"m{scale.sketched}", image.shape, curve)
    return True


def _match(run: Run, making: Making, generation: Generation) -> Match:
    """How the source is matched, by what is drawn of the image itself: what is drawn of copies
    follows them where they are wrong."""
    keep = partial(_keep, run, making)
    drawn = _drawings(generation, making)[DRAWN]
    asked = _guided(run, making), drawn, run.profile, run.target, keep
    return matching(*asked, inverted=generation.inverted)


def _estimate(
    scale: GeneratedScale, making: Making, generation: Generation, match: Match | None
) -> None:
    """Put the estimate at s0 in the place of what was drawn.

    ``match`` is that of the source, if it was found out just now.
    """
    work, run = making.work, scale.run
    keep = partial(_keep, run, making)
    drawn = _drawings(generation, making)
    drawings = list(drawn.values())
    mean = keep(MEAN, fusion.mean(drawings)) if len(drawings) > 1 else drawings[0]
    if run.config.guidance.on:
        match = match or _match(run, making, generation)
        shape = pyramid.shapes(making.subject.grid.shape, run.scales)[0]
        learns = run.config.guidance.student
        found = estimate(match, mean, shape, student=learns, drawings=drawings)
        write_text(work.folder / MATCHED, json.dumps(vars(found.polarity)))
        if generation.spread:
            keep(SPREAD, lambda box: found.spread(box) + pyramid.BACKGROUND)
        mean = found.read
    keep("y0", mean)
    for name in (*drawn, MEAN, *KEPT, f"m{scale.sketched}"):
        work.drop(name)


def _drawings(generation: Generation, making: Making) -> dict[str, Reader]:
    """What s0 has drawn so far, by name."""
    names = [s.name for s in generation.scales if s.beside or s.name == DRAWN]
    stores = {name: making.work.finished(name) for name in names}
    return {name: store.read for name, store in stores.items() if store is not None}


def _guided(run: Run, making: Making) -> Guided:
    """The source beside its sketch; what labels hide is hidden."""
    work, n = making.work, run.scales
    image, marks = work.finished(f"s{n}"), work.finished(f"l{n}")
    assert image is not None
    finest: Reader = image.read
    if marks is not None:
        finest = slope.hiding(image.read, marks.read, image.shape)
    return Guided(finest, pyramid.shapes(making.subject.grid.shape, n)[-1], n, making.modality)


def _keep(run: Run, making: Making, name: str, read: Reader) -> Reader:
    """Store an image on s0."""
    shape = pyramid.shapes(making.subject.grid.shape, run.scales)[0]
    return making.work.fill(name, shape, read, rim=0).read


def enlarged(read: Reader, shape: Sequence[int], full: Sequence[int]) -> Reader:
    """An image of ``shape`` on a grid of ``full`` voxels over the same region, linearly.

    One interpolation for all scales: doubling step by step (:func:`msgan.pyramid.enlarge`) would
    smooth at each step, and the paper says trilinear. Values beyond the centres of the outermost
    voxels are theirs.
    """
    axes = [
        Axis(n / m, 0.5 * n / m - 0.5, int(n), 0, int(m)) for n, m in zip(shape, full, strict=True)
    ]
    return lambda box: resample(read, axes, box, 1, pyramid.BACKGROUND)
