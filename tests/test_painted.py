"""Lesions of balls in millimetres, on grids of any orientation."""

import numpy as np
import pytest

from msgan.data.grid import Grid
from msgan.data.volume import open_labels
from msgan.studies.painted import PaintedLesion
from msgan.types import Box, InputError

OBLIQUE = np.array([[1.8, 0.4, 0, 5], [-0.4, 1.8, 0.3, -9], [0.1, 0, 2.5, 3], [0, 0, 0, 1.0]])
GRIDS = [
    Grid.from_spacing((20, 24, 16), (1.0, 2.0, 3.0)),
    Grid((20, 24, 16), OBLIQUE),
    Grid.from_spacing((30, 20), (0.5, 1.0)),
]


def expected(grid, balls):
    """Every voxel's distance to every ball, in mm."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    out = np.zeros(grid.shape, np.uint8)
    for centre, radius, value in balls:
        away = (index - np.array(centre)) @ grid.affine[:-1, :-1].T
        out[np.linalg.norm(away, axis=-1) <= radius] = value
    return out


@pytest.mark.parametrize("grid", GRIDS)
def test_a_ball_is_one_in_millimetres(grid):
    centre = tuple(n // 2 for n in grid.shape)
    corner = (0,) * len(grid.shape)
    balls = [(centre, 7.3, 2), (corner, 4.0, 4), (centre, 3.1, 0)]
    lesion = PaintedLesion(grid)
    for ball in balls:
        lesion = lesion.painted(*ball)
    whole = lesion.read(Box.whole(grid.shape))
    np.testing.assert_array_equal(whole, expected(grid, balls))
    assert set(np.unique(whole)) == {0, 2, 4}
    parts = np.zeros_like(whole)
    for box in Box.whole(grid.shape).tiles((7, 5, 6)[: len(grid.shape)]):
        parts[box.slices] = lesion.read(box)
    np.testing.assert_array_equal(parts, whole)
    voxel = np.prod(grid.spacing) / 1000
    assert lesion.volume_ml == pytest.approx(voxel * (whole > 0).sum())


def test_a_lesion_grows_and_its_hole_closes():
    grid = GRIDS[0]
    lesion = PaintedLesion(grid).painted((10, 12, 8), 9, 1).painted((10, 12, 8), 3, 0)
    larger, smaller = lesion.grown(2), lesion.grown(-2)
    assert [b.radius for b in larger.balls] == [11, 1]
    assert [b.radius for b in smaller.balls] == [7, 5]
    assert smaller.volume_ml < lesion.volume_ml < larger.volume_ml
    assert [b.value for b in lesion.grown(3).balls] == [1]  # the hole is closed
    assert lesion.grown(-9).balls[0].value == 0  # nothing but a hole is left
    assert lesion.grown(-9).volume_ml == 0
    assert lesion.undone().volume_ml > lesion.volume_ml


def test_it_is_a_label_map_on_disk(tmp_path):
    lesion = PaintedLesion(GRIDS[1]).painted((10, 12, 8), 6, 3)
    lesion.save(tmp_path / "lesion.nii.gz")
    with open_labels(tmp_path / "lesion.nii.gz") as kept:
        np.testing.assert_array_equal(kept.whole(), lesion.read(Box.whole(GRIDS[1].shape)))
        assert kept.grid.same_as(GRIDS[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (((20, 1, 1), 3, 1), r"centre \(20, 1, 1\): outside an image of shape \(20, 24, 16\)"),
        (((1, 1), 3, 1), r"centre \(1, 1\): outside"),
        (((1, 1, 1), 0, 1), "radius 0 mm: expected a number above 0"),
        (((1, 1, 1), 3, 256), "label 256: expected 0 to 255"),
    ],
)
def test_what_cannot_be_painted_is_refused(words, message):
    with pytest.raises(InputError, match=message):
        PaintedLesion(GRIDS[0]).painted(*words)
