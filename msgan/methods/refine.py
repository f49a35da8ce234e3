"""One scale by itself: what tiles leave in an image, apart from what lower scales did."""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgan import pyramid
from msgan.networks import inference
from msgan.networks.generator import Generator
from msgan.sketch import DrawnSketch, SketchReader
from msgan.translate.scale import ImageSource, TiledScale, make, sources
from msgan.translate.scratch import chunk
from msgan.types import InputError, Reader


def refine(
    generator: Generator,
    sketch: Reader | SketchReader,
    context: Reader,
    shape: Sequence[int],
    folder: str | os.PathLike[str],
    *,
    tile: int | Sequence[int],
    shift: int = 0,
    source: Reader | None = None,
) -> Reader:
    """The image at s_i made tile by tile from a given image at s_(i-1).

    Args:
        generator: Of s_i; computes where its weights are.
        sketch: At s_i, (C, *box).
        context: The image at s_(i-1), in [-1, 1].
        shape: Of s_i, even sides.
        folder: The result is kept in a store below it.
        tile: Side of a tile, or one for each axis, even; of a family of fixed patch size a
            multiple of what it keeps.
        shift: The first tile begins this many voxels before the image, even. The image stays
            where it is, so a generator whose tiles join exactly gives the same for any shift.
        source: The source itself at s_i, in [-1, 1], for generators that read it
            (``guidance.detail``); beyond it lies background.

    Returns:
        A reader of the result in [-1, 1].

    Raises:
        InputError: ``shift`` is negative, odd (voxels of s_(i-1) would be cut in two) or not
            smaller than ``tile``; or the generator reads the source, which is not given.
    """
    full = tuple(shape)
    side = (tile,) * len(full) if isinstance(tile, int) else tuple(tile)
    if shift < 0 or shift % 2 or shift >= min(side):
        raise InputError(f"shift {shift}: expected an even number of voxels, 0 to {min(side) - 1}")
    device = next(generator.parameters()).device
    drawn = sketch if isinstance(sketch, SketchReader) else DrawnSketch(sketch, full, device)
    ready = inference.optimised(generator, device)
    around = ImageSource(context, tuple(n // 2 for n in full), device)
    guide = ImageSource(source, full, device) if source is not None else None
    reads = sources(ready.geometry, drawn, around, guide)
    scale = TiledScale(ready, reads, full, side, device, shift=shift)
    path = os.path.join(folder, f"tile{'x'.join(map(str, side))}-shift{shift}.zarr")
    store = pyramid.Store.create(path, full, chunk=chunk(side))
    for _, box, values in make(scale, range(len(scale))):
        store.write(box, values)
    return store.read
