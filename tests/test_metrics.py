"""Scores agree with other implementations and with themselves whatever the blocks."""

import warnings
from dataclasses import asdict
from math import inf, log10

import numpy as np
import pytest
from helpers import reader
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter

from msgan import metrics
from msgan.types import Box, InputError

SIDE = {2: (40, 33), 3: (22, 19, 17)}


def pair(dims, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    real = gaussian_filter(rng.random(SIDE[dims]), 1.5)
    real = (real - real.min()) / np.ptp(real)
    fake = np.clip(real + noise * rng.standard_normal(real.shape), 0, 1)
    return fake.astype(np.float32), real.astype(np.float32)


def test_ssim_agrees_with_scikit_image(dims):
    from skimage.metrics import structural_similarity

    fake, real = pair(dims)
    mean, full = structural_similarity(
        fake.astype(float),
        real.astype(float),
        data_range=1.0,
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )
    assert_allclose(metrics.ssim_map(fake, real, data_range=1.0), full, atol=1e-7)
    assert metrics.ssim(fake, real, data_range=1.0) == pytest.approx(mean, abs=1e-7)


def test_ssim_agrees_with_monai(dims):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from monai.metrics.regression import SSIMMetric

    fake, real = pair(dims)
    ours = metrics.ssim(fake, real, data_range=1.0)
    theirs = SSIMMetric(dims, data_range=1.0, win_size=11, kernel_sigma=1.5)
    batch = [torch.from_numpy(a)[None, None] for a in (fake, real)]
    assert ours == pytest.approx(theirs(*batch).item(), abs=1e-5)  # MONAI computes in float32


def test_scores_do_not_depend_on_blocks(dims):
    fake, real = pair(dims)
    mask = gaussian_filter(np.random.default_rng(1).random(real.shape), 2) > 0.5
    for read_mask in (None, reader(mask)):
        args = (reader(fake), reader(real), real.shape)
        kwargs = {"data_range": 1.0, "read_mask": read_mask}
        whole = asdict(metrics.scores_of(*args, **kwargs))
        for block in (7, 12, 1):
            parts = asdict(metrics.scores_of(*args, **kwargs, block=(block,) * dims))
            assert parts.pop("mask") == ("mask" if read_mask else None)
            assert_allclose(
                list(parts.values()), [v for k, v in whole.items() if k != "mask"], rtol=1e-9
            )


def test_no_read_is_larger_than_block_and_halo(dims):
    _, real = pair(dims)
    seen = []

    def read(box):
        seen.append(max(box.size))
        return real[box.slices]

    metrics.scores_of(read, reader(real), real.shape, data_range=1.0, block=(6,) * dims)
    assert max(seen) <= 6 + 2 * 5


def test_mask_is_the_mean_of_the_map_over_it(dims):
    fake, real = pair(dims)
    mask = np.zeros(real.shape, bool)
    mask[(slice(6, 11),) * dims] = True
    found = metrics.scores(fake, real, data_range=1.0, mask=mask, mask_name="lesion")
    error = fake[mask].astype(float) - real[mask]
    assert found.ssim == pytest.approx(metrics.ssim_map(fake, real, data_range=1.0)[mask].mean())
    assert found.mae == pytest.approx(np.abs(error).mean())
    assert found.mse == pytest.approx((error**2).mean())
    assert found.psnr == pytest.approx(-10 * log10((error**2).mean()))
    assert found.nmse == pytest.approx((error**2).sum() / (real[mask].astype(float) ** 2).sum())
    assert (found.voxels, found.mask, found.dims) == (mask.sum(), "lesion", dims)


def test_single_functions_equal_the_scores(dims):
    fake, real = pair(dims)
    mask = real > 0.5
    for m in (None, mask):
        both = metrics.scores(fake, real, data_range=1.0, mask=m)
        assert metrics.mae(fake, real, mask=m) == pytest.approx(both.mae)
        assert metrics.mse(fake, real, mask=m) == pytest.approx(both.mse)
        assert metrics.nmse(fake, real, mask=m) == pytest.approx(both.nmse)
        assert metrics.psnr(fake, real, data_range=1.0, mask=m) == pytest.approx(both.psnr)


def test_full_mask_is_no_mask(dims):
    fake, real = pair(dims)
    a = metrics.scores(fake, real, data_range=1.0, mask=np.ones(real.shape, np.uint8))
    b = metrics.scores(fake, real, data_range=1.0)
    assert a.ssim == pytest.approx(b.ssim)
    assert a.ssim_voxels == b.ssim_voxels
    assert b.voxels == real.size
    assert b.ssim_voxels == np.prod([n - 10 for n in real.shape])


def test_network_intensities_give_the_papers_numbers(dims):
    """[-1, 1] with black = -1, brought to unit range, equals [0, 1]."""
    fake, real = pair(dims)
    there = metrics.scores(2 * fake - 1, 2 * real - 1, data_range=2.0, black=-1.0)
    here = asdict(metrics.scores(fake, real, data_range=1.0))
    assert there.mae == pytest.approx(2 * here["mae"], rel=1e-6)
    found = asdict(there.unit())
    del here["mask"], found["mask"]
    assert_allclose(list(found.values()), list(here.values()), rtol=1e-5)
    raw = metrics.scores(2 * fake - 1, 2 * real - 1, data_range=2.0)
    assert abs(raw.ssim - here["ssim"]) > 1e-3  # why black is an argument


def test_identical_images(dims):
    _, real = pair(dims)
    same = metrics.scores(real, real, data_range=1.0)
    assert (same.ssim, same.mae, same.mse, same.psnr, same.nmse) == (1.0, 0.0, 0.0, inf, 0.0)
    black = np.zeros(real.shape)
    assert metrics.nmse(black, black) == 0.0
    assert metrics.nmse(real, black) == inf
    assert metrics.scores(real, black, data_range=1.0).nmse == inf


def test_hounsfield_offset_costs_no_precision():
    """Variances of large values must not cancel."""
    fake, real = pair(3)
    far = metrics.ssim(1e4 * fake + 1e5, 1e4 * real + 1e5, data_range=1e4, black=1e5)
    assert far == pytest.approx(metrics.ssim(fake, real, data_range=1.0), abs=1e-5)


def test_printed_psnr_contradicts_printed_mse():
    """Extended paper, table 1: NLM has MSE .004 and PSNR 19.5."""
    assert metrics.psnr_from_mse(0.004) == pytest.approx(23.979, abs=1e-3)
    assert metrics.psnr_from_mse(0.213) == pytest.approx(6.716, abs=1e-3)
    assert metrics.psnr_from_mse(0.016, 2.0) == pytest.approx(metrics.psnr_from_mse(0.004))
    assert metrics.psnr_from_mse(0.0) == inf


def bad(**changes):
    image = np.zeros((16, 16))
    return {"fake": image, "real": image, "data_range": 1.0} | changes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (bad(fake=np.zeros((16, 15))), r"fake of shape \(16, 15\), real of shape \(16, 16\)"),
        (bad(mask=np.ones((16, 15))), r"mask of shape \(16, 15\)"),
        (bad(mask=np.zeros((16, 16))), "mask: empty mask"),
        (bad(mask=np.eye(16) * (np.arange(16) < 5)), "no voxel at least 5 voxels"),
        (bad(data_range=0), "data_range 0"),
        (bad(data_range=float("nan")), "data_range nan"),
        (bad(fake=np.full((16, 16), np.nan)), "fake: 256 voxels are NaN"),
        (bad(real=np.full((16, 16), np.inf)), "real: 256 voxels are NaN"),
        (bad(fake=np.zeros((16, 9)), real=np.zeros((16, 9))), "shorter than the window 11"),
        (bad(fake=np.zeros(16), real=np.zeros(16)), "expected 2 or 3 axes"),
        (bad(window=10), "window 10: expected an odd"),
        (bad(sigma=0), "sigma 0"),
    ],
)
def test_bad_input_says_what_is_wrong(arguments, message):
    with pytest.raises(InputError, match=message):
        metrics.scores(**arguments)


def test_single_functions_refuse_bad_input():
    image = np.zeros((16, 16))
    with pytest.raises(InputError, match="same shape"):
        metrics.mae(image, image[1:])
    with pytest.raises(InputError, match="empty mask"):
        metrics.mse(image, image, mask=image)
    with pytest.raises(InputError, match="NaN"):
        metrics.ssim_map(image, image * np.nan, data_range=1)
    with pytest.raises(InputError, match="mean squared error -1"):
        metrics.psnr_from_mse(-1)
    with pytest.raises(InputError, match="for a box of size"):
        metrics.scores_of(lambda box: image, reader(image), (30, 30), data_range=1)


def tiled(shape, tile, height, rng, axes=None):
    """An offset for each tile: what tiles that disagree look like."""
    out = np.zeros(shape)
    for box in Box.whole(shape).tiles((tile,) * len(shape)):
        out[box.slices] = height * rng.standard_normal()
    return out


def test_seams_are_found_and_their_height_measured(dims):
    rng = np.random.default_rng(0)
    shape, tile = ((96, 90), 8) if dims == 2 else ((40, 41, 33), 8)
    anatomy = gaussian_filter(rng.random(shape), 3) + 0.01 * rng.standard_normal(shape)
    clean = metrics.seam_score(anatomy, tile)
    seamed = metrics.seam_score(anatomy + tiled(shape, tile, 0.02, rng), tile)
    assert 0.95 < clean.ratio < 1.05
    assert seamed.ratio > 1.2
    assert seamed.p_value <= 0.02 < clean.p_value
    steps = metrics.seam_score(tiled(shape, tile, 1.0, rng), tile)
    assert (steps.ratio, steps.inside) == (inf, 0.0)
    ramp = np.broadcast_to(np.arange(shape[0], dtype=float).reshape(-1, *[1] * (dims - 1)), shape)
    step = ramp + 5 * (np.arange(shape[-1]) >= 16)
    only = metrics.seam_score(step, (shape[0], *[shape[a] for a in range(1, dims - 1)], 16))
    planes = len(range(16, shape[-1] - 1, 16))
    assert only.faces == planes
    assert only.face == pytest.approx(5 / planes)  # the slope is subtracted, the step is not
    assert only.inside == 0


def test_p_value_is_uniform_without_seams():
    """Identity control: noise and smooth images are called seamed as often as the p-value says."""
    for sigma in (0, 2):
        p = []
        for seed in range(200):
            image = np.random.default_rng(seed).standard_normal((48, 52))
            image = gaussian_filter(image, sigma) if sigma else image
            p.append(metrics.seam_score(image, 8, permutations=64).p_value)
        p = np.array(p)
        assert 0.42 < p.mean() < 0.58
        for level in (0.05, 0.25, 0.5):
            # Valid (three standard errors above) and not conservative beyond the 1/64 grid.
            error = 3 * np.sqrt(level * (1 - level) / p.size)
            assert level - 1 / 64 - error < (p <= level).mean() < level + error


def test_random_phases_agree_with_all_phases():
    rng = np.random.default_rng(3)
    image = rng.standard_normal((60, 60)) + tiled((60, 60), 10, 0.3, rng)
    exact = metrics.seam_score(image, 10, offset=3, permutations=100)
    drawn = metrics.seam_score(image, 10, offset=3, permutations=99, seed=1)
    assert (exact.exact, exact.phases) == (True, 100)
    assert (drawn.exact, drawn.phases) == (False, 100)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.15)
    again = metrics.seam_score(image, 10, offset=3, permutations=99, seed=1)
    assert again == drawn
    many = [metrics.seam_score(image, 10, offset=3, permutations=99, seed=s) for s in range(2, 12)]
    assert len({m.p_value for m in many}) > 1


def test_seam_score_does_not_depend_on_blocks(dims):
    rng = np.random.default_rng(0)
    shape = SIDE[dims]
    image, mask = rng.random(shape), rng.random(shape) > 0.02
    for extrapolate, pool in ((True, 1), (False, 1), (True, 3)):
        kwargs = {"read_mask": reader(mask), "extrapolate": extrapolate, "pool": pool}
        whole = metrics.seam_score_of(reader(image), shape, 5, **kwargs)
        for block in (1, 4, 9):
            parts = metrics.seam_score_of(reader(image), shape, 5, **kwargs, block=(block,) * dims)
            assert_allclose(list(asdict(parts).values()), list(asdict(whole).values()))


def test_plain_jumps_by_hand():
    """One row of tiles of 4: faces before 4 and 8, compared with positions at most 2 away."""
    line = np.random.default_rng(0).random(12)
    image = np.tile(line, (3, 1))
    d = np.abs(np.diff(line, prepend=np.nan))
    near = [np.mean([d[k - 2], d[k - 1], d[k + 1], d[k + 2]]) for k in (4, 8)]
    plain = metrics.seam_score(image, (12, 4), extrapolate=False)
    assert plain.face == pytest.approx((d[4] + d[8]) / 2)
    assert plain.inside == pytest.approx(np.mean(near))
    assert (plain.faces, plain.n, plain.phases, plain.exact) == (2, 6, 4, True)


def test_offset_reference_and_mask(dims):
    rng = np.random.default_rng(0)
    shape = (64, 70) if dims == 2 else (36, 34, 33)
    whole = gaussian_filter(rng.random(shape), 0.7)
    tiles = np.roll(tiled(shape, 8, 1e-3, rng), 3, axis=tuple(range(dims)))
    hidden = metrics.seam_score(whole + tiles, 8, offset=3)
    seen = metrics.seam_score(whole + tiles, 8, offset=3, reference=whole)
    assert hidden.ratio < 1.2 < 1e3 < seen.ratio
    assert metrics.seam_score(whole + tiles, 8, offset=7, reference=whole).ratio < 1
    same = metrics.seam_score(whole, 8, reference=whole)
    assert (same.ratio, same.p_value, same.face) == (1.0, 1.0, 0.0)
    mask = np.ones(shape, bool)
    mask[:, 30:] = False
    broken = whole + np.where(mask, 0, 300 * tiles)
    assert metrics.seam_score(broken, 8, offset=3, mask=mask).p_value > 0.02
    assert metrics.seam_score(broken, 8, offset=3, mask=~mask).ratio > 1.5


def test_extrapolation_uncovers_seams_under_slopes():
    rng = np.random.default_rng(0)
    slopes = 20 * gaussian_filter(rng.standard_normal((80, 80)), 4)
    image = slopes + tiled((80, 80), 8, 0.03, rng)
    with_it = metrics.seam_score(image, 8)
    without = metrics.seam_score(image, 8, extrapolate=False)
    assert with_it.ratio > 2 * without.ratio


def test_seams_refuse_bad_input():
    image = np.zeros((20, 20))
    for kwargs, message in [
        ({"tile": 3}, "tile 3: expected at least 4"),
        ({"tile": 18}, "no axis"),
        ({"tile": (5, 5, 5)}, "expected one number or 2"),
        ({"tile": 5, "mask": image}, "empty mask"),
        ({"tile": 5, "mask": image[1:]}, "mask of shape"),
        ({"tile": 5, "reference": image[1:]}, "reference of shape"),
        ({"tile": 5, "permutations": 0}, "permutations 0"),
        ({"tile": 5, "pool": 0}, "pool 0"),
    ]:
        with pytest.raises(InputError, match=message):
            metrics.seam_score(image, **kwargs)
    with pytest.raises(InputError, match="NaN"):
        metrics.seam_score(image * np.nan, 5)
    with pytest.raises(InputError, match="expected 2 or 3 axes"):
        metrics.seam_score(np.zeros(20), 5)


def test_real_brain_has_no_seams_until_they_are_made(shared_data):
    import nibabel as nib

    folder = shared_data / "brain_ms"
    t2 = np.asarray(
        nib.load(folder / "mni_patient19__T2_brain_N4_regtoMNI.nii.gz").dataobj[:, :, 70:110]
    )
    t2 = t2 / t2.max()
    mask = t2 > 0.05
    seams = tiled(t2.shape, 20, 0.02, np.random.default_rng(0))
    clean = metrics.seam_score(t2, 20, mask=mask)
    pooled = metrics.seam_score(t2, 20, mask=mask, pool=8)
    seamed = metrics.seam_score(t2 + seams, 20, mask=mask)
    small = metrics.seam_score(t2 + seams, 20, mask=mask, pool=8)
    for control in (clean, pooled):
        assert 0.9 < control.ratio < 1.1
        assert control.p_value > 0.1
    assert seamed.ratio > clean.ratio + 0.08
    assert small.ratio > pooled.ratio + 0.4
    assert small.p_value < 0.05
    isolated = metrics.seam_score(t2 + seams, 20, mask=mask, reference=t2)
    assert isolated.ratio > 100
    assert isolated.p_value < 0.01


def test_several_masks_in_one_pass_are_as_each_alone(dims):
    rng = np.random.default_rng(3)
    shape = (30, 28, 26)[:dims]
    fake, real = rng.random((2, *shape))
    left = np.zeros(shape, bool)
    left[: shape[0] // 2] = True
    masks = {"left": left, "some": rng.random(shape) > 0.7}
    options = {"data_range": 1.0, "black": 0.2}
    together = metrics.regional_scores_of(
        lambda box: fake[box.slices],
        lambda box: real[box.slices],
        shape,
        {name: (lambda box, m=m: m[box.slices]) for name, m in masks.items()} | {"all": None},
        block=(9,) * dims,
        **options,
    )
    for name, mask in masks.items():
        alone = metrics.scores(fake, real, mask=mask, mask_name=name, **options)
        numbers, words = ({}, {}), ({}, {})
        for k, found in enumerate((together[name], alone)):
            for key, value in found.as_row().items():
                (words if isinstance(value, str) else numbers)[k][key] = value
        assert words[0] == words[1]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-9)
    assert together["all"].voxels == real.size
    with pytest.raises(InputError, match=r"^none: empty mask"):
        metrics.regional_scores_of(
            lambda box: fake[box.slices],
            lambda box: real[box.slices],
            shape,
            {"some": None, "none": lambda box: np.zeros(box.size)},
            **options,
        )
