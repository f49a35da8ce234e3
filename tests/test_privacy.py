"""Names planted in headers: no command writes or prints them, in whatever way it ends."""

import gzip
import json
import re
import shutil
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zarr
from dicoms import write_series
from helpers import head
from program import msgan_cli
from test_outputs import SHAPE, image

from msgan.data import pseudonym
from msgan.data.volume import open_volume
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

PERSON = {
    "PatientName": "Mueller^Anna",
    "PatientID": "4711471147",
    "OtherPatientIDs": "OTHER99887",
    "PatientBirthDate": "19610403",
    "PatientAddress": "Elm Street 7",
    "AccessionNumber": "ACC99887",
    "StudyID": "STUDY99887",
    "StudyDate": "20110203",
    "StudyDescription": "Mueller A.",
    "InstitutionName": "Clinic Zeta",
    "ReferringPhysicianName": "Doctor^Quirk",
    "OperatorsName": "Operator^Quirk",
    "PatientComments": "of Zeta",
    "ImageComments": "of Zeta",
    "StudyInstanceUID": "1.2.99887.1",
    "FrameOfReferenceUID": "1.2.99887.3",
    "DeviceSerialNumber": "SER99887",
}
PLANTED = re.compile(
    rb"mueller|anna|4711471147|99887|19610403|20110203|elm street|zeta|quirk|operator",
    re.IGNORECASE,
)


def dicom(folder: Path, number: int, about: str, slices: int = 4, **tags) -> Path:
    """A series of MR slices whose header tells who it is of."""
    own = {**PERSON, "Modality": "MR", "SeriesNumber": number, "SeriesDescription": about}
    own |= {"SeriesInstanceUID": f"1.2.99887.2.{number}", "ProtocolName": "for Mueller", **tags}
    write_series(folder, 8 * np.rint(head(SHAPE[3], number))[:, :, :slices], **own)
    return folder


def seen(folder: Path, done: list) -> None:
    """Nothing planted was printed, or written to a file that is not one of the images given."""
    printed = "\n".join(f"{r.stdout}\n{r.stderr}" for r in done)
    assert PLANTED.findall(printed.encode()) == []
    written = [p for p in folder.rglob("*") if not p.is_relative_to(folder / "in")]
    given = {(s.st_dev, s.st_ino) for p in (folder / "in").rglob("*") for s in [p.stat()]}
    looked_at = 0
    for path in written:
        assert not PLANTED.search(path.relative_to(folder).as_posix().encode()), path
        about = path.stat()
        if not path.is_file() or (about.st_dev, about.st_ino) in given:
            continue  # what `data sort` links is the image itself
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert not PLANTED.search(content), path
        looked_at += 1
    assert looked_at > 3


def test_the_search_finds_what_is_planted(tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(4):
        (tmp_path / f"{k}.txt").write_text("nothing")
    seen(tmp_path, [])
    with gzip.open(tmp_path / "a.gz", "wb") as stream:
        stream.write(b"of Anna")
    with pytest.raises(AssertionError):
        seen(tmp_path, [])


def test_names_in_dicom_headers_are_neither_written_nor_printed(here, runs):
    kept = {"FrameOfReferenceUID": "1.2.3"}  # in a series that is made of it
    first = dicom(here / "in" / "a", 1, "t1 Mueller Anna", SHAPE[3][2], **kept)
    dicom(here / "in" / "b", 2, "t2 Mueller Anna", PatientID="4711471148")
    dicom(here / "in" / "c", 3, "Anna Mueller", PatientID="anon", ProtocolName="")
    dicom(here / "mixed" / "d", 5, "t1 Anna")
    dicom(here / "mixed" / "d", 6, "t1 Mueller", name="second-{}")
    shutil.move(here / "mixed", here / "in" / "mixed")
    (here / "in" / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    run = shutil.copytree(runs[3].folder, here / "runs" / "t2")
    two = here / "in" / "mixed" / "d"
    done = [
        msgan_cli("init", here / "study", "--from", here / "in"),
        msgan_cli("data", "check", here / "study/manifest.csv", "--root", here / "in"),
        msgan_cli("data", "sort", here / "in", here / "sorted"),
        msgan_cli("data", "sort", here / "in", here / "other", "--by", "kernel", status=2),
        msgan_cli("translate", run, first, here / "out.nii"),
        msgan_cli("translate", run, first, here / "other.zarr", "--keep", here / "kept"),
        msgan_cli("translate", run, first, here / "made", "--format", "dicom"),
        msgan_cli("translate", run, two, here / "no.nii", status=2),
        msgan_cli("evaluate", here / "out.nii", first, "--json", here / "scores.json"),
        msgan_cli("evaluate", two, first, status=2),
        msgan_cli("sketch", first, here / "sketch.nii"),
        msgan_cli("report", here / "runs", "--out", here / "report"),
    ]
    assert "2 DICOM series in one folder (4 slices of series 5, 4 slices" in done[7].stderr
    assert {p.name for p in (here / "sorted").glob("*/*")} == {
        *("t1_s001", "t1_s005", "t1_s006", "t2", "series003")
    }
    seen(here, done)


def test_names_in_other_headers_are_neither_written_nor_printed(here, runs):
    (here / "in").mkdir()
    picture = nib.Nifti1Image(head(SHAPE[3]), np.eye(4))
    picture.header["descrip"] = b"Mueller^Anna"
    picture.header["aux_file"] = b"Anna.txt"
    picture.header["db_name"] = b"Mueller"
    comment = nib.nifti1.Nifti1Extension("comment", b"Mueller^Anna 19610403")
    picture.header.extensions.append(comment)
    nib.save(picture, here / "in" / "s1_t1.nii")
    nib.save(picture, here / "in" / "s2_t1.nii.gz")
    store = image(here / "in" / "s3_t1.zarr")
    group = zarr.open_group(store, mode="r+")
    ome = group.attrs["ome"]
    ome["multiscales"][0] |= {"name": "Mueller", "metadata": {"patient": "Anna"}}
    group.attrs.update({"ome": ome, "patient": {"name": "Mueller^Anna"}, "omero": {"name": "Anna"}})
    group["0"].attrs["patient"] = "Anna"
    (here / "in" / "s4_t1.mha").write_bytes(
        b"ObjectType = Image\nComment = Mueller\nPatientName = Anna\nNDims = 3\nDimSize = 2 2 2\n"
        b"ElementType = MET_UCHAR\nElementDataFile = LOCAL\n12345678"
    )
    run = shutil.copytree(runs[3].folder, here / "runs" / "t2")
    done = [msgan_cli("init", here / "study", "--from", here / "in")]
    check = ("data", "check", here / "study/manifest.csv", "--root", here / "in")
    done.append(msgan_cli(*check))
    for k, name in enumerate(("s1_t1.nii", "s3_t1.zarr")):
        out = here / f"out{k}.nii"
        done.append(msgan_cli("translate", run, here / "in" / name, out))
        done.append(msgan_cli("evaluate", out, here / "in" / name, "--json", here / f"{k}.json"))
    done.append(msgan_cli("report", here / "runs", "--out", here / "report"))
    seen(here, done)


# --- the salt ----------------------------------------------------------------------------------


def test_a_study_keeps_its_salt_and_so_its_names(here):
    dicom(here / "in" / "a", 1, "t1")
    study, other = here / "study", here / "other"

    def subject(folder: Path, *more: str) -> str:
        msgan_cli("init", folder, "--from", here / "in", *more)
        return (folder / "manifest.csv").read_text().splitlines()[1].partition(",")[0]

    name = subject(study)
    assert re.fullmatch(r"subject-[0-9a-f]{16}", name)
    assert subject(study, "--force") == name
    assert subject(other) != name
    salt = study / ".salt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    for path in (here / "study").iterdir():
        assert path == salt or salt.read_text().strip() not in path.read_text()
    salt.write_text("no salt")
    assert "damaged" in msgan_cli("init", study, "--from", here / "in", "--force", status=2).stderr


def test_studies_without_dicom_have_no_salt(here):
    image(here / "in" / "s1_t1.nii")
    msgan_cli("init", here / "study", "--from", here / "in")
    assert not (here / "study" / ".salt").exists()


def test_a_study_from_before_says_that_names_are_new(here):
    dicom(here / "in" / "a", 1, "t1")
    manifest = here / "study" / "manifest.csv"
    manifest.parent.mkdir()
    manifest.write_text(
        "subject,role,modality,path,licence,citation\nsubject-0123abcd,image,t1,a,none,none\n"
    )
    check = msgan_cli("data", "check", manifest, "--root", here / "in")  # it works as before
    assert check.stdout.endswith("ok\n")
    again = msgan_cli("init", manifest.parent, "--from", here / "in", "--force")
    assert f"note: {manifest}: its subjects that are hashes have new, longer names" in again.stderr
    third = msgan_cli("init", manifest.parent, "--from", here / "in", "--force")
    assert "longer names" not in third.stderr


def test_a_name_needs_its_salt():
    known = pseudonym.pseudonym("subject", "1234567", b"a" * 32)
    assert known == pseudonym.pseudonym("subject", "1234567", b"a" * 32)
    assert known != pseudonym.pseudonym("subject", "1234567", b"b" * 32)
    assert pseudonym.new_salt() != pseudonym.new_salt()


def test_errors_about_series_tell_numbers_only(tmp_path):
    dicom(tmp_path / "a", 7, "Anna", name="{}.dcm")
    dicom(tmp_path / "a", 8, "Mueller", name="x{}.dcm")
    with pytest.raises(InputError, match="4 slices of series 7, 4 slices of series 8") as error:
        open_volume(tmp_path / "a")
    assert not PLANTED.search(str(error.value).encode())
    assert json.dumps(str(error.value)).count("series") > 2
