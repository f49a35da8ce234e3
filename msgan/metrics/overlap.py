"""Dice coefficient: how far two segmentations overlap.

2 |F and R| / (|F| + |R|) of the voxels that carry a label in one image and in the other. Ha et al.
compare segmentations of translated and of real images by it (section 3.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from msgan.metrics.errors import check_pair
from msgan.metrics.structure import BLOCK, reader_of
from msgan.types import Array, Box, InputError, Reader

Name = TypeVar("Name")


def dice(found: Array, real: Array, *, labels: Sequence[int] | None = None) -> float:
    """Dice coefficient of two label images in memory, of shape (i, j) or (i, j, k); 0 to 1.

    Args:
        found: Integer or bool, 0 is background.
        real: Likewise, on the same grid.
        labels: Those that belong to the structure; default: all but 0.

    Returns:
        1 where both are empty.

    Raises:
        InputError: Shapes that differ or have not 2 or 3 axes, or no labels.

    Example:
        >>> dice(np.array([[1, 2, 0]]), np.array([[1, 1, 1]]))
        0.8
        >>> dice(np.array([[1, 2, 0]]), np.array([[1, 1, 1]]), labels=[1])
        0.5
    """
    if found.shape != real.shape:
        raise InputError(f"labels of shape {found.shape} and {real.shape}: expected the same shape")
    structures = {None: labels}
    return dice_of(reader_of(found), reader_of(real), real.shape, structures)[None]


def dice_of(
    read_found: Reader,
    read_real: Reader,
    shape: Sequence[int],
    structures: Mapping[Name, Sequence[int] | None],
    *,
    block: Sequence[int] | None = None,
) -> dict[Name, float]:
    """:func:`dice` of several structures in images of any size, read once, block by block.

    Args:
        read_found: Reads a box of one label image.
        read_real: Reads a box of the other.
        shape: Shape of both.
        structures: Name to the labels that belong to it, such as ``{"core": (1, 4)}``; they may
            overlap. None: all but 0.
        block: Voxels read at a time along each axis; default 112^3 or 1024^2.

    Returns:
        Dice by name, 1 where neither image has the structure.

    Raises:
        InputError: A shape has not 2 or 3 axes, or a structure has no label.
    """
    shape = tuple(int(n) for n in shape)
    check_pair(shape, shape, None)
    for name, labels in structures.items():
        if labels is not None and len(labels) == 0:
            raise InputError(f"{name}: no labels: expected at least one")
    both = dict.fromkeys(structures, 0)
    either = dict.fromkeys(structures, 0)
    for box in Box.whole(shape).tiles(block or (BLOCK[len(shape)],) * len(shape)):
        found, real = read_found(box), read_real(box)
        if not found.shape == real.shape == box.size:
            raise InputError(
                f"reader: arrays of shape {found.shape}, {real.shape} for a box of size {box.size}"
            )
        for name, labels in structures.items():
            f, r = _carries(found, labels), _carries(real, labels)
            both[name] += int((f & r).sum())
            either[name] += int(f.sum()) + int(r.sum())
    return {name: 2 * both[name] / n if n else 1.0 for name, n in either.items()}


def _carries(image: Array, labels: Sequence[int] | None) -> Array:
    return image != 0 if labels is None else np.isin(image, labels)
