"""What a folder of images is taken to be, in small files laid out as data sets are."""

import json
import os
import re
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicoms import ct, write_series, write_slice
from layouts import (
    LAYOUTS,
    SHAPE,
    brats2021,
    covered,
    ixi,
    kernels,
    radiographs,
    reasons,
    rows,
    volume,
)
from PIL import Image

from msgan.data.cohort import Cohort
from msgan.data.manifest import check_manifest, read_manifest, write_manifest
from msgan.data.scan import propose
from msgan.data.scan.notes import notes, summary
from msgan.data.scan.results import traced
from msgan.data.scan.series import looks_personal, modality_in, subject_in
from msgan.data.scan.words import modality_of, role_of, words_of
from msgan.types import InputError


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_layouts_are_understood(layout, tmp_path: Path) -> None:
    root = tmp_path / "in"
    wanted = layout(root)
    (tmp_path / "in" / "README.txt").write_text("from the archive")
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")}
    proposal = propose(root, salt=b"salt")
    assert rows(proposal) == wanted
    assert covered(root, proposal)
    assert reasons(proposal)["README.txt"] == "not an image"
    write_manifest(tmp_path / "manifest.csv", proposal.manifest)
    assert read_manifest(tmp_path / "manifest.csv").rows == proposal.manifest.rows
    cohort = Cohort.from_manifest(tmp_path / "manifest.csv", root)
    assert {(s.name, m) for s in cohort for m in s.images} <= wanted
    report = check_manifest(tmp_path / "manifest.csv", root, paired=not proposal.apart)
    assert report.ok, report.lines()
    assert propose(root, salt=b"salt") == proposal  # the same again, in the same order
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")} == before


def test_pairs_lie_on_one_grid(tmp_path: Path) -> None:
    ixi(tmp_path)
    found = propose(tmp_path)
    assert found.pairs == {("pd", "t2"): ("IXI002-Guys-0828", "IXI012-HH-1211")}
    assert found.apart == ("IXI002-Guys-0828", "IXI012-HH-1211")
    assert "  pd and t2: 2" in summary(found)
    assert "- pd, t1, t2: IXI002-Guys-0828, IXI012-HH-1211" in notes(found, "x", []).splitlines()


def test_all_images_of_a_person_are_in_one_split(tmp_path: Path) -> None:
    for who in range(12):
        for visit in (1, 2, 3):
            volume(
                tmp_path / f"sub-{who:02d}" / f"ses-{visit}" / f"sub-{who:02d}_ses-{visit}_T1w.nii"
            )
    split = propose(tmp_path).split_of
    assert len(split) == 36
    people = [{split[f"sub-{who:02d}_ses-{v}"] for v in (1, 2, 3)} for who in range(12)]
    assert all(len(own) == 1 for own in people)
    assert sorted(own.pop() for own in people) == ["test"] * 2 + ["train"] * 9 + ["val"]


def test_unpaired_cohorts_are_each_divided(tmp_path: Path) -> None:
    for kind in ("T1", "T2"):
        for who in range(5):
            volume(tmp_path / kind / f"{kind}person{who}.nii")
    found = propose(tmp_path)
    split = found.split_of
    for kind in ("t1", "t2"):
        own = sorted(split[f.subject] for f in found.found if f.modality == kind)
        assert own == ["test", "train", "train", "train", "val"]
    assert found.pairs == {}


# --- DICOM headers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"SeriesDescription": "AX T2 FLAIR"}, "flair"),
        ({"SeriesDescription": "t1_mprage_sag", "ContrastBolusAgent": "x"}, "t1c"),
        ({"ProtocolName": "PD TSE"}, "pd"),
        ({"EchoTime": 3.0, "RepetitionTime": 2300.0, "InversionTime": 900.0}, "t1"),
        ({"EchoTime": 100.0, "RepetitionTime": 4000.0}, "t2"),
        ({"EchoTime": 120.0, "RepetitionTime": 9000.0, "InversionTime": 2500.0}, "flair"),
        ({"EchoTime": 12.0, "RepetitionTime": 3000.0}, "pd"),
        ({"EchoTime": 12.0, "RepetitionTime": 500.0}, "t1"),
        ({"EchoTime": 50.0, "RepetitionTime": 1500.0}, ""),
        ({"EchoTime": 50.0, "RepetitionTime": 3000.0}, ""),  # neither T2 nor PD
        ({}, ""),
    ],
)
def test_sequences_are_told_by_description_or_times(tags, wanted) -> None:
    assert modality_in({"Modality": "MR", **tags})[0] == wanted


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("t2_to_t1", "t2"),  # what it was registered to is another's
        ("ct_to_mr", "ct"),
        ("to_t1", ""),
        ("t1_post", "t1c"),
        ("T1w_pre", "t1"),
        ("t2_post", "t2"),
        ("mp2rage", "t1"),
        ("mp2rage_inv1", "mp2rage"),
        ("MP2RAGE_UNI", "unit1"),
        ("mp2rage_T1_Images", "t1map"),
    ],
)
def test_names_tell_modalities(name, modality) -> None:
    assert modality_of(words_of(name))[0] == modality


@pytest.mark.parametrize(
    ("name", "modality", "role", "word"),
    [
        ("tumour", "", "labels", "tumour"),
        ("t1_lesions", "t1", "labels", "lesions"),
        ("tumour_t1", "t1", "image", ""),  # of a patient with one
        ("tumour_mask", "", "labels", "tumour"),
        ("brain_mask", "", "mask", "mask"),
        ("lung", "", "region", "lung"),
        ("lung_ct", "ct", "image", ""),
    ],
)
def test_names_tell_what_is_an_image_and_what_lies_on_one(name, modality, role, word) -> None:
    assert role_of(words_of(name), modality) == (role, word)


@pytest.mark.parametrize(
    ("patient", "name", "personal"),
    [
        ("LIDC-IDRI-0001", "LIDC-IDRI-0001", False),
        ("10061S", "", False),
        ("sub-07", "Anonymous", False),
        ("MUELLER^ANNA", "", True),
        ("mueller01", "Mueller^Anna", True),
        ("19610403", "", True),
        ("1234567", "x", True),
        ("ANNA", "", True),
    ],
)
def test_identifiers_of_people_are_recognised(patient, name, personal) -> None:
    assert looks_personal(patient, name) == personal
    subject, hashed = subject_in({"PatientID": patient, "PatientName": name}, b"salt")
    assert hashed == personal
    assert (subject == patient) == (not personal)


def test_no_name_of_a_patient_is_written(tmp_path: Path) -> None:
    who = {"PatientID": "4711471147", "PatientName": "Mueller^Anna", "ConvolutionKernel": "B20f"}
    write_series(tmp_path / "a", ct(0), SeriesInstanceUID="1.1", **who)
    found = propose(tmp_path)
    (row,) = found.manifest.rows
    assert re.fullmatch(r"subject-[0-9a-f]{16}", row.subject)
    assert propose(tmp_path).manifest.rows[0].subject != row.subject  # a new salt each time
    assert propose(tmp_path, salt=b"1").manifest == propose(tmp_path, salt=b"1").manifest
    text = notes(found, "x", []) + "".join(summary(found)) + row.model_dump_json()
    assert "4711471147" not in text
    assert "Mueller" not in text
    assert "named by a hash" in text


def test_two_studies_of_a_patient_are_two_subjects_in_one_split(tmp_path: Path) -> None:
    for study in ("1", "2"):
        own = {"StudyInstanceUID": f"1.{study}", "SeriesInstanceUID": f"1.{study}.1"}
        write_series(tmp_path / study, ct(0), PatientID="P1x", ConvolutionKernel="B20f", **own)
    found = propose(tmp_path)
    assert len({f.subject for f in found.found}) == 2
    assert {f.person for f in found.found} == {"P1x"}
    assert len(set(found.split_of.values())) == 1


# --- what is left out --------------------------------------------------------------------------


def test_what_cannot_be_used_is_named_with_its_reason(tmp_path: Path) -> None:
    volume(tmp_path / "p1" / "t1.nii")
    volume(tmp_path / "p1" / "t2.nii", (*SHAPE, 2))
    volume(tmp_path / "p1" / "seg.nii", (5, 4, 4))
    volume(tmp_path / "p2" / "seg.nii")
    volume(tmp_path / "p2" / "what*.nii")
    (tmp_path / "p1" / "flair.nii").write_bytes(b"")
    (tmp_path / "p1" / "pd.nii.gz").write_bytes(b"no gzip")
    (tmp_path / "p1" / "old.img").write_bytes(b"voxels")
    (tmp_path / "p1" / "lost.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementSpacing = 1 1 1\n"
        "ElementType = MET_SHORT\nElementDataFile = lost.raw\n"
    )
    flat = nib.load(volume(tmp_path / "p1" / "adc.nii"))
    flat.header["pixdim"][1] = 3.0
    nib.save(
        nib.Nifti1Image(np.ones(SHAPE, np.int16), None, flat.header), tmp_path / "p1" / "swi.nii"
    )
    header = nib.load(tmp_path / "p1" / "t1.nii").header.copy()
    header.set_sform(np.diag([2.0, 1, 1, 1]), code=1)
    header.set_qform(np.eye(4), code=1)
    with (tmp_path / "p1" / "pet.nii").open("wb") as stream:
        nib.Nifti1Image(np.ones(SHAPE, np.int16), None, header).to_file_map(
            {"image": nib.FileHolder(fileobj=stream)}
        )
    write_slice(tmp_path / "d" / "scout", ct(0)[:, :, 0], 0, ImageType=["A", "B", "LOCALIZER"])
    write_series(tmp_path / "mix", ct(1), "a{}", SeriesInstanceUID="1", ConvolutionKernel="B20f")
    write_series(tmp_path / "mix", ct(1), "b{}", SeriesInstanceUID="2", ConvolutionKernel="B80f")
    gap = write_series(tmp_path / "gap", np.dstack([ct(1), ct(1)]), SeriesInstanceUID="9")
    gap[4].unlink()
    found = propose(tmp_path)
    why = reasons(found)
    assert covered(tmp_path, found)
    assert rows(found) >= {("p1", "t1"), ("p1", "adc")}
    for path, rule in {
        "p1/t2.nii": "4D image",
        "p1/seg.nii": "labels on the grid of no image of subject p1",
        "p2/seg.nii": "labels of a subject without an image (p2)",
        "p2/what*.nii": "a manifest's path cannot hold '*'",
        "p1/flair.nii": "the file has no bytes",
        "p1/pd.nii.gz": "not a readable .nii.gz file",
        "p1/old.img": "Analyze states no reliable orientation",
        "p1/lost.mhd": "data file",
        "p1/pet.nii": "contradictory geometry: voxels of (2.0, 1.0, 1.0) mm by sform",
        "d/scout": "a localizer",
        "mix/a0": "2 DICOM series in one folder; `msgan data sort`",
        "gap": "missing slices or irregular positions",
    }.items():
        assert rule in why[path], (path, why[path])


def test_dicom_that_is_no_image_to_train_on_is_named_with_its_reason(tmp_path: Path) -> None:
    image = ct(0)
    write_series(tmp_path / "two", image, SeriesInstanceUID="1.1")
    write_slice(tmp_path / "two" / "extra.dcm", image[:, :, 0], 0, SeriesInstanceUID="1.2")
    for name, change in {
        "plan": {"Modality": "RTSTRUCT"},
        "flat": {"PixelSpacing": None},
        "frames": {"NumberOfFrames": 3},
    }.items():
        write_slice(tmp_path / name / "a.dcm", image[:, :, 0], 0, SeriesInstanceUID="1.3", **change)
    for k in range(2):
        part = image[:, :, 2 * k : 2 * k + 2]
        write_series(tmp_path / f"part{k}", part, f"{k}{{}}", SeriesInstanceUID="1.4")
    volume(tmp_path / "p1" / "t1.nii")
    found = propose(tmp_path)
    assert rows(found) == {("p1", "t1")}
    why = reasons(found)
    assert {path: why[path] for path in why if not path.startswith("two/IM")} == {
        "two/extra.dcm": "a single slice beside a series",
        "plan/a.dcm": "DICOM of modality RTSTRUCT is not an image",
        "flat/a.dcm": "CT without PixelSpacing",
        "frames/a.dcm": "multi-frame DICOM (3 frames): convert it to NIfTI (dcm2niix) first",
    } | {
        f"part{k}/{k}{n}": "a DICOM series in 2 folders; `msgan data sort` puts it into one"
        for k in range(2)
        for n in range(2)
    }


def test_files_that_are_passed_over_are_named(tmp_path: Path) -> None:
    volume(tmp_path / "p1" / "t1.nii")
    volume(tmp_path / "p1" / ".t2.nii")
    volume(tmp_path / ".trash" / "t1.nii")
    volume(tmp_path / "p1" / "VSD.Brain.XX.O.nii")  # as of BraTS 2015, but of no kind
    volume(tmp_path / "p2" / "lung.nii")
    volume(tmp_path / " p3" / "t1.nii")
    (tmp_path / "p1" / "a.dcm").write_bytes(bytes(200))
    tifffile = pytest.importorskip("tifffile")
    pages = np.arange(128, dtype="u1").reshape(2, 8, 8)
    tifffile.imwrite(tmp_path / "p1" / "b.tif", pages, photometric="minisblack")
    found = propose(tmp_path)
    assert reasons(found) == {
        ".trash": "a hidden folder",
        " p3/t1.nii": "a manifest's path cannot begin or end with a space: rename it",
        "p1/.t2.nii": "a hidden file",
        "p1/a.dcm": "not a DICOM file: the DICM mark at byte 128 is missing",
        "p1/b.tif": "picture of 2 pages: expected one",
    }
    kinds = {f.path: (f.modality, f.role) for f in found.found}
    assert kinds == {
        "p1/t1.nii": ("t1", "image"),
        "p1/VSD.Brain.XX.O.nii": ("unknown", "image"),
        "p2/lung.nii": ("unknown", "image"),  # a region of no image beside it is one
    }


def test_a_folder_of_a_cohort_with_tumours_holds_images(tmp_path: Path) -> None:
    volume(tmp_path / "tumour_study" / "case7.nii")
    volume(tmp_path / "tumour" / "case8.nii")
    found = propose(tmp_path)
    assert rows(found) == {("case7", "unknown")}
    assert "labels of a subject without an image (case8)" in reasons(found)["tumour/case8.nii"]


def test_what_an_image_was_registered_to_is_no_part_of_its_subject(tmp_path: Path) -> None:
    for name in ("anna_t2_to_t1", "anna_t1", "bert_ct_to_mr_rigid"):
        volume(tmp_path / f"{name}.nii")
    assert rows(propose(tmp_path)) == {("anna", "t1"), ("anna", "t2"), ("bert", "ct")}


def test_a_series_in_the_folder_of_a_person_is_of_that_person(tmp_path: Path) -> None:
    for who in ("01", "02"):
        volume(tmp_path / f"sub-{who}" / "anat" / f"sub-{who}_T1w.nii")
        about = {"PatientID": f"P{who}x", "SeriesInstanceUID": f"1.{int(who)}"}
        write_series(tmp_path / f"sub-{who}" / "ct", ct(int(who)), **about)
    found = propose(tmp_path).found
    people = {f.path.split("/")[0]: f.person for f in found}
    assert len(found) == 4
    assert len(set(people.values())) == 2
    assert all(f.person == people[f.path.split("/")[0]] for f in found)


def test_radiographs_of_open_i_are_told_apart_by_person(tmp_path: Path) -> None:
    for name in ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR12_IM-0200-1001"):
        Image.fromarray(np.eye(8, dtype=np.uint8) * 200).save(tmp_path / f"{name}.png")
    found = propose(tmp_path).found
    people = sorted((f.person, f.modality) for f in found)
    assert people == [("CXR1", "xray")] * 2 + [("CXR12", "xray")]


def test_files_that_cannot_be_read_are_named_and_the_others_taken(
    tmp_path: Path, monkeypatch
) -> None:
    import pydicom

    series = write_series(tmp_path / "p1", ct(0), SeriesInstanceUID="1.1")
    lost = write_slice(tmp_path / "p2" / "lost.dcm", ct(0)[:, :, 0], 0)
    head = tmp_path / "p3" / "t1.mhd"
    head.parent.mkdir()
    head.write_text("ElementDataFile = t1.raw\n")
    read, opens = pydicom.dcmread, Path.open

    def dcmread(file, *words, **options):
        if Path(file) == lost:
            raise OSError(5, "Input/output error")
        return read(file, *words, **options)

    def opened(path, *words, **options):
        if path == head:
            raise PermissionError(13, "Permission denied", str(path))
        return opens(path, *words, **options)

    monkeypatch.setattr(pydicom, "dcmread", dcmread)
    monkeypatch.setattr(Path, "open", opened)
    found = propose(tmp_path)
    assert [(f.path, f.files) for f in found.found] == [("p1", len(series))]
    assert reasons(found) == {
        "p2/lost.dcm": "[Errno 5] Input/output error",
        "p3/t1.mhd": "cannot be read: Permission denied",
    }


def test_a_sidecar_that_is_no_text_says_nothing_of_its_image(tmp_path: Path) -> None:
    told = {"method": "x", "tiles": 1}
    for name, content in {
        "a": b"\xff\xfe{",
        "b": b"[" * 2000,
        "c": json.dumps({**told, "result": "c.nii"}).encode(),
        "d": json.dumps({**told, "result": "../e.nii"}).encode(),
        "e": json.dumps({"method": "x"}).encode(),
    }.items():
        (tmp_path / f"{name}.json").write_bytes(content)
        volume(tmp_path / f"{name}.nii")
    names = [path.name for path in tmp_path.iterdir()]
    assert traced(tmp_path, [*names, "more"]) == {"c.nii", "d.nii"}


def test_a_second_image_of_a_kind_is_left_out_by_name(tmp_path: Path) -> None:
    volume(tmp_path / "p1" / "T1.nii")
    volume(tmp_path / "p1" / "T1_raw.nii")
    volume(tmp_path / "p1" / "derivatives" / "T1.nii")
    found = propose(tmp_path)
    assert [f.path for f in found.found] == ["p1/T1.nii"]
    assert set(reasons(found).values()) == {"subject p1 has its t1 in p1/T1.nii"}


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    volume(tmp_path / "p1" / "t1.nii")
    (tmp_path / "p1" / "again").symlink_to(tmp_path)
    (tmp_path / "p1" / "gone.nii").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "p1" / "pipe.nii")
    found = propose(tmp_path)
    assert rows(found) == {("p1", "t1")}
    assert "looked through already" in reasons(found)["p1/again"]
    assert "cannot be read" in reasons(found)["p1/gone.nii"]
    assert reasons(found)["p1/pipe.nii"] == "no ordinary file"


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch) -> None:
    volume(tmp_path / "p1" / "t1.nii")
    (tmp_path / "secret").mkdir()
    real = os.scandir

    def scandir(folder):
        if str(folder).endswith("secret"):
            raise PermissionError(13, "Permission denied", folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert reasons(propose(tmp_path))["secret"] == "cannot be read: Permission denied"


def test_what_has_no_image_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no: no such folder$"):
        propose(tmp_path / "no")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"none of its 1 files is an image to use: a.txt: not an"):
        propose(tmp_path)


def test_an_image_without_a_known_modality_is_kept_to_be_corrected(tmp_path: Path) -> None:
    volume(tmp_path / "p1" / "nameless.nii")
    found = propose(tmp_path)
    assert rows(found) == {("p1", "unknown")}
    assert any("write the modality into the manifest" in line for line in summary(found))


def test_headers_of_hundreds_of_files_are_read_in_seconds(tmp_path: Path) -> None:
    for who in range(60):
        for kind in ("t1", "t2", "flair", "seg"):
            volume(tmp_path / f"case{who:03d}" / f"case{who:03d}_{kind}.nii")
    (tmp_path / "big.nii").write_bytes((tmp_path / "case000" / "case000_t1.nii").read_bytes())
    started = time.process_time()
    found = propose(tmp_path)
    assert time.process_time() - started < 10  # 10,000 files: minutes
    assert len(found.found) == 241


def test_voxels_are_not_read(tmp_path: Path, monkeypatch) -> None:
    kernels(tmp_path / "a")
    brats2021(tmp_path / "b")
    radiographs(tmp_path / "c")

    def pixels(*_: object) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr("msgan.data.formats.dicom.stored_in", pixels)
    monkeypatch.setattr("msgan.data.formats.stored._unzipped", pixels)
    monkeypatch.setattr(Image.Image, "load", pixels)
    assert len(propose(tmp_path).found) == 17
