import json
from itertools import permutations, product

import numpy as np
import pytest

from msgan.data.geometry import WorkingGrid, foreground_box, scales_for
from msgan.data.grid import Grid
from msgan.data.resample import Axis
from msgan.types import Box, InputError, Reader, read_padded

ORIENTATIONS = [
    (axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)
]


def source_grid(shape, spacing=None, axes=None, signs=None, rotation=None) -> Grid:
    """A grid whose source axis k points along world axis ``axes[k]`` with sign ``signs[k]``."""
    dims = len(shape)
    affine = np.eye(dims + 1)
    spacing = spacing or (1.0,) * dims
    axes, signs = axes or tuple(range(dims)), signs or (1,) * dims
    linear = np.zeros((dims, dims))
    for k, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        linear[axis, k] = sign * spacing[k]
    affine[:dims, :dims] = linear if rotation is None else rotation @ linear
    affine[:dims, -1] = np.arange(dims) * 7.0 - 11.0
    return Grid(tuple(shape), affine)


def reader(image: np.ndarray) -> Reader:
    """Reads an array; a box that reaches outside is an error, as with a file."""

    def read(box: Box) -> np.ndarray:
        assert box.clipped(image.shape) == box, f"{box} reaches outside {image.shape}"
        return image[box.slices]

    return read


def tiled(read: Reader, shape, size) -> np.ndarray:
    boxes = list(Box.whole(shape).tiles(size))
    out = np.full(shape, 251, dtype=read(boxes[0]).dtype)
    for box in boxes:
        out[box.slices] = read(box)
    return out


def smooth(shape, seed=0) -> np.ndarray:
    """A sum of waves at least eight voxels long."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    waves = [np.sin(at @ rng.uniform(-0.35, 0.35, len(shape)) + p) for p in rng.uniform(0, 6, 4)]
    return sum(waves).astype(np.float32)


def rotation(degrees) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_every_orientation_comes_back_exactly_and_in_place(axes, signs):
    source = source_grid((5, 7, 9), (0.7, 0.9, 4.0), axes, signs)
    image = np.random.default_rng(1).normal(size=source.shape).astype(np.float32)
    grid = WorkingGrid.plan(source, Box((1, 2, 3), (3, 3, 4)), scales=2, margin=1)
    working = grid.read_working(reader(image), fill=-9)
    whole = working(Box.whole(grid.shape))
    # The same voxel has the same position in mm on both grids, and axes point along RAS.
    assert np.all(np.diag(grid.grid.affine)[:3] > 0)
    for index in ((0, 0, 0), tuple(n - 1 for n in grid.shape), (3, 2, 4)):
        world = grid.grid.affine @ (*index, 1)
        at = np.linalg.solve(source.affine, world)[:3]
        assert np.allclose(at, np.round(at), atol=1e-6)
        at = tuple(int(a) for a in np.round(at))
        inside = all(0 <= a < n for a, n in zip(at, source.shape, strict=True))
        assert whole[index] == (image[at] if inside else -9)
    back = grid.read_source(reader(whole), fill=-5)(Box.whole(source.shape))
    kept = np.zeros(source.shape, bool)
    kept[0:5, 1:6, 2:8] = True
    np.testing.assert_array_equal(back, np.where(kept, image, -5))


def test_plane_keeps_its_axes_and_comes_back_exactly():
    source = Grid((11, 6), np.diag([-0.5, -0.5, 1.0]))
    image = np.random.default_rng(1).normal(size=source.shape).astype(np.float32)
    grid = WorkingGrid.plan(source, Box.whole(source.shape), scales=3)
    whole = grid.read_working(reader(image), fill=-1)(Box.whole(grid.shape))
    assert grid.shape == (16, 8)
    np.testing.assert_array_equal(whole[2:13, 1:7], image)
    assert whole[:2].max() == whole[13:].max() == whole[:, 0].max() == -1
    back = grid.read_source(reader(whole))(Box.whole(source.shape))
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("degrees", [(20, -12, 8), (45, 0, 0), (45, 45, 45), (0, 0, 135)])
def test_oblique_image_keeps_its_voxels_and_its_place(degrees):
    source = source_grid((6, 7, 5), (0.7, 0.7, 4.0), (1, 2, 0), (-1, 1, -1), rotation(degrees))
    image = np.random.default_rng(1).normal(size=source.shape).astype(np.float32)
    grid = WorkingGrid.plan(source, Box.whole(source.shape), scales=1)
    whole = grid.read_working(reader(image), fill=-9)(Box.whole(grid.shape))
    assert sorted(whole[whole != -9]) == sorted(image.ravel())
    at = np.argwhere(whole == image[4, 1, 3])[0]
    world = grid.grid.affine @ (*at, 1)
    np.testing.assert_allclose(world, source.affine @ (4, 1, 3, 1), atol=1e-6)
    back = grid.read_source(reader(whole))(Box.whole(source.shape))
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize(
    ("spacing", "wanted", "error"),
    [
        ((1.0, 1.0, 1.0), (0.6, 0.7, 0.8), 0.03),
        ((0.7, 0.7, 4.0), (0.7, 2.0, 0.7), 0.02),
        ((1.0, 1.1, 1.0), (1.3, 1.0, 1.0), 0.03),
    ],
)
def test_smooth_image_nearly_survives_resampling(spacing, wanted, error):
    source = source_grid((23, 31, 17), spacing, (0, 2, 1), (-1, 1, 1))
    image = smooth(source.shape)
    grid = WorkingGrid.plan(source, Box.whole(source.shape), wanted)
    whole = grid.read_working(reader(image))(Box.whole(grid.shape))
    back = grid.read_source(reader(whole))(Box.whole(source.shape))
    inner = (slice(2, -2),) * 3
    assert np.abs(back - image)[inner].mean() < error * image.std()
    assert np.abs(back - image).mean() < 1.5 * error * image.std()


def test_resampled_voxels_stand_where_the_affine_says(dims):
    """A linear ramp in mm is reproduced by linear interpolation at the place in mm."""
    spacing = (0.7, 1.9, 4.0)[:dims]
    signs = (1, -1, 1)[:dims] if dims == 3 else (1, 1)
    source = source_grid((21, 19, 12)[:dims], spacing, signs=signs)
    weights = np.array([0.5, -1.0, 0.25])[:dims]

    def ramp(grid: Grid) -> np.ndarray:
        index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
        return ((index @ grid.affine[:dims, :dims].T) + grid.affine[:dims, -1]) @ weights

    image = ramp(source).astype(np.float32)
    grid = WorkingGrid.plan(source, Box.whole(source.shape), (1.0, 1.3, 2.5)[:dims], scales=2)
    whole = grid.read_working(reader(image), fill=np.nan)(Box.whole(grid.shape))
    valid = np.isfinite(whole)
    inner = tuple(slice(int(a.min()) + 3, int(a.max()) - 2) for a in np.nonzero(valid))
    np.testing.assert_allclose(whole[inner], ramp(grid.grid)[inner], atol=2e-3)
    assert valid.sum() > 0.4 * valid.size


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("wanted", [None, 0.55, 1.7])
@pytest.mark.parametrize("tile", [1, 4, 7])
def test_any_tiling_gives_the_whole(dims, order, wanted, tile):
    source = source_grid((13, 10, 9)[:dims], signs=(-1, 1, -1)[:dims] if dims == 3 else None)
    rng = np.random.default_rng(3)
    image = rng.integers(0, 255, source.shape).astype(np.uint8 if order == 0 else np.float32)
    spacing = None if wanted is None else (wanted,) * dims
    grid = WorkingGrid.plan(source, Box((2,) * dims, (6,) * dims), spacing, scales=2, margin=2)
    if tile == 1 and max(grid.shape) > 16:
        tile = 3
    working = grid.read_working(reader(image), fill=7, order=order)
    whole = working(Box.whole(grid.shape))
    np.testing.assert_array_equal(tiled(working, grid.shape, (tile,) * dims), whole)
    assert whole.dtype == image.dtype
    beyond = Box((-3,) * dims, tuple(n + 6 for n in grid.shape))
    inner = tuple(slice(3, -3) for _ in range(dims))
    np.testing.assert_array_equal(working(beyond)[inner], whole)
    out = grid.read_source(reader(whole), fill=7, order=order)
    full = out(Box.whole(source.shape))
    np.testing.assert_array_equal(tiled(out, source.shape, (tile,) * dims), full)
    outside = Box((-40,) * dims, (3,) * dims)
    assert (working(outside) == 7).all()
    assert (out(outside) == 7).all()
    assert out(outside).dtype == full.dtype


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("wanted", [0.6, 2.3])
def test_much_input_is_read_in_tiles_with_the_same_result(dims, order, wanted, monkeypatch):
    image = smooth((23, 19, 21)[:dims])
    source = Grid.from_spacing(image.shape, (1.0,) * dims)
    grid = WorkingGrid.plan(source, Box.whole(image.shape), (wanted,) * dims, 1)
    box = Box.whole(grid.shape).grown(2)
    most = []

    def read(part: Box) -> np.ndarray:
        most.append(part.voxels)
        return image[part.slices]

    whole = grid.read_working(read, -5.0, order)(box)
    (alone,) = most
    monkeypatch.setattr("msgan.data.resample.PIECE_VOXELS", 11**dims)
    most.clear()
    np.testing.assert_array_equal(grid.read_working(read, -5.0, order)(box), whole)
    assert len(most) > 1
    assert max(most) <= 11**dims < alone
    monkeypatch.setattr("msgan.data.resample.PIECE_VOXELS", 1)  # less than one voxel needs
    small = Box((3,) * dims, (2,) * dims)
    part = grid.read_working(read, -5.0, order)(small)
    np.testing.assert_array_equal(part, whole[small.inside(box).slices])


def test_reads_only_the_region_a_tile_needs():
    source = source_grid((64, 64, 64), axes=(2, 0, 1), signs=(-1, 1, -1))
    image = smooth(source.shape)
    seen = []

    def read(box: Box) -> np.ndarray:
        seen.append(box)
        return image[box.slices]

    grid = WorkingGrid.plan(source, Box.whole(source.shape), (1.6, 1.0, 0.5))
    grid.read_working(read)(Box((10, 20, 30), (8, 8, 8)))
    assert len(seen) == 1
    # 8 voxels are 4, 8 and 12.8 mm long; interpolation looks one voxel further, smoothing 3.
    assert sorted(seen[0].size) == [6, 8, 19]


def test_coarser_voxels_do_not_alias():
    """A wave too short for the working grid vanishes; plain linear interpolation keeps it."""
    source = source_grid((48, 48))
    image = np.broadcast_to(np.cos(np.pi * np.arange(48))[:, None], (48, 48)).astype(np.float32)
    grid = WorkingGrid.plan(source, Box.whole(source.shape), (3.0, 1.0), scales=1)
    whole = grid.read_working(reader(image))(Box.whole(grid.shape))
    assert np.abs(whole[2:-2]).max() < 0.002
    plain = image[1::3]
    assert np.abs(plain).max() == 1


def test_a_constant_stays_constant_up_to_the_outer_face(dims):
    source = source_grid((9, 8, 7)[:dims])
    image = np.full(source.shape, 5, np.float32)
    for wanted in (0.7, 1.6):
        grid = WorkingGrid.plan(source, Box.whole(source.shape), (wanted,) * dims)
        whole = grid.read_working(reader(image), fill=0)(Box.whole(grid.shape))
        near_zero, near_five = np.isclose(whole, 0), np.isclose(whole, 5, atol=1e-5)
        assert (near_zero | near_five).all()
        volume = near_five.sum() * wanted**dims
        assert abs(volume / image.size - 1) < 0.5
        back = grid.read_source(reader(np.full(grid.shape, 5, np.float32)))
        np.testing.assert_allclose(back(Box.whole(source.shape)), 5, rtol=1e-6)


def test_rounded_spacing_is_not_interpolated(dims):
    source = source_grid((9, 8, 7)[:dims], (0.71874963, 0.71875044, 3.9999971)[:dims])
    image = np.random.default_rng(0).normal(size=source.shape).astype(np.float32)
    wanted = (0.719, 0.7185, 4.0)[:dims]
    grid = WorkingGrid.plan(source, Box.whole(source.shape), wanted)
    assert np.allclose(grid.spacing, source.spacing, rtol=0, atol=0)
    whole = grid.read_working(reader(image), fill=np.inf)(Box.whole(grid.shape))
    assert sorted(whole[np.isfinite(whole)]) == sorted(image.ravel())


def test_padding_shows_the_image_beyond_the_crop():
    source = source_grid((20, 20))
    image = smooth(source.shape)
    grid = WorkingGrid.plan(source, Box((6, 6), (5, 5)), scales=3, margin=0)
    whole = grid.read_working(reader(image), fill=-9)(Box.whole(grid.shape))
    assert grid.shape == (8, 8)
    np.testing.assert_array_equal(whole, image[5:13, 5:13])


def test_shapes_are_base_times_powers_of_two_and_s0_is_small():
    source = source_grid((301, 217, 130), (0.7, 0.7, 1.4))
    grid = WorkingGrid.plan(source, Box.whole(source.shape), (0.7, 0.7, 0.7))
    assert grid.scales == scales_for((301, 217, 260)) == 3
    assert grid.shape == (304, 224, 264)
    assert grid.shape_at(3) == grid.shape
    assert grid.shape_at(0) == (38, 28, 33)
    with pytest.raises(ValueError, match=r"scale 4 is not one of s0\.\.s3"):
        grid.shape_at(4)


@pytest.mark.parametrize(
    ("longest", "scales"), [(1, 1), (64, 1), (128, 1), (129, 2), (256, 2), (257, 3), (512, 3)]
)
def test_scales_for_the_papers_sizes(longest, scales):
    assert scales_for((longest, 1)) == scales


def test_affine_of_a_coarse_scale_is_that_of_merged_voxels(dims):
    source = source_grid((24, 16, 32)[:dims], (0.5, 1.0, 2.0)[:dims])
    grid = WorkingGrid.plan(source, Box.whole(source.shape), scales=3)
    fine, coarse = grid.grid, grid.grid_at(1)
    assert coarse.shape == grid.shape_at(1)
    corner = (*(-0.5,) * dims, 1)
    np.testing.assert_allclose(fine.affine @ corner, coarse.affine @ corner, atol=1e-9)
    np.testing.assert_allclose(coarse.spacing, np.array(fine.spacing) * 4)


def test_dictionary_is_json_and_restores_the_grid(dims):
    source = source_grid((9, 8, 7)[:dims], (0.7, 0.8, 4.0)[:dims])
    grid = WorkingGrid.plan(source, Box((2,) * dims, (3,) * dims), (1.0,) * dims)
    again = WorkingGrid.from_dict(json.loads(json.dumps(grid.to_dict())))
    assert again.to_dict() == grid.to_dict()
    image = smooth(source.shape)
    box = Box.whole(grid.shape)
    one, two = (g.read_working(reader(image))(box) for g in (grid, again))
    np.testing.assert_array_equal(one, two)


def test_foreground_box_streams_and_finds_single_voxels(dims, monkeypatch):
    monkeypatch.setattr("msgan.data.foreground.BLOCK_VOXELS", 5**dims)
    image = np.zeros((13, 17, 11)[:dims], np.float32)
    image[(4, 11, 6)[:dims]] = 2
    image[(9, 3, 10)[:dims]] = 3
    image[(0,) * dims] = np.nan
    image[(12,) + (0,) * (dims - 1)] = 1
    largest = []

    def read(box: Box) -> np.ndarray:
        largest.append(max(box.size))
        return image[box.slices]

    assert foreground_box(read, image.shape, 1) == Box((4, 3, 6)[:dims], (6, 9, 5)[:dims])
    assert max(largest) <= 5
    with pytest.raises(InputError, match=r"no voxel .* is above the foreground threshold 3"):
        foreground_box(read, image.shape, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"foreground": Box((30, 0), (4, 4))}, "holds no voxel"),
        ({"spacing_mm": (1.0, 1.0, 1.0)}, "expected 2 positive numbers"),
        ({"spacing_mm": (1.0, -1.0)}, "expected 2 positive numbers"),
        ({"scales": 0}, "at least 0, 1, 1"),
        ({"margin": -1}, "at least 0, 1, 1"),
    ],
)
def test_bad_plans_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        WorkingGrid.plan(
            **{"source": source_grid((9, 9)), "foreground": Box((0, 0), (9, 9))} | arguments
        )


def test_label_axis_keeps_whole_voxels_when_halved():
    """Nearest neighbour at exactly the edge between two voxels takes the same one everywhere."""
    axis = Axis(2.0, 0.5, 12, 0, 6)
    index, _ = axis.taps(0, 6, 0)
    assert np.diff(index[:, 0]).tolist() == [2] * 5


def test_padded_reader_agrees_with_the_working_reader(dims):
    image = np.random.default_rng(0).normal(size=(8,) * dims).astype(np.float32)
    grid = WorkingGrid.plan(source_grid(image.shape), Box.whole(image.shape), scales=1)
    box = Box((-2,) * dims, (12,) * dims)
    one = grid.read_working(reader(image), fill=-1)(box)
    np.testing.assert_array_equal(one, read_padded(reader(image), image.shape, box, -1))
