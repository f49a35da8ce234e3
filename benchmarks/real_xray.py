"""X-rays from their own sketches: trained on eleven real chests, tested on three, two CPU cores.

Trains the cascade and the patch GAN on 1024 x 1024 chest X-rays and draws others from their edges,
beside the cascade's own s0 (small GAN) and the mean of the training images (2019 paper, table 1).
Data: 14 images of NIH ChestX-ray14 (Wang et al., CVPR 2017; images provided by the NIH Clinical
Center), see docs/data.md.

    python benchmarks/real_xray.py --data ../shared/data --out reports/runs/real_xray

Intensities are divided by the 99.5th percentile of the foreground and clipped to [0, 1]; every
pixel counts; SSIM has a Gaussian window of sigma 1.5 and side 11.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
from records import about

from msgan import plots, presets
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort
from msgan.data.manifest import read_manifest
from msgan.data.volume import open_volume
from msgan.methods.cascade import fit
from msgan.methods.mean_image import MeanImage
from msgan.methods.patch_gan import PatchGan
from msgan.methods.small_gan import SmallGan
from msgan.methods.trained import Cascade
from msgan.paths import write_text
from msgan.report.published import published
from msgan.runs.run import Run
from msgan.studies.table import Fixed, result_path, score_table
from msgan.types import Box

MANIFEST = Path(__file__).resolve().parents[1] / "data_manifests" / "nih_xray.csv"
TESTED = 3
METRICS = ("ssim", "mae", "mse", "psnr")
STEPS = {"lr_steps": 2500, "steps": 1000, "validate_every": 250}


def config() -> CascadeConfig:
    """The ``small`` preset with the steps that fit the time."""
    chosen = presets.preset("small", "xray")
    return chosen.updated(training=STEPS)


def seconds(run: Run) -> dict[str, float]:
    """How long each scale took to train."""
    done = {f"s{i}": run.folder_of(i) / "done.json" for i in run.used}
    return {name: json.loads(path.read_text())["seconds"] for name, path in done.items()}


def summary(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean of each metric over the subjects, by method."""
    means = table.groupby("method", sort=False)[list(METRICS)].mean()
    return {
        str(name): {str(k): round(float(v), 5) for k, v in row.items()}
        for name, row in means.iterrows()
    }


def main() -> None:
    """Train, translate, score, draw; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds xray/*.png")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/real_xray.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/real_xray.png"))
    options = parser.parse_args()

    cohort = Cohort.from_manifest(read_manifest(MANIFEST), options.data).held_out(TESTED)
    test, chosen, cache = cohort.split("test"), config(), options.out / "cache"

    def report(row: dict) -> None:
        print(json.dumps(row), flush=True)

    run = fit(cohort, "xray", chosen, options.out / "cascade", cache=cache, report=report)
    blind = PatchGan.configured(chosen)
    patch = fit(cohort, "xray", blind, options.out / "patch", cache=cache, report=report)
    prep, tile = run.config.preparation, chosen.training.patch
    methods = {
        "cascade": Fixed(Cascade(run), tile=tile),
        "patch GAN": Fixed(PatchGan(patch), tile=tile),
        "small GAN": SmallGan(run),
        "mean image": MeanImage.fit(cohort, None, "xray", run.config),
    }
    results = options.out / "translated"
    table = score_table(
        methods, test, "xray", "xray", run.intensity, prep, results, regions=("image",)
    )
    trained = {"cascade": seconds(run), "patch GAN": seconds(patch)}
    with open_volume(test.subjects[0].images["xray"]) as image:
        grid, real = image.grid, image.whole()
    write_text(
        options.json,
        json.dumps(
            {
                "task": "X-ray from its own sketch, NIH ChestX-ray14, "
                + " x ".join(map(str, grid.shape)),
                "trained_on": list(cohort.split("train").names),
                "tested_on": list(test.names),
                "scales": [0, run.scales],
                "mean over the tested, all pixels, [0, 1]": summary(table),
                "each": json.loads(
                    table[["method", "subject", *METRICS, "seconds"]]
                    .round(5)
                    .to_json(orient="records")
                ),
                "printed 2019, other images": json.loads(
                    published("x-ray")[["method", *METRICS[:3]]].to_json(orient="records")
                ),
                "seconds": {**trained, "training": sum(sum(v.values()) for v in trained.values())},
                "steps": STEPS,
                **about(),
            },
            indent=1,
        )
        + "\n",
    )
    print(options.json.read_text())
    name = test.subjects[0].name
    paths = {method: result_path(results, method, name) for method in methods}
    readers = {"real": lambda box: real[box.slices]}
    readers |= {method: open_volume(path).read for method, path in paths.items()}
    title = f"{name} of NIH ChestX-ray14 (Wang et al. 2017; images provided by the NIH Clinical "
    title += "Center), drawn from its own edges by networks that know eleven other chests"
    window = (run.intensity.low, run.intensity.high)
    whole = {method: read(Box.whole(grid.shape)) for method, read in readers.items()}
    figure = plots.slices(whole, window=window, unit="a.u.", caption=f"{title}.")
    plots.save(figure, options.picture)
    figure = plots.zooms(
        readers,
        grid.shape,
        centre=(0.3, 0.45),
        zoom=0.2,
        window=window,
        columns=3,
        unit="a.u.",
        caption=f"{title}: the lung.",
    )
    plots.save(figure, options.picture.with_name("real_xray_zoom.png"))


if __name__ == "__main__":
    main()
