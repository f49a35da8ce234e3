"""Sketch channels besides edges: contrast-free ones (our own), and the image itself."""

from __future__ import annotations

from torch import Tensor

from msgan.config import SketchConfig
from msgan.sketch import filters
from msgan.types import Box

SHIFT = 1
"""Voxels between the two patches that ``self_similarity`` compares."""

PATCH_FLOOR = 0.02
"""Root mean square difference of patches that counts as noise; image in [-1, 1]."""

RIDGE_FLOOR = 0.01
"""Root mean square Laplacian that counts as noise, per square voxel; image in [-1, 1]."""


def self_similarity_halo(config: SketchConfig) -> int:
    """Voxels needed around a region by :func:`self_similarity`."""
    return filters.reach(config.sigma) + SHIFT


def self_similarity(image: Tensor, out: Tensor, config: SketchConfig) -> None:
    """How unlike its neighbours a patch is, one channel for each of the 2 dims directions.

    The modality independent neighbourhood descriptor (Heinrich et al., Medical Image Analysis
    2012, eq. 4): ``exp(-D / V)`` with D the squared difference, in a Gaussian patch, between the
    image and the image shifted, and V the mean of D over the directions.

    Differs: ``1 - exp(-D / (V + floor))``, so that where nothing is, the sketch is 0, and no
    division by the largest channel.

    Args:
        image: (batch, *core + 2 halo), in [-1, 1].
        out: (batch, 2 dims, *core), written; channel 2 a looks up axis a, 2 a + 1 down.
        config: ``sigma`` is that of the patch, voxels.
    """
    weights = filters.gaussian(config.sigma)
    margin = filters.reach(config.sigma)

    def compare(tile: Tensor, box: Box) -> None:
        target = filters.part(out, box)
        for axis in filters.spatial(tile):
            inner = filters.crop_across(tile, axis, SHIFT)
            size = inner.shape[axis] - SHIFT
            change = inner.narrow(axis, SHIFT, size) - inner.narrow(axis, 0, size)
            change = filters.smooth(change.mul_(change), weights)
            # Looking down from p is looking up from p - SHIFT.
            size = change.shape[axis] - SHIFT
            target[:, 2 * axis - 2].copy_(change.narrow(axis, SHIFT, size))
            target[:, 2 * axis - 1].copy_(change.narrow(axis, 0, size))
        variance = target.mean(dim=1, keepdim=True).add_(PATCH_FLOOR**2)
        target.div_(variance.neg_()).expm1_().neg_()

    filters.tiled(image, margin + SHIFT, compare)


def ridges_halo(config: SketchConfig) -> int:
    """Voxels needed around a region by :func:`ridges`."""
    return filters.reach(config.sigma) + 1 + filters.WINDOW


def ridges(image: Tensor, out: Tensor, config: SketchConfig) -> None:
    """Unsigned Laplacian of Gaussian relative to its local root mean square.

    Args:
        image: (batch, *core + 2 halo), in [-1, 1].
        out: (batch, 1, *core), written.
        config: ``sigma`` in voxels.
    """
    weights = filters.gaussian(config.sigma)

    def bend(tile: Tensor, box: Box) -> None:
        smoothed = filters.smooth(tile, weights)
        total = filters.crop(smoothed, 1) * (-2.0 * (tile.ndim - 1))
        for axis in filters.spatial(tile):
            inner = filters.crop_across(smoothed, axis, 1)
            size = inner.shape[axis] - 2
            total.add_(inner.narrow(axis, 0, size) + inner.narrow(axis, 2, size))
        filters.part(out[:, 0], box).copy_(filters.relative(total, RIDGE_FLOOR))

    filters.tiled(image, ridges_halo(config), bend)


def image_halo(config: SketchConfig) -> int:
    """Voxels needed around a region by :func:`itself`: none."""
    return 0


def itself(image: Tensor, out: Tensor, config: SketchConfig) -> None:
    """The image, for paired regression; background is 0, as in every channel.

    Args:
        image: (batch, *core), in [-1, 1].
        out: (batch, 1, *core), written: [0, 1].
        config: nothing of it is used.
    """
    out[:, 0].copy_(image).add_(1).mul_(0.5).clamp_(0, 1)
