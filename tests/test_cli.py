import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
import yaml
from PIL import Image
from program import TINY, fails, msgan_cli
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

import msgan
from msgan import presets
from msgan.cli import app, console
from msgan.cli.train import configuration
from msgan.config import CascadeConfig
from msgan.printing import duration
from msgan.types import InputError

COMMANDS = (
    "phantom brain",
    "phantom thorax",
    "phantom xray",
    "init",
    "data check",
    "data spacing",
    "data split",
    "data sort",
    "sketch",
    "train",
    "plan",
    "translate",
    "evaluate",
    "explore",
    "report",
    "verify",
    "model export",
    "model card",
    "model list",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A cohort, a configuration and a trained run, all made by the program."""
    folder = tmp_path_factory.mktemp("study")
    msgan_cli("phantom", "brain", folder / "ph", "--subjects", 2, "--size", 24)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    train(folder, folder / "run")
    return folder


def train(study: Path, run: Path, *more: object, status: int = 0):
    words = ("train", study / "ph/manifest.csv", "--config", study / "tiny.yaml", "--out", run)
    return msgan_cli(*words, "--target", "t2", "--device", "cpu", *more, status=status)


@pytest.fixture
def t1(study) -> Path:
    return study / "ph/patient000/patient000_t1.nii.gz"


# --- help and startup --------------------------------------------------------------------------


def leaves(command, name: str = "msgan"):
    if not hasattr(command, "commands"):
        return [(name, command)]
    return [p for n, c in command.commands.items() for p in leaves(c, f"{name} {n}")]


def examples(command: str) -> list[str]:
    """The command lines that a help shows, continued lines joined."""
    text = msgan_cli(*command.split(), "--help").stdout.replace("\\\n", " ")
    lines = [line.strip() for line in text.split("Example", 1)[1].splitlines()]
    return [line for line in lines if line.startswith("msgan ")]


def test_every_command_and_option_is_explained():
    found = leaves(typer.main.get_command(app))
    assert {name for name, _ in found} == {f"msgan {c}" for c in COMMANDS}
    for name, command in found:
        assert any(line.startswith(name) for line in examples(name.removeprefix("msgan ")))
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"
            if not parameter.required and not getattr(parameter, "is_flag", False):
                assert parameter.show_default, f"{name} {parameter.name}"


def test_commands_are_listed_in_the_order_they_are_used():
    listed = re.findall(r"^  ([a-z]+)  ", msgan_cli("--help").stdout, re.MULTILINE)
    used = "phantom init data sketch train plan translate evaluate explore report verify model"
    assert listed == used.split()


@pytest.mark.slow
def test_examples_of_the_help_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = CascadeConfig.model_validate(TINY)
    monkeypatch.setattr(presets, "preset", lambda *_, **__: tiny)
    slice_of_ct = get_testdata_file("CT_small.dcm", download=False)
    (tmp_path / "download").mkdir()
    shutil.copy(str(slice_of_ct), tmp_path / "download")
    lines = [line for command in COMMANDS for line in examples(command)]
    assert len(lines) == 31
    monkeypatch.setattr("msgan.cli.explore.run", lambda command: None)  # a server has no end
    for line in lines:
        small = line.replace("--subjects 4 --size 64", "--subjects 1 --size 24")
        small = small.replace("--subjects 8 --size 256", "--subjects 1 --size 24")
        msgan_cli(*shlex.split(small)[1:])
    made = ("t1_sketch.nii.gz", "t2.nii.gz", "translated/patient000_t1.nii.gz", "scores.json")
    ended = json.loads((tmp_path / "runs/t2/s0/done.json").read_text(encoding="utf-8"))
    assert ended["peak_MiB"] > 50  # what the report tells of it
    made += ("runs/report/report.html", "to_send/report.html", "to_send/tables/run-t2-training.tex")
    assert [name for name in made if not (tmp_path / name).is_file()] == []


def test_help_and_version_import_nothing_heavy():
    helps = [[*command.split(), "--help"] for command in COMMANDS]
    code = f"""
import sys
from msgan.cli import app
for words in {[["--help"], ["--version"], *helps]}:
    app(words, standalone_mode=False, prog_name="msgan")
heavy = {{"torch", "matplotlib", "nilearn", "scipy", "pandas", "nibabel", "rich"}}
sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert f"msgan {msgan.__version__}\n" in run.stdout
    assert "Usage: msgan evaluate" in run.stdout


def test_lists_of_commands_are_not_cut():
    for group in ("", "data", "phantom", "model"):
        listed = msgan_cli(*group.split(), "--help").stdout.split("Commands:\n")[1].split("\n\n")[0]
        assert listed.count("\n") >= 2
        assert all(line.rstrip().endswith(".") for line in listed.rstrip().split("\n"))
        assert "..." not in listed


MISSING = {
    "train no.csv --target t2 --out run": "no.csv: no such file",
    "train no.csv --target t2 --out run --resume": "no.csv: no such file",
    "translate no_run no.nii.gz out.nii.gz": "no_run: not a run folder",
    "translate brain-phantom-t2 no.nii.gz out.nii.gz": "no.nii.gz: no such file or folder",
    "translate brain-phantom-t2 no.csv out": "no.csv: no such file",
    "plan no_run no.nii.gz": "no_run: not a run folder",
    "plan brain-phantom-t2 no.nii.gz": "no.nii.gz: no such file or folder",
    "evaluate no.nii.gz other.nii.gz": "no.nii.gz: no such file or folder",
    "evaluate no.csv --of no": "no.csv: no such file",
    "sketch no.nii.gz out.nii.gz": "no.nii.gz: no such file or folder",
    "explore no": "no: no such folder",
    "report no": "no: the folder of the results must exist",
    "verify no": "no: no such file or folder",
    "model card no": "no: not a run folder",
    "model export no out": "no: not a run folder",
    "data check no.csv": "no.csv: no such file",
    "init study --from no": "no: no such folder",
    "phantom brain new --size 3": "--size: expected at least 16, not '3'",
    "trian no.csv": "No such command 'trian'",
}
"""What is mistyped most, and what is said of it."""


def test_errors_are_said_before_a_library_is_loaded_that_takes_seconds(tmp_path):
    code = f"""
import sys
from typer.testing import CliRunner
from msgan.cli import app
for words, told in {MISSING}.items():
    done = CliRunner().invoke(app, words.split(), prog_name="msgan")
    assert done.exit_code == 2, (words, done.exception)
    assert done.stderr.startswith("error: " + told), (words, done.stderr)
    heavy = {{"torch", "matplotlib", "scipy", "pandas", "nibabel", "SimpleITK"}} & set(sys.modules)
    assert not heavy, (words, heavy)
"""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr


def test_defaults_that_are_told_are_those_of_the_library():
    from msgan.translate.plan import GPU_SHARE, MEMORY

    for command in ("plan", "translate"):
        text = " ".join(msgan_cli(command, "--help").stdout.split())
        ((cpu, cuda),) = re.findall(r"512MiB\. \[default: \((\w+); with a GPU (\w+)\)", text)
        assert {k: console.memory_bytes(v) for k, v in (("cpu", cpu), ("cuda", cuda))} == MEMORY
        assert f"({GPU_SHARE:.0%} of what is free)".replace("%", " %") in text


# --- from phantoms to scores -------------------------------------------------------------------


def test_phantoms_are_those_asked_for(tmp_path, monkeypatch, study):
    asked = []

    def record(folder, **options):
        asked.append(options)
        return folder / "manifest.csv"

    monkeypatch.setattr("msgan.phantoms.brain.write_cohort", record)
    words = ("phantom", "brain", tmp_path)
    assert msgan_cli(*words).stdout == f"{tmp_path / 'manifest.csv'}: 4 patients\n"
    done = msgan_cli(*words, "--subjects", 3, "--size", 32, "--seed", 9, "--healthy")
    assert done.stdout == f"{tmp_path / 'manifest.csv'}: 3 healthy subjects\n"
    assert asked == [
        {"subjects": 4, "size": 64, "seed": 0, "healthy": False},
        {"subjects": 3, "size": 32, "seed": 9, "healthy": True},
    ]
    assert len(list((study / "ph").rglob("*_t1.nii.gz"))) == 2


@pytest.mark.parametrize(("kind", "size", "files"), [("thorax", 16, 12), ("xray", 32, 2)])
def test_phantoms_of_a_chest_are_written(tmp_path, kind, size, files):
    out = tmp_path / "ph"
    done = msgan_cli("phantom", kind, out, "--subjects", 2, "--size", size, "--test-share", 0.5)
    assert done.stdout == f"{out / 'manifest.csv'}: 2 subjects\n"
    checked = msgan_cli("data", "check", out / "manifest.csv")
    assert checked.stdout.endswith(f"2 subjects, {files} files below {out}: ok\n")
    rows = (out / "manifest.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert sum(",test," in row for row in rows) == files // 2


def test_check_finds_what_is_wrong(study, tmp_path, t1):
    done = msgan_cli("data", "check", study / "ph/manifest.csv")
    assert done.stdout.splitlines()[-1].endswith(f"2 subjects, 10 files below {study}/ph: ok")
    assert re.fullmatch(r"check: 10/10 files, [\d.]+ s\n", done.stderr)

    copy = tmp_path / "patient000" / t1.name
    copy.parent.mkdir()
    copy.write_bytes(t1.read_bytes())
    rows = (study / "ph/manifest.csv").read_text().splitlines()
    (tmp_path / "one.csv").write_text("\n".join([rows[0], *(r for r in rows if t1.name in r)]))
    check = ("data", "check", tmp_path / "one.csv")
    msgan_cli(*check)
    image = nib.load(t1)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32)[1:], image.affine), copy)
    assert "SHA-256" in msgan_cli(*check, status=2).stdout
    msgan_cli(*check, "--no-hashes")
    msgan_cli(*check, "--root", study / "ph")

    (tmp_path / "two.csv").write_text(
        "subject,role,modality,path,licence,citation\n"
        f"a,image,t1,patient000/{t1.name},none,nobody\n"
        "a,image,t2,other.nii,none,nobody\n"
    )
    nib.save(image, tmp_path / "other.nii")
    assert "differs" in msgan_cli("data", "check", tmp_path / "two.csv", status=2).stdout
    assert "note" in msgan_cli("data", "check", tmp_path / "two.csv", "--unpaired").stdout
    assert "no such file" in fails("data", "check", tmp_path / "none.csv")


@pytest.mark.slow
def test_training_says_how_it_went(study, tmp_path):
    done = train(study, tmp_path / "run")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("note: no validation subjects")
    for scale, line in enumerate(lines[1:]):
        number = r"\d\.\d{4}"
        want = rf"scale {scale}: 20/20 steps, l1 {number}, validation l1 {number}, [\d.]+ s"
        assert re.fullmatch(want, line)
    assert len(lines) == 3
    assert done.stdout == f"{tmp_path / 'run'}: cascade of scales 0 to 1 for t2: ready\n"
    same = [p.read_bytes() for p in sorted(study.glob("run/s?/generator.safetensors"))]
    headless = [p.read_bytes() for p in sorted(tmp_path.glob("run/s?/generator.safetensors"))]
    # The headers hold seconds; the weights behind them are the same.
    assert [a[-1000:] for a in same] == [b[-1000:] for b in headless]


def test_a_run_is_only_continued_on_request(study):
    before = {p: p.stat().st_mtime_ns for p in (study / "run").rglob("*.safetensors")}
    line = train(study, study / "run", status=2).stderr
    assert line.startswith(f"error: {study / 'run'}: holds a run already: pass --resume")
    for words in ((), ("--config", study / "tiny.yaml", "--target", "t2")):
        done = msgan_cli(
            *("train", study / "ph/manifest.csv", "--out", study / "run", "--resume", *words)
        )
        assert "everything asked for was finished before" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert "holds" in train(study, study / "run", "--resume", "--seed", 1, status=2).stderr


@pytest.mark.slow
def test_scales_can_be_trained_one_by_one(study, tmp_path):
    done = train(study, tmp_path / "run", "--scale", "1", "--cache", tmp_path / "cache")
    assert done.stdout.endswith("scales 0 are still to be trained\n")
    assert not (tmp_path / "run/s0").exists()
    assert any((tmp_path / "cache").iterdir())
    assert not (tmp_path / "run/cache").exists()
    words = ("--scale", "0", "--resume", "--cache", tmp_path / "cache")
    done = train(study, tmp_path / "run", *words)
    assert "scale 1" not in done.stderr
    assert done.stdout.endswith("ready\n")
    weights = "s1/generator.safetensors"
    assert (study / "run" / weights).read_bytes()[-1000:] == (
        tmp_path / "run" / weights
    ).read_bytes()[-1000:]


def test_without_context_there_is_one_scale_to_train_and_plan(study, tmp_path, t1):
    (tmp_path / "blind.yaml").write_text(yaml.safe_dump(TINY | {"drop_inputs": ["context"]}))
    run = tmp_path / "run"
    words = ("train", study / "ph/manifest.csv", "--config", tmp_path / "blind.yaml", "--out", run)
    done = msgan_cli(*words, "--target", "t2", "--device", "cpu")
    assert done.stdout == f"{run}: cascade of scale 1 for t2: ready\n"
    assert not (run / "s0").exists()
    again = msgan_cli("train", study / "ph/manifest.csv", "--out", run, "--resume")
    assert "everything asked for was finished before" in again.stdout
    lines = msgan_cli("plan", run, t1, "--device", "cpu").stdout.splitlines()
    assert [line.split()[0] for line in lines[: lines.index("")]] == ["scale", "s1"]
    done = msgan_cli("translate", run, t1, tmp_path / "o.nii", "--device", "cpu")
    assert "not finished" not in done.stderr
    assert nib.load(tmp_path / "o.nii").shape == nib.load(t1).shape


@pytest.mark.slow
def test_an_interrupted_training_goes_on_where_it_stopped(study, tmp_path, monkeypatch):
    from msgan.training.step import Step

    update = Step.update

    def interrupted(self, batch, step, rate):
        if (len(batch.reads), step) == (2, 13):  # of s1, which reads a context too
            raise KeyboardInterrupt
        return update(self, batch, step, rate)

    monkeypatch.setattr(Step, "update", interrupted)
    done = train(study, tmp_path / "run", status=130)
    assert done.stderr.splitlines()[-1] == (
        "interrupted: run the same command with --resume to go on"
    )
    assert "Traceback" not in done.stderr
    monkeypatch.undo()
    steps = []
    monkeypatch.setattr(
        Step, "update", lambda self, *a: steps.append((len(a[0].reads), a[1])) or update(self, *a)
    )
    train(study, tmp_path / "run", "--resume")
    assert steps == [(2, k) for k in range(10, 20)]
    weights = "run/s1/generator.safetensors"
    assert (study / weights).read_bytes()[-1000:] == (tmp_path / weights).read_bytes()[-1000:]


BUSY = """
import time
import msgan.data.manifest as manifest
from msgan.cli import main

def check_manifest(*_, **__):
    print("busy", flush=True)
    time.sleep(60)

manifest.check_manifest = check_manifest
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_program_with_advice(tmp_path, number):
    path = tmp_path / "m.csv"
    path.write_text("subject,role,modality,path,licence,citation\n")
    words = [sys.executable, "-c", BUSY, "data", "check", path]

    def listen() -> None:  # a shell lets what it starts in the background ignore SIGINT
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, text=True, preexec_fn=listen, **pipes) as run:
        try:
            assert run.stdout.readline() == "busy\n"
            run.send_signal(number)
            said = run.communicate(timeout=30)[1]
        finally:
            run.kill()
    assert said == "interrupted: run the same command again\n"
    assert run.returncode == 130


def test_translation_returns_to_the_grid_of_the_image(study, tmp_path, t1):
    done = msgan_cli("translate", study / "run", t1, tmp_path / "new/whole.nii.gz")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: sketch: ")]
    stages = [line.split(",")[0] for line in lines]
    assert stages == ["reading: 1/1 parts", "s0: 1/1 tiles", "s1: 1/1 tiles"]
    assert done.stdout.startswith(f"{tmp_path / 'new/whole.nii.gz'} (")
    words = ("translate", study / "run", t1, tmp_path / "tiles.nii", "--tile", 8)
    done = msgan_cli(*words, "--memory", "4GiB", "--keep", tmp_path / "kept")
    counted = re.search(r"s1: (\d+)/\1 tiles", done.stderr)
    assert counted is not None
    assert int(counted[1]) > 8
    names = ["y0.nii", "y1.nii"]
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == names
    whole, tiles, source = map(
        nib.load, (tmp_path / "new/whole.nii.gz", tmp_path / "tiles.nii", t1)
    )
    np.testing.assert_allclose(whole.affine, source.affine, atol=1e-5)
    assert whole.shape == source.shape
    assert whole.get_fdata().std() > 0
    np.testing.assert_allclose(whole.get_fdata(), tiles.get_fdata(), atol=1e-3)


def test_a_bad_image_in_a_folder_does_not_stop_the_others(study, tmp_path, t1):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.nii.gz", "c.nii.gz"):
        (folder / name).write_bytes(t1.read_bytes())
    (folder / "b.nii.gz").write_bytes(t1.read_bytes()[:500])
    nib.save(
        nib.MGHImage(nib.load(t1).get_fdata(dtype=np.float32), nib.load(t1).affine),
        folder / "d.mgz",
    )
    for name in ("notes.txt", ".hidden.nii.gz"):
        (folder / name).write_text("no image")
    done = msgan_cli("translate", study / "run", folder, out, "--keep", tmp_path / "k", status=2)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith(f"error: {folder / 'b.nii.gz'}: ")
    assert errors[1:] == ["error: 1 of 4 images could not be translated"]
    names = ["a.nii.gz", "c.nii.gz", "d.nii.gz"]
    assert sorted(p.name for p in out.glob("*.nii.gz")) == names
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        f"{out}/{n}" for n in names
    ]
    assert sorted(p.name for p in (tmp_path / "k").iterdir()) == ["a", "c", "d"]
    msgan_cli("translate", study / "run", t1, tmp_path / "one.nii.gz")
    one, a, d = (
        nib.load(p).get_fdata()
        for p in (tmp_path / "one.nii.gz", out / "a.nii.gz", out / "d.nii.gz")
    )
    np.testing.assert_array_equal(one, a)
    np.testing.assert_allclose(one, d, atol=1e-3)

    (folder / "d.nii.gz").write_bytes(t1.read_bytes())
    assert "would both be written" in fails("translate", study / "run", folder, out)
    done = msgan_cli("translate", study / "run", folder, tmp_path / "some", "--match", "a.*")
    assert sorted(p.name for p in (tmp_path / "some").iterdir()) == ["a.json", "a.nii.gz"]


@pytest.mark.slow
def test_labels_are_drawn_over_the_sketch(study, tmp_path, t1):
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(TINY | {"labels": [1, 2, 4]}))
    (tmp_path / "tiny.yaml").symlink_to(tmp_path / "labels.yaml")
    (tmp_path / "ph").symlink_to(study / "ph")
    train(tmp_path, tmp_path / "run")
    labels = t1.with_name(t1.name.replace("_t1", "_labels"))
    out, seg = tmp_path / "out", tmp_path / "seg"
    words = ("translate", tmp_path / "run", t1.parent)
    msgan_cli(*words[:2], t1, tmp_path / "with.nii", "--labels", labels)
    msgan_cli(*words[:2], t1, tmp_path / "without.nii")
    drawn, plain = (nib.load(tmp_path / n).get_fdata() for n in ("with.nii", "without.nii"))
    assert (drawn != plain).any()
    seg.mkdir()
    (seg / t1.name).write_bytes(labels.read_bytes())
    done = msgan_cli(*words, out, "--match", "*_t[12]*", "--labels", seg, status=2)
    assert "no label map" in done.stderr
    np.testing.assert_array_equal(nib.load(out / t1.name).get_fdata(), drawn)
    assert "expected a folder" in fails(*words, out, "--labels", labels)
    assert "without labels" in fails(
        "translate", study / "run", t1, tmp_path / "x.nii", "--labels", labels
    )


def test_pictures_go_the_same_way(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["subject,role,modality,path,licence,citation"]
    (tmp_path / "in").mkdir()
    for name in "ab":
        at = np.hypot(*np.meshgrid(np.arange(24) - 12, np.arange(32) - 16))
        image = np.where(at < 10, 120 + 8 * at + rng.normal(0, 4, at.shape), 0)
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"in/{name}.png")
        rows.append(f"{name},image,xray,in/{name}.png,none,nobody")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    words = ("train", tmp_path / "m.csv", "--target", "xray", "--out", tmp_path / "run")
    msgan_cli(*words, "--config", tmp_path / "tiny.yaml")
    assert CascadeConfig.load(tmp_path / "run/config.yaml").dims == 2
    msgan_cli("translate", tmp_path / "run", tmp_path / "in", tmp_path / "out")
    made = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert (made.shape, made.dtype) == ((32, 24), np.uint8)
    msgan_cli("sketch", tmp_path / "in/a.png", tmp_path / "s.png")
    drawn = np.asarray(Image.open(tmp_path / "s.png"))
    assert drawn.dtype == np.uint8
    assert drawn.max() > 50
    assert (drawn == 0).mean() > 0.5
    words = ("train", tmp_path / "m.csv", "--resume", "--out", tmp_path / "run")
    assert "finished before" in msgan_cli(*words).stdout


def test_sketch_is_that_of_the_library_on_the_grid_of_the_image(tmp_path, t1):
    import torch

    from msgan.config import SketchConfig
    from msgan.data.intensity import IntensityMap
    from msgan.sketch import halo, overlay, sketch

    def library(low: float, high: float, config: SketchConfig) -> np.ndarray:
        unit = IntensityMap.window(low, high).to_unit(image.get_fdata())
        padded = np.pad(unit, halo(config), mode="edge").copy(order="C")
        return sketch(torch.from_numpy(padded)[None, None], config)

    image = nib.load(t1)
    values = image.get_fdata()
    edges = SketchConfig(channels=("edges",))
    done = msgan_cli("sketch", t1, tmp_path / "a.nii.gz", "--window", "-10", "600")
    assert done.stdout == f"{tmp_path / 'a.nii.gz'}\n"
    made = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(made.affine, image.affine, atol=1e-5)
    want = library(-10, 600, edges)
    np.testing.assert_allclose(made.get_fdata(), want[0, 0], atol=1e-5)
    assert 0 < made.get_fdata().max() <= 1

    labels = t1.with_name(t1.name.replace("_t1", "_labels"))
    msgan_cli("sketch", t1, tmp_path / "b.nii.gz", "--labels", labels)
    high = np.percentile(values[values > 0], 99.5)
    seg = torch.from_numpy(nib.load(labels).get_fdata(dtype=np.float32))[None, None]
    found = np.unique(seg.numpy())[1:].astype(int).tolist()
    assert len(found) > 1
    want = overlay(library(0, high, edges), seg, found)
    close = np.abs(nib.load(tmp_path / "b.nii.gz").get_fdata() - want[0, 0].numpy()) < 1e-3
    assert close.mean() > 0.999  # the percentile is read from a histogram

    asked = ("--channels", "ridges, self_similarity", "--window", "0", "600")
    done = msgan_cli("sketch", t1, tmp_path / "c.nii", *asked)
    names = ["ridges", *(f"self_similarity{k}" for k in range(6))]
    assert done.stdout.splitlines() == [f"{tmp_path}/c_{name}.nii" for name in names]
    both = SketchConfig(channels=("ridges", "self_similarity"))
    for name, channel in zip(names, library(0, 600, both)[0].numpy(), strict=True):
        made = nib.load(tmp_path / f"c_{name}.nii").get_fdata()
        np.testing.assert_allclose(made, channel, atol=1e-5)


def test_scores_are_those_of_images_in_0_1(study, tmp_path, t1):
    from msgan.metrics import scores

    real, mask = (t1.with_name(t1.name.replace("_t1", n)) for n in ("_t2", "_mask"))
    image = nib.load(real)
    values = image.get_fdata(dtype=np.float32)
    rng = np.random.default_rng(1)
    other = values + rng.normal(0, 20, values.shape).astype(np.float32)
    fake, out = tmp_path / "fake.nii", tmp_path / "new/scores.json"
    nib.save(nib.Nifti1Image(other, image.affine), fake)
    inside = nib.load(mask).get_fdata() > 0

    done = msgan_cli("evaluate", fake, real, "--mask", mask, "--json", out)
    content = json.loads(out.read_text())
    white = content["source_intensity"]["data_range"]
    np.testing.assert_allclose(white, np.percentile(values[values > 0], 99.5), rtol=3e-3)
    assert content["source_intensity"]["black"] == 0
    want = scores(other / white, values / white, data_range=1.0)
    masked = scores(other / white, values / white, data_range=1.0, mask=inside)
    for name, expected in (("whole_image", want), ("inside_mask", masked)):
        for column in ("ssim", "mae", "mse", "psnr", "nmse", "voxels", "ssim_voxels"):
            found = content["scores"][name][column]
            np.testing.assert_allclose(found, getattr(expected, column), rtol=1e-4)
    header, first, second, *stated = done.stdout.splitlines()
    assert header.split() == ["ssim", "mae", "mse", "psnr", "nmse", "voxels"]
    cells = first.removeprefix("whole image").split()
    numbers = (want.ssim, want.mae, want.mse, want.psnr, want.nmse, values.size)
    np.testing.assert_allclose([float(c) for c in cells[:6]], numbers, rtol=2e-3)
    assert float(second.removeprefix("inside mask").split()[5]) == inside.sum()
    assert stated[0] == f"intensities scaled from 0..{white:.6g} a.u. to 0..1"
    assert "3D SSIM" in stated[1]
    assert "window of 11" in stated[1]

    words = ("evaluate", real, real, "--data-range", 500, "--black", -100, "--json", out)
    msgan_cli(*words, "--force")
    content = json.loads(out.read_text())
    assert content["source_intensity"] == {"black": -100, "data_range": 500, "unit": "a.u."}
    assert content["scores"]["whole_image"]["psnr"] is None  # infinity
    nib.save(nib.Nifti1Image(other - 1000, image.affine), tmp_path / "hu.nii")
    msgan_cli("evaluate", tmp_path / "hu.nii", tmp_path / "hu.nii", "--json", out, "--force")
    assert json.loads(out.read_text())["source_intensity"]["black"] == float((other - 1000).min())


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("phantom brain OUT --size 24 --subjects 1", "OUT: is a file, expected a folder"),
        ("sketch none.nii OUT.nii", "none.nii: no such file or folder"),
        ("sketch T1 OUT.jpg", "OUT.jpg: cannot write .jpg"),
        ("sketch T1 OUT.nii --channels edges,lines", "sketch channel 'lines' is none of edges"),
        ("sketch T1 OUT.nii --window 5 5", "intensity range 5 to 5"),
        ("sketch T1 OUT.nii --labels other.nii", "labels do not lie on their image"),
        ("sketch dark.nii OUT.nii", "pass --window LOW HIGH"),
        ("train M --out new --target t3", "target 't3': no subject has such an image; there are"),
        ("train M --out new", "--target is missing"),
        ("train M --out new --target t2 --preset huge", "preset 'huge' is none of smoke, small"),
        ("train M --out new --target t2 --scale one", "--scale one: expected all, or numbers"),
        ("train M --out new --target t2 --config C --scale 7", "scale 7 does not exist"),
        ("train M --out new --target t2 --config none.yaml", "none.yaml: No such file"),
        ("train M --out new --target t2 --config bad.yaml", "bad.yaml: training.stepz: no such"),
        ("train M --out new --target t2 --config dims.yaml", "dims.yaml: dims 4: expected 2 or 3"),
        ("train M --out new --target t2 --config text.yaml", "text.yaml: expected keys and values"),
        ("train M --out new --target t2 --config broken.yaml", "broken.yaml: not YAML"),
        ("train M --out new --target t2 --root none", "none: no such folder"),
        ("train M --out . --target t2 --config C", "is not empty and holds no run"),
        ("train M --out new --target t2 --config C --device tpu", "device 'tpu' is none of"),
        ("translate none T1 OUT.nii", "none: not a run folder"),
        ("translate RUN none.nii OUT.nii", "none.nii: no such file or folder"),
        ("translate RUN none OUT", "none: no such file or folder"),
        ("translate RUN T1 OUT", "OUT: cannot write an image without suffix"),
        ("translate RUN T1 OUT.nii --memory 2GX", "memory '2GX': expected a number and B, kB"),
        ("translate RUN T1 OUT.nii --memory 1kB", "the smallest tile"),
        ("translate RUN T1 OUT.nii --tile 7", "--tile 7: expected an even number"),
        ("translate RUN T1 OUT.nii --device tpu", "device 'tpu' is none of"),
        ("translate RUN T1 OUT/a.nii", "OUT: is a file, expected a folder"),
        ("translate RUN . .", "is the folder the images are in"),
        ("translate RUN . OUT", "OUT: is a file, expected a folder"),
        ("translate RUN . new --match *.dcm", "no image in this folder or below it is named *.dcm"),
        ("evaluate T1 none.nii", "none.nii: no such file or folder"),
        ("evaluate other.nii T1", "other.nii: its grid"),
        ("evaluate T1 T1 --data-range 0", "--data-range 0: expected a positive number"),
        ("evaluate T1 T1 --mask other.nii", "labels do not lie on their image"),
        ("evaluate T1 T1 --json OUT/a.json", "OUT: is a file, expected a folder"),
    ],
)
def test_bad_input_is_one_line(study, tmp_path, monkeypatch, t1, words, message):
    monkeypatch.chdir(tmp_path)
    image = nib.load(t1)
    nib.save(nib.Nifti1Image(np.eye(24, dtype=np.float32)[..., None], np.eye(4)), "other.nii")
    nib.save(nib.Nifti1Image(-1 - image.get_fdata(dtype=np.float32), image.affine), "dark.nii")
    Path("bad.yaml").write_text("training: {stepz: 1}")
    Path("dims.yaml").write_text("dims: 4")
    Path("text.yaml").write_text("just words")
    Path("broken.yaml").write_text("a: [")
    Path("OUT").touch()
    names = {"M": study / "ph/manifest.csv", "RUN": study / "run", "T1": t1}
    names["C"] = study / "tiny.yaml"
    files = sorted(p for p in tmp_path.rglob("*"))
    line = fails(*(names.get(word, word) for word in words.split()))
    assert message in line
    assert sorted(p for p in tmp_path.rglob("*")) == files


def test_a_run_without_weights_cannot_translate(study, tmp_path, t1):
    train(study, tmp_path / "run", "--scale", "1", "--cache", study / "run/cache")
    line = fails("translate", tmp_path / "run", t1.parent, tmp_path / "out")
    assert "scale 0 of 1 is not trained yet" in line
    copy = tmp_path / "run/s0"
    copy.mkdir()
    name = "generator.safetensors"
    (copy / name).write_bytes((study / "run/s0" / name).read_bytes())
    done = msgan_cli("translate", tmp_path / "run", t1, tmp_path / "a.nii")
    assert done.stderr.startswith(f"note: {tmp_path / 'run'}: the training of scale 0 is not fin")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), "/a/b: Permission denied"),
        (InputError("a.nii: two\nlines"), r"a.nii: two\nlines"),
        (OSError("no space"), "no space"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "the device is out of memory"),
    ],
)
def test_errors_from_outside_are_one_line_and_can_be_traced(monkeypatch, error, line):
    def broken(*args, **kwargs):
        raise error

    monkeypatch.setattr("msgan.data.manifest.check_manifest", broken)
    assert fails("data", "check", "m.csv").startswith(line)
    monkeypatch.setenv("MSGAN_DEBUG", "1")
    result = CliRunner().invoke(app, ["data", "check", "m.csv"])
    assert result.exception is error


def test_faults_of_the_program_keep_their_traceback(monkeypatch):
    monkeypatch.setattr("msgan.data.manifest.check_manifest", lambda *a, **k: 1 // 0)
    result = CliRunner().invoke(app, ["data", "check", "m.csv"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_wrong_use_is_status_2():
    assert "Missing option '--out'" in msgan_cli("train", "m.csv", status=2).stderr
    assert "No such command" in msgan_cli("fly", status=2).stderr


# --- the parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2 * 10**9),
        ("512MiB", 2**29),
        ("512 mib", 2**29),
        ("1.5kB", 1500),
        ("1000000", 10**6),
        ("7b", 7),
        ("1TiB", 2**40),
        ("4G", 4 * 10**9),
        ("4g", 4 * 10**9),
        ("4 GB", 4 * 10**9),
        ("4Gi", 2**32),
        ("512M", 512 * 10**6),
        ("512Mi", 2**29),
        ("0.5T", 5 * 10**11),
    ],
)
def test_memory_sizes(text, size):
    assert console.memory_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "2GX", "G", "-1GB", "1,5GB", "1e9", "2 GB free", "0", "0.1B"]
)
def test_sizes_that_are_none(text):
    with pytest.raises(InputError, match=r"^memory .*: expected "):
        console.memory_bytes(text)


@pytest.mark.parametrize(
    ("text", "guided"),
    [
        ("training: {steps: 7}", True),
        ("drop_inputs: [context]", False),
        ("network: {family: megan}\ntraining: {patch: 32}", False),
        ("{paired: t1, contrast: {share: 0}}", False),
        ("guidance: {match: none, student: false, detail: false}", False),
        ("{drop_inputs: [], guidance: {student: false}}", True),
    ],
)
def test_what_cannot_be_guided_is_not(tmp_path, text, guided):
    """The preset is; a file need not switch off what does not go with what it says."""
    file = tmp_path / "a.yaml"
    file.write_text(text)
    assert configuration("small", file, lambda: 3).guidance.on == guided
    file.unlink()
    presets.preset("small").unguided().save(file)  # states all but what is off
    assert not configuration("small", file, lambda: 3).guidance.on


def test_a_file_states_only_what_differs_from_the_preset(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("sketch: {sigma: 2.0}\ntraining: {steps: 7}\nlabels: [4]")
    base = presets.preset("small")
    made = configuration("small", file, lambda: 3)
    assert made == base.model_copy(
        update={
            "sketch": base.sketch.model_copy(update={"sigma": 2.0}),
            "training": base.training.model_copy(update={"steps": 7}),
            "labels": (4,),
        }
    )
    file.write_text("dims: 2")
    assert configuration("published", file, lambda: 3).dims == 2
    presets.preset("published", dims=2).save(file)
    assert configuration("smoke", file, lambda: 3) == presets.preset("published", dims=2)


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID"])
def test_one_process_speaks_for_all(monkeypatch, name, study):
    check = ("data", "check", study / "ph/manifest.csv")
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with console.Bars("waiting") as bars:
        bars.update("s1", 1, 2, "tiles")
    assert terminal.getvalue() == ""
    done = msgan_cli(*check)
    assert (done.stdout, done.stderr) == ("", "")
    waited = []
    monkeypatch.setattr("msgan.cli.program.sleep", waited.append)
    assert msgan_cli("data", "check", "none.csv", status=2).stderr == ""
    assert waited == [5]
    monkeypatch.setenv(name, "0")
    assert msgan_cli(*check).stdout.endswith("ok\n")


def test_a_terminal_shows_a_bar_and_the_time_left(monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with console.Bars("preparing images") as bars:
        bars.update("scale 0", 30, 40, "steps", "l1 0.1234", seconds=360.0)
        bars.update("scale 1", 40, 40, "steps")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(r"scale 0 .*━.* 30/40 steps, l1 0\.1234 2:00 min left", shown)
    assert re.search(r"scale 1 .*━.* 40/40 steps +0\.0 s left", shown)


def test_without_a_terminal_a_stage_is_a_line(monkeypatch, capsys):
    with console.Bars("preparing") as bars:
        for k in range(1, 4):
            bars.update("s1", k, 3, "tiles", seconds=61.0)
        bars.update("s2", 1, 9, "tiles", "l1 0.1", seconds=0.26)
    with suppress(ZeroDivisionError), console.Bars("preparing") as bars:
        bars.update("s1", 1, 3, "tiles")
        print(1 // 0)  # what came before an error is no result
    printed = capsys.readouterr()
    assert printed.err == "s1: 3/3 tiles, 1:01 min\ns2: 1/9 tiles, l1 0.1, 0.3 s\n"
    assert printed.out == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1:00 min"),
        (3599.4, "59:59 min"),
        (3599.6, "1:00:00 h"),
        (3727, "1:02:07 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_folder_that_cannot_be_written_is_found_early(study, tmp_path, monkeypatch, t1):
    import tempfile

    def denied(*args, dir=None, **options):  # root may all
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    monkeypatch.setattr("msgan.translate.translate", lambda *a, **k: pytest.fail("too late"))
    line = fails("translate", study / "run", t1, tmp_path / "a.nii")
    assert line == f"{tmp_path}: this folder cannot be written to: Permission denied"
    line = fails("translate", study / "run", t1, tmp_path / "new/deeper/a.nii")
    assert line == f"{tmp_path / 'new/deeper'}: this folder cannot be made: Permission denied"
    assert not (tmp_path / "new").exists()
