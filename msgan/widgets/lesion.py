"""Draw a lesion and see it translated: figures 9 and 10 of the extended paper, by hand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from msgan.data.subject import Subject
from msgan.runs.run import Run
from msgan.studies.painted import ERASED, PaintedLesion
from msgan.translate import translate
from msgan.types import InputError
from msgan.widgets.compare import compared
from msgan.widgets.comparison import Comparison, Names
from msgan.widgets.slices import Slices
from msgan.widgets.static_fallback import leave, sentence
from msgan.widgets.viewer import Viewer
from msgan.widgets.viewer_controls import WIDE
from msgan.widgets.volume_cache import VolumeCache

LOOK, PAINT, ERASE = "look", "paint", "erase"
"""What a click does."""

NAMES: Names = ("source", "with the lesion", "without")
"""Titles of what is compared."""

LARGEST = 40.0
"""Radius of the brush, mm."""

STEP = 1.0
"""By how much a lesion grows or shrinks at a time, mm."""

FAINT = 0.25
"""Opacity of the mask over what is compared: what was drawn there is to be seen."""

HELP = (
    "Choose paint and click or drag in a plane: each touch is a ball of the brush's radius, in all "
    "three dimensions. Then translate."
)


def draw_lesion(
    run: Run,
    image: str | os.PathLike[str] | Subject,
    out: str | os.PathLike[str] | None = None,
    *,
    modality: str | None = None,
    device: str = "auto",
) -> LesionEditor:
    """Paint a lesion on an image, translate the image with and without it, and compare.

    The lesion is drawn over the sketch, as in the extended paper, section 3.2.2; inside it nothing
    of the source is used. Shown as the last line of a cell.

    Args:
        run: Trained with labels.
        image: A file, or a subject with one image.
        out: Folder for masks and translations; None: they are removed when it is closed.
        modality: What the image shows, as ``t1``; a subject says it itself.
        device: See :func:`msgan.translate.translate`.

    Raises:
        InputError: The run has learnt no labels, or the image cannot be read.
    """
    if not isinstance(image, Subject):
        image = Subject(Path(image).name.split(".")[0], {modality or "image": Path(image)})
    return LesionEditor(run, image, out, device=device)


class LesionEditor:
    """The controls of :func:`draw_lesion`.

    Attributes:
        lesion: What is painted.
        tool: Buttons: what a click does.
        label: Menu, the value that is painted.
        radius: Slider, of the brush, mm.
        buttons: ``place`` (a ball at the crosshair), ``grow``, ``shrink``, ``undo``, ``clear``,
            ``translate``.
        viewer: The source with the lesion over it.
        comparison: Source, and the translations with and without it; None before the first.
        folder: Where masks and translations are.
        box: All of it, for a page.
    """

    def __init__(
        self,
        run: Run,
        subject: Subject,
        out: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
    ) -> None:
        import ipywidgets as widgets

        if not run.config.labels:
            raise InputError(f"{run.folder}: has learnt no labels, so no lesion can be drawn")
        (self._modality, path), *others = subject.images.items()
        if others:
            raise InputError(f"{subject.name}: {len(others) + 1} images: expected one")
        self.run, self.device = run, device
        self._subject = replace(subject, labels=None)
        self._images = VolumeCache()
        self._temporary = tempfile.TemporaryDirectory() if out is None else None
        self.folder = Path(out or self._temporary.name)  # type: ignore[union-attr]
        self._source = self._images.volume(path)
        self._path = path
        self._made = 0
        self.comparison: Comparison | None = None
        self.lesion = PaintedLesion(self._source.grid)
        self.tool = widgets.ToggleButtons(
            options=[LOOK, PAINT, ERASE], style={"button_width": "auto"}
        )
        labels = list(run.config.labels)
        self.label = widgets.Dropdown(
            options=labels, description="label", layout={"width": "160px"}
        )
        spacing = max(self._source.grid.spacing)
        most = max(LARGEST, 4 * spacing)
        self.radius = widgets.FloatSlider(
            value=min(8 * spacing, most),
            min=spacing / 2,
            max=most,
            step=spacing / 2,
            description="radius, mm",
            layout={"width": "300px"},
            continuous_update=False,
        )
        said = {
            "place": ("ball here", "a ball at the crosshair", self._place),
            "grow": (f"grow {STEP:g} mm", "in all directions", lambda: self._resize(STEP)),
            "shrink": (f"shrink {STEP:g} mm", "in all directions", lambda: self._resize(-STEP)),
            "undo": ("undo", "take the last touch away", lambda: self._set(self.lesion.undone())),
            "clear": ("clear", "take all away", self._clear),
            "translate": ("translate", "with and without the lesion", self._translate),
        }
        self.buttons: dict[str, Any] = {}
        for name, (words, hint, act) in said.items():
            button = widgets.Button(description=words, tooltip=hint, layout={"width": "auto"})
            button.on_click(lambda _, act=act: self._try(act))
            button.add_class(f"msgan-lesion-{name}")
            self.buttons[name] = button
        self.buttons["translate"].button_style = "primary"
        self._bar = widgets.IntProgress(layout={"width": "300px", "visibility": "hidden"})
        self._words = widgets.HTML(layout=WIDE)
        self.viewer = Viewer(self._slices(), unit=self._unit, caption=f"{subject.name}. {HELP}")
        self.viewer.on_point(lambda at: self._try(lambda: self._touch(at)))
        for control in (self.tool, self.radius):
            control.observe(lambda _: self._brush(), names="value")
        self._below = widgets.VBox()
        wrap = {"flex_flow": "row wrap"}
        self.box = widgets.VBox(
            [
                widgets.HBox([self.tool, self.label, self.radius], layout=wrap),
                widgets.HBox([*self.buttons.values(), self._bar], layout=wrap),
                self._words,
                self.viewer.box,
                self._below,
            ]
        )
        self.box.add_class("msgan-lesion")
        self._tell()

    @property
    def reading(self) -> str:
        """What is shown, in words."""
        shown = self.viewer if self.comparison is None else self.comparison
        return f"{self._told()} {shown.reading}"

    @property
    def static_fallback(self) -> bytes:
        """The comparison as one PNG; before the first translation the source."""
        return (self.viewer if self.comparison is None else self.comparison).static_fallback

    def paint(
        self, centre: Sequence[int], radius: float | None = None, value: int | None = None
    ) -> None:
        """Add a ball, as a click does.

        Args:
            centre: Voxel.
            radius: mm; None: of the slider.
            value: Label; 0 takes away; None: of the menu.

        Raises:
            InputError: See :meth:`msgan.studies.painted.PaintedLesion.painted`.
        """
        size = self.radius.value if radius is None else radius
        self._set(self.lesion.painted(centre, size, self.label.value if value is None else value))

    def translate(self) -> Comparison:
        """Translate with the lesion, and the first time without, and compare.

        Raises:
            InputError: Nothing is painted, or the translation fails.
        """
        if not self.lesion.volume_ml:
            raise InputError("nothing is painted: paint a lesion first")
        self._made += 1
        mask = self.folder / f"lesion-{self._made}.nii.gz"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lesion.save(mask)
        plain, drawn = self.folder / "without.nii", self.folder / f"with-{self._made}.nii"
        if not plain.is_file():
            self._translated(plain, self._subject)
        self._translated(drawn, replace(self._subject, labels=mask))
        self._compare(drawn, plain, mask)
        assert self.comparison is not None
        return self.comparison

    def close(self) -> None:
        """Put images away, and what was written to no folder of one's own."""
        self._images.keep([])
        self.box.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _translated(self, out: Path, subject: Subject) -> None:
        what = out.stem.split("-")[0]

        def progress(stage: str, done: int, count: int) -> None:
            self._bar.max, self._bar.value = max(count, 1), done
            self._bar.description = f"{what}: {stage}"

        self._bar.layout.visibility = "visible"
        try:
            translate(
                self.run,
                subject,
                out,
                modality=self._modality if self._modality != "image" else None,
                device=self.device,
                progress=progress,
            )
        finally:
            self._bar.layout.visibility = "hidden"

    def _compare(self, drawn: Path, plain: Path, mask: Path) -> None:
        self._images.keep([self._path, drawn, plain, mask])
        made, without, labels = (
            self._images.volume(drawn),
            self._images.volume(plain),
            self._images.labels(mask),
        )
        shape = self._source.grid.shape
        slices = compared(
            (self._source.read, shape),
            (made.read, shape),
            (without.read, shape),
            affine=self._source.grid.affine,
            labels=(labels.read, shape),
            names=NAMES,
        )
        unit = "" if made.unit == "a.u." else made.unit
        words = f"{self._subject.name}: look for a lesion inside the mask, and for none outside."
        if self.comparison is None:
            self.comparison = Comparison(
                slices, unit=unit, source_unit=self._unit, caption=words, names=NAMES
            )
            self.comparison.controls.place.opacity.value = FAINT
            self._below.children = [self.comparison.box]
        else:
            self.comparison.set_slices(slices, unit=unit, caption=words)
        self.comparison.panes.turn(self.viewer.panes.slices.grid.radiological)
        self.comparison.at = self.viewer.at

    def _brush(self) -> None:
        """The circle around the cursor is what a click paints."""
        panes = self.viewer.panes
        panes.brush = 0.0 if self.tool.value == LOOK else self.radius.value
        panes.draw()

    def _touch(self, at: tuple[int, ...]) -> None:
        if self.tool.value != LOOK:
            self.paint(at, value=None if self.tool.value == PAINT else ERASED)

    def _place(self) -> None:
        self.paint(self.viewer.at)

    def _resize(self, by: float) -> None:
        self._set(self.lesion.grown(by))

    def _clear(self) -> None:
        self._set(replace(self.lesion, balls=()))

    def _translate(self) -> None:
        button = self.buttons["translate"]
        button.disabled = True
        try:
            self.translate()
        finally:
            button.disabled = False

    def _set(self, lesion: PaintedLesion) -> None:
        self.lesion = lesion
        self.viewer.set_slices(self._slices())
        self._tell()

    def _slices(self) -> Slices:
        shape, affine = self._source.grid.shape, self._source.grid.affine
        window = self.viewer.slices.windows if hasattr(self, "viewer") else None
        images = {self._modality: (self._source.read, shape)}
        return Slices(images, window=window, affine=affine, labels=(self.lesion.read, shape))

    @property
    def _unit(self) -> str:
        return "" if self._source.unit == "a.u." else self._source.unit

    def _try(self, act: Callable[[], Any]) -> None:
        """Do it, or say in one sentence why it cannot be done."""
        try:
            act()
        except (InputError, OSError) as error:
            self._words.value = f"<b>{escape(str(error))}</b>"
        else:
            self._tell()

    def _tell(self) -> None:
        self._words.value = escape(self._told())

    def _told(self) -> str:
        if not self.lesion.balls:
            return "Nothing is painted."
        written = f", written to {self.folder}" if self._made and self._temporary is None else ""
        return f"{self.lesion.volume_ml:.2f} ml are painted{written}."

    def _ipython_display_(self) -> None:
        words = sentence(self._subject.name, self.reading)
        leave(self.box, self.static_fallback, words)
