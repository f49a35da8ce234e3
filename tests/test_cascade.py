import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import cohort_in, equal, head, stored, tiny, weights

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.volume import open_volume
from msgan.methods import cascade
from msgan.methods.cascade import fit
from msgan.methods.trained import Cascade
from msgan.runs.run import Run
from msgan.training.log import LOG
from msgan.training.loop import WEIGHTS
from msgan.types import InputError

HERE = Path(__file__).resolve().parent
CLOCKS = ("seconds", "waited")


pytestmark = pytest.mark.usefixtures("one_thread")


def rows(folder: Path, scale: int) -> list[dict]:
    """The log without its clocks."""
    lines = (folder / f"s{scale}" / LOG).read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k not in CLOCKS} for x in lines]


# --- fit -------------------------------------------------------------------------------------


def test_fit_and_translate(dims, tmp_path):
    """The method as a row of a table."""
    cohort, seen = cohort_in(tmp_path, dims), []
    method = Cascade.fit(cohort, None, "t2", tiny(dims), tmp_path / "run", device="cpu")
    run = method.run
    assert [run.finished(i) for i in range(3)] == [True] * 3
    done = method.translate(
        cohort["s2"], tmp_path / "out.nii", tile=16, progress=lambda *x: seen.append(x)
    )
    with open_volume(done.path) as result, open_volume(tmp_path / "2.nii") as source:
        assert result.grid == source.grid
        # The median of the subjects' ranges.
        ends = []
        for subject in cohort:
            with prepare(subject, "t2", run.config.preparation) as opened:
                ends.append(opened.intensity.high)
        assert (run.intensity.low, run.intensity.high) == (0, sorted(ends)[1])
        assert min(ends) < sorted(ends)[1] < max(ends)
        assert result.whole().max() <= run.intensity.high * (1 + 1e-6)
    assert seen
    # What the folder is said to hold.
    assert {p.name for p in run.folder.iterdir()} == {
        "config.yaml", "run.json", "sketches.json", "cache", "s0", "s1", "s2"
    }  # fmt: skip
    kept = {p.name.split(".")[0] for p in (run.folder / "s1").iterdir()}
    assert kept == {"generator", "checkpoint", "metrics", "events", "done"}
    again = Run.open(run.folder)
    assert again == run
    assert again.config.preparation.spacing_mm == (1.0,) * dims


def test_a_finished_run_is_not_trained_again(tmp_path):
    cohort, reported = cohort_in(tmp_path), []
    fit(cohort, "t2", tiny(), tmp_path / "run", device="cpu", report=reported.append)
    assert [row["scale"] for row in reported] == [0, 1, 2]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").glob("s*/*")}
    fit(cohort, "t2", tiny(), tmp_path / "run", device="cpu", report=reported.append)
    assert len(reported) == 3
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").glob("s*/*")} == before


def test_scales_are_independent_of_each_other(tmp_path):
    cohort = cohort_in(tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(cohort, "t2", tiny(), whole, device="cpu")
    fit(cohort, "t2", tiny(), parts, device="cpu", scales=[2], cache=tmp_path / "c")
    run = Run.open(parts)
    assert [run.finished(i) for i in range(3)] == [False, False, True]
    fit(cohort, "t2", tiny(), parts, device="cpu", scales=[1, 0], cache=tmp_path / "c")
    assert all(equal(whole, parts, i) for i in range(3))
    assert not (parts / "cache").exists()
    assert len(list((tmp_path / "c").iterdir())) == 3
    with pytest.raises(InputError, match="scale 3 does not exist: there are 0 to 2"):
        fit(cohort, "t2", tiny(), tmp_path / "x", device="cpu", scales=[3])


def test_what_a_configuration_needs_of_other_networks_is_given_with_it(tmp_path):
    cohort = cohort_in(tmp_path / "images")
    context = lambda *_: None  # noqa: E731
    for options, message in (
        ({"auto_context": context}, "auto_context None: needs the run of these weights to make it"),
        (
            {"features": torch.nn.Linear(2, 1)},
            "perceptual None: needs the network of these",
        ),
        ({"more_steps": 3}, "3 more steps: expected with a parent, and only with one"),
    ):
        with pytest.raises(InputError, match=message):
            fit(cohort, "t2", tiny(), tmp_path / "run", device="cpu", **options)
    paired = tiny().updated(paired="t2")
    with pytest.raises(InputError, match="paired t2: is the target itself"):
        fit(cohort, "t2", paired, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_what_the_first_process_finds_wrong_is_wrong_for_the_others():
    """A process whose own block succeeds, and the fault that the first one has told."""
    fault = InputError("no room")
    with pytest.raises(InputError, match="no room"), cascade._agreed(told(fault)):
        pass
    done = []
    with cascade._agreed(told(None)):
        done.append(1)
    assert done == [1]
    own = OSError("own")
    with pytest.raises(OSError, match="own"), cascade._agreed(told(fault)):
        raise own


def told(fault: Exception | None) -> SimpleNamespace:
    return SimpleNamespace(broadcast=lambda _: fault)


def test_the_group_of_processes_is_left_once(tmp_path):
    import torch.distributed

    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    cascade._leave_group()
    assert not torch.distributed.is_initialized()
    cascade._leave_group()  # nothing is left to leave


def on_a_gpu(monkeypatch, free: int, most: int = 0) -> SimpleNamespace:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 16 << 30))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: most)
    return SimpleNamespace(device=torch.device("cuda"))


def test_subjects_are_held_on_a_gpu_where_they_take_half_of_what_is_free(monkeypatch):
    subjects = {n: SimpleNamespace(bytes=300, to=lambda where, n=n: (n, where.type)) for n in "ab"}
    gpu = on_a_gpu(monkeypatch, 1200)
    assert cascade._placed(subjects, gpu) == {"a": ("a", "cuda"), "b": ("b", "cuda")}
    assert cascade._placed(subjects, on_a_gpu(monkeypatch, 1199)) is subjects
    assert cascade._placed(subjects, SimpleNamespace(device=torch.device("cpu"))) is subjects


def test_the_peak_of_a_gpu_is_told_beside_that_of_the_host(monkeypatch):
    peaks = cascade._peaks(on_a_gpu(monkeypatch, 0, 3 << 20))
    assert peaks["gpu_peak_MiB"] == 3
    assert peaks["peak_MiB"] > 10
    assert cascade._peaks(SimpleNamespace(device=torch.device("cpu"))).keys() == {"peak_MiB"}


def test_one_seed_gives_one_result(tmp_path):
    cohort = cohort_in(tmp_path)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = tiny().model_copy(update={"seed": seed})
        fit(cohort, "t2", config, tmp_path / name, device="cpu", cache=tmp_path / "cache")
    for i in range(3):
        assert equal(tmp_path / "a", tmp_path / "b", i)
        assert not equal(tmp_path / "a", tmp_path / "c", i)


def test_subjects_of_the_test_split_are_left_alone(tmp_path):
    cohort = cohort_in(tmp_path, splits=("train", "test", "val"))
    broken = Subject("broken", {"t2": tmp_path / "none.nii"}, split="test")
    other = Subject("other", {"t1": tmp_path / "none.nii"}, split="train")
    cohort = Cohort((*cohort.subjects, broken, other))
    run = fit(cohort, "t2", tiny(), tmp_path / "run", device="cpu", scales=[0])
    assert sorted(run.data) == ["s0", "s2"]
    # Without subjects to validate on, those of training choose the weights.
    alone = Cohort((cohort["s0"],))
    run = fit(alone, "t2", tiny(), tmp_path / "alone", device="cpu", scales=[0])
    assert sorted(run.data) == ["s0"]
    with pytest.raises(InputError, match="no training subject has a flair image"):
        fit(cohort, "flair", tiny(), tmp_path / "x", device="cpu")
    with pytest.raises(InputError, match="no training subject"):
        fit(Cohort((cohort["s2"],)), "t2", tiny(), tmp_path / "x", device="cpu")


def test_a_cohort_shares_spacing_and_scales(tmp_path):
    sizes = {"a": (40, 48), "b": (80, 40), "c": (44, 44)}
    subjects = [
        Subject(
            n,
            {"t2": stored(tmp_path / f"{n}.nii", head(s), spacing=0.5 if n == "b" else 1.0)},
            split="",
        )
        for n, s in sizes.items()
    ]
    config = tiny(preparation={"scales": None, "longest": 16})
    run = fit(Cohort(tuple(subjects)), "t2", config, tmp_path / "r", device="cpu", scales=[0, 1])
    resolved = run.config.preparation
    assert resolved.spacing_mm == (1.0, 1.0)
    assert resolved.scales == 2  # 48 voxels of 1 mm: 64 would do with two doublings of 16
    assert Run.open(run.folder).config == run.config


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"0\.nii: image of 2 axes, the configuration has dims 3"):
        fit(cohort_in(tmp_path), "t2", tiny(3), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_another_run_in_the_folder_is_refused(tmp_path):
    cohort = cohort_in(tmp_path)
    fit(cohort, "t2", tiny(), tmp_path / "run", device="cpu", scales=[0])
    with pytest.raises(InputError, match=r"training\.steps is 4 there and 5 here"):
        fit(cohort, "t2", tiny(steps=5), tmp_path / "run", device="cpu")
    stored(tmp_path / "1.nii", head((48, 40), 9))
    with pytest.raises(InputError, match=r"data\.s1 is"):
        fit(cohort, "t2", tiny(), tmp_path / "run", device="cpu")


def test_labels_belong_to_the_data_of_a_run_that_uses_them(tmp_path):
    (subject,) = cohort_in(tmp_path, splits=("train",))

    def train(out, value, config):
        marks = np.zeros((48, 40), np.float32)
        marks[20:24, 20:24] = value
        labelled = replace(subject, labels=stored(tmp_path / "labels.nii", marks))
        return fit(Cohort((labelled,)), "t2", config, tmp_path / out, device="cpu", scales=[0])

    plain, labelled = tiny(), tiny().model_copy(update={"labels": (1, 2)})
    assert train("plain", 1, plain).data == train("plain", 2, plain).data
    train("labelled", 1, labelled)
    with pytest.raises(InputError, match=r"data\.s0 is"):
        train("labelled", 2, labelled)


def test_the_published_family_trains(tmp_path):
    config = tiny(network={"family": "megan"}, patch=32, steps=2, lr_steps=2)
    run = fit(cohort_in(tmp_path), "t2", config, tmp_path / "run", device="cpu")
    assert run.generator(1).geometry.patch == 32
    assert all(run.finished(i) for i in range(3))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 1, "auto")),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, (2, 2, "ddp")),
        ({"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, (1, 1, "auto")),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4"}, (4, 2, "ddp")),
        ({"SLURM_NTASKS": "2"}, (2, 1, "ddp")),
    ],
)
def test_processes_are_those_the_environment_tells(monkeypatch, environment, expected):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = {}

    class Recorder:
        def __init__(self, **options):
            told.update(options)

        def launch(self):
            told["launched"] = True

    monkeypatch.setattr("lightning_fabric.Fabric", Recorder)
    cascade._fabric("cpu", "32-true")
    assert (told["devices"], told["num_nodes"], told["strategy"]) == expected
    assert told["launched"]


# --- other processes -------------------------------------------------------------------------

LONG = {"steps": 60, "lr_steps": 20, "gan_weight": 0.1, "mirror": (0,), "ema": 0.9}


def environment() -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "COVERAGE"))}
    return clean | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}


def train_until_killed(data: str, out: str, moment: str) -> None:
    """Run by a process of its own, which does not survive ``moment``."""
    from msgan.training import cache

    torch.set_num_threads(1)

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "cache":
        write, calls = cache._write, []

        def killed_write(path, *rest):
            calls.append(path)
            if len(calls) == 4:
                path.write_bytes(b"half")
                die()
            write(path, *rest)

        cache._write = killed_write
    if moment == "checkpoint":
        replace, calls = os.replace, []

        def killed_replace(source, target):
            if Path(target).parts[-2:] == ("s2", "checkpoint.safetensors"):
                calls.append(target)
                if len(calls) == 2:
                    die()
            replace(source, target)

        os.replace = killed_replace

    def slowly(row):
        time.sleep(0.5)  # leaves the other process the time to kill in the middle of a scale

    config = tiny(**LONG)
    fit(cohort_in(Path(data)), "t2", config, out, device="cpu", report=slowly)


def start(data: Path, out: Path, moment: str) -> subprocess.Popen:
    code = (
        "import sys, test_cascade\n"
        "test_cascade.train_until_killed(*sys.argv[1:])\n"
    )  # fmt: skip
    words = [sys.executable, "-c", code, str(data), str(out), moment]
    return subprocess.Popen(words, env=environment())


@pytest.mark.slow
def test_a_killed_training_goes_on_bit_by_bit(tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    cohort = cohort_in(data)

    # While a subject is being prepared: its cache is absent.
    assert start(data, out, "cache").wait(120) == -signal.SIGKILL
    assert all(p.name.startswith(".partial-") for p in (out / "cache").iterdir())

    # In the middle of s1, from outside.
    process = start(data, out, "outside")
    log, deadline = out / "s1" / LOG, time.monotonic() + 120
    while not (log.is_file() and '"step": 20' in log.read_text()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    run = Run.open(out)
    assert [run.finished(i) for i in range(3)] == [True, False, False]
    assert (out / "s1" / "checkpoint.safetensors").is_file()

    # In the middle of s2, while a checkpoint replaces the one before.
    assert start(data, out, "checkpoint").wait(120) == -signal.SIGKILL
    assert [run.finished(i) for i in range(3)] == [True, True, False]
    assert (out / "s2" / "checkpoint.safetensors").is_file()
    assert list((out / "s2").glob(".partial-*"))

    finished = (out / "s1" / WEIGHTS).stat().st_mtime_ns
    fit(cohort, "t2", tiny(**LONG), out, device="cpu")
    assert (out / "s1" / WEIGHTS).stat().st_mtime_ns == finished
    fit(cohort, "t2", tiny(**LONG), tmp_path / "unbroken", device="cpu")
    for i in range(3):
        assert equal(out, tmp_path / "unbroken", i)
        found = rows(out, i)
        assert [row["step"] for row in found] == ([20] if i == 0 else [20, 40, 60])
        assert found == rows(tmp_path / "unbroken", i)


TOGETHER = {
    "both": {"gan_weight": 0.5},
    "alone": {"gan_weight": 0.0},
}


def together(name: str) -> CascadeConfig:
    # Few steps: Adam makes a step of a rounding error, and each step multiplies them.
    options = {"steps": 5, "lr_steps": 5, "ema": 0.5, "batch": 4, "validate_every": 5}
    sizes = {"dropout": 0.0, "lr_width": 8}
    return tiny(network=sizes, preparation={"scales": 1}, **options | TOGETHER[name])


def train_together(data: str, out: str) -> None:
    """Run by each of several processes."""
    torch.set_num_threads(1)
    for name in TOGETHER:
        folder = Path(out) / name
        fit(cohort_in(Path(data)), "t2", together(name), folder, device="cpu")
    rank = os.environ["RANK"]
    Path(out, f"rank{rank}").write_text(str(torch.distributed.get_world_size()))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    data, out = tmp_path / "data", tmp_path / "two"
    cohort = cohort_in(data)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, test_cascade\n"
        "if __name__ == '__main__':\n"
        "    test_cascade.train_together(*sys.argv[1:])\n"
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(data), str(out)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(out / f"rank{k}").read_text() for k in (0, 1)] == ["2", "2"]
    for name in TOGETHER:
        fit(cohort, "t2", together(name), tmp_path / name, device="cpu", cache=tmp_path / "c")
        for i in (0, 1):
            start, one, two = (
                torch.cat([w.flatten() for w in found.values()])
                for found in (
                    build(together(name), i),
                    weights(tmp_path / name, i),
                    weights(out / name, i),
                )
            )
            # Rounding changes single weights, to which Adam gives steps of full size.
            moved, apart = (one - start).norm(), (two - one).norm()
            assert moved > 0.02
            assert apart < 0.03 * moved, f"{name} s{i}"
            # One process writes the log.
            assert [r["step"] for r in rows(out / name, i)] == [5]
            assert len(list((out / name / f"s{i}").glob("events.*"))) == 1
            logged = [rows(f / name, i)[-1] for f in (tmp_path, out)]
            assert logged[0] == pytest.approx(logged[1], rel=1e-3)


def build(config: CascadeConfig, scale: int) -> dict[str, torch.Tensor]:
    """The weights a scale starts from, in the order of a file."""
    from msgan import seeds
    from msgan.training.step import build_generator

    torch.manual_seed(seeds.derive(config.seed, "weights", scale))
    return dict(sorted(build_generator(config, scale).state_dict().items()))


@pytest.mark.slow
def test_a_copied_run_translates(tmp_path):
    cohort = cohort_in(tmp_path)
    fit(cohort, "t2", tiny(), tmp_path / "run", device="cpu")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    results = []
    for name in ("run", "copy"):
        method = Cascade(Run.open(tmp_path / name), "cpu")
        with open_volume(method.translate(tmp_path / "0.nii", tmp_path / f"{name}.nii").path) as v:
            results.append(v.whole())
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize(
    ("spacing", "rounded"), [(0.93751234, 0.9375), (1.0, 1.0), (0.00065432, 0.0006543)]
)
def test_small_voxels_keep_their_digits(spacing, rounded):
    assert cascade._rounded(spacing) == rounded
