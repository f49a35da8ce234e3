import pytest
import torch
from helpers import CASCADES
from torch import nn
from torch.testing import assert_close

from msgan.networks import layers
from msgan.networks.discriminators import PatchDiscriminator
from msgan.networks.hr_generators import MeganGenerator, SeamlessGenerator
from msgan.networks.lr_generators import LocalLowGenerator, MeganLowGenerator
from msgan.patches import Tiling, crop_padded
from msgan.pyramid import upsample
from msgan.types import Box


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that let every voxel count; the last layer starts at zero otherwise."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = 1.4 * noise / parameter[0].numel() ** 0.5
        else:  # biases and gains: small, so that no feature is dead everywhere
            parameter.data += 0.1 * noise
    return network.eval().requires_grad_(False)


def seamless(dims: int, blocks: int = 2, channels: int = 2) -> SeamlessGenerator:
    return randomised(SeamlessGenerator(dims, channels, 6, blocks))


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def tiled(generator, sketch, context, tile):
    """The image a generator makes of (1, C, *s_i) and (1, 1, *s_(i-1)), tile by tile."""
    shape = sketch.shape[2:]
    out = torch.full((1, 1, *shape), torch.nan)
    for block in Tiling(generator.geometry, tuple(shape), (tile,) * len(shape)):
        (cut,) = block.cuts
        drawn, around = cut.reads
        (made,) = generator(crop_padded(sketch, drawn, 0), crop_padded(context, around, -1))
        inside = cut.core.clipped(shape)
        out[(..., *inside.slices)] = made[(..., *inside.inside(cut.detail).slices)]
    return out


def scene(shape, channels=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    sketch = torch.rand(1, channels, *shape, generator=generator)
    context = torch.randn(1, 1, *[n // 2 for n in shape], generator=generator).clamp(-1, 1)
    return sketch, context


@torch.no_grad()
def test_any_tiling_of_the_seamless_family_gives_the_whole_image(dims):
    shape = (82, 46, 0)[:2] if dims == 2 else (22, 14, 42)
    generator = seamless(dims)
    sketch, context = scene(shape)
    whole = tiled(generator, sketch, context, 2 * max(shape))
    assert whole.std() > 0.1
    # Not what interpolation alone would give: the network itself is tiled.
    assert (
        whole - upsample(crop_padded(context, Box.whole(context.shape[2:]).grown(1), -1), dims)
    ).abs().max() > 0.1
    for tile in (16, 24, 40):
        assert_close(tiled(generator, sketch, context, tile), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_published_family_shows_seams_where_the_seamless_does_not(dims):
    # The reason for our own family: the statistics of a patch reach all of its voxels.
    generator = randomised(MeganGenerator(dims, 1, 4, 1))
    sketch = torch.zeros(1, 1, *[32] * dims)
    context = torch.rand(1, 1, *[32] * dims)
    changed = context.clone()
    changed[(0, 0, *[0] * dims)] += 1
    difference = (generator(sketch, context)[0] - generator(sketch, changed)[0]).abs()
    assert difference[(0, 0, *[31] * dims)] > 0
    assert not generator.geometry.exact


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_stated_halo_is_needed_and_enough(dims, blocks):
    generator = seamless(dims, blocks, 1).double()
    tile, (halo, wide) = 10, (view.halo for view in generator.geometry.reads)
    assert halo == 2 * wide
    inputs = scene([tile + 2 * halo] * dims, 1)
    sketch, context = (x.double().requires_grad_() for x in inputs)
    (out,) = generator(sketch, context)
    assert out.shape == (1, 1, *[tile] * dims)
    # Voxels 4 and 5 along each axis: one context voxel.
    out[(..., *[slice(4, 6)] * dims)].sum().backward()
    for gradient, start, size, reach in (
        (sketch.grad, 4, 2, 2 * halo),
        (context.grad, 2, 1, 2 * wide),
    ):
        seen = gradient[0, 0].abs()
        for axis in range(dims):
            profile = seen.amax(dim=[a for a in range(dims) if a != axis])
            inside = profile[start : start + size + reach]
            assert inside[0] > 0
            assert inside[-1] > 0
            assert (inside > 0).all()
            assert not profile[:start].any()
            assert not profile[start + size + reach :].any()


def test_a_fresh_seamless_generator_is_linear_interpolation(dims):
    torch.manual_seed(0)
    generator = SeamlessGenerator(dims, 2, 4, 1)
    halo, wide = (view.halo for view in generator.geometry.reads)
    sketch, context = scene([12 + 2 * halo] * dims)
    expected = upsample(layers.crop(context, wide - 1), dims)
    assert_close(generator(sketch, context)[0], expected)
    # And it can learn.
    generator(sketch, context)[0].square().sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in generator.parameters())


def test_the_published_generator_has_the_published_layers(dims):
    with torch.device("meta"):
        generator = MeganGenerator(dims, 1, 64, 6)
        (out,) = generator(torch.empty(3, 1, *[32] * dims), torch.empty(3, 1, *[32] * dims))
    assert out.shape == (3, 1, *[32] * dims)
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    found = [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
        for m in generator.modules()
        if isinstance(m, kinds)
    ]
    assert found == [
        (2, 64, 3, 1),
        (64, 128, 4, 2),
        (128, 256, 4, 2),
        *[(256, 256, 3, 1)] * 12,
        (256, 128, 4, 2),
        (128, 64, 4, 2),
        (64, 1, 7, 1),
    ]
    # By hand, weights and biases, inputs x outputs x kernel^d + outputs:
    # 2D  1,216 + 131,200 + 524,544 + 12 x 590,080 + 524,416 + 131,136 + 3,137
    # 3D  3,520 + 524,416 + 2,097,408 + 12 x 1,769,728 + 2,097,280 + 524,352 + 21,953
    assert parameters(generator) == {2: 8_396_609, 3: 26_505_665}[dims]


def test_the_published_generator_keeps_20_of_32_voxels(dims):
    generator = MeganGenerator(dims, 1, 2, 1)
    assert generator.geometry.core_side == 20
    sketch, context = (torch.rand(1, 1, *[32] * dims) for _ in range(2))
    (out,) = randomised(generator)(sketch, context)
    assert out.shape == (1, 1, *[32] * dims)
    assert out.abs().max() <= 1


@pytest.mark.parametrize("family", CASCADES)
def test_sketch_channels_enter_every_family(dims, family):
    generator = randomised(CASCADES[family].hr(dims, 3, 4, 1))
    side = (generator.geometry.patch or 8,) * dims
    drawn, around = generator.geometry.read_boxes(Box.whole(side))
    sketch = torch.rand(1, 3, *drawn.size).requires_grad_()
    context = torch.rand(1, 1, *around.size)
    generator(sketch, context)[0].square().sum().backward()
    assert (sketch.grad.flatten(2).abs().amax(dim=2) > 0).all()


def test_a_feature_that_is_shut_everywhere_still_learns(dims):
    generator = randomised(SeamlessGenerator(dims, 1, 4, 1)).requires_grad_()
    halo, wide = (view.halo for view in generator.geometry.reads)
    generator.join.bias.data.fill_(-50.0)  # whatever is seen
    sketch = torch.rand(1, 1, *[8 + 2 * halo] * dims)
    context = torch.rand(1, 1, *[4 + 2 * wide] * dims)
    generator(sketch, context)[0].square().sum().backward()
    moved = generator.join.weight.grad.flatten(1).abs().amax(dim=1)
    assert (moved > 0).all()
    assert generator.first.weight.grad.abs().max() > 0


@torch.no_grad()
@pytest.mark.parametrize("family", CASCADES)
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_the_low_generator_halves_any_shape(dims, family, levels):
    network = randomised(CASCADES[family].lr(dims, 2, 4, levels, 0.2))
    for shape in ((7, 5, 9), (16, 8, 8), (1, 3, 2)):
        half = shape[:dims]
        (out,) = network(torch.rand(2, 2, *[2 * n for n in half]))
        assert out.shape == (2, 1, *half)
        assert out.std() > 0
        assert family != "megan" or out.abs().max() <= 1


def test_the_low_generator_has_one_upsampling_fewer(dims):
    network = MeganLowGenerator(dims, 1, 64, 4, 0.2)
    assert len(network.down) == 4
    assert len(network.up) == 3
    features = [block[0].out_channels for block in network.down]
    assert features == [64, 128, 256, 512]
    assert [block[0].out_channels for block in network.up] == [256, 128, 64]
    # The path through the skips: two thirds of what each level up sees came from the encoder.
    assert [block[0].in_channels for block in network.up] == [512, 512, 256]


def test_a_low_generator_of_bounded_view_does_not_see_further(dims):
    """What it may be trained on crops for; the published one sees the whole image."""
    side, levels = 48, 1
    sketch = torch.rand(1, 1, *[side] * dims, dtype=torch.float64)
    seen = {}
    for family in (MeganLowGenerator, LocalLowGenerator):
        network = randomised(family(dims, 1, 4, 2 if family is MeganLowGenerator else levels, 0))
        image = sketch.clone().requires_grad_()
        network.double()(image)[0][(0, 0, *[side // 4] * dims)].backward()
        profile = image.grad[0, 0].abs().amax(dim=list(range(1, dims)))
        seen[family] = profile > 0
    assert seen[MeganLowGenerator].all()
    near = seen[LocalLowGenerator].nonzero().flatten()
    assert near[0] > 8
    assert near[-1] < side - 9
    assert near[0] <= side // 2 - 2
    assert near[-1] >= side // 2 + 2


@torch.no_grad()
@pytest.mark.parametrize("family", CASCADES)
def test_dropout_of_the_low_generator_is_on_in_training_only(dims, family):
    network = randomised(CASCADES[family].lr(dims, 1, 4, 3, 0.5))
    torch.manual_seed(0)  # or the same few features may be dropped twice
    sketch = torch.rand(1, 1, *[16] * dims)
    assert torch.equal(network(sketch)[0], network(sketch)[0])
    network.train()
    assert not torch.equal(network(sketch)[0], network(sketch)[0])


@torch.no_grad()
@pytest.mark.parametrize("norm", [True, False])
def test_the_discriminator_judges_a_patch_once(dims, norm):
    network = randomised(PatchDiscriminator(dims, 2, 4, norm))
    # By hand: 32 -conv4-> 29 -conv4 stride 2-> 13 -> 5 -> 1; a judgement sees 25 voxels, and
    # the next one 8 voxels on sees the next 25.
    for side, judgements in ((32, 1), (25, 1), (33, 2), (40, 2), (41, 3), (9, 1)):
        if dims == 3 and side > 33:
            continue
        image = torch.rand(2, 1, *[side] * dims)
        (logits,) = network(image, (image,))
        assert logits.shape == (2, 1, *[judgements] * dims)
    kernels = [(m.in_channels, m.out_channels) for m in network.modules() if hasattr(m, "stride")]
    assert kernels == [(2, 4), (4, 8), (8, 16), (16, 1)]


def test_a_judgement_without_norm_sees_25_voxels(dims):
    network = randomised(PatchDiscriminator(dims, 2, 4, instance_norm=False)).double()
    image = torch.rand(1, 1, *[33] * dims, dtype=torch.float64).requires_grad_()
    network(torch.zeros_like(image), (image,))[0][(0, 0, *[1] * dims)].backward()
    for axis in range(dims):
        profile = image.grad[0, 0].abs().amax(dim=[a for a in range(dims) if a != axis])
        assert not profile[:8].any()
        assert (profile[8:33] > 0).all()


def test_space_to_depth_and_back(dims):
    x = torch.randn(2, 3, *(8, 6, 4)[:dims])
    deep = layers.space_to_depth(x)
    assert deep.shape == (2, 3 * 2**dims, *(4, 3, 2)[:dims])
    # The blocks are blocks: the mean over channels is the mean over a block.
    first = deep.unflatten(1, (2**dims, 3)).mean(dim=1)
    assert_close(first[(0, 0, *[0] * dims)], x[(0, 0, *[slice(0, 2)] * dims)].mean())
    assert torch.equal(layers.depth_to_space(deep), x)


def test_the_middle_of_an_image(dims):
    x = torch.randn(1, 2, *(10, 7, 4)[:dims])
    assert torch.equal(
        layers.middle(x, 4), x[(..., slice(3, 7), slice(1, 5), slice(0, 4))[: dims + 1]]
    )
    assert torch.equal(layers.middle(x, 99), x)


def test_channel_norm_looks_at_one_voxel(dims):
    norm = layers.PixelNorm(4)
    x = torch.randn(2, 4, *[5] * dims) * 3
    out = norm(x)
    assert_close(out.square().mean(dim=1), torch.ones(2, *[5] * dims), rtol=1e-4, atol=1e-4)
    alone = norm(x[(..., *[slice(2, 3)] * dims)])
    assert_close(alone, out[(..., *[slice(2, 3)] * dims)])
    assert torch.isfinite(norm(torch.zeros(1, 4, *[2] * dims))).all()


def test_padding_repeats_the_far_border(dims):
    x = torch.rand(1, 1, *(5, 3, 8)[:dims])
    out = layers.pad_to(x, 4, 4)
    assert out.shape[2:] == (8, 4, 8)[:dims]
    assert torch.equal(out[(..., *[slice(n) for n in x.shape[2:]])], x)
    assert torch.equal(out[:, :, 7, 0], out[:, :, 4, 0])
    assert layers.pad_to(out, 4, 4) is out


def test_transposed_convolutions_multiply_sides_exactly(dims):
    x = torch.rand(1, 2, *(5, 3, 4)[:dims])
    out = layers.transposed(dims, 2, 3, 4, stride=2)(x)
    assert out.shape == (1, 3, *(10, 6, 8)[:dims])


def test_spectral_normalisation_bounds_the_weight(dims):
    torch.manual_seed(0)
    layer = layers.spectral(layers.conv(dims, 3, 5, 3))
    for _ in range(30):
        layer(torch.rand(1, 3, *[4] * dims))
    largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
    assert largest.item() == pytest.approx(1, abs=0.02)


def test_channel_norm_survives_half_precision(dims):
    """Large, small and empty features: finite values and gradients, as close as half allows."""
    norm = layers.PixelNorm(4)
    x = torch.randn(1, 4, *[6] * dims, generator=torch.Generator().manual_seed(0))
    x[..., 0] *= 1e4
    x[..., 1] *= 1e-4
    x[..., 2] = 0
    half = x.half().requires_grad_()
    out = norm(half)
    out.float().square().sum().backward()
    assert torch.isfinite(half.grad).all()
    assert_close(out.float(), norm(half.detach().float()), rtol=0, atol=2e-3)
