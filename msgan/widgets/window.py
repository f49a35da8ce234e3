"""The intensity window of a view: presets, and a custom range."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgan.widgets.slices import Slices, Window

HU = {"lung": (-1350.0, 150.0), "soft tissue": (-160.0, 240.0), "bone": (-500.0, 1300.0)}
"""Windows of CT, offered where the unit is HU."""

USUAL, GIVEN, OWN = "percentiles 0.5 to 99.5", "as given", "own range"


@dataclass
class _Choice:
    """What is chosen for one group of images, and from what."""

    presets: dict[str, Window]
    name: str
    window: Window
    symmetric: bool


class WindowControl:
    """A menu of presets and a slider for the range; each group of images has its own window.

    Attributes:
        preset: The menu.
        range: The slider.
        box: Both.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        import ipywidgets as widgets

        self.preset = widgets.Dropdown(description="window", layout={"width": "300px"})
        self.range = widgets.FloatRangeSlider(continuous_update=True, layout={"width": "420px"})
        self.range.description = "range"
        self.box = widgets.HBox([self.preset, self.range], layout={"flex_flow": "row wrap"})
        self.preset.observe(self._chosen, names="value")
        self.range.observe(self._moved, names="value")
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
        for title, group in self._groups.items():
            if group in self._choices:
                continue
            usual = {GIVEN if title in slices.given else USUAL: slices.windows[title]}
            symmetric = title in slices.diverging
            presets = usual | (HU if units.get(title) == "HU" and not symmetric else {})
            old, name = before.get(group), next(iter(usual))
            if old and old.name == OWN:
                self._choices[group] = _Choice(presets, OWN, old.window, symmetric)
                continue
            name = old.name if old and old.name in presets else name
            self._choices[group] = _Choice(presets, name, presets[name], symmetric)
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

    def _sync(self) -> None:
        choice, self._quiet = self._choices[self._current], True
        windows = [*choice.presets.values(), choice.window]
        low, high = min(w[0] for w in windows), max(w[1] for w in windows)
        room = (high - low) / 2
        # As one message: a page that knows the new ends and the old steps would round the window
        # to those, and report that as a range somebody has chosen.
        with self.range.hold_sync():
            # Never an empty range between two assignments: traitlets refuse it.
            self.range.min = min(self.range.min, low - room)
            self.range.max = high + room
            self.range.min = low - room
            self.range.step = (high - low) / 500
            # The page computes in shares of the track: as many digits as are true, and 0 is 0.
            digits = max(0, 3 - math.ceil(math.log10(high - low)))
            self.range.readout_format = f".{digits}f"
            self.range.value = choice.window
        self.preset.options = [*choice.presets, OWN]
        self.preset.value = choice.name
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
        if not low < high:
            return  # both ends on one value: nothing could be told apart
        choice.name, choice.window = OWN, (float(low), float(high))
        self._quiet = True
        self.preset.value = OWN
        if choice.symmetric:
            self.range.value = choice.window
        self._quiet = False
        self._changed()
