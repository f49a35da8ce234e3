"""Sketches of images of any size, computed region by region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from msgan.config import SketchConfig
from msgan.sketch.region import BACKGROUND, channels, halo, overlay, sketch
from msgan.types import Array, Box, Reader, Shape, read_extended, read_padded, trailing

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Loaded:
    """What a region's sketch is drawn from, in host memory.

    Attributes:
        box: The region; it may reach outside the image.
        drawn: What is to be drawn of it: outside the image as far as the sketch varies there,
            or nothing where the image ends in background.
        image: The image in ``drawn``, and ``halo`` around.
        labels: Labels in ``drawn``, if any.
    """

    box: Box
    drawn: Box
    image: Array
    labels: Array | None


@dataclass(frozen=True)
class SketchReader:
    """The sketch of an image of any size, region by region.

    The image goes on beyond its faces by repeating its outermost voxels, and so does its sketch;
    where it ends in background, the sketch is 0 beyond.

    Called with a box it gives an array, like any reader. Reading and drawing can be had one by
    one, because the next region can be read while this one is drawn, and because a sketch drawn
    on a GPU is wanted there.

    Attributes:
        read: Reads the image, in [-1, 1]. Where a sketch is drawn from two images
            (:func:`msgan.sketch.images`), both, as :func:`stacked` does.
        shape: Of the image.
        config: Channels and their parameters.
        read_labels: Reads the labels to draw over the sketch, if any.
        device: Where the sketch is drawn.
        values: The labels that may occur (see :func:`msgan.sketch.region.overlay`).
        rim: Voxels beyond ``shape`` that image and labels can be read of. A coarse scale needs
            :data:`msgan.pyramid.RIM`, to know whether the image ends in background.
    """

    read: Reader
    shape: Shape
    config: SketchConfig
    read_labels: Reader | None = None
    device: torch.device = CPU
    values: Sequence[int] = (1, 2, 3, 4)
    rim: int = 0

    def load(self, box: Box) -> Loaded:
        """Read what the sketch of ``box`` needs."""
        margin, whole = halo(self.config), Box.whole(self.shape)
        known, inside = whole.grown(self.rim), box.clipped(self.shape)
        # Farther out the sketch is constant away from the image.
        drawn = box.nearest(whole.grown(margin + self.rim + 1))
        around = drawn.grown(margin)
        valid = around.nearest(known)
        part = self.read(valid)
        if self._goes_on(part, valid, around):
            image = read_extended(lambda near: part, known, around)
        else:
            drawn = inside
            image = _bounded(part, valid, inside.grown(margin))
        labels = None
        if self.read_labels is not None:
            labels = read_extended(self.read_labels, known, drawn) if drawn.voxels else None
        return Loaded(box, drawn, image, labels)

    def draw(self, loaded: Loaded) -> Tensor:
        """(1, channels, *box) in [0, 1] on ``device``."""
        if not loaded.drawn.voxels:
            count = channels(self.config, len(self.shape))
            return torch.zeros((1, count, *loaded.box.size), device=self.device)
        image = self._tensor(loaded.image)
        drawn = sketch(image, self.config)
        if loaded.labels is not None:
            drawn = overlay(drawn, self._tensor(loaded.labels), self.values)
        if loaded.drawn == loaded.box.clipped(self.shape):
            return padded(drawn, loaded.drawn, loaded.box)
        drawn *= self._seen(image, loaded.drawn)
        return read_extended(cut(drawn, loaded.drawn), loaded.drawn, loaded.box)

    def _goes_on(self, part: Array, valid: Box, around: Box) -> bool:
        """Whether an image is anything but background beyond its faces in ``around``.

        Args:
            part: All that is known of the image in ``around``.
            valid: Where that lies.
            around: A box.
        """
        thick = max(self.rim, 1)
        for axis, size in enumerate(self.shape):
            line = part.swapaxes(part.ndim - around.dims + axis, -1)
            low = valid.start[axis] + self.rim  # how far the rim is inside
            high = size + self.rim - valid.stop[axis]
            if around.start[axis] < 0 and (line[..., : thick - low] > BACKGROUND).any():
                return True
            outer = line.shape[-1] - thick + high
            if around.stop[axis] > size and (line[..., max(outer, 0) :] > BACKGROUND).any():
                return True
        return False

    def _seen(self, image: Tensor, box: Box) -> Tensor:
        """Where a sketch, of ``box``, may be seen: in the image, and beyond it where the image
        goes on within ``halo``. Elsewhere it ends in background, which has no sketch."""
        margin = halo(self.config)
        there = (image > BACKGROUND).any(dim=1, keepdim=True)
        around = box.grown(margin)
        inside = around.clipped(self.shape)
        if inside.voxels:
            there[trailing(inside.inside(around).slices)] = False
        for axis in range(2, there.ndim):  # a running count, whatever the width of the halo
            count = F.pad(there, [0] * (2 * (there.ndim - 1 - axis)) + [1, 0])
            count = count.cumsum(axis, dtype=torch.int32)
            size = there.shape[axis] - 2 * margin
            there = count.narrow(axis, 2 * margin + 1, size) > count.narrow(axis, 0, size)
        inside = box.clipped(self.shape)
        if inside.voxels:
            there[trailing(inside.inside(box).slices)] = True
        return there

    def __call__(self, box: Box) -> Array:
        """(channels, *box), float32."""
        return self.draw(self.load(box))[0].cpu().numpy()

    def _tensor(self, part: Array) -> Tensor:
        # A memory map is read-only and may have the other byte order; torch takes neither.
        plain = np.asarray(part, dtype=np.float32, order="C")
        if not plain.flags.writeable:
            plain = plain.copy()
        lead = plain.ndim - len(self.shape)  # 1 where there are two images
        return torch.from_numpy(plain)[(None,) * (2 - lead)].to(self.device)


@dataclass(frozen=True)
class DrawnSketch:
    """A sketch that is already there, behind the same two steps as :class:`SketchReader`.

    Attributes:
        read: Reads the sketch, (channels, *box).
        shape: Of the image.
        device: Where it is wanted.
        rim: Voxels beyond ``shape`` that it can be read of, the outermost of which are repeated
            farther out; None: it is 0 beyond.
    """

    read: Reader
    shape: Shape
    device: torch.device = CPU
    rim: int | None = None

    def load(self, box: Box) -> Loaded:
        """Read the sketch of ``box``."""
        if self.rim is None:
            drawn = box.clipped(self.shape)
        else:
            drawn = box.nearest(Box.whole(self.shape).grown(self.rim))
        return Loaded(box, drawn, self.read(drawn), None)

    def draw(self, loaded: Loaded) -> Tensor:
        """(1, channels, *box) on ``device``."""
        part = torch.from_numpy(np.ascontiguousarray(loaded.image, dtype=np.float32))
        part = part[None].to(self.device)
        if self.rim is None:
            return padded(part, loaded.drawn, loaded.box)
        return read_extended(cut(part, loaded.drawn), loaded.drawn, loaded.box)


def stacked(*read: Reader) -> Reader:
    """Images on one grid as one reader, (images, *box)."""
    return lambda box: np.stack([one(box) for one in read])


def _bounded(part: Array, valid: Box, box: Box) -> Array:
    """``box`` of an image of which ``part`` is all but background, and lies at ``valid``."""
    inner = box.inside(valid)

    def read(near: Box) -> Array:
        return part[trailing(near.slices)]

    return read_padded(read, valid.size, inner, BACKGROUND)


def cut(drawn: Tensor, region: Box) -> Callable[[Box], Tensor]:
    """Cuts boxes out of a tensor (..., *spatial) that is what there is of ``region``."""
    return lambda box: drawn[trailing(box.inside(region).slices)]


def padded(drawn: Tensor, inside: Box, box: Box) -> Tensor:
    """The sketch of ``box`` from that of its part ``inside`` the image; 0 elsewhere."""
    if inside == box:
        return drawn
    rims = zip(inside.start, box.start, box.stop, inside.stop, strict=True)
    amounts = [(a - b, c - d) for a, b, c, d in rims]
    return F.pad(drawn, [k for pair in reversed(amounts) for k in pair])


def sketch_reader(
    read: Reader,
    shape: Sequence[int],
    config: SketchConfig,
    read_labels: Reader | None = None,
    device: str | torch.device = "cpu",
    values: Sequence[int] = (1, 2, 3, 4),
    rim: int = 0,
) -> SketchReader:
    """A reader of the sketch of an image of any size; see :class:`SketchReader`."""
    where = torch.device(device)
    return SketchReader(read, tuple(shape), config, read_labels, where, tuple(values), rim)
