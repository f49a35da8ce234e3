"""The static picture of a widget for exported pages and closed notebooks."""

from __future__ import annotations

import base64
from html import escape
from itertools import count
from typing import Any

NOTE = "Sliders, buttons and keys work in JupyterLab."

_numbers = count()


def leave(box: Any, png: bytes, text: str) -> None:
    """Show a still picture for pages, then the widget, which hides it where it is alive.

    Args:
        box: The live widget.
        png: What it shows.
        text: What that is, in words.
    """
    import ipywidgets
    from IPython.display import display

    mark = f"msgan-still-{next(_numbers)}"
    picture, words = base64.b64encode(png).decode(), escape(text)
    still = (
        f'<figure class="{mark}" style="margin: 0"><img alt="{words}" '
        f'src="data:image/png;base64,{picture}"><figcaption>{words}</figcaption></figure>'
    )
    display({"text/html": still, "image/png": picture, "text/plain": text}, raw=True)
    style = ipywidgets.HTML(f"<style>.{mark} {{ display: none; }}</style>")
    live = ipywidgets.VBox([style, box])._repr_mimebundle_()
    display({**live, "text/html": f"<small>{NOTE}</small>", "text/plain": NOTE}, raw=True)


def sentence(*words: str) -> str:
    """Parts that are not empty, each ending in one full stop."""
    return " ".join(" ".join(w.split()).rstrip(".") + "." for w in words if w.strip())
