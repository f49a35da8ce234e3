"""Pictures: TIFF of every layout, and what a header may promise."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from msgan.data.volume import open_volume
from msgan.types import Box, InputError

tifffile = pytest.importorskip("tifffile")


def pixels(dtype="u2", shape=(33, 20)):
    return (11 * np.arange(np.prod(shape))).reshape(shape).astype(dtype)


def refused(path, rule):
    with pytest.raises(InputError) as error:
        open_volume(path)
    assert str(error.value).startswith(f"{path}: ")
    assert rule in str(error.value), str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "layout",
    [
        *({}, {"bigtiff": True}, {"rowsperstrip": 4}, {"tile": (16, 16)}),
        *({"compression": "zlib"}, {"compression": "zlib", "tile": (16, 16), "bigtiff": True}),
        {"compression": "zlib", "rowsperstrip": 5},
    ],
)
def test_layouts_of_tiff(dtype, order, layout, tmp_path):
    array, path = pixels(dtype), tmp_path / "a.tif"
    tifffile.imwrite(path, array, byteorder=order, photometric="minisblack", **layout)
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), array.astype(np.float32))
        box = Box((3, 5), (20, 7))
        assert_array_equal(volume.read(box), array[box.slices].astype(np.float32))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_bits_and_white_as_zero(compression, tmp_path):
    path = tmp_path / "a.tif"
    for dtype, top in (("u1", 255), ("u2", 65535), ("?", 1)):
        array = pixels("u2") % 7 == 0 if dtype == "?" else pixels(dtype)
        tifffile.imwrite(path, array, photometric="miniswhite", compression=compression)
        with open_volume(path) as volume:
            assert_array_equal(volume.whole(), top - array.astype(np.float32))


def test_plain_tiff_is_read_where_it_is(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((2048, 2048), "u2"), photometric="minisblack")
    tracemalloc.start()
    with open_volume(path, check=False) as volume:
        assert volume.read(Box((2000, 5), (48, 3))).shape == (48, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20  # of 8
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "truncated")


def _words(value, short):
    return (min(value, 65535), 0) if short else (value,)


def changed(path, tag, value):
    """``path`` with another number in a field of its only page."""
    with tifffile.TiffFile(path) as file:
        field = file.pages[0].tags[tag]
        place, short = field.valueoffset, field.dtype == 3
    data = bytearray(path.read_bytes())
    data[place : place + 4] = struct.pack("<HH" if short else "<I", *_words(value, short))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_tiff_that_promises_more_than_it_holds(compression, tile, tmp_path):
    path = tmp_path / "a.tif"
    for tag in ("ImageLength", "ImageWidth"):
        for value in (1 << 31, 200_000, 0):
            options = {"compression": compression, "tile": tile, "dtype": "u2"}
            tifffile.imwrite(path, pixels(), photometric="minisblack", **options)
            refused(changed(path, tag, value), "")


def test_strips_that_inflate_beyond_the_picture(tmp_path):
    path = tmp_path / "a.tif"
    bomb = zlib.compress(bytes(1 << 28), 9)
    tifffile.imwrite(path, pixels(), photometric="minisblack", compression="zlib")
    offset = path.stat().st_size
    path.write_bytes(path.read_bytes() + bomb)
    changed(path, "StripOffsets", offset)
    changed(path, "StripByteCounts", len(bomb))
    tracemalloc.start()
    refused(path, "strips or tiles hold more than the picture")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_pages_palettes_and_unknown_compression(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([pixels()] * 3), photometric="minisblack")
    refused(path, "TIFF of 3 pages: expected one")
    colours = np.zeros((3, 256), "u2")
    tifffile.imwrite(path, pixels("u1"), photometric="palette", colormap=colours)
    refused(path, "TIFF with a palette")
    tifffile.imwrite(path, pixels(), photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags["Compression"].valueoffset
    for code in (34712, 5, 60000):
        data = bytearray(path.read_bytes())
        data[place : place + 2] = struct.pack("<H", code)
        (tmp_path / "b.tif").write_bytes(data)
        refused(tmp_path / "b.tif", "")


def png(path, columns, rows, depth=8, colour=0, data=b""):
    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    head = struct.pack(">II5B", columns, rows, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


@pytest.mark.parametrize(("depth", "colour"), [(8, 0), (16, 0), (1, 0), (8, 2), (8, 3), (8, 6)])
def test_png_that_promises_more_than_it_holds(depth, colour, tmp_path):
    data = zlib.compress(bytes(1 << 16))
    for columns, rows in ((100_000, 100_000), ((1 << 31) - 1, 2), (3, 1 << 30)):
        refused(png(tmp_path / "a.png", columns, rows, depth, colour, data), "")
    many = bytes(20 << 20)  # a file so large that it could hold the pixels
    refused(png(tmp_path / "a.png", 60_000, 60_000, depth, colour, many), "are decoded")
    refused(png(tmp_path / "a.png", 0, 5, depth, colour, data), "")


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_colours_of_sixteen_bits_are_refused_and_not_cut_to_eight(colour, tmp_path):
    data = zlib.compress(bytes(1 << 10))
    refused(png(tmp_path / "a.png", 3, 2, 16, colour, data), "16-bit colour PNG: expected a gray")


@pytest.mark.parametrize(("clear", "loads"), [(7, True), (20, False)])
def test_a_gray_value_that_stands_for_transparent_must_not_occur(clear, loads, tmp_path):
    from PIL import Image

    array = np.arange(10, 30, dtype="u1").reshape(4, 5)
    Image.fromarray(array).save(tmp_path / "a.png", transparency=clear)
    if not loads:
        refused(tmp_path / "a.png", "picture with transparent pixels: expected opaque gray")
        return
    with open_volume(tmp_path / "a.png") as volume:
        assert_array_equal(volume.whole(), array)


def test_pictures_of_five_channels_or_of_complex_numbers_are_refused(tmp_path):
    path, array = tmp_path / "a.tif", pixels("u1", (6, 7))
    gray = {"photometric": "minisblack", "compression": "zlib"}
    five = np.stack([array] * 5, axis=-1)
    tifffile.imwrite(path, five, planarconfig="contig", extrasamples=[0] * 4, **gray)
    refused(path, "picture of shape (6, 7, 5): expected 2 axes")
    tifffile.imwrite(path, array + 1j * array, **gray)
    refused(path, "pixels of type complex128: expected real numbers")


@pytest.mark.parametrize("keep", [0.99, 0.7, 0.3, 0.05])
def test_truncated_pictures(keep, tmp_path):
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (60, 50)).astype("u1")
    Image.fromarray(noise).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", noise, photometric="minisblack", compression="zlib")
    tifffile.imwrite(tmp_path / "b.tif", noise, photometric="minisblack")
    for name in ("a.png", "a.tif", "b.tif"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: int(keep * len(data))])
        refused(tmp_path / name, "")
