import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.testing import assert_close

from msgan import pyramid
from msgan.pyramid import Store, build, enlarge, halve, halve_labels, shapes, upsample
from msgan.types import Box


def ramp(shape, start=0.0, step=1.0):
    """A plane over voxel centres: ``start`` + ``step`` * (i + 2 j + 3 k)."""
    axes = np.meshgrid(*[start + step * np.arange(n) for n in shape], indexing="ij")
    return sum((k + 1) * a for k, a in enumerate(axes)).astype(np.float32)


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def block_means(image, dims):
    """The definition, voxel by voxel."""
    size = tuple(n // 2 for n in image.shape[image.ndim - dims :])
    out = np.zeros((*image.shape[: image.ndim - dims], *size))
    for k in np.ndindex(*size):
        block = (..., *[slice(2 * a, 2 * a + 2) for a in k])
        out[(..., *k)] = image[block].mean(axis=tuple(range(-dims, 0)))
    return out


def test_halving_is_the_mean_of_blocks(dims):
    image = noise((2, 3, *(8, 6, 10)[:dims]))
    expected = block_means(image, dims)
    np.testing.assert_allclose(halve(image, dims), expected, atol=1e-6)
    assert_close(halve(torch.from_numpy(image), dims).double(), torch.from_numpy(expected))


def test_halving_keeps_voxel_centres_where_they_are(dims):
    shape = (8, 6, 10)[:dims]
    # Coarse voxel k covers 2k and 2k + 1: its centre is at 2k + 0.5.
    coarse = ramp(tuple(n // 2 for n in shape), start=0.5, step=2.0)
    np.testing.assert_array_equal(halve(ramp(shape), dims), coarse)


def test_labels_keep_the_largest_of_a_block(dims):
    labels = np.zeros((8,) * dims, np.uint8)
    labels[(5,) * dims] = 4
    labels[(4,) * dims] = 2
    small = halve_labels(labels)
    assert small.dtype == np.uint8
    assert small[(2,) * dims] == 4
    assert small.sum() == 4


def test_upsampling_reproduces_constants_and_ramps(dims):
    shape = (7, 5, 6)[:dims]
    fine = tuple(2 * n - 4 for n in shape)
    constant = upsample(torch.full((1, 2, *shape), 0.3), dims)
    assert_close(constant, torch.full((1, 2, *fine), 0.3))
    # Fine voxel j has its centre at coarse (j + 2) / 2 - 1 / 4: the rim of one voxel is gone.
    coarse = torch.from_numpy(ramp(shape))
    assert_close(upsample(coarse, dims), torch.from_numpy(ramp(fine, 0.75, 0.5)))


def test_upsampling_is_linear_interpolation(dims):
    shape = (7, 5, 6)[:dims]
    image = noise(shape)
    places = np.meshgrid(*[0.75 + 0.5 * np.arange(2 * n - 4) for n in shape], indexing="ij")
    expected = map_coordinates(image.astype(float), places, order=1)
    np.testing.assert_allclose(upsample(torch.from_numpy(image), dims), expected, atol=1e-6)


def test_shapes_double_from_scale_to_scale():
    assert shapes((16, 24, 40), 2) == [(4, 6, 10), (8, 12, 20), (16, 24, 40)]
    with pytest.raises(ValueError, match=r"\(16, 20\) is not a multiple of 2\^3"):
        shapes((16, 20), 3)


def test_stores_give_back_what_was_written(tmp_path, dims):
    shape = (70, 66, 65)[:dims]
    image = noise(shape)
    store = Store.create(tmp_path / "a.zarr", shape)
    assert store.shape == shape
    assert not store.read(Box.whole(shape)).any()
    for box in Box.whole(shape).tiles((31, 64, 20)[:dims]):
        store.write(box, image[box.slices])
    part = Box((3,) * dims, (60,) * dims)
    np.testing.assert_array_equal(store.read(part), image[part.slices])
    assert store.read(part).dtype == np.float32
    again = Store.create(tmp_path / "a.zarr", shape)
    assert not again.read(part).any()


def test_scales_built_tile_by_tile_are_those_of_the_whole(tmp_path, dims, monkeypatch):
    monkeypatch.setitem(pyramid.CHUNK, dims, 5)
    shape = (16, 24, 8)[:dims]
    image = noise(shape)
    asked = []

    def read(box):
        asked.append(box)
        return image[box.slices]

    readers = build(read, shape, 2, tmp_path)
    voxels = sum(box.voxels for box in asked)
    assert voxels == image.size  # s_n is read once
    assert max(n for box in asked for n in box.size) <= 10
    expected = [image]
    for _ in range(2):
        expected.insert(0, halve(expected[0], dims))
    for i, (reader, whole) in enumerate(zip(readers, expected, strict=True)):
        for size in (3, 100):
            for box in Box.whole(shapes(shape, 2)[i]).tiles((size,) * dims):
                np.testing.assert_allclose(reader(box), whole[box.slices], atol=1e-6)


def test_label_scales(tmp_path, dims):
    shape = (16, 8, 8)[:dims]
    labels = np.zeros(shape, np.uint8)
    labels[(9,) + (3,) * (dims - 1)] = 200
    readers = build(lambda box: labels[box.slices], shape, 2, tmp_path, labels=True)
    for i, reader in enumerate(readers):
        values = reader(Box.whole(shapes(shape, 2)[i]))
        assert values.dtype == np.uint8
        assert np.argwhere(values == 200).tolist() == [[9 >> (2 - i), *[3 >> (2 - i)] * (dims - 1)]]


def test_enlarged_images_do_not_depend_on_the_tile(dims):
    shape = (5, 4, 6)[:dims]
    fine = tuple(2 * n for n in shape)
    image = noise(shape)
    read = enlarge(lambda box: image[box.slices], shape)
    whole = read(Box.whole(fine))
    assert whole.shape == fine
    # Inside, linear interpolation; at the border, towards the background.
    padded = torch.from_numpy(np.pad(image, 1, constant_values=-1.0))
    np.testing.assert_allclose(whole, upsample(padded, dims), atol=1e-6)
    for size in (3, 5):
        for box in Box.whole(fine).tiles((size,) * dims):
            np.testing.assert_allclose(read(box), whole[box.slices], atol=1e-6)
