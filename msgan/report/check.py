"""Checks the page of a notebook for warnings, empty pictures and external requests."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterator
from typing import Any

UNDESCRIBED = "No description has been provided for this image"
"""What nbconvert says of a picture of which nothing is known."""

LOADED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "input": ("src",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
"""Element -> attributes whose address a browser loads without being asked."""

_IN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^"')\s]+)""")
_IN_SCRIPT = re.compile(
    r"""(?:import|fetch)\s*\(?\s*["'`](https?://[^"'`]+)|\.src\s*=\s*["'`](https?://[^"'`]+)"""
)
_FORMULA = re.compile(r"(?<![\\$\w])\$\S(?:[^$\n]*\S)?\$(?!\d)|\$\$|\\\(|\\\[")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def page_faults(notebook: Any, page: str) -> list[str]:
    """What keeps the page of an executed notebook from being shown to somebody, a line each.

    Args:
        notebook: As executed; read by nbformat.
        page: HTML made from it.
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page, "html.parser")
    pictures = {_packed(str(image.get("src", ""))) for image in soup.find_all("img")}
    faults = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        where = f"cell {cell.execution_count or number}"
        faults += [f"{where} {fault}" for fault in _cell_faults(cell, pictures)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := _FORMULA.search(_CODE.sub("", cell.source))):
            faults.append(f"the text has a formula, which the page cannot draw: {found[0]!r}")
    return faults + list(_undescribed(soup)) + [f"the page loads {url}" for url in _loads(soup)]


def _cell_faults(cell: Any, pictures: set[str]) -> Iterator[str]:
    """What is wrong with one cell; ``pictures``: data addresses of the page's images."""
    alive = still = False
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"raises {output.ename}"
        elif output.output_type == "stream":
            if output.name == "stderr" and output.text.strip():
                yield f"writes to stderr: {output.text.strip().splitlines()[0]}"
        else:
            data = output.data
            alive |= "application/vnd.jupyter.widget-view+json" in data
            still |= "image/png" in data or "<img" in data.get("text/html", "")
            if "image/png" in data:
                yield from _picture_faults(data["image/png"], pictures)
            elif re.match(r"<Figure |<(\w+\.)*Figure at ", data.get("text/plain", "")):
                yield "has a figure of which the page shows only the name"
    if alive and not still:
        yield "shows controls that leave no picture"


def _picture_faults(encoded: str, pictures: set[str]) -> Iterator[str]:
    address = _packed("data:image/png;base64," + encoded)
    if address not in pictures:
        yield "has a picture that the page lacks"
    if _is_empty(encoded):
        yield "has an empty picture"


def _is_empty(encoded: str) -> bool:
    """Whether a PNG cannot be read, or has one colour only."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
            colours = image.convert("RGBA").getcolors(maxcolors=1)  # None: more than one
    except (binascii.Error, OSError):
        return True
    return colours is not None


def _undescribed(soup: Any) -> Iterator[str]:
    for number, image in enumerate(soup.find_all("img"), 1):
        if str(image.get("alt", "")).strip() in ("", UNDESCRIBED):
            yield f"picture {number} of the page has no description"


def _loads(soup: Any) -> Iterator[str]:
    """Addresses elsewhere that a browser would load with the page."""
    for element, names in LOADED.items():
        for tag in soup.find_all(element):
            for name in names:
                address = str(tag.get(name, "")).strip()
                if re.match(r"(?:https?:)?//", address):
                    yield address
    for style in soup.find_all("style"):
        yield from _IN_STYLE.findall(style.get_text())
    for tag in soup.find_all(style=True):
        yield from _IN_STYLE.findall(str(tag["style"]))
    for script in soup.find_all("script"):
        for found in _IN_SCRIPT.findall(script.get_text()):
            yield "".join(found)


def _packed(address: str) -> str:
    return "".join(address.split())
