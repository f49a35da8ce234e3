"""Commands that are killed, begun twice, short of disk or memory, or find their files damaged.

After each fault the command is given again, and what it leaves is compared with what a run that
nothing disturbed has left: it must be the same to the last byte, with no leftovers beside; or one
clear line must say what is wrong. Before it is given again, no result may lie under its name that
is not whole, and no process may go on that it has begun. Processes are forked from this one, so
that a fault costs the work and not the start; of a dask cluster a worker is killed, and the command
must end as if nothing had been.

    python benchmarks/faults.py
    python benchmarks/faults.py --kills 20 --stages training sketch --json /tmp/faults.json

Stages take turns, so that an interruption (Ctrl-C), or ``--minutes``, leaves some of each. A full
disk needs a small file system, which only root can mount; where it cannot be, that is said.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import importlib
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil
import yaml

from msgan.paths import write_text
from msgan.runs.run import git_commit, versions

LIMIT_S = 240.0
"""Seconds after which a command hangs: none takes more than 10, but the machine may have more to
do."""

CRASHES = (-signal.SIGSEGV, -signal.SIGABRT)
"""Exit statuses of libraries that do not ask whether there is memory; what is lost is looked at all
the same."""

HANG = 124
"""Stands for the exit status of a command that hung."""

SAYS_WHERE_S = 2.0
"""Seconds that it has to say where."""

ORPHANS_S = 30.0
"""Seconds that processes begun by one that was killed may take to notice it."""

SIDE = 16
"""Voxels of the phantoms along each axis."""

SIGNALS = (signal.SIGKILL,) * 6 + (signal.SIGINT, signal.SIGTERM)
"""Drawn from at random: most faults are the worst."""

CHANGES = {"seconds", "made", "time", "peak_MiB", "processor_seconds", "wall", "date", "waited"}
"""Names of what differs between two undisturbed runs, and is not compared."""

LOADED = (
    "msgan",
    "torch",
    "scipy",
    "skimage",
    "zarr",
    "nibabel",
    "pandas",
    "SimpleITK",
    "numcodecs",
)
"""Packages that are loaded before processes are forked; loading them begins no threads."""

UNTRAINED = ("phantoms", "training", "sketch", "notebook runner")
"""Stages that need no trained run."""

CONFIG: dict[str, Any] = {
    "preparation": {"scales": 1},
    "sketch": {"channels": ["edges"]},
    "contrast": {"share": 0.5, "variants": 1},
    "conditioning": {"generated_share": 1.0},
    "guidance": {"match": "auto", "student": False, "detail": True},
    "network": {
        "lr_width": 4,
        "lr_levels": 2,
        "hr_width": 4,
        "hr_blocks": 1,
        "discriminator_width": 4,
    },
    "training": {
        "steps": 6,
        "lr_steps": 6,
        "batch": 1,
        "patch": 8,
        "validate_every": 2,
        "checkpoint_every": 2,
    },
}


NOTEBOOK = """
import csv
import numpy as np
from msgan.report import results_folder, write_results
folder = results_folder("01_sums", preset)
sums = np.random.default_rng(3).random((40, 3)).cumsum(axis=0)
with open(folder / "sums.csv", "w", newline="") as stream:
    csv.writer(stream).writerows(sums.tolist())
write_results(folder, {"sum": float(sums[-1, 0])})
"""

Work = Callable[[], object]


@dataclass(frozen=True)
class Stage:
    """A command that is disturbed.

    Attributes:
        name: Of the row.
        work: What is done, given the folder it works in.
        results: What of that folder is compared.
        ready: Puts there what it needs.
        resumes: What it leaves unfinished under final names is gone on with, as of a training.
        workers: It begins workers of a cluster; they are killed, and not the command.
        every: It has one in so many of the kills, as it takes long.
        many: It works on several images, and says a line of each that fails.
    """

    name: str
    work: Callable[[Path], Work]
    results: tuple[str, ...]
    ready: Callable[[Path, Path], None]
    resumes: bool = False
    workers: bool = False
    every: int = 1
    many: bool = False


@dataclass
class Tally:
    """What happened to a stage.

    Attributes:
        seconds: Of a run that nothing disturbs.
        processor_seconds: The same, of this and its ended children.
        counts: Of each outcome.
        faults: What was not as it must be, in words.
    """

    seconds: float = 0.0
    processor_seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def command(*words: object) -> Work:
    """A command of ``msgan``; libraries are loaded, and any address limit is taken as it is."""

    def work() -> None:
        from msgan import start
        from msgan.cli.program import run

        sys.argv = ["msgan", *map(str, words)]
        start.listen()
        run()

    return work


def forked(work: Work, out: Path, limit: int | None = None) -> int:
    """Begin some work in a process of its own; its number.

    Args:
        work: What is done; a number that it returns is the exit status.
        out: Where it says what it says.
        limit: Bytes of memory that it may have beside what it holds at the start.
    """
    pid = os.fork()
    if pid:
        return pid
    status: object = 70
    try:
        os.setsid()
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        faulthandler.enable(file=2)
        faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
        if limit is not None:
            held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
            resource.setrlimit(resource.RLIMIT_AS, (held + limit, held + limit))
        status = said_in_a_line(work)
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        if status in (None, 0):
            with contextlib.suppress(OSError):
                out.with_suffix(".modules").write_text("\n".join(tuple(sys.modules)))
        os._exit(status if isinstance(status, int) else 0)


def said_in_a_line(work: Work) -> object:
    """What the work returns; an error with a cause outside the program is one line, status 2."""
    from msgan.cli.faults import explanation

    try:
        return work()
    except Exception as error:
        if (text := explanation(error)) is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return 2


def ended(pid: int) -> int:
    """Wait for a process; its exit status, less than 0 for a signal, or :data:`HANG`.

    A process that hangs says first where.
    """
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGUSR1)
    time.sleep(SAYS_WHERE_S)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return HANG


def said(out: Path) -> list[str]:
    """Lines of what a command said, without progress."""
    text = out.read_text(errors="replace").replace("\r", "\n")
    return [line for line in text.splitlines() if line.strip()]


def digest(folder: Path, results: tuple[str, ...]) -> dict[str, str]:
    """A hash of each file that is compared; of JSON without what differs each time."""
    found = {}
    for pattern in results:
        for path in sorted(folder.glob(pattern)):
            if path.is_file():
                found[str(path.relative_to(folder))] = hashlib.sha256(_content(path)).hexdigest()
    return found


def _content(path: Path) -> bytes:
    if path.suffix == ".safetensors":
        return _weights(path)
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()
    values = [json.loads(line) for line in _documents(path)]
    return json.dumps(_timeless(values), sort_keys=True).encode()


def _weights(path: Path) -> bytes:
    """Tensors, and what the header says beside the time that the training took."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        about = json.loads((file.metadata() or {}).get("about", "{}"))
        timeless = json.dumps(_timeless(about), sort_keys=True).encode()
        tensors = [name.encode() + file.get_tensor(name).tobytes() for name in sorted(file.keys())]
    return b"".join([timeless, *tensors])


def _documents(path: Path) -> list[str]:
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in CHANGES}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def leftovers(folder: Path, scratch: Path) -> list[str]:
    """What a finished command leaves that is no result: parts, locks, scratch."""
    hidden = [p for p in folder.rglob(".*") if not p.name.endswith(".lock")]
    return sorted(str(p.name) for p in (*hidden, *scratch.glob("*"), *scratch.glob(".*")))


def nothing(_: Path, __: Path) -> None:
    """Needs nothing."""


def configured(folder: Path, _: Path) -> None:
    """A configuration of tiny networks."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))


def with_notebook(folder: Path, _: Path) -> None:
    """A folder of one notebook with a table."""
    import nbformat

    new = nbformat.v4
    parameters = new.new_code_cell('preset = "smoke"', metadata={"tags": ["parameters"]})
    cells = [new.new_markdown_cell("# Sums"), parameters, new.new_code_cell(NOTEBOOK.strip())]
    for k, cell in enumerate(cells):
        cell["id"] = str(k)
    (folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(new.new_notebook(cells=cells), folder / "notebooks" / "01_sums.ipynb")


def study(folder: Path, run: Path, manifest: Path) -> None:
    """A cross-validation of two folds by a trained cascade and a baseline, and its table."""
    from msgan.data.cohort import Cohort
    from msgan.methods.baselines import Source
    from msgan.methods.trained import Cascade
    from msgan.runs.run import Run
    from msgan.studies.crossval import Fitted, cross_validate, folds_of

    trained, cohort = Run.open(run), Cohort.from_manifest(manifest, manifest.parent)
    source = Source.fit(cohort, "t1", "t2", trained.config)
    fitted = Fitted({"cascade": Cascade(trained, "cpu"), "source": source}, trained.intensity)
    table = cross_validate(
        folds_of(cohort, 2),
        lambda fold, modality: fitted,
        [("t1", "t2")],
        trained.config.preparation,
        folder / "study",
    )
    write_text(folder / "table.csv", table.drop(columns="seconds").to_csv(index=False))


def on_a_cluster(run: Path, image: Path, folder: Path) -> int:
    """A translation by two workers of a cluster; one is killed while it runs.

    The moment is in the environment variable ``FAULTS_KILL_AFTER``, seconds; empty: none is.
    """
    import threading

    import distributed

    moment = os.environ.get("FAULTS_KILL_AFTER", "")
    words = ["translate", run, image, folder / "t2.nii.gz", "--tile", "8", "--cluster"]
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:

        def kill() -> None:
            time.sleep(float(moment))
            pid = next(iter(cluster.workers.values())).process.pid
            os.kill(pid, signal.SIGKILL)
            print("killed a worker", flush=True)

        if moment:
            threading.Thread(target=kill, daemon=True).start()
        try:
            command(*words, cluster.scheduler_address)()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def stages(data: Path, run: Path) -> list[Stage]:
    """All of them, given phantoms and a trained run that they may use."""
    from msgan.report.command import main as notebooks

    manifest, image = data / "manifest.csv", data / "patient000" / "patient000_t1.nii.gz"
    train = ["train", manifest, "--target", "t2", "--preset", "smoke", "--resume"]
    sizes = ["--subjects", "1", "--size", "16", "--seed", "3", "--force"]
    runner = ["run", "--preset", "smoke", "--jobs", "1"]

    def translated(out: str, *words: object) -> Callable[[Path], Work]:
        source = manifest if words else image
        return lambda f: command("translate", run, source, f / out, *(words or ("--tile", 8)))

    return [
        Stage(
            "phantoms",
            lambda f: command("phantom", "thorax", f / "p", *sizes),
            ("p/**/*",),
            nothing,
        ),
        Stage(
            "training",
            lambda f: command(*train, "--config", f / "tiny.yaml", "--out", f / "run"),
            ("run/s*/*.safetensors", "run/match.json", "run/sketches.json", "run/config.yaml"),
            configured,
            resumes=True,
            every=2,
        ),
        Stage("translation", translated("t2.nii.gz"), ("t2.nii.gz",), nothing),
        Stage("translation to OME-Zarr", translated("t2.zarr"), ("t2.zarr/**/*",), nothing),
        Stage(
            "translation of a cohort",
            translated("out", "--modality", "t1"),
            ("out/**/*.nii.gz",),
            nothing,
            every=2,
            many=True,
        ),
        Stage(
            "sketch",
            lambda f: command("sketch", image, f / "sketch.nii.gz"),
            ("sketch.nii.gz",),
            nothing,
        ),
        Stage(
            "study",
            lambda f: lambda: study(f, run, manifest),
            ("study/**/*.nii", "table.csv"),
            nothing,
            every=2,
        ),
        Stage(
            "notebook runner",
            lambda f: (
                lambda: notebooks(
                    [*runner, "--folder", str(f / "notebooks"), "--out", str(f / "out")]
                )
            ),
            ("out/01_sums/*.csv", "out/01_sums/card.json"),
            with_notebook,
            resumes=True,  # the notebook writes its tables itself
            every=4,
        ),
        Stage(
            "translation by dask workers",
            lambda f: lambda: on_a_cluster(run, image, f),
            ("t2.nii.gz",),
            nothing,
            workers=True,
            every=10,
        ),
    ]


class Bench:
    """One stage, disturbed in many ways.

    Args:
        stage: The command.
        root: Folder for all of it.
        random: Draws moments and signals.
    """

    def __init__(self, stage: Stage, root: Path, random: Random) -> None:
        self.stage, self.random, self.tally = stage, random, Tally()
        self.root = root / stage.name.replace(" ", "-")
        self.said = self.root / "said.txt"
        self.scratch = self.root / "scratch"
        self.count = 0
        self.undisturbed()
        known = self.said.with_suffix(".modules").read_text().splitlines()
        for name in known:  # loaded once and for all; no process loads them again
            if name.startswith(LOADED):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        first = self.expected
        self.undisturbed()
        if self.expected != first:
            raise RuntimeError(f"{stage.name}: two undisturbed runs differ")

    def undisturbed(self) -> None:
        """What the work leaves where nothing happens, and how long it takes."""
        stage, folder = self.stage, self.fresh()
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        if ended(self.begin(folder)):
            raise RuntimeError(f"{stage.name}: {said(self.said)[-3:]}")
        self.tally.seconds = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.tally.processor_seconds = (
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        )
        self.expected = digest(folder, stage.results)
        if not self.expected:
            raise RuntimeError(f"{stage.name}: left nothing")
        self.usual = leftovers(folder, self.scratch)
        shutil.rmtree(folder)

    def fresh(self) -> Path:
        """A folder with what the command needs."""
        self.count += 1
        folder = self.root / f"{self.count}"
        folder.mkdir(parents=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        os.environ["MSGAN_SCRATCH"] = str(self.scratch)
        self.stage.ready(folder, self.root)
        return folder

    def begin(self, folder: Path, limit: int | None = None, said: Path | None = None) -> int:
        """The command in a process of its own."""
        return forked(self.stage.work(folder), said or self.said, limit)

    def note(self, outcome: str, *words: object) -> None:
        """Count an outcome; one that may not be is kept in words."""
        self.tally.counts[outcome] += 1
        if words:
            self.tally.faults.append(f"{outcome}: {' '.join(map(str, words))}"[:2000])

    def partial(self, folder: Path) -> list[str]:
        """Files under final names that are not what they will be."""
        there = digest(folder, self.stage.results)
        whole = {name: found for name, found in there.items() if "/." not in f"/{name}"}
        return [name for name, found in whole.items() if found != self.expected.get(name)]

    def again(self, folder: Path, what: str) -> None:
        """Give the command once more, and compare."""
        status = ended(self.begin(folder))
        if status == HANG:
            self.note("hang", what, said(self.said)[-40:])
            return
        there = any("is there already" in line for line in said(self.said))
        if status and there and digest(folder, self.stage.results) == self.expected:
            self.note(f"{what}: done before, not replaced")
        elif status:
            self.note("not repeated", what, status, said(self.said)[-2:])
        elif digest(folder, self.stage.results) != self.expected:
            self.note("another result", what)
        elif (left := leftovers(folder, self.scratch)) != self.usual:
            self.note("leftovers", what, left)
        else:
            self.note(f"{what}: the same")

    def worker_killed(self) -> None:
        """End a worker of its cluster at a random moment; it goes on, or is given again."""
        folder = self.fresh()
        moment = self.random.uniform(0, self.tally.seconds)
        os.environ["FAULTS_KILL_AFTER"] = f"{moment:.3f}"
        try:
            status = ended(self.begin(folder))
        finally:
            os.environ["FAULTS_KILL_AFTER"] = ""
        lines = said(self.said)
        hit = "killed a worker" in lines
        self.note(f"SIGKILL: {'ended' if hit else 'was done'}")
        if status or any("Traceback" in line for line in lines):
            self.note("another exit status", "of a killed worker", status, lines[-3:])
        elif digest(folder, self.stage.results) != self.expected:
            self.note("another result", "of a killed worker")
        else:
            self.note("after a killed worker: the same")
        shutil.rmtree(folder)

    def killed(self) -> None:
        """End it at a random moment, perhaps a second time, and give it again."""
        if self.stage.workers:
            self.worker_killed()
            return
        folder = self.fresh()
        for before in range(self.random.choice((1, 1, 2))):
            number = self.random.choice(SIGNALS)
            pid = self.begin(folder)
            time.sleep(self.random.uniform(0, self.tally.seconds))
            begun = psutil.Process(pid).children(recursive=True)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            status = ended(pid)
            if alive := psutil.wait_procs(begun, timeout=ORPHANS_S)[1]:
                self.note("processes go on", len(alive))
            name = signal.Signals(number).name
            lines = said(self.said)
            # After a first signal that came too late the result is there, and is not replaced.
            there = before and status == 2 and any("is there already" in line for line in lines)
            done = not status or (there and digest(folder, self.stage.results) == self.expected)
            self.note(f"{name}: {'was done' if done else 'ended'}")
            if not (done or number == signal.SIGKILL or status in (130, 143, -number)):
                self.note("another exit status", name, status, lines[-2:])
            if any("Traceback" in line for line in lines):
                self.note("traceback", name, lines[-2:])
            if not self.stage.resumes and (left := self.partial(folder)):
                self.note("half-written", name, left)
        self.again(folder, "after kills")
        shutil.rmtree(folder)

    def twice(self) -> None:
        """Begin it twice at once: one of them may be refused."""
        folder, other = self.fresh(), self.root / "other.txt"
        pids = [self.begin(folder), self.begin(folder, said=other)]
        statuses = [ended(pid) for pid in pids]
        lines = [said(self.said), said(other)]
        for status, line in zip(statuses, lines, strict=True):
            if status not in (0, 2) or any("Traceback" in one for one in line):
                self.note("two at once", status, line[-2:])
        self.note(f"two at once: {sum(s == 0 for s in statuses)} done")
        self.again(folder, "after two at once")
        shutil.rmtree(folder)

    def damaged(self) -> None:
        """Cut a file of an interrupted or finished work short, or remove it."""
        folder = self.fresh()
        pid = self.begin(folder)
        time.sleep(self.random.uniform(0.3, 1) * self.tally.seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        ended(pid)
        files = [p for p in (*folder.rglob("*"), *self.scratch.rglob("*")) if p.is_file()]
        files = [p for p in files if p.name != "tiny.yaml" and p.stat().st_size]
        if not files:
            self.note("damaged: nothing was there")
            shutil.rmtree(folder)
            return
        victim = self.random.choice(files)
        cut = self.random.random() < 0.5
        if cut:
            os.truncate(victim, victim.stat().st_size // 2)
        else:
            victim.unlink()
        what = f"{'cut' if cut else 'removed'} {victim.name}"
        status = ended(self.begin(folder))
        lines = said(self.said)
        if any("Traceback" in line for line in lines):
            self.note("traceback", what, lines[-2:])
        elif status == 2:
            clear = [line for line in lines if line.startswith("error: ")]
            self.note(
                "damaged: one clear line" if len(clear) == 1 else "no clear line",
                *(() if len(clear) == 1 else (what, lines[-3:])),
            )
        elif status:
            self.note("another exit status", what, status, lines[-2:])
        elif digest(folder, self.stage.results) == self.expected:
            self.note("damaged: the same")
        else:
            self.note("another result", what)
        shutil.rmtree(folder)

    def short_of_memory(self) -> None:
        """Less memory than it needs: done, or one clear line."""
        folder = self.fresh()
        status = ended(self.begin(folder, limit=self.random.randrange(1 << 20, 200 << 20)))
        self._refused(folder, status, "memory")
        self.again(folder, "after memory")
        shutil.rmtree(folder)

    def short_of_disk(self) -> None:
        """A file system that is full before it is done: one clear line, then done elsewhere."""
        folder = self.fresh()
        with small_disk(folder, self.random.randrange(16, 400) << 10) as mounted:
            if not mounted:
                self.note("full disk: cannot be mounted here")
                shutil.rmtree(folder)
                return
            self.stage.ready(folder, self.root)
            self._refused(folder, ended(self.begin(folder)), "disk")
        self.stage.ready(folder, self.root)
        self.again(folder, "after a full disk")
        shutil.rmtree(folder)

    def _refused(self, folder: Path, status: int, what: str) -> None:
        lines = said(self.said)
        # A notebook of which the kernel was refused memory has failed, and is named with the error.
        begins = {1: "failed: ", 2: "error: "}.get(status, "error: ")
        clear = [line for line in lines if line.startswith(begins)]
        each = self.stage.many and len(clear) > 1 and not any("Traceback" in x for x in lines)
        if status == HANG:
            self.note("hang", what, lines[-40:])
        elif status == 0:
            self.note(f"short of {what}: done")
        elif status in (1, 2) and (each or len(clear) == 1):
            self.note(f"short of {what}: one clear line")
        elif status in CRASHES and what == "memory":
            self.note("short of memory: a library crashed")
            print(f"{self.stage.name}: {signal.Signals(-status).name}: {lines[:12]}", flush=True)
        else:
            self.note(f"short of {what}", status, lines[-3:])
        if not self.stage.resumes and (left := self.partial(folder)):
            self.note("half-written", what, left)


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A file system of so many bytes in the place of a folder, if it can be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def prepared(root: Path, train: bool) -> tuple[Path, Path]:
    """Phantoms and a trained run; without one where no stage needs it."""
    data, run, out = root / "data", root / "run", root / "said.txt"
    config = root / "tiny.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    trained = ["--target", "t2", "--out", run, "--config", config]
    commands: list[list[object]] = [["phantom", "brain", data, "--subjects", 2, "--size", SIDE]]
    commands += [["train", data / "manifest.csv", *trained]] if train else []
    for words in commands:
        if status := ended(forked(command(*words), out)):
            raise RuntimeError(f"{words}: {status}: {said(out)[-3:]}")
    return data, run


def summary(benches: list[Bench], seed: int) -> dict[str, Any]:
    """What is kept: counts of all stages and of each, and every fault in words."""
    rows = {
        bench.stage.name: {
            "seconds": round(bench.tally.seconds, 2),
            "processor_seconds": round(bench.tally.processor_seconds, 2),
            **kinds(bench.tally),
            "counts": dict(sorted(bench.tally.counts.items())),
            "faults": bench.tally.faults,
        }
        for bench in benches
    }
    counts: Counter[str] = Counter()
    for bench in benches:
        counts.update(bench.tally.counts)
    total = Tally(counts=counts, faults=[f for bench in benches for f in bench.tally.faults])
    return {
        "what": "commands disturbed, then given again",
        "counts": dict(sorted(counts.items())),
        "stages": {**rows, "all": kinds(total)},
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
        "git": git_commit(),
    }


def kinds(tally: Tally) -> dict[str, int]:
    """How many faults of each kind there were, and what was not as it must be.

    ``signals`` counts those sent, ``kills`` those that found the command still at work.
    """

    def of(*beginnings: str) -> int:
        return sum(n for name, n in tally.counts.items() if name.startswith(beginnings))

    return {
        "signals": of("SIG"),
        "kills": sum(n for name, n in tally.counts.items() if name.endswith(": ended")),
        "two at once": of("two at once: "),
        "damaged": of("damaged: "),
        "memory": of("short of memory: "),
        "disk": of("short of disk: "),
        "wrong": len(tally.faults),
    }


def disturb(benches: list[Bench], kills: int, others: int, minutes: float) -> None:
    """All faults, stages by turns, until all are done or the time is over."""
    end = time.monotonic() + 60 * minutes
    turns = [b.killed for k in range(kills) for b in benches if k % b.stage.every == 0]
    for _ in range(others):
        for bench in (b for b in benches if not b.stage.workers):
            turns += [bench.twice, bench.damaged, bench.short_of_memory, bench.short_of_disk]
    # Not all of a kind one after the other: what is left out for want of time is left out evenly.
    Random(0).shuffle(turns)
    for turn in turns:
        if time.monotonic() > end:
            print("the time is over")
            return
        turn()


def main() -> None:
    """Disturb every stage, print and keep the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--kills", type=int, default=40, help="by signals, of each stage; fewer of long ones")
    add("--others", type=int, default=3, help="faults of each other kind, of each stage")
    add("--minutes", type=float, default=1e6, help="leave out what does not fit")
    add("--stages", nargs="+", help="default: all")
    add("--seed", type=int, default=0)
    add("--json", type=Path, default=Path("benchmarks/faults.json"))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    import msgan.cli.program
    import msgan.methods.cascade
    import msgan.translate  # noqa: F401
    from msgan.phantoms import brain

    torch.set_num_threads(1)
    brain.WORKING = SIDE  # heads of the harness need no fine structure
    with tempfile.TemporaryDirectory() as name:
        root, random = Path(name), Random(options.seed)
        train = bool(set(options.stages or ["translation"]) - set(UNTRAINED))
        every = stages(*prepared(root, train))
        chosen = [s for s in every if s.name in (options.stages or [s.name])]
        benches = []
        for stage in chosen:
            benches.append(Bench(stage, root, random))
            print(f"{stage.name}: {benches[-1].tally.processor_seconds:.2f} s", flush=True)
        try:
            disturb(benches, options.kills, options.others, options.minutes)
        except KeyboardInterrupt:
            print("interrupted")
        finally:  # what was counted is kept, whatever comes
            report = summary(benches, options.seed)
            write_text(options.json, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["stages"], indent=1))


if __name__ == "__main__":
    main()
