"""A lesion is drawn by clicks, and the image is translated with it and without."""

import numpy as np
import pytest
from helpers import config_of, head, run_of, stored, whole

from msgan.data.cohort import Subject
from msgan.types import InputError
from msgan.widgets.canvas import Touch
from msgan.widgets.lesion import ERASE, NAMES, PAINT, draw_lesion


@pytest.fixture
def editor(tmp_path):
    run = run_of(tmp_path / "run", config_of(3, labels=(1, 2)))
    image = stored(tmp_path / "t1.nii", head((24, 24, 24)))
    made = draw_lesion(run, image, tmp_path / "out", modality="t1", device="cpu")
    yield made
    made.close()


def click(editor, right, down, picture=0):
    touch = Touch(picture, "point", right, down)
    for listener in editor.viewer.controls.panes.canvas._listeners:
        listener(touch)


def test_a_click_paints_only_with_the_brush(editor):
    editor.radius.value = 3
    click(editor, 0.3, 0.4)
    assert editor.lesion.balls == ()
    editor.tool.value, editor.label.value = PAINT, 2
    click(editor, 0.5, 0.45)
    assert [(b.centre, b.radius, b.value) for b in editor.lesion.balls] == [
        (editor.viewer.at, 3.0, 2)
    ]
    assert f"{editor.lesion.volume_ml:.2f} ml are painted" in editor.reading
    click(editor, 0.5, 0.45)  # the same voxel again
    assert len(editor.lesion.balls) == 2
    at = editor.viewer.at
    editor.viewer.controls.place.sliders["axial"].value += 2  # slices may be looked through
    assert editor.viewer.at != at
    assert len(editor.lesion.balls) == 2
    editor.buttons["undo"].click()
    editor.tool.value = ERASE
    click(editor, 0.6, 0.45)
    assert editor.lesion.balls[-1].value == 0
    before = editor.static_fallback
    for name, count in (("undo", 1), ("place", 2), ("grow", 2), ("shrink", 2), ("clear", 0)):
        editor.buttons[name].click()
        assert len(editor.lesion.balls) == count, name
    assert editor.static_fallback != before  # the overlay goes with it


def test_the_image_is_translated_with_the_lesion_and_without(editor):
    editor.paint((8, 12, 12), 3, 1)
    editor.viewer.panes.turn(True)
    shown = editor.translate()
    assert shown.panes.slices.grid.radiological  # as where it was painted
    assert shown.slices.titles[:3] == NAMES
    assert shown.slices.titles[3] == "with the lesion − without"
    made, plain = (whole(editor.folder / name) for name in ("with-1.nii", "without.nii"))
    assert made[8, 12, 12] != plain[8, 12, 12]
    assert (whole(editor.folder / "lesion-1.nii.gz") == 1).sum() > 50
    for name in ("with-1.json", "without.json"):
        assert (editor.folder / name).is_file()
    first = editor.static_fallback
    kept = (editor.folder / "without.nii").stat().st_mtime_ns
    editor.paint((8, 12, 12), 5, 2)
    editor.buttons["translate"].click()
    assert (editor.folder / "with-2.nii").is_file()
    assert (editor.folder / "without.nii").stat().st_mtime_ns == kept  # made once
    assert editor.static_fallback != first
    np.testing.assert_array_equal(editor.comparison.at, editor.viewer.at)


def test_what_cannot_be_done_is_one_sentence(editor, tmp_path):
    editor.buttons["translate"].click()
    assert "nothing is painted: paint a lesion first" in editor._words.value
    assert not editor.buttons["translate"].disabled
    assert editor.comparison is None
    run = run_of(tmp_path / "other", config_of(3))
    with pytest.raises(InputError, match="other: has learnt no labels, so no lesion can be drawn"):
        draw_lesion(run, tmp_path / "t1.nii")


def test_without_a_folder_nothing_is_left(tmp_path):
    run = run_of(tmp_path / "run", config_of(3, labels=(1,)))
    image = stored(tmp_path / "t1.nii", head((24, 24, 24)))
    made = draw_lesion(run, image, device="cpu")
    made.paint((8, 12, 12), 3, 1)
    made.translate()
    assert len(list(made.folder.iterdir())) == 5  # mask, and two translations with sidecars
    made.close()
    assert not made.folder.exists()


def test_a_subject_says_itself_what_its_image_shows(tmp_path, monkeypatch):
    run = run_of(tmp_path / "run", config_of(3, labels=(1,)))
    image = stored(tmp_path / "a.nii", head((24, 24, 24)))
    person = Subject("somebody", {"flair": image})
    made = draw_lesion(run, person, tmp_path / "out", modality="t1", device="cpu")
    assert made.viewer.slices.titles == ("flair",)
    told: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: told.append(data))
    made._ipython_display_()
    assert told[0]["text/plain"].startswith("somebody. ")
    assert "Nothing is painted." in told[0]["text/plain"]
    made.close()
    both = Subject("somebody", {"flair": image, "t1": image})
    with pytest.raises(InputError, match=r"^somebody: 2 images: expected one$"):
        draw_lesion(run, both, tmp_path / "out")
