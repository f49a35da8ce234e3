"""Figures show what they say: geometry, windows, units and captions, with no text cut off."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal

from msgan import plots
from msgan.types import InputError

SHAPE = {2: (30, 20), 3: (20, 26, 14)}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def image(dims, seed=0):
    out = np.random.default_rng(seed).random(SHAPE[dims])
    out[(slice(0, 2),) * dims] = 0
    return out


def drawn(figure):
    FigureCanvasAgg(figure).draw()
    return figure


def texts(figure):
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    undrawn = set()  # ticks beyond the limits keep a label that is never drawn
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = axis.get_major_ticks() + axis.get_minor_ticks()
            undrawn |= {k.label1 for k in ticks if not low <= k.get_loc() <= high}
            undrawn |= {k.label2 for k in ticks if not low <= k.get_loc() <= high}
    return [t for t in found if t not in undrawn]


def said(figure):
    return " ".join(t.get_text() for t in texts(figure))


def panels(figure):
    return [ax for ax in figure.axes if ax.images]


def assert_nothing_is_cut(figure):
    page = drawn(figure).bbox
    for text in texts(figure):
        box = text.get_window_extent()
        inside = page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1
        inside = inside and page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1
        assert inside, f"{text.get_text()!r} at {box} leaves {page}"


def figures(dims):
    a, b, c = (image(dims, s) for s in range(3))
    long = "A caption long enough to need more than one line of the page it stands on. " * 3
    labels = (a > 0.7).astype(np.uint8) * 2
    affine = LPS if dims == 3 else None
    table = pd.DataFrame({"step": range(20), "scale": [0, 1] * 10, "l1": 1.0, "psnr": 20.0})
    yield plots.slices({"one": a, "two": b}, unit="HU", overlay=labels, affine=affine, caption=long)
    yield plots.slices({"a title of many words to be wrapped": a}, unit="HU", spacing=(2,) * dims)
    yield plots.compare(a, b, c, unit="share of maximum", affine=affine, caption=long)
    yield plots.scales([a[(slice(None, None, 2),) * dims], a], unit="HU", spacing=(1,) * dims)
    yield plots.seam_profile(a, 5, unit="HU", caption=long)
    yield plots.contact_sheet({f"subject {i}": a for i in range(8)}, unit="HU")
    yield plots.curves(table, caption=long, smooth=3)


def test_no_text_is_cut_and_all_have_captions(dims):
    for figure in figures(dims):
        assert_nothing_is_cut(figure)
        assert len(plots.caption_of(figure)) > 20
        shown = figure.get_supxlabel().replace("\n", " ")
        assert shown == plots.caption_of(figure)
    assert plt.get_fignums() == []  # nothing is left open


def test_units_are_named(dims):
    for figure in list(figures(dims))[:6]:
        assert "(HU)" in said(figure) or "(share of maximum)" in said(figure).replace("\n", " ")
    assert "(arbitrary unit)" in said(plots.slices({"x": image(dims)}))


def test_style_comes_and_goes():
    before = dict(rcParams)
    with plots.style():
        assert rcParams["figure.constrained_layout.use"]
        assert rcParams["axes.prop_cycle"] != before["axes.prop_cycle"]
    assert dict(rcParams) == before


def test_slices_share_one_window_and_show_the_planes():
    a, b = image(3), 3 * image(3, 1)
    figure = plots.slices({"a": a, "b": b}, at=(4, 5, 6))
    shown = panels(figure)
    assert [ax.get_title() for ax in shown[:3]] == [
        "axial (k = 6)",
        "coronal (j = 5)",
        "sagittal (i = 4)",
    ]
    for row, volume in enumerate((a, b)):
        planes = (volume[:, :, 6], volume[:, 5, :], volume[4, :, :])
        for ax, plane in zip(shown[3 * row : 3 * row + 3], planes, strict=True):
            assert_array_equal(ax.images[0].get_array(), plane.T)
            assert ax.images[0].origin == "lower"
    (clim,) = {ax.images[0].get_clim() for ax in shown}
    assert clim == (np.quantile([*a.flat], 0.005), np.quantile([*b.flat], 0.995))
    fixed = plots.slices({"a": a, "b": b}, window=(0, 2))
    assert {ax.images[0].get_clim() for ax in panels(fixed)} == {(0, 2)}


def test_millimetres_are_equal_on_paper():
    spacing = (1.0, 0.5, 3.0)
    for figure in (
        plots.slices({"a": image(3)}, spacing=spacing),
        plots.compare(*(image(3),) * 3, spacing=spacing),
    ):
        scales = []
        for ax in panels(drawn(figure)):
            (x0, y0), (x1, y1) = ax.transData.transform([(0, 0), (1, 1)])
            scales += [x1 - x0, y1 - y0]
        assert_allclose(scales, scales[0], rtol=0.02)
    widths = [ax.images[0].get_extent()[1] for ax in panels(figure)[::4]]
    assert widths == [20 * 1.0, 20 * 1.0, 26 * 0.5]


@pytest.mark.parametrize(
    "codes", [("L", "A", "S"), ("R", "A", "S"), ("P", "S", "L"), ("I", "R", "A")]
)
def test_affine_makes_the_picture_independent_of_the_index_order(codes):
    """A marked voxel stands where its body coordinates say, whatever the file's axes."""
    from nibabel.orientations import (
        apply_orientation,
        axcodes2ornt,
        inv_ornt_aff,
        ornt_transform,
    )

    ras = np.zeros((9, 11, 7))
    ras[1, 9, 5] = 1  # left, front, top
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    volume = apply_orientation(ras, change)
    stored = affine @ inv_ornt_aff(change, ras.shape)
    at = np.argwhere(volume)[0]
    figure = plots.slices({"x": volume}, at=at, affine=stored, window=(0, 1))
    shown = panels(figure)
    for ax, plane in zip(shown, (ras[:, :, 5], ras[:, 9, :], ras[1, :, :]), strict=True):
        assert_array_equal(ax.images[0].get_array(), plane.T)
    assert shown[0].images[0].get_extent() == [0, 18, 0, 33]
    letters = [t.get_text() for t in shown[0].texts if t.get_text() in "LRAPSI"]
    assert letters == ["L", "R", "P", "A"]
    assert "left is on the left" in plots.caption_of(figure)


def test_two_dimensional_images_keep_row_zero_on_top():
    picture = np.zeros((10, 8))
    picture[0, 3] = 1
    (ax,) = panels(drawn(plots.slices({"x": picture})))
    assert_array_equal(ax.images[0].get_array(), picture)
    top, bottom = ax.transData.transform([(3, 0), (3, 10)])[:, 1]
    assert top > bottom


def test_default_position_is_inside_the_foreground():
    volume = np.zeros((20, 20, 20))
    volume[12:17, 2:5, 8:11] = 1
    figure = plots.slices({"x": volume})
    assert [ax.get_title() for ax in panels(figure)] == [
        "axial (k = 9)",
        "coronal (j = 3)",
        "sagittal (i = 14)",
    ]


def test_overlay_outlines_labels_where_they_are(dims):
    labels = np.zeros(SHAPE[dims], np.uint8)
    labels[(slice(5, 9),) * dims] = 3
    figure = plots.slices({"x": image(dims)}, at=(6,) * dims, overlay=labels, overlay_name="lesion")
    for ax in panels(figure):
        vertices = np.vstack([p.vertices for c in ax.collections for p in c.get_paths()])
        assert_allclose(vertices.min(axis=0), 5, atol=0.5)
        assert_allclose(vertices.max(axis=0), 9, atol=0.5)
    assert "lesion" in [t.get_text() for t in figure.legends[0].get_texts()]
    bare = plots.slices({"x": image(dims)}, overlay=np.zeros(SHAPE[dims]))
    assert not bare.legends
    only = plots.slices({"a": image(dims), "b": image(dims)}, overlay={"b": labels}, at=(6,) * dims)
    outlined = [bool(ax.collections) for ax in panels(only)]
    assert outlined == [False, True] if dims == 2 else [False] * 3 + [True] * 3


def test_compare_shows_a_symmetric_difference(dims):
    source, real = 100 * image(dims, 0), image(dims, 2)
    translated = real + 0.2
    figure = plots.compare(source, translated, real, unit="u", source_unit="HU")
    row = panels(figure)[:4]
    assert [ax.get_title() for ax in row] == ["source", "translated", "real", "translated − real"]
    assert_allclose(row[3].images[0].get_array(), 0.2, atol=1e-6)
    assert row[3].images[0].get_clim() == pytest.approx((-0.2, 0.2))
    assert row[1].images[0].get_clim() == row[2].images[0].get_clim()
    assert row[0].images[0].get_clim()[1] > 90
    assert "source\n(HU)" in said(figure)
    same = plots.compare(real, real, real)
    assert panels(same)[3].images[0].get_clim() == (-1, 1)
    wide = plots.compare(real, real, real, difference=0.5)
    assert panels(wide)[3].images[0].get_clim() == (-0.5, 0.5)


def test_scales_have_equal_size_on_paper(dims):
    big = image(dims)
    small = big[(slice(None, None, 2),) * dims]
    figure = drawn(plots.scales([small, big], spacing=(0.5,) * dims, zoom=0.5))
    a, b, near_a, near_b = panels(figure)
    assert a.images[0].get_extent() == b.images[0].get_extent()
    assert_allclose(a.get_window_extent().size, b.get_window_extent().size, rtol=0.01)
    assert a.get_title() == "s0\n" + " × ".join(map(str, small.shape))
    assert near_a.get_xlim() == near_b.get_xlim()
    whole = a.images[0].get_extent()[1]
    assert np.ptp(near_a.get_xlim()) == pytest.approx(whole / 2)
    assert near_a.yaxis_inverted() == (dims == 2)


def test_curves_read_lines_with_different_keys(tmp_path):
    rows = [{"step": s, "scale": k, "l1": s / 10} for k in (0, 1) for s in range(5)]
    rows += [{"step": 4, "scale": 1, "psnr": 21.0}, {"step": 2, "scale": 1, "psnr": 20.0}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    figure = plots.curves(path)
    l1, psnr = figure.axes
    assert (l1.get_ylabel(), psnr.get_ylabel()) == ("l1", "PSNR (dB)")
    assert_allclose(l1.lines[1].get_ydata(), np.arange(5) / 10)
    filled = [line for line in psnr.lines if len(line.get_xdata())]
    assert_array_equal(filled[0].get_xdata(), [2, 4])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["scale 0", "scale 1"]
    assert filled[0].get_color() == l1.lines[1].get_color()  # the scale has one colour
    table = pd.DataFrame({"epoch": range(9), "loss": np.arange(9.0) ** 2})
    smooth = plots.curves(table, x="epoch", smooth=3).axes[0]
    assert smooth.lines[1].get_ydata()[4] == pytest.approx((9 + 16 + 25) / 3)
    assert_array_equal(smooth.lines[0].get_ydata(), table["loss"])


def test_curves_refuse_bad_input(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "l1": 2}\n{"step":\n')
    with pytest.raises(InputError, match=r"metrics.jsonl:2: not a JSON object"):
        plots.curves(path)
    table = pd.DataFrame({"step": [1], "l1": [2.0]})
    with pytest.raises(InputError, match="no column 'epoch'"):
        plots.curves(table, x="epoch")
    with pytest.raises(InputError, match="no column 'ssim'"):
        plots.curves(table, columns=["ssim"])
    with pytest.raises(InputError, match="no numeric column"):
        plots.curves(table[["step"]])


def test_seam_profile_peaks_at_the_faces(dims):
    shape = (40, 36) if dims == 2 else (40, 36, 33)
    steps = sum(np.indices(shape)[a] >= 14 for a in range(dims)).astype(float)
    steps += sum(np.indices(shape)[a] >= 24 for a in range(dims))
    for extrapolate, pool in ((True, 1), (False, 1), (True, 4)):
        figure = plots.seam_profile(steps, 10, offset=4, extrapolate=extrapolate, pool=pool)
        lines = [line for line in figure.axes[0].lines if line.get_label().startswith("along")]
        assert len(lines) == dims
        for line in lines:
            x, y = line.get_xdata(), line.get_ydata()
            assert x[np.argmax(y)] == 0
            far = np.abs(x) > 1 if extrapolate else x != 0
            assert_allclose(y[far], 0, atol=1e-12)
            if extrapolate:
                assert_allclose(y[np.abs(x) == 1], float(y[x == 0][0]) / 2, rtol=0.35)
    noise = np.random.default_rng(0).random((41, 6))
    figure = plots.seam_profile(noise, 10, extrapolate=False)
    (line, _) = figure.axes[0].lines
    jumps = np.abs(np.diff(noise, axis=0)).mean(axis=1)
    assert line.get_ydata()[5] == pytest.approx(np.mean(jumps[[9, 19, 29, 39]]))
    with pytest.raises(InputError, match="tile 3"):
        plots.seam_profile(noise, 3)
    with pytest.raises(InputError, match="no axis"):
        plots.seam_profile(noise, 50)


def test_contact_sheet_reads_one_subject_at_a_time(dims):
    alive = []

    def read():
        for i in range(5):
            alive.append(i)
            yield f"s{i}", image(dims, i)

    figure = plots.contact_sheet(read(), columns=3)
    assert [ax.get_title() for ax in panels(figure)] == [f"s{i}" for i in range(5)]
    first = panels(figure)[0].images[0].get_array()
    volume = image(dims, 0)
    assert_array_equal(first, volume if dims == 2 else volume[:, :, 6].T)
    assert "5 subjects" in plots.caption_of(figure)
    with pytest.raises(InputError, match="no image"):
        plots.contact_sheet({})


def test_saved_file_carries_the_caption(tmp_path):
    from PIL import Image

    figure = plots.slices({"x": image(2)}, caption="What to see.")
    path = plots.save(figure, tmp_path / "deep" / "x.png", dpi=50)
    with Image.open(path) as picture:
        assert picture.text["Description"] == "What to see. Row 0 of the image is at the top."
        assert picture.width == pytest.approx(figure.get_size_inches()[0] * 50, abs=1)
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]
    with pytest.raises(InputError, match=r"x\.pdf: expected a name that ends in \.png"):
        plots.save(figure, tmp_path / "x.pdf")


def test_inputs_are_checked_and_left_alone():
    a = image(3)
    before = a.copy()
    a.setflags(write=False)
    plots.compare(a, a, a, affine=LPS)
    assert_array_equal(a, before)
    with pytest.raises(InputError, match=r"a of shape \(20, 26, 14\), b of shape"):
        plots.slices({"a": a, "b": a[1:]})
    with pytest.raises(InputError, match=r"at \(0, 0, 14\): outside"):
        plots.slices({"a": a}, at=(0, 0, 14))
    with pytest.raises(InputError, match="no image"):
        plots.slices({})
    with pytest.raises(InputError, match="expected 2 or 3 axes"):
        plots.slices({"a": a[0, 0]})
    with pytest.raises(InputError, match="overlay of shape"):
        plots.slices({"a": a}, overlay=a[1:])
    with pytest.raises(InputError, match="plane 'side'"):
        plots.scales([a], plane="side")
    with pytest.raises(InputError, match="different numbers of axes"):
        plots.scales([a, a[0]])
    with pytest.raises(InputError, match="no image"):
        plots.scales([])


def test_constant_and_nan_images_are_drawn():
    flat = np.zeros((12, 12))
    drawn(plots.slices({"x": flat}))
    flat[3, 3] = np.nan
    drawn(plots.compare(flat, flat, flat))


def test_zooms_show_the_same_part_of_every_image(dims):
    images = {f"image {k}": image(dims, k) for k in range(3)}
    read = {
        title: (lambda box, v=v: asked.append(box.size) or v[box.slices])
        for title, v in images.items()
    }
    asked = []
    affine = LPS if dims == 3 else None
    options = {"affine": affine, "centre": (0.5, 0.4), "zoom": 0.5, "unit": "HU"}
    figure = drawn(plots.zooms(read, SHAPE[dims], caption="Three.", **options))
    shown = panels(figure)
    assert len(shown) == 4
    assert [ax.get_title() for ax in shown] == ["image 0", *images]
    whole, *parts = shown
    width, height = (np.ptp(whole.get_xlim()), np.ptp(whole.get_ylim()))
    for part in parts:
        assert np.ptp(part.get_xlim()) == pytest.approx(width / 2)
        assert np.ptp(part.get_ylim()) == pytest.approx(height / 2)
        assert np.mean(part.get_xlim()) == pytest.approx(0.5 * width)
        assert np.mean(part.get_ylim()) == pytest.approx(0.4 * height)
        # The picture below the part is the whole slice: the frame and the part are one place.
        assert part.images[0].get_array().shape == whole.images[0].get_array().shape
    assert len({ax.images[0].get_clim() for ax in shown}) == 1
    assert "Three." in said(figure)
    assert "intensity (HU)" in said(figure)
    if dims == 3:  # a slice is read, never the volume
        assert set(asked) == {(*SHAPE[3][:2], 1)}
    assert_nothing_is_cut(figure)


def test_zooms_are_of_the_slice_asked_for():
    volume = image(3)
    figure = plots.zooms({"a": lambda box: volume[box.slices]}, SHAPE[3], at=3, plane="coronal")
    assert_array_equal(panels(figure)[0].images[0].get_array(), volume[:, 3, :].T)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plane": "oblique"}, "plane 'oblique': expected one of axial"),
        ({"at": 14}, "slice 14: outside an image of shape"),
        ({"zoom": 1.0}, "zoom 1.0 around .*: expected a part within the image"),
        ({"centre": (0.1, 0.5), "zoom": 0.5}, "expected a part within the image"),
    ],
)
def test_zooms_of_nothing_are_refused(options, message):
    volume = image(3)
    with pytest.raises(InputError, match=message):
        plots.zooms({"a": lambda box: volume[box.slices]}, SHAPE[3], **options)
    with pytest.raises(InputError, match="no image"):
        plots.zooms({}, SHAPE[3])


def test_kernel_checks_have_units_and_say_how_far_apart():
    from types import SimpleNamespace

    distance = np.linspace(-5, 5, 21)
    frequency = np.linspace(0.05, 0.7, 12)
    checks = [
        SimpleNamespace(
            kernel=name,
            distance=distance,
            edge=np.where(distance < 0, 40.0, -850.0),
            edge_projected=np.where(distance < 0.5, 40.0, -850.0),
            frequency=frequency,
            nps=frequency * k,
            nps_projected=frequency * k + 1,
            edge_difference=0.01 * k,
            nps_difference=0.02 * k,
        )
        for k, name in ((3, "soft"), (7, "sharp"))
    ]
    figure = drawn(plots.kernel_check(checks, caption="Two kernels."))
    words = said(figure)
    for unit in ("(mm)", "(HU)", "(1/mm)", "(HU² mm²)", "soft", "sharp", "Two kernels."):
        assert unit in words
    assert "at most 7 % of the step" in plots.caption_of(figure)
    assert "at most 14 % of the variance" in plots.caption_of(figure)
    left, right = figure.axes
    assert len(left.lines) == len(right.lines) == 4
    assert_array_equal(right.lines[0].get_ydata(), checks[0].nps)
    assert_array_equal(left.lines[1].get_ydata(), checks[0].edge_projected)
    assert_nothing_is_cut(figure)
    with pytest.raises(InputError, match="no kernel"):
        plots.kernel_check([])


def test_scales_are_magnified_where_asked(dims):
    big = image(dims)
    small = big[(slice(None, None, 2),) * dims]
    at = (0.9, 0.25, 0.4)[:dims]
    figure = drawn(plots.scales([small, big], zoom=0.5, at=at))
    _, whole, _, near = panels(figure)
    left, right, *up = whole.images[0].get_extent()
    width, height = right - left, abs(up[1] - up[0])
    # Across, up: axes 0 and 1 of a volume in the axial plane, 1 and 0 of a picture.
    shares = (at[0], at[1]) if dims == 3 else (at[1], at[0])
    middle = [min(max(share, 0.25), 0.75) for share in shares]
    assert np.mean(near.get_xlim()) == pytest.approx(middle[0] * width)
    assert np.mean(near.get_ylim()) == pytest.approx(middle[1] * height)
    if dims == 3:
        shown = whole.images[0].get_array()
        assert_allclose(shown, big[:, :, int(0.4 * big.shape[2])].T)
    with pytest.raises(InputError, match="expected a share of each of"):
        plots.scales([big], at=(1.2,) * dims)
