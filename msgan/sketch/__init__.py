"""Image -> sketch: gradient-weighted Canny edges, labels laid over, in 2D and 3D, tile-exact."""

from msgan.sketch.region import CHANNELS, channels, halo, mirror, overlay, sketch, sketch_reader

__all__ = ["CHANNELS", "channels", "halo", "mirror", "overlay", "sketch", "sketch_reader"]
