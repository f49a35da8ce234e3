"""The small GAN: an image as large as one network can make, enlarged by linear interpolation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from msgan import pyramid
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Prepared, Subject, prepare
from msgan.data.resample import Axis, resample
from msgan.data.writing import write_volume
from msgan.memory import process
from msgan.methods import cascade
from msgan.networks import inference
from msgan.paths import room, scratch_folder
from msgan.training.run import Run
from msgan.translate.engine import Here
from msgan.translate.image import check_output, pick_device
from msgan.translate.job import Job
from msgan.translate.plan import Limits, require_axes, scale_plan
from msgan.translate.work import Work
from msgan.types import Box, InputError, Reader, Shape


class SmallGan:
    """The second baseline of the extended paper (section 3.2.1, table 1).

    The low-resolution GAN makes s0, which trilinear interpolation brings to the size of s_n. It
    is scale 0 of a cascade and nothing else, so that a trained cascade's own s0 may serve: the
    table then says what the scales above it add.
    """

    name = "small GAN"

    def __init__(self, run: Run, device: str = "auto") -> None:
        """Use scale 0 of ``run``; the others need not be trained."""
        self.run = run
        self.device = device

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str],
        **options: Any,
    ) -> SmallGan:
        """Train scale 0 only; see :func:`msgan.methods.cascade.fit`."""
        if "scales" in options:
            raise InputError(f"scales {options['scales']}: the small GAN trains scale 0 only")
        run = cascade.fit(cohort, target, config, out, scales=(0,), **options)
        return cls(run, options.get("device", "auto"))

    def translate(
        self,
        subject: Subject | str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        modality: str | None = None,
        tile: int | None = None,
        memory: int | None = None,
    ) -> None:
        """Translate one image onto its own grid, in the target's unit; written whole or not.

        Neither the image nor the result is held in memory: coarser scales lie in the scratch
        folder, s_n is interpolated box by box as it is written.

        Args:
            subject: Image file or subject of a cohort, of any modality.
            out: File to write; its suffix decides the format.
            modality: Which image of a subject.
            tile: Side of a tile of s0, even; None takes the largest that fits.
            memory: Bytes of host memory for the process; None: as for a cascade.

        Raises:
            InputError: The image cannot be used, scale 0 is not trained, ``out`` cannot hold the
                result, or memory or disk do not suffice.
        """
        run, device = self.run, pick_device(self.device)
        if tile is not None and (tile < 2 or tile % 2):
            raise InputError(f"tile {tile}: expected an even number of voxels, at least 2")
        dtype = check_output(Path(out), run)
        process.share_arena()
        generator = inference.prepare(run.generator(0), torch.device("cpu"))
        with (
            prepare(subject, modality, run.config.preparation) as ready,
            scratch_folder() as folder,
        ):
            require_axes(ready, run)
            full = ready.grid.shape
            shapes = pyramid.shapes(full, run.scales)
            sides = scale_plan(run, 0, shapes[0], Limits(memory), device).tile
            if tile is not None and generator.tile_exact:
                sides = tuple(min(tile, n) for n in shapes[0])
            # Scales below s_n are together at most a third larger than s_(n-1) in 2D.
            need = 4 * sum(Box.whole(shape).voxels for shape in shapes[:-1])
            count = sum(1 for _ in Box.whole(shapes[0]).tiles(sides))
            with room(folder, need, "the scratch of this translation (in MSGAN_SCRATCH)"):
                work = Work(folder)
                _coarse(ready, run, work, shapes)
                stage = work.stage("y0", shapes[0], sides)
                job = Job.of(run, work, stage, 0, shapes[0], sides, device)
                for _ in Here().run(job, range(count), stage):
                    pass
            process.give_back()
            read = ready.to_source(enlarged(stage.store.read, shapes[0], full), run.intensity)
            write_volume(
                out, ready.grid.source, read, unit=run.intensity.unit, dtype=dtype, generated=True
            )


def enlarged(read: Reader, shape: Sequence[int], full: Sequence[int]) -> Reader:
    """An image of ``shape`` on a grid of ``full`` voxels over the same region, linearly.

    One interpolation for all scales: doubling step by step (:func:`msgan.pyramid.enlarge`) would
    smooth at each step, and the paper says trilinear. Values beyond the centres of the outermost
    voxels are theirs.
    """
    axes = [
        Axis(n / m, 0.5 * n / m - 0.5, int(n), 0, int(m)) for n, m in zip(shape, full, strict=True)
    ]
    return lambda box: resample(read, axes, box, 1, pyramid.BACKGROUND)


def _coarse(ready: Prepared, run: Run, work: Work, shapes: Sequence[Shape]) -> None:
    """s1 of the image and of its labels, from which y0 is made; what lies between is dropped."""
    sources: list[tuple[str, Reader, bool]] = [("s", ready.read, False)]
    if run.config.labels and ready.has_labels:
        sources.append(("l", ready.read_labels, True))  # type: ignore[arg-type]
    for prefix, read, labels in sources:
        dtype = "uint8" if labels else "float32"
        if run.scales == 1:
            work.fill(f"{prefix}1", shapes[1], read, dtype)
        for i in range(run.scales - 1, 0, -1):
            read = pyramid.halved(read, run.config.dims, labels)
            read = work.fill(f"{prefix}{i}", shapes[i], read, dtype).read
            work.drop(f"{prefix}{i + 1}")
