"""The slice browser without a browser: what a control changes in the picture it shows."""

import io

import numpy as np
import pytest
from PIL import Image

from msgan.types import Box, InputError
from msgan.widgets import Slices, browse

SHAPE = (6, 9, 4)


def volume() -> np.ndarray:
    """Every voxel differs from every other."""
    return np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_the_slider_changes_the_picture() -> None:
    shown = browse({"a": volume()})
    first = shown.picture.value
    shown.slice.value = 0
    second = shown.picture.value
    shown.slice.value = SHAPE[2] // 2
    assert first != second
    assert shown.picture.value == first
    assert shown.slice.max == SHAPE[2] - 1


def test_the_slider_stays_within_the_plane_and_each_plane_remembers_its_slice() -> None:
    shown = browse({"a": volume()})
    shown.slice.value = 99
    assert shown.slice.value == SHAPE[2] - 1
    shown.plane.value = "sagittal"
    assert (shown.slice.value, shown.slice.max) == (SHAPE[0] // 2, SHAPE[0] - 1)
    shown.slice.value = 5
    shown.plane.value = "coronal"
    assert shown.slice.max == SHAPE[1] - 1
    shown.slice.value = 8  # beyond what the other planes have
    shown.plane.value = "axial"
    assert shown.slice.value == SHAPE[2] - 1
    shown.plane.value = "sagittal"
    assert shown.slice.value == 5
    assert "i = 5" in shown.reading


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_change_of_plane_draws_once(plane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = browse({"a": volume()})
    shown.plane.value = "coronal" if plane != "coronal" else "axial"
    shown.slice.value = 0
    drawn = []
    png = Slices.png
    monkeypatch.setattr(Slices, "png", lambda self, *w: (drawn.append(w), png(self, *w))[1])
    shown.plane.value = plane
    assert drawn == [("a", plane, shown.slice.value)]
    assert shown.picture.value == png(shown.slices, *drawn[0])


def test_the_buttons_flip_between_images_at_the_same_slice() -> None:
    shown = browse({"a": volume(), "b": -volume()})
    shown.slice.value = 1
    a = pixels(shown.picture.value)
    shown.image.value = "b"
    b = pixels(shown.picture.value)
    assert shown.slice.value == 1
    np.testing.assert_allclose(a.astype(int) + b, 255, atol=1)
    assert shown.reading.startswith("b, ")


def test_planes_point_right_and_up() -> None:
    x = volume()
    slices = Slices({"a": x})
    np.testing.assert_array_equal(slices.read("a", "axial", 2), x[:, ::-1, 2].T)
    np.testing.assert_array_equal(slices.read("a", "coronal", 3), x[:, 3, ::-1].T)
    np.testing.assert_array_equal(slices.read("a", "sagittal", 1), x[1, :, ::-1].T)


def test_grey_values_follow_the_window_and_sides_follow_the_spacing() -> None:
    x = np.zeros((4, 4, 4), np.float32)
    x[0], x[1], x[2] = -5, 1, np.nan
    png = Slices({"a": x}, spacing=(1, 2, 1), window=(0, 2)).png("a", "axial", 0)
    picture = pixels(png)
    assert picture.shape == (384, 192)
    assert picture[0, [0, 60, 120, 180]].tolist() == [0, 127, 0, 0]


def test_windows_are_each_image_s_own_or_given_by_title() -> None:
    slices = Slices({"a": volume(), "b": 10 * volume()}, window={"a": (0, 1)})
    assert slices.windows["a"] == (0, 1)
    assert slices.windows["b"][1] > 1000
    flat = Slices({"c": np.full((3, 3), 7.0)})
    assert flat.windows["c"] == (6.5, 7.5)
    assert len(Slices({"n": np.full((3, 3), np.nan)}).png("n", "", 0)) > 0


def test_a_picture_has_no_slider_and_row_0_on_top() -> None:
    x = np.arange(12.0).reshape(3, 4)
    shown = browse({"a": x, "b": x[::-1]})
    assert shown.slice.layout.display == shown.plane.layout.display == "none"
    assert pixels(shown.picture.value)[0, 0] == 0
    before = shown.picture.value
    shown.image.value = "b"
    assert shown.picture.value != before
    assert "slice" not in shown.reading


def test_of_a_reader_only_the_slice_is_read() -> None:
    x, seen = volume(), []

    def read(box: Box) -> np.ndarray:
        seen.append(box)
        return x[box.slices]

    shown = browse({"a": (read, SHAPE)}, window=(0, 1))
    assert [box.size for box in seen] == [(6, 9, 1)]
    shown.plane.value = "coronal"
    assert seen[-1] == Box((0, SHAPE[1] // 2, 0), (6, 1, 4))


@pytest.mark.parametrize(
    ("volumes", "options", "message"),
    [
        ({}, {}, "no image"),
        ({"a": volume(), "b": volume()[1:]}, {}, r"a of shape \(6, 9, 4\), b of shape \(5, 9, 4\)"),
        ({"a": np.zeros((2, 2, 2, 2))}, {}, "expected 2 or 3 axes"),
        ({"a": np.zeros((0, 2, 2))}, {}, "expected 2 or 3 axes"),
        ({"a": volume()}, {"spacing": (1, 1)}, "expected 3 positive sizes"),
        ({"a": volume()}, {"spacing": (1, 1, 0)}, "expected 3 positive sizes"),
        ({"a": volume()}, {"window": (1, 1)}, "window"),
    ],
)
def test_bad_input_is_named(volumes: dict, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        browse(volumes, **options)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (("b", "axial", 0), "image 'b' is none of a"),
        (("a", "oblique", 0), "plane 'oblique' is none of axial"),
        (("a", "axial", 4), "slice 4: the axial plane has slices 0 to 3"),
        (("a", "axial", -1), "slice -1"),
    ],
)
def test_slices_that_are_not_there_are_named(what: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Slices({"a": volume()}).png(*what)


def test_a_still_picture_is_left_and_hidden_by_the_live_controls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from nbconvert import HTMLExporter
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    bundles: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: bundles.append(data))
    shown = browse({"a <b>": volume()}, caption="Look here", unit="HU")
    shown._ipython_display_()
    still, live = bundles
    assert "application/vnd.jupyter.widget-view+json" in live
    style = shown.box.children[0].value
    assert "display: none" in style
    assert still["text/html"].split('class="')[1].split('"')[0] in style
    assert "Look here. a &lt;b&gt;" in still["text/html"]
    other = browse({"a": volume()})
    assert other.box.children[0].value != style  # one browser does not hide another's picture

    cell = new_code_cell("x", outputs=[new_output("display_data", data=d) for d in bundles])
    page, _ = HTMLExporter().from_notebook_node(new_notebook(cells=[cell]))
    assert f"data:image/png;base64,{still['image/png']}" in page
