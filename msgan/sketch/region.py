"""The sketch of one region: the table of channels, and the overlay of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msgan.config import SketchConfig
from msgan.sketch import descriptors, edges, filters
from msgan.types import InputError

BACKGROUND = -1.0


@dataclass(frozen=True)
class Channel:
    """What one name in ``SketchConfig.channels`` stands for."""

    write: Callable[[Tensor, Tensor, SketchConfig], None]
    count: Callable[[int], int]
    halo: Callable[[SketchConfig], int]
    directed: bool = False  # two channels for each axis, one looking up and one down
    image: int = 0  # drawn from the image itself, or from the one that comes after it

    @property
    def drawn(self) -> bool:
        """Whether it is a sketch, and not an image itself."""
        return self.write is not descriptors.itself


CHANNELS: dict[str, Channel] = {
    "edges": Channel(edges.edges, lambda dims: 1, edges.halo),
    "self_similarity": Channel(
        descriptors.self_similarity,
        lambda dims: 2 * dims,
        descriptors.self_similarity_halo,
        directed=True,
    ),
    "ridges": Channel(descriptors.ridges, lambda dims: 1, descriptors.ridges_halo),
    "image": Channel(descriptors.itself, lambda dims: 1, descriptors.image_halo),
    "auto_context": Channel(descriptors.itself, lambda dims: 1, descriptors.image_halo, image=1),
}
"""Name -> how it is made, its channels in that many dimensions, voxels it needs around."""


def halo(config: SketchConfig) -> int:
    """Voxels of image needed on every side of a region to sketch it."""
    return max(CHANNELS[name].halo(config) for name in config.channels)


def channels(config: SketchConfig, dims: int | None = None) -> int:
    """Channels of a sketch.

    Args:
        config: names the channels.
        dims: axes of the image; needed where a channel's number depends on them.

    Raises:
        InputError: a name is unknown, or the number depends on ``dims`` and ``dims`` is None.
    """
    counts = {d: sum(CHANNELS[name].count(d) for name in config.channels) for d in (2, 3)}
    if dims is None and counts[2] != counts[3]:
        raise InputError(f"sketch channels {config.channels}: their number depends on dims")
    return counts[3 if dims is None else dims]


def images(config: SketchConfig) -> int:
    """Images a sketch is drawn from: 2 with the channel ``auto_context``, else 1."""
    return 1 + max(CHANNELS[name].image for name in config.channels)


# Worker threads are not in a caller's inference mode and could not write to its tensors.
@torch.inference_mode(False)
@torch.no_grad()
def sketch(image: Tensor, config: SketchConfig) -> Tensor:
    """Sketch a region (extended paper, section 2.2).

    Nothing is padded and nothing depends on where the region was cut: any tiling of an image
    gives the values of the whole.

    Args:
        image: (batch, ``images(config)``, *spatial) in [-1, 1], with ``halo(config)`` voxels
            around the region.
        config: channels and their parameters.

    Returns:
        (batch, channels, *(spatial - 2 halo)) in [0, 1], float32, on the image's device.

    Raises:
        InputError: ``image`` has the wrong axes or is not larger than twice the halo.
    """
    if image.ndim not in (4, 5) or image.shape[1] != images(config):
        raise InputError(
            f"image to sketch has shape {tuple(image.shape)}: expected (batch, {images(config)}, *)"
        )
    dims, margin = image.ndim - 2, halo(config)
    core = tuple(n - 2 * margin for n in image.shape[2:])
    if min(core) < 1:
        raise InputError(
            f"image to sketch has shape {tuple(image.shape)}: the halo alone takes {2 * margin}"
        )
    plain = [part.to(torch.float32).contiguous() for part in image.unbind(1)]
    out = plain[0].new_empty((image.shape[0], channels(config, dims), *core))
    first = 0
    for channel in map(CHANNELS.__getitem__, config.channels):
        count = channel.count(dims)
        own = filters.crop(plain[channel.image], margin - channel.halo(config))
        channel.write(own, out[:, first : first + count], config)
        first += count
    return out


def overlay(sketch: Tensor, labels: Tensor, values: Sequence[int]) -> Tensor:
    """Draw pathology labels over a sketch, strictly (extended paper, sections 2.2 and 3.2.2).

    Inside a label the first channel is the label's grey value and the others are 0: nothing of
    the source's appearance is left there. The k-th of n labels has the grey value
    (256 k / n - 1) / 255, which for four labels are the first author's 63, 127, 191 and 255.

    Args:
        sketch: (batch, channels, *spatial) in [0, 1]; it is not changed.
        labels: (batch, 1, *spatial) of whole numbers, 0 where nothing is.
        values: the labels that may occur, in order, e.g. (1, 2, 4) for BraTS.

    Raises:
        InputError: the shapes differ, or a label that is not in ``values`` occurs.
    """
    if labels.shape != (sketch.shape[0], 1, *sketch.shape[2:]):
        raise InputError(
            f"labels have shape {tuple(labels.shape)}, the sketch {tuple(sketch.shape)}"
        )
    left = labels != 0
    out = sketch.masked_fill(left, 0.0)
    for k, value in enumerate(values, 1):
        inside = labels == value
        out[:, :1].masked_fill_(inside, (256 * k / len(values) - 1) / 255)
        left &= ~inside
    if left.any():
        raise InputError(f"label {labels[left][0].item():g} is none of {tuple(values)}")
    return out


def mirror(sketch: Tensor, axis: int, config: SketchConfig) -> Tensor:
    """The sketch of the mirrored image, from that of the image.

    Args:
        sketch: (batch, channels, *spatial).
        axis: spatial axis that is reversed.
        config: channels the sketch was made with; some look in a direction.
    """
    dims = sketch.ndim - 2
    order: list[int] = []
    for channel in map(CHANNELS.__getitem__, config.channels):
        own = list(range(channel.count(dims)))
        if channel.directed:
            own[2 * axis], own[2 * axis + 1] = own[2 * axis + 1], own[2 * axis]
        first = len(order)
        order += [first + k for k in own]
    return sketch[:, order].flip(2 + axis)
