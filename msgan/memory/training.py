"""What a method's networks cost to train: weights, bytes of a step, and the time that was taken."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from msgan import sketch
from msgan.config import CascadeConfig
from msgan.data.cohort import Subject, prepare
from msgan.memory.count import peak_bytes
from msgan.runs.run import Run
from msgan.training.batches import Batch
from msgan.training.loop import learner_of
from msgan.types import Box, InputError, Shape

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DONE = "done.json"


@dataclass(frozen=True)
class StepCost:
    """One training step of one scale, counted.

    Attributes:
        parameters: Weights of the generator.
        judging: Weights of the discriminator; 0 where there is none.
        bytes: Most bytes alive at a time, in float32: weights, their moving average, gradients,
            both moments of Adam, the batch and what the passes of both networks hold. The workspace
            of kernels, the program and its libraries are not counted.
    """

    parameters: int
    judging: int
    bytes: int


def step_cost(config: CascadeConfig, scale: int, shape: Shape | None = None) -> StepCost:
    """Of a step that :mod:`msgan.training` would take; nothing is computed.

    Args:
        config: Of any family, without a perceptual loss and without a cycle.
        scale: i of s_i.
        shape: Of an image at s_0, where it is trained on as a whole.

    Raises:
        InputError: There is a perceptual loss or a cycle, or the scale is trained on whole images
            and ``shape`` is not stated.
    """
    if config.perceptual is not None or config.cycle is not None:
        raise InputError("step_cost: a perceptual loss or a cycle is not counted")
    side = config.training.patch if scale else config.training.lr_patch
    if side is None and shape is None:
        raise InputError(f"scale {scale} is trained on whole images: expected the shape of one")
    sizes: dict[str, int] = {}

    def step() -> Any:
        # Only what has shapes is made here: weights of the optimisers begin as numbers.
        with torch.device("meta"):
            learner = learner_of(config, scale, cast("Fabric", _Alone()), None)
            geometry = learner.geometry
            own = geometry.patch or config.training.patch
            if geometry.border is None:
                detail = Box((0,) * config.dims, geometry.sides(own, config.dims))
            else:
                detail = _trained_on(geometry.border, config.dims, side, shape)
            count = config.training.batch if scale else config.training.lr_batch
            channels = sketch.channels(config.sketch, config.dims)
            reads = tuple(
                torch.empty(count, channels if view.image == "sketch" else 1, *box.size)
                for view, box in zip(geometry.reads, geometry.read_boxes(detail), strict=True)
            )
            made = geometry.make_boxes(detail)
            targets = tuple(torch.empty(count, 1, *box.size) for box in made)
        for name, module in learner.modules().items():
            sizes[name] = _parameters(module)
        learner.update(Batch(reads, targets), 0, config.training.learning_rate)
        return learner

    peak = peak_bytes(step)
    return StepCost(sizes["generator"], sizes.get("discriminator", 0), peak)


def training_cost(run: Run, subject: Subject) -> dict[str, float]:
    """What the scales of a run cost that a translation needs.

    Args:
        run: Trained.
        subject: Has an image of the run's target; where s0 is trained on whole images, of that
            size.

    Returns:
        ``parameters`` and ``judging`` (of all scales), ``step_bytes`` (of the scale that takes
        most), ``steps`` and ``seconds`` (of all scales, as the training took them, sketches and
        contexts that are prepared before left out).

    Raises:
        InputError: A scale is not trained, there is no such image, or see :func:`step_cost`.
    """
    with prepare(subject, run.target, run.config.preparation) as ready:
        shape = tuple(n >> run.scales for n in ready.grid.shape)
    total = dict.fromkeys(("parameters", "judging", "step_bytes", "steps", "seconds"), 0.0)
    for scale in run.used:
        if not run.finished(scale):
            raise InputError(f"{run.folder}: scale {scale} of {run.scales} is not trained yet")
        cost = step_cost(run.config, scale, shape)
        done = json.loads((run.folder_of(scale) / DONE).read_text(encoding="utf-8"))
        total["parameters"] += cost.parameters
        total["judging"] += cost.judging
        total["step_bytes"] = max(total["step_bytes"], cost.bytes)
        total["steps"] += done["step"]
        total["seconds"] += done["seconds"]
    return total


def _trained_on(border: int, dims: int, side: int | None, shape: Shape | None) -> Box:
    """A crop of that side, or the whole image with its border."""
    if side is not None:
        return Box((0,) * dims, (side,) * dims)
    return Box.whole(shape or (1,) * dims).grown(border)


class _Alone:
    """What a learner asks of Fabric, for one process whose tensors have no data."""

    device = torch.device("meta")
    world_size = 1
    global_rank = 0
    strategy = SimpleNamespace(precision=None)

    def setup(self, module: nn.Module, optimiser: Any) -> tuple[nn.Module, Any]:
        return module, optimiser

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()

    def all_reduce(self, value: Tensor, reduce_op: str = "mean") -> Tensor:
        # D asks how often it is right; without data it is taken never to rest.
        return torch.zeros(value.shape)


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
