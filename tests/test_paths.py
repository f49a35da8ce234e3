import ctypes
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from msgan import leftovers, paths
from msgan.leftovers import PARTIAL, owned, sweep
from msgan.paths import atomic, require_space, scratch_root, sha256, write_text
from msgan.types import InputError


def test_a_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "new" / "a.nii.gz"
    for text in ("one", "two"):
        with atomic(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.name.endswith(".nii.gz")
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "one"
            written = temporary.stat().st_ino
        assert path.read_text() == text
        assert path.stat().st_ino == written  # renamed, not copied: complete at any moment
    assert os.listdir(path.parent) == ["a.nii.gz"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(error), atomic(path) as temporary:
        interrupted(temporary)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
    with pytest.raises(error), atomic(tmp_path / "b.txt"):
        raise error
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_killed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (
        "import os, signal, sys\n"
        "from msgan.paths import atomic\n"
        "with atomic(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_written_files_have_the_usual_permissions(tmp_path):
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "a", "µm²")
    assert (tmp_path / "a").read_bytes() == "µm²".encode()


def test_hash_of_a_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(path) == known
    path.write_bytes(b"x" * (3 << 20))  # more than one piece
    assert sha256(path) == hashlib.sha256(b"x" * (3 << 20)).hexdigest()


def folder_hash(root: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return sha256(root)


def test_hash_of_a_folder_is_of_names_and_contents(tmp_path):
    one = folder_hash(tmp_path / "1", {"a/b": b"x", "c": b"y"})
    assert folder_hash(tmp_path / "2", {"c": b"y", "a/b": b"x"}) == one
    others = [
        {"a/b": b"x", "c": b"z"},
        {"a/b": b"x", "d": b"y"},
        {"a/b": b"y", "c": b"x"},
        {"a/bx": b"", "c": b"y"},
        {"a/b": b"xc", "y": b""},
        {"a/b": b"x"},
    ]
    hashes = {folder_hash(tmp_path / f"o{k}", files) for k, files in enumerate(others)}
    assert len(hashes | {one}) == len(others) + 1


def test_scratch_is_where_it_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path))
    assert scratch_root() == tmp_path
    monkeypatch.delenv("MSGAN_SCRATCH")
    monkeypatch.setattr(paths.tempfile, "gettempdir", lambda: "/somewhere")
    assert scratch_root() == Path("/somewhere")


def test_work_that_cannot_fit_is_refused_before_it_is_done(tmp_path, monkeypatch):
    asked = []

    def usage(folder):
        asked.append(folder)
        return shutil._ntuple_diskusage(10 << 30, 7 << 30, 3 << 30)

    monkeypatch.setattr(paths.shutil, "disk_usage", usage)
    require_space(tmp_path, 3 << 30, "the result")
    assert asked == [tmp_path]
    later = tmp_path / "not" / "yet" / "made"
    message = f"{later}: the result needs 3.5 GiB, 3.0 GiB are free on this disk"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        require_space(later, 7 << 29, "the result")
    assert asked == [tmp_path, tmp_path]
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0.0 KiB"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (5 << 40, "5120.0 GiB")],
)
def test_sizes_are_written_for_people(count, text):
    assert paths.size(count) == text


def test_a_fault_in_one_of_several_files_names_where_it_was_to_be(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def write(text):
        with paths.together(tmp_path) as temporary:
            (temporary / "a.txt").write_text("new")
            write_text(temporary / "b.txt", text)

    with pytest.raises(InputError, match=rf"^{tmp_path / 'b.txt'}: cannot be written: bytes that"):
        write("\udcff")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.txt": "old"}
    write("other")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.txt": "new", "b.txt": "other"}


def full(number):
    raise OSError(number, os.strerror(number))


def test_a_disk_that_is_full_is_said_with_its_rule_and_other_errors_are_not_changed(tmp_path):
    path = tmp_path / "a"
    for number, rule in {
        errno.ENOSPC: rf"no space left on this disk: .* are free: '{path}'$",
        errno.EFBIG: rf"larger than this disk or a limit \(ulimit -f\) allows .*: '{path}'$",
        errno.EIO: r"^\[Errno 5\] Input/output error$",
    }.items():
        with pytest.raises(OSError, match=rule) as error, paths.naming(path):
            full(number)
        assert error.value.errno == number
    for number, rule in {
        errno.ENOSPC: f"^{path}: no space left on this disk: the result needs 1.0 KiB, .* are free",
        errno.EFBIG: f"^{path}: the result needs 1.0 KiB, more than this disk or a limit",
    }.items():
        with pytest.raises(InputError, match=rule), paths.room(path, 1024, "the result"):
            full(number)
        bound = rule.replace("needs", "needs up to")
        with (
            pytest.raises(InputError, match=bound),
            paths.room(path, 1024, "the result", at_most=True),
        ):
            full(number)
    with pytest.raises(OSError, match=r"^\[Errno 5\]"), paths.room(path, 1024, "the result"):
        full(errno.EIO)


def test_a_full_scratch_disk_is_left_to_who_needs_room_on_it(tmp_path, monkeypatch):
    number = errno.ENOSPC
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(paths.tempfile, "TemporaryFile", lambda dir: full(number))
    assert paths.require_scratch() == tmp_path / "scratch"
    number = errno.EROFS
    rule = f"^MSGAN_SCRATCH: {tmp_path / 'scratch'}: no folder for temporary files: Read-only file"
    with pytest.raises(InputError, match=rule):
        paths.require_scratch()


# What killed processes leave

KILLED = """
import os, signal, sys
from msgan import leftovers, paths
path, make = sys.argv[1], getattr(paths, sys.argv[2])
with make(path) if sys.argv[2] != "scratch_folder" else make() as temporary:
    (temporary / "part" if temporary.is_dir() else temporary).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.parametrize("make", ["atomic", "atomic_folder", "scratch_folder"])
def test_the_next_writer_removes_what_a_killed_one_left(make, tmp_path, monkeypatch):
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path))

    def write():
        where = () if make == "scratch_folder" else (tmp_path / "b.zarr",)
        with getattr(paths, make)(*where):
            return [p.name for p in tmp_path.iterdir()]

    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.zarr"), make]
    assert subprocess.run(command, check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(paths.SCRATCH if make == "scratch_folder" else PARTIAL)
    (during,) = write()
    assert during != left.name


def test_what_is_in_use_or_foreign_is_never_removed(tmp_path, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    dead = owned(PARTIAL).replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    gone = (f"{dead}abcd_123.nii", f"{dead}abcd_124")
    kept = (
        f"{owned(PARTIAL)}abcd_123.nii",  # this process lives
        f"{owned(PARTIAL)[:-1].rpartition('-')[0]}-1-abcd_123.nii",  # so does that
        f"{PARTIAL}00000000-{ended.pid}-abcd_123.nii",  # another machine's
        f"{dead}abcd_123.zarr.old",  # a result that was being replaced
        f"x{dead}abcd_123.nii",
        f"{dead}abcd.nii",
        ".partial-abcd_123.nii",
    )
    for name in (*gone, *kept):
        (tmp_path / name).write_text("")
    sweep(tmp_path, paths.SCRATCH)
    assert {p.name for p in tmp_path.iterdir()} == {*gone, *kept}
    sweep(tmp_path, PARTIAL)
    assert {p.name for p in tmp_path.iterdir()} == set(kept)
    monkeypatch.setattr(leftovers.socket, "gethostname", lambda: "another")
    assert owned(PARTIAL) not in kept[0]


def test_a_link_is_removed_and_not_what_it_points_to(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("kept")
    name = owned(PARTIAL).replace(f"-{os.getpid()}-", f"-{ended.pid}-") + "abcdefgh"
    (tmp_path / name).symlink_to(tmp_path / "data")
    sweep(tmp_path, PARTIAL)
    assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "data" / "a").read_text() == "kept"


# Replacing a folder


@pytest.fixture(params=["at once", "step by step"])
def exchanging(request, monkeypatch):
    if request.param == "step by step":  # as on file systems that cannot exchange
        monkeypatch.setattr(leftovers, "_renameat2", lambda: None)
    elif leftovers._renameat2() is None:
        pytest.skip("this system cannot exchange two folders at once")
    return request.param


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch, exchanging):
    path = tmp_path / "a.zarr"
    for text in ("one", "two"):
        with paths.atomic_folder(path) as temporary:
            (temporary / "part").write_text(text)
        assert [(p.name, p.read_text()) for p in path.iterdir()] == [("part", text)]
        assert os.listdir(tmp_path) == ["a.zarr"]
    rename = os.rename

    def fails(old, new):
        if Path(new) == path and Path(old).name.startswith(PARTIAL):
            raise OSError("another mount")
        rename(old, new)

    def refused(one, other):
        raise OSError("another mount")

    monkeypatch.setattr(leftovers.os, "rename", fails)
    if exchanging == "at once":
        monkeypatch.setattr(leftovers, "_swapped", refused)
    with pytest.raises(OSError, match="another mount"), paths.atomic_folder(path):
        pass
    assert (path / "part").read_text() == "two"
    assert os.listdir(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize(
    ("number", "replaced"),
    [(errno.ENOSYS, True), (errno.EINVAL, True), (errno.EOPNOTSUPP, True), (errno.EACCES, False)],
)
def test_what_the_system_cannot_exchange_is_replaced_and_what_it_refuses_is_not(
    tmp_path, monkeypatch, number, replaced
):
    def call(*words):
        ctypes.set_errno(number)
        return -1

    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / "part").write_text("old")
    monkeypatch.setattr(leftovers, "_renameat2", lambda: call)

    def write():
        with paths.atomic_folder(path) as temporary:
            (temporary / "part").write_text("new")

    if replaced:
        write()
    else:
        with pytest.raises(PermissionError, match=rf"Permission denied: '{path}'"):
            write()
    assert (path / "part").read_text() == ("new" if replaced else "old")
    assert os.listdir(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_a_system_without_the_call_has_none(platform, monkeypatch):
    def library(*words, **options):
        return object()  # an older C library

    monkeypatch.setattr(leftovers.sys, "platform", platform)
    monkeypatch.setattr(leftovers.ctypes, "CDLL", library)
    assert leftovers._renameat2.__wrapped__() is None


def test_a_machine_without_containers_has_a_name_of_its_own(monkeypatch):
    plain = leftovers._machine()

    def stat(path, *words, **options):
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(leftovers.os, "stat", stat)
    alone = leftovers._machine()
    monkeypatch.undo()
    assert re.fullmatch("[0-9a-f]{8}", alone)
    assert alone != plain == leftovers._machine()


def test_a_folder_that_cannot_be_listed_may_be_written(tmp_path, monkeypatch):
    def scandir(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(leftovers.os, "scandir", scandir)
    write_text(tmp_path / "a.txt", "text")
    monkeypatch.undo()
    assert (tmp_path / "a.txt").read_text() == "text"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path, exchanging):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("kept")
    for name, target in (("a.zarr", "data"), ("b.zarr", "nowhere")):
        (tmp_path / name).symlink_to(target)
        with paths.atomic_folder(tmp_path / name) as temporary:
            (temporary / "part").write_text("new")
        assert not (tmp_path / name).is_symlink()
        assert os.listdir(tmp_path / name) == ["part"]
    assert (tmp_path / "data" / "a").read_text() == "kept"
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "b.zarr", "data"]


REPLACING = """
import os, signal, sys
from pathlib import Path
from msgan import leftovers, paths
from msgan.leftovers import PARTIAL
moment = sys.argv[2]
leftovers._renameat2 = lambda: None
def kills(name, wanted):
    real = getattr(os, name)
    def call(old, new):
        if moment.startswith("before") and wanted(str(old), str(new)):
            os.kill(os.getpid(), signal.SIGKILL)
        real(old, new)
        if wanted(str(old), str(new)):
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(os, name, call)
if moment.endswith("away"):
    kills("replace", lambda old, new: leftovers.REPLACED in new)
else:
    kills("rename", lambda old, new: PARTIAL in old)
with paths.atomic_folder(sys.argv[1]) as temporary:
    (temporary / "part").write_text("new")
"""


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.parametrize(
    ("moment", "text"),
    [("before away", "old"), ("after away", "old"), ("before", "old"), ("after", "new")],
)
def test_a_folder_whose_replacement_was_killed_is_there_again(tmp_path, moment, text):
    path = tmp_path / "result.of.mine.zarr"
    path.mkdir()
    (path / "part").write_text("old")
    command = [sys.executable, "-c", REPLACING, str(path), moment]
    assert subprocess.run(command, check=False).returncode == -9
    write_text(tmp_path / "other.txt", "")  # any write into the folder
    assert sorted(os.listdir(tmp_path)) == ["other.txt", path.name]
    assert (path / "part").read_text() == text


def test_several_writers_of_one_folder_do_not_mix(tmp_path, exchanging):
    path = tmp_path / "a.zarr"
    barrier = threading.Barrier(4)

    def write(number):
        barrier.wait()
        for _ in range(20):
            with paths.atomic_folder(path) as temporary:
                for part in "xy":
                    (temporary / part).write_text(str(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert sorted(os.listdir(path)) == ["x", "y"]
    assert (path / "x").read_text() == (path / "y").read_text()
    assert os.listdir(tmp_path) == ["a.zarr"]


# Names in files


def test_names_lead_to_files_of_the_folder_only(tmp_path):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    (folder / "s0").mkdir(parents=True)
    outside.mkdir()
    (folder / "s1").symlink_to(outside)
    (folder / "s2").symlink_to(folder / "s0")
    (folder / "round").symlink_to("round")
    (tmp_path / "link").symlink_to(folder)
    for good in ("s0/a", "s2/a", "a"):
        assert paths.inside(folder, good) == folder / good
        assert paths.inside(tmp_path / "link", good) == tmp_path / "link" / good
    for bad in ("../outside/a", "s1/a", "/etc/passwd", "s0/../../outside", "round", "a\0b"):
        with pytest.raises(InputError, match=f"^{folder}: .* leads out of this folder") as refused:
            paths.inside(folder, bad)
        assert len(str(refused.value).splitlines()) == 1
