"""T1 and FLAIR to T2 of a real patient: trained on one other patient's T2, on two CPU cores.

Trains the brain cascade (s0 at 2 mm, s1 at 1 mm) on the T2 image and the lesion mask of patient
19 (and, if asked for, phantoms), translates the T1 and the FLAIR image of patient 26, with that
patient's mask laid over the sketch and without, and compares with the real T2, beside the
untouched source, the source matched to the training T2's histogram, and the inverted source so
matched.
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
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from msgan import metrics, plots, presets, pyramid, sketch
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.volume import open_labels, open_volume
from msgan.methods.baselines import baselines
from msgan.methods.cascade import fit
from msgan.methods.refine import refine
from msgan.methods.trained import Cascade
from msgan.paths import write_text
from msgan.phantoms.brain import write_cohort
from msgan.runs.run import Run, git_commit, versions
from msgan.types import Box

TRAIN, TEST = "19", "26"

SOURCES = ("t1", "flair")


def files(folder: Path, patient: str) -> dict[str, Path]:
    """Paths of a patient's images by modality."""
    name = "mni_patient{}__{}_brain_N4_regtoMNI.nii.gz"
    return {m: folder / name.format(patient, m.upper()) for m in ("t1", "t2", "flair")}


def lesions(folder: Path, patient: str) -> Path:
    """Path of the consensus mask of a patient's lesions; its one label is 1."""
    return folder / f"mni_patient{patient}__GOLD_STANDARD_regtoMNI.nii.gz"


def config() -> CascadeConfig:
    """Brains of the preset ``small`` with more steps, because the image is eight times as large."""
    chosen = presets.preset("small", "brain")
    return chosen.updated(training=STEPS, labels=(1,))


UNIT = "share of P99.5"

STEPS = {"lr_steps": 6000, "steps": 4000}


def unit(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Intensities divided by the 99.5th percentile in the brain, clipped to [0, 1]."""
    return np.clip(image / np.percentile(image[brain], 99.5), 0, 1)


def scored(
    fake: np.ndarray, real: np.ndarray, regions: dict[str, np.ndarray | None]
) -> dict[str, dict[str, float]]:
    """SSIM, MAE and PSNR in each region (None: the whole volume); both images in [0, 1]."""
    found = {}
    for name, mask in regions.items():
        s = metrics.scores(fake, real, data_range=1.0, mask=mask, mask_name=name)
        found[name] = {"ssim": s.ssim, "mae": s.mae, "psnr": s.psnr}
    return found


def by_scale(run: Run, kept: Path, patient: Subject, source: str) -> dict[str, dict]:
    """Scores of y0..yn against the real image averaged to the same grid, inside the brain.

    ``true context`` is what each HR generator makes of the same sketch when the scale below is
    the real image: what is missing to 1 is its own error, the rest comes from below.
    """
    scales: dict[str, dict] = {}
    true: dict[str, dict] = {}
    prep, n = run.config.preparation, run.scales
    with (
        prepare(patient, source, prep) as own,
        prepare(patient.images["t2"], "t2", prep, grid=own.grid) as real,
    ):
        shapes = pyramid.shapes(own.grid.shape, n)
        sources = pyramid.build(own.read, shapes[-1], n, kept / "source")
        marks = pyramid.build(
            lambda box: np.asarray(own.read_labels(box)),
            shapes[-1],
            n,
            kept / "labels",
            labels=True,
        )
        levels = pyramid.build(real.read, shapes[-1], n, kept / "real")
        for i, shape in enumerate(shapes):
            truth = (levels[i](Box.whole(shape)) + 1) / 2
            brain = truth > 0
            with open_volume(kept / f"y{i}.nii") as made:
                fake = (run.intensity.to_unit(made.whole()) + 1) / 2
            scales[f"s{i}"] = scored(fake, truth, {"brain": brain})["brain"]
            if i == 0:
                continue
            drawn = sketch.sketch_reader(
                sources[i], shape, run.config.sketch, marks[i], values=run.config.labels
            )
            read = refine(run.generator(i), drawn, levels[i - 1], shape, kept / "refined", tile=64)
            fake = (read(Box.whole(shape)) + 1) / 2
            true[f"s{i}"] = scored(fake, truth, {"brain": brain})["brain"]
    return {
        f"scales of {source}, inside the brain": scales,
        f"true context, {source}, inside the brain": true,
    }


def main() -> None:
    """Train, translate, score, draw; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the brain_ms images")
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept")
    parser.add_argument("--phantoms", type=int, default=0, help="phantoms trained on as well")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/real_brain.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/real_brain.png"))
    options = parser.parse_args()

    own = {"t2": files(options.data, TRAIN)["t2"]}
    known = Subject("patient19", own, labels=lesions(options.data, TRAIN), split="train")
    unseen = Subject(
        "patient26",
        files(options.data, TEST),
        labels=lesions(options.data, TEST),
        split="test",
    )
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
    with open_volume(unseen.images["t2"]) as image, open_labels(unseen.labels) as drawn:
        real, lesion, affine = image.whole(), drawn.whole() > 0, image.grid.affine
    brain = real > 0
    truth = unit(real, brain)
    regions = {"whole volume": None, "inside the brain": brain, "inside the lesions": lesion}
    cascade = Cascade(run)
    methods: dict[str, tuple[Any, Subject]] = {
        name: (row, unseen) for name, row in baselines(cohort, "t2", run.config.preparation).items()
    }
    methods["cascade"] = (cascade, unseen)
    methods["cascade, no mask"] = (cascade, replace(unseen, labels=None))
    table: dict[str, dict[str, dict[str, float]]] = {}
    results: dict[str, np.ndarray] = {}
    seconds = 0.0
    for source in SOURCES:
        for name, (method, subject) in methods.items():
            path = kept / source / f"{name}.nii"
            start = perf_counter()
            method.translate(subject, path, modality=source)
            seconds = perf_counter() - start
            with open_volume(path) as image:
                results[f"{name} of {source}"] = unit(image.whole(), brain)
            found = scored(results[f"{name} of {source}"], truth, regions)
            for region, scores in found.items():
                table.setdefault(f"{source}→t2, {region}", {})[name] = scores
    scales: dict[str, dict] = {}
    for source in (*SOURCES, "t2"):  # of T2 itself: what is lost without a change of modality
        place = kept / f"scales of {source}"
        cascade.translate(unseen, place / "t2.nii", modality=source, keep=place)
        scales |= by_scale(run, place, unseen, source)
    report = {
        "task": "T1 and FLAIR -> T2, patient 26 of open MS data, 182x218x182 at 1 mm",
        "trained_on": [s.name for s in subjects],
        **table,
        **scales,
        "seconds": {"training": sum(trained), "scales": trained, "translation": seconds},
        "lesion voxels": int(lesion.sum()),
        "steps": STEPS,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "git": git_commit(),
    }
    write_text(options.json, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(report, indent=1, ensure_ascii=False))
    title = "Patient 26 of open MS data (Lesjak et al. 2017, CC BY)"
    short = plots.compare(
        results["source of t1"],
        results["cascade of t1"],
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
    titles = {
        "source": "{}",
        "inverted, matched": "{} inverted",
        "cascade": "cascade of {}",
        "cascade, no mask": "no mask, of {}",
    }
    shown = {
        title.format(source.upper()): results[f"{name} of {source}"]
        for source in SOURCES
        for name, title in titles.items()
    }
    figure = plots.zooms(
        {title: lambda box, a=a: a[box.slices] for title, a in {"real T2": truth, **shown}.items()},
        truth.shape,
        affine=affine,
        at=round(float(largest(lesion).nonzero()[2].mean())),
        centre=(0.5, 0.5),
        zoom=0.8,
        window=(0, 1),
        unit=UNIT,
        columns=5,
        caption=f"{title}, axial plane through the largest lesion: the cascade, trained on the T2 "
        "of patient 19 alone, finds the contrast of T2 (bright fluid, grey brighter than white "
        "matter) from the sketches of T1 and FLAIR, with the lesion mask laid over and without.",
    )
    plots.save(figure, options.picture)


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask."""
    from skimage.measure import label

    parts = label(mask)
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1


if __name__ == "__main__":
    main()
