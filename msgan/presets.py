"""Named sizes of an experiment: a preset is a function that returns a configuration.

``smoke`` shows in minutes on two CPU cores that everything runs and makes no claim; ``small``
is for a workstation overnight, or minutes on one GPU; ``paper`` is what was published.
"""

from __future__ import annotations

from collections.abc import Callable

from msgan.config import (
    CascadeConfig,
    ContrastAugmentation,
    NetworkConfig,
    Preparation,
    SketchConfig,
    TrainConfig,
)
from msgan.types import InputError

BRAIN_PREPARATION = Preparation(longest=64, intensity="percentile", low=0.0, high=99.5)
"""Skull-stripped MR: background is 0, the brightest half per cent is cut off."""

CONTRAST_FREE = SketchConfig(channels=("edges", "self_similarity"), weight="local")
"""Edges whose weight does not depend on the modality, and how each voxel differs from its own
neighbours: what is left of T1 is close to what is left of T2."""


def smoke(dims: int = 3, seed: int = 0) -> CascadeConfig:
    """Minutes on two cores; shows that everything runs."""
    return CascadeConfig(
        dims=dims,
        seed=seed,
        preparation=BRAIN_PREPARATION.model_copy(update={"scales": 2}),
        sketch=CONTRAST_FREE,
        contrast=ContrastAugmentation(share=0.5, variants=2),
        network=NetworkConfig(
            low_width=8, low_levels=3, high_width=16, high_blocks=2, discriminator_width=8
        ),
        training=TrainConfig(
            steps=120,
            low_steps=600,
            batch=2,
            low_batch=2,
            patch=16,
            learning_rate=2e-3,
            decay="cosine",
            beta1=0.9,
            gan_weight=0.05,
            ema=0.98,
            mirror=(0,),
            validate_every=50,
            checkpoint_every=50,
        ),
    )


def small(dims: int = 3, seed: int = 0) -> CascadeConfig:
    """A workstation overnight or one GPU in minutes; the tables of record on phantoms."""
    return CascadeConfig(
        dims=dims,
        seed=seed,
        preparation=BRAIN_PREPARATION.model_copy(update={"scales": 2}),
        sketch=CONTRAST_FREE,
        contrast=ContrastAugmentation(share=0.5, variants=6),
        network=NetworkConfig(
            low_width=16,
            low_levels=3,
            dropout=0.1,
            high_width=32,
            high_blocks=3,
            discriminator_width=8,
        ),
        training=TrainConfig(
            steps=1500,
            low_steps=1500,
            batch=1,
            low_batch=2,
            patch=64,
            low_patch=28,
            learning_rate=1e-3,
            decay="cosine",
            beta1=0.9,
            gan_weight=0.05,
            ema=0.998,
            mirror=(0,),
            validate_every=100,
            checkpoint_every=100,
        ),
    )


def paper(dims: int = 3, seed: int = 0) -> CascadeConfig:
    """The published networks and settings (extended paper, section 2.2; first author's code)."""
    return CascadeConfig(
        dims=dims,
        seed=seed,
        preparation=BRAIN_PREPARATION,
        sketch=SketchConfig(),
        network=NetworkConfig(family="paper"),
        training=TrainConfig(
            steps=100_000, low_steps=20_000, batch=20, patch=32, mirror=(), precision="32-true"
        ),
    )


PRESETS: dict[str, Callable[[int, int], CascadeConfig]] = {
    "smoke": smoke,
    "small": small,
    "paper": paper,
}


def preset(name: str, dims: int = 3, seed: int = 0) -> CascadeConfig:
    """The configuration of that name.

    Raises:
        InputError: There is none.
    """
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is none of {', '.join(PRESETS)}")
    return PRESETS[name](dims, seed)
