"""What lies beyond an image is unknown, not background, unless the image ends in background."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import head as ball
from helpers import randomised, reader, stored, tiny, untrained, whole

from msgan import pyramid, sketch, translate
from msgan.config import SketchConfig
from msgan.data.cohort import prepare
from msgan.data.geometry import WorkingGrid
from msgan.data.grid import Grid
from msgan.networks import inference
from msgan.networks.hr_generators import MeganGenerator, SeamlessGenerator
from msgan.networks.lr_generators import LocalLowGenerator
from msgan.phantoms.brain import brain
from msgan.pyramid import read_continued
from msgan.runs.run import Run
from msgan.sketch import sketch_reader
from msgan.training.batches import Patches
from msgan.training.cache import cached
from msgan.training.step import build_generator
from msgan.translate.scale import ImageSource, TiledScale, make
from msgan.types import Array, Box

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SKETCH = SketchConfig(channels=("edges", "self_similarity"), steps=2, sigma=0.8, weight="local")


def texture(shape, seed: int = 0) -> Array:
    """Nowhere background."""
    return np.random.default_rng(seed).uniform(-0.5, 1, shape).astype(np.float32)


def along(shape, seed: int = 0) -> Array:
    """A texture that is the same all along the first axis."""
    return np.broadcast_to(texture(shape[1:], seed), shape).copy()


# --- the image -----------------------------------------------------------------------------------


def test_the_working_grid_repeats_what_is_outermost(dims):
    image = texture((7, 9, 5)[:dims])
    source = Grid.from_spacing(image.shape, (1.0,) * dims)
    grid = WorkingGrid.plan(source, Box.whole(image.shape), scales=2)
    assert grid.shape == (8, 12, 8)[:dims]
    sides = zip(grid.shape, image.shape, strict=True)
    pads = [((n - m) // 2, n - m - (n - m) // 2) for n, m in sides]
    expected = np.pad(image, pads, mode="edge")
    found = grid.read_working(reader(image))
    np.testing.assert_array_equal(found(Box.whole(grid.shape)), expected)
    np.testing.assert_array_equal(
        found(Box.whole(grid.shape).grown(3)), np.pad(expected, 3, mode="edge")
    )


def test_a_resampled_image_goes_on_as_its_outermost_voxels(dims):
    image = along((9, 10, 8)[:dims])
    source = Grid.from_spacing(image.shape, (1.0,) * dims)
    grid = WorkingGrid.plan(source, Box.whole(image.shape), (1.7,) * dims, scales=1)
    box = Box.whole(grid.shape).grown(20)
    found = grid.read_working(reader(image))(box)
    np.testing.assert_allclose(found, np.broadcast_to(found[:1], found.shape), atol=1e-6)
    far = found[:, 0]  # a corner, or an edge in 3D
    np.testing.assert_allclose(far, np.broadcast_to(found[:, 10], far.shape), atol=1e-6)


def test_coarse_scales_go_on_as_the_finest_does(dims, tmp_path):
    """One infinite image: a coarse voxel beyond it is the mean of the fine ones beyond it."""
    shape = (12, 8, 20)[:dims]
    image = texture(shape)
    readers = pyramid.build(reader(image), shape, 2, tmp_path)
    wide = np.pad(image, 16, mode="edge")
    for scale in (1, 0):
        wide = pyramid.halve(wide, dims)
        known = Box.whole([n >> (2 - scale) for n in shape]).grown(16 >> (2 - scale))
        np.testing.assert_allclose(readers[scale](known), wide, atol=1e-6)


@pytest.mark.parametrize("ends", [True, False])
def test_what_is_made_goes_on_as_its_source(dims, ends):
    """Repeated where the source goes on, background where that ends; of any box the same."""
    shape = (6, 4, 5)[:dims]
    made, source = texture(shape, 1), texture(shape, 2)
    wide = np.pad(source, 1, mode="constant" if ends else "edge", **_background(ends))
    region = Box.whole(shape).grown(1)
    real = pyramid.extended(lambda b: wide[b.inside(region).slices], shape, 1)
    box = Box.whole(shape).grown(4)
    expected = np.pad(made, 4, mode="constant" if ends else "edge", **_background(ends))
    found = read_continued(reader(made), real, shape, box)
    np.testing.assert_array_equal(found, expected)
    for tile in box.tiles((3, 5, 2)[:dims]):
        part = read_continued(reader(made), real, shape, tile)
        np.testing.assert_array_equal(part, found[tile.inside(box).slices])


def test_what_is_made_ends_where_its_source_does_voxel_by_voxel():
    made = np.full((4, 6), 0.5, np.float32)
    source = np.full((6, 8), -1.0, np.float32)
    source[1:-1, 1:-1] = 0.5
    source[0, 4:] = 0.5  # beyond the first axis it goes on in half of the columns
    real = pyramid.extended(lambda b: source[b.shifted((1, 1)).slices], made.shape, 1)
    found = read_continued(reader(made), real, made.shape, Box((-3, 0), (3, 6)))
    np.testing.assert_array_equal(found, np.repeat([[-1, -1, -1, 0.5, 0.5, 0.5]], 3, axis=0))


def _background(ends: bool) -> dict[str, float]:
    return {"constant_values": -1.0} if ends else {}


# --- the sketch ----------------------------------------------------------------------------------


def test_a_sketch_goes_on_as_that_of_a_larger_image(dims):
    image = texture((15, 12, 10)[:dims])
    labels = (image > 0.8).astype(np.uint8)
    margin, far = sketch.halo(SKETCH), 30
    read = sketch_reader(reader(image), image.shape, SKETCH, reader(labels))
    wide = np.pad(image, far + margin, mode="edge")
    expected = sketch.sketch(torch.from_numpy(wide)[None, None], SKETCH)
    marks = torch.from_numpy(np.pad(labels, far, mode="edge"))[None, None]
    expected = sketch.overlay(expected, marks, (1, 2, 3, 4))[0].numpy()
    box = Box.whole(image.shape).grown(far)
    found = read(box)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    for tile in box.tiles((25, 40, 36)[:dims]):
        np.testing.assert_array_equal(read(tile)[0], found[0][tile.inside(box).slices])
    away = read(box.shifted((-500,) * dims))  # far beyond a corner nothing changes
    corner = found[(slice(None), *[slice(1)] * dims)]
    np.testing.assert_array_equal(away, np.broadcast_to(corner, away.shape))


def test_where_an_image_ends_in_background_so_does_its_sketch(dims):
    """What is near the face inside makes no difference."""
    image = np.full((14, 12, 12)[:dims], -1.0, np.float32)
    image[(slice(1, -1),) * dims] = texture(np.array(image.shape) - 2)
    read = sketch_reader(reader(image), image.shape, SKETCH)
    margin = sketch.halo(SKETCH)
    around = np.pad(image, margin, constant_values=-1)
    drawn = sketch.sketch(torch.from_numpy(around)[None, None], SKETCH)[0].numpy()
    expected = np.pad(drawn, [(0, 0), *[(6, 6)] * dims])
    np.testing.assert_array_equal(read(Box.whole(image.shape).grown(6)), expected)


def test_an_image_cut_at_one_face_goes_on_there_alone(dims):
    shape, margin, far = (14, 12, 13)[:dims], sketch.halo(SKETCH), 6
    for axis, end in itertools.product(range(dims), (0, -1)):
        image = np.full(shape, -1.0, np.float32)
        seen = [slice(2, -2)] * dims
        seen[axis] = slice(None, -2) if end == 0 else slice(2, None)
        image[tuple(seen)] = texture(image[tuple(seen)].shape)
        wide = np.pad(image, far + margin, mode="edge")
        expected = sketch.sketch(torch.from_numpy(wide)[None, None], SKETCH)[0].numpy()
        beyond = expected.take(0 if end == 0 else -1, axis + 1)
        assert beyond.std() > 0.01
        read, box = sketch_reader(reader(image), shape, SKETCH), Box.whole(shape).grown(far)
        beside = [slice(far, far + n) for n in shape]
        beside[axis] = slice(None, -far) if end == 0 else slice(far, None)
        found = np.concatenate(
            [read(part) for part in box.tiles((*(1000,) * axis, 7, *(1000,) * (dims - axis - 1)))],
            axis=axis + 1,
        )
        there = (slice(None), *beside)
        np.testing.assert_allclose(found[there], expected[there], rtol=0, atol=1e-6)


def test_a_cut_face_is_no_edge(dims):
    shape = (9, 26, 24)[:dims]
    image = along(shape)
    drawn = sketch_reader(reader(image), shape, SKETCH)(Box.whole(shape).grown(5))
    np.testing.assert_allclose(drawn, np.broadcast_to(drawn[:, :1], drawn.shape), atol=1e-6)
    assert drawn.std() > 0.05


# --- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [SeamlessGenerator, MeganGenerator])
def test_a_slab_has_no_ends_above_s0(dims, family):
    """Along an axis that nothing changes along, every patch of either family is the same."""
    shape = (60, 40) if dims == 2 else (60, 20, 20)
    image, below = along(shape), along([n // 2 for n in shape], 1)
    network = randomised(family(dims, 1 + 2 * dims, 4, 1), 3)
    step = 20 if family is MeganGenerator else 2
    source = pyramid.halved(pyramid.extended(reader(image), shape), dims)
    context = ImageSource(reader(below), below.shape, CPU, source)
    drawn = sketch_reader(reader(image), shape, SKETCH)
    ready = inference.optimised(network, CPU)
    scale = TiledScale(ready, (drawn, context), shape, (20,) * dims, CPU)
    made = np.zeros(shape, np.float32)
    for _, box, values in make(scale, range(len(scale))):
        made[box.slices] = values
    np.testing.assert_allclose(made[step:], made[:-step], rtol=0, atol=1e-4)
    assert made.std() > 0.02


def test_a_slab_has_no_ends_at_s0(dims):
    """The network sees around an image how it goes on, as far as its border reaches."""
    network = randomised(LocalLowGenerator(dims, 1 + 2 * dims, 4, 1, 0.0, border=8), 3)
    assert network.geometry.rim <= 8
    shape = (6, 10, 8)[:dims]
    fine = tuple(2 * n for n in shape)
    drawn = sketch_reader(reader(along(fine)), fine, SKETCH)
    scale = TiledScale(inference.optimised(network, CPU), (drawn,), shape, shape, CPU)
    ((_, _, made),) = make(scale, range(1))
    np.testing.assert_allclose(made, np.broadcast_to(made[:1], made.shape), rtol=0, atol=1e-5)
    assert made.std() > 0.02


# --- translation ---------------------------------------------------------------------------------


def cut_head(dims: int) -> Array:
    """The middle of a head: cut at both ends of one axis and at one end of another."""
    image = ball((60, 52) if dims == 2 else (36, 30, 28), low=20)
    return image[18:-18, 14:] if dims == 2 else image[10:-10, 8:, :]


def test_any_tiling_gives_the_same_of_a_slab(dims, tmp_path):
    run = untrained(tmp_path / "run", tiny(dims))
    source = stored(tmp_path / "x.nii", cut_head(dims))
    made = []
    for tile in (None, 6, 10):
        translate.translate(run, source, tmp_path / "y.nii", device="cpu", tile=tile)
        made.append(run.intensity.to_unit(whole(tmp_path / "y.nii")))
    np.testing.assert_allclose(made[1], made[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(made[2], made[0], rtol=0, atol=1e-5)
    assert made[0].shape == cut_head(dims).shape
    assert made[0].std() > 0.02


def test_one_slice_of_a_volume_can_be_translated(tmp_path):
    run = untrained(tmp_path / "run", tiny(3))
    for axis in range(3):
        image = ball((30, 26, 24)).take([13], axis)
        translate.translate(run, stored(tmp_path / "x.nii", image), tmp_path / "y.nii")
        assert whole(tmp_path / "y.nii").shape == image.shape


@pytest.mark.slow
def test_slabs_are_about_as_bright_as_within_the_whole(tmp_path):
    """A trained model: three quarters or more of the brightness, also of a single slice."""
    phantom, run = brain(0, 0, size=32), Run.open("brain-phantom-t2")
    image, inside = phantom.images["t1"], phantom.mask > 0

    def result(image: Array) -> Array:
        nib.save(nib.Nifti1Image(image, phantom.affine), tmp_path / "x.nii")
        translate.translate(run, tmp_path / "x.nii", tmp_path / "y.nii", device="cpu")
        return whole(tmp_path / "y.nii")

    entire = result(image)
    for axis, size in ((2, 9), (1, 1)):
        first = image.shape[axis] // 2 - size // 2
        places = [np.arange(n) for n in image.shape]
        places[axis] = np.arange(first, first + size)
        part = np.ix_(*places)
        made, there = result(image[part]), inside[part]
        for k in range(size):
            seen = there.take(k, axis)
            ratio = made.take(k, axis)[seen].mean() / entire[part].take(k, axis)[seen].mean()
            assert 0.75 < ratio < 1.25, (axis, size, k)


# --- training ------------------------------------------------------------------------------------


def test_patches_show_beyond_an_image_what_translation_sees(dims, tmp_path):
    config = tiny(dims)
    source = stored(tmp_path / "x.nii", cut_head(dims))
    with prepare(source, None, config.preparation) as ready:
        subject = cached(ready, config, "data", tmp_path / "cache")
        assert subject.rims is not None
        shapes = pyramid.shapes(ready.grid.shape, ready.grid.scales)
        images = pyramid.build(ready.read, shapes[-1], 2, tmp_path / "scales", rim=1)
        for scale in (0, 2):
            fine = max(scale, 1)
            drawn = sketch_reader(images[fine], shapes[fine], config.sketch, rim=1)
            made = build_generator(config, scale).geometry
            patches = Patches([subject], config, scale, made, augmented=False)
            for k in range(6):
                sample, batch = patches.decide("train", 0, k), patches.draw("train", 0, [k])
                expected = drawn(sample.reads[0])
                np.testing.assert_allclose(batch.reads[0][0], expected, rtol=0, atol=2e-3)
                (detail,), (box,) = batch.targets, sample.targets
                np.testing.assert_array_equal(detail[0, 0], images[scale](box))
                if scale:
                    around = images[scale - 1](sample.reads[1])
                    np.testing.assert_array_equal(batch.reads[1][0, 0], around)
        outside = sample.reads[0].clipped(shapes[2]) != sample.reads[0]
        assert outside, "no patch reached beyond the image"


def test_a_subject_that_ends_in_background_is_cached_without_more(dims, tmp_path):
    config = tiny(dims)
    image = np.pad(ball((40, 36, 30)[:dims]), 4)
    with prepare(stored(tmp_path / "x.nii", image), None, config.preparation) as ready:
        subject = cached(ready, config, "data", tmp_path / "cache")
        assert subject.rims is None
        assert tuple(subject.images[2].shape[1:]) == ready.grid.shape == subject.shape(2)
