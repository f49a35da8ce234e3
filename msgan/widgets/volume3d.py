"""A volume in 3D that can be rotated, reduced so that it fits into a page."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from msgan.types import Array, Box, InputError
from msgan.widgets.planes import Planes
from msgan.widgets.slices import Image, Slices, Window, opened
from msgan.widgets.static_fallback import leave, sentence
from msgan.widgets.viewer import Viewer


def render(
    volume: Image | str | os.PathLike[str],
    *,
    spacing: Sequence[float] | None = None,
    affine: Array | None = None,
    window: Window | None = None,
    unit: str = "",
    max_side: int = 256,
    caption: str = "",
) -> Rendering:
    """A volume drawn in 3D; drag to turn it. Shown as the last line of a cell.

    Of a large volume every second, third ... voxel is taken, slice by slice, so that memory is
    that of a slice and of ``max_side`` ^ 3 bytes. A page without a live kernel shows its planes.

    Args:
        volume: (i, j, k), or its reader and shape, or a file.
        spacing: Size of a voxel in mm along each axis; default from ``affine``, else 1.
        affine: Index -> mm (RAS); default the file's.
        window: Intensities that are clear and bright; default 0.5 and 99.5 % of what is drawn.
        unit: Of the intensities; default the file's.
        max_side: Most voxels along an axis.
        caption: What to see.

    Raises:
        InputError: Not 3 axes, ``max_side`` below 2, a spacing, affine or window that does not
            fit, or a file that cannot be read.
    """
    if max_side < 2:
        raise InputError(f"max_side {max_side}: expected at least 2")

    def drawn(image: Image, affine: Array | None, unit: str) -> Rendering:
        return _rendering(
            image,
            affine,
            unit,
            spacing=spacing,
            window=window,
            max_side=max_side,
            caption=caption,
        )

    if isinstance(volume, str | os.PathLike):
        from msgan.data.volume import open_volume

        with open_volume(volume, check=False) as file:
            own = file.grid.affine if affine is None else affine
            return drawn((file.read, file.grid.shape), own, unit or file.unit)
    return drawn(volume, affine, unit)


class Rendering:
    """What :func:`render` shows.

    Args:
        values: The reduced volume.
        slices: The same, as planes.
        step: Every how many voxels one was taken.
        unit: Of the intensities.
        caption: What to see.

    Attributes:
        step: Every how many voxels one was taken.
        box: The page's part of it, an ipyniivue widget.
    """

    def __init__(
        self, values: Array, slices: Slices, step: int, *, unit: str = "", caption: str = ""
    ) -> None:
        import nibabel as nib
        from ipyniivue import NiiVue, SliceType
        from ipyniivue import Volume as Drawn

        self.step = step
        taken = f"every voxel number {step} along each axis is drawn" if step > 1 else ""
        self._planes, self._words = Viewer(slices, unit=unit), sentence(caption, taken)
        ((low, high),) = slices.windows.values()
        shown = np.nan_to_num((values - low) * (255 / (high - low)), nan=0.0).clip(0, 255)
        affine = slices.grid.affine
        usual = np.diag([*slices.spacing, 1.0]) if affine is None else affine
        image = nib.Nifti1Image(shown.astype(np.uint8), usual)
        drawn = Drawn(data=image.to_bytes(), name="volume.nii", cal_min=0, cal_max=255)
        drawn.colorbar_visible = False  # of bytes, which mean nothing
        self.box = NiiVue(height=400, slice_type=SliceType.RENDER)
        self.box.load_volumes([drawn])

    @property
    def static_fallback(self) -> bytes:
        """The planes through the middle, in one PNG."""
        return self._planes.static_fallback

    def _ipython_display_(self) -> None:
        leave(self.box, self.static_fallback, f"{self._words} {self._planes.reading}.".strip())


def _rendering(
    volume: Image,
    affine: Array | None,
    unit: str,
    *,
    spacing: Sequence[float] | None,
    window: Window | None,
    max_side: int,
    caption: str,
) -> Rendering:
    _, shape = opened(volume)
    if len(shape) != 3:
        raise InputError(f"volume of shape {shape}: expected 3 axes")
    grid = Planes.of(shape, spacing, affine, "volume")
    step = -(-max(shape) // max_side)
    values = reduced(volume, step)
    coarse = None if grid.affine is None else grid.affine @ np.diag([step, step, step, 1])
    sizes = [step * s for s in grid.spacing]
    slices = Slices({"volume": values}, sizes, window, affine=coarse)
    return Rendering(values, slices, step, unit=unit, caption=caption)


def reduced(volume: Image, step: int) -> Array:
    """Every ``step``-th voxel of a volume along each axis, read slice by slice; float32."""
    read, shape = opened(volume)
    out = np.empty([-(-n // step) for n in shape], np.float32)
    for k in range(out.shape[2]):
        box = Box((0, 0, k * step), (*shape[:2], 1))
        out[..., k] = read(box)[::step, ::step, 0]
    return out
