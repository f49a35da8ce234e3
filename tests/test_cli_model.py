import re
import shutil
from pathlib import Path

import pytest
import yaml
from program import fails, msgan_cli

from msgan.runs import bundled

TINY = {
    "preparation": {"scales": 1},
    "sketch": {"channels": ["edges"]},
    "contrast": {"share": 0.0},
    "network": {
        "lr_width": 4,
        "lr_levels": 2,
        "hr_width": 4,
        "hr_blocks": 1,
        "discriminator_width": 4,
    },
    "training": {"steps": 4, "lr_steps": 4, "patch": 8, "validate_every": 4},
}

STATED = ("--data", "two phantoms", "--data-licence", "Apache-2.0", "--licence", "CC-BY-4.0")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A cohort and a run."""
    folder = tmp_path_factory.mktemp("study")
    msgan_cli("phantom", "brain", folder / "ph", "--subjects", 2, "--size", 24)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    words = (folder / "ph/manifest.csv", "--config", folder / "tiny.yaml", "--device", "cpu")
    msgan_cli("train", *words, "--target", "t2", "--out", folder / "run")
    return folder


@pytest.fixture
def t1(study) -> Path:
    return study / "ph/patient000/patient000_t1.nii.gz"


def test_an_exported_run_is_planned_and_translated_like_the_run(study, t1, tmp_path):
    done = msgan_cli("model", "export", study / "run", tmp_path / "m", *STATED)
    assert re.fullmatch(rf"{re.escape(str(tmp_path / 'm'))} \([\d.]+ [KM]iB\)\n", done.stdout)
    assert done.stderr == ""  # everything was stated
    shutil.move(tmp_path / "m", tmp_path / "elsewhere")
    for name, run in (("a", study / "run"), ("b", tmp_path / "elsewhere")):
        msgan_cli("translate", run, t1, tmp_path / f"{name}.nii", "--device", "cpu")
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    plans = [
        msgan_cli("plan", run, t1, "--device", "cpu", "--memory", "4GiB").stdout.splitlines()[:3]
        for run in (study / "run", tmp_path / "elsewhere")
    ]
    assert plans[0] == plans[1]
    assert plans[0][0].startswith("scale")


def test_what_is_not_stated_is_said_on_stderr_and_in_the_card(study, tmp_path):
    done = msgan_cli("model", "export", study / "run", tmp_path / "m", "--data", "two phantoms")
    notes = done.stderr.splitlines()
    assert [note.rpartition(": ")[2] for note in notes] == ["--data-licence", "--licence"]
    card = msgan_cli("model", "card", tmp_path / "m").stdout
    assert "- Data: two phantoms\n" in card
    assert "- Licence of the data: not stated\n" in card


def test_options_of_export_reach_the_card(study, tmp_path):
    (tmp_path / "notice.txt").write_text("Copyright of nobody.\n")
    (tmp_path / "scores.csv").write_text("task,ssim\nt1 to t2,0.5\n")
    options = ("--summary", "Makes T2.", "--notice", tmp_path / "notice.txt", "--half")
    scores = ("--scores", tmp_path / "scores.csv", "--evaluation", "Of one phantom.")
    msgan_cli("model", "export", study / "run", tmp_path / "m", *STATED, *options, *scores)
    card = msgan_cli("model", "card", tmp_path / "m").stdout
    assert card == (tmp_path / "m/README.md").read_text()
    for text in ("Makes T2.", "Copyright of nobody.", "| t1 to t2 | 0.5 |", "Of one phantom."):
        assert text in card
    assert "stored as float16" in card
    assert "patient" not in card
    msgan_cli("model", "export", study / "run", tmp_path / "n", *STATED, "--names")
    assert "patient001" in msgan_cli("model", "card", tmp_path / "n").stdout


def test_the_card_of_a_run_shows_what_is_missing(study):
    card = msgan_cli("model", "card", study / "run").stdout
    assert card.count("not stated") == 3
    assert "\n# run\n" in card


def test_bad_input_is_one_line(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = study / "run"
    Path("there").mkdir()
    Path("odd.txt").write_bytes(b"\xff\xfe")
    shutil.copytree(run, "half-done")
    Path("half-done/s1/done.json").unlink()
    export = ("model", "export")
    assert "there: exists already" in fails(*export, run, "there")
    assert "none: not a run folder" in fails(*export, "none", "m")
    assert "there: not a run folder: it has no run.json" in fails("model", "card", "there")
    assert "training of scale 1 of 1 is not finished" in fails(*export, "half-done", "m")
    assert "odd.txt: not a text in UTF-8" in fails(*export, run, "m", "--notice", "odd.txt")
    assert "no.txt: No such file" in fails(*export, run, "m", "--notice", "no.txt")
    assert "no.csv: no such file" in fails(*export, run, "m", "--scores", "no.csv")
    assert not Path("m").exists()


def test_a_damaged_model_is_one_line(study, t1, tmp_path):
    msgan_cli("model", "export", study / "run", tmp_path / "m", *STATED)
    weights = tmp_path / "m/s1/generator.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for words in (("translate", tmp_path / "m", t1, tmp_path / "t2.nii"), ("plan", "m", t1)):
        run = [tmp_path / "m" if word == "m" else word for word in words]
        assert f"{weights}: is damaged or another file" in fails(*run)
    assert not (tmp_path / "t2.nii").exists()


def test_shipped_models_are_listed_and_taken_by_name(study, t1, tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "MODELS", tmp_path / "shelf")
    monkeypatch.chdir(tmp_path)
    empty = msgan_cli("model", "list")
    assert empty.stdout == ""
    assert "no model is shipped" in empty.stderr
    words = (*STATED, "--summary", "Makes T2 of toys.")
    for name in ("toy-t2", "another"):
        msgan_cli("model", "export", study / "run", tmp_path / "shelf" / name, *words)
    lines = msgan_cli("model", "list").stdout.splitlines()
    assert lines == ["another: Makes T2 of toys.", "toy-t2: Makes T2 of toys."]
    msgan_cli("translate", "toy-t2", t1, "t2.nii", "--device", "cpu")
    msgan_cli("plan", "toy-t2", t1, "--device", "cpu")
    assert "# toy-t2" in msgan_cli("model", "card", "toy-t2").stdout
    assert Path("t2.nii").is_file()
    said = fails("translate", "toy-t1", t1, "t3.nii")
    assert said.startswith("toy-t1: not a run folder")
    assert said.endswith("shipped: another, toy-t2")
    Path("toy-t2").mkdir()  # a folder of that name is meant, even if it is of no use
    assert "it has no run.json" in fails("translate", "toy-t2", t1, "t3.nii")
