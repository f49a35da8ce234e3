"""Effect of training on generated contexts: one cascade trained with and without them.

The cascade of notebook 09 (preset ``small``, first fold, phantoms of brains with tumours) is
trained twice from one s0: its HR scales on real contexts with noise, blur and halving, as in the
papers, and on the output of the scales below for the training sketches. T1 and FLAIR of the test
people of the fold are translated and compared with the real T2 inside the brain. Networks that the
notebook has trained already are not trained again.

    python benchmarks/made_contexts.py
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from records import about

from msgan import presets
from msgan.methods.shared import fit_cached, reuse_scale
from msgan.methods.trained import Cascade
from msgan.methods.workers import run_parallel
from msgan.paths import write_text
from msgan.phantoms.cohorts import brain_cohort
from msgan.studies.crossval import Fitted, cross_validate, folds_of

SHARES = {"real contexts": 0.0, "generated contexts": 1.0}
TASKS = [("t1", "t2"), ("flair", "t2")]


def main() -> None:
    """Train, translate, score; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--shared", type=Path, default=Path("reports/runs/small/shared"), help="of the notebooks")
    add("--work", type=Path, default=Path("reports/runs/made_contexts"), help="of translations")
    add("--json", type=Path, default=Path("benchmarks/made_contexts.json"))
    options = parser.parse_args()

    cohort = brain_cohort("small", options.shared, data_root=None, seed=0)
    fold = folds_of(cohort, presets.sizes("small", "brain").folds, (0,))[0]
    base = presets.preset("small", "brain").unguided()
    jobs = {}
    for name, share in SHARES.items():
        config = base.updated(conditioning={"generated_share": share})
        asked = {"cohort": fold.train, "target": "t2", "root": options.shared}
        jobs[name] = partial(fit_cached, config=config, **asked)
    full = jobs["generated contexts"](scales=[0])
    reuse_scale(full, jobs["real contexts"](scales=[]), 0)
    runs = run_parallel(jobs)
    methods = {name: Cascade(run) for name, run in runs.items()}
    table = cross_validate(
        [fold],
        lambda fold, source: Fitted(methods, full.intensity),
        TASKS,
        full.config.preparation,
        options.work / "translated",
    )
    report = {
        "task": "T1 and FLAIR to T2 of phantoms, inside the brain, means over the test persons",
        "trained on": len(fold.train),
        "persons": len(fold.test),
    }
    for task, rows in table.groupby("task", sort=False):
        means = rows.groupby("method", sort=False)[["ssim", "mae", "psnr"]].mean().round(6)
        report[str(task)] = means.to_dict("index")
    report |= {
        "steps": {"lr_steps": base.training.lr_steps, "steps": base.training.steps},
        **about(),
    }
    write_text(options.json, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
