"""NRRD: what headers may say, against ITK as the other reader, and what is refused."""

import bz2
import gzip

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_metaimage import SIZES, refused, same_as_itk, voxels

from msgan.data.formats import encoded as encoded_voxels
from msgan.data.volume import open_volume

PLACE = {
    2: {"space dimension": 2, "space directions": "(1.5,0) (0.5,2)", "space origin": "(10,-20)"},
    3: {
        "space": "left-posterior-superior",
        "space directions": "(1.5,0,0) (0.5,2,0) (0,0,-3)",
        "space origin": "(10,-20,30)",
    },
}


def write(path, dims=3, data=None, end="\n", **changes):
    stated = {"type": "short", "dimension": dims, "sizes": " ".join(map(str, SIZES[:dims]))}
    stated.update({"endian": "little", "encoding": "raw"})
    stated.update({key.replace("_", " "): value for key, value in changes.items()})
    lines = ["NRRD0004", *(f"{key}: {value}" for key, value in stated.items() if value is not None)]
    data = voxels(dims).tobytes(order="F") if data is None else data
    path.write_bytes((end.join(lines) + 2 * end).encode() + data)
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_directions_are_those_of_itk(end, dims, tmp_path):
    same_as_itk(write(tmp_path / "a.nrrd", dims, end=end, **PLACE[dims]))


@pytest.mark.parametrize(
    "space",
    [
        *("left-posterior-superior", "LPS", "right-anterior-superior", "Ras", "LAS"),
        *("left-anterior-superior", "scanner-xyz", "3D-right-handed", "3D-left-handed"),
    ],
)
def test_spaces_are_those_of_itk(space, tmp_path):
    same_as_itk(write(tmp_path / "a.nrrd", **{**PLACE[3], "space": space}))


@pytest.mark.parametrize(
    "changes",
    [
        {"spacings": "1 2 3"},
        {"spacings": "1 2 nan"},
        {"spacings": "1 2 3", "axis mins": "5 6 7"},
        {"spacings": "1 2 3", "axismins": "5 6 7", "centerings": "node cell node"},
        {"space": "LPS", "space directions": "none none none"},
        {"space": "LPS", "space directions": "( 1 , 0, 0 )(0,2,0)  (0,0,3)"},
        {**PLACE[3], "measurement frame": "(1,0,0) (0,0,1) (0,1,0)", "content": "a: b := c"},
        {"dimension": 4, "sizes": "4 3 5 1", "spacings": "1 2 3 4"},
        {"Type": "int16", "type": None, "ENDIAN": "Little", "endian": None},
    ],
)
def test_quirks_are_read_as_itk_reads_them(changes, tmp_path):
    same_as_itk(write(tmp_path / "a.nrrd", **changes))


@pytest.mark.parametrize("axis", range(4))
def test_an_axis_that_is_none_of_space_may_have_one_value(axis, tmp_path):
    def with_axis(words, extra):
        words = list(words)
        words.insert(axis, extra)
        return " ".join(words)

    stated = {
        **{"dimension": 4, "space": "LPS", "kinds": with_axis(["domain"] * 3, "list")},
        "space directions": with_axis(["(1,0,0)", "(0,2,0)", "(0,0,3)"], "none"),
    }
    path = tmp_path / "a.nrrd"
    same_as_itk(write(path, sizes=with_axis(map(str, SIZES), "1"), **stated))
    more = voxels().tobytes() * 3
    refused(write(path, data=more, sizes=with_axis(map(str, SIZES), "3"), **stated), "3 values")


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("i1", ["signed char", "int8", "int8_t"]),
        ("u1", ["uchar", "unsigned char", "uint8", "uint8_t"]),
        ("i2", ["short", "short int", "signed short", "signed short int", "int16", "int16_t"]),
        ("u2", ["ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"]),
        ("i4", ["int", "signed int", "int32", "int32_t"]),
        ("u4", ["uint", "unsigned int", "uint32", "uint32_t"]),
        ("i8", ["longlong", "long long", "long long int", "signed long long int", "int64"]),
        ("u8", ["ulonglong", "unsigned long long", "unsigned long long int", "uint64_t"]),
        ("f4", ["float"]),
        ("f8", ["double"]),
    ],
)
def test_types_are_those_of_itk(dtype, words, tmp_path):
    data = (voxels() % 100).astype(dtype).tobytes(order="F")
    for word in words:
        same_as_itk(write(tmp_path / "a.nrrd", data=data, type=word))
    big = (voxels() % 100).astype(">" + dtype).tobytes(order="F")
    same_as_itk(write(tmp_path / "a.nrrd", data=big, type=words[0], endian="big"))


def encoded(dims):
    raw = voxels(dims).tobytes(order="F")
    text = " ".join(map(str, voxels(dims).ravel(order="F"))).encode()
    yield "gz", gzip.compress(raw), {}
    yield "gzip", gzip.compress(raw[:7]) + gzip.compress(raw[7:]), {}
    yield "gzip", b"a line\n" + gzip.compress(b"xyz" + raw), {"line skip": 1, "byte skip": 3}
    yield "gzip", gzip.compress(b"wxyz" + raw), {"byte skip": -1}
    yield "hex", b"\n".join(raw.hex(" ").encode().split()), {}
    yield "ascii", text, {"endian": None}
    yield "raw", b"any" + raw, {"byte skip": -1}
    yield "raw", b"a\nb\nany" + raw, {"lineskip": 2, "byteskip": 3}
    yield "bz2", bz2.compress(raw[:7]) + bz2.compress(raw[7:]), {}


@pytest.mark.parametrize("case", range(9))
@pytest.mark.parametrize("detached", [False, True])
def test_encodings(case, detached, dims, tmp_path):
    encoding, data, changes = list(encoded(dims))[case]
    path = tmp_path / "a.nhdr"
    if detached:
        (tmp_path / "a.data").write_bytes(data)
        changes, data = {**changes, "data file": "./a.data"}, b""
    write(path, dims, data, encoding=encoding, **changes)
    if encoding == "bz2":  # ITK is built without it
        with open_volume(path) as volume:
            assert_array_equal(volume.whole(), voxels(dims) if dims == 3 else voxels(dims).T)
    else:
        same_as_itk(path)


def test_text_may_state_fractions_where_voxels_have_them(tmp_path):
    wanted = (voxels() / 8).astype("<f4")
    text = " ".join(map(str, wanted.ravel(order="F"))).encode()
    path = write(tmp_path / "a.nrrd", data=text, encoding="text", type="float")
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), wanted)
    refused(write(path, data=text, encoding="text", type="short"), "damaged or truncated text")


def test_bzip2_that_packs_well_is_decoded_in_parts(tmp_path):
    count = 3 * encoded_voxels.PART // 2  # of two bytes
    flat = np.zeros((count, 1, 1), "<i2")
    flat[-1] = 7
    data = bz2.compress(flat.tobytes(order="F"))
    assert len(data) < 200
    path = write(tmp_path / "a.nrrd", data=data, encoding="bzip2", sizes=f"{count} 1 1")
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), flat)


def test_voxels_at_the_end_have_little_before_them(monkeypatch, tmp_path):
    monkeypatch.setattr(encoded_voxels, "PART", 200)
    path, raw = tmp_path / "a.nrrd", voxels().tobytes(order="F")
    changes = {"encoding": "gzip", "byte skip": -1}
    same_as_itk(write(path, data=gzip.compress(bytes(200) + raw), **changes))
    write(path, data=gzip.compress(bytes(2000) + raw), **changes)
    refused(path, "more than 200 bytes before the voxels")


@pytest.mark.parametrize("case", [0, 1, 4, 5, 8])
def test_damaged_encodings(case, dims, tmp_path):
    encoding, data, changes = list(encoded(dims))[case]
    for bad in (data[: len(data) // 2], data[:-9], b"%s" + data, b""):
        refused(write(tmp_path / "a.nrrd", dims, bad, encoding=encoding, **changes), "truncated")


def test_voxels_in_several_files(dims, tmp_path):
    count = SIZES[dims - 1]
    names = [f"p{k:02}.raw" for k in range(count)]
    for k, name in enumerate(names):
        (tmp_path / name).write_bytes(voxels(dims)[..., k].tobytes(order="F"))
    listed = "\n".join(names)
    for text in (f"LIST\n{listed}", f"LIST {dims - 1}\n{listed}", f"p%02d.raw 0 {count - 1} 1"):
        path = tmp_path / "a.nhdr"
        write(path, dims, b"", data_file=text)
        path.write_bytes(path.read_bytes().rstrip(b"\n") + b"\n")
        with open_volume(path) as volume:
            assert_array_equal(volume.whole(), voxels(dims) if dims == 3 else voxels(dims).T)


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("unit", ["mm", "millimeters", "", "???", "microns", "cm", "furlong"])
def test_lengths_are_in_mm(unit, quoted, dims, tmp_path):
    """ITK passes the unit over: voxels in another would lie elsewhere for it."""
    text = " ".join([f'"{unit}"' if quoted else unit] * dims)
    for changes in ({**PLACE[dims], "space units": text}, {"spacings": "2 2 2", "units": text}):
        if "spacings" in changes:
            changes["spacings"] = changes["spacings"][: 2 * dims]
        path = write(tmp_path / "a.nrrd", dims, **changes)
        if unit in ("mm", "millimeters", "", "???"):
            same_as_itk(path) if quoted else open_volume(path).close()
        else:
            refused(path, f"units '{unit}'" if unit != "furlong" else "'furlong'")


def test_ends_of_the_axes_give_the_spacing(tmp_path):
    ends = {"axis mins": "0 0 0", "axis maxs": "8 9 10"}
    with open_volume(write(tmp_path / "a.nrrd", **ends)) as volume:
        assert_allclose(volume.grid.spacing, (2, 3, 2))
        assert_allclose(np.abs(volume.grid.affine[:3, 3]), (1, 1.5, 1))
    with open_volume(write(tmp_path / "a.nrrd", **ends, centers="node node node")) as volume:
        assert_allclose(volume.grid.spacing, (8 / 3, 9 / 2, 10 / 4))
        assert_allclose(volume.grid.affine[:3, 3], 0)


def test_the_range_before_rounding_is_told_not_applied(tmp_path):
    with open_volume(write(tmp_path / "a.nrrd", old_min=0, old_max=1)) as volume:
        assert_array_equal(volume.whole(), voxels())
        assert "old min '0' and old max '1'" in volume.notes[0]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"dimension": -1}, "dimension '-1': expected a whole number"),
        ({"dimension": 99}, "dimension '99'"),
        ({"dimension": None}, "does not state its dimension"),
        ({"sizes": "4 3"}, "expected 3 numbers"),
        ({"sizes": "4 3 -5"}, "expected a whole number"),
        ({"sizes": "4 3 " + "9" * 5000}, "expected a number"),
        ({"sizes": "1000000 1000000 1000000"}, "truncated"),
        ({"sizes": "1000000 1000000 1000000", "encoding": "gzip"}, "truncated"),
        ({"type": "block"}, "type 'block'"),
        ({"encoding": "zrl"}, "encoding 'zrl': not known"),
        ({"endian": None}, "endian '': expected little or big"),
        ({"endian": "%s"}, "endian '%s': expected little or big"),
        ({"Sizes": "4 3 5"}, "is stated twice"),
        ({"byte skip": "-2"}, "byte skip"),
        ({"byte skip": "99999999999"}, "truncated"),
        ({"line skip": "999999"}, "truncated"),
        ({"foo": "bar"}, "field 'foo': not known"),
        ({"kinds": "domain domain"}, "expected 3 words"),
        ({"spacings": "1 2"}, "expected 3 numbers"),
        ({"spacings": "1 2 inf"}, "expected a number"),
        ({"spacings": "1 2 3", "units": '"mm"'}, "expected 3 units"),
        ({**PLACE[3], "space": "%s"}, "space '%s': not known"),
        ({**PLACE[3], "space origin": "(1,2"}, "expected vectors as in (1,0,0)"),
        ({**PLACE[3], "space origin": "(1,2)"}, "expected 3 numbers"),
        ({**PLACE[3], "space directions": "(1,0,0) (0,1,0)"}, "2 vectors for 3 axes"),
        ({**PLACE[3], "space directions": "(1,0,0) (0,1,0) none"}, "in a space of 3"),
        ({**PLACE[3], "space directions": "(1,0,0) (1,0,0) (0,0,1)"}, "singular"),
        ({"dimension": 2, "sizes": "4 15", **PLACE[3]}, "3 vectors for 2 axes"),
        ({"dimension": 2, "sizes": "4 15", "space": "LPS"}, "2 axes in a space of 3"),
        ({**PLACE[3], "space origin": "(1,2,3) (4,5,6)"}, "(4,5,6)': expected one vector"),
        ({"spacings": "1 2 3", "centers": "cell node"}, "centers 'cell node': expected 3 words"),
        ({"data file": "../a.raw"}, "only files in the header's own folder"),
        ({"data file": "/etc/hostname"}, "expected a name without a folder"),
        ({"data file": "%s 1 4 1"}, "expected a name like"),
        ({"data file": "LIST 9"}, "LIST '9'"),
        ({"data file": "missing"}, "without its data file"),
    ],
)
def test_headers_that_lie(changes, rule, tmp_path):
    refused(write(tmp_path / "a.nrrd", **changes), rule)


def test_headers_without_an_end(tmp_path):
    path = write(tmp_path / "a.nrrd")
    text = path.read_bytes().partition(b"\n\n")[0]
    path.write_bytes(text)
    refused(path, "no empty line ends the header")
    path.write_bytes(b"NRRD0009\n" + text)
    refused(path, "its first line is not NRRD0001")
