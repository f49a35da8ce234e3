"""Contexts that a cascade in training makes of its own training sketches, for its next scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from msgan import maps
from msgan.networks import inference
from msgan.patches import core_side
from msgan.paths import atomic, room
from msgan.sketch.reader import DrawnSketch
from msgan.training.cache import CachedSubject, load
from msgan.training.run import Run
from msgan.translate.scale import HighScale, LowScale, constant, make
from msgan.types import Array, Box, InputError, Reader, trailing

FOLDER = "contexts"

TILE = {2: 512, 3: 64}
"""Side of a tile, by dimensions; bounds memory, changes nothing else."""


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
                f"scale {scale}: its contexts are made by scale {scale - 1} (made_share "
                f"{run.config.degradation.made_share:g}): train that first"
            )
        there.add(scale)


def with_contexts(
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
    generator = inference.prepare(run.generator(below), device)
    found = {}
    for name, subject in subjects.items():
        made = []
        for variant, sketch in enumerate(subject.sketches[max(below, 1)]):
            path = folder / f"{name}-{variant}.npy"
            if not path.is_file():
                context = load(folder.with_name(f"y{below - 1}") / path.name) if below else None
                _write(path, _scale(run, generator, subject, below, sketch, context, device))
            made.append(load(path))
        found[name] = replace(subject, made=tuple(made))
    return found


def _scale(
    run: Run,
    generator: nn.Module,
    subject: CachedSubject,
    scale: int,
    sketch: Tensor,
    context: Tensor | None,
    device: torch.device,
) -> LowScale | HighScale:
    shape, dims = tuple(subject.images[scale].shape[1:]), run.config.dims
    blind = context is not None and "sketch" in run.config.blind
    read = constant(0.0, len(sketch)) if blind else _reader(sketch)
    drawn = DrawnSketch(read, tuple(sketch.shape[1:]), device)
    side = TILE[dims]
    if context is None:
        tile = (side,) * dims if generator.tile_exact else shape
        return LowScale(generator, drawn, shape, tile, device)
    kept = core_side(generator)  # type: ignore[arg-type]
    side = side if kept is None else max(1, side // kept) * kept
    around = _reader(context[0])
    return HighScale(generator, drawn, around, shape, (side,) * dims, device)


def _write(path: Path, scale: LowScale | HighScale) -> None:
    need = 4 * prod(scale.shape)
    with room(path.parent, need, "what a trained scale makes"), atomic(path) as partial:
        out = maps.create(partial, (1, *scale.shape), "float32")
        for _, box, values in make(scale, range(len(scale))):
            out[0][box.slices] = values
        out.flush()


def _reader(image: Tensor) -> Reader:
    def read(box: Box) -> Array:
        return image[trailing(box.slices)].numpy()

    return read
