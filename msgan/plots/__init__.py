"""Figures: slices, comparisons, scales, training curves, seams, zooms, memory.

Every function returns a Matplotlib figure whose caption is drawn below it and says what to see.
Colours are safe for colour-blind readers; only the area behind images is dark. Figures do not
depend on pyplot's list of open figures: shown in a notebook once, closed by nobody.
"""

from msgan.plots.frame import Window
from msgan.plots.graphs import curves, seam_profile
from msgan.plots.images import compare, slices
from msgan.plots.kernels import kernel_check
from msgan.plots.memory import step_memory, translation_memory
from msgan.plots.sheets import contact_sheet, scales
from msgan.plots.style import WIDTH, caption_of, save, style
from msgan.plots.zooms import zooms

__all__ = [
    "WIDTH",
    "Window",
    "caption_of",
    "compare",
    "contact_sheet",
    "curves",
    "kernel_check",
    "save",
    "scales",
    "seam_profile",
    "slices",
    "step_memory",
    "style",
    "translation_memory",
    "zooms",
]
