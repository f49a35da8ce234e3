"""Several notebooks at once, each executed by a process of its own (:mod:`msgan.report.worker`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

from msgan.paths import SCRATCH_ROOT, scratch_root
from msgan.report import run_cache
from msgan.report.run_cache import Run

COMMAND = (sys.executable, "-m", "msgan.report.worker")

THREADS = "OMP_NUM_THREADS"
"""Environment variable: threads of PyTorch and of what else computes."""

MOST = 4
"""Notebooks at a time unless told otherwise: each kernel holds the libraries and its data."""

Name = TypeVar("Name")
Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task:
    """One notebook to execute.

    Attributes:
        folder: Holds the notebook.
        out: Folder of the whole run.
        parameters: Values for its parameter cell.
        run: Its row of the index, with the key under which the result is remembered.
    """

    folder: Path
    out: Path
    parameters: dict[str, object]
    run: Run

    def text(self) -> str:
        """As one line of JSON."""
        stated = {"parameters": self.parameters, "run": asdict(self.run)}
        return json.dumps({"folder": str(self.folder), "out": str(self.out), **stated})

    @classmethod
    def of(cls, text: str) -> Task:
        """What :meth:`text` wrote."""
        known = json.loads(text)
        folder, out = Path(known["folder"]), Path(known["out"])
        return cls(folder, out, known["parameters"], Run(**known["run"]))


def cores() -> int:
    """Cores that this process may use."""
    import joblib

    return int(joblib.cpu_count())


def usual_jobs(preset: str) -> int:
    """Notebooks at a time unless told otherwise.

    Networks of ``smoke`` are too small to keep several cores busy. Of the other presets the tables
    state times, and one notebook may need the whole memory.
    """
    return min(cores(), MOST) if preset == "smoke" else 1


def side_by_side(
    names: Iterable[Name],
    begin: Callable[[Name], Work | None],
    work: Callable[[Work], Result],
    done: Callable[[Result], None],
    jobs: int,
    stop: Callable[[], None],
) -> None:
    """Do some work for each name, several at a time.

    Args:
        names: In the order in which they are begun.
        begin: Called just before the work on a name starts; None where there is none to do.
        work: Called in a thread.
        done: Called with each result, in the order in which they are ready.
        jobs: As many work at a time.
        stop: Ends all work; called after an interruption or an error, which is raised again when
            the work has ended.
    """
    waiting, running = deque(names), set[Future[Result]]()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    if (task := begin(waiting.popleft())) is not None:
                        running.add(pool.submit(work, task))
                ready, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ready:
                    done(future.result())
        except BaseException:
            stop()
            raise


class Processes:
    """Processes that execute notebooks, and end with this one however it ends.

    Args:
        jobs: How many there are at a time; they share the cores.

    Attributes:
        threads: Of each, unless the environment states them.
    """

    def __init__(self, jobs: int) -> None:
        self.threads = os.environ.get(THREADS) or str(max(1, cores() // jobs))
        self._pipes: set[IO[bytes]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def execute(self, task: Task) -> Run:
        """What became of the notebook; it has failed where its process was killed."""
        # Two notebooks may make the same translation at the same time.
        scratch = scratch_root() / f"msgan-{task.run.stem}"
        environment = {**os.environ, THREADS: self.threads, SCRATCH_ROOT: str(scratch)}
        with self._lock:
            if self._stopped:
                return task.run
            # An interruption from the keyboard reaches it through the pipe alone: see `stop`.
            process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,
            )
            pipe = process.stdin
            assert pipe is not None
            self._pipes.add(pipe)
            with suppress(BrokenPipeError):  # it has ended, as its status will tell
                pipe.write(task.text().encode() + b"\n")
        status = process.wait()
        with self._lock:
            self._pipes.discard(pipe)
            pipe.close()
        with suppress(OSError):  # never made, or there is something to go on with
            scratch.rmdir()
        run = run_cache.last(task.out, task.run.stem)
        if status == 0 and run.key == task.run.key:
            return run
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return replace(task.run, status="failed", error=f"its process ended {how}")

    def stop(self) -> None:
        """Let all processes end: a pipe that is closed is an interruption to them."""
        with self._lock:
            self._stopped = True
            for pipe in self._pipes:
                pipe.close()
