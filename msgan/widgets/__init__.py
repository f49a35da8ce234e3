"""Looking at images in JupyterLab, at the speed of a hand, however large they are."""

from msgan.widgets.compare import compare, compared
from msgan.widgets.comparison import Comparison
from msgan.widgets.slices import Slices
from msgan.widgets.viewer import Viewer, browse
from msgan.widgets.volume3d import Rendering, render

__all__ = ["Comparison", "Rendering", "Slices", "Viewer", "browse", "compare", "compared", "render"]
