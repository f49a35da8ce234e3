"""Figures: slices, comparisons, scales, training curves, seams, contact sheets.

Every function returns a Matplotlib figure whose caption is drawn below it and says what to see.
Colours are safe for colour-blind readers; only the area behind images is dark. Figures do not
depend on pyplot's list of open figures: shown in a notebook once, closed by nobody.
"""

from msgan.plots.frame import Window
from msgan.plots.graphs import curves, seam_profile
from msgan.plots.images import compare, slices
from msgan.plots.sheets import contact_sheet, scales
from msgan.plots.style import WIDTH, caption_of, save, style

__all__ = [
    "WIDTH",
    "Window",
    "caption_of",
    "compare",
    "contact_sheet",
    "curves",
    "save",
    "scales",
    "seam_profile",
    "slices",
    "style",
]
