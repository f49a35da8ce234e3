import math

import pytest
import torch
from torch.testing import assert_close

from msgan import losses


def test_known_values_of_the_log_objective():
    # Eq. 2 with D = sigmoid(logit): D(real) = 3/4, D(fake) = 1/2.
    real, fake = torch.tensor([[math.log(3.0)]]), torch.tensor([[0.0]])
    expected = (-math.log(0.75) - math.log(0.5)) / 2
    assert_close(losses.ADVERSARIAL["log"].discriminator([real], [fake]), torch.tensor(expected))
    assert_close(losses.ADVERSARIAL["log"].generator([], [fake]), torch.tensor(math.log(2.0)))


def test_known_values_of_least_squares():
    real, fake = torch.tensor([0.5, 1.0]), torch.tensor([0.5, 0.0])
    # ((0.25 + 0) / 2 + (0.25 + 0) / 2) / 2 and (0.25 + 1) / 2.
    assert_close(
        losses.ADVERSARIAL["least_squares"].discriminator([real], [fake]), torch.tensor(0.125)
    )
    assert_close(losses.ADVERSARIAL["least_squares"].generator([], [fake]), torch.tensor(0.625))


@pytest.mark.parametrize("gan", ["log", "least_squares"])
def test_a_perfect_judge_has_no_loss_and_moves_apart(gan):
    sure = torch.tensor([[60.0]]) if gan == "log" else torch.tensor([[1.0]])
    none = -sure if gan == "log" else torch.zeros(1, 1)
    assert losses.ADVERSARIAL[gan].discriminator([sure], [none]) < 1e-12
    real, fake = (torch.full((3, 1), 0.2, requires_grad=True) for _ in range(2))
    losses.ADVERSARIAL[gan].discriminator([real], [fake]).backward()
    assert (real.grad < 0).all()  # descent raises what D says of real images
    assert (fake.grad > 0).all()


@pytest.mark.parametrize("gan", ["log", "least_squares"])
def test_the_generator_is_pushed_towards_real(gan):
    fake = torch.tensor([-2.0, 0.0, 0.4], requires_grad=True)
    losses.ADVERSARIAL[gan].generator([], [fake]).backward()
    assert (fake.grad < 0).all()
    # Where D is surest, the gradient is largest: it does not vanish while D wins.
    assert fake.grad.abs().argmax() == 0


def test_known_values_of_the_relativistic_average():
    # Ha et al. 2025, eq. 1 and 5, from D's logits of two voxels each.
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, -2.0])
    gan = losses.ADVERSARIAL["relativistic"]

    def log_sigmoid(x):
        return -math.log1p(math.exp(-x))

    above = [log_sigmoid(r + 1.5) for r in (2.0, 0.0)]  # over the mean of fake
    below = [log_sigmoid(1.0 - f) for f in (-1.0, -2.0)]  # 1 - s(x) is s(-x)
    expected = -sum(above) / 2 - sum(below) / 2
    assert_close(gan.discriminator([real], [fake]), torch.tensor(expected))
    above = [log_sigmoid(f - 1.0) for f in (-1.0, -2.0)]
    below = [log_sigmoid(-1.5 - r) for r in (2.0, 0.0)]
    expected = -sum(above) / 2 - sum(below) / 2
    assert_close(gan.generator([real], [fake]), torch.tensor(expected))
    assert gan.accuracy([real], [fake]) == 1
    assert gan.accuracy([fake], [real]) == 0


@pytest.mark.parametrize("gan", losses.ADVERSARIAL)
def test_resolutions_count_alike(gan):
    gan = losses.ADVERSARIAL[gan]

    def value(measure, real, fake):
        torch.manual_seed(0)  # smoothed labels are drawn
        return measure(real, fake)

    one, two = torch.tensor([0.3, 0.6, -1.0]), torch.tensor([1.5])
    real, fake = (one, two), (one - 0.5, two + 1)
    for measure in (gan.discriminator, gan.generator, gan.accuracy):
        each = [value(measure, [r], [f]) for r, f in zip(real, fake, strict=True)]
        assert_close(value(measure, real, fake), (each[0] + each[1]) / 2)


def test_log_values_are_finite_for_any_logit():
    far = torch.tensor([1e4, -1e4])
    assert torch.isfinite(losses.ADVERSARIAL["log"].discriminator([far], [far]))
    assert torch.isfinite(losses.ADVERSARIAL["log"].generator([], [far]))


def test_accuracy_is_the_share_of_right_judgements():
    real, fake = torch.tensor([2.0, -1.0, 0.7, 0.4]), torch.tensor([-1.0, 0.2, 0.3, 3.0])
    assert losses.ADVERSARIAL["log"].accuracy([real], [fake]) == (3 / 4 + 1 / 4) / 2
    assert losses.ADVERSARIAL["least_squares"].accuracy([real], [fake]) == (2 / 4 + 3 / 4) / 2
    assert losses.ADVERSARIAL["log"].accuracy([fake + 9], [fake - 9]) == 1
    # A judge that says the same of everything is right half of the time.
    assert losses.ADVERSARIAL["log"].accuracy([torch.zeros(4)], [torch.zeros(4)]) == 0.5


def test_l1_is_the_mean_distance():
    assert losses.l1(torch.tensor([0.0, 1.0]), torch.tensor([0.5, -1.0])) == 1.25
