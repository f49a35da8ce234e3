"""Random appearances of an image, which stand for other modalities of the same anatomy."""

from msgan.appearance.appearance import Appearance
from msgan.appearance.colours import levels

__all__ = ["Appearance", "levels"]
