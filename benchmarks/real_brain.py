"""T1 and FLAIR to T2 of real patients: trained on one or two other patients, on two CPU cores.

Studies, each with people of its own to learn from and to test on:

- ``ms``: MS patient 19 -> 26. Cascades draw the expert's lesion mask over the sketch, and were
  trained so; "no mask" is the same cascade without that of patient 26. No other method sees a mask.
- ``turned``: 26 -> 19, no mask.
- ``tumours``: 19 and 26 -> both patients with a glioma, who are of another scanner and disease.
- ``FG to DU``, ``DU to FG``: one patient with a glioma -> the other.

In all but ``ms`` no method sees a label, in training or in translation: labels only say where to
measure. Those of the gliomas are an algorithm's (seg_auto), not an expert's.
Data: open MS data (Lesjak et al., Neuroinformatics 2017, CC BY); TCGA-LGG as prepared by
BrainLesion/tutorials (CC BY 3.0); see docs/data.md.

    python benchmarks/real_brain.py --studies ms --methods cascade "cascade, guided"

A cascade is brains of the preset ``small`` (s0 at 2 mm, s1 at 1 mm) with more steps, because the
images are eight times as large. The real T2 is divided by its 99.5th percentile inside the brain,
a result by that of the training people's T2, in whose range every method writes; both are clipped
to [0, 1]; 3D, at 1 mm; SSIM has a Gaussian window of sigma 1.5 and side 11.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from methods import MEMORY, Candidate, Fitted, candidates, fitted
from records import MANIFESTS, about, about_method, options, parsed, record

from msgan import metrics, plots, presets, pyramid, sketch
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.intensity import IntensityMap
from msgan.data.manifest import read_manifest
from msgan.data.volume import open_labels, open_volume
from msgan.methods.refine import refine
from msgan.methods.trained import Cascade
from msgan.phantoms.brain import write_cohort
from msgan.runs.run import Run
from msgan.types import Array, Box

NAME = "real_brain"
SOURCES, TARGET = ("t1", "flair"), "t2"
COMPARED = (
    "source",
    "histogram-matched",
    "inverted, matched",
    "histogram-matched + slope transfer",
    "inverted, matched + slope transfer",
    "mean image",
    "published",
    "cascade",
    "cascade, match",
    "cascade, match and student",
    "cascade, guided",
    "CycleGAN",
    "paired regression",
)
PICTURED = (
    "source",
    "inverted, matched",
    "cascade",
    "cascade, no mask",
    "cascade, guided",
    "CycleGAN",
    "paired regression",
)
UNIT = "share of P99.5"
STEPS = {"lr_steps": 6000, "steps": 4000}
QUICK = {"lr_steps": 4, "steps": 2, "validate_every": 2}


@dataclass(frozen=True)
class Study:
    """Who is learnt from and who is tested.

    Attributes:
        train: Names of people.
        test: Names of people.
        labels: Values of the masks that cascades draw over sketches.
        lesion: How a mask is called.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: tuple[int, ...] = ()
    lesion: str = "tumour"

    def title(self, person: str) -> str:
        """What the keys of the tables of a tested person begin with."""
        return f"{', '.join(self.train)} → {person}: "


# fmt: off
STUDIES = {
    "ms": Study(("patient19",), ("patient26",), labels=(1,), lesion="lesions"),
    "turned": Study(("patient26",), ("patient19",), lesion="lesions"),
    "tumours": Study(("patient19", "patient26"), ("TCGA-DU-7294", "TCGA-FG-6692")),
    "FG to DU": Study(("TCGA-FG-6692",), ("TCGA-DU-7294",)),
    "DU to FG": Study(("TCGA-DU-7294",), ("TCGA-FG-6692",)),
}
# fmt: on


def cohort_of(study: Study, data: Path) -> Cohort:
    """The people of a study, split as it says."""
    people = {
        subject.name: subject
        for name in ("brain_ms", "brain_tumour")
        for subject in Cohort.from_manifest(read_manifest(MANIFESTS / f"{name}.csv"), data)
    }
    split = dict.fromkeys(study.train, "train") | dict.fromkeys(study.test, "test")
    return Cohort(tuple(replace(people[n], split=part, fold=None) for n, part in split.items()))


def config(study: Study, quick: bool = False) -> CascadeConfig:
    """Brains of the preset ``small`` with more steps, because the image is eight times as large."""
    chosen = presets.preset("smoke" if quick else "small", "brain")
    share = chosen.training.label_share if study.labels else 0.0
    chosen = chosen.updated(
        training=(QUICK if quick else STEPS) | {"label_share": share}, labels=study.labels
    )
    return chosen.updated(preparation={"spacing_mm": (4.0, 4.0, 4.0)}) if quick else chosen


def configured(candidate: Candidate, chosen: CascadeConfig) -> CascadeConfig:
    """A study's configuration as a method may have it: masks are for those that see T2 alone."""
    if candidate.trained and not candidate.per_source:
        return chosen
    return chosen.updated(labels=(), training={"label_share": 0.0})


def unit(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Intensities divided by the 99.5th percentile in the brain, clipped to [0, 1]."""
    return np.clip(image / np.percentile(image[brain], 99.5), 0, 1)


def scored(
    fake: np.ndarray, real: np.ndarray, regions: Mapping[str, np.ndarray | None]
) -> dict[str, dict[str, float]]:
    """SSIM, MAE and PSNR in each region (None: the whole volume); both images in [0, 1]."""
    found = metrics.regional_scores_of(
        partial(cut, fake),
        partial(cut, real),
        real.shape,
        {n: None if mask is None else partial(cut, mask) for n, mask in regions.items()},
        data_range=1.0,
    )
    return {n: {"ssim": s.ssim, "mae": s.mae, "psnr": s.psnr} for n, s in found.items()}


def cut(image: Array, box: Box) -> Array:
    """What an array holds in a box."""
    return image[box.slices]


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


@dataclass(frozen=True)
class Tested:
    """A person whose T2 is known: the truth, and where it is compared.

    Attributes:
        high: What counts as 1 in a result: the 99.5th percentile of the training people's T2, in
            whose range every method writes. A result is not given the percentile of its own: a
            careful one, whose brightest voxels are too dark, would be made too bright for it.
    """

    subject: Subject
    high: float
    real: Array
    brain: Array
    lesion: Array
    affine: Array

    @classmethod
    def of(cls, subject: Subject, high: float) -> Tested:
        """Read the images of a person."""
        with open_volume(subject.images[TARGET]) as image, open_labels(subject.labels) as drawn:
            real, lesion, affine = image.whole(), drawn.whole() > 0, image.grid.affine
        brain = real > 0
        return cls(subject, high, unit(real, brain), brain, lesion, affine)

    def regions(self, lesion: str) -> dict[str, Array | None]:
        """Where scores are taken, by name."""
        where = {"whole volume": None, "inside the brain": self.brain}
        return {**where, f"inside the {lesion}": self.lesion}


def compared(
    study: Study, cohort: Cohort, chosen: CascadeConfig, names: list[str], out: Path
) -> tuple[dict[str, Any], dict[str, Fitted]]:
    """Tables of a study by title, and its methods as they were fitted."""
    tables: dict[str, Any] = {}
    done: dict[str, Fitted] = {}
    high = range_of(cohort, chosen)
    people = {person: Tested.of(cohort[person], high) for person in study.test}
    for candidate in candidates(names):
        for source in SOURCES:
            key = f"{candidate.name}, {source}" if candidate.per_source else candidate.name
            if key not in done:  # one training on T2 alone serves both sources
                own, place = configured(candidate, chosen), out / "runs"
                place = place / source if candidate.per_source else place
                done[key] = fitted(candidate, cohort, source, TARGET, own, place, match="histogram")
            for person, tested in people.items():
                subjects = {candidate.name: tested.subject}
                if study.labels and candidate.trained and not candidate.per_source:
                    subjects[f"{candidate.name}, no mask"] = replace(tested.subject, labels=None)
                for name, subject in subjects.items():
                    start = perf_counter()
                    path = result(out, person, source, name)
                    done[key].translating().translate(subject, path, modality=source)
                    title = f"{study.title(person)}seconds of a translation from {source}"
                    tables.setdefault(title, {})[name] = perf_counter() - start
                    found = scored(shown(path, tested), tested.real, tested.regions(study.lesion))
                    add(tables, study, person, source, name, found)
    return tables, done


def add(
    tables: dict[str, Any], study: Study, person: str, source: str, name: str, found: dict
) -> None:
    """Enter the scores of a result: a table a region, the lesion's error beside the brain's."""
    found["inside the brain"][f"mae in the {study.lesion}"] = found[f"inside the {study.lesion}"][
        "mae"
    ]
    for region, scores in found.items():
        title = f"{study.title(person)}{source}→{TARGET}, {region}"
        tables.setdefault(title, {})[name] = scores


def result(out: Path, person: str, source: str, name: str) -> Path:
    """Where a translation is kept."""
    return out / "translated" / person / source / f"{name}.nii"


def shown(path: Path, tested: Tested) -> Array:
    """A result as it is compared."""
    with open_volume(path, check=False) as image:
        return np.clip(image.whole() / tested.high, 0, 1)


def range_of(cohort: Cohort, chosen: CascadeConfig) -> float:
    """The median over training people of the 99.5th percentile of their T2, as methods have it."""
    found = []
    for subject in cohort.with_modality(TARGET):
        if subject.split != "test":
            with prepare(subject, TARGET, chosen.preparation) as image:
                found.append(image.intensity)
    return IntensityMap.median(found).high


def main() -> None:
    """Train, translate, score, draw; see the module's docstring."""
    parser = options(NAME, __doc__, COMPARED)
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), help="quick: the first")
    parser.add_argument("--phantoms", type=int, default=0, help="phantoms trained on as well")
    given = parsed(parser, NAME)
    for name in given.studies or list(STUDIES)[: 1 if given.quick else None]:
        study, out = STUDIES[name], given.out / name.replace(" ", "_")
        cohort = cohort_of(study, given.data)
        if given.phantoms:
            cohort = Cohort((*cohort, *phantoms(given.phantoms, given.out)))
        chosen = config(study, given.quick)
        tables, done = compared(study, cohort, chosen, given.methods, out)
        if name == "ms":  # its tables are older than the other studies
            (title,) = (study.title(person) for person in study.test)
            tables = {key.removeprefix(title): table for key, table in tables.items()}
            if "cascade" in done:
                run = done["cascade"].method.run
                tables |= every_scale(run, cohort[study.test[0]], out)
                told = about_method(done["cascade"])["seconds of training"]
                tables["seconds"] = {"training": sum(told.values()), "scales": list(told.values())}
        report = {
            "task": "T1 and FLAIR -> T2 of real patients at 1 mm, 3D, n = 1 person a table",
            "range": "the real T2 divided by its 99.5th percentile in the brain, results by that "
            "of the training people's T2",
            "mask": "inside the brain: where the real T2 is above 0",
            "data": "open MS data (Lesjak et al. 2017, CC BY); TCGA-LGG as prepared by "
            "BrainLesion/tutorials (CC BY 3.0), tumour labels by an algorithm",
            **tables,
            "methods": {name: {n: about_method(one) for n, one in done.items()}},
            **about(),
        }
        if name == "ms":
            steps = {key: getattr(chosen.training, key) for key in STEPS}
            report |= {"trained_on": [s.name for s in cohort.split("train")], "steps": steps}
        record(given.json, report)
        for person in study.test:
            picture(given.picture, Tested.of(cohort[person], range_of(cohort, chosen)), study, out)


def phantoms(count: int, out: Path) -> list[Subject]:
    """Brain phantoms to learn from as well."""
    folder = out / f"phantoms-{count}"
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        write_cohort(folder, subjects=count, size=192, seed=0, test_share=0)
    return [replace(s, split="train") for s in Cohort.from_manifest(manifest, folder)]


def every_scale(run: Run, subject: Subject, out: Path) -> dict[str, Any]:
    """Scores of each scale of a cascade; of T2 itself: what is lost without another modality."""
    scales: dict[str, Any] = {}
    for source in (*SOURCES, TARGET):
        place = out / f"scales of {source}"
        shutil.rmtree(place, ignore_errors=True)
        Cascade(run).translate(
            subject, place / "t2.nii", modality=source, keep=place, memory=MEMORY
        )
        scales |= by_scale(run, place, subject, source)
    return scales


def citation(person: str) -> str:
    """Whose images a figure shows."""
    if person.startswith("patient"):
        return f"Patient {person[7:]} of open MS data (Lesjak et al. 2017, CC BY)"
    return f"{person} of TCGA-LGG (CC BY 3.0), prepared by BrainLesion/tutorials"


def picture(path: Path, tested: Tested, study: Study, out: Path) -> None:
    """The axial plane through the largest lesion: sources, methods and the real T2."""
    person, images = tested.subject.name, {"real T2": tested.real}
    for source in SOURCES:
        for name in PICTURED:
            file = result(out, person, source, name)
            if file.is_file():
                images[f"{source.upper()}: {name}"] = shown(file, tested)
    figure = plots.zooms(
        {title: partial(cut, image) for title, image in images.items()},
        tested.real.shape,
        affine=tested.affine,
        at=round(float(largest(tested.lesion).nonzero()[2].mean())),
        centre=(0.5, 0.5),
        zoom=0.8,
        window=(0, 1),
        unit=UNIT,
        columns=4,
        caption=f"{citation(person)}, axial plane through the largest lesion: what methods that "
        f"learnt from {' and '.join(study.train)} alone make of T1 and of FLAIR, and the real T2.",
    )
    first = study is STUDIES["ms"]
    place = path if first else path.with_name(f"{path.stem}_{person}_{len(study.train)}.png")
    plots.save(figure, place, dpi=200 if first else 110)
    drawn = result(out, person, "t1", "cascade, guided")
    if first and drawn.is_file() and result(out, person, "t1", "source").is_file():
        short = plots.compare(
            shown(result(out, person, "t1", "source"), tested),
            shown(drawn, tested),
            tested.real,
            affine=tested.affine,
            window=(0, 1),
            source_window=(0, 1),
            unit=UNIT,
            caption=f"{citation(person)}; intensities as a share of the 99.5th percentile: T1, its "
            "translation to T2 by a guided cascade that has only seen the T2 of another patient, "
            "the real T2, and the difference.",
        )
        plots.save(short, path.with_name("cascade.png"))


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask."""
    from skimage.measure import label

    parts = label(mask)
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1


if __name__ == "__main__":
    main()
