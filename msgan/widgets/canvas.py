"""Pictures in a page that report what is done to them; immediate reactions are in canvas.js."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from msgan.types import InputError


@dataclass(frozen=True)
class Picture:
    """One picture of a canvas.

    Attributes:
        png: The file.
        title: Above it.
        label: What a screen reader says.
        size: Width and height in mm; the page decides how large a millimetre is.
        plane: Its name: pictures of one plane are zoomed to the same place.
        mark: Where the crosshair is, shares from the left and the top; ``None`` for none.
        sides: Letters at left, right, bottom and top; empty for none.
    """

    png: bytes
    title: str
    label: str
    size: tuple[float, float]
    plane: str = ""
    mark: tuple[float, float] | None = None
    sides: str = ""

    def state(self) -> dict[str, Any]:
        """As canvas.js reads it; ``key`` tells it whether the file is another."""
        return {
            "png": self.png,
            "key": crc32(self.png),
            "title": self.title,
            "label": self.label,
            "size": list(self.size),
            "plane": self.plane,
            "mark": None if self.mark is None else list(self.mark),
            "sides": self.sides,
        }


@dataclass(frozen=True)
class Bar:
    """What the colours of pictures mean.

    Attributes:
        title: Of the pictures.
        colours: From the lowest to the highest intensity, as CSS has them.
        low: The lowest, in words.
        high: The highest, with its unit.
    """

    title: str
    colours: tuple[str, ...]
    low: str
    high: str


@dataclass(frozen=True)
class Key:
    """One entry of a legend.

    Attributes:
        name: What has the colour.
        colour: As CSS has it.
        outline: Whether only its outline is drawn.
    """

    name: str
    colour: str
    outline: bool = False


@dataclass(frozen=True)
class Scene:
    """All that a canvas shows.

    Attributes:
        pictures: In order.
        swipe: Whether pairs of them lie on top of each other, with a divider.
        together: Pictures that belong together, as the planes of an image.
        bars: Below the pictures.
        legend: Below the pictures.
        radiological: Whether the left of the body is on the right; None where it is not known.
        brush: Radius in mm of the circle around the cursor; 0 for none.
    """

    pictures: tuple[Picture, ...] = ()
    swipe: bool = False
    together: int = 1
    bars: tuple[Bar, ...] = ()
    legend: tuple[Key, ...] = ()
    radiological: bool | None = None
    brush: float = 0.0

    def state(self) -> dict[str, Any]:
        """As canvas.js reads it."""
        own = {
            "pictures": [p.state() for p in self.pictures],
            "bars": [{**vars(bar), "colours": list(bar.colours)} for bar in self.bars],
            "legend": [dict(vars(key)) for key in self.legend],
        }
        return {**vars(self), **own}


@dataclass(frozen=True)
class Touch:
    """What a person did to one of the pictures.

    Attributes:
        picture: Its number; of a swipe that of the pair.
        kind: ``point`` (click or drag), ``hover`` and ``leave`` (the cursor), ``step`` (wheel,
            arrow and page keys), ``first`` or ``last`` (Home, End), ``flip`` (the other side of
            the body on the right).
        right: Of a point: share of the width from the left.
        down: Of a point: share of the height from the top.
        by: Of a step: how many slices onward.
    """

    picture: int
    kind: str
    right: float = 0.0
    down: float = 0.0
    by: int = 0


class Canvas:
    """Pictures side by side, or pairs on top of each other with a divider to swipe.

    Attributes:
        widget: What a page shows.
        scene: What is shown.
    """

    def __init__(self) -> None:
        self.widget = _widget()
        self.scene = Scene()
        self._listeners: list[Callable[[Touch], None]] = []
        self.widget.on_msg(self._received)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """What is shown."""
        return self.scene.pictures

    def show(self, scene: Scene) -> None:
        """Show this instead.

        Raises:
            InputError: A swipe of other than pairs of pictures.
        """
        if scene.swipe and (not scene.pictures or len(scene.pictures) % 2):
            raise InputError(f"{len(scene.pictures)} pictures to swipe: expected pairs")
        self.scene = scene
        self.widget.scene = scene.state()

    def tell(self, words: str) -> None:
        """Write a line below the pictures; parts that end in "; " stand apart."""
        self.widget.told = words

    def on_touch(self, listener: Callable[[Touch], None]) -> None:
        """Call ``listener`` whenever a picture is touched."""
        self._listeners.append(listener)

    def _received(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        try:
            touch = Touch(**content)
            if 0 <= touch.picture < len(self.pictures):  # else of a picture that has gone
                for listener in self._listeners:
                    listener(touch)
        finally:
            self.widget.answered += 1  # the page sends the next one when this one is drawn


@cache
def _class() -> Any:
    """Made when it is first wanted: importing a module pulls in nothing heavy."""
    import anywidget
    import traitlets

    class CanvasWidget(anywidget.AnyWidget):
        _esm = Path(__file__).with_name("canvas.js").read_text(encoding="utf-8")
        scene = traitlets.Dict(Scene().state()).tag(sync=True)
        told = traitlets.Unicode().tag(sync=True)
        answered = traitlets.Int(0).tag(sync=True)

    return CanvasWidget


def _widget() -> Any:
    return _class()()
