"""Patches for training: drawn, mirrored and augmented; a function of seed, scale and step alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from msgan import seeds, sketch
from msgan.augment import SampleRng, augment_context, augment_sketch
from msgan.config import CascadeConfig
from msgan.networks.generator import Geometry, View
from msgan.patches import hull
from msgan.training.cache import CachedSubject, announce
from msgan.training.fresh import FreshImage
from msgan.types import Box, InputError, Shape, read_extended, trailing

BACKGROUND = -1.0

DEPTH = 2
"""Batches drawn ahead: one may come from a disk while another waits."""


@dataclass(frozen=True)
class Batch:
    """What one training step sees: (batch, channels, *spatial) each.

    Attributes:
        reads: What the generator is given, as its geometry states it.
        targets: The real images of what it should make, likewise.
    """

    reads: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]


@dataclass(frozen=True)
class Sample:
    """What was drawn for one sample of a batch.

    Attributes:
        subject: Whose image, by its place in the list.
        variant: Which of the subject's sketches.
        reads: Box cut out of each image that is read, on its own grid.
        targets: Box cut out of each image to make, likewise.
        mirrored: Axes that are flipped.
        seed: Of what its augmentation is drawn from.
        generated: Whether the context is what the scales below have made of the variant's sketch.
        fresh: Whether the sketch is that of an appearance of its own instead of the variant's; a
            context that was generated is the variant's all the same.
    """

    subject: int
    variant: int
    reads: tuple[Box, ...]
    targets: tuple[Box, ...]
    mirrored: tuple[int, ...]
    seed: int
    generated: bool = False
    fresh: bool = False


@dataclass(frozen=True)
class _Part:
    """A box of a tensor (C, *shape), in its own voxels, and whether it goes on beyond its faces."""

    image: Tensor
    box: Box
    extended: bool

    @classmethod
    def of(cls, image: Tensor, box: Box, rim: int | None) -> _Part:
        """A box of an image that the tensor holds with ``rim`` voxels around; None: alone."""
        if rim is None:
            return cls(image, box, False)
        return cls(image, box.shifted((rim,) * box.dims), True)

    def read(self) -> Tensor:
        """The box of an image that goes on."""
        known = Box.whole(self.image.shape[1:])
        return read_extended(lambda box: self.image[trailing(box.slices)], known, self.box)


class Patches:
    """Draws the batches of one scale.

    Every random number of a sample comes from (seed, scale, step, sample), so a resumed training
    sees what an unbroken one sees and N processes see what one process sees. What is decided is
    decided on the CPU; cutting, flipping and augmenting is done where the subjects and ``device``
    are, without ever waiting for a GPU. Places, variants and flips are the same on every device;
    noise, and which patches are blurred or halved, are not (see :class:`msgan.augment.SampleRng`).

    Differs: the papers do not say where patches lie. Here the centre of one at s1..sn is
    foreground, and in a share of them and of the crops of s0 (``label_share``) a labelled voxel,
    as nnU-Net (Isensee et al. 2021) has it.

    Args:
        subjects: Cached subjects, as memory maps or on ``device``.
        config: The cascade's.
        scale: i of s_i.
        geometry: What the generator of that scale reads and makes.
        augmented: False for patches as they are.
        device: Where batches are made.

    Raises:
        InputError: The generator reads an image that subjects do not have.
    """

    def __init__(
        self,
        subjects: Sequence[CachedSubject],
        config: CascadeConfig,
        scale: int,
        geometry: Geometry,
        augmented: bool = True,
        device: torch.device | None = None,
    ) -> None:
        self.subjects = tuple(subjects)
        self.config = config
        self.scale = scale
        self.geometry = geometry
        self.augmented = augmented
        self.device = device or torch.device("cpu")
        for view in geometry.reads:
            known = view.image in ("sketch", "below")
            guides = view.image == "source" and all(s.sources for s in self.subjects)
            if not known and not guides:
                raise InputError(f"the generator reads {view.image}, which is not cached")

    def draw(self, purpose: str, step: int, samples: Sequence[int]) -> Batch:
        """Samples ``samples`` of the batch of one step.

        At s0 a sample is a whole image, so samples of one batch must come from images of one
        shape; where shapes differ they are padded with background to the largest.
        """
        drawn = [self.decide(purpose, step, k) for k in samples]
        fresh = [self._fresh(sample) for sample in drawn]
        reads = [
            [self._part(view, s, s.reads[k], own) for s, own in zip(drawn, fresh, strict=True)]
            for k, view in enumerate(self.geometry.reads)
        ]
        targets = [
            [self._part(view, s, s.targets[k], None) for s in drawn]
            for k, view in enumerate(self.geometry.makes)
        ]
        for part in chain.from_iterable((*reads, *targets)):
            announce(part.image, part.box)
        pairs = zip(reads, self.geometry.reads, strict=True)
        seen = [self._cut(parts, view, drawn) for parts, view in pairs]
        if self.augmented:
            rngs = [SampleRng.of(s.seed, self.device) for s in drawn]
            for k, view in enumerate(self.geometry.reads):
                sizes = [s.reads[k].size for s in drawn]
                seen[k] = self._noisy(seen[k], view, drawn, rngs, sizes)
        pairs = zip(targets, self.geometry.makes, strict=True)
        return Batch(
            tuple(map(self._blinded, seen, self.geometry.reads)),
            tuple(self._cut(parts, view, drawn) for parts, view in pairs),
        )

    def _fresh(self, sample: Sample) -> FreshImage | None:
        """The appearance that a sample has for itself, computed for all that is read of it."""
        if not sample.fresh:
            return None
        margin = {"sketch": sketch.halo(self.config.sketch), "source": 0}
        pairs = zip(self.geometry.reads, sample.reads, strict=True)
        used = [(view, box) for view, box in pairs if view.image in margin]
        around = hull([box.grown(margin[view.image]) for view, box in used])
        subject, scale = self.subjects[sample.subject], self.scale + used[0][0].scale
        return FreshImage(subject, self.config, scale, around, sample.seed, self.device)

    def _part(self, view: View, sample: Sample, box: Box, fresh: FreshImage | None) -> _Part:
        """A box of the image that a view is of."""
        subject, scale = self.subjects[sample.subject], self.scale + view.scale
        rims = subject.rims
        if fresh is not None and view.image in ("sketch", "source"):
            seen = fresh.sketch(box) if view.image == "sketch" else fresh.source(box)
            return _Part(seen, Box.whole(box.size), False)
        if view.image == "sketch":
            return _Part.of(subject.sketches[scale][sample.variant], box, rims and rims[1])
        image = subject.images[scale]
        if view.image == "source":
            image = subject.sources[scale][sample.variant]
        if view.image == "below" and sample.generated:
            image = subject.generated[sample.variant]
        return _Part.of(image, box, rims and rims[0])

    def _noisy(
        self,
        seen: Tensor,
        view: View,
        drawn: Sequence[Sample],
        rngs: Sequence[SampleRng],
        sizes: Sequence[Shape],
    ) -> Tensor:
        """What is read as a translation would find it."""
        how = self.config.conditioning
        if view.image == "sketch":
            return augment_sketch(seen, how, rngs, sizes)
        if view.image == "source" or all(one.generated for one in drawn):
            return seen
        around = augment_context(seen, how, rngs)
        for patch, raw, one in zip(around, seen, drawn, strict=True):
            if one.generated:  # it has the errors that the others are given
                patch.copy_(raw)
        return around

    def _blinded(self, seen: Tensor, view: View) -> Tensor:
        """As the networks see it; also what is noise alone would tell them something."""
        name = "context" if view.image == "below" else view.image
        return (
            torch.full_like(seen, view.empty)
            if self.scale and name in self.config.drop_inputs
            else seen
        )

    def decide(self, purpose: str, step: int, index: int) -> Sample:
        """What one sample of the batch of one step is; nothing is cut yet."""
        names = (self.scale, purpose, step, index)
        rng = seeds.numpy_rng(self.config.seed, *names)
        chosen = int(rng.integers(len(self.subjects)))
        subject = self.subjects[chosen]
        variants = len(subject.sketches[max(self.scale, 1)])
        recoloured = variants > 1 and rng.random() < self._recoloured_share
        variant = int(rng.integers(1, variants)) if recoloured else 0
        if self.geometry.border is None:
            detail = self._around(self._centre(subject, rng))
        else:
            detail = self._crop(subject, rng)
        reads, targets = self.geometry.read_boxes(detail), self.geometry.make_boxes(detail)
        mirrored = tuple(a for a in self.config.training.mirror if rng.random() < 0.5)
        noise = seeds.derive(self.config.seed, *names, "noise")
        share = self.config.conditioning.generated_share
        generated = bool(subject.generated and share and rng.random() < share)
        fresh = self.config.contrast.fresh if recoloured else 0.0
        anew = bool(fresh and rng.random() < fresh)
        return Sample(chosen, variant, reads, targets, mirrored, noise, generated, anew)

    @property
    def _recoloured_share(self) -> float:
        """Share of samples of recoloured images.

        All of those of a generator that sees the source: the target in its place would teach it
        that nothing is missing.
        """
        share = self.config.contrast.share
        sees = any(view.image == "source" for view in self.geometry.reads)
        return 1.0 if share and sees else share

    def _crop(self, subject: CachedSubject, rng: np.random.Generator) -> Box:
        """The whole image with its border, or a part of that of side ``lr_patch``."""
        shape = subject.shape(self.scale)
        full = Box.whole(shape).grown(self.geometry.border or 0)
        side = self.config.training.patch if self.scale else self.config.training.lr_patch
        if side is None:
            return full
        size = tuple(min(side, n) for n in full.size)
        spare = [n - s for n, s in zip(full.size, size, strict=True)]
        if centre := self._labelled(subject, rng):
            wanted = [c - s // 2 - a for c, s, a in zip(centre, size, full.start, strict=True)]
            offset = [min(max(n, 0), k) for n, k in zip(wanted, spare, strict=True)]
        else:
            offset = [int(rng.integers(k + 1)) for k in spare]
        step = self.geometry.step
        return Box(full.start, size).shifted([n // step * step for n in offset])

    def _labelled(self, subject: CachedSubject, rng: np.random.Generator) -> Sequence[int]:
        """A labelled voxel in a share of the samples of a labelled image, else nothing."""
        share = self.config.training.label_share
        labelled = subject.labelled[self.scale] if share else ()
        if not len(labelled) or rng.random() >= share:
            return ()
        return [int(n) for n in labelled[int(rng.integers(len(labelled)))]]

    def _centre(self, subject: CachedSubject, rng: np.random.Generator) -> Sequence[int]:
        """A labelled voxel or else one of foreground, of which the last try is kept even if it
        is none."""
        if centre := self._labelled(subject, rng):
            return centre
        image = subject.on_host(self.scale)
        rim = subject.rims[0] if subject.rims else 0
        for _ in range(50):
            centre = [int(rng.integers(n)) for n in subject.shape(self.scale)]
            if image[(0, *(n + rim for n in centre))] > BACKGROUND + 1e-3:
                break
        return centre

    def _around(self, centre: Sequence[int]) -> Box:
        """The patch about a voxel, where one may begin."""
        side, step = self.geometry.patch or self.config.training.patch, self.geometry.align
        size = self.geometry.sides(side, len(centre))
        pairs = zip(centre, size, strict=True)
        return Box(tuple((c - n // 2) // step * step for c, n in pairs), size)

    def _cut(
        self,
        parts: Sequence[_Part],
        view: View,
        drawn: Sequence[Sample],
    ) -> Tensor:
        """Boxes of images (C, *shape) as one float batch, mirrored; nothing lies outside."""
        fill = view.empty
        first = parts[0].image
        size = tuple(max(sides) for sides in zip(*(part.box.size for part in parts), strict=True))
        # Through page-locked memory a copy to a GPU returns at once. PyTorch keeps the memory for
        # the next batch, and does not give it away before the copy is done.
        pinned = first.device.type == "cpu" and self.device.type == "cuda"
        out = torch.empty(
            (len(parts), first.shape[0], *size),
            dtype=first.dtype,
            device=first.device,
            pin_memory=pinned,
        )
        for target, part in zip(out, parts, strict=True):
            inside = part.box.clipped(part.image.shape[1:])
            if part.extended and inside != part.box:
                if part.box.size != size:
                    target.fill_(fill)
                place = trailing(slice(n) for n in part.box.size)
                target[place] = part.read()
                continue
            if inside.size != size:
                target.fill_(fill)
            if inside.voxels:
                place = trailing(inside.inside(part.box).slices)
                target[place] = part.image[trailing(inside.slices)]
        out = out.to(self.device, non_blocking=pinned)
        for target, sample, part in zip(out, drawn, parts, strict=True):
            patch = target[trailing(slice(n) for n in part.box.size)]
            self._mirror(patch, sample.mirrored, directed=view.image == "sketch")
        return out.float()

    def _mirror(self, patch: Tensor, axes: Sequence[int], directed: bool) -> None:
        """Flip (C, *spatial) in place; channels that look in a direction change places."""
        if not axes:
            return
        flipped = patch.flip([1 + axis for axis in axes])
        order = list(range(len(patch)))
        for axis in axes if directed else ():
            numbers = torch.tensor(order).view(1, -1, *[1] * (patch.ndim - 1))
            order = sketch.mirror(numbers, axis, self.config.sketch).flatten().tolist()
        for channel, source in enumerate(order):
            patch[channel].copy_(flipped[source])


class Prefetch:
    """Draws batches ahead while others are trained on; counts the seconds waited.

    Args:
        patches: Draws.
        purpose: Of the batches.
        samples: Of each batch.
        depth: Batches drawn ahead.
        stop: Step before which drawing ends; None draws on.
    """

    def __init__(
        self,
        patches: Patches,
        purpose: str,
        samples: Sequence[int],
        depth: int = DEPTH,
        stop: int | None = None,
    ) -> None:
        self._draw = lambda step: patches.draw(purpose, step, samples)
        # Drawing a sketch changes the number of threads for a while, and a thread that has not
        # asked yet would keep what it finds then.
        torch.get_num_threads()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="msgan-patches")
        self._ahead: deque[tuple[int, Future[Batch]]] = deque()
        self._depth = depth
        self._stop = stop
        self.waited = 0.0

    def get(self, step: int) -> Batch:
        """The batch of ``step``; those after it are begun."""
        if not self._ahead or self._ahead[0][0] != step:
            for _, other in self._ahead:
                other.cancel()
            self._ahead.clear()
        for later in range(step + len(self._ahead), step + self._depth + 1):
            if later == step or self._stop is None or later < self._stop:
                self._ahead.append((later, self._pool.submit(self._draw, later)))
        start = perf_counter()
        batch = self._ahead.popleft()[1].result()
        self.waited += perf_counter() - start
        return batch

    def close(self) -> None:
        """Stop drawing."""
        self._pool.shutdown(cancel_futures=True)
