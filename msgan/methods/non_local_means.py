"""Non-local means: smoothing that keeps edges, tile by tile, without any training."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np

from msgan.config import CascadeConfig, Preparation
from msgan.data.cohort import Cohort
from msgan.data.foreground import blocks
from msgan.data.intensity import IntensityMap
from msgan.methods.baselines import Profile
from msgan.methods.untrained import Untrained
from msgan.translate.maker import Making, silent
from msgan.types import Array, Box, InputError, Reader, Shape

TILE = {2: 1024, 3: 96}
"""Side of a tile: about 50 MiB at work."""

THREADS = min(4, os.cpu_count() or 1)
"""Tiles at work at once."""

BINS = 1 << 16
"""Of the histogram of differences that tells the noise."""

MEDIAN = 0.6744897501960817
"""Median of the absolute value of a standard normal variable."""

BACKGROUND = -1.0


class NonLocalMeans(Untrained):
    """The third baseline of the extended paper (section 3.2.1, table 1; Buades et al., 2005).

    A voxel becomes the mean of voxels near it, weighted by how alike the patches around them are.
    The paper states no parameters. Here: scikit-image in its fast mode (all voxels of a patch
    count alike; Darbon et al., 2008), where tiles of any size agree with the whole image to
    rounding (3e-8 measured at 110^3; 1e-5 is tested); ``h`` is ``strength`` times the image's own
    noise, 0.6 as scikit-image advises for the fast mode. Patches are cubes of voxels, whatever
    their spacing.

    Nothing is learnt: with ``intensity`` the result is shown in the target's range, as the other
    rows of a table are, and without it in the image's own.
    """

    name = "non-local means"
    side = TILE
    host = 50 << 20

    def __init__(
        self,
        preparation: Preparation,
        intensity: IntensityMap | None = None,
        *,
        strength: float = 0.6,
        patch_size: int = 5,
        patch_distance: int = 5,
    ) -> None:
        """Set the parameters.

        Args:
            preparation: Decides foreground and range; the image stays on its own grid.
            intensity: Range to write the result in; None: the image's own.
            strength: h in standard deviations of the noise.
            patch_size: Side of a patch, odd.
            patch_distance: Farthest a compared patch is away along each axis, voxels.

        Raises:
            InputError: A parameter is not one.
        """
        if not strength > 0:
            raise InputError(f"strength {strength}: expected more than 0")
        if patch_size < 1 or patch_size % 2 == 0:
            raise InputError(f"patch_size {patch_size}: expected an odd number of voxels")
        if patch_distance < 1:
            raise InputError(f"patch_distance {patch_distance}: expected at least 1 voxel")
        super().__init__(preparation.updated(spacing_mm=None), intensity)
        self.strength = strength
        self.patch_size = patch_size
        self.patch_distance = patch_distance

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        source: str | None,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> NonLocalMeans:
        """Take the target's range from the training subjects, and nothing else.

        Raises:
            InputError: No training subject has a ``target`` image, or a file is at fault.
        """
        preparation = config.preparation
        return cls(preparation, Profile.of(cohort, target, preparation).intensity, **options)

    @property
    def halo(self) -> int:
        """Voxels around a tile that its values depend on."""
        return self.patch_distance + self.patch_size // 2

    def parameters(self) -> list[Any]:
        """Strength and sizes."""
        return [self.strength, self.patch_size, self.patch_distance]

    def scratch(self, shape: Shape) -> int:
        """The smoothed image."""
        return 4 * Box.whole(shape).voxels

    def read(self, making: Making) -> Reader:
        """The smoothed image.

        Kept first: a file is written in slabs, which would be nearly all halo.
        """
        read, shape = making.subject.read, making.subject.grid.shape
        sides = self.sides(shape, making.limits.tile)
        stage = making.work.stage("smooth", shape, sides)
        boxes = list(Box.whole(shape).tiles(sides))
        tell = making.progress or silent
        tell("smoothing", len(stage.done), len(boxes))
        todo = [(k, box) for k, box in enumerate(boxes) if k not in stage.done]
        sigma = noise(read, shape) if todo else 0.0
        # scikit-image works without Python's lock. Files are read here, one box after the other.
        waiting: deque[tuple[int, Box, Future[Array]]] = deque()

        def store() -> None:
            number, box, made = waiting.popleft()
            stage.write(number, box, made.result())
            tell("smoothing", len(stage.done), len(boxes))

        with ThreadPoolExecutor(THREADS) as pool:
            for number, box in todo:
                around = box.grown(self.halo).clipped(shape)
                part = np.asarray(read(around))
                made = pool.submit(self._inner, part, box.inside(around), sigma)
                waiting.append((number, box, made))
                if len(waiting) == THREADS:
                    store()
            while waiting:
                store()
        stage.finish()
        return stage.store.read

    def smooth(self, read: Reader, shape: Shape, box: Box, sigma: float) -> Array:
        """``box`` of the smoothed image; asks for the box and its halo, and no more.

        At the border of the image it is mirrored, as scikit-image does with a whole image.

        Args:
            read: The image in [-1, 1].
            shape: Of the image.
            box: Inside it.
            sigma: Standard deviation of the noise; where it is 0 the image stays as it is.
        """
        around = box.grown(self.halo).clipped(shape)
        return self._inner(np.asarray(read(around)), box.inside(around), sigma)

    def _inner(self, part: Array, box: Box, sigma: float) -> Array:
        """``box`` of the smoothed ``part``, which is its image."""
        from skimage.restoration import denoise_nl_means

        inner = box.slices
        if sigma == 0 or not (part != BACKGROUND).any():
            return part[inner].astype(np.float32)
        smooth = denoise_nl_means(
            part,
            patch_size=self.patch_size,
            patch_distance=self.patch_distance,
            h=self.strength * sigma,
            sigma=sigma,
            fast_mode=True,
            preserve_range=True,
        )
        # The fast mode adds up and subtracts: its means may leave the range by rounding.
        return smooth[inner].clip(-1, 1).astype(np.float32)


def noise(read: Reader, shape: Shape) -> float:
    """Standard deviation of white noise in an image in [-1, 1], read block by block.

    From the median of the finest diagonal Haar coefficients (Donoho and Johnstone, 1994), over
    blocks of 2^d voxels that lie wholly between the ends of the range, where nothing is cut off.
    Noise that neighbours share, as of a soft CT kernel, counts less than it is.

    Returns:
        0 where the median difference is too small to be told from none, or no block qualifies.
    """
    dims = len(shape)
    most = 2.0 ** (dims / 2)
    counts = np.zeros(BINS, dtype=np.int64)
    for box in blocks(shape):
        part = np.asarray(read(box), dtype=np.float32)
        part = part[tuple(slice(0, n // 2 * 2) for n in part.shape)]
        detail = np.zeros([n // 2 for n in part.shape], dtype=np.float32)
        inside = np.ones(detail.shape, dtype=bool)
        for corner in product((0, 1), repeat=dims):
            voxels = part[tuple(slice(k, None, 2) for k in corner)]
            detail += (-1) ** sum(corner) * voxels
            inside &= (voxels > -1) & (voxels < 1)
        found = np.abs(detail[inside]) / most
        counts += np.histogram(found, bins=BINS, range=(0, most))[0]
    total = int(counts.sum())
    cumulative = np.cumsum(counts)
    middle = int(np.searchsorted(cumulative, total / 2))
    if total == 0 or middle == 0:
        return 0.0
    before = cumulative[middle - 1]
    part_of = (total / 2 - before) / counts[middle]
    return float((middle + part_of) * most / BINS / MEDIAN)
