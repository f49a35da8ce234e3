"""Whether s0 learns from a cohort as well as from one head, at the same steps a head.

s0 at 2 mm of a cascade of brains (preset ``small``, sketch alone, s1 at 1 mm) is trained on the T2
of one phantom with a tumour, of another one, and of six, with as many steps a head each. It draws
phantoms that none of them has seen, whose tumours are drawn over the sketch, from the sketch of
their own T2 (what is drawn without a change of modality), of T1 and of FLAIR.

    python benchmarks/cohort_s0.py

Scores are taken at 2 mm inside the brain (real T2 above 0): [-1, 1] shown as [0, 1], 3D; SSIM has a
Gaussian window of sigma 1.5 and side 11; means over the people tested.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from methods import MEMORY
from records import about, options, parsed, record, training_seconds

from msgan import metrics, presets, pyramid
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.volume import open_volume
from msgan.methods.small_gan import SmallGan
from msgan.phantoms.brain import write_cohort
from msgan.types import Array, Box

NAME = "cohort_s0"
SOURCES, TARGET = ("t2", "t1", "flair"), "t2"
HEADS = {"one head": (0,), "another head": (1,), "six heads": tuple(range(6))}
"""Which of the people are learnt from; the last three are tested."""

TESTED, SIZE, STEPS = 3, 192, 1000
"""People tested; voxels along the longest axis, of 1 mm; steps a head."""

QUICK_SIZE, QUICK_STEPS = 48, 2


def config(heads: int, quick: bool = False) -> CascadeConfig:
    """Brains of the preset ``small`` that see the sketch alone; as many steps a head."""
    chosen = presets.preset("smoke" if quick else "small", "brain").unguided()
    steps = (QUICK_STEPS if quick else STEPS) * heads
    return chosen.updated(
        training={"lr_steps": steps, "validate_every": min(steps, chosen.training.validate_every)},
        conditioning={"generated_share": 0.0},
    )


def people(folder: Path, quick: bool) -> Cohort:
    """The phantoms; those that are tested are of split ``test``."""
    count = max(map(max, HEADS.values())) + 1 + TESTED
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        size = QUICK_SIZE if quick else SIZE
        write_cohort(folder, subjects=count, size=size, seed=0, test_share=0)
    return Cohort.from_manifest(manifest, folder)


def scored(method: SmallGan, subject: Subject, source: str, folder: Path) -> dict[str, float]:
    """What s0 draws of a person from one image, against T2 averaged to the same grid."""
    run = method.run
    method.translate(subject, folder / "enlarged.nii", modality=source, keep=folder, memory=MEMORY)
    with open_volume(folder / "y0.nii") as image:
        fake = (run.intensity.to_unit(image.whole()) + 1) / 2
    with (
        prepare(subject, source, run.config.preparation) as own,
        prepare(subject.images[TARGET], TARGET, run.config.preparation, grid=own.grid) as real,
    ):
        levels = pyramid.build(real.read, own.grid.shape, run.scales, folder / "real")
        truth = (levels[0](Box.whole(fake.shape)) + 1) / 2
    scores = metrics.regional_scores_of(
        partial(cut, fake),
        partial(cut, truth),
        truth.shape,
        {"brain": partial(cut, truth > 0)},
        data_range=1.0,
    )["brain"]
    return {"ssim": scores.ssim, "mae": scores.mae, "psnr": scores.psnr}


def cut(image: Array, box: Box) -> Array:
    """What an array holds in a box."""
    return image[box.slices]


def main() -> None:
    """Train, draw, score; see the module's docstring."""
    given = parsed(options(NAME, __doc__, list(HEADS)), NAME)
    cohort = people(given.out / "phantoms", given.quick)
    everybody = list(cohort)
    tested = everybody[-TESTED:]
    tables: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for name in given.methods:
        learnt = Cohort(tuple(everybody[i] for i in HEADS[name]))
        own = config(len(learnt), given.quick)
        place = given.out / name.replace(" ", "_")
        method = SmallGan.fit(learnt, None, TARGET, own, place / "run", cache=given.out / "cache")
        for source in SOURCES:
            found = [
                scored(method, subject, source, place / f"{subject.name}_{source}")
                for subject in tested
            ]
            means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
            tables.setdefault(f"{source}→{TARGET} at 2 mm", {})[name] = means
        seconds = training_seconds(method.run)["s0"]
        told[name] = {
            "steps": own.training.lr_steps,
            "steps a head": own.training.lr_steps // len(learnt),
            "minutes": round(seconds / 60, 1),
            **{key: value for key, value in about().items() if key != "versions"},
        }
    report = {
        "task": f"T2 drawn by s0 alone at 2 mm, phantoms of brains with tumours, 3D, "
        f"n = {TESTED} people",
        "mask": "inside the brain: where the real T2 is above 0 at 2 mm",
        "range": "[-1, 1] of the training people's T2 shown as [0, 1]",
        **tables,
        "methods": told,
        **about(),
    }
    record(given.json, report)


if __name__ == "__main__":
    main()
