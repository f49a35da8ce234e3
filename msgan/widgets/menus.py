"""Menus for the entries of a catalog: run, task, method, subject, and view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgan.report.catalog import Catalog, Translated
from msgan.report.fault import Fault
from msgan.report.images import Group, grouped

VIEWS = ("compare", "scales", "tiles", "curves", "scores", "lesion")
IMAGES, SCALES, TRAINING = "images: ", "scales: ", "training: "
"""How the names begin of what is no notebook's study."""

SIDE_BY_SIDE = 6
"""Images of one grid that one viewer offers."""


class Menus:
    """What can be chosen, and what is.

    Each menu offers what there is under the choices before it, and keeps its choice where that is
    offered again.

    Attributes:
        run: Menu of all that can be looked at.
        task: Menu.
        method: Menu.
        subject: Menu; of images: those that lie on one grid.
        view: Buttons.
        groups: Images that can be shown side by side, by their name in the menu.
        faults: Which images of the folder that is chosen cannot be read.
        box: All of it, for a page.
    """

    def __init__(self, found: Catalog) -> None:
        import ipywidgets as widgets

        self.found = found
        self.groups: dict[str, Group] = {}
        self.faults: tuple[Fault, ...] = ()
        self._quiet = False
        self._listeners: list[Callable[[], None]] = []
        wide = {"width": "420px"}
        self.run = widgets.Dropdown(description="run", layout=wide)
        self.task = widgets.Dropdown(description="task", layout=wide)
        self.method = widgets.Dropdown(description="method", layout=wide)
        self.subject = widgets.Dropdown(description="subject", layout=wide)
        self.view = widgets.ToggleButtons(options=VIEWS, description="show")
        for name in ("run", "task", "method", "subject", "view"):
            control = getattr(self, name)
            control.add_class(f"msgan-{name}")
            control.observe(self._turned, names="value")
        row = [self.run, self.task, self.method, self.subject]
        self.box = widgets.VBox(
            [widgets.HBox(row, layout={"flex_flow": "row wrap"}), self.view],
            layout={"display": "none" if found.empty else None},
        )
        self._offer("run", self._entries())
        self._follow("run")

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever something else is chosen."""
        self._listeners.append(listener)

    @property
    def translated(self) -> Translated | None:
        """The translation that is chosen."""
        wanted = (self.run.value, self.task.value, self.method.value, self.subject.value)
        for one in self.found.translated:
            if (one.study, one.task, one.method, one.name) == wanted:
                return one
        return None

    def _entries(self) -> list[str]:
        found = self.found
        studies = dict.fromkeys(one.study for one in found.translated)
        return [
            *studies,
            *(TRAINING + one.name for one in found.runs),
            *(SCALES + one.name for one in found.kept),
            *(IMAGES + one.name for one in found.images),
        ]

    def _offer(self, name: str, options: list[str]) -> None:
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
        entry = self.run.value or ""
        all_of = [one for one in self.found.translated if one.study == entry]
        if name == "run":
            self._offer("task", list(dict.fromkeys(one.task for one in all_of)))
            self.view.layout.display = None if all_of else "none"
        if name in ("run", "task"):
            of_task = [one for one in all_of if one.task == self.task.value]
            self._offer("method", list(dict.fromkeys(one.method for one in of_task)))
        if name in ("run", "task", "method"):
            of_method = [
                one
                for one in all_of
                if (one.task, one.method) == (self.task.value, self.method.value)
            ]
            self.groups, self.faults = {}, ()
            if entry.startswith(IMAGES):
                self._group(entry.removeprefix(IMAGES))
            subjects = [one.name for one in of_method] or list(self.groups)
            self._offer("subject", subjects)
        self._tell()

    def _group(self, name: str) -> None:
        (images,) = (one for one in self.found.images if one.name == name)
        groups, faults = grouped(images.paths)
        for group in groups:
            for k in range(0, len(group.paths), SIDE_BY_SIDE):
                part = group.paths[k : k + SIDE_BY_SIDE]
                shape = " x ".join(map(str, group.grid.shape))
                more = f" and {len(part) - 1} more" if len(part) > 1 else ""
                self.groups[f"{part[0].name}{more}, {shape}"] = Group(group.grid, part)
        self.faults = tuple(faults)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
