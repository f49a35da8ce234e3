"""The loop over steps of one scale: learning rate, validation, early stop, logs, resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import torch

from msgan import seeds
from msgan.config import CascadeConfig, TrainConfig
from msgan.training import checkpoint
from msgan.training.batches import Batch, Patches, Prefetch
from msgan.training.cache import CachedSubject
from msgan.training.cycle import CycleStep, Unpaired
from msgan.training.log import Log
from msgan.training.mdaunet import MdaunetStep
from msgan.training.pairs import PairStep
from msgan.training.step import Learner, Step
from msgan.training.threads import chosen, computing_with, multiply_adds
from msgan.types import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

LOG_EVERY = 20
VALIDATION_PATCHES = 16
VALIDATION_IMAGES = 4
"""Fewest samples of whole images at s0: one, of one appearance, chose weights by chance."""

WEIGHTS = "generator.safetensors"
CHECKPOINT = "checkpoint.safetensors"
INHERITED = "parent.safetensors"
"""Weights of the run that a longer training goes on from; only while training."""

Report = Callable[[dict[str, Any]], None]

Look = Callable[[], tuple[torch.Tensor, torch.Tensor]]
"""Makes what a network makes of a validation sample, and the real image: (B, 1, *spatial) each."""

Glimpse = Callable[[int, Look], None]
"""Called with the scale after each validation; looks if it wants to."""


@dataclass(frozen=True)
class Span:
    """The steps of a longer training.

    Attributes:
        begun: Steps that another run has done; their state is in the checkpoint.
        end: Steps when it is done.
    """

    begun: int
    end: int


LEARNERS: dict[str, Callable[..., Learner]] = {"mdaunet": MdaunetStep}
"""Of families that are trained in a way of their own, from what :func:`learner_of` takes."""


def train_scale(
    config: CascadeConfig,
    scale: int,
    train: Sequence[CachedSubject],
    validation: Sequence[CachedSubject],
    folder: Path,
    fabric: Fabric,
    report: Report | None = None,
    others: Sequence[Sequence[CachedSubject]] = (),
    features: nn.Module | None = None,
    longer: Span | None = None,
    threads: int | None = None,
    glimpse: Glimpse | None = None,
) -> dict[str, Any]:
    """Train s_i until its steps are done or validation stops improving.

    Begins from ``checkpoint.safetensors`` in ``folder`` where there is one: on the CPU the
    result is bit-identical to an unbroken run. The best averaged generator on validation is
    kept in ``generator.safetensors``; ``metrics.jsonl`` and TensorBoard events hold the curves.

    Args:
        config: The cascade's; decides everything.
        scale: i of s_i, 0 for the whole image.
        train: Cached training subjects.
        validation: Cached subjects the best weights are chosen on; may not be empty.
        folder: Of this scale; made if it does not exist.
        fabric: Launched; decides device, processes and precision.
        report: Called with every logged row, e.g. to move a progress bar.
        others: Of the source domain, where that is learnt from too (CycleGAN): subjects for
            training and for validation.
        features: Of the perceptual loss, where ``config.perceptual`` states one.
        longer: Where the training goes on from another run's: its networks and optimisers are in
            the checkpoint, what it has kept in ``parent.safetensors``. Steps are counted on, so
            samples are new ones; the learning rate's schedule begins again and spans the further
            steps; the patience begins again. What is kept is at first what the other run kept.
        threads: Of PyTorch; None: one where a step is small, see :mod:`msgan.training.threads`.
        glimpse: Told after each validation how to look at a sample. The training is the same.

    Returns:
        What the header of the weights tells: step, validation L1, seconds; and ``threads``.

    Raises:
        InputError: The batch cannot be divided among the processes, or the loss is not finite.
    """
    settings = config.training
    total = settings.lr_steps if scale == 0 else settings.steps
    span = longer or Span(0, total)
    total = span.end
    batch = settings.lr_batch if scale == 0 else settings.batch
    if batch % fabric.world_size:
        raise InputError(f"batch {batch} is not a multiple of the {fabric.world_size} processes")
    share = batch // fabric.world_size
    samples = range(fabric.global_rank * share, (fabric.global_rank + 1) * share)
    folder.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(seeds.derive(config.seed, "weights", scale))
    step = learner_of(config, scale, fabric, features)
    state: dict[str, Any] = {
        "step": 0,
        "best": math.inf,
        "best_step": 0,
        "stale": 0,
        "waited": 0.0,
        "seconds": 0.0,
    }
    if (folder / CHECKPOINT).is_file():
        state = checkpoint.load(step, folder / CHECKPOINT)
    if not span.begun <= state["step"] <= total:
        raise InputError(
            f"{folder / CHECKPOINT}: is of step {state['step']}, expected {span.begun} to {total}"
        )
    log = Log(folder, state["step"]) if fabric.is_global_zero else None

    def sampler(*domains: Sequence[CachedSubject]) -> Any:
        own = [Patches(d, config, scale, step.geometry, device=fabric.device) for d in domains]
        return Unpaired(*reversed(own)) if config.cycle else own[0]

    val_sampler = sampler(validation, *others[1:])
    val_batches = [
        val_sampler.draw("validation", 0, [k])
        for k in range(
            VALIDATION_PATCHES
            if scale or settings.lr_patch is not None
            else max(VALIDATION_IMAGES, len(validation))
        )
    ]
    clearest = max(val_batches, key=_contrast) if glimpse else None
    if threads is None and fabric.device.type == "cpu":
        threads = chosen(multiply_adds(lambda: step.score(val_batches[0])) * batch)
    start, waited = perf_counter() - state["seconds"], state["waited"]
    with (
        closing(log) if log else nullcontext(),
        computing_with(threads) as state["threads"],
        closing(Prefetch(sampler(train, *others[:1]), "train", samples, stop=total)) as batches,
    ):
        if not state["step"] and scale and config.guidance.detail:
            # It begins at the slope transfer, and what is kept must not fall behind that.
            _validate(step, val_batches, state, folder, fabric)
        if longer and state["step"] == span.begun:
            _inherit(step, val_batches, state, folder, fabric)
        while state["step"] < total and state["stale"] < settings.patience:
            now = state["step"]
            torch.manual_seed(seeds.derive(config.seed, "dropout", scale, now, fabric.global_rank))
            rate = learning_rate(settings, now - span.begun, total - span.begun)
            values = step.update(batches.get(now), now, rate)
            state["step"] = now + 1
            state["seconds"] = perf_counter() - start
            state["waited"] = waited + batches.waited
            last = state["step"] == total
            if state["step"] % settings.validate_every == 0 or last:
                _validate(step, val_batches, state, folder, fabric)
                if glimpse and clearest and clearest.targets:
                    glimpse(scale, partial(_seen, step, clearest))
            state["seconds"] = perf_counter() - start
            state["waited"] = waited + batches.waited
            if state["step"] % LOG_EVERY == 0 or last:
                values = {name: _mean(fabric, value) for name, value in values.items()}
                if not math.isfinite(values["loss"]):
                    raise InputError(
                        f"scale {scale}: the loss is {float(values['loss'])} at step "
                        f"{state['step']}: try a smaller learning_rate than "
                        f"{settings.learning_rate:g}; run again to go on from the last checkpoint"
                    )
                if log:
                    row = _row(scale, values, state, rate)
                    log.write(row)
                    if report:
                        report(row)
            done = last or state["stale"] >= settings.patience
            if fabric.is_global_zero and (state["step"] % settings.checkpoint_every == 0 or done):
                checkpoint.save(step, folder / CHECKPOINT, state)
    fabric.barrier()
    return state


def learner_of(
    config: CascadeConfig, scale: int, fabric: Fabric, features: nn.Module | None
) -> Learner:
    """What is trained: of a cascade a scale, else what takes the place of scale n."""
    if config.cycle is not None:
        return CycleStep(config, scale, fabric)
    if own := LEARNERS.get(config.network.family):
        return own(config, scale, fabric, features)
    return (PairStep if config.network.pairs else Step)(config, scale, fabric)


def learning_rate(settings: TrainConfig, step: int, total: int) -> float:
    """Of one step; ``cosine`` falls to a fiftieth, ``linear`` from the middle on to 0.

    ``step`` halves it after every quarter of all steps, to an eighth in the last: the step decay of
    Ha et al. 2025 (section 4.1), who state neither factor nor interval.
    """
    if settings.decay == "constant":
        return settings.learning_rate
    if settings.decay == "linear":
        return settings.learning_rate * min(1.0, 2 * (1 - step / total))
    if settings.decay == "step":
        return settings.learning_rate * 0.5 ** min(4 * step // total, 3)
    share = 0.5 * (1 + math.cos(math.pi * step / total))
    return settings.learning_rate * max(share, 0.02)


def _mean(fabric: Fabric, value: torch.Tensor) -> torch.Tensor:
    """Over all processes: each has seen its share of the batch only."""
    return cast(torch.Tensor, fabric.all_reduce(value, reduce_op="mean"))


@torch.no_grad()
def _score(step: Learner, val_batches: list[Batch], fabric: Fabric) -> float:
    """Score of the averaged generator on held-out images, as by L1."""
    total = sum(float(step.score(batch)) for batch in val_batches)
    # Of all processes the same: GPUs differ in the last bit, and all must stop at one step.
    mine = torch.tensor(total / len(val_batches), dtype=torch.float64, device=fabric.device)
    return float(_mean(fabric, mine))


def _contrast(batch: Batch) -> float:
    """How much there is to see in what a network should make; 0 where that is not known."""
    return float(batch.targets[0].float().std()) if batch.targets else 0.0


@torch.no_grad()
def _seen(step: Learner, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return step.ema(*batch.reads)[0], batch.targets[0]


def _inherit(
    step: Learner, val_batches: list[Batch], state: dict[str, Any], folder: Path, fabric: Fabric
) -> None:
    """Keep what the other run kept, scored anew: the scales below may make other contexts now."""
    about = checkpoint.load_weights(step.ema, folder / INHERITED)
    score = _score(step, val_batches, fabric)
    best_step = about.get("step", state["best_step"])
    state |= {"best": score, "best_step": best_step, "stale": 0, "validation_l1": score}
    if fabric.is_global_zero:
        known = {"step": best_step, "best": score, "seconds": about.get("seconds", 0.0)}
        checkpoint.save_weights(step.ema, folder / WEIGHTS, known)
    checkpoint.load(step, folder / CHECKPOINT)


def _validate(
    step: Learner, val_batches: list[Batch], state: dict[str, Any], folder: Path, fabric: Fabric
) -> None:
    """Score the averaged generator; keep it if it is the best."""
    score = _score(step, val_batches, fabric)
    state["validation_l1"] = score
    if score < state["best"] or step.latest:
        state |= {"best": score, "best_step": state["step"], "stale": 0}
        if fabric.is_global_zero:
            known = {k: state[k] for k in ("step", "best", "seconds")}
            checkpoint.save_weights(step.ema, folder / WEIGHTS, known)
    else:
        state["stale"] += 1


def _row(
    scale: int, values: dict[str, torch.Tensor], state: dict[str, Any], rate: float
) -> dict[str, Any]:
    """What is logged of one step."""
    row = {
        "scale": scale,
        "step": state["step"],
        **{name: float(value) for name, value in values.items()},
        "learning_rate": rate,
        "seconds": round(state["seconds"], 3),
        "waited": round(state["waited"], 3),
    }
    if "validation_l1" in state:
        row["validation_l1"] = state["validation_l1"]
    return row
