from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from msgan.data.entry import COLUMNS, Entry
from msgan.data.manifest import Manifest, check_manifest, read_manifest, write_manifest
from msgan.paths import sha256
from msgan.types import InputError

HEADER = "subject,role,modality,path,licence,citation\n"
REPOSITORY = Path(__file__).resolve().parents[1]


def entry(**values) -> Entry:
    base = {"subject": "a", "role": "image", "modality": "t1", "path": "{subject}.nii"}
    return Entry.model_validate(base | {"licence": "CC BY", "citation": "Somebody 2017"} | values)


def nifti(path: Path, shape=(4, 5, 6), affine=None, dtype=np.float32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype) % 3
    nib.save(nib.Nifti1Image(image, np.eye(4) if affine is None else affine), path)
    return path


def manifest(*rows: Entry) -> Manifest:
    return Manifest(name="test.csv", rows=rows)


def test_what_is_written_is_read_back(tmp_path):
    rows = (
        entry(citation='A "quoted", comma\nand line', fold=3, split="test", unit="HU"),
        entry(subject="*", role="labels", modality="", path="x/{subject}/*_seg?.nii.gz"),
        entry(subject="Łucja", sha256="0" * 64, source_url="https://example.org/data"),
    )
    write_manifest(tmp_path / "m.csv", manifest(*rows))
    assert read_manifest(tmp_path / "m.csv").rows == rows
    assert read_manifest(tmp_path / "m.csv").name == "m.csv"


def test_columns_may_stand_in_any_order_and_optional_ones_be_absent(tmp_path):
    text = "\ufeffpath, citation,subject,role,modality,licence\n\nx.nii,C,s1,image,t1,L\n"
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    (row,) = read_manifest(tmp_path / "m.csv").rows
    assert (row.subject, row.path, row.citation) == ("s1", "x.nii", "C")
    assert (row.sha256, row.split, row.fold) == (None, "", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"m\.csv:1: missing column 'subject'"),
        ("subject,role\n", r"m\.csv:1: missing column 'path'"),
        (HEADER.replace(",", "|"), r"m\.csv:1: unknown column 'subject|role"),
        ("colour," + HEADER, r"m\.csv:1: unknown column 'colour'; known are subject,"),
        ("subject," + HEADER, r"m\.csv:1: column 'subject' is there twice"),
        (HEADER, r"m\.csv: no rows"),
        (HEADER + "a,image,t1,a.nii,L\n", r"m\.csv:2: 5 cells, the header names 6 columns"),
        (HEADER + "a,image,t1,a.nii,L,C,x\n", r"m\.csv:2: 7 cells, the header names 6 columns"),
        (
            HEADER + "a,image,t1,a.nii,L,C\n\nb,picture,t1,a.nii,L,C\n",
            r"m\.csv:4: column 'role', value 'picture': expected 'image', 'labels', 'mask' or",
        ),
        (HEADER + "a,image,T1,a.nii,L,C\n", r"m\.csv:2: column 'modality', value 'T1'"),
        (HEADER + "a,image,,a.nii,L,C\n", r"m\.csv:2: image without a name: expected one"),
        (HEADER + "a,region,,a.nii,L,C\n", r"m\.csv:2: region without a name: expected one"),
        (HEADER + "a,image,t1,a.nii,,C\n", r"m\.csv:2: column 'licence', value ''"),
        (HEADER + "a,image,t1,../a.nii,L,C\n", r"m\.csv:2: path '\.\./a\.nii' must stay below"),
        (HEADER + "a,image,t1,/a.nii,L,C\n", r"m\.csv:2: path '/a\.nii' must stay below"),
        (HEADER + "a,image,t1,{name}.nii,L,C\n", r"m\.csv:2: path .* no other braces"),
        (HEADER + "*,image,t1,a.nii,L,C\n", r"m\.csv:2: subject pattern '\*' needs \{subject\}"),
        (HEADER + "a/b,image,t1,a.nii,L,C\n", r"m\.csv:2: column 'subject', value 'a/b'"),
        (
            HEADER + "a,image,t1,a.nii,L,C\n" * 2,
            r"m\.csv:3: subject 'a', role 'image', modality 't1' is already in line 2",
        ),
        (
            "split," + HEADER + "training,a,image,t1,a.nii,L,C\n",
            r"m\.csv:2: column 'split', value 'training': expected 'train', 'val', 'test' or",
        ),
        ("fold," + HEADER + "-1,a,image,t1,a.nii,L,C\n", r"m\.csv:2: column 'fold', value '-1'"),
        ("sha256," + HEADER + "12ab,a,image,t1,a.nii,L,C\n", r"m\.csv:2: column 'sha256'"),
    ],
)
def test_faults_name_file_line_column_value_and_rule(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(tmp_path / "m.csv")
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + "a,image,t1,ä.nii,L,C".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.csv: cannot be read as UTF-8"):
        read_manifest(tmp_path / "latin.csv")


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_patterns_expand_to_the_subjects_found(tmp_path):
    touch(tmp_path, "HGG/p1/T1.54513/T1.54513.mha", "LGG/p2/T1.1/T1.1.mha", "HGG/p1/T1c.2/x.mha")
    row = entry(subject="*", path="*/{subject}/T1.*/T1.*.mha", split="train")
    rows = manifest(row).expand(tmp_path).rows
    assert [(r.subject, r.path, r.split) for r in rows] == [
        ("p1", "HGG/p1/T1.54513/T1.54513.mha", "train"),
        ("p2", "LGG/p2/T1.1/T1.1.mha", "train"),
    ]


def test_repeated_subject_must_be_the_same_and_brackets_are_ordinary(tmp_path):
    touch(tmp_path, "s1/s1_t1.nii", "s2/s1_t1.nii", "s[3]/s[3]_t1.nii", "s4/sub/s4_t1.nii")
    row = entry(subject="s*", path="{subject}/{subject}_t1.nii")
    assert manifest(row).expand(tmp_path).subjects == ("s1", "s[3]")


def test_named_subject_with_a_wildcard_in_its_path_is_found(tmp_path):
    touch(tmp_path, "a/series.1.2.3/0.dcm")
    row = entry(path="{subject}/series.*")
    assert manifest(row).expand(tmp_path).rows[0].path == "a/series.1.2.3"
    touch(tmp_path, "[new]/a.1.nii", "n/a.2.nii")
    row = entry(path="[new]/{subject}.*")
    assert manifest(row).expand(tmp_path).rows[0].path == "[new]/a.1.nii"


def test_two_files_for_one_image_are_refused(tmp_path):
    touch(tmp_path, "a.1.nii", "a.2.nii")
    with pytest.raises(InputError, match=r"a\.1\.nii and a\.2\.nii are both the image t1 of"):
        manifest(entry(path="{subject}.*.nii")).expand(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        manifest(entry()).expand(tmp_path / "none")


def test_check_of_sound_data_is_ok_and_reports_progress(tmp_path):
    path = nifti(tmp_path / "a.nii")
    nifti(tmp_path / "a_seg.nii.gz", dtype=np.uint8)
    rows = entry(sha256=sha256(path)), entry(role="labels", path="a_seg.nii.gz")
    calls = []
    report = check_manifest(manifest(*rows), tmp_path, progress=lambda *a: calls.append(a))
    assert report.ok
    assert report.lines() == [f"test.csv: 1 subjects, 2 files below {tmp_path}: ok"]
    assert calls == [(0, 2, "a.nii"), (1, 2, "a_seg.nii.gz"), (2, 2, "")]


def test_check_says_what_is_missing_and_where_to_get_it(tmp_path):
    rows = entry(source_url="https://example.org"), entry(modality="t2", path="b.nii")
    report = check_manifest(manifest(*rows), tmp_path)
    assert not report.ok
    assert report.lines() == [
        "error: a: a.nii: missing; get it from https://example.org",
        "error: a: b.nii: missing; see Somebody 2017",
        f"test.csv: 1 subjects, 2 files below {tmp_path}: 2 errors",
    ]
    lost = check_manifest(manifest(*rows), tmp_path / "none")
    assert lost.lines()[0].endswith("no such folder; get it from https://example.org")
    empty = check_manifest(manifest(entry(subject="*")), tmp_path)
    assert "no file fits below" in empty.lines()[0]
    assert not lost.ok
    assert not empty.ok


def test_check_finds_changed_and_broken_files(tmp_path):
    nifti(tmp_path / "a.nii")
    (tmp_path / "b.nii").write_bytes(b"not an image")
    rows = entry(sha256="0" * 64), entry(subject="b")
    first, second, _ = check_manifest(manifest(*rows), tmp_path).lines()
    assert first.startswith("error: a: a.nii: SHA-256 is ")
    assert second.startswith("error: b: b.nii: does not open: ")
    assert "SHA-256" not in "".join(check_manifest(manifest(*rows), tmp_path, hashes=False).lines())


def test_check_compares_the_grids_of_a_subject(tmp_path):
    shifted = np.eye(4)
    shifted[0, 3] = 0.5
    nifti(tmp_path / "t1.nii")
    nifti(tmp_path / "t2.nii", affine=shifted)
    nifti(tmp_path / "same.nii", dtype=np.uint8, affine=shifted + np.eye(4) * 0)
    nifti(tmp_path / "seg.nii", (4, 5, 7), dtype=np.uint8)
    t1, t2 = entry(path="t1.nii"), entry(modality="t2", path="t2.nii")
    paired = check_manifest(manifest(t1, t2), tmp_path)
    assert not paired.ok
    assert "t2.nii: grid" in paired.lines()[0]
    assert "t1.nii" in paired.lines()[0]
    unpaired = check_manifest(manifest(t1, t2), tmp_path, paired=False)
    assert unpaired.ok
    assert unpaired.lines()[0].startswith("note: a: t2.nii: grid")
    fits = entry(role="mask", modality="", path="same.nii")
    assert check_manifest(manifest(t1, t2, fits), tmp_path, paired=False).ok
    labels = entry(role="labels", modality="", path="seg.nii")
    report = check_manifest(manifest(t1, labels), tmp_path, paired=False)
    assert not report.ok
    assert "that of no image" in report.lines()[0]


def test_subjects_that_lack_a_modality_are_noted(tmp_path):
    for name in ("p1_t1.nii", "p1_t2.nii", "p2_t1.nii"):
        nifti(tmp_path / name)
    rows = [entry(subject="p*", modality=m, path=f"{{subject}}_{m}.nii") for m in ("t1", "t2")]
    report = check_manifest(manifest(*rows), tmp_path)
    assert report.ok
    assert report.lines()[0] == "note: p2: -: has no t2 image"


SHIPPED = sorted((REPOSITORY / "data_manifests").glob("*.csv"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_manifests_are_valid_and_canonical(path, tmp_path):
    read = read_manifest(path)
    assert all(row.source_url.startswith("https://") for row in read.rows)
    write_manifest(tmp_path / "again.csv", read)
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)


LAYOUTS = {
    "brats2015": (
        [
            "HGG/brats_2013_pat0001_1/VSD.Brain.XX.O.MR_T1.54513/VSD.Brain.XX.O.MR_T1.54513.mha",
            "HGG/brats_2013_pat0001_1/VSD.Brain.XX.O.MR_T1c.54514/VSD.Brain.XX.O.MR_T1c.54514.mha",
            "HGG/brats_2013_pat0001_1/VSD.Brain.XX.O.MR_T1.54513/VSD.Brain.XX.O.MR_T1.54513.txt",
            "LGG/brats_tcia_pat101_0001/VSD.Brain_3more.XX.O.OT.1/VSD.Brain_3more.XX.O.OT.1.mha",
        ],
        {
            ("brats_2013_pat0001_1", "t1"),
            ("brats_2013_pat0001_1", "t1c"),
            ("brats_tcia_pat101_0001", ""),
        },
    ),
    "brats2021": (
        [
            "BraTS2021_00000/BraTS2021_00000_t1ce.nii.gz",
            "BraTS2021_00002/BraTS2021_00002_t1.nii.gz",
        ],
        {("BraTS2021_00000", "t1c"), ("BraTS2021_00002", "t1")},
    ),
    "ixi": (
        ["IXI-T1/IXI002-Guys-0828-T1.nii.gz", "IXI-PD/IXI012-HH-1211-PD.nii.gz"],
        {("IXI002-Guys-0828", "t1"), ("IXI012-HH-1211", "pd")},
    ),
    "lpba40": (
        ["delineation_space/S07/S07.delineation.skullstripped.nii.gz"],
        {("S07", "t1")},
    ),
    "copd_kernels": (["p1/B80f/1.dcm", "p1/B20f/1.dcm"], {("p1", "b80f"), ("p1", "b20f")}),
    "openi_xray": (["frontal/CXR1_1_IM-0001-3001.png"], {("CXR1_1_IM-0001-3001", "xray")}),
    "open_ms_data": (
        [
            "cross_sectional/MNI/patient19/"
            "T1_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz",
            "cross_sectional/MNI/patient19/"
            "T1POST_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz",
            "cross_sectional/MNI/patient19/"
            "GOLD_STANDARD_N4_noneck_reduced_winsor_regtoFLAIR_regtoMNI.nii.gz",
        ],
        {("patient19", "t1"), ("patient19", "")},
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_shipped_patterns_find_their_data_set(name, tmp_path):
    files, wanted = LAYOUTS[name]
    touch(tmp_path, *files)
    rows = read_manifest(REPOSITORY / "data_manifests" / f"{name}.csv", tmp_path).rows
    assert {(row.subject, row.modality) for row in rows} == wanted


NAMED = (
    "brain_ms",
    "brain_ms_raw",
    "brain_tumour",
    "ct_two_kernels",
    "lidc",
    "mr_ct",
    "nih_xray",
)
"""Those that name single files with their hashes."""


@pytest.mark.parametrize("name", NAMED)
def test_shipped_manifests_fit_the_real_files(name, shared_data):
    read = read_manifest(REPOSITORY / "data_manifests" / f"{name}.csv")
    small = read.model_copy(update={"rows": read.rows[:2]})
    report = check_manifest(small, shared_data, paired=name != "brain_ms_raw")
    assert report.ok, report.lines()
    for row in read.expand(shared_data).rows:
        assert (shared_data / row.path).is_file()
