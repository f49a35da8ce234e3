"""Files in the layout of torchvision's VGG and of the heads of LPIPS, with random weights."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from msgan.networks.vgg import CONVOLUTIONS, WIDTHS
from msgan.types import Array

State = dict[str, torch.Tensor]


def vgg_state(depth: int, seed: int = 0, divide: int = 1) -> State:
    """Weights that keep the size of what passes a ReLU; widths divided by ``divide``."""
    draw = torch.Generator().manual_seed(seed)
    state: State = {}
    inputs, number = 3, 0
    for count, width in zip(CONVOLUTIONS[depth], WIDTHS, strict=True):
        for _ in range(count):
            shape = (width // divide, inputs, 3, 3)
            weight = torch.empty(shape).normal_(0, (2 / (9 * inputs)) ** 0.5, generator=draw)
            state[f"features.{number}.weight"] = weight
            state[f"features.{number}.bias"] = torch.empty(shape[0]).normal_(0, 0.1, generator=draw)
            inputs, number = shape[0], number + 2
        number += 1
    return state


def head_state(seed: int = 0) -> State:
    draw = torch.Generator().manual_seed(seed)
    return {
        f"lin{k}.model.1.weight": torch.rand((1, width, 1, 1), generator=draw)
        for k, width in enumerate(WIDTHS)
    }


def save_state(path: Path, state: State) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def convolved(image: Array, state: State, number: int) -> Array:
    """(C, H, W) float64 through convolution ``number`` with a margin of zeros, and ReLU."""
    weight, bias = (state[f"features.{number}.{n}"].double().numpy() for n in ("weight", "bias"))
    _, h, w = image.shape
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(bias), h, w)) + bias[:, None, None]
    for i in range(3):
        for j in range(3):
            out += np.tensordot(weight[:, :, i, j], padded[:, i : i + h, j : j + w], 1)
    return np.maximum(out, 0)


def features_of(image: Array, state: State, depth: int) -> list[Array]:
    """Features after the last ReLU of each block, by NumPy alone."""
    found, number = [], 0
    for k, count in enumerate(CONVOLUTIONS[depth]):
        if k:
            h, w = (n // 2 * 2 for n in image.shape[1:])
            pairs = image[:, :h, :w].reshape(len(image), h // 2, 2, w // 2, 2)
            image = pairs.max(axis=(2, 4))
        for _ in range(count):
            image = convolved(image, state, number)
            number += 2
        number += 1
        found.append(image)
    return found
