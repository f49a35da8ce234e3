"""Random seeds: one seed for each purpose, derived from the seed of the run."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for one purpose, the same on every machine and Python version.

    ``derive(0, "subject", 3)`` and ``derive(0, "subject", 4)`` are independent, so that
    generating subject 4 alone gives the same bytes as generating a whole cohort.

    Example:
        >>> derive(0, "subject", 3) == derive(0, "subject", 3)
        True
        >>> derive(0, "subject", 3) == derive(0, "subject", 4)
        False
    """
    text = repr((int(seed), *map(str, names))).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def numpy_rng(seed: int, *names: object) -> np.random.Generator:
    """A NumPy generator for one purpose (see :func:`derive`)."""
    return np.random.default_rng(derive(seed, *names))
