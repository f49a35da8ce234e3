"""One scale by itself: what tiles leave in an image, apart from what lower scales did."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from msgan import patches, pyramid
from msgan.patches import HighGenerator
from msgan.types import Array, InputError, Reader, read_padded

BACKGROUND = -1.0


def refine(
    generator: nn.Module,
    sketch: Reader,
    context: Reader,
    shape: Sequence[int],
    folder: str | os.PathLike[str],
    *,
    tile: int,
    shift: int = 0,
) -> Reader:
    """The image at s_i made tile by tile from a given image at s_(i-1).

    Args:
        generator: Of s_i, a :class:`msgan.patches.HighGenerator`; computes where its weights are.
        sketch: At s_i, (C, *box).
        context: The image at s_(i-1), in [-1, 1].
        shape: Of s_i, even sides.
        folder: The result is kept in a store below it.
        tile: Side of a tile, even; a family of fixed patch size has its own.
        shift: The first tile begins this many voxels before the image, even. The image stays
            where it is, so a generator whose tiles join exactly gives the same for any shift.

    Returns:
        A reader of the result in [-1, 1].

    Raises:
        InputError: ``shift`` is negative or odd: voxels of s_(i-1) would be cut in two.
    """
    if shift < 0 or shift % 2:
        raise InputError(f"shift {shift}: expected an even number of voxels, 0 or more")
    geometry: HighGenerator = generator  # type: ignore[assignment]
    device = next(generator.parameters()).device
    full = tuple(shape)
    coarse = tuple(n // 2 for n in full)
    store = pyramid.Store.create(os.path.join(folder, f"tile{tile}-shift{shift}.zarr"), full)
    moved = tuple(n + shift for n in full)
    with torch.inference_mode():
        for cut in patches.grid(geometry, moved, tile):
            own = cut.sketch.shifted((-shift,) * len(full))
            seen = read_padded(sketch, full, own, 0.0)
            below = cut.context.shifted((-shift // 2,) * len(full))
            around = read_padded(context, coarse, below, BACKGROUND)
            made = generator(_tensor(seen, device), _tensor(around[None], device))
            detail = cut.detail.shifted((-shift,) * len(full))
            inside = cut.core.shifted((-shift,) * len(full)).clipped(full)
            if inside.voxels:
                part = made[0, 0].clamp(-1, 1).float().cpu().numpy()
                store.write(inside, part[inside.inside(detail).slices])
    return store.read


def _tensor(values: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None].to(device)
