"""Presets: configurations and sizes of phantoms and folds, in one table.

``smoke`` shows in minutes on two CPU cores that everything runs and makes no claim; ``small``
is for a workstation overnight, or minutes on one GPU; ``published`` is what was published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgan.config import (
    FAMILIES,
    CascadeConfig,
    ConditioningAugmentation,
    ContrastAugmentation,
    EaGanNetwork,
    Guidance,
    IntensityRange,
    MdaunetNetwork,
    Model,
    PairNetwork,
    Preparation,
    PtnetNetwork,
    ResvitNetwork,
    SketchConfig,
    TrainConfig,
)
from msgan.types import InputError

PRESETS = ("smoke", "small", "published")
"""Names of the presets."""

ANATOMIES = ("any", "brain", "thorax", "xray")
"""What a preset is for: ``any`` image; MR of ``brain`` with tumours (2020, 3.2.2); CT kernels of
the ``thorax`` (2020, 3.2.1); ``xray`` of the chest, 2D (2019, section 3.2, experiment 3)."""

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

MINIMUM_TO_MAXIMUM = IntensityRange(low=0.0, high=100.0)
"""MR of Ha et al. (2025, 3.1): each image from its minimum, which is background, to its maximum."""

CLIPPED_CT = IntensityRange(intensity="window", low=-1024.0, high=3000.0, foreground=-300.0)
"""CT and cone-beam CT of Ha et al. (2025, 3.1); foreground as in :data:`CT_PREPARATION`."""

KERNEL_SKETCH = SketchConfig(channels=("edges",), low=0.03, high=0.06)
"""Kernels share contrast and differ in noise and sharpness, so weights may tell contrast.

Thresholds are shares of a step over the range: 0.06 is 123 HU, the step from lung to emphysema,
which the published 0.1 and 0.2 pass over. In the phantom's lungs at 128 voxels, sketches of b80f
and b20f correlate by .94 with either, and with 0.03 and 0.06 there are twice as many edges.
"""

XRAY_PREPARATION = Preparation(longest=64, intensity="percentile", low=0.0, high=99.5)
"""Radiographs have no unit; 0 is black. n follows from the size: 5 for 2048 pixels (2019, 3.1)."""

XRAY_SKETCH = SketchConfig(channels=("edges",), low=0.015, high=0.03, steps=16)
"""Edges in the overlay of a whole chest are faint: at 0.1 and 0.2 of a full step (the public code:
of the image's steepest) ribs and vessels have none."""

TUMOUR_LABELS = (1, 2, 3, 4)
"""Labels of BraTS that are drawn over sketches: necrosis, oedema, non-enhancing (2015 only) and
enhancing tumour."""

LABEL_SHARE = 1 / 3
"""Of patches about a voxel of a tumour, as nnU-Net has it: there are few such voxels."""

CONTRAST_FREE = SketchConfig(channels=("edges", "self_similarity"), weight="local")
"""Edges whose weight does not depend on the modality, and how each voxel differs from its own
neighbours: what is left of T1 is close to what is left of T2."""

KERNEL_CONTRAST = ContrastAugmentation(kind="kernel", share=0.8, variants=6, sharper=1.0)
"""Other kernels of the same scan stand for sources, all of them sharper: a match of spectra takes
detail and noise away and gives none back."""

GUIDED = Guidance(match="auto", student=True, detail=True)
"""All of what may guide a translation: the published cascade sees edges alone."""

# fmt: off
OURS = dict(
    sketch=CONTRAST_FREE, guidance=GUIDED, generated_share=1.0, lr_levels=3,
    discriminator_width=8, lr_batch=2, decay="cosine", beta1=0.9, gan_weight=0.05, mirror=(0,),
)
SMOKE = OURS | dict(
    contrast=ContrastAugmentation(share=0.5, variants=2),
    scales=2, lr_width=8, hr_width=16, hr_blocks=2, steps=120, lr_steps=600, batch=2,
    patch=16, learning_rate=2e-3, ema=0.98, validate_every=50, checkpoint_every=50,
)
SMALL = OURS | dict(
    contrast=ContrastAugmentation(share=0.5, variants=6),
    scales=2, lr_width=16, hr_width=32, hr_blocks=3, dropout=0.1, steps=1500, lr_steps=1500,
    batch=1, patch=64, learning_rate=1e-3, ema=0.998, validate_every=100, checkpoint_every=100,
    # s0 is trained on crops and sees background around an image, as MR without the skull has it.
    lr_patch=28, lr_border=4,
)
PUBLISHED = dict(family="megan", steps=100_000, lr_steps=20_000, batch=20, patch=32)  # 2020, 2.2

TUMOURS = dict(labels=TUMOUR_LABELS, label_share=LABEL_SHARE)
# Source and target are of one modality: none is recoloured.
KERNELS = dict(
    sketch=KERNEL_SKETCH, guidance=Guidance(match="spectrum", detail=True),
    contrast=KERNEL_CONTRAST,
)
# An X-ray is drawn from the sketch of an X-ray: matched, the source would be the result. Noise on
# sketches is less than elsewhere, because the edges are fainter. Left and right may be exchanged,
# head and feet may not.
XRAYS = dict(sketch=XRAY_SKETCH, guidance=Guidance(), contrast=ContrastAugmentation(),
             generated_share=0.0, sketch_noise=0.003, scales=None)

TABLE: dict[tuple[str, str], dict[str, Any]] = {
    ("smoke", "any"): SMOKE,
    ("small", "any"): SMALL,
    ("published", "any"): PUBLISHED,
    ("smoke", "brain"): SMOKE | TUMOURS | dict(
        scales=1, steps=30, lr_steps=60,
        subjects=5, size=48, folds=2, measured=(0,), tile=16, samples=1_000,
    ),
    # Nine networks are trained in each of two folds: the steps are what fits into 25 minutes. In
    # that time many steps on small patches, at s0 on crops, learn more than fewer on larger ones;
    # nothing is dropped. One doubling instead of two: s0 sees further than the generators above
    # it, is tiled as exactly, and draws 4 mm better than they do from 8 mm. A batch of 2 is no
    # slower than one of 1, which PyTorch gives to its slow convolution where networks are narrow.
    ("small", "brain"): SMALL | TUMOURS | dict(
        scales=1, hr_width=16, hr_blocks=2, dropout=0.0, lr_steps=4000, batch=2, patch=16,
        lr_patch=16, ema=0.99, validate_every=250,
        subjects=12, size=96, folds=2, tile=32, samples=10_000,
    ),
    ("published", "brain"): PUBLISHED | dict(
        labels=TUMOUR_LABELS, scales=2,  # 2020, 2.2
        subjects=40, size=192, folds=4,  # 2020, 3.2.2: four folds
        tile=20, samples=100_000,  # the public code of Jog et al. 2017
    ),
    ("smoke", "thorax"): SMOKE | KERNELS | dict(
        scales=1, hr_blocks=1, steps=60, lr_steps=150,
        subjects=5, size=48, folds=2, measured=(0,), tile=16,
    ),
    # Six networks are trained in each of two folds: the steps are what fits into 25 minutes.
    ("small", "thorax"): SMALL | KERNELS | dict(
        lr_border=0, steps=200, lr_steps=500, patch=48, ema=0.99, validate_every=50,
        subjects=12, size=128, folds=2, tile=64,
    ),
    ("published", "thorax"): PUBLISHED | dict(
        scales=3,  # 2020, 3.2.1: makes s0 of 512 voxels 64
        subjects=56, size=512, folds=5, tile=20,  # 2020, 3.2.1: of about 512^3
    ),
    ("smoke", "xray"): SMOKE | XRAYS | dict(
        lr_levels=4, steps=80, lr_steps=400, mirror=(1,),
        subjects=10, size=128, test_share=0.4, tile=64,
    ),
    ("small", "xray"): SMALL | XRAYS | dict(
        lr_levels=5, lr_border=0, lr_patch=None, lr_steps=3000, batch=2, mirror=(1,),
        subjects=32, size=512, test_share=0.25, tile=64,
    ),
    ("published", "xray"): PUBLISHED | XRAYS | dict(
        subjects=100, size=2048, tile=20,  # 2019, 3.1: about 1500 of 2048^2
        test_share=0.1,  # 2019, 3.2
    ),
}
# fmt: on
"""A row a preset and anatomy. Columns are fields of a configuration's parts, and of :class:`Sizes`.
What a row leaves out is as in :mod:`msgan.config`."""

# fmt: off
MDAUNET: dict[str, dict[str, Any]] = {
    "smoke": dict(
        features=(8, 12, 16, 24), growth=(4, 4, 8, 8), blocks=1, discriminator_width=4,
        batch=2, patch=16, learning_rate=2e-3,
    ),
    "small": dict(
        features=(8, 16, 32, 64), growth=(4, 8, 16, 32), blocks=1, discriminator_width=8,
        batch=2, patch=32, learning_rate=1e-3,
    ),
    # 4.1, and of the memory stated there; widths, blocks and steps are ours.
    "published": dict(
        features=(64, 128, 256, 512), growth=(32, 64, 128, 256), blocks=2, discriminator_width=64,
        batch=3, patch=96, learning_rate=1e-4, precision="16-mixed", steps=33_000,
    ),
}
# fmt: on
"""Sizes of 3D-mDAUNet (Ha et al. 2025), a row a preset; columns as in :data:`TABLE`.

The paper states batch, patch, learning rate and precision, and no width. Those of ``published``
are of the memory that it states, as :mod:`msgan.memory.mdaunet` counts it: 35 GB for a step with
batch 3, 16 GB at least, 1.6 GB for a translation. Steps: 1000 epochs of 100 subjects, three a
batch, of the first author's earlier public code. The other rows are for two cores of a CPU; they
have the steps of the cascade they are compared with."""

# Weights of eq. 2 (3.3), Adam and the step decay of 4.1.
MDAUNET_TRAINING = dict(
    gan="relativistic", gan_weight=1e-4, l1_weight=1.0, l2_weight=0.0, beta1=0.9, decay="step"
)
"""Objective and optimiser of 3D-mDAUNet."""

# fmt: off
EA_GAN: dict[str, dict[str, Any]] = {
    "smoke": dict(width=8, discriminator_width=4, batch=2, patch=16, learning_rate=2e-3),
    "small": dict(width=16, discriminator_width=8, batch=2, patch=32, learning_rate=1e-3),
    "published": dict(
        width=64, discriminator_width=64, batch=1, patch=128, learning_rate=2e-4, steps=40_000,
    ),
}
# fmt: on
"""Sizes of Ea-GAN (Yu et al. 2019), a row a preset; columns as in :data:`TABLE`.

Steps of ``published``: 200 epochs of its public code, of 200 patches; batch is ours. The other rows
are for two cores of a CPU; they have the steps of the cascade they are compared with."""

EA_GAN_TRAINING = dict(
    gan="least_squares_smooth", gan_weight=1.0, l1_weight=300.0, l2_weight=0.0, beta1=0.5,
    decay="linear",
)  # fmt: skip
"""Objective and optimiser of Ea-GAN."""

# fmt: off
RESVIT: dict[str, dict[str, Any]] = {
    "smoke": dict(
        width=4, tokens=16, depth=1, heads=2, dropout=0.0, discriminator_width=4,
        batch=4, patch=32, learning_rate=2e-3,
    ),
    "small": dict(
        width=16, tokens=96, depth=3, heads=4, dropout=0.1, discriminator_width=8,
        batch=4, patch=64, learning_rate=5e-4,
    ),
    "published": dict(
        width=64, tokens=768, depth=12, heads=12, dropout=0.1, discriminator_width=64,
        batch=1, patch=256, learning_rate=2e-4, steps=500_000,
    ),
}
# fmt: on
"""Sizes of ResViT (Dalmaz et al. 2022), a row a preset; columns as in :data:`TABLE`.

Steps of ``published``: 200 epochs of its public code, of 2500 slices. The other rows are for two
cores of a CPU; they have the steps of the cascade they are compared with."""

RESVIT_TRAINING = dict(
    gan="least_squares", gan_weight=1.0, l1_weight=100.0, l2_weight=0.0, beta1=0.5, decay="linear"
)
"""Objective and optimiser of ResViT."""

# fmt: off
PTNET: dict[str, dict[str, Any]] = {
    "smoke": dict(
        width=4, tokens=32, depth=1, heads=2, global_tokens=16, global_heads=2,
        discriminator_width=4, batch=2, patch=16, learning_rate=2e-3,
    ),
    "small": dict(
        width=8, tokens=64, depth=3, heads=4, global_tokens=32, global_heads=2,
        discriminator_width=8, batch=2, patch=32, learning_rate=1e-3,
    ),
    "published": dict(
        width=16, tokens=256, depth=9, heads=4, global_tokens=64, global_heads=2,
        discriminator_width=64, batch=4, patch=64, learning_rate=2e-4, steps=40_000,
    ),
}
# fmt: on
"""Sizes of PTNet3D (Zhang et al. 2022), a row a preset; columns as in :data:`TABLE`.

Those of ``published`` are of its public code, which leaves the number of patches to the data; its
steps are ours. The other rows are for two cores of a CPU; they have the steps of the cascade they
are compared with."""

PTNET_TRAINING = dict(
    # The authors add up what D says at three resolutions, of which the mean is taken here.
    gan="least_squares",
    gan_weight=3.0,
    l1_weight=0.0,
    l2_weight=100.0,
    beta1=0.9,
    decay="linear",
)
"""Objective and optimiser of PTNet3D."""

Row = Mapping[str, Any]
PAIRS: dict[type[PairNetwork], tuple[Mapping[str, Row], Row]] = {
    MdaunetNetwork: (MDAUNET, MDAUNET_TRAINING),
    EaGanNetwork: (EA_GAN, EA_GAN_TRAINING),
    ResvitNetwork: (RESVIT, RESVIT_TRAINING),
    PtnetNetwork: (PTNET, PTNET_TRAINING),
}
"""Of each family of pairs its sizes, and the objective and optimiser that all of them share."""


@dataclass(frozen=True)
class Sizes:
    """How much of a phantom cohort there is, and how much of it is measured how.

    Attributes:
        subjects: Of the cohort.
        size: Voxels along the longest axis.
        folds: Of the cross-validation; 0: a part is held out instead.
        test_share: Share of the subjects that is held out; more where a tenth is too few.
        measured: The folds that are measured; None: all.
        tile: Side of a tile, voxels; smaller than the image, so that seams could show. Of the
            published family the part of a patch that is kept.
        samples: Voxels a random forest is trained on; in ``small`` less than a minute on a core.
    """

    subjects: int
    size: int
    folds: int = 0
    test_share: float = 0.0
    measured: tuple[int, ...] | None = None
    tile: int = 0
    samples: int = 0


def preset(
    name: str, anatomy: str = "any", *, dims: int | None = None, seed: int = 0
) -> CascadeConfig:
    """The configuration of that name.

    Args:
        name: One of :data:`PRESETS`.
        anatomy: One of :data:`ANATOMIES`.
        dims: Number of axes; None: 2 for X-rays, else 3.
        seed: Of the training.

    Raises:
        InputError: There is none.

    Example:
        >>> config = preset("smoke", dims=2)
        >>> config.dims, config.training.patch % 2
        (2, 0)
    """
    row = _row(name, anatomy)
    if anatomy == "xray" and dims == 3:
        raise InputError(f"dims {dims}: X-rays have 2")

    def own(part: type[Model]) -> dict[str, Any]:
        return {column: value for column, value in row.items() if column in part.model_fields}

    family = FAMILIES[row.get("family", "seamless")]
    config = {
        "dims": dims or (2 if anatomy == "xray" else 3),
        "seed": seed,
        "preparation": _preparation(anatomy).updated(own(Preparation)),
        "sketch": row.get("sketch", SketchConfig()),
        "conditioning": own(ConditioningAugmentation),
        "contrast": row.get("contrast", ContrastAugmentation()),
        "guidance": row.get("guidance", Guidance()),
        "labels": row.get("labels", ()),
        "network": family(**own(family)),
        "training": own(TrainConfig),
    }
    return CascadeConfig.model_validate(config)


def of_pairs(family: type[PairNetwork], name: str) -> dict[str, dict[str, Any]]:
    """What makes of a cascade's configuration one of a family of pairs, beside what is read.

    Args:
        family: See :data:`PAIRS`.
        name: Row of its table. What that leaves out of the network is as published.

    Raises:
        InputError: There is none.
    """
    table, objective = PAIRS[family]
    if name not in table:
        raise InputError(f"size {name!r} is none of {', '.join(table)}")
    row = table[name]
    network, training = (
        {column: value for column, value in row.items() if column in part.model_fields}
        for part in (family, TrainConfig)
    )
    # In no family of pairs D rests.
    same = {"gradient_weight": 0.0, "discriminator_accuracy": 1.0}
    return {
        "network": family(**network).model_dump(),
        "training": {**same, **objective, **training},
    }


def published_preparation(source: str, target: str) -> Preparation:
    """How Ha et al. (2025, 3.1) scale the images of a pair: :data:`CLIPPED_CT` or, of all others,
    :data:`MINIMUM_TO_MAXIMUM`.

    The spacing is that of each image: state the data set's mean (:mod:`msgan.data.spacing`).

    Args:
        source: Modality that is translated; ``ct``, ``cbct`` and names such as ``ct_b20f`` are CTs.
        target: Modality that is learnt.

    Example:
        >>> preparation = published_preparation("mr", "ct").updated(spacing_mm=(1.0, 1.0, 2.5))
        >>> preparation.high, preparation.of("mr").high
        (3000.0, 100.0)
    """
    own = {name: _published_range(name) for name in (source, target)}
    ranges = {} if own[source] == own[target] else {source: own[source]}
    return Preparation(**own[target].model_dump(), ranges=ranges)


def _published_range(modality: str) -> IntensityRange:
    return CLIPPED_CT if is_ct(modality) else MINIMUM_TO_MAXIMUM


def is_ct(modality: str) -> bool:
    """Whether a modality is a CT by its name: ``ct``, ``cbct``, ``ct_b20f``."""
    return modality.split("_")[0] in ("ct", "cbct")


def sizes(name: str, anatomy: str) -> Sizes:
    """How large a study of that preset is.

    Raises:
        InputError: There is no such preset, or no phantom of such an anatomy.
    """
    row = _row(name, anatomy)
    if "subjects" not in row:
        raise InputError(f"anatomy {anatomy!r} has no phantoms: {', '.join(ANATOMIES[1:])} have")
    return Sizes(**{c: value for c, value in row.items() if c in Sizes.__dataclass_fields__})


def _preparation(anatomy: str) -> Preparation:
    return {"thorax": CT_PREPARATION, "xray": XRAY_PREPARATION}.get(anatomy, BRAIN_PREPARATION)


def _row(name: str, anatomy: str) -> Mapping[str, Any]:
    for what, value, known in (("preset", name, PRESETS), ("anatomy", anatomy, ANATOMIES)):
        if value not in known:
            raise InputError(f"{what} {value!r} is none of {', '.join(known)}")
    return TABLE[name, anatomy]
