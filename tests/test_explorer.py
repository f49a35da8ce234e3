"""Whatever lies on disk can be picked and seen; what cannot is named."""

import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import config_of, head, run_of, stored
from tree import METHODS, PEOPLE, STUDY, image, run, tree

from msgan.data.cohort import Subject
from msgan.report.catalog import Translated, catalog
from msgan.report.scores import as_html, scores_of
from msgan.translate import translate
from msgan.translate.provenance import beside, provenance
from msgan.types import Box, InputError
from msgan.widgets.entries import date_of
from msgan.widgets.explorer import explore
from msgan.widgets.lesion import LesionEditor
from msgan.widgets.scales import Scales
from msgan.widgets.views import comparison_of, scales_of, shortened, tiles_of
from msgan.widgets.volume_cache import VolumeCache


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


# --- one translation ---------------------------------------------------------------------------


@pytest.fixture
def one(study: Path) -> Translated:
    """That of the first person by the cascade."""
    found = catalog(study).translated
    return next(t for t in found if (t.method, t.subject) == ("cascade", PEOPLE[0]))


@pytest.fixture
def volume_cache() -> Iterator[VolumeCache]:
    cache = VolumeCache()
    yield cache
    cache.keep([])


def changed(one: Translated, **known: object) -> Translated:
    return replace(one, provenance=replace(one.provenance, **known))


NOT_REAL = " The real image is missing or lies on another grid."


def test_a_real_image_that_does_not_fit_is_left_out_and_the_caption_says_so(
    one: Translated, volume_cache: VolumeCache, tmp_path: Path
) -> None:
    whole = comparison_of(one, volume_cache)
    assert whole.slices.titles == ("source", "translated", "real", "translated − real")
    assert NOT_REAL not in whole.controls.caption
    for real in (tmp_path / "absent.nii", image(tmp_path / "other.nii", 1, (12,) * 3)):
        shown = comparison_of(changed(one, real=real), volume_cache)
        assert shown.slices.titles == ("source", "translated")
        assert shown.controls.caption.endswith(NOT_REAL)
        assert list(tiles_of(changed(one, real=real), volume_cache)._images) == ["translated"]
    alone = comparison_of(changed(one, real=None), volume_cache)
    assert alone.slices.titles == ("source", "translated")
    assert NOT_REAL not in alone.controls.caption  # nobody has said that there is one


def test_a_translation_on_another_grid_than_its_source_is_named(
    one: Translated, volume_cache: VolumeCache, tmp_path: Path
) -> None:
    coarse = image(tmp_path / "coarse.nii", 1, (8,) * 3, 2.0)
    with pytest.raises(InputError, match=r"p0\.nii: its grid .*16.* is not the source's, .*8"):
        comparison_of(changed(one, image=coarse), volume_cache)


def test_the_labels_that_were_translated_lie_over_the_images(
    one: Translated, volume_cache: VolumeCache, tmp_path: Path
) -> None:
    drawn = np.zeros((16,) * 3, np.uint8)
    drawn[4:9, 4:9, 8] = 2
    labels = stored(tmp_path / "labels.nii", drawn, dtype=np.uint8, unit="label")
    shown = comparison_of(changed(one, labels=labels), volume_cache)
    assert shown.slices.overlays == ("labels",)
    assert shown.slices.found("labels", "axial", 8) == (2,)
    labels.unlink()
    assert comparison_of(changed(one, labels=labels), VolumeCache()).slices.overlays == ()


@pytest.mark.parametrize(
    ("view", "known", "message"),
    [
        (
            scales_of,
            {},
            r"^no scales of p0 by cascade were kept: msgan translate RUN IN OUT --keep",
        ),
        (tiles_of, {"tiles": ()}, "^cascade makes the whole image at once: it has no tiles$"),
        (tiles_of, {"grid": None}, "^cascade makes the whole image at once: it has no tiles$"),
    ],
)
def test_a_view_that_a_translation_has_not_is_refused(
    view: Callable, known: dict, message: str, one: Translated, volume_cache: VolumeCache
) -> None:
    with pytest.raises(InputError, match=message):
        view(replace(changed(one, **known), scales=()), volume_cache)


# --- scores ------------------------------------------------------------------------------------


def scored(study: Path, root: Path, change: Callable[[list[str]], list[str]]) -> Path:
    """A copy whose table of scores has other lines."""
    shutil.copytree(study, root)
    table = root / STUDY / "scores.csv"
    table.write_text("\n".join(change(table.read_text().splitlines())) + "\n")
    return root


def test_a_subject_without_a_line_of_scores_is_named(study: Path, tmp_path: Path) -> None:
    root = scored(study, tmp_path / "copy", lambda lines: [n for n in lines if ",p1," not in n])
    shown = explore(root)
    shown.view.value = "scores"
    assert "<table" in shown._words.value
    assert ">mean<" not in shown._words.value  # of one subject it is the same again
    shown.subject.value = "p1"
    shown.view.value = "scores"
    assert shown._words.value == "<p>no scores of p1 were left</p>"
    assert shown._place.children == ()


def test_regions_have_lines_where_the_table_has_them(study: Path, tmp_path: Path) -> None:
    def lungs(lines: list[str]) -> list[str]:
        return [f"{lines[0]},lung_mae", *(f"{line},0.{k}5" for k, line in enumerate(lines[1:]))]

    found = catalog(scored(study, tmp_path / "copy", lungs))
    one = next(t for t in found.translated if (t.method, t.subject) == ("cascade", "p0"))
    table = scores_of(found, changed(one, regions=("body", "lung", "bone")))
    own = table[(table["of"] == "p0") & (table["method"] == "cascade")].set_index("region")
    assert list(own.index) == ["body", "lung"]  # of the bone nothing was measured
    assert own["MAE"].to_dict() == {"body": 0.1, "lung": 0.05}
    assert own["voxels"]["body"] == 4096
    html = as_html(table)
    assert "<td></td>" in html  # no voxels were counted in the lung


@pytest.mark.parametrize("told", [True, False])
def test_without_a_table_scores_are_those_beside_the_image(
    told: bool, study: Path, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(study, root)
    (root / STUDY / "scores.csv").unlink()
    path = root / STUDY / "translated/t1-t2/fold0/cascade/p0.json"
    lines = [
        {"method": "cascade", "region": "whole image", "ssim": 0.5, "mae": 0.2, "voxels": 64},
        {"method": "source", "region": "whole image", "ssim": 0.625, "unknown": 3},
    ]
    if told:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"scores": lines}))
    shown = explore(root)
    assert ("scores" in shown.view.options) == told
    if not told:
        return
    shown.view.value = "scores"
    words = shown._words.value
    assert "<b>0.6250</b>" in words
    assert words.index("source") < words.index("cascade")  # the best first
    assert "of p0, region whole image" in words
    assert "unknown" not in words
    shown.subject.value = "p1"
    assert "scores" not in shown.view.options


# --- what stays and what goes ------------------------------------------------------------------


def test_scales_that_no_sidecar_names_are_shown(tmp_path: Path) -> None:
    for k in range(2):
        image(tmp_path / "kept" / f"y{k}.nii", k, (8 * (k + 1),) * 3, 2.0 / (k + 1))
    shown = explore(tmp_path)
    assert shown.run.options == ("scales kept: kept",)
    assert isinstance(shown.shown, Scales)
    assert shown.reading.startswith("From top to bottom s0 (8 x 8 x 8), s1 (16 x 16 x 16) voxels")


def test_a_folder_of_damaged_images_says_that_none_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.nii").write_bytes(b"broken")
    shown = explore(tmp_path)
    assert shown.reading == "mine: no image in it can be read"
    assert "x.nii" in shown._faults.value
    assert shown.subject.layout.display == "none"


def test_what_is_shown_no_longer_is_off_the_page(study: Path) -> None:
    shown = explore(study)
    shown.view.value = "3D"
    volumes = [*shown.shown.volumes.values()]
    shown.close()
    assert all(volume.comm is None for volume in volumes)
    assert shown.box.comm is None


def test_curves_of_another_training_take_the_place_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msgan.widgets.curves.Curves._drawn", lambda self: b"png")
    run(tmp_path / "first")
    run(tmp_path / "second", rows=2)
    shown = explore(tmp_path)
    one, two = sorted(shown.run.options)
    shown.run.value = one
    first = shown.shown
    assert (first.run.folder.name, len(first.table)) == ("first", 2 * 5)
    shown.run.value = two
    assert (shown.shown.run.folder.name, len(shown.shown.table)) == ("second", 2 * 2)
    assert first.box.comm is None
    assert shown.shown.box.comm is not None


def test_a_lesion_of_another_image_begins_anew(tmp_path: Path) -> None:
    made = run_of(tmp_path / "run", config_of(3, labels=(1,)))
    for name in PEOPLE:
        source = stored(tmp_path / f"{name}_t1.nii", head((24, 24, 24)))
        result = stored(tmp_path / f"{name}.nii", head((24, 24, 24), 1))
        person = Subject(name, {"t1": source})
        about = provenance(person, "t1", "t2", result, made.intensity, run=made.folder)
        about.save(beside(result))
    shown = explore(tmp_path)
    shown.view.value = "lesion"
    first = shown.shown
    first.paint((8, 12, 12), 3)
    shown.subject.value = PEOPLE[1]
    shown.view.value = "lesion"
    assert shown.shown is not first
    assert shown.shown.lesion.balls == ()
    assert not first.folder.exists()
    assert shown.shown.folder.exists()
    shown.close()


def test_a_picture_is_left_of_images_and_of_trainings_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: told.append(data))
    image(tmp_path / "mine" / "x.nii", 1)
    explore(tmp_path)._ipython_display_()
    assert told[0]["text/plain"].startswith("mine. ")
    assert "data:image/png;base64," in told[0]["text/html"]
