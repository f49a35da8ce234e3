"""Downloads of MR and of mixed studies, sorted into a folder for each series."""

import os
import re
import shutil
from pathlib import Path

import pytest
from dicoms import ct, write_series
from program import fails, msgan_cli

from msgan.data.series import sort_series
from msgan.types import InputError


def series(folder: Path, number: int, **tags) -> Path:
    """One series of two slices, by default MR without a kernel."""
    own = {"Modality": "MR", "SeriesInstanceUID": f"1.2.{number}", "SeriesNumber": number}
    write_series(folder / f"s{number}", ct(number)[:, :, :2], **{**own, **tags})
    return folder


def sorted_into(tmp_path: Path, **options) -> list[str]:
    out = tmp_path / "out"
    return [f.relative_to(out).as_posix() for f in sort_series(tmp_path / "in", out, **options)]


def test_mr_is_named_by_description_and_ct_by_kernel(tmp_path) -> None:
    root = tmp_path / "in"
    series(root, 1, SeriesDescription="t1 mprage")
    series(root, 2, SeriesDescription="t2 tse", ConvolutionKernel="")
    series(root, 3, Modality="CT", ConvolutionKernel="B20f", SeriesDescription="thorax")
    series(root, 4, Modality="CT", SeriesDescription="no kernel")
    series(root, 5, ProtocolName="flair")
    series(root, 6)
    assert sorted_into(tmp_path) == [
        f"10061S/{name}"
        for name in ("B20f", "flair", "series004", "series006", "t1_mprage", "t2_tse")
    ]


def test_of_a_description_only_known_words_become_a_name(tmp_path) -> None:
    series(tmp_path / "in", 1, SeriesDescription="Ax T1 MPRAGE Mrs Mueller 3.4.1961")
    series(tmp_path / "in", 2, SeriesDescription="Anna Mueller", ProtocolName="Mueller t2")
    series(tmp_path / "in", 3, SeriesDescription="Mueller")
    assert sorted_into(tmp_path) == [f"10061S/{n}" for n in ("Ax_T1_MPRAGE", "series003", "t2")]
    said: list[str] = []
    made = sort_series(tmp_path / "in", tmp_path / "as_it_is", by="description", remark=said.append)
    assert made[0].name == "Anna_Mueller"  # asked for
    assert said == []


def test_an_id_that_looks_like_a_person_is_a_salted_hash(tmp_path) -> None:
    for k, (patient, name) in enumerate(
        [("19610403", ""), ("Mueller01", "Mueller^Anna"), ("19610403", ""), ("P7x", "")]
    ):
        series(tmp_path / "in", k, PatientID=patient, PatientName=name, SeriesDescription="t1")
    people = {path.split("/")[0] for path in sorted_into(tmp_path)}
    assert "P7x" in people
    hashed = people - {"P7x"}
    assert len(hashed) == 2
    assert all(re.fullmatch(r"subject-[0-9a-f]{16}", who) for who in hashed)
    other = sort_series(tmp_path / "in", tmp_path / "other")
    assert {folder.parent.name for folder in other} & people == {"P7x"}  # another salt
    for folder in other:
        shutil.rmtree(folder.parent, ignore_errors=True)
    again = sort_series(tmp_path / "in", tmp_path / "other")
    assert again == other


@pytest.mark.parametrize("by", ["auto", "description"])
def test_two_series_of_one_description_get_their_numbers(tmp_path, by) -> None:
    series(tmp_path / "in", 3, SeriesDescription="t1")
    series(tmp_path / "in", 12, SeriesDescription="T1")  # one name for some file systems
    said: list[str] = []
    made = sorted_into(tmp_path, by=by, remark=said.append)
    assert [name.lower() for name in made] == ["10061s/t1_s003", "10061s/t1_s012"]
    assert len(said) == 2


def test_series_of_one_number_are_counted(tmp_path) -> None:
    series(tmp_path / "in", 1, SeriesDescription="t1", SeriesNumber=7)
    series(tmp_path / "in", 2, SeriesDescription="t1", SeriesNumber=7)
    assert sorted_into(tmp_path) == ["10061S/t1_1", "10061S/t1_2"]


def test_names_are_safe_and_patients_apart(tmp_path) -> None:
    root = tmp_path / "in"
    series(root, 1, PatientID="A/1", SeriesDescription="../../etc: a?*")
    series(root, 2, PatientID="A_1", SeriesDescription="CON")
    series(root, 3, PatientID="", SeriesDescription="x" * 64)
    for k, study in ((4, "5.1"), (5, "5.2")):
        series(root, k, PatientID="", StudyInstanceUID=study, SeriesDescription="t1")
    made = sorted_into(tmp_path)
    people = {path.split("/")[0] for path in made}
    assert len(people) == 5
    assert all("/" in path and ".." not in path and path.isascii() for path in made)
    assert {path.split("/")[1] for path in made} == {"series001", "series002", "series003", "t1"}


def test_descriptions_are_safe_names(tmp_path) -> None:
    for k, about in enumerate(("../../etc: a?*", "CON", "x" * 64), 1):
        series(tmp_path / "in", k, SeriesDescription=about)
    made = sorted_into(tmp_path, by="description")
    assert made == [f"10061S/{name}" for name in ("CON_", "etc_a", "x" * 64)]


def test_without_a_kernel_the_way_out_is_named(tmp_path) -> None:
    series(tmp_path / "in", 1, SeriesDescription="t1")
    with pytest.raises(InputError, match="has no kernel: sort with --by description"):
        sorted_into(tmp_path, by="kernel")
    for k in (2, 3):
        series(tmp_path / "ct", k, Modality="CT", ConvolutionKernel="B20f")
    with pytest.raises(InputError, match=r"are of one patient and kernel B20f: sort with --by"):
        sort_series(tmp_path / "ct", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_nothing_may_be_written(tmp_path) -> None:
    root = series(tmp_path / "10061S" / "t1", 1, SeriesDescription="t1")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is a file, expected a folder"):
        sort_series(root, tmp_path / "file")
    with pytest.raises(InputError, match=r"10061S/t1: (is there already|lies in)"):
        sort_series(root, tmp_path)
    assert sorted(p.name for p in root.iterdir()) == ["s1"]


def test_an_interrupted_sort_leaves_nothing_half(tmp_path, monkeypatch) -> None:
    series(tmp_path / "in", 1, SeriesDescription="t1")
    series(tmp_path / "in", 2, SeriesDescription="t2")
    real, count = os.link, 0

    def stops(source, target, **options):
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        real(source, target, **options)

    monkeypatch.setattr(os, "link", stops)
    with pytest.raises(KeyboardInterrupt):
        sorted_into(tmp_path)
    assert [p.name for p in (tmp_path / "out" / "10061S").iterdir()] == ["t1"]
    assert len(list((tmp_path / "out" / "10061S" / "t1").iterdir())) == 2


def test_the_command_goes_on_after_a_damaged_file_and_says_so(tmp_path) -> None:
    root = series(tmp_path / "in", 1, SeriesDescription="t1")
    (root / "bad").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    (root / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    from msgan.data import series as module

    real = module.header_of

    def header_of(file, tags):
        if file.name == "bad":
            raise NotImplementedError("a value\nthat is none")
        return real(file, tags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "header_of", header_of)
        done = msgan_cli("data", "sort", root, tmp_path / "out", status=2)
    assert f"{tmp_path / 'out' / '10061S' / 't1'}: 2 files" in done.stdout
    assert f"note: left out: {root / 'bad'}: unreadable DICOM header: NotImplem" in done.stderr
    assert "expected kernel or description" in fails("data", "sort", root, tmp_path, "--by", "date")


def test_what_cannot_be_read_is_told_and_the_rest_sorted(tmp_path, monkeypatch) -> None:
    import pydicom

    root = tmp_path / "in"
    series(root, 1, SeriesDescription="t1")
    (root / "secret").mkdir()
    read, listed = pydicom.dcmread, os.scandir

    def dcmread(file, *words, **options):
        if Path(file).parent.name == "lost":
            raise OSError(5, "Input/output error")
        if Path(file).parent.name == "odd":
            raise ValueError("a value\nof two lines")
        return read(file, *words, **options)

    def scandir(folder):
        if str(folder).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    for name in ("lost", "odd"):
        (root / name).mkdir()
        shutil.copy(next((root / "s1").iterdir()), root / name / "a.dcm")
    monkeypatch.setattr(pydicom, "dcmread", dcmread)
    monkeypatch.setattr(os, "scandir", scandir)
    told: list[str] = []
    assert sorted_into(tmp_path, remark=told.append) == ["10061S/t1"]
    assert sorted(told) == [
        f"left out: {root / 'lost' / 'a.dcm'}: Input/output error",
        f"left out: {root / 'odd'}: unreadable DICOM header in a.dcm: a value",
        f"left out: {root / 'secret'}: Permission denied",
    ]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch) -> None:
    series(tmp_path / "in", 1, SeriesDescription="t1")

    def refused(old, new) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("os.link", "shutil.copy2"):
        monkeypatch.setattr(name, refused)
    folder = tmp_path / "out" / "10061S" / "t1"
    with pytest.raises(
        InputError, match=f"^{re.escape(str(folder))}: cannot be written: Read-only"
    ):
        sorted_into(tmp_path)
    assert not folder.exists()
    assert list(folder.parent.iterdir()) == []
