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


def test_programs_say_how_they_end_before_they_load_anything():
    """What is above it is quick: no module of the package but this one."""
    root = Path(start.__file__).parent
    for name in ("cli/__init__.py", "report/__main__.py", "report/worker.py"):
        text = (root / name).read_text(encoding="utf-8").split("TYPE_CHECKING:")[-1]
        above = text.split("with start.loading():")[0]
        assert "from msgan." not in above.replace("from msgan.cli.program import app\n\n", "")
        assert "with start.loading():" in text
