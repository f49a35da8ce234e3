"""Programs that are ended, or have too little memory, before they have begun: one line."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msgan import start
from msgan.cli.faults import explanation

PROGRAMS = {
    "msgan": "msgan.cli",
    "notebooks": "msgan.report",
    "one notebook": "msgan.report.worker",
}

STOPPED = "interrupted: run the same command again\n"

HELD = """
import builtins, runpy, sys, time

load = builtins.__import__
library, module = sys.argv[1:3]

def slow(name, *rest, **more):
    if name == library:
        print("loading", flush=True)
        time.sleep(60)
    return load(name, *rest, **more)

builtins.__import__ = slow
sys.argv = ["program", *sys.argv[3:]]
runpy.run_module(module, run_name="__main__")
"""
"""A program that waits where it loads a library."""


def listen() -> None:  # a shell lets what it starts in the background ignore SIGINT
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(library: str, module: str, *words: str, number: int) -> tuple[int, str]:
    """Status and stderr of a program that a signal reaches while it loads a library."""
    command = [sys.executable, "-c", HELD, library, module, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE}
    with subprocess.Popen(command, text=True, preexec_fn=listen, **pipes) as process:
        try:
            assert process.stdout.readline() == "loading\n"
            process.send_signal(number)
            return process.wait(timeout=30), process.stderr.read()
        finally:
            process.kill()


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", PROGRAMS.values(), ids=PROGRAMS)
def test_a_signal_while_libraries_load_is_one_line(module, number):
    library = {"msgan.cli": "typer", "msgan.report": "msgan.presets"}.get(module, "msgan.paths")
    assert ended(library, module, number=number) == (
        130,
        "interrupted: run the same command again\n",
    )


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_command_loads_its_libraries_is_one_line(tmp_path, number):
    source = tmp_path / "x.nii"
    source.touch()  # one that is not there is refused before anything is loaded
    words = ("sketch", str(source), str(tmp_path / "y.nii"))
    said = ended("torch", "msgan.cli", *words, number=number)
    assert said == (130, STOPPED)


@pytest.mark.usefixtures("without_coverage")
def test_other_processes_of_a_cluster_are_silent(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert ended("typer", "msgan.cli", number=signal.SIGTERM) == (130, "")


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.parametrize("module", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("mib", [40, 500, 1000])
def test_too_little_memory_for_the_libraries_is_one_line(module, mib):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))

    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: this machine is out of memory: ")
    assert line.endswith(f"{mib} MiB are allowed, at least 1024 are needed")


SHORT = [
    MemoryError(),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    OSError("libgomp.so.1: failed to map segment from shared object"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("can't start new thread"),
    RuntimeError("could not create a primitive"),
    RuntimeError("could not execute a primitive"),
]


def test_what_onednn_cannot_compute_is_no_lack_of_memory():
    text = "could not create a primitive descriptor for a convolution forward propagation primitive"
    assert not start.short_of_memory(RuntimeError(text))


@pytest.mark.parametrize("error", SHORT, ids=lambda error: type(error).__name__)
def test_libraries_that_find_no_memory_are_understood(error, capsys):
    assert start.short_of_memory(error)
    assert explanation(error).startswith("this machine is out of memory: ")
    with pytest.raises(SystemExit) as end, quietly(), start.loading():
        raise error
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: this machine is out of memory: ")


class quietly:
    """The signals of the tests stay those of the tests."""

    def __enter__(self):
        self.before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *words):
        for number, handler in self.before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    "error",
    [ImportError("no module named x"), OSError(errno.ENOSPC, "full"), KeyError("bad_alloc")],
)
def test_other_errors_while_libraries_load_pass(error):
    assert not start.short_of_memory(error)
    with pytest.raises(type(error)), quietly(), start.loading():
        raise error


def test_an_interruption_is_found_in_what_libraries_make_of_it():
    def wrapped() -> Exception:
        try:
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as stop:
                raise ImportError("initialization failed") from stop
        except ImportError as error:
            return error

    assert start.interrupted(wrapped())
    assert not start.interrupted(ImportError("initialization failed"))
    error = wrapped()
    error.__cause__ = None  # as of `raise ... from None`
    assert not start.interrupted(error)


IGNORED = """
import os, signal, sys, time
from msgan import start

class Loud:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

start.listen()
try:
    with start.working():
        Loud()
        time.sleep(30)
except KeyboardInterrupt:
    print("raised")
"""


@pytest.mark.usefixtures("without_coverage")
def test_an_interruption_of_a_finaliser_is_not_lost():
    begun = time.monotonic()
    command = [sys.executable, "-c", IGNORED]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=listen, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("raised\n", "")
    assert time.monotonic() - begun < 30


@pytest.fixture
def ends(monkeypatch):
    """A program that is at its end raises what it ends with; signals are as in a shell."""

    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with quietly():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        yield


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("rank", "said"), [(None, STOPPED), ("0", STOPPED), ("1", "")])
def test_a_signal_ends_every_process_and_one_says_so(number, rank, said, monkeypatch, capfd):
    if rank is not None:
        monkeypatch.setenv("SLURM_PROCID", rank)
    start.listen()
    with pytest.raises(SystemExit) as end:
        signal.raise_signal(number)
    assert end.value.code == 130
    assert capfd.readouterr().err == said


@pytest.mark.usefixtures("ends")
def test_what_a_shell_starts_in_the_background_ignores_its_interruptions():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start.listen()
    signal.raise_signal(signal.SIGINT)
    with start.working():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_a_limit_below_what_libraries_take_is_named(rank, lines, monkeypatch, capsys):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (start.LEAST - 1, -1))
    with pytest.raises(SystemExit) as end, start.loading():
        pytest.fail("libraries were loaded")
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()
    words = "error: this machine is out of memory: lift a limit on memory (ulimit -v, a job's or"
    assert said == [f"{words} container's): 1023 MiB are allowed, at least 1024 are needed"][:lines]


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize("limit", [resource.RLIM_INFINITY, start.LEAST, None])
def test_libraries_are_loaded_where_memory_is_enough_or_has_no_limit(limit, monkeypatch):
    if limit is None:
        monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    else:
        monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    loaded = []
    with start.loading():
        loaded.append(limit)
    assert loaded == [limit]


class Finalised:
    """Raises an error where none can be raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize("can", [True, False], ids=["of a thread", "of the process"])
def test_an_interruption_of_a_finaliser_reaches_the_work_around_it(can, monkeypatch):
    if not can:
        monkeypatch.delattr(signal, "pthread_kill")
    start.listen()
    before = sys.unraisablehook

    def work() -> None:
        with start.working():
            Finalised(KeyboardInterrupt())
            for _ in range(1000):
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert sys.unraisablehook is before


@pytest.mark.usefixtures("ends")
def test_another_error_of_a_finaliser_is_said_and_ends_nothing(capsys):
    start.listen()
    with start.working():
        Finalised(ValueError("odd"))
    said = capsys.readouterr().err
    assert "Exception ignored in" in said
    assert said.endswith("ValueError: odd\n")


def test_programs_say_how_they_end_before_they_load_anything():
    """What is above it is quick: no module of the package but this one."""
    root = Path(start.__file__).parent
    for name in ("cli/__init__.py", "report/__main__.py", "report/worker.py"):
        text = (root / name).read_text(encoding="utf-8").split("TYPE_CHECKING:")[-1]
        above = text.split("with start.loading():")[0]
        assert "from msgan." not in above.replace("from msgan.cli.program import app\n\n", "")
        assert "with start.loading():" in text
