"""The patch GAN: the HR generator of the last scale without what lower scales know."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.writing import write_volume
from msgan.memory import process
from msgan.methods import cascade, overlap
from msgan.methods.overlap import OverlapScale
from msgan.networks import inference
from msgan.paths import room, scratch_folder
from msgan.pyramid import RIM
from msgan.sketch import sketch_reader
from msgan.training.run import Run
from msgan.translate import translate
from msgan.translate.image import check_output, pick_device
from msgan.translate.plan import Limits, largest, require_axes
from msgan.types import InputError

BLIND = "context"


class PatchGan:
    """The first baseline of the extended paper (section 3.2.1, table 1).

    Scale n of a cascade, trained and run without the image of the scale below, whose place is
    background. Nothing else is changed, so the table says what the lower scales add.

    Of the family ``paper`` whole patches of 32^d are laid 27 voxels apart and averaged over the 5
    voxels in which they overlap (:mod:`msgan.methods.overlap`). Of ``seamless``, patches that
    overlap are equal where they do, and an average would change nothing: the plain tiles of a
    translation are taken, and their sketch's halo is larger than the 5 voxels.
    """

    name = "patch GAN"

    def __init__(self, run: Run, device: str = "auto") -> None:
        """Use scale n of ``run``; the others need not be trained.

        Raises:
            InputError: The run's generators see the scale below.
        """
        if BLIND not in run.config.blind:
            raise InputError(f"{run.folder}: not a patch GAN: its blind is {run.config.blind}")
        self.run = run
        self.device = device

    @classmethod
    def configured(cls, config: CascadeConfig) -> CascadeConfig:
        """A cascade's configuration without context.

        Raises:
            InputError: The cascade sees no sketch; nothing would be left.
        """
        if "sketch" in config.blind:
            raise InputError(f"blind {config.blind}: a patch GAN sees the sketch and nothing else")
        return config.updated(blind=(BLIND,))

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str],
        **options: Any,
    ) -> PatchGan:
        """Train scale n, :meth:`configured`; see :func:`msgan.methods.cascade.fit`."""
        run = cascade.fit(cohort, target, cls.configured(config), out, **options)
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

        Args:
            subject: Image file or subject of a cohort, of any modality.
            out: File to write; its suffix decides the format.
            modality: Which image of a subject.
            tile: Side of a tile, even; of the ``paper`` family a multiple of the stride 27. None
                takes the largest that fits.
            memory: Bytes of host memory for the process; None: as for a cascade.

        Raises:
            InputError: See :func:`msgan.translate.translate`.
        """
        if self.run.config.network.family == "paper":
            self._overlapping(subject, Path(out), modality, tile, memory)
            return
        options: dict[str, Any] = {"modality": modality, "tile": tile, "memory": memory}
        translate(self.run, subject, out, device=self.device, **options)

    def _overlapping(
        self,
        subject: Subject | str | os.PathLike[str],
        out: Path,
        modality: str | None,
        tile: int | None,
        memory: int | None,
    ) -> None:
        """The ``paper`` family; sums of patches lie in the scratch folder."""
        run, device = self.run, pick_device(self.device)
        config = run.config
        dtype = check_output(out, run)
        tried = overlap.tiles_tried(config.dims, tile)
        process.share_arena()
        generator = inference.prepare(run.generator(run.scales), device, whole=True)
        with (
            prepare(subject, modality, config.preparation) as ready,
            scratch_folder() as folder,
        ):
            require_axes(ready, run)
            shape = ready.grid.shape
            need = partial(overlap.need, generator, config)
            name = f"s{run.scales}"
            sides = largest(name, shape, tried, need, Limits(memory), device).tile
            labels = ready.read_labels if config.labels and ready.has_labels else None
            drawn = sketch_reader(
                ready.read,
                shape,
                config.sketch,
                labels,  # type: ignore[arg-type]
                device,
                config.labels or (1,),
                RIM,
            )
            scale = OverlapScale(generator, drawn, shape, sides, device)
            what = "the scratch of this translation (in MSGAN_SCRATCH)"
            with room(folder, overlap.stored(shape, sides), what):
                read = overlap.averaged(scale, folder / "sums.zarr")
            process.give_back()
            shown = ready.to_source(read, run.intensity)
            write_volume(
                out, ready.grid.source, shown, unit=run.intensity.unit, dtype=dtype, generated=True
            )
