"""Controls for position and display of planes: slice sliders, overlays, the readout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgan.widgets.panes import Panes
from msgan.widgets.slices import decimals


class PlaceControl:
    """A slider for each plane, the overlays' switches and opacity, and what lies at a voxel.

    The voxel is that under the cursor, and that under the crosshair while the cursor is elsewhere.

    Attributes:
        sliders: Plane -> slider of its slices.
        overlay: Whether overlays are drawn.
        layers: Name of an overlay -> its own switch, where there are several.
        opacity: How strongly.
        box: The sliders.
        over: The overlays' controls.
    """

    def __init__(self, panes: Panes, units: Mapping[str, str]) -> None:
        import ipywidgets as widgets

        self._panes, self._quiet = panes, False
        self.units = dict(units)
        self.sliders = {
            plane: widgets.IntSlider(description=plane, min=0, layout={"width": "190px"})
            for plane in ("axial", "coronal", "sagittal")
        }
        for slider in self.sliders.values():
            slider.style.description_width = "58px"
        wrap = {"flex_flow": "row wrap", "align_items": "center"}
        self.box = widgets.HBox([*self.sliders.values()], layout=wrap)
        narrow = {"width": "auto", "margin": "2px 8px 2px 12px"}
        self.overlay = widgets.Checkbox(
            value=True, description="overlay", indent=False, layout=narrow
        )
        self.opacity = widgets.FloatSlider(
            value=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="opacity of the overlay",
            readout_format=".0%",
            layout={"width": "130px"},
        )
        self.layers: dict[str, Any] = {}
        self._layers = widgets.HBox(layout=wrap)
        self.over = widgets.HBox([self.overlay, self._layers, self.opacity], layout=wrap)
        for plane, slider in self.sliders.items():
            slider.observe(lambda change, p=plane: self._slid(p, change["new"]), names="value")
        for control in (self.overlay, self.opacity):
            control.observe(self._laid, names="value")
        panes.on_move(lambda _: self._moved())
        panes.on_hover(lambda at: panes.canvas.tell(self.text if at is None else self.text_at(at)))
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
        self._offer(slices.overlays if len(slices.overlays) > 1 else ())
        self._panes.opacity = self._opacity
        self._moved()

    @property
    def text(self) -> str:
        """What lies under the crosshair, in words."""
        return self.text_at(self._panes.at)

    def text_at(self, at: Sequence[int]) -> str:
        """What lies at a voxel: its place, the intensities with their units, the overlays."""
        slices = self._panes.slices
        names = "voxel (i, j, k)" if len(at) == 3 else "pixel (row, column)"
        words = [f"{names} = ({', '.join(map(str, at))})"]
        position = slices.grid.position(at)
        if position is not None:
            words.append(f"at {', '.join(f'{v:.1f}' for v in position)} mm")
        for title in slices.titles:
            digits = decimals(slices.windows[title])
            value = f"{slices.value(title, at):.{digits}f}"
            words.append(f"{title} {value} {self.units[title] or 'a.u.'}")
        words += [f"{name} {slices.laid(name, at):.3g}" for name in slices.overlays]
        return "; ".join(words)

    @property
    def _opacity(self) -> float:
        on = self.overlay.value and self._panes.slices.overlays
        return float(self.opacity.value) if on else 0.0

    def _offer(self, names: Sequence[str]) -> None:
        """A switch for each of several overlays; what was hidden stays hidden."""
        import ipywidgets as widgets

        if names != tuple(self.layers):
            hidden = {name for name, switch in self.layers.items() if not switch.value}
            self.layers = {
                name: widgets.ToggleButton(
                    value=name not in hidden, description=name, layout={"width": "auto"}
                )
                for name in names
            }
            for switch in self.layers.values():
                switch.observe(self._laid, names="value")
            self._layers.children = [*self.layers.values()]
        self._hide()

    def _hide(self) -> None:
        hidden = {name for name, switch in self.layers.items() if not switch.value}
        self._panes.slices.hidden = hidden

    def _slid(self, plane: str, index: int) -> None:
        if not self._quiet:
            self._panes.move(plane, index)

    def _laid(self, _: Any) -> None:
        self._hide()
        self._panes.opacity = self._opacity
        self._panes.draw()

    def _moved(self) -> None:
        panes, self._quiet = self._panes, True
        if len(panes.at) == 3:
            for plane, slider in self.sliders.items():
                slider.value = panes.slices.grid.index(plane, panes.at)
        self._quiet = False
        panes.canvas.tell(self.text)


def units_of(unit: str | Mapping[str, str], titles: tuple[str, ...]) -> dict[str, str]:
    """Title -> unit, of one unit for all or of some by title."""
    given = unit if isinstance(unit, Mapping) else dict.fromkeys(titles, unit)
    return {title: given.get(title, "") for title in titles}
