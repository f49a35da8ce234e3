import math

import pytest
import torch
from torch.testing import assert_close

from msgan.augment import (
    SampleRng,
    augment_context,
    augment_sketch,
    blur,
    half_resolution,
)
from msgan.config import ConditioningAugmentation

QUIET = ConditioningAugmentation(noise=0.0, sketch_noise=0.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rngs(count, seed=0):
    return [SampleRng.of(seed * 10_000 + k, torch.device("cpu")) for k in range(count)]


def texture(dims, batch=1, side=16, seed=0):
    noise = torch.randn(batch, 1, *[side] * dims, generator=generator(seed))
    return (0.3 * noise).clamp(-1, 1)


def energy(image):
    """Sum of squared differences of neighbours."""
    axes = range(2, image.ndim)
    return sum(image.diff(dim=a).square().sum() for a in axes).item()


def test_shares_of_degraded_patches(dims):
    count = 2000
    contexts = texture(dims, 1, 6).expand(count, 1, *[6] * dims)
    plain = contexts[:1]
    out = augment_context(contexts, QUIET, rngs(count, 3))
    kinds = {
        "none": plain,
        "blur": blur(plain, QUIET.blur_sigma),
        "half": half_resolution(plain),
        "both": half_resolution(blur(plain, QUIET.blur_sigma)),
    }
    shares = {
        name: sum((x - kind[0]).abs().max() < 1e-6 for x in out).item() / count
        for name, kind in kinds.items()
    }
    assert sum(shares.values()) == pytest.approx(1.0)
    # 30 % and 20 %, drawn independently; four standard deviations of a share of 2000.
    for share, wanted in (
        (shares["blur"] + shares["both"], 0.3),
        (shares["half"] + shares["both"], 0.2),
        (shares["both"], 0.06),
    ):
        assert abs(share - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / count)


@pytest.mark.parametrize("share", ["blur_share", "half_share"])
def test_shares_of_all_and_none(dims, share):
    contexts = texture(dims, 20, 8)
    none = {"blur_share": 0.0, "half_share": 0.0}
    config = QUIET.model_copy(update=none)
    assert_close(augment_context(contexts, config, rngs(20)), contexts, rtol=0, atol=0)
    every = augment_context(contexts, config.model_copy(update={share: 1.0}), rngs(20))
    changed = (every - contexts).flatten(1).abs().amax(dim=1)
    assert (changed > 0.05).all()


def test_noise_is_on_every_patch_and_has_its_standard_deviation(dims):
    contexts = texture(dims, 6, 60 if dims == 2 else 16)
    config = ConditioningAugmentation(noise=0.07, sketch_noise=0.02, blur_share=0, half_share=0)
    added = augment_context(contexts, config, rngs(6)) - contexts
    for patch in added:
        assert patch.std().item() == pytest.approx(0.07, rel=0.08)
        assert abs(patch.mean().item()) < 0.01
    added = augment_sketch(contexts, config, rngs(6)) - contexts
    assert added.std().item() == pytest.approx(0.02, rel=0.05)


def test_degradation_is_decided_by_the_dice_and_leaves_its_input_alone(dims):
    contexts = texture(dims, 8, 8)
    before = contexts.clone()
    config = ConditioningAugmentation(blur_share=0.5, half_share=0.5)
    one, two, other = (augment_context(contexts, config, rngs(8, s)) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(contexts, before)


@pytest.mark.parametrize("side", [7, 12])
def test_a_patch_is_degraded_alone_as_in_a_batch(dims, side):
    """To the bit: processes share a batch, and must train as one would."""
    contexts = texture(dims, 9, side)
    config = ConditioningAugmentation(blur_share=0.5, half_share=0.5)
    for augment in (augment_context, augment_sketch):
        together = augment(contexts, config, rngs(9))
        for k, own in enumerate(rngs(9)):
            assert torch.equal(augment(contexts[k : k + 1], config, [own])[0], together[k])


def test_what_a_smaller_patch_does_not_fill_gets_no_noise(dims):
    sketches = torch.zeros(2, 3, *[8] * dims)
    sizes = [(8,) * dims, (5, *[8] * (dims - 1))]
    out = augment_sketch(sketches, ConditioningAugmentation(), rngs(2), sizes)
    assert (out[0] != 0).all()
    assert (out[1, :, :5] != 0).all()
    assert not out[1, :, 5:].any()
    smaller = augment_sketch(sketches[1:, :, :5], ConditioningAugmentation(), rngs(2)[1:])
    assert torch.equal(smaller[0], out[1, :, :5])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_choices_are_those_of_the_seed_on_a_gpu_too(dims):
    contexts = texture(dims, 40, 8).cuda()
    config = ConditioningAugmentation(noise=0.0, blur_share=0.5, half_share=0.5)
    there = [SampleRng.of(k, contexts.device) for k in range(40)]
    out = augment_context(contexts, config, there)
    assert_close(out.cpu(), augment_context(contexts.cpu(), config, rngs(40)), rtol=0, atol=1e-5)


def test_blur_lowers_the_gradient_and_keeps_the_mean(dims):
    image = texture(dims, 2, 24)
    assert energy(blur(image, 1.0)) < 0.2 * energy(image)
    assert energy(blur(image, 2.0)) < energy(blur(image, 1.0))
    constant = torch.full((1, 1, *[9] * dims), 0.4)
    assert_close(blur(constant, 1.0), constant)


def test_blur_is_a_gaussian_of_that_width(dims):
    image = torch.zeros(1, 1, *[21] * dims)
    image[(0, 0, *[10] * dims)] = 1
    spread = blur(image, 1.5)
    assert spread.sum().item() == pytest.approx(1.0, abs=1e-5)
    places = (torch.arange(21.0) - 10).square()
    for axis in range(2, 2 + dims):
        profile = spread.sum(dim=[a for a in range(image.ndim) if a != axis])
        assert (profile * places).sum().sqrt().item() == pytest.approx(1.5, rel=0.03)


@pytest.mark.parametrize("side", [12, 13])
def test_half_resolution_kills_the_finest_pattern_and_keeps_slow_ones(dims, side):
    steps = torch.meshgrid(*[torch.arange(float(side))] * dims, indexing="ij")
    checkers = (-1.0) ** sum(steps)
    stripes = (-1.0) ** steps[0]
    inner = (..., *[slice(0, 12)] * dims)  # the pair of an odd last voxel is a copy of it
    for pattern in (checkers, stripes):
        out = half_resolution(pattern[None, None])
        assert out.shape == (1, 1, *[side] * dims)
        assert out[inner][(..., *[slice(0, 10)] * dims)].abs().max() < 1e-6
    ramp = sum(steps)[None, None] / side
    inner = (..., *[slice(1, 11)] * dims)
    assert_close(half_resolution(ramp)[inner], ramp[inner], rtol=0, atol=1e-5)
