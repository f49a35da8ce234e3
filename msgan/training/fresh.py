"""Sketches that are drawn in training, of an appearance that no other sample has."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from msgan import pyramid, seeds, sketch
from msgan.appearance import Appearance
from msgan.config import CascadeConfig
from msgan.match import slope
from msgan.pyramid import extended
from msgan.training.cache import CachedSubject, announce, ending
from msgan.types import Array, Box, Reader, read_extended, trailing


class FreshImage:
    """What one sample sees in the place of a cached variant: s_i in an appearance of its own.

    The appearance is computed once, noise included, so all that is cut from it agrees. It is made
    of what is cached, with the halo that it needs, and goes on beyond the image as a variant does.

    Args:
        subject: What is cached of it.
        config: The cascade's.
        scale: i, at least 1.
        box: What is computed of it; a sketch needs its halo around.
        seed: Of the sample; the appearance and its noise follow from it.
        device: Where it is computed. A GPU is waited for.
    """

    def __init__(
        self,
        subject: CachedSubject,
        config: CascadeConfig,
        scale: int,
        box: Box,
        seed: int,
        device: torch.device,
    ) -> None:
        self.subject, self.config, self.scale, self.device = subject, config, scale, device
        self.shape = subject.shape(scale)
        drawn = seeds.derive(seed, "appearance")
        appearance = Appearance.draw(config.contrast, config.dims, drawn, subject.levels)
        noise = torch.Generator(device).manual_seed(seeds.derive(seed, "appearance", "noise"))
        factor = 2 ** (len(subject.images) - 1 - scale)
        image = subject.on_host(scale)
        seen = appearance.reader(
            _reader(subject, image, scale), self.shape, lambda _: noise, factor
        )
        if subject.rims is None:
            seen = ending(seen, self.shape)
        known = Box.whole(self.shape).grown(pyramid.RIM)
        region = box.nearest(known)
        rim = (subject.rims[0] if subject.rims else 0,) * box.dims
        announce(image, region.grown(appearance.halo(factor)).shifted(rim))
        part = seen(region)
        self._read: Reader = lambda near: read_extended(
            lambda inner: part[inner.inside(region).slices], region, near
        )

    def sketch(self, box: Box) -> Tensor:
        """(channels, *box), what the cache would hold of a variant of this appearance."""
        labels = self._labels
        read = sketch.sketch_reader(
            self._read,
            self.shape,
            self.config.sketch,
            labels,
            self.device,
            self.config.labels or (1,),
            rim=pyramid.RIM,
        )
        like = self.subject.sketches[self.scale][0]
        return read.draw(read.load(box))[0].to(like.device, like.dtype)

    def source(self, box: Box) -> Tensor:
        """(1, *box), hidden in labels and near them, as the cache would hold it."""
        read, labels = self._read, self._labels
        if labels is not None:
            hidden = slope.hiding(read, labels, self.shape)
            read = extended(hidden, self.shape, pyramid.RIM)
        like = self.subject.images[self.scale]
        return torch.from_numpy(np.ascontiguousarray(read(box)))[None].to(like.device, like.dtype)

    @property
    def _labels(self) -> Reader | None:
        if not self.subject.label_maps:
            return None
        return _reader(self.subject, self.subject.label_maps[self.scale], self.scale)


def _reader(subject: CachedSubject, image: Tensor, scale: int) -> Reader:
    """Any box of a tensor (1, *s_scale), which goes on by repeating its outermost voxels."""
    shape, rim = subject.shape(scale), subject.rims[0] if subject.rims else 0

    def read(box: Box) -> Array:
        found: Array = image[0][trailing(box.shifted((rim,) * box.dims).slices)].numpy()
        return found

    return extended(read, shape, rim)
