"""Training of one scale: cached patches, one step, the loop, and checkpoints that can resume."""
