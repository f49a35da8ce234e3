"""What is matched without a network: detail that is carried, spectra, and their rows."""

from pathlib import Path

import numpy as np
import pytest
from helpers import stored
from scipy.ndimage import gaussian_filter
from tree import untrained

from msgan import pyramid
from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.volume import open_volume
from msgan.match import slope, spectrum
from msgan.match.spectrum import PATCH, Spectrum, filtered, kernel_of, transfer
from msgan.methods.baselines import SlopeTransfer
from msgan.methods.matched import SpectrumMatched
from msgan.phantoms.brain import brain
from msgan.types import Box, InputError

WINDOW = Preparation(intensity="window", low=-1024.0, high=1024.0, foreground=-900.0, scales=1)


def of(image: np.ndarray):
    return pyramid.extended(lambda box: image[box.slices], image.shape)


def whole(path: Path) -> np.ndarray:
    with open_volume(path) as volume:
        return volume.whole()


# --- slope transfer --------------------------------------------------------------------------


@pytest.mark.parametrize("slant", [0.8, -0.8])
def test_a_linear_relation_is_carried_to_the_fine_grid(dims, slant):
    """Bright may become dark: the slope has a sign."""
    x = np.random.default_rng(0).uniform(-0.9, 0.9, (34, 30, 36)[:dims]).astype(np.float32)
    y = pyramid.halve(slant * x + 0.05, dims)
    made = slope.carried(of(x), of(y), floor=1e-9)(Box.whole(x.shape))
    inner = (slice(12, -12),) * dims  # beyond its faces an image and a scale of it go on apart
    np.testing.assert_allclose(made[inner], (slant * x + 0.05)[inner], rtol=0, atol=1e-5)
    assert made.dtype == np.float32


def test_where_the_source_is_flat_nothing_is_carried(dims):
    x = np.full((24, 20, 28)[:dims], 0.3, np.float32)
    x += 1e-4 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    y = np.random.default_rng(1).uniform(-0.9, 0.9, [n // 2 for n in x.shape]).astype(np.float32)
    made = slope.carried(of(x), of(y))(Box.whole(x.shape))
    smooth = pyramid.enlarge(of(y), y.shape)(Box.whole(x.shape))
    inner = (slice(2, -2),) * dims
    np.testing.assert_allclose(made[inner], smooth[inner], rtol=0, atol=0.02)


def test_tiles_of_a_carried_image_agree_and_read_no_more_than_the_halo(dims):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (30, 26, 22)[:dims]).astype(np.float32)
    x[:9] = -1
    y = pyramid.halve(-x, dims) + 0.1
    read, asked = of(x), []

    def seen(box):
        asked.append(box)
        return read(box)

    made = slope.carried(seen, of(y))
    expected = made(Box.whole(x.shape))
    assert (expected[:9] == -1).all()  # background
    for box in Box.whole(x.shape).tiles((7, 9, 5)[:dims]):
        asked.clear()
        np.testing.assert_array_equal(made(box), expected[box.slices])
        (around,) = asked
        grown = box.grown(slope.halo())
        assert all(a >= b for a, b in zip(around.start, grown.start, strict=True))
        assert all(a <= b for a, b in zip(around.stop, grown.stop, strict=True))


# --- spectra ---------------------------------------------------------------------------------


def noisy(shape, sigma: float, seed: int = 0) -> np.ndarray:
    """Noise as of a kernel: white noise, smoothed within slices."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return gaussian_filter(noise, (sigma, sigma, 0)[: len(shape)], mode="wrap")


def test_the_gain_is_that_of_the_kernels():
    """Of one noise smoothed twice the gain is the difference of the Gaussians."""
    shape, spacing = (256, 256, 12), (0.8, 0.8, 2.0)
    sharp, soft = (0.2 * noisy(shape, s, k) for k, s in enumerate((0.6, 1.2)))
    spectra = [Spectrum.of(of(image), shape, spacing) for image in (sharp, soft)]
    gain = transfer(*spectra)
    frequency = (np.arange(len(gain)) + 0.5) / len(gain) * 0.5  # per voxel
    expected = np.exp(-2 * np.pi**2 * frequency**2 * (1.2**2 - 0.6**2))
    used = expected > 0.02  # below, a Hann window leaks
    np.testing.assert_allclose(gain[used], expected[used], rtol=0, atol=0.06)
    assert transfer(*spectra[::-1]).max() <= 1  # nothing is sharpened
    assert (np.diff(gain) <= 0).all()
    kernel = kernel_of(gain)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-12)


def test_spectra_of_other_voxels_are_compared_in_mm():
    shape = (320, 320, 8)
    fine = Spectrum.of(of(noisy(shape, 2.0)), shape, (0.5, 0.5, 1.0))
    coarse = Spectrum.of(of(noisy(shape, 1.0)), shape, (1.0, 1.0, 1.0))
    gain = transfer(coarse, fine)  # 1 mm both
    assert gain[len(gain) // 4] > 0.9


def test_tiles_of_a_filtered_image_agree():
    image = np.random.default_rng(0).normal(size=(70, 60, 6)).astype(np.float32)
    made = filtered(of(image), kernel_of(np.linspace(1, 0.2, spectrum.BANDS)))
    expected = made(Box.whole(image.shape))
    for box in Box.whole(image.shape).tiles((33, 17, 2)):
        np.testing.assert_allclose(made(box), expected[box.slices], rtol=0, atol=1e-6)
    assert expected.std() < image.std()


def test_an_image_without_a_body_has_no_spectrum():
    with pytest.raises(InputError, match="no patch of 64 x 64 shows enough of a body"):
        Spectrum.of(lambda box: np.full(box.size, -1.0), (PATCH, PATCH, 3), (1.0, 1.0, 1.0))


# --- rows ------------------------------------------------------------------------------------


def test_carried_detail_is_nearer_to_the_truth_than_interpolation():
    """Of a T2 image at half the resolution, with the detail of T1 and of FLAIR."""
    images = {
        name: (np.clip(image / np.percentile(image[image > 0], 99.5), 0, 1) * 2 - 1)
        for name, image in brain(0, 1, size=64).images.items()
    }
    real = images["t2"].astype(np.float32)
    inside, box = real > -1, Box.whole(real.shape)
    y = pyramid.halve(real, 3)
    enlarged = np.abs(pyramid.enlarge(of(y), y.shape)(box) - real)[inside].mean()
    for source in ("t1", "flair"):
        made = slope.carried(of(images[source].astype(np.float32)), of(y))(box)
        assert np.abs(made - real)[inside].mean() < 0.8 * enlarged
        assert (made[images[source] == -1] == -1).all()


@pytest.mark.slow
def test_the_row_is_written_in_the_unit_of_the_target(tmp_path):
    subjects = []
    for person, split in ((0, "train"), (1, "test")):
        images = brain(0, person, size=32).images
        files = {m: stored(tmp_path / f"{person}_{m}.nii", images[m]) for m in ("t1", "t2")}
        subjects.append(Subject(f"p{person}", files, split=split))
    cohort, config = Cohort(tuple(subjects)), untrained(Preparation(scales=1))
    method = SlopeTransfer.fit(cohort, "t1", "t2", config, inverted=True)
    assert method.name == "inverted, matched + slope transfer"
    method.translate(subjects[1], tmp_path / "o.nii", modality="t1")
    made, real = whole(tmp_path / "o.nii"), whole(subjects[1].images["t2"])
    np.testing.assert_array_equal(made[real == 0], 0)
    assert np.corrcoef(made[real > 0], real[real > 0])[0, 1] > 0.8


def test_a_sharp_kernel_becomes_the_soft_one(tmp_path):
    """Of a disc in noise: nearer to the soft image than the source, in HU, on its grid."""
    shape = (160, 160, 6)
    x, y = np.ogrid[:160, :160]
    disc = np.where(np.hypot(x - 80, y - 80) < 60, 40.0, -850.0)[..., None]
    subjects = []
    for person, split in ((0, "train"), (1, "test")):
        body = disc + np.where(np.hypot(x - 70 - 9 * person, y - 80) < 20, 300.0, 0.0)[..., None]
        noise = 400 * np.random.default_rng(person).normal(size=shape)
        soft, sharp = (
            gaussian_filter(body + noise, (s, s, 0)).clip(-1024).astype(np.float32)
            for s in (1.5, 0.7)
        )
        files = {
            "sharp": stored(tmp_path / f"{person}_sharp.nii", sharp),
            "soft": stored(tmp_path / f"{person}_soft.nii", soft),
        }
        subjects.append(Subject(f"p{person}", files, split=split))
    method = SpectrumMatched.fit(Cohort(tuple(subjects)), "sharp", "soft", untrained(WINDOW))
    method.translate(subjects[1], tmp_path / "o.nii", modality="sharp")
    made, real = whole(tmp_path / "o.nii"), whole(subjects[1].images["soft"])
    source = whole(subjects[1].images["sharp"])
    assert made.shape == shape
    inside = np.broadcast_to(np.hypot(x - 80, y - 80) < 50, shape[:2])
    apart, before = (np.abs(image - real)[inside].mean() for image in (made, source))
    assert apart < 0.35 * before
    assert abs(float((made - real)[inside].mean())) < 5
    with pytest.raises(InputError, match="no training subject has a hard image"):
        SpectrumMatched.fit(Cohort(tuple(subjects)), "sharp", "hard", untrained(WINDOW))


def test_slices_smaller_than_a_patch_have_a_spectrum():
    """With as many bands as they have; the gain is the same but for the noise of a few."""
    spacing, gains = (0.8, 0.8, 2.0), []
    for shape in ((256, 256, 12), (40, 48, 120)):
        spectra = [
            Spectrum.of(of(0.2 * noisy(shape, s, k)), shape, spacing)
            for k, s in enumerate((0.6, 1.2))
        ]
        assert len(spectra[0].power) == min(PATCH, *shape[:2]) // 2
        gains.append(transfer(*spectra))
    np.testing.assert_allclose(*gains, rtol=0, atol=0.08)
