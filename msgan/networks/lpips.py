"""LPIPS, learned perceptual image patch similarity (Zhang et al., 2018), version 0.1 with VGG-16.

Features of both images after the last ReLU of each of VGG-16's blocks are divided by their length
over the channels; their squared differences, weighted by a linear head for each block, are added
over channels, averaged over positions and added over blocks (their eq. 1):

    d = sum_k mean_xy sum_c w_kc (f_kc(x, y) / |f_k(x, y)| - r_kc(x, y) / |r_k(x, y)|)^2.

VGG-16 comes from a local file (:mod:`msgan.networks.vgg`). The heads, by the authors of LPIPS
(BSD-2-Clause), are a file in the wheel of torchmetrics (extra ``perceptual``), which is read
without importing it: its own LPIPS needs torchvision, and fetches VGG-16 from the web.

How slices of an image of any size are compared is :func:`msgan.metrics.lpips_of`.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from msgan.networks.vgg import FILES, WIDTHS, vgg16_blocks, weights_file
from msgan.networks.weights import check_state, read_state
from msgan.paths import sha256
from msgan.types import Array, InputError

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of red, green and blue in [-1, 1]: subtracted, and divided by, as the heads were trained."""

HEADS = Path("functional", "image", "lpips_models", "vgg.pth")
"""File with the heads in torchmetrics."""

EPSILON = 1e-10
"""Added to the length of features, which may be 0; as in the authors' code."""


class Lpips(nn.Module):
    """Compares two grey images by their features.

    Attributes:
        reach: How far from a voxel features of it still depend on others, voxels, rounded up to a
            multiple of ``stride``.
        stride: A feature of the last block stands for as many voxels a side.
        label: What it is, and of which file; for captions.
    """

    # The convolutions of block k reach 2^k each: 2 + 2 * 2 + 3 * 4 + 3 * 8 + 3 * 16 = 90.
    reach = 96
    stride = 16

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        heads: str | os.PathLike[str] | None = None,
    ) -> None:
        """Load both files.

        Args:
            weights: Of torchvision's ``vgg16``; default: what ``MSGAN_VGG16`` names.
            heads: Linear heads of version 0.1 for VGG: ``lin0.model.1.weight`` and so on; default:
                those in the installed torchmetrics.

        Raises:
            InputError: There is no such file, or one is damaged or of another layout.
        """
        super().__init__()
        path = Path(weights) if weights is not None else weights_file(16)
        if path is None:
            raise InputError(
                f"LPIPS needs the weights of torchvision's vgg16: expected {FILES[16]} to name "
                "their file; nothing is downloaded"
            )
        self.blocks = vgg16_blocks(path)
        for k, head in enumerate(_heads(Path(heads) if heads is not None else _shipped_heads())):
            self.register_buffer(f"head{k}", head)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))
        self.label = f"LPIPS 0.1, VGG-16 of torchvision, {path.name} (sha256 {sha256(path)[:12]})"

    def forward(self, fake: Tensor, real: Tensor) -> list[Tensor]:
        """Weighted squared differences of the features, position by position.

        Args:
            fake: (B, 1, H, W) in [-1, 1], sides of 16 and more.
            real: Likewise.

        Returns:
            Five of (B, H // 2^k, W // 2^k), k from 0 to 4; LPIPS is the sum of their means.
        """
        f, r = (self._photograph(grey) for grey in (fake, real))
        found = []
        for k, block in enumerate(self.blocks):
            f, r = block(f), block(r)
            apart = (_unit(f) - _unit(r)).square_().mul_(self.get_buffer(f"head{k}"))
            found.append(apart.sum(1))
        return found

    def maps(self, fake: Array, real: Array) -> list[Array]:
        """:meth:`forward` of (B, H, W) float32 in memory."""
        device = self.get_buffer("shift").device
        both = (torch.from_numpy(image)[:, None].to(device) for image in (fake, real))
        with torch.inference_mode():
            return [found.cpu().numpy() for found in self(*both)]

    def _photograph(self, grey: Tensor) -> Tensor:
        return (grey.expand(-1, 3, -1, -1) - self.get_buffer("shift")) / self.get_buffer("scale")


def _unit(features: Tensor) -> Tensor:
    """Of length 1 over the channels."""
    return features / (features.norm(dim=1, keepdim=True) + EPSILON)


def _shipped_heads() -> Path:
    """The file in torchmetrics, which is not imported: it takes seconds and much memory."""
    found = find_spec("torchmetrics")
    if found is None or found.origin is None:
        raise InputError(
            "LPIPS needs its linear heads, which are in torchmetrics: pip install "
            "'msgan[perceptual]'"
        )
    return Path(found.origin).parent / HEADS


def _heads(path: Path) -> list[Tensor]:
    """One (1, C, 1, 1) float32 a block."""
    owner = "the linear heads of LPIPS 0.1 for VGG"
    state = read_state(path, owner)
    expected = {f"lin{k}.model.1.weight": (1, width, 1, 1) for k, width in enumerate(WIDTHS)}
    check_state(path, state, expected, owner)
    return [state[name].float() for name in expected]
