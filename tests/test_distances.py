from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.volume import write_volume
from msgan.metrics.frechet import frechet_distance, together
from msgan.networks.features import SeededFeatures
from msgan.studies.distances import (
    Sampling,
    distance_table,
    domain_moments,
    gain,
    image_moments,
)
from msgan.studies.low_dose import PRINTED, TASKS, dose_task, translations
from msgan.types import Array, Box, InputError

WINDOW = Preparation(scales=1, intensity="window", low=-1024, high=1024, foreground=-900, margin=0)


def write(path: Path, image: Array, *, label: bool = False) -> Path:
    grid = Grid(image.shape, np.eye(image.ndim + 1))
    kind = {"unit": "label", "dtype": np.uint8} if label else {"unit": "HU"}
    write_volume(path, grid, lambda box: image[box.slices], **kind)
    return path


def cohort(folder: Path, dims: int, people: int = 3) -> list[Subject]:
    """People at low dose, at high dose, and smoothed; smooth anatomy of their own."""
    from scipy.ndimage import gaussian_filter

    out = []
    for k in range(people):
        rng = np.random.default_rng([dims, k])
        shape = (26,) * dims
        clean = gaussian_filter(rng.normal(size=shape), 3) * 1500
        images = {"high": clean + rng.normal(0, 10, shape), "low": clean + rng.normal(0, 80, shape)}
        images["translated"] = gaussian_filter(images["low"], 1)
        paths = {n: write(folder / f"{k}_{n}.nii", x) for n, x in images.items()}
        inside = np.zeros(shape, np.uint8)
        inside[2:22] = 1
        lung = write(folder / f"{k}_lung.nii", inside, label=True)
        units = dict.fromkeys(paths, "HU")
        out.append(Subject(f"p{k}", paths, units=units, regions={"lung": lung}))
    return out


def test_patches_are_whole_and_cover_the_image(dims: int) -> None:
    shape = (20, 17, 24)[:dims]
    seen = np.zeros(shape, int)
    for box in Sampling().patches(shape, dims, 8):
        assert box.size == (8,) * dims
        assert box.clipped(shape) == box
        seen[box.slices] += 1
    assert seen[(slice(0, 16),) * dims].min() >= 1
    assert seen.max() == 2**dims


def test_a_2d_extractor_sees_a_volume_in_slices() -> None:
    patches = list(Sampling(stride=4).patches((16, 12, 9), 2, 8))
    assert {b.size for b in patches} == {(8, 8, 1)}
    assert len(patches) == 3 * 2 * 3
    slices = list(Sampling().patches((16, 12, 9), 2, None))
    assert slices == [Box((0, 0, k), (16, 12, 1)) for k in range(9)]
    assert list(Sampling().patches((16, 12), 2, None)) == [Box((0, 0), (16, 12))]


class Means:
    """An extractor whose features are seen at once: the mean of a patch and its first voxel."""

    size, label = 2, "means"

    def __init__(self, dims: int, side: int | None) -> None:
        self.dims, self.side, self.batches = dims, side, []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.float32
        assert x.shape[1:] == (1, *x.shape[2:])
        assert x.ndim == 2 + self.dims
        self.batches.append(len(x))
        return torch.stack([x.flatten(1).mean(1), x.flatten(1)[:, 0]], 1)


def test_features_are_those_of_the_patches_in_the_region(tmp_path: Path, dims: int) -> None:
    (person,) = cohort(tmp_path, dims, 1)
    extract = Means(dims, 4)
    sampling = Sampling(stride=4, share=1.0, region="lung")
    found = image_moments(person, "low", WINDOW, extract, sampling=sampling, batch=7)
    from msgan.data.volume import open_volume

    with open_volume(person.images["low"]) as volume:
        image = volume.whole() / 1024
    boxes = [b for b in sampling.patches(image.shape, dims, 4) if b.start[0] in (4, 8, 12, 16)]
    wanted = [[image[b.slices].mean(), image[b.start]] for b in boxes]
    assert found.count == len(wanted)
    np.testing.assert_allclose(found.mean, np.mean(wanted, 0), atol=1e-5)
    np.testing.assert_allclose(found.covariance, np.cov(wanted, rowvar=False), atol=1e-5)
    assert max(extract.batches) == 7


def test_without_a_region_the_foreground_counts(tmp_path: Path) -> None:
    image = np.full((16, 16), -1000.0)
    image[8:] = 0
    person = Subject("p", {"ct": write(tmp_path / "a.nii", image)}, units={"ct": "HU"})
    box = Preparation(scales=1, intensity="window", low=-1024, high=1024, foreground=-900, margin=8)
    found = image_moments(person, "ct", box, Means(2, 4), sampling=Sampling(stride=4, share=1.0))
    assert found.count == 2 * 4
    np.testing.assert_allclose(found.mean, 0, atol=1e-6)


def test_whole_slices_of_a_volume(tmp_path: Path) -> None:
    (person,) = cohort(tmp_path, 3, 1)
    found = image_moments(person, "high", WINDOW, Means(2, None), sampling=Sampling(share=0.5))
    assert found.count == 26


@pytest.mark.slow
def test_more_like_the_target_is_nearer(tmp_path: Path, dims: int) -> None:
    people = cohort(tmp_path, dims)
    extract = SeededFeatures(dims, side=8)
    domains = {
        name: domain_moments(people, name, WINDOW, extract)
        for name in ("low", "high", "translated")
    }
    table = distance_table(domains, [*PRINTED, ("high", "high")], printed=PRINTED)
    assert list(table.index) == [
        "low / high",
        "translated / high",
        "translated / low",
        "high / high, halves",
    ]
    value = table["distance"]
    assert value["low / high"] > 2 * value["translated / high"]
    wanted = frechet_distance(*(together(domains[k].values()) for k in ("low", "high")))
    assert value["low / high"] == pytest.approx(wanted)
    assert list(table["printed"][:3]) == [150, 131, 157]
    assert np.isnan(table["printed"].iloc[3])
    count = sum(m.count for m in domains["low"].values())
    assert list(table.loc["low / high", ["subjects", "patches"]]) == ["3 / 3", f"{count} / {count}"]
    assert (table["low"] <= value)[:3].all()
    alone = distance_table({"high": dict(list(domains["high"].items())[:1])}, [("high", "high")])
    assert np.isnan(alone["distance"]).all()
    nearer = gain(domains["low"], domains["translated"], domains["high"])
    assert nearer.value == pytest.approx(value["low / high"] - value["translated / high"])
    assert 0 < nearer.low < nearer.value < nearer.high


def test_a_table_has_the_distance_and_what_it_was_measured_on(tmp_path: Path) -> None:
    people = cohort(tmp_path, 2, 4)
    names = ("low", "high", "translated")
    domains = {name: domain_moments(people, name, WINDOW, Means(2, 4)) for name in names}
    pairs = [("low", "high"), ("translated", "high"), ("high", "high")]
    table = distance_table(domains, pairs, printed=PRINTED)
    assert list(table.index) == ["low / high", "translated / high", "high / high, halves"]
    wanted = frechet_distance(*(together(domains[k].values()) for k in ("low", "high")))
    row = table.loc["low / high"]
    assert row["distance"] == pytest.approx(wanted)
    assert row["low"] < row["high"]
    assert row["error"] > 0
    count = sum(m.count for m in domains["low"].values())
    assert (row["subjects"], row["patches"]) == ("4 / 4", f"{count} / {count}")
    assert row["printed"] == PRINTED["low", "high"]
    halves = table.loc["high / high, halves"]
    assert (halves["subjects"], np.isnan(halves["printed"])) == ("2 / 2", True)
    parts = [together([domains["high"][f"p{k}"] for k in own]) for own in ((0, 2), (1, 3))]
    assert halves["distance"] == pytest.approx(frechet_distance(*parts))
    wide = distance_table(domains, pairs[:1], confidence=0.99).iloc[0]
    assert wide["low"] < row["low"] < row["high"] < wide["high"]


def test_of_a_single_subject_no_halves_are_compared(tmp_path: Path) -> None:
    (person,) = cohort(tmp_path, 2, 1)
    domain = {"high": domain_moments([person], "high", WINDOW, Means(2, 4))}
    row = distance_table(domain, [("high", "high")]).iloc[0]
    assert row[["distance", "low", "high", "error", "bias"]].isna().all()
    assert row["subjects"] == "1 / 0"
    assert row["patches"].endswith(" / 0")


def test_the_gain_is_the_difference_of_two_distances(tmp_path: Path) -> None:
    people = cohort(tmp_path, 2, 4)
    low, high, made = (
        domain_moments(people, name, WINDOW, Means(2, 4)) for name in ("low", "high", "translated")
    )
    one, other = (
        frechet_distance(together(x.values()), together(high.values())) for x in (low, made)
    )
    found = gain(low, made, high)
    assert found.value == pytest.approx(one - other)
    assert found.low < found.value < found.high
    back = gain(made, low, high)
    assert back.value == pytest.approx(-found.value)
    assert back.low == pytest.approx(-found.high)


class Copies:
    """A method that notes whom it has translated."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def translate(self, subject: Subject, out: Path, *, modality: str | None = None) -> None:
        self.seen.append(subject.name)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(subject.image(modality)[1].read_bytes())


def test_translations_become_images_of_their_subjects(tmp_path: Path) -> None:
    people = cohort(tmp_path, 2)
    people.append(Subject("other", {"high": people[0].images["high"]}))
    method = Copies()
    out = translations(method, "some, row", people, "low", tmp_path / "out", made={"p1"})
    assert [s.name for s in out] == ["p0", "p1", "p2"]
    assert method.seen == ["p0", "p2"]
    assert out[1].images["translated"] == tmp_path / "out" / "some_row" / "p1.nii"
    assert out[2].images["translated"].read_bytes() == people[2].images["low"].read_bytes()
    assert out[2].images["high"] == people[2].images["high"]


def test_the_task_follows_from_the_images_there_are() -> None:
    def cohort_of(*images: str) -> Cohort:
        """One person for each image: no two are of the same."""
        path = Path("a.nii")
        return Cohort(tuple(Subject(f"p{k}", {m: path}) for k, m in enumerate(images)))

    assert [dose_task(cohort_of(*task)) for task in TASKS] == list(TASKS)
    assert dose_task(cohort_of("low_dose", "b80f", "full_dose")) == ("low_dose", "full_dose")
    with pytest.raises(InputError, match=r"^cohort with images b20f, b80f: expected low and b20f"):
        dose_task(cohort_of("b80f", "b20f"))


def test_bad_input_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "3d").mkdir()
    flat, solid = cohort(tmp_path, 2, 1)[0], cohort(tmp_path / "3d", 3, 1)[0]
    nowhere = np.zeros((26, 26), np.uint8)
    empty = replace(flat, regions={"lung": write(tmp_path / "none.nii", nowhere, label=True)})
    lung = Sampling(region="lung")
    domain = {"low": domain_moments([flat], "low", WINDOW, Means(2, 4))}
    for call, message in {
        lambda: Sampling(stride=0): "stride 0",
        lambda: Sampling(share=0): "share 0",
        lambda: image_moments(flat, "low", WINDOW, Means(3, 4)): r"low\.nii: .* 3D extractor",
        lambda: image_moments(solid, "low", WINDOW, Means(3, 40)): r"low\.nii: .* side 40",
        lambda: image_moments(empty, "low", WINDOW, Means(2, 4), sampling=lung): "0 patches",
        lambda: image_moments(flat, "t1", WINDOW, Means(2, 4)): "no t1 image",
        lambda: domain_moments([flat], "t1", WINDOW, Means(2, 4)): "no subject has a t1 image",
        lambda: distance_table(domain, PRINTED): "domain 'high' is none of low",
    }.items():
        with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
            call()
