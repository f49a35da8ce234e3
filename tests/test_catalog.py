"""What lies on disk is found, and what is damaged is named and hides nothing else."""

import shutil
from pathlib import Path

import pytest
from tree import METHODS, PEOPLE, STUDY, image, tree

from msgan.report.catalog import catalog
from msgan.report.images import grouped
from msgan.types import InputError


def test_everything_a_notebook_leaves_is_found(tmp_path: Path) -> None:
    found = catalog(tree(tmp_path))
    assert [run.name for run in found.runs] == ["smoke/shared/t2-seamless-0123"]
    assert list(found.runs[0].logs) == [0, 1]
    assert not found.runs[0].finished
    offered = {(t.study, t.task, t.method, t.subject) for t in found.translated}
    assert offered == {(STUDY, "t1→t2", m, s) for m in METHODS for s in PEOPLE}
    with_scales = [t for t in found.translated if t.scales]
    assert [(t.method, t.subject) for t in with_scales] == [("cascade", "p0")]
    assert [p.name for p in with_scales[0].scales] == ["y0.nii", "y1.nii"]
    # The trace of the table, which knows where voxels count, outlives that of the scales.
    assert with_scales[0].provenance.regions == ("body",)
    assert found.scores(STUDY) == tmp_path / STUDY / "scores.csv"
    assert [page.name for page in found.pages] == ["09_study.html"]
    assert [i.name for i in found.images] == [f"smoke/shared/people/{p}" for p in PEOPLE]
    assert found.faults == ()
    assert not found.empty


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'{"target": "t2"}'])
@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
def test_a_damaged_run_is_named_and_hides_nothing(
    tmp_path: Path, name: str, content: bytes
) -> None:
    folder = tree(tmp_path) / "smoke" / "shared" / "t2-seamless-0123"
    shutil.copytree(folder, folder.with_name("other"))
    (folder / name).write_bytes(content)
    found = catalog(tmp_path)
    assert [run.name for run in found.runs] == ["smoke/shared/other"]
    assert [fault.path for fault in found.faults] == [folder]
    assert str(folder) in str(found.faults[0])
    assert len(found.translated) == 4


def test_damaged_and_missing_files_of_a_translation_are_named(tmp_path: Path) -> None:
    there = tree(tmp_path) / STUDY / "translated" / "t1-t2" / "fold0"
    (there / "cascade" / "p1.json").write_text('{"method": 1, "result": 2, "tiles": 3}')
    (there / "source" / "p1.json").write_text("{")
    (tmp_path / "smoke" / "shared" / "people" / "p0" / "p0_t2.nii").unlink()
    found = catalog(tmp_path)
    assert {t.subject for t in found.translated} == {"p0"}
    named = {fault.path.name for fault in found.faults}
    assert named == {"p1.json", "p0_t2.nii"}


def test_images_of_ones_own_are_grouped_by_grid(tmp_path: Path) -> None:
    flat = [image(tmp_path / f"x{k}.png", k, (8, 9)) for k in range(2)]
    deep = [image(tmp_path / name, 1, (8, 9, 10)) for name in ("a.nii", "b.nii.gz", "c.mha")]
    odd = image(tmp_path / "d.nrrd", 1, (8, 9, 11))
    image(tmp_path / "e.zarr", 1, (8, 9, 11))
    (tmp_path / "broken.nii").write_bytes(b"no image")
    (tmp_path / "a.json").write_text('{"EchoTime": 1}')  # as BIDS has it
    (tmp_path / "notes.txt").write_text("not an image")
    found = catalog(tmp_path)
    assert [i.name for i in found.images] == ["."]
    assert found.faults == ()
    groups, faults = grouped(found.images[0].paths)
    by_first = {g.paths[0].name: g.paths for g in groups}
    assert by_first["a.nii"] == tuple(deep)
    assert by_first["x0.png"] == tuple(flat)
    assert by_first["d.nrrd"] == (odd, tmp_path / "e.zarr")
    assert [fault.path.name for fault in faults] == ["broken.nii"]


def test_an_empty_folder_is_empty_and_none_is_an_error(tmp_path: Path) -> None:
    assert catalog(tmp_path).empty
    with pytest.raises(InputError, match="absent: no such folder"):
        catalog(tmp_path / "absent")


def test_kept_scales_without_a_trace_are_offered(tmp_path: Path) -> None:
    for i in range(2):
        image(tmp_path / "kept" / f"y{i}.nii", 1, (8 << i,) * 3)
    found = catalog(tmp_path)
    assert [(k.name, len(k.paths)) for k in found.kept] == [("kept", 2)]
    assert found.images == ()
