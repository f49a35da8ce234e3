"""What a generator sees of sketch and context to make one tile, and how tiles become an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from msgan.types import Box, Shape, trailing


class HighGenerator(Protocol):
    """What the cascade asks of a generator of scale s_i: the geometry of one call, in voxels.

    An output patch starts and ends at even voxels of s_i, so that its context is a box of voxels.

    Attributes:
        halo: Sketch needed around the output patch, on the grid of s_i.
        context_halo: Context needed around the output patch, on the grid of s_(i-1).
        rim: What is thrown away on every side of the output, because padding has touched it.
        tile_exact: Whether any tiling gives the result of the whole image.
        patch: The only output side the family runs at, or None where it is free.
    """

    halo: int
    context_halo: int
    rim: int
    tile_exact: bool
    patch: int | None

    def __call__(self, sketch: Tensor, context: Tensor) -> Tensor:
        """Sketch and context of one patch -> the patch, its rim included."""
        ...


@dataclass(frozen=True)
class Cut:
    """The boxes of one call of a generator of scale s_i.

    Attributes:
        core: What is kept of the output, on the grid of s_i.
        detail: What comes out: the core and its rim.
        sketch: What is needed of the sketch, on the grid of s_i.
        context: What is needed of the image at s_(i-1), on its grid.
    """

    core: Box
    detail: Box
    sketch: Box
    context: Box

    @classmethod
    def of(cls, generator: HighGenerator, core: Box) -> Cut:
        """The cut that makes ``core``.

        Raises:
            ValueError: The output would not start and end at even voxels, or the family runs at
                one size only and this is another.
        """
        detail = core.grown(generator.rim)
        if any(n % 2 for n in (*detail.start, *detail.size)):
            raise ValueError(f"{detail} does not start and end at even voxels")
        if generator.patch is not None and set(detail.size) != {generator.patch}:
            raise ValueError(f"{detail} is not a patch of side {generator.patch}")
        return cls(
            core,
            detail,
            detail.grown(generator.halo),
            detail.coarse(2).grown(generator.context_halo),
        )


def grid(generator: HighGenerator, shape: Sequence[int], tile: int) -> Iterator[Cut]:
    """Cuts whose cores cover an image of ``shape`` once, without overlap (section 2.2).

    Args:
        generator: Decides the side of a core where it runs at one size only.
        shape: Of s_i, even sides. Cores of a family of free size end with the image; those of a
            fixed size may reach beyond it.
        tile: Side of a core where it is free; even.

    Raises:
        ValueError: A side of ``shape`` or ``tile`` is odd.
    """
    if tile % 2 or any(n % 2 for n in shape):
        raise ValueError(f"tile {tile} and shape {tuple(shape)} must be even")
    if generator.patch is None:
        cores = Box.whole(shape).tiles((tile,) * len(shape))
    else:
        side = generator.patch - 2 * generator.rim
        rounded = tuple(-(-n // side) * side for n in shape)
        cores = Box.whole(rounded).tiles((side,) * len(shape))
    return (Cut.of(generator, core) for core in cores)


def crop_padded(image: Tensor, box: Box, fill: float) -> Tensor:
    """Cut ``box`` out of (..., *spatial); what lies outside is ``fill``."""
    shape: Shape = tuple(image.shape[image.ndim - box.dims :])
    inside = box.clipped(shape)
    part = image[trailing(inside.slices)]
    if inside == box:
        return part
    out = torch.full(
        (*image.shape[: image.ndim - box.dims], *box.size),
        fill,
        dtype=image.dtype,
        device=image.device,
    )
    if inside.voxels:
        out[trailing(inside.inside(box).slices)] = part
    return out
