"""Disks that become full: one line, nothing half-written, and the same again goes on."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import cohort_in, equal, tiny
from safetensors.torch import load_file
from typer.testing import CliRunner

from msgan import maps, paths
from msgan.cli import app
from msgan.cli.program import explanation
from msgan.methods.cascade import fit
from msgan.training import checkpoint
from msgan.training.log import LOG, Log, rows
from msgan.types import InputError


class Disk:
    """A small file system in memory.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("size=1m", "tmpfs", str(path))

    def _mount(self, options: str, *words: str) -> None:
        command = ["mount", *(["-t", "tmpfs"] if len(words) > 1 else []), "-o", options, *words]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            pytest.skip("file systems cannot be mounted here")

    def resize(self, kib: int) -> None:
        """Give it another size, KiB, which holds what is there."""
        self._mount(f"remount,size={kib}k", str(self.path))

    def leave(self, kib: int) -> None:
        """Give it the size that leaves this much free."""
        usage = shutil.disk_usage(self.path)
        self.resize(usage.used // 1024 + kib)

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path):
    if os.name != "posix" or os.geteuid() or shutil.which("mount") is None:
        pytest.skip("file systems cannot be mounted here")
    small = Disk(tmp_path / "disk")
    yield small
    small.remove()


def partial(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.name.startswith((".partial-", ".replaced-"))]


# --- memory maps -------------------------------------------------------------------------------


def unable(*words):
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


@pytest.mark.parametrize("how", ["reserved", "unable", "absent"])
def test_a_map_has_its_bytes_before_it_is_written(tmp_path, monkeypatch, how):
    if how == "unable":
        monkeypatch.setattr(os, "posix_fallocate", unable)
    elif how == "absent":
        monkeypatch.delattr(os, "posix_fallocate")
    shape, size = (3, 700, 900), 3 * 700 * 900
    for path, make in ((tmp_path / "a.npy", maps.create), (tmp_path / "a", maps.scratch)):
        image = make(path, shape, np.float32)
        assert path.stat().st_blocks * 512 >= 4 * size
        assert image.shape == shape
        assert not image.any()
        image[1, 2, 3] = 5
        image.flush()
    assert np.load(tmp_path / "a.npy")[1, 2, 3] == 5
    assert np.fromfile(tmp_path / "a", np.float32)[1 * 700 * 900 + 2 * 900 + 3] == 5


@pytest.mark.parametrize("how", ["reserved", "unable", "absent"])
def test_a_map_that_does_not_fit_is_an_error_and_no_signal(disk, monkeypatch, how):
    if how == "unable":
        monkeypatch.setattr(os, "posix_fallocate", unable)
    elif how == "absent":
        monkeypatch.delattr(os, "posix_fallocate")
    for make in (maps.create, maps.scratch):
        with pytest.raises(OSError, match="No space left on device"):
            make(disk.path / "a", (64, 64, 128), np.float32)
        (disk.path / "a").unlink()


def test_no_map_is_written_whose_bytes_are_not_reserved():
    root = Path(paths.__file__).parent
    for file in root.rglob("*.py"):
        if file.name != "maps.py":
            text = file.read_text(encoding="utf-8")
            for word in ("open_memmap(", "from_file(", ".tofile("):
                assert word not in text, (file, word)
            for call in re.findall(r"(?:memmap|np\.load)\([^)]*\)", text):
                assert not re.search(r"[\"'](?:w|r)\+[\"']", call), (file, call)


# --- single files ------------------------------------------------------------------------------


def write(path: Path, content: bytes) -> None:
    with paths.atomic(path) as temporary:
        temporary.write_bytes(content)


def fill(path: Path, content: bytes) -> None:
    with paths.atomic_folder(path) as temporary:
        (temporary / "a").write_bytes(content)


@pytest.mark.parametrize("make", [write, fill])
def test_what_does_not_fit_is_named_and_the_old_is_intact(disk, make):
    path = disk.path / "folder" / "result.zarr"
    make(path, b"old")
    disk.leave(100)
    with pytest.raises(OSError, match="no space left") as full:
        make(path, bytes(200 << 10))
    assert full.value.errno == errno.ENOSPC
    assert full.value.filename == str(path)
    assert full.value.strerror == "no space left on this disk: 100.0 KiB are free"
    assert (path / "a" if path.is_dir() else path).read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


LIMITED = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
from msgan import maps, paths
for k, make in enumerate([
    lambda path: maps.create(path, (1 << 16,), "float32"),
    lambda path: path.write_bytes(bytes(1 << 17)),
]):
    try:
        with paths.atomic(f"{sys.argv[1]}/{k}") as temporary:
            make(temporary)
    except OSError as error:
        print(error.filename, error.strerror)
"""


def test_a_limit_on_files_is_named(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rule = "larger than this disk or a limit (ulimit -f) allows for a file"
    assert done.stdout.splitlines() == [f"{tmp_path}/{k} {rule}" for k in (0, 1)]
    assert os.listdir(tmp_path) == []


def test_weights_that_do_not_fit_leave_the_old(disk, monkeypatch):
    small, large = torch.nn.Linear(4, 4), torch.nn.Linear(256, 256)
    path = disk.path / "s1" / "generator.safetensors"
    checkpoint.save_weights(small, path, {"step": 1})
    disk.leave(100)
    with pytest.raises(InputError) as full:
        checkpoint.save_weights(large, path, {"step": 2})
    line = f"{path.parent}: {path.name} needs 257.0 KiB, 100.0 KiB are free on this disk"
    assert str(full.value) == line
    # Where another program takes the room meanwhile.
    monkeypatch.setattr(paths, "require_space", lambda *words: None)
    with pytest.raises(InputError, match=r"^\S+s1: no space left on this disk: generator.safe"):
        checkpoint.save_weights(large, path, {"step": 2})
    assert os.listdir(path.parent) == [path.name]
    assert torch.equal(load_file(path)["weight"], small.weight)


def test_a_log_goes_on_behind_the_last_whole_row(disk):
    folder = disk.path / "s0"
    log = Log(folder, 0)
    disk.leave(4)

    def write_all():
        for step in range(1, 1000):
            log.write({"scale": 0, "step": step, "l1": 0.5})

    with pytest.raises(OSError, match="no space left") as full:
        write_all()
    log.close()
    assert full.value.errno == errno.ENOSPC
    assert Path(full.value.filename).name.startswith((LOG, "events.out.tfevents."))
    written = rows(folder / LOG)
    assert [row["step"] for row in written] == [*range(1, len(written) + 1)]
    disk.leave(40)
    again = Log(folder, len(written) - 1)  # the checkpoint is older
    again.write({"scale": 0, "step": 2000, "l1": 0.25})
    again.close()
    steps = [row["step"] for row in rows(folder / LOG)]
    assert steps == [*range(1, len(written)), 2000]


# --- whole programs ----------------------------------------------------------------------------


FILLING = """
import os, shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from msgan.cli.program import explanation
from msgan.methods import cascade
from msgan.training import cache
from helpers import cohort_in, tiny
write = cache._write
def fills(path, *rest):
    if path.name == "image_s2.npy":
        free = shutil.disk_usage(path.parent).free
        Path(sys.argv[3], "filler").write_bytes(bytes(free - (12 << 10)))
    write(path, *rest)
cache._write = fills
try:
    cascade.fit(cohort_in(Path(sys.argv[2]), 3), "t2", tiny(3), sys.argv[4], device="cpu")
except Exception as error:
    print(explanation(error))
"""


@pytest.mark.slow
def test_a_training_on_a_disk_that_others_fill_is_one_line_and_no_signal(disk, tmp_path):
    """Room that was free in the beginning is gone when a memory map is written."""
    cohort_in(tmp_path / "data", 3)
    run = disk.path / "run"
    command = [sys.executable, "-c", FILLING, str(Path(__file__).parent)]
    command += [str(tmp_path / "data"), str(disk.path), str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{run}/cache: no space left on this disk: the prepared subject s")
    assert line.endswith("KiB are free")
    assert list((run / "cache").iterdir()) == []


@pytest.mark.usefixtures("one_thread")
def test_a_training_goes_on_when_there_is_room_again(disk, tmp_path):
    cohort, config, run = cohort_in(tmp_path / "data"), tiny(), disk.path / "run"
    lines = []
    for kib in range(30, 900, 30):
        disk.resize(kib)
        try:
            fit(cohort, "t2", config, run, device="cpu")
            break
        except (InputError, OSError) as error:
            lines.append(str(explanation(error)))
        assert partial(run) == []
    assert lines[0].startswith(f"{run}/cache: the cache of 3 prepared subjects needs ")
    assert all(line.startswith(f"{run}/") and " are free" in line for line in lines), lines
    assert len({line.split(":")[0] for line in lines}) > 1
    fit(cohort, "t2", config, tmp_path / "whole", device="cpu")
    for i in range(3):
        assert equal(run, tmp_path / "whole", i)


PHANTOMS = {
    "thorax": ["phantom", "thorax", "--subjects", "1", "--size", "16"],
    "xray": ["phantom", "xray", "--subjects", "2", "--size", "64"],
}


@pytest.mark.parametrize("kind", PHANTOMS)
def test_phantoms_that_do_not_fit_are_one_line(disk, kind):
    out = disk.path / "out"
    disk.resize(8)
    result = CliRunner().invoke(app, [*PHANTOMS[kind], str(out)])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {disk.path}/")
    assert line.endswith(" are free")
    assert partial(disk.path) == []
    assert not (out / "manifest.csv").exists()  # it says that all is there
