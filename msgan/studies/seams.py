"""Whether the tiles of a method are visible in its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, nan

from msgan.config import Preparation
from msgan.data.body import body_mask
from msgan.data.cohort import prepare
from msgan.data.volume import open_volume
from msgan.metrics import seam_score_of
from msgan.runs.run import Run
from msgan.studies.table import Result
from msgan.training.step import geometry
from msgan.translate.overlap import Window, window_of


@dataclass(frozen=True)
class Seams:
    """Columns ``seam`` and ``seam_p`` of a table: the seam score at a method's own tiles.

    Tiles lie on the working grid of the source image, so results are scored there, inside the
    real image's body. ``seam`` is the ratio of :func:`msgan.metrics.seam_score`: jumps at the
    faces of tiles over jumps near them. Where there are few faces they fall on anatomy by chance,
    and a generator that doubles its grid treats every second voxel alike; ``seam_p``, the share
    of all positions of the grid that score as high, says whether the faces are special. NaN for
    methods without tiles.

    Attributes:
        tiles: Side of a tile in voxels of s_n by the name of a method's row; 20 for the published
            family, which keeps 20 of 32 voxels.
        preparation: Of the methods' run, with its number of scales.
        pool: Squares that jumps are averaged over; see :func:`msgan.metrics.seam_score`.
        seed: Of the random positions.
    """

    tiles: Mapping[str, int]
    preparation: Preparation
    pool: int = 4
    seed: int = 0

    def __call__(self, result: Result) -> dict[str, float]:
        """Score one result.

        Raises:
            InputError: A tile is below 4 or fits no axis of the image, or a file is at fault.
        """
        tile = self.tiles.get(result.method)
        if tile is None:
            return {"seam": nan, "seam_p": nan}
        target = result.subject.images[result.target]
        with (
            prepare(result.subject, result.source, self.preparation) as ready,
            open_volume(result.path, check=False) as made,
            open_volume(target) as real,
        ):
            body = body_mask(real.read, real.grid, self.preparation.foreground)
            score = seam_score_of(
                ready.grid.read_working(made.read, ready.intensity.low),
                ready.grid.shape,
                tile,
                read_mask=ready.grid.read_working(body, 0, order=0),
                pool=self.pool,
                seed=self.seed,
            )
        return {"seam": score.ratio, "seam_p": score.p_value}


def faces(runs: Mapping[str, Run], tile: int) -> dict[str, int]:
    """Voxels from one face to the next, for :attr:`Seams.tiles`.

    Args:
        runs: By the name of their row.
        tile: Side of the tiles of methods that run at any size; of whole patches that overlap
            faces are as far apart as patches begin, or a multiple of that: a score needs 4 voxels.
    """
    found = {}
    for name, run in runs.items():
        window = joined(run)
        stride = tile if window is None else window.stride
        found[name] = stride * ceil(4 / stride)
    return found


def joined(run: Run) -> Window | None:
    """How whole patches of a run are joined; None where tiles may have any side."""
    return window_of(run.config, geometry(run.config, run.scales))
