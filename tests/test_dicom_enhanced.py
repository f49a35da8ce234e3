"""Enhanced CT and MR: frames in any order, of one image or of several, packed or not."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers import head
from numpy.testing import assert_allclose, assert_array_equal
from program import msgan_cli
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from scipy.spatial.transform import Rotation
from test_privacy import PERSON, PLANTED

from msgan.data.formats.dicom_enhanced import frame_reader, frames_of
from msgan.data.scan import propose
from msgan.data.volume import open_volume
from msgan.translate import translate
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

MR, CT = (UID(f"1.2.840.10008.5.1.4.1.1.{n}") for n in ("4.1", "2.1"))
SHAPE = (7, 5, 6)  # columns, rows, slices
STORED = np.random.default_rng(0).integers(0, 3000, SHAPE)
SPACING = (0.8, 1.7, 2.5)  # along a row, along a column, between slices
TURN = Rotation.from_euler("xyz", [20, -30, 40], degrees=True).as_matrix()
ORIGIN = np.array([-80.123456, 33.25, 400.5])
ORDER = [3, 0, 5, 1, 4, 2]
"""In which frames are stored."""

SHARED = ("PlaneOrientationSequence", "PixelMeasuresSequence")
Edit = Callable[[dict[str, dict[str, Any]], int], None]


def item(**tags: Any) -> pydicom.Dataset:
    data = pydicom.Dataset()
    for tag, value in tags.items():
        setattr(data, tag, value)
    return data


def groups(k: int) -> dict[str, dict[str, Any]]:
    """Functional groups of slice ``k``."""
    place = ORIGIN + SPACING[2] * k * TURN[:, 2]
    return {
        "PlaneOrientationSequence": {"ImageOrientationPatient": list(TURN[:, :2].T.ravel())},
        "PixelMeasuresSequence": {"PixelSpacing": [SPACING[1], SPACING[0]], "SliceThickness": 9},
        "PlanePositionSequence": {"ImagePositionPatient": list(place)},
        "PixelValueTransformationSequence": {
            "RescaleSlope": 1.0,
            "RescaleIntercept": -1024.0,
            "RescaleType": "HU",
        },
        "FrameContentSequence": {"StackID": "1", "TemporalPositionIndex": 1},
    }


def write(
    path: Path,
    stored: Any = STORED,
    edit: Edit | None = None,
    shared: tuple[str, ...] = SHARED,
    syntax: UID = ExplicitVRLittleEndian,
    order: Any = ORDER,
    volumes: int = 1,
    **tags: Any,
) -> Path:
    """An enhanced CT, whose frames are stored in an odd order; tags of None are left out."""
    data = item(file_meta=pydicom.dataset.FileMetaDataset())
    kind = tags.get("SOPClassUID", CT)
    data.file_meta.MediaStorageSOPClassUID = kind
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    data.file_meta.TransferSyntaxUID = syntax
    frames = [(k, volume) for volume in range(volumes) for k in order]
    own: dict[str, Any] = {
        "SOPClassUID": CT,
        "SOPInstanceUID": "1.2.3.4",
        "Modality": "CT",
        "SeriesInstanceUID": "1.2.5",
        "StudyInstanceUID": "1.2.6",
        "PatientID": "P1",
        "Rows": stored.shape[1],
        "Columns": stored.shape[0],
        "NumberOfFrames": len(frames),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
    } | tags
    for tag, value in own.items():
        if value is not None:
            setattr(data, tag, value)
    each = []
    for number, (k, volume) in enumerate(frames):
        known = groups(k)
        if edit:
            edit(known, number if volumes == 1 else volume)
        each.append(known)
    items = [item(**{n: [item(**v)] for n, v in g.items() if n not in shared}) for g in each]
    data.PerFrameFunctionalGroupsSequence = items
    both = {n: [item(**v)] for n, v in each[0].items() if n in shared}
    data.SharedFunctionalGroupsSequence = [item(**both)]
    letter = "i" if own["PixelRepresentation"] else "u"
    pixels = [stored[:, :, k].T.astype(f"<{letter}{own['BitsAllocated'] // 8}") for k, _ in frames]
    data.PixelData = b"".join(p.tobytes() for p in pixels)
    data["PixelData"].VR = "OW"
    if syntax == RLELossless:
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.compress(RLELossless, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(path, enforce_file_format=True)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error, open_volume(path):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def affine() -> np.ndarray:
    own = np.eye(4)
    own[:3, :3], own[:3, 3] = TURN @ np.diag(SPACING), ORIGIN
    return np.diag([-1, -1, 1, 1]) @ own


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("signed", [0, 1], ids=["unsigned", "signed"])
def test_frames_are_an_image(tmp_path, syntax, signed):
    stored = STORED - 1500 * signed
    path = write(tmp_path / "a.dcm", stored, syntax=syntax, PixelRepresentation=signed)
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), stored - 1024)
        assert_allclose(volume.grid.affine, affine(), atol=1e-6)
        assert (volume.grid.shape, volume.unit, volume.notes) == (SHAPE, "HU", ())
        assert not volume.generated
    # A folder with the one file is the same image.
    with open_volume(tmp_path) as volume:
        assert_array_equal(volume.whole(), stored - 1024)


@pytest.mark.parametrize("names", [(), SHARED, (*SHARED, "PixelValueTransformationSequence")])
def test_groups_are_shared_or_of_each_frame(tmp_path, names):
    with open_volume(write(tmp_path / "a.dcm", shared=names)) as volume:
        assert_array_equal(volume.whole(), STORED - 1024)
        assert_allclose(volume.grid.spacing, SPACING)


def test_each_frame_has_its_own_rescale(tmp_path):
    def edit(own, number):
        k = ORDER[number]
        own["PixelValueTransformationSequence"] |= {"RescaleSlope": k + 1, "RescaleIntercept": -k}

    with open_volume(write(tmp_path / "a.dcm", edit=edit)) as volume:
        assert_array_equal(volume.whole(), STORED * np.arange(1, 7) - np.arange(6))


def test_an_mr_without_rescale_is_read_as_stored(tmp_path):
    def edit(own, number):
        del own["PixelValueTransformationSequence"]
        own["MRImageFrameTypeSequence"] = {"FrameType": ["ORIGINAL", "PRIMARY", "T1", "NONE"]}

    path = write(tmp_path / "a.dcm", edit=edit, SOPClassUID=MR, Modality="MR")
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), STORED)
        assert volume.unit == "a.u."


def test_frames_that_are_bright_where_little_is_are_turned_as_one(tmp_path):
    path = write(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1")
    with open_volume(path) as volume:
        assert_array_equal(volume.whole(), 4095 - STORED - 1024)


@pytest.mark.parametrize(
    ("group", "tag", "values", "named"),
    [
        ("FrameContentSequence", "TemporalPositionIndex", (1, 2), "TemporalPositionIdentifier"),
        ("MREchoSequence", "EffectiveEchoTime", (4.9, 9.8), "EchoTime"),
        ("MRDiffusionSequence", "DiffusionBValue", (0.0, 1000.0), "DiffusionBValue"),
        (
            "MRImageFrameTypeSequence",
            "ComplexImageComponent",
            ("MAGNITUDE", "PHASE"),
            "ComplexImageComponent",
        ),
    ],
)
def test_several_volumes_are_told_apart(tmp_path, group, tag, values, named):
    def edit(own, volume):
        own[group] = own.get(group, {}) | {tag: values[volume]}

    line = refusal(write(tmp_path / "a.dcm", edit=edit, volumes=2))
    assert "have the same position: 2 volumes in one file, which differ in " + named in line
    assert "dcm2niix" in line


def test_several_stacks_are_refused(tmp_path):
    def edit(own, volume):
        own["FrameContentSequence"]["StackID"] = str(volume + 1)

    line = refusal(write(tmp_path / "a.dcm", edit=edit, volumes=2))
    assert "2 stacks of frames, which differ in StackID" in line


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"InConcatenationTotalNumber": 3}, "one of 3 files of an image (a concatenation)"),
        ({"NumberOfFrames": 5}, "5 frames, but 6 items of PerFrameFunctionalGroupsSequence"),
        ({"NumberOfFrames": 1}, "enhanced DICOM"),
        ({"SOPClassUID": UID("1.2.840.10008.5.1.4.1.1.7.3")}, "multi-frame DICOM (6 frames)"),
        ({"order": [0, 1, 2, 3, 5]}, "missing slices or irregular positions: 5 mm between frame 4"),
        ({"order": [0, 1, 2, 3, 3]}, "several volumes in one file"),
        ({"shared": (), "edit": lambda own, k: own.pop("PixelMeasuresSequence")}, "PixelSpacing"),
        ({"edit": lambda own, k: own.pop("PlanePositionSequence")}, "no ImagePositionPatient"),
        (
            {
                "shared": (),
                "edit": lambda own, k: own["PixelMeasuresSequence"].update(PixelSpacing=[1, 1 + k]),
            },
            "differ in PixelSpacing",
        ),
        (
            {
                "edit": lambda own, k: (
                    own.pop("PixelValueTransformationSequence") if k == 2 else None
                )
            },
            "has no RescaleSlope",
        ),
        ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Rows": 11}, "bytes of pixels"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, change, rule):
    assert rule in refusal(write(tmp_path / "a.dcm", **change))


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated or damaged" in refusal(path)


def test_deflated_frames_are_refused_with_the_way_out(tmp_path):
    line = refusal(write(tmp_path / "a.dcm", syntax=DeflatedExplicitVRLittleEndian))
    assert "with several frames: inflate it first (gdcmconv --raw, dcmconv)" in line
    assert DeflatedExplicitVRLittleEndian in line


def test_frames_must_be_stored_as_the_file_states(tmp_path):
    path = write(tmp_path / "a.dcm", syntax=RLELossless)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.1"))
    assert "pixels are not stored as Explicit VR Little Endian" in refusal(path)
    item = content.rindex(b"\xfe\xff\x00\xe0")  # of the last frame
    path.write_bytes(content[:item] + b"\xfe\xff\x00\xe1" + content[item + 4 :])
    assert "truncated or damaged file (RLE Lossless (1.2.840.10008.1.2.5))" in refusal(path)


def test_frames_without_pixels_are_refused(tmp_path):
    data = pydicom.dcmread(write(tmp_path / "a.dcm"))
    del data.PixelData
    data.save_as(tmp_path / "b.dcm")
    assert refusal(tmp_path / "b.dcm").endswith("DICOM file without pixels")


def test_a_file_that_is_damaged_after_its_header_was_read_is_one_line(tmp_path):
    path = write(tmp_path / "a.dcm")
    (_, header), *_ = frames_of(path)
    path.write_bytes(bytes(50))
    with pytest.raises(InputError, match=r"^unreadable DICOM header: \w+$"):
        frame_reader(path, header).__enter__()


def test_damaged_groups_are_one_line(tmp_path):
    path = write(tmp_path / "a.dcm")
    content, told = path.read_bytes(), []
    for place in range(600, len(content) - 500, 97):
        path.write_bytes(content[:place] + b"\xff\xff\xff" + content[place + 3 :])
        try:
            open_volume(path).close()
        except InputError as error:
            told.append(str(error))
    assert told
    assert not any("\n" in line for line in told)


def test_a_file_of_all_slices_stands_alone(tmp_path):
    write(tmp_path / "a.dcm")
    write(tmp_path / "b.dcm")
    assert "a.dcm: all slices of an image (6 frames) beside other files" in refusal(tmp_path)


def test_the_scan_knows_them(tmp_path):
    write(tmp_path / "p" / "a.dcm", edit=lambda own, k: None, ConvolutionKernel=None)

    def edit(own, number):
        del own["PixelValueTransformationSequence"]
        own["MREchoSequence"] = {"EffectiveEchoTime": 90.0}
        own["MRTimingAndRelatedParametersSequence"] = {"RepetitionTime": 4000.0}

    tags = {"SOPClassUID": MR, "Modality": "MR", "SeriesInstanceUID": "1.2.9"}
    write(tmp_path / "q" / "b.dcm", edit=edit, **tags)
    found = {one.path: one for one in propose(tmp_path).found}
    assert found["p/a.dcm"].modality == "ct"
    assert found["q/b.dcm"].modality == "t2"


def test_a_result_refers_to_frames_and_names_nobody(here, runs):
    shape = (20, 24, 22)
    stored = np.rint(8 * head(shape)).astype(int)

    def edit(own, number):
        del own["PixelValueTransformationSequence"]
        own["PlaneOrientationSequence"]["ImageOrientationPatient"] = [1, 0, 0, 0, 1, 0]
        own["PlanePositionSequence"]["ImagePositionPatient"] = [5, 6, 2.0 * (21 - number)]

    person = {k: v for k, v in PERSON.items() if k != "FrameOfReferenceUID"}
    tags = {"SOPClassUID": MR, "Modality": "MR", "FrameOfReferenceUID": "1.2.77", **person}
    image = write(here / "in" / "a.dcm", stored, edit=edit, order=range(22), **tags)
    translate(runs[3], image, here / "out", dicom=True)
    printed = msgan_cli("evaluate", here / "out", image)
    assert not PLANTED.search(f"{printed.stdout}{printed.stderr}".encode())
    with open_volume(image) as real, open_volume(here / "out") as made:
        assert made.grid == real.grid
    for path in sorted((here / "out").iterdir()):
        data = pydicom.dcmread(path)
        assert not PLANTED.search(path.read_bytes())
        (source,) = data.SourceImageSequence
        assert source.ReferencedSOPInstanceUID == "1.2.3.4"
        assert source.ReferencedSOPClassUID == MR
        assert data.ImagePositionPatient[2] == 2.0 * (22 - source.ReferencedFrameNumber)
        assert data.FrameOfReferenceUID == "1.2.77"
    translate(runs[3], image, here / "named", dicom=True, keep_identity=True)
    named = pydicom.dcmread(next((here / "named").iterdir()))
    assert str(named.PatientName) == PERSON["PatientName"]
