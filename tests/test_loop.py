"""The training loop: it learns, stops, resumes, keeps the best."""

import json

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from safetensors import safe_open
from training import (
    cuda,
    fabric,
    gpu,
    made,
    patches,
    rows,
    tiny,
    twins,
    weights,
)

from msgan import losses, seeds
from msgan.training import checkpoint, loop
from msgan.training.log import LOG, Log
from msgan.training.loop import learning_rate, train_scale
from msgan.training.step import Step
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("scale", [0, 1])
def test_the_loss_falls(dims, tmp_path, scale):
    config = tiny(dims, gan_weight=0.05, validate_every=20, ema=0.8, learning_rate=5e-3)
    subject = made(tmp_path, config)
    about = train_scale(config, scale, [subject], [subject], tmp_path / "s", fabric())
    assert about["step"] == 40
    found = rows(tmp_path / "s")
    assert [row["step"] for row in found] == [20, 40]
    fresh = Step(config, scale, fabric())
    batch = patches([subject], config, scale).draw("validation", 0, range(16 if scale else 4))
    with torch.no_grad():
        start = (fresh.ema(*batch.reads)[0] - batch.targets[0]).abs().mean()
        checkpoint.load_weights(fresh.ema, tmp_path / "s" / loop.WEIGHTS)
        end = (fresh.ema(*batch.reads)[0] - batch.targets[0]).abs().mean()
    assert end < (0.85 if scale == 0 else 0.97) * start
    assert end.item() == pytest.approx(about["best"], rel=1e-3)


@pytest.mark.parametrize("scale", [0, 2])
@pytest.mark.slow
def test_an_interrupted_training_goes_on_bit_by_bit(dims, tmp_path, scale):
    config = tiny(dims, checkpoint_every=15, validate_every=10, gan_weight=0.1, mirror=(0,))
    subjects = [made(tmp_path, config, seed=k) for k in range(2)]

    def train(folder, report=None):
        return train_scale(config, scale, subjects, subjects[:1], folder, fabric(), report)

    whole = train(tmp_path / "whole")

    def interrupt(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", interrupt)
    assert [row["step"] for row in rows(tmp_path / "broken")] == [20]  # the checkpoint is of 15
    with (tmp_path / "broken" / LOG).open("a") as log:
        log.write('{"step": 21, "hal')  # the line a killed process was writing
    about = train(tmp_path / "broken")
    clocks = ("seconds", "waited")
    assert {k: v for k, v in about.items() if k not in clocks} == {
        k: v for k, v in whole.items() if k not in clocks
    }
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    one, other = rows(tmp_path / "whole"), rows(tmp_path / "broken")
    assert [row["step"] for row in other] == [20, 40]
    for left, right in zip(one, other, strict=True):
        assert {k: v for k, v in left.items() if k not in clocks} == {
            k: v for k, v in right.items() if k not in clocks
        }
    # Ended: nothing is trained again.
    before = (tmp_path / "broken" / loop.WEIGHTS).stat().st_mtime_ns
    train(tmp_path / "broken", interrupt)
    assert (tmp_path / "broken" / loop.WEIGHTS).stat().st_mtime_ns == before


def test_tensorboard_reads_the_curves_of_a_resumed_training(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for step, values in ((0, (1, 2, 3)), (20, (3, 4))):  # resumed from a checkpoint of step 20
        log = Log(tmp_path, step)
        for at in values:
            log.write({"scale": 0, "step": 10 * at, "l1": at / 2 + step})
        log.close()
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert board.Tags()["scalars"] == ["l1"]
    assert {e.step: e.value for e in board.Scalars("l1")} == {10: 0.5, 20: 1.0, 30: 21.5, 40: 22.0}


def test_clocks_go_on_where_the_checkpoint_stopped(tmp_path, monkeypatch):
    """Neither the pause nor the steps that were lost count; what was spent before does."""
    now = [0.0]

    def tick():
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(loop, "perf_counter", tick)
    monkeypatch.setattr("msgan.training.batches.perf_counter", tick)
    config = tiny(2, checkpoint_every=15)
    subject = twins(2)

    def interrupt(row):
        raise KeyboardInterrupt

    train_scale(config, 1, [subject], [subject], tmp_path / "whole", fabric())
    with pytest.raises(KeyboardInterrupt):
        train_scale(config, 1, [subject], [subject], tmp_path / "broken", fabric(), interrupt)
    now[0] += 1000
    train_scale(config, 1, [subject], [subject], tmp_path / "broken", fabric())
    one, other = rows(tmp_path / "whole"), rows(tmp_path / "broken")
    assert one[-1]["seconds"] > 2 * one[-1]["waited"] > 0
    for left, right in zip(one, other, strict=True):
        assert right["waited"] == left["waited"]
        assert right["seconds"] == pytest.approx(left["seconds"], abs=2)


def test_training_stops_when_validation_does(dims, tmp_path):
    config = tiny(dims, learning_rate=1e-30, validate_every=2, patience=3, gan_weight=0.0)
    subject = twins(dims)
    about = train_scale(config, 1, [subject], [subject], tmp_path, fabric())
    # The first validation is the best; three more without a better one.
    assert (about["step"], about["best_step"], about["stale"]) == (8, 2, 3)
    # And it stays stopped.
    assert train_scale(config, 1, [subject], [subject], tmp_path, fabric())["step"] == 8


def test_the_best_weights_are_kept(dims, tmp_path, monkeypatch):
    config = tiny(dims, steps=5, validate_every=1, gan_weight=0.0, ema=0.5)
    subject = twins(dims)
    scores = iter([0.5, 0.3, 0.2, 0.4, 0.2])
    seen = []

    def scripted(step, judge, about, folder, fabric):
        value = next(scores)
        seen.append({k: v.clone() for k, v in step.ema.state_dict().items()})
        monkeypatch.setattr(losses, "l1", lambda fake, real: torch.tensor(value))
        try:
            validate(step, judge, about, folder, fabric)
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(loop, "_validate", scripted)

    validate = loop._validate
    monkeypatch.setattr(loop, "_validate", scripted)
    about = train_scale(config, 1, [subject], [subject], tmp_path, fabric())
    assert about["best"] == pytest.approx(0.2)
    assert about["best_step"] == 3  # an equal score later is not better
    assert about["stale"] == 2
    kept = weights(tmp_path)
    assert all(torch.equal(kept[k], seen[2][k]) for k in kept)
    assert any(not torch.equal(kept[k], seen[4][k]) for k in kept)


def test_all_processes_follow_one_validation_score(tmp_path):
    """Else one of them may stop, and the others wait for it for ever."""
    config = tiny(2, steps=2, validate_every=1, gan_weight=0.0)
    used = fabric()
    alone = train_scale(config, 1, [twins(2)], [twins(2)], tmp_path / "alone", used)
    reduce = used.all_reduce

    def with_another(value, group=None, reduce_op="mean"):
        """Another process whose scores are higher by 1."""
        value = reduce(value, group, reduce_op)
        return value + 0.5 if value.dtype == torch.float64 else value

    used.all_reduce = with_another
    about = train_scale(config, 1, [twins(2)], [twins(2)], tmp_path / "two", used)
    assert about["best"] == alone["best"] + 0.5


def test_learning_rates():
    constant = tiny(2, learning_rate=0.1).training
    assert {learning_rate(constant, k, 10) for k in range(10)} == {0.1}
    cosine = tiny(2, learning_rate=0.1, decay="cosine").training
    rates = [learning_rate(cosine, k, 100) for k in range(100)]
    assert rates[0] == 0.1
    assert rates[50] == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.002)


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    class Three:
        world_size, global_rank = 3, 0

    with pytest.raises(InputError, match="batch 2 is not a multiple of the 3 processes"):
        train_scale(tiny(2), 1, [twins(2)], [twins(2)], tmp_path, Three())


def test_initial_weights_differ_between_scales_and_seeds(dims, tmp_path):
    def first(scale, seed):
        config = tiny(dims, steps=1, lr_steps=1, learning_rate=1e-30, gan_weight=0.0)
        config = config.model_copy(update={"seed": seed})
        folder = tmp_path / f"{scale}-{seed}"
        train_scale(config, scale, [twins(dims)], [twins(dims)], folder, fabric())
        return torch.cat([w.flatten() for w in weights(folder).values()])

    assert not torch.equal(first(1, 0), first(2, 0))
    assert not torch.equal(first(1, 0), first(1, 1))
    assert seeds.derive(0, "weights", 1) != seeds.derive(0, "weights", 2)


def test_mixed_precision_runs_on_the_cpu(dims, tmp_path):
    config = tiny(dims, steps=4, precision="bf16-mixed", validate_every=2, gan_weight=0.5)
    subject = twins(dims)
    seen: list[dict] = []
    about = train_scale(
        config, 1, [subject], [subject], tmp_path, fabric("bf16-mixed"), seen.append
    )
    assert about["step"] == 4
    assert np.isfinite([seen[-1][k] for k in ("l1", "loss", "adversarial", "discriminator")]).all()
    assert all(w.dtype == torch.float32 for w in weights(tmp_path).values())


@gpu
@cuda
def test_half_precision_runs_on_the_gpu(dims, tmp_path):
    config = tiny(dims, steps=6, precision="16-mixed", validate_every=2, gan_weight=0.5)
    subject = twins(dims).to(torch.device("cuda"))
    there = Fabric(accelerator="cuda", devices=1, precision="16-mixed")
    about = train_scale(config, 1, [subject], [subject], tmp_path, there)
    assert np.isfinite(about["best"])


def half() -> Fabric:
    """Fabric replaces 16-mixed on a CPU; the plugin itself runs there, scaler and all."""
    # Large enough for the first updates to overflow: then they are not made, and it is halved.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30, growth_interval=3)
    return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))


def test_an_interrupted_training_goes_on_with_the_scale_of_its_gradients(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 18)
    config = tiny(2, steps=24, checkpoint_every=15, validate_every=6, gan_weight=0.5)
    subject = twins(2)

    def train(folder, report=None):
        used = half()
        train_scale(config, 1, [subject], [subject], folder, used, report)
        return used.strategy.precision.state_dict()

    def interrupt(row):
        raise KeyboardInterrupt

    whole = train(tmp_path / "whole")
    assert 0 < whole["scale"] < 2.0**30
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", interrupt)
    assert train(tmp_path / "broken") == whole
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_scale_of_gradients_is_kept_without_pickles(dims, tmp_path):
    config = tiny(dims)
    one, two, plain = Step(config, 1, half()), Step(config, 1, half()), Step(config, 1, fabric())
    state = {"scale": 2.0**-20 / 3, "_growth_tracker": 2}
    one.precision.load_state_dict(one.precision.state_dict() | state)
    checkpoint.save(one, tmp_path / "half", {"step": 1})
    checkpoint.save(plain, tmp_path / "full", {"step": 1})
    with safe_open(str(tmp_path / "half"), framework="pt") as file:
        assert json.loads(file.metadata()["precision"]).items() >= state.items()
    assert checkpoint.load(two, tmp_path / "half") == {"step": 1}
    assert two.precision.state_dict() == one.precision.state_dict()
    # Files of another precision, and of before, say nothing of it.
    checkpoint.load(two, tmp_path / "full")
    assert two.precision.state_dict() == one.precision.state_dict()
    checkpoint.load(plain, tmp_path / "half")


def test_a_training_that_diverges_says_so(dims, tmp_path):
    config = tiny(dims, learning_rate=1e30, lr_steps=40, gan_weight=0.0)
    subject = twins(dims)
    with pytest.raises(InputError, match="loss is nan at step 20: try a smaller learning_rate"):
        train_scale(config, 0, [subject], [subject], tmp_path, fabric())
