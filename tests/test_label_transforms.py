"""Label maps transformed in mm, on grids of any orientation and size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from msgan.config import CascadeConfig, Preparation, SketchConfig, TrainConfig, network_of
from msgan.data.cohort import Subject, prepare
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.volume import open_volume, write_volume
from msgan.runs.run import Run
from msgan.sketch import halo
from msgan.studies.label_transforms import (
    LabelMap,
    brain_box,
    fitted,
    grown,
    mirrored,
    moved,
    placed,
    scaled,
)
from msgan.training import checkpoint
from msgan.training.cache import cached
from msgan.training.loop import WEIGHTS
from msgan.training.step import build_generator
from msgan.translate import translate
from msgan.types import Box, InputError

SIDES_MM = {2: (84.0, 96.0), 3: (84.0, 96.0, 72.0)}


def grid_of(dims: int, spacing: float, flipped: bool = False) -> Grid:
    """Of one field of view, around 0 mm; ``flipped``: first axis reversed, two exchanged."""
    shape = [round(s / spacing) for s in SIDES_MM[dims]]
    affine = np.diag([spacing] * dims + [1.0])
    affine[:-1, -1] = [-(n - 1) / 2 * spacing for n in shape]
    if not flipped or dims == 2:
        return Grid(tuple(shape), affine)
    affine[:, 0], affine[0, 3] = -affine[:, 0], affine[0, 3] + (shape[0] - 1) * spacing
    affine[:, [0, 1]] = affine[:, [1, 0]]
    return Grid((shape[1], shape[0], shape[2]), affine)


def places(grid: Grid) -> np.ndarray:
    """(d, *shape) mm."""
    index = np.indices(grid.shape).reshape(grid.dims, -1)
    mm = grid.affine[:-1, :-1] @ index + grid.affine[:-1, -1:]
    return mm.reshape(grid.dims, *grid.shape)


def ball(grid: Grid, centre, radius: float) -> np.ndarray:
    offset = places(grid) - np.reshape(centre[: grid.dims], (-1,) + (1,) * grid.dims)
    return (offset**2).sum(0) <= radius**2


def nested(grid: Grid, centre=(18.0, -10.0, 4.0)) -> LabelMap:
    """Core 1 in rim 4 in oedema 2."""
    values = np.zeros(grid.shape, np.uint8)
    for label, radius in ((2, 14.0), (4, 10.0), (1, 6.0)):
        values[ball(grid, centre, radius)] = label
    return LabelMap(values, grid)


def brain(grid: Grid) -> np.ndarray:
    return ball(grid, (0, 0, 0), 35.0)


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_mirror_reverses_an_anatomical_axis_about_the_brain(dims, flipped, axis):
    grid = grid_of(dims, 2.0, flipped)
    labels = nested(grid)
    shifted = ball(grid, (4.0, 0, 0), 31.0)  # a brain that is not in the middle of its image
    image = mirrored(labels, shifted, axis)
    low, high = brain_box(shifted, grid)
    wanted = labels.centre_mm.copy()
    wanted[axis] = low[axis] + high[axis] - wanted[axis]
    np.testing.assert_allclose(image.centre_mm, wanted, atol=0.2)
    np.testing.assert_array_equal(mirrored(image, shifted, axis).values, labels.values)


@pytest.mark.parametrize("factor", [0.85, 1.15])
@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_scaling_is_about_the_lesion_and_in_mm(dims, factor, spacing):
    labels = nested(grid_of(dims, spacing))
    result = scaled(labels, factor)
    assert set(np.unique(result.values)) == {0, 1, 2, 4}
    np.testing.assert_allclose(result.centre_mm, labels.centre_mm, atol=0.6)
    assert result.volume_ml / labels.volume_ml == pytest.approx(factor**dims, rel=0.08)


def test_moving_follows_anatomy_and_not_the_file(dims):
    for flipped in (False, True):
        labels = nested(grid_of(dims, 2.0, flipped))
        result = moved(labels, (-8.0, 4.0, 2.0)[:dims])
        change = result.centre_mm - labels.centre_mm
        np.testing.assert_allclose(change, (-8.0, 4.0, 2.0)[:dims], atol=1e-6)
        assert (result.values > 0).sum() == (labels.values > 0).sum()


def reach(labels: LabelMap) -> np.ndarray:
    """mm from the old centre of the ball of :func:`nested`."""
    offset = places(labels.grid) - np.reshape(
        (18.0, -10.0, 4.0)[: labels.grid.dims], (-1,) + (1,) * labels.grid.dims
    )
    return np.sqrt((offset**2).sum(0))


def test_growth_is_bounded_uneven_and_seeded(dims):
    labels = nested(grid_of(dims, 1.5))
    result = grown(labels, 8.0, seed=1)
    new = (result.values > 0) & (labels.values == 0)
    assert not ((result.values == 0) & (labels.values > 0)).any()
    far = reach(labels)
    assert new.any()
    assert far[new].max() <= 14 + 8 + 1.5
    border = new & ndimage.binary_dilation(result.values == 0)
    assert np.ptp(far[border]) > 1.5  # not a ball
    np.testing.assert_array_equal(grown(labels, 8.0, seed=1).values, result.values)
    assert (grown(labels, 8.0, seed=2).values != result.values).any()
    np.testing.assert_array_equal(grown(labels, 0.0, seed=1).values, labels.values)


def test_growth_is_the_same_at_every_resolution(dims):
    coarse, fine = (grown(nested(grid_of(dims, s)), 8.0, seed=3) for s in (3.0, 1.0))
    assert coarse.volume_ml == pytest.approx(fine.volume_ml, rel=0.1)
    np.testing.assert_allclose(coarse.centre_mm, fine.centre_mm, atol=0.8)


@pytest.mark.parametrize("change", ["mirrored", "shrunk", "enlarged", "grown", "placed"])
def test_nested_labels_stay_nested(dims, change):
    grid = grid_of(dims, 1.5)
    labels = nested(grid)
    result = {
        "mirrored": lambda: mirrored(labels, brain(grid)),
        "shrunk": lambda: scaled(labels, 0.85),
        "enlarged": lambda: scaled(labels, 1.15),
        "grown": lambda: grown(labels, 8.0, 0),
        "placed": lambda: placed(labels, grid_of(dims, 2.0, True)),
    }[change]()
    assert set(np.unique(result.values)) == {0, 1, 2, 4}
    around = ndimage.generate_binary_structure(dims, 1)
    beside_core = ndimage.binary_dilation(result.values == 1, around) & (result.values != 1)
    assert set(np.unique(result.values[beside_core])) == {4}
    inner = np.isin(result.values, (1, 4))
    assert set(np.unique(result.values[ndimage.binary_dilation(inner, around) & ~inner])) == {2}


def test_labels_are_placed_by_mm_or_by_the_brain(dims):
    grid, other = grid_of(dims, 1.5), grid_of(dims, 2.0, True)
    labels = nested(grid)
    there = placed(labels, other)
    assert there.grid == other
    np.testing.assert_allclose(there.centre_mm, labels.centre_mm, atol=0.4)
    # A brain elsewhere and smaller: the same share of its box.
    small = ball(other, (-6.0, 3.0, 0.0), 28.0)
    there = placed(labels, other, brain(grid), small)
    share = [
        (m.centre_mm - box[0]) / (box[1] - box[0])
        for m, box in ((labels, brain_box(brain(grid), grid)), (there, brain_box(small, other)))
    ]
    np.testing.assert_allclose(share[0], share[1], atol=0.02)
    assert there.volume_ml / labels.volume_ml == pytest.approx((28 / 35) ** dims, rel=0.15)


def test_a_lesion_is_cut_moved_inside_or_refused(dims):
    grid = grid_of(dims, 2.0)
    inside = brain(grid)
    near = nested(grid, (25.0, 0.0, 0.0))
    kept = fitted(near, inside, least=0.6)
    np.testing.assert_array_equal(kept.values, np.where(inside, near.values, 0))
    far = nested(grid, (36.0, 0.0, 0.0))
    result = fitted(far, inside, least=0.95)
    assert not (result.values > 0)[~inside].any()
    assert (result.values > 0).sum() >= 0.95 * (far.values > 0).sum()
    assert result.centre_mm[0] < far.centre_mm[0] - 5
    with pytest.raises(InputError, match=r"at most \d+% lie in the brain within 4 mm"):
        fitted(far, inside, least=0.95, reach_mm=4)


def test_files_keep_values_and_affine(dims, tmp_path):
    labels = nested(grid_of(dims, 2.0, True))
    labels.write(tmp_path / "a.nii.gz")
    again = LabelMap.open(tmp_path / "a.nii.gz", like=labels.grid)
    assert again.grid == labels.grid
    np.testing.assert_array_equal(again.values, labels.values)
    with pytest.raises(InputError, match="labels do not lie on their image"):
        LabelMap.open(tmp_path / "a.nii.gz", like=grid_of(dims, 3.0))


@pytest.mark.parametrize(("label", "ends"), [(256, "0 to 256"), (-1, "-1 to 0")])
def test_labels_that_do_not_fit_a_byte_are_refused(dims, label, ends, tmp_path):
    grid = grid_of(dims, 6.0)
    values = np.zeros(grid.shape, np.int16)
    values[(1,) * dims] = label
    path = tmp_path / "a.nii"
    write_volume(path, grid, lambda box: values[box.slices], unit="label", dtype=np.int16)
    with pytest.raises(InputError, match=rf"a\.nii: labels {ends}: expected 0-255$"):
        LabelMap.open(path)


def test_bad_input_is_named(dims):
    grid, other = grid_of(dims, 3.0), grid_of(5 - dims, 3.0)
    labels, nothing = nested(grid), LabelMap(np.zeros(grid.shape, np.uint8), grid)
    for match, call in {
        f"axis {dims} to mirror on": lambda: mirrored(labels, brain(grid), dims),
        "factor 0": lambda: scaled(labels, 0),
        "labels are empty": lambda: scaled(nothing, 1.15),
        "amplitude -1": lambda: grown(labels, -1, 0),
        "offset": lambda: moved(labels, (1.0,)),
        "brain mask has no voxel": lambda: fitted(labels, np.zeros(grid.shape, bool)),
        "one brain mask of two": lambda: placed(labels, grid, brain(grid)),
        "share 2": lambda: fitted(labels, brain(grid), least=2),
        "labels of shape .* on a grid of": lambda: LabelMap(labels.values[1:], grid),
        "brain of shape .* on a grid of": lambda: brain_box(brain(grid)[1:], grid),
        f"labels of {dims} axes for an image of {5 - dims}": lambda: placed(labels, other),
    }.items():
        with pytest.raises(InputError, match=match):
            call()


# --- labels are drawn strictly -----------------------------------------------------------------


def config_of(dims: int) -> CascadeConfig:
    return CascadeConfig(
        dims=dims,
        labels=(1, 2, 4),
        preparation=Preparation(scales=1, margin=1, intensity="window", low=0.0, high=100.0),
        sketch=SketchConfig(channels=("edges", "self_similarity"), weight="local"),
        network=network_of(lr_width=2, lr_levels=2, hr_width=4, hr_blocks=1),
        training=TrainConfig(steps=1, lr_steps=1, patch=8, lr_patch=8),
    )


def person(folder: Path, grid: Grid, noise: np.ndarray, labels: LabelMap, name: str) -> Subject:
    image = np.where(brain(grid), 20 + 60 * noise, 0).astype(np.float32)
    write_volume(folder / f"{name}.nii", grid, lambda box: image[box.slices])
    labels.write(folder / f"{name}_labels.nii.gz")
    return Subject(name, {"t1": folder / f"{name}.nii"}, labels=folder / f"{name}_labels.nii.gz")


def test_nothing_but_the_label_is_left_in_a_training_sketch(dims, tmp_path):
    grid = grid_of(dims, 3.0)
    noise = np.random.default_rng(0).random(grid.shape)
    labels, config = nested(grid), config_of(dims)
    subject = person(tmp_path, grid, noise, labels, "a")
    with prepare(subject, "t1", config.preparation) as ready:
        drawn = ready.read_labels(Box.whole(ready.grid.shape))
        ready_cache = cached(ready, config, "00", tmp_path / "cache")
    rim = ready_cache.rims[1] if ready_cache.rims else 0
    inner = (..., *[slice(rim, rim + n) for n in drawn.shape])
    for variant in ready_cache.sketches[1]:
        grey, *others = variant.float().numpy()[inner]
        inside = drawn > 0
        assert inside.sum() > 20
        assert max(float(np.abs(o[inside]).max()) for o in others) == 0
        assert max(float(o[~inside].max()) for o in others) > 0.1
        for k, value in enumerate(config.labels, 1):
            np.testing.assert_allclose(grey[drawn == value], (256 * k / 3 - 1) / 255, atol=1e-3)


def test_a_translation_draws_the_labels_it_is_given_and_nothing_below_them(tmp_path):
    """What the source shows deep inside a label does not matter; which label it is does."""
    grid, config = grid_of(2, 1.0), config_of(2)
    run = Run(tmp_path / "run", config, "t2", IntensityMap(0.0, 100.0, "a.u."), {"a": "00"})
    run.create()
    for scale in range(2):
        network = build_generator(config, scale)
        for p in network.parameters():  # the last layer is 0, and all alike would saturate
            p.data += 0.1 * torch.randn_like(p)
        checkpoint.save_weights(network, run.folder_of(scale) / WEIGHTS, {"step": 1})
    run = Run.open(tmp_path / "run")
    centre, rim = (0.0, 0.0), 2 * halo(config.sketch) + 4  # voxels of s_1 on s_0
    labels = LabelMap(np.where(ball(grid, centre, 30.0), 2, 0).astype(np.uint8), grid)
    noise = np.random.default_rng(0).random((2, *grid.shape))
    other = np.where(ball(grid, centre, 30.0 - rim), noise[1], noise[0])
    assert (other != noise[0]).sum() > 50
    one, two = (
        person(tmp_path, grid, n, labels, name) for n, name in ((noise[0], "one"), (other, "two"))
    )

    def result(subject: Subject, name: str) -> np.ndarray:
        done = translate(run, subject, tmp_path / f"{name}.nii", modality="t1", device="cpu")
        return open_volume(done.path).whole()

    first = result(one, "first")
    np.testing.assert_array_equal(result(two, "second"), first)
    bare = result(replace(one, labels=None), "bare")
    assert np.abs(bare - first)[ball(grid, centre, 20.0)].max() > 0.01
    elsewhere = replace(one, labels=tmp_path / "moved.nii.gz")
    moved(scaled(labels, 0.4), (0.0, 20.0)).write(elsewhere.labels)
    assert np.abs(result(elsewhere, "moved") - first).max() > 0.01
