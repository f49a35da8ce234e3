"""The explorer: whatever lies below a folder, picked from menus."""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from msgan.report.catalog import Catalog, Group, Translated, catalog, grouped
from msgan.report.scores import as_html, scores_of
from msgan.types import InputError
from msgan.widgets.comparison import Comparison
from msgan.widgets.curves import Curves
from msgan.widgets.exhibits import (
    caption_of,
    comparison_of,
    kept_scales,
    scales_of,
    tiles_of,
    viewer_of,
)
from msgan.widgets.shelf import Shelf
from msgan.widgets.still import leave, sentence

VIEWS = ("compare", "scales", "tiles", "curves", "scores")
IMAGES, SCALES, TRAINING = "images: ", "scales: ", "training: "
"""How the names begin of what is no notebook's study."""

SIDE_BY_SIDE = 6
"""Images of one grid that one viewer offers."""

FAULTS = 8
"""Damaged files that are named; the rest is counted."""


def explore(folder: str | os.PathLike[str] = "reports/runs") -> Explorer:
    """Look at the runs, translations and images below a folder.

    Shown as the last line of a cell. Menus choose the run, the task, the method and the subject;
    buttons choose what is shown of it: the images compared, the scales, the tiles, the curves of
    the training, the scores. Of a folder with images alone it is the viewer.

    Args:
        folder: What the notebooks have left, or images of one's own.

    Raises:
        InputError: There is no such folder.
    """
    return Explorer(catalog(folder))


class Explorer:
    """The controls of :func:`explore`.

    Attributes:
        found: What there is.
        run: Menu of all that can be looked at.
        task: Menu.
        method: Menu.
        subject: Menu; of images: those that lie on one grid.
        view: Buttons.
        shelf: The images that are open.
        shown: The view that is shown; None where there is nothing to show.
        box: All of it, for a page.
    """

    def __init__(self, found: Catalog) -> None:
        import ipywidgets as widgets

        self.found, self.shelf = found, Shelf()
        self.shown: Any = None
        self._comparison: Comparison | None = None
        self._curves: Curves | None = None
        self._quiet = False
        self._groups: dict[str, Group] = {}
        wide = {"width": "420px"}
        self.run = widgets.Dropdown(description="run", layout=wide)
        self.task = widgets.Dropdown(description="task", layout=wide)
        self.method = widgets.Dropdown(description="method", layout=wide)
        self.subject = widgets.Dropdown(description="subject", layout=wide)
        self.view = widgets.ToggleButtons(options=VIEWS, description="view")
        for name in ("run", "task", "method", "subject", "view"):
            control = getattr(self, name)
            control.add_class(f"msgan-{name}")
            control.observe(self._turned, names="value")
        self._words = widgets.HTML()
        self._place = widgets.VBox()
        self._place.add_class("msgan-exhibit")
        self._faults = widgets.HTML(_told(found))
        menus = widgets.HBox(
            [self.run, self.task, self.method, self.subject], layout={"flex_flow": "row wrap"}
        )
        self._controls = [menus, self.view]
        parts = [*self._controls, self._place, self._words, self._faults]
        self.box = widgets.VBox(parts)
        self.box.add_class("msgan-explorer")
        if found.empty:
            menus.layout.display = self.view.layout.display = "none"
        self._offer("run", self._entries())
        self._follow("run")

    @property
    def translated(self) -> Translated | None:
        """The translation that is chosen."""
        wanted = (self.run.value, self.task.value, self.method.value, self.subject.value)
        for one in self.found.translated:
            if (one.study, one.task, one.method, one.subject) == wanted:
                return one
        return None

    @property
    def still(self) -> bytes:
        """What is shown, as one PNG; empty where there is nothing."""
        return b"" if self.shown is None else bytes(self.shown.still)

    @property
    def reading(self) -> str:
        """What is shown, in words."""
        if self.shown is None:
            return str(self._words.value).replace("<p>", "").replace("</p>", "")
        return str(self.shown.reading)

    def close(self) -> None:
        """Stop following trainings and put all images away."""
        if self._curves is not None:
            self._curves.close()
        self.shelf.keep([])
        self.box.close()

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
            self._groups = {}
            if entry.startswith(IMAGES):
                self._group(entry.removeprefix(IMAGES))
            subjects = [one.subject for one in of_method] or list(self._groups)
            self._offer("subject", subjects)
        self._show()

    def _group(self, name: str) -> None:
        (images,) = (one for one in self.found.images if one.name == name)
        groups, faults = grouped(images.paths)
        for group in groups:
            for k in range(0, len(group.paths), SIDE_BY_SIDE):
                part = group.paths[k : k + SIDE_BY_SIDE]
                shape = " x ".join(map(str, group.grid.shape))
                more = f" and {len(part) - 1} more" if len(part) > 1 else ""
                self._groups[f"{part[0].name}{more}, {shape}"] = Group(group.grid, part)
        self._faults.value = _told(self.found, faults)

    def _show(self) -> None:
        """Show what is chosen, or say in one sentence why it cannot be shown."""
        made, words, scores = None, "", ""
        try:
            made = self._exhibit()
        except (InputError, OSError) as error:
            words = f"<p>{escape(str(error))}</p>"
        if self.translated is not None and self.view.value == "scores":
            try:
                table = scores_of(self.found, self.translated)
                scores = as_html(table) if len(table) else "<p>no scores of this subject</p>"
            except (InputError, OSError) as error:
                scores = f"<p>{escape(str(error))}</p>"
        self.shown = made
        boxes = [] if made is None or (self.view.value == "scores" and scores) else [made.box]
        self._place.children = boxes
        self._words.value = scores or words

    def _exhibit(self) -> Any:
        one, entry = self.translated, self.run.value or ""
        if self.found.empty:
            raise InputError(_how(self.found.folder))
        if entry.startswith(TRAINING):
            return self._curves_of(self.found.folder / entry.removeprefix(TRAINING))
        if entry.startswith(SCALES):
            (kept,) = (k for k in self.found.kept if SCALES + k.name == entry)
            return self._fresh(kept.paths, lambda: kept_scales(kept.paths, self.shelf))
        if entry.startswith(IMAGES):
            if self.subject.value is None:
                raise InputError(f"{entry.removeprefix(IMAGES)}: no image in it can be read")
            group = self._groups[self.subject.value]
            caption = f"Images in {entry.removeprefix(IMAGES)}."
            return self._fresh(group.paths, lambda: viewer_of(group.paths, self.shelf, caption))
        if one is None:
            raise InputError("nothing is chosen")
        if self.view.value == "curves":
            if one.trace.run is None:
                raise InputError(f"{one.method} has no training curves")
            return self._curves_of(one.trace.run)
        if self.view.value == "scales":
            return self._fresh(one.scales, lambda: scales_of(one, self.shelf))
        if self.view.value == "tiles":
            return self._fresh(_files(one), lambda: tiles_of(one, self.shelf))
        # Windows, plane and place stay when another subject or method is looked at.
        self._comparison = self._fresh(
            _files(one), lambda: comparison_of(one, self.shelf, self._comparison)
        )
        return self._comparison

    def _fresh(self, paths: Any, make: Callable[[], Any]) -> Any:
        """Make a view; images that it does not show are put away."""
        made = make()
        self.shelf.keep(list(paths))
        return made

    def _curves_of(self, folder: Path) -> Curves:
        if self._curves is not None:
            if self._curves.run.folder.resolve() == folder.resolve():
                self._curves.read()
                return self._curves
            self._curves.close()
        self._curves = Curves(folder)
        return self._curves

    def _ipython_display_(self) -> None:
        one = self.translated
        text = sentence(caption_of(one) if one else str(self.run.value or ""), self.reading)
        if not self.still:
            from IPython.display import display

            display({"text/plain": self.reading, "text/html": self._words.value}, raw=True)
            if self.found.empty:
                return
            display(self.box)
            return
        leave(self.box, self.still, text)


def _files(one: Translated) -> list[Path]:
    trace = one.trace
    return [p for p in (trace.image, trace.result, trace.real, trace.labels) if p is not None]


def _how(folder: Path) -> str:
    """What fills an empty folder."""
    return (
        f"{folder}: nothing to look at yet: ./run_all.sh smoke fills reports/runs in minutes, and "
        f"msgan translate RUN IN {folder / 'result.nii.gz'} writes a translation here"
    )


def _told(found: Catalog, more: Any = ()) -> str:
    """What cannot be shown, as HTML."""
    faults = [*found.faults, *more]
    if not faults:
        return ""
    lines = [f"<li>{escape(str(fault))}</li>" for fault in faults[:FAULTS]]
    rest = f"<li>and {len(faults) - FAULTS} more</li>" if len(faults) > FAULTS else ""
    return f"<p>Cannot be shown:</p><ul>{''.join(lines)}{rest}</ul>"
