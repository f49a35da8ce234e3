"""Train and run multi-scale patch GANs on large 2D and 3D medical images."""

__version__ = "0.1.0"
