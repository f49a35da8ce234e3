"""Killed at any moment, cut short, twice at once: what is left, and what comes next."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from helpers import cohort_in, tiny
from pydicom import dcmread
from pydicom.data import get_testdata_file
from training import a_run

from msgan.data.series import sort_series
from msgan.leftovers import PARTIAL, owned
from msgan.methods.cascade import fit
from msgan.methods.shared import reuse_scale
from msgan.report import cards, execute
from msgan.runs.checksums import check
from msgan.runs.run import Run
from msgan.training.log import LOG, Log, rows
from msgan.training.loop import CHECKPOINT, WEIGHTS
from msgan.types import InputError
from msgan.widgets.curves import Log as Followed

pytestmark = pytest.mark.usefixtures("one_thread", "without_coverage")


def ended() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def of_a_dead_process(prefix: str) -> str:
    return owned(prefix).replace(f"-{os.getpid()}-", f"-{ended()}-") + "abcdefgh"


def killed(code: str, *words: object) -> None:
    """Run Python code, which must end by SIGKILL of its own."""
    start = f"import os, signal, sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    command = [sys.executable, "-c", start + code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


# --- leftovers ---------------------------------------------------------------------------------

CACHING = """
from pathlib import Path
from msgan.methods.cascade import fit
from msgan.training import cache
from helpers import cohort_in, tiny
write = cache._write
def kills(path, *rest):
    write(path, *rest)
    if path.name == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
cache._write = kills
fit(cohort_in(Path(sys.argv[1])), "t2", tiny(), sys.argv[2], device="cpu")
"""


@pytest.mark.slow
def test_a_killed_cache_is_removed_by_the_next_training(tmp_path):
    cohort, run = cohort_in(tmp_path / "data"), tmp_path / "run"
    killed(CACHING, tmp_path / "data", run, "sketch_s2_0.npy")
    (left,) = (run / "cache").iterdir()
    assert left.name.startswith(PARTIAL)
    fit(cohort, "t2", tiny(), run, device="cpu")
    assert {p.name[:3] for p in (run / "cache").iterdir()} == {"s0-", "s1-", "s2-"}
    assert [p.name for p in run.iterdir() if p.name.startswith(".")] == []


def download(folder: Path) -> Path:
    folder.mkdir()
    for k in range(3):
        slice_ = dcmread(get_testdata_file("CT_small.dcm"))
        slice_.InstanceNumber, slice_.SOPInstanceUID = k, f"1.2.3.{k}"
        slice_.SeriesDescription = "chest"
        slice_.save_as(folder / str(k))
    return folder


SORTING = """
from msgan.data import series
link = os.link
def kills(old, new):
    link(old, new)
    if str(new).endswith("1.dcm"):
        os.kill(os.getpid(), signal.SIGKILL)
os.link = kills
series.sort_series(sys.argv[1], sys.argv[2], by="description")
"""


def test_a_killed_sort_is_removed_by_the_next(tmp_path):
    source, out = download(tmp_path / "in"), tmp_path / "out"
    killed(SORTING, source, out)
    ((left,),) = [list(patient.iterdir()) for patient in out.iterdir() if patient.is_dir()]
    assert left.name.startswith(PARTIAL)
    (series,) = sort_series(source, out, by="description")
    assert [p.name for p in series.parent.iterdir()] == ["chest"]
    assert len(list(series.iterdir())) == 3


def test_folders_of_killed_notebooks_are_removed(tmp_path, monkeypatch):
    import nbformat

    monkeypatch.setattr(execute.tempfile, "tempdir", str(tmp_path))
    during = []
    monkeypatch.setattr(
        "papermill.execute_notebook", lambda *a, **k: during.extend(tmp_path.iterdir())
    )
    left = tmp_path / of_a_dead_process(execute.SCRATCH)
    (left / "ipython").mkdir(parents=True)
    mine = tmp_path / "msgan-notebook-of-mine"
    mine.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    _, error, _ = execute.execute(notebook, tmp_path, tmp_path, {})
    assert error == ""
    assert left not in during
    assert any(p.name.startswith(owned(execute.SCRATCH)) for p in during)
    assert os.listdir(tmp_path) == [mine.name]


# --- twice at once -----------------------------------------------------------------------------

TRAINING = """
import time
from pathlib import Path
from msgan.methods.cascade import fit
from helpers import cohort_in, tiny
def waits(row):
    Path(sys.argv[2], "ready").touch()
    time.sleep(60)
fit(cohort_in(Path(sys.argv[1])), "t2", tiny(), sys.argv[2], device="cpu", scales=[1], report=waits)
"""


@pytest.mark.slow
def test_a_scale_is_trained_by_one_process_at_a_time(tmp_path):
    cohort, out = cohort_in(tmp_path / "data"), tmp_path / "run"
    start = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    command = [sys.executable, "-c", start + TRAINING, str(tmp_path / "data"), str(out)]
    with subprocess.Popen(command) as process:
        try:
            while not (out / "ready").exists():
                assert process.poll() is None
                time.sleep(0.02)
            holder = f"process {process.pid} on {socket.gethostname()}"
            line = f"^{re.escape(f'{out}: scale 1 is being trained by {holder}')}$"
            for scales in (None, [1]):
                with pytest.raises(InputError, match=line):
                    fit(cohort, "t2", tiny(), out, device="cpu", scales=scales)
            # Another scale may be trained at the same time, and the run be read.
            run = fit(cohort, "t2", tiny(), out, device="cpu", scales=[0])
            assert [Run.open(out).finished(i) for i in range(3)] == [True, False, False]
            giver = fit(cohort, "t2", tiny(), tmp_path / "giver", device="cpu", scales=[1])
            with pytest.raises(InputError, match=line):
                reuse_scale(giver, run, 1)
        finally:
            process.kill()
    reuse_scale(giver, run, 1)
    run = fit(cohort, "t2", tiny(), out, device="cpu")
    assert [run.finished(i) for i in range(3)] == [True] * 3
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == []


def test_a_finished_run_asks_for_no_lock(tmp_path, monkeypatch):
    cohort, out = cohort_in(tmp_path / "data"), tmp_path / "run"
    fit(cohort, "t2", tiny(), out, device="cpu")
    monkeypatch.setattr("msgan.runs.run.alone", None)
    run = fit(cohort, "t2", tiny(), out, device="cpu")
    assert run.generator(1)


def test_a_folder_begun_by_several_is_of_one_of_them(tmp_path):
    """Configuration and card are never of two runs, and the others are refused."""
    for attempt in range(10):
        folder, barrier = tmp_path / str(attempt), Barrier(4)

        def begin(k, folder=folder, barrier=barrier):
            run = a_run(folder, config=tiny(2, steps=4 + k))
            barrier.wait()
            try:
                run.create()
            except InputError as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(4) as pool:
            lines = sorted(pool.map(begin, range(4)))
        assert [line.startswith(f"{folder}: holds another run (") for line in lines] == [
            False, True, True, True
        ]  # fmt: skip
        run = Run.open(folder)
        assert json.loads((folder / "run.json").read_text())["key"] == run.key
        assert sorted(os.listdir(folder)) == ["config.yaml", "run.json"]


# --- lines cut short ---------------------------------------------------------------------------


def row(step: int) -> bytes:
    return json.dumps({"scale": 0, "step": step, "l1": 0.5}).encode()


TORN = {
    "a part": b'{"scale": 0, "st',
    "no row": b'{"scale": 0}\n[1]\n7\n{"step": "x"}\nnull\n',
    "zeros": bytes(4000),
    "no text": b"\xff\xfe{\n",
}


@pytest.mark.parametrize("case", TORN)
@pytest.mark.parametrize("where", ["at the end", "in the middle"])
def test_what_is_no_row_of_a_log_takes_no_other_with_it(tmp_path, case, where):
    path = tmp_path / "s0" / LOG
    path.parent.mkdir()
    before, after = row(20) + b"\n", row(40) + b"\n"
    torn = TORN[case]
    middle = torn if torn.endswith(b"\n") else torn + b"\n"
    path.write_bytes(before + after + torn if where == "at the end" else before + middle + after)
    assert [r["step"] for r in rows(path)] == [20, 40]
    followed = Followed(path)
    followed.read()
    assert [r["step"] for r in followed.rows] == [20, 40]
    assert cards._trained(a_run(tmp_path), 0)["step"] == 40
    log = Log(path.parent, 40)
    log.write({"scale": 0, "step": 60, "l1": 0.25})
    log.close()
    assert path.read_bytes().startswith(before + after)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [20, 40, 60]


def test_a_log_without_any_whole_row_is_no_error(tmp_path):
    (tmp_path / "s0").mkdir()
    (tmp_path / "s0" / LOG).write_bytes(bytes(100))
    assert cards._trained(a_run(tmp_path), 0) == {"state": "not finished"}


# --- run folders from elsewhere ----------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path):
    run = a_run(tmp_path / "run")
    run.create()
    (tmp_path / "outside").mkdir()
    for i in range(3):
        (run.folder / f"s{i}").mkdir()
        (run.folder / f"s{i}" / WEIGHTS).write_bytes(b"weights")
    return run


@pytest.mark.parametrize(
    "name", ["run.json", "config.yaml", f"s1/{WEIGHTS}", f"s2/{CHECKPOINT}", "s0"]
)
def test_files_of_a_run_lie_in_its_folder(foreign, tmp_path, name):
    path, other = foreign.folder / name, tmp_path / "outside" / "x"
    if path.exists():
        path.rename(other)
    path.symlink_to(other)
    with pytest.raises(InputError, match=r"leads out of this folder") as refused:
        Run.open(foreign.folder)
    assert str(refused.value).startswith(f"{foreign.folder}: '{name}")
    assert len(str(refused.value).splitlines()) == 1


def test_links_within_a_run_and_to_a_run_are_followed(foreign, tmp_path):
    shutil.rmtree(foreign.folder / "s2")
    (foreign.folder / "s2").symlink_to("s1")
    (tmp_path / "link").symlink_to(foreign.folder)
    assert Run.open(foreign.folder) == foreign
    assert Run.open(tmp_path / "link").config == foreign.config


@pytest.mark.parametrize("name", ["../outside/x", "/etc/hostname", "s0/../../outside/x", "a\0b"])
def test_a_card_names_files_of_its_model_only(foreign, tmp_path, name):
    (tmp_path / "outside" / "x").write_text("x")
    stated = {name: {"sha256": "0" * 64, "bytes": 1}}
    with pytest.raises(InputError, match=r"leads out of this folder") as refused:
        check(foreign.folder, {"files": stated}, [])
    assert len(str(refused.value).splitlines()) == 1
