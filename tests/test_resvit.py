"""ResViT: its blocks and tokens, slices of volumes, its step against a plain computation."""

from copy import deepcopy

import pytest
import torch
from helpers import tiny
from pairs import a_batch, goes_on_bit_by_bit, learns, overfits
from training import fabric, twins

from msgan import presets
from msgan.config import CascadeConfig, ResvitNetwork
from msgan.methods.resvit import ResViT
from msgan.networks import layers
from msgan.networks.resvit import ResvitGenerator, SliceDiscriminator
from msgan.training.batches import Patches
from msgan.training.pairs import PairStep
from msgan.training.step import build_generator
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def configured(dims=2, **training) -> CascadeConfig:
    config = ResViT.configured(tiny(dims), "t1", size="smoke")
    sizes = {"width": 3, "tokens": 8, "discriminator_width": 3}
    return config.updated(network=sizes, training={"batch": 1} | training)


def generator(dims: int) -> ResvitGenerator:
    """With statistics of what it has seen: with those it begins with, nothing comes through."""
    torch.manual_seed(0)
    network = ResvitGenerator(dims, 32, 3, 8, 2, 2, 0.0).requires_grad_(False)
    for _ in range(20):
        x = torch.rand(4, 1, 32, 32)
        network(x if dims == 2 else x[..., None])
    return network.eval()


# --- networks ----------------------------------------------------------------------------------


def test_it_is_built_as_published():
    with torch.device("meta"):
        network = ResvitGenerator(2, 256, 64, 768, 12, 12, 0.1)
        seen = []
        network.transformer.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape)))
        assert network(torch.empty(1, 1, 256, 256))[0].shape == (1, 1, 256, 256)
    assert seen == [(1, 16 * 16, 768)] * 2  # one transformer, in two blocks
    convs = [m for m in network.encode if isinstance(m, layers.Conv)]
    assert [c.out_channels for c in convs] == [64, 128, 256]
    assert [c.kernel_size[0] for c in convs] == [7, 3, 3]
    assert [c.stride[0] for c in convs] == [1, 2, 2]
    assert len(network.blocks) == 9
    assert len(network.transformer.layers) == 12


def test_the_transformer_stands_before_the_first_and_the_sixth_block():
    network, order = generator(2), []
    for name, parts in (("block", network.blocks), ("tokens", network.tokens)):
        for k, part in enumerate(parts):
            part.register_forward_hook(lambda *_, said=(name, k): order.append(said))
    network(torch.rand(1, 1, 32, 32))
    assert order.index(("tokens", 0)) == 0
    assert order[order.index(("tokens", 1)) + 1] == ("block", 5)
    assert len(order) == 11


def test_every_pixel_sees_the_whole_slice():
    network = generator(2)
    x = torch.rand(1, 1, 32, 32, requires_grad=True)
    network(x)[0][0, 0, 2, 2].backward()
    assert (x.grad != 0).all()


def test_a_volume_is_its_slices():
    """Along the last axis, and no slice knows of another."""
    flat, solid = generator(2), generator(3)
    x = torch.rand(2, 1, 32, 32, 11)
    made = solid(x)[0]
    assert made.shape == x.shape
    assert made.std() > 0.01
    for k in (0, 5, 10):
        torch.testing.assert_close(made[..., k], flat(x[..., k])[0], rtol=0, atol=1e-5)
    assert torch.equal(layers.unsliced(layers.slices(x), x), x)
    judge = SliceDiscriminator(3).eval()
    ((logits,),) = judge(x, x)
    ((other,),) = judge(x[1:, ..., 3], x[1:, ..., 3])
    torch.testing.assert_close(logits[11 + 3], other[0], rtol=0, atol=1e-5)


def test_training_draws_slices_through_the_foreground(dims):
    config = configured(dims)
    subject = twins(dims)
    for image in subject.images:
        image[image < 0.5] = -1
    drawn = Patches([subject], config, 2, PairStep(config, 2, fabric()).geometry)
    for k in range(6):
        (box,) = drawn.decide("train", 0, k).targets
        assert box.size == ((32, 32) if dims == 2 else (32, 32, 1))
        centre = [a + n // 2 for a, n in zip(box.start, box.size, strict=True)]
        assert subject.images[2][(0, *centre)] > -1
    batch = drawn.draw("train", 0, range(2))
    (source,), (target,) = batch.reads, batch.targets
    assert source.shape == target.shape
    assert torch.equal(source[target > -1], target[target > -1])


# --- objective and training --------------------------------------------------------------------


def sliced(dims: int):
    """One pair, in 3D a slice of one axis more."""
    batch = a_batch(2, 32)
    if dims == 2:
        return batch
    parts = [[x[..., None] for x in part] for part in (batch.reads, batch.targets)]
    return type(batch)(*map(tuple, parts))


def test_a_step_minimises_what_the_paper_says(dims):
    config = configured(dims, gan_weight=0.7)
    step = PairStep(config, 2, fabric())
    g, d = deepcopy((step.generator, step.discriminator))
    batch = sliced(dims)
    source, real = 2 * batch.reads[0] - 1, batch.targets[0]
    fake = g(*batch.reads)[0]

    def lsgan(image, label):
        return (d(source, image)[0][0] - label).square().mean()

    of_d = (lsgan(real, 1) + lsgan(fake.detach(), 0)) / 2
    other = torch.optim.Adam(d.parameters(), 1e-3, (0.5, 0.999))
    of_d.backward()
    other.step()
    d.requires_grad_(False)
    adversarial, l1 = lsgan(fake, 1), (fake - real).abs().mean()
    loss = 100 * l1 + 0.7 * adversarial
    loss.backward()
    values = step.update(batch, 10, 1e-3)
    expected = {"loss": loss, "l1": l1, "adversarial": adversarial, "discriminator": of_d}
    assert values.keys() == expected.keys() | {"accuracy"}
    for name, value in expected.items():
        assert values[name].item() == pytest.approx(value.item(), rel=1e-4), name
    for x, y in zip(step.generator.parameters(), g.parameters(), strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-4)


def test_it_overfits_one_small_pair(dims):
    config = configured(dims, ema=0.9, steps=150).updated(network={"width": 6})
    assert overfits(config, sliced(dims), 150, 3e-3) < 0.3


def test_an_interrupted_training_goes_on_bit_by_bit(dims, tmp_path):
    config = configured(dims, steps=4, validate_every=2, checkpoint_every=2)
    goes_on_bit_by_bit(ResViT, config.updated(network={"dropout": 0.2}), tmp_path)


def test_it_learns_what_pairs_say(tmp_path):
    config = configured(steps=150, batch=2, learning_rate=2e-3, ema=0.9, validate_every=50)
    # All that a slice says goes through an encoding of a sixteenth of its pixels: the texture of 16
    # pixels needs as many features there.
    learns(ResViT, config.updated(network={"width": 8, "tokens": 16}), tmp_path, 0.75)


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_has_one(name, tmp_path):
    config = presets.preset(name)
    own = ResViT.configured(config, "t1", size=name)
    assert isinstance(own.network, ResvitNetwork)
    training = own.training
    assert (training.l1_weight, training.gan, training.gan_weight) == (100, "least_squares", 1)
    if name == "published":
        assert (own.network.width, own.network.tokens, training.patch) == (64, 768, 256)
    else:
        assert training.steps == config.training.steps
    own.save(tmp_path / "c.yaml")
    assert CascadeConfig.load(tmp_path / "c.yaml") == own
    assert ResViT.configured(own, "t1") == own
    with torch.device("meta"):
        assert build_generator(own, 0).geometry.patch == training.patch


def test_what_does_not_fit_is_refused_in_one_line():
    own = configured(steps=1)
    cases = [
        (
            lambda: own.updated(training={"patch": 40}),
            "patch size 40 is not a multiple of 16, the side",
        ),
        (lambda: own.updated(network={"heads": 3}), "tokens 8 is not a multiple of heads 3"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
