"""MetaImage: what headers may say, against ITK as the other reader, and what is refused."""

import gzip
import tracemalloc
import zlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from msgan.data import pieces
from msgan.data.formats import encoded
from msgan.data.volume import open_labels, open_volume
from msgan.types import Box, InputError

SIZES = (4, 3, 5)


def voxels(dims=3):
    return (3 * np.arange(np.prod(SIZES[:dims]))).reshape(SIZES[:dims], order="F").astype("<i2")


def header(dims, **changes):
    stated = {
        **{"ObjectType": "Image", "NDims": dims, "BinaryData": True},
        **{"DimSize": " ".join(map(str, SIZES[:dims])), "ElementType": "MET_SHORT"},
        "ElementDataFile": "LOCAL",
    }
    last = str({**stated, **changes}["ElementDataFile"])
    stated = {k: v for k, v in {**stated, **changes}.items() if v is not None}
    stated.pop("ElementDataFile", None)
    return "".join(f"{k} = {v}\n" for k, v in stated.items()) + f"ElementDataFile = {last}\n"


def write(path, dims=3, data=None, **changes):
    data = voxels(dims).tobytes(order="F") if data is None else data
    path.write_bytes(header(dims, **changes).encode() + data)
    return path


def refused(path, rule):
    with pytest.raises(InputError) as error:
        open_volume(path)
    assert str(error.value).startswith(f"{path}: ")
    assert rule in str(error.value), str(error.value)
    assert str(error.value).isprintable()


def same_as_itk(path):
    """The image of ``path``, whose voxels and geometry are those that ITK reads."""
    import SimpleITK as sitk

    image = sitk.ReadImage(path)
    d = 2 if image.GetDimension() == 2 else 3
    array = sitk.GetArrayFromImage(image)
    array = array.reshape(array.shape[-d:])
    index = (1, 2, 3)[:d]
    with open_volume(path) as volume:
        read = volume.whole()
        assert_array_equal(read, array.T if d == 3 else array)
        box = Box((1, 0, 2)[:d], (2, 3, 1)[:d])
        assert_array_equal(volume.read(box), read[box.slices])
        longer = index + (0,) * (image.GetDimension() - d)
        point = np.array(image.TransformIndexToPhysicalPoint(longer)[:d])
        point = point * (-1, -1, 1) if d == 3 else point[::-1]
        place = volume.grid.affine @ (*(index if d == 3 else index[::-1]), 1)
        assert_allclose(place[:d], point, atol=1e-9)
        return volume.grid, read


TURN = {2: "0 1 -1 0", 3: "0 1 0 0 0 1 1 0 0"}


@pytest.mark.parametrize("name", ["Offset", "Position", "Origin"])
@pytest.mark.parametrize("turn", ["TransformMatrix", "Rotation", "Orientation"])
@pytest.mark.parametrize("size", ["ElementSpacing", "ElementSize"])
def test_synonyms_mean_what_they_mean_to_itk(name, turn, size, dims, tmp_path):
    words = {name: "10 -20 30", size: "1.5 2e0 .5"}
    changes = {key: " ".join(value.split()[:dims]) for key, value in words.items()}
    same_as_itk(write(tmp_path / "a.mha", dims, **changes, **{turn: TURN[dims]}))


@pytest.mark.parametrize(
    "changes",
    [
        {"ElementSpacing": "2 2 2", "ElementSize": "1 1 1"},  # the distance counts, not the size
        {"BinaryData": None},
        {"BinaryDataByteOrderMSB": "False", "ElementByteOrderMSB": "False"},
        {"ElementByteOrderMSB": "True"},
        {"HeaderSize": "-1"},
        {"HeaderSize": "0", "Comment": "50 % of = and : \n# of no account\n\nName = é"},
        {"NDims": "4", "DimSize": "4 3 5 1", "TransformMatrix": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"},
        {"DimSize": "4.0 3 5", "Offset": "1 2 3", "Origin": "1.0 2 3"},
        {"CenterOfRotation": "5 5 5", "AnatomicalOrientation": "RAI", "ElementMin": "7"},
        {"TransformMatrix": "2 0 0 0 1 0 0 0 1", "modality": "MR", "0008|0060": "CT"},
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_quirks_are_read_as_itk_reads_them(changes, ends, tmp_path):
    path = write(tmp_path / "a.mha", **changes)
    text, mark, data = path.read_bytes().partition(b"LOCAL\n")
    path.write_bytes((text + mark).replace(b"\n", ends.encode()) + data)
    same_as_itk(path)


@pytest.mark.parametrize("kind", ["CHAR", "UCHAR", "LONG", "ULONG", "LONG_LONG", "FLOAT", "DOUBLE"])
def test_types_are_as_wide_as_they_are_to_itk(kind, tmp_path):
    width = {"CHAR": "i1", "LONG": "i4", "FLOAT": "f4", "DOUBLE": "f8", "LONG_LONG": "i8"}
    dtype = width.get(kind) or "u" + width[kind.removeprefix("U")][1]
    data = (voxels() % 100).astype(dtype).tobytes(order="F")
    same_as_itk(write(tmp_path / "a.mha", data=data, ElementType=f"MET_{kind}"))


def test_voxels_in_several_files(dims, tmp_path):
    for k in range(SIZES[dims - 1]):
        (tmp_path / f"p{k:02}.raw").write_bytes(voxels(dims)[..., k].tobytes(order="F"))
    names = "\n".join(f"p{k:02}.raw" for k in range(SIZES[dims - 1]))
    last = SIZES[dims - 1] - 1
    for text in (f"LIST\n{names}", f"LIST {dims - 1}D\n{names}", f"p%02d.raw 0 {last} 1"):
        path = write(tmp_path / "a.mhd", dims, b"", ElementDataFile=text)
        same_as_itk(path)
        with open_volume(path) as volume:
            array = voxels(dims)
            assert_array_equal(volume.whole(), array if dims == 3 else array.T)
    refused(write(tmp_path / "a.mhd", dims, b"", ElementDataFile="p%02d.raw 0 1 1"), "2 data files")
    refused(write(tmp_path / "a.mhd", dims, b"", ElementDataFile="p%02d.raw 0 9"), "data files")


@pytest.mark.parametrize("compress", [zlib.compress, gzip.compress])
def test_compressed_voxels_need_no_size(compress, dims, tmp_path):
    """ITK needs CompressedDataSize, and gives what lay in memory without it."""
    array = voxels(dims)
    data = compress(array.tobytes(order="F"))
    for more in ({}, {"CompressedDataSize": len(data)}, {"CompressedDataSize": 5}):
        path = write(tmp_path / "a.mha", dims, data, CompressedData="True", **more)
        with open_volume(path) as volume:
            assert_array_equal(volume.whole(), array if dims == 3 else array.T)
    for bad in (data[:-9], data[:20], data[:9] + bytes(9) + data[18:]):
        refused(write(path, dims, bad, CompressedData="True"), "truncated")


@pytest.mark.parametrize("compress", [False, True])
def test_intensity_functions_are_applied(compress, dims, tmp_path):
    """As the format's description says: intensity = stored value x slope + offset."""
    array = voxels(dims)
    data = array.tobytes(order="F")
    path = write(
        tmp_path / "a.mha",
        dims,
        zlib.compress(data) if compress else data,
        CompressedData=compress,
        ElementToIntensityFunctionSlope="0.5",
        ElementToIntensityFunctionOffset="-1024",
        Modality="MET_MOD_CT",
    )
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), (array if dims == 3 else array.T) * 0.5 - 1024)
        assert volume.extremes == (-1024, array.max() / 2 - 1024)
        assert volume.unit == "HU"
    only_slope = write(tmp_path / "a.mha", dims, ElementToIntensityFunctionSlope="2")
    with open_labels(only_slope) as labels:
        assert_array_equal(labels.whole(), 2 * (array if dims == 3 else array.T))
        assert labels.unit == "a.u."
    refused(write(path, dims, ElementToIntensityFunctionSlope="0"), "every voxel would be the same")
    refused(write(path, dims, ElementToIntensityFunctionOffset="a"), "expected a number")


@pytest.mark.parametrize(("unit", "right"), [("mm", 1), ("um", 0), ("cm", 0), ("?", 1), ("", 1)])
def test_lengths_are_in_mm(unit, right, dims, tmp_path):
    """ITK passes the unit over: voxels in another would lie elsewhere for it."""
    path = write(tmp_path / "a.mha", dims, DistanceUnits=unit)
    if right:
        same_as_itk(path)
    else:
        refused(path, f"DistanceUnits '{unit}'")
    refused(write(path, dims, DistanceUnits="furlong"), "'furlong'")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"NDims": "-1"}, "NDims '-1': expected a whole number"),
        ({"NDims": "99999999999"}, "NDims '99999999999': expected a whole number"),
        ({"NDims": "9" * 5000}, "expected a number"),
        ({"NDims": "%s%n"}, "NDims '%s%n': expected a number"),
        ({"NDims": None}, "does not state NDims"),
        ({"NDims": "5", "DimSize": "4 3 5 1 2"}, "5D image"),
        ({"NDims": "1", "DimSize": "60"}, "1D image"),
        ({"DimSize": "4 3"}, "DimSize '4 3': expected 3 numbers"),
        ({"DimSize": "4 3 5 2"}, "expected 3 numbers"),
        ({"DimSize": "4 3 0"}, "expected a whole number"),
        ({"DimSize": "4 3 4.5"}, "expected a whole number"),
        ({"DimSize": "1000000 1000000 1000000"}, "truncated"),
        ({"DimSize": "4 3 \u0665"}, "expected a number"),
        ({"ElementType": "MET_%s"}, "ElementType 'MET_%s': not known"),
        ({"ElementType": "MET_SHORT_ARRAY"}, "not known"),
        ({"ElementNumberOfChannels": "3"}, "3 values for each voxel"),
        ({"ElementSpacing": "1,5 1 1"}, "expected a number"),
        ({"ElementSpacing": "1 1 nan"}, "expected a number"),
        ({"ElementSpacing": "1 1 1e999"}, "expected a number"),
        ({"ElementSpacing": "0 1 1"}, "zero along an axis"),
        ({"Offset": "1 2 3", "Origin": "3 2 1"}, "contradict each other"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 1", "Rotation": TURN[3]}, "contradict each other"),
        ({"ElementByteOrderMSB": "True", "BinaryDataByteOrderMSB": "0"}, "contradict each other"),
        ({"ElementSpacing": "1 1 1\nElementSpacing = 2 2 2"}, "stated twice: '1 1 1' and '2 2 2'"),
        ({"elementspacing": "1 1 1"}, "is written ElementSpacing"),
        ({"BinaryData": "perhaps"}, "expected True or False"),
        ({"BinaryData": "False"}, "damaged or truncated text data"),
        ({"HeaderSize": "-2"}, "HeaderSize"),
        ({"HeaderSize": "99999999999"}, "truncated"),
        ({"CompressedData": "True", "HeaderSize": "-1"}, "CompressedData"),
    ],
)
def test_headers_that_lie(changes, rule, tmp_path):
    refused(write(tmp_path / "a.mha", **changes), rule)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../b.raw",
            "x/../../b.raw",
            "/etc/hostname",
            "C:\\b.raw",
            "..\\b.raw",
            "%s",
            "%s%n 0 4 1",
        ),
        *("%99999999d.raw 0 4 1", "a%d%d.raw 0 4 1", "a%d.raw 0 999999999 1", "a%d.raw 4 0 1", "."),
        *("LIST\n" + "../b.raw\n" * 5, "link.raw", "missing.raw", "\x00"),
    ],
)
def test_only_files_in_the_own_folder_are_read(name, tmp_path):
    (tmp_path / "b.raw").write_bytes(voxels().tobytes())
    home = tmp_path / "home"
    home.mkdir()
    (home / "link.raw").symlink_to(tmp_path / "b.raw")
    path = write(home / "a.mhd", data=b"", ElementDataFile=name)
    refused(path, "data file")


def test_a_header_linked_with_its_voxels_is_read(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "case").mkdir()
    write(tmp_path / "store" / "a.mhd", data=b"", ElementDataFile="a.raw")
    (tmp_path / "store" / "a.raw").write_bytes(voxels().tobytes(order="F"))
    for name in ("a.mhd", "a.raw"):
        (tmp_path / "case" / name).symlink_to(tmp_path / "store" / name)
    with open_volume(tmp_path / "case" / "a.mhd") as volume:
        assert_array_equal(volume.whole(), voxels())


def test_voxels_as_text(dims, tmp_path):
    array = voxels(dims)
    text = " \n\t".join(map(str, array.ravel(order="F"))).encode()
    with open_volume(write(tmp_path / "a.mha", dims, text, BinaryData="False")) as volume:
        assert_array_equal(volume.whole(), array if dims == 3 else array.T)
    for bad in (text + b"9" * 70, b"%s " + text, b"40000 " + text, b"1.5 " + text, text[:20]):
        refused(write(tmp_path / "a.mha", dims, bad, BinaryData="False"), "truncated")


def test_memory_does_not_grow_with_a_compressed_image(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1 << 19)
    monkeypatch.setattr(encoded, "PART", 1 << 17)
    shape = (128, 128, 256)
    data = zlib.compress(np.arange(np.prod(shape), dtype="<i2").tobytes(), 1)  # of 8 MiB
    size = {"DimSize": " ".join(map(str, shape)), "CompressedData": "True"}
    write(tmp_path / "small.mha", data=zlib.compress(voxels().tobytes()), CompressedData="True")
    write(tmp_path / "a.mha", data=data, **size)
    open_volume(tmp_path / "small.mha").close()
    tracemalloc.start()
    with open_volume(tmp_path / "a.mha") as volume:
        assert volume.read(Box((5, 6, 7), (20, 20, 20))).shape == (20, 20, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
