"""Images at the scales of REPLICA: what forests are trained on, and what they predict."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from msgan import pyramid
from msgan.config import Preparation
from msgan.data.cohort import Prepared, Subject, prepare
from msgan.methods.replica_features import BACKGROUND, RINGS, Surroundings
from msgan.seeds import numpy_rng
from msgan.translate.maker import Progress, silent
from msgan.translate.scratch import Scratch
from msgan.types import Array, Box, Reader, Shape

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

TILE = {2: 512, 3: 96}
"""Side of a tile: about 200 MiB at work, most of it the means around the tile."""

BATCH = 1 << 14
"""Voxels whose features are in memory at once."""

SCALES = len(RINGS)


@dataclass
class Image:
    """The source image at all scales, the finest first, and what is predicted of them."""

    ready: Prepared
    work: Scratch
    shapes: list[Shape]
    scales: list[Reader] = field(default_factory=list)
    made: dict[int, Reader] = field(default_factory=dict)

    @classmethod
    def of(cls, ready: Prepared, work: Scratch) -> Image:
        """An image whose scales will lie in a scratch folder; nothing is read yet."""
        return cls(ready, work, pyramid.shapes(ready.grid.shape, SCALES - 1)[::-1])

    def build(self) -> None:
        """Make the coarser scales."""
        read, shape = self.ready.read, self.shapes[0]
        self.scales = pyramid.build(read, shape, SCALES - 1, self.work.folder, rim=pyramid.RIM)[
            ::-1
        ]

    def around(self, scale: int, box: Box) -> Surroundings:
        """What the features of the voxels of ``box`` are made of."""
        below = self.made.get(scale + 1)
        shape, rings = self.shapes[scale], RINGS[scale]
        return Surroundings(self.scales[scale], shape, box, rings, below, pyramid.RIM)

    def inside(self, scale: int, box: Box) -> Array:
        """(n, d) indices of the foreground in ``box``."""
        return np.argwhere(self.scales[scale](box) > BACKGROUND) + np.array(box.start)

    def predict(
        self,
        scale: int,
        forest: RandomForestRegressor,
        jobs: int,
        tile: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Predict one scale after the coarser ones.

        What is background in the source is background in the result.
        """
        shape = self.shapes[scale]
        sides = tuple(min(tile or TILE[len(shape)], n) for n in shape)
        stage = self.work.stage(f"made{scale}", shape, sides)
        boxes = list(Box.whole(shape).tiles(sides))
        tell = partial(progress or silent, f"s{SCALES - 1 - scale}")
        tell(len(stage.done), len(boxes))
        for k, box in enumerate(boxes):
            if k in stage.done:
                continue
            values = np.full(box.size, BACKGROUND, np.float32)
            voxels = self.inside(scale, box)
            if len(voxels):
                at = tuple((voxels - np.array(box.start)).T)
                values[at] = _predicted(forest, self.around(scale, box), voxels, jobs)
            stage.write(k, box, values)
            tell(len(stage.done), len(boxes))
        self.made[scale] = stage.store.read


def scratch_bytes(shapes: Sequence[Shape]) -> int:
    """That an image's scratch takes at most: coarser scales, and a prediction of each."""
    voxels = [Box.whole(shape).voxels for shape in shapes]
    return 4 * (2 * sum(voxels) - voxels[0])


@dataclass
class Pair:
    """Both images of a training subject on the source's grid, where it will be translated."""

    name: str
    image: Image
    targets: list[Reader]

    @classmethod
    def open(
        cls,
        stack: ExitStack,
        subject: Subject,
        source: str,
        target: str,
        preparation: Preparation,
        work: Scratch,
    ) -> Pair:
        """Prepare both; ``stack`` closes them.

        Raises:
            InputError: They lie on two grids, or a file is at fault.
        """
        ready = stack.enter_context(prepare(subject, source, preparation))
        real = stack.enter_context(prepare(subject, target, preparation, grid=ready.grid))
        targets: list[Reader] = [real.read]
        for _ in range(SCALES - 1):
            targets.append(pyramid.halved(targets[-1], len(ready.grid.shape)))
        return cls(subject.name, Image.of(ready, work), targets)

    def samples(self, scale: int, number: int, seed: int) -> tuple[Array, Array]:
        """Features and targets of ``number`` foreground voxels, or of all where there are fewer."""
        shape, rng = self.image.shapes[scale], numpy_rng(seed, "replica", self.name, scale)
        boxes = list(Box.whole(shape).tiles((TILE[len(shape)],) * len(shape)))
        counts = [len(self.image.inside(scale, box)) for box in boxes]
        chosen = rng.multivariate_hypergeometric(counts, min(number, sum(counts)))
        x, y = [], []
        for box, n in zip(boxes, chosen, strict=True):
            if n == 0:
                continue
            voxels = rng.permutation(self.image.inside(scale, box))[:n]
            x.append(self.image.around(scale, box).of(voxels))
            y.append(self.targets[scale](box)[tuple((voxels - np.array(box.start)).T)])
        return np.concatenate(x), np.concatenate(y)


def _predicted(
    forest: RandomForestRegressor, around: Surroundings, voxels: Array, jobs: int
) -> Array:
    """(n,) means over the trees, always added in their order: scikit-learn's own may vary."""

    def batch(first: int) -> Array:
        x = around.of(voxels[first : first + BATCH])
        total = np.zeros(len(x))
        for tree in forest.estimators_:
            total += tree.predict(x, check_input=False)
        return (total / len(forest.estimators_)).astype(np.float32)

    with ThreadPoolExecutor(jobs) as pool:
        return np.concatenate(list(pool.map(batch, range(0, len(voxels), BATCH))))
