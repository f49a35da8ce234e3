"""Headers of NIfTI that are wrong, and pairs of header and voxels."""

import gzip
import shutil
import struct

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from msgan.cli.jobs import of_folder
from msgan.data.formats.nifti_header import magic_of
from msgan.data.scan import propose
from msgan.data.volume import open_labels, open_volume, write_volume
from msgan.types import InputError

AFFINE = np.array([[-2, 0, 0, 30], [0, 2, 0, -20], [0, 0, 3, 7], [0, 0, 0, 1.0]])
SHAPE = {2: (8, 9), 3: (8, 9, 10)}


def noise(dims=3, dtype=np.int16):
    return np.random.default_rng(0).uniform(1, 1000, SHAPE[dims]).astype(dtype)


def saved(path, dims=3, kind=nib.Nifti1Image, **changes):
    """A file of nibabel with some bytes of its header replaced."""
    nib.save(kind(noise(dims), AFFINE), path)
    data = path.read_bytes()
    data = bytearray(gzip.decompress(data) if path.suffix == ".gz" else data)
    for place, (form, value) in changes.items():
        struct.pack_into(f"<{form}", data, int(place[1:]), value)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


NIFTI1 = {
    # byte and value of a field, and what is said
    "before the end of the header": ({"_108": ("f", 348)}, "vox_offset 348: the voxels cannot"),
    "in the header": ({"_108": ("f", 0)}, "vox_offset 0: the voxels cannot begin before byte 352"),
    "negative": ({"_108": ("f", -352)}, "vox_offset -352: expected a whole number"),
    "no number": ({"_108": ("f", np.nan)}, "vox_offset nan: expected a whole number"),
    "endless": ({"_108": ("f", 1e30)}, "vox_offset 1e+30: expected a whole number"),
    "behind the end": ({"_108": ("f", 1e9)}, "truncated"),
    "slope alone": ({"_112": ("f", 1), "_116": ("f", np.nan)}, "scl_slope 1 with scl_inter nan"),
    "no type": ({"_70": ("h", 0)}, "datatype 0 is none of NIfTI's types"),
    "a type of no one": ({"_70": ("h", 1999)}, "datatype 1999 is none of NIfTI's types"),
    "bits": ({"_70": ("h", 1)}, "datatype 1 is none of NIfTI's types"),
    "colours": ({"_70": ("h", 128)}, "colour voxels"),
    "complex": ({"_70": ("h", 32)}, "voxels of type complex64"),
    "no axes": ({"_40": ("h", 0)}, "dim[0] is 0: an image has 1 to 7 axes"),
    "a line": ({"_40": ("h", 1)}, "1D image"),
    "many axes": ({"_40": ("h", 300)}, "dim[0] is"),
    "an axis of no length": ({"_42": ("h", 0)}, "empty image"),
    "an axis of negative length": ({"_44": ("h", -9)}, "negative length"),
    "axes of great length": ({"_42": ("h", 32767), "_44": ("h", 32767)}, "truncated"),
    "another mark": ({"_344": ("4s", b"n+9\0")}, "Analyze, which states no reliable orientation"),
    "no mark, no size": ({"_344": ("i", 0), "_0": ("i", 7)}, "none of the marks n+1, ni1"),
    "a pair in one": ({"_344": ("4s", b"ni1\0"), "_108": ("f", 0)}, "header of a pair (magic 'ni1"),
    "no place": ({"_254": ("h", 1), "_280": ("f", np.nan)}, "not finite"),
    "no rotation": ({"_254": ("h", 0), "_252": ("h", 1), "_256": ("f", 3)}, "b^2 + c^2 + d^2"),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", NIFTI1)
def test_wrong_headers_are_one_line(name, suffix, tmp_path):
    changes, rule = NIFTI1[name]
    path = saved(tmp_path / f"a{suffix}", **changes)
    for opener in (open_volume, open_labels):
        with pytest.raises(InputError) as error:
            opener(path)
        text = str(error.value)
        assert text.startswith(f"{path}: ")
        assert rule in text, text
        assert "\n" not in text


def test_wrong_headers_in_two_dimensions_and_of_nifti2(tmp_path):
    for kind, place, beginning in ((nib.Nifti1Image, "_108", 352), (nib.Nifti2Image, "_168", 544)):
        form = "f" if beginning == 352 else "q"
        path = saved(tmp_path / "a.nii", 2, kind, **{place: (form, beginning - 4)})
        with pytest.raises(InputError, match=f"before byte {beginning}"):
            open_volume(path)
        path = saved(tmp_path / "a.nii", 2, kind)
        path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(InputError, match="not a NIfTI file"):
            open_volume(path)


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_no_slope_is_no_scaling(slope, dims, tmp_path):
    path = saved(tmp_path / "a.nii", dims, _112=("f", slope), _116=("f", 7.0))
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), noise(dims))


def test_what_other_programs_leave_in_headers_is_read(tmp_path):
    for changes in (
        {"_0": ("i", 0)},  # sizeof_hdr
        {"_72": ("h", 99)},  # bitpix
        {"_40": ("h", 4), "_48": ("h", 0)},  # an axis of time without length
        {"_344": ("4s", b"ni1\0")},  # the voxels follow
    ):
        with open_volume(saved(tmp_path / "a.nii", **changes)) as volume:
            assert_array_equal(volume.whole(), noise())


@pytest.mark.parametrize("size", [0, 7, -16, 1 << 30, 24])
def test_extensions_that_lie_about_their_size_do_no_harm(size, tmp_path):
    data = bytearray(saved(tmp_path / "a.nii").read_bytes())
    data[348:352] = b"\1\0\0\0"
    struct.pack_into("<f", data, 108, 352 + 32)
    data[352:352] = struct.pack("<ii24s", size, 6, b"msgan unit: HU")
    (tmp_path / "b.nii").write_bytes(data)
    with open_volume(tmp_path / "b.nii") as volume:
        assert volume.unit in ("a.u.", "HU")
        assert_array_equal(volume.whole(), noise())


def test_compressed_files_without_their_suffix_are_named(tmp_path):
    saved(tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"compressed: its name must end in \.gz"):
        open_volume(tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(b"something else " * 99))
    with pytest.raises(InputError, match="not a NIfTI file"):
        open_volume(tmp_path / "b.nii.gz")


def pair(folder, stem="p1_t1", compressed=False, kind=nib.Nifti1Pair):
    nib.save(kind(noise(), AFFINE), folder / f"{stem}.hdr")
    if compressed:
        data = (folder / f"{stem}.img").read_bytes()
        (folder / f"{stem}.img").unlink()
        (folder / f"{stem}.img.gz").write_bytes(gzip.compress(data))
    return folder / f"{stem}.hdr"


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("compressed", [False, True])
def test_pairs_are_read_by_either_name(kind, compressed, tmp_path):
    header = pair(tmp_path, compressed=compressed, kind=kind)
    voxels = tmp_path / ("p1_t1.img.gz" if compressed else "p1_t1.img")
    for path in (header, voxels):
        with open_volume(path) as volume:
            assert_array_equal(volume.whole(), noise())
            assert_allclose(volume.grid.affine, AFFINE)
            write_volume(tmp_path / "b.nii", volume.grid, volume.read)
    assert_allclose(nib.load(tmp_path / "b.nii").affine, AFFINE)
    voxels.unlink()
    with pytest.raises(InputError, match=r"the other half of the pair, p1_t1\.img, is not"):
        open_volume(header)


def test_a_pair_is_one_image_of_its_folder(tmp_path):
    pair(tmp_path)
    saved(tmp_path / "p1_t2.nii.gz")
    found = propose(tmp_path)
    assert [f.path for f in found.found] == ["p1_t1.hdr", "p1_t2.nii.gz"]
    assert {o.path: o.reason for o in found.omitted} == {
        "p1_t1.img": "the voxels of a NIfTI pair, which its .hdr stands for"
    }
    jobs = [(j.source.name, j.result.name) for j in of_folder(tmp_path, tmp_path / "o", "*")]
    assert jobs == [("p1_t1.hdr", "p1_t1.nii.gz"), ("p1_t2.nii.gz", "p1_t2.nii.gz")]


def test_analyze_is_no_pair(tmp_path):
    saved(tmp_path / "p1_t2.nii.gz")
    nib.save(nib.AnalyzeImage(noise(), AFFINE), tmp_path / "p1_t1.hdr")
    found = propose(tmp_path)
    assert {o.path for o in found.omitted} == {"p1_t1.hdr", "p1_t1.img"}
    assert all("Analyze states no reliable orientation" in o.reason for o in found.omitted)
    assert len(of_folder(tmp_path, tmp_path / "o", "*")) == 1
    with pytest.raises(InputError, match="Analyze, which states no reliable orientation"):
        open_volume(tmp_path / "p1_t1.hdr")
    shutil.copy(tmp_path / "p1_t1.hdr", tmp_path / "a.nii")
    with pytest.raises(InputError, match="Analyze, which states no reliable orientation"):
        open_volume(tmp_path / "a.nii")


def test_a_single_file_named_like_a_header_is_told(tmp_path):
    saved(tmp_path / "a.nii").rename(tmp_path / "a.hdr")
    (tmp_path / "a.img").write_bytes(b"\0" * 9)
    with pytest.raises(InputError, match=r"single file \(magic 'n\+1'\): name it \.nii"):
        open_volume(tmp_path / "a.hdr")


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
def test_mgh_without_orientation_is_told_and_other_versions_refused(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    nib.save(nib.MGHImage(noise(dtype=np.int32), AFFINE), path)
    with open_volume(path) as volume:
        assert volume.notes == ()
    data = path.read_bytes()
    data = bytearray(gzip.decompress(data) if suffix == ".mgz" else data)
    data[28:30] = bytes(2)
    path.write_bytes(gzip.compress(data) if suffix == ".mgz" else data)
    with open_volume(path) as volume:
        assert "states no orientation (goodRASFlag is 0)" in volume.notes[0]
        assert volume.grid.orientation == ("L", "S", "P")
    data[:4] = b"\0\0\0\7"
    path.write_bytes(gzip.compress(data) if suffix == ".mgz" else data)
    with pytest.raises(InputError, match="version 7, expected 1"):
        open_volume(path)


def test_a_file_that_is_no_gzip_or_absent_has_no_mark(tmp_path):
    path = saved(tmp_path / "a.nii.gz")
    assert magic_of(path) == "n+1"
    data = path.read_bytes()
    for bad in (data[:40], b"no gzip", data[:10] + b"\xff" * 50):
        path.write_bytes(bad)
        assert magic_of(path) == ""
    assert magic_of(tmp_path / "absent.nii") == ""
