"""REPLICA: random forests from the source image to the target, coarse scales first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from msgan import pyramid
from msgan.config import CascadeConfig, Preparation
from msgan.data.cohort import Cohort
from msgan.data.intensity import IntensityMap
from msgan.methods.baselines import Profile
from msgan.methods.replica_scales import SCALES, TILE, Image, Pair, scratch_bytes
from msgan.methods.untrained import Untrained, digest
from msgan.paths import room, scratch_folder
from msgan.seeds import derive
from msgan.translate.maker import Making
from msgan.translate.scratch import Scratch
from msgan.types import InputError, Reader, Shape

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

JOBS = min(4, os.cpu_count() or 1)
"""Trees that grow at once, batches that are predicted at once; no number depends on it."""

SAMPLES = 100_000
"""Voxels a forest is trained on, as in the method's public code."""


class Replica(Untrained):
    """A paired baseline of the extended paper (section 3.2.2, table 2): Jog et al., 2017.

    One random forest a scale, of three. From the source image around a voxel
    (:class:`msgan.methods.replica_features.Surroundings`) it predicts the target there; each
    finer forest also sees what the coarser one said. Numbers are those of the method's public
    code: 60 trees, at least 5 samples in a leaf, 100000 voxels in all; a third of the features
    is tried at each split, as is usual in regression. The extended paper states none. In training
    a finer forest sees what the coarser one predicts of the training images, as in translation.
    Differs: the scales are means over blocks of 2^d voxels, as everywhere here, not a Gaussian
    pyramid: a coarse voxel is then the same in every tile. Intensities are ranges of the
    foreground (:class:`msgan.config.Preparation`), not peaks of white matter.

    Labels are not used: as in the paper, it sees the source image and nothing else.
    """

    name = "REPLICA"
    side = TILE
    host = 200 << 20

    def __init__(
        self,
        source: str,
        preparation: Preparation,
        intensity: IntensityMap,
        forests: Sequence[RandomForestRegressor],
        dims: int,
        jobs: int = JOBS,
    ) -> None:
        """Use fitted forests; see :meth:`fit`.

        Args:
            source: Modality that is translated.
            preparation: Of the source image.
            intensity: The target's range.
            forests: One a scale, the finest first.
            dims: Axes of the images.
            jobs: Threads.
        """
        super().__init__(preparation, intensity)
        self.source = source
        self.forests = tuple(forests)
        self.dims = dims
        self.jobs = jobs

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        source: str | None,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str] | None = None,
        *,
        trees: int = 60,
        leaf: int = 5,
        samples: int = SAMPLES,
        jobs: int = JOBS,
    ) -> Replica:
        """Train on the subjects with both images, those of split ``test`` left alone.

        The same cohort and seed give the same forests. They are not kept on disk: a stored
        forest would be a pickle.

        Args:
            cohort: Subjects with both images on one grid; others are left out.
            source: Modality that is translated.
            target: Modality that is learnt.
            config: Its ``seed``, of samples and trees, and its ``preparation``: how images become
                [-1, 1]; features are in voxels, so it should state the spacing.
            out: Nothing is written there.
            trees: Of a forest.
            leaf: Fewest samples in a leaf.
            samples: Foreground voxels a forest is trained on, as many of each subject.
            jobs: Threads; the result does not depend on it.

        Raises:
            InputError: A number is below 1, no training subject has both images, a pair lies on
                two grids, or a file is at fault.
        """
        preparation, seed = config.preparation, config.seed
        if source is None:
            raise InputError(f"source None: {cls.name} is trained on pairs: name the source")
        for name, value in {"trees": trees, "leaf": leaf, "samples": samples, "jobs": jobs}.items():
            if value < 1:
                raise InputError(f"{name} {value}: expected at least 1")
        if source == target:
            raise InputError(f"source {source}: is the target itself")
        subjects = [s for s in cohort.with_modality(source, target) if s.split != "test"]
        if not subjects:
            raise InputError(f"no training subject has both a {source} and a {target} image")
        intensity = Profile.of(cohort, target, preparation).intensity
        preparation = _divisible(preparation)
        each = -(-samples // len(subjects))
        forests: list[RandomForestRegressor] = []
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder())
            pairs = [
                Pair.open(stack, s, source, target, preparation, Scratch(folder / str(k)))
                for k, s in enumerate(subjects)
            ]
            dims = {len(pair.image.shapes[0]) for pair in pairs}
            if len(dims) > 1:
                raise InputError(f"{source} images of {min(dims)} and of {max(dims)} axes")
            need = sum(scratch_bytes(pair.image.shapes) for pair in pairs)
            stack.enter_context(room(folder, need, "the scratch of this fit (in MSGAN_SCRATCH)"))
            for pair in pairs:
                pair.image.build()
            for scale in reversed(range(SCALES)):
                drawn = [pair.samples(scale, each, seed) for pair in pairs]
                x, y = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
                forest = _forest(trees, leaf, derive(seed, "replica", "forest", scale), jobs)
                forests.insert(0, forest.fit(x, y))
                if scale > 0:
                    for pair in pairs:
                        pair.image.predict(scale, forest, jobs)
        return cls(source, preparation, intensity, forests, dims.pop(), jobs)

    def parameters(self) -> list[Any]:
        """The forests."""
        trees = [tree.tree_ for forest in self.forests for tree in forest.estimators_]
        return [digest(*(a for t in trees for a in (t.feature, t.threshold, t.value)))]

    def scratch(self, shape: Shape) -> int:
        """Coarser scales, and a prediction of each."""
        return scratch_bytes(pyramid.shapes(shape, SCALES - 1)[::-1])

    def read(self, making: Making) -> Reader:
        """The predicted image.

        Scale by scale and tile by tile, so memory does not grow with the image; tiles of any
        size give the same bytes.
        """
        image = Image.of(making.subject, making.work)
        image.build()
        for scale in reversed(range(SCALES)):
            tile, tell = making.limits.tile, making.progress
            image.predict(scale, self.forests[scale], self.jobs, tile, tell)
        return image.made[0]


def _divisible(preparation: Preparation) -> Preparation:
    """The same on grids whose sides can be halved often enough."""
    scales = max(preparation.scales or 0, SCALES - 1)
    return preparation.updated(scales=scales)


def _forest(trees: int, leaf: int, seed: int, jobs: int) -> RandomForestRegressor:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(
        trees,
        min_samples_leaf=leaf,
        max_features=1 / 3,
        n_jobs=jobs,
        random_state=seed % 2**32,  # what scikit-learn takes
    )
