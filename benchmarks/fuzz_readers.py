"""Damaged images of every format, opened one after another: none may do worse than one clear line.

Each input is a minimal image with damage drawn from a seed. Workers open it, look at every voxel
and read; they run under a limit of memory, are watched, and are started anew after a crash.

    python benchmarks/fuzz_readers.py
    python benchmarks/fuzz_readers.py --inputs 500 --seed 7 --json /tmp/fuzz.json

An interruption (Ctrl-C) ends it early; what was opened until then is counted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from reader_corpus import damaged, known, write_corpus

LIMIT_S = 10.0
LIMIT_MIB = 1024
LIBRARIES = ("nibabel", "pydicom", "SimpleITK", "tifffile", "zarr", "numcodecs", "pillow", "numpy")
RIGHT = ("opened", "error")
"""Outcomes that may be. The others: exception, output, memory, hang, crash."""


def attempt(path: Path, scratch: Path, labels: bool) -> dict[str, str]:
    """Open ``path``, look at every voxel and read the first ones."""
    from msgan.data.volume import open_labels, open_volume
    from msgan.types import Box, InputError

    try:
        with (open_labels if labels else open_volume)(path, scratch=scratch) as volume:
            start = Box((0,) * volume.grid.dims, tuple(min(n, 64) for n in volume.grid.shape))
            volume.read(start)
        return {"outcome": "opened", "text": str(volume.grid)}
    except InputError as error:
        text = str(error)
        clear = text.startswith(f"{path}: ") and text.isprintable() and len(text) < 1000
        return {"outcome": "error" if clear else "exception", "text": text}
    except BaseException as error:
        return {"outcome": "exception", "text": f"{type(error).__name__}: {error}"[:500]}


def memory_mib(key: str) -> float:
    """``VmHWM`` or ``VmRSS`` of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return 0.0


def work(scratch: Path) -> None:
    """Answer each line, a path, with a line of JSON; what libraries print goes into a file."""
    answers = os.fdopen(os.dup(1), "w")
    noise = scratch / "noise"
    handle = os.open(noise, os.O_CREAT | os.O_RDWR | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    # Not counted as memory or time of the first input.
    for name in (
        "nibabel",
        "pydicom",
        "SimpleITK",
        "tifffile",
        "zarr",
        "PIL.Image",
        "msgan.data.volume",
    ):
        importlib.import_module(name)

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size + 2 * (LIMIT_MIB << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print("ready", file=answers, flush=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that asks
    for line in sys.stdin:
        job = json.loads(line)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, begun = memory_mib("VmRSS"), time.perf_counter()
        answer: dict[str, Any] = attempt(Path(job["path"]), scratch, job["labels"])
        answer["seconds"] = time.perf_counter() - begun
        answer["mib"] = max(0.0, memory_mib("VmHWM") - before)
        sys.stdout.flush()
        if os.fstat(handle).st_size:
            answer.update(outcome="output", text=noise.read_bytes()[:500].decode("latin-1"))
            os.truncate(noise, 0)
        if answer["mib"] > LIMIT_MIB:
            answer["outcome"] = "memory"
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """A process that opens inputs, started anew where one ended it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.process: subprocess.Popen[str] | None = None

    def ask(self, path: Path, labels: bool) -> dict[str, Any]:
        """The outcome of one input, with ``crash`` and ``hang``."""
        if self.process is None:
            command = [sys.executable, __file__, "--work", str(self.scratch)]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            assert self.process.stdout
            self.process.stdout.readline()
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"path": str(path), "labels": labels}) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], LIMIT_S)[0]:
            self.close()
            return {"outcome": "hang", "text": "", "seconds": LIMIT_S, "mib": 0.0}
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.process = None
            return {"outcome": "crash", "text": f"status {code}", "seconds": 0.0, "mib": 0.0}
        return dict(json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


def spoilt(source: Path, target: Path, seed: str) -> None:
    """Copy the folder ``source`` to ``target`` with damage in one of its files."""
    random = Random(seed)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    files = sorted(p for p in target.rglob("*") if p.is_file())
    # Headers are few where voxels are many: text and single files first.
    text = [p for p in files if p.suffix in (".json", ".mhd", ".nhdr", ".hdr") or p.name[0] == "."]
    file = random.choice(text if text and random.random() < 0.7 else files)
    if len(files) > 1 and random.random() < 0.05:
        file.unlink()
    else:
        file.write_bytes(damaged(file.read_bytes(), random))


def run(inputs: int, seed: int, folder: Path) -> dict[str, Any]:
    """Counts of all outcomes, and every input that went wrong."""
    corpus = write_corpus(folder / "corpus")
    scratch = folder / "scratch"
    scratch.mkdir()
    worker, begun = Worker(scratch), time.perf_counter()
    counts: dict[str, Counter[str]] = {}
    wrong: list[dict[str, Any]] = []
    slowest = largest = 0.0
    done = 0

    def look(kind: str, path: Path, name: str, right: tuple[str, ...], labels: bool) -> None:
        nonlocal slowest, largest
        answer = worker.ask(path, labels)
        counts.setdefault(kind, Counter())[answer["outcome"]] += 1
        slowest, largest = max(slowest, answer["seconds"]), max(largest, answer["mib"])
        if answer["outcome"] not in right:
            text = answer["text"].replace(str(folder), "")
            wrong.append({"input": name, "outcome": answer["outcome"], "text": text})
            print(name, answer["outcome"], text[:200], flush=True)

    try:
        for kind, path in corpus.items():
            look(kind, folder / "corpus" / path, f"{kind} as it is", ("opened",), False)
        (folder / "known").mkdir()
        for name in known(folder / "known"):
            look("known", folder / "known" / name, name, ("error",), False)
        kinds = list(corpus)
        for k in range(inputs):
            kind, name = kinds[k % len(kinds)], f"{kinds[k % len(kinds)]} {seed} {k}"
            target = folder / "damaged" / kind
            spoilt(folder / "corpus" / kind, target, name)
            path = target.parent / corpus[kind]
            look(kind, path, name, RIGHT, labels=k // len(kinds) % 4 == 3)
            done += 1
    except KeyboardInterrupt:
        print(f"ended after {done} of {inputs} inputs")
    finally:
        worker.close()
    from msgan.runs.run import git_commit, versions  # not before: workers need no PyTorch

    total = sum(counts.values(), Counter())
    return {
        "inputs": done,
        "seed": seed,
        "outcomes": dict(total),
        "slowest_s": round(slowest, 2),
        "most_mib": round(largest, 1),
        "seconds": round(time.perf_counter() - begun),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions() | {name: version(name) for name in LIBRARIES},
        "git": git_commit(),
        "formats": {kind: dict(count) for kind, count in counts.items()},
        "wrong": wrong,
    }


def main() -> None:
    """Open them all, write the JSON; the status is 1 where one went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/fuzz_readers.json"))
    parser.add_argument("--keep", nargs=2, help="write the input of this NAME into a FOLDER, end")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    with tempfile.TemporaryDirectory(prefix="msgan-fuzz-") as name:
        if options.keep:
            corpus = write_corpus(Path(name))
            kind = options.keep[0].rsplit(" ", 2)[0]
            spoilt(Path(name) / kind, Path(options.keep[1]), options.keep[0])
            print(Path(options.keep[1]) / Path(corpus[kind]).relative_to(kind))
            return
        result = run(options.inputs, options.seed, Path(name))
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(result["outcomes"], f"in {result['seconds']} s")
    sys.exit(bool(result["wrong"]))


if __name__ == "__main__":
    main()
