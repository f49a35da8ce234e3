"""A regression on local features of a source, fitted to an estimate of that very image."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from msgan.match.fusion import blocks
from msgan.match.slope import HIDDEN
from msgan.pyramid import BACKGROUND
from msgan.types import Array, Box, Reader, Shape, read_padded

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

SIGMAS = (1.0, 2.0, 4.0, 8.0)
"""Of the windows of local means and deviations, voxels."""

REACH = ceil(3 * max(SIGMAS))
"""Voxels around one that its features depend on; depth in the foreground counts as far."""

SAMPLES = 60_000
"""Voxels it is fitted to, at most."""

ROUNDS = 120

EPSILON = 1e-4


@dataclass(frozen=True)
class Student:
    """Gradient boosting from what a source shows around a voxel to an estimate of the target.

    It is fitted to the estimate of the image that is translated, without any truth or pair: it can
    only say what the source supports, so errors of the estimate that do not follow the source
    average out.
    """

    model: HistGradientBoostingRegressor

    @classmethod
    def of(cls, source: Reader, estimate: Reader, shape: Shape) -> Student | None:
        """Fit one to at most :data:`SAMPLES` voxels of the foreground.

        Args:
            source: In [-1, 1], a box inside ``shape``; below -1 where labels hide it.
            estimate: Of the target, likewise.
            shape: Of both.

        Returns:
            The same for the same images; None where there is no foreground.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor

        total = sum(int((source(box) > BACKGROUND).sum()) for box in blocks(shape))
        if not total:
            return None
        places, seen, wanted = [], [], []
        for box in blocks(shape):
            inside, number = source(box) > BACKGROUND, _numbers(shape, box)
            inside &= _uniform(number) < SAMPLES / total
            if inside.any():
                places.append(number[inside])
                seen.append(features(source, shape, box)[inside])
                wanted.append(estimate(box)[inside])
        if not seen:
            return None
        order = np.argsort(np.concatenate(places))  # whatever the blocks
        model = HistGradientBoostingRegressor(
            max_iter=ROUNDS, min_samples_leaf=200, early_stopping=False, random_state=0
        )
        return cls(model.fit(np.concatenate(seen)[order], np.concatenate(wanted)[order]))

    def estimate(self, source: Reader, shape: Shape) -> Reader:
        """What it says of a source in [-1, 1]; background stays background.

        Returns:
            A reader of a box inside ``shape``.
        """

        def read(box: Box) -> Array:
            inside = source(box) > BACKGROUND
            out = np.full(box.size, BACKGROUND, dtype=np.float32)
            if inside.any():
                said = self.model.predict(features(source, shape, box)[inside])
                out[inside] = np.clip(said, -1, 1)
            return out

        return read


def features(source: Reader, shape: Shape, box: Box) -> Array:
    """(*box, 2 + 2 x windows) float32: value, depth, means and deviations of the foreground.

    Args:
        source: In [-1, 1], a box inside ``shape``; beyond it is background.
        shape: Of the image.
        box: Inside it.
    """
    around = box.grown(REACH)
    part = read_padded(source, shape, around, BACKGROUND)
    inside = part > BACKGROUND
    body = inside | (part <= HIDDEN)  # what labels hide is no border of the body
    depth = np.minimum(distance_transform_edt(body), REACH) if not body.all() else None
    weight = inside.astype(np.float32)
    here = box.inside(around).slices
    value = np.asarray(part, dtype=np.float32)
    found = [value[here], np.full(box.size, REACH) if depth is None else depth[here]]
    for sigma in SIGMAS:
        share, mean, square = (
            gaussian_filter(v * weight, sigma, mode="constant", truncate=3)[here]
            for v in (np.ones_like(value), value, value * value)
        )
        share = np.maximum(share, EPSILON)
        mean, square = mean / share, square / share
        found += [mean, np.sqrt(np.maximum(square - mean * mean, 0))]
    return np.stack(found, axis=-1, dtype=np.float32, casting="same_kind")


def _numbers(shape: Shape, box: Box) -> Array:
    """(*box) number of each voxel in the image."""
    axes = [np.arange(a, b, dtype=np.uint64) for a, b in zip(box.start, box.stop, strict=True)]
    return np.asarray(np.ravel_multi_index(np.ix_(*axes), shape), dtype=np.uint64)


def _uniform(number: Array) -> Array:
    """Random numbers in [0, 1), of each voxel the same in any block (SplitMix64)."""
    mixed = (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(11)) / float(1 << 53)
