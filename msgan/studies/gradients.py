"""Whether the edges of a result are those of the real image."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from msgan.config import Preparation
from msgan.data.volume import open_labels, open_volume
from msgan.metrics import gradient_correlation_of
from msgan.studies.table import FOREGROUND, Result, both, computed_in, region_of
from msgan.types import InputError


@dataclass(frozen=True)
class Gradients:
    """Column ``gradient`` of a table: :func:`msgan.metrics.gradient_correlation` in a region.

    1 where every edge is where the real image has it and as steep compared with the others; 0
    where edges have nothing to do with the real ones. Only voxels whose neighbours lie in the
    region count, so the outline of a brain, which every method gets right, is not among the edges.

    Attributes:
        preparation: Decides the foreground of the real image.
        region: Where voxels count; see :func:`msgan.studies.table.score_file`.
    """

    preparation: Preparation
    region: str = FOREGROUND

    def __call__(self, result: Result) -> dict[str, float]:
        """Score one result.

        Raises:
            InputError: The two images lie on different grids, there is no such region or nothing
                in it, or a file is at fault.
        """
        subject, own = result.subject, self.preparation
        with ExitStack() as stack:
            fake = stack.enter_context(open_volume(result.path, check=False))
            real = stack.enter_context(open_volume(subject.images[result.target]))
            if not fake.grid.same_as(real.grid):
                raise InputError(
                    f"{result.path}: grid {fake.grid} is not the real image's, {real.grid}"
                )
            mask = None
            if subject.mask is not None:
                mask = stack.enter_context(open_labels(subject.mask, like=real.grid))
            region = region_of(self.region, subject, real, mask, own, stack)
            found = gradient_correlation_of(
                fake.read,
                real.read,
                real.grid.shape,
                read_mask=both(region, computed_in(subject, result.target, own, stack)),
            )
        return {"gradient": found}
