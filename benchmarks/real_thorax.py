"""B80f -> soft kernel on real patients: trained on one other patient, on two CPU cores.

Real anatomy of LIDC-IDRI (Armato et al. 2011, CC BY 3.0; see docs/data.md). Methods learn from the
soft image of patient 0003 (and, if asked for, of thorax phantoms), translate a B80f image of
patient 0001 and are compared with that patient's soft image; then the other way round. What has
learnt from 0003 also translates the image of 0314, a real one of another maker's kernel (Philips
"D"), of which no soft image exists: there only the noise, the emphysema index and mean HU before
and after are told.

    python benchmarks/real_thorax.py

What is real and what is simulated: 0001 and 0003 were reconstructed with one soft kernel only (GE
"STANDARD"). That image, as it is, is the target. The B80f image is made from it
(:func:`msgan.phantoms.ct_kernels.as_kernel`): sharpened as B80f is sharper than B20f, at most
fourfold, and noise of one realisation with the spectrum of B80f added. So source and target share
the target's own noise, and what the target's kernel had removed is not in the source either.

Voxels: 0001 is 1.41 x 1.41 x 2.5 mm, 0003 is 1.64 x 1.64 x 5 mm (slices averaged in pairs), 0314 is
1.56 x 1.56 x 2 mm. Slices of 0001 and 0314 are averaged in pairs as well; voxels are taken as
1.52 x 1.52 x 5 mm in all, that is in the plane 0001 is seen 8 % too large, 0003 7 % and 0314 2 %
too small, and slices of 0314 are of 4 mm. So nothing is interpolated: the noise and the sharpness
of all stay what they are.

Scores are of [-1024, 1024] HU shown as [0, 1]; SSIM has a Gaussian window of sigma 1.5, side 11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from methods import Fitted, candidates, fitted
from records import about, about_method, options, parsed, record
from scipy.ndimage import gaussian_filter

from msgan import plots, presets
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.lung import lung_mask
from msgan.data.volume import open_labels, open_volume, write_volume
from msgan.match.spectrum import Spectrum
from msgan.methods.baselines import Profile
from msgan.methods.small_gan import SmallGan
from msgan.phantoms.ct_kernels import KERNELS, as_kernel, noise
from msgan.phantoms.thorax import DETAIL_MM, write_thorax_cohort
from msgan.studies.lung import BONE_HU, SOFT_HU, emphysema_index, lung_measures
from msgan.studies.seams import Seams
from msgan.studies.table import Method, Result, result_path, score_table
from msgan.types import Array, Box

FILES = {
    "0001": "LIDC-IDRI-0001_chestCT_256x256.nii.gz",
    "0003": "LIDC-IDRI-0003_chestCT_256x256x5mm.nii.gz",
    "0314": "LIDC-IDRI-0314_chestCT_256x256x2mm.nii.gz",
}
STUDIES = {"0003 to 0001": ("0003", "0001"), "0001 to 0003": ("0001", "0003")}
"""Who is learnt from and who is tested."""

NO_TRUTH, TEACHER = "0314", "0003"
"""A real image without a soft one, and who is learnt from for it."""

NAME = "real_thorax"
COMPARED = (
    "cascade",
    "cascade, guided",
    "patch GAN",
    "small GAN",
    "non-local means",
    "spectrum-matched",
    "source",
    "CycleGAN",
    "paired regression",
)
IN_PAIRS = ("0001", "0314")
"""Those whose slices are averaged in pairs; of 0003 they are."""

SOURCE, TARGET = "b80f", "b20f"
"""The target is the scanner's soft kernel; it has the phantoms' name so that they can be added."""

VOXEL_MM = (1.524, 1.524, 5.0)

SIGMA_HU = 12.0
"""Of the noise in an image of B20f, as in the phantoms; B80f has 4.5 times as much."""

BALLS = {
    "0001": {"heart": ((140, 115, 33), 20.0), "vertebra": ((121, 172, 29), 9.0)},
    "0003": {"heart": ((140, 118, 22), 20.0), "vertebra": ((120, 172, 22), 9.0)},
}
"""Centre (voxel, slices in pairs) and radius (mm) in the heart and in marrow."""

TILE = 48
"""Smaller than the image, so that seams could show."""

TILED = ("cascade", "cascade, guided", "patch GAN", "paired regression")
"""Methods that are made of tiles."""

PHANTOM_SIZE = 231
"""Voxels along the phantom's longest axis: 1.524 mm in the plane; slices are resampled."""

STEPS = {"lr_steps": 2000, "steps": 360, "patch": 64, "validate_every": 60}
"""Of s0, and of s1, s2, the patch GAN's s2 and the regression's s2: about 15 minutes in all."""


QUICK = {"lr_steps": 4, "steps": 2, "patch": 16, "validate_every": 2}

BANDS = 8
"""Of a noise spectrum that is told: four of those that are measured make one."""


def config(steps: int | None = None, quick: bool = False) -> CascadeConfig:
    """Everything that decides the trainings; ``steps`` is for a try.

    The preset ``small`` for the thorax, with the steps that fit the time.
    """
    chosen = presets.preset("smoke" if quick else "small", "thorax")
    numbers: dict[str, Any] = dict(QUICK if quick else STEPS)
    if steps is not None:
        numbers |= {"lr_steps": steps, "steps": steps, "validate_every": steps}
    return chosen.updated(preparation={"spacing_mm": VOXEL_MM}, training=numbers)


def in_pairs(image: Array) -> Array:
    """Slices averaged in pairs; a last odd one is left out."""
    even = image.shape[2] // 2 * 2
    return (image[:, :, 0:even:2] + image[:, :, 1:even:2]) / 2


def patient(data: Path, number: str, folder: Path, split: str) -> Subject:
    """The images and regions of a patient, written once; of 0314 the image is the source."""
    balls = BALLS.get(number, {})
    images = (SOURCE,) if number == NO_TRUTH else (SOURCE, TARGET)
    names = {n: folder / f"{number}_{n}.nii" for n in (*images, "lung", *balls)}
    done = folder / f"{number}.done"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with open_volume(data / "thorax_ct" / FILES[number]) as volume:
            image, affine = volume.whole(), volume.grid.affine
            lungs = lung_mask(volume.read, volume.grid).read(Box.whole(image.shape))
        if number in IN_PAIRS:
            image, lungs = in_pairs(image), in_pairs(lungs.astype(np.float32)) >= 0.5
        mm = VOXEL_MM / np.linalg.norm(affine[:3, :3], axis=0)
        grid = Grid(image.shape, affine @ np.diag([*mm, 1.0]))
        known = {SOURCE: image}
        if number != NO_TRUTH:
            known = {TARGET: image, SOURCE: simulated(image, grid.spacing, seed=int(number))}
        for name, values in known.items():
            write_volume(names[name], grid, lambda box, v=values: v[box.slices], unit="HU")
        regions = {"lung": lungs, **{n: ball(grid, *where) for n, where in balls.items()}}
        for name, values in regions.items():
            mask = values.astype(np.uint8)
            write_volume(names[name], grid, lambda box, v=mask: v[box.slices], dtype=np.uint8)
        done.touch()
    return Subject(
        f"LIDC-IDRI-{number}",
        {m: names[m] for m in images},
        split=split,
        units=dict.fromkeys(images, "HU"),
        regions={n: names[n] for n in ("lung", *balls)} if split == "test" else {},
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


def tables(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The tables of the report: title, method, column."""
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
    where = ("lung", "heart", "vertebra")
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


def without_truth(path: Path, subject: Subject) -> dict[str, float]:
    """What can be told of an image that has no true one: emphysema index, mean HU.

    Soft tissue and bone are where the source, smoothed by 2 voxels within slices, has 0 to 100 HU
    and more than 250: chosen by single voxels, they would be chosen by their noise.
    """
    with open_volume(path, check=False) as image, open_volume(subject.images[SOURCE]) as source:
        values = image.whole()
        before = gaussian_filter(source.whole(), (2, 2, 0), mode="nearest")
    with open_labels(subject.regions["lung"]) as mask:
        lung = mask.whole() > 0
    where = {
        "lung": lung,
        "soft tissue": ~lung & (before >= SOFT_HU[0]) & (before <= SOFT_HU[1]),
        "bone": ~lung & (before > BONE_HU),
    }
    index = 100 * emphysema_index(path, subject.regions["lung"])
    means = {f"mean HU, {n}": float(values[mask].mean()) for n, mask in where.items()}
    return {"emphysema index, %": index, **means}


def noise_power(path: Path, intensity: IntensityMap) -> dict[str, float]:
    """Power of an image's slices, HU² a voxel, by frequency in cycles per mm.

    Anatomy is in the lowest bands, noise in the others (:class:`msgan.match.spectrum.Spectrum`).
    """
    with open_volume(path, check=False) as volume:
        shape, spacing = volume.grid.shape, volume.grid.spacing
        found = Spectrum.of(lambda box: intensity.to_unit(volume.read(box)), shape, spacing)
    power = found.power * ((intensity.high - intensity.low) / 2) ** 2
    width = found.nyquist / BANDS
    return {
        f"{(band + 0.5) * width:.3f}": float(part.mean())
        for band, part in enumerate(np.array_split(power, BANDS))
    }


def cohort_of(data: Path, folder: Path, train: str, test: str, phantoms: int) -> Cohort:
    """The two patients and, if asked for, phantoms to train on as well."""
    subjects = [
        patient(data, train, folder / "data", "train"),
        patient(data, test, folder / "data", "test"),
    ]
    if phantoms:
        made = folder / f"phantoms-{phantoms}"
        manifest = made / "manifest.csv"
        if not manifest.is_file():
            write_thorax_cohort(made, subjects=phantoms, size=PHANTOM_SIZE, seed=0)
        subjects += [replace(s, split="train") for s in Cohort.from_manifest(manifest, made)]
    return Cohort(tuple(subjects))


def picture(path: Path, files: Mapping[str, Path], at: int, caption: str) -> None:
    """Source, methods and the real image: the whole slice and a part of it, magnified."""
    volumes = {name: open_volume(file, check=False) for name, file in files.items()}
    grid = next(iter(volumes.values())).grid
    figure = plots.zooms(
        {name: volume.read for name, volume in volumes.items()},
        grid.shape,
        affine=grid.affine,
        at=at,
        centre=(0.33, 0.52),
        zoom=0.36,
        window=(-1100, 300),
        unit="HU",
        caption=caption,
    )
    plots.save(figure, path, dpi=150)
    for volume in volumes.values():
        volume.close()


def fitted_methods(
    cohort: Cohort, names: list[str], chosen: CascadeConfig, out: Path
) -> tuple[dict[str, Method], dict[str, Fitted]]:
    """The methods as they translate, and as they were fitted; the small GAN is the cascade's s0."""
    done: dict[str, Fitted] = {}
    for candidate in candidates(names):
        if candidate.name == "small GAN" and "cascade" in done:
            own = done["cascade"]
            done[candidate.name] = Fitted(candidate, SmallGan(own.method.run), own.seconds)
            continue
        done[candidate.name] = fitted(
            candidate, cohort, SOURCE, TARGET, chosen, out, match="spectrum"
        )
    methods = {
        name: one.translating(**({"tile": TILE} if name in TILED else {}))
        for name, one in done.items()
    }
    return methods, done


def study(name: str, given: Any, chosen: CascadeConfig) -> tuple[dict[str, Any], dict[str, Method]]:
    """Tables of one direction, and its methods."""
    train, test = STUDIES[name]
    out = given.out / name.replace(" ", "_")
    cohort = cohort_of(given.data, given.out, train, test, given.phantoms)
    methods, done = fitted_methods(cohort, given.methods, chosen, out / "runs")
    preparation, kept = chosen.preparation, out / "translated"
    table = score_table(
        methods,
        cohort.split("test"),
        SOURCE,
        TARGET,
        Profile.of(cohort, TARGET, preparation).intensity,
        preparation,
        kept,
        regions=("body", "image", "lung"),
        measures=(lung_measures, tissue_hu, Seams(dict.fromkeys(TILED, TILE), preparation)),
    )
    made = tables(table.to_dict("records"))
    told = {n: about_method(one) for n, one in done.items()}
    first = name == next(iter(STUDIES))
    if first:
        made["trained_on"] = [s.name for s in cohort if s.split != "test"]
        made["steps"] = {key: getattr(chosen.training, key) for key in STEPS}
        made["seconds of training"] = {
            n: one["seconds of training"] for n, one in told.items() if "seconds of training" in one
        }
    else:
        made = {f"{train} → {test}: {title}": found for title, found in made.items()}
    (person,) = cohort.split("test")
    files = {"simulated B80f": person.images[SOURCE]}
    files |= {n: result_path(kept, n, person.name) for n in methods if n != "source"}
    files["real soft kernel"] = person.images[TARGET]
    place = given.picture
    place = place if first else place.with_name(f"{place.stem}_{test}.png")
    caption = (
        f"{person.name} (Armato et al. 2011, CC BY 3.0); learnt from LIDC-IDRI-{train} only. Noise "
        "of the simulated sharp kernel should be gone, and vessels and the walls of airways be "
        "where they are in the real image."
    )
    picture(place, files, {"0001": 38, "0003": 28}[test], caption)
    return {**made, "methods": {name: told}}, methods


def real_source(given: Any, methods: Mapping[str, Method], intensity: IntensityMap) -> dict:
    """0314, of a real sharp kernel, before and after; beside it the noise that was aimed at."""
    person = patient(given.data, NO_TRUTH, given.out / "data", "test")
    taught = patient(given.data, TEACHER, given.out / "data", "train")
    files = {"source": person.images[SOURCE]}
    for name, method in methods.items():
        if name != "source":
            files[name] = result_path(given.out / NO_TRUTH, name, person.name)
            method.translate(person, files[name], modality=SOURCE)
    aim = {f"{TEACHER}, soft": taught.images[TARGET]}
    place = given.picture
    caption = (
        f"{person.name} (Armato et al. 2011, CC BY 3.0), a real image of the Philips kernel D, and "
        f"what methods that have learnt from LIDC-IDRI-{TEACHER}, GE STANDARD, make of it. No true "
        "image exists."
    )
    picture(place.with_name(f"{place.stem}_{NO_TRUTH}.png"), files, 30, caption)
    return {
        f"{NO_TRUTH}, no truth": {n: without_truth(file, person) for n, file in files.items()},
        f"{NO_TRUTH}, power in HU² by cycles per mm": {
            n: noise_power(file, intensity) for n, file in {**files, **aim}.items()
        },
    }


def main() -> None:
    """Train, translate, score, draw; see the module's docstring."""
    parser = options(NAME, __doc__, COMPARED)
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), help="quick: the first")
    parser.add_argument("--phantoms", type=int, default=0, help="phantoms trained on as well")
    parser.add_argument("--steps", type=int, help="steps of every training, for a try")
    given = parsed(parser, NAME)
    chosen = config(given.steps, given.quick)
    low, high = (float(v) for v in (chosen.preparation.low, chosen.preparation.high))
    for name in given.studies or list(STUDIES)[: 1 if given.quick else None]:
        found, methods = study(name, given, chosen)
        if STUDIES[name][0] == TEACHER:
            found |= real_source(given, methods, IntensityMap(low, high, "HU"))
        report = {
            "task": f"simulated B80f -> soft kernel, 0001 of LIDC-IDRI, 256x256x66 at "
            f"{' x '.join(map(str, VOXEL_MM))} mm; 0003: 256x256x70; n = 1 person a table, 3D",
            "data": "LIDC-IDRI (Armato et al. 2011, CC BY 3.0)",
            "range": f"{low:g} to {high:g} HU shown as [0, 1]",
            **found,
            **about(),
        }
        record(given.json, report)


if __name__ == "__main__":
    main()
