"""Reads weights that other projects publish, without running what a file may contain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from msgan.types import InputError


def read_state(path: Path, owner: str) -> dict[str, Tensor]:
    """Tensors by name, on the CPU.

    Args:
        path: ``.safetensors``, or anything that ``torch.save`` wrote, of which only tensors are
            read.
        owner: What the weights are of, for messages.

    Raises:
        InputError: No such file, one that is damaged, or one that holds something else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file: expected the weights of {owner}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a reader makes of a file that is not one
        raise InputError(f"{path}: cannot be read as weights ({type(error).__name__})") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: not a state dict: expected tensors by name")
    return state


def check_state(
    path: Path,
    state: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    owner: str,
) -> None:
    """Raise InputError unless every expected tensor is there, in its shape, and of finite numbers.

    Args:
        path: For messages.
        state: What the file holds; other tensors may be there too.
        expected: Shapes by name.
        owner: What the weights are of, for messages.
    """
    for name, shape in expected.items():
        if name not in state:
            raise InputError(f"{path}: not of {owner}: no {name}")
        found = state[name]
        if tuple(found.shape) != shape:
            raise InputError(
                f"{path}: not of {owner}: {name} has shape {tuple(found.shape)}, expected {shape}"
            )
        if not (found.is_floating_point() and bool(found.isfinite().all())):
            raise InputError(f"{path}: {name}: expected finite numbers")
