"""REPLICA: features that any tile agrees on, forests that learn from pairs."""

from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from helpers import whole
from hypothesis import given, settings
from hypothesis import strategies as st
from tree import untrained

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.grid import Grid
from msgan.data.prepared import Prepared
from msgan.data.volume import open_volume, write_volume
from msgan.methods import baselines, replica_scales
from msgan.methods.replica import Replica
from msgan.methods.replica_features import RINGS, Rings, Surroundings
from msgan.phantoms.brain import write_cohort
from msgan.studies.table import score_table
from msgan.translate.scratch import Scratch
from msgan.types import Box, InputError

PREPARATION = Preparation(scales=1, margin=1)
QUICK = {"trees": 5, "samples": 600, "jobs": 1}


def save(path: Path, image: np.ndarray, spacing: float = 2.0) -> Path:
    grid = Grid(image.shape, np.diag([spacing] * image.ndim + [1.0]))
    write_volume(path, grid, lambda box: image[box.slices].astype(np.float32))
    return path


def smooth(shape, seed: int) -> np.ndarray:
    """Foreground of texture from 1 to 101 in a border of zeros."""
    x = np.random.default_rng(seed).random(shape)
    for axis in range(x.ndim):
        x = x + np.roll(x, 1, axis) + np.roll(x, 2, axis)
    image = np.zeros(shape)
    inner = (slice(2, -3),) * x.ndim
    image[inner] = 1 + 100 * (x[inner] - x.min()) / (x.max() - x.min())
    return image


def cohort(folder: Path, dims: int, splits=("train", "train", "test")) -> Cohort:
    """T2 is dark where T1 is bright, and brighter far from the middle."""
    shape = ((44, 38), (18, 16, 14))[dims - 2]
    x, y = (np.abs(np.linspace(-1, 1, n)) for n in shape[:2])
    side = 80 * np.maximum.outer(x, y).reshape(*shape[:2], *(1,) * (dims - 2))
    subjects = []
    for k, split in enumerate(splits):
        t1 = smooth(shape, k)
        t2 = np.where(t1 > 0, 120 - t1 + side, 0)
        images = {"t1": save(folder / f"{k}_t1.nii", t1), "t2": save(folder / f"{k}_t2.nii", t2)}
        subjects.append(Subject(f"s{k}", images, split=split))
    return Cohort(tuple(subjects))


# --- features ----------------------------------------------------------------------------------


def slow(image, shape, voxel, rings, below) -> np.ndarray:
    """The features of one voxel, written as they are described."""
    reach = 64
    padded = np.pad(image.astype(np.float64), reach, mode="edge")
    coarse = np.pad(below.astype(np.float64), 1, mode="edge")

    def mean(middle, width):
        low = [m + reach - width // 2 for m in middle]
        return padded[tuple(slice(a, a + width) for a in low)].mean()

    dims = len(shape)
    found = [mean(voxel + np.array(step), 1) for step in product((-1, 0, 1), repeat=dims)]
    way = (np.array(shape[:2]) - 1) / 2 - voxel[:2]
    angle = np.arctan2(way[1], way[0])
    for radius, width in zip(rings.radii, rings.widths, strict=True):
        for k in range(8):
            turn = angle + k * np.pi / 4
            middle = np.array(voxel)
            if way.any():
                middle[:2] += np.rint(radius * np.array([np.cos(turn), np.sin(turn)])).astype(int)
            found.append(mean(middle, width))
    value = coarse
    for index in voxel:  # one axis after the other
        near = 0.75 * value[index // 2 + 1]
        value = near + 0.25 * value[index // 2 + 1 + (1 if index % 2 else -1)]
    return np.array([*found, value])


def test_features_are_what_they_are_said_to_be(dims):
    shape = (20, 14, 12)[:dims]
    rng = np.random.default_rng(0)
    image = rng.uniform(-0.3, 1, shape).astype(np.float32)  # it nowhere ends in background
    below = rng.uniform(-1, 1, [n // 2 for n in shape]).astype(np.float32)
    rings = Rings((2, 5), (1, 3))
    assert rings.halo == 6
    voxels = np.argwhere(image > 0.8)
    around = Surroundings(
        lambda b: image[b.slices], shape, Box.whole(shape), rings, lambda b: below[b.slices]
    )
    found = around.of(voxels)
    assert found.shape == (len(voxels), 3**dims + 16 + 1)
    wanted = np.array([slow(image, shape, v, rings, below) for v in voxels])
    # Where a rounded place lies between two voxels, the slow way may take the other one.
    assert (np.abs(found - wanted) < 1e-5).mean() > 0.99
    np.testing.assert_allclose(found[:, : 3**dims], wanted[:, : 3**dims], atol=1e-6)
    np.testing.assert_allclose(found[:, -1], wanted[:, -1], atol=1e-6)
    coarsest = Surroundings(lambda b: image[b.slices], shape, Box.whole(shape), rings)
    np.testing.assert_array_equal(coarsest.of(voxels), found[:, :-1])


@settings(max_examples=12, deadline=None)
@given(sides=st.lists(st.integers(1, 20), min_size=2, max_size=3), scale=st.integers(0, 2))
def test_any_box_gives_the_same_bits(sides, scale):
    shape = (18, 20, 12)[: len(sides)]
    sides = [max(n, 5) for n in sides]  # smaller ones only take long
    rng = np.random.default_rng(len(sides))
    image = rng.uniform(-1, 1, shape).astype(np.float32)
    below = rng.uniform(-1, 1, [n // 2 for n in shape]).astype(np.float32)
    asked = []

    def read(box):
        asked.append(box)
        return image[box.slices]

    def of(box, voxels):
        return Surroundings(read, shape, box, RINGS[scale], lambda b: below[b.slices]).of(voxels)

    everything = np.argwhere(np.ones(shape, bool))
    expected = of(Box.whole(shape), everything).reshape(*shape, -1)
    for box in Box.whole(shape).tiles(sides):
        voxels = np.argwhere(np.ones(box.size, bool)) + np.array(box.start)
        asked.clear()
        found = of(box, voxels).reshape(*box.size, -1)
        np.testing.assert_array_equal(found, expected[box.slices])
        around = box.grown(RINGS[scale].halo).clipped(shape)
        assert asked[0] == around
        assert all(other.nearest(around) == other for other in asked)


# --- the row of a table --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brains(tmp_path_factory) -> Cohort:
    folder = tmp_path_factory.mktemp("brains")
    return Cohort.from_manifest(
        write_cohort(folder, subjects=2, size=32, seed=3, test_share=0.5), folder
    )


@pytest.mark.slow  # making the brains is
def test_it_beats_curves_on_brains_it_has_not_seen(brains, tmp_path):
    """Of FLAIR no curve makes a T2: liquid is dark and lesions are bright."""
    method = Replica.fit(
        brains, "flair", "t2", untrained(PREPARATION), trees=10, samples=2000, jobs=1
    )
    methods = {**baselines.baselines(brains, "t2", PREPARATION), "REPLICA": method}
    test = brains.split("test")
    table = score_table(methods, test, "flair", "t2", method.intensity, PREPARATION, tmp_path)
    scores = table.groupby("method")[["ssim", "mae"]].mean()
    others = scores.drop(index="REPLICA")
    assert scores.loc["REPLICA", "mae"] < 0.9 * others["mae"].min(), scores
    assert scores.loc["REPLICA", "ssim"] > others["ssim"].max(), scores


def test_it_learns_from_pairs_and_sees_the_place(dims, tmp_path):
    study = cohort(tmp_path, dims)
    method = Replica.fit(study, "t1", "t2", untrained(PREPARATION), **QUICK)
    method.translate(study["s2"], tmp_path / "out.nii")
    made, real = whole(tmp_path / "out.nii"), whole(study["s2"].images["t2"])
    inside = real > 0
    with open_volume(tmp_path / "out.nii") as out, open_volume(study["s2"].images["t1"]) as t1:
        assert out.grid.same_as(t1.grid)
    assert (made[~inside] == 0).all()
    flat = np.abs(real - np.median(real[inside]))[inside].mean()
    error = np.abs(made - real)[inside].mean()
    curve = baselines.baselines(study, "t2", PREPARATION)["inverted, matched"]
    curve.translate(study["s2"], tmp_path / "curve.nii", modality="t1")
    other = np.abs(whole(tmp_path / "curve.nii") - real)[inside].mean()
    assert error < 0.8 * min(flat, other), (error, flat, other)
    # A file is the same as the subject.
    method.translate(study["s2"].images["t1"], tmp_path / "file.nii")
    np.testing.assert_array_equal(whole(tmp_path / "file.nii"), made)


def test_tiles_join_exactly(dims, tmp_path, monkeypatch):
    """On a resampled grid too, and with batches and threads of any number."""
    study = cohort(tmp_path, dims)
    resampled = PREPARATION.model_copy(update={"spacing_mm": (2.3,) * dims})
    found = []
    for preparation in (PREPARATION, resampled):
        method = Replica.fit(study, "t1", "t2", untrained(preparation), **QUICK)
        for tile in (64, 9):
            monkeypatch.setattr(replica_scales, "BATCH", 100 * tile)
            method.jobs = 1 if tile == 64 else 3
            method.translate(study["s2"], tmp_path / f"{tile}.nii", tile=tile)
            found.append(whole(tmp_path / f"{tile}.nii"))
        np.testing.assert_array_equal(found[-1], found[-2])
    assert not np.array_equal(found[0], found[-1])


def test_no_tile_reads_more_than_its_halo(tmp_path, monkeypatch):
    study = cohort(tmp_path, 2)
    method = Replica.fit(study, "t1", "t2", untrained(PREPARATION), **QUICK)
    monkeypatch.setattr(replica_scales, "RINGS", (Rings((2, 3, 4, 5), (3, 3, 3, 3)),) * 3)
    monkeypatch.setattr("msgan.pyramid.CHUNK", {2: 8, 3: 8})
    asked, read = [], Prepared.read

    def seen(self, box):
        asked.append(box.voxels)
        return read(self, box)

    monkeypatch.setattr(Prepared, "read", seen)
    method.translate(study["s2"], tmp_path / "out.nii", tile=8)
    assert max(asked) == (8 + 2 * 6) ** 2


def test_the_same_seed_gives_the_same_image(dims, tmp_path):
    study, found = cohort(tmp_path, dims), []
    for k, (seed, options) in enumerate(((0, {}), (0, {"jobs": 3}), (1, {}))):
        config = untrained(PREPARATION, seed)
        method = Replica.fit(study, "t1", "t2", config, **{**QUICK, **options})
        method.translate(study["s2"], tmp_path / f"{k}.nii", modality="t1")
        found.append((tmp_path / f"{k}.nii").read_bytes())
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_nobody_of_the_test_split_is_looked_at(tmp_path):
    study, found = cohort(tmp_path, 2), []
    spoilt = replace(study["s2"], images=dict.fromkeys(("t1", "t2"), tmp_path / "none.nii"))
    lonely = Subject("t1 alone", {"t1": study["s0"].images["t1"]}, split="train")
    others = ((*study.subjects,), (spoilt, *study.subjects[:2]), (*study.subjects[:2], lonely))
    for k, subjects in enumerate(others):
        method = Replica.fit(Cohort(subjects), "t1", "t2", untrained(PREPARATION), **QUICK)
        method.translate(study["s2"], tmp_path / f"{k}.nii")
        found.append((tmp_path / f"{k}.nii").read_bytes())
    assert found[0] == found[1] == found[2]


def test_samples_are_foreground_and_no_voxel_twice(tmp_path, dims, monkeypatch):
    study = cohort(tmp_path, dims)
    monkeypatch.setattr(replica_scales, "TILE", {2: 16, 3: 8})
    preparation = PREPARATION.model_copy(update={"scales": 2})
    with ExitStack() as stack:
        pair = replica_scales.Pair.open(
            stack, study["s0"], "t1", "t2", preparation, Scratch(tmp_path / "scales")
        )
        pair.image.build()
        with prepare(study["s0"], "t1", preparation) as ready:
            t1 = ready.read(Box.whole(ready.grid.shape))
            with prepare(study["s0"], "t2", preparation, grid=ready.grid) as real:
                t2 = real.read(Box.whole(ready.grid.shape))
        x, y = pair.samples(0, 200, seed=0)
        assert len(x) == len(y) == 200
        own = x[:, 3**dims // 2]  # the middle of the patch
        assert (own > -1).all()
        seen = np.stack([own, y], 1)
        assert len(np.unique(seen, axis=0)) > 190  # texture: hardly any two voxels are alike
        known = {tuple(v) for v in np.stack([t1.ravel(), t2.ravel()], 1)}
        assert all(tuple(v) in known for v in seen)
        x, _ = pair.samples(0, 10**6, seed=0)
        assert len(x) == (t1 > -1).sum()


def test_errors_are_one_line(tmp_path):
    study = cohort(tmp_path, 2)

    def fit(some=study, source="t1", target="t2", **options):
        return Replica.fit(some, source, target, untrained(PREPARATION), **{**QUICK, **options})

    apart = replace(study["s0"], images={
        "t1": study["s0"].images["t1"], "t2": save(tmp_path / "x.nii", smooth((40, 38), 5))
    })  # fmt: skip
    (tmp_path / "3d").mkdir()
    solid = replace(cohort(tmp_path / "3d", 3)["s0"], name="solid")
    cases = [
        ({"trees": 0}, "trees 0: expected at least 1"),
        ({"leaf": 0}, "leaf 0: expected at least 1"),
        ({"samples": 0}, "samples 0: expected at least 1"),
        ({"jobs": 0}, "jobs 0: expected at least 1"),
        ({"source": "t2"}, "source t2: is the target itself"),
        ({"source": "flair"}, "no training subject has both a flair and a t2 image"),
        ({"some": Cohort((study["s2"],))}, "no training subject has both a t1 and a t2 image"),
        ({"some": Cohort((apart,))}, r"x\.nii: its grid .* is not"),
        ({"some": Cohort((study["s0"], solid))}, "t1 images of 2 and of 3 axes"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            fit(**options)
        assert "\n" not in str(caught.value)
    method, out = fit(), tmp_path / "out.nii"
    cases = [
        (study["s2"], out, {"tile": 0}, "tile 0: expected at least 1 voxel"),
        (study["s2"], tmp_path / "out.xyz", {}, r"out\.xyz: unknown suffix"),
        (study["s2"], out, {"modality": "flair"}, "no flair image"),
        (solid, out, {}, "image of 3 axes, REPLICA was fitted to 2"),
        (tmp_path / "none.nii", out, {}, r"none\.nii"),
    ]
    for subject, path, options, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            method.translate(subject, path, **options)
        assert "\n" not in str(caught.value)
    assert not out.exists()
