"""Whatever lies on disk can be picked and seen; what cannot is named."""

import shutil
import tracemalloc
from pathlib import Path

import pytest
from helpers import config_of, head, run_of, stored
from tree import METHODS, PEOPLE, STUDY, image, tree

from msgan.report.catalog import catalog
from msgan.report.scores import scores_of
from msgan.translate import translate
from msgan.types import Box, InputError
from msgan.widgets.entries import date_of
from msgan.widgets.explorer import explore
from msgan.widgets.lesion import LesionEditor
from msgan.widgets.views import shortened


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("tree"))


def test_everything_on_disk_is_offered(study: Path) -> None:
    shown = explore(study)
    people = [f"images: smoke/shared/people/{name}" for name in PEOPLE]
    today = date_of([study / "smoke" / "shared" / "t2-seamless-0123" / "run.json"])
    training = f"trainings: T2 from edges, smoke, smoke/shared/t2-seamless-0123, {today}"
    assert list(shown.run.options) == ["studies: 09 study, smoke", training, *people]
    assert shown.task.options == ("t1→t2",)
    assert shown.method.options == METHODS
    assert shown.subject.options == PEOPLE
    for entry in shown.run.options:
        shown.run.value = entry
        assert len(shown.static_fallback) > 1000, entry


def test_changing_subject_method_and_view_changes_the_picture(study: Path) -> None:
    shown = explore(study)
    seen = [shown.static_fallback]
    shown.subject.value = "p1"
    seen.append(shown.static_fallback)
    shown.method.value = "source"
    assert shown.subject.value == "p1"  # what is chosen stays
    seen.append(shown.static_fallback)
    shown.method.value, shown.subject.value = "cascade", "p0"
    for view in ("scales", "tiles", "curves"):
        shown.view.value = view
        seen.append(shown.static_fallback)
    assert len(set(seen)) == len(seen)
    shown.view.value = "compare"
    assert shown.static_fallback == seen[0]


def test_left_and_right_stay_turned_from_view_to_view(study: Path) -> None:
    shown = explore(study)
    before = {}
    for view in ("compare", "tiles", "scales"):
        shown.view.value = view
        before[view] = shown.static_fallback
    shown.shown.viewer.panes.turn(True)
    for view in ("curves", "tiles", "compare"):
        shown.view.value = view
        assert view == "curves" or shown.static_fallback != before[view], view
    shown.subject.value = "p1"
    assert shown.shown.panes.slices.grid.radiological
    shown.shown.panes.turn(False)
    shown.subject.value = "p0"
    assert shown.static_fallback == before["compare"]


def test_planes_and_volumes_share_the_crosshair(study: Path) -> None:
    shown = explore(study)
    shown.shown.at = (3, 2, 1)
    shown.view.value = "3D"
    assert [*shown.shown.volumes] == ["source", "translated", "real"]
    assert shown.shown.at == (3, 2, 1)
    shown.shown.at = (1, 2, 3)
    assert len(shown.static_fallback) > 1000
    volumes = [*shown.shown.volumes.values()]
    shown.view.value = "compare"
    assert shown.shown.at == (1, 2, 3)
    assert all(one.comm is None for one in volumes)  # the page holds them no longer


def test_only_what_a_method_has_is_offered(study: Path) -> None:
    shown = explore(study)
    assert shown.view.options == ("compare", "3D", "scales", "tiles", "curves", "scores")
    shown.view.value = "tiles"
    shown.method.value = "source"
    assert shown.view.options == ("compare", "3D", "scores")
    assert shown.view.value == "compare"
    assert shown.static_fallback


def test_only_what_is_shown_is_open(study: Path) -> None:
    shown = explore(study)
    most, opened = 0, {}
    for _ in range(2):
        for person in PEOPLE:
            for method in METHODS:
                shown.method.value, shown.subject.value = method, person
                for view in shown.view.options:
                    shown.view.value = view
                    opened |= dict(shown.volume_cache._volumes)
                    most = max(most, len(shown.volume_cache.paths))
    assert most <= 4
    shown.close()
    assert shown.volume_cache.paths == set()
    assert len(opened) > 8
    for volume in opened.values():
        with pytest.raises(ValueError, match="closed"):
            volume.read(Box.whole(volume.grid.shape))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(study: Path, tmp_path: Path) -> None:
    assert explore(study).static_fallback  # what is loaded once
    side = 160
    shown = explore(tree(tmp_path, side))
    tracemalloc.start()
    try:
        for person in PEOPLE:
            shown.subject.value = person
            for view in {"compare", "scales", "tiles"} & {*shown.view.options}:
                shown.view.value = view
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < side**3 * 4, "less than one of the images"


def test_a_damaged_run_is_named_and_the_rest_is_shown(study: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(study, root)
    (root / "smoke" / "shared" / "t2-seamless-0123" / "run.json").write_text("{")
    (root / STUDY / "translated/t1-t2/fold0/cascade/p1.nii").write_bytes(b"broken")
    shown = explore(root)
    assert "t2-seamless-0123/run.json" in shown._faults.value
    shown.subject.value = "p1"
    assert "p1.nii" in shown.reading
    assert shown.static_fallback == b""
    shown.subject.value = "p0"
    assert shown.static_fallback
    assert "curves" not in shown.view.options


def test_a_folder_of_ones_own_images_is_the_viewer(tmp_path: Path, dims: int) -> None:
    suffix = "png" if dims == 2 else "nii.gz"
    for k in range(2):
        image(tmp_path / f"x{k}.{suffix}", k, (12,) * dims)
    image(tmp_path / f"y.{suffix}", 3, (14,) * dims)
    (tmp_path / "z.nii").write_bytes(b"broken")
    shown = explore(tmp_path)
    assert shown.run.options == (f"images: {tmp_path}",)  # not a dot, which says nothing
    assert len(shown.subject.options) == 2
    assert shown.view.layout.display == "none"
    first = shown.static_fallback
    assert "x0" in shown.reading
    shown.subject.value = shown.subject.options[1]
    assert shown.static_fallback != first
    assert "z.nii" in shown._faults.value


def test_an_empty_folder_says_what_fills_it(tmp_path: Path) -> None:
    shown = explore(tmp_path)
    assert "./run_all.sh smoke" in shown.reading
    assert "msgan translate RUN IN" in shown.reading
    assert shown.static_fallback == b""
    with pytest.raises(InputError, match="no such folder"):
        explore(tmp_path / "absent")


def test_it_leaves_a_picture_where_no_kernel_answers(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: told.append(data))
    explore(study)._ipython_display_()
    still, live = told
    assert "data:image/png;base64," in still["text/html"]
    assert "p0, t1→t2 by cascade" in still["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in live
    explore(tmp_path)._ipython_display_()
    assert "./run_all.sh smoke" in told[-1]["text/html"]


def test_scores_stand_with_what_they_were_measured_on(study: Path) -> None:
    found = catalog(study)
    one = next(t for t in found.translated if (t.method, t.subject) == ("source", "p1"))
    table = scores_of(found, one)
    assert list(table["method"].unique()) == [*METHODS]
    own = table[(table["method"] == "source") & (table["of"] == "p1")].iloc[0]
    assert (own["SSIM"], own["PSNR (dB)"]) == (0.11, 21.1)
    assert (own["n"], own["voxels"], own["region"], own["axes"]) == (1, 4096, "body", "3D")
    assert own["range"] == "0 to 99 a.u."
    mean = table[(table["method"] == "source") & (table["of"] == "mean")].iloc[0]
    assert (mean["n"], mean["SSIM"]) == (2, pytest.approx((0.01 + 0.11) / 2))
    shown = explore(study)
    shown.view.value = "scores"
    assert "<table" in shown._words.value


def test_a_damaged_table_of_scores_is_named(study: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(study, root)
    (root / STUDY / "scores.csv").write_bytes(b"\xff\x00a,b\n1")
    shown = explore(root)
    shown.view.value = "scores"
    assert "scores.csv: not a table of scores" in shown._words.value


def test_a_lesion_is_drawn_on_the_source_of_a_translation(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", config_of(3, labels=(1,)))
    source = stored(tmp_path / "t1.nii", head((24, 24, 24)))
    translate(run, source, tmp_path / "t2.nii", modality="t1", device="cpu")
    shown = explore(tmp_path)
    shown.view.value = "lesion"
    editor = shown.shown
    assert isinstance(editor, LesionEditor)
    editor.paint((8, 12, 12), 3)
    shown.view.value = "compare"
    shown.view.value = "lesion"
    assert shown.shown is editor  # what is painted stays
    editor.buttons["translate"].click()
    assert editor.comparison is not None
    assert len(shown.static_fallback) > 1000
    folder = editor.folder
    shown.close()
    assert not folder.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"run", "t1.nii", "t2.nii", "t2.json"}


def test_labels_and_masks_of_ones_own_lie_over_the_images(tmp_path: Path) -> None:
    for k, name in enumerate(("t1", "t2", "labels", "mask")):
        image(tmp_path / f"sub-01_{name}.nii", k, (12, 12, 12))
    shown = explore(tmp_path)
    viewer = shown.shown
    assert viewer.slices.titles == ("t1", "t2")
    assert viewer.slices.overlays == ("labels", "mask")
    assert viewer.slices.masks == {"mask"}
    assert viewer.image.options == ("t1", "t2", "all")
    assert viewer.image.tooltips[0] == "sub-01_t1.nii"


def test_names_are_short_where_they_are_the_same_and_cut_in_the_middle() -> None:
    assert shortened(["patient000_t1.nii.gz", "patient000_t2.nii.gz"]) == ["t1", "t2"]
    assert shortened(["a.nii"]) == ["a"]
    assert shortened(["x.nii", "x.nii.gz"]) == ["x.nii", "x.nii.gz"]
    long = [f"{end}_{'very_' * 9}long_{end}.nii" for end in ("one", "two")]
    short = shortened(long)
    assert all(len(name) <= 28 and "…" in name for name in short)
    assert [name[-3:] for name in short] == ["one", "two"]
