"""Contexts for training that the scales below have made themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msgan.networks import inference
from msgan.patches import core_side
from msgan.paths import atomic
from msgan.sketch import DrawnSketch
from msgan.training.cache import CachedSubject, load_map
from msgan.training.run import Run
from msgan.translate.scale import HighScale, LowScale, make
from msgan.types import InputError, trailing

TILE = 64
"""Side of a tile of s1 and above, of a family whose tiles may have any."""

MADE = "made"
"""Folder of a run; what is in it follows from the weights."""


def with_contexts(
    run: Run, subject: CachedSubject, scale: int, device: torch.device
) -> CachedSubject:
    """``subject`` with s_(scale - 1) as the cascade draws it from each of the subject's sketches.

    An HR generator trained on real images below takes them for true, and in a translation passes
    on every error of the scale below: on a real brain its SSIM falls from .83 to .48. Contexts made
    from recoloured sketches have such errors, so it learns what of a context to trust.
    Differs: the papers' contexts are real images with noise, blur and halved resolution (2020,
    section 2.2); scales that are trained so depend on those below.

    Args:
        run: Has trained s_0 .. s_(scale - 1).
        subject: In the cache.
        scale: i of s_i that is to be trained, at least 1.
        device: Where to compute.

    Raises:
        InputError: A scale below is not trained yet.
    """
    variants = range(len(subject.sketches[scale]))
    for below in range(scale):
        if not run.finished(below):
            raise InputError(
                f"{run.folder}: scale {scale} is trained on what scale {below} makes "
                f"(own_share {run.config.degradation.own_share:g}): train that first"
            )
    for below in range(scale):
        for variant in variants:
            path = _path(run, subject, below, variant)
            if not path.is_file():
                with atomic(path) as partial:
                    _make(run, subject, below, variant, partial, device)
    found = (load_map(_path(run, subject, scale - 1, variant)) for variant in variants)
    where = subject.images[0].device
    return replace(subject, made=tuple(image[None].to(where) for image in found))


def _path(run: Run, subject: CachedSubject, scale: int, variant: int) -> Path:
    return run.folder / MADE / f"{subject.name}_s{scale}_{variant}.npy"


def _make(
    run: Run,
    subject: CachedSubject,
    scale: int,
    variant: int,
    path: Path,
    device: torch.device,
) -> None:
    """Draw s_i tile by tile from one sketch, and from s_(i-1) made from the same."""
    shape = tuple(subject.images[scale].shape[1:])
    drawn = subject.sketches[max(scale, 1)][variant]
    seen = 0.0 if scale and "sketch" in run.config.blind else 1.0
    sketch = DrawnSketch(
        lambda box: (drawn[trailing(box.slices)].float() * seen).cpu().numpy(),
        tuple(drawn.shape[1:]),
        device,
    )
    ready: Any = inference.prepare(run.generator(scale), device)
    made: LowScale | HighScale
    if scale == 0:
        made = LowScale(ready, sketch, shape, shape, device)
    else:
        below = np.load(_path(run, subject, scale - 1, variant), mmap_mode="r")
        side = core_side(ready) or TILE
        made = HighScale(
            ready, sketch, lambda box: below[box.slices], shape, (side,) * len(shape), device
        )
    out = np.lib.format.open_memmap(path, mode="w+", dtype="float32", shape=shape)
    for _, box, values in make(made, range(len(made))):
        out[box.slices] = values
    out.flush()
