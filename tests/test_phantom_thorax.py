from pathlib import Path

import numpy as np
import pytest

from msgan.data.manifest import check_manifest, read_manifest
from msgan.data.volume import open_labels, open_volume
from msgan.paths import sha256
from msgan.phantoms.thorax import (
    MODALITIES,
    REGIONS,
    ThoraxPhantom,
    shape,
    thorax,
    write_thorax_cohort,
)
from msgan.phantoms.thorax_anatomy import (
    EMPHYSEMA_HU,
    EXTENT_MM,
    LEAF_MM,
    Region,
)
from msgan.types import Array, Box, InputError, Reader


@pytest.fixture(scope="module")
def phantom() -> ThoraxPhantom:
    return thorax(0, 1, size=64, severity=0.15)


@pytest.fixture(scope="module")
def region(phantom: ThoraxPhantom) -> Region:
    return phantom.region(Box.whole(phantom.shape))


def whole(read: Reader, phantom: ThoraxPhantom) -> Array:
    return read(Box.whole(phantom.shape))


@pytest.mark.parametrize("what", ["clean", "lung", "b20f", "b80f", "low_dose"])
def test_any_tiling_gives_the_same_bytes(phantom: ThoraxPhantom, what: str) -> None:
    read = getattr(phantom, what)
    box = Box((3, 5, 20), (40, 38, 14))
    want = read(box)
    for size in ((17, 13, 9), (40, 7, 14)):
        for tile in box.tiles(size):
            assert read(tile).tobytes() == want[tile.inside(box).slices].tobytes()


def test_same_seed_same_bytes_and_other_people_differ(phantom: ThoraxPhantom) -> None:
    box = Box((16, 10, 30), (32, 28, 3))
    want = phantom.b50f(box)
    assert thorax(0, 1, size=64, severity=0.15).b50f(box).tobytes() == want.tobytes()
    for other in (thorax(0, 2, size=64, severity=0.15), thorax(1, 1, size=64, severity=0.15)):
        assert np.abs(other.clean(box) - phantom.clean(box)).mean() > 20


def test_tissues_have_their_hounsfield_units(phantom: ThoraxPhantom, region: Region) -> None:
    hu = region.hu
    assert (hu.min(), hu[0].max()) == (-1000, -1000)
    healthy = region.lung & ~region.hole & (region.vessel == 0)
    deep = healthy & (hu < -780)
    assert deep.sum() > 0.8 * healthy.sum()
    assert -880 < hu[deep].mean() < -830
    assert hu[healthy].min() > EMPHYSEMA_HU
    assert hu[region.hole].max() < EMPHYSEMA_HU
    assert 300 <= hu.max() <= 700
    middle = phantom.shape[0] // 2
    front, back = (hu[:, half][deep[:, half]].mean() for half in (np.s_[26:], np.s_[:22]))
    assert front < back - 15  # gravity
    assert ((hu > 35) & (hu < 50)).mean() > 0.1
    assert (hu[middle] > 250).mean() > 0.01


def test_two_lungs_of_a_plausible_volume(phantom: ThoraxPhantom, region: Region) -> None:
    litres = region.lung.sum() * np.prod(phantom.spacing) / 1e6
    assert 2.5 < litres < 7
    middle = phantom.shape[0] // 2
    left, right = region.lung[:middle].sum(), region.lung[middle:].sum()
    assert 0.6 < left / right < 1.05  # the heart is on the left


@pytest.mark.parametrize("size", [48, 64])
@pytest.mark.parametrize("severity", [0.0, 0.1, 0.3])
def test_the_emphysema_index_is_the_stated_one(size: int, severity: float) -> None:
    phantom = thorax(2, 0, size=size, severity=severity)
    hu, lung = whole(phantom.clean, phantom), whole(phantom.lung, phantom) > 0
    assert phantom.emphysema_index == (hu[lung] < EMPHYSEMA_HU).sum() / lung.sum()
    # Vessels take their part of voxels of 6 mm; fine ones show the emphysema that was asked for.
    assert 0.4 * severity <= phantom.emphysema_index <= severity + 0.03
    axes = [np.arange(2 - e / 2, e / 2, 4, dtype=np.float32) for e in EXTENT_MM]
    fine = phantom.person.region(axes, 0.7)
    assert fine.hole.sum() / fine.lung.sum() == pytest.approx(severity, abs=0.04)


def test_the_finest_vessels_and_airways_are_two_voxels_wide_at_the_largest_size() -> None:
    phantom = thorax(0, 1, size=512, severity=0)
    assert 2 * LEAF_MM / max(phantom.spacing) == pytest.approx(2, abs=0.1)
    tree = phantom.person.vessels
    twigs = np.flatnonzero(tree.radius == np.float32(LEAF_MM))
    assert len(twigs) == 1400
    seen = 0
    for twig in twigs[::200]:
        at = (tree.start[twig] + tree.stop[twig]) / 2
        index = (np.linalg.inv(phantom.affine) @ [*at, 1])[:3].round().astype(int)
        part = phantom.region(Box.around(index, (9, 9, 9)))
        seen += bool(part.lung[4, 4, 4]) and part.hu[3:6, 3:6, 3:6].max() > 0
        assert part.vessel[3:6, 3:6, 3:6].max() > 0.9
    assert seen >= 5


def test_the_trachea_is_air_and_no_lung(phantom: ThoraxPhantom) -> None:
    index = np.linalg.inv(phantom.affine) @ [0, -9, 100, 1]
    part = phantom.region(Box.around(index[:3].round().astype(int), (1, 1, 1)))
    assert part.hu[0, 0, 0] == -1000
    assert not part.lung.any()


def test_kernels_order_noise_and_sharpness_and_keep_the_mean(phantom: ThoraxPhantom) -> None:
    box = Box((18, 8, 20), (28, 32, 30))
    clean = phantom.clean(box)
    images = {name: phantom.image(name)(box) for name in MODALITIES}
    error = {name: float((image - clean).std()) for name, image in images.items()}
    for image in images.values():
        assert abs(image.mean() - clean.mean()) < 8
    quiet = thorax(0, 1, size=64, severity=0.15, sigma_hu=0)
    blur = [float(np.abs(quiet.image(k)(box) - clean).mean()) for k in MODALITIES[:3]]
    assert blur[0] > blur[1] > blur[2]
    noises = {k: images[k] - quiet.image(k)(box) for k in MODALITIES}
    alike = {k: np.corrcoef(noises["b50f"].ravel(), n.ravel())[0, 1] for k, n in noises.items()}
    assert min(alike["b20f"], alike["b80f"]) > 0.5  # one scan
    assert abs(alike["low"]) < 0.05  # another one
    rough = {k: float(n.std()) for k, n in noises.items()}
    assert rough["b20f"] == pytest.approx(12, rel=0.1)
    assert rough["b80f"] > 1.3 * rough["b50f"] > 1.3 * 1.3 * rough["b20f"]
    assert rough["low"] == pytest.approx(2 * rough["b50f"], rel=0.1)
    assert error["low"] > error["b50f"]


def test_a_cohort_is_whole_and_has_the_same_bytes_again(tmp_path: Path) -> None:
    made = [
        write_thorax_cohort(tmp_path / n, subjects=2, size=24, seed=4, folds=2, test_share=0.5)
        for n in ("a", "b")
    ]
    assert made[0].read_bytes() == made[1].read_bytes()
    assert check_manifest(made[0], tmp_path / "a").findings == ()
    rows = read_manifest(made[0]).rows
    assert [r.modality for r in rows[:6]] == [*MODALITIES, *REGIONS]
    assert [r.role for r in rows[:6]] == ["image"] * 4 + ["region"] * 2
    assert {r.unit for r in rows if r.role == "image"} == {"HU"}
    assert {(r.split, r.fold) for r in rows} == {("test", 0), ("train", 1)}
    phantom = thorax(4, 0, size=24)
    with open_volume(tmp_path / "a" / rows[1].path) as volume:
        assert volume.grid.shape == shape(24)
        np.testing.assert_array_equal(
            volume.read(Box.whole(shape(24))), whole(phantom.b50f, phantom)
        )
    with open_labels(tmp_path / "a" / rows[4].path) as volume:
        np.testing.assert_array_equal(
            volume.read(Box.whole(shape(24))), whole(phantom.lung, phantom)
        )
    assert rows[0].sha256 == sha256(tmp_path / "a" / rows[0].path)


@pytest.mark.parametrize(
    "call",
    [
        lambda: thorax(0, 0, size=8),
        lambda: thorax(0, 0, size=1024),
        lambda: thorax(0, 0, severity=1.0),
        lambda: thorax(0, 0, dose=0),
        lambda: thorax(0, 0).image("b30f"),
        lambda: thorax(0, 0).kernel("low"),
        lambda: write_thorax_cohort("nowhere", subjects=0, size=24, seed=0),
    ],
)
def test_bad_values_are_refused_in_one_line(call) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+(expected|none of)[^\n]+$"):
        call()
