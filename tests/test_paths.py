import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from msgan import paths
from msgan.paths import atomic, scratch_root, sha256, write_text


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
