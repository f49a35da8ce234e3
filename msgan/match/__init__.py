"""What of a source image can be brought to the target without pairs and without a network."""
