"""Volumes in 3D that can be rotated, reduced so that they fit into a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from msgan.types import Array, Box, InputError
from msgan.widgets.panes import Panes
from msgan.widgets.planes import Planes
from msgan.widgets.slices import Image, Slices, Window, opened
from msgan.widgets.static_fallback import leave, sentence
from msgan.widgets.viewer import Viewer

WHOLE = "whole"
"""Nothing is cut away."""

UNCUT = 2.0
"""Depth at which NiiVue cuts nothing: it counts in shares of the volume, from its middle."""

HELP = (
    "Drag to turn all of them, turn the wheel to zoom one; a click moves the crosshair that the "
    "cut goes through, here and in compare."
)

TOWARDS = {"sagittal": (90, 0), "coronal": (180, 0), "axial": (0, 90)}
"""Azimuth and elevation in degrees that a plane is cut away towards: right, front, top."""


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
        self.step = step
        taken = _taken(step)
        self._planes, self._words = Viewer(slices, unit=unit), sentence(caption, taken)
        (window,) = slices.windows.values()
        self.box = _niivue(values, slices.grid, 1, window)

    @property
    def static_fallback(self) -> bytes:
        """The planes through the middle, in one PNG."""
        return self._planes.static_fallback

    def _ipython_display_(self) -> None:
        leave(self.box, self.static_fallback, f"{self._words} {self._planes.reading}.".strip())


class Renderings:
    """Volumes of one grid in 3D, beside each other: turned, cut and pointed at together.

    Args:
        images: Title -> reader and shape, 3D.
        affine: Index -> mm (RAS) of all.
        units: Title -> unit of its intensities.
        windows: Title -> intensities that are clear and bright; default 0.5 and 99.5 %.
        max_side: Most voxels of one along an axis; of more, every second, third ... is drawn.
        caption: What to see.

    Attributes:
        step: Every how many voxels one was taken.
        volumes: Title -> its part of the page, an ipyniivue widget.
        cut: Buttons: the plane through the crosshair that what lies before it is cut away at.
        box: All of it, for a page.

    Raises:
        InputError: No image, or not 3 axes.
    """

    def __init__(
        self,
        images: Mapping[str, Image],
        *,
        affine: Array | None = None,
        units: Mapping[str, str] | None = None,
        windows: Mapping[str, Window] | None = None,
        max_side: int = 128,
        caption: str = "",
    ) -> None:
        import ipywidgets as widgets

        self._grid = grid = _grid_of(next(iter(images.values()), None), None, affine)
        self.step = step = -(-max(grid.shape) // max_side)
        slices = Slices(images, None, windows, affine=affine)
        self._planes = Viewer(slices, unit=dict(units or {}))
        self._words = sentence(caption, _taken(step))
        self.volumes = {
            title: _niivue(reduced(image, step), grid, step, slices.windows[title])
            for title, image in images.items()
        }
        for shown in self.volumes.values():
            others = [other for other in self.volumes.values() if other is not shown]
            shown.broadcast_to(others, {"3d": True})
            shown.on_location_change(self._pointed)
        self.cut = widgets.ToggleButtons(options=[WHOLE, *TOWARDS], style={"button_width": "auto"})
        self.cut.observe(lambda _: self._draw(), names="value")
        columns = [
            widgets.VBox(
                [widgets.HTML(f"<b>{escape(title)}</b>"), shown],
                layout={"flex": "1 1 260px", "min_width": "0"},
            )
            for title, shown in self.volumes.items()
        ]
        row = widgets.HBox(columns, layout={"flex_flow": "row wrap"})
        above = widgets.HBox([widgets.Label("cut"), self.cut])
        self.box = widgets.VBox([above, row, widgets.HTML(f"<small>{escape(HELP)}</small>")])
        self.box.add_class("msgan-solid")
        self._planes.on_move(lambda _: self._draw())
        self._draw()

    @property
    def panes(self) -> Panes:
        """The planes of the still picture."""
        return self._planes.panes

    @property
    def at(self) -> tuple[int, ...]:
        """The voxel under the crosshair, through which is cut.

        Raises:
            InputError: It is set to what is outside the images.
        """
        return self._planes.at

    @at.setter
    def at(self, voxel: Sequence[int]) -> None:
        self._planes.at = tuple(voxel)

    def on_move(self, listener: Callable[[tuple[int, ...]], None]) -> None:
        """Call ``listener`` with the voxel whenever the crosshair has moved."""
        self._planes.on_move(listener)

    @property
    def reading(self) -> str:
        """What is shown, in words."""
        return self._planes.reading

    @property
    def static_fallback(self) -> bytes:
        """The planes through the crosshair, in one PNG."""
        return self._planes.static_fallback

    def close(self) -> None:
        """Take it off the page; what the page holds of the volumes is given back."""
        for shown in self.volumes.values():
            shown.close()
        self.box.close()

    def _pointed(self, location: Mapping[str, Any]) -> None:
        """A click in one of them."""
        affine = self._grid.affine
        affine = np.diag([*self._grid.spacing, 1.0]) if affine is None else affine
        found = np.linalg.solve(affine, [*location["mm"][:3], 1.0])[:3]
        last = np.array(self._grid.shape) - 1
        self.at = tuple(int(v) for v in np.rint(found).clip(0, last))

    def _draw(self) -> None:
        """Cut and point where the crosshair is."""
        shares = self._grid.shares(self.at)
        plane = self.cut.value
        depth, (azimuth, elevation) = UNCUT, (0, 0)
        if plane != WHOLE:
            depth, (azimuth, elevation) = shares[[*TOWARDS].index(plane)] - 0.5, TOWARDS[plane]
        for shown in self.volumes.values():
            shown.scene.crosshair_pos = list(shares)
            shown.set_clip_plane(depth, azimuth, elevation)

    def _ipython_display_(self) -> None:
        leave(self.box, self.static_fallback, f"{self._words} {self.reading}.".strip())


def _niivue(values: Array, grid: Planes, step: int, window: Window) -> Any:
    """An ipyniivue widget that draws every ``step``-th voxel of a grid in 3D."""
    import nibabel as nib
    from ipyniivue import NiiVue, SliceType
    from ipyniivue import Volume as Drawn

    low, high = window
    shown = np.nan_to_num((values - low) * (255 / (high - low)), nan=0.0).clip(0, 255)
    affine = np.diag([*grid.spacing, 1.0]) if grid.affine is None else grid.affine
    affine = affine @ np.diag([step, step, step, 1.0])
    image = nib.Nifti1Image(shown.astype(np.uint8), affine)
    drawn = Drawn(data=image.to_bytes(), name="volume.nii", cal_min=0, cal_max=255)
    drawn.colorbar_visible = False  # of bytes, which mean nothing
    made = NiiVue(height=400, slice_type=SliceType.RENDER, is_orient_cube=True)
    made.set_clip_plane_color((0, 0, 0, 0))  # what is cut is seen, not the knife
    made.load_volumes([drawn])
    return made


def _taken(step: int) -> str:
    return f"every voxel number {step} along each axis is drawn" if step > 1 else ""


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
    grid = _grid_of(volume, spacing, affine)
    step = -(-max(grid.shape) // max_side)
    values = reduced(volume, step)
    coarse = None if grid.affine is None else grid.affine @ np.diag([step, step, step, 1])
    sizes = [step * s for s in grid.spacing]
    slices = Slices({"volume": values}, sizes, window, affine=coarse)
    return Rendering(values, slices, step, unit=unit, caption=caption)


def _grid_of(volume: Image | None, spacing: Sequence[float] | None, affine: Array | None) -> Planes:
    """The planes of a volume.

    Raises:
        InputError: There is none, or it has not 3 axes.
    """
    if volume is None:
        raise InputError("images: none: expected at least one")
    _, shape = opened(volume)
    if len(shape) != 3:
        raise InputError(f"volume of shape {shape}: expected 3 axes")
    return Planes.of(shape, spacing, affine, "volume")


def reduced(volume: Image, step: int) -> Array:
    """Every ``step``-th voxel of a volume along each axis, read slice by slice; float32."""
    read, shape = opened(volume)
    out = np.empty([-(-n // step) for n in shape], np.float32)
    for k in range(out.shape[2]):
        box = Box((0, 0, k * step), (*shape[:2], 1))
        out[..., k] = read(box)[::step, ::step, 0]
    return out
