"""Pictures of an executed notebook, with their captions."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgan.report.page import reduced

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 1500
"""Longest side of a picture in a report, in pixels: sharp on a page, light to send."""


@dataclass(frozen=True)
class Picture:
    """A figure of a notebook.

    Attributes:
        address: The picture itself, as a data address.
        heading: Of the section it stands in.
        text: What the notebook says there, or what the figure says of itself.
    """

    address: str
    heading: str
    text: str


def pictures(notebook: Mapping[str, Any]) -> tuple[Picture, ...]:
    """Every PNG among the outputs of a notebook, in order."""
    found = []
    heading = text = ""
    for cell in notebook.get("cells", []):
        source = "".join(cell.get("source", ""))
        if cell.get("cell_type") == "markdown":
            heading, text = _words(source, heading)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            encoded = "".join(data.get("image/png", ""))
            if encoded:
                own = "".join(data.get("text/plain", ""))
                said = text if re.match(r"<.*>$", own) or not own else own
                address = reduced(base64.b64decode(encoded), WIDTH)
                found.append(Picture(address, heading, said))
    return tuple(found)


def drawn(figure: Figure, heading: str, text: str) -> Picture:
    """A figure for a page, which sets its caption itself, in letters that fit the screen."""
    figure.supxlabel("")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, bbox_inches="tight", pad_inches=0.05)
    return Picture(reduced(stream.getvalue(), WIDTH), heading, text)


def _words(source: str, heading: str) -> tuple[str, str]:
    """Last heading and the text below it, without marks."""
    lines = source.splitlines()
    at = [k for k, line in enumerate(lines) if line.startswith("#")]
    if at:
        heading = lines[at[-1]].lstrip("#").strip()
        lines = lines[at[-1] + 1 :]
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(" ".join(lines).split()))
    return re.sub(r"[`*]", "", heading), re.sub(r"[`*]", "", text)
