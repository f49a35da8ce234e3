"""What a scan of a folder leaves out and why; and names that say something in an unusual way."""

import re
from pathlib import Path
from typing import Any

import pytest
from dicoms import ct, write_series, write_slice
from zarr.abc.store import RangeByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from msgan.data.formats.contained import Contained
from msgan.data.identity import difference
from msgan.data.scan.files import files_below
from msgan.data.scan.series import series_in
from msgan.data.scan.words import modality_of, role_of
from msgan.types import InputError


def test_files_that_are_no_images_are_named_with_a_reason(tmp_path: Path) -> None:
    for name in (".hidden.nii", ".git/a.nii", "x.dcm", " a.nii", "b.nii", "p1 /b.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "pipe").symlink_to("/dev/null")
    found = files_below(tmp_path)
    assert found.volumes == ["b.nii"]
    assert {one.path: one.reason for one in found.omitted} == {
        ".hidden.nii": "a hidden file",
        ".git": "a hidden folder",
        "x.dcm": "not a DICOM file: the DICM mark at byte 128 is missing",
        " a.nii": "a manifest's path cannot begin or end with a space: rename it",
        "p1 /b.nii": "a manifest's path cannot begin or end with a space: rename it",
        "pipe": "no ordinary file",
    }


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "SR"}, "DICOM of modality SR is not an image"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"NumberOfFrames": 5}, r"multi-frame DICOM \(5 frames\): convert it to NIfTI"),
        ({"PixelSpacing": None}, "CT without PixelSpacing"),
    ],
)
def test_dicom_that_is_nothing_to_train_on(
    tmp_path: Path, tags: dict[str, Any], reason: str
) -> None:
    write_slice(tmp_path / "a.dcm", ct(1)[..., 0], 0.0, **tags)
    found, left = series_in(tmp_path, ["a.dcm"], b"salt")
    assert found == []
    ((path, said),) = left
    assert path == "a.dcm"
    assert re.search(reason, said)


def test_a_slice_beside_a_series_is_left_out(tmp_path: Path) -> None:
    write_series(tmp_path, ct(1), SeriesInstanceUID="1.2.3")
    write_slice(tmp_path / "z.dcm", ct(2)[..., 0], 0.0, SeriesInstanceUID="1.2.4")
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    names = sorted(p.name for p in tmp_path.iterdir())
    found, left = series_in(tmp_path, names, b"salt")
    told = dict(left)
    assert found == []  # which of them is meant is not known
    assert told["z.dcm"] == "a single slice beside a series"
    assert "broken.dcm" in told


@pytest.mark.parametrize(
    ("words", "modality"),
    [
        ("t2 to t1", ("t2", "t2")),
        ("t1 post", ("t1c", "t1 post")),
        ("mp2rage", ("t1", "mp2rage")),
        ("mp2rage inv2", ("mp2rage", "mp2rage inv2")),
        ("mp2rage uni images", ("unit1", "mp2rage uni")),
        ("mp2rage t1 map", ("t1map", "mp2rage t1 map")),
    ],
)
def test_modalities_by_words_in_their_places(words: str, modality: tuple[str, str]) -> None:
    assert modality_of(words.split()) == modality


def test_pathology_tells_labels_where_it_is_the_last_word() -> None:
    assert role_of(["t1", "tumour"], "t1") == ("labels", "tumour")
    assert role_of(["tumour", "t1"], "t1") == ("image", "")
    assert role_of(["lesion", "mask"], "t1") == ("labels", "lesion")


def test_people_and_studies_are_told_apart_by_their_headers(tmp_path: Path) -> None:
    one = write_slice(tmp_path / "a.dcm", ct(1)[..., 0], 0.0)
    same = write_slice(tmp_path / "b.dcm", ct(1)[..., 0], 0.0)
    other = write_slice(tmp_path / "c.dcm", ct(1)[..., 0], 0.0, PatientID="another")
    later = write_slice(tmp_path / "d.dcm", ct(1)[..., 0], 0.0, StudyInstanceUID="1.3")
    assert difference(one, same) == ""
    assert difference(one, other) == "different people by their DICOM headers"
    assert difference(one, later) == "different studies by their DICOM headers"
    bare = tmp_path / "bare.dcm"  # as some archives write it: without preamble
    bare.write_bytes(other.read_bytes()[132:])
    assert difference(one, bare) == "different people by their DICOM headers"
    broken = one.read_bytes().replace(b"\x20\x00\x0d\x00UI", b"\x20\x00\x0d\x00U\xff")
    (tmp_path / "f.dcm").write_bytes(broken)
    assert difference(tmp_path / "f.dcm", other) == ""  # said where it is opened
    (tmp_path / "empty").mkdir()
    (tmp_path / "e.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    for odd in (tmp_path / "none" / "x.dcm", tmp_path / "empty", tmp_path / "e.dcm"):
        assert difference(one, odd) == ""  # said where it is opened


def test_no_part_of_a_chunk_outside_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "secret").write_bytes(b"name")
    (tmp_path / "a.zarr" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "a.zarr" / "own").write_bytes(b"voxel")
    store, kind = Contained(tmp_path / "a.zarr", read_only=True), default_buffer_prototype()
    part = RangeByteRequest(1, 3)
    (found,) = sync(store.get_partial_values(kind, [("own", part)]))
    assert found.to_bytes() == b"ox"
    for key in ("link", "../secret"):
        with pytest.raises(InputError, match="leads out of this folder"):
            sync(store.get_partial_values(kind, [(key, part)]))
        with pytest.raises(InputError, match="leads out of this folder"):
            store.get_sync(key, prototype=kind)
