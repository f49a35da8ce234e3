"""Whether two images are of one person, as names and headers tell."""

from pathlib import Path

import pytest
from dicoms import ct, write_series, write_slice

from msgan.data.identity import difference


def person(folder: Path, **tags: str) -> Path:
    write_series(folder, ct(0)[:, :, :2], **tags)
    return folder


def test_headers_of_two_people_are_told_apart_without_a_name(tmp_path: Path) -> None:
    one = person(tmp_path / "one", PatientID="MUELLER^ANNA")
    other = person(tmp_path / "two", PatientID="MAIER^BERT")
    same = person(tmp_path / "three", PatientID="MUELLER^ANNA")
    assert difference(one, other) == "different people by their DICOM headers"
    assert difference(one, next(other.iterdir())) == "different people by their DICOM headers"
    assert difference(one, same) == ""


def test_two_studies_of_a_person_are_told_apart(tmp_path: Path) -> None:
    one = person(tmp_path / "one", StudyInstanceUID="1.2.1")
    other = person(tmp_path / "two", StudyInstanceUID="1.2.2")
    assert difference(one, other) == "different studies by their DICOM headers"


@pytest.mark.parametrize("tag", ["PatientID", "StudyInstanceUID"])
def test_what_a_header_does_not_state_is_no_difference(tag: str, tmp_path: Path) -> None:
    one = person(tmp_path / "one", **{tag: "1.2.7"})
    other = person(tmp_path / "two", **{tag: ""})
    assert difference(one, other) == ""


def test_names_go_before_headers(tmp_path: Path) -> None:
    one = person(tmp_path / "sub-01_ses-a", PatientID="A1")
    other = person(tmp_path / "sub-01_ses-b", PatientID="B2")
    assert difference(one, other).startswith("ses-a and ses-b of sub-01 by their names")


def test_what_cannot_be_read_says_nothing(tmp_path: Path, monkeypatch) -> None:
    one = person(tmp_path / "one", PatientID="A1")
    damaged = write_slice(tmp_path / "two" / "a.dcm", ct(0)[:, :, 0], 0, PatientID="B2")
    assert difference(one, damaged) == "different people by their DICOM headers"
    damaged.write_bytes(damaged.read_bytes()[:132])  # up to its mark
    assert difference(one, damaged) == ""
    assert difference(one, tmp_path / "absent") == ""
    (tmp_path / "empty").mkdir()
    assert difference(one, tmp_path / "empty") == ""
    listed = Path.iterdir

    def iterdir(folder):
        if folder == tmp_path / "two":
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert difference(one, damaged.parent) == ""
    assert difference(damaged.parent, one) == ""
