"""MR to CT of limbs with a sarcoma: 26 people, two folds of 13, two CPU cores.

T1 becomes CT, in HU. Every person is tested once, by methods that have seen the 13 people of the
other fold: their CTs alone, CTs and T1 as if of different people, or pairs. Folds are those that
data_manifests/mr_ct.csv states: dealt in turn, in the order of the names' SHA-256.
Data: IBSI validation data of TCIA Soft-tissue-Sarcoma (Vallieres et al. 2015, CC BY 3.0), see
docs/data.md. Limbs are bent a little differently in some people, so pairs are near, not exact: what
a perfect method would reach is not known.

    python benchmarks/limbs.py

T1 is normalised to fat at about 1000 as distributed. Because both images share one preparation, T1
is written once as 2.5 T1 - 1000, so that 0 to 1024 there and -1000 to 1560 HU here are the same
range. Methods are those of benchmarks/methods.py, and of the training CTs there are three means:
*mean HU*, one number, the mean of the training limbs, within the body of the test person's T1, and
*mean HU, everywhere*, without that body, to show what a score says of what surrounds a limb;
*mean image*, the mean of the training CTs, each stretched to a common box (people's crops differ in
size) and then to that of the test image; and *histogram-matched*, which gives each rank of the T1
the mean HU that the rank has in the training CTs. No method sees the tumour's outline. Methods that
see no pairs see the body alone, of T1 and of CT (``preparation.body``); those that learn from pairs
see the whole images.

Methods that learn from pairs are those of notebook 12, in the same sizes, each trained for as many
steps as take it 150 seconds with one thread.

Scores are means over people, 3D, in the body of the real CT (above -300 HU, holes filled): SSIM of
-1000 to 1560 HU shown as [0, 1] (Gaussian window of sigma 1.5 and side 11); mean absolute error in
HU, nothing cut off, in the body, in soft tissue (-200 to 200 HU) and in bone (above 200 HU) of the
real CT; Dice overlap of what is above 200 HU in both. Where the body of the CT is air in T1, which
is at the skin, a method that knows the T1 cannot draw tissue, and one that draws tissue everywhere
is right: so the error where both are body is told too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from methods import PAIRS, Candidate, Fitted, candidates, equal_time, fitted
from methods import TARGET as TARGETS
from records import MANIFESTS, about, about_method, options, parsed, record

from msgan import plots, presets
from msgan.config import CascadeConfig, IntensityRange, Preparation
from msgan.data.body import body_mask
from msgan.data.cohort import Cohort, Subject
from msgan.data.intensity import IntensityMap
from msgan.data.manifest import read_manifest
from msgan.data.volume import open_labels, open_volume, write_volume
from msgan.methods.baselines import Profile
from msgan.methods.untrained import Untrained
from msgan.metrics import dice
from msgan.report.archive import tests_of
from msgan.studies.crossval import significance
from msgan.studies.table import Result, result_path, score_table
from msgan.translate.maker import Making
from msgan.types import Array, Box, Reader

NAME = "limbs"
SOURCE, TARGET = "t1", "ct"
FOLDS = 2
COMPARED = (
    "source",
    "histogram-matched",
    "inverted, matched",
    "mean HU",
    "mean HU, everywhere",
    "mean image",
    "cascade",
    "cascade, guided",
    "CycleGAN",
    "paired regression",
    "3D-mDAUNet",
    "gEa-GAN",
    "dEa-GAN",
    "ResViT",
    "PTNet3D",
)
REFERENCE = "3D-mDAUNet"
"""What the other methods are tested against."""

TESTED = ("ssim", "mae_hu, limb", "mae_hu, bone")
SECONDS = 150.0
"""Of training, of each method that learns from pairs."""

SKIN_HU = -300.0
"""Of the CTs of methods that see no pairs: below this is air, a table or a cloth."""

RANGE = (-1000.0, 1560.0)
"""HU shown as [-1, 1]: all but the densest bone."""

T1_BODY = RANGE[0] + 0.05 * (RANGE[1] - RANGE[0])
"""Of a T1 on that scale: below this is air."""

T1_HIGH = 1024.0
"""T1 shown as 1; fat is at about 1000."""

BODY_HU, SOFT_HU, BONE_HU = -300.0, (-200.0, 200.0), 200.0
REGION = "limb"

STEPS = {"lr_steps": 1000, "steps": 500, "validate_every": 250}
QUICK = {"lr_steps": 4, "steps": 2, "validate_every": 2}
QUICK_PEOPLE = 4


def config(quick: bool = False) -> CascadeConfig:
    """The preset ``small`` with the range of a CT; contrast-free sketches, one doubling."""
    chosen = presets.preset("smoke" if quick else "small")
    low, high = RANGE
    return chosen.updated(
        preparation={
            "intensity": "window",
            "low": low,
            "high": high,
            "foreground": T1_BODY,
            "scales": 1,
        },
        network={"lr_border": 0},
        training=QUICK if quick else STEPS | {"patch": 32, "batch": 2, "lr_patch": 28},
    )


def without_pairs(chosen: CascadeConfig) -> CascadeConfig:
    """The same for methods that see no pairs: of both images they see the body alone.

    What is matched by rank must be of the same tissues. T1 keeps its own foreground.
    """
    prep = chosen.preparation
    own = IntensityRange(**prep.model_dump(include=set(IntensityRange.model_fields)))
    return chosen.updated(
        preparation={"body": True, "foreground": SKIN_HU, "ranges": {SOURCE: own.model_dump()}}
    )


def as_ct_range(t1: Array) -> Array:
    """T1 on the scale of the CTs' range: 0 is -1000, 1024 is 1560."""
    low, high = RANGE
    return t1 * ((high - low) / T1_HIGH) + low


def prepared(data: Path, folder: Path, people: int | None = None) -> Cohort:
    """The cohort of the manifest, T1 on the CTs' scale and with a mask of the limb."""
    cohort = Cohort.from_manifest(read_manifest(MANIFESTS / "mr_ct.csv"), data)
    folder.mkdir(parents=True, exist_ok=True)
    subjects = []
    for subject in tuple(cohort)[:people]:
        files = {n: folder / f"{subject.name}_{n}.nii" for n in (SOURCE, REGION)}
        with open_volume(subject.images[SOURCE]) as volume:
            t1, grid = as_ct_range(volume.whole()), volume.grid
        with open_volume(subject.images[TARGET]) as volume:
            limb = body_mask(volume.read, volume.grid, BODY_HU)(Box.whole(volume.grid.shape))
        write_volume(files[SOURCE], grid, lambda box, v=t1: v[box.slices])
        mask = limb.astype(np.uint8)
        write_volume(files[REGION], grid, lambda box, v=mask: v[box.slices], dtype=np.uint8)
        subjects.append(
            replace(
                subject,
                images={SOURCE: files[SOURCE], TARGET: subject.images[TARGET]},
                regions={REGION: files[REGION]},
            )
        )
    return Cohort(tuple(subjects))


class MeanHu(Untrained):
    """A method that knows the silhouette of a limb and what a limb has on average: one number."""

    name = "mean HU"
    everywhere = False

    def __init__(self, hu: float, intensity: IntensityMap, preparation: Preparation) -> None:
        super().__init__(preparation.updated(spacing_mm=None), intensity)
        self.hu = hu

    @classmethod
    def fit(
        cls, cohort: Cohort, source: str, target: str, config: CascadeConfig, out: Path
    ) -> MeanHu:
        """Average the HU of the training limbs; nothing is written to ``out``."""
        total, count = 0.0, 0
        for subject in cohort.split("train"):
            with (
                open_volume(subject.images[target]) as ct,
                open_labels(subject.regions[REGION]) as limb,
            ):
                values = ct.whole()[limb.whole() > 0].astype(np.float64)
            total, count = total + values.sum(), count + values.size
        intensity = Profile.of(cohort, target, config.preparation).intensity
        return cls(float(total / count), intensity, config.preparation)

    def parameters(self) -> list[Any]:
        """The number."""
        return [self.hu]

    def read(self, making: Making) -> Reader:
        """The number within the silhouette, air elsewhere, or the number alone."""
        inside, source = float(self.intensity.to_unit(np.array(self.hu))), making.subject.read
        if self.everywhere:
            return lambda box: np.full(box.size, inside, np.float32)
        return lambda box: np.where(source(box) > -1, inside, -1.0).astype(np.float32)


class EverywhereHu(MeanHu):
    """The number alone: it knows nothing of the person."""

    name = "mean HU, everywhere"
    everywhere = True


MEANS = (
    Candidate("mean HU", MeanHu.fit, TARGETS, trained=False),
    Candidate("mean HU, everywhere", EverywhereHu.fit, TARGETS, trained=False),
)


def hu_errors(fake: Array, real: Array, limb: Array, seen: Array) -> dict[str, float]:
    """Mean absolute errors in HU by tissue of the real CT, and the overlap of bone.

    ``limb`` is the body of the CT, ``seen`` that of the T1. A tissue that nobody has is NaN, and so
    is the overlap where neither image has bone.
    """
    error = np.abs(fake.astype(np.float64) - real)
    bone, drawn = limb & (real > BONE_HU), limb & (fake > BONE_HU)
    soft = limb & (real >= SOFT_HU[0]) & (real <= SOFT_HU[1])
    where = {"limb": limb, "soft tissue": soft, "bone": bone, "both bodies": limb & seen}
    found = {
        f"mae_hu, {name}": float(error[mask].mean()) if mask.any() else np.nan
        for name, mask in where.items()
    }
    nobody = not (bone.any() or drawn.any())
    return {**found, "dice of bone": np.nan if nobody else dice(drawn, bone)}


def measures(result: Result) -> dict[str, float]:
    """:func:`hu_errors` of the files of a result."""
    with (
        open_volume(result.path, check=False) as fake,
        open_volume(result.subject.images[result.target]) as real,
        open_volume(result.subject.images[SOURCE]) as t1,
        open_labels(result.subject.regions[REGION]) as limb,
    ):
        whole = Box.whole(t1.grid.shape)
        seen = body_mask(t1.read, t1.grid, T1_BODY)(whole) > 0
        return hu_errors(fake.whole(), real.whole(), limb.whole() > 0, seen)


def fold_tables(
    cohort: Cohort, names: list[str], chosen: CascadeConfig, out: Path, seconds: float = SECONDS
) -> tuple[pd.DataFrame, dict[str, list[Fitted]]]:
    """One line a person and method, each person tested by what has seen the other fold."""
    tables, told = [], {name: [] for name in names}
    for number, (train, test) in enumerate(cohort.folds(FOLDS)):
        people = [replace(s, split="train") for s in train]
        tested = [replace(s, split="test") for s in test]
        both = Cohort((*people, *tested))
        runs = out / f"fold{number}"
        done = [
            fitted(
                candidate,
                both,
                SOURCE,
                TARGET,
                chosen if candidate.sees == PAIRS else without_pairs(chosen),
                runs / "runs",
                match="histogram",
            )
            for candidate in candidates(names, *MEANS, *equal_time(seconds))
        ]
        for one in done:
            told[one.candidate.name].append(one)
        intensity = Profile.of(both, TARGET, chosen.preparation).intensity
        table = score_table(
            {one.candidate.name: one.translating() for one in done},
            tested,
            SOURCE,
            TARGET,
            intensity,
            chosen.preparation,
            out / "translated",
            regions=(REGION,),
            measures=(measures,),
        )
        tables.append(table.assign(fold=number))
    return pd.concat(tables, ignore_index=True), told


def means(table: pd.DataFrame, columns: list[str]) -> dict[str, dict[str, float]]:
    """Mean over people by method; those without a bone count nowhere in bone."""
    found = table.groupby("method", sort=False)[columns].mean()
    return {str(n): {c: float(v) for c, v in line.items()} for n, line in found.iterrows()}


def main() -> None:
    """Fit, translate, score, draw; see the module's docstring."""
    given = parsed(options(NAME, __doc__, COMPARED), NAME)
    chosen = config(given.quick)
    cohort = prepared(given.data, given.out / "data", QUICK_PEOPLE if given.quick else None)
    if given.quick:  # the first four people need not be of both folds
        cohort = cohort.with_folds(FOLDS)
    seconds = 1.0 if given.quick else SECONDS
    table, told = fold_tables(cohort, given.methods, chosen, given.out, seconds)
    columns = ["ssim", "psnr", *(c for c in table if c.startswith(("mae_hu", "dice")))]
    per_person = {
        str(name): lines.set_index("subject")[columns].round(5).to_dict("index")
        for name, lines in table.groupby("method", sort=False)
    }
    first = {name: about_method(done[0]) for name, done in told.items()}
    for name, done in told.items():
        first[name]["seconds of fit"] = [round(one.seconds, 2) for one in done]
    report = {
        "task": "T1 -> CT of limbs, 0.98 x 0.98 x 3.27 mm, 3D, two folds, "
        f"n = {table['subject'].nunique()} people; pairs are near, not exact",
        "data": "TCIA Soft-tissue-Sarcoma, IBSI validation data (Vallieres et al. 2015, CC BY 3.0)",
        "trained_on": [sorted(s.name for s in train) for train, _ in cohort.folds(FOLDS)],
        "range": f"{RANGE[0]:g} to {RANGE[1]:g} HU shown as [0, 1] (SSIM and PSNR)",
        "limb": means(table, columns),
        "seconds of a translation": means(table, ["seconds"]),
        "people": per_person,
        "methods": first,
        **about(),
    }
    whole = record(given.json, clean(report))
    record(given.json, clean(tests(whole["people"])))
    picture(given.picture, given.out / "translated", cohort, given.methods)


def tests(people: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Every method against :data:`REFERENCE` on the same people; nothing where that is not there.

    Args:
        people: Scores by method and person.
    """
    if REFERENCE not in people:
        return {}
    lines = [
        {"task": "limb", "method": method, "subject": person, **scores}
        for method, own in people.items()
        for person, scores in own.items()
    ]
    found = significance(pd.DataFrame(lines), REFERENCE, TESTED)
    return tests_of(found)


def clean(value: Any) -> Any:
    """The same with None for NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [clean(inner) for inner in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def picture(path: Path, kept: Path, cohort: Cohort, names: list[str]) -> None:
    """The first person with bone: T1, all methods and the real CT."""
    subject: Subject = cohort["STS_010"] if "STS_010" in cohort.names else next(iter(cohort))
    files = {"T1, as if HU": subject.images[SOURCE]}
    files |= {n: result_path(kept, n, subject.name) for n in names if n != "source"}
    files["real CT"] = subject.images[TARGET]
    volumes = {name: open_volume(file, check=False) for name, file in files.items()}
    grid = volumes["real CT"].grid
    figure = plots.zooms(
        {name: volume.read for name, volume in volumes.items()},
        grid.shape,
        affine=grid.affine,
        centre=(0.5, 0.5),
        zoom=0.9,
        window=(-500, 1000),
        unit="HU",
        columns=4,
        caption=f"{subject.name} of TCIA Soft-tissue-Sarcoma (Vallieres et al. 2015, CC BY 3.0), "
        "whom no method has seen: the T1 image, what the methods make of it, and the CT. T1 and CT "
        "are registered rigidly: they agree nearly, not exactly.",
    )
    plots.save(figure, path, dpi=110)
    for volume in volumes.values():
        volume.close()


if __name__ == "__main__":
    main()
