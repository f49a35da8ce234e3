"""Contexts that a cascade in training makes of its own training sketches, for its next scale."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from msgan import maps
from msgan.match.fusion import Moments
from msgan.memory import tiles
from msgan.networks import inference
from msgan.networks.inference import Inference
from msgan.paths import atomic, room
from msgan.pyramid import BACKGROUND, CHUNK, extended, read_continued
from msgan.runs.run import Run
from msgan.sketch.reader import DrawnSketch
from msgan.training.cache import CachedSubject, load
from msgan.translate.estimate import Guided, estimate, matching
from msgan.translate.scale import ImageSource, TiledScale, constant, make, sources
from msgan.types import Array, Box, InputError, Reader, Shape, read_padded, trailing

FOLDER = "contexts"

PARTS = "parts"
"""Folder of what an estimate is made of, as long as it is made."""

MEMORY = 2 << 30
"""Bytes that a tile may take beside what training holds; changes nothing else. The LR generator
sees 34 voxels around a tile (preset ``small``), so of small tiles most is computed again."""


def check_order(run: Run, scales: Iterable[int]) -> None:
    """Whether scales can be trained in this order, each on what those below it make.

    Args:
        run: What it has finished is there already.
        scales: To train, in order.

    Raises:
        InputError: One comes before the scale below it.
    """
    there = {i for i in run.used if run.finished(i)}
    for scale in scales:
        if scale > run.first and scale - 1 not in there:
            raise InputError(
                f"scale {scale}: its contexts are made by scale {scale - 1} (generated_share "
                f"{run.config.conditioning.generated_share:g}): train that first"
            )
        there.add(scale)


def generate_contexts(
    run: Run, subjects: Mapping[str, CachedSubject], scale: int, device: torch.device
) -> dict[str, CachedSubject]:
    """The subjects with what the scales below s_i make of each of their sketches.

    Differs: the papers train every scale on real contexts that noise, blur and halving make look
    generated (extended paper, section 2.2). The errors of a generator look like none of these,
    and a scale that has not seen them hands on what is wrong or missing below, whatever its
    sketch shows.

    Made tile by tile into files below the run's folder; those that are there are used.

    Args:
        run: Its scales below ``scale`` are trained.
        subjects: As they were cached, in host memory, by name.
        scale: i of s_i, at least 1.
        device: Where the generators compute.

    Raises:
        InputError: The scale below has no weights yet.
    """
    below = scale - 1
    folder = run.folder / FOLDER / f"y{below}"
    if not below and not run.config.drawn:
        return {name: _taken(subject, folder, name) for name, subject in subjects.items()}
    generator = inference.optimised(run.generator(below), device)
    guided = run.config.guidance.on and not below
    if guided and run.profile.kind == "histogram" and run.profile.error is None:
        error = _error(run, generator, subjects, folder, device)
        replace(run.profile, error=error).save(run.folder)
    found = {}
    for name, subject in subjects.items():
        generated = []
        for variant in range(len(subject.sketches[max(below, 1)])):
            path = folder / f"{name}-{variant}.npy"
            if not path.is_file():
                # What the scale ``below`` reads: of s0 and up, as a translation stores it.
                context = load(folder.with_name(f"y{below - 1}") / path.name) if below else None
                blocks = _scale(run, generator, subject, below, variant, context, device)
                if guided:
                    _estimated(run, blocks, subject, variant, path)
                else:
                    parts = ((box, values) for _, box, values in make(blocks, range(len(blocks))))
                    _write(path, parts, subject, below)
            generated.append(load(path))
        found[name] = replace(subject, generated=tuple(generated))
    return found


def _taken(subject: CachedSubject, folder: Path, name: str) -> CachedSubject:
    """The subject with its matched sources at s0, which are its estimates there."""
    generated, shape = [], subject.shape(0)
    for variant, image in enumerate(subject.sources[-1]):
        path = folder / f"{name}-{variant}.npy"
        if not path.is_file():
            fine = subject.shape(len(subject.images) - 1)
            source = Guided(reader_of(image[0], fine), fine, len(subject.images) - 1)
            read = source.at_s0(source.finest)
            _write(path, ((box, read(box)) for box in _boxes(shape)), subject, 0)
        generated.append(load(path))
    return replace(subject, generated=tuple(generated))


def _scale(
    run: Run,
    generator: Inference,
    subject: CachedSubject,
    scale: int,
    variant: int,
    context: Tensor | None,
    device: torch.device,
) -> TiledScale:
    shape, sketch = subject.shape(scale), subject.sketches[max(scale, 1)][variant]
    fine, rims = subject.shape(max(scale, 1)), subject.rims
    blind = context is not None and "sketch" in run.config.drop_inputs
    read = constant(0.0, len(sketch)) if blind else reader_of(sketch, fine)
    drawn = DrawnSketch(read, fine, device, rims[1] if rims and not blind else None)
    around, guide = None, None
    if context is not None:
        coarse = subject.shape(scale - 1)
        source = _source(subject, scale - 1)
        around = ImageSource(reader_of(context[0], coarse), coarse, device, source)
    if subject.sources and scale:
        guide = ImageSource(_endless(subject, subject.sources[scale][variant], shape), None, device)
    reads = sources(generator.geometry, drawn, around, guide)
    tile = tiles.within(generator, run.config, shape, device.type, MEMORY)
    return TiledScale(generator, reads, shape, tile, device)


def _endless(subject: CachedSubject, image: Tensor, shape: Shape) -> Reader:
    """An image (1, *shape) of a subject, of any box."""
    read = reader_of(image[0], shape)
    if subject.rims is not None:
        return extended(read, shape, subject.rims[0])
    return lambda box: read_padded(read, shape, box, BACKGROUND)


def _error(
    run: Run,
    generator: Inference,
    subjects: Mapping[str, CachedSubject],
    folder: Path,
    device: torch.device,
) -> float:
    """Mean squared error of what s0 draws of recoloured images, outside labels."""
    total = Moments()
    for name, subject in subjects.items():
        count = len(subject.sketches[1])
        for variant in range(min(1, count - 1), count):
            blocks = _scale(run, generator, subject, 0, variant, None, device)
            drawn = _drawn(blocks, subject, folder / PARTS / f"{name}-{variant}")
            shape = subject.shape(0)
            truth = reader_of(subject.images[0][0], shape)
            total += Moments.of(drawn, truth, shape, _labels(subject))
    return total.gap


def _drawn(blocks: TiledScale, subject: CachedSubject, folder: Path) -> Reader:
    """What s0 draws of a variant, which is stored."""
    path = folder / "drawn.npy"
    if not path.is_file():
        parts = ((box, part) for _, box, part in make(blocks, range(len(blocks))))
        _write(path, parts, subject, 0)
    return reader_of(load(path)[0], subject.shape(0))


def _labels(subject: CachedSubject) -> Reader | None:
    """Labels at s0."""
    if not subject.label_maps:
        return None
    return reader_of(subject.label_maps[0][0], subject.shape(0))


def _estimated(
    run: Run, blocks: TiledScale, subject: CachedSubject, variant: int, path: Path
) -> None:
    """Write the estimate at s0 of a variant, which stands for a source."""
    beside = path.parent / PARTS / path.stem
    shapes = [subject.shape(i) for i in range(len(subject.images))]

    def stored(name: str, parts: Iterable[tuple[Box, Array]]) -> Reader:
        _write(beside / f"{name}.npy", parts, subject, 0)
        return reader_of(load(beside / f"{name}.npy")[0], shapes[0])

    drawn = _drawn(blocks, subject, beside)
    finest = reader_of(subject.sources[-1][variant][0], shapes[-1])

    def keep(name: str, read: Reader) -> Reader:
        return stored(name, ((box, read(box)) for box in _boxes(shapes[0])))

    source = Guided(finest, shapes[-1], len(shapes) - 1)
    known = None
    if variant % 2:  # half of them stand for a modality of which the polarity is known
        image = source.at_s0(source.finest)
        truth = reader_of(subject.images[0][0], shapes[0])
        known = Moments.of(image, truth, shapes[0]).correlation < 0
    asked = source, drawn, run.profile, run.target, keep
    match = matching(*asked, inverted=known, by="modalities")
    found = estimate(match, drawn, source.coarsest, student=run.config.guidance.student)
    _write(path, ((box, found.read(box)) for box in _boxes(shapes[0])), subject, 0)
    shutil.rmtree(beside)


def _boxes(shape: Shape) -> Iterator[Box]:
    return Box.whole(shape).tiles((CHUNK[len(shape)],) * len(shape))


def _write(
    path: Path, parts: Iterable[tuple[Box, Array]], subject: CachedSubject, scale: int
) -> None:
    """Write s_``scale``, and what lies beyond it as far as the subject's images hold that."""
    shape, source = subject.shape(scale), _source(subject, scale)
    whole = Box.whole(shape)
    region = whole if source is None or subject.rims is None else whole.grown(subject.rims[0])
    need = 4 * region.voxels
    with room(path.parent, need, "what a trained scale makes"), atomic(path) as partial:
        out = maps.create(partial, (1, *region.size), "float32")

        def inside(box: Box) -> Array:
            return out[0][box.inside(region).slices]

        for part, values in parts:
            inside(part)[...] = values
        for box in region.tiles((CHUNK[whole.dims],) * whole.dims):
            if box.clipped(shape) != box:
                inside(box)[...] = read_continued(inside, source, shape, box)
        out.flush()


def _source(subject: CachedSubject, scale: int) -> Reader | None:
    """The real image of s_``scale``, any box; None: it ends in background.

    In a paired cascade it is the target's. Both show the same body, and end where it ends.
    """
    if subject.rims is None:
        return None
    return _endless(subject, subject.images[scale], subject.shape(scale))


def reader_of(image: Tensor, shape: Sequence[int]) -> Reader:
    """Reads an image (..., *shape), of which the tensor may hold more around."""
    rim = (image.shape[-1] - shape[-1]) // 2

    def read(box: Box) -> Array:
        return image[trailing(box.shifted((rim,) * box.dims).slices)].numpy()

    return read
