"""The data sets of Ha et al. 2025: layouts, preparation, mean voxel size, and who is tested."""

import csv
import re
from pathlib import Path
from typing import Any

import layouts
import nibabel as nib
import numpy as np
import pytest
import yaml
from helpers import tiny
from layouts import BABIES, volume
from program import fails, msgan_cli

import msgan as ms
from msgan.config import IntensityRange, Preparation
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.manifest import check_manifest, read_manifest
from msgan.data.scan import propose
from msgan.data.spacing import spacings
from msgan.data.split import split_manifest
from msgan.methods.mdaunet import MDAUNet
from msgan.presets import published_preparation
from msgan.types import Box, InputError

MANIFESTS = Path(__file__).resolve().parents[1] / "data_manifests"

EXPECTED = {
    "hcp1200": ("hcp1200", ("100206", "100307"), {"t1", "t2"}),
    "dhcp": ("dhcp", BABIES, {"t1", "t2"}),
    "dhcp_2017": ("dhcp_2017", BABIES, {"t1", "t2"}),
    "brats2021": (
        "brats2021",
        ("BraTS2021_00000", "BraTS2021_00012"),
        {"t1", "t1c", "t2", "flair"},
    ),
    "synthrad2023_mr": ("synthrad2023", ("1PA001", "1PC001"), {"mr", "ct"}),
    "synthrad2023_cbct": ("synthrad2023", ("2PA001", "2PC001"), {"cbct", "ct"}),
}


def image(path: Path, values: np.ndarray, spacing: tuple[float, ...] = (1, 1, 1)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([*spacing, 1])), path)
    return path


def splits(path: Path) -> dict[str, str]:
    return {r["subject"]: r["split"] for r in csv.DictReader(path.read_text().splitlines())}


# --- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPECTED)
def test_manifests_find_what_init_finds(name: str, tmp_path: Path) -> None:
    layout, subjects, modalities = EXPECTED[name]
    getattr(layouts, layout)(tmp_path)
    root = tmp_path / "rel3_dhcp_anat_pipeline" if name == "dhcp" else tmp_path
    cohort = Cohort.from_manifest(MANIFESTS / f"{name}.csv", root)
    assert cohort.names == subjects
    assert {m for s in cohort for m in s.images} == modalities
    proposed = {row.path for row in propose(root).manifest.rows if row.subject in subjects}
    named = read_manifest(MANIFESTS / f"{name}.csv", root)
    assert {row.path for row in named.rows} == proposed
    report = check_manifest(named, root)
    # The values of these files only count up: none is like air.
    assert all("none like air" in f.problem for f in report.findings), report.lines()
    assert report.ok


def test_a_missing_modality_is_noted_and_the_person_is_not_paired(tmp_path: Path) -> None:
    layouts.dhcp(tmp_path)
    root = tmp_path / "rel3_dhcp_anat_pipeline"
    next(root.rglob(f"{BABIES[0]}_desc-restore_T1w.nii.gz")).unlink()
    report = check_manifest(MANIFESTS / "dhcp.csv", root)
    assert [(f.level, f.subject, f.problem) for f in report.findings] == [
        ("note", BABIES[0], "has no t1 image")
    ]
    cohort = Cohort.from_manifest(MANIFESTS / "dhcp.csv", root)
    assert cohort.with_modality("t2", "t1").names == BABIES[1:]
    out = msgan_cli(
        *("data", "split", MANIFESTS / "dhcp.csv", "--root", root, "--out", tmp_path / "s.csv")
    )
    assert f"note: subjects without t1: 1, as {BABIES[0]}" in out.stderr


def test_a_mask_on_another_grid_is_refused_by_name(tmp_path: Path) -> None:
    layouts.synthrad2023(tmp_path)
    path = tmp_path / "Task1" / "pelvis" / "1PA001" / "mask.nii.gz"
    volume(path, mm=1.0)
    report = check_manifest(MANIFESTS / "synthrad2023_mr.csv", tmp_path)
    (found,) = (f for f in report.findings if f.level == "error")
    assert found.path == "Task1/pelvis/1PA001/mask.nii.gz"
    assert "is that of no image of the subject" in found.problem
    subject = Cohort.from_manifest(MANIFESTS / "synthrad2023_mr.csv", tmp_path)["1PA001"]
    with pytest.raises(
        InputError, match=r"^\S+1PA001/mask\.nii\.gz: labels do not lie on their image"
    ):
        prepare(subject, "ct", published_preparation("mr", "ct"))


def test_what_is_left_out_of_a_data_set_says_what_is_used(tmp_path: Path) -> None:
    layouts.hcp1200(tmp_path)
    why = layouts.reasons(propose(tmp_path))
    for name in ("T1w/BiasField_acpc_dc", "MNINonLinear/T1w_restore_brain", "T1w/T1wDividedByT2w"):
        assert "T1w/T1w_acpc_dc_restore_brain and" in why[f"100206/{name}.nii.gz"]


def test_a_folder_called_t1w_is_not_yet_hcp(tmp_path: Path) -> None:
    for who in ("anna", "bert"):
        volume(tmp_path / who / "T1w" / "scan.nii.gz")
    assert layouts.rows(propose(tmp_path)) == layouts.every("anna", "bert", of="t1")


# --- who is tested -----------------------------------------------------------------------------


def sessions(people: int) -> list[str]:
    names = (f"sub-CC{k:05d}XX{k % 20:02d}" for k in range(people))
    return [f"{name}_ses-{visit}" for name in names for visit in (1, 2)]


def manifest(path: Path, names: list[str]) -> Path:
    lines = [f"{name},image,t2,{name}.nii,x,x" for name in names]
    path.write_text("\n".join(["subject,role,modality,path,licence,citation", *lines]) + "\n")
    return path


def test_a_quarter_of_the_people_is_tested_with_all_their_sessions(tmp_path: Path) -> None:
    names = sessions(40)
    file = manifest(tmp_path / "m.csv", names)
    chosen = []
    for seed in (0, 1, 1):
        command = ("data", "split", file, "--out", tmp_path / "s.csv", "--seed", seed, "--force")
        out = msgan_cli(*command)
        assert "train: subjects 60, people 30" in out.stdout
        assert "test: subjects 20, people 10" in out.stdout
        split = splits(tmp_path / "s.csv")
        assert list(split) == names  # the order of the manifest
        assert all(split[a] == split[b] for a, b in zip(names[::2], names[1::2], strict=True))
        chosen.append({name for name in names if split[name] == "test"})
    assert chosen[1] == chosen[2] != chosen[0]
    assert "is there already: pass --force" in fails("data", "split", file, *command[3:5])
    rule = "shares 0.8 to test and 0.2 to validate: expected at least 0, and less than 1 together"
    bad = fails("data", "split", file, "--out", tmp_path / "t.csv", "--test", 0.8, "--val", 0.2)
    assert rule in bad
    assert not (tmp_path / "t.csv").exists()


def test_some_people_can_choose_the_best_weights(tmp_path: Path) -> None:
    names = [f"BraTS2021_{k:05d}" for k in range(20)]
    read = read_manifest(manifest(tmp_path / "m.csv", names))
    dealt, person = split_manifest(read, 0.25, 0.1)
    counts = [row.split for row in dealt.rows]
    assert (counts.count("train"), counts.count("val"), counts.count("test")) == (13, 2, 5)
    assert person == {name: name for name in names}
    patterns = read_manifest(MANIFESTS / "brats2021.csv")
    with pytest.raises(InputError, match=r"subject 'BraTS2021_\*' is a pattern: expected names"):
        split_manifest(patterns, 0.25)


def test_sessions_of_a_person_are_in_one_split_and_one_fold(tmp_path: Path) -> None:
    names = sessions(12)
    cohort = Cohort(tuple(Subject(name, {}) for name in names))
    parts = [
        *((s.split for s in cohort.held_out(6)), (s.split for s in cohort.held_out(6, seed=4))),
        (s.fold for s in cohort.with_folds(4)),
    ]
    for part in parts:
        own = list(part)
        assert own[::2] == own[1::2]
        assert len(set(own)) > 1
    assert len(cohort.held_out(5).split("test")) == 6  # three people, not two and a half
    for _, test in cohort.folds(2):
        assert {n[:-1] + "1" for n in test.names} <= set(test.names)
    text = manifest(tmp_path / "m.csv", names[:2]).read_text().splitlines()
    rows = [text[0] + ",split", text[1] + ",train", text[2] + ",test"]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    for name in names[:2]:
        volume(tmp_path / f"{name}.nii")
    with pytest.raises(InputError, match="are sessions of one person and differ in split or fold"):
        Cohort.from_manifest(tmp_path / "m.csv", tmp_path)
    report = check_manifest(tmp_path / "m.csv", tmp_path)
    assert "sessions of one person" in report.findings[0].problem


# --- voxel size --------------------------------------------------------------------------------


def test_the_mean_voxel_size_is_of_all_subjects_and_canonical_axes(tmp_path: Path) -> None:
    values = np.ones((4, 5, 6))
    image(tmp_path / "a_t2.nii", values, (1.0, 1.0, 2.5))
    image(tmp_path / "b_t2.nii", values, (0.5, 1.0, 3.0))
    turned = np.array([[0, 0, 2.0, 0], [-0.9, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(values, turned), tmp_path / "c_t2.nii")
    names = ["a", "b", "c"]
    people = tuple(Subject(n, {"t2": tmp_path / f"{n}_t2.nii"}, split="test") for n in names)
    found = spacings(Cohort(people), "t2")
    assert found.sizes == ((1.0, 1.0, 2.5), (0.5, 1.0, 3.0), (2.0, pytest.approx(0.9), 1.0))
    assert found.mean == (1.1667, 0.9667, 2.1667)
    # Headers alone: the same where all voxels are cut off.
    for path in tmp_path.glob("*.nii"):
        kept = path.read_bytes()
        path.write_bytes(kept[:352] + bytes(len(kept) - 352))
    assert spacings(Cohort(people), "t2") == found
    with pytest.raises(InputError, match="no subject has an image t1; there are t2"):
        spacings(Cohort(people), "t1")
    flat = nib.Nifti1Image(np.ones((4, 5), np.float32), np.eye(4))
    nib.save(flat, tmp_path / "c_t2.nii")
    with pytest.raises(InputError, match=r"c_t2\.nii: image of 2 axes, others have 3"):
        spacings(Cohort(people), "t2")


def test_the_printed_setting_is_one_of_a_configuration(tmp_path: Path) -> None:
    for who, mm in (("1PA001", 2.5), ("1PC001", 3.5)):
        for kind in ("mr", "ct"):
            path = tmp_path / "Task1" / "pelvis" / who / f"{kind}.nii.gz"
            image(path, np.ones((4, 5, 6)), (1.0, 1.0, mm))
    file = MANIFESTS / "synthrad2023_mr.csv"
    out = msgan_cli("data", "spacing", file, "--root", tmp_path, "--modality", "ct").stdout
    assert "2 images ct, voxels of 1 x 1 x 2.5-3.5 mm" in out
    prep = ms.presets.preset("small").updated(yaml.safe_load(out)).preparation
    assert prep.spacing_mm == (1.0, 1.0, 3.0)


# --- intensities -------------------------------------------------------------------------------


def pair(root: Path) -> Subject:
    """A CT in HU with metal, and an MR of any unit, with the outline of the body."""
    rng = np.random.default_rng(0)
    body = np.zeros((12, 12, 8), bool)
    body[3:9, 3:9, 2:6] = True
    ct = np.where(body, rng.uniform(-100, 1500, body.shape), -1500.0)
    ct[4, 4, 3] = 9000.0
    mr = np.where(body, rng.uniform(10, 900, body.shape), 4.0)
    paths = {"ct": image(root / "ct.nii", ct), "mr": image(root / "mr.nii", mr)}
    mask = image(root / "mask.nii", body.astype(np.uint8))
    return Subject("1PA001", paths, mask=mask, units={"ct": "HU"})


def test_ct_is_clipped_to_hu_and_mr_scaled_from_minimum_to_maximum(tmp_path: Path) -> None:
    subject = pair(tmp_path)
    prep = published_preparation("mr", "ct")
    with (
        prepare(subject, "ct", prep) as target,
        prepare(subject, "mr", prep, grid=target.grid) as source,
    ):
        assert (target.intensity.low, target.intensity.high) == (-1024, 3000)
        mr = np.asanyarray(nib.load(subject.images["mr"]).dataobj)
        assert (source.intensity.low, source.intensity.high) == (0, mr.max())
        assert not target.notes
        assert not source.notes
        box = Box.whole(target.grid.shape)
        ct, mr = target.read(box), source.read(box)
        outside = target.read_source(box) <= -1024
        assert (ct[outside] == -1).all()
        assert (mr[outside] == -1).all()  # outside the mask, where the file has 4
        assert ct.max() == mr.max() == 1
        # The way back: HU, and metal is cut off.
        np.testing.assert_allclose(
            target.intensity.from_unit(ct), target.read_source(box).clip(-1024, 3000), atol=1e-3
        )


def test_pairs_of_one_kind_share_a_range() -> None:
    assert published_preparation("cbct", "ct").ranges == {}
    assert published_preparation("t2", "flair") == Preparation(low=0, high=100)
    other = published_preparation("ct", "mr")
    assert other.high == 100
    assert other.of("ct") == published_preparation("cbct", "ct")


def test_ranges_leave_other_configurations_as_they_are() -> None:
    plain = Preparation()
    assert "ranges" not in plain.model_dump()
    assert plain.of("t1") is plain
    stated = plain.updated(ranges={"ct": {"intensity": "window", "low": -1024, "high": 3000}})
    assert Preparation.model_validate(stated.model_dump()) == stated
    assert stated.of(None) == stated.of("t1") == plain
    assert stated.of("ct").low == -1024
    for bad in ({"CT": {}}, {"ct": {"width": 3}}, {"ct": {"low": "x"}}):
        with pytest.raises(InputError, match=r"^[^\n]*ranges[^\n]*$"):
            plain.updated(ranges=bad)


def test_an_mr_in_any_unit_becomes_the_same_ct(tmp_path: Path, one_thread) -> None:
    subject = pair(tmp_path)
    rest = [Subject(f"1PA00{k}", subject.images, mask=subject.mask) for k in (2, 3)]
    config = MDAUNet.configured(tiny(3), "mr", size="smoke").updated(
        preparation=published_preparation("mr", "ct").updated(scales=1),
        network={"features": (4, 4), "growth": (2, 2), "discriminator_width": 2},
        training={"steps": 2, "batch": 1, "patch": 8, "validate_every": 1, "checkpoint_every": 2},
    )
    cohort = Cohort((subject, *rest))
    method = MDAUNet.fit(cohort, "mr", "ct", config, tmp_path / "run", device="cpu")
    mr = nib.load(subject.images["mr"])
    image(tmp_path / "other.nii", 7 * np.asanyarray(mr.dataobj))
    results = []
    for path in (subject.images["mr"], tmp_path / "other.nii"):
        method.translate(path, tmp_path / "ct_of.nii", device="cpu")
        results.append(nib.load(tmp_path / "ct_of.nii").get_fdata())
    assert -1024 <= results[0].min() < results[0].max() <= 3000
    np.testing.assert_allclose(results[0], results[1], atol=0.5)
    # With the window of the CT, the MR in another unit is another image.
    method.translate(tmp_path / "other.nii", tmp_path / "ct_of.nii", modality="ct", device="cpu")
    assert np.abs(nib.load(tmp_path / "ct_of.nii").get_fdata() - results[0]).max() > 5


def test_the_steps_of_the_documentation_make_the_preparation(tmp_path: Path, monkeypatch) -> None:
    text = (MANIFESTS.parent / "docs" / "data.md").read_text(encoding="utf-8")
    text = text.split("## The preparation of Ha et al. (2025)")[1].split("\n## ")[0]
    commands, python, settings = re.findall(r"```\w*\n(.*?)```", text, re.S)
    layouts.synthrad2023(tmp_path / "synthrad")
    monkeypatch.chdir(tmp_path)
    for line in commands.replace("data_manifests", str(MANIFESTS)).splitlines():
        msgan_cli(*line.split()[1:])
    names: dict[str, Any] = {}
    exec(python, names)
    config = names["config"]
    assert (config.paired, config.training.patch) == ("mr", 96)
    assert {s.split for s in names["cohort"]} == {"train", "test"}
    assert config.preparation.spacing_mm == (2.5, 1.0, 1.0)
    stated = {**yaml.safe_load(settings)["preparation"], "spacing_mm": (2.5, 1.0, 1.0)}
    assert Preparation(**stated) == config.preparation


def test_init_states_hu_for_the_ct_and_percentiles_for_the_mr(tmp_path: Path) -> None:
    for who in range(5):
        folder = tmp_path / "in" / "Task1" / "pelvis" / f"1PA{who:03d}"
        for kind in ("mr", "ct", "mask"):
            volume(folder / f"{kind}.nii.gz")
    out = msgan_cli("init", tmp_path / "study", "--from", tmp_path / "in").stdout
    assert "--target ct" in out
    assert re.search(r"msgan translate .*mr\.nii\.gz .*_as_ct\.nii\.gz --modality mr\n", out)
    settings = yaml.safe_load((tmp_path / "study" / "config.yaml").read_text())
    prep = ms.presets.preset("smoke").updated(settings).preparation
    assert (prep.intensity, prep.low) == ("window", -1024)
    assert prep.of("mr") == Preparation(longest=prep.longest, scales=prep.scales, body=True)
    assert prep.ranges == {"mr": IntensityRange()}
