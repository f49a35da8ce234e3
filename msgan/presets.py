"""Named sizes of an experiment: a preset is a function that returns a configuration.

``smoke`` shows in minutes on two CPU cores that everything runs and makes no claim; ``small``
is for a workstation overnight, or minutes on one GPU; ``paper`` is what was published.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgan.config import (
    CascadeConfig,
    ContrastAugmentation,
    Degradation,
    Preparation,
    SketchConfig,
    TrainConfig,
    network_of,
)
from msgan.types import InputError

BRAIN_PREPARATION = Preparation(longest=64, intensity="percentile", low=0.0, high=99.5)
"""Skull-stripped MR: background is 0, the brightest half per cent is cut off."""

CT_PREPARATION = Preparation(
    longest=64, intensity="window", low=-1024.0, high=1024.0, foreground=-300.0
)
"""HU in, HU out: the same 2048 HU are [-1, 1] in every image, so results are HU again.

The papers state no range. -1024 is what scanners write for air and below; starting higher would
cut the noise of air (-1000) and of emphysema (-978) on one side and shift their means. 1024 keeps
marrow and most cortical bone; beyond (dense bone, metal) is clipped. All 4096 HU of
:meth:`msgan.data.intensity.IntensityMap.hounsfield` would halve the lungs' share of the range.
Foreground is what is denser than lung and air (fat -100, soft tissue 40) by more than the noise
of any kernel; only its box matters: lungs lie inside it and are kept, there is no mask.
"""

KERNEL_SKETCH = SketchConfig(channels=("edges",), low=0.03, high=0.06)
"""Kernels share contrast and differ in noise and sharpness, so weights may tell contrast.

Thresholds are shares of a step over the range: 0.06 is 123 HU, the step from lung to emphysema,
which the published 0.1 and 0.2 pass over. In the phantom's lungs at 128 voxels, sketches of b80f
and b20f correlate by .94 with either, and with 0.03 and 0.06 there are twice as many edges.
"""

THORAX: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        "preparation": {"scales": 1},
        "network": {"high_blocks": 1},
        "training": {"steps": 60, "low_steps": 150},
    },
    "small": {
        "preparation": {"scales": 2},
        "network": {"low_border": 0},
        "training": {
            "steps": 200,
            "low_steps": 500,
            "patch": 48,
            "ema": 0.99,
            "validate_every": 50,
        },
    },
    "paper": {"preparation": {"scales": 3}, "network": {}, "training": {}},
}
"""What the thorax changes of a preset: the published n of 3 makes s0 of 512 voxels 64.

``small`` trains six networks in each of two folds: its steps are what fits into 25 minutes.
"""

XRAY_PREPARATION = Preparation(longest=64, intensity="percentile", low=0.0, high=99.5)
"""Radiographs have no unit; 0 is black. n follows from the size: 5 for 2048 pixels (2019, 3.1)."""

XRAY_SKETCH = SketchConfig(channels=("edges",), low=0.015, high=0.03, steps=16)
"""Edges in the overlay of a whole chest are faint: at 0.1 and 0.2 of a full step (the public code:
of the image's steepest) ribs and vessels have none."""

XRAY: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        "network": {"low_levels": 4},
        "training": {"steps": 80, "low_steps": 400, "mirror": (1,)},
    },
    "small": {
        "network": {"low_levels": 5, "low_border": 0},
        "training": {"low_steps": 3000, "batch": 2, "low_patch": None, "mirror": (1,)},
    },
    "paper": {"network": {}, "training": {}},
}
"""What X-rays change of a preset: left and right may be exchanged, head and feet may not."""

TUMOUR_LABELS = (1, 2, 3, 4)
"""Labels of BraTS that are drawn over sketches: necrosis, oedema, non-enhancing (2015 only) and
enhancing tumour."""

LABEL_SHARE = 1 / 3
"""Of patches about a voxel of a tumour, as nnU-Net has it: there are few such voxels."""

BRAIN: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        "preparation": {"scales": 1},
        "network": {},
        "training": {"steps": 30, "low_steps": 60, "label_share": LABEL_SHARE},
    },
    "small": {
        "preparation": {"scales": 1},
        "network": {"high_width": 16, "high_blocks": 2, "dropout": 0.0},
        "training": {
            "steps": 1500,
            "low_steps": 4000,
            "patch": 16,
            "batch": 2,
            "low_patch": 16,
            "label_share": LABEL_SHARE,
            "ema": 0.99,
            "validate_every": 250,
        },
    },
    "paper": {"preparation": {"scales": 2}, "network": {}, "training": {}},
}
"""What brains with tumours change of a preset; the published n is 2 (2020, section 2.2).

``small`` trains nine networks in each of two folds: its steps are what fits into 25 minutes. In
that time many steps on small patches, at s0 on crops, learn more than fewer on larger ones;
nothing is dropped. One doubling instead of two: s0 sees further than the generators above it, is
tiled as exactly, and draws 4 mm better than they do from 8 mm. A batch of 2 is no slower than
one of 1, which PyTorch gives to its slow convolution where networks are this narrow.
"""

CONTRAST_FREE = SketchConfig(channels=("edges", "self_similarity"), weight="local")
"""Edges whose weight does not depend on the modality, and how each voxel differs from its own
neighbours: what is left of T1 is close to what is left of T2."""


def smoke(dims: int = 3, seed: int = 0) -> CascadeConfig:
    """Minutes on two cores; shows that everything runs."""
    return CascadeConfig(
        dims=dims,
        seed=seed,
        preparation=BRAIN_PREPARATION.updated(scales=2),
        sketch=CONTRAST_FREE,
        degradation=Degradation(made_share=1.0),
        contrast=ContrastAugmentation(share=0.5, variants=2),
        network=network_of(
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
    """A workstation overnight or one GPU in minutes; the tables of record on phantoms.

    s0 is trained on crops and sees background around an image, as MR without the skull has it.
    """
    return CascadeConfig(
        dims=dims,
        seed=seed,
        preparation=BRAIN_PREPARATION.updated(scales=2),
        sketch=CONTRAST_FREE,
        degradation=Degradation(made_share=1.0),
        contrast=ContrastAugmentation(share=0.5, variants=6),
        network=network_of(
            low_width=16,
            low_levels=3,
            low_border=4,
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
        network=network_of(family="paper"),
        training=TrainConfig(
            steps=100_000, low_steps=20_000, batch=20, patch=32, mirror=(), precision="32-true"
        ),
    )


def thorax(name: str, dims: int = 3, seed: int = 0) -> CascadeConfig:
    """The preset of that name for CT kernels (extended paper, section 3.2.1).

    Raises:
        InputError: There is no such preset.
    """
    base = preset(name, dims, seed)
    own = THORAX[name]
    return CascadeConfig(
        dims=base.dims,
        seed=seed,
        preparation=Preparation(**{**CT_PREPARATION.model_dump(), **own["preparation"]}),
        sketch=SketchConfig(channels=("edges",)) if name == "paper" else KERNEL_SKETCH,
        contrast=ContrastAugmentation(share=0.0),
        network=network_of(**{**base.network.model_dump(), **own["network"]}),
        training=TrainConfig(**{**base.training.model_dump(), **own["training"]}),
    )


def brain(name: str, seed: int = 0) -> CascadeConfig:
    """The preset of that name for MR of brains with tumours (extended paper, section 3.2.2).

    Tumour labels are drawn over the sketches, in training and in translation.

    Raises:
        InputError: There is no such preset.
    """
    base = preset(name, 3, seed)
    own = BRAIN[name]
    return base.updated(labels=TUMOUR_LABELS, **own)


def xray(name: str, seed: int = 0) -> CascadeConfig:
    """The preset of that name for chest X-rays, which are 2D (2019, section 3.2, experiment 3).

    Source and target are one modality, so no sketch is recoloured. Noise on sketches is less than
    elsewhere, because the edges are fainter.

    Raises:
        InputError: There is no such preset.
    """
    base = preset(name, 2, seed)
    own = XRAY[name]
    return CascadeConfig(
        dims=2,
        seed=seed,
        preparation=XRAY_PREPARATION,
        sketch=XRAY_SKETCH,
        degradation=Degradation(sketch_noise=0.003),
        contrast=ContrastAugmentation(share=0.0),
        network=network_of(**{**base.network.model_dump(), **own["network"]}),
        training=TrainConfig(**{**base.training.model_dump(), **own["training"]}),
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
