"""The scales s0..sn of one image at the same position."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from msgan.data.grid import Grid
from msgan.types import InputError, Reader
from msgan.widgets.slices import Slices, Window, encoded
from msgan.widgets.static_fallback import leave, sentence
from msgan.widgets.viewer import Viewer


class Scales:
    """A slider through s0..sn; the crosshair stays at the same place in mm.

    Args:
        images: Reader and grid of each scale, the coarsest first; one voxel of a scale covers
            2^d of the next.
        names: Of the scales; default s0, s1 and so on.
        window: Darkest and brightest intensity, of all scales; default 0.5 and 99.5 % of the
            finest.
        unit: Of the intensities.
        caption: What to see.

    Attributes:
        scale: The slider.
        viewer: Planes of the scale.
        box: All of it, for a page.

    Raises:
        InputError: No image, or other axes in one than in the next.
    """

    def __init__(
        self,
        images: Sequence[tuple[Reader, Grid]],
        *,
        names: Sequence[str] | None = None,
        window: Window | None = None,
        unit: str = "",
        caption: str = "",
    ) -> None:
        import ipywidgets as widgets

        if not images:
            raise InputError("images: no image: expected at least one scale")
        if len({grid.dims for _, grid in images}) > 1:
            raise InputError("images: scales with different numbers of axes")
        self.grids = [grid for _, grid in images]
        self.names = list(names or (f"s{i}" for i in range(len(images))))
        self._caption = caption
        read, last = images[-1]
        if window is None:
            window = Slices({"": (read, last.shape)}, affine=last.affine).windows[""]
        self._slices = [
            Slices({name: (read, grid.shape)}, window=window, affine=grid.affine)
            for name, (read, grid) in zip(self.names, images, strict=True)
        ]
        self.scale = widgets.IntSlider(
            value=len(images) - 1, min=0, max=len(images) - 1, description="scale"
        )
        self.scale.add_class("msgan-scale")
        self._what = widgets.Label(value=self._size)
        self.viewer = Viewer(self._slices[-1], unit=unit, caption=caption)
        self.viewer.image.layout.display = "none"  # one image a scale: nothing to choose
        self._place = self._world(self.viewer.at)
        self._walking = False
        self.viewer.on_move(self._moved)
        self.scale.observe(self._walked, names="value")
        self.box = widgets.VBox([widgets.HBox([self.scale, self._what]), self.viewer.box])

    @property
    def place(self) -> tuple[float, ...]:
        """Where the crosshair is, mm; the same at every scale."""
        return tuple(float(v) for v in self._place)

    @property
    def static_fallback(self) -> bytes:
        """All scales below each other at the place shown, as one PNG."""
        from PIL import Image

        shown, sheets = self.scale.value, []
        for k in range(len(self._slices)):
            self.scale.value = k
            sheets.append(Image.open(io.BytesIO(self.viewer.static_fallback)).convert("RGB"))
        self.scale.value = shown
        whole = (max(s.width for s in sheets), sum(s.height for s in sheets))
        picture = Image.new("RGB", whole, "white")
        top = 0
        for sheet in sheets:
            picture.paste(sheet, (0, top))
            top += sheet.height
        return encoded(picture)

    @property
    def reading(self) -> str:
        """What :attr:`static_fallback` shows, in words."""
        sizes = (" x ".join(map(str, grid.shape)) for grid in self.grids)
        named = ", ".join(f"{n} ({s})" for n, s in zip(self.names, sizes, strict=True))
        return f"From top to bottom {named} voxels at one place; {self.viewer.reading}"

    @property
    def _size(self) -> str:
        grid = self.grids[self.scale.value]
        sides = " x ".join(f"{s:.3g}" for s in grid.spacing)
        shape = " x ".join(map(str, grid.shape))
        return f"{self.names[self.scale.value]}: {shape} voxels of {sides} mm"

    def _world(self, voxel: Sequence[int]) -> np.ndarray:
        affine = self.grids[self.scale.value].affine
        return affine[:-1, :-1] @ np.asarray(voxel, float) + affine[:-1, -1]

    def _moved(self, voxel: tuple[int, ...]) -> None:
        if not self._walking:  # else rounding to coarse voxels would add up
            self._place = self._world(voxel)

    def _walked(self, _: Any) -> None:
        self._walking = True
        try:
            grid = self.grids[self.scale.value]
            self._what.value = self._size
            self.viewer.set_slices(self._slices[self.scale.value])
            index = np.linalg.inv(grid.affine) @ [*self._place, 1.0]
            # A place between the middles of two voxels belongs to the one that covers it.
            nearest = np.clip(np.rint(index[:-1]), 0, np.array(grid.shape) - 1)
            self.viewer.at = tuple(int(v) for v in nearest)
        finally:
            self._walking = False

    def _ipython_display_(self) -> None:
        leave(self.box, self.static_fallback, sentence(self._caption, self.reading))
