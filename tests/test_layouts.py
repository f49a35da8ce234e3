"""Folders as nnU-Net, BIDS, converters and archives lay them out, and what is no acquired image."""

import json
from pathlib import Path

import pytest
from dicoms import ct, write_series
from layouts import covered, every, reasons, rows, volume

from msgan.data.manifest import check_manifest
from msgan.data.people import key_of, one_person
from msgan.data.scan import Proposal, propose
from msgan.data.scan.notes import notes, remarks, summary

CHANNELS = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "tumour": 1}}


def split_of(found: Proposal) -> dict[str, str]:
    """The one split of each person; fails where a person has two."""
    splits: dict[str, set[str]] = {}
    for f in found.found:
        splits.setdefault(f.person, set()).add(found.split_of[f.subject])
    assert all(len(own) == 1 for own in splits.values())
    return {person: next(iter(own)) for person, own in splits.items()}


def nnunet(root: Path, people: int = 8, channels: int = 2, about: object = None) -> None:
    for who in range(people):
        for channel in range(channels):
            volume(root / "imagesTr" / f"PH_{who:03d}_{channel:04d}.nii.gz")
        volume(root / "labelsTr" / f"PH_{who:03d}.nii.gz")
    if about is not None:
        (root / "dataset.json").write_text(json.dumps(about))


# --- nnU-Net -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "names"),
    [
        (CHANNELS, "t1 t2"),
        ({"modality": {"0": "FLAIR", "1": "T1gd"}, "labels": {"0": "background"}}, "flair t1c"),
        ({"channel_names": {"0": "CT", "1": "PET"}, "labels": {}}, "ct pet"),
        (
            {"channel_names": {"0": "zscore", "1": "noNorm"}},
            "channel0000 channel0001",
        ),
        ({"modality": {"0": "MRI", "1": "MRI"}, "labels": {}}, "mri_0000 mri_0001"),
        ({"modality": [1, 2]}, "channel0000 channel0001"),
        ("{", "channel0000 channel0001"),
        (None, "channel0000 channel0001"),
    ],
)
def test_channels_are_modalities_of_one_person(tmp_path, about, names) -> None:
    nnunet(tmp_path, about=about)
    found = propose(tmp_path)
    people = [f"PH_{k:03d}" for k in range(8)]
    assert rows(found) == every(*people, of=f"{names} labels")
    assert set(split_of(found)) == set(people)
    assert set(split_of(found).values()) == {"train", "val", "test"}
    units = {f.unit for f in found.found if f.modality == "ct"}
    assert units <= {"HU"}
    assert covered(tmp_path, found)


def test_a_description_that_cannot_be_read_is_told(tmp_path) -> None:
    nnunet(tmp_path / "a", about="x")
    nnunet(tmp_path / "b", about=CHANNELS)
    (tmp_path / "a" / "dataset.json").write_bytes(b'{"a": \xff}')
    rule = "cannot be read as UTF-8 text: byte 0xff in line 1"
    line = next(line for line in remarks(propose(tmp_path)) if "a/dataset.json" in line)
    assert line.startswith(f"a/dataset.json could not be used: {rule}")
    assert line.endswith("Channels keep their numbers.")


def test_images_without_a_number_are_of_the_only_channel(tmp_path) -> None:
    for who in ("anna", "bert"):
        volume(tmp_path / "imagesTr" / f"{who}.nii.gz")
        volume(tmp_path / "labelsTr" / f"{who}.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, "labels": {}}))
    assert rows(propose(tmp_path)) == every("anna", "bert", of="ct labels")


def test_the_test_images_of_a_data_set_are_its_split_test(tmp_path) -> None:
    nnunet(tmp_path, about=CHANNELS)
    for channel in (0, 1):
        volume(tmp_path / "imagesTs" / f"PH_1{channel:03d}_{channel:04d}.nii.gz")
        volume(tmp_path / "imagesTs" / f"PH_200_{channel:04d}.nii.gz")
    volume(tmp_path / "labelsTs" / "PH_200.nii.gz")
    split = split_of(propose(tmp_path))
    assert {person for person, own in split.items() if own == "test"} == {
        "PH_1000",
        "PH_1001",
        "PH_200",
    }
    assert ("PH_200", "labels") in rows(propose(tmp_path))


def test_numbers_of_people_are_no_channels(tmp_path) -> None:
    for who in (0, 1, 4):
        volume(tmp_path / "imagesTr" / f"amos_{who:04d}.nii.gz")
        volume(tmp_path / "labelsTr" / f"amos_{who:04d}.nii.gz")
        volume(tmp_path / "others" / f"brain_{who:04d}.nii.gz")
    subjects = {f.subject for f in propose(tmp_path).found}
    assert subjects == {f"amos_{k:04d}" for k in (0, 1, 4)} | {f"{k:04d}" for k in (0, 1, 4)}


def test_channels_in_a_folder_for_each_person(tmp_path) -> None:
    for who in (1, 2):
        for channel in (0, 1):
            volume(tmp_path / "images" / f"D_{who}" / f"d_{who}_{channel:04d}.nii.gz")
        volume(tmp_path / "segmentations" / f"d_{who}.nii.gz")
    found = propose(tmp_path)
    assert rows(found) == every("d_1", "d_2", of="channel0000 channel0001 labels")


def test_two_data_sets_with_the_same_cases_share_no_subject(tmp_path) -> None:
    for name in ("Dataset001_A", "Dataset002_B"):
        nnunet(tmp_path / name, people=3, about=CHANNELS)
    found = propose(tmp_path)
    assert len({f.subject for f in found.found}) == 6
    assert len(split_of(found)) == 3  # perhaps the same people: kept together


def test_what_a_network_has_segmented_is_left_out(tmp_path) -> None:
    nnunet(tmp_path / "raw", people=3, about=CHANNELS)
    trained = tmp_path / "nnUNet_results" / "D" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    volume(trained / "fold_0" / "validation" / "PH_000.nii.gz")
    volume(tmp_path / "raw" / "imagesTs_pred" / "PH_009.nii.gz")
    volume(tmp_path / "nnUNet_preprocessed" / "D" / "gt_segmentations" / "PH_000.nii.gz")
    found = propose(tmp_path)
    assert rows(found) == every("PH_000", "PH_001", "PH_002", of="t1 t2 labels")
    assert sum("a network's results" in why for why in reasons(found).values()) == 2
    assert any("Label maps have tumour" in line for line in remarks(found))


# --- BIDS and converters -----------------------------------------------------------------------


def test_images_of_one_kind_are_told_apart_or_left_out_by_name(tmp_path) -> None:
    anat = tmp_path / "sub-01" / "ses-pre" / "anat"
    taken = {
        "inv-1_MP2RAGE": "mp2rage_inv1",
        "inv-2_MP2RAGE": "mp2rage_inv2",
        "UNIT1": "unit1",
        "T1map": "t1map",
        "T1w": "t1",
        "ce-gad_T1w": "t1c",
        "run-1_T2w": "t2",
        "acq-highres_FLAIR": "flair_highres",
        "acq-lowres_FLAIR": "flair_lowres",
        "echo-1_MEGRE": "megre_echo1",
        "echo-2_MEGRE": "megre_echo2",
        "part-mag_T2starw": "t2star",
        "PDT2": "pdt2",
        "inplaneT2": "t2_inplane",
        "angio": "mra",
        "label-lesion_mask": "labels",
        "desc-brain_mask": "mask",
    }
    left = {
        "run-2_T2w": "has its t2 in",
        "part-phase_T2starw": "a phase or one part of a complex image",
        "label-GM_probseg": "anatomical labels",
        "dseg": "has its labels in",
        "magnitude1": "an image of the field",
    }
    for name in (*taken, *left):
        volume(anat / f"sub-01_ses-pre_{name}.nii.gz")
    found = propose(tmp_path)
    prefix = "sub-01/ses-pre/anat/sub-01_ses-pre_"
    assert {f.path: f.modality if f.role == "image" else f.role for f in found.found} == {
        f"{prefix}{name}.nii.gz": kind for name, kind in taken.items()
    }
    for name, why in left.items():
        assert why in reasons(found)[f"{prefix}{name}.nii.gz"]
    assert set(split_of(found)) == {"sub-01"}
    assert covered(tmp_path, found)


def test_what_was_acquired_comes_before_what_was_derived(tmp_path) -> None:
    volume(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    derived = tmp_path / "derivatives" / "fmriprep" / "sub-01" / "anat"
    for name in ("desc-preproc_T1w", "space-MNI_T1w", "desc-brain_mask", "dseg"):
        volume(derived / f"sub-01_{name}.nii.gz")
    found = propose(tmp_path)
    assert rows(found) == every("sub-01", of="t1 mask")
    assert "sub-01/anat/sub-01_T1w.nii.gz" in {f.path for f in found.found}


def test_series_of_a_converter_are_the_folders(tmp_path) -> None:
    for who in ("P01", "P02"):
        for name in ("3_t1_mprage", "4_t2_tse_e1", "4_t2_tse_e2", "5_gre_e1_ph", "6_flair"):
            volume(tmp_path / who / f"{name}.nii.gz")
    found = propose(tmp_path)
    assert rows(found) == every("P01", "P02", of="t1 t2_echo1 t2_echo2 flair")


def test_phases_of_contrast_are_images_of_one_person(tmp_path) -> None:
    for who in ("p1", "p2", "p3"):
        for phase in ("arterial", "venous"):
            volume(tmp_path / f"{who}_ct_{phase}.nii.gz")
    found = propose(tmp_path)
    assert rows(found) == every("p1", "p2", "p3", of="ct_arterial ct_venous")


def test_folders_named_like_files_are_what_they_are_named(tmp_path) -> None:
    for who in ("00030", "00031"):
        for kind in ("t1", "t2", "seg"):
            volume(tmp_path / who / f"{who}_{kind}.nii" / f"0000{who}_brain_final.nii")
    volume(tmp_path / "00032_t1.nii.gz" / "00032_t1.nii")
    found = propose(tmp_path)
    assert rows(found) == every("00030", "00031", of="t1 t2 labels") | {("00032", "t1")}


# --- one person in one split -------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        "{}_baseline_t1 {}_followup_t1",
        "{}_lh_t1 {}_rh_t1",
        "{}/2019-03-04/t1 {}/2020-05-06/t1",
        "{0}/{0}_frame01 {0}/{0}_frame12",
        "{}_ses-1_t1 {}_ses-2_t1",
        "{}_t1 {}_gtvnode",
        "a/{}_t1 b/SUB-{}_t2",
        "{}_slice001_t1 {}_slice002_t1",
    ],
)
def test_a_person_is_in_one_split_however_files_are_named(tmp_path, names) -> None:
    people = [f"sub{k:02d}" for k in range(1, 11)]
    for who in people:
        for name in names.split():
            volume(tmp_path / f"{name.format(who).replace('SUB-sub', 'SUB')}.nii")
    found = propose(tmp_path)
    split: dict[str, set[str]] = {}
    for f in found.found:
        number = next(who for who in people if who in f.path.lower())
        split.setdefault(number, set()).add(found.split_of[f.subject])
    assert all(len(own) == 1 for own in split.values())
    assert {next(iter(own)) for own in split.values()} == {"train", "val", "test"}


def test_archives_name_people_in_any_folder(tmp_path) -> None:
    for who in ("TCGA-02-0001", "TCGA-02-0002"):
        for day in ("07-15-1999-MRI", "09-01-2000-MRI"):
            volume(tmp_path / who / day / "1.0-T1-12345" / "image.nii")
    found = propose(tmp_path)
    assert set(split_of(found)) == {"TCGA-02-0001", "TCGA-02-0002"}
    assert len(found.found) == 4


def test_headers_that_agree_make_one_person_of_two_folders(tmp_path) -> None:
    for k, folder in enumerate(("Mueller_first", "M_second", "other")):
        own = {"StudyInstanceUID": f"1.{k}", "SeriesInstanceUID": f"1.{k}.1"}
        who = "P9x" if folder == "other" else "P1x"
        write_series(tmp_path / folder, ct(k), PatientID=who, ConvolutionKernel="B20f", **own)
    assert set(split_of(propose(tmp_path))) == {"P1x", "P9x"}


def test_studies_without_a_patient_are_kept_together_by_folder(tmp_path) -> None:
    for who in ("a", "b"):
        for visit in (1, 2):
            uid = f"1.{ord(who)}.{visit}"
            own = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1"}
            folder = tmp_path / "scans" / who / f"visit{visit}"
            write_series(folder, ct(visit), PatientID="anonymous", ConvolutionKernel="B20f", **own)
    found = propose(tmp_path)
    assert len(split_of(found)) == 2
    assert any("may be one person" in line for line in remarks(found))


@pytest.mark.parametrize(
    ("names", "people"),
    [
        (["sub-01", "Sub-01", "SUB_01", "sub-02"], 2),
        (["STS_002", "STS_002_gtv", "STS_0021"], 2),
        (["OAS2_0001_MR1", "OAS2_0001_MR2", "OAS2_0002_MR1"], 2),
        (["UPENN-GBM-00001_11", "UPENN-GBM-00001_21", "UPENN-GBM-00002_11"], 2),
        (["P01_20190304", "P01_20200506", "P02_20190304"], 2),
        (["study1_m01", *(f"study1_m{k:02d}" for k in range(2, 20))], 19),  # numbers of mice
        (["1-23", "12-3"], 2),
        (["case1", "case10", "case100"], 3),
    ],
)
def test_names_of_one_person(names, people) -> None:
    assert len(set(one_person(names).values())) == people


def test_a_name_keeps_its_first_word() -> None:
    assert key_of("scan_12") != key_of("scan_13")
    assert key_of("R") == ("r",)


# --- our own -----------------------------------------------------------------------------------


def test_results_are_never_proposed_as_images(tmp_path) -> None:
    for who in ("c01", "c02"):
        for kind in ("t1", "t2"):
            volume(tmp_path / who / f"{who}_{kind}.nii.gz")
    generated = [
        volume(tmp_path / "c01" / "c01_as_t2.nii.gz"),
        volume(tmp_path / "c01" / "c01_as_ct_b20f.nii.gz"),
        volume(tmp_path / "c01" / "c01_sketch.nii.gz"),
        volume(tmp_path / "c01" / "c01_t2_generated.nii.gz"),
        volume(tmp_path / "translated" / "c01_t1.nii.gz"),
        volume(tmp_path / "c02" / "other.nii"),
        volume(tmp_path / "runs" / "t2" / "s0" / "validation.nii"),
        volume(tmp_path / "reports" / "runs" / "smoke" / "t2.nii"),
    ]
    trace = {"method": "cascade", "result": "other.nii", "tiles": []}
    (tmp_path / "c02" / "other.json").write_text(json.dumps(trace))
    (tmp_path / "c01" / "c01_t1.json").write_text(json.dumps({"EchoTime": 0.003}))
    for name in ("run.json", "config.yaml"):
        (tmp_path / "runs" / "t2" / name).write_text("{}")
    found = propose(tmp_path)
    assert rows(found) == every("c01", "c02", of="t1 t2")
    assert covered(tmp_path, found)
    paths = {f.path for f in found.found}
    assert not paths & {path.relative_to(tmp_path).as_posix() for path in generated}
    text = notes(found, "x", [])
    assert "generated, not acquired" in text
    assert "A run folder of msgan" in text


def test_names_of_phantoms_are_understood(tmp_path) -> None:
    from PIL import Image

    wanted = {
        "b20f": "ct_b20f",
        "b80f": "ct_b80f",
        "low": "ct_low_dose",
        "lung": "region",
        "emphysema": "region",
    }
    for name in wanted:
        volume(tmp_path / "thorax" / "copd000" / f"copd000_{name}.nii.gz")
    (tmp_path / "xrays").mkdir()
    Image.new("L", (8, 8), 3).save(tmp_path / "xrays" / "chest000.png")
    found = propose(tmp_path)
    assert rows(found) == {("chest000", "xray"), *(("copd000", kind) for kind in wanted.values())}
    assert {f.modality for f in found.found if f.role == "region"} == {"lung", "emphysema"}


@pytest.mark.slow
def test_phantoms_are_what_their_manifests_say(tmp_path) -> None:
    from msgan.data.manifest import read_manifest
    from msgan.phantoms.thorax import write_thorax_cohort
    from msgan.phantoms.xray import write_xray_cohort

    write_thorax_cohort(tmp_path / "thorax", subjects=2, size=16, seed=0)
    write_xray_cohort(tmp_path / "xray", subjects=2, size=16, seed=0)
    for name in ("thorax", "xray"):
        known = read_manifest(tmp_path / name / "manifest.csv").rows
        found = propose(tmp_path / name)
        guess = {(f.path, f.subject, f.role) for f in found.found}
        assert guess == {(row.path, row.subject, row.role) for row in known}
        units = {row.path: row.unit == "HU" for row in known}
        assert all((f.unit == "HU") == units[f.path] for f in found.found)
        words = {"low": "ct_low_dose", "xray": "xray", "lung": "lung", "emphysema": "emphysema"}
        for f, row in zip(found.found, found.manifest.rows, strict=True):
            own = next(r.modality for r in known if r.path == f.path)
            assert row.modality == words.get(own, f"ct_{own}")


def test_many_organs_are_no_pathology(tmp_path) -> None:
    volume(tmp_path / "s1" / "ct.nii.gz")
    for organ in ("liver", "spleen", "aorta"):
        volume(tmp_path / "s1" / "segmentations" / f"{organ}.nii.gz")
    found = propose(tmp_path)
    assert rows(found) == {("s1", "ct")}
    assert "one of 3 label maps" in reasons(found)["s1/segmentations/liver.nii.gz"]


# --- names and notes ---------------------------------------------------------------------------


def test_odd_names_are_named_and_leave_the_others(tmp_path) -> None:
    import os

    image = volume(tmp_path / "p1" / "t1.nii").read_bytes()
    for name in (b"bad\xff_t1.nii", b"two\nlines_t1.nii"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as stream:
            stream.write(image)
    deep = tmp_path.joinpath(*["d"] * 70)
    volume(deep / "t1.nii")
    found = propose(tmp_path)
    assert rows(found) == {("p1", "t1")}
    text = notes(found, "x", [])
    assert "- `bad\\xff_t1.nii`" in text
    assert "- `two\\x0alines_t1.nii`" in text
    assert "More than 60 folders within each other" in text
    text.encode()


def test_what_a_library_raises_is_a_reason(tmp_path, monkeypatch) -> None:
    for who in ("p1", "p2"):
        volume(tmp_path / who / "t1.nii")
    from msgan.data.scan import proposal

    real = proposal.grid_of

    def fails(path):
        if "p1" in str(path):
            raise AttributeError("'NoneType' object\nhas no attribute")
        return real(path)

    monkeypatch.setattr(proposal, "grid_of", fails)
    found = propose(tmp_path)
    assert rows(found) == {("p2", "t1")}
    assert reasons(found)["p1/t1.nii"].startswith("cannot be read: AttributeError: 'NoneType' obj")


def test_reasons_of_one_kind_are_one_heading(tmp_path) -> None:
    for who in range(5):
        volume(tmp_path / f"p{who}" / "T1.nii")
        volume(tmp_path / f"p{who}" / "T1_raw.nii")
    found = propose(tmp_path)
    assert notes(found, "x", []).count("\n### ") == 1
    assert "(and 4 more of this kind)" in "\n".join(summary(found))
    assert check_manifest(found.manifest, tmp_path).ok
