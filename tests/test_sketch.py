import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch.testing import assert_close

from msgan.config import SketchConfig
from msgan.sketch import (
    DrawnSketch,
    channels,
    filters,
    halo,
    mirror,
    overlay,
    sketch,
    sketch_reader,
)
from msgan.sketch.edges import full_step
from msgan.types import Box, InputError

ALL = ("edges", "self_similarity", "ridges")
CONFIGS = [
    SketchConfig(low=0.02, high=0.05),
    SketchConfig(weight="local", sigma=0.8, steps=3),
    SketchConfig(channels=ALL[1:]),
    SketchConfig(channels=ALL, weight="local", steps=2),
]
each_config = pytest.mark.parametrize("config", CONFIGS, ids=["gradient", "local", "own", "all"])


def texture(size: int, dims: int, seed: int = 0, smooth: float = 1.5) -> np.ndarray:
    """A smooth random image, (*spatial) in [-0.9, 0.9]."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(size,) * dims)
    image = gaussian_filter(noise, smooth, mode="wrap")
    return (0.9 * image / np.abs(image).max()).astype(np.float32)


def ball(size: int, dims: int, radius: float) -> tuple[torch.Tensor, torch.Tensor]:
    """An antialiased bright ball on -1, (1, 1, *spatial), and each voxel's distance to its centre.

    The centre is off the grid, so that no symmetry of the grid helps.
    """
    grid = torch.meshgrid(*[torch.arange(size) - size / 2 + 0.2] * dims, indexing="ij")
    distance = sum(g**2 for g in grid).sqrt()
    return (1 - 2 * (distance - radius + 0.5).clamp(0, 1))[None, None], distance


@each_config
def test_any_tiling_gives_the_sketch_of_the_whole(dims, config, monkeypatch):
    image = texture(150 if dims == 2 else 30, dims)
    read = sketch_reader(lambda box: image[box.slices], image.shape, config)
    whole = read(Box.whole(image.shape))
    assert whole.shape == (channels(config, dims), *image.shape)
    assert whole.dtype == np.float32
    assert (whole > 0).mean() > 0.01
    for size in ((37, 64, 11) if dims == 2 else (13, 30, 17))[:dims], (29,) * dims:
        tiled = np.empty_like(whole)
        for box in Box.whole(image.shape).tiles(size):
            tiled[(slice(None), *box.slices)] = read(box)
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-6)
    # The tiles that are worked on inside, too.
    monkeypatch.setattr(filters, "CPU_TILE", 3000)
    monkeypatch.setattr(filters, "SMALLEST_TILE", 2000)
    np.testing.assert_allclose(read(Box.whole(image.shape)), whole, rtol=0, atol=1e-6)


@each_config
def test_threads_change_neither_the_sketch_nor_torch_settings(dims, config, monkeypatch):
    monkeypatch.setattr(filters, "CPU_TILE", 3000)
    monkeypatch.setattr(filters, "SMALLEST_TILE", 2000)
    image = torch.from_numpy(texture(2 * halo(config) + 30, dims, 15))[None, None]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = sketch(image, config)
        torch.set_num_threads(3)
        three = sketch(image, config)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert one.any()
    assert_close(three, one, rtol=0, atol=1e-6)


@each_config
def test_what_lies_beyond_the_halo_changes_nothing(dims, config):
    rng, margin, core = np.random.default_rng(1), halo(config), 5
    image = torch.from_numpy(texture(core + 2 * margin + 8, dims, 2))[None, None]
    inner = image[(..., *[slice(4, -4)] * dims)]
    region = sketch(inner, config)
    assert region.shape[2:] == (core,) * dims
    other = torch.from_numpy(rng.uniform(-1, 1, image.shape).astype(np.float32))
    other[(..., *[slice(4, -4)] * dims)] = inner
    wider = sketch(other, config)[(..., *[slice(4, -4)] * dims)]
    assert_close(wider, region, rtol=0, atol=1e-6)


def test_batch_is_the_images_one_by_one(dims):
    config = SketchConfig(channels=ALL, low=0.02, high=0.05, steps=2)
    size = 2 * halo(config) + 9
    batch = torch.stack([torch.from_numpy(texture(size, dims, seed)) for seed in (3, 4)])[:, None]
    each = torch.cat([sketch(image[None], config) for image in batch])
    assert_close(sketch(batch, config), each, rtol=0, atol=0)
    assert each[0].ne(each[1]).any()


@each_config
def test_range_and_a_blank_image(dims, config):
    size = 2 * halo(config) + 12
    noise = np.random.default_rng(5).choice([-1.0, 1.0], size=(size,) * dims).astype(np.float32)
    drawn = sketch(torch.from_numpy(noise)[None, None], config)
    assert drawn.min() >= 0
    assert 0.5 < drawn.max() <= 1
    for value in (-1.0, 0.3, 1.0):
        blank = torch.full((1, 1, *(size,) * dims), value)
        assert not sketch(blank, config).any()


@each_config
def test_inverted_contrast_gives_the_same_sketch(dims, config):
    size = 2 * halo(config) + 20
    image = torch.from_numpy(texture(size, dims, 6))[None, None]
    drawn = sketch(image, config)
    assert drawn.any()
    assert_close(sketch(-image, config), drawn, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["local", "self_similarity", "ridges"])
def test_other_gain_and_offset_give_nearly_the_same_sketch(dims, name):
    config = SketchConfig(weight="local") if name == "local" else SketchConfig(channels=(name,))
    image = torch.from_numpy(texture(2 * halo(config) + 30, dims, 7))[None, None]
    drawn, other = sketch(image, config), sketch(-0.6 * image + 0.35, config)
    assert (drawn - other).abs().mean() < 0.06 * drawn.mean()
    assert np.corrcoef(drawn.flatten(), other.flatten())[0, 1] > 0.99


def test_gradient_weight_is_proportional_to_the_contrast(dims):
    config = SketchConfig(low=0, high=0)
    image = torch.from_numpy(texture(2 * halo(config) + 20, dims, 8))[None, None]
    full, half = sketch(image, config), sketch(0.5 * image, config)
    assert_close(half, 0.5 * full)


@pytest.mark.parametrize("weight", ["gradient", "local"])
def test_edge_of_a_ball_is_thin_and_on_its_surface(dims, weight):
    config, radius = SketchConfig(weight=weight), 12.3
    image, distance = ball(36, dims, radius)
    edge = sketch(F.pad(image, [halo(config)] * 2 * dims, value=-1), config)[0, 0] > 0
    assert (distance[edge] - radius).abs().max() < 1
    area = 2 * np.pi * radius if dims == 2 else 4 * np.pi * radius**2
    # A digital curve or surface one voxel thick has 0.9 (2D) or 0.83 (3D) to 1.2 voxels per unit.
    assert 0.75 < edge.sum() / area < 1.25
    # And it has no hole: no straight way from the centre leads out past it.
    rng = np.random.default_rng(9)
    rays = torch.from_numpy(rng.normal(size=(300, dims)))
    rays /= rays.norm(dim=1, keepdim=True)
    steps = torch.linspace(radius - 2, radius + 2, 60)[None, :, None]
    at = (rays[:, None] * steps + 36 / 2 - 0.2).round().long()
    near = F.max_pool2d(edge[None].float(), 3, 1, 1)[0] if dims == 2 else edge.float()
    if dims == 3:
        near = F.max_pool3d(edge[None, None].float(), 3, 1, 1)[0, 0]
    assert near[tuple(at.unbind(-1))].amax(dim=1).all()


def test_step_between_two_voxels_gives_one_voxel_of_full_weight(dims):
    config = SketchConfig()
    for axis in range(dims):
        image = torch.full((1, 1, *(2 * halo(config) + 10,) * dims), -1.0)
        image.narrow(axis + 2, halo(config) + 5, halo(config) + 5).fill_(1.0)
        drawn = sketch(image, config)
        assert (drawn > 0).sum(dim=axis + 2).eq(1).all()
        assert_close(drawn.amax(dim=axis + 2), torch.ones_like(drawn.amax(dim=axis + 2)))
        # Both voxels beside the step are equally steep: which one wins must not depend on the sign.
        assert_close(sketch(-image, config), drawn, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [0, 1, 4, 9])
def test_hysteresis_follows_a_weak_edge_for_so_many_voxels(dims, steps):
    config = SketchConfig(low=0.1, high=0.5, steps=steps)
    size, strong = 30, 12
    image = torch.zeros((size,) * dims)
    image[:, 15:] = 0.6  # a weak edge of 0.3 of the range along the first axis
    image[:strong, 15:] = 1.2
    image -= 0.6
    margin = halo(config)
    padded = F.pad(image[None, None], [margin] * 2 * dims, mode="replicate")
    drawn = sketch(padded, config)[0, 0]
    rows = drawn.flatten(1).amax(dim=1) > 0
    threshold_row = (drawn.flatten(1).amax(dim=1) >= 0.5).sum()
    assert rows.sum() == threshold_row + steps
    none = sketch(padded, SketchConfig(low=0.1, high=0.7, steps=steps))
    assert not none.any()


def test_thresholds_select_by_weight(dims):
    image = torch.from_numpy(texture(60, dims, 10))[None, None]
    everything = sketch(image, SketchConfig(low=0, high=0, steps=8))
    some = sketch(image, SketchConfig(low=0.08, high=0.08, steps=8))
    assert_close(some, torch.where(everything > 0.08, everything, 0.0), rtol=0, atol=0)
    assert 0 < (some > 0).sum() < (everything > 0).sum()


def test_self_similarity_looks_both_ways_along_each_axis(dims):
    config = SketchConfig(channels=("self_similarity",))
    image = torch.from_numpy(texture(2 * halo(config) + 16, dims, 11))[None, None]
    drawn = sketch(image, config)
    for axis in range(dims):
        mirrored = sketch(image.flip(axis + 2), config).flip(axis + 2)
        order = list(range(2 * dims))
        order[2 * axis], order[2 * axis + 1] = order[2 * axis + 1], order[2 * axis]
        assert_close(mirrored[:, order], drawn, rtol=0, atol=1e-6)
    up = drawn[:, 0::2].flatten(2)
    assert (up[:, 0] - up[:, 1]).abs().mean() > 0.05


def test_overlay_is_strict(dims):
    drawn = torch.rand((2, 3, *(8,) * dims), generator=torch.Generator().manual_seed(0))
    labels = torch.zeros((2, 1, *(8,) * dims), dtype=torch.int64)
    for label in (1, 2, 3, 4):
        labels[0, 0, label] = label
    before = drawn.clone()
    out = overlay(drawn, labels, (1, 2, 3, 4))
    assert_close(drawn, before, rtol=0, atol=0)
    for label, value in zip((1, 2, 3, 4), (63, 127, 191, 255), strict=True):
        assert_close(out[0, 0, label], torch.full_like(out[0, 0, label], value / 255))
        assert not out[0, 1:, label].any()
    assert_close(out[0, :, 5:], drawn[0, :, 5:], rtol=0, atol=0)
    assert_close(out[1], drawn[1], rtol=0, atol=0)
    # The order in ``values`` counts, not the label's number.
    assert overlay(drawn, labels, (4, 3, 2, 1))[0, 0, 4].max() == pytest.approx(63 / 255)
    with pytest.raises(InputError, match="label 4 is none of"):
        overlay(drawn, labels, (1, 2, 3))
    with pytest.raises(InputError, match="labels have shape"):
        overlay(drawn, labels[:1], (1, 2, 3, 4))


def test_reader_draws_labels_and_an_image_that_goes_on(dims):
    config = SketchConfig(steps=2)
    image = texture(24, dims, 12)
    labels = np.zeros(image.shape, dtype=">i2")
    labels[(slice(5, 9),) * dims] = 4
    big = image.astype(">f4")
    big.setflags(write=False)
    read = sketch_reader(
        lambda box: big[box.slices],
        image.shape,
        config,
        lambda box: labels[box.slices],
        values=(2, 4),
    )
    box = Box((2,) * dims, (10,) * dims)
    margin = [halo(config)] * 2 * dims
    plain = F.pad(torch.from_numpy(image)[None, None], margin, mode="replicate")
    expected = sketch(plain, config).numpy()[0]
    expected[0, labels == 4] = 1.0
    np.testing.assert_allclose(read(box), expected[(slice(None), *box.slices)], atol=1e-6)
    assert (expected[0] == 1.0).sum() == 4**dims


def test_bad_input_is_named():
    with pytest.raises(ValidationError, match="'outline' is none of"):
        SketchConfig(channels=("outline",))
    with pytest.raises(InputError, match="expected \\(batch, 1, "):
        sketch(torch.zeros(1, 2, 64, 64), SketchConfig())
    with pytest.raises(InputError, match="the halo alone takes 26"):
        sketch(torch.zeros(1, 1, 64, 26), SketchConfig())
    with pytest.raises(InputError, match="depends on dims"):
        channels(SketchConfig(channels=("edges", "self_similarity")))
    assert channels(SketchConfig(channels=("edges", "ridges"))) == 2
    assert [channels(SketchConfig(channels=ALL), dims) for dims in (2, 3)] == [6, 8]


def near(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the edge voxels of ``a`` with one of ``b`` at most one voxel away, rim left out."""
    from scipy import ndimage

    around = ndimage.binary_dilation(b, np.ones((3,) * b.ndim))
    inner = (slice(12, -12),) * a.ndim
    return around[inner][a[inner]].mean()


def edge_mask(image: np.ndarray, config: SketchConfig) -> np.ndarray:
    read = sketch_reader(lambda box: image[box.slices], image.shape, config)
    return read(Box.whole(image.shape))[0] > 0


def skimage_edges(image: np.ndarray, config: SketchConfig) -> np.ndarray:
    from skimage.feature import canny

    unit = 8 * full_step(config.sigma)  # its Sobel filter gives 8 times the derivative
    return canny(image, config.sigma, config.low * unit, config.high * unit, mode="nearest")


def test_edges_are_those_of_scikit_image():
    image = texture(200, 2, 14, smooth=4)
    config = SketchConfig(low=0.05, high=0.05)  # hysteresis, which we bound, plays no part
    ours, theirs = edge_mask(image, config), skimage_edges(image, config)
    assert 0.02 < theirs.mean() < 0.2
    assert near(ours, theirs) > 0.97
    assert near(theirs, ours) > 0.97


def test_edges_of_a_real_xray_are_those_of_scikit_image(shared_data):
    from skimage.io import imread

    image = imread(sorted((shared_data / "xray").glob("*.png"))[0])
    image = (image if image.ndim == 2 else image[..., 0]).astype(np.float32) / 127.5 - 1
    config = SketchConfig(low=0.03, high=0.06)  # measured: 0.956 and 0.919
    ours, theirs = edge_mask(image, config), skimage_edges(image, config)
    assert near(ours, theirs) > 0.93
    assert near(theirs, ours) > 0.89


def test_edges_of_a_real_brain_are_those_of_simpleitk(shared_data):
    import nibabel as nib
    import SimpleITK

    path = shared_data / "brain_ms" / "mni_patient26__T1_brain_N4_regtoMNI.nii.gz"
    values = np.asarray(nib.load(path).dataobj, dtype=np.float32)[40:140, 60:150, 60:120]
    values = np.maximum(values, 0)
    image = np.clip(values / np.percentile(values, 99.5), 0, 1) * 2 - 1
    config = SketchConfig()
    unit = full_step(config.sigma)
    theirs = SimpleITK.CannyEdgeDetection(
        SimpleITK.GetImageFromArray(image),
        lowerThreshold=config.low * unit,
        upperThreshold=config.high * unit,
        variance=[config.sigma**2] * 3,
        maximumError=[0.01] * 3,
    )
    theirs = SimpleITK.GetArrayFromImage(theirs) > 0
    ours = edge_mask(image, config)
    assert theirs.mean() > 0.02
    assert near(ours, theirs) > 0.98
    assert near(theirs, ours) > 0.96


@pytest.mark.gpu
def test_gpu_and_cpu_agree(dims):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    config = SketchConfig(channels=ALL, weight="local")
    image = torch.from_numpy(texture(2 * halo(config) + 40, dims, 13))[None, None]
    here, there = sketch(image, config), sketch(image.cuda(), config).cpu()
    assert ((here - there).abs() > 1e-4).float().mean() < 1e-3


def test_a_reader_in_fortran_order_gives_the_same_sketch(dims: int) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (40,) * dims).astype(np.float32)
    config = SketchConfig(channels=("edges", "self_similarity"))
    box = Box((14,) * dims, (9,) * dims)
    drawn = [
        sketch_reader(lambda b, image=image: image[b.slices], values.shape, config)(box)
        for image in (values, np.asfortranarray(values))
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])


@pytest.mark.parametrize("axis", [0, 1])
def test_the_sketch_of_a_mirrored_image_is_the_mirrored_sketch(dims: int, axis: int) -> None:
    config = SketchConfig(channels=("edges", "self_similarity"))
    image = torch.rand(1, 1, *[40] * dims, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = sketch(image.flip(2 + axis), config)
    torch.testing.assert_close(mirror(sketch(image, config), axis, config), expected)


def test_a_sketch_that_is_already_there_ends_or_goes_on(dims: int) -> None:
    shape, wide = (6,) * dims, np.random.default_rng(0).random((2, *(10,) * dims))
    asked: list[Box] = []

    def read(box: Box) -> np.ndarray:
        asked.append(box)
        return wide[(slice(None), *box.shifted((2,) * dims).slices)]

    box = Box((-4,) * dims, (9,) * dims)
    ends = DrawnSketch(read, shape)
    made = ends.draw(ends.load(box))
    inside = wide[(slice(None), *[slice(2, 7)] * dims)].astype(np.float32)
    np.testing.assert_array_equal(made[0], np.pad(inside, [(0, 0), *[(4, 0)] * dims]))
    goes_on = DrawnSketch(read, shape, rim=2)
    made = goes_on.draw(goes_on.load(box))
    inside = wide[(slice(None), *[slice(0, 7)] * dims)].astype(np.float32)
    padding = [(0, 0), *[(2, 0)] * dims]
    np.testing.assert_array_equal(made[0], np.pad(inside, padding, mode="edge"))
    # What lies beyond the rim is not asked for.
    assert asked == [Box((0,) * dims, (5,) * dims), Box((-2,) * dims, (7,) * dims)]


def test_an_image_that_must_not_be_written_to_is_left_alone(dims: int) -> None:
    values = texture(40, dims, 1)
    box = Box((14,) * dims, (9,) * dims)
    config = SketchConfig(steps=2)
    parts: list[tuple[np.ndarray, np.ndarray]] = []

    def read(box: Box) -> np.ndarray:
        part = np.ascontiguousarray(values[box.slices])
        parts.append((part, part.copy()))
        part.setflags(write=False)  # as of a memory map
        return part

    plain = sketch_reader(lambda b: values[b.slices], values.shape, config)(box)
    np.testing.assert_array_equal(sketch_reader(read, values.shape, config)(box), plain)
    for part, before in parts:
        np.testing.assert_array_equal(part, before)
