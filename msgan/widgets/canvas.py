"""Pictures in a page that report clicks and drags; immediate reactions are in canvas.js."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        size: Width and height on the page in CSS pixels.
        mark: Where the crosshair is, shares from the left and the top; ``None`` for none.
        sides: Letters at left, right, bottom and top; empty for none.
    """

    png: bytes
    title: str
    label: str
    size: tuple[float, float]
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
            "mark": None if self.mark is None else list(self.mark),
            "sides": self.sides,
        }


@dataclass(frozen=True)
class Touch:
    """What a person did to one of the pictures.

    Attributes:
        picture: Its number.
        kind: ``point`` (click or drag), ``step`` (wheel, arrow and page keys), ``first`` or
            ``last`` (Home, End).
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
    """Pictures side by side, or two on top of each other with a divider to swipe.

    Attributes:
        widget: What a page shows.
        pictures: What is shown.
    """

    def __init__(self) -> None:
        self.widget = _widget()
        self.pictures: tuple[Picture, ...] = ()
        self._listeners: list[Callable[[Touch], None]] = []
        self.widget.on_msg(self._received)

    def show(self, pictures: Sequence[Picture], *, swipe: bool = False) -> None:
        """Show these pictures instead.

        Raises:
            InputError: A swipe of other than two pictures.
        """
        if swipe and len(pictures) != 2:
            raise InputError(f"{len(pictures)} pictures to swipe: expected 2")
        self.pictures = tuple(pictures)
        self.widget.scene = {"pictures": [p.state() for p in pictures], "swipe": swipe}

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
        scene = traitlets.Dict({"pictures": [], "swipe": False}).tag(sync=True)
        answered = traitlets.Int(0).tag(sync=True)

    return CanvasWidget


def _widget() -> Any:
    return _class()()
