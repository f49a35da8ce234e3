"""Pictures side by side on white paper, with names, crosshairs and letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

CROSS = (86, 180, 233)
"""Colour of the crosshair, sky blue as in canvas.js."""

FREE = 8
"""Pixels around the voxel under the crosshair that its lines leave free."""

GAP, HEAD = 12, 22


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        picture: RGB.
        name: Above it.
        mark: Where the crosshair is, shares from the left and the top.
        sides: Letters at left, right, bottom and top; empty for none.
    """

    picture: Image
    name: str
    mark: tuple[float, float]
    sides: str = ""


def contact_sheet(tiles: Sequence[Tile], columns: int | None = None) -> Image:
    """All tiles in rows, the lower edges of a row on one line; default one row."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    # Pillow's own font has no minus, arrows or Greek.
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    font = ImageFont.truetype(file, 12)
    number = columns or len(tiles)
    rows = [tiles[k : k + number] for k in range(0, len(tiles), number)]
    widths = [
        max(max(t.picture.width, round(font.getlength(t.name))) for t in tiles[k::number])
        for k in range(min(number, len(tiles)))
    ]
    heights = [HEAD + max(t.picture.height for t in row) for row in rows]
    whole = (sum(widths) + GAP * (len(widths) - 1), sum(heights) + GAP * (len(rows) - 1))
    paper = Image.new("RGB", whole, "white")
    pen, bottom = ImageDraw.Draw(paper), 0
    for row, height in zip(rows, heights, strict=True):
        left, bottom = 0, bottom + height
        for tile, width in zip(row, widths, strict=False):
            top = bottom - tile.picture.height
            pen.text((left, top - 18), tile.name, "black", font)
            paper.paste(_marked(tile, font), (left, top))
            left += width + GAP
        bottom += GAP
    return paper


def _marked(tile: Tile, font: Any) -> Image:
    from PIL import ImageDraw

    picture = tile.picture.copy()
    pen, (width, height) = ImageDraw.Draw(picture), picture.size
    x, y = int(tile.mark[0] * width), int(tile.mark[1] * height)
    for colour, thick in (("black", 3), (CROSS, 1)):  # seen on bright and on dark pictures
        for start, stop in ((0, x - FREE), (x + FREE, width)):
            if start < stop:
                pen.line([(start, y), (stop, y)], colour, thick)
        for start, stop in ((0, y - FREE), (y + FREE, height)):
            if start < stop:
                pen.line([(x, start), (x, stop)], colour, thick)
    places = [(8, height / 2), (width - 8, height / 2), (width / 2, height - 9), (width / 2, 9)]
    for letter, place in zip(tile.sides, places, strict=False):
        pen.text(place, letter, "white", font, "mm", stroke_width=2, stroke_fill="black")
    return picture
