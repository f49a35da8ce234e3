"""Memory in bytes: of a training step, of a tile, and of a translation."""
