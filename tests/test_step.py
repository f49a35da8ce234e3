"""One step of training: losses, discriminator, averaged weights."""

import pytest
import torch
from torch.testing import assert_close
from training import fabric, patches, tiny, twins

from msgan.losses import ADVERSARIAL
from msgan.networks import layers
from msgan.networks.discriminators import condition
from msgan.networks.generator import Geometry, View
from msgan.pyramid import halve
from msgan.training.step import Step, build_generator, of_all_processes

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_condition_of_d_lies_on_the_image(dims):
    """In a linear ramp, context, sketch and detail have the same value at the same place."""
    config = tiny(dims)
    first, above = (build_generator(config, i).geometry for i in (0, 1))
    halo, side = above.reads[0].halo, 8

    def ramp(start, step, count):
        axes = torch.meshgrid(*[start + step * torch.arange(count)] * dims, indexing="ij")
        return sum((k + 1) * a for k, a in enumerate(axes))[None, None]

    sketched = ramp(-halo, 1.0, side + 2 * halo)
    context = ramp(0.5 - halo, 2.0, (side + 2 * halo) // 2)
    detail = ramp(0, 1.0, side)
    seen = condition((sketched, context), above, aligned=True)
    assert_close(seen, detail.expand(1, 2, *[side] * dims), rtol=0, atol=1e-4)
    assert_close(condition((sketched,), first, aligned=True), halve(sketched, dims))
    # Also of a grid four times as coarse, whose halo is none.
    far = Geometry((View("source", -2),), align=4)
    coarse = condition((ramp(1.5, 4.0, side // 4),), far, aligned=True)
    assert_close(coarse[(..., *[4] * dims)], detail[(..., *[4] * dims)], rtol=0, atol=2.0 * dims)
    assert coarse.shape == detail.shape


@pytest.mark.parametrize(("limit", "rests"), [(0.4, True), (0.5, False)])
def test_d_rests_while_it_is_right_too_often(dims, limit, rests):
    config = tiny(dims, discriminator_accuracy=limit)
    torch.manual_seed(0)
    step = Step(config, 1, fabric())
    with torch.no_grad():
        for parameter in step.discriminator.parameters():
            parameter.zero_()  # the same verdict on everything: right half of the time
    before = [p.clone() for p in step.discriminator.parameters()]
    generator = [p.clone() for p in step.generator.parameters()]
    batch = patches([twins(dims)], config, 1).draw("train", 0, range(2))
    values = step.update(batch, 0, 1e-3)
    assert values["accuracy"] == 0.5
    after = list(step.discriminator.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) == rests
    moved = zip(generator, step.generator.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)
    assert all(p.requires_grad for p in after)


def test_the_adversarial_loss_reaches_the_generator_and_not_the_discriminator(dims):
    config = tiny(dims, l1_weight=0.0, gan_weight=1.0)
    torch.manual_seed(3)
    step = Step(config, 0, fabric())
    step._update_discriminator = lambda *batch: {}  # D rests
    batch = patches([twins(dims)], config, 0).draw("train", 0, range(2))
    before = [p.clone() for p in step.discriminator.parameters()]
    first = step.update(batch, 0, 1e-2)["adversarial"]
    for k in range(1, 15):
        last = step.update(batch, k, 1e-2)["adversarial"]
    assert last < 0.9 * first
    moved = zip(before, step.discriminator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in moved)


def test_d_judges_the_middle_of_larger_patches(dims, monkeypatch):
    monkeypatch.setattr("msgan.training.step.DISCRIMINATOR_PATCH", 6)
    config, seen = tiny(dims), []
    step = Step(config, 1, fabric())
    step.discriminator.register_forward_hook(lambda module, inputs, out: seen.append(inputs))
    batch = patches([twins(dims)], config, 1).draw("train", 0, range(2))
    step.update(batch, 0, 1e-3)
    (both, (images,)), (_, (shown,)) = seen  # D's own update, then G's
    assert both.shape[2:] == images.shape[2:] == shown.shape[2:] == (6,) * dims
    assert torch.equal(images[:2], layers.crop(batch.targets[0], 1))
    every = condition(batch.reads, step.generator.geometry, aligned=True)
    assert_close(both[:2], layers.crop(every, 1))


def test_without_weight_there_is_no_discriminator(dims):
    step = Step(tiny(dims, gan_weight=0.0), 1, fabric())
    assert step.discriminator is None
    assert set(step.modules()) == {"generator", "average"}
    batch = patches([twins(dims)], tiny(dims), 1).draw("train", 0, range(2))
    values = step.update(batch, 0, 1e-3)
    assert set(values) == {"l1", "loss"}
    assert values["loss"] == 10 * values["l1"]


def test_the_average_follows_exponentially(dims):
    config = tiny(dims, ema=0.6, gan_weight=0.0, learning_rate=0.01)
    torch.manual_seed(0)
    step = Step(config, 1, fabric())
    expected = [p.detach().clone() for p in step.generator.parameters()]
    drawn = patches([twins(dims)], config, 1)
    for k in range(12):
        step.update(drawn.draw("train", k, range(2)), k, 0.01)
        decay = min(0.6, (1 + k) / (10 + k))
        for mean, value in zip(expected, step.generator.parameters(), strict=True):
            mean.mul_(decay).add_(value.detach(), alpha=1 - decay)
    for mean, kept in zip(expected, step.ema.parameters(), strict=True):
        assert_close(kept, mean, rtol=1e-4, atol=1e-6)
        assert not kept.requires_grad
    own = zip(step.ema.parameters(), step.generator.parameters(), strict=True)
    assert any(not torch.allclose(a, b) for a, b in own)


class Process:
    """One of several processes, whose sum with the others is known beforehand."""

    def __init__(self, rank: int, of_all: list[torch.Tensor]) -> None:
        self.global_rank, self.world_size = rank, len(of_all)
        self.of_all = of_all

    def all_reduce(self, own: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        assert not own.requires_grad  # gradients do not travel between processes
        others = [torch.zeros_like(x) if k == self.global_rank else x for k, x in enumerate(self)]
        return own + torch.stack(others)

    def __iter__(self):
        return iter(self.of_all)


@pytest.mark.parametrize("gan", ["relativistic", "relativistic_batch"])
def test_processes_train_together_as_one_with_the_whole_batch(dims, gan):
    """The mean of their gradients is the gradient of one process that sees all images."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 1, *[3] * dims)  # of each of three processes
    real, fake = ([torch.randn(shape, generator=generator) for _ in range(3)] for _ in range(2))
    adversarial = ADVERSARIAL[gan]

    def judged(rank: int | None) -> tuple[float, torch.Tensor]:
        """Loss and gradient of one process, or of one that has all images (None)."""
        weight = torch.tensor(0.7, requires_grad=True)
        if rank is None:
            true, false = ((weight * torch.cat(x) ** 2,) for x in (real, fake))
        else:
            true, false = (
                of_all_processes(
                    Process(rank, [0.7 * x**2 for x in every]), adversarial, [weight * own**2]
                )
                for every, own in ((real, real[rank]), (fake, fake[rank]))
            )
        loss = adversarial.generator(true, false)
        loss.backward()
        return loss.item(), weight.grad

    loss, wanted = judged(None)
    losses, gradients = zip(*(judged(rank) for rank in range(3)), strict=True)
    assert losses == pytest.approx([loss] * 3)
    assert_close(torch.stack(gradients).mean(), wanted)


def test_logits_that_are_judged_one_by_one_stay_in_their_process():
    logits = [torch.ones(2, 1, 3, 3)]
    two = Process(0, logits * 2)
    assert of_all_processes(two, ADVERSARIAL["log"], logits) is logits
    assert of_all_processes(fabric(), ADVERSARIAL["relativistic"], logits) is logits
    (both,) = of_all_processes(two, ADVERSARIAL["relativistic"], logits)
    assert both.shape == (4, 1, 3, 3)
