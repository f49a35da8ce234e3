import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msgan.types import Box, read_extended, read_padded

often = settings(deadline=None, derandomize=True, database=None, max_examples=60)


@st.composite
def boxes(draw, least=0, span=12):
    dims = draw(st.sampled_from((2, 3)))
    start = draw(st.tuples(*[st.integers(-span, span)] * dims))
    return Box(start, draw(st.tuples(*[st.integers(least, span)] * dims)))


@st.composite
def box_and_shape(draw):
    box = draw(boxes())
    return box, draw(st.tuples(*[st.integers(1, 9)] * box.dims))


def voxels(box: Box) -> set[tuple[int, ...]]:
    """The voxels of a box by the definition: one by one."""
    return {tuple(np.add(box.start, k)) for k in np.ndindex(*box.size)}


@often
@given(boxes())
def test_a_box_is_its_voxels(box):
    found = voxels(box)
    assert len(found) == box.voxels
    assert all(a <= v < b for p in found for a, v, b in zip(box.start, p, box.stop, strict=True))


@often
@given(boxes(), st.integers(0, 4))
def test_growing_adds_a_rim_and_shrinking_takes_it_back(box, halo):
    grown = box.grown(halo)
    assert voxels(box) <= voxels(grown)
    assert grown.size == tuple(n + 2 * halo for n in box.size)
    assert grown.grown(-halo) == box
    assert grown == box.grown((halo,) * box.dims)


def test_growing_by_axis():
    assert Box((0, 5), (4, 6)).grown((1, 2)) == Box((-1, 3), (6, 10))


@often
@given(boxes(least=1), st.integers(1, 4))
def test_coarse_is_the_smallest_cover_and_undoes_scaled(box, factor):
    assert box.scaled(factor).coarse(factor) == box
    coarse = box.coarse(factor)
    assert voxels(coarse) == {tuple(c // factor for c in v) for v in voxels(box)}


@often
@given(box_and_shape())
def test_clipping_keeps_what_lies_in_the_image(pair):
    box, shape = pair
    clipped = box.clipped(shape)
    assert voxels(clipped) == voxels(box) & voxels(Box.whole(shape))
    assert clipped.clipped(shape) == clipped


@often
@given(boxes(), boxes())
def test_coordinates_of_another_box(box, outer):
    if box.dims != outer.dims:
        return
    moved = box.inside(outer)
    assert moved.shifted(outer.start) == box
    assert {tuple(np.add(v, outer.start)) for v in voxels(moved)} == voxels(box)


@often
@given(boxes(), st.data())
def test_tiles_cover_a_box_once(box, data):
    size = data.draw(st.tuples(*[st.integers(1, 7)] * box.dims))
    tiles = list(box.tiles(size))
    covered = [v for tile in tiles for v in voxels(tile)]
    assert len(covered) == len(set(covered)) == box.voxels
    assert set(covered) == voxels(box)
    assert all(n <= s for tile in tiles for n, s in zip(tile.size, size, strict=True))
    assert [t.start for t in tiles] == sorted(t.start for t in tiles)


@often
@given(box_and_shape(), st.integers(0, 2))
def test_read_padded_sees_one_infinite_image(pair, channels):
    box, shape = pair
    lead = (3,) * channels
    image = np.random.default_rng(0).normal(size=(*lead, *shape)).astype(np.float32)
    out = read_padded(lambda b: image[(..., *b.slices)], shape, box, fill=7.0)
    assert out.shape == (*lead, *box.size)
    assert out.dtype == np.float32
    for k, voxel in zip(np.ndindex(*box.size), sorted(voxels(box)), strict=True):
        inside = all(0 <= v < n for v, n in zip(voxel, shape, strict=True))
        expected = image[(..., *voxel)] if inside else np.full(lead, 7.0, np.float32)
        np.testing.assert_array_equal(out[(..., *k)], expected)


def test_read_padded_asks_for_nothing_outside():
    def read(box):
        assert box.clipped((4, 4)) == box
        return np.ones(box.size, np.float32)

    assert read_padded(read, (4, 4), Box((-3, 2), (5, 9))).sum() == 4


@st.composite
def two_boxes(draw, least=0):
    """A box anywhere, and one of at least one voxel that may lie far from it."""
    box = draw(boxes(least=least))
    start = draw(st.tuples(*[st.integers(-12, 12)] * box.dims))
    return box, Box(start, draw(st.tuples(*[st.integers(1, 6)] * box.dims)))


def clamped(voxel, outer):
    """The voxel of a box that is nearest."""
    pairs = zip(voxel, outer.start, outer.stop, strict=True)
    return tuple(min(max(v, low), stop - 1) for v, low, stop in pairs)


@often
@given(two_boxes(least=1))
def test_the_nearest_part_is_what_lies_inside_or_the_voxel_beside(pair):
    box, outer = pair
    nearest = box.nearest(outer)
    assert voxels(nearest) == {clamped(v, outer) for v in voxels(box)}
    assert nearest.nearest(outer) == nearest


@often
@given(two_boxes(), st.integers(0, 1))
def test_an_image_goes_on_with_its_outermost_voxels(pair, channels):
    box, known = pair
    lead = (2,) * channels
    image = np.random.default_rng(0).normal(size=(*lead, *known.size)).astype(np.float32)

    def read(part):
        assert voxels(part) <= voxels(known)
        return image[(..., *part.inside(known).slices)]

    out = read_extended(read, known, box)
    assert out.shape == (*lead, *box.size)
    for k, voxel in zip(np.ndindex(*box.size), sorted(voxels(box)), strict=True):
        place = tuple(np.subtract(clamped(voxel, known), known.start))
        np.testing.assert_array_equal(out[(..., *k)], image[(..., *place)])


@pytest.mark.parametrize("size", [4, 5])
def test_around_puts_the_centre_in_the_middle(size):
    box = Box.around((10, 20), (size, size))
    assert box.size == (size, size)
    assert box.start == (10 - size // 2, 20 - size // 2)


def test_bad_boxes_are_refused():
    with pytest.raises(ValueError, match="differ in length"):
        Box((0, 0), (1,))
    with pytest.raises(ValueError, match="negative side"):
        Box((0, 0), (1, -1))
    with pytest.raises(ValueError, match="clip it first"):
        _ = Box((-1, 0), (2, 2)).slices
    with pytest.raises(AttributeError):
        Box((0,), (1,)).start = (1,)
