import json

import numpy as np
import pytest

from msgan.data.intensity import IntensityMap
from msgan.types import Box, InputError


def percentile(image: np.ndarray, **options) -> IntensityMap:
    return IntensityMap.percentile(lambda box: image[box.slices], image.shape, **options)


def test_window_maps_its_ends_to_minus_one_and_one_and_clips():
    hu = IntensityMap.hounsfield()
    values = hu.to_unit(np.array([-3000, -1024, 1023.5, 3071, 5000]))
    np.testing.assert_allclose(values, [-1, -1, 0, 1, 1], atol=1e-6)
    assert values.dtype == np.float32
    assert hu.unit == "HU"
    np.testing.assert_allclose(IntensityMap.lung().to_unit([-1350, -600, 150]), [-1, 0, 1])


def test_inverse_returns_source_values(dims):
    image = np.random.default_rng(0).uniform(-1024, 3071, (7,) * dims).astype(np.float32)
    hu = IntensityMap.hounsfield()
    np.testing.assert_allclose(hu.from_unit(hu.to_unit(image)), image, atol=1e-3)
    assert hu.from_unit(hu.to_unit(image)).dtype == np.float32


def test_inverse_is_linear_beyond_the_range():
    window = IntensityMap.window(10, 20, "ms")
    np.testing.assert_allclose(window.from_unit(np.array([-2.0, 2.0])), [5, 25])


@pytest.mark.parametrize("high", [50, 99, 99.5, 100])
def test_percentile_is_that_of_the_foreground(dims, high, monkeypatch):
    monkeypatch.setattr("msgan.data.foreground.BLOCK_VOXELS", 7**dims)
    rng = np.random.default_rng(dims)
    image = rng.gamma(3, 100, (60, 50) if dims == 2 else (17, 13, 15)).astype(np.float32)
    image[:10] = 0
    image[10, 0] = -30
    found = percentile(image, high=high)
    exact = np.percentile(image[image > 0], high)
    neighbours = np.sort(image[image > 0])
    gap = np.diff(neighbours)[np.searchsorted(neighbours, exact) - 2 :][:3].max()
    assert found.low == 0
    assert abs(found.high - exact) <= image.max() / 65536 + gap


def test_background_and_what_interpolation_leaves_around_it_is_minus_one():
    image = np.array([[-43.0, 0.0, 1.0], [50.0, 100.0, np.nan]], dtype=np.float32)
    values = percentile(image, high=100).to_unit(image)
    np.testing.assert_allclose(values, [[-1, -1, -0.98], [0, 1, -1]], atol=1e-5)


def test_integers_give_exact_percentiles():
    image = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(32, 32)
    assert abs(percentile(image, high=50).high - 128) < 1
    assert percentile(image, high=100).high == 255


def test_low_may_be_the_minimum_of_the_foreground():
    image = np.linspace(-5, 100, 1000).reshape(20, 50)
    assert percentile(image, low=None, threshold=10).low == image[image > 10].min()
    assert percentile(image, low=-3.0, threshold=10).low == -3


def test_not_finite_voxels_do_not_count():
    image = np.random.default_rng(0).uniform(1, 2, (20, 20)).astype(np.float32)
    clean = percentile(image[2:])
    image[:2] = np.inf
    image[0, :5] = np.nan
    assert percentile(image) == clean


def test_reads_blocks_of_bounded_size(dims, monkeypatch):
    monkeypatch.setattr("msgan.data.foreground.BLOCK_VOXELS", 4**dims)
    image = np.random.default_rng(0).uniform(size=(11,) * dims)
    read = []

    def block(box: Box) -> np.ndarray:
        read.append(box.voxels)
        return image[box.slices]

    IntensityMap.percentile(block, image.shape)
    assert max(read) == 4**dims
    assert sum(read) == 2 * image.size  # two passes


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (np.nan, 1), (0, np.inf)])
def test_degenerate_ranges_are_refused(low, high):
    with pytest.raises(InputError, match="low must be below high"):
        IntensityMap.window(low, high)


def test_images_without_a_range_are_refused():
    flat = np.full((5, 5), 3.0)
    with pytest.raises(InputError, match="no voxel is above the foreground threshold 3"):
        percentile(flat, threshold=3)
    with pytest.raises(InputError, match="range 3 to 3: low must be below high"):
        percentile(flat, low=None)
    with pytest.raises(InputError, match="percentile 101 is not"):
        percentile(flat, high=101)
    assert percentile(flat).high == 3


def test_dictionary_is_json_and_restores_the_map():
    lung = IntensityMap.lung()
    assert IntensityMap.from_dict(json.loads(json.dumps(lung.to_dict()))) == lung
