"""Checks that the physical size of an image is plausible."""

from __future__ import annotations

from msgan.data.grid import Grid

SMALLEST_MM = 1.0
LARGEST_MM = 10_000.0
"""The longest side of an image is between these: a body in metres, or in micrometres, is not."""

UNEVEN = 200.0
"""Of spacings along axes with several voxels, the largest by the smallest: thick slices are not,
but slices in metres beside pixels in mm are."""


def uneven(grid: Grid) -> str:
    """A remark on spacings of which one is in another unit than the others; else empty."""
    used = [s for n, s in zip(grid.shape, grid.spacing, strict=True) if n > 1]
    if not used or max(used) < UNEVEN * min(used):
        return ""
    spacing = " x ".join(f"{s:.3g}" for s in grid.spacing)
    return f"voxels of {spacing} mm: one of these may be off by a thousand"


def implausible(grid: Grid, measured: bool = False) -> str:
    """What is wrong with the size of an image; empty where nothing is.

    Where every spacing is 1, a header may say nothing of the size of a voxel (pictures,
    radiographs), so nothing is concluded.

    Args:
        grid: Of the image.
        measured: Whether its file states a unit of length other than mm.
    """
    sides = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
    longest = max(sides)
    if SMALLEST_MM <= longest <= LARGEST_MM or set(grid.spacing) == {1.0}:
        return ""
    spacing = " x ".join(f"{s:.3g}" for s in grid.spacing)
    kind, unit = ("small", "metres") if longest < SMALLEST_MM else ("large", "micrometres")
    size = f"{longest:.3g} mm" if longest < LARGEST_MM else f"{longest / 1000:.3g} m"
    guess = "its unit of length may be wrong" if measured else f"its header seems to be in {unit}"
    return f"voxels of {spacing} mm make the image {size} long, too {kind} for a body: {guess}"
