"""B80f -> soft kernel on a real patient: trained on one other patient, two CPU cores, 20 minutes.

Real anatomy of LIDC-IDRI (Armato et al. 2011, CC BY 3.0; see docs/data.md). A cascade is trained on
the soft image of patient 0003 (and, if asked for, of thorax phantoms), translates a B80f image of
patient 0001 and is compared with that patient's soft image, beside the patch GAN, the small GAN,
non-local means, the untouched source, and a regression that was trained on pairs.

    python benchmarks/real_thorax.py --data ../shared/data/thorax_ct --out reports/runs/real_thorax

What is real and what is simulated: both patients were reconstructed with one soft kernel only
(GE "STANDARD"). That image, as it is, is the target. The B80f image is made from it
(:func:`msgan.phantoms.ct_kernels.as_kernel`): sharpened as B80f is sharper than B20f, at most
fourfold, and noise of one realisation with the spectrum of B80f added. So source and target share
the target's own noise, and what the target's kernel had removed is not in the source either.

Voxels: 0001 is 1.41 x 1.41 x 2.5 mm, 0003 is 1.64 x 1.64 x 5 mm (slices averaged in pairs). Slices
of 0001 are averaged in pairs as well; in the plane voxels are taken as 1.52 mm in both, that is
0001 is seen 8 % too large and 0003 7 % too small. So nothing is interpolated: the noise and the
sharpness of both stay what they are.

Scores are of [-1024, 1024] HU shown as [0, 1]; SSIM has a Gaussian window of sigma 1.5, side 11.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msgan import plots, presets
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.lung import lung_mask
from msgan.data.volume import open_labels, open_volume, write_volume
from msgan.methods.baselines import Profile, Source
from msgan.methods.matched import SpectrumMatched
from msgan.methods.non_local_means import NonLocalMeans
from msgan.methods.paired import PairedRegression
from msgan.methods.patch_gan import PatchGan
from msgan.methods.shared import fit_cached
from msgan.methods.small_gan import SmallGan
from msgan.methods.trained import Cascade
from msgan.paths import write_text
from msgan.phantoms.ct_kernels import KERNELS, as_kernel, noise
from msgan.phantoms.thorax import DETAIL_MM, write_thorax_cohort
from msgan.runs.run import Run, git_commit, versions
from msgan.studies.lung import lung_measures
from msgan.studies.seams import Seams
from msgan.studies.table import Fixed, Result, result_path, score_table
from msgan.types import Array, Box

FILES = {
    "0001": "LIDC-IDRI-0001_chestCT_256x256.nii.gz",
    "0003": "LIDC-IDRI-0003_chestCT_256x256x5mm.nii.gz",
}
TRAIN, TEST = "0003", "0001"

SOURCE, TARGET = "b80f", "b20f"
"""The target is the scanner's soft kernel; it has the phantoms' name so that they can be added."""

VOXEL_MM = (1.524, 1.524, 5.0)

SIGMA_HU = 12.0
"""Of the noise in an image of B20f, as in the phantoms; B80f has 4.5 times as much."""

BALLS = {"heart": ((140, 115, 33), 20.0), "vertebra": ((121, 172, 29), 9.0)}
"""In 0001: centre (voxel, slices in pairs) and radius (mm) in the left heart and in marrow."""

TILE = 48
"""Smaller than the image, so that seams could show."""

TILED = ("cascade", "patch GAN", "paired regression")
"""Rows that are made of tiles."""

PHANTOM_SIZE = 231
"""Voxels along the phantom's longest axis: 1.524 mm in the plane; slices are resampled."""

STEPS = {"lr_steps": 2000, "steps": 360, "patch": 64, "validate_every": 60}
"""Of s0, and of s1, s2, the patch GAN's s2 and the regression's s2: about 15 minutes in all."""


def config(steps: int | None = None) -> CascadeConfig:
    """Everything that decides the trainings; ``steps`` is for a try.

    The preset ``small`` for the thorax, with the steps that fit the time.
    """
    chosen = presets.preset("small", "thorax")
    numbers: dict[str, Any] = dict(STEPS)
    if steps is not None:
        numbers |= {"lr_steps": steps, "steps": steps, "validate_every": steps}
    return chosen.updated(preparation={"spacing_mm": VOXEL_MM}, training=numbers)


def in_pairs(image: Array) -> Array:
    """Slices averaged in pairs; a last odd one is left out."""
    even = image.shape[2] // 2 * 2
    return (image[:, :, 0:even:2] + image[:, :, 1:even:2]) / 2


def patient(data: Path, number: str, folder: Path, split: str) -> Subject:
    """The images and regions of a patient, written once."""
    names = {n: folder / f"{number}_{n}.nii" for n in (SOURCE, TARGET, "lung", *BALLS)}
    done = folder / f"{number}.done"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with open_volume(data / FILES[number]) as volume:
            image, affine = volume.whole(), volume.grid.affine
            lungs = lung_mask(volume.read, volume.grid).read(Box.whole(image.shape))
        if number == "0001":
            image, lungs = in_pairs(image), in_pairs(lungs.astype(np.float32)) >= 0.5
        mm = VOXEL_MM / np.linalg.norm(affine[:3, :3], axis=0)
        grid = Grid(image.shape, affine @ np.diag([*mm, 1.0]))
        spacing = grid.spacing
        for name, values in {
            TARGET: image,
            SOURCE: simulated(image, spacing, seed=int(number)),
        }.items():
            write_volume(names[name], grid, lambda box, v=values: v[box.slices], unit="HU")
        regions = {"lung": lungs, **{n: ball(grid, *where) for n, where in BALLS.items()}}
        for name, values in regions.items():
            mask = values.astype(np.uint8)
            write_volume(names[name], grid, lambda box, v=mask: v[box.slices], dtype=np.uint8)
        done.touch()
    return Subject(
        f"LIDC-IDRI-{number}",
        {m: names[m] for m in (SOURCE, TARGET)},
        split=split,
        units=dict.fromkeys((SOURCE, TARGET), "HU"),
        regions={n: names[n] for n in ("lung", *BALLS)} if number == TEST else {},
    )


def simulated(image: Array, spacing: tuple[float, ...], seed: int) -> Array:
    """A soft image as if of B80f: sharpened, and with the noise of one scan."""
    factor = max(1.0, spacing[0] / DETAIL_MM)  # kernels as wide in voxels as at 0.69 mm
    old, new = (KERNELS[name].stretched(factor) for name in (TARGET, SOURCE))
    box = Box.whole(image.shape)
    sharp = as_kernel(lambda part: image[part.slices], image.shape, spacing, old, new)(box)
    rough = noise(image.shape, spacing, new, SIGMA_HU, seed, reference=old)(box)
    # A scanner writes 12 bits.
    return np.clip(sharp + rough, -1024, 3071)


def ball(grid: Grid, centre: tuple[int, ...], radius_mm: float) -> Array:
    """A ball of voxels."""
    axes = np.ogrid[tuple(slice(n) for n in grid.shape)]
    parts = zip(axes, centre, grid.spacing, strict=True)
    return sum(((a - c) * h) ** 2 for a, c, h in parts) <= radius_mm**2


def tissue_hu(result: Result) -> dict[str, float]:
    """Mean HU of a result and of the real image in lung, heart and marrow."""
    found = {}
    with (
        open_volume(result.path) as fake,
        open_volume(result.subject.images[result.target]) as real,
    ):
        made, true = fake.whole(), real.whole()
    for name, path in result.subject.regions.items():
        with open_labels(path) as mask:
            inside = mask.whole() > 0
        found |= {f"{name}_mean": float(made[inside].mean())}
        found |= {f"{name}_real": float(true[inside].mean())}
    return found


def seconds(run: Run) -> dict[str, float]:
    """Training time of each scale that was trained."""
    files = {f"s{i}": run.folder_of(i) / "done.json" for i in run.used}
    return {name: json.loads(file.read_text())["seconds"] for name, file in files.items()}


def tables(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The tables of the report: title, row, column."""
    scores = ("ssim", "mae", "mse", "psnr")
    made: dict[str, dict[str, Any]] = {}
    for title, prefix in (("whole volume", "image_"), ("body", ""), ("lung", "lung_")):
        made[title] = {line["method"]: {s: line[prefix + s] for s in scores} for line in lines}
    made["emphysema index, % of the lung"] = {
        line["method"]: {
            "result": 100 * line["emphysema"],
            "real": 100 * line["emphysema_real"],
            "error": 100 * line["emphysema_error"],
        }
        for line in lines
    }
    where = ("lung", *BALLS)
    made["mean HU"] = {line["method"]: {n: line[f"{n}_mean"] for n in where} for line in lines}
    made["mean HU"]["real"] = {n: lines[0][f"{n}_real"] for n in where}
    made["result minus real, HU, by the real image's HU"] = {
        line["method"]: {"0 to 100": line["soft_hu"], "above 250": line["bone_hu"]}
        for line in lines
    }
    made["seams"] = {
        line["method"]: {k: v for k, v in line.items() if k.startswith("seam")}
        for line in lines
        if line["method"] in TILED
    }
    made["seconds of a translation"] = {line["method"]: line["seconds"] for line in lines}
    return made


def cohort_of(data: Path, folder: Path, phantoms: int) -> Cohort:
    """The two patients and, if asked for, phantoms to train on as well."""
    subjects = [
        patient(data, TRAIN, folder / "data", "train"),
        patient(data, TEST, folder / "data", "test"),
    ]
    if phantoms:
        made = folder / f"phantoms-{phantoms}"
        manifest = made / "manifest.csv"
        if not manifest.is_file():
            write_thorax_cohort(made, subjects=phantoms, size=PHANTOM_SIZE, seed=0)
        subjects += [replace(s, split="train") for s in Cohort.from_manifest(manifest, made)]
    return Cohort(tuple(subjects))


def picture(path: Path, made: Mapping[str, Path], patient: Subject, known: list[str]) -> None:
    """Source, rows and the real image: the whole slice and a part of it, magnified."""
    files = {
        "simulated B80f": patient.images[SOURCE],
        **{name: file for name, file in made.items() if name != "source"},
        "real soft kernel": patient.images[TARGET],
    }
    volumes = {name: open_volume(file) for name, file in files.items()}
    grid = volumes["real soft kernel"].grid
    figure = plots.zooms(
        {name: volume.read for name, volume in volumes.items()},
        grid.shape,
        affine=grid.affine,
        at=38,
        centre=(0.33, 0.52),
        zoom=0.36,
        window=(-1100, 300),
        unit="HU",
        caption="LIDC-IDRI-0001 (Armato et al. 2011, CC BY 3.0); trained on "
        f"{', '.join(known)} only. Noise of the simulated sharp kernel should be gone, and "
        "vessels and the walls of airways be where they are in the real image.",
    )
    plots.save(figure, path)
    for volume in volumes.values():
        volume.close()


def main() -> None:
    """Train, translate, score, draw; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the LIDC images")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--phantoms", type=int, default=0, help="phantoms trained on as well")
    parser.add_argument("--steps", type=int, help="steps of every training, for a try")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/real_thorax.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/real_thorax.png"))
    options = parser.parse_args()

    cohort = cohort_of(options.data, options.out, options.phantoms)
    chosen = config(options.steps)
    shared: dict[str, Any] = {
        "root": options.out / "runs",
        "report": lambda line: print(json.dumps(line), flush=True),
    }
    runs = {
        "cascade": fit_cached(cohort, TARGET, chosen, **shared),
        "patch GAN": fit_cached(cohort, TARGET, PatchGan.configured(chosen), **shared),
        "paired regression": fit_cached(
            cohort, TARGET, PairedRegression.configured(chosen, SOURCE), **shared
        ),
    }
    run = runs["cascade"]
    preparation = run.config.preparation
    methods = {
        "cascade": Fixed(Cascade(run), tile=TILE),
        "patch GAN": Fixed(PatchGan(runs["patch GAN"]), tile=TILE),
        "small GAN": SmallGan(run),
        "non-local means": NonLocalMeans(preparation, run.intensity),
        "spectrum-matched": SpectrumMatched.fit(cohort, SOURCE, TARGET, run.config),
        "source": Source(Profile.of(cohort, TARGET, preparation), preparation),
        "paired regression": Fixed(PairedRegression(runs["paired regression"]), tile=TILE),
    }
    kept = options.out / "translated"
    test = cohort.split("test")
    table = score_table(
        methods,
        test,
        SOURCE,
        TARGET,
        run.intensity,
        preparation,
        kept,
        regions=("body", "image", "lung"),
        measures=(lung_measures, tissue_hu, Seams(dict.fromkeys(TILED, TILE), preparation)),
    )
    training = {name: seconds(trained) for name, trained in runs.items()}
    report = {
        "task": f"simulated B80f -> soft kernel, {TEST} of LIDC-IDRI, 256x256x66 at "
        f"{' x '.join(map(str, VOXEL_MM))} mm",
        "trained_on": [s.name for s in cohort if s.split != "test"],
        **tables(table.to_dict("records")),
        "seconds of training": {
            "all": sum(sum(each.values()) for each in training.values()),
            **training,
        },
        "steps": {key: getattr(chosen.training, key) for key in STEPS},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "git": git_commit(),
    }
    write_text(options.json, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    (person,) = test
    made = {name: result_path(kept, name, person.name) for name in methods}
    picture(options.picture, made, person, report["trained_on"])


if __name__ == "__main__":
    main()
