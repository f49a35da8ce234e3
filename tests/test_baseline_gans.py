"""The baselines of the memory study have the layers their papers print."""

import pytest
import torch
from torch import nn

from msgan.networks import baseline_gans
from msgan.types import InputError

SMALL = {"dcgan": 16, "pix2pix": 4, "pggan": 16}


def players(name, dims, side, width, channels=1):
    """Generator, discriminator, what the generator sees and what D sees beside the image."""
    if name == "dcgan":
        made = baseline_gans.DcganGenerator(dims, side, channels, width)
        judge = baseline_gans.DcganDiscriminator(dims, side, channels, width)
        return made, judge, torch.randn(2, baseline_gans.LATENT), ()
    if name == "pggan":
        made = baseline_gans.PgganGenerator(dims, side, channels, width)
        return (
            made,
            baseline_gans.PgganDiscriminator(dims, side, channels, width),
            torch.randn(2, width),
            (),
        )
    condition = torch.randn(2, 1, *[side] * dims)
    made = baseline_gans.Pix2PixGenerator(dims, side, 1, channels, width)
    return (
        made,
        baseline_gans.Pix2PixDiscriminator(dims, 1 + channels, width),
        condition,
        (condition,),
    )


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def shapes(network: nn.Module, shown: torch.Tensor, kinds: tuple[type, ...]) -> list[list[int]]:
    """Features and side of what each layer of ``kinds`` makes, in the order of the calls."""
    found: list[list[int]] = []
    hooks = [
        module.register_forward_hook(lambda m, i, o: found.append(list(o.shape[1:])))
        for module in network.modules()
        if isinstance(module, kinds)
    ]
    network(shown)
    for hook in hooks:
        hook.remove()
    return found


CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_generator_makes_what_its_discriminator_judges(name, dims, channels):
    torch.manual_seed(0)
    made, judge, shown, beside = players(name, dims, 32, SMALL[name], channels)
    image = made(shown)
    assert image.shape == (2, channels, *[32] * dims)
    logits = judge(*beside, image)
    assert logits.shape == ((2, 1, *[2] * dims) if name == "pix2pix" else (2, 1))
    if name != "pggan":  # whose last layer is linear
        assert image.abs().max() <= 1


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_parameter(name, dims):
    torch.manual_seed(0)
    made, judge, shown, beside = players(name, dims, 32, SMALL[name])
    judge(*beside, made(shown)).square().sum().backward()
    for network in (made, judge):
        for parameter in network.parameters():
            assert parameter.grad is not None
            assert parameter.grad.any()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("side", [32, 64, 1024])
def test_every_side_that_is_promised_is_made(name, dims, side):
    with torch.device("meta"):
        made, judge, shown, beside = players(name, dims, side, SMALL[name])
        image = made(shown)
        assert image.shape[2:] == (side,) * dims
        assert judge(*beside, image).shape[1] == 1


@pytest.mark.parametrize("side", [16, 48, 2048, 0])
def test_other_sides_are_refused(side):
    with pytest.raises(InputError, match=f"side {side}: expected a power of two from 32 to 1024"):
        baseline_gans.PgganGenerator(3, side)


def test_dcgan_has_the_layers_of_its_figure():
    """Radford et al. 2016, fig. 1: 1024 x 4 x 4 to 3 x 64 x 64, kernels of side 5."""
    with torch.device("meta"):
        made, judge, shown, _ = players("dcgan", 2, 64, 1024, 3)
        table = shapes(made, shown, CONVOLUTIONS)
        assert table == [[512, 8, 8], [256, 16, 16], [128, 32, 32], [3, 64, 64]]
        assert made.project.weight.shape == (4 * 4 * 1024, 100)
        assert {m.kernel_size for m in made.modules() if isinstance(m, CONVOLUTIONS)} == {(5, 5)}
        norms = shapes(made, shown, (nn.BatchNorm2d,))
        assert norms == [[1024, 4, 4], *table[:-1]]  # everywhere but at the output
        seen = shapes(judge, made(shown), CONVOLUTIONS)
        assert seen == [[128, 32, 32], [256, 16, 16], [512, 8, 8], [1024, 4, 4]]
        assert shapes(judge, made(shown), (nn.BatchNorm2d,)) == seen[1:]


def test_dcgan_at_32_judges_with_the_features_the_paper_counts():
    """Section 5.1: all layers of D, pooled to 4 x 4, are 28672 features."""
    assert 16 * sum(baseline_gans.dcgan_features(32)) == 28672


def test_pix2pix_has_the_layers_of_its_appendix():
    """Isola et al. 2017, section 6.1; the decoder's numbers there count the skipped features."""
    with torch.device("meta"):
        made, judge, shown, beside = players("pix2pix", 2, 256, 64, 1)
        downs = [module for block in made.down for module in block if type(module) is nn.Conv2d]
        assert [m.out_channels for m in downs] == [64, 128, 256, 512, 512, 512, 512, 512]
        ups = [m for m in made.modules() if type(m) is nn.ConvTranspose2d]
        assert [m.in_channels for m in ups] == [512, 1024, 1024, 1024, 1024, 512, 256, 128]
        assert {(m.kernel_size, m.stride) for m in downs + ups} == {((4, 4), (2, 2))}
        assert sum(type(m) is nn.Dropout for m in made.modules()) == 3
        assert shapes(made, shown, (nn.Conv2d,))[-1] == [512, 1, 1]
        judged = [m for m in judge.modules() if type(m) is nn.Conv2d]
        assert [m.out_channels for m in judged] == [64, 128, 256, 512, 1]
        assert judge(*beside, shown).shape == (2, 1, 30, 30)


def test_pix2pix_in_colour_has_54_and_2_8_million_parameters():
    """As the authors' released networks have, which leave out biases that do nothing."""
    with torch.device("meta"):
        assert round(parameters(baseline_gans.Pix2PixGenerator(2, 256, 3, 3)) / 1e6, 1) == 54.4
        assert round(parameters(baseline_gans.Pix2PixDiscriminator(2, 6)) / 1e6, 2) == 2.77


def test_a_judgement_of_pix2pix_sees_70_voxels(dims):
    judge = baseline_gans.Pix2PixDiscriminator(dims, 2, 1).double().eval()
    for parameter in judge.parameters():
        parameter.data.abs_().add_(0.1)
    side = 96
    image = torch.rand(1, 1, *[side] * dims, dtype=torch.double, requires_grad=True)
    logits = judge(image.detach(), image)
    logits[(0, 0, *[logits.shape[2] // 2] * dims)].backward()
    for axis in range(dims):
        others = [a for a in range(dims) if a != axis]
        assert int((image.grad[0, 0].abs().amax(dim=others) > 0).sum()) == 70


def test_pggan_has_the_layers_of_its_table():
    """Karras et al. 2018, table 2: activations and parameters of every layer at 1024^2."""
    with torch.device("meta"):
        made, judge, shown, _ = players("pggan", 2, 1024, 512, 3)
        sides = [4, 8, 16, 32, 64, 128, 256, 512, 1024]
        features = [512, 512, 512, 512, 256, 128, 64, 32, 16]
        levels = [[f, n, n] for f, n in zip(features, sides, strict=True) for _ in range(2)]
        assert shapes(made, shown, (nn.Conv2d,)) == [*levels, [3, 1024, 1024]]
        sizes = [parameters(m) for m in made.modules() if type(m) is nn.Conv2d]
        printed = [4.2e6, *[2.4e6] * 7, 1.2e6, 590e3, 295e3, 148e3, 74e3, 37e3, 18e3, 9.2e3]
        printed += [4.6e3, 2.3e3, 51]
        assert sizes == pytest.approx(printed, rel=0.03)
        assert round(parameters(made) / 1e6, 1) == 23.1
        image = made(shown)
        seen = shapes(judge, image, (nn.Conv2d,))
        assert seen[0] == [16, 1024, 1024]
        outs = [*features[::-1][1:], 512]
        pairs = zip(features[::-1], outs, sides[::-1], strict=True)
        expected = [[f, n, n] for a, b, n in pairs for f in (a, b)]
        expected[-1] = [512, 1, 1]  # a convolution of side 4 ends it
        assert seen[1:] == expected
        (spread,) = [m for m in judge.modules() if isinstance(m, baseline_gans.BatchDeviation)]
        assert shapes(judge, image, (type(spread),)) == [[513, 4, 4]]
        assert round(parameters(judge) / 1e6, 1) == 23.1


def test_a_smaller_pggan_is_the_start_of_the_larger(dims):
    with torch.device("meta"):
        small, large = (baseline_gans.PgganGenerator(dims, side, width=64) for side in (32, 64))
    for a, b in zip(list(small.body)[:-1], large.body, strict=False):
        assert str(a) == str(b)


def test_pixel_norm_leaves_features_of_length_one(dims):
    x = torch.randn(2, 5, *[3] * dims) * 7
    assert torch.allclose(baseline_gans.PixelNorm()(x).square().mean(1), torch.ones(2, *[3] * dims))


def test_the_deviation_of_the_batch_is_the_mean_over_features_and_voxels(dims):
    x = torch.randn(3, 2, *[2] * dims)
    out = baseline_gans.BatchDeviation()(x)
    assert torch.equal(out[:, :2], x)
    wanted = x.std(dim=0, unbiased=False).mean()
    assert torch.allclose(out[:, 2], wanted.expand_as(out[:, 2]), atol=1e-4)
    assert baseline_gans.BatchDeviation()(x[:1])[:, 2].max() < 1e-3  # nothing to compare with
