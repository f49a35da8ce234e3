"""Two files of weights, or two logs of a training, compared: bit by bit, then by size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msgan.paths import sha256
from msgan.training import checkpoint
from msgan.verify.verdict import Finding, State, judged, only_in

TIMES = ("seconds", "waited")
"""Columns of a log that no two trainings share."""


def compare_weights(what: str, one: Path, other: Path, tolerance: float | None) -> Finding:
    """Whether all tensors of two safetensors files are equal, whatever their headers say.

    A difference is relative to the largest value of its tensor.

    Raises:
        InputError: A file cannot be read.
    """
    if sha256(one) == sha256(other):
        return Finding(what, State.IDENTICAL)
    (first, _), (second, _) = checkpoint.read(one), checkpoint.read(other)
    if odd := only_in(tuple(first), tuple(second)):
        return Finding(what, State.DIFFERENT, odd)
    worst: tuple[float, str] | None = None
    unequal = 0
    for name, tensor in first.items():
        apart = _apart(tensor, second[name])
        if apart is None:
            continue
        unequal += 1
        if worst is None or apart > worst[0]:
            worst = apart, name
    if worst is None:
        return Finding(what, State.IDENTICAL)
    where = f"{unequal} of {len(first)} tensors, most in {worst[1]}"
    return judged(what, worst[0], tolerance, where)


def _apart(one: Tensor, other: Tensor) -> float | None:
    """Largest difference as a share of the largest value; None: equal to the bit."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return math.inf
    if torch.equal(one, other):
        return None
    first, second = one.double(), other.double()
    largest = float(torch.maximum(first.abs(), second.abs()).max())
    apart = float((first - second).abs().max())
    return apart / largest if math.isfinite(apart) and largest else math.inf


def compare_logs(
    what: str,
    one: Sequence[Mapping[str, Any]],
    other: Sequence[Mapping[str, Any]],
    tolerance: float | None,
) -> Finding:
    """Whether two logs say the same of every step; the first that differs is named."""
    first, second = ({row["step"]: row for row in log} for log in (one, other))
    worst, begin = 0.0, ""
    for step in sorted({*first, *second}):
        if step not in first or step not in second:
            return Finding(what, State.DIFFERENT, f"step {step}: on one side only")
        for name, a, b in _columns(first[step], second[step]):
            if a == b:
                continue
            begin = begin or f"from step {step} on: {name} {a} and {b}"
            worst = max(worst, relative(a, b))
    return judged(what, worst, tolerance, begin) if begin else Finding(what, State.IDENTICAL)


def _columns(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    names = [name for name in {**one, **other} if name not in TIMES]
    return [(name, one.get(name), other.get(name)) for name in names]


def relative(one: Any, other: Any) -> float:
    """Difference of two numbers as a share of the larger; infinite where one is no number."""
    try:
        a, b = float(one), float(other)
    except (TypeError, ValueError):
        return math.inf
    apart = abs(a - b)
    if not math.isfinite(apart):
        return math.inf
    return apart / max(abs(a), abs(b)) if apart else 0.0
