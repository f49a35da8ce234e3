"""A bone kernel to a soft one: one real scan of a head phantom, reconstructed with both.

The pair is real: one scan, two kernels, one grid, so the noise is the same noise. What is learnt is
learnt on slices 0 to 23 and measured on slices 24 to 47: the same object on other slices, not
another person.
Data: head phantom of neurolabusc/dcm_qa_ct (BSD-2-Clause), see docs/data.md. UB is the soft kernel,
with iterative denoising, YA the sharp one.

    python benchmarks/two_kernels.py

Methods beside those of benchmarks/methods.py: *best Gaussian* has the width that brings YA closest
to UB on the training slices, and *paired radial filter* is the least-squares filter that is equal
in all directions there: both use the pairs of the training slices. *Oracle radial filter* is the
same filter fitted on the test slices themselves: no method, but what such a filter could reach.

Scores are of [-1024, 1024] HU shown as [0, 1], in the body (above -300 HU in UB, holes filled), 3D;
SSIM has a Gaussian window of sigma 1.5 and side 11.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from methods import Fitted, candidates, fitted
from records import about, about_method, options, parsed, record
from scipy.signal import fftconvolve

from msgan import plots, presets
from msgan.config import CascadeConfig, Preparation
from msgan.data.body import body_mask
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.volume import open_volume, write_volume
from msgan.match import spectrum
from msgan.methods.baselines import Profile
from msgan.methods.untrained import Untrained, digest
from msgan.studies.lung import lung_measures
from msgan.studies.table import BODY, IMAGE, result_path, score_table
from msgan.translate.maker import Making
from msgan.types import Array, Box, Reader

NAME = "two_kernels"
SOURCE, TARGET = "ya", "ub"
FILES = {SOURCE: "head_phantom_YA.nii.gz", TARGET: "head_phantom_UB.nii.gz"}
HALF = 24
"""Slices to learn from; as many are measured."""

COMPARED = (
    "source",
    "spectrum-matched",
    "non-local means",
    "cascade",
    "cascade, guided",
    "paired regression",
)
FILTERS = ("best Gaussian", "paired radial filter", "oracle radial filter")
WIDTHS = np.arange(0.3, 3.01, 0.05)
"""Standard deviations that are tried, voxels."""

STEPS = {"lr_steps": 1500, "steps": 600, "validate_every": 100}
QUICK = {"lr_steps": 4, "steps": 2, "validate_every": 2}


def config(quick: bool = False) -> CascadeConfig:
    """The preset ``small`` for CT kernels of the thorax, with the steps that fit the time."""
    chosen = presets.preset("smoke" if quick else "small", "thorax")
    return chosen.updated(training=QUICK if quick else STEPS)


def halves(data: Path, folder: Path, middle: int | None = None) -> Cohort:
    """Slices 0 to 23 to learn from and slices 24 to 47 to test on, as two subjects.

    Args:
        data: Holds ``ct_two_kernels``.
        folder: Where they are written.
        middle: Side of a square in the middle that is kept, voxels; None: everything.
    """
    subjects = []
    for name, first, split in (("slices-0-23", 0, "train"), ("slices-24-47", HALF, "test")):
        images = {}
        for modality, file in FILES.items():
            images[modality] = folder / f"{name}_{modality}.nii"
            with open_volume(data / "ct_two_kernels" / file) as volume:
                whole, affine = volume.whole(), volume.grid.affine.copy()
            affine[:3, 3] += affine[:3, 2] * first
            part = whole[:, :, first : first + HALF]
            if middle is not None:
                start = (part.shape[0] - middle) // 2
                part = part[start : start + middle, start : start + middle]
                affine[:3, 3] += affine[:3, :2] @ (start, start)
            grid = Grid(part.shape, affine)
            folder.mkdir(parents=True, exist_ok=True)
            write_volume(images[modality], grid, lambda box, v=part: v[box.slices], unit="HU")
        subjects.append(Subject(name, images, split=split, units=dict.fromkeys(images, "HU")))
    return Cohort(tuple(subjects))


class Filter(Untrained):
    """A method that is one filter within slices; values are filtered before they are cut off."""

    def __init__(self, name: str, kernel: Array, profile: Profile, preparation: Preparation):
        super().__init__(preparation.updated(spacing_mm=None), profile.intensity)
        self.name, self.kernel = name, kernel

    def parameters(self) -> list[Any]:
        return [digest(self.kernel)]

    def read(self, making: Making) -> Reader:
        ready = making.subject
        filtered = spectrum.filtered(ready.read_source, self.kernel)
        return lambda box: ready.intensity.to_unit(filtered(box))


def gaussian(sigma: float, radius: int = spectrum.RADIUS) -> Array:
    """(31, 31) Gaussian filter of that width, voxels; its sum is 1."""
    axis = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.outer(axis, axis) / axis.sum() ** 2


def rings(radius: int = spectrum.RADIUS) -> Iterator[Array]:
    """Masks of the filter's voxels that are as far from its centre; far ones to a voxel."""
    axis = np.arange(-radius, radius + 1)
    square = axis[:, None] ** 2 + axis**2
    group = np.where(square <= 18, square, 100 + np.rint(np.sqrt(square)).astype(int))
    for value in np.unique(group[square <= radius**2]):
        yield group == value


def radial_filter(source: Array, target: Array, mask: Array) -> Array:
    """(31, 31) filter, equal in all directions, that brings ``source`` closest to ``target``.

    Least squares over the voxels of ``mask``, under the rule that the sum is 1, as a kernel's is;
    filtered within slices, the first two axes.
    """
    centre, *others = (part / part.sum() for part in rings())
    here = source[mask].astype(np.float32)
    # In float32: some twenty filtered images of two million voxels are held.
    rest = np.stack([applied(source, part)[mask] - here for part in others]).astype(np.float32)
    gram, aim = rest @ rest.T, rest @ (target[mask] - here).astype(np.float32)
    weights = np.linalg.lstsq(gram.astype(np.float64), aim.astype(np.float64), rcond=1e-9)[0]
    parts = zip(weights, others, strict=True)
    return centre * (1 - weights.sum()) + sum(w * part for w, part in parts)


def applied(image: Array, kernel: Array) -> Array:
    """An image filtered within its slices; beyond its edges it goes on."""
    around = kernel.shape[0] // 2
    padded = np.pad(image, ((around, around), (around, around), (0, 0)), mode="edge")
    return fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1))


def best_width(source: Array, target: Array, mask: Array) -> float:
    """Standard deviation, voxels, of the Gaussian with the least squared error in ``mask``."""
    errors = [np.square(applied(source, gaussian(s)) - target)[mask].mean() for s in WIDTHS]
    return float(WIDTHS[int(np.argmin(errors))])


def filters(cohort: Cohort, preparation: Preparation) -> dict[str, tuple[Filter, str]]:
    """The methods that are one filter, and what each has seen."""
    profile, fits = Profile.of(cohort, TARGET, preparation), {}
    for subject in cohort:
        images = {}
        for modality in (SOURCE, TARGET):
            with open_volume(subject.images[modality]) as volume:
                images[modality], grid = volume.whole().astype(np.float32), volume.grid
        real = images[TARGET]
        body = body_mask(lambda box, v=real: v[box.slices], grid, preparation.foreground)
        fits[subject.split] = (images[SOURCE], real, body(Box.whole(real.shape)))
    width = best_width(*fits["train"])
    kernels = {
        "best Gaussian": (gaussian(width), f"pairs; sigma {width:.2f} voxels"),
        "paired radial filter": (radial_filter(*fits["train"]), "pairs"),
        "oracle radial filter": (radial_filter(*fits["test"]), "the pair it is tested on"),
    }
    return {
        name: (Filter(name, kernel, profile, preparation), sees)
        for name, (kernel, sees) in kernels.items()
    }


def main() -> None:
    """Fit, translate, score, draw; see the module's docstring."""
    given = parsed(options(NAME, __doc__, (*COMPARED, *FILTERS)), NAME)
    chosen = config(given.quick)
    cohort = halves(given.data, given.out / "data", 192 if given.quick else None)
    preparation = chosen.preparation
    done = [
        fitted(candidate, cohort, SOURCE, TARGET, chosen, given.out / "runs", match="spectrum")
        for candidate in candidates([name for name in given.methods if name not in FILTERS])
    ]
    methods = {one.candidate.name: one.translating() for one in done}
    told = {one.candidate.name: about_method(one) for one in done}
    if set(FILTERS) & set(given.methods):
        for name, (method, sees) in filters(cohort, preparation).items():
            if name in given.methods:
                known = Fitted(
                    replace(candidates(["source"])[0], name=name, sees=sees), method, 0.0
                )
                methods[name] = known.translating()
                told[name] = {k: v for k, v in about_method(known).items() if k != "seconds of fit"}
    kept, test = given.out / "translated", cohort.split("test")
    table = score_table(
        methods,
        test,
        SOURCE,
        TARGET,
        Profile.of(cohort, TARGET, preparation).intensity,
        preparation,
        kept,
        regions=(BODY, IMAGE),
        measures=(lung_measures,),
    )
    lines = {line["method"]: line for line in table.to_dict("records")}
    scores = ("ssim", "mae", "psnr")
    report = {
        "task": "YA (bone) -> UB (soft), slices 24 to 47 of a head phantom, 512x512x24 at "
        "0.45 x 0.45 x 1 mm, 3D, n = 1",
        "data": "neurolabusc/dcm_qa_ct (BSD-2-Clause)",
        "trained_on": "slices 0 to 23",
        "range": "-1024 to 1024 HU shown as [0, 1]",
        "body": {name: {s: line[s] for s in scores} for name, line in lines.items()},
        "whole volume": {n: {s: line[f"image_{s}"] for s in scores} for n, line in lines.items()},
        "result minus real, HU, by the real image's HU": {
            name: {"0 to 100": line["soft_hu"], "above 250": line["bone_hu"]}
            for name, line in lines.items()
        },
        "seconds of a translation": {name: line["seconds"] for name, line in lines.items()},
        "methods": told,
        **about(),
    }
    record(given.json, report)
    picture(given.picture, kept, next(iter(test)), list(report["body"]))


def picture(path: Path, kept: Path, subject: Subject, names: list[str]) -> None:
    """The source, all methods and the real image, magnified."""
    files = {f"{SOURCE.upper()}, source": subject.images[SOURCE]}
    files |= {n: result_path(kept, n, subject.name) for n in names if n != "source"}
    files["UB, real"] = subject.images[TARGET]
    volumes = {name: open_volume(file, check=False) for name, file in files.items()}
    grid = volumes["UB, real"].grid
    figure = plots.zooms(
        {name: volume.read for name, volume in volumes.items()},
        grid.shape,
        affine=grid.affine,
        centre=(0.5, 0.6),
        zoom=0.3,
        window=(-150, 250),
        unit="HU",
        columns=5,
        caption="Head phantom of neurolabusc/dcm_qa_ct (BSD-2-Clause), slice 36 of one scan: the "
        "sharp kernel YA, what the methods make of it, and the soft kernel UB. Learnt on slices 0 "
        "to 23 of the same phantom.",
    )
    plots.save(figure, path, dpi=110)
    for volume in volumes.values():
        volume.close()


if __name__ == "__main__":
    main()
