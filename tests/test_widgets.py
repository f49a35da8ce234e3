"""Viewers without a browser: what a touch, a key or a control changes in what is shown."""

import io
import time
import weakref
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
from PIL import Image

from msgan.data.volume import open_volume
from msgan.plots.style import label_colour
from msgan.types import Box, InputError
from msgan.widgets import Comparison, Slices, Viewer, browse, compare, compared, render
from msgan.widgets.canvas import Canvas, Picture, Scene
from msgan.widgets.colours import MAPS
from msgan.widgets.volume3d import Renderings
from msgan.widgets.window import HU, OWN

SHAPE = (6, 9, 4)
PLANES = ("axial", "coronal", "sagittal")


def volume() -> np.ndarray:
    """Every voxel differs from every other."""
    return np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def shown(viewer: Viewer | Comparison) -> list[np.ndarray]:
    return [pixels(p.png) for p in viewer.controls.panes.canvas.pictures]


def touch(viewer: Viewer | Comparison, **content: object) -> None:
    """What canvas.js sends, through the door it comes in by."""
    widget = viewer.controls.panes.canvas.widget
    data = {"method": "custom", "content": content}
    widget._handle_msg({"content": {"data": data}, "buffers": []})


def under_the_crosshair(viewer: Viewer, picture: int) -> np.ndarray:
    part = viewer.controls.panes.canvas.pictures[picture]
    array = pixels(part.png)
    right, down = part.mark
    return array[int(down * array.shape[0]), int(right * array.shape[1])]


# --- slices --------------------------------------------------------------------------------------


def test_planes_point_right_and_up() -> None:
    x = volume()
    slices = Slices({"a": x})
    np.testing.assert_array_equal(slices.read("a", "axial", 2), x[:, ::-1, 2].T)
    np.testing.assert_array_equal(slices.read("a", "coronal", 3), x[:, 3, ::-1].T)
    np.testing.assert_array_equal(slices.read("a", "sagittal", 1), x[1, :, ::-1].T)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "IPR", "SLA"])
def test_with_an_affine_planes_are_those_of_the_body(axes: str) -> None:
    ras = nib.Nifti1Image(volume(), np.diag([1.0, 2.0, 3.0, 1.0]))
    to = nib.orientations.axcodes2ornt(axes)
    turned = ras.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(ras.affine), to))
    straight = Slices({"a": volume()}, spacing=(1, 2, 3))
    slices = Slices({"a": np.asarray(turned.dataobj)}, affine=turned.affine)
    for plane in PLANES:
        number = slices.slices(plane) // 2
        there = slices.grid.position(slices.grid.voxel(plane, 0.1, 0.1, slices.grid.middle))
        index = round(there[(2, 1, 0)[PLANES.index(plane)]] / (3, 2, 1)[PLANES.index(plane)])
        np.testing.assert_array_equal(
            slices.read("a", plane, number), straight.read("a", plane, index)
        )
        assert slices.grid.size(plane) == pytest.approx(straight.grid.size(plane))


@pytest.mark.parametrize("plane", PLANES)
def test_a_voxel_lies_where_its_pixel_is(plane: str) -> None:
    affine = np.array([[0, -1.0, 0, 9], [2, 0, 0, 0], [0, 0, -3, 5], [0, 0, 0, 1]])
    for slices in (Slices({"a": volume()}), Slices({"a": volume()}, affine=affine)):
        at = (4, 1, 3)
        picture = slices.read("a", plane, slices.grid.index(plane, at))
        right, down = slices.grid.point(plane, at)
        pixel = picture[int(down * picture.shape[0]), int(right * picture.shape[1])]
        assert pixel == volume()[at] == slices.value("a", at)
        assert slices.grid.voxel(plane, right, down, at) == at


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


def test_overlays_colour_what_they_mark_and_nothing_else() -> None:
    labels = np.zeros(SHAPE, np.int16)
    labels[0, 0], labels[1, 1] = 1, 2
    sketch = np.zeros(SHAPE, np.float32)
    sketch[5, 8] = 1
    slices = Slices({"a": volume()}, labels=labels, sketch=sketch)
    plain = slices.picture("a", "axial", 1)
    laid = slices.picture("a", "axial", 1, opacity=1.0)
    marked = (labels + sketch)[:, ::-1, 1].T > 0
    grey = np.repeat(plain[..., None], 3, axis=2)
    np.testing.assert_array_equal(laid[~marked], grey[~marked])
    for (i, j), value in {(0, 0): 1, (1, 1): 2}.items():
        expected = np.array(label_colour(value)) * 255
        np.testing.assert_allclose(laid[SHAPE[1] - 1 - j, i], expected, atol=0.51)
    assert np.ptp(laid[0, 5].astype(int)) > 50  # the edge is no grey
    half = slices.picture("a", "axial", 1, opacity=0.5).astype(float)
    np.testing.assert_allclose(half, (grey.astype(float) + laid) / 2, atol=1)


def test_a_difference_is_white_at_zero_blue_below_and_red_above() -> None:
    x = np.array([[-1.0, 0.0, 1.0]])
    blue, white, red = Slices({"d": x}, diverging=["d"]).picture("d", "", 0)[0].astype(int)
    assert white.min() > 240
    assert blue[2] > blue[0] + 50
    assert red[0] > red[2] + 50


# --- the viewer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("picture", "axis"), [(0, 2), (1, 1), (2, 0)])
def test_moving_in_one_plane_changes_the_two_others(picture: int, axis: int) -> None:
    viewer = browse({"a": volume()}, window=(0, 216))
    before = shown(viewer)
    touch(viewer, picture=picture, kind="point", right=0.0, down=0.0)
    after = shown(viewer)
    for number in range(3):
        assert np.array_equal(before[number], after[number]) == (number == picture)
    assert viewer.at[axis] == SHAPE[axis] // 2
    assert [under_the_crosshair(viewer, n) for n in range(3)] == [
        int(volume()[viewer.at] * 255 / 216)
    ] * 3


def test_keys_move_the_slice_of_their_plane_and_stop_at_its_ends() -> None:
    viewer = browse({"a": volume()})
    for kind, by, index in [
        ("step", 1, 5),
        ("step", -2, 3),
        ("step", 10, 8),
        ("first", 0, 0),
        ("step", -1, 0),
        ("last", 0, 8),
    ]:
        touch(viewer, picture=1, kind=kind, by=by)
        assert viewer.at == (3, index, 2)
        assert viewer.controls.place.sliders["coronal"].value == index
    assert f"coronal, j = {viewer.at[1]}" in viewer.reading


def test_every_message_is_answered_even_one_that_changes_nothing() -> None:
    viewer = browse({"a": volume()})
    widget = viewer.controls.panes.canvas.widget
    touch(viewer, picture=0, kind="first")
    touch(viewer, picture=0, kind="first")
    touch(viewer, picture=7, kind="first")  # of a picture that has gone
    assert widget.answered == 3


def test_sliders_crosshair_and_listeners_follow_each_other() -> None:
    viewer, heard = browse({"a": volume()}), []
    viewer.on_move(heard.append)
    viewer.controls.place.sliders["sagittal"].value = 5
    viewer.at = (1, 2, 3)
    viewer.at = (1, 2, 3)
    assert heard == [(5, 4, 2), (1, 2, 3)]
    assert [viewer.controls.place.sliders[p].value for p in PLANES] == [3, 2, 1]
    with pytest.raises(InputError, match=r"at \(6, 0, 0\): outside images of shape"):
        viewer.at = (6, 0, 0)


def test_the_readout_tells_voxel_position_and_values_with_units() -> None:
    affine = np.array([[-2.0, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    labels = np.full(SHAPE, 7)
    viewer = browse({"a": volume(), "b": -volume()}, affine=affine, unit={"a": "HU"}, labels=labels)
    viewer.at = (1, 2, 3)
    value = f"{volume()[1, 2, 3]:.0f}"  # of 0 to 215: no digit behind the point
    text = viewer.controls.panes.canvas.widget.told
    assert text.startswith("voxel (i, j, k) = (1, 2, 3); at 8.0, 24.0, 39.0 mm; ")
    assert f"a {value} HU; b -{value} a.u.; labels 7" in text
    assert "mm" not in browse({"a": volume()}).controls.place.text


def test_the_buttons_flip_between_images_at_the_same_place() -> None:
    viewer = browse({"a": volume(), "b": -volume()})
    viewer.at = (1, 2, 3)
    a = shown(viewer)
    viewer.show("b")
    for first, second in zip(a, shown(viewer), strict=True):
        np.testing.assert_allclose(first.astype(int) + second, 255, atol=1)
    assert viewer.reading.startswith("b, ")
    with pytest.raises(InputError, match="image 'c' is none of a, b, all"):
        viewer.show("c")


def test_presets_of_ct_are_offered_for_hu_only_and_set_the_grey_values() -> None:
    x = np.linspace(-2000, 2000, np.prod(SHAPE)).reshape(SHAPE)
    viewer = browse({"a": x}, unit="HU")
    for name, (low, high) in HU.items():
        viewer.controls.window.preset.value = name
        expected = np.clip((x[viewer.at] - low) * 255 / (high - low), 0, 255)
        assert abs(int(under_the_crosshair(viewer, 0)) - expected) <= 1
        assert f"{low:.4g} (black) to {high:.4g} (white) HU" in viewer.reading
    assert "lung" not in browse({"a": x}).controls.window.preset.options


def test_a_range_of_one_s_own_stays_with_its_image() -> None:
    viewer = browse({"a": volume(), "b": volume()})
    before = shown(viewer)
    viewer.controls.window.range.value = (0.0, 50.0)
    assert viewer.controls.window.preset.value == OWN
    assert not np.array_equal(shown(viewer)[0], before[0])
    viewer.show("b")
    np.testing.assert_array_equal(shown(viewer)[0], before[0])
    viewer.show("a")
    assert viewer.controls.window.of("a") == (0.0, 50.0)


def test_a_page_that_rounds_the_range_to_steps_changes_nothing() -> None:
    viewer = browse({"a": volume()})
    window, control = viewer.controls.window.of("a"), viewer.controls.window
    step = control.range.step
    control.range.value = tuple(step * round(v / step) for v in window)
    assert control.preset.value != OWN
    assert control.of("a") == window


def test_the_overlay_is_switched_and_faded() -> None:
    viewer = browse({"a": volume()}, labels=np.ones(SHAPE, int))
    place = viewer.controls.place
    strong = shown(viewer)[0]
    place.opacity.value = 0.1
    weak = shown(viewer)[0]
    place.overlay.value = False
    off = shown(viewer)[0]
    assert (strong.ndim, weak.ndim, off.ndim) == (3, 3, 2)
    far = [np.abs(x - off[..., None].astype(float)).mean() for x in (strong, weak)]
    assert far[0] > far[1] > 0
    assert browse({"a": volume()}).controls.place.over.layout.display == "none"


def test_other_images_are_swapped_into_the_same_widget() -> None:
    viewer = browse({"a": volume(), "b": -volume()}, unit="HU")
    viewer.show("b")
    viewer.controls.window.preset.value = "bone"
    viewer.at = (1, 2, 3)
    widget, heard = viewer.controls.panes.canvas.widget, []
    viewer.on_move(heard.append)
    viewer.set_slices(Slices({"b": 2 * volume(), "c": volume()}), caption="Another")
    assert viewer.controls.panes.canvas.widget is widget
    assert (viewer.at, viewer.image.value, viewer.controls.caption) == ((1, 2, 3), "b", "Another")
    assert viewer.controls.window.of("b") == HU["bone"]
    assert heard == []
    viewer.set_slices(Slices({"z": np.zeros((3, 3, 30))}))
    assert viewer.at == (1, 1, 15)
    assert heard == [(1, 1, 15)]
    assert viewer.controls.place.sliders["axial"].max == 29
    assert shown(viewer)[1].shape == (30, 3)


def test_a_picture_has_no_slider_and_row_0_on_top() -> None:
    x = np.arange(12.0).reshape(3, 4)
    viewer = browse({"a": x, "b": x[::-1]})
    assert viewer.controls.place.box.layout.display == "none"
    assert shown(viewer)[0][0, 0] == 0
    touch(viewer, picture=0, kind="point", right=0.99, down=0.01)
    assert viewer.at == (0, 3)
    assert "pixel (row, column) = (0, 3); a 3.0 a.u.; b 11.0 a.u." in viewer.controls.place.text
    touch(viewer, picture=0, kind="step", by=1)
    assert viewer.at == (0, 3)


def test_of_a_reader_only_the_slices_shown_are_read() -> None:
    x, seen = volume(), []

    def read(box: Box) -> np.ndarray:
        seen.append(box)
        return x[box.slices]

    viewer = browse({"a": (read, SHAPE)}, window=(0, 1))
    assert {box.size for box in seen} == {(6, 9, 1), (6, 1, 4), (1, 9, 4), (1, 1, 1)}
    seen.clear()
    viewer.controls.place.sliders["coronal"].value = 0
    assert [box for box in seen if box.voxels > 1] == [Box((0, 0, 0), (6, 1, 4))]


def test_going_step_by_step_reads_ahead_and_shows_the_same_slices() -> None:
    x, seen = np.random.default_rng(0).random((40, 3, 3)), []

    def read(box: Box) -> np.ndarray:
        seen.append((box.start[0], box.size[0]))
        return x[box.slices]

    slices = Slices({"a": (read, x.shape)}, window=(0, 1))
    order = [20, 21, 22, 28, 29, 28, 20, 19, 18, 39, 38, 39, 5, 0, 1]
    for index in order:
        np.testing.assert_array_equal(slices.read("a", "sagittal", index), x[index, :, ::-1].T)
    assert seen == [
        *[(20, 1), (21, 8), (29, 8)],  # forth
        *[(21, 8), (20, 1), (12, 8)],  # and back
        *[(39, 1), (31, 8), (39, 1), (5, 1), (0, 1), (1, 8)],
    ]


def test_a_viewer_that_nobody_holds_is_forgotten() -> None:
    viewer = browse({"a": volume()})
    image = weakref.ref(viewer.slices)
    viewer.set_slices(Slices({"a": volume()}))
    assert image() is None


# --- the comparison ------------------------------------------------------------------------------


def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    real = volume()
    made = real.copy()
    made[:3] += 8
    made[3:] -= 8
    return -real, made, real


def test_a_comparison_shows_all_images_at_one_place() -> None:
    both = compare(*pair(), unit="HU", source_unit="a.u.")
    assert len(shown(both)) == 3
    marks = {p.mark for p in both.controls.panes.canvas.pictures}
    touch(both, picture=2, kind="point", right=0.0, down=0.0)
    assert both.at == (0, 8, 2)
    assert {p.mark for p in both.controls.panes.canvas.pictures} != marks
    assert len({p.mark for p in both.controls.panes.canvas.pictures}) == 1
    touch(both, picture=0, kind="last")
    assert both.at == (0, 8, 3)
    both.plane.value = "sagittal"
    assert {x.shape for x in shown(both)} == {(4, 9)}
    assert "translated − real 8.0 HU" in both.controls.place.text


def test_translated_and_real_share_a_window_and_the_source_has_its_own() -> None:
    both = compare(*pair())
    window = both.controls.window
    assert window.of("translated") == window.of("real") != window.of("source")
    both.adjusted.value = "source"
    window.range.value = (-100.0, 0.0)
    assert window.of("source") == (-100.0, 0.0)
    both.adjusted.value = "translated and real"
    window.range.value = (0.0, 20.0)
    assert window.of("translated") == window.of("real") == (0.0, 20.0)
    assert window.of("source") == (-100.0, 0.0)


def test_the_difference_is_red_where_the_translation_is_brighter() -> None:
    both = compare(*pair())
    both.show("difference")
    colours = shown(both)[2].astype(int)
    assert (colours[:, :3, 0] > colours[:, :3, 2] + 50).all()
    assert (colours[:, 3:, 2] > colours[:, 3:, 0] + 50).all()
    assert "-8 (blue) through 0 (white) to 8 (red) a.u." in both.reading
    both.adjusted.value = "translated − real"
    both.controls.window.range.value = (-8.0, 2.0)
    assert both.controls.window.of("translated − real") == (-2.0, 2.0)


def test_a_swipe_lays_the_chosen_two_on_top_of_each_other() -> None:
    both = compare(*pair())
    both.show("swipe")
    scene = both.controls.panes.canvas.widget.scene
    assert scene["swipe"]
    assert [p["title"].split(",")[0] for p in scene["pictures"]] == ["translated", "real"]
    both.left.value = "source"
    titles = [p.title.split(",")[0] for p in both.controls.panes.canvas.pictures]
    assert titles == ["source", "real"]
    with pytest.raises(InputError, match="1 pictures to swipe: expected pairs"):
        Canvas().show(Scene((Picture(b"", "", "", (1, 1)),), swipe=True))


def test_without_a_real_image_there_is_no_difference() -> None:
    both = compare(*pair()[:2])
    assert len(shown(both)) == 2
    with pytest.raises(InputError, match="view 'difference' is none of side by side, swipe"):
        both.show("difference")
    both.set_slices(compared(*pair()), caption="Now")
    both.show("difference")
    both.set_slices(compared(*pair()[:2]))
    assert (both.view.value, both.controls.caption) == ("side by side", "Now")
    assert len(shown(both)) == 2


# --- three dimensions ----------------------------------------------------------------------------


def test_a_rendering_takes_every_so_many_th_voxel_of_a_file_slice_by_slice(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((9, 12, 10)).astype(np.float32)
    affine = np.array([[-2.0, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(x, affine), tmp_path / "x.nii")
    made = render(tmp_path / "x.nii", max_side=4, window=(0, 1), caption="Turn it")
    drawn = nib.Nifti1Image.from_bytes(bytes(made.box.volumes[0].data))
    assert made.step == 3
    np.testing.assert_allclose(drawn.get_fdata(), x[::3, ::3, ::3] * 255, atol=1)
    for index in np.ndindex(drawn.shape):
        there = affine @ [*(3 * np.array(index)), 1]
        np.testing.assert_allclose(drawn.affine @ [*index, 1], there, atol=1e-4)
    seen = []
    render((lambda box: (seen.append(box.voxels), x[box.slices])[1], x.shape), max_side=4)
    assert set(seen) == {9 * 12}


def test_what_cannot_be_rendered_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"volume of shape \(3, 3\): expected 3 axes"):
        render(np.zeros((3, 3)))
    with pytest.raises(InputError, match="max_side 1: expected at least 2"):
        render(volume(), max_side=1)
    with pytest.raises(InputError, match=r"x\.nii: no such file"):
        render(tmp_path / "x.nii")


def test_volumes_in_3d_share_crosshair_and_cut() -> None:
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    x = volume()
    images = {"a": x, "b": x + 1}
    made = Renderings(images, affine=affine, units={"a": "HU"}, max_side=4, caption="Turn them")
    assert made.step == -(-max(x.shape) // 4)
    moved: list[tuple[int, ...]] = []
    made.on_move(moved.append)
    mm = affine @ [1, 2, 3, 1]
    made._pointed({"mm": [*mm]})
    assert moved == [(1, 2, 3)] == [made.at]
    made.at = (1, 2, 3)
    assert len(moved) == 1  # nobody is told what has not changed
    n = x.shape
    shares = (1 - 1.5 / n[0], 2.5 / n[1], 3.5 / n[2])  # the first axis runs to the left
    for plane, towards in (("sagittal", [90, 0]), ("coronal", [180, 0]), ("axial", [0, 90])):
        made.cut.value = plane
        for shown in made.volumes.values():
            np.testing.assert_allclose(shown.scene.crosshair_pos, shares)
            ((depth, *direction),) = shown.scene.clip_plane_depth_azi_elevs
            share = shares[["sagittal", "coronal", "axial"].index(plane)]
            assert depth == pytest.approx(share - 0.5)
            assert direction == towards
    before = made.static_fallback
    made.cut.value = "whole"
    made.at = (0, 0, 0)
    assert made.static_fallback != before
    assert made.volumes["a"].scene.clip_plane_depth_azi_elevs[0][0] > 1
    with pytest.raises(InputError, match=r"at \(9, 0, 0\): outside images of shape"):
        made.at = (9, 0, 0)
    with pytest.raises(InputError, match="expected at least one"):
        Renderings({})
    with pytest.raises(InputError, match=r"shape \(3, 3\): expected 3 axes"):
        Renderings({"a": np.zeros((3, 3))})


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("volumes", "options", "message"),
    [
        ({}, {}, "no image"),
        ({"a": volume(), "b": volume()[1:]}, {}, r"a of shape \(6, 9, 4\), b of shape \(5, 9, 4\)"),
        ({"a": volume()}, {"labels": volume()[1:]}, r"labels of shape \(5, 9, 4\)"),
        ({"a": np.zeros((2, 2, 2, 2))}, {}, "expected 2 or 3 axes"),
        ({"a": np.zeros((0, 2, 2))}, {}, "expected 2 or 3 axes"),
        ({"a": volume()}, {"spacing": (1, 1)}, "expected 3 positive sizes"),
        ({"a": volume()}, {"spacing": (1, 1, 0)}, "expected 3 positive sizes"),
        ({"a": volume()}, {"affine": np.zeros((4, 4))}, "affine"),
        ({"a": volume()}, {"affine": np.eye(3)}, "affine"),
        ({"a": volume()}, {"window": (1, 1)}, "window"),
    ],
)
def test_bad_input_is_named(volumes: dict, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        browse(volumes, **options)


def test_a_comparison_names_what_does_not_fit() -> None:
    source, made, real = pair()
    with pytest.raises(InputError, match=r"translated of shape .* real of shape \(5, 9, 4\)"):
        compare(source, made, real[1:])
    with pytest.raises(InputError, match="difference -1: expected"):
        compare(source, made, real, difference=-1)
    with pytest.raises(InputError, match=r"difference 'b' is none of a, c$"):
        Slices({"a": volume(), "c": volume()}, diverging=["c", "z", "b"])


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


# --- still pictures and speed --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["viewer", "comparison", "rendering"])
def test_a_still_picture_is_left_and_hidden_by_the_live_controls(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipywidgets.widgets.widget import _instances as widgets
    from nbconvert import HTMLExporter
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    bundles: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: bundles.append(data))
    made = browse({"a <b>": volume()}, caption="Look here", unit="HU")
    if kind == "comparison":
        made = compare(*pair(), caption="Look here", unit="HU")
    if kind == "rendering":
        made = render(volume(), caption="Look here", unit="HU")
    made._ipython_display_()
    still, live = bundles
    view = live["application/vnd.jupyter.widget-view+json"]
    style = widgets[view["model_id"]].children[0].value
    assert "display: none" in style
    assert still["text/html"].split('class="')[1].split('"')[0] in style
    assert "Look here. " in still["text/html"]
    assert "a &lt;b&gt;" in still["text/html"] or kind != "viewer"
    assert "axial, k = 2" in still["text/html"]
    assert "(white) HU" in still["text/html"]
    made._ipython_display_()  # one view does not hide another's picture
    again = bundles[3]["application/vnd.jupyter.widget-view+json"]
    assert widgets[again["model_id"]].children[0].value != style

    cell = new_code_cell("x", outputs=[new_output("display_data", data=d) for d in bundles])
    page, _ = HTMLExporter().from_notebook_node(new_notebook(cells=[cell]))
    assert f"data:image/png;base64,{still['image/png']}" in page


def test_the_still_picture_holds_three_planes_in_one_scale() -> None:
    viewer = browse({"a": np.ones(SHAPE)}, window=(0, 1), spacing=(1, 1, 2))
    sheet = pixels(viewer.static_fallback)
    white = (sheet[-3] == 255).all(axis=-1)  # a row of ones: white where there is a plane
    assert white.mean() > 0.8
    before = viewer.static_fallback
    viewer.at = (0, 0, 0)
    assert viewer.static_fallback != before


@pytest.mark.slow
@pytest.mark.parametrize("plane", PLANES)
def test_a_large_volume_is_leafed_through_from_disk(plane: str, tmp_path: Path) -> None:
    path = tmp_path / "large.nii"
    image = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4))
    image.header.set_data_shape((512, 512, 512))
    image.header.set_data_offset(352)
    slab = np.random.default_rng(0).integers(0, 1000, (512, 512), np.int16)
    with path.open("wb") as file:
        file.write(image.header.binaryblock + bytes(4))
        for k in range(512):
            file.write((slab + k).tobytes())
    process = psutil.Process()
    before = process.memory_info().rss
    with open_volume(path, check=False) as large:
        viewer = browse({"a": (large.read, large.grid.shape)}, affine=large.grid.affine)
        peak, taken = before, []
        for _ in range(12):
            start = time.perf_counter()
            touch(viewer, picture=PLANES.index(plane), kind="step", by=1)
            taken.append(time.perf_counter() - start)
            peak = max(peak, process.memory_info().rss)
        assert viewer.controls.place.sliders[plane].value == 256 + 12
        assert int(under_the_crosshair(viewer, PLANES.index(plane))) == pytest.approx(
            255 * _share(viewer), abs=1
        )
    assert np.median(taken) < 0.1
    assert peak - before < 300 * 2**20


def _share(viewer: Viewer) -> float:
    low, high = viewer.controls.window.of("a")
    return float(np.clip((viewer.slices.value("a", viewer.at) - low) / (high - low), 0, 1))


def test_noise_of_a_background_is_not_the_black_of_a_window() -> None:
    x = np.linspace(0, 900, 6 * 9 * 4).reshape(6, 9, 4)
    for scale in (1.0, 1e-9):
        y = np.where(x < 300, -5.7e-14, x) * scale
        low, high = Slices({"a": y}).windows["a"]
        assert low == 0
        assert high == pytest.approx(np.quantile(y, 0.995), rel=0.02)


# --- colours, sides, ranges -----------------------------------------------------------------------


def test_radiological_pictures_are_mirrored_with_their_letters_and_clicks() -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    viewer = browse({"a": volume()}, affine=affine)
    before, at = shown(viewer), viewer.at
    touch(viewer, picture=0, kind="flip")
    after = shown(viewer)
    scene = viewer.controls.panes.canvas.widget.scene
    assert scene["radiological"] is True
    assert [p["sides"] for p in scene["pictures"]] == ["RLPA", "RLIS", "PAIS"]
    for number, mirrored in enumerate((True, True, False)):
        expected = before[number][:, ::-1] if mirrored else before[number]
        np.testing.assert_array_equal(after[number], expected)
    assert viewer.at == at
    touch(viewer, picture=0, kind="point", right=0.0, down=0.0)
    assert viewer.at[0] == SHAPE[0] - 1  # the right of the body is on the left
    viewer.set_slices(Slices({"b": volume()}, affine=affine))
    assert viewer.slices.grid.radiological  # stays with other images
    assert browse({"a": volume()}).controls.panes.canvas.widget.scene["radiological"] is None


def test_a_colour_map_is_that_of_its_images_and_of_their_bar() -> None:
    both = compare(*pair(), unit="HU", source_unit="a.u.")
    assert [x.ndim for x in shown(both)] == [2, 2, 2]
    both.controls.window.colours.value = "viridis"
    assert [x.ndim for x in shown(both)] == [2, 3, 3]
    bars = both.controls.panes.canvas.scene.bars
    assert [bar.title for bar in bars] == ["source", "translated and real"]
    low, high = both.controls.window.of("real")
    assert bars[1].high == f"{high:.0f} HU"
    assert float(bars[1].low) == round(low)
    darkest = shown(both)[2][real_at(both, lowest=True)]
    assert "#" + bytes(darkest).hex() == bars[1].colours[0]
    both.show("difference")
    assert both.controls.panes.canvas.scene.bars[-1].title == "translated − real"
    both.adjusted.value = "translated − real"
    assert both.controls.window.colours.options == ("blue, white, red",)


def real_at(both: Comparison, lowest: bool) -> tuple[int, int]:
    """Where the real image is darkest in its axial slice."""
    part = both.slices.read("real", "axial", both.at[2])
    return np.unravel_index(part.argmin() if lowest else part.argmax(), part.shape)


def test_several_label_maps_are_switched_one_by_one_and_masks_are_outlines() -> None:
    inside = np.zeros(SHAPE)
    inside[1:5, 2:8] = 1
    slices = Slices({"a": volume()}, labels={"lesion": 2 * inside}, masks={"brain": inside})
    viewer = Viewer(slices)
    names = [(key.name, key.outline) for key in viewer.controls.panes.canvas.scene.legend]
    assert names == [("lesion 2", False), ("brain", True)]
    viewer.controls.place.layers["lesion"].value = False
    names = [key.name for key in viewer.controls.panes.canvas.scene.legend]
    assert names == ["brain"]
    grey = np.repeat(slices.picture("a", "axial", 2)[..., None], 3, axis=2)
    drawn = (shown(viewer)[0] != grey).any(axis=-1)
    edge = inside[..., 2].astype(bool)
    edge[2:4, 3:7] = False
    np.testing.assert_array_equal(drawn, edge[:, ::-1].T)
    assert "lesion 2; brain 1" in viewer.controls.place.text_at((2, 3, 2))


def test_a_window_is_typed_and_custom_is_no_choice_of_its_own() -> None:
    viewer = browse({"a": volume(), "b": volume() / 1000})
    control = viewer.controls.window
    assert OWN not in control.preset.options
    control.preset.value = "min to max"
    assert control.of("a") == (2.0, 214.0)  # of the three middle slices
    control.high.value = 100
    assert control.of("a") == (control.low.value, 100)
    assert control.preset.value == OWN
    control.low.value = 200  # above the other end: nothing could be told apart
    assert control.of("a")[1] == 100
    assert control.low.value < 100
    viewer.show("b")
    assert OWN not in control.preset.options
    assert control.high.value == round(control.of("b")[1], 3)  # digits of this image


def test_what_is_under_the_cursor_is_told_without_a_click() -> None:
    viewer = browse({"a": volume()})
    at, widget = viewer.at, viewer.controls.panes.canvas.widget
    before = widget.told
    touch(viewer, picture=0, kind="hover", right=0.0, down=0.0)
    assert widget.told == viewer.controls.place.text_at((0, 8, 2))
    assert widget.told != before
    assert viewer.at == at
    touch(viewer, picture=0, kind="leave")
    assert widget.told == before


def test_three_planes_of_several_images_stand_image_by_image() -> None:
    both = compare(*pair())
    both.plane.value = "three planes"
    assert [p.plane for p in both.controls.panes.canvas.pictures] == [*PLANES] * 3
    assert both.controls.panes.canvas.scene.together == 3
    both.show("swipe")
    scene = both.controls.panes.canvas.scene
    assert [p.plane for p in scene.pictures] == [p for p in PLANES for _ in range(2)]
    touch(both, picture=2, kind="last")  # the third pair: sagittal
    assert both.at[0] == SHAPE[0] - 1
    viewer = browse({"a": volume(), "b": -volume()})
    viewer.show("all")
    assert len(shown(viewer)) == 6
    viewer.plane.value = "coronal"
    assert [p.title.split(",")[0] for p in viewer.controls.panes.canvas.pictures] == ["a", "b"]


def test_images_in_hu_share_one_window_and_only_what_is_shown_is_adjusted() -> None:
    both = compare(*pair(), unit="HU")
    window = both.controls.window
    assert window.of("source") == window.of("translated") == window.of("real")
    assert both.adjusted.options == ("source, translated and real",)
    assert "lung" in window.preset.options
    assert "translated − real" not in both.adjusted.options
    both.show("difference")
    assert "translated − real" in both.adjusted.options


def test_the_ends_of_a_difference_stay_as_far_from_zero_as_each_other() -> None:
    both = compare(*pair())
    both.show("difference")
    both.adjusted.value = name = "translated − real"
    window = both.controls.window
    window.high.value = 5
    assert window.of(name) == (-5.0, 5.0)
    assert window.low.value == -5
    window.low.value = -2
    assert window.of(name) == (-2.0, 2.0)
    window.low.value = 3  # a sign tells nothing of a range about zero
    assert window.of(name) == (-3.0, 3.0)
    window.high.value = 0  # of no width
    assert window.of(name) == (-3.0, 3.0)
    assert (window.low.value, window.high.value) == (-3, 3)


def test_a_range_of_one_s_own_stays_when_other_images_come() -> None:
    viewer = browse({"a": volume()})
    control = viewer.controls.window
    control.range.value = (3.0, 50.0)
    control.colours.value = MAPS[1]
    viewer.set_slices(Slices({"a": 100 * volume()}))
    assert control.of("a") == (3.0, 50.0)
    assert (control.preset.value, control.colours_of("a")) == (OWN, MAPS[1])
    assert control.range.max > 10000  # what the other image has can be chosen
    viewer.set_slices(Slices({"b": volume()}))
    assert control.of("b") == viewer.slices.windows["b"]
    assert OWN not in control.preset.options


def test_a_late_touch_of_a_picture_that_has_gone_moves_nothing() -> None:
    viewer = browse({"a": volume(), "b": volume()})
    viewer.show("all")
    viewer.plane.value = "axial"
    at = viewer.at
    touch(viewer, picture=2, kind="point", right=0.0, down=0.0)
    touch(viewer, picture=1, kind="nod")  # of another version's page
    assert viewer.at == at
    touch(viewer, picture=1, kind="point", right=0.0, down=0.0)
    assert viewer.at == (0, 8, 2)
    both = compare(*pair())
    both.show("swipe")
    both.plane.value = "three planes"
    at = both.at
    touch(both, picture=3, kind="point", right=0.0, down=0.0)  # three pairs are shown
    assert both.at == at


def test_edges_over_an_image_are_no_labels() -> None:
    marked = (volume() > 100).astype(np.uint8)
    slices = Slices({"a": volume()}, spacing=(1, 2, 3), labels=marked, sketch=marked / 2)
    assert slices.spacing == (1, 2, 3)
    assert slices.found("labels", "axial", 2) == (1,)
    assert slices.found("sketch", "axial", 2) == ()
    assert slices.laid("sketch", (5, 8, 3)) == 0.5
