"""What it is worth that s0 draws more than once: from copies, and from the matched image.

The bundled model (T2 of phantoms of brains with tumours, 1.5 mm, guided) translates the T1 and the
FLAIR of phantoms that it has not seen: as it is; with 4 and 8 recoloured copies of the image
(``--recolourings``); with ``guidance.redraw``; and with both. The weights are the same in all rows.

    python benchmarks/drawings.py

Scores inside the brain (real T2 above 0): intensities up to the end of the range of the training
people shown as [0, 1], 3D; SSIM has a Gaussian window of sigma 1.5 and side 11; means over people.
Labels of tumours are drawn over sketches.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from methods import MEMORY
from real_brain import scored
from records import about, options, parsed, record

from msgan.data.cohort import Cohort, Subject
from msgan.data.volume import open_volume
from msgan.methods.trained import Cascade
from msgan.phantoms.brain import write_cohort
from msgan.runs.bundled import located
from msgan.runs.run import Run

NAME = "drawings"
SOURCES, TARGET, MODEL = ("t1", "flair"), "t2", "brain-phantom-t2"
ROWS = {
    "as it is": (0, False),
    "4 recolourings": (4, False),
    "8 recolourings": (8, False),
    "redraw": (0, True),
    "redraw and 4 recolourings": (4, True),
}
"""Recoloured copies, and whether the matched image is drawn from too."""

PEOPLE, SIZE, SEED = 6, 128, 99
QUICK_PEOPLE, QUICK_SIZE = 2, 48


def method(run: Run, recolourings: int, redraw: bool) -> Cascade:
    """The model as one row has it."""
    config = run.config.updated(guidance={"redraw": redraw})
    return Cascade(replace(run, config=config), recolourings=recolourings)


def quality(path: Path, subject: Subject, high: float) -> dict[str, float]:
    """SSIM, MAE and PSNR inside the brain."""
    with open_volume(path, check=False) as made, open_volume(subject.images[TARGET]) as volume:
        real = volume.whole()
        fake, truth = (np.clip(image / high, 0, 1) for image in (made.whole(), real))
    return scored(fake, truth, {"brain": real > 0})["brain"]


def main() -> None:
    """Translate, score, record; see the module's docstring."""
    given = parsed(options(NAME, __doc__, list(ROWS)), NAME)
    people, size = (QUICK_PEOPLE, QUICK_SIZE) if given.quick else (PEOPLE, SIZE)
    folder = given.out / "phantoms"
    if not (folder / "manifest.csv").is_file():
        write_cohort(folder, subjects=people, size=size, seed=SEED, test_share=0)
    cohort = Cohort.from_manifest(folder / "manifest.csv", folder)
    run = Run.open(located(MODEL))
    tables: dict[str, Any] = {}
    for source in SOURCES:
        for name in given.methods:
            made = method(run, *ROWS[name])
            lines = []
            for subject in cohort:
                path = given.out / "translated" / source / name / f"{subject.name}.nii"
                path.parent.mkdir(parents=True, exist_ok=True)
                start = perf_counter()
                made.translate(subject, path, modality=source, memory=MEMORY)
                seconds = perf_counter() - start
                lines.append(quality(path, subject, run.intensity.high) | {"seconds": seconds})
            means = {key: float(np.mean([line[key] for line in lines])) for key in lines[0]}
            tables.setdefault(f"{source}→{TARGET}", {})[name] = means
            print(source, name, means, flush=True)
    record(
        given.json,
        {
            "task": f"T1 and FLAIR -> T2 of phantoms by the bundled model, 3D, n = {len(cohort)}",
            "mask": "inside the brain: where the real T2 is above 0",
            "range": "0 to the end of the range of the training people's T2 shown as [0, 1]",
            **tables,
            "methods": {name: about() for name in given.methods},
            **about(),
        },
    )


if __name__ == "__main__":
    main()
