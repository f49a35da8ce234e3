"""Interactive viewers for JupyterLab, fast for images of any size."""

from msgan.widgets.compare import compare, compared
from msgan.widgets.comparison import Comparison
from msgan.widgets.lesion import draw_lesion
from msgan.widgets.slices import Slices
from msgan.widgets.viewer import Viewer, browse
from msgan.widgets.volume3d import Rendering, render

__all__ = [
    "Comparison",
    "Rendering",
    "Slices",
    "Viewer",
    "browse",
    "compare",
    "compared",
    "draw_lesion",
    "render",
]
