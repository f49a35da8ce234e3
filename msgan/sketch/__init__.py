"""Image -> sketch: gradient-weighted Canny edges, labels laid over, in 2D and 3D, tile-exact."""

from msgan.sketch.reader import DrawnSketch, SketchReader, sketch_reader, stacked
from msgan.sketch.region import CHANNELS, channels, halo, images, mirror, overlay, sketch

__all__ = [
    "CHANNELS",
    "DrawnSketch",
    "SketchReader",
    "channels",
    "halo",
    "images",
    "mirror",
    "overlay",
    "sketch",
    "sketch_reader",
    "stacked",
]
