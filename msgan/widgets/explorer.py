"""The explorer: choose anything below a folder from menus."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from msgan.report.catalog import Catalog, Translated, catalog
from msgan.report.fault import Fault
from msgan.report.scores import as_html, scores_of
from msgan.report.template import CAUTION
from msgan.runs.run import Run
from msgan.types import InputError
from msgan.widgets.comparison import Comparison
from msgan.widgets.curves import Curves
from msgan.widgets.entries import EMPTY, IMAGES, SCALES, TRAININGS
from msgan.widgets.lesion import LesionEditor
from msgan.widgets.menus import Menus
from msgan.widgets.panes import Panes
from msgan.widgets.static_fallback import leave, sentence
from msgan.widgets.viewer_controls import WIDE
from msgan.widgets.views import (
    caption_of,
    comparison_of,
    kept_scales,
    renderings_of,
    scales_of,
    tiles_of,
    viewer_of,
)
from msgan.widgets.volume3d import Renderings
from msgan.widgets.volume_cache import VolumeCache

TABLE = """<style>
.msgan-scores { border-collapse: collapse; line-height: 1.5; }
.msgan-scores :is(td, th) { padding: 2px 10px; text-align: right; }
.msgan-scores .text { text-align: left; }
.msgan-scores tr.first td { border-top: 1px solid var(--jp-border-color1, #bbb); }
</style>"""

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
        menus: What is chosen; each of them is an attribute here too.
        volume_cache: The images that are open.
        shown: The view that is shown; None where there is nothing to show.
        box: All of it, for a page.
    """

    def __init__(self, found: Catalog) -> None:
        import ipywidgets as widgets

        self.found, self.volume_cache = found, VolumeCache()
        self.shown: Any = None
        self._comparison: Comparison | None = None
        self._curves: Curves | None = None
        self._lesion: tuple[Translated, LesionEditor] | None = None
        self._solid: Renderings | None = None
        self._radiological = False
        self.menus = Menus(found)
        self.menus.on_change(self._show)
        self.run, self.task = self.menus.run, self.menus.task
        self.method, self.subject = self.menus.method, self.menus.subject
        self.view = self.menus.view
        self._words = widgets.HTML(layout=WIDE)
        self._place = widgets.VBox()
        self._place.add_class("msgan-exhibit")
        self._faults = widgets.HTML(layout=WIDE)
        caution = widgets.HTML(escape(CAUTION), layout=WIDE)
        parts = [self.menus.box, self._place, self._words, self._faults, caution]
        self.box = widgets.VBox(parts)
        self.box.add_class("msgan-explorer")
        self._show()

    @property
    def static_fallback(self) -> bytes:
        """What is shown, as one PNG; empty where there is nothing."""
        return b"" if self.shown is None else bytes(self.shown.static_fallback)

    @property
    def reading(self) -> str:
        """What is shown, in words."""
        return self._note if self.shown is None else str(self.shown.reading)

    def close(self) -> None:
        """Stop following trainings and put all images away."""
        if self._curves is not None:
            self._curves.close()
        if self._lesion is not None:
            self._lesion[1].close()
        if self._solid is not None:
            self._solid.close()
        self.volume_cache.keep([])
        self.box.close()

    def _show(self) -> None:
        """Show what is chosen, or say in one sentence why it cannot be shown."""
        scores = self.view.value == "scores" and self.menus.translated is not None
        if (panes := _panes(self.shown)) is not None:
            self._radiological = panes.slices.grid.radiological
        self.shown, self._note, html = None, "", ""
        if self._solid is not None:
            self._solid.close()
            self._solid = None
        try:
            self.shown = self._exhibit()
            if (panes := _panes(self.shown)) is not None:  # whatever was shown before
                panes.turn(self._radiological)
            if scores:
                html = self._scores()
        except (InputError, OSError) as error:
            self._note = str(error)
        self._place.children = [] if scores or self.shown is None else [self.shown.box]
        self._words.value = html or f"<p>{escape(self._note)}</p>"
        self._faults.value = _told([*self.found.faults, *self.menus.faults])
        for part, said in ((self._words, html or self._note), (self._faults, self._faults.value)):
            part.layout.display = None if said else "none"

    def _scores(self) -> str:
        assert self.menus.translated is not None
        table = scores_of(self.found, self.menus.translated)
        if not len(table):
            raise InputError(f"no scores of {self.subject.value} were left")
        return TABLE + as_html(table)

    def _exhibit(self) -> Any:
        one, entry = self.menus.translated, self.menus.entry
        if entry is None:
            raise InputError(_how(self.found.folder))
        if entry.group in (TRAININGS, EMPTY):
            return self._curves_of(entry.path)
        if entry.group == SCALES:
            (kept,) = (k for k in self.found.kept if k.name == entry.place)
            return self._fresh(kept.paths, lambda: kept_scales(kept.paths, self.volume_cache))
        if entry.group == IMAGES:
            if self.subject.value is None:
                raise InputError(f"{entry.name}: no image in it can be read")
            paths = self.menus.groups[self.subject.value].paths
            caption = f"Images in {entry.path}."
            return self._fresh(paths, lambda: viewer_of(paths, self.volume_cache, caption))
        if one is None:
            raise InputError("nothing is chosen")
        if self.view.value == "curves":
            if one.provenance.run is None:
                raise InputError(f"{one.method} has no training curves")
            return self._curves_of(one.provenance.run)
        if self.view.value == "scales":
            return self._fresh(one.scales, lambda: scales_of(one, self.volume_cache))
        if self.view.value == "tiles":
            return self._fresh(_files(one), lambda: tiles_of(one, self.volume_cache))
        if self.view.value == "lesion":
            return self._editor(one)
        # Windows, plane and place stay when another subject or method is looked at.
        self._comparison = self._fresh(
            _files(one), lambda: comparison_of(one, self.volume_cache, self._comparison)
        )
        if self.view.value == "3D":
            return self._solid_of(one, self._comparison)
        return self._comparison

    def _solid_of(self, one: Translated, planes: Comparison) -> Renderings:
        """A translation in 3D; its crosshair is that of the planes."""
        made = renderings_of(one, self.volume_cache, planes)
        made.at = planes.at

        def moved(voxel: tuple[int, ...]) -> None:
            planes.at = voxel

        made.on_move(moved)
        self._solid = made
        return made

    def _editor(self, one: Translated) -> LesionEditor:
        """To draw a lesion on the source of a translation; what was drawn before is put away."""
        if one.provenance.run is None:
            raise InputError(f"{one.method} has no run, so no lesion can be drawn for it")
        if self._lesion is None or self._lesion[0] is not one:
            if self._lesion is not None:
                self._lesion[1].close()
            person = one.provenance.person
            image = {one.provenance.source or "image": one.provenance.image}
            editor = LesionEditor(Run.open(one.provenance.run), replace(person, images=image))
            self._lesion = one, editor
        return self._lesion[1]

    def _fresh(self, paths: Any, make: Callable[[], Any]) -> Any:
        """Make a view; images that it does not show are put away."""
        made = make()
        self.volume_cache.keep(list(paths))
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
        one, png = self.menus.translated, self.static_fallback
        if not png:  # a sentence needs no picture
            from IPython.display import display

            live = {} if self.found.empty else self.box._repr_mimebundle_()
            text = {"text/plain": self.reading, "text/html": f"<p>{escape(self.reading)}</p>"}
            display({**live, **text}, raw=True)
            return
        name = caption_of(one) if one else self.menus.entry.name if self.menus.entry else ""
        leave(self.box, png, sentence(name, self.reading))


def _panes(shown: Any) -> Panes | None:
    """The pictures of a view; None for curves and where nothing is shown."""
    return getattr(getattr(shown, "viewer", shown), "panes", None)


def _files(one: Translated) -> list[Path]:
    provenance = one.provenance
    return [
        p
        for p in (provenance.image, provenance.result, provenance.real, provenance.labels)
        if p is not None
    ]


def _how(folder: Path) -> str:
    """What fills an empty folder."""
    return (
        f"{folder}: nothing to look at yet: ./run_all.sh smoke fills reports/runs in minutes, and "
        f"msgan translate RUN IN {folder / 'result.nii.gz'} writes a translation here"
    )


def _told(faults: Sequence[Fault]) -> str:
    """What cannot be shown, as HTML."""
    if not faults:
        return ""
    lines = [f"<li>{escape(str(fault))}</li>" for fault in faults[:FAULTS]]
    rest = f"<li>and {len(faults) - FAULTS} more</li>" if len(faults) > FAULTS else ""
    return f"<p>Cannot be shown:</p><ul>{''.join(lines)}{rest}</ul>"
