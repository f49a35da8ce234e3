"""One process at a time, whatever becomes of the process."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msgan import lock
from msgan.lock import alone
from msgan.types import InputError

HOLDING = """
import os, sys, time
from msgan.lock import alone
with alone(sys.argv[1], "held"):
    child = os.fork() if sys.argv[2] == "child" else 1
    if child == 0:
        os.close(1)
        time.sleep(60)
    print(os.getpid(), child, flush=True)
    time.sleep(60)
"""


def holder(path: Path, more: str = "") -> tuple[subprocess.Popen, int]:
    """A process that holds a lock, and its child if it has one."""
    command = [sys.executable, "-c", HOLDING, str(path), more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    own, child = map(int, process.stdout.readline().split())
    assert own == process.pid
    return process, child


def test_others_are_refused_by_name_until_the_holder_ends(tmp_path):
    path = tmp_path / "run" / ".lock"
    process, _ = holder(path)
    with process:
        line = f"runs/t2: is held by process {process.pid} on {socket.gethostname()}"
        with (
            pytest.raises(InputError, match=f"^{re.escape(line)}$"),
            alone(path, "runs/t2: is held"),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with alone(path, "held"):  # the file is there still, and hinders nobody
            assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    assert os.listdir(path.parent) == []


def test_a_child_does_not_keep_the_lock_of_a_killed_process(tmp_path):
    path = tmp_path / ".lock"
    process, child = holder(path, "child")
    with process:
        try:
            process.kill()
            process.wait()
            os.kill(child, 0)  # it lives
            with alone(path, "held"):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_process_holds_it_once_and_until_an_error(tmp_path):
    with alone(tmp_path / "a", "a"), alone(tmp_path / "b", "b"):
        line = f"^a by process {os.getpid()} on "
        with pytest.raises(InputError, match=line), alone(tmp_path / "a", "a"):
            pass
        assert (tmp_path / "a").exists()
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "a", "a"):
        print(1 // 0)
    with alone(tmp_path / "a", "a"):
        pass
    assert os.listdir(tmp_path) == []


def test_it_is_waited_for(tmp_path):
    path = tmp_path / "a"
    command = [sys.executable, "-c", HOLDING.replace("sleep(60)", "sleep(0.5)"), str(path), ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start = time.monotonic()
        with alone(path, "a", wait=30):
            assert time.monotonic() - start < 20


def test_never_two_at_a_time(tmp_path):
    """Each process adds one to a number that only the holder may touch."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from msgan.lock import alone\n"
        "number = Path(sys.argv[1])\n"
        "for _ in range(40):\n"
        "    with alone(sys.argv[1] + '.lock', 'number', wait=60):\n"
        "        number.write_text(str(int(number.read_text()) + 1))\n"
    )
    number = tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", code, str(number)]
    for process in [subprocess.Popen(command) for _ in range(3)]:
        assert process.wait(60) == 0
    assert number.read_text() == "120"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_without_locks_nothing_is_refused(tmp_path, monkeypatch, number):
    def flock(handle, what):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with alone(tmp_path / "a", "a"), alone(tmp_path / "a", "a"):
        pass


def test_other_errors_of_a_lock_are_passed_on_and_nothing_is_held(tmp_path, monkeypatch):
    def flock(handle, what):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    held = set(lock._held)
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", flock)
        with pytest.raises(OSError, match="Input/output error"), alone(tmp_path / "a", "a"):
            pass
    assert lock._held == held
    with alone(tmp_path / "a", "a"):
        pass


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """The file a process has opened may be that of a holder who is just leaving."""
    path, times, plain = tmp_path / "a", [], lock._locked

    def locked(handle):
        times.append(handle)
        if len(times) == 1:
            path.unlink()
        return plain(handle)

    monkeypatch.setattr(lock, "_locked", locked)
    with alone(path, "a", wait=10):
        assert len(times) == 2
        assert path.read_text().startswith(f"process {os.getpid()} on ")
        with pytest.raises(InputError, match=r"^a by process"), alone(path, "a", wait=0):
            pass
    assert os.listdir(tmp_path) == []


def test_a_child_that_leaves_the_block_leaves_the_lock(tmp_path):
    path = tmp_path / "a"
    with alone(path, "a"):
        lock._forget()  # as in a child, after a fork
        assert lock._held == set()
    assert path.read_text().startswith(f"process {os.getpid()} on ")


def test_a_link_is_not_followed_and_words_of_others_are_not_passed_on(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "a").symlink_to("mine")
    with pytest.raises(OSError, match="symbolic links"), alone(tmp_path / "a", "a"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"
    with alone(tmp_path / "b", "b"):
        for text in (b"", b"process \x1b[2J", b"\xff\xfe", b"process 1 on a\nprocess 2 on b"):
            (tmp_path / "b").write_bytes(text)
            known = lock._holder(tmp_path / "b")
            assert known == ("process 1 on a" if text.endswith(b"2 on b") else "another process")
