"""One image through a trained cascade: any size in, any size out, bounded memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from msgan.runs.run import Run
from msgan.translate.frame import translated
from msgan.translate.generation import Generation
from msgan.translate.maker import Options, Source, Translation
from msgan.translate.provenance import PROVENANCE


def translate(
    run: Run, source: Source, out: str | os.PathLike[str], **options: Unpack[Options]
) -> Translation:
    """Translate one image to the target of ``run`` (extended paper, section 2.1).

    Args:
        run: A trained cascade.
        source: Image file or subject of a cohort, of any modality.
        out: File to write; its suffix decides the format. One that is there is replaced.
        options: See :class:`msgan.translate.maker.Options`; with ``keep`` the images of all scales
            that are made are kept as ``y0.nii`` .. ``yn.nii``. Sides of a tile are even; the
            ``megan`` family takes a multiple of the 20 voxels it keeps.

    Raises:
        InputError: See :func:`msgan.translate.frame.translated`.
    """
    return translated(Generation.of(run), source, out, **options)


def kept_files(run: Run, folder: Path) -> list[Path]:
    """Files that ``keep`` writes to a folder."""
    return [*(folder / f"y{i}.nii" for i in run.used), folder / PROVENANCE]
