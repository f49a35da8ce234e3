"""PTNet3D: its attention, its networks, its step against a plain computation, its training."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from helpers import tiny
from pairs import a_batch, goes_on_bit_by_bit, learns, overfits
from training import fabric

from msgan import presets
from msgan.config import CascadeConfig, PtnetNetwork
from msgan.methods.ptnet import PTNet3D
from msgan.networks import layers
from msgan.networks.ptnet import (
    Performer,
    PtnetGenerator,
    PyramidDiscriminator,
    directions,
    linear_attention,
    positions,
)
from msgan.training.pairs import PairStep
from msgan.training.step import build_generator
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def configured(dims=2, **training) -> CascadeConfig:
    config = PTNet3D.configured(tiny(dims), "t1", size="smoke")
    return config.updated(network={"discriminator_width": 3}, training={"batch": 1} | training)


def generator(dims: int) -> PtnetGenerator:
    torch.manual_seed(0)
    return PtnetGenerator(dims, 16, 4, 16, 1, 2, 8, 2)


# --- attention ---------------------------------------------------------------------------------


def test_with_many_directions_the_attention_is_that_of_a_softmax():
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(2, 11, 8)).astype(np.float32) for _ in range(3))
    query, key = query / 2, key / 2
    weight = np.exp(query @ np.swapaxes(key, 1, 2) / np.sqrt(8))
    expected = weight @ value / weight.sum(-1, keepdims=True)

    def error(count):
        torch.manual_seed(0)
        drawn = directions(count, 8)
        found = linear_attention(*map(torch.from_numpy, (query, key, value)), drawn)
        return np.abs(found.numpy() - expected).mean()

    few, many = error(64), error(8192)
    assert many < few / 5  # it falls as the root of their number
    assert many < 0.1 * np.abs(value.mean(1, keepdims=True) - expected).mean()


def test_with_few_directions_it_is_the_formula():
    """Lemma 1 of Choromanski et al. (2021), in double precision, without a safeguard."""
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 7, 6)
    drawn = directions(3, 6)

    def positive(x):
        x = x.numpy().astype(float) / 6**0.25
        return np.exp(x @ drawn.numpy().T - np.square(x).sum(-1, keepdims=True) / 2)

    weight = positive(query) @ np.swapaxes(positive(key), 1, 2)
    expected = weight @ value.numpy() / weight.sum(-1, keepdims=True)
    found = linear_attention(query, key, value, drawn).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_large_queries_and_keys_overflow_nothing():
    torch.manual_seed(0)
    query, key, value = (100 * torch.randn(3, 2, 50, 8)).requires_grad_(True)
    found = linear_attention(query, key, value, directions(4, 8))
    found.square().sum().backward()
    assert (found.abs() <= value.abs().max()).all()
    with torch.autocast("cpu", torch.bfloat16):
        again = linear_attention(query, key, value, directions(4, 8))
    assert again.dtype == torch.float32


def test_directions_are_orthogonal_in_blocks_and_as_long_as_normal_vectors():
    torch.manual_seed(0)
    found = directions(1000, 10)
    block = found[10:20]
    apart = block @ block.T
    assert (apart - torch.diag(apart.diagonal())).abs().max() < 1e-4
    assert found.square().sum(1).mean() == pytest.approx(10, rel=0.1)
    assert directions(3, 10).shape == (3, 10)


def test_directions_are_stored_and_not_trained(dims):
    performer = Performer(5, 8)
    assert performer.directions.shape == (4, 8)
    assert "directions" in performer.state_dict()
    assert "directions" not in dict(performer.named_parameters())
    one, other = drawn(5, 8), drawn(5, 8)
    assert torch.equal(one.directions, other.directions)
    x = torch.randn(2, 5, *[6] * dims)
    assert one(x).shape == (2, 8, *[6] * dims)
    # A performer knows no places: tokens in another order are the same in that order.
    torch.testing.assert_close(one(x.flip(2)), one(x).flip(2), rtol=0, atol=1e-5)


def drawn(inputs: int, features: int) -> Performer:
    torch.manual_seed(0)
    return Performer(inputs, features)


# --- networks ----------------------------------------------------------------------------------


def test_neighbours_are_those_of_numpy(dims):
    x = torch.randn(2, 3, *[6] * dims)
    padded = np.pad(x.numpy(), [(0, 0)] * 2 + [(1, 1)] * dims)
    for stride in (1, 2):
        found = layers.neighbours(x, stride).numpy()
        assert found.shape == (2, 3 * 3**dims, *[6 // stride] * dims)
        for place in np.ndindex(*[6 // stride] * dims):
            box = tuple(slice(stride * k, stride * k + 3) for k in place)
            expected = padded[(slice(None), slice(None), *box)].reshape(2, -1)
            np.testing.assert_array_equal(found[(slice(None), slice(None), *place)], expected)


def test_places_are_told_apart_by_sines_and_cosines():
    found = positions(5, 6)[0].numpy()
    for k in range(5):
        angles = k / 10000 ** (np.array([0, 0, 2, 2, 4, 4]) / 6)
        expected = np.where(np.arange(6) % 2, np.cos(angles), np.sin(angles))
        np.testing.assert_allclose(found[k], expected, rtol=0, atol=1e-6)


def test_it_is_built_as_published():
    with torch.device("meta"):
        network = PtnetGenerator(3, 64, 16, 256, 9, 4, 64, 2)
        seen = []
        for part in (network.overview, network.bottom):
            part.transformer.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape)))
        assert network(torch.empty(1, 1, 64, 64, 64))[0].shape == (1, 1, 64, 64, 64)
    assert seen == [(1, 16**3, 64), (1, 8**3, 256)]
    assert [p.read.in_features for p in network.down] == [27, 16 * 27, 32 * 27]
    assert [p.read.in_features for p in network.up] == [2 * 96, 2 * 32, 2 * 16, 17]
    features = [p.attended.out_features for p in (*network.down, *network.up)]
    assert features == [16, 32, 64, 32, 16, 16, 16]
    assert network.bottom.enter.in_features == 96 * 27
    assert [len(b.transformer.layers) for b in (network.overview, network.bottom)] == [9, 9]


def test_gradients_reach_every_parameter(dims):
    network = generator(dims)
    made = network(torch.rand(2, 1, *[16] * dims))[0]
    assert made.std() > 0.01
    assert made.abs().max() < 1
    made.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 1e-8, name


def test_every_voxel_sees_the_whole_patch(dims):
    x = torch.rand(1, 1, *[16] * dims, requires_grad=True)
    generator(dims)(x)[0][(0, 0, *[2] * dims)].backward()
    assert (x.grad != 0).all()


def test_d_judges_three_resolutions_each_by_itself(dims):
    torch.manual_seed(0)
    judge = PyramidDiscriminator(dims, 4)
    source, image = (torch.rand(1, 1, *[16] * dims) for _ in range(2))
    found = judge(source, image)
    assert [len(own) for own in found] == [4] * 3
    assert [own[0].shape[2] for own in found] == [9, 5, 3]
    assert [x.shape[1] for x in found[0]] == [4, 8, 16, 1]
    assert all(own[-1].std() > 0 for own in found)
    pool = layers.mean_pool(dims, 3)
    small = pool(torch.cat((source, image), dim=1))
    near = [slice(1, 4)] * dims
    assert small[(0, 0, *[1] * dims)] == pytest.approx(float(source[(0, 0, *near)].mean()))
    assert small[(0, 0, *[0] * dims)] == pytest.approx(
        float(source[(0, 0, *[slice(0, 2)] * dims)].mean())
    )
    torch.testing.assert_close(found[1][-1], judge.judges[1](small)[-1])


# --- objective and training --------------------------------------------------------------------


def test_a_step_minimises_what_the_paper_says(dims):
    config = configured(dims)
    step = PairStep(config, 2, fabric())
    g, d = deepcopy((step.generator, step.discriminator))
    batch = a_batch(dims)
    source, real = 2 * batch.reads[0] - 1, batch.targets[0]
    fake = g(*batch.reads)[0]

    def lsgan(image, label):
        return sum((own[-1] - label).square().mean() for own in d(source, image))

    of_d = (lsgan(real, 1) + lsgan(fake.detach(), 0)) / 2 / 3
    other = torch.optim.Adam(d.parameters(), 1e-3, (0.9, 0.999))
    of_d.backward()
    other.step()
    d.requires_grad_(False)
    adversarial, mse = lsgan(fake, 1), (fake - real).square().mean()
    features = sum(
        (x - y).abs().mean() / 3
        for ours, theirs in zip(d(source, fake), d(source, real), strict=True)
        for x, y in zip(ours[:-1], theirs[:-1], strict=True)
    )
    loss = 100 * mse + adversarial + 10 * features
    loss.backward()
    values = step.update(batch, 10, 1e-3)
    expected = {"loss": loss, "l1": (fake - real).abs().mean(), "l2": mse, "features": features}
    expected |= {"adversarial": adversarial / 3, "discriminator": of_d}
    assert values.keys() == expected.keys() | {"accuracy"}
    for name, value in expected.items():
        assert values[name].item() == pytest.approx(value.item(), rel=1e-3), name
    for x, y in zip(step.generator.parameters(), g.parameters(), strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-2, atol=1e-3)


def test_without_their_weight_features_are_not_compared():
    step = PairStep(configured().updated(network={"feature_weight": 0.0}), 2, fabric())
    assert "features" not in step.update(a_batch(2), 0, 1e-3)


def test_it_overfits_one_small_pair(dims):
    assert overfits(configured(dims, ema=0.9, steps=70), a_batch(dims), 70, 5e-3) < 0.3


def test_an_interrupted_training_goes_on_bit_by_bit(dims, tmp_path):
    config = configured(dims, patch=8, steps=4, validate_every=2, checkpoint_every=2)
    goes_on_bit_by_bit(PTNet3D, config, tmp_path)


def test_it_learns_what_pairs_say(tmp_path):
    config = configured(steps=60, batch=2, learning_rate=5e-3, ema=0.9, validate_every=30)
    learns(PTNet3D, config, tmp_path)


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_has_one(name, tmp_path):
    config = presets.preset(name)
    own = PTNet3D.configured(config, "t1", size=name)
    net, training = own.network, own.training
    assert isinstance(net, PtnetNetwork)
    assert (training.l1_weight, training.l2_weight, net.feature_weight) == (0, 100, 10)
    assert (training.gan, training.gan_weight, training.beta1) == ("least_squares", 3, 0.9)
    if name == "published":
        assert (net.width, net.tokens, net.depth, net.heads) == (16, 256, 9, 4)
        assert (training.patch, training.batch, training.learning_rate) == (64, 4, 2e-4)
    else:
        assert training.steps == config.training.steps
    own.save(tmp_path / "c.yaml")
    assert CascadeConfig.load(tmp_path / "c.yaml") == own
    assert PTNet3D.configured(own, "t1") == own
    with torch.device("meta"):
        assert build_generator(own, 0).geometry.patch == training.patch


def test_what_does_not_fit_is_refused_in_one_line():
    own = configured(steps=1)
    cases = [
        ({"training": {"patch": 12}}, "patch size 12 is not a multiple of 8, the side"),
        ({"network": {"heads": 3}}, "tokens 32 is not a multiple of heads 3"),
        ({"network": {"global_heads": 3}}, "global_tokens 16 is not a multiple of global_heads 3"),
    ]
    for changes, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            own.updated(changes)
        assert "\n" not in str(caught.value)
