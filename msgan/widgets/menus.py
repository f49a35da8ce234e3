"""Menus for the entries of a catalog: what to look at, task, method, subject, and view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgan.report.catalog import Catalog, Translated
from msgan.report.fault import Fault
from msgan.report.images import Group, grouped
from msgan.widgets.choice import choice, offer
from msgan.widgets.entries import GROUPS, IMAGES, MINE, STUDIES, Entry, entries
from msgan.widgets.views import views_of

SIDE_BY_SIDE = 6
"""Images of one grid that one viewer offers."""


class Menus:
    """What can be chosen, and what is.

    Each menu offers what there is under the choices before it, and keeps its choice where that is
    offered again.

    Attributes:
        entries: All that can be looked at, by its key.
        run: Menu of these; it is searched by typing.
        task: Menu.
        method: Menu.
        subject: Menu; of images: those that lie on one grid.
        view: Buttons: what there is of the translation.
        groups: Images that can be shown side by side, by their name in the menu.
        faults: Which images of the folder that is chosen cannot be read.
        box: All of it, for a page.
    """

    def __init__(self, found: Catalog) -> None:
        import ipywidgets as widgets

        self.found = found
        self.entries: dict[str, Entry] = {one.key: one for one in entries(found)}
        self.groups: dict[str, Group] = {}
        self.faults: tuple[Fault, ...] = ()
        self._quiet = False
        self._listeners: list[Callable[[], None]] = []
        self.run = choice("what to look at")
        self.task = widgets.Dropdown(description="task", layout={"width": "160px"})
        self.method = widgets.Dropdown(description="method", layout={"width": "240px"})
        self.subject = widgets.Dropdown(description="subject", layout={"width": "230px"})
        for menu in (self.task, self.method, self.subject):
            menu.style.description_width = "52px"
        self.view = widgets.ToggleButtons(style={"button_width": "auto"})
        for name in ("run", "task", "method", "subject", "view"):
            control = getattr(self, name)
            control.add_class(f"msgan-{name}")
            control.observe(self._turned, names="value")
        row = [self.task, self.method, self.subject, self.view]
        wrap = {"flex_flow": "row wrap", "align_items": "center"}
        self.box = widgets.VBox(
            [self.run, widgets.HBox(row, layout=wrap)],
            layout={"display": "none" if found.empty else None, "overflow": "visible"},
        )
        self._quiet = True
        offer(self.run, [(group, _lines(self.entries, group)) for group in GROUPS])
        self._quiet = False
        self._follow("run")

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever something else is chosen."""
        self._listeners.append(listener)

    @property
    def entry(self) -> Entry | None:
        """What is chosen to look at; None where there is nothing."""
        return self.entries.get(self.run.value or "")

    @property
    def translated(self) -> Translated | None:
        """The translation that is chosen."""
        wanted = (self.task.value, self.method.value, self.subject.value)
        for one in self._translated():
            if (one.task, one.method, one.name) == wanted:
                return one
        return None

    def _translated(self) -> list[Translated]:
        """The translations of the entry that is chosen."""
        entry = self.entry
        if entry is None or entry.group not in (STUDIES, MINE):
            return []
        return [one for one in self.found.translated if one.study == entry.place]

    def _offer(self, name: str, options: Sequence[str]) -> None:
        """Fill a menu; what is chosen stays where it is offered."""
        control = getattr(self, name)
        self._quiet = True
        chosen = control.value if control.value in options else next(iter(options), None)
        control.options = options
        control.value = chosen
        control.layout.display = None if options else "none"
        self._quiet = False

    def _turned(self, change: Any) -> None:
        if not self._quiet:
            names = ("run", "task", "method", "subject", "view")
            self._follow(next(n for n in names if getattr(self, n) is change["owner"]))

    def _follow(self, name: str) -> None:
        """Fill the menus that depend on the one that has changed, and show what is chosen."""
        own = self._translated()
        if name == "run":
            self._offer("task", list(dict.fromkeys(one.task for one in own)))
        if name in ("run", "task"):
            own = [one for one in own if one.task == self.task.value]
            self._offer("method", list(dict.fromkeys(one.method for one in own)))
        if name in ("run", "task", "method"):
            wanted = (self.task.value, self.method.value)
            own = [one for one in own if (one.task, one.method) == wanted]
            self.groups, self.faults = {}, ()
            if self.entry is not None and self.entry.group == IMAGES:
                self._group(self.entry.place)
            self._offer("subject", [one.name for one in own] or list(self.groups))
            self.subject.description = "images" if self.groups else "subject"
            if len(self.groups) == 1:  # nothing to choose
                self.subject.layout.display = "none"
        if name != "view":
            one = self.translated
            self._offer("view", [] if one is None else views_of(self.found, one))
        for listener in self._listeners:
            listener()

    def _group(self, name: str) -> None:
        (images,) = (one for one in self.found.images if one.name == name)
        groups, faults = grouped(images.paths)
        for group in groups:
            for k in range(0, len(group.paths), SIDE_BY_SIDE):
                part = group.paths[k : k + SIDE_BY_SIDE]
                shape = " x ".join(map(str, group.grid.shape))
                more = f" and {len(part) - 1} more" if len(part) > 1 else ""
                self.groups[f"{shape}: {part[0].name}{more}"] = Group(group.grid, part)
        self.faults = tuple(faults)


def _lines(all_of: dict[str, Entry], group: str) -> list[tuple[str, str, str]]:
    return [(key, one.name, one.detail) for key, one in all_of.items() if one.group == group]
