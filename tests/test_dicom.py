"""What a DICOM header says of its values, and what it says wrongly."""

import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from msgan.data.formats.dicom import header_of, is_dicom, number
from msgan.data.formats.dicom_header import Header
from msgan.data.formats.dicom_packed import RUN_LENGTHS, Layout, unpacked
from msgan.data.scan import propose
from msgan.data.volume import open_volume
from msgan.types import InputError

SHAPE = (6, 5, 4)  # columns, rows, slices
STORED = np.random.default_rng(0).integers(0, 3000, SHAPE)
Edit = Callable[[Any, int], None]


def write(path: Path, stored: Any, k: int = 0, edit: Edit | None = None, **tags: Any) -> Path:
    """One slice ``stored[column, row]`` at 3 k mm; tags of None are left out."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = (
        f"1.2.{crc32(path.name.encode())}"
    )
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    own: dict[str, Any] = {
        "Modality": "CT",
        "SeriesInstanceUID": "1.2",
        "PatientID": "P1",
        "Rows": stored.shape[1],
        "Columns": stored.shape[0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelSpacing": [2.0, 1.0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-20.0, -30.0, 3.0 * k],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "RescaleSlope": "1",
        "RescaleIntercept": "-1024",
        **tags,
    }
    for tag, value in own.items():
        if value is not None:
            setattr(data, tag, value)
    kind = f"{'i' if own['PixelRepresentation'] else 'u'}{own['BitsAllocated'] // 8}"
    data.PixelData = stored.T.astype(kind).tobytes()
    if edit:
        edit(data, k)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bad values are wanted
        data.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path, edit: Edit | None = None, stored: Any = STORED, **tags: Any) -> Path:
    """A series of slices."""
    for k in range(stored.shape[2]):
        write(folder / f"IM{k}.dcm", stored[:, :, k], k, edit, **tags)
    return folder


def raw(tag: int, kind: str, value: bytes) -> Edit:
    """Puts bytes into an element as they are."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    def edit(data: Any, k: int) -> None:
        element = RawDataElement(Tag(tag), kind, len(value), value, 0, False, True)
        data._dict[Tag(tag)] = element

    return edit


def opened(path: Path) -> tuple[Any, str, tuple[str, ...]]:
    """Voxels, unit and remarks."""
    with open_volume(path) as volume:
        return volume.whole(), volume.unit, volume.notes


def refusal(path: Path) -> str:
    """Why a file or folder is refused, in one line."""
    with pytest.raises(InputError) as error:
        open_volume(path)
    assert "\n" not in str(error.value)
    return str(error.value)


# Rescale


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    def edit(data: Any, k: int) -> None:
        data.RescaleSlope, data.RescaleIntercept = str(k + 1), str(-100 * k)

    image, unit, notes = opened(series(tmp_path / "s", edit))
    assert_array_equal(image, STORED * np.arange(1, 5) - 100 * np.arange(4))
    assert (unit, notes) == ("HU", ())


@pytest.mark.parametrize("tag", ["RescaleIntercept", "RescaleSlope"])
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("first", [False, True])
def test_a_rescale_in_some_slices_only_is_refused(
    tag: str, modality: str, first: bool, tmp_path: Path
) -> None:
    def edit(data: Any, k: int) -> None:
        if (k < 1) == first:
            delattr(data, tag)

    line = refusal(series(tmp_path / "s", edit, Modality=modality))
    without, with_it = ("IM0", "IM1") if first else ("IM1", "IM0")
    assert f"{without}.dcm has no {tag}, {with_it}.dcm has" in line


def test_a_ct_without_a_rescale_is_not_in_hu(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", RescaleSlope=None, RescaleIntercept=None)
    image, unit, notes = opened(folder)
    assert_array_equal(image, STORED)
    assert unit == "a.u."
    assert "without RescaleIntercept" in notes[0]
    assert propose(tmp_path).manifest.rows[0].unit == ""


@pytest.mark.parametrize(("kind", "unit"), [("HU", "HU"), ("US", "a.u."), ("HU_MOD", "a.u.")])
def test_the_type_of_a_rescale_decides_the_unit(kind: str, unit: str, tmp_path: Path) -> None:
    image, found, notes = opened(series(tmp_path / "s", RescaleType=kind))
    assert_array_equal(image, STORED - 1024)
    assert found == unit
    assert all(kind in note for note in notes)
    assert bool(notes) == (unit != "HU")


def test_slices_of_two_types_of_rescale_are_refused(tmp_path: Path) -> None:
    def edit(data: Any, k: int) -> None:
        if k == 2:
            data.RescaleType = kind

    kind = "HU"  # what a CT has where it states none
    assert opened(series(tmp_path / "s", edit))[1] == "HU"
    kind = "US"
    assert "differ in RescaleType: HU and US" in refusal(series(tmp_path / "s", edit))


@pytest.mark.parametrize("value", [b"0 ", b"NaN ", b"1,5 ", b"1\\2 ", b"n/a ", b"inf "])
def test_a_slope_that_is_none_is_refused(value: bytes, tmp_path: Path) -> None:
    line = refusal(series(tmp_path / "s", raw(0x00281053, "DS", value)))
    assert "IM0.dcm: RescaleSlope is" in line


def test_a_table_of_values_is_refused(tmp_path: Path) -> None:
    import pydicom

    def edit(data: Any, k: int) -> None:
        data.ModalityLUTSequence = [pydicom.Dataset()]

    assert "Modality LUT Sequence" in refusal(series(tmp_path / "s", edit))


# Pixels


@pytest.mark.parametrize("bytes_there", [0, 2, 58])
def test_fewer_pixels_than_rows_and_columns_are_refused(bytes_there: int, tmp_path: Path) -> None:
    def edit(data: Any, k: int) -> None:
        data.PixelData = data.PixelData[: bytes_there if k == 2 else None]
        data["PixelData"].VR = "OW"

    line = refusal(series(tmp_path / "s", edit))
    assert "IM2.dcm: " in line
    assert "pixels" in line
    assert "60" in line or not bytes_there


def test_a_byte_of_padding_is_no_pixel(tmp_path: Path) -> None:
    stored = STORED[:5, :5, 0] % 200  # an odd number of bytes
    tags = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    image, *_ = opened(write(tmp_path / "a.dcm", stored, **tags))
    assert_array_equal(image.T, stored - 1024)
    line = refusal(write(tmp_path / "b.dcm", stored, **{**tags, "Rows": 2}))
    assert "do not fit" in line


@pytest.mark.parametrize("signed", [0, 1])
def test_only_the_stored_bits_count(signed: int, tmp_path: Path) -> None:
    """An overlay in the high bits, as old scanners wrote it."""
    values = STORED[:, :, 0] % 2048 - 1024 * signed
    bits = (values & 0xFFF) << 2 | 0xC001
    tags = {"BitsStored": 12, "HighBit": 13}
    path = write(tmp_path / "a.dcm", bits.astype(np.uint16).view(np.int16), **tags)

    def edit(data: Any, k: int) -> None:
        data.PixelRepresentation = signed

    path = write(tmp_path / "a.dcm", bits, 0, edit, **tags)
    assert_array_equal(opened(path)[0].T, values - 1024)


@pytest.mark.parametrize(
    "tags",
    [
        {"BitsStored": 17},
        {"HighBit": 16},
        {"BitsStored": 12, "HighBit": 10},
        {"BitsStored": 0},
        {"Rows": 0},
    ],
)
def test_bits_that_contradict_each_other_are_refused(tags: dict, tmp_path: Path) -> None:
    refusal(write(tmp_path / "a.dcm", STORED[:, :, 0], **tags))


def test_sizes_that_lie_take_no_memory(tmp_path: Path) -> None:
    import pydicom

    def edit(data: Any, k: int) -> None:
        data.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom")
        data.Rows = data.Columns = 65535

    assert "at most" in refusal(write(tmp_path / "a.dcm", STORED[:, :, 0], 0, edit))
    path = write(tmp_path / "b.dcm", STORED[:, :, 0], Rows=65535, Columns=65535)
    assert "bytes of pixels" in refusal(path)
    content = path.read_bytes()
    start = content.rindex(b"OW\0\0") + 4
    path.write_bytes(content[:start] + b"\xf0\xff\xff\xff" + content[start + 4 :])
    refusal(path)


def test_deflated_data_are_counted_before_they_are_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msgan.data.formats import dicom_deflated

    def deflated(data: Any, k: int) -> None:
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        if k:
            data.add_new(0x00091010, "UT", "a" * 500_000)

    plain, _, _ = opened(write(tmp_path / "plain.dcm", STORED[:, :, 0]))
    path = write(tmp_path / "deflated.dcm", STORED[:, :, 0], 0, deflated)
    assert_array_equal(opened(path)[0], plain)
    long = write(tmp_path / "long.dcm", STORED[:, :, 0], 1, deflated)
    assert long.stat().st_size < 10_000
    assert_array_equal(opened(long)[0], plain)
    monkeypatch.setattr(dicom_deflated, "MOST", 400_000)
    assert "deflated data of more than" in refusal(long)
    assert_array_equal(opened(path)[0], plain)


def test_run_lengths(tmp_path: Path) -> None:
    import pydicom

    stored = np.where(STORED > 1500, STORED, 0)

    def edit(data: Any, k: int) -> None:
        data.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom")

    image, *_ = opened(series(tmp_path / "s", edit, stored))
    assert_array_equal(image, stored - 1024)

    def shorter(data: Any, k: int) -> None:
        edit(data, k)
        data.Rows += 1

    assert "run lengths, expected" in refusal(series(tmp_path / "t", shorter, stored))


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_compressed_images_have_the_size_of_the_header(compressor: str, tmp_path: Path) -> None:
    import pydicom
    import SimpleITK as sitk

    image = np.random.default_rng(0).integers(0, 4000, (1, 9, 12)).astype(np.int16)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(sitk.GetImageFromArray(image))
    assert_array_equal(opened(tmp_path / "a.dcm")[0], image[0])
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.Rows = 10
    data.save_as(tmp_path / "b.dcm")
    assert "compressed image of 9 x 12" in refusal(tmp_path / "b.dcm")


@pytest.mark.parametrize(
    ("syntax", "name"),
    [("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"), ("1.2.840.10008.1.2.4.100", "MPEG2")],
)
def test_an_unknown_compression_is_named_with_the_way_out(
    syntax: str, name: str, tmp_path: Path
) -> None:
    known = b"1.2.840.10008.1.2.4.100"

    def edit(data: Any, k: int) -> None:
        data.file_meta.TransferSyntaxUID = known.decode()
        data.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True

    path = write(tmp_path / "a.dcm", STORED[:, :, 0], 0, edit)
    path.write_bytes(path.read_bytes().replace(known, syntax.encode()))
    line = refusal(path)
    assert name in line
    assert syntax in line
    assert "gdcmconv" in line
    assert "damaged" not in line


LAYOUT = {"Rows": 5, "Columns": 6, "BitsAllocated": 16}


@pytest.mark.parametrize(
    ("tags", "rule"),
    [
        ({"Rows": 0}, "Rows 0, Columns 6: expected at least 1"),
        ({"Columns": -1}, "Rows 5, Columns -1: expected at least 1"),
        ({"BitsAllocated": 12}, "BitsAllocated 12: expected 8, 16 or 32"),
        ({"BitsAllocated": 64}, "BitsAllocated 64: expected 8, 16 or 32"),
        ({"PixelRepresentation": 2}, "PixelRepresentation 2: expected 0 or 1"),
        ({"Rows": "5.5"}, "Rows is '5.5': expected an integer"),
    ],
)
def test_a_layout_that_no_image_has_is_refused(tags: dict, rule: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(rule)}$"):
        Layout.of(Header(LAYOUT | tags, ""))


def jpeg(rows: int, columns: int, samples: int = 1) -> bytes:
    """The head of a JPEG, whose size stands behind another segment and a byte that fills."""
    size = b"\xff\xc3" + struct.pack(">HBHHB", 8 + 3 * samples, 12, rows, columns, samples)
    return b"\xff\xd8" + b"\xff\xe0\0\x06abcd" + b"\xff" + size + b"\x01\x11\0" * samples


LOSSLESS, JPEG2000 = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"
DAMAGED = "DICOM pixels cannot be decoded: truncated or damaged file"


@pytest.mark.parametrize(
    ("syntax", "frame", "rule"),
    [
        (RUN_LENGTHS, b"\2\0\0\0", f"{DAMAGED} (run lengths)"),
        (RUN_LENGTHS, struct.pack("<16I", 3, *[64] * 15), "3 planes of run lengths, expected 2"),
        (LOSSLESS, jpeg(9, 12), "compressed image of 9 x 12, Rows x Columns are 5 x 6"),
        (LOSSLESS, jpeg(5, 6, 3), "compressed image of 3 colours: expected one value a voxel"),
        (LOSSLESS, jpeg(5, 6)[:10], f"{DAMAGED} (JPEG Lossless"),
        (LOSSLESS, jpeg(5, 6) + bytes(40), f"{DAMAGED} (JPEG Lossless"),
        (LOSSLESS, b"", f"{DAMAGED} (JPEG Lossless"),
        (JPEG2000, bytes(80), f"{DAMAGED} (JPEG 2000"),
        (JPEG2000, b"\xff\x4f\xff\x51" + bytes(8), f"{DAMAGED} (JPEG 2000"),
    ],
    ids=[
        *("lengths that end", "planes of other bits", "another size", "colours", "jpeg that ends"),
        *("jpeg of zeros", "no jpeg", "no jpeg 2000", "jpeg 2000 that ends"),
    ],
)
def test_a_compressed_image_that_is_none_is_one_line(syntax: str, frame: bytes, rule: str) -> None:
    with pytest.raises(InputError, match=re.escape(rule)) as error:
        unpacked(frame, Layout.of(Header(LAYOUT, "")), syntax)
    assert "\n" not in str(error.value)


def test_compression_that_is_stated_or_not_must_be_that_of_the_pixels(tmp_path: Path) -> None:
    import pydicom

    def edit(data: Any, k: int) -> None:
        data.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom")

    path = write(tmp_path / "a.dcm", STORED[:, :, 0], 0, edit)
    content = path.read_bytes()
    path.write_bytes(content.replace(RUN_LENGTHS.encode(), b"1.2.840.10008.1.2.1"))
    assert "compressed pixels, but the file states no compression" in refusal(path)
    item = content.rindex(b"\xfe\xff\x00\xe0")  # of the only frame, behind that of the offsets
    path.write_bytes(content[:item] + b"\xfe\xff\x00\xe1" + content[item + 4 :])
    assert f"truncated or damaged file (RLE Lossless ({RUN_LENGTHS}))" in refusal(path)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_most_significant_byte_may_come_first(bits: int, tmp_path: Path) -> None:
    import pydicom

    stored = STORED[:, :, 0] % 200 if bits == 8 else STORED[:, :, 0]
    layout = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
    data = pydicom.dcmread(write(tmp_path / "a.dcm", stored, **layout))
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data["PixelData"].VR = "OW"
    list(data.iterall())  # decoded before they are written the other way round
    way = {"implicit_vr": False, "little_endian": False, "force_encoding": True}
    pydicom.dcmwrite(tmp_path / "b.dcm", data, **way)
    assert_array_equal(opened(tmp_path / "b.dcm")[0].T, stored - 1024)


# What is bright, and what is nothing


@pytest.mark.parametrize("bits", [12, 16])
def test_high_values_that_are_dark_are_inverted(bits: int, tmp_path: Path) -> None:
    stored = STORED % 2700
    stored[0, 0, 0] = 2699  # twelve bits in use, whatever the header states
    tags = {"BitsStored": bits, "HighBit": bits - 1, "RescaleIntercept": None, "Modality": "DX"}
    tags |= {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": "2"}
    image, *_ = opened(series(tmp_path / "s", stored=stored, **tags))
    assert_array_equal(image, 2 * (4095 - stored))
    image, *_ = opened(write(tmp_path / "a.dcm", stored[:, :, 0], **tags))
    assert_array_equal(image.T, 2 * (4095 - stored[:, :, 0]))


def test_both_kinds_of_brightness_in_a_series_are_refused(tmp_path: Path) -> None:
    def edit(data: Any, k: int) -> None:
        data.PhotometricInterpretation = f"MONOCHROME{1 + k % 2}"

    assert "differ in PhotometricInterpretation" in refusal(series(tmp_path / "s", edit))


@pytest.mark.parametrize("signed", [0, 1])
def test_padding_is_air_in_a_ct(signed: int, tmp_path: Path) -> None:
    stored = STORED.copy()
    stored[0] = -2000 if signed else 63536  # the same bits
    tags = {"BitsStored": 16 if signed else 12, "HighBit": 15 if signed else 11}
    image, *_ = opened(
        series(
            tmp_path / "s",
            raw(0x00280120, "SS" if signed else "US", np.int16(-2000).tobytes()),
            stored,
            PixelRepresentation=signed,
            **tags,
        )
    )
    assert_array_equal(image[0], np.full(SHAPE[1:], -1024))
    assert_array_equal(image[1:], STORED[1:] - 1024)


def test_padding_beyond_all_values_is_black_elsewhere(tmp_path: Path) -> None:
    stored = STORED.copy()
    stored[0] = 4095
    tags = {"Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None}
    image, *_ = opened(series(tmp_path / "s", stored=stored, PixelPaddingValue=4095, **tags))
    assert_array_equal(image[0], np.zeros(SHAPE[1:]))
    assert_array_equal(image[1:], STORED[1:])


def test_a_value_among_others_is_no_padding(tmp_path: Path) -> None:
    stored = STORED.copy()
    stored[0] = 1024
    image, *_ = opened(series(tmp_path / "s", stored=stored, PixelPaddingValue=1024))
    assert_array_equal(image, stored - 1024)


# Badly written headers


@pytest.mark.parametrize(
    ("tag", "name", "value"),
    [
        (0x00280030, "PixelSpacing", b"2,5\\2,5 "),
        (0x00280030, "PixelSpacing", b"2.5,2.5 "),
        (0x00280030, "PixelSpacing", b"2.5 "),
        (0x00280030, "PixelSpacing", b"n/a "),
        (0x00280030, "PixelSpacing", b"NaN\\NaN "),
        (0x00280030, "PixelSpacing", b"0\\1 "),
        (0x00200032, "ImagePositionPatient", b"0\\0 "),
        (0x00200032, "ImagePositionPatient", b""),
        (0x00200037, "ImageOrientationPatient", b"1\\0\\0\\0\\1 "),
        (0x00200037, "ImageOrientationPatient", b"2\\0\\0\\0\\.5\\0"),
        (0x00280008, "NumberOfFrames", b"many"),
    ],
)
def test_a_number_that_is_none_is_one_line(
    tag: int, name: str, value: bytes, tmp_path: Path
) -> None:
    kind = "IS" if name == "NumberOfFrames" else "DS"
    line = refusal(series(tmp_path / "s", raw(tag, kind, value)))
    assert name in line
    if value.strip():
        assert value[:3].decode() in line or name == "ImageOrientationPatient" or "0.0" in line


def test_numbers_of_another_type_are_read(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", raw(0x00280030, "UT", b"2.0\\1.0 "))
    with open_volume(folder) as volume:
        assert volume.grid.spacing == (1, 2, 3)


@pytest.mark.parametrize("value", [b"n/a ", b"3,5 ", b"500\\700 ", b"", b"\xff\xfe"])
def test_tags_that_are_guessed_from_stop_nothing(value: bytes, tmp_path: Path) -> None:
    def edit(data: Any, k: int) -> None:
        for tag in (0x00180080, 0x00180081, 0x00180082, 0x00080005, 0x00181210):
            raw(tag, "DS" if tag < 0x00181000 and tag > 0x00080005 else "CS", value)(data, k)

    folder = series(tmp_path / "s", edit, Modality="MR")
    assert number(header_of(folder / "IM0.dcm"), "EchoTime") is None
    assert_array_equal(opened(folder)[0], STORED - 1024)
    assert len(propose(tmp_path).manifest.rows) == 1


# Files without a preamble


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("meta", [True, False])
def test_files_without_preamble_are_read(implicit: bool, meta: bool, tmp_path: Path) -> None:
    import pydicom

    folder = series(tmp_path / "s")
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        )
        data.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
        content = path.read_bytes()[132:]
        if not meta:
            length = pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
            content = content[12 + length :]
        path.write_bytes(content)
    assert_array_equal(opened(folder)[0], STORED - 1024)


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\x00\x16\x00UI",
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" * 40,
        b"\x08\x00" * 300,
        b"\x08\x00\x16\x00UI\x06\x00abcdef" + bytes(400),
        b"\x02\x00\x00\x00UL\x04\x00" + bytes(300),
        bytes(200),
    ],
)
def test_other_files_are_not_taken_for_dicom(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert not is_dicom(tmp_path / "a")


# Several volumes, and files that hold none


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("EchoTime", ("4.9", "9.8")),
        ("AcquisitionNumber", ("1", "2")),
        ("TemporalPositionIdentifier", ("1", "2")),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])),
    ],
)
def test_what_tells_two_volumes_apart_is_named(tag: str, values: Any, tmp_path: Path) -> None:
    for n, value in enumerate(values):
        for k in range(4):
            write(tmp_path / "s" / f"{n}{k}.dcm", STORED[:, :, k], k, **{tag: value})
    line = refusal(tmp_path / "s")
    assert "have the same position" in line
    assert f"2 volumes in one series, which differ in {tag}" in line


def test_a_slice_that_is_there_twice_is_called_so(tmp_path: Path) -> None:
    folder = series(tmp_path / "s")
    (folder / "copy").write_bytes((folder / "IM2.dcm").read_bytes())
    assert "a slice is there twice" in refusal(folder)


@pytest.mark.parametrize(
    ("tags", "rule"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "a mosaic of all slices"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1"}, "enhanced DICOM"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, "enhanced DICOM"),
    ],
)
def test_slices_in_one_image_are_refused(tags: dict, rule: str, tmp_path: Path) -> None:
    line = refusal(write(tmp_path / "a.dcm", STORED[:, :, 0], **tags))
    assert rule in line
    assert "dcm2niix" in line


def test_a_pixel_without_a_size_is_told(tmp_path: Path) -> None:
    _, _, notes = opened(write(tmp_path / "a.dcm", STORED[:, :, 0], PixelSpacing=None))
    assert "taken to be 1 mm" in notes[0]


def test_a_header_that_is_nested_without_end_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", STORED[:, :, 0])
    deeper = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    content, place = path.read_bytes(), path.read_bytes().index(b"\x10\x00\x20\x00LO")
    path.write_bytes(content[:place] + deeper * 5000 + content[place:])
    assert "unreadable DICOM header" in refusal(path)


def test_what_holds_no_slice_is_passed_over(tmp_path: Path) -> None:
    folder = series(tmp_path / "s")
    write(folder / "plan", STORED[:, :, 0], Modality="RTSTRUCT", SeriesInstanceUID="1.9", Rows=None)
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "1.8"}
    write(folder / "scout", STORED[:, :, 0], **scout)
    write(folder / "DICOMDIR", STORED[:, :, 0], SOPClassUID="1.2.840.10008.1.3.10")
    image, unit, notes = opened(folder)
    assert_array_equal(image, STORED - 1024)
    assert unit == "HU"
    assert "2 files" in notes[0]
