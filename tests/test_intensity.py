import json

import numpy as np
import pytest

from msgan.data.histogram import ends, keys
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


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("outlier", [1e9, 1e12, -1e9, -1e12])
@pytest.mark.parametrize("count", [1, 5])
def test_outliers_of_any_size_do_not_move_a_percentile(dims, kind, outlier, count):
    rng = np.random.default_rng(0)
    clean = rng.gamma(3, 100, (60, 50) if dims == 2 else (14, 15, 16)).astype(kind) + 1
    image = clean.copy()
    image.flat[rng.choice(image.size, count, replace=False)] = outlier
    neighbours = np.sort(clean.ravel())[int(0.985 * clean.size) :]
    assert neighbours[0] - 1 <= percentile(image).high <= neighbours[-count - 1] + 1
    assert percentile(image, high=50).high == pytest.approx(np.median(clean), abs=2)


@pytest.mark.parametrize("offset", [0, -1e4, 1e5, 1e9])
def test_a_percentile_is_exact_whatever_the_offset(offset):
    image = (np.random.default_rng(0).normal(0, 100, (60, 50)) + offset).astype(np.float32)
    result = percentile(image, low=None, threshold=-1e30)
    exact = np.percentile(image.astype(float), 99.5, method="inverted_cdf")
    assert result.high == pytest.approx(exact, rel=1e-6)


def test_a_percentile_does_not_depend_on_the_pieces(dims, monkeypatch):
    image = np.random.default_rng(0).normal(0, 1e3, (11,) * dims).astype(np.float32)
    image.flat[7] = 1e12
    whole = percentile(image)
    for side in (1, 3, 5):
        monkeypatch.setattr("msgan.data.foreground.BLOCK_VOXELS", side**dims)
        assert percentile(image) == whole


def test_bins_ascend_with_their_values():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 4000) * 10.0 ** rng.integers(-40, 39, 4000)
    values = np.sort(np.concatenate([values, [0.0, -0.0, 3e38, -3e38]]).astype(np.float32))
    found = keys(values)
    assert (np.diff(found) >= 0).all()
    for value, key in zip(values[::50], found[::50], strict=True):
        low, high = ends(int(key))
        assert low <= value <= high


def test_values_at_the_end_of_float32_are_shown():
    image = np.array([[0.0, 1.0], [3e38, -3e38]], dtype=np.float32)
    np.testing.assert_array_equal(IntensityMap.window(0, 1).to_unit(image), [[-1, 1], [1, -1]])
    wide = IntensityMap.window(-3e38, 3e38).to_unit(image)
    assert np.isfinite(wide).all()
