"""Zarr arrays whose metadata promise what is not stored."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from msgan.data.formats import chunks
from msgan.data.volume import Grid, open_labels, open_volume, write_volume
from msgan.types import InputError


def write(path, dims, array=None):
    array = np.arange(5**dims, dtype=np.int16).reshape((5,) * dims) if array is None else array
    grid = Grid.from_spacing(array.shape, (2.0,) * dims)
    write_volume(path, grid, lambda box: array[box.slices], dtype=array.dtype)
    return path


def changed(path, **fields):
    """Metadata of the array with other fields."""
    file = path / "0" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    return path


def grid_of(sides):
    return {"name": "regular", "configuration": {"chunk_shape": sides}}


@pytest.mark.parametrize("side", [1 << 31, 99999999999, 10**18])
def test_shapes_of_which_nothing_is_stored(side, dims, tmp_path):
    path = changed(write(tmp_path / "a.zarr", dims), shape=[side, *(5,) * (dims - 1)])
    for opener in (open_volume, open_labels):
        with pytest.raises(InputError, match=r"a\.zarr: .*promises \d+ chunks"):
            opener(path)


@pytest.mark.parametrize("side", [0, -1, 1 << 31, 10**18])
def test_chunks_that_cannot_be(side, dims, tmp_path):
    path = write(tmp_path / "a.zarr", dims)
    with pytest.raises(InputError, match=r"a\.zarr: "):
        open_volume(changed(path, chunk_grid=grid_of([side] * dims)))


def test_codecs_that_run_what_a_file_says(tmp_path):
    import zarr

    group = zarr.create_group(store=str(tmp_path / "a.zarr"), zarr_format=2)
    array = group.create_array("0", shape=(5, 5, 5), dtype="int16")
    array[...] = np.arange(125).reshape(5, 5, 5)
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1, 1, 1]}]
    sets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": sets}]
    with open_volume(tmp_path / "a.zarr") as volume:
        assert volume.grid.shape == (5, 5, 5)
    file = tmp_path / "a.zarr" / "0" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "filters": [{"id": "pickle"}]}))
    with pytest.raises(InputError, match="pickle"):
        open_volume(tmp_path / "a.zarr")


def test_maps_without_labels_store_nothing_and_are_read(dims, tmp_path, monkeypatch):
    path = write(tmp_path / "a.zarr", dims, np.zeros((200,) * dims, np.uint8))
    with open_labels(path) as labels:
        assert not labels.whole().any()
    # An image that is larger than what is always believed, by as much as is stored.
    monkeypatch.setattr(chunks, "CHUNKS", 0)
    monkeypatch.setattr(chunks, "BYTES", 0)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 0)
    with open_volume(write(tmp_path / "b.zarr", dims)) as volume:
        assert_array_equal(volume.whole().ravel(), np.arange(5**dims))
