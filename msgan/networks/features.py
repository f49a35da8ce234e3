"""Networks that turn images into feature vectors, for distances between sets of images.

A Fréchet distance means something only beside others of the same extractor. Each says in
``label`` what its distances may be compared with.
"""

from __future__ import annotations

import hashlib
import os
from math import sqrt
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msgan.networks.layers import conv, mean_pool
from msgan.networks.weights import read_state
from msgan.paths import sha256
from msgan.types import Array, InputError


class Extractor(Protocol):
    """What features are taken with.

    Attributes:
        dims: 3 takes patches of a volume, 2 patches of an image or of slices across axis 2.
        size: Features of one patch.
        side: Of a patch, voxels; None takes a 2D image or slice as a whole.
        label: What it is, and what its distances may be compared with; for captions.
    """

    dims: int
    size: int
    side: int | None
    label: str

    def __call__(self, patches: Tensor) -> Tensor:
        """(B, 1, *spatial) in [-1, 1] -> (B, size)."""
        ...


WIDTHS = (16, 32, 64)
"""Features of the levels of :class:`SeededFeatures`; each sees twice as far as the one before."""

HASHES = {
    2: "0bd5fa850d326f4bd06dcc363882dda49891b80a5c7e1b0eff2a4a83864e548f",
    3: "0930d243165ecadcad67289685166056908e18dbcefe38f502778a36bc427ea7",
}
"""SHA-256 of the weights of seed 0: those of any machine and of any version of NumPy."""


class SeededFeatures(nn.Module):
    """A fixed network with random weights: needs no file, knows nothing of any kind of image.

    Three levels of convolution and ReLU, halved between them; the features are the means of each
    level over the patch. Filters of the first level see contrast only, but for one that sees
    brightness. Random filters tell textures apart, and noise and blur above all, but not what a
    person sees in a picture.

    Differs: the 2019 paper takes features of an Inception network (section 3.2); this network's
    distances are not comparable with published values.
    """

    def __init__(self, dims: int, *, seed: int = 0, side: int = 16) -> None:
        """Draw the weights.

        Args:
            dims: 2 or 3.
            seed: Names the network; distances of different seeds do not compare.
            side: Of a patch, voxels, at least 8.

        Raises:
            InputError: Other dims, or a patch too small for the levels.
        """
        super().__init__()
        if dims not in (2, 3) or side < 8:
            raise InputError(f"features of dims {dims}, side {side}: expected 2 or 3, at least 8")
        self.dims, self.size = dims, sum(WIDTHS)
        self.side: int | None = side
        self.label = f"seeded {dims}D network (seed {seed}), not comparable with published values"
        self.pool: nn.Module = mean_pool(dims)
        stream = np.random.PCG64(seed)
        self.levels = nn.ModuleList()
        for inputs, outputs in zip((1, *WIDTHS), WIDTHS, strict=False):
            level: Any = conv(dims, inputs, outputs, 3)
            shape = tuple(level.weight.shape)
            weight = _weights(stream, shape, first=inputs == 1)
            level.weight = nn.Parameter(torch.from_numpy(weight), requires_grad=False)
            level.bias = None
            self.levels.append(level)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, 1, *spatial) in [-1, 1] -> (B, 112)."""
        x = (patches + 1) / 2
        found = []
        for k, level in enumerate(self.levels):
            if k:
                x = self.pool(x)
            # Continued as at its border, the patch has no edge there that it does not have.
            x = F.relu(level(F.pad(x, [1, 1] * self.dims, mode="replicate")))
            found.append(x.flatten(2).mean(2))
        return torch.cat(found, 1)

    def weights_hash(self) -> str:
        """SHA-256 of the weights, little-endian float32 in their order."""
        digest = hashlib.sha256()
        for weight in self.levels.parameters():
            digest.update(weight.cpu().numpy().astype("<f4").tobytes())
        return digest.hexdigest()


def _weights(stream: np.random.PCG64, shape: tuple[int, ...], *, first: bool) -> Array:
    """Uniform weights from the bits of a generator, the same on every machine.

    NumPy promises the bits of a bit generator, not what it makes of them; and integers add up to
    the same sum in any order.
    """
    outputs, rest = shape[0], int(np.prod(shape[1:]))
    bits = stream.random_raw(outputs * rest) >> np.uint64(48)
    values = bits.astype(np.int64).reshape(outputs, rest) - (1 << 15)
    scale = sqrt(6 / rest) / (1 << 15)  # keeps the size of what passes a ReLU (He et al., 2015)
    if first:
        values = values * rest - values.sum(1, keepdims=True)
        weights = values * (scale / rest)
        weights[0] = 1 / rest
    else:
        weights = values * scale
    return weights.reshape(shape).astype(np.float32)


def extractors(dims: int) -> list[Extractor]:
    """What there is to take features of images with ``dims`` axes with.

    The seeded network always; Inception-v3 where the environment variable :data:`INCEPTION` names
    a file with its weights.

    Raises:
        InputError: That file, or torchvision, cannot be used.
    """
    found: list[Extractor] = [SeededFeatures(dims)]
    if weights := os.environ.get(INCEPTION):
        found.append(InceptionFeatures(weights))
    return found


INCEPTION = "MSGAN_INCEPTION"
"""Environment variable: file with weights of torchvision's ``inception_v3``."""

INCEPTION_SIDE = 299
INCEPTION_SIZE = 2048


class InceptionFeatures(nn.Module):
    """The last pooled features of Inception-v3 (2048 of an image), with weights from a file.

    Whole images or axial slices, grey repeated as three colours, resized to 299 x 299
    (bilinear, without aliasing), in [-1, 1] as the network was trained.

    Conventions differ, and so do the distances. Most published ones are of the TensorFlow network
    of 2015, whose pooling differs from torchvision's; its weights are refused here. The 2019 paper
    does not say which it took, nor of which slices. The features are of photographs.
    """

    def __init__(self, weights: str | os.PathLike[str]) -> None:
        """Build the network and load it.

        Args:
            weights: State dict of torchvision's ``inception_v3``, as ``.safetensors`` or as
                ``.pth``, of which tensors only are read.

        Raises:
            InputError: torchvision or the file is missing, or the file does not fit.
        """
        super().__init__()
        path = Path(weights)
        state = read_state(path, "Inception-v3")
        if tuple(state.get("fc.weight", torch.empty(0)).shape) == (1008, INCEPTION_SIZE):
            raise InputError(f"{path}: TensorFlow's weights of 2015: expected those of torchvision")
        network = _inception()
        used = {k: v for k, v in state.items() if not k.startswith(("fc.", "AuxLogits."))}
        network.fc = nn.Identity()
        try:
            network.load_state_dict(used)
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise InputError(f"{path}: not of torchvision's inception_v3: {first}") from None
        self.network = network.eval().requires_grad_(False)
        self.dims, self.size = 2, INCEPTION_SIZE
        self.side: int | None = None
        self.label = f"Inception-v3 of torchvision, {path.name} (sha256 {sha256(path)[:12]})"

    def train(self, mode: bool = True) -> InceptionFeatures:
        """Stay as it is: statistics of a batch would make features depend on their neighbours."""
        return super().train(False)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, 1, rows, columns) in [-1, 1] -> (B, 2048)."""
        size = (INCEPTION_SIDE, INCEPTION_SIDE)
        x = F.interpolate(patches, size, mode="bilinear", align_corners=False, antialias=True)
        out: Tensor = self.network(x.expand(-1, 3, -1, -1))
        return out


def _inception() -> Any:
    """torchvision's network without weights, its auxiliary output and its own normalisation."""
    try:
        from torchvision.models import inception_v3
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        reason = str(error).splitlines()[0]
        raise InputError(
            f"torchvision cannot be imported ({reason}): pip install 'msgan[inception]'"
        ) from None
    return inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=False)
