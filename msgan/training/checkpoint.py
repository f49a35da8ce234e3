"""State of a training in one safetensors file, written atomically; no pickle anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from msgan.documents import shown
from msgan.paths import atomic, room
from msgan.training.step import Learner
from msgan.types import InputError


def save_weights(module: nn.Module, path: str | os.PathLike[str], about: dict[str, Any]) -> None:
    """Write the weights of one module; ``about`` goes into the header as JSON."""
    _save(_named("", module.state_dict()), path, about)


def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load weights into ``module`` and return what the header tells.

    Raises:
        InputError: The file is missing, damaged, of another network, or has values that are not
            finite.
    """
    tensors, about, _ = _load(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: {shown(name)} has values that are NaN or infinite")
    _into(module, tensors, path)
    return about


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a file by name, and what its header tells.

    Raises:
        InputError: The file is missing or damaged.
    """
    tensors, about, _ = _load(path)
    return tensors, about


def save(step: Learner, path: str | os.PathLike[str], about: dict[str, Any]) -> None:
    """Write weights, optimisers and, in ``16-mixed``, the gradients' scale of one scale s_i.

    No random state is kept: every random number is derived from (seed, scale, step).
    """
    tensors: dict[str, Tensor] = {}
    for name, module in step.modules().items():
        tensors |= _named(f"{name}/", module.state_dict())
    for name, optimiser in step.optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= _named(f"optimiser/{name}/{index}/", state)
    _save(tensors, path, about, step.precision.state_dict())


def load(step: Learner, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Bring back what :func:`save` has written; returns what the header tells.

    Raises:
        InputError: The file is missing, damaged, or of another configuration.
    """
    tensors, about, precision = _load(path)
    for name, module in step.modules().items():
        own = {
            k.removeprefix(f"{name}/"): t for k, t in tensors.items() if k.startswith(f"{name}/")
        }
        _into(module, own, path)
    for name, optimiser in step.optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        prefix = f"optimiser/{name}/"
        for key in (k for k in tensors if k.startswith(prefix)):
            index, _, field = key.removeprefix(prefix).partition("/")
            if not index.isdecimal():
                raise InputError(f"{path}: damaged: {shown(key)} is no state of an optimiser")
            state.setdefault(int(index), {})[field] = tensors[key]
        groups = optimiser.state_dict()["param_groups"]
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        if state and not _fits(state, parameters):  # PyTorch does not look
            raise InputError(f"{path}: damaged: state of the optimiser {name}")
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    if precision:  # files of other precisions and of older versions have none
        step.precision.load_state_dict(precision)
    return about


def _fits(state: Mapping[int, Mapping[str, Tensor]], parameters: Sequence[Tensor]) -> bool:
    """Whether each parameter has all that an optimiser keeps of it, of its shape or one number."""
    fields = {frozenset(own) for own in state.values()}
    return (
        set(state) <= set(range(len(parameters)))
        and len(fields) == 1
        and all(
            tensor.shape in ((), parameters[k].shape)
            for k, own in state.items()
            for tensor in own.values()
        )
    )


def fingerprint(module: nn.Module) -> str:
    """16 hexadecimal digits of the names and values of all weights of a module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_named("", module.state_dict()).items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _named(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{k}": v.detach().cpu().contiguous() for k, v in state.items()}


def _save(
    tensors: dict[str, Tensor],
    path: str | os.PathLike[str],
    about: dict[str, Any],
    precision: dict[str, Any] | None = None,
) -> None:
    # A clone each: safetensors refuses tensors that share memory.
    plain = {name: tensor.clone() for name, tensor in tensors.items()}
    path = Path(path)
    need = sum(tensor.nbytes for tensor in plain.values())
    with room(path.parent, need, path.name), atomic(path) as temporary:
        header = {"about": json.dumps(about)}
        if precision:  # a few numbers: JSON keeps every bit of them
            header["precision"] = json.dumps(precision)
        try:
            save_file(plain, temporary, header)
        except SafetensorError as error:
            if number := re.search(r"\(os error (\d+)\)", str(error)):  # as of a full disk
                raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
            raise


def _load(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # of several kinds, for headers that lie or are cut off
        text = shown((str(error).splitlines() or [type(error).__name__])[0])
        raise InputError(f"{path}: not a safetensors file, or a damaged one: {text}") from None
    return tensors, _told(header, "about", path), _told(header, "precision", path)


def _told(header: dict[str, str], name: str, path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the header of a file tells in JSON; empty where it does not."""
    try:
        told = json.loads(header.get(name, "{}"))
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise InputError(f"{path}: damaged: '{name}' in its header is not a JSON object")
    return told


def _into(module: nn.Module, tensors: dict[str, Tensor], path: str | os.PathLike[str]) -> None:
    own = module.state_dict()
    if own.keys() != tensors.keys():
        odd = shown(sorted(own.keys() ^ tensors.keys())[0])
        raise InputError(f"{path}: weights of another network: {odd} is on one side only")
    for name, tensor in tensors.items():
        if own[name].shape != tensor.shape:
            raise InputError(
                f"{path}: {shown(name)} has shape {tuple(tensor.shape)}, expected "
                f"{tuple(own[name].shape)}"
            )
        if tensor.is_floating_point() != own[name].is_floating_point():
            raise InputError(f"{path}: {name} holds {tensor.dtype}, expected {own[name].dtype}")
    with torch.no_grad():
        module.load_state_dict(tensors)
