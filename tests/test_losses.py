import math

import pytest
import torch
from torch.testing import assert_close

from msgan import losses


def test_known_values_of_the_log_objective():
    # Eq. 2 with D = sigmoid(logit): D(real) = 3/4, D(fake) = 1/2.
    real, fake = torch.tensor([[math.log(3.0)]]), torch.tensor([[0.0]])
    expected = (-math.log(0.75) - math.log(0.5)) / 2
    assert_close(losses.discriminator_loss(real, fake, "log"), torch.tensor(expected))
    assert_close(losses.adversarial_loss(fake, "log"), torch.tensor(math.log(2.0)))


def test_known_values_of_least_squares():
    real, fake = torch.tensor([0.5, 1.0]), torch.tensor([0.5, 0.0])
    # ((0.25 + 0) / 2 + (0.25 + 0) / 2) / 2 and (0.25 + 1) / 2.
    assert_close(losses.discriminator_loss(real, fake, "least_squares"), torch.tensor(0.125))
    assert_close(losses.adversarial_loss(fake, "least_squares"), torch.tensor(0.625))


@pytest.mark.parametrize("gan", ["log", "least_squares"])
def test_a_perfect_judge_has_no_loss_and_moves_apart(gan):
    sure = torch.tensor([[60.0]]) if gan == "log" else torch.tensor([[1.0]])
    none = -sure if gan == "log" else torch.zeros(1, 1)
    assert losses.discriminator_loss(sure, none, gan) < 1e-12
    real, fake = (torch.full((3, 1), 0.2, requires_grad=True) for _ in range(2))
    losses.discriminator_loss(real, fake, gan).backward()
    assert (real.grad < 0).all()  # descent raises what D says of real images
    assert (fake.grad > 0).all()


@pytest.mark.parametrize("gan", ["log", "least_squares"])
def test_the_generator_is_pushed_towards_real(gan):
    fake = torch.tensor([-2.0, 0.0, 0.4], requires_grad=True)
    losses.adversarial_loss(fake, gan).backward()
    assert (fake.grad < 0).all()
    # Where D is surest, the gradient is largest: it does not vanish while D wins.
    assert fake.grad.abs().argmax() == 0


def test_log_values_are_finite_for_any_logit():
    far = torch.tensor([1e4, -1e4])
    assert torch.isfinite(losses.discriminator_loss(far, far, "log"))
    assert torch.isfinite(losses.adversarial_loss(far, "log"))


def test_accuracy_is_the_share_of_right_judgements():
    real, fake = torch.tensor([2.0, -1.0, 0.7, 0.4]), torch.tensor([-1.0, 0.2, 0.3, 3.0])
    assert losses.accuracy(real, fake, "log") == (3 / 4 + 1 / 4) / 2
    assert losses.accuracy(real, fake, "least_squares") == (2 / 4 + 3 / 4) / 2
    assert losses.accuracy(fake + 9, fake - 9, "log") == 1
    # A judge that says the same of everything is right half of the time.
    assert losses.accuracy(torch.zeros(4), torch.zeros(4), "log") == 0.5


def test_l1_is_the_mean_distance():
    assert losses.l1(torch.tensor([0.0, 1.0]), torch.tensor([0.5, -1.0])) == 1.25
