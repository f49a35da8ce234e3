import io
import itertools
import os

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from msgan.data import pieces, raw
from msgan.types import Box, InputError


def some_boxes(shape, count=40, seed=0):
    """The whole image, single voxels, rows, planes, nothing at all, and boxes of any size."""
    rng = np.random.default_rng(seed)
    yield Box.whole(shape)
    yield Box(shape, (0,) * len(shape))
    for wide in itertools.product((False, True), repeat=len(shape)):
        size = tuple(n if w else 1 for n, w in zip(shape, wide, strict=True))
        yield Box(tuple((n - s) // 2 for n, s in zip(shape, size, strict=True)), size)
    for _ in range(count):
        size = tuple(int(rng.integers(1, n + 1)) for n in shape)
        start = tuple(int(rng.integers(0, n - s + 1)) for n, s in zip(shape, size, strict=True))
        yield Box(start, size)


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">f4", "f8"])
@pytest.mark.parametrize(("hull", "gap"), [(1 << 20, 1 << 14), (300, 40), (300, 0), (1, 0)])
def test_any_box_is_read_from_any_file(dtype, hull, gap, dims, tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "HULL_BYTES", hull)
    monkeypatch.setattr(raw, "GAP_BYTES", gap)
    for shape in ((11, 7, 9)[:dims], (1, 8, 5)[:dims], (8, 1, 5)[:dims], (6, 5, 1)[:dims]):
        array = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
        file = tmp_path / "a.raw"
        file.write_bytes(b"header!" + array.tobytes(order="F") + b"more")
        read = raw.raw_reader(file, np.dtype(dtype), shape, 7)
        for box in some_boxes(shape):
            part = read(box)
            assert_array_equal(part, array[box.slices])
            assert part.dtype == dtype


def test_little_is_read_beside_a_box(tmp_path, monkeypatch):
    """At most a megabyte at once, and gaps of more than 16 KiB are skipped."""
    shape = (20_000, 40, 6)
    file = tmp_path / "a.raw"
    with file.open("wb") as stream:
        stream.truncate(int(np.prod(shape)))
    asked = []

    class Noted(io.FileIO):
        def readinto(self, buffer):
            asked.append(len(buffer))
            return super().readinto(buffer)

    monkeypatch.setattr(raw, "FileIO", Noted)
    read = raw.raw_reader(file, np.dtype("u1"), shape)
    read(Box((0, 0, 0), (100, 40, 6)))  # rows are 20 kB apart
    assert asked == [100] * 240
    asked.clear()
    read(Box((0, 0, 0), (10_000, 40, 6)))  # of each pair of rows, half of one is left out
    assert asked == [39 * 20_000 + 10_000] * 6
    asked.clear()
    read(Box((0, 0, 1), (20_000, 40, 5)))  # nothing to leave out: into its place at once
    assert asked == [20_000 * 40 * 5]


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    file = tmp_path / "a.raw"
    file.write_bytes(bytes(100))
    read = raw.raw_reader(file, np.dtype("u1"), (10, 10))
    os.truncate(file, 55)
    assert read(Box((0, 0), (5, 6))).shape == (5, 6)
    with pytest.raises(InputError, match=r"a\.raw: truncated while it was read"):
        read(Box((0, 0), (6, 6)))


@pytest.mark.parametrize("dtype", ["u1", ">i2", "f4"])
@pytest.mark.parametrize("piece", [16, 100, 400, 8 << 20])
def test_written_voxels_are_in_their_places(dtype, piece, dims, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", piece)
    for shape in ((11, 7, 9)[:dims], (1, 8, 5)[:dims], (8, 1, 5)[:dims], (6, 5, 1)[:dims]):
        array = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
        with io.FileIO(tmp_path / "a.raw", "wb") as stream:
            stream.write(b"header!")
            raw.write_raw(stream, shape, np.dtype(dtype), lambda box, a=array: a[box.slices])
        assert (tmp_path / "a.raw").read_bytes() == b"header!" + array.tobytes(order="F")


def test_room_is_taken_before_the_first_voxel_is_asked_for(tmp_path):
    def read(box):
        status = (tmp_path / "a.raw").stat()
        assert status.st_size == 7 + 1000
        if hasattr(os, "posix_fallocate"):
            assert status.st_blocks > 0
        return np.ones(box.size, "u1")

    with io.FileIO(tmp_path / "a.raw", "wb") as stream:
        stream.write(b"header!")
        raw.write_raw(stream, (10, 10, 10), np.dtype("u1"), read)


@pytest.mark.parametrize("error", [AttributeError, OSError(95, "not supported")])
def test_systems_that_cannot_take_room(error, tmp_path, monkeypatch):
    def fails(*_):
        raise error

    monkeypatch.setattr(raw.os, "posix_fallocate", fails, raising=False)
    with io.FileIO(tmp_path / "a.raw", "wb") as stream:
        raw.write_raw(stream, (4, 5), np.dtype("u1"), lambda box: np.ones(box.size, "u1"))
    assert (tmp_path / "a.raw").read_bytes() == b"\1" * 20


def test_a_write_may_take_several_calls():
    written = []

    class Slow:
        def write(self, view):
            written.append(bytes(view[:3]))
            return len(written[-1])

    raw.put(Slow(), memoryview(b"abcdefgh"))
    assert written == [b"abc", b"def", b"gh"]
