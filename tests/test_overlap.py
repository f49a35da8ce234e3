"""Dice of two label images, in memory and by blocks."""

import numpy as np
import pytest
from helpers import reader
from skimage.draw import disk

from msgan import metrics
from msgan.types import Array, InputError


def labels(dims: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 5, (17, 14, 9)[:dims]).astype(np.uint8)


def plain(found: Array, real: Array, wanted: set[int]) -> float:
    """From sets of places."""
    f, r = ({tuple(p) for p in np.argwhere(np.isin(a, list(wanted)))} for a in (found, real))
    return 2 * len(f & r) / (len(f) + len(r))


def test_it_is_that_of_sets_of_voxels(dims: int) -> None:
    found, real = labels(dims, 0), labels(dims, 1)
    assert metrics.dice(found, real) == pytest.approx(plain(found, real, {1, 2, 3, 4}), abs=1e-12)
    for wanted in ({2}, {1, 4}):
        expected = plain(found, real, wanted)
        assert metrics.dice(found, real, labels=sorted(wanted)) == pytest.approx(expected)
    assert metrics.dice(found == 2, real == 2) == metrics.dice(found, real, labels=[2])


def test_known_values(dims: int) -> None:
    a, b = np.zeros((2, *(4,) * dims), np.uint8)
    assert metrics.dice(a, b) == 1.0
    a[:2], b[1:3] = 4, 1
    assert metrics.dice(a, b) == 0.5
    assert metrics.dice(a, b, labels=[4]) == 0.0
    assert metrics.dice(a, b, labels=[3]) == 1.0  # nobody has it
    assert metrics.dice(a, a) == 1.0


def test_moved_discs_overlap_less_and_less() -> None:
    real = np.zeros((80, 80), bool)
    real[disk((40, 30), 20)] = True
    found = [metrics.dice(np.roll(real, k, 1), real) for k in (0, 5, 15, 30)]
    assert found[0] == 1.0
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.25


def test_blocks_do_not_change_it_and_are_all_that_is_read(dims: int) -> None:
    found, real = labels(dims, 0), labels(dims, 1)
    wanted = {"all": None, "core": (1, 4), "two": (2,)}
    sides = []

    def read(box):
        sides.append(max(box.size))
        return found[box.slices]

    whole = metrics.dice_of(reader(found), reader(real), real.shape, wanted)
    parts = metrics.dice_of(read, reader(real), real.shape, wanted, block=(5,) * dims)
    assert parts == whole
    assert max(sides) == 5
    assert whole["core"] == metrics.dice(found, real, labels=(1, 4))


def test_bad_input_is_named() -> None:
    image = np.zeros((4, 4), np.uint8)
    with pytest.raises(InputError, match=r"labels of shape \(4, 4\) and \(3, 4\)"):
        metrics.dice(image, image[1:])
    with pytest.raises(InputError, match="expected 2 or 3 axes"):
        metrics.dice(image[0], image[0])
    with pytest.raises(InputError, match="core: no labels"):
        metrics.dice_of(reader(image), reader(image), (4, 4), {"core": ()})
    with pytest.raises(InputError, match=r"for a box of size \(2, 2\)"):
        metrics.dice_of(reader(image), lambda _: image, (4, 4), {"a": None}, block=(2, 2))
