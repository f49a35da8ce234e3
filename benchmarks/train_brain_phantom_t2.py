"""Train, score and export the model that is shipped: ``brain-phantom-t2``, from phantoms only.

Two populations of brain phantoms (:mod:`msgan.phantoms.brain`): patients with a tumour and healthy
volunteers of another scanner. The cascade sees the T2 image of the training persons, and the
tumour labels of every other patient: it learns to draw tumours from labels and from edges alone.
T1 and FLAIR of the test persons are translated and compared with the real T2 inside the brain,
beside the baselines. What is done is not done again: a run that was stopped goes on.

    python benchmarks/train_brain_phantom_t2.py

SSIM, MAE and PSNR as in the tables of :mod:`msgan.studies.table`, intensities in [0, 1].
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pandas as pd
from records import about

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort
from msgan.methods.baselines import baselines
from msgan.methods.cascade import fit
from msgan.methods.trained import Cascade
from msgan.paths import write_text
from msgan.phantoms.brain import CITATION, LICENCE, SOURCE_URL, write_cohort
from msgan.presets import preset
from msgan.runs.model import About, export
from msgan.runs.run import Run
from msgan.studies.table import score_table

SOURCES = ("t1", "flair")
TARGET = "t2"
SEED = 2020
SCORES = ("ssim", "mae", "psnr")

ABOUT = About(
    summary="Translates T1 or FLAIR images of the brain, without the skull, to T2; "
    "learnt from phantoms only, so it is a toy for trying the software.",
    data="brain phantoms of msgan (msgan.phantoms.brain): images of people who do not exist, "
    "computed from the anatomy of the ICBM152 2009a template. Patients with a tumour and healthy "
    "volunteers of another scanner; every other patient has its tumour labels drawn over its "
    f"sketch. {CITATION}, {SOURCE_URL}",
    data_licence=LICENCE,
    licence="Apache-2.0",
    notice="The anatomy in the training data is that of the ICBM152 2009a template: Copyright (C) "
    "1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, "
    "McGill University. Use, copy, modification and distribution are permitted without fee with "
    "this notice.",
)


EVALUATION = (
    "Means over test phantoms that training has not seen, inside the brain, with intensities from "
    "0 to 1 and without label maps. Rows without a network: the untouched source; the source with "
    "the histogram of the training T2 (histogram-matched); the inverted source so matched."
)


def config(steps: int, lr_steps: int) -> CascadeConfig:
    """The preset ``small`` of brains, here at 3 and 1.5 mm, with more steps: there is time."""
    chosen = preset("small", "brain", seed=SEED)
    every = max(1, min(250, steps // 4, lr_steps // 4))
    training = {
        "steps": steps,
        "lr_steps": lr_steps,
        "validate_every": every,
        "checkpoint_every": every,
    }
    return chosen.updated(training=training)


def people(folder: Path, patients: int, volunteers: int, size: int) -> Cohort:
    """Phantoms of both populations, a third of each for the test; written where they are not yet.

    Every other training patient has no labels.
    """
    subjects = []
    for name, count, healthy in (("patients", patients, False), ("volunteers", volunteers, True)):
        at = folder / f"{name}-{count}x{size}"
        if not (at / "manifest.csv").is_file():  # written last
            write_cohort(
                at, subjects=count, size=size, seed=SEED, healthy=healthy, test_share=1 / 3
            )
        subjects += list(Cohort.from_manifest(at / "manifest.csv", at))
    trained = [s for s in subjects if s.split == "train"]
    without = {s.name for s in trained[::2] if s.name.startswith("patient")}
    return Cohort(tuple(replace(s, labels=None) if s.name in without else s for s in subjects))


def scored(run: Run, cohort: Cohort, folder: Path) -> pd.DataFrame:
    """Means over the test persons of every method and source, in the order of the methods.

    No method is given the labels of a test person, as a user has none.
    """
    preparation = run.config.preparation
    methods = {**baselines(cohort, TARGET, preparation), "cascade": Cascade(run)}
    tests = [replace(s, labels=None) for s in cohort.split("test")]
    tables = []
    for source in SOURCES:
        table = score_table(
            methods, tests, source, TARGET, run.intensity, preparation, folder / source
        )
        means = table.groupby("method", sort=False)[list(SCORES)].mean().reset_index()
        means.insert(0, "task", f"{source} to {TARGET}")
        means.insert(2, "persons", len(tests))
        tables.append(means)
    return pd.concat(tables, ignore_index=True).round(4)


def best(scores: pd.DataFrame) -> str:
    """The row with the highest SSIM of each task, as a sentence."""
    rows = scores.loc[scores.groupby("task", sort=False)["ssim"].idxmax()]
    found = "; ".join(f"{row.task}: {row.method} ({row.ssim:.3f})" for row in rows.itertuples())
    return f"Highest SSIM of {found}."


def main() -> None:
    """Train, score, export; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--work", type=Path, default=Path("reports/runs/brain-phantom-t2"), help="kept to go on")
    add("--out", type=Path, default=Path("msgan/models/brain-phantom-t2"), help="the model")
    add("--json", type=Path, default=Path("benchmarks/train_brain_phantom_t2.json"))
    add("--patients", type=int, default=12, help="phantoms with a tumour")
    add("--volunteers", type=int, default=6, help="phantoms without")
    add("--size", type=int, default=128, help="voxels of the longest axis; 128 is 1.5 mm")
    add("--steps", type=int, default=3000, help="of s1")
    add("--lr-steps", type=int, default=6000, help="of s0")
    options = parser.parse_args()

    start = perf_counter()
    cohort = people(options.work / "phantoms", options.patients, options.volunteers, options.size)
    run = fit(
        cohort,
        TARGET,
        config(options.steps, options.lr_steps),
        options.work / "run",
        report=lambda row: print(json.dumps(row), flush=True),
    )
    shutil.rmtree(options.work / "translated", ignore_errors=True)
    scores = scored(run, cohort, options.work / "translated")
    table = options.work / "scores.csv"
    write_text(table, scores.to_csv(index=False))
    print(scores.to_string())
    seconds = {
        f"s{i}": json.loads((run.folder_of(i) / "done.json").read_text())["seconds"]
        for i in run.used
    }
    report = {
        "task": "T1 and FLAIR to T2 of phantoms, inside the brain, means over the test persons",
        "trained_on": len(run.data),
        "scores": scores.to_dict("records"),
        "steps": {"lr_steps": options.lr_steps, "steps": options.steps},
        "seconds": {**seconds, "all of the last start": perf_counter() - start},
        **about(),
    }
    write_text(options.json, json.dumps(report, indent=1) + "\n")
    if options.out.exists():
        shutil.rmtree(options.out)
    told = replace(ABOUT, evaluation=f"{EVALUATION} {best(scores)}")
    export(run, options.out, told, half=True, scores=table)


if __name__ == "__main__":
    main()
