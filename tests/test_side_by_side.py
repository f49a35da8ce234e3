"""Several notebooks at once: their order, their number, and processes that are killed."""

import os
import signal
import threading
from pathlib import Path

import nbformat
import pytest

from msgan.report import run_notebooks, runner, side_by_side
from msgan.report.run_cache import Run, remember
from msgan.report.side_by_side import Processes, Task
from msgan.types import InputError


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Four notebooks, the first of which waits for the others."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for k in range(4):
        tags = ["parameters", runner.LAST] if k == 0 else ["parameters"]
        cell = nbformat.v4.new_code_cell("preset = 'smoke'", metadata={"tags": tags})
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / f"0{k}_a.ipynb")
    return folder


class Fake(Processes):
    """Each notebook passes; none before there have been two at a time."""

    most = 0
    begun: list[str]
    two = threading.Event()

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        Fake.most, Fake.begun = 0, []
        self._now = 0

    def execute(self, task: Task) -> Run:
        with self._lock:
            Fake.begun.append(task.run.stem)
            self._now += 1
            Fake.most = max(Fake.most, self._now)
            if self._now == 2:
                self.two.set()
        assert self.two.wait(60)
        with self._lock:
            self._now -= 1
        run = Run(task.run.stem, "passed", task.run.key, 1.0, finished="2026-01-01T00:00:00+00:00")
        for suffix in (".html", ".ipynb"):
            (task.out / f"{run.stem}{suffix}").write_text("{}")
        remember(task.out, run)
        return run


def test_as_many_as_told_and_the_longest_first(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "Processes", Fake)
    out, lines = book.parent / "out", list[str]()
    runs = run_notebooks(book, out, "smoke", jobs=2, say=lines.append)
    assert [(run.stem, run.status) for run in runs] == [(f"0{k}_a", "passed") for k in range(4)]
    assert Fake.most == 2
    assert Fake.begun == ["03_a", "02_a", "01_a", "00_a"]
    assert lines[0].startswith("2 notebooks at a time, threads of each: ")
    assert lines[-1].endswith("00_a")
    assert "4 passed" in (out / "index.html").read_text()

    remember(out, Run("01_a", "failed", "key", 9.0))
    (book / "03_a.ipynb").write_text((book / "03_a.ipynb").read_text().replace("smoke", "small"))
    runs = run_notebooks(book, out, "smoke", jobs=2, say=str)
    assert Fake.begun == ["01_a", "03_a"]
    assert [run.status for run in runs] == ["unchanged", "passed", "unchanged", "passed"]


def test_one_at_a_time_keeps_the_order(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def run_one(task: Task) -> Run:
        begun.append(task.run.stem)
        return task.run

    monkeypatch.setattr(runner, "run_one", run_one)
    run_notebooks(book, book.parent / "out", "smoke", say=str)
    assert begun == ["01_a", "02_a", "03_a", "00_a"]


def test_a_fault_ends_what_runs_before_it_is_told() -> None:
    stopped = threading.Event()

    def work(name: str) -> str:
        if name == "bad":
            raise OSError("full")
        assert stopped.wait(10)
        return name

    done: list[str] = []
    with pytest.raises(OSError, match="full"):
        side_by_side.side_by_side(("slow", "bad", "late"), str, work, done.append, 2, stopped.set)
    assert done == []


def test_a_process_that_dies_is_a_failure_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(tmp_path, tmp_path, {"seed": 7}, Run("01_a", "running", "key"))
    assert Task.of(task.text()) == task
    for command, error in (
        (("sh", "-c", "kill -9 $$"), f"its process ended by signal {signal.SIGKILL}"),
        (("sh", "-c", "exit 3"), "its process ended with status 3"),
        (("sh", "-c", "true"), "its process ended with status 0"),
    ):
        monkeypatch.setattr(side_by_side, "COMMAND", command)
        run = Processes(2).execute(task)
        assert (run.status, run.error) == ("failed", error)


def test_processes_share_the_cores_and_have_scratch_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(side_by_side.THREADS, raising=False)
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path))
    monkeypatch.setattr(side_by_side, "cores", lambda: 8)
    assert Processes(3).threads == "2"
    assert Processes(9).threads == "1"
    command = ("sh", "-c", f"echo $OMP_NUM_THREADS $MSGAN_SCRATCH >{tmp_path}/told")
    monkeypatch.setattr(side_by_side, "COMMAND", command)
    Processes(2).execute(Task(tmp_path, tmp_path, {}, Run("01_a", "running")))
    assert (tmp_path / "told").read_text().split() == ["4", f"{tmp_path}/msgan-01_a"]
    monkeypatch.setenv(side_by_side.THREADS, "3")
    assert Processes(2).threads == "3"


def test_what_is_stopped_begins_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "COMMAND", ("sh", "-c", f"touch {tmp_path}/begun"))
    processes = Processes(1)
    processes.stop()
    task = Task(tmp_path, tmp_path, {}, Run("01_a", "running"))
    assert processes.execute(task) == task.run
    assert os.listdir(tmp_path) == []


def test_only_smoke_runs_several_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, jobs in ((1, 1), (2, 2), (64, 4)):
        monkeypatch.setattr(side_by_side, "cores", lambda found=found: found)
        assert side_by_side.usual_jobs("smoke") == jobs
        assert side_by_side.usual_jobs("small") == 1


def test_no_notebook_at_a_time_is_refused(book: Path) -> None:
    with pytest.raises(InputError, match=r"^0 notebooks at a time: expected at least 1$"):
        run_notebooks(book, book.parent / "out", "smoke", jobs=0)
