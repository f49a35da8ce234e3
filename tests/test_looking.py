"""Curves that grow, scales at one place, tiles where they were cut."""

import asyncio
import base64
import io
from pathlib import Path

import numpy as np
import pytest
from tree import row, run

from msgan.data.grid import Grid
from msgan.runs.run import Run
from msgan.types import Box, InputError
from msgan.widgets import curves as widget
from msgan.widgets.curves import Curves, Log
from msgan.widgets.scales import Scales
from msgan.widgets.tiles import TileGrid, Tiles, profile


def size(png: bytes) -> tuple[int, int]:
    from PIL import Image

    return Image.open(io.BytesIO(png)).size


# --- curves ------------------------------------------------------------------------------------


def test_a_log_grows_by_whole_rows_and_notices_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = Log(path)
    assert not log.read()
    path.write_text(row(1, 20) + row(1, 40)[:9])
    assert log.read()
    assert [r["step"] for r in log.rows] == [20]
    path.write_text(row(1, 20) + row(1, 40) + "no row\n")
    assert log.read()
    assert [r["step"] for r in log.rows] == [20, 40]
    assert log.damaged == 1
    assert not log.read()
    other = tmp_path / "other"
    other.write_text(row(1, 20))
    other.replace(path)  # as a resumed training writes it
    assert log.read()
    assert [r["step"] for r in log.rows] == [20]


@pytest.mark.slow
def test_curves_follow_a_training_to_its_end(tmp_path: Path) -> None:
    trained = run(tmp_path / "run", rows=2)

    async def watch() -> None:
        curves = Curves(trained, every=0.01)
        assert curves.following
        before, count = curves.static_fallback, len(curves.table)
        with (trained.folder_of(1) / "metrics.jsonl").open("a") as stream:
            stream.write(row(1, 60) + row(1, 80))
        await asyncio.sleep(3)
        assert len(curves.table) == count + 2
        assert curves.static_fallback != before
        assert "s1: step 80 of at most 100" in curves.reading
        for scale in (0, 1):
            (trained.folder_of(scale) / "generator.safetensors").write_bytes(b"")
            trained.finish(scale, {})
        for _ in range(300):
            await asyncio.sleep(0.01)
            if not curves.following:
                break
        assert not curves.following
        assert "s1: step 80 of at most 100, finished" in curves.reading

    asyncio.run(watch())


def test_curves_stop_when_the_widget_is_closed(tmp_path: Path) -> None:
    trained = run(tmp_path / "run")

    async def watch() -> None:
        one, two = Curves(trained, every=0.01), Curves(trained, every=0.01)
        one.close()
        two.box.close()  # as the page does
        for _ in range(300):
            await asyncio.sleep(0.01)
            if not (one.following or two.following):
                return
        pytest.fail("still following")

    asyncio.run(watch())


def test_curves_of_a_run_without_rows_say_so(tmp_path: Path) -> None:
    curves = Curves(run(tmp_path / "run", rows=0))
    assert curves.reading == "s0: step 0 of at most 100; s1: step 0 of at most 100"
    assert not curves.following  # no event loop
    with pytest.raises(InputError, match="not a run folder"):
        Curves(tmp_path)


def ended(trained: Run) -> None:
    for scale in trained.used:
        (trained.folder_of(scale) / "generator.safetensors").write_bytes(b"")
        trained.finish(scale, {})


async def until(curves: Curves) -> None:
    """Wait until new rows are looked for no longer."""
    for _ in range(500):
        await asyncio.sleep(0.002)
        if not curves.following:
            return
    pytest.fail("still following")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves as the words that they are drawn from."""
    monkeypatch.setattr(Curves, "_drawn", lambda self: f"{len(self.table)} rows".encode())


@pytest.mark.usefixtures("undrawn")
def test_the_last_rows_are_read_when_a_training_ends(tmp_path: Path) -> None:
    trained = run(tmp_path / "run", rows=2)

    async def watch() -> Curves:
        curves = Curves(trained, every=0.01)
        assert curves.following
        with (trained.folder_of(1) / "metrics.jsonl").open("a") as stream:
            stream.write(row(1, 60) + row(1, 80))
        ended(trained)
        await until(curves)
        return curves

    curves = asyncio.run(watch())
    assert curves.static_fallback == b"6 rows"
    assert curves.reading.endswith("s1: step 80 of at most 100, finished")


@pytest.mark.usefixtures("undrawn")
def test_nobody_is_waited_for_who_writes_no_row_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widget, "IDLE", 0.03)
    trained = run(tmp_path / "run", rows=1)

    async def watch() -> None:
        curves = Curves(trained, every=0.01)
        await until(curves)
        assert not curves.ended
        with (trained.folder_of(0) / "metrics.jsonl").open("a") as stream:
            stream.write(row(0, 40))
        curves.follow()  # it goes on after all
        assert curves.following
        await until(curves)
        assert curves.static_fallback == b"3 rows"
        ended(trained)
        curves.follow()
        assert not curves.following  # nothing is to come

    asyncio.run(watch())


@pytest.mark.usefixtures("undrawn")
def test_damaged_rows_are_counted_beside_the_curves(tmp_path: Path) -> None:
    trained = run(tmp_path / "run", rows=1)
    with (trained.folder_of(1) / "metrics.jsonl").open("a") as stream:
        stream.write('no row\n{"step": null}\n[1]\n{}\n')
    curves = Curves(trained)
    assert curves.reading.endswith("s1: step 20 of at most 100; 4 damaged rows left out")
    assert len(curves.table) == 2


# --- scales ------------------------------------------------------------------------------------


def pyramid(dims: int, side: int = 8) -> list[tuple]:
    """Three scales of a ramp, on grids as the cascade has them."""
    images = []
    for k in range(3):
        factor = 2 ** (2 - k)
        shape = (side * 4 // factor,) * dims
        origin = ((factor - 1) / 2,) * dims  # the middle of the voxels that one covers
        grid = Grid.from_spacing(shape, (float(factor),) * dims, origin)
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        images.append((lambda box, values=values: values[box.slices], grid))
    return images


def test_all_scales_show_the_same_place(dims: int) -> None:
    scales = Scales(pyramid(dims))
    at = (13, 22, 5)[:dims]
    scales.viewer.at = at
    for k in (1, 0, 1, 2, 0, 2):
        scales.scale.value = k
        assert scales.viewer.at == tuple(v // 2 ** (2 - k) for v in at)
        assert scales.place == at
    scales.scale.value = 0
    scales.viewer.at = (1,) * dims
    scales.scale.value = 2
    assert {v // 4 for v in scales.viewer.at} == {1}


def test_the_still_of_scales_shows_all_of_them() -> None:
    scales = Scales(pyramid(3))
    one, all_three = size(scales.viewer.static_fallback), size(scales.static_fallback)
    assert all_three[1] == pytest.approx(3 * one[1], rel=0.1)
    assert scales.scale.value == 2
    assert scales.reading.startswith(
        "From top to bottom s0 (8 x 8 x 8), s1 (16 x 16 x 16), s2 (32 x 32 x 32) voxels at one "
    )
    with pytest.raises(InputError, match="no image"):
        Scales([])
    with pytest.raises(InputError, match="images: scales with different numbers of axes"):
        Scales([pyramid(2)[0], pyramid(3)[1]])


def test_scales_share_the_window_of_the_finest_or_the_one_that_is_given() -> None:
    plain, given = Scales(pyramid(2)), Scales(pyramid(2), window=(0.0, 9.0), names=["a", "b", "c"])
    for k in range(3):
        plain.scale.value = given.scale.value = k
        assert given.viewer.slices.windows == {"abc"[k]: (0.0, 9.0)}
        assert plain.viewer.slices.windows == {f"s{k}": (5.12, 1017.88)}


@pytest.mark.parametrize("what", ["curves", "scales", "tiles"])
def test_a_picture_is_left_with_what_it_shows_in_words(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: told.append(data))
    values, grid = stepped(2)
    made, words = {
        "curves": lambda: (Curves(run(tmp_path / "mine")), "Training curves of mine. s0: step 100"),
        "scales": lambda: (Scales(pyramid(2), caption="Look"), "Look. From top to bottom s0 (8 x"),
        "tiles": lambda: (
            Tiles(
                {"translated": lambda box: values[box.slices]},
                grid,
                TileGrid.of(grid, grid, (16, 16)),
                caption="Look",
            ),
            "Look. Nearest border before voxel 16 along i",
        ),
    }[what]()
    made._ipython_display_()
    still, live = told
    assert still["text/plain"].startswith(words)
    assert base64.b64decode(still["image/png"]) == made.static_fallback
    assert "application/vnd.jupyter.widget-view+json" in live


# --- tiles -------------------------------------------------------------------------------------


def test_borders_lie_where_tiles_begin(dims: int) -> None:
    grid = Grid.from_spacing((20,) * dims, (1.0,) * dims)
    assert TileGrid.of(grid, grid, (8,) * dims).borders == ((8, 16),) * dims
    # A crop that begins at voxel 3, on the same voxels.
    crop = Grid.from_spacing((16,) * dims, (1.0,) * dims, (3.0,) * dims)
    assert TileGrid.of(grid, crop, (8,) * dims).borders == ((11,),) * dims
    fine = Grid.from_spacing((40,) * dims, (0.5,) * dims, (-0.25,) * dims)
    assert TileGrid.of(grid, fine, (16,) * dims).borders == ((8, 16),) * dims


def test_borders_follow_turned_and_flipped_axes() -> None:
    turned = np.array([[0, 2.0, 0, 0], [-1, 0, 0, 9], [0, 0, 1, 0], [0, 0, 0, 1]])
    grid = Grid((10, 6, 5), turned)  # i runs against y, j along x
    working = Grid.from_spacing((6, 10, 5), (2.0, 1.0, 1.0))
    assert TileGrid.of(grid, working, (4, 4, 5)).borders == ((2, 6), (4,), ())
    slanted = Grid(
        (6, 6, 5), np.array([[1, 0.5, 0, 0], [-0.5, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    )
    with pytest.raises(InputError, match="not parallel"):
        TileGrid.of(slanted, working, (4, 4, 5))


def stepped(dims: int) -> tuple[np.ndarray, Grid]:
    """Noise with a step between the tiles along the first axis."""
    values = np.random.default_rng(0).normal(size=(32,) * dims).astype(np.float32)
    values[16:] += 10
    return values, Grid.from_spacing(values.shape, (1.0,) * dims)


def test_the_profile_peaks_at_a_seam_and_nowhere_else(dims: int) -> None:
    values, grid = stepped(dims)
    tiles = TileGrid.of(grid, grid, (16,) * dims)
    border = tiles.nearest((14, *(3,) * (dims - 1)))
    assert border is not None
    assert (border.axis, border.index) == (0, 16)
    where, mean = profile(lambda box: values[box.slices], border)
    assert where[mean.argmax()] == 0
    assert list(where) == list(range(-8, 9))
    assert mean[where == 0] == pytest.approx(10, abs=1)
    other = tiles.nearest((3, 15, *(3,) * (dims - 2)))
    assert other is not None
    assert other.axis == 1
    assert profile(lambda box: values[box.slices], other)[1].max() < 3


def test_the_profile_follows_the_cursor(dims: int) -> None:
    values, grid = stepped(dims)
    tiles = Tiles(
        {"translated": lambda box: values[box.slices]}, grid, TileGrid.of(grid, grid, (16,) * dims)
    )
    tiles.viewer.at = (14, *(3,) * (dims - 1))
    seam, words = tiles.profile.value, tiles.reading
    assert tiles.viewer.slices.overlays == ("tile border",)
    tiles.viewer.at = (3, 15, *(3,) * (dims - 2))
    assert tiles.profile.value != seam
    assert "along i" in words
    assert tiles._words.value.endswith("a.u.")
    assert "along j" in tiles.reading


def test_borders_are_drawn_over_the_picture_and_no_slice_is_flooded() -> None:
    tiles = TileGrid((32, 32, 32), ((16,), (8, 16), ()))
    flat = tiles.lines(Box((16, 0, 0), (1, 32, 32)))[0]
    assert set(np.flatnonzero(flat.any(axis=1))) == {8, 16}
    assert 0.3 < flat[8].mean() < 0.7  # dots: what lies below is seen between them
    whole = tiles.lines(Box.whole(tiles.shape))
    part = Box((3, 5, 7), (20, 9, 11))
    shifted = tiles.lines(part)
    assert (shifted == whole[part.slices]).all()


def test_the_profile_is_drawn_anew_only_at_another_border(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(Tiles, "_figure", lambda self, border: drawn.append(border) or b"png")
    values, grid = stepped(2)
    read = {"translated": lambda box: values[box.slices]}
    tiles = Tiles(read, grid, TileGrid.of(grid, grid, (16, 32)))
    for at in ((17, 3), (14, 30), (31, 0)):
        tiles.viewer.at = at
    (only,) = drawn
    assert (only.axis, only.index) == (0, 16)


def test_tiles_of_another_image_are_refused() -> None:
    values, grid = stepped(2)
    with pytest.raises(InputError, match=r"^tile \(8, 8, 8\): expected 2 sides, as the image"):
        TileGrid.of(grid, grid, (8, 8, 8))
    other = TileGrid((8, 9), ((4,), ()))
    with pytest.raises(InputError, match=r"images of shape \(32, 32\), tiles of \(8, 9\)"):
        Tiles({"translated": lambda box: values[box.slices]}, grid, other)


def test_one_tile_has_no_border() -> None:
    values, grid = stepped(2)
    tiles = Tiles(
        {"translated": lambda box: values[box.slices]}, grid, TileGrid.of(grid, grid, (32, 32))
    )
    assert tiles.border is None
    assert tiles.profile.layout.display == "none"  # else a page shows a broken picture
    assert "One tile" in tiles.reading
    assert size(tiles.static_fallback)[0] > 100
