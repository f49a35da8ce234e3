from copy import deepcopy

import pytest
import torch
from helpers import CASCADES
from torch.testing import assert_close

from msgan.networks import cpu_ops, inference, layers
from msgan.networks.generator import Generator, Geometry, View
from msgan.networks.hr_generators import MeganGenerator, SeamlessGenerator
from msgan.networks.inference import optimised
from msgan.types import Box

CPU = torch.device("cpu")

CLOSE = {"megan": 2e-5, "seamless": 1e-5}
"""Each normalisation over a patch enlarges the rounding of the convolution before it."""


def randomised(network, seed=0):
    """Weights that let every voxel count; the last layer starts at zero otherwise."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = noise / parameter[0].numel() ** 0.5
        else:  # biases and gains, of either sign
            parameter.data += 0.5 * noise
    return network.eval()


def high(family, dims, channels=2, width=8, blocks=2):
    return randomised(CASCADES[family].hr(dims, channels, width, blocks))


def scene(generator, dims, core, batch=1, channels=2, seed=1):
    """Sketch and context for cores of these sides."""
    rng = torch.Generator().manual_seed(seed)
    sketch, context = generator.geometry.cut(Box.whole(core[:dims]), core[:dims]).reads
    drawn = torch.rand(batch, channels, *sketch.size, generator=rng)
    return drawn, torch.rand(batch, 1, *context.size, generator=rng) * 2 - 1


def side(generator):
    return generator.geometry.core_side or 12


@torch.no_grad()
@pytest.mark.parametrize("family", CASCADES)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_core_is_that_of_the_training_form(dims, family, batch):
    generator = high(family, dims)
    fast = optimised(generator, CPU)
    inputs = scene(generator, dims, (side(generator),) * dims, batch)
    expected = layers.crop(generator(*inputs)[0], generator.geometry.rim)
    made = fast.core(*inputs)
    assert expected.std() > 0.1
    assert made.shape == (batch, 1, *[side(generator)] * dims)
    assert_close(made, expected, rtol=0, atol=CLOSE[family])


class Inverted(SeamlessGenerator):
    """Computes something else than the class it is made from."""

    def forward(self, sketch, context):
        return (-super().forward(sketch, context)[0],)


class Doubling(Generator):
    """By the documented interface alone."""

    geometry = Geometry((View("sketch", 0, halo=2), View("below", -1, halo=1)), rim=2, exact=True)

    def forward(self, sketch, context):
        base = context.repeat_interleave(2, 2)
        for axis in range(3, context.ndim):
            base = base.repeat_interleave(2, axis)
        return (layers.crop(base, 2) + layers.crop(sketch.mean(1, keepdim=True), 2),)


@torch.no_grad()
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_generator_without_a_fast_form_runs_as_it_is(dims, device):
    for generator in (randomised(Inverted(dims, 2, 8, 2)), Doubling()):
        inputs = scene(generator, dims, (12,) * dims)
        expected = layers.crop(generator(*inputs)[0], generator.geometry.rim)
        slow = optimised(generator, torch.device(device))
        assert slow.geometry == generator.geometry
        core = slow.core(*(x.to(device) for x in inputs))
        assert core.shape == expected.shape
        if device == "cpu":
            assert expected.std() > 0.1
            assert_close(core, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("channels", "width", "blocks"), [(1, 4, 1), (7, 12, 3), (2, 36, 2)])
def test_seamless_cores_of_any_size_and_network(dims, channels, width, blocks):
    generator = high("seamless", dims, channels, width, blocks)
    fast = optimised(generator, CPU)
    for core in ((2, 2, 2), (18, 6, 10), (4, 14, 2)):
        inputs = scene(generator, dims, core, channels=channels)
        assert_close(fast.core(*inputs), generator(*inputs)[0], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("slab", [1, 20_000])
def test_slabs_change_nothing(dims, slab, monkeypatch):
    generator = high("seamless", dims)
    inputs = scene(generator, dims, (14, 8, 6), batch=2)
    monkeypatch.setattr(inference, "SLAB", slab)
    assert_close(optimised(generator, CPU).core(*inputs), generator(*inputs)[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_any_tiling_of_the_seamless_form_gives_the_whole_image(dims):
    generator = high("seamless", dims)
    fast = optimised(generator, CPU)
    whole = (24, 12, 18)[:dims]
    sketch, context = scene(generator, dims, whole)
    expected = fast.core(sketch, context)
    for tile in (6, 8, 10):
        tiled = torch.full_like(expected, torch.nan)
        halo, wide = (view.halo for view in fast.geometry.reads)
        starts = torch.cartesian_prod(*[torch.arange(0, n, tile) for n in whole])
        for start in starts.tolist():
            stop = [min(a + tile, n) for a, n in zip(start, whole, strict=True)]
            fine = [slice(a, b + 2 * halo) for a, b in zip(start, stop, strict=True)]
            coarse = [slice(a // 2, b // 2 + 2 * wide) for a, b in zip(start, stop, strict=True)]
            part = [slice(a, b) for a, b in zip(start, stop, strict=True)]
            tiled[(..., *part)] = fast.core(sketch[(..., *fine)], context[(..., *coarse)])
        assert_close(tiled, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_result_is_not_overwritten_by_the_next_tile(dims):
    generator = high("seamless", dims)
    fast = optimised(generator, CPU)
    for core in ((2,) * dims, (12,) * dims):
        first = fast.core(*scene(generator, dims, core, seed=1))
        kept = first.clone()
        fast.core(*scene(generator, dims, core, seed=2))
        assert torch.equal(first, kept)


@torch.no_grad()
def test_a_patch_does_not_depend_on_those_beside_it(dims):
    generator = high("megan", dims)
    fast = optimised(generator, CPU)
    sketch, context = scene(generator, dims, (20,) * dims, batch=3)
    together = fast.core(sketch, context)
    context[0] = -context[0]
    assert_close(fast.core(sketch, context)[1:], together[1:], rtol=0, atol=1e-6)
    assert (fast.core(sketch, context)[0] - together[0]).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("family", CASCADES)
def test_the_training_form_stays_as_it_is(dims, family):
    generator = high(family, dims)
    before = deepcopy(generator.state_dict())
    modes = [(m.training, p.requires_grad) for m in generator.modules() for p in m.parameters()]
    inputs = scene(generator, dims, (side(generator),) * dims)
    (expected,) = generator(*inputs)
    fast = optimised(generator, CPU)
    fast.core(*inputs)
    assert generator.state_dict().keys() == before.keys()
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.stride() == before[name].stride()
    assert modes == [
        (m.training, p.requires_grad) for m in generator.modules() for p in m.parameters()
    ]
    assert torch.equal(generator(*inputs)[0], expected)
    # Nor does the inference form follow a training that goes on.
    made = fast.core(*inputs)
    for parameter in generator.parameters():
        parameter.data.zero_()
    assert torch.equal(fast.core(*inputs), made)
    assert fast.geometry == generator.geometry


@torch.no_grad()
@pytest.mark.parametrize("family", CASCADES)
def test_what_does_not_use_onednn_gives_the_same(dims, family, monkeypatch):
    generator = high(family, dims)
    inputs = scene(generator, dims, (side(generator),) * dims)
    expected = optimised(generator, CPU).core(*inputs)
    monkeypatch.setattr(cpu_ops, "_known", lambda x: False)
    made = optimised(generator, CPU).core(*inputs)
    assert_close(made, expected, rtol=0, atol=CLOSE[family])
    plain = inference.PlainInference(generator)  # what other devices get
    assert_close(plain.core(*inputs), expected, rtol=0, atol=CLOSE[family])


@torch.no_grad()
@pytest.mark.parametrize("family", CASCADES)
def test_low_generators_give_all_that_comes_out(dims, family):
    network = randomised(CASCADES[family].lr(dims, 2, 4, 2, 0.5))
    fast = optimised(network.train(), CPU)
    sketch = torch.rand(1, 2, *(20, 12, 16)[:dims])
    assert network.training
    assert_close(fast.core(sketch), network.eval()(sketch)[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_convolution_on_blocks_of_voxels_is_the_convolution(dims):
    conv = layers.conv(dims, 3, 5, 3)
    image = torch.rand(1, 3, *(8, 12, 6)[:dims])
    weight = cpu_ops.on_coarse(conv.weight)
    coarse = cpu_ops.conv_of(weight, conv.bias.repeat(2**dims))
    made = layers.depth_to_space(coarse(layers.space_to_depth(image)))
    assert_close(made, conv(image), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("taps", [3, 7])
def test_a_spread_convolution_is_the_convolution(dims, taps):
    conv = layers.conv(dims, 3, 1, taps)
    image = torch.rand(2, 3, *(9, 8, 11)[:dims])
    assert_close(cpu_ops.SpreadConv(conv)(image), conv(image), rtol=0, atol=1e-5)


@torch.no_grad()
def test_statistics_of_features_with_a_large_mean(dims):
    # What is subtracted must not cost the digits that are left: flat patches have such features.
    rng = torch.Generator().manual_seed(0)
    means = 10.0 * torch.arange(4).view(1, 4, *[1] * dims)
    x = torch.randn(3, 4, *[32] * dims, generator=rng) * 0.1 + means
    expected = layers.instance_norm(dims, 4)(x.double()).float()
    assert_close(cpu_ops.normalise_(layers.channels_last(x)), expected, rtol=0, atol=1e-5)
    assert_close(cpu_ops.normalise_(x.clone()), expected, rtol=0, atol=1e-5)


def test_inference_forms_are_those_of_the_families():
    assert isinstance(optimised(MeganGenerator(2, 1, 2, 1), CPU), inference.MeganInference)
    assert isinstance(optimised(SeamlessGenerator(2, 1, 2, 1), CPU), inference.SeamlessInference)


@torch.no_grad()
@pytest.mark.parametrize("family", CASCADES)
def test_forms_can_be_counted_without_data(dims, family):
    # How the planner finds the bytes and operations of a tile.
    generator = high(family, dims)
    fast = optimised(generator, CPU)
    inputs = scene(generator, dims, (side(generator),) * dims, batch=2)
    expected = fast.core(*inputs)
    shadow = deepcopy(fast).to("meta")
    made = shadow.core(*(x.to("meta") for x in inputs))
    assert made.is_meta
    assert made.shape == expected.shape
    assert torch.equal(fast.core(*inputs), expected)


@torch.no_grad()
@pytest.mark.parametrize("family", CASCADES)
def test_half_precision_asked_for_on_a_cpu_is_not_used(dims, family):
    generator = high(family, dims)
    fast = optimised(generator, CPU)
    inputs = scene(generator, dims, (side(generator),) * dims)
    expected = fast.core(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fast.core(*inputs), expected)


@torch.no_grad()
def test_more_patches_than_are_computed_at_once(monkeypatch):
    generator = high("megan", 2)
    fast = optimised(generator, CPU)
    inputs = scene(generator, 2, (20, 20), batch=5)
    expected = fast.core(*inputs)
    monkeypatch.setattr(inference, "TOGETHER", 2)
    assert_close(fast.core(*inputs), expected, rtol=0, atol=1e-6)
