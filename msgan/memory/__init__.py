"""Memory as bytes: of a training step, of a tile, and the plan of a translation."""
