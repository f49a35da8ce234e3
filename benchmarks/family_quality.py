"""The published HR generator against the default seamless one: what each draws after training.

Both learn the last scale of T2 phantoms of size 128 from the same cohort, with the real image one
scale below as context, and refine a patient neither has seen, from its T2 sketch and from its T1
sketch. The published network has its published size and is given more time. What the scale
below gets wrong is left out on purpose: this is about the networks whose speed is compared in
``inference_speed.py``. Scores are taken inside the brain.

    python benchmarks/family_quality.py --out reports/runs/family_quality
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from msgan import metrics, pyramid, sketch
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, prepare
from msgan.methods.cascade import fit
from msgan.methods.refine import refine
from msgan.paths import write_text
from msgan.phantoms.brain import write_cohort
from msgan.presets import preset
from msgan.runs.run import Run
from msgan.types import Box

SIZE, SUBJECTS, SEED = 128, 4, 0


def configs(steps: dict[str, int]) -> dict[str, CascadeConfig]:
    """The same training but for the patch and the optimiser, which are the published ones.

    At the learning rate of the preset the published network saturates at background.
    """
    base = preset("small", seed=SEED).unguided()
    sizes = {
        "megan": (
            {"family": "megan", "hr_width": 64, "hr_blocks": 6, "lr_border": 0},
            {"patch": 32, "learning_rate": 2e-4, "beta1": 0.5, "decay": "constant"},
        ),
        "seamless": ({}, {}),
    }
    found = {}
    for family, (network, own) in sizes.items():
        training = {"steps": steps[family], "validate_every": 50, **own}
        found[family] = base.updated(preparation={"scales": 1}, network=network, training=training)
    return found


def refined(run: Run, cohort: Cohort, folder: Path) -> dict[str, dict[str, float]]:
    """Scores of the test patient's T2, refined from either sketch and its real context."""
    patient = cohort.split("test").with_modality("t1", "t2").subjects[0]
    prep, found = run.config.preparation, {}
    with prepare(patient, "t2", prep) as real:
        shape, n = real.grid.shape, real.grid.scales
        context = pyramid.build(real.read, shape, n, folder / "context")[n - 1]
        truth = (real.read(Box.whole(shape)) + 1) / 2
        for modality in ("t2", "t1"):
            with prepare(patient, modality, prep, grid=real.grid) as own:
                drawn = sketch.sketch_reader(own.read, shape, run.config.sketch)
                tile = 40 if run.config.network.family == "megan" else 64
                read = refine(run.generator(n), drawn, context, shape, folder / "y", tile=tile)
                fake = (read(Box.whole(shape)) + 1) / 2
            s = metrics.scores(fake, truth, data_range=1.0, mask=truth > 0, mask_name="brain")
            found[f"from {modality}"] = {"ssim": s.ssim, "mae": s.mae, "psnr": s.psnr}
        plain = (pyramid.enlarge(context, tuple(k // 2 for k in shape))(Box.whole(shape)) + 1) / 2
        s = metrics.scores(plain, truth, data_range=1.0, mask=truth > 0, mask_name="brain")
        found["context enlarged"] = {"ssim": s.ssim, "mae": s.mae, "psnr": s.psnr}
    return found


def main() -> None:
    """Train both, refine, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where phantoms and runs are kept")
    parser.add_argument("--megan-steps", type=int, default=600)
    parser.add_argument("--seamless-steps", type=int, default=600)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/family_quality.json"))
    options = parser.parse_args()
    folder = options.out / "phantoms"
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        write_cohort(folder, subjects=SUBJECTS, size=SIZE, seed=SEED)
    cohort = Cohort.from_manifest(manifest, folder)
    steps = {"megan": options.megan_steps, "seamless": options.seamless_steps}
    rows, training = {}, {}
    for family, config in configs(steps).items():
        out = options.out / f"{family}-{steps[family]}"
        run = fit(cohort, "t2", config, out, scales=[1], cache=options.out / "cache")
        about = json.loads((run.folder_of(1) / "done.json").read_text())
        training[family] = {"steps": about["step"], "minutes": about["seconds"] / 60}
        for name, scores in refined(run, cohort, options.out / "refined" / family).items():
            rows[name if name == "context enlarged" else f"{family}, {name}"] = scores
        print(json.dumps({"training": training, "rows": rows}, indent=1), flush=True)
    shutil.rmtree(options.out / "refined")
    report = {
        "what": f"brain phantoms of size {SIZE}, {SUBJECTS} subjects, 1 tested, 3D, seed {SEED}",
        "training": training,
        "inside the brain": rows,
        **about(),
    }
    write_text(options.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
