"""``msgan init``: from a folder of images to a manifest to correct."""

import csv
import re
import shlex
from pathlib import Path

import pytest
import yaml
from dicoms import ct, write_series
from layouts import ixi, radiographs, volume
from program import TINY, fails, msgan_cli

from msgan import presets
from msgan.config import CascadeConfig


def table(manifest: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(manifest.read_text(encoding="utf-8").splitlines()))


def commands(output: str) -> list[list[str]]:
    """The commands that a call of init says are next."""
    lines = [line.strip() for line in output.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("msgan ")]


@pytest.fixture
def tiny(monkeypatch) -> None:
    monkeypatch.setattr(
        presets,
        "preset",
        lambda name, dims: CascadeConfig.model_validate({**TINY, "dims": dims}),
    )


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("in") / "my data"  # a space: commands are quoted
    msgan_cli("phantom", "brain", folder, "--subjects", 3, "--size", 24)
    return folder


@pytest.mark.slow
def test_the_next_commands_run_as_printed(phantoms, tmp_path, tiny):
    done = msgan_cli("init", tmp_path / "study", "--from", phantoms)
    assert re.search(r"^all +3 +3 +3 +3 +3 +3$", done.stdout, re.M)
    assert "  t1 and t2: 3\n" in done.stdout
    assert re.search(r"^  manifest.csv: not an image$", done.stdout, re.M)
    rows = table(tmp_path / "study/manifest.csv")
    known = table(phantoms / "manifest.csv")
    what = ("subject", "role", "modality", "path")
    assert {tuple(r[k] for k in what) for r in rows} == {
        (r["subject"], r["role"], r["modality"], r["path"].replace("{subject}", r["subject"]))
        for r in known
    }
    following = [
        c for c in commands(done.stdout) if c[0] in ("data", "train", "translate", "evaluate")
    ]
    assert [c[0] for c in following] == ["data", "train", "translate", "evaluate"]
    assert following[1][following[1].index("--target") + 1] == "t2"
    outputs = [msgan_cli(*words).stdout for words in following]
    assert outputs[0].endswith(": ok\n")
    assert "whole image" in outputs[-1]
    assert all(shlex.join(c) in (tmp_path / "study/notes.md").read_text() for c in following)


def test_a_folder_inside_needs_no_root(phantoms):
    done = msgan_cli("init", phantoms.parent, "--from", phantoms)
    assert not any("--root" in words for words in commands(done.stdout))
    rows = table(phantoms.parent / "manifest.csv")
    assert all((phantoms.parent / r["path"]).is_file() for r in rows)
    checked = msgan_cli("data", "check", phantoms.parent / "manifest.csv")
    assert checked.stdout.endswith(": ok\n")


def test_nothing_is_replaced_without_force(phantoms, tmp_path):
    before = {p: p.read_bytes() for p in phantoms.rglob("*") if p.is_file()}
    study = tmp_path / "study"
    msgan_cli("init", study, "--from", phantoms)
    (study / "manifest.csv").write_text("corrected by hand")
    rule = "is there already: pass --force to replace it"
    assert fails("init", study, "--from", phantoms) == f"{study / 'manifest.csv'}: {rule}"
    assert (study / "manifest.csv").read_text() == "corrected by hand"
    (study / "manifest.csv").unlink()
    assert fails("init", study, "--from", phantoms) == f"{study / 'notes.md'}: {rule}"
    msgan_cli("init", study, "--from", phantoms, "--force")
    assert (study / "manifest.csv").read_text().startswith("subject,role,modality,path,")
    assert {p: p.read_bytes() for p in phantoms.rglob("*") if p.is_file()} == before


def test_bad_folders_are_one_line_and_leave_nothing(phantoms, tmp_path):
    absent = tmp_path / "absent"
    assert fails("init", tmp_path / "s", "--from", absent) == f"{absent}: no such folder"
    for inside in (phantoms, phantoms / "study"):
        assert "which is left as it is: choose another" in fails("init", inside, "--from", phantoms)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "none of its 0 files is an image to use" in fails(
        "init", tmp_path / "s", "--from", empty
    )
    file = phantoms / "manifest.csv"
    assert fails("init", file, "--from", empty) == f"{file}: is a file, expected a folder"
    assert not (tmp_path / "s" / "manifest.csv").exists()
    assert not (phantoms / "study").exists()


def test_a_ct_from_mr_gets_a_window_beside_percentiles_and_bodies_alone():
    from msgan.cli.init import _settings
    from msgan.config import Preparation

    prep = Preparation(**yaml.safe_load(_settings("t1", "ct"))["preparation"])
    assert (prep.intensity, prep.of("t1").intensity) == ("window", "percentile")
    assert prep.body
    assert not Preparation(**yaml.safe_load(_settings("cbct", "ct"))["preparation"]).body


def test_radiographs_get_their_own_settings(tmp_path):
    radiographs(tmp_path / "in")
    done = msgan_cli("init", tmp_path / "study", "--from", tmp_path / "in")
    config = tmp_path / "study/config.yaml"
    check, train, translate, *_ = commands(done.stdout)
    assert train[train.index("--config") + 1] == str(config)
    assert translate[-1].endswith("_as_xray.png")
    own = yaml.safe_load(config.read_text())
    assert own["sketch"]["low"] == presets.XRAY_SKETCH.low
    from msgan.cli.train import configuration

    assert configuration("smoke", config, lambda: 2).contrast.share == 0
    assert msgan_cli(*check).stdout.endswith(": ok\n")
    (tmp_path / "brain").mkdir()
    volume(tmp_path / "brain" / "p1_t1.nii")
    msgan_cli("init", tmp_path / "study", "--from", tmp_path / "brain", "--force")
    assert not config.exists()


def test_kernels_are_trained_from_sharp_to_soft_in_hu(tmp_path):
    for who in ("P1x", "P2x"):
        for k, kernel in enumerate(("B20f", "B80f")):
            tags = {"PatientID": who, "ConvolutionKernel": kernel}
            write_series(
                tmp_path / "in" / who / kernel, ct(0), SeriesInstanceUID=f"1.{who[1]}.{k}", **tags
            )
    done = msgan_cli("init", tmp_path / "study", "--from", tmp_path / "in")
    _, train, translate, evaluate, *_ = commands(done.stdout)
    assert train[train.index("--target") + 1] == "ct_b20f"
    assert translate[2].endswith("/B80f")
    assert evaluate[-4:] == ["--black", "-1024", "--data-range", "2048"]
    own = yaml.safe_load((tmp_path / "study/config.yaml").read_text())
    assert own["preparation"]["intensity"] == "window"


def test_what_is_unknown_is_to_be_corrected_first(tmp_path):
    volume(tmp_path / "in" / "p1" / "nameless.nii")
    done = msgan_cli("init", tmp_path / "study", "--from", tmp_path / "in")
    assert "write the modality into the manifest" in done.stdout
    assert [words[0] for words in commands(done.stdout)] == ["data"]


def test_images_on_different_grids_are_checked_unpaired(tmp_path):
    ixi(tmp_path / "in")
    done = msgan_cli("init", tmp_path / "study", "--from", tmp_path / "in")
    check = commands(done.stdout)[0]
    assert check[-1] == "--unpaired"
    assert msgan_cli(*check).stdout.endswith(": ok\n")
