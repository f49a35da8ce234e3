"""The networks and losses of 3D-mDAUNet: what they see, what they say, what each switch changes."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from vgg_files import save_state, vgg_state

from msgan import losses
from msgan.networks import layers
from msgan.networks.mdaunet import (
    CONVOLUTIONS,
    Attention,
    ImageDiscriminator,
    MdaunetGenerator,
    ResidualDense,
    VoxelDiscriminator,
    clip,
    resolutions,
)
from msgan.networks.vgg import Vgg19Features

pytestmark = pytest.mark.usefixtures("one_thread")

FEATURES, GROWTH, SIDE = (3, 4, 5, 6), (2, 2, 3, 4), 16


def generator(dims, **switches) -> MdaunetGenerator:
    torch.manual_seed(0)
    return MdaunetGenerator(dims, FEATURES, GROWTH, SIDE, **switches)


def image(dims, seed=0, batch=2, side=SIDE) -> torch.Tensor:
    return torch.rand(batch, 1, *[side] * dims, generator=torch.Generator().manual_seed(seed))


def convolved(x: np.ndarray, conv: torch.nn.Module) -> np.ndarray:
    """A padded convolution of (C, *spatial), tap by tap."""
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    side, dims = weight.shape[-1], x.ndim - 1
    padded = np.pad(x, [(0, 0)] + [(side // 2,) * 2] * dims)
    out = np.zeros((len(weight), *x.shape[1:]))
    for tap in np.ndindex(*[side] * dims):
        part = padded[
            (slice(None), *(slice(k, k + n) for k, n in zip(tap, x.shape[1:], strict=True)))
        ]
        out += np.tensordot(weight[(..., *tap)], part, 1)
    return out + bias.reshape(-1, *[1] * dims)


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


# --- the generator -----------------------------------------------------------------------------


def test_a_residual_dense_block_is_that_of_the_paper(dims):
    """Every convolution reads all before it; the last is added, times 0.2, to the input."""
    torch.manual_seed(0)
    block = ResidualDense(dims, 3, 2)
    x = torch.randn(1, 3, *[5] * dims)
    seen = [x[0].numpy().astype(float)]
    for conv in block.convs[:-1]:
        seen.append(leaky(convolved(np.concatenate(seen), conv)))
    expected = seen[0] + 0.2 * convolved(np.concatenate(seen), block.convs[-1])
    assert_close(block(x)[0].detach().double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)
    assert len(block.convs) == CONVOLUTIONS == 5
    assert [c.in_channels for c in block.convs] == [3, 5, 7, 9, 11]
    assert block.convs[0].weight.abs().max() <= 0.1 / (3 * 3**dims) ** 0.5


def test_attention_weighs_channels_and_then_places(dims):
    torch.manual_seed(0)
    attention = Attention(dims, 6)
    x = torch.randn(1, 6, *[5] * dims)
    values = x[0].numpy().astype(float)
    flat = values.reshape(6, -1)
    first, second = (attention.channels[k] for k in (0, 2))

    def mlp(v):
        hidden = np.maximum(first.weight.detach().numpy() @ v + first.bias.detach().numpy(), 0)
        return second.weight.detach().numpy() @ hidden + second.bias.detach().numpy()

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    weight = sigmoid(mlp(flat.mean(1)) + mlp(flat.max(1)))
    values = values * weight.reshape(-1, *[1] * dims)
    places = convolved(np.stack((values.mean(0), values.max(0))), attention.places)
    expected = torch.from_numpy(values * sigmoid(places))
    assert_close(attention(x)[0].detach().double(), expected, rtol=1e-4, atol=1e-5)


def test_every_level_gives_an_image_in_range(dims):
    network, x = generator(dims), image(dims)
    made = network(x)
    assert [x.shape for x in made] == [(2, 1, *[SIDE >> k] * dims) for k in range(4)]
    assert [view.scale for view in network.geometry.makes] == [0, -1, -2, -3]
    for bias, end in ((-9.0, -1.0), (9.0, 1.0)):
        for conv in network.make:
            torch.nn.init.constant_(conv.bias, bias)
        assert all((image == end).all() for image in network(x))


def test_before_training_no_voxel_is_clipped(dims):
    for x in generator(dims)(image(dims)):
        assert x.abs().max() < 1


def test_what_is_clipped_can_come_back(dims):
    """A gradient passes where descent leads back into the range, and only there."""
    x = torch.tensor([-0.5, 0.0, 0.3, 1.0, 1.5]).requires_grad_()
    assert clip(x).tolist() == pytest.approx([0, 0, 0.3, 1, 1])
    for direction, expected in ((-2.0, [-2, -2, -2, -2, 0]), (2.0, [0, 2, 2, 2, 2])):
        (found,) = torch.autograd.grad((direction * clip(x)).sum(), x)
        assert found.tolist() == expected
    # An output that is black everywhere is not so for good.
    network = generator(dims)
    torch.nn.init.constant_(network.make[0].bias, -9.0)
    made = network(image(dims))[0]
    (1 - made).mean().backward()
    assert network.make[0].bias.grad < 0


def test_resolutions_are_every_second_voxel(dims):
    x = image(dims)
    found = resolutions(x, 3)
    assert torch.equal(found[2], x[(..., *[slice(None, None, 4)] * dims)])
    scaled = torch.nn.functional.interpolate(x, scale_factor=0.25, mode="nearest")
    assert torch.equal(found[2], scaled)
    assert torch.equal(layers.nearest_half(layers.nearest_double(x)), x)


def test_gradients_reach_every_input_and_output_resolution(dims):
    """Each output sees the image at each resolution, the ways by their features left out."""
    network, seen = generator(dims), []
    half = layers.nearest_half

    def watched(x):
        x = half(x)
        if x.shape[1] == 1:  # the image, not features
            x = x.detach().requires_grad_()
            seen.append(x)
        return x

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "nearest_half", watched)
        made = network(x := image(dims).requires_grad_())
    assert [s.shape[2] for s in seen] == [8, 4, 2]
    for output in made:
        for grad in torch.autograd.grad(output.sum(), (x, *seen), retain_graph=True):
            assert grad.any()
    sum(output.sum() for output in made).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_each_switch_of_the_generator_changes_what_it_names(dims):
    def names(network):
        return {name: tuple(p.shape) for name, p in network.named_parameters()}

    whole = names(generator(dims))
    blind = names(generator(dims, multi_input=False))
    assert whole.keys() == blind.keys()
    changed = {n for n in whole if whole[n] != blind[n]}
    assert changed == {f"enter.{k}.weight" for k in (1, 2, 3)}  # one channel less each
    assert all(whole[n][1] == blind[n][1] + 1 for n in changed)
    single = names(generator(dims, multi_output=False))
    assert {n: s for n, s in whole.items() if n in single} == single
    assert whole.keys() - single.keys() == {
        f"make.{k}.{part}" for k in (1, 2, 3) for part in ("weight", "bias")
    }
    # Of the same weights the finest image is the same, whether others are given or not.
    full, alone = generator(dims), generator(dims, multi_output=False)
    alone.load_state_dict({n: p for n, p in full.state_dict().items() if n in single})
    x = image(dims)
    assert len(alone(x)) == 1
    assert torch.equal(full(x)[0], alone(x)[0])
    # Without it a lower level does not see the image: what nearest resampling passes over is lost.
    assert not torch.equal(generator(dims, multi_input=False)(x)[0], full(x)[0])


# --- the discriminators ------------------------------------------------------------------------


@pytest.mark.parametrize("images", [4, 1])
def test_one_logit_a_voxel_and_resolution(dims, images):
    torch.manual_seed(0)
    judge = VoxelDiscriminator(dims, 2, images, 4)
    shown = [x.detach().requires_grad_() for x in resolutions(image(dims), images)]
    said = judge(*shown)
    assert [x.shape for x in said] == [x.shape for x in shown]
    sum(x.sum() for x in said).backward()
    assert all(p.grad is not None and p.grad.any() for p in judge.parameters())
    assert all(x.grad.any() for x in shown)
    for x in judge(*shown):  # what is said of one resolution depends on all
        assert all(g.any() for g in torch.autograd.grad(x.sum(), shown, retain_graph=True))


def test_the_plain_discriminator_says_one_number_of_an_image(dims):
    torch.manual_seed(0)
    plain, full = ImageDiscriminator(dims, 2, 4, 4), VoxelDiscriminator(dims, 2, 4, 4)
    shown = [x.detach().requires_grad_() for x in resolutions(image(dims), 4)]
    (said,) = plain(*shown)
    assert said.shape == (2, 1)
    said.sum().backward()
    assert all(x.grad.any() for x in shown)
    same = [{n: p.shape for n, p in d.encoder.named_parameters()} for d in (plain, full)]
    assert same[0] == same[1]


@pytest.mark.parametrize("kind", [VoxelDiscriminator, ImageDiscriminator])
def test_spectral_norm_is_applied_to_all_but_first_and_last(dims, kind):
    torch.manual_seed(0)
    judge = kind(dims, 2, 3, 3)
    shown = resolutions(image(dims), 3)
    with torch.no_grad():
        for parameter in judge.parameters():
            parameter.mul_(7)
        for _ in range(60):  # a step of the power iteration each
            judge(*shown)
    judge.eval()
    norms = {
        name: float(torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2))
        for name, module in judge.named_modules()
        if isinstance(module, layers.Conv | torch.nn.Linear)
    }
    free = {name for name in norms if name == "encoder.first" or name.startswith("say")}
    assert len(norms) > len(free) > 1
    for name, norm in norms.items():
        assert (abs(norm - 1) < 0.02) == (name not in free), (name, norm)


# --- losses ------------------------------------------------------------------------------------


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


def relativistic(high, low, mean):
    """-log s(high - E low) - log(1 - s(low - E high)), of one resolution."""
    above = -log_sigmoid(high - mean(low)).mean()
    return above - np.log(1 - 1 / (1 + np.exp(-(low - mean(high))))).mean()


MEANS = {
    "relativistic": lambda x: x.mean(),
    "relativistic_batch": lambda x: x.mean(axis=0, keepdims=True),
}


@pytest.mark.parametrize("name", MEANS)
def test_equations_1_and_5_in_numpy(dims, name):
    rng = np.random.default_rng(0)
    real, fake = ([rng.normal(size=(3, 1, *[n] * dims)) for n in (6, 3)] for _ in range(2))
    gan = losses.ADVERSARIAL[name]
    logits = [[torch.from_numpy(x) for x in side] for side in (real, fake)]
    pairs = list(zip(real, fake, strict=True))
    of_d = np.mean([relativistic(r, f, MEANS[name]) for r, f in pairs])
    of_g = np.mean([relativistic(f, r, MEANS[name]) for r, f in pairs])
    assert gan.discriminator(*logits).item() == pytest.approx(of_d, rel=1e-9)
    assert gan.generator(*logits).item() == pytest.approx(of_g, rel=1e-9)


def test_the_variant_over_the_batch_compares_equal_places():
    """A place where all images are judged alike is evidence in the one, and not in the other."""
    place = torch.tensor([5.0, -5.0]).expand(4, 1, 2)
    values = [losses.ADVERSARIAL[n].discriminator([place], [place]).item() for n in MEANS]
    assert values[1] == pytest.approx(2 * np.log(2))
    assert values[0] > 4


@pytest.mark.parametrize("count", [1, 3])
def test_equation_4_in_numpy(dims, count):
    """Over all slices of the views there are, with the colours of ImageNet."""
    rng = np.random.default_rng(0)
    fake, real = (rng.random((count, 1, *(4, 5, 6)[:dims])) for _ in range(2))
    weight = rng.normal(size=(7, 3))

    def features(x):
        assert x.ndim == 4
        assert x.shape[1] == 3
        return torch.einsum("oc,bchw->bohw", torch.from_numpy(weight), x).relu().diff(dim=2)

    def of(slices):  # (n, H, W)
        colours = [
            (slices - mean) / deviation
            for mean, deviation in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
        ]
        found = np.maximum(np.einsum("oc,cnhw->nohw", weight, np.stack(colours)), 0)
        return np.diff(found, axis=2)  # it matters which way a slice lies

    def slices(volume, axis):
        if dims == 2:
            return volume[:, 0]
        return np.concatenate([np.moveaxis(one[0], axis, 0) for one in volume])

    views = range(3) if dims == 3 else range(1)
    apart = [np.abs(of(slices(fake, k)) - of(slices(real, k))).mean() for k in views]
    x = torch.from_numpy(fake).requires_grad_()
    loss = losses.perceptual(features, x, torch.from_numpy(real))
    assert loss.item() == pytest.approx(sum(apart) / len(apart), rel=1e-9)
    loss.backward()
    assert x.grad.any()
    assert losses.perceptual(features, x.detach(), x.detach()) == 0


def test_copies_are_apart(dims):
    """Of a normalised network, as a checkpoint and several processes need it."""
    judge = VoxelDiscriminator(dims, 2, 2, 2)
    other = deepcopy(judge)
    shown = resolutions(image(dims), 2)
    before = {n: x.clone() for n, x in other.state_dict().items()}
    judge(*shown)
    assert all(torch.equal(x, before[n]) for n, x in other.state_dict().items())
    assert any(not torch.equal(x, before[n]) for n, x in judge.state_dict().items())
    other.load_state_dict(judge.state_dict())
    judge.eval(), other.eval()
    assert all(torch.equal(a, b) for a, b in zip(judge(*shown), other(*shown), strict=True))


def test_the_features_of_vgg_19_guide_an_image(tmp_path):
    """Weights of a file, random here: gradients reach every view of the image, not the network."""
    features = Vgg19Features(save_state(tmp_path / "vgg19.safetensors", vgg_state(19)))
    fake = torch.rand(1, 1, 16, 16, 16, requires_grad=True)
    loss = losses.perceptual(features, fake, torch.rand(1, 1, 16, 16, 16))
    loss.backward()
    assert loss > 0
    assert (fake.grad.abs() > 0).float().mean() > 0.9
    assert all(weight.grad is None for weight in features.parameters())
