"""A menu of groups that is searched by typing; the page's part is choice.js."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any


def choice(label: str) -> Any:
    """The widget: ``groups`` are offered, ``value`` is the key that is chosen.

    Args:
        label: What stands before it.
    """
    return _class()(label=label)


def offer(widget: Any, groups: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]) -> None:
    """Fill it; the first entry is chosen.

    Args:
        widget: Made by :func:`choice`.
        groups: Heading of each group, and its entries: key, name, detail.
    """
    names = ("key", "name", "detail")
    shown: list[dict[str, Any]] = [
        {"title": title, "entries": [dict(zip(names, e, strict=True)) for e in entries]}
        for title, entries in groups
        if entries
    ]
    with widget.hold_sync():
        widget.groups = shown
        widget.value = shown[0]["entries"][0]["key"] if shown else None


@cache
def _class() -> Any:
    """Made when it is first wanted: importing a module pulls in nothing heavy."""
    import anywidget
    import traitlets

    class ChoiceWidget(anywidget.AnyWidget):
        _esm = Path(__file__).with_name("choice.js").read_text(encoding="utf-8")
        label = traitlets.Unicode().tag(sync=True)
        groups: Any = traitlets.List().tag(sync=True)
        value = traitlets.Unicode(None, allow_none=True).tag(sync=True)

        @property
        def options(self) -> tuple[str, ...]:
            """Keys of all entries."""
            return tuple(e["key"] for group in self.groups for e in group["entries"])

        @traitlets.validate("value")
        def _known(self, proposal: Any) -> Any:
            if proposal["value"] is not None and proposal["value"] not in self.options:
                raise traitlets.TraitError(f"{proposal['value']!r} is not offered")
            return proposal["value"]

    return ChoiceWidget
