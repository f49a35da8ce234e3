"""Patches for training: drawn, mirrored and degraded; a function of seed, scale and step alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from msgan import seeds, sketch
from msgan.config import CascadeConfig
from msgan.degrade import degrade_context, degrade_sketch
from msgan.patches import Cut, HighGenerator, crop_padded
from msgan.training.cache import CachedSubject
from msgan.types import Box

BACKGROUND = -1.0


@dataclass(frozen=True)
class Batch:
    """What one training step sees: (batch, channels, *spatial) each.

    ``context`` is None at s0. ``detail`` is the real image the generator should make.
    """

    sketch: Tensor
    context: Tensor | None
    detail: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        context = None if self.context is None else self.context.to(device, non_blocking=True)
        return Batch(
            self.sketch.to(device, non_blocking=True),
            context,
            self.detail.to(device, non_blocking=True),
        )


class Patches:
    """Draws the batches of one scale.

    Every random number of a sample comes from (seed, scale, step, sample), so a resumed training
    sees what an unbroken one sees and N processes see what one process sees.

    Args:
        subjects: Cached subjects, on the device that cuts.
        config: The cascade's.
        scale: i of s_i.
        generator: Geometry of a patch; None at s0.
        degraded: False for patches as they are.
    """

    def __init__(
        self,
        subjects: Sequence[CachedSubject],
        config: CascadeConfig,
        scale: int,
        generator: HighGenerator | None,
        degraded: bool = True,
    ) -> None:
        self.subjects = tuple(subjects)
        self.config = config
        self.scale = scale
        self.generator = generator
        self.degraded = degraded

    def draw(self, purpose: str, step: int, samples: Sequence[int]) -> Batch:
        """Samples ``samples`` of the batch of one step.

        At s0 a sample is a whole image, so samples of one batch must come from images of one
        shape; where shapes differ they are padded with background to the largest.
        """
        drawn = [self._sample(purpose, step, k) for k in samples]
        return Batch(
            _stack([b.sketch for b in drawn], 0.0),
            None if self.generator is None else torch.cat([_context(b) for b in drawn]),
            _stack([b.detail for b in drawn], BACKGROUND),
        )

    def _sample(self, purpose: str, step: int, index: int) -> Batch:
        names = (self.scale, purpose, step, index)
        rng = seeds.numpy_rng(self.config.seed, *names)
        noise = torch.Generator().manual_seed(seeds.derive(self.config.seed, *names, "noise"))
        subject = self.subjects[rng.integers(len(self.subjects))]
        variants = subject.sketches[max(self.scale, 1)]
        recoloured = len(variants) > 1 and rng.random() < self.config.contrast.share
        drawn = variants[rng.integers(1, len(variants))] if recoloured else variants[0]
        image = subject.images[self.scale]
        if self.generator is None:
            batch = self._whole(drawn, image, rng)
        else:
            cut = self._cut(image, rng)
            batch = Batch(
                crop_padded(drawn, cut.sketch, 0.0)[None].float(),
                crop_padded(subject.images[self.scale - 1], cut.context, BACKGROUND)[None],
                crop_padded(image, cut.detail, BACKGROUND)[None],
            )
        for axis in self.config.training.mirror:
            if rng.random() < 0.5:
                batch = self._mirrored(batch, axis)
        if self.degraded:
            batch = replace(
                batch, sketch=degrade_sketch(batch.sketch, self.config.degradation, noise)
            )
            if batch.context is not None:
                batch = replace(
                    batch, context=degrade_context(batch.context, self.config.degradation, noise)
                )
        return batch

    def _whole(self, drawn: Tensor, image: Tensor, rng: np.random.Generator) -> Batch:
        box = Box.whole(image.shape[1:])
        side = self.config.training.low_patch
        if side is not None:
            size = tuple(min(side, n) for n in box.size)
            spare = [n - s for n, s in zip(box.size, size, strict=True)]
            box = Box(tuple(int(rng.integers(k + 1)) for k in spare), size)
        inside = (slice(None), *box.slices)
        fine = (slice(None), *box.scaled(2).slices)
        return Batch(drawn[fine][None].float(), None, image[inside][None])

    def _cut(self, image: Tensor, rng: np.random.Generator) -> Cut:
        """A patch whose centre is foreground; the last try is kept even if it is not."""
        assert self.generator is not None
        shape = image.shape[1:]
        for _ in range(50):
            centre = tuple(int(rng.integers(n)) for n in shape)
            if image[(0, *centre)] > BACKGROUND + 1e-3:
                break
        side = self.generator.patch or self.config.training.patch
        start = tuple((c - side // 2) // 2 * 2 for c in centre)
        detail = Box(start, (side,) * len(shape))
        return Cut.of(self.generator, detail.grown(-self.generator.rim))

    def _mirrored(self, batch: Batch, axis: int) -> Batch:
        def flip(x: Tensor) -> Tensor:
            return x.flip(2 + axis)

        return Batch(
            sketch.mirror(batch.sketch, axis, self.config.sketch),
            None if batch.context is None else flip(batch.context),
            flip(batch.detail),
        )


class Prefetch:
    """Draws the next batch while the current one is trained on; counts the seconds waited."""

    def __init__(
        self, patches: Patches, purpose: str, samples: Sequence[int], device: torch.device
    ) -> None:
        self._draw = lambda step: patches.draw(purpose, step, samples).to(device)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="msgan-patches")
        self._next: tuple[int, Future[Batch]] | None = None
        self.waited = 0.0

    def get(self, step: int) -> Batch:
        """The batch of ``step``; the next one is begun."""
        if self._next is None or self._next[0] != step:
            self._next = (step, self._pool.submit(self._draw, step))
        future = self._next[1]
        start = perf_counter()
        batch = future.result()
        self.waited += perf_counter() - start
        self._next = (step + 1, self._pool.submit(self._draw, step + 1))
        return batch

    def close(self) -> None:
        """Stop drawing."""
        self._pool.shutdown(cancel_futures=True)


def _context(batch: Batch) -> Tensor:
    assert batch.context is not None
    return batch.context


def _stack(images: Sequence[Tensor], fill: float) -> Tensor:
    """Join along the batch, padded at the far end to the largest shape."""
    if len({x.shape for x in images}) == 1:
        return torch.cat(list(images))
    size = tuple(max(x.shape[2 + a] for x in images) for a in range(images[0].ndim - 2))
    return torch.cat([crop_padded(x, Box.whole(size), fill) for x in images])
