"""The intensity window of a view: presets, a range of one's own, and the colour map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgan.widgets.colours import DIFFERENCE, MAPS
from msgan.widgets.slices import Slices, Window, decimals

HU = {"lung": (-1350.0, 150.0), "soft tissue": (-160.0, 240.0), "bone": (-500.0, 1300.0)}
"""Windows of CT, offered where the unit is HU."""

USUAL, WHOLE, GIVEN = "0.5 to 99.5 %", "min to max", "as given"
OWN = "custom"
"""What the menu says of a range that somebody has set; it cannot be chosen."""


@dataclass
class _Choice:
    """What is chosen for one group of images, and from what."""

    presets: dict[str, Window]
    name: str
    window: Window
    symmetric: bool
    colours: str


class WindowControl:
    """Presets, range and colour map; each group of images has its own.

    Attributes:
        preset: The menu of windows.
        range: The slider.
        low: The intensity shown darkest, as a number.
        high: The intensity shown brightest.
        colours: The menu of colour maps.
        box: All of them.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        import ipywidgets as widgets

        self.preset = widgets.Dropdown(description="window", layout={"width": "175px"})
        self.range = widgets.FloatRangeSlider(
            continuous_update=True, readout=False, layout={"width": "125px"}
        )
        number = {"width": "68px"}
        self.low = widgets.FloatText(tooltip="darkest", layout=number)
        self.high = widgets.FloatText(tooltip="brightest", layout=number)
        for name, field in (("low", self.low), ("high", self.high)):
            field.add_class(f"msgan-{name}")
        self.colours = widgets.Dropdown(description="colours", layout={"width": "160px"})
        self.preset.style.description_width = self.colours.style.description_width = "55px"
        # Together, where the row is broken.
        ends = widgets.HBox([self.low, self.range, self.high], layout={"align_items": "center"})
        row = [self.preset, ends, self.colours]
        self.box = widgets.HBox(row, layout={"display": "contents"})  # wraps with what is beside it
        self.preset.observe(self._chosen, names="value")
        self.range.observe(self._moved, names="value")
        self.colours.observe(self._coloured, names="value")
        for field in (self.low, self.high):
            field.observe(self._typed, names="value")
        self._changed = changed
        self._groups: dict[str, str] = {}
        self._choices: dict[str, _Choice] = {}
        self._current = ""
        self._quiet = False

    def follow(
        self, slices: Slices, units: Mapping[str, str], groups: Mapping[str, str] | None = None
    ) -> None:
        """Offer windows for these images; what was chosen for a group of this name stays.

        Args:
            slices: The images.
            units: Title -> unit of the intensities.
            groups: Title -> name of the group that shares a window; default each its own.
        """
        before, self._choices = self._choices, {}
        self._groups = dict(groups or {title: title for title in slices.titles})
        # The last of a group decides: of a translation and the real image the latter.
        for group, title in {group: title for title, group in self._groups.items()}.items():
            symmetric = title in slices.diverging
            presets = {GIVEN if title in slices.given else USUAL: slices.windows[title]}
            if title in slices.extremes and not symmetric:
                presets[WHOLE] = slices.extremes[title]
            if units.get(title) == "HU" and not symmetric:
                presets |= HU
            old, name = before.get(group), next(iter(presets))
            colours = DIFFERENCE if symmetric else old.colours if old else MAPS[0]
            if old and old.name == OWN:
                self._choices[group] = _Choice(presets, OWN, old.window, symmetric, colours)
                continue
            name = old.name if old and old.name in presets else name
            self._choices[group] = _Choice(presets, name, presets[name], symmetric, colours)
        if self._current not in self._choices:
            self._current = next(iter(self._choices))
        self._sync()

    def edit(self, title: str) -> None:
        """Show the window of this image's group in the controls."""
        self._current = self._groups[title]
        self._sync()

    def of(self, title: str) -> Window:
        """The window of an image."""
        return self._choices[self._groups[title]].window

    def group(self, title: str) -> str:
        """Name of the group of an image, all of which share a window."""
        return self._groups[title]

    def colours_of(self, title: str) -> str:
        """The colour map of an image."""
        return self._choices[self._groups[title]].colours

    def _sync(self) -> None:
        choice, self._quiet = self._choices[self._current], True
        windows = [*choice.presets.values(), choice.window]
        low, high = min(w[0] for w in windows), max(w[1] for w in windows)
        room = (high - low) / 4
        # As one message: a page that knows the new ends and the old steps would round the window
        # to those, and report that as a range somebody has chosen.
        with self.range.hold_sync():
            # Never an empty range between two assignments: traitlets refuse it.
            self.range.min = min(self.range.min, low - room)
            self.range.max = high + room
            self.range.min = low - room
            self.range.step = (high - low) / 500
            self.range.value = choice.window
        self._quiet = False
        self._write()

    def _write(self) -> None:
        """Show the window in the controls; the ends of the slider stay while it is dragged."""
        choice, self._quiet = self._choices[self._current], True
        digits = decimals(choice.window)
        self.low.value, self.high.value = (round(v, digits) for v in choice.window)
        custom = [OWN] if choice.name == OWN else []
        self.preset.options = [*choice.presets, *custom]
        self.preset.value = choice.name
        self.colours.options = [DIFFERENCE] if choice.symmetric else MAPS
        self.colours.value = choice.colours
        self._quiet = False

    def _chosen(self, change: Any) -> None:
        choice = self._choices[self._current]
        if self._quiet or change["new"] is None:
            return
        choice.name = change["new"]
        if choice.name in choice.presets:
            choice.window = choice.presets[choice.name]
            self._sync()
            self._changed()

    def _moved(self, change: Any) -> None:
        if self._quiet:
            return
        choice, (low, high) = self._choices[self._current], change["new"]
        half = 0.51 * self.range.step
        if all(abs(a - b) < half for a, b in zip((low, high), choice.window, strict=True)):
            return  # a page rounds what it shows to steps, and says so
        if choice.symmetric:  # white stays at zero
            most = max(abs(v) for v in (low, high) if v not in change["old"]) or 1.0
            low, high = -most, most
        self._set((float(low), float(high)))
        self._write()
        if choice.symmetric:
            self._quiet = True
            self.range.value = choice.window
            self._quiet = False

    def _typed(self, change: Any) -> None:
        if self._quiet:
            return
        low, high = self.low.value, self.high.value
        if self._choices[self._current].symmetric:
            low, high = -abs(change["new"]), abs(change["new"])
        self._set((float(low), float(high)))
        self._sync()

    def _set(self, window: Window) -> None:
        """Take a range of somebody's own; both ends on one value tell nothing apart."""
        choice = self._choices[self._current]
        if window[0] < window[1]:
            choice.name, choice.window = OWN, window
            self._changed()

    def _coloured(self, change: Any) -> None:
        if not self._quiet:
            self._choices[self._current].colours = change["new"]
            self._changed()
