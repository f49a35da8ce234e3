"""Files that break loaders: each states whether it loads, as what, or why it does not."""

import datetime
import gzip
import shutil

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from msgan.data.volume import Grid, open_labels, open_volume, write_volume
from msgan.types import InputError

LOADS = {
    # name: shape, unit, orientation, spacing in mm, smallest, largest, mean
    "bigendian_int16.nii": ((33, 41, 25), "a.u.", "LAS", (2, 2, 2), -610, 30393, 8401.066),
    "uint8_scaled_oblique_epi.nii.gz": (
        ((53, 61, 33), "a.u.", "RAS", (3, 3, 3), 7.742552, 103.76662, 45.679844)
    ),
    "IPL_uint32_labels.nii.gz": (
        ((266, 266, 190), "a.u.", "IPL", (0.941170, 0.938251, 1.204055), 0, 6, 0.2107345)
    ),
    # One slice each: a 2D image.
    "pydicom_CT_small.dcm": ((128, 128), "HU", "", (0.661468, 0.661468), -896, 1167, -119.0739),
    "pydicom_JPEG2000.dcm": ((1024, 256), "a.u.", "", (2.26, 2.26), -30, 245, 13.45816),
    "pydicom_MR_small_RLE.dcm": ((64, 64), "a.u.", "", (0.3125, 0.3125), 127, 2145, 518.8813),
    "pydicom_MR_small_bigendian.dcm": (
        ((64, 64), "a.u.", "", (0.3125, 0.3125), 127, 2145, 518.8813)
    ),
    # Enhanced: all slices in one file; geometry as dcm2niix has it.
    "enhanced_multiframe_mr.dcm": (
        ((256, 256, 8), "a.u.", "PIR", (1, 1, 1.20001), 0, 1081.74841, 541.541062)
    ),
    "hyperfine_multiframe_mr.dcm": (
        ((112, 138, 8), "a.u.", "LPS", (1.59, 1.61, 5), 0, 254, 127.07077)
    ),
}
FAILS = {
    "bigendian_f4_with_NaN_tiny.nii": "153 of 1071 voxels are NaN or infinite",
    "int16_scl_slope_4D.nii": "4D image of shape (17, 21, 3, 20): expected 3 axes",
    "nifti2_4D.nii.gz": "4D image of shape (32, 20, 12, 2): expected 3 axes",
    "oblique_4D.nii.gz": "4D image of shape (128, 96, 24, 2): expected 3 axes",
    "freesurfer_4D_tiny.mgz": "4D image of shape (3, 4, 5, 2): expected 3 axes",
    "pydicom_rtdose.dcm": "DICOM of modality RTDOSE is not an image",
    "pydicom_SC_rgb_rle_2frame.dcm": "RGB DICOM",
    "pydicom_MR_truncated.dcm": "truncated or damaged file",
    "pydicom_no_meta.dcm": "not a DICOM file",
    "gantry_tilt_ct": "gantry tilt of 14.0 degrees",
}


def noise(shape, dtype=np.int16):
    return np.random.default_rng(0).uniform(1, 1000, shape).astype(dtype)


@pytest.mark.parametrize("name", LOADS)
def test_odd_files_that_load(name, shared_data, tmp_path):
    shape, unit, orientation, spacing, low, high, mean = LOADS[name]
    with open_volume(shared_data / "odd_files" / name, scratch=tmp_path) as volume:
        image = volume.whole()
        assert volume.unit == unit
        assert volume.grid.shape == image.shape == shape
        assert "".join(volume.grid.orientation) == orientation
        assert_allclose(volume.grid.spacing, spacing, rtol=1e-5)
        assert_allclose((image.min(), image.max()), (low, high), rtol=1e-6)
        assert_allclose(volume.extremes, (low, high), rtol=1e-6)
        assert_allclose(image.mean(dtype=np.float64), mean, rtol=1e-5)


@pytest.mark.parametrize("name", FAILS)
def test_odd_files_that_fail(name, shared_data, tmp_path):
    path = shared_data / "odd_files" / name
    with pytest.raises(InputError) as error:
        open_volume(path, scratch=tmp_path)
    assert str(error.value).startswith(f"{path}: ")
    assert FAILS[name] in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_every_odd_file_is_in_the_table(shared_data):
    assert {p.name for p in (shared_data / "odd_files").iterdir()} == {*LOADS, *FAILS}


def test_odd_labels_load_as_integers(shared_data, tmp_path):
    path = shared_data / "odd_files" / "IPL_uint32_labels.nii.gz"
    with open_labels(path, scratch=tmp_path) as labels:
        counts = np.bincount(labels.whole().ravel())
    expected = np.bincount(np.asarray(nib.load(path).dataobj).ravel())
    assert_array_equal(counts, expected)


# Files made bad here


def refused(path, rule, opener=open_volume):
    with pytest.raises(InputError) as error:
        opener(path)
    assert str(error.value).startswith(f"{path}: ")
    assert rule in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


GRID = Grid.from_spacing((8, 9, 10), (1, 1, 2))
SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz", ".mha", ".nrrd")


def write(path, array=None):
    array = noise(GRID.shape) if array is None else array
    if path.suffix in (".mgh", ".mgz"):
        nib.save(nib.MGHImage(array, GRID.affine), path)
    else:
        write_volume(path, GRID, lambda box: array[box.slices], dtype=array.dtype)
    return path


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".png", ".tif", ".dcm"])
def test_text_is_no_image(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_text("This is no image, only text that goes on for a while. " * 20)
    refused(path, "not a ")
    path.write_bytes(b"")
    refused(path, "the file has no bytes")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [0.9, 0.5, 0.02])
def test_truncated_files(suffix, keep, tmp_path):
    path = write(tmp_path / f"a{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    refused(path, "" if keep == 0.02 else "truncated")


@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz"])
def test_gzip_checksum(suffix, tmp_path):
    path = write(tmp_path / f"a{suffix}")
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in the CRC
    path.write_bytes(data)
    refused(path, "damaged or truncated gzip file: CRC check failed")


def test_gzip_in_name_only(tmp_path):
    path = write(tmp_path / "a.nii")
    refused(path.rename(tmp_path / "a.nii.gz"), "not a readable .nii.gz file")


def test_gzip_that_holds_too_little(tmp_path):
    data = write(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data[:-1]))
    refused(tmp_path / "b.nii.gz", "truncated: fewer voxels than the header promises")


@pytest.mark.parametrize("name", ["a.nii.gz", "folder.zarr", "a.xyz"])
def test_missing_files(name, tmp_path):
    refused(tmp_path / name, "no such file or folder")


@pytest.mark.parametrize("name", ["a.xyz", "a.nii.bz2", "a.jpg", "README", "a.hdr", "a.zarr"])
def test_unknown_kinds(name, tmp_path):
    (tmp_path / name).write_text("anything")
    refused(tmp_path / name, "unsupported file type")


@pytest.mark.parametrize("suffix", SUFFIXES[:4])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(suffix, bad, tmp_path):
    array = noise(GRID.shape, np.float32)
    array[1, 2, 3] = array[7, 8, 9] = bad
    path = tmp_path / f"a{suffix}"
    kind = nib.Nifti1Image if ".nii" in suffix else nib.MGHImage
    nib.save(kind(array, GRID.affine), path)
    refused(path, "2 of 720 voxels are NaN or infinite")
    refused(path, "2 of 720 voxels are NaN or infinite", open_labels)


def test_voxels_beyond_float32(tmp_path):
    array = noise(GRID.shape, np.float64)
    array[1, 2, 3] = -1e300
    nib.save(nib.Nifti1Image(array, GRID.affine), tmp_path / "a.nii")
    refused(tmp_path / "a.nii", "do not fit float32")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".zarr"])
@pytest.mark.parametrize(("value", "rule"), [(0, "empty image"), (7, "constant image: every")])
def test_images_of_one_value(suffix, value, rule, tmp_path):
    refused(write(tmp_path / f"a{suffix}", np.full(GRID.shape, value, np.int16)), rule)


def test_a_trailing_axis_of_length_one_is_dropped(tmp_path):
    array = noise((4, 5, 6, 1, 1))
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    with open_volume(tmp_path / "a.nii.gz") as volume:
        assert_array_equal(volume.whole(), array[..., 0, 0])
    nib.save(nib.Nifti1Image(noise((4, 5, 1)), np.eye(4)), tmp_path / "b.nii.gz")
    with open_volume(tmp_path / "b.nii.gz") as volume:
        assert volume.grid.shape == (4, 5, 1)


def test_colour_and_complex_voxels(tmp_path):
    colour = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), tmp_path / "a.nii")
    refused(tmp_path / "a.nii", "colour voxels")
    nib.save(nib.Nifti1Image(noise((4, 5, 6), np.complex64), np.eye(4)), tmp_path / "b.nii")
    refused(tmp_path / "b.nii", "voxels of type complex64")
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(noise((4, 5, 6, 3)), isVector=True), tmp_path / "c.mha")
    refused(tmp_path / "c.mha", "3 values for each voxel")


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        (((1, 0, 0, 0), (0, 0, 0, 0)), "zero along an axis"),
        (((1, 1, 0, 0), (1, 1, 0, 0)), "singular"),
        (((1, 0, 0, 0), (0, np.nan, 0, 0)), "not finite"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_bad_affines(rows, rule, suffix, tmp_path):
    data = bytearray(write(tmp_path / "a.nii").read_bytes())
    data[252:256] = np.array([0, 1], "<i2").tobytes()  # qform_code, sform_code
    data[280:312] = np.array(rows, "<f4").tobytes()  # srow_x, srow_y
    (tmp_path / f"b{suffix}").write_bytes(gzip.compress(data) if suffix == ".nii.gz" else data)
    refused(tmp_path / f"b{suffix}", rule)


def test_zarr_folders_without_an_image(tmp_path):
    import zarr

    (tmp_path / "empty.zarr").mkdir()
    refused(tmp_path / "empty.zarr", "not an OME-Zarr image")
    zarr.create_array(tmp_path / "plain.zarr", data=noise((4, 5, 6)))
    refused(tmp_path / "plain.zarr", "not an OME-Zarr image")
    path = write(tmp_path / "a.zarr")
    shutil.rmtree(path / "0")
    refused(path, "not an OME-Zarr image")


def test_damaged_zarr_chunk(tmp_path):
    path = write(tmp_path / "a.zarr")
    (chunk,) = (p for p in (path / "0" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-40])
    refused(path, "damaged chunk")


# DICOM series


def slice_file(folder, number, position, *, rows=6, columns=5, modality="CT", **tags):
    """One slice whose stored values are ``number * 100`` + 0, 1, 2, ... (row by row)."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(folder), str(number)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = pydicom.Dataset()
    header.file_meta = meta
    header.SOPClassUID = meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    header.SeriesInstanceUID = "1.2.3"
    header.StudyInstanceUID = "1.2"
    header.StudyDate = datetime.date(2000, 1, 1).strftime("%Y%m%d")
    header.Modality = modality
    header.InstanceNumber = 7  # useless on purpose: only positions may order the slices
    header.Rows, header.Columns = rows, columns
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = 0
    header.PixelSpacing = [0.8, 0.6]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.ImagePositionPatient = [float(v) for v in position]
    header.RescaleSlope, header.RescaleIntercept = 2, -1024
    for tag, value in tags.items():
        if value is None:
            delattr(header, tag)
        else:
            setattr(header, tag, value)
    pixels = number * 100 + np.arange(rows * columns, dtype=np.uint16).reshape(rows, columns)
    header.PixelData = pixels.tobytes()
    path = folder / f"{(number * 7919) % 1000:03d}.dcm"  # names in no useful order
    header.save_as(path, enforce_file_format=True)
    return path


def series(folder, **tags):
    folder.mkdir(exist_ok=True)
    for number in range(4):
        slice_file(folder, number, (10, -20, 30 + 2.5 * number), **tags)
    return folder


def test_dicom_series(tmp_path):
    folder = series(tmp_path / "ct")
    (folder / "notes.txt").write_text("scanned on a Monday")
    with open_volume(folder) as volume:
        image = volume.whole()
        assert volume.unit == "HU"
        assert image.shape == volume.grid.shape == (5, 6, 4)
        number, row, column = 3, 4, 2
        assert image[column, row, number] == 2 * (300 + row * 5 + column) - 1024
        assert_allclose(volume.grid.spacing, (0.6, 0.8, 2.5))
        assert volume.grid.orientation == ("L", "P", "S")
        # LPS (10, -20, 30) is RAS (-10, 20, 30).
        assert_allclose(volume.grid.affine[:3, 3], (-10, 20, 30))
    with open_volume(series(tmp_path / "mr", modality="MR")) as volume:
        assert volume.unit == "a.u."


def test_dicom_series_agrees_with_simpleitk(tmp_path):
    import SimpleITK as sitk

    turn = np.array([[0.8, -0.6, 0], [0.36, 0.48, -0.8], [0.48, 0.64, 0.6]])
    folder = tmp_path / "oblique"
    folder.mkdir()
    for number in range(4):
        position = np.array([10, -20, 30]) + 2.5 * number * turn[:, 2]
        slice_file(folder, number, position, ImageOrientationPatient=turn[:, :2].T.ravel().tolist())
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(files)
    with open_volume(folder) as volume:
        assert_array_equal(volume.whole(), sitk.GetArrayFromImage(image).T)
        point = image.TransformIndexToPhysicalPoint((3, 2, 1))
        assert_allclose((volume.grid.affine @ (3, 2, 1, 1))[:3], (-point[0], -point[1], point[2]))


@pytest.mark.parametrize(
    ("position", "tags", "rule"),
    [
        ((10, -20, 42.5), {}, "missing slices or irregular positions: 5 mm between"),
        ((10, -20, 40.5), {}, "irregular positions: 3 mm between"),
        ((10, -20, 37.5), {}, "have the same position"),
        ((10, -20, 40), {"SeriesInstanceUID": "1.2.4"}, "2 DICOM series in one folder"),
        ((10, -20, 40), {"rows": 7}, "differ in Rows: 6 and 7"),
        ((10, -20, 40), {"PixelSpacing": [0.8, 0.7]}, "differ in PixelSpacing"),
        (
            (10, -20, 40),
            {"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]},
            "differ in ImageOrientationPatient",
        ),
        ((10, -20, 40), {"ImagePositionPatient": None}, "has no ImagePositionPatient"),
        ((10, -20, 40), {"modality": "MR"}, "differ in Modality"),
        ((11, -20, 40), {}, "gantry tilt"),
    ],
)
def test_bad_dicom_series(position, tags, rule, tmp_path):
    folder = series(tmp_path / "ct")
    slice_file(folder, 4, position, **tags)
    refused(folder, rule)


def test_a_truncated_slice_is_named(tmp_path):
    folder = series(tmp_path / "ct")
    path = slice_file(folder, 4, (10, -20, 40))
    path.write_bytes(path.read_bytes()[:-20])
    refused(folder, f"{path.name}: DICOM pixels cannot be decoded")


def test_folders_without_a_series(tmp_path):
    refused(tmp_path, "no DICOM files in this folder")
    (tmp_path / "a.dcm").write_text("x" * 200)
    refused(tmp_path, "no DICOM files in this folder")


def test_single_slices(tmp_path):
    path = slice_file(tmp_path, 1, (0, 0, 0), modality="DX", PixelSpacing=None)
    with open_volume(path) as volume:
        assert volume.grid.shape == (6, 5)
        assert volume.grid.spacing == (1, 1)
        assert volume.whole()[2, 3] == 2 * (100 + 2 * 5 + 3) - 1024
    slice_file(tmp_path, 1, (0, 0, 0), PixelSpacing=None, ImagerPixelSpacing=[0.14, 0.2])
    with open_volume(tmp_path) as volume:  # a folder with one slice
        assert volume.grid.spacing == (0.14, 0.2)
    slice_file(tmp_path, 1, (0, 0, 0), PhotometricInterpretation="YBR_FULL")
    refused(path, "YBR_FULL pixels: expected MONOCHROME1 or MONOCHROME2")
