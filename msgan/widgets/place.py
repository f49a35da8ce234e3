"""Controls for position and display of planes: slice sliders, overlays, the readout."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from msgan.widgets.panes import Panes


class PlaceControl:
    """A slider for each plane, the overlay's switch and opacity, and what lies at the crosshair.

    Attributes:
        sliders: Plane -> slider of its slices.
        overlay: Whether labels and sketch are drawn.
        opacity: How strongly.
        box: The sliders.
        over: The overlay's controls.
        readout: The voxel under the crosshair: index, mm, intensities.
    """

    def __init__(self, panes: Panes, units: Mapping[str, str]) -> None:
        import ipywidgets as widgets

        self._panes, self._quiet = panes, False
        self.units = dict(units)
        wide = {"width": "270px"}
        self.sliders = {
            plane: widgets.IntSlider(description=plane, min=0, layout=wide)
            for plane in ("axial", "coronal", "sagittal")
        }
        self.box = widgets.HBox([*self.sliders.values()], layout={"flex_flow": "row wrap"})
        self.overlay = widgets.Checkbox(value=True, description="overlay", indent=False)
        self.opacity = widgets.FloatSlider(
            value=0.5, min=0.0, max=1.0, step=0.05, description="opacity", layout=wide
        )
        self.over = widgets.HBox([self.overlay, self.opacity])
        self.readout = widgets.HTML(layout={"width": "100%", "margin": "0 4px"})
        for plane, slider in self.sliders.items():
            slider.observe(lambda change, p=plane: self._slid(p, change["new"]), names="value")
        for control in (self.overlay, self.opacity):
            control.observe(self._laid, names="value")
        panes.on_move(lambda _: self._moved())
        self.follow()

    def follow(self, units: Mapping[str, str] | None = None) -> None:
        """Fit the controls to the images of the panes."""
        self.units = self.units if units is None else dict(units)
        slices = self._panes.slices
        flat = len(slices.shape) == 2
        self.box.layout.display = "none" if flat else None
        self.over.layout.display = None if slices.overlays else "none"
        self._quiet = True
        for plane in () if flat else slices.planes:
            self.sliders[plane].max = slices.slices(plane) - 1
        self._quiet = False
        self._panes.opacity = self._opacity
        self._moved()

    @property
    def text(self) -> str:
        """What lies under the crosshair, in words."""
        slices, at = self._panes.slices, self._panes.at
        names = "i, j, k" if len(at) == 3 else "row, column"
        words = [f"voxel ({names}) = ({', '.join(map(str, at))})"]
        position = slices.grid.position(at)
        if position is not None:
            words.append(f"at {', '.join(f'{v:.1f}' for v in position)} mm")
        for title in slices.titles:
            words.append(f"{title} {slices.value(title, at):.4g} {self.units[title] or 'a.u.'}")
        words += [f"{name} {slices.laid(name, at):.3g}" for name in slices.overlays]
        return "; ".join(words)

    @property
    def _opacity(self) -> float:
        on = self.overlay.value and self._panes.slices.overlays
        return float(self.opacity.value) if on else 0.0

    def _slid(self, plane: str, index: int) -> None:
        if not self._quiet:
            self._panes.move(plane, index)

    def _laid(self, _: Any) -> None:
        self._panes.opacity = self._opacity
        self._panes.draw()

    def _moved(self) -> None:
        panes, self._quiet = self._panes, True
        if len(panes.at) == 3:
            for plane, slider in self.sliders.items():
                slider.value = panes.slices.grid.index(plane, panes.at)
        self._quiet = False
        self.readout.value = escape(self.text)


def units_of(unit: str | Mapping[str, str], titles: tuple[str, ...]) -> dict[str, str]:
    """Title -> unit, of one unit for all or of some by title."""
    given = unit if isinstance(unit, Mapping) else dict.fromkeys(titles, unit)
    return {title: given.get(title, "") for title in titles}
