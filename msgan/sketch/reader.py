"""Sketches of images of any size: read a region, then draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from msgan.config import SketchConfig
from msgan.sketch.region import BACKGROUND, channels, halo, overlay, sketch
from msgan.types import Array, Box, Reader, Shape, read_padded

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Loaded:
    """What a region's sketch is drawn from, in host memory.

    Attributes:
        box: The region; it may reach outside the image.
        image: The image where the region lies inside, and ``halo`` around.
        labels: Labels where the region lies inside, if any.
    """

    box: Box
    image: Array
    labels: Array | None


@dataclass(frozen=True)
class SketchReader:
    """The sketch of an image of any size, region by region; 0 outside the image.

    Called with a box it gives an array, like any reader. Reading and drawing can be had one by
    one, because the next region can be read while this one is drawn, and because a sketch drawn
    on a GPU is wanted there.

    Attributes:
        read: Reads the image, in [-1, 1]; outside ``shape`` it is background. Where a sketch is
            drawn from two images (:func:`msgan.sketch.images`), both, as :func:`stacked` does.
        shape: Of the image.
        config: Channels and their parameters.
        read_labels: Reads the labels to draw over the sketch, if any.
        device: Where the sketch is drawn.
        values: The labels that may occur (see :func:`msgan.sketch.region.overlay`).
    """

    read: Reader
    shape: Shape
    config: SketchConfig
    read_labels: Reader | None = None
    device: torch.device = CPU
    values: Sequence[int] = (1, 2, 3, 4)

    def load(self, box: Box) -> Loaded:
        """Read what the sketch of ``box`` needs."""
        inside = box.clipped(self.shape)
        image = read_padded(self.read, self.shape, inside.grown(halo(self.config)), BACKGROUND)
        labels = self.read_labels(inside) if self.read_labels else None
        return Loaded(box, image, labels)

    def draw(self, loaded: Loaded) -> Tensor:
        """(1, channels, *box) in [0, 1] on ``device``."""
        inside = loaded.box.clipped(self.shape)
        if not inside.voxels:
            count = channels(self.config, len(self.shape))
            return torch.zeros((1, count, *loaded.box.size), device=self.device)
        drawn = sketch(self._tensor(loaded.image), self.config)
        if loaded.labels is not None:
            drawn = overlay(drawn, self._tensor(loaded.labels), self.values)
        return padded(drawn, inside, loaded.box)

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
    """

    read: Reader
    shape: Shape
    device: torch.device = CPU

    def load(self, box: Box) -> Loaded:
        """Read the sketch of ``box``."""
        return Loaded(box, self.read(box.clipped(self.shape)), None)

    def draw(self, loaded: Loaded) -> Tensor:
        """(1, channels, *box) on ``device``."""
        part = torch.from_numpy(np.ascontiguousarray(loaded.image, dtype=np.float32))
        inside = loaded.box.clipped(self.shape)
        return padded(part[None].to(self.device), inside, loaded.box)


def stacked(*read: Reader) -> Reader:
    """Images on one grid as one reader, (images, *box)."""
    return lambda box: np.stack([one(box) for one in read])


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
) -> SketchReader:
    """A reader of the sketch of an image of any size; see :class:`SketchReader`."""
    where = torch.device(device)
    return SketchReader(read, tuple(shape), config, read_labels, where, tuple(values))
