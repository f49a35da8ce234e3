"""Ea-GAN: its map of edges, its step against a plain computation, its training."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from helpers import pairs, tiny
from pairs import a_batch, goes_on_bit_by_bit, learns, overfits
from scipy import ndimage
from training import fabric

from msgan import losses, presets
from msgan.config import CascadeConfig, EaGanNetwork
from msgan.methods.ea_gan import DEaGan, GEaGan
from msgan.methods.mdaunet import MDAUNet
from msgan.networks.ea_gan import EaGanDiscriminator, EaGanGenerator, sobel
from msgan.networks.pairs import RealAndFake
from msgan.runs.model import card_of
from msgan.training.pairs import PairStep
from msgan.training.step import build_generator, update_ema
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = (GEaGan, DEaGan)


def configured(method=DEaGan, dims=2, **training) -> CascadeConfig:
    config = method.configured(tiny(dims), "t1", size="smoke")
    sizes = {"width": 6, "discriminator_width": 3}
    return config.updated(network=sizes, training=training)


# --- networks ----------------------------------------------------------------------------------


def test_the_map_of_edges_is_that_of_scipy(dims):
    """Three kernels of 3^3 over 4, as published; in 2D two of 3^2."""
    image = np.random.default_rng(0).uniform(-1, 1, (9, 7, 8)[:dims])
    smooth = np.array([1, 2, 1]) if dims == 2 else np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    kernel = np.stack((smooth, np.zeros_like(smooth), -smooth))
    found = [
        ndimage.correlate(image, np.moveaxis(kernel, 0, axis), mode="constant", cval=-1.0)
        for axis in range(dims)
    ]
    expected = np.sqrt(np.square(found).sum(0))
    made = sobel(torch.from_numpy(image)[None, None])
    np.testing.assert_allclose(made[0, 0].numpy(), expected, rtol=0, atol=1e-12)


def test_the_map_of_a_plane_is_its_slope_and_that_of_nothing_has_a_gradient(dims):
    x = torch.arange(8.0).view(8, *[1] * (dims - 1)).expand((8,) * dims) / 8
    inside = (0, 0, *[slice(1, -1)] * dims)
    assert torch.allclose(sobel(x[None, None])[inside], torch.tensor(8 / 8))
    flat = torch.full((1, 1, *[6] * dims), -1.0, requires_grad=True)
    sobel(flat).sum().backward()
    assert flat.grad.abs().max() == 0  # and not NaN, as of a root at 0


def test_there_are_as_many_levels_as_halve_a_patch_to_one_voxel(dims):
    for patch, levels in ((8, 3), (16, 4), (128, 7)):
        with torch.device("meta"):
            network = EaGanGenerator(dims, patch, 64)
            assert network(torch.empty(2, 1, *[patch] * dims))[0].shape == (2, 1, *[patch] * dims)
        assert len(network.body.down) == levels
        dropped = [m for m in network.modules() if isinstance(m, torch.nn.Dropout)]
        assert len(dropped) == max(0, levels - 5)  # of 7 levels two
    features = [block[-2 if len(block) > 2 else -1].out_channels for block in network.body.down]
    assert features == [64, 128, 256, 512, 512, 512, 512]
    made = EaGanGenerator(dims, 8, 2)(torch.rand(2, 1, *[8] * dims))[0]
    assert made.abs().max() < 1
    assert made.std() > 0


def test_d_of_deagan_sees_edges(dims):
    source, image = (2 * torch.rand(1, 1, *[16] * dims) - 1 for _ in range(2))
    for edges in (False, True):
        judge = EaGanDiscriminator(dims, 4, edges)
        first = judge.body.body[0]
        assert first.in_channels == 2 + edges
        ((logits,),) = judge(source, image)
        assert logits.shape[:2] == (1, 1)
        with torch.no_grad():
            first.weight[:, :2] = 0
            first.bias.zero_()
        ((blind,),) = judge.eval()(source, image)
        ((other,),) = judge(source, -image * 0.3)
        assert torch.equal(blind, other) != edges


def test_real_and_generated_images_are_normalised_apart():
    judge = EaGanDiscriminator(2, 4, True)
    source, real, fake = (torch.rand(2, 1, 16, 16) for _ in range(3))
    apart = RealAndFake(judge)(source, real, fake)
    assert torch.equal(apart[0][0][0], judge(source, real)[0][0])
    assert torch.equal(apart[1][0][0], judge(source, fake)[0][0])


# --- objective ---------------------------------------------------------------------------------


def test_smoothed_labels_lie_in_the_ranges_of_the_public_code():
    gan = losses.ADVERSARIAL["least_squares_smooth"]
    for wanted, low, high in ((1.0, 0.7, 1.2), (0.0, 0.0, 0.3)):
        torch.manual_seed(0)
        drawn = [float(gan._judged([torch.zeros(1)], wanted)) ** 0.5 for _ in range(200)]
        assert low <= min(drawn) < low + 0.02
        assert high - 0.02 < max(drawn) <= high + 1e-6
    torch.manual_seed(3)
    one = gan.generator((), [torch.zeros(4)])
    torch.manual_seed(3)
    assert gan.generator((), [torch.zeros(4)]) == one
    assert losses.ADVERSARIAL["least_squares"].generator((), [torch.zeros(4)]) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_step_minimises_what_the_paper_says(dims, method):
    """Each term recomputed from the networks alone, half of the way up of the edges' weight."""
    config = configured(method, dims, l1_weight=3.0, gan_weight=0.7, l2_weight=0.4, steps=100)
    config = config.updated(network={"edge_weight": 2.0, "edge_rise": 0.2})
    step = PairStep(config, 2, fabric())
    g, d = deepcopy((step.generator, step.discriminator))
    batch = a_batch(dims)
    source, real = 2 * batch.reads[0] - 1, batch.targets[0]

    torch.manual_seed(7)
    fake = g(*batch.reads)[0]
    a, b, c = torch.rand(3).tolist()

    def lsgan(image, label):
        return (d(source, image)[0][0] - label).square().mean()

    of_d = (lsgan(real, 0.7 + a / 2) + lsgan(fake.detach(), 0.3 * b)) / 2
    other = torch.optim.Adam(d.parameters(), 1e-3, (0.5, 0.999))
    of_d.backward()
    other.step()
    d.requires_grad_(False)
    adversarial = lsgan(fake, 0.7 + c / 2)
    l1, l2 = (fake - real).abs().mean(), (fake - real).square().mean()
    edges = (sobel(fake) - sobel(real)).abs().mean()
    loss = 3 * l1 + 0.4 * l2 + 2 * (10 / 20) * edges + 0.7 * adversarial
    loss.backward()

    torch.manual_seed(7)
    values = step.update(batch, 10, 1e-3)
    expected = {"loss": loss, "l1": l1, "l2": l2, "edges": edges}
    expected |= {"adversarial": adversarial, "discriminator": of_d}
    for name, value in expected.items():
        assert values[name].item() == pytest.approx(value.item(), rel=1e-4), name
    for found, wanted in ((step.generator, g), (step.discriminator, d)):
        for x, y in zip(found.parameters(), wanted.parameters(), strict=True):
            # Not the weights: what normalisation takes away has gradients of rounding alone, which
            # Adam turns into whole steps.
            torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-5)


def test_the_weight_of_edges_rises_from_nothing_to_its_end():
    network = configured().network
    assert [network.distances(k, 100) for k in (0, 5, 10, 99)] == [
        {"edges": weight} for weight in (0, 50, 100, 100)
    ]
    assert network.updated(edge_weight=0.0).distances(50, 100) == {}


def test_the_average_follows_the_statistics_of_batch_normalisation():
    """Those that it began with would translate as if every feature had mean 0 and deviation 1."""
    step = PairStep(configured(), 2, fabric())
    names = [name for name, _ in step.generator.named_buffers()]
    for buffer in step.generator.buffers():
        buffer.fill_(5)
    update_ema(step.ema, step.generator, 0.0, 100)
    assert any("running_var" in name for name in names)
    assert all((buffer == 5).all() for buffer in step.ema.buffers())
    network = step.generator.train()
    before = network.body.up[0][2].running_mean.clone()
    step.update(a_batch(2), 0, 1e-3)
    assert not torch.equal(network.body.up[0][2].running_mean, before)


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_it_overfits_one_small_pair(dims, method):
    side = 16 if dims == 2 else 8
    config = configured(method, dims, patch=side, ema=0.9, steps=150)
    assert overfits(config, a_batch(dims, side), 150, 5e-3) < 0.25


def test_an_interrupted_training_goes_on_bit_by_bit(dims, tmp_path):
    config = configured(DEaGan, dims, patch=8, steps=6, validate_every=3, checkpoint_every=2)
    goes_on_bit_by_bit(DEaGan, config, tmp_path)


def test_it_learns_what_pairs_say(tmp_path):
    config = configured(GEaGan, steps=200, learning_rate=5e-3, ema=0.9, validate_every=50)
    learns(GEaGan, config, tmp_path)


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets.PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_has_one(name, method, tmp_path):
    config = presets.preset(name)
    own = method.configured(config, "t1", size=name)
    net, training = own.network, own.training
    assert isinstance(net, EaGanNetwork)
    assert (own.paired, net.edges_judged) == ("t1", method is DEaGan)
    assert (net.edge_weight, net.edge_rise, training.l1_weight) == (100, 0.1, 300)
    assert (training.gan, training.gan_weight) == ("least_squares_smooth", 1)
    assert (training.beta1, training.decay) == (0.5, "linear")
    if name == "published":
        assert (net.width, training.patch, training.learning_rate) == (64, 128, 2e-4)
    else:
        assert training.steps == config.training.steps
    own.save(tmp_path / "c.yaml")
    assert CascadeConfig.load(tmp_path / "c.yaml") == own
    assert method.configured(own, "t1") == own
    with torch.device("meta"):
        assert build_generator(own, 0).geometry.patch == training.patch


def test_the_card_names_it_and_what_does_not_fit_is_refused(tmp_path):
    cohort = pairs(tmp_path, 2)
    own = configured(GEaGan, steps=1)
    fitted = GEaGan.fit(cohort, "t1", "t2", own, tmp_path / "g", device="cpu")
    card = card_of(fitted.run)
    assert "Ea-GAN (Yu et al. 2019): one network translates the source" in " ".join(card.split())
    assert "edge-aware" in card
    assert "Perceptual" not in card
    cases = [
        (lambda: DEaGan(fitted.run), "g: was not trained as a dEa-GAN"),
        (lambda: MDAUNet(fitted.run), "g: was not trained as a 3D-mDAUNet"),
        (lambda: DEaGan.configured(tiny()), "source None: the dEa-GAN is trained on pairs"),
        (lambda: DEaGan.configured(tiny(), "t1", size="huge"), "size 'huge' is none of smoke"),
        (lambda: own.updated(training={"patch": 24}), "patch size 24 is none of 8, 16, 32, 64"),
        (lambda: own.updated(labels=(1,)), r"ea_gan: labels is \(1,\)"),
        (
            lambda: own.updated(training={"discriminator_accuracy": 0.8}),
            r"ea_gan: training\.discriminator_accuracy is 0\.8: expected 1",
        ),
        (lambda: own.updated(perceptual={"backbone": "0"}), "ea_gan family has no such loss"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
