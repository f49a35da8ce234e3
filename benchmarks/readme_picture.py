"""The picture of the README: T1, its sketch, what each scale makes of it, and the real T2.

Trains a cascade on the T2 images of brain phantoms, or opens one that is trained, and draws a slice
of a phantom it has not seen.

    python benchmarks/readme_picture.py --work reports/runs/readme_picture
    python benchmarks/readme_picture.py --work reports/runs/readme_picture --run runs/t2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from msgan import plots, presets, sketch
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.volume import open_volume
from msgan.methods.cascade import fit
from msgan.phantoms.brain import write_cohort
from msgan.plots.frame import Frame
from msgan.plots.style import new_figure, settled
from msgan.training.run import Run
from msgan.translate import translate
from msgan.types import Array, Box

SUBJECTS, SIZE = 8, 96


def config(steps: int) -> CascadeConfig:
    """The ``small`` preset, shorter and with narrower networks."""
    chosen = presets.small(seed=0)
    less = {"steps": steps, "low_steps": 2 * steps, "patch": 32, "batch": 2}
    training = chosen.training.model_copy(update=less)
    network = chosen.network.model_copy(update={"high_width": 24, "high_blocks": 2})
    return chosen.model_copy(update={"training": training, "network": network})


def stages(run: Run, subject: Subject, work: Path) -> tuple[dict[str, Array], tuple[float, ...]]:
    """Title -> image in [0, 1] on its own grid, and the sides of the field of view in mm."""
    translate(run, subject, work / "t2.nii", modality="t1", keep=work / "scales")
    preparation = run.config.preparation
    with (
        prepare(subject, "t1", preparation) as t1,
        prepare(subject, "t2", preparation, grid=t1.grid) as t2,
    ):
        shape, box = t1.grid.shape, Box.whole(t1.grid.shape)
        view = tuple(n * s for n, s in zip(shape, t1.grid.spacing, strict=True))
        found = {"T1": (t1.read(box) + 1) / 2}
        found["sketch"] = sketch.sketch_reader(t1.read, shape, run.config.sketch)(box)[0]
        for i in range(run.scales + 1):
            with open_volume(work / "scales" / f"y{i}.nii") as made:
                found[f"s{i}"] = (run.intensity.to_unit(made.whole()) + 1) / 2
        found["real T2"] = (t2.read(box) + 1) / 2
    return found, view


def draw(images: dict[str, Array], view: tuple[float, ...], share: float, caption: str) -> Figure:
    """One axial slice of each image, all of one size on paper."""
    with plots.style():
        width, height = view[0], view[1]
        each = (plots.WIDTH - 0.2) / len(images)
        figure = new_figure(plots.WIDTH, each * height / width + 0.32, caption)
        axes = figure.subplots(1, len(images))
        for ax, (title, image) in zip(axes, images.items(), strict=True):
            at = [n // 2 for n in image.shape]
            at[2] = int(share * image.shape[2])
            spacing = [v / n for v, n in zip(view, image.shape, strict=True)]
            frame = Frame.of(image, at, spacing, None)
            frame.show(ax, image, "axial", None, vmin=0, vmax=1, letters=False)
            sides = " × ".join(map(str, image.shape))
            ax.set_title(f"{title}\n{sides}", fontsize=8)
    return settled(figure)


def main() -> None:
    """Train or open, translate, draw; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for phantoms and run")
    parser.add_argument("--run", type=Path, help="a trained run for T2; default: train one")
    parser.add_argument("--steps", type=int, default=400, help="of each scale; s0: twice as many")
    parser.add_argument("--slice", type=float, default=0.55, help="height, share of the image")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/cascade.png"))
    options = parser.parse_args()

    manifest = options.work / "phantoms" / "manifest.csv"
    if not manifest.is_file():
        write_cohort(manifest.parent, subjects=SUBJECTS, size=SIZE, seed=0)
    cohort = Cohort.from_manifest(manifest, manifest.parent)
    if options.run is not None:
        run = Run.open(options.run)
    else:
        chosen = config(options.steps)
        run = fit(
            cohort, "t2", chosen, options.work / "run", report=lambda row: print(json.dumps(row))
        )
    images, view = stages(run, cohort.split("test").subjects[0], options.work)
    brain = images["real T2"] > 0
    error = np.abs(images[f"s{run.scales}"] - images["real T2"])[brain].mean()
    print(f"mean absolute error inside the brain: {error:.3f}")
    caption = (
        "A brain phantom the cascade was not trained on: its T1, the sketch of it, the T2 that "
        "each scale makes, and the real T2."
    )
    print(plots.save(draw(images, view, options.slice, caption), options.picture))


if __name__ == "__main__":
    main()
