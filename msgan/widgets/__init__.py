"""Looking at images in JupyterLab, at the speed of a hand, however large they are."""

from msgan.widgets.compare import compare, compared
from msgan.widgets.comparison import Comparison
from msgan.widgets.slices import Slices
from msgan.widgets.viewer import Viewer, browse

__all__ = ["Comparison", "Slices", "Viewer", "browse", "compare", "compared"]
