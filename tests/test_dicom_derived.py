"""Results as derived DICOM series: place, values, identity, references, whole or absent."""

import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from helpers import head, stored
from numpy.testing import assert_allclose
from program import fails, msgan_cli
from scipy.spatial.transform import Rotation
from test_privacy import PERSON, PLANTED, dicom, seen

from msgan.data import pieces
from msgan.data.formats.dicom_derivation import AIR, Derivation, Rescale
from msgan.data.grid import Grid
from msgan.data.scan import propose
from msgan.data.store import description
from msgan.data.volume import open_volume
from msgan.data.writing import write_series
from msgan.report.catalog import catalog
from msgan.translate import translate
from msgan.translate.provenance import beside, stem_of, trace_of, traces_below
from msgan.types import Array, InputError

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (11, 9, 7)
STUDY = {"FrameOfReferenceUID": "1.2.3.77", "PatientPosition": "HFS", "Manufacturer": "Acme"}
"""What a series keeps of its source, none of it planted."""


def derivation(unit: str = "a.u.", low: float = 0.0, high: float = 800.0, **more) -> Derivation:
    mark = description("run r, image 0123456789ab")
    return Derivation("0123456789ab", mark, "t2", unit, low, high, **more)


def placed(turned: bool = True, mirrored: bool = False) -> Grid:
    """An oblique grid of three spacings, far from the origin."""
    rotation = Rotation.from_euler("xyz", [10, 20, 30] if turned else [0, 0, 0], degrees=True)
    affine = np.eye(4)
    affine[:3, :3] = rotation.as_matrix() @ np.diag([-0.7 if mirrored else 0.7, 1.3, 2.5])
    affine[:3, 3] = [-100.123456789, 333.3, -411.77777]
    return Grid(SHAPE, affine)


def values(low: float, high: float, shape=SHAPE) -> Array:
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


def series(folder: Path, image: Array, grid: Grid, derived: Derivation) -> list[pydicom.Dataset]:
    write_series(folder, grid, lambda box: image[box.slices], derived)
    return slices(folder)


def slices(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def by_simpleitk(folder: Path) -> tuple[Array, Array]:
    """Voxels and affine (RAS) as ITK reads them."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


def in_place(image: Array, affine: Array, grid: Grid) -> Array:
    """The voxels of an image at the places of a grid, whatever the direction of its axes."""
    index = np.array(list(np.ndindex(grid.shape)))
    world = np.c_[index, np.ones(len(index))] @ grid.affine.T
    own = (world @ np.linalg.inv(affine).T)[:, :3]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    assert np.abs((own - np.rint(own)) * spacing).max() < 1e-4  # mm
    return image[tuple(np.rint(own).astype(int).T)].reshape(grid.shape)


# --- place and values --------------------------------------------------------------------------


@pytest.mark.parametrize("mirrored", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize("turned", [False, True], ids=["straight", "oblique"])
@pytest.mark.parametrize(
    ("unit", "low", "high"),
    [
        ("HU", -1000, 3000),
        ("HU", -3000.6, 3000),
        ("HU", -1000, 90000),
        ("a.u.", 0, 812.3),
        ("a.u.", -3.5, 0.25),
        ("a.u.", 1e-7, 2e-6),
        ("a.u.", -1e9, 5e9),
    ],
)
def test_msgan_and_simpleitk_read_what_was_written(tmp_path, unit, low, high, turned, mirrored):
    image, grid = values(low, high), placed(turned, mirrored)
    first, *_ = series(tmp_path / "s", image, grid, derivation(unit, low, high))
    step = float(first.RescaleSlope)
    assert step <= 1 if high == 3000 else step <= 1.01 * (high - min(low, 0)) / 65535
    bound = step / 2 * (1 + 1e-5) + 2e-7 * max(abs(low), abs(high))  # and float32's own
    with open_volume(tmp_path / "s") as volume:
        assert volume.grid.shape == SHAPE
        assert_allclose(volume.grid.affine, grid.affine, rtol=0, atol=1e-6)
        assert volume.unit == unit
        assert volume.generated
        assert volume.about == description("run r, image 0123456789ab")
        assert np.abs(volume.whole() - image).max() <= bound
    other, affine = by_simpleitk(tmp_path / "s")
    assert np.abs(in_place(other, affine, grid) - image).max() <= bound


def test_a_constant_image_and_zero_are_kept(tmp_path):
    for k, value in enumerate((0.0, 5.5, -2.0)):
        image = np.full(SHAPE, value, np.float32)
        first, *_ = series(tmp_path / str(k), image, placed(), derivation())
        shown = first.pixel_array * float(first.RescaleSlope) + float(first.RescaleIntercept)
        assert_allclose(shown, value, atol=1e-4)
    # Background of 0 is 0, not nearly 0.
    image = np.where(values(0, 1) > 0.5, values(0, 700), 0).astype(np.float32)
    first, *_ = series(tmp_path / "zero", image, placed(), derivation())
    assert float(first.RescaleIntercept) == 0
    assert (first.pixel_array == 0).any()


def test_a_ct_is_stored_in_whole_hu(tmp_path):
    for first in series(tmp_path / "s", values(-1000, 2000), placed(), derivation("HU")):
        assert (first.RescaleSlope, first.RescaleIntercept) == (1, AIR)
        assert first.RescaleType == "HU"
    assert Rescale.of(-2000.5, 10, "HU").intercept == "-2001"


# --- what it says of itself --------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "kind"), [("HU", "CT"), ("a.u.", "MR")])
def test_a_series_says_what_it_is(tmp_path, unit, kind):
    found = series(tmp_path / "s", values(0, 800), placed(), derivation(unit))
    for number, data in enumerate(found, 1):
        assert data.SOPClassUID.name == f"{kind} Image Storage"
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        assert data.Modality == kind
        assert data.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert data.SyntheticData == "YES"
        assert data.ContentQualification == "RESEARCH"
        assert data.BurnedInAnnotation == "NO"
        assert data.PatientIdentityRemoved == "YES"
        assert data.DeidentificationMethod
        assert data.SeriesDescription == "synthetic t2 (msgan)"
        assert data.ImageComments.startswith("synthetic: msgan")
        assert f"x {data['RescaleSlope'].value.original_string} +" in data.DerivationDescription
        assert data.SoftwareVersions
        (tool,) = data.ContributingEquipmentSequence
        assert tool.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert tool.SoftwareVersions == data.SoftwareVersions
        assert data.InstanceNumber == number
        assert "SourceImageSequence" not in data
        assert not data.PatientName
        for element in data.iterall():
            if element.VR == "DS" and element.value not in (None, ""):
                parts = element.value if element.VM > 1 else [element.value]
                assert all(len(part.original_string) <= 16 for part in parts)
    for tag in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({data[tag].value for data in found}) == 1
        assert found[0][tag].value.is_valid
    uids = {data.SOPInstanceUID for data in found}
    assert len(uids) == SHAPE[2]
    assert all(len(uid) <= 64 and uid.startswith("2.25.") for uid in uids)


def test_uids_follow_from_the_translation_and_from_who_is_named(tmp_path):
    image, grid = values(0, 800), placed()
    one, two = (series(tmp_path / n, image, grid, derivation()) for n in "ab")
    assert [a.SOPInstanceUID for a in one] == [b.SOPInstanceUID for b in two]
    assert (tmp_path / "a/00003.dcm").read_bytes() == (tmp_path / "b/00003.dcm").read_bytes()
    other = series(tmp_path / "c", image, grid, replace(derivation(), id="ffffffffffff"))
    assert not {a.SOPInstanceUID for a in one} & {c.SOPInstanceUID for c in other}
    assert derivation().uid("series") != derivation(identity=True).uid("series")


def test_texts_cannot_break_out_of_their_value(tmp_path):
    derived = replace(derivation(), target="t2\\x\n" + "y" * 90)
    first, *_ = series(tmp_path / "s", values(0, 1), placed(), derived)
    assert first["SeriesDescription"].VM == 1
    assert len(first.SeriesDescription) == 64
    assert "\n" not in first.SeriesDescription


# --- what no series can hold -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "change", "message"),
    [
        (Grid((5, 6), np.eye(3)), {}, r"image of shape \(5, 6\): a DICOM series is of 3 axes"),
        (Grid((5, 6, 1), np.eye(4)), {}, "at least 2 slices"),
        (
            Grid(SHAPE, np.eye(4) + 0.1 * np.eye(4, k=1) * (np.arange(4) < 1)[:, None]),
            {},
            "not at right angles",
        ),
        (
            Grid(SHAPE, np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
            {},
            "not at right angles",
        ),
        (placed(), {"target": "PET"}, "target PET: written are CT .* and MR, and it is neither"),
        (placed(), {"identity": True, "source": Path("a.nii")}, "no identity to keep"),
    ],
)
def test_what_no_series_can_be_is_refused(tmp_path, grid, change, message):
    with pytest.raises(InputError, match=message):
        write_series(tmp_path / "s", grid, lambda box: None, replace(derivation(), **change))
    assert not list(tmp_path.iterdir())


def test_nothing_is_half_written(tmp_path, monkeypatch):
    image, grid = values(0, 1), placed()
    before = series(tmp_path / "s", image, grid, derivation())
    written, save = [], pydicom.Dataset.save_as

    def full(self, path, **options):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        save(self, path, **options)

    monkeypatch.setattr(pydicom.Dataset, "save_as", full)
    with pytest.raises(InputError, match="no space left on this disk: s needs"):
        series(tmp_path / "s", 2 * image, grid, derivation())
    with pytest.raises(InputError, match="NaN or infinite"):
        series(tmp_path / "new", np.full_like(image, np.nan), grid, derivation())
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert slices(tmp_path / "s") == before
    # The next one replaces it as a whole.
    grid = Grid((11, 9, 4), grid.affine)
    assert len(series(tmp_path / "s", image[:, :, :4], grid, derivation())) == 4


@pytest.mark.parametrize("other", ["notes.txt", "real"])
def test_a_folder_that_holds_anything_else_is_left(tmp_path, other):
    folder = tmp_path / "s"
    if other == "real":
        dicom(folder, 1, "t2")
    else:
        folder.mkdir()
        (folder / other).write_text("x")
    with pytest.raises(InputError, match="which is no slice of a synthetic series"):
        series(folder, values(0, 1), placed(), derivation())
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file, expected a folder"):
        series(tmp_path / "file", values(0, 1), placed(), derivation())


def test_memory_is_that_of_a_slice(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1 << 19)
    plane = values(0, 1, (256, 192, 1))

    def peak(count: int) -> int:
        def read(box):
            return np.broadcast_to(plane[box.slices[:2]], box.size)

        tracemalloc.start()
        write_series(tmp_path / str(count), Grid((256, 192, count), np.eye(4)), read, derivation())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)  # modules are imported
    assert peak(32) < peak(8) + plane.nbytes


# --- translations ------------------------------------------------------------------------------


def source(folder: Path, **tags) -> Path:
    """A series of MR slices of somebody, as large as the runs of the tests need them."""
    return dicom(folder, 3, "t1 Mueller", 22, **STUDY, **tags)


@pytest.mark.parametrize("signed", [0, 1], ids=["unsigned", "signed"])
def test_a_dicom_source_is_referred_to_slice_by_slice(here, runs, signed):
    tags = {"PixelRepresentation": signed, "BitsStored": 16, "HighBit": 15}
    tags |= {"RescaleIntercept": "-1000"} if signed else {}
    tags |= {"PixelSpacing": [1.4, 0.6], "ImageOrientationPatient": [0.8, 0.6, 0, 0, 0, 1]}
    image = source(here / "in", **tags)
    # Coronal and turned: slices run along their normal.
    for path in image.iterdir():
        data = pydicom.dcmread(path)
        data.ImagePositionPatient = list(
            np.array([3, 4, 5]) + float(data.ImagePositionPatient[2]) * np.array([0.6, -0.8, 0])
        )
        data.save_as(path)
    done = translate(runs[3], image, here / "out", dicom=True)
    assert done.path == here / "out"
    with open_volume(image) as real, open_volume(here / "out") as made:
        assert made.grid.shape == real.grid.shape
        assert_allclose(made.grid.affine, real.grid.affine, rtol=0, atol=1e-6)
    real = {data.SOPInstanceUID: data for data in slices(image)}
    for data in slices(here / "out"):
        (item,) = data.SourceImageSequence
        own = real.pop(item.ReferencedSOPInstanceUID)
        assert item.ReferencedSOPClassUID == own.SOPClassUID
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert_allclose(data.ImagePositionPatient, own.ImagePositionPatient, atol=1e-4)
        assert_allclose(data.ImageOrientationPatient, own.ImageOrientationPatient, atol=1e-9)
        assert data.FrameOfReferenceUID == own.FrameOfReferenceUID
        assert data.PatientPosition == "HFS"
        assert data.SeriesNumber == 9003
        assert data.SeriesInstanceUID != own.SeriesInstanceUID
        assert data.SOPInstanceUID != own.SOPInstanceUID
        assert data.ContributingEquipmentSequence[1].Manufacturer == "Acme"
    assert not real


def test_who_it_is_of_is_told_on_request_only(here, runs):
    image = source(here / "in" / "a", PatientSex="F")
    words = ("translate", runs[3].folder, image)
    done = [
        msgan_cli(*words, here / "made/out", "--format", "dicom"),
        msgan_cli("evaluate", here / "made/out", image, "--json", here / "scores.json"),
    ]
    seen(here, done)
    data, own = pydicom.dcmread(here / "made/out/00000.dcm"), pydicom.dcmread(next(image.iterdir()))
    assert data.PatientID == f"synthetic-{trace_of(here / 'made/out').id}"
    assert data.StudyInstanceUID != own.StudyInstanceUID
    assert [data[t].value for t in ("PatientName", "PatientSex", "StudyDate")] == [""] * 3
    kept = msgan_cli(*words, here / "named", "--format", "dicom", "--keep-identity")
    assert not PLANTED.search(f"{kept.stdout}{kept.stderr}".encode())
    assert not PLANTED.search((here / "named.json").read_bytes())
    for data in slices(here / "named"):
        for tag in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID"):
            assert data[tag].value == own[tag].value
        assert data.StudyInstanceUID == own.StudyInstanceUID
        assert data.AccessionNumber == own.AccessionNumber
        assert "PatientIdentityRemoved" not in data
        for tag in ("InstitutionName", "OperatorsName", "DeviceSerialNumber", "PatientAddress"):
            assert tag in own
            assert tag not in data
        assert data.SeriesDescription == "synthetic t2 (msgan)"
    assert PERSON["PatientName"] == str(data.PatientName)


def test_a_name_in_other_letters_and_a_damaged_date_are_no_obstacle(here, runs):
    image = source(here / "in")
    for path in image.iterdir():
        data = pydicom.dcmread(path)
        data.SpecificCharacterSet, data.PatientName = "ISO_IR 100", "Müller^Änne"
        data.save_as(path)
        content = path.read_bytes().replace(b"19610403", b"1961.4.3")
        path.write_bytes(content)
    translate(runs[3], image, here / "out", dicom=True, keep_identity=True)
    data = slices(here / "out")[0]
    assert data.SpecificCharacterSet == "ISO_IR 192"
    assert str(data.PatientName) == "Müller^Änne"


def test_evaluate_and_explore_find_the_series(here, runs):
    shape = (20, 24, 22)
    affine = np.diag([-1.0, 1.2, 1.5, 1])  # as many NIfTIs have it: against the slice normal
    image = stored(here / "s.01_t1.nii", head(shape), affine)
    real = stored(here / "real.nii", head(shape, 3), affine)
    done = translate(runs[3], image, here / "out" / "s.01", dicom=True)
    assert beside(here / "out/s.01") == here / "out/s.01.json"
    assert [p.name for p in sorted((here / "out").iterdir())] == ["s.01", "s.01.json"]
    assert trace_of(done.path).id == done.trace.id
    assert [t.result for t in traces_below(here / "out")] == [here / "out/s.01"]
    scores = msgan_cli("evaluate", here / "out/s.01", real)
    assert "ssim" in scores.stdout
    found = catalog(here / "out")
    assert not found.faults
    (one,) = found.translated
    assert one.provenance.result == here / "out/s.01"
    assert one.provenance.scores
    # What another program has made of it is not ours.
    for path in (here / "out/s.01").iterdir():
        data = pydicom.dcmread(path)
        del data.DerivationDescription
        data.save_as(path)
    with open_volume(here / "out/s.01") as volume:
        assert not volume.generated


def test_a_synthetic_series_is_never_proposed_as_acquired(here, runs):
    image = source(here / "in" / "a")
    translate(runs[3], image, here / "in" / "b", dicom=True)
    found = propose(here / "in")
    assert [one.path for one in found.found] == ["a"]
    assert {"b"} == {o.path for o in found.omitted if "generated, not acquired" in o.reason}


@pytest.mark.parametrize("path", ["a.nii.gz", "a.dcm", "x/a.zarr", "a", "sub.01", "a.b.nii"])
def test_stems(path):
    known = {"a.nii.gz": "a", "a.dcm": "a", "x/a.zarr": "a", "a.b.nii": "a.b"}
    assert stem_of(Path(path)) == known.get(path, path)


# --- the command -------------------------------------------------------------------------------


@pytest.mark.slow
def test_folders_and_manifests_become_series(here, runs):
    for k in range(2):
        stored(here / "in" / "deep" / f"p.{k}_t1.nii.gz", head((20, 24, 22), k))
    words = ("translate", runs[3].folder, here / "in")
    msgan_cli(*words, here / "out", "--format", "dicom")
    assert {p.name for p in (here / "out/deep").iterdir()} == {
        *("p.0_t1", "p.0_t1.json", "p.1_t1", "p.1_t1.json")
    }
    again = msgan_cli(*words, here / "out", "--format", "dicom")
    assert "2 of 2 results are there already, of the same images" in again.stderr
    skipped = msgan_cli(*words, here / "out", "--format", "dicom", "--skip-existing")
    assert "every image has a result" in skipped.stdout
    stored(here / "in" / "deep" / "p.0_t1.nii.gz", head((20, 24, 22), 7))
    refused = msgan_cli(*words, here / "out", "--format", "dicom", status=2)
    assert "is there already: pass --force" in refused.stderr
    msgan_cli(*words, here / "out", "--format", "dicom", "--force")
    lines = ["subject,role,modality,path,licence,citation"]
    lines += [f"s{k},image,t1,deep/p.{k}_t1.nii.gz,own,none" for k in range(2)]
    (here / "m.csv").write_text("\n".join(lines) + "\n")
    cohort = ("translate", runs[3].folder, here / "m.csv", here / "cohort", "--root", here / "in")
    msgan_cli(*cohort, "--format", "dicom")
    assert {p.name for p in (here / "cohort").iterdir()} == {"s0", "s0.json", "s1", "s1.json"}


def test_a_series_of_one_who_is_to_be_named_is_another_result(here, runs):
    source(here / "in" / "a")
    words = ("translate", runs[3].folder, here / "in", here / "out", "--format", "dicom")
    msgan_cli(*words)
    assert json.loads((here / "out/a.json").read_text())["identity"] is False
    assert "is there already" in fails(*words, "--keep-identity")
    msgan_cli(*words, "--keep-identity", "--force")
    assert json.loads((here / "out/a.json").read_text())["identity"] is True
    assert "results are there already" in msgan_cli(*words, "--keep-identity").stderr


def test_what_the_command_refuses(here, runs):
    image = stored(here / "t1.nii", head((20, 24, 22)))
    words = ("translate", runs[3].folder, image)
    assert "expected --format dicom" in fails(*words, here / "o.nii", "--keep-identity")
    assert "leave out .nii.gz" in fails(*words, here / "o.nii.gz", "--format", "dicom")
    assert "leave out .dcm" in fails(*words, here / "o.dcm", "--format", "dicom")
    told = fails(*words, here / "out", "--format", "dicom", "--keep-identity")
    assert told == f"{image}: is no DICOM and states no patient: there is no identity to keep"
    (here / "full").mkdir()
    (here / "full/a.txt").write_text("x")
    assert "holds a.txt" in fails(*words, here / "full", "--format", "dicom", "--force")
    assert "lies in" in fails(
        "translate", runs[3].folder, source(here / "in"), here / "in/out", "--format", "dicom"
    )
    flat = stored(here / "flat.tif", head((24, 28)))
    told = fails("translate", runs[2].folder, flat, here / "out", "--format", "dicom")
    assert "the run was trained on 2" in told
    assert "no such file" in fails(
        "translate", runs[3].folder, here / "none", here / "out", "--format", "dicom"
    )
    assert not (here / "out").exists()
    assert not (here / "out.json").exists()
    shutil.rmtree(here / "full")


def test_an_identity_is_kept_in_a_series_only(here, runs):
    image = stored(here / "t1.nii", head((20, 24, 22)))
    with pytest.raises(InputError, match="in a DICOM series only"):
        translate(runs[3], image, here / "o.nii", keep_identity=True)
