from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import reader
from scipy import ndimage

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.lung import COARSE_MM, lung_mask
from msgan.data.volume import open_volume, write_volume
from msgan.metrics import Scores, dice
from msgan.phantoms.thorax import ThoraxPhantom, thorax
from msgan.studies.gradients import Gradients
from msgan.studies.lung import emphysema_index, with_lungs
from msgan.studies.table import Result, score_file
from msgan.types import Array, Box, InputError, Reader

LUNGS = Preparation(intensity="window", low=-1350, high=150, scales=1, crop="lungs", margin=2)


def whole(read: Reader, phantom: ThoraxPhantom) -> Array:
    return read(Box.whole(phantom.shape))


def around(mask: Array) -> Box:
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return Box(tuple(s.start for s in found), tuple(s.stop - s.start for s in found))


@pytest.fixture(scope="module")
def phantom() -> ThoraxPhantom:
    return thorax(1, 0, size=64, severity=0.2)


@pytest.fixture(scope="module")
def soft(phantom: ThoraxPhantom) -> Array:
    return whole(phantom.b20f, phantom)


@pytest.mark.parametrize("modality", ["b20f", "b80f", "low"])
@pytest.mark.parametrize(("subject", "severity"), [(0, 0.35), (1, 0.0), (2, 0.15), (3, 0.7)])
def test_lungs_of_phantoms_are_found(subject: int, severity: float, modality: str) -> None:
    phantom = thorax(1, subject, size=64, severity=severity)
    image, truth = whole(phantom.image(modality), phantom), whole(phantom.lung, phantom) > 0
    lungs = lung_mask(reader(image), Grid(phantom.shape, phantom.affine))
    found = whole(lungs.read, phantom)
    assert found.dtype == np.uint8
    assert dice(found > 0, truth) > 0.93
    assert lungs.litres == pytest.approx(found.sum() * np.prod(phantom.spacing) / 1e6)
    true = around(truth)
    for ends in ("start", "stop"):
        np.testing.assert_allclose(getattr(lungs.box, ends), getattr(true, ends), atol=2)
    assert lungs.box == around(found)


def test_finer_images_are_averaged_and_read_in_pieces() -> None:
    phantom = thorax(1, 4, size=128, severity=0.1)  # 2.75 mm
    half = np.diag([0.5, 0.5, 1, 1]) @ np.eye(4)
    affine = phantom.affine @ half
    affine[:3, 3] -= phantom.affine[:3, :3] @ [0.25, 0.25, 0]
    coarse = whole(phantom.b50f, phantom)
    shape = tuple(np.multiply(phantom.shape, (2, 2, 1)) - (1, 0, 0))  # 1.4 mm; an odd side
    fine = np.repeat(np.repeat(coarse, 2, 0), 2, 1)[:-1]
    seen: list[int] = []

    def read(box: Box) -> Array:
        seen.append(box.voxels)
        return fine[box.slices]

    lungs = lung_mask(read, Grid(shape, affine))
    found = lungs.read(Box.whole(shape)) > 0
    truth = np.repeat(np.repeat(whole(phantom.lung, phantom) > 0, 2, 0), 2, 1)[:-1]
    assert dice(found, truth) > 0.95
    assert max(seen) <= 1.1 * (1 << 21) < fine.size
    part = Box((31, 40, 50), (17, 9, 30))
    np.testing.assert_array_equal(lungs.read(part), found[part.slices])
    assert all(a <= b for a, b in zip(lungs.box.stop, shape, strict=True))
    assert max(Grid(shape, affine).spacing[:2]) * 2 == pytest.approx(COARSE_MM, rel=0.2)


def test_any_order_of_axes_gives_the_same_lungs(phantom: ThoraxPhantom, soft: Array) -> None:
    want = lung_mask(reader(soft), Grid(phantom.shape, phantom.affine))
    order, turned = (2, 0, 1), soft.transpose(2, 0, 1)[::-1]
    affine = phantom.affine[:, [*order, 3]]
    affine[:, 3] += affine[:, 0] * (turned.shape[0] - 1)
    affine[:, 0] *= -1
    lungs = lung_mask(reader(turned), Grid(turned.shape, affine))
    found = lungs.read(Box.whole(turned.shape))[::-1].transpose(np.argsort(order))
    np.testing.assert_array_equal(found, whole(want.read, phantom))


def disc(shape: tuple[int, ...], centre: tuple[int, int], radius: float) -> Array:
    x, y = np.ogrid[: shape[0], : shape[1]]
    return (np.hypot(x - centre[0], y - centre[1]) <= radius)[..., None]


def with_bowel(image: Array) -> Array:
    """Gas of the size of a stomach below the diaphragm, and nothing of the left lung."""
    image = image.copy()
    image[: image.shape[0] // 2][image[: image.shape[0] // 2] < -500] = 40
    image[:8], image[:, :4], image[:, -4:] = -1000, -1000, -1000
    image[12:24, 14:32, 1:12] = -1000
    return image


def with_table(image: Array) -> Array:
    """A table of foam in a shell, as long as the scan."""
    image = image.copy()
    image[2:-2, :5] = 100
    image[3:-3, 1:4] = -930
    image[:, 5] = -1000
    return image


def open_to_the_lung(image: Array) -> Array:
    """A wide windpipe that meets the right lung and goes on to the top."""
    image = image.copy()
    pipe = disc(image.shape, (image.shape[0] // 2 + 1, 24), 1.9)
    image[:, :, 40:] = np.where(pipe, -1000, image[:, :, 40:])
    image[33:44, 24, 40] = -1000
    return image


@pytest.mark.parametrize("changed", [with_table, open_to_the_lung])
def test_what_is_no_lung_is_left_out(
    changed: Callable[[Array], Array], phantom: ThoraxPhantom, soft: Array
) -> None:
    grid = Grid(phantom.shape, phantom.affine)
    truth = whole(phantom.lung, phantom) > 0
    lungs = lung_mask(reader(changed(soft)), grid)
    assert dice(whole(lungs.read, phantom) > 0, truth) > 0.93
    np.testing.assert_allclose(lungs.box.stop, around(truth).stop, atol=2)
    np.testing.assert_allclose(lungs.box.start, around(truth).start, atol=2)


def test_one_lung_is_one_and_gas_is_none(phantom: ThoraxPhantom, soft: Array) -> None:
    image = with_table(with_bowel(soft))
    lungs = lung_mask(reader(image), Grid(phantom.shape, phantom.affine))
    found = whole(lungs.read, phantom) > 0
    truth = whole(phantom.lung, phantom) > 0
    truth[: truth.shape[0] // 2] = False
    assert dice(found, truth) > 0.9
    assert not found[12:24, 14:32, 1:12].any()
    assert not found[:, :5].any()


def test_vessels_are_taken_in_and_lungs_cut_by_the_scan_are_not_closed(
    phantom: ThoraxPhantom, soft: Array
) -> None:
    image = soft.copy()
    truth = whole(phantom.lung, phantom) > 0
    inner = ndimage.binary_erosion(truth, iterations=4)
    at = np.argwhere(inner)[0]
    image[at[0] - 1 : at[0] + 1, at[1], at[2]] = 60  # 11 x 5.5 x 5.5 mm
    cut = slice(20, 36)  # the middle of both lungs
    middle = image[:, :, cut]
    found = lung_mask(reader(middle), Grid(middle.shape, phantom.affine)).read(
        Box.whole(middle.shape)
    )
    assert found[:, :, 0].sum() > 0.9 * truth[:, :, cut][:, :, 0].sum()
    assert found[:, :, -1].sum() > 0.9 * truth[:, :, cut][:, :, -1].sum()
    assert dice(found > 0, truth[:, :, cut]) > 0.93
    grown = lung_mask(reader(image), Grid(phantom.shape, phantom.affine))
    assert grown.read(Box(tuple(at), (1, 1, 1))).item() == 1


@pytest.mark.parametrize(
    ("image", "rule"),
    [
        (np.zeros((20, 20)), "2D image: lungs are looked for in 3D CT"),
        (np.full((20, 20, 20), -1000.0), "no lungs found"),
        (np.full((20, 20, 20), 40.0), "no lungs found"),
        (np.random.default_rng(0).uniform(0, 1, (20, 20, 20)), "expected a CT of the chest in HU"),
    ],
)
def test_no_lungs_are_one_line(image: Array, rule: str) -> None:
    with pytest.raises(InputError, match=rf"^[^\n]*{rule}[^\n]*$"):
        lung_mask(reader(image), Grid.from_spacing(image.shape, (5,) * image.ndim))


@pytest.mark.parametrize(
    ("name", "litres", "box"),
    [
        ("LIDC-IDRI-0001_chestCT_256x256.nii.gz", 3.7, ((40, 62, 22), (218, 198, 126))),
        ("LIDC-IDRI-0003_chestCT_256x256x5mm.nii.gz", 5.9, ((26, 82, 4), (220, 204, 61))),
    ],
)
def test_lungs_of_patients(shared_data: Path, name: str, litres: float, box: tuple) -> None:
    # The numbers were read off overlays on axial, coronal and sagittal slices.
    with open_volume(shared_data / "thorax_ct" / name) as volume:
        lungs = lung_mask(volume.read, volume.grid)
        inside = volume.whole()[lungs.read(Box.whole(volume.grid.shape)) > 0]
    assert lungs.litres == pytest.approx(litres, abs=0.15)
    np.testing.assert_allclose(lungs.box.start, box[0], atol=3)
    np.testing.assert_allclose(lungs.box.stop, box[1], atol=3)
    assert -850 < inside.mean() < -780
    assert (inside > -300).mean() < 0.06


# Preparation(crop="lungs")


def save(path: Path, image: Array, affine: Array) -> Path:
    nib.save(nib.Nifti1Image(image.astype(np.float32), affine), path)  # type: ignore[attr-defined]
    return path


def test_the_working_grid_is_the_box_around_the_lungs(
    tmp_path: Path, phantom: ThoraxPhantom, soft: Array
) -> None:
    path = save(tmp_path / "ct.nii", soft[::-1], phantom.affine @ np.diag([-1, 1, 1, 1]))
    with open_volume(path) as volume:
        lungs = lung_mask(volume.read, volume.grid)
    with (
        prepare(path, "ct", LUNGS) as ready,
        prepare(path, "ct", LUNGS.model_copy(update={"crop": "foreground"})) as all_of_it,
    ):
        grid, full = ready.grid, Box.whole(ready.grid.source.shape)
        assert all(a < b for a, b in zip(grid.box.size, all_of_it.grid.box.size, strict=True))
        inside = grid.in_crop(full)
        assert around(inside) == lungs.box.grown(2).clipped(full.size)
        assert inside.sum() == grid.box.voxels
        for part in full.tiles((30, 20, 25)):
            np.testing.assert_array_equal(grid.in_crop(part), inside[part.slices])
        write_volume(tmp_path / "out.nii", grid.source, ready.to_source(ready.read), unit="HU")
    with open_volume(tmp_path / "out.nii") as out, open_volume(path) as source:
        made = out.whole()
        np.testing.assert_array_equal(made[~inside], -1350)  # the window's end: background
        # Within the box nothing is masked: the body around the lungs is there.
        np.testing.assert_allclose(made[inside], source.whole()[inside].clip(-1350, 150), atol=1e-3)
        assert (made[inside] > 0).mean() > 0.1


@pytest.mark.parametrize("region", ["image", "foreground", "body", "lung"])
def test_scores_count_where_lungs_were_looked_for(
    tmp_path: Path, phantom: ThoraxPhantom, soft: Array, region: str
) -> None:
    lungs = lung_mask(reader(soft), Grid(phantom.shape, phantom.affine))
    drawn = save(tmp_path / "lung.nii", whole(lungs.read, phantom), phantom.affine)
    ct = save(tmp_path / "ct.nii", soft, phantom.affine)
    subject = Subject("a", {"ct": ct}, regions={"lung": drawn})
    with prepare(subject, "ct", LUNGS) as ready:
        write_volume(tmp_path / "out.nii", ready.grid.source, ready.to_source(ready.read))
    prep = LUNGS.model_copy(update={"foreground": -300.0})

    def scored(used: Preparation) -> Scores:
        return score_file(tmp_path / "out.nii", subject, "ct", IntensityMap.lung(), used, region)

    scores = scored(prep)
    assert scores.mae == pytest.approx(0, abs=1e-6)
    within = np.zeros(phantom.shape, bool)
    within[lungs.box.slices] = True
    voxels = {
        "image": within,
        "foreground": within & (soft > -300),
        "body": within,
        "lung": whole(lungs.read, phantom) > 0,
    }[region]
    assert scores.voxels == pytest.approx(voxels.sum(), rel=0.02 if region == "body" else 0)
    if region != "foreground":
        assert scores.ssim == pytest.approx(1, abs=1e-6)
    if region != "lung":
        assert scored(prep.model_copy(update={"crop": "foreground"})).mae > 0.001
    if region == "body":  # beyond the box the result is flat
        result = Result("copy", tmp_path / "out.nii", subject, "ct", "ct")
        uncut = prep.model_copy(update={"crop": "foreground"})
        inside, all_of_it = (Gradients(p, region)(result)["gradient"] for p in (prep, uncut))
        assert all_of_it < inside - 0.02


def test_an_image_without_lungs_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "head.nii", np.arange(8000.0).reshape(20, 20, 20) / 100, np.eye(4))
    with pytest.raises(InputError, match=r"^\S+head\.nii: no lungs found[^\n]+$"):
        prepare(path, "ct", LUNGS)
    path = save(tmp_path / "ct.nii", np.arange(400.0).reshape(20, 20), np.eye(4))
    with pytest.raises(InputError, match=r"^\S+ct\.nii: 2D image: lungs are looked for in 3D"):
        prepare(path, "ct", LUNGS)


# studies


def test_the_lungs_of_a_subject_are_looked_for_once(
    tmp_path: Path, phantom: ThoraxPhantom, soft: Array
) -> None:
    ct, drawn = save(tmp_path / "ct.nii", soft, phantom.affine), tmp_path / "drawn.nii"
    people = Cohort(
        (
            Subject("a", {"ct": ct}),
            Subject("b", {"ct": ct}, regions={"lung": drawn}),
            Subject("c", {"t1": ct}),
        )
    )
    made = with_lungs(people, "ct", tmp_path)
    assert made["b"].regions == {"lung": drawn}  # as the manifest says
    assert made["c"].regions == {}
    path = made["a"].regions["lung"]
    with open_volume(path, check=False) as mask:
        assert dice(mask.whole() > 0, whole(phantom.lung, phantom) > 0) > 0.93
    written = path.stat().st_mtime_ns
    assert with_lungs(people, "ct", tmp_path)["a"].regions["lung"] == path
    assert path.stat().st_mtime_ns == written


def test_a_cohort_with_an_image_without_lungs_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "head.nii", np.arange(8000.0).reshape(20, 20, 20) / 100, np.eye(4))
    with pytest.raises(InputError, match=r"^\S+head\.nii: no lungs found[^\n]+$"):
        with_lungs(Cohort((Subject("a", {"ct": path}),)), "ct", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_the_emphysema_index_is_the_share_of_the_lung_below_950_hu(tmp_path: Path) -> None:
    image = np.full((6, 6, 6), -1000.0)  # outside the lung it does not count
    image[:4] = -850
    image[0, 0] = -951
    image[0, 1] = -950
    lung = np.zeros(image.shape)
    lung[:4] = 1
    ct, mask = (
        save(tmp_path / f"{k}.nii", x, np.eye(4)) for k, x in (("ct", image), ("lung", lung))
    )
    assert emphysema_index(ct, mask) == 6 / (4 * 36)
    empty = save(tmp_path / "empty.nii", 0 * lung, np.eye(4))
    with pytest.raises(InputError, match=r"^\S+empty\.nii: no voxel is lung$"):
        emphysema_index(ct, empty)


def test_blocks_without_lung_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msgan.studies.lung.blocks", lambda shape: Box.whole(shape).tiles((3,) * 3))
    image = np.full((6, 6, 6), -1000.0)
    lung = np.zeros(image.shape)
    lung[4:, 4:, 4:] = 1
    image[4, 4, 4] = 0
    ct, mask = (
        save(tmp_path / f"{k}.nii", x, np.eye(4)) for k, x in (("ct", image), ("lung", lung))
    )
    assert emphysema_index(ct, mask) == 7 / 8
