"""Convolutions of VGG-16 and VGG-19 (Simonyan and Zisserman, 2015), with weights from a file.

Ha et al. compare images by their features: VGG-19 in the perceptual loss (section 3.3, eq. 4),
VGG-16 in LPIPS (section 3.4). The layers have the order and the numbers of torchvision's
``vgg16().features`` and ``vgg19().features``, so that its files fit. Both networks are chains of
convolutions, ReLUs and maxima over 2 x 2, which PyTorch has: torchvision itself is not needed.

Weights of photographs (ImageNet) come with no package, and nothing is downloaded: the environment
variables :data:`FILES` name files that the user has.
"""

from __future__ import annotations

import os
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn

from msgan.networks.layers import conv, max_pool
from msgan.networks.weights import check_state, read_state
from msgan.types import InputError

FILES = {16: "MSGAN_VGG16", 19: "MSGAN_VGG19"}
"""Environment variables, by depth: file with weights of torchvision's ``vgg16`` or ``vgg19``."""

WIDTHS = (64, 128, 256, 512, 512)
"""Features of the five blocks; each block ends in a maximum over 2 x 2."""

CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of each block, by depth; the rest of the depth are three fully connected layers."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue in [0, 1]: what the networks expect as 0 and as 1."""


def weights_file(depth: int) -> Path | None:
    """The file that :data:`FILES` names for this depth; None where the variable is not set."""
    named = os.environ.get(FILES[depth])
    return Path(named) if named else None


def vgg(depth: int) -> nn.Sequential:
    """Convolutions of VGG-16 or VGG-19, numbered as in torchvision; weights are drawn.

    (B, 3, H, W) -> (B, 512, H // 32, W // 32). After the last ReLU of block k, counted from 0, an
    image is H // 2^k x W // 2^k.
    """
    layers: list[nn.Module] = []
    inputs = 3
    for number, width in zip(CONVOLUTIONS[depth], WIDTHS, strict=True):
        for _ in range(number):
            layers += [conv(2, inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width
        layers.append(max_pool(2))
    return nn.Sequential(*layers)


def load_vgg(depth: int, weights: str | os.PathLike[str]) -> nn.Sequential:
    """:func:`vgg` with weights from a file, which never learns.

    Args:
        depth: 16 or 19.
        weights: State dict of torchvision's ``vgg16`` or ``vgg19``, as ``.safetensors`` or
            ``.pth``: ``features.0.weight`` and so on. Other keys, as of the classifier, are not
            used. Half precision is read as float32.

    Raises:
        InputError: The file is missing or damaged, or is of a network of another depth or width or
            with batch normalisation.
    """
    path, owner = Path(weights), f"torchvision's vgg{depth}"
    state = {k: v for k, v in read_state(path, owner).items() if k.startswith("features.")}
    with torch.device("meta"):  # draws nothing: random numbers elsewhere stay what they are
        network = vgg(depth)
    names = {f"features.{name}": name for name in network.state_dict()}
    if others := [name for name in state if name not in names]:
        raise InputError(f"{path}: not of {owner}: unknown {others[0]}")
    shapes = {k: tuple(network.get_parameter(name).shape) for k, name in names.items()}
    check_state(path, state, shapes, owner)
    network.load_state_dict({name: state[k].float() for k, name in names.items()}, assign=True)
    return network.eval().requires_grad_(False)


def as_photograph(grey: Tensor) -> Tensor:
    """(B, 1, H, W) in [0, 1] -> (B, 3, H, W), repeated and normalised as photographs are."""
    mean, deviation = (grey.new_tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    return (grey.expand(-1, 3, -1, -1) - mean) / deviation


class Vgg19Features(nn.Module):
    """Features of VGG-19 up to the ReLU after conv5_4, for the perceptual loss.

    Ha et al. name the network and no layer; this one, an L1 distance and :func:`as_photograph` are
    those of the first author's earlier public code. The weights never learn, gradients pass to the
    image.
    """

    def __init__(self, weights: str | os.PathLike[str]) -> None:
        """Load the weights; see :func:`load_vgg` for the errors."""
        super().__init__()
        self.layers = load_vgg(19, weights)[:-1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) of :func:`as_photograph`, sides of 16 and more -> (B, 512, H//16, W//16)."""
        out: Tensor = self.layers(x)
        return out


def vgg16_blocks(weights: str | os.PathLike[str]) -> nn.ModuleList:
    """The five blocks of VGG-16, each up to its last ReLU, for LPIPS; they never learn.

    Called one after the other they end at ReLU 1_2, 2_2, 3_3, 4_3 and 5_3: (B, 3, H, W) ->
    (B, 64 to 512, H // 2^k, W // 2^k), k from 0 to 4. See :func:`load_vgg` for the errors.
    """
    layers = load_vgg(16, weights)
    # A block's maximum goes to the next one: what is compared is not pooled.
    ends = [end - 1 for end in accumulate(2 * n + 1 for n in CONVOLUTIONS[16])]
    spans = zip([0, *ends], ends, strict=False)
    return nn.ModuleList(layers[start:end] for start, end in spans)
