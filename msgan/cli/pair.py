"""Scores of a pair of images for ``msgan evaluate``, with baselines where they are known."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.cli import console
from msgan.types import InputError, Reader, Shape

if TYPE_CHECKING:
    from msgan.data.volume import Volume
    from msgan.metrics import Scores
    from msgan.translate.provenance import Provenance

SAME_MM = 1e-3
"""Grids may differ by this much in an entry of the affine: headers are rounded."""

PERCENTILE = 99.5
"""Of the voxels above black: the value taken as white."""

WHOLE, INSIDE = "whole image", "inside mask"
"""Names of the regions."""


@dataclass(frozen=True)
class PairScores:
    """What was measured of a pair.

    Attributes:
        rows: Scores of the translation by region.
        baselines: The same of each baseline, by its name.
        black: Intensity that counts as 0, in the unit of the real image.
        data_range: White less black.
        unit: Of the real image.
    """

    rows: Mapping[str, Scores]
    black: float
    data_range: float
    unit: str
    baselines: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """A table, and with what the scores were measured."""
        from msgan.metrics import SIMILARITY

        head = (*SIMILARITY, "voxels")
        wide = max(map(len, (WHOLE, *(f"  {name}" for name in self.baselines)))) + 1
        lines = [f"{'':<{wide}}" + "".join(f"{name:>10}" for name in head)]
        for region, own in self.rows.items():
            lines.append(f"{region:<{wide}}{_cells(own)}")
            for name, rows in self.baselines.items():
                lines.append(f"{f'  {name}':<{wide}}{_cells(rows[region])}")
        if self.baselines:
            lines.append("indented: baselines without a network; source: the image as it is")
            if any(name.endswith("to REAL") for name in self.baselines):
                lines.append(
                    "matched to REAL: they see its histogram, which the translation does not"
                )
        first = next(iter(self.rows.values()))
        white = first.black + first.data_range
        lines.append(f"intensities scaled from {first.black:.6g}..{white:.6g} {self.unit} to 0..1")
        seen = ", ".join(f"{own.ssim_voxels} {region}" for region, own in self.rows.items())
        lines.append(
            f"{first.dims}D SSIM, Gaussian window of {first.window} voxels, sigma "
            f"{first.sigma:g} (voxels with a whole window: {seen}); psnr in dB"
        )
        return lines

    def table(self, method: str) -> list[dict[str, Any]]:
        """Lines of a table: method, region and scores."""
        every = {method: self.rows, **self.baselines}
        return [
            {"method": name, "region": region, **plain(own.unit())}
            for name, rows in every.items()
            for region, own in rows.items()
        ]

    def as_json(self) -> dict[str, Any]:
        """As a file keeps it."""

        def named(rows: Mapping[str, Scores]) -> dict[str, Any]:
            return {region.replace(" ", "_"): plain(own.unit()) for region, own in rows.items()}

        stated = {"black": self.black, "data_range": self.data_range, "unit": self.unit}
        content = {"source_intensity": stated, "scores": named(self.rows)}
        if self.baselines:
            content["baselines"] = {name: named(rows) for name, rows in self.baselines.items()}
        return content


@dataclass(frozen=True)
class Scored:
    """The real image of a pair, as images are scored against it.

    Attributes:
        real: Open.
        black: See :class:`PairScores`.
        data_range: See :class:`PairScores`.
        mask: Of the region ``inside mask``, if there is one.
        name: Of the mask.
    """

    real: Volume
    black: float
    data_range: float
    mask: Reader | None
    name: str

    @classmethod
    def of(
        cls,
        real: Volume,
        black: float | None,
        data_range: float | None,
        mask: Path | None,
        stack: ExitStack,
    ) -> Scored:
        """With black and white found where they are not stated.

        Raises:
            InputError: They cannot be found or are no range, or the mask is at fault.
        """
        from msgan.data.intensity import IntensityMap, darkest
        from msgan.data.volume import open_labels

        assert real.extremes is not None
        shape = real.grid.shape
        if black is None:
            black = min(0.0, darkest(real.read, shape, real.extremes[0]))
        if data_range is None:
            try:
                values = IntensityMap.percentile(real.read, shape, PERCENTILE, black, black)
            except InputError as error:
                raise InputError(f"{real.path}: {error}: pass --data-range and --black") from None
            data_range = values.high - black
        if not (isfinite(data_range) and data_range > 0):
            raise InputError(f"--data-range {data_range:g}: expected a positive number")
        inside = None
        if mask is not None:
            inside = stack.enter_context(open_labels(mask, real.grid)).read
        return cls(real, black, data_range, inside, str(mask))

    @property
    def shape(self) -> Shape:
        """Of the image."""
        return self.real.grid.shape

    def scores(self, made: Volume) -> dict[str, Scores]:
        """Scores of an image by region.

        Raises:
            InputError: It lies on another grid, or nothing can be scored.
        """
        from msgan.data.padding import filled
        from msgan.metrics import scores_of

        require_one_grid(made, self.real)
        result, wanted = (filled(volume.read, self.black) for volume in (made, self.real))
        span: dict[str, Any] = {"data_range": self.data_range, "black": self.black}
        rows = {WHOLE: scores_of(result, wanted, self.shape, **span)}
        if self.mask is not None:
            inside: dict[str, Any] = {"read_mask": self.mask, "mask_name": self.name}
            rows[INSIDE] = scores_of(result, wanted, self.shape, **span, **inside)
        return rows


def require_one_grid(made: Volume, real: Volume) -> None:
    """Refuse images that lie on different grids.

    Raises:
        InputError: They do.
    """
    if made.grid.dims != real.grid.dims:
        raise InputError(
            f"{made.path}: image of {made.grid.dims} axes, {real.path} has {real.grid.dims}"
        )
    if not made.grid.same_as(real.grid, SAME_MM):
        raise InputError(
            f"{made.path}: its grid {made.grid} is not that of {real.path}, {real.grid}"
        )


def baseline_scores(trace: Provenance, scored: Scored) -> dict[str, dict[str, Scores]]:
    """Scores of what needs no network, made of the source that a sidecar names.

    Where the source or the run is not what it was, a remark says so and there are none.

    Args:
        trace: What the sidecar says.
        scored: The real image.
    """
    from msgan.config import Preparation
    from msgan.data.cohort import Cohort, Subject
    from msgan.data.volume import open_volume
    from msgan.methods.baselines import yardsticks
    from msgan.paths import scratch_folder
    from msgan.runs.run import Run
    from msgan.translate.provenance import content_hash

    if trace.run is None or not trace.preparation:
        return {}
    found: dict[str, dict[str, Scores]] = {}
    try:
        if content_hash(trace.image) != trace.hashes.get("image"):
            raise InputError(f"{trace.image}: has changed since it was translated")
        run, subject = Run.open(trace.run), trace.person
        seen = Subject(subject.name, {run.target: scored.real.path})
        preparation = Preparation(**trace.preparation)
        methods = yardsticks(run, preparation, Cohort((seen,)))
        with scratch_folder() as folder:
            for name, method in methods.items():
                path = folder / f"{len(found)}.nii"
                method.translate(subject, path, modality=trace.source or "image")
                with open_volume(path, check=False) as made:
                    found[name] = scored.scores(made)
    except InputError as error:
        console.note(f"note: no baselines beside: {error}")
        return {}
    return found


def _cells(own: Scores) -> str:
    from msgan.metrics import SIMILARITY

    values = own.unit().as_row()
    return "".join(f"{values[column]:>10.4g}" for column in SIMILARITY) + f"{own.voxels:>10}"


def plain(scores: Scores) -> dict[str, Any]:
    """For JSON, which knows no infinity: null stands for it."""
    row = scores.as_row()
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()}
