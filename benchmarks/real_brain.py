"""T1 -> T2 on a real patient: trained on one other patient's T2, two CPU cores, forty minutes.

Trains the three-scale brain cascade on the T2 image of patient 19 (and, if asked for, phantoms),
translates the T1 image of patient 26 and compares with that patient's real T2, beside the
untouched T1, the T1 matched to the training T2's histogram, and the inverted T1 so matched.
Data: open MS data (Lesjak et al., Neuroinformatics 2017, CC BY), see docs/data.md.

    python benchmarks/real_brain.py --data ../shared/data/brain_ms --out reports/runs/real_brain

Intensities are divided by the 99.5th percentile inside the brain and clipped to [0, 1]; SSIM has
a Gaussian window of sigma 1.5 and side 11.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from pathlib import Path

import numpy as np
import torch

from msgan import metrics, plots, pyramid, sketch
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.volume import open_volume
from msgan.methods.cascade import fit
from msgan.methods.plain import rows
from msgan.methods.refine import refine
from msgan.paths import write_text
from msgan.phantoms.brain import write_cohort
from msgan.presets import small
from msgan.training.run import Run, git_commit, versions
from msgan.translate import translate
from msgan.types import Box

TRAIN, TEST = "19", "26"


def files(folder: Path, patient: str) -> dict[str, Path]:
    """Paths of a patient's images by modality."""
    name = "mni_patient{}__{}_brain_N4_regtoMNI.nii.gz"
    return {m: folder / name.format(patient, m.upper()) for m in ("t1", "t2")}


def config() -> CascadeConfig:
    """The ``small`` preset with the steps that fit the time."""
    chosen = small(seed=0)
    training = chosen.training.model_copy(update=STEPS)
    return chosen.model_copy(update={"training": training})


UNIT = "share of P99.5"

STEPS = {"low_steps": 2500, "steps": 1100, "validate_every": 100}


def unit(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Intensities divided by the 99.5th percentile in the brain, clipped to [0, 1]."""
    return np.clip(image / np.percentile(image[brain], 99.5), 0, 1)


def scored(fake: np.ndarray, real: np.ndarray, brain: np.ndarray) -> dict[str, dict[str, float]]:
    """SSIM, MAE and PSNR over the whole volume and inside the brain; both images in [0, 1]."""
    found = {}
    for name, mask in (("whole", None), ("brain", brain)):
        s = metrics.scores(fake, real, data_range=1.0, mask=mask, mask_name=name)
        found[name] = {"ssim": s.ssim, "mae": s.mae, "psnr": s.psnr}
    return found


def by_scale(run: Run, kept: Path, patient: dict[str, Path]) -> dict[str, dict]:
    """Scores of y0..yn against the real image averaged to the same grid, inside the brain.

    ``true context`` is what each HR generator makes of the same sketch when the scale below is
    the real image: what is missing to 1 is its own error, the rest comes from below.
    """
    found: dict[str, dict] = {"scales": {}, "true context": {}}
    prep, n = run.config.preparation, run.scales
    with (
        prepare(patient["t1"], "t1", prep) as own,
        prepare(patient["t2"], "t2", prep, grid=own.grid) as real,
    ):
        shapes = pyramid.shapes(own.grid.shape, n)
        sources = pyramid.build(own.read, shapes[-1], n, kept / "source")
        levels = pyramid.build(real.read, shapes[-1], n, kept / "real")
        for i, shape in enumerate(shapes):
            truth = (levels[i](Box.whole(shape)) + 1) / 2
            brain = truth > 0
            with open_volume(kept / f"y{i}.nii") as made:
                fake = (run.intensity.to_unit(made.whole()) + 1) / 2
            found["scales"][f"s{i}"] = scored(fake, truth, brain)["brain"]
            if i == 0:
                continue
            drawn = sketch.sketch_reader(sources[i], shape, run.config.sketch)
            read = refine(run.generator(i), drawn, levels[i - 1], shape, kept / "refined", tile=64)
            fake = (read(Box.whole(shape)) + 1) / 2
            found["true context"][f"s{i}"] = scored(fake, truth, brain)["brain"]
    return found


def main() -> None:
    """Train, translate, score, draw; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the brain_ms images")
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept")
    parser.add_argument("--phantoms", type=int, default=0, help="phantoms trained on as well")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/real_brain.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/real_brain.png"))
    options = parser.parse_args()

    known = Subject("patient19", {"t2": files(options.data, TRAIN)["t2"]}, split="train")
    unseen = Subject("patient26", files(options.data, TEST), split="test")
    subjects = [known]
    if options.phantoms:
        folder = options.out.parent / f"phantoms-{options.phantoms}"
        manifest = folder / "manifest.csv"
        if not manifest.is_file():
            write_cohort(folder, subjects=options.phantoms, size=192, seed=0, test_share=0)
        subjects += list(Cohort.from_manifest(manifest, folder))
    cohort = Cohort((*subjects, unseen))

    run = fit(
        cohort, "t2", config(), options.out, report=lambda row: print(json.dumps(row), flush=True)
    )
    trained = [
        json.loads((run.folder_of(i) / "done.json").read_text())["seconds"]
        for i in range(run.scales + 1)
    ]
    kept = options.out / "scales"
    shutil.rmtree(kept, ignore_errors=True)
    done = translate(run, unseen, options.out / "t2_from_t1.nii.gz", modality="t1", keep=kept)

    with open_volume(unseen.images["t2"]) as image:
        real = image.whole()
    brain = real > 0
    results = {}
    for name, row in rows(cohort, "t2", run.config.preparation).items():
        row.translate(unseen, kept / f"{name}.nii", modality="t1")
        with open_volume(kept / f"{name}.nii") as image:
            results[name] = unit(image.whole(), brain)
    with open_volume(done.path) as image:
        results["cascade"] = unit(image.whole(), brain)
    truth = unit(real, brain)
    table = {name: scored(image, truth, brain) for name, image in results.items()}
    scales = by_scale(run, kept, dict(unseen.images))
    report = {
        "task": "T1 -> T2, patient 26 of open MS data, 182x218x182 at 1 mm",
        "trained_on": [s.name for s in subjects],
        "inside the brain": {name: found["brain"] for name, found in table.items()},
        "whole volume": {name: found["whole"] for name, found in table.items()},
        "scales, inside the brain": scales["scales"],
        "scales with true context, inside the brain": scales["true context"],
        "seconds": {"training": sum(trained), "scales": trained, "translation": done.seconds},
        "steps": STEPS,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "git": git_commit(),
    }
    write_text(options.json, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    with open_volume(unseen.images["t2"], check=False) as image:
        affine = image.grid.affine
    shown = {
        "T1 (source)": results["source"],
        **{k: v for k, v in results.items() if k != "source"},
    }
    title = "Patient 26 of open MS data (Lesjak et al. 2017, CC BY)"
    short = plots.compare(
        results["source"],
        results["cascade"],
        truth,
        affine=affine,
        window=(0, 1),
        source_window=(0, 1),
        unit=UNIT,
        caption=f"{title}; intensities as a share of the 99.5th percentile: T1, its translation "
        "to T2 by a cascade that has only ever seen the T2 "
        "of another patient, the real T2, and the difference.",
    )
    plots.save(short, options.picture.with_name("cascade.png"))
    figure = plots.slices(
        {**shown, "T2 (real)": truth},
        affine=affine,
        unit=UNIT,
        caption=f"{title}: the cascade, trained on "
        "the T2 of patient 19 alone, finds the contrast of T2 (bright fluid, grey brighter "
        "than white matter) from the sketch of the T1; it is softer than the real image.",
    )
    plots.save(figure, options.picture)


if __name__ == "__main__":
    main()
