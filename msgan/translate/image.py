"""One image through a trained cascade: any size in, any size out, bounded memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from msgan.runs.run import Run
from msgan.translate.frame import translated
from msgan.translate.generation import Generation, Polarity
from msgan.translate.maker import Options, Source, Translation


def translate(
    run: Run,
    source: Source,
    out: str | os.PathLike[str],
    *,
    polarity: Polarity | None = None,
    uncertainty: str | os.PathLike[str] | None = None,
    recolourings: int = 0,
    **options: Unpack[Options],
) -> Translation:
    """Translate one image to the target of ``run`` (extended paper, section 2.1).

    Args:
        run: A trained cascade.
        source: Image file or subject of a cohort, of any modality.
        out: File to write; its suffix decides the format. One that is there is replaced.
        polarity: Of a run that matches histograms, whether what is dark in the source is bright in
            the target: ``same`` or ``inverted``; None or ``auto``: it is found out.
        uncertainty: Of a run with guidance, a file for the standard deviation over the estimates
            that are made at s0, enlarged linearly, on the source's grid and in the target's unit.
            It is 0 where there is one estimate alone: in labels and in background.
        recolourings: From how many recoloured copies of the image s0 draws too; the mean of all
            drawings is taken (test-time augmentation). Of a run that has learnt from such copies.
        options: See :class:`msgan.translate.maker.Options`; with ``keep`` the images of all scales
            that are made are kept as ``y0.nii`` .. ``yn.nii``. Sides of a tile are even; the
            ``megan`` family takes a multiple of the 20 voxels it keeps.

    Raises:
        InputError: The run has no guidance, or has not learnt from recoloured images, and one of
            these is asked for; or see :func:`msgan.translate.frame.translated`.
    """
    method = Generation.of(
        run,
        polarity=polarity,
        uncertainty=uncertainty is not None,
        recolourings=recolourings,
    )
    return translated(method, source, out, uncertainty=uncertainty, **options)


def kept_files(run: Run, folder: Path) -> list[Path]:
    """Files that ``keep`` writes to a folder."""
    first = run.first if run.config.drawn else 0
    return [folder / f"y{i}.nii" for i in range(first, run.scales + 1)]
