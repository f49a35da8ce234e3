import numpy as np
import pytest
from helpers import reader

from msgan.phantoms.ct_kernels import KERNELS, Kernel, as_kernel, blur, noise, noise_gain
from msgan.types import Array, Box, InputError, Reader

SPACING = (0.7, 0.7, 1.0)
ORDER = ("b20f", "b50f", "b80f")  # softest first


def shape_of(dims: int) -> tuple[int, ...]:
    return (40, 36, 5)[:dims]


def whole(read: Reader, shape: tuple[int, ...]) -> Array:
    return read(Box.whole(shape))


def tiled(read: Reader, shape: tuple[int, ...], size: int) -> Array:
    out = np.full(shape, np.nan, np.float32)
    for box in Box.whole(shape).tiles((size,) * len(shape)):
        out[box.slices] = read(box)
    return out


def edge(dims: int) -> Array:
    image = np.full(shape_of(dims), -850, np.float32)
    image[20:] = 40
    return image


def readers(dims: int) -> dict[str, Reader]:
    shape, spacing = shape_of(dims), SPACING[:dims]
    rough = np.random.default_rng(0).normal(0, 300, shape).astype(np.float32)
    return {
        "blur": blur(reader(rough), shape, spacing, KERNELS["b50f"]),
        "noise": noise(shape, spacing, KERNELS["b80f"], 10, 3),
        "as_kernel": as_kernel(reader(rough), shape, spacing, KERNELS["b20f"], KERNELS["b50f"]),
    }


@pytest.mark.parametrize("what", ["blur", "noise", "as_kernel"])
def test_any_tiling_gives_the_same_bytes(dims: int, what: str) -> None:
    read, shape = readers(dims)[what], shape_of(dims)
    assert tiled(read, shape, 7).tobytes() == whole(read, shape).tobytes()
    assert tiled(read, shape, 16).tobytes() == whole(read, shape).tobytes()


def test_transfer_has_the_stated_frequencies() -> None:
    stated = {"b20f": (0.31, 0.57), "b50f": (0.58, 0.97), "b80f": (1.01, 1.56)}
    f = np.linspace(0, 2, 20001)
    for name, (half, tenth) in stated.items():
        mtf = KERNELS[name].mtf(f)
        assert mtf[0] == pytest.approx(1)
        assert f[mtf >= 0.5].max() == pytest.approx(half, abs=0.02)
        assert f[mtf >= 0.1].max() == pytest.approx(tenth, abs=0.02)
        assert KERNELS[name].nps(f)[0] == 0


@pytest.mark.parametrize("name", ORDER)
def test_a_wave_is_passed_as_the_transfer_says(name: str) -> None:
    h, n = 0.7, 128
    for cycles in (8, 24, 48):
        f = cycles / (n * h)
        wave = np.cos(2 * np.pi * f * h * np.arange(n))[:, None] * np.ones((1, 24))
        out = whole(blur(reader(wave), wave.shape, (h, h), KERNELS[name]), wave.shape)
        gain = (out * wave)[40:-40].sum() / (wave**2)[40:-40].sum()
        assert gain == pytest.approx(float(KERNELS[name].mtf(f)), abs=0.03)


def test_sharper_kernels_have_narrower_edges(dims: int) -> None:
    widths = []
    for name in ORDER:
        read = blur(reader(edge(dims)), shape_of(dims), SPACING[:dims], KERNELS[name])
        profile = whole(read, shape_of(dims))[(slice(None), 18, 2)[:dims]]
        rise = (profile + 850) / 890
        fine = np.interp(np.linspace(0, 39, 3901), np.arange(40), rise)
        widths.append((np.argmax(fine > 0.75) - np.argmax(fine > 0.25)) * 0.007)
    assert widths[0] > 1.1 * widths[1] > 1.1 * 1.1 * widths[2]


@pytest.mark.parametrize("name", ORDER)
def test_flat_regions_keep_their_value(dims: int, name: str) -> None:
    flat = np.full(shape_of(dims), -850, np.float32)
    for read in (
        blur(reader(flat), flat.shape, SPACING[:dims], KERNELS[name]),
        as_kernel(reader(flat), flat.shape, SPACING[:dims], KERNELS["b20f"], KERNELS[name]),
    ):
        assert np.abs(whole(read, flat.shape) + 850).max() < 1e-3
    noisy = whole(noise((128, 128), (0.7, 0.7), KERNELS[name], 10, 0), (128, 128))
    assert abs(noisy.mean()) < 0.02 * noisy.std()


def test_slices_are_independent() -> None:
    image = np.zeros((20, 20, 5), np.float32)
    image[10, 10, 2] = 1000
    out = whole(blur(reader(image), image.shape, SPACING, KERNELS["b20f"]), image.shape)
    assert np.flatnonzero(np.abs(out).sum((0, 1))).tolist() == [2]


def test_noise_of_one_scan_is_one_realisation_and_sharper_kernels_have_more() -> None:
    shape, spacing = (160, 160), (0.7, 0.7)
    scan = [whole(noise(shape, spacing, KERNELS[k], 12, 5), shape) for k in ORDER]
    std = [float(s.std()) for s in scan]
    assert std[0] == pytest.approx(12, rel=0.06)
    for name, s in zip(ORDER, std, strict=True):
        assert s == pytest.approx(12 * noise_gain(KERNELS[name], spacing), rel=0.06)
    assert std[2] > 1.3 * std[1] > 1.3 * 1.3 * std[0]
    together = np.corrcoef([s.ravel() for s in scan])
    assert together[0, 1] > 0.5
    assert together[1, 2] > 0.7
    assert together[0, 2] > 0.3
    other = whole(noise(shape, spacing, KERNELS["b20f"], 12, 6), shape)
    assert abs(np.corrcoef(scan[0].ravel(), other.ravel())[0, 1]) < 0.06


def test_noise_has_the_spectrum_of_the_kernel() -> None:
    n, h = 256, 0.7
    for name in ORDER:
        image = whole(noise((n, n), (h, h), KERNELS[name], 10, 1), (n, n))
        power = np.abs(np.fft.fft2(image)) ** 2
        u = np.fft.fftfreq(n, h)
        f = np.hypot(u[:, None], u[None])
        bands = [(f > a) & (f < a + 0.05) for a in (0.1, 0.2, 0.35, 0.5)]
        measured = np.array([power[b].mean() for b in bands])
        wanted = np.array([KERNELS[name].nps(f[b]).mean() for b in bands])
        share = measured / measured.sum(), wanted / wanted.sum()
        assert np.abs(share[0] - share[1]).max() < 0.06


def test_noise_averages_out_as_a_ramp_makes_it() -> None:
    image = whole(noise((288, 288), (0.7, 0.7), KERNELS["b20f"], 10, 2), (288, 288))
    means = image.reshape(6, 48, 6, 48).mean((1, 3))
    # White noise as blurred as this would leave 0.5 HU or more.
    assert means.std() < 0.2


def test_low_dose_is_the_same_noise_but_more() -> None:
    shape = (32, 32)
    full, low = (whole(noise(shape, (0.7, 0.7), KERNELS["b50f"], s, 1), shape) for s in (10, 20))
    np.testing.assert_allclose(low, 2 * full, rtol=1e-5, atol=1e-4)


def test_a_soft_image_becomes_a_sharp_one_and_back(dims: int) -> None:
    shape, spacing = shape_of(dims), SPACING[:dims]
    soft, sharp = (blur(reader(edge(dims)), shape, spacing, KERNELS[k]) for k in ("b20f", "b50f"))
    made = as_kernel(soft, shape, spacing, KERNELS["b20f"], KERNELS["b50f"])
    back = as_kernel(sharp, shape, spacing, KERNELS["b50f"], KERNELS["b20f"])
    s, f = whole(soft, shape), whole(sharp, shape)
    assert np.abs(whole(made, shape) - f).mean() < 0.5 * np.abs(s - f).mean()
    assert np.abs(whole(back, shape) - s).mean() < 0.2 * np.abs(s - f).mean()


def test_the_cap_bounds_what_noise_can_become() -> None:
    rough = np.random.default_rng(0).normal(0, 10, (64, 64)).astype(np.float32)
    stds = [
        whole(
            as_kernel(reader(rough), (64, 64), SPACING[:2], *map(KERNELS.get, ORDER[::2]), cap=cap),
            (64, 64),
        ).std()
        for cap in (1.0, 2.0, 4.0)
    ]
    assert stds[0] < stds[1] < stds[2] < 4 * 10


def test_a_stretched_kernel_is_the_same_in_larger_voxels() -> None:
    shape = (24, 24)
    image = np.random.default_rng(0).normal(0, 300, shape)
    fine = blur(reader(image), shape, (0.5, 0.5), KERNELS["b50f"])
    coarse = blur(reader(image), shape, (4.0, 4.0), KERNELS["b50f"].stretched(8))
    np.testing.assert_allclose(whole(fine, shape), whole(coarse, shape), atol=1e-3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Kernel("k", ((0.5, 1.0),)),
        lambda: KERNELS["b20f"].stretched(0),
        lambda: noise((8, 8), (0.7, 0.7), KERNELS["b20f"], -1, 0),
        lambda: noise((8, 8), (0.7, 0.0), KERNELS["b20f"], 1, 0),
        lambda: blur(lambda box: np.zeros(box.size), (8,), (0.7,), KERNELS["b20f"]),
        lambda: as_kernel(
            lambda box: np.zeros(box.size), (8, 8), (1, 1), *map(KERNELS.get, ORDER[:2]), cap=0.5
        ),
    ],
)
def test_bad_values_are_refused_in_one_line(call) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+expected[^\n]+$"):
        call()
