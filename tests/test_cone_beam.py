"""The cone-beam CT that is simulated from a CT."""

from math import inf
from pathlib import Path

import numpy as np
import pytest
from helpers import stored, whole

from msgan.data.cohort import Cohort, Subject
from msgan.data.volume import open_volume
from msgan.phantoms.cone_beam import (
    SLAB_MM,
    WATER_PER_MM,
    Scanner,
    cone_beam,
    with_cone_beam,
    write_cone_beam,
)
from msgan.types import Array, InputError

CLEAN = Scanner(spr=0.0, photons=inf)
SPACING = (4.0, 5.0, 6.0)


def cylinder(dims: int, radius_mm: float = 100.0, hu: float = 0.0) -> tuple[Array, Array]:
    """Water in air, in pixels that are no squares, and the distance of each voxel from its axis."""
    shape = (60, 48, 3)[:dims]
    x, y = ((np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape[:2], SPACING[:2], strict=True))
    radius = np.hypot(x[:, None], y).reshape(*shape[:2], *[1] * (dims - 2))
    radius = np.broadcast_to(radius, shape)
    return np.where(radius < radius_mm, hu, -1000.0).astype(np.float32), radius


def test_without_scatter_and_noise_a_ct_is_itself(dims: int) -> None:
    image, radius = cylinder(dims, hu=50.0)
    made = cone_beam(image, SPACING[:dims], CLEAN, 0)
    assert made.shape == image.shape
    assert made.dtype == np.float32
    assert made[radius < 85].mean() == pytest.approx(50, abs=5)
    assert made[radius < 85].std() < 15
    assert made[radius > 112].mean() == pytest.approx(-1000, abs=10)


def test_places_stay_where_they_are() -> None:
    image = np.full((40, 32), -1000.0, np.float32)
    image[27:30, 8:11] = 1000.0
    made = cone_beam(image, (3.0, 3.0), CLEAN, 0)
    share = np.maximum(made + 900, 0)
    middle = [float((share * k).sum() / share.sum()) for k in np.indices(image.shape)]
    np.testing.assert_allclose(middle, [28, 9], atol=0.05)


def test_scatter_makes_a_cup_that_deepens_with_its_ratio(dims: int) -> None:
    image, radius = cylinder(dims)
    inner, rim = radius < 20, (radius > 75) & (radius < 88)
    middles, cups = [], []
    for spr in (0.0, 0.3, 1.0):
        made = cone_beam(image, SPACING[:dims], Scanner(spr=spr, photons=inf), 0)
        middles.append(float(made[inner].mean()))
        cups.append(float(made[rim].mean()) - middles[-1])
    assert abs(cups[0]) < 5
    assert 10 < cups[1] < cups[2] - 10
    assert middles[0] - 50 > middles[1] > middles[2] + 50


def test_behind_a_wide_slab_there_is_the_stated_scatter() -> None:
    line = np.full((400, 9), WATER_PER_MM * SLAB_MM, np.float32)
    scanner = Scanner(spr=0.7, scatter_mm=20.0, photons=inf)
    ratio = scanner.scatter(line, (2.0, 5.0)) / np.exp(-line)
    assert ratio[200] == pytest.approx(0.7, rel=1e-3)  # far from the air beside the slab
    assert ratio[0, 0] == pytest.approx(0.35, rel=0.05)  # half of what scatters there is air
    thick = scanner.scatter(2 * line, (2.0, 5.0)) / np.exp(-2 * line)
    assert thick[200] == pytest.approx(1.4, rel=1e-3)


def test_scatter_is_smooth() -> None:
    line = np.zeros((200, 1), np.float32)
    line[90:110] = WATER_PER_MM * SLAB_MM
    spread = Scanner(scatter_mm=60.0).scatter(line, (2.0, 5.0))[:, 0]
    assert 0 < np.abs(np.diff(spread)).max() < 0.02 * spread.max()
    assert spread[0] < 0.5 * spread[100]


def test_noise_goes_with_the_root_of_the_photons() -> None:
    image, radius = cylinder(2)
    clean = cone_beam(image, SPACING[:2], Scanner(photons=inf), 0)
    few, many = (
        (cone_beam(image, SPACING[:2], Scanner(photons=n), 1) - clean)[radius < 80]
        for n in (1e4, 1.6e5)
    )
    assert few.std() / many.std() == pytest.approx(4, rel=0.15)
    assert abs(few.mean()) < few.std() / 4


def test_a_seed_is_a_scan() -> None:
    image, _ = cylinder(3)
    one, same, other = (cone_beam(image, SPACING, Scanner(), seed) for seed in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert np.abs(one - other).max() > 1


def test_a_file_gets_its_cone_beam_ct_on_its_own_grid(tmp_path: Path) -> None:
    image, _ = cylinder(3)
    affine = np.diag([-4.0, 5.0, 6.0, 1.0])
    path = stored(tmp_path / "ct.nii", image, affine, unit="HU")
    write_cone_beam(path, tmp_path / "cbct.nii", 3)
    np.testing.assert_allclose(
        whole(tmp_path / "cbct.nii"), cone_beam(image, SPACING, Scanner(), 3), atol=1e-3
    )
    with open_volume(tmp_path / "cbct.nii") as made, open_volume(path) as ct:
        assert made.grid.same_as(ct.grid)
    coronal = stored(tmp_path / "coronal.nii", image, affine[:, [0, 2, 1, 3]], unit="HU")
    with pytest.raises(InputError, match="axial slices across another axis than the third"):
        write_cone_beam(coronal, tmp_path / "no.nii", 3)


def test_a_cohort_gets_what_it_has_not(tmp_path: Path) -> None:
    image, _ = cylinder(3)
    path = stored(tmp_path / "a.nii", image, unit="HU")
    people = (
        Subject("a", {"b20f": path}),
        Subject("b", {"b20f": path}),
        Subject("own", {"ct": path, "cbct": path, "b20f": path}),
        Subject("none", {"t1": path}),
    )
    cohort = with_cone_beam(Cohort(people), "b20f", tmp_path / "made", seed=4)
    assert cohort["own"] == people[2]
    assert cohort["none"] == people[3]
    for name in "ab":
        assert cohort[name].images["ct"] == path
        assert cohort[name].units["cbct"] == "HU"
    first, second = (cohort[name].images["cbct"] for name in "ab")
    assert np.abs(whole(first) - whole(second)).max() > 1  # a scan of its own for everybody
    before = first.stat().st_mtime_ns
    again = with_cone_beam(Cohort(people), "b20f", tmp_path / "made", seed=4)
    assert (again, first.stat().st_mtime_ns) == (cohort, before)
    other = with_cone_beam(Cohort(people), "b20f", tmp_path / "made", scanner=CLEAN, seed=4)
    assert other["a"].images["cbct"] != first


@pytest.mark.parametrize(
    "values", [{"spr": -0.1}, {"scatter_mm": 0.0}, {"photons": 0.0}, {"spr": inf}]
)
def test_impossible_scanners_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"^scatter over primary .* expected 0 or more"):
        Scanner(**values)


def test_other_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"^shape \(4,\), spacing \(1\.0,\) mm: expected 2 or 3"):
        cone_beam(np.zeros(4, np.float32), (1.0,), CLEAN, 0)
    with pytest.raises(InputError, match="all positive"):
        cone_beam(np.zeros((4, 4), np.float32), (1.0, 0.0), CLEAN, 0)
