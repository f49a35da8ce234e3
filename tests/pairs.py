"""What the tests of the families of pairs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import equal, head, pairs, stored, whole
from training import fabric, rows

from msgan.config import CascadeConfig
from msgan.training import checkpoint
from msgan.training.batches import Batch
from msgan.training.pairs import PairStep

CLOCKS = ("seconds", "waited")


def a_batch(dims: int, side: int = 16, seed: int = 0) -> Batch:
    """A pair: the target is dark where the source is bright."""
    image = torch.from_numpy(head((side,) * dims, seed, low=20))[None, None] / 100
    target = torch.where(image > 0, 1.2 - image, 0)
    return Batch((image,), (2 * target - 1,))


def overfits(config: CascadeConfig, batch: Batch, steps: int, rate: float) -> float:
    """Share of the first error that is left of one pair after some steps."""
    torch.manual_seed(0)
    step = PairStep(config, 2, fabric())
    first = float(step.score(batch))
    for k in range(steps):
        step.update(batch, k, rate)
    return float(step.score(batch)) / first


def goes_on_bit_by_bit(method: Any, config: CascadeConfig, folder: Path) -> None:
    """A training that is interrupted at its first checkpoint ends as an unbroken one does."""
    cohort = pairs(folder, config.dims)

    def train(name: str) -> None:
        method.fit(cohort, "t1", "t2", config, folder / name, device="cpu")

    def saved(step: Any, path: Any, about: Any) -> None:
        save(step, path, about)
        raise KeyboardInterrupt

    train("whole")
    save: Callable[..., None] = checkpoint.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", saved)
        with pytest.raises(KeyboardInterrupt):
            train("broken")
    assert not (folder / "broken" / "s2" / "done.json").exists()
    train("broken")
    assert equal(folder / "whole", folder / "broken", 2)
    one, other = (
        [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows(folder / n / "s2")]
        for n in ("whole", "broken")
    )
    assert one == other
    assert {"adversarial", "discriminator", "l1", "loss"} <= one[-1].keys()


def learns(method: Any, config: CascadeConfig, folder: Path, share: float = 0.6) -> None:
    """From files to a file: nearer to the real image than any constant, at most this share."""
    cohort = pairs(folder, 2, ("train",) * 3 + ("val", "test"))
    config = config.updated(preparation={"intensity": "window", "high": 100.0})
    fitted = method.fit(cohort, "t1", "t2", config, folder / "run", device="cpu")
    target = whole(cohort["s4"].images["t2"])
    inside = target > 0
    fitted.translate(cohort["s4"], folder / "made.nii")
    error = np.abs(whole(folder / "made.nii") - target)[inside].mean()
    flat = np.abs(target - np.median(target[inside]))[inside].mean()
    assert error < share * flat
    assert whole(folder / "made.nii").shape == target.shape
    larger = stored(folder / "larger.nii", head((70, 52)))
    fitted.translate(larger, folder / "o.nii", modality="t1")
    assert whole(folder / "o.nii").shape == (70, 52)
