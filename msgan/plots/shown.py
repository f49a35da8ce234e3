"""The text description of a figure in a notebook: its caption."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Described:
    """Draws a figure for a notebook, as before, and adds its caption as alternative text.

    Attributes:
        draw: What IPython has registered; returns the PNG, or the PNG and how to show it.
    """

    draw: Callable[[Any], Any]

    def __call__(self, figure: Any) -> Any:
        """The PNG of a figure and what is said of it; None where there is nothing to see."""
        drawn = self.draw(figure)
        caption = str(figure.get_label())
        if drawn is None or not caption:
            return drawn
        png, how = drawn if isinstance(drawn, tuple) else (drawn, {})
        return png, {**how, "alt": caption}


def describe_figures() -> None:
    """From now on, a figure that the running notebook shows carries its caption.

    Without a notebook nothing is done.
    """
    if "IPython" not in sys.modules:
        return
    from IPython.core.getipython import get_ipython
    from matplotlib.figure import Figure

    shell = get_ipython()
    if shell is None or shell.display_formatter is None:
        return
    formatter = shell.display_formatter.formatters["image/png"]
    draw = formatter.type_printers.get(Figure)
    if draw is not None and not isinstance(draw, Described):
        formatter.for_type(Figure, Described(draw))
