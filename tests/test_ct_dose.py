from pathlib import Path

import numpy as np
import pytest
from helpers import reader

from msgan.data.volume import Grid, open_volume, write_volume
from msgan.phantoms.ct_dose import low_dose, noise_level, write_low_dose
from msgan.phantoms.ct_kernels import KERNELS, blur, noise
from msgan.phantoms.thorax import thorax
from msgan.types import Array, Box, InputError, Reader

SPACING = (0.7, 0.7, 2.0)
NAMES = ("b20f", "b50f", "b80f")


def whole(read: Reader, shape: tuple[int, ...]) -> Array:
    return read(Box.whole(shape))


@pytest.mark.parametrize("name", NAMES)
def test_noise_variance_goes_with_one_over_dose(dims: int, name: str) -> None:
    shape, spacing = ((96, 96), (72, 72, 3))[dims - 2], SPACING[:dims]
    full = noise(shape, spacing, KERNELS[name], 20, 1, reference=KERNELS[name])
    before = whole(full, shape)
    assert before.std() == pytest.approx(20, rel=0.06)
    for dose in (0.5, 0.25, 0.1):
        after = whole(low_dose(full, shape, spacing, KERNELS[name], 20, dose, 2), shape)
        assert (after.std() / before.std()) ** 2 == pytest.approx(1 / dose, rel=0.1)
        assert abs(after.mean() - before.mean()) < 0.02 * after.std()


def test_added_noise_is_coloured_by_the_kernel() -> None:
    """As noise of that kernel, not white: the finest detail has the share it has there."""
    shape, flat = (128, 128), np.zeros((128, 128), np.float32)

    def fine(image: Array) -> float:
        return float(np.diff(image, axis=0).std() / image.std())

    shares = []
    for name in NAMES:
        kernel = KERNELS[name]
        added = whole(low_dose(reader(flat), shape, SPACING[:2], kernel, 10, 0.2, 3), shape)
        own = whole(noise(shape, SPACING[:2], kernel, 10, 4), shape)
        assert fine(added) == pytest.approx(fine(own), rel=0.05)
        shares.append(fine(added))
    assert shares[0] < 0.9 * shares[1] < 0.9 * 0.9 * shares[2]


def test_full_dose_is_the_image_and_seeds_are_scans(dims: int) -> None:
    shape, spacing = (24, 20, 3)[:dims], SPACING[:dims]
    image = np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)
    kernel = KERNELS["b50f"]
    same = low_dose(reader(image), shape, spacing, kernel, 10, 1.0, 0)
    np.testing.assert_array_equal(whole(same, shape), image)
    one, again, other = (
        whole(low_dose(reader(image), shape, spacing, kernel, 10, 0.5, s), shape) for s in (1, 1, 2)
    )
    assert one.tobytes() == again.tobytes()
    assert abs(np.corrcoef((one - image).ravel(), (other - image).ravel())[0, 1]) < 0.3
    tiled = np.empty(shape, np.float32)
    read = low_dose(reader(image), shape, spacing, kernel, 10, 0.5, 1)
    for box in Box.whole(shape).tiles((7,) * dims):
        tiled[box.slices] = read(box)
    assert tiled.tobytes() == one.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_level_of_noise_is_found(dims: int, name: str) -> None:
    shape, spacing = ((160, 160), (96, 96, 4))[dims - 2], SPACING[:dims]
    kernel = KERNELS[name]
    truth = np.full(shape, 40, np.float32)
    truth[: shape[0] // 4] = -850  # lungs do not count
    smooth = blur(reader(truth), shape, spacing, kernel)
    rough = noise(shape, spacing, kernel, 15, 6, reference=kernel)
    found = noise_level(lambda box: smooth(box) + rough(box), shape, spacing, kernel)
    assert found == pytest.approx(15, rel=0.08)


def test_the_phantom_at_low_dose_is_the_phantoms_low_dose() -> None:
    """Of its own scan at full dose, as much noise as a scan at low dose has; the anatomy stays."""
    phantom = thorax(0, 0, size=48, dose=0.25)
    kernel, box = phantom.kernel("b50f"), Box((0, 0, 20), (*phantom.shape[:2], 4))
    reference = phantom.kernel("b20f")
    own = noise(phantom.shape, phantom.spacing, kernel, 12, phantom.scan, reference=reference)
    sigma = float(own(box).std())
    made = low_dose(phantom.b50f, phantom.shape, phantom.spacing, kernel, sigma, 0.25, 5)
    clean = blur(phantom.clean, phantom.shape, phantom.spacing, kernel)(box)
    ours, theirs = made(box) - clean, phantom.low_dose(box) - clean
    assert ours.std() == pytest.approx(theirs.std(), rel=0.06)
    assert abs((made(box) - phantom.b50f(box)).mean()) < 0.01 * ours.std()


@pytest.mark.parametrize("name", ["0001", "0003"])
def test_a_real_ct_at_a_quarter_of_its_dose(shared_data: Path, name: str) -> None:
    (path,) = (shared_data / "thorax_ct").glob(f"LIDC-IDRI-{name}*.nii.gz")
    with open_volume(path) as image:
        shape = (*image.grid.shape[:2], 6)
        spacing, middle = image.grid.spacing, image.grid.shape[2] // 2
        full = image.read(Box((0, 0, middle), shape))
    kernel = KERNELS["b20f"]
    sigma = noise_level(reader(full), shape, spacing, kernel)
    squares = full.reshape(32, 8, 32, 8, 6)
    flat = ((squares > -20) & (squares < 120)).all((1, 3))  # muscle, heart, liver
    seen = np.percentile(squares.std((1, 3))[flat], [5, 50])
    assert 0.9 * seen[0] < sigma < seen[1]
    low = whole(low_dose(reader(full), shape, spacing, kernel, sigma, 0.25, 0), shape)
    added = low - full
    assert added.std() == pytest.approx(sigma * 3**0.5, rel=0.03)
    for part in (full < -700, (full > -100) & (full < 150)):  # lung and air, soft tissue
        assert abs(added[part].mean()) < 0.5
        assert added[part].std() == pytest.approx(added.std(), rel=0.05)
    assert abs(np.corrcoef(added.ravel(), full.ravel())[0, 1]) < 0.02
    after = low.reshape(squares.shape).var((1, 3))[flat]
    assert (after - squares.var((1, 3))[flat]).mean() == pytest.approx(3 * sigma**2, rel=0.2)


def test_a_file_at_lower_dose_keeps_its_grid(tmp_path: Path) -> None:
    shape, kernel = (64, 64, 3), KERNELS["b50f"]
    rough = noise(shape, SPACING, kernel, 15, 6, reference=kernel)
    grid = Grid(shape, np.diag([*SPACING, 1.0]))
    path, out = tmp_path / "full.nii.gz", tmp_path / "low.nii.gz"
    write_volume(path, grid, lambda box: rough(box) + 40, unit="HU")
    sigma = write_low_dose(path, out, kernel, 0.5, 3)
    assert sigma == pytest.approx(15, rel=0.08)
    with open_volume(path) as full, open_volume(out) as low:
        assert low.grid.same_as(full.grid)
        assert low.unit == "HU"
        added = low.whole() - full.whole()
        assert added.std() == pytest.approx(sigma, rel=0.05)
    assert write_low_dose(path, out, kernel, 0.5, 3, sigma_full=8.0) == 8.0
    sagittal = Grid(shape, np.array([[0, 0, 2, 0], [0.7, 0, 0, 0], [0, 0.7, 0, 0], [0, 0, 0, 1]]))
    write_volume(tmp_path / "turned.nii", sagittal, rough, unit="HU")
    with pytest.raises(InputError, match=r"^[^\n]*turned\.nii: axial slices across another axis"):
        write_low_dose(tmp_path / "turned.nii", out, kernel, 0.5, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda r: low_dose(r, (8, 8), (1, 1), KERNELS["b20f"], 10, 0, 0),
        lambda r: low_dose(r, (8, 8), (1, 1), KERNELS["b20f"], 10, 1.1, 0),
        lambda r: low_dose(r, (8, 8), (1, 1), KERNELS["b20f"], -1, 0.5, 0),
        lambda r: low_dose(r, (8, 8), (1, 0), KERNELS["b20f"], 10, 0.5, 0),
        lambda r: noise_level(r, (8, 8), (1, 1), KERNELS["b20f"], low=500, high=600),
    ],
)
def test_bad_values_are_refused_in_one_line(call) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+expected[^\n]+$"):
        call(reader(np.zeros((8, 8), np.float32)))
