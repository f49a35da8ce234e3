"""File systems and machines that lack what others have, and disks that are full."""

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from msgan import leftovers, lock, paths
from msgan.data.formats import dicom_pixels, omezarr
from msgan.data.formats.dicom_packed import Layout
from msgan.data.volume import open_volume
from msgan.types import InputError


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, None])
def test_folders_are_replaced_where_names_cannot_be_exchanged(tmp_path, monkeypatch, number):
    def call(*_: object) -> int:
        ctypes.set_errno(number or 0)
        return -1

    monkeypatch.setattr(leftovers, "_renameat2", lambda: call if number else None)
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    leftovers.exchange(new, old)
    assert (old / "name").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_may_not_be_replaced_stays(tmp_path, monkeypatch):
    def call(*_: object) -> int:
        ctypes.set_errno(errno.EACCES)
        return -1

    monkeypatch.setattr(leftovers, "_renameat2", lambda: call)
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    old.mkdir()
    with pytest.raises(PermissionError):
        leftovers.exchange(new, old)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]


def test_a_folder_that_cannot_be_listed_is_not_swept(tmp_path):
    leftovers.sweep(tmp_path / "none", leftovers.PARTIAL)
    assert list(tmp_path.iterdir()) == []


def test_a_library_without_the_call_and_a_system_without_containers(monkeypatch):
    leftovers._renameat2.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace())
    assert leftovers._renameat2() is None
    leftovers._renameat2.cache_clear()
    monkeypatch.undo()
    machine = leftovers._machine()
    stat = os.stat

    def without(path, *words, **options):
        if str(path).startswith("/proc/"):
            raise OSError(errno.ENOENT, "none")
        return stat(path, *words, **options)

    monkeypatch.setattr(os, "stat", without)
    assert len(leftovers._machine()) == len(machine) == 8
    assert leftovers._machine() != machine


@pytest.mark.parametrize(
    ("number", "held"), [(errno.ENOLCK, True), (errno.EAGAIN, False), (errno.EIO, None)]
)
def test_locks_where_the_system_answers_otherwise(tmp_path, monkeypatch, number, held):
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "flock", flock)
    own, before = tmp_path / "a.lock", set(lock._held)
    if held:
        with lock.alone(own, "a: is being made"):
            assert own.is_file()
        assert not own.exists()
    elif held is None:
        with pytest.raises(OSError, match="no"), lock.alone(own, "a"):
            pass
    else:
        with (
            pytest.raises(InputError, match="a: is being made by another process"),
            lock.alone(own, "a: is being made", wait=0),
        ):
            pass
    assert lock._held == before


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, r"no space left on this disk: .* are free"),
        (errno.EFBIG, r"larger than this disk or a limit \(ulimit -f\) allows for a file"),
        (errno.EIO, "rubbish"),
    ],
)
def test_a_block_that_writes_a_file_names_it_where_the_disk_is_full(tmp_path, number, text):
    with pytest.raises(OSError, match=text) as caught, paths.naming(tmp_path / "a"):
        raise OSError(number, "rubbish")
    assert (caught.value.filename is not None) == (number != errno.EIO)


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EIO])
def test_room_is_asked_for_before_and_told_after(tmp_path, number):
    kind, text = (InputError, "a file needs 1") if number == errno.EFBIG else (OSError, "rubbish")
    with pytest.raises(kind, match=text), paths.room(tmp_path, 1 << 10, "a file"):
        raise OSError(number, "rubbish")


def test_files_of_a_folder_that_are_bad_are_named_as_if_in_their_place(tmp_path):
    place = tmp_path / "kept"
    with pytest.raises(InputError, match=rf"^{place}/a\.nii: no$"), paths.together(place) as parts:
        raise InputError(f"{parts}/a.nii: no")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("ome", "rule"),
    [
        ({"plate": {}}, "a plate of many images: copy one of them out"),
        ({"bioformats2raw.layout": 3}, r"holds 0 images \(bioformats2raw\)"),
        ({"other": 1}, "its attributes name no multiscales"),
    ],
)
def test_zarr_folders_that_are_no_image(tmp_path: Path, ome: dict, rule: str) -> None:
    zarr.create_group(tmp_path / "a.zarr").attrs["ome"] = ome
    with pytest.raises(InputError, match=rule):
        open_volume(tmp_path / "a.zarr")


def test_a_folder_of_other_files_is_no_place_for_a_zarr_folder(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").touch()
    with (
        pytest.raises(InputError, match="exists and is not a Zarr folder"),
        omezarr.atomic_folder(tmp_path / "a.zarr"),
    ):
        pass
    assert (tmp_path / "a.zarr" / "thesis.txt").is_file()


def test_bytes_in_words_of_a_big_endian_image() -> None:
    layout = Layout(1, 3, 8, 8, 7, False)
    values = dicom_pixels._plain(b"\x02\x01\x04\x03", layout, False, "OW")
    np.testing.assert_array_equal(values, [[1, 2, 3]])
    odd = dicom_pixels._plain(b"\x02\x01\x04", layout, False, "OB")
    np.testing.assert_array_equal(odd, [[2, 1, 4]])
    with pytest.raises(InputError, match="2 bytes of pixels, 1 x 3 of 8 bits are 3"):
        dicom_pixels._plain(b"\x02\x01", layout, True, "OB")
