"""Manifests as spreadsheets write and people break them; patterns that would never end."""

import os
import re
import time
from pathlib import Path

import pytest
from test_manifest import HEADER, touch

from msgan.data.entry import Entry
from msgan.data.manifest import check_manifest, read_manifest, write_manifest
from msgan.types import InputError

ROW = "a,image,t1,a.nii,L,C"
PLAIN = f"{HEADER}{ROW}\n"
MARK = "\ufeff"
LONG = "a" * 10**6


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        (MARK + PLAIN).encode("utf-16-be"),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        ("sep=;\n" + PLAIN.replace(",", ";")).encode(),
        ("sep=|\n" + PLAIN.replace(",", ";")).encode(),  # a wrong word for what is there
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace("\n", ",,\n").encode() + b",,,,,,,\r\n\r\n",
        HEADER.replace("role", ",role").encode() + b"a,,image,t1,a.nii,L,C\n",
        HEADER.replace(",", " , ").encode() + b" a , image, t1 ,a.nii ,L, C\n",
        PLAIN.replace("L,", '"L",').encode(),
    ],
)
def test_tables_of_spreadsheets_are_read(tmp_path, content):
    (tmp_path / "m.csv").write_bytes(content)
    (row,) = read_manifest(tmp_path / "m.csv").rows
    assert (row.subject, row.role, row.modality, row.path) == ("a", "image", "t1", "a.nii")
    assert (row.licence, row.citation) == ("L", "C")


def test_prose_may_have_several_lines(tmp_path):
    (tmp_path / "m.csv").write_text(HEADER + 'a,image,t1,a.nii,L,"Smith, A.\nJournal 3, 2020"\n')
    (row,) = read_manifest(tmp_path / "m.csv").rows
    assert row.citation == "Smith, A.\nJournal 3, 2020"
    write_manifest(tmp_path / "n.csv", read_manifest(tmp_path / "m.csv"))
    assert read_manifest(tmp_path / "n.csv").rows == (row,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f'{PLAIN}b,image,t1,"b.nii,L,C\n{ROW}\n',
            "m.csv:3: a quote is opened here and",
        ),
        (
            f'{HEADER}a,image,t1,"a\nb,image,t1,b",L,C\n',
            "m.csv:2: column 'path' goes on",
        ),
        (
            f'{HEADER}a,image,t1,a,L,"C\nb,image,t1,b,L,D"\n',
            "m.csv:2: column 'citation' goes",
        ),
        (f'{HEADER}a,image,t1,a.nii,L,"C"x\n', "m.csv:2: a quote within a value"),
        (f"{HEADER.strip()},,\n{ROW},x,\n", "m.csv:2: column 7 has no name and holds 'x'"),
        (f"{HEADER}a\0,image,t1,a.nii,L,C\n", "m.csv: has a byte of value 0 in line 2"),
        (f"{HEADER}a,image,t1,{LONG},L,C\n", "m.csv:2: column 'path', value 'aaa"),
        (f"{HEADER}a,{LONG},t1,a,L,C\n", "m.csv:2: column 'role', value 'aaa"),
        (f"{LONG},{HEADER}", "m.csv:1: unknown column 'aaa"),
        (f"{HEADER}..,image,t1,{{subject}}/a.nii,L,C\n", "m.csv:2: column 'subject', value '..'"),
        (f"{HEADER}a\x07,image,t1,a.nii,L,C\n", "column 'subject', value 'a\\x07'"),
        (f"{HEADER}a,image,t1,{'*a' * 30},L,C\n", "expected at most 16 *"),
        (f"{HEADER}{'*a' * 30},image,t1,{{subject}},L,C\n", "expected at most 16 *"),
        (f"{HEADER}a,image,t1,**/a.nii,L,C\n", "value '**/a.nii': has **, expected *"),
    ],
)
def test_broken_tables_are_one_short_line(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_manifest(tmp_path / "m.csv")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(InputError, match="is a folder, expected a file"):
        read_manifest(tmp_path)


def pattern(subject: str, path: str) -> Entry:
    about = {"role": "image", "modality": "t1", "licence": "L", "citation": "C"}
    return Entry.model_validate({"subject": subject, "path": path, **about})


def test_many_stars_are_matched_in_a_moment(tmp_path):
    (tmp_path / ("a" * 250)).touch()
    started = time.process_time()
    for subject, path in (
        ("x", "*a" * 15 + "*b"),
        ("*a*a*a*a", "*a*a*a*a{subject}*a*a*a*b"),
        ("*", "{subject}*a*a*a*b"),
    ):
        assert pattern(subject, path).matches(tmp_path) == []
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("subject", "path", "name", "found"),
    [
        ("*", "{subject}_t1.nii", "a_b_t1.nii", "a_b"),
        ("p*", "x{subject}_t1.nii", "xp1_new_t1.nii", "p1_new"),
        ("*", "{subject}/{subject}_*_t1.nii", "p1/p1_a_t1.nii", "p1"),
        ("*", "{subject}_*/{subject}_t1.nii", "p1_a_b/p1_t1.nii", "p1"),
        ("s?-*", "*/s{subject}.nii", "d/ss1-x.nii", "s1-x"),
        ("*_*", "{subject}_t1.nii", "a_b_c_t1.nii", "a_b_c"),
    ],
)
def test_the_subject_is_what_its_pattern_stands_for(tmp_path, subject, path, name, found):
    touch(tmp_path, name)
    assert pattern(subject, path).matches(tmp_path) == [(found, name)]


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("a,image,t1,a.nii,L,C,train", "a,image,t2,b.nii,L,C,test", "rows of a differ in split"),
        ("a,image,t1,a.nii,L,C,train", "A,image,t2,b.nii,L,C,test", "a and A differ in case only"),
        ("a,image,t1,a.nii,L,C,train", "*,image,t2,{subject}_t2.nii,L,C,test", "rows of a differ"),
    ],
)
def test_a_subject_in_two_splits_is_refused_and_the_rest_is_checked(tmp_path, one, other, message):
    touch(tmp_path, "a.nii", "b.nii", "a_t2.nii")
    (tmp_path / "m.csv").write_text(f"{HEADER.strip()},split\n{one}\n{other}\n")
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / "m.csv", tmp_path)
    report = check_manifest(tmp_path / "m.csv", tmp_path)
    assert any(message in line for line in report.lines())
    assert sum("the file has no bytes" in line for line in report.lines()) == 2


def test_a_check_goes_on_after_whatever_is_no_image(tmp_path, monkeypatch):
    from msgan.data import volume

    names = ["pipe.nii", "lost.nii", "empty.nii", "a" * 300, "odd.nii"]
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "lost.nii").symlink_to("nowhere")
    touch(tmp_path, "empty.nii", "odd.nii", "x\ny.nii")
    real = volume.open_volume

    def fails(path: Path, **options):
        if "odd" in path.name:
            raise KeyError("a library\nfailed")
        return real(path, **options)

    monkeypatch.setattr(volume, "open_volume", fails)
    rows = "".join(f"s{k},image,t1,{name},L,C\n" for k, name in enumerate(names))
    (tmp_path / "m.csv").write_text(f"{HEADER}{rows}*,image,t2,{{subject}}.nii,L,C\n")
    report = check_manifest(tmp_path / "m.csv", tmp_path)
    assert not report.ok
    assert all("\n" not in line for line in report.lines())
    text = "\n".join(report.lines())
    for rule in (
        "pipe.nii: no ordinary file",
        "lost.nii: missing, a link to nowhere",
        "empty.nii: does not open: the file has no bytes",
        "cannot be read: File name too long",
        "odd.nii: does not open: KeyError",
        "no manifest can hold the name x\\ny.nii",
    ):
        assert rule in text, rule
