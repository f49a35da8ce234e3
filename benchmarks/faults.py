"""Commands that are killed, begun twice, short of disk or memory, or find their files damaged.

After each fault the command is given again, and what it leaves is compared with what a run that
nothing disturbed has left: it must be the same to the last byte, with no leftovers beside; or one
clear line must say what is wrong. Before it is given again, no result may lie under its name that
is not whole. Processes are forked from this one, so that a fault costs the work and not the start.

    python benchmarks/faults.py
    python benchmarks/faults.py --kills 20 --stages train translate --json /tmp/faults.json

A full disk needs a small file system, which only root can mount; where it cannot be, that is said.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
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

import yaml

from msgan.paths import write_text
from msgan.runs.run import git_commit, versions

LIMIT_S = 300.0
SIGNALS = (signal.SIGKILL,) * 6 + (signal.SIGINT, signal.SIGTERM)
"""Drawn from at random: most faults are the worst."""

CHANGES = {"seconds", "made", "time", "peak_MiB", "processor_seconds", "wall"}
"""Names of what differs between two undisturbed runs, and is not compared."""

CONFIG: dict[str, Any] = {
    "preparation": {"scales": 1},
    "sketch": {"channels": ["edges"]},
    "contrast": {"share": 0.5, "variants": 1},
    "conditioning": {"generated_share": 1.0},
    "guidance": {"match": "auto", "student": True, "detail": True},
    "network": {
        "lr_width": 4,
        "lr_levels": 2,
        "hr_width": 4,
        "hr_blocks": 1,
        "discriminator_width": 4,
    },
    "training": {
        "steps": 12,
        "lr_steps": 12,
        "batch": 1,
        "patch": 8,
        "validate_every": 4,
        "checkpoint_every": 4,
    },
}


@dataclass(frozen=True)
class Stage:
    """A command that is disturbed.

    Attributes:
        name: Of the row.
        words: The command, given the folder it works in.
        results: What of that folder is compared.
        ready: Puts there what it needs.
    """

    name: str
    words: Callable[[Path], list[str]]
    results: tuple[str, ...]
    ready: Callable[[Path, Path], None]


@dataclass
class Tally:
    """What happened to a stage.

    Attributes:
        seconds: Of a run that nothing disturbs.
        counts: Of each outcome.
        faults: What was not as it must be, in words.
    """

    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def forked(words: list[str], out: Path, limit: int | None = None) -> int:
    """Begin a command in a process of its own; its number.

    Args:
        words: Of ``msgan``.
        out: Where it says what it says.
        limit: Bytes of memory that it may have beside what it holds at the start.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if limit is not None:
            held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
            resource.setrlimit(resource.RLIMIT_AS, (held + limit, held + limit))
        sys.argv = ["msgan", *words]
        from msgan.cli import main

        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def ended(pid: int) -> int:
    """Wait for a process; its exit status, or less than 0 for a signal."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise TimeoutError


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
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()
    values = [json.loads(line) for line in _documents(path)]
    return json.dumps(_timeless(values), sort_keys=True).encode()


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


def stages(data: Path, run: Path) -> list[Stage]:
    """All of them, given phantoms and a trained run that they may use."""

    def nothing(_: Path, __: Path) -> None:
        """Needs nothing."""

    def configured(folder: Path, _: Path) -> None:
        (folder / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))

    manifest, image = data / "manifest.csv", data / "patient000" / "patient000_t1.nii.gz"
    train = ["train", str(manifest), "--target", "t2", "--preset", "smoke", "--resume"]
    sizes = ["--subjects", "2", "--size", "32", "--seed", "3", "--force"]
    return [
        Stage(
            "phantoms",
            lambda f: ["phantom", "brain", str(f / "p"), *sizes],
            ("p/**/*",),
            nothing,
        ),
        Stage(
            "training",
            lambda f: [*train, "--config", str(f / "tiny.yaml"), "--out", str(f / "run")],
            ("run/s*/*.safetensors", "run/match.json", "run/sketches.json", "run/config.yaml"),
            configured,
        ),
        Stage(
            "translation",
            lambda f: ["translate", str(run), str(image), str(f / "t2.nii.gz"), "--tile", "8"],
            ("t2.nii.gz",),
            nothing,
        ),
        Stage(
            "translation to OME-Zarr",
            lambda f: ["translate", str(run), str(image), str(f / "t2.zarr"), "--tile", "8"],
            ("t2.zarr/**/*",),
            nothing,
        ),
        Stage(
            "translation of a cohort",
            lambda f: ["translate", str(run), str(manifest), str(f / "out"), "--modality", "t1"],
            ("out/**/*.nii.gz",),
            nothing,
        ),
        Stage(
            "sketch",
            lambda f: ["sketch", str(image), str(f / "sketch.nii.gz")],
            ("sketch.nii.gz",),
            nothing,
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
        folder = self.fresh()
        start = time.monotonic()
        if ended(self.begin(folder)):
            raise RuntimeError(f"{stage.name}: {said(self.said)[-3:]}")
        self.tally.seconds = time.monotonic() - start
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
        return forked(self.stage.words(folder), said or self.said, limit)

    def note(self, outcome: str, *words: object) -> None:
        """Count an outcome; one that may not be is kept in words."""
        self.tally.counts[outcome] += 1
        if words:
            self.tally.faults.append(f"{outcome}: {' '.join(map(str, words))}"[:500])

    def partial(self, folder: Path) -> list[str]:
        """Files under final names that are not what they will be."""
        there = digest(folder, self.stage.results)
        return [name for name, found in there.items() if found != self.expected.get(name)]

    def again(self, folder: Path, what: str) -> None:
        """Give the command once more, and compare."""
        try:
            status = ended(self.begin(folder))
        except TimeoutError:
            self.note("hang", what)
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

    def killed(self) -> None:
        """End it at a random moment, perhaps a second time, and give it again."""
        folder = self.fresh()
        for _ in range(self.random.choice((1, 1, 2))):
            number = self.random.choice(SIGNALS)
            pid = self.begin(folder)
            time.sleep(self.random.uniform(0, self.tally.seconds))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            status = ended(pid)
            name = signal.Signals(number).name
            self.note(f"{name}: {'ended' if status else 'was done'}")
            if number != signal.SIGKILL and status not in (0, 130, 143, -number):
                self.note("another exit status", name, status, said(self.said)[-2:])
            if any("Traceback" in line for line in said(self.said)):
                self.note("traceback", name, said(self.said)[-2:])
            if self.stage.name != "training" and (left := self.partial(folder)):
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
        clear = [line for line in lines if line.startswith("error: ")]
        if status == 0:
            self.note(f"short of {what}: done")
        elif status == 2 and len(clear) == 1:
            self.note(f"short of {what}: one clear line")
        else:
            self.note(f"short of {what}", status, lines[-3:])
        if self.stage.name != "training" and (left := self.partial(folder)):
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


def prepared(root: Path) -> tuple[Path, Path]:
    """Phantoms and a trained run."""
    data, run, out = root / "data", root / "run", root / "said.txt"
    config = root / "tiny.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    trained = ["--target", "t2", "--out", str(run), "--config", str(config)]
    for words in (
        ["phantom", "brain", str(data), "--subjects", "2", "--size", "32"],
        ["train", str(data / "manifest.csv"), *trained],
    ):
        if status := ended(forked(words, out)):
            raise RuntimeError(f"{' '.join(words)}: {status}: {said(out)[-3:]}")
    return data, run


def main() -> None:
    """Disturb every stage, print and keep the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--kills", type=int, default=40, help="faults by signals, of each stage")
    add("--others", type=int, default=6, help="faults of each other kind, of each stage")
    add("--stages", nargs="+", help="default: all")
    add("--seed", type=int, default=0)
    add("--json", type=Path, default=Path("benchmarks/faults.json"))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    import msgan.cli.train
    import msgan.cli.translate  # noqa: F401

    torch.set_num_threads(1)
    random, rows = Random(options.seed), {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for stage in stages(*prepared(root)):
            if options.stages and stage.name not in options.stages:
                continue
            bench = Bench(stage, root, random)
            for _ in range(options.kills):
                bench.killed()
            kinds = [bench.twice, bench.damaged, bench.short_of_memory, bench.short_of_disk]
            for kind in kinds:
                for _ in range(options.others):
                    kind()
            tally = bench.tally
            rows[stage.name] = {
                "seconds": tally.seconds,
                "counts": dict(sorted(tally.counts.items())),
                "faults": tally.faults,
            }
            print(stage.name, json.dumps(rows[stage.name], indent=1), flush=True)
    counts: Counter[str] = Counter()
    for row in rows.values():
        counts.update(row["counts"])
    report = {
        "what": "commands disturbed, then given again",
        "signals": sum(v for k, v in counts.items() if k.startswith("SIG") and k.endswith("ended")),
        "not as it must be": sum(len(row["faults"]) for row in rows.values()),
        "counts": dict(sorted(counts.items())),
        "stages": rows,
        "seed": options.seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
        "git": git_commit(),
    }
    write_text(options.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
