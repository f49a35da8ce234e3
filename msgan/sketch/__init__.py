"""Sketches: gradient-weighted Canny edges with labels on top, the same for any tiling."""

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
