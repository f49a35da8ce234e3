import errno
import gzip
import itertools
import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import reader
from numpy.testing import assert_allclose, assert_array_equal

from msgan import paths
from msgan.data import pieces
from msgan.data.formats import picture
from msgan.data.volume import Grid, open_labels, open_volume, write_volume
from msgan.types import Box, InputError

STREAMED = (".nii", ".nii.gz", ".zarr")
SUFFIXES = (*STREAMED, ".mha", ".nrrd")
ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def noise(shape, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).uniform(0, 250, shape)
    return values.astype(dtype)


def rotation(x, y, z):
    cx, sx, cy, sy, cz, sz = (*(f(a) for a in (x, y, z) for f in (np.cos, np.sin)),)
    turn_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return turn_x @ turn_y @ turn_z


def affine_of(axes, spacing, origin):
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing)
    affine[:3, 3] = origin
    return affine


def simple_grid(shape):
    return Grid.from_spacing(shape, (0.7, 0.9, 4.0)[: len(shape)], (3.0, -20.0, 11.0)[: len(shape)])


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Every test leaves its scratch folder empty."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("MSGAN_SCRATCH", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def assert_round_trip(path, grid, array, **options):
    write_volume(path, grid, reader(array), **options)
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), array.astype(np.float32))
        assert_allclose(volume.grid.affine, grid.affine, rtol=0, atol=1e-5)
        assert volume.grid.shape == grid.shape
        assert volume.grid.orientation == grid.orientation
        assert volume.grid.same_as(grid)
        assert volume.whole().dtype == np.float32


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_in_all_48_orientations(suffix, tmp_path):
    array = noise((3, 4, 5), np.int16)
    codes = set()
    for order, signs in ORIENTATIONS:
        axes = np.eye(3)[:, order] * signs
        grid = Grid(array.shape, affine_of(axes, (0.7, 0.7, 4.0), (-101.3, 96.7, 33.1)))
        assert_round_trip(tmp_path / f"a{suffix}", grid, array, dtype=np.int16)
        codes.add(grid.orientation)
    assert len(codes) == 48


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("seed", range(4))
def test_round_trip_oblique_anisotropic_odd(suffix, seed, tmp_path):
    rng = np.random.default_rng(seed)
    axes = rotation(*rng.uniform(-3, 3, 3)) * rng.choice([-1, 1], 3)
    origin = rng.uniform(-900, 900, 3)  # beyond what float32 holds to 1e-5 mm
    grid = Grid((7, 5, 3), affine_of(axes, rng.uniform(0.3, 6, 3), origin))
    assert_round_trip(tmp_path / f"a{suffix}", grid, noise((7, 5, 3), seed=seed))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sheared_affine_is_kept(suffix, tmp_path):
    affine = affine_of(np.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]]), (1, 1, 2), (0, 0, 0))
    assert_round_trip(tmp_path / f"a{suffix}", Grid((3, 4, 5), affine), noise((3, 4, 5)))


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".tif", ".png"])
def test_round_trip_in_two_dimensions(suffix, tmp_path):
    grid = Grid.from_spacing((7, 5), (0.7, 1.3), (-3.0, 8.0))
    dtype = np.uint16 if suffix == ".png" else np.float32
    assert_round_trip(tmp_path / f"a{suffix}", grid, noise((7, 5), dtype), dtype=dtype)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".zarr", ".mha", ".nrrd", ".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_rounded_and_refused_where_they_do_not_fit(suffix, dtype, tmp_path):
    grid, path = Grid.from_spacing((4, 3), (1, 1)), tmp_path / f"a{suffix}"
    array = noise((4, 3)) + 0.25
    write_volume(path, grid, reader(array), dtype=dtype)
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), np.rint(array))
    before = store_bytes(path)
    array[2, 1] = np.iinfo(dtype).max + 0.6
    with pytest.raises(InputError, match=r"does not fit uint\d+ \(0\.\."):
        write_volume(path, grid, reader(array), dtype=dtype)
    assert store_bytes(path) == before
    assert [p.name for p in tmp_path.iterdir() if p.name != "scratch"] == [path.name]


def store_bytes(path):
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(f.name, f.read_bytes()) for f in files if f.is_file()]


@pytest.mark.parametrize("suffix", [*STREAMED, ".mha", ".nrrd", ".tif"])
def test_unit_is_kept(suffix, tmp_path):
    dims = 2 if suffix == ".tif" else 3
    array = noise((4, 5, 6)[:dims])
    write_volume(tmp_path / f"a{suffix}", simple_grid(array.shape), reader(array), unit="HU")
    with open_volume(tmp_path / f"a{suffix}") as volume:
        assert volume.unit == "HU"
        assert_array_equal(volume.whole(), array)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_gives_the_box_asked_for(suffix, dims, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 300)
    array = noise((9, 8, 7)[:dims])
    path = tmp_path / f"a{suffix}"
    write_volume(path, simple_grid(array.shape), reader(array))
    with open_volume(path) as volume:
        for box in Box.whole(array.shape).tiles((4, 3, 5)[:dims]):
            assert_array_equal(volume.read(box), array[box.slices])
        with pytest.raises(ValueError, match="leaves"):
            volume.read(Box.whole(array.shape).grown(1))
        assert volume.extremes == (array.min(), array.max())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_libraries_read_what_we_write(suffix, tmp_path):
    grid = Grid((3, 4, 5), affine_of(rotation(0.3, -0.2, 1.0), (0.7, 0.8, 4.0), (-10, 20, 300)))
    array, path = noise((3, 4, 5)), tmp_path / f"a{suffix}"
    write_volume(path, grid, reader(array), unit="HU")
    if suffix == ".zarr":
        import zarr

        group = zarr.open_group(path, mode="r")
        assert group.attrs["ome"]["version"] == "0.5"
        (scales,) = group.attrs["ome"]["multiscales"]
        assert [axis["name"] for axis in scales["axes"]] == ["z", "y", "x"]
        scale, translation = scales["datasets"][0]["coordinateTransformations"]
        assert_allclose(scale["scale"], (4.0, 0.8, 0.7))
        assert_allclose(translation["translation"], (300, 20, -10))
        assert_array_equal(group["0"][:].T, array)
    elif suffix.startswith(".nii"):
        image = nib.load(path)
        assert_array_equal(image.get_fdata(), array)
        for matrix, code in (image.get_sform(coded=True), image.get_qform(coded=True)):
            assert code == 1
            assert_allclose(matrix, grid.affine, atol=2e-5)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert_allclose(image.header.get_zooms(), grid.spacing, rtol=1e-6)
        assert bytes(image.header["descrip"]).strip(b"\0") == b""
    if suffix != ".zarr":
        import SimpleITK as sitk

        image = sitk.ReadImage(str(path))
        assert_array_equal(sitk.GetArrayFromImage(image).T, array)
        point = image.TransformIndexToPhysicalPoint((2, 3, 4))
        assert_allclose(np.diag([-1, -1, 1]) @ point, (grid.affine @ (2, 3, 4, 1))[:3], atol=1e-4)


def test_large_origins_are_exact_in_files_that_itk_opens(tmp_path):
    import SimpleITK as sitk

    path = tmp_path / "a.nii"
    for origin in (-512.5, -512.123456, 9000.123456):
        grid = Grid.from_spacing((2, 3, 4), (1, 1, 1), (origin, 0, 0))
        write_volume(path, grid, reader(noise((2, 3, 4))))
        assert type(nib.load(path)) is nib.Nifti1Image
        assert_allclose(sitk.ReadImage(str(path)).GetOrigin()[0], -origin, atol=1e-3)
        with open_volume(path) as volume:
            assert_allclose(volume.grid.affine, grid.affine, rtol=0, atol=1e-9)
            write_volume(tmp_path / "b.nii", volume.grid, volume.read)
        with open_volume(tmp_path / "b.nii") as volume:
            assert_allclose(volume.grid.affine, grid.affine, rtol=0, atol=1e-9)
    moved = nib.load(path)
    moved.header.set_sform(np.diag([1, 1, 1, 1]))
    nib.save(nib.Nifti1Image(moved.get_fdata(), None, moved.header), path)
    with open_volume(path) as volume:
        assert_allclose(volume.grid.affine, np.eye(4))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz", ".mgh"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_scaled_voxels_of_either_byte_order(suffix, order, tmp_path):
    array = noise((4, 5, 6), np.int16)
    path = tmp_path / f"a{suffix}"
    if suffix.startswith(".nii"):
        header = nib.Nifti1Header(endianness=order)
        header.set_data_dtype(np.int16)
        image = nib.Nifti1Image(array, np.diag([2, 2, 3, 1.0]), header)
        image.header.set_slope_inter(0.5, -3.0)
        image = nib.Nifti1Image(image.dataobj, image.affine, image.header)
        nib.save(image, path)
        expected = nib.load(path).get_fdata().astype(np.float32)
        expected_affine = image.affine
    else:
        image = nib.MGHImage(array.astype(np.int32), np.diag([2, 2, 3, 1.0]))
        nib.save(image, path)
        expected, expected_affine = array.astype(np.float32), image.affine
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), expected)
        assert_allclose(volume.grid.affine, expected_affine)


def test_slope_and_intercept_are_applied(tmp_path):
    array = noise((4, 5, 6), np.int16)
    write_volume(tmp_path / "a.nii", simple_grid((4, 5, 6)), reader(array), dtype=np.int16)
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[112:120] = np.array([0.25, -1000], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(data)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(data)))
    for name in ("a.nii", "b.nii.gz"):
        with open_volume(tmp_path / name) as volume:
            assert_array_equal(volume.whole(), array * np.float32(0.25) - 1000)
            assert volume.extremes == (array.min() * 0.25 - 1000, array.max() * 0.25 - 1000)


def test_header_without_codes_uses_the_base_affine(tmp_path):
    image = nib.Nifti1Image(noise((4, 5, 6)), None)
    image.header.set_zooms((1, 2, 3))
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(image, tmp_path / "a.nii")
    with open_volume(tmp_path / "a.nii") as volume:
        assert volume.grid.orientation == ("L", "A", "S")
        assert_allclose(volume.grid.affine, image.header.get_base_affine())


def test_metres_and_microns_become_millimetres(tmp_path):
    for unit, factor in (("meter", 1000), ("micron", 0.001), ("unknown", 1)):
        image = nib.Nifti1Image(noise((4, 5, 6)), np.diag([2, 2, 2, 1.0]))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / "a.nii")
        with open_volume(tmp_path / "a.nii") as volume:
            assert_allclose(volume.grid.spacing, np.full(3, 2 * factor))


def test_foreign_ome_zarr(tmp_path):
    import zarr

    array = noise((1, 3, 4, 5))
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("fine", data=array)
    names = [("c", "channel"), ("z", "space"), ("y", "space"), ("x", "space")]
    level = {
        "path": "fine",
        "coordinateTransformations": [
            {"type": "scale", "scale": [1, 2, 0.5, 0.25]},
            {"type": "translation", "translation": [0, 30, 20, 10]},
        ],
    }
    axes = [{"name": n, "type": t, "unit": "micrometer"} for n, t in names]
    axes[0].pop("unit")
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    with open_volume(tmp_path / "a.zarr") as volume:
        assert_array_equal(volume.whole(), array[0].T)
        assert_allclose(volume.grid.spacing, (0.25e-3, 0.5e-3, 2e-3))
        assert_allclose(volume.grid.affine[:3, 3], (0.01, 0.02, 0.03))
    group.create_array("bad", data=noise((2, 3, 4, 5)))
    level["path"] = "bad"
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    with pytest.raises(InputError, match="4D image"):
        open_volume(tmp_path / "a.zarr")


# Labels


def test_labels_are_integers(tmp_path):
    values = np.array([[[0, 1, 2, 0.99999997]]])
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    with open_labels(tmp_path / "a.nii") as labels:
        assert labels.whole().dtype == np.int32
        assert_array_equal(labels.whole(), [[[0, 1, 2, 1]]])
    for suffix in (".nii", ".nii.gz"):
        nib.save(nib.Nifti1Image(values / 2, np.eye(4)), tmp_path / f"b{suffix}")
        with pytest.raises(InputError, match=r"b.nii.*: label 0.5 is not an integer"):
            open_labels(tmp_path / f"b{suffix}")


def test_a_map_without_lesions_is_no_empty_image(tmp_path):
    grid = Grid.from_spacing((4, 5, 6), (1, 1, 1))
    write_volume(tmp_path / "a.nii.gz", grid, reader(np.zeros((4, 5, 6))), dtype=np.uint8)
    with open_labels(tmp_path / "a.nii.gz", like=grid) as labels:
        assert not labels.whole().any()
    with pytest.raises(InputError, match="empty image: every voxel is 0"):
        open_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("other", "rule"),
    [
        (Grid.from_spacing((4, 5, 7), (1, 1, 1)), r"shape \(4, 5, 6\) instead of \(4, 5, 7\)"),
        (Grid.from_spacing((4, 5, 6), (1, 1, 1.01)), "0.05 mm off"),
        (Grid.from_spacing((4, 5, 6), (1, 1, 1), (0, 0.01, 0)), "0.01 mm off"),
        (Grid((4, 5, 6), np.diag([-1, 1, 1, 1])), "RAS instead of .* LAS"),
    ],
)
def test_labels_must_lie_on_their_image(other, rule, tmp_path):
    grid = Grid.from_spacing((4, 5, 6), (1, 1, 1))
    write_volume(tmp_path / "a.nii", grid, reader(np.zeros((4, 5, 6))), dtype=np.uint8)
    with pytest.raises(InputError, match=f"a.nii: .*{rule}"):
        open_labels(tmp_path / "a.nii", like=other)


# Grid


def test_grids_are_equal_within_a_hundredth_of_a_micron():
    grid = Grid.from_spacing((4, 5, 6), (1, 1, 1))
    near, far = (Grid.from_spacing((4, 5, 6), (1, 1, 1), (0, d, 0)) for d in (0.9e-5, 1.1e-5))
    assert grid == near
    assert hash(grid) == hash(near)
    assert grid != far
    assert grid != Grid.from_spacing((4, 5, 7), (1, 1, 1))
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2


@pytest.mark.parametrize(
    ("shape", "affine", "rule"),
    [
        ((4, 0, 5), np.eye(4), "empty image of shape"),
        ((4,), np.eye(2), "1D image"),
        ((4, 5), np.eye(4), "for an image of 2 axes"),
        ((4, 5, 6), np.diag([1, np.nan, 1, 1]), "not finite"),
        ((4, 5, 6), np.diag([1, 0, 1, 1]), "zero along an axis"),
        ((4, 5, 6), np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
        ((4, 5, 6), np.diag([1, 1, 1, 2]), "last row"),
    ],
)
def test_bad_grids_are_refused(shape, affine, rule):
    with pytest.raises(InputError, match=rule):
        Grid(shape, affine)


# Flat memory, whole files or none


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("compress", [False, True])
def test_metaimage_and_nrrd_of_simpleitk(name, compress, tmp_path):
    import SimpleITK as sitk

    array = noise((4, 5, 6), np.int16)
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing((1, 2, 3))
    sitk.WriteImage(image, tmp_path / name, compress)
    with open_volume(tmp_path / name) as volume:
        assert_array_equal(volume.whole(), array)
        assert_allclose(volume.grid.affine, np.diag([-1, -2, 3, 1]))
    for file in tmp_path.iterdir():
        if file.is_file() and file.name != name:
            file.unlink()  # the voxels of a detached header
    if name in ("a.mhd", "a.nhdr"):
        with pytest.raises(InputError, match="without its data file"):
            open_volume(tmp_path / name)


def unpacked(path):
    """Whether voxels of an image go through scratch."""
    with open_volume(path):
        return bool(list(paths.scratch_root().iterdir()))


def lines_of(path, change=None, voxels=b""):
    """The lines of a MetaImage or NRRD header; with some changed, written before ``voxels``."""
    mark = b"LOCAL\n" if path.suffix == ".mha" else b"\n\n"
    header, _, rest = path.read_bytes().partition(mark)
    text = header.decode() + mark.decode()
    for old, new in (change or {}).items():
        assert old in text
        text = text.replace(old, new)
    path.write_bytes(text.encode() + (voxels or rest))
    return text


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mhd", "a.nhdr"])
def test_voxels_that_are_not_compressed_are_read_where_they_are(name, dtype, dims, tmp_path):
    import SimpleITK as sitk

    array = noise((4, 5, 6)[:dims]).astype(dtype) // 2
    sitk.WriteImage(sitk.GetImageFromArray(array.T if dims == 3 else array), tmp_path / name)
    assert not unpacked(tmp_path / name)
    with open_volume(tmp_path / name) as volume:
        assert_array_equal(volume.whole(), array.astype(np.float32))
        box = Box((1, 2, 3)[:dims], (2, 3, 1)[:dims])
        assert_array_equal(volume.read(box), array[box.slices].astype(np.float32))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_either_byte_order_is_read_where_it_is(suffix, tmp_path):
    array, path = noise((4, 5, 6), np.int16), tmp_path / f"a{suffix}"
    write_volume(path, simple_grid((4, 5, 6)), reader(array), dtype=np.int16)
    big = {"MSB = False": "MSB = True"} if suffix == ".mha" else {"endian: little": "endian: big"}
    lines_of(path, big, array.astype(">i2").tobytes(order="F"))
    assert not unpacked(path)
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), array)


@pytest.mark.parametrize(
    ("suffix", "change", "front"),
    [
        (".mha", {"BinaryData = True": "BinaryData = False"}, None),
        (".nrrd", {"encoding: raw": "encoding: ascii"}, None),
        (".nrrd", {"encoding: raw": "encoding: raw\nbyte skip: 3"}, b"any"),
        (".nrrd", {"encoding: raw": "encoding: raw\nline skip: 1"}, b"a line\n"),
    ],
)
def test_voxels_that_lie_otherwise(suffix, change, front, tmp_path):
    array, path = noise((4, 5, 6), np.int16) // 26, tmp_path / f"a{suffix}"
    write_volume(path, simple_grid((4, 5, 6)), reader(array), dtype=np.int16)
    # One digit and one space: text as long as the voxels would be.
    as_text = "".join(f"{v} " for v in array.ravel(order="F")).encode()
    lines_of(path, change, as_text if front is None else front + array.tobytes(order="F"))
    assert unpacked(path) == (front is None)  # what is skipped is no reason to decode
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), array)


def test_compressed_voxels_are_unpacked_by_slabs(tmp_path, monkeypatch):
    import SimpleITK as sitk

    monkeypatch.setattr(pieces, "PIECE_BYTES", 160)
    for name in ("a.mha", "a.nrrd", "b.mha"):
        array = noise((4, 5, 6) if name[0] == "a" else (4, 5))
        image = sitk.GetImageFromArray(array.T if array.ndim == 3 else array)
        sitk.WriteImage(image, tmp_path / name, True)
        assert unpacked(tmp_path / name)
        with open_volume(tmp_path / name) as volume:
            seen = []
            volume.visit(lambda box, part, seen=seen: seen.append(box.voxels * 4))
            assert_array_equal(volume.whole(), array)
        assert max(seen) <= 160


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".mgz", ".tif"])
def test_a_scan_shows_every_voxel_once_and_checks_on_the_way(suffix, dims, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 200)
    monkeypatch.setitem(pieces.SIDE, dims, 4)
    dims = {".tif": 2, ".mgz": 3}.get(suffix, dims)
    array, path = noise((9, 6, 5)[:dims]), tmp_path / f"a{suffix}"
    if suffix == ".mgz":
        nib.save(nib.MGHImage(array, np.eye(4)), path)
    else:
        write_volume(path, simple_grid(array.shape), reader(array))
    with open_volume(path, check=False) as volume:
        assert volume.extremes is None
        for _ in range(2):  # while it is unpacked, and afterwards
            shown, times = np.full(array.shape, np.nan), np.zeros(array.shape, int)

            def look(box, part, shown=shown, times=times):
                shown[box.slices] = part
                times[box.slices] += 1

            volume.visit(look, look)
            assert (times == 2).all()
            assert_array_equal(shown, array)
            assert volume.extremes == (array.min(), array.max())
    with pytest.raises(ValueError, match="is closed"):
        volume.visit(look)


def test_a_compressed_image_is_scanned_while_it_is_unpacked(tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 200)
    write_volume(tmp_path / "a.nii.gz", simple_grid((4, 5, 6)), reader(noise((4, 5, 6))))
    found = []
    with open_volume(tmp_path / "a.nii.gz", check=False) as volume:
        for _ in range(2):
            volume.visit(
                lambda box, part: found.append(sum(f.stat().st_size for f in scratch.iterdir()))
            )
    whole = 4 * 5 * 6 * 4
    assert found[:3] == [0, 160, 320]  # two planes at once
    assert found[3:] == [whole] * 3


def test_a_scan_of_bad_voxels_fails_with_the_path(tmp_path):
    array = noise((4, 5, 6))
    array[1, 2, 3] = np.nan
    for name in ("a.nii", "b.nii.gz"):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / name)
        with (
            open_volume(tmp_path / name, check=False) as volume,
            pytest.raises(InputError, match=rf"^{tmp_path / name}: 1 of 120 voxels are NaN"),
        ):
            volume.visit()


def test_pieces_of_a_zarr_are_its_chunks(tmp_path, monkeypatch):
    import zarr

    monkeypatch.setattr(pieces, "PIECE_BYTES", 4 * 5 * 6 * 8)
    array, path = noise((20, 12, 10)), tmp_path / "a.zarr"
    write_volume(path, simple_grid(array.shape), reader(array))
    data = zarr.open_group(path, mode="r+")
    data.create_array("0", data=array.T, chunks=(4, 6, 5), overwrite=True)
    with open_volume(path) as volume:
        seen = []
        volume.visit(lambda box, part: seen.append(box))
        assert_array_equal(volume.whole(), array)
    assert seen[:2] == [Box((0, 0, 0), (10, 6, 4)), Box((10, 0, 0), (10, 6, 4))]
    assert len(seen) == 2 * 2 * 3


@pytest.mark.usefixtures("without_coverage")
def test_what_a_killed_process_unpacked_is_removed_by_the_next(tmp_path, scratch):
    write_volume(tmp_path / "a.nii.gz", simple_grid((4, 5, 6)), reader(noise((4, 5, 6))))
    code = (
        "import os, signal, sys\n"
        "from msgan.data.volume import open_volume\n"
        "volume = open_volume(sys.argv[1])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.nii.gz")]
    assert subprocess.run(command, check=False).returncode == -9
    (left,) = scratch.iterdir()
    with open_volume(tmp_path / "a.nii.gz"):
        (own,) = scratch.iterdir()
        assert own != left


@pytest.mark.parametrize("suffix", STREAMED)
def test_memory_does_not_grow_with_the_image(suffix, tmp_path, monkeypatch):
    """A 16 MiB image is written, checked and read by tiles in well below 4 MiB."""
    slab = 1 << 19
    monkeypatch.setattr(pieces, "PIECE_BYTES", slab)
    monkeypatch.setitem(pieces.SIDE, 3, 32)
    shape = (128, 128, 256)
    grid = Grid.from_spacing(shape, (1, 1, 1))
    asked = []

    def read(box):
        asked.append(box)
        assert box.voxels * 4 <= slab
        return np.full(box.size, sum(box.start), np.float32)

    def work(stop):
        small = Grid.from_spacing((*shape[:2], stop), (1, 1, 1))
        write_volume(path, small, read)
        with open_volume(path) as volume:
            assert volume.read(Box((5, 6, 7), (20, 20, 20))).shape == (20, 20, 20)

    path = tmp_path / f"a{suffix}"
    work(32)  # imports and caches
    asked.clear()
    tracemalloc.start()
    work(grid.shape[2])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(box.voxels for box in asked) == 128 * 128 * 256
    assert len(set(asked)) == len(asked)
    assert [box.start[2] for box in asked] == sorted(box.start[2] for box in asked)
    assert peak < 4 << 20


def test_pieces_are_whole_chunks_of_a_bounded_size():
    for shape, size in {
        (100, 90, 80): (100, 90, 80),
        (128, 128, 128): (128, 128, 128),
        (512, 512, 512): (512, 64, 64),
        (1024, 1024, 1024): (512, 64, 64),
        (65, 8192, 64): (65, 256, 64),  # 512 would be just too much
        (4096, 4096): (4096, 512),
    }.items():
        assert next(pieces.pieces(shape)).size == size
    assert next(pieces.pieces((512,) * 3, 8)).size == (256, 64, 64)
    assert next(pieces.pieces((512,) * 3, chunks=(16, 64, 500))).size == (64, 64, 500)
    thickness = {n: next(pieces.slabs((n, n, 4096))).size[2] for n in (128, 512, 1024, 8192)}
    assert thickness == {128: 128, 512: 8, 1024: 2, 8192: 1}


@pytest.mark.parametrize("chunks", [None, (3, 2, 4)])
def test_pieces_cover_an_image_once_first_axis_fastest(chunks, dims, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 200)
    shape = (11, 7, 9)[:dims]
    count = np.zeros(shape, int)
    boxes = list(pieces.pieces(shape, chunks=chunks and chunks[:dims]))
    for box in boxes:
        count[box.slices] += 1
        assert box.voxels * 4 <= 200
    assert len(boxes) > 1
    assert (count == 1).all()
    assert [b.start[::-1] for b in boxes] == sorted(b.start[::-1] for b in boxes)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_write_leaves_the_old_file_or_none(suffix, existing, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 100)
    array, path = noise((4, 5, 6)), tmp_path / f"a{suffix}"
    grid = simple_grid(array.shape)
    if existing:
        write_volume(path, grid, reader(array))
    before = store_bytes(path) if existing else None

    class Killed(BaseException):
        pass

    def read(box):
        if box.stop[2] == 6:
            raise Killed
        return array[box.slices]

    with pytest.raises(Killed):
        write_volume(path, grid, read)
    left = sorted(p.name for p in tmp_path.iterdir() if p.name != "scratch")
    assert left == ([path.name] if existing else [])
    assert not existing or store_bytes(path) == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".tif"])
def test_a_full_disk_is_one_clear_error(suffix, small_disk, monkeypatch):
    """Known before a voxel is read where the size is known; nothing is left behind."""
    dims = 2 if suffix == ".tif" else 3
    array = noise((1024, 512) if dims == 2 else (64, 64, 128))
    grid, path = simple_grid(array.shape), small_disk / f"a{suffix}"
    write_volume(path, simple_grid((8,) * dims), reader(array[(slice(8),) * dims]))
    before = store_bytes(path)
    monkeypatch.setitem(pieces.SIDE, 3, 16)
    asked = []

    def read(box):
        asked.append(box)
        return array[box.slices]

    start = re.escape(f"{small_disk}: ")
    known = suffix not in (".nii.gz", ".zarr")
    rule = "a.* needs 2.0 MiB, 2.*KiB are free on this disk"
    with pytest.raises(
        InputError, match=f"^{start}{rule if known else 'no space left .* 2.0 MiB'}"
    ):
        write_volume(path, grid, read)
    assert bool(asked) is not known
    monkeypatch.setattr(paths, "require_space", lambda *_: None)  # a quota is not asked for
    with pytest.raises(
        InputError, match=f"^{start}no space left on this disk: a.* 2.0 MiB, .* free$"
    ):
        write_volume(path, grid, read)
    assert store_bytes(path) == before
    assert [p.name for p in small_disk.iterdir()] == [path.name]


def test_a_full_scratch_is_one_clear_error(tmp_path, small_disk, monkeypatch):
    array = noise((64, 64, 128))
    path, grid = tmp_path / "a.nii.gz", simple_grid(array.shape)
    write_volume(path, grid, reader(array))
    before = store_bytes(path)
    monkeypatch.setenv("MSGAN_SCRATCH", str(small_disk))
    for rule in ("image .*SCRATCH.* needs 2.0 MiB, .* free", "no space left .* needs 2.0 MiB"):
        with pytest.raises(InputError, match=rf"a\.nii\.gz: {small_disk}: .*{rule}"):
            open_volume(path)
        with pytest.raises(InputError, match=rf"a\.nii\.gz: {small_disk}: .*{rule}"):
            write_volume(path, grid, reader(array))
        monkeypatch.setattr(paths, "require_space", lambda *_: None)
    assert list(small_disk.iterdir()) == []
    assert store_bytes(path) == before


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
@pytest.mark.usefixtures("without_coverage")
def test_a_file_larger_than_allowed_is_one_clear_error(suffix, tmp_path):
    code = (
        "import resource, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from msgan.data.volume import Grid, write_volume\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "grid = Grid.from_spacing((64, 64, 64), (1, 1, 1))\n"
        "write_volume(sys.argv[1], grid, lambda box: np.ones(box.size, np.float32))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / f"a{suffix}")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "needs 1.0 MiB, more than this disk or a limit" in done.stderr.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["scratch"]


def test_a_disk_that_fills_up_while_chunks_are_written(tmp_path, monkeypatch):
    from zarr.storage import LocalStore

    put, chunks = LocalStore.set, []

    async def full(self, key, value):
        if "0/c/" in key:
            chunks.append(key)
            if len(chunks) > 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        await put(self, key, value)

    monkeypatch.setattr(LocalStore, "set", full)
    monkeypatch.setitem(pieces.SIDE, 3, 2)
    array = noise((4, 5, 6))
    with pytest.raises(InputError, match=r": no space left on this disk"):
        write_volume(tmp_path / "a.zarr", simple_grid(array.shape), reader(array))
    assert len(chunks) == 4  # no other write was under way
    assert [p.name for p in tmp_path.iterdir()] == ["scratch"]


def test_each_chunk_is_written_once(tmp_path, monkeypatch):
    from zarr.storage import LocalStore

    put, chunks = LocalStore.set, []

    async def noted(self, key, value):
        if "0/c/" in key:
            chunks.append(key)
        await put(self, key, value)

    monkeypatch.setattr(LocalStore, "set", noted)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1000)  # less than a plane
    monkeypatch.setitem(pieces.SIDE, 3, 4)
    array = noise((19, 18, 5))
    write_volume(tmp_path / "a.zarr", simple_grid(array.shape), reader(array))
    wanted = itertools.product(range(2), range(5), range(5))
    assert sorted(chunks) == [f"0/c/{z}/{y}/{x}" for z, y, x in wanted]


def test_scratch_is_removed_on_close_and_when_forgotten(tmp_path, scratch):
    array, path = noise((4, 5, 6)), tmp_path / "a.nii.gz"
    write_volume(path, simple_grid(array.shape), reader(array))
    with open_volume(path) as volume:
        assert len(list(scratch.iterdir())) == 1
    with pytest.raises(ValueError, match="is closed"):
        volume.whole()
    volume = open_volume(path)
    del volume
    assert list(scratch.iterdir()) == []
    with open_volume(path, scratch=tmp_path / "own", check=False) as volume:
        assert not (tmp_path / "own").exists()
        assert_array_equal(volume.whole(), array)
        assert len(list((tmp_path / "own").iterdir())) == 1
    assert list((tmp_path / "own").iterdir()) == []


@pytest.mark.parametrize("suffix", [*STREAMED, ".mha", ".nrrd"])
def test_the_same_image_gives_the_same_bytes(suffix, tmp_path):
    array, grid = noise((4, 5, 6)), simple_grid((4, 5, 6))
    write_volume(tmp_path / f"a{suffix}", grid, reader(array))
    write_volume(tmp_path / f"b{suffix}", grid, reader(array))
    a, b = (store_bytes(tmp_path / f"{name}{suffix}") for name in "ab")
    assert [data for _, data in a] == [data for _, data in b]


def test_a_folder_that_is_no_zarr_is_never_replaced(tmp_path):
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(InputError, match="exists and is not a Zarr folder"):
        write_volume(folder, simple_grid((4, 5, 6)), reader(noise((4, 5, 6))))
    assert (folder / "thesis.txt").read_text() == "irreplaceable"


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "rule"),
    [
        ("a.jpg", (4, 5), np.uint8, r"cannot write \.jpg"),
        ("a.mgz", (4, 5, 6), np.uint8, r"cannot write \.mgz"),
        ("a", (4, 5, 6), np.uint8, "files without suffix"),
        ("a.png", (4, 5, 6), np.uint8, "a picture has 2 axes"),
        ("a.png", (4, 5), np.float32, "holds uint8, uint16, not float32"),
        ("a.nii", (4, 5, 6), np.complex64, "voxels of type complex64"),
        ("a.nii", (4, 5, 6), bool, "voxels of type bool"),
        ("a.nii", (4, 5, 6), np.float16, "voxels of type float16"),
    ],
)
def test_what_cannot_be_written_is_refused(name, shape, dtype, rule, tmp_path):
    with pytest.raises(InputError, match=f"{name}: .*{rule}"):
        write_volume(tmp_path / name, simple_grid(shape), reader(noise(shape)), dtype=dtype)
    assert [p.name for p in tmp_path.iterdir()] == ["scratch"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_not_written(bad, tmp_path):
    array = noise((4, 5, 6))
    array[1, 2, 3] = bad
    with pytest.raises(InputError, match=r"a\.nii: NaN or infinite"):
        write_volume(tmp_path / "a.nii", simple_grid(array.shape), reader(array))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("given", [np.uint8, np.int16, np.float64])
@pytest.mark.parametrize("kept", [">f4", ">i2", "f8", "u4"])
def test_any_type_may_be_given_and_kept(suffix, given, kept, tmp_path):
    array = noise((4, 5, 6), given).round()
    write_volume(tmp_path / f"a{suffix}", simple_grid(array.shape), reader(array), dtype=kept)
    with open_volume(tmp_path / f"a{suffix}") as volume:
        assert_array_equal(volume.whole(), array)


def test_doubles_beyond_float32_are_not_written(tmp_path):
    array = np.full((4, 5, 6), 1e300)
    with pytest.raises(InputError, match="do not fit float32"):
        write_volume(tmp_path / "a.nii", simple_grid(array.shape), reader(array))


# Pictures


def test_chest_x_rays(shared_data):
    from PIL import Image

    files = sorted((shared_data / "xray").glob("*.png"))
    assert len(files) == 14
    for file in files:
        with open_volume(file) as volume:
            assert volume.grid.shape == (1024, 1024)
            assert volume.extremes is not None
            assert 0 <= volume.extremes[0] < volume.extremes[1] <= 255
            with Image.open(file) as image:
                assert_array_equal(volume.whole(), np.asarray(image))


def pictures():
    gray = noise((6, 5), np.uint8)
    opaque = np.full_like(gray, 255)
    coloured = np.stack([gray, gray, gray // 2], axis=-1)
    clear = opaque.copy()
    clear[2, 3] = 254
    yield "gray", gray, None
    yield "rgb", np.stack([gray] * 3, -1), None
    yield "rgba", np.stack([gray] * 3 + [opaque], -1), None
    yield "coloured", coloured, "colour channels differ"
    yield "transparent", np.stack([gray] * 3 + [clear], -1), "transparent"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("name", "array", "rule"), list(pictures()), ids=lambda v: str(v)[:11])
def test_only_gray_pictures_load(suffix, name, array, rule, tmp_path):
    path = tmp_path / f"{name}{suffix}"
    if suffix == ".png":
        from PIL import Image

        Image.fromarray(array).save(path)
    else:
        import tifffile

        tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    if rule:
        with pytest.raises(InputError, match=f"{name}{suffix}: .*{rule}"):
            open_volume(path)
    else:
        with open_volume(path) as volume:
            assert_array_equal(volume.whole(), noise((6, 5), np.uint8))


@pytest.mark.parametrize("mode", ["1", "P", "LA"])
def test_other_gray_png_modes(mode, tmp_path):
    from PIL import Image

    array = noise((6, 5), np.uint8) // 128 * 255
    Image.fromarray(array).convert(mode).save(tmp_path / "a.png")
    with open_volume(tmp_path / "a.png") as volume:
        assert_array_equal(volume.whole() > 0, array > 0)


def test_tiff_with_white_as_zero_is_inverted(tmp_path):
    import tifffile

    array = noise((6, 5), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    with open_volume(tmp_path / "a.tif") as volume:
        assert_array_equal(volume.whole(), 65535.0 - array)
    tifffile.imwrite(tmp_path / "b.tif", noise((3, 6, 5)), photometric="minisblack")
    with pytest.raises(InputError, match="3 pages"):
        open_volume(tmp_path / "b.tif")


def test_comments_of_others_are_ignored(tmp_path):
    import tifffile

    for comment in ("a scan", json.dumps([1, 2]), json.dumps({"shape": [6, 5]})):
        tifffile.imwrite(tmp_path / "a.tif", noise((6, 5)), description=comment, metadata=None)
        with open_volume(tmp_path / "a.tif") as volume:
            assert_array_equal(volume.grid.affine, np.eye(3))


def test_suffixes_are_read_in_any_case(tmp_path: Path):
    write_volume(tmp_path / "A.NII.GZ", simple_grid((4, 5, 6)), reader(noise((4, 5, 6))))
    with open_volume(tmp_path / "A.NII.GZ") as volume:
        assert_array_equal(volume.whole(), noise((4, 5, 6)))
    assert picture.SUFFIXES == (".png", ".tif", ".tiff")
