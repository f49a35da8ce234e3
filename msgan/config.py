"""Configuration of one cascade: frozen, validated, stored as YAML beside the weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import isinf, isnan
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from msgan.documents import repr_of, rule, shown, yaml_of
from msgan.paths import write_text
from msgan.types import InputError
from msgan.upgrade import upgraded

CHANNELS = ("edges", "self_similarity", "ridges", "image", "auto_context")
"""What a sketch may consist of; :mod:`msgan.sketch` draws it."""

MOST_STEPS = 10**9
LARGEST = 4096
WIDEST = 1024
"""Sizes beyond these are slips of the keyboard: no machine trains so long or so wide."""


class Model(BaseModel):
    """Frozen, and an unknown key is an error: a misspelt option must not be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, given: Any) -> Any:
        """Refuse ``yes`` for a number: YAML takes it for true, which would count as 1."""
        for name, value in given.items() if isinstance(given, Mapping) else ():
            field = cls.model_fields.get(name) if isinstance(name, str) else None
            if isinstance(value, bool) and field is not None and field.annotation is not bool:
                word = "true" if value else "false"
                raise ValueError(f"{name} is {word} (or yes, no, on, off): expected another value")
        return given

    def updated(self, every: Mapping[str, Any] | None = None, /, **changes: Any) -> Self:
        """The same with other values, validated as a whole.

        ``config.updated(training={"steps": 100}, labels=(1,))`` changes one field of the part
        ``training`` and the field ``labels``; ``config.updated(network={"family": "megan"})``
        keeps the sizes that both families have.

        Args:
            every: As ``changes``, in one mapping.
            changes: By field; a mapping changes those fields of a part that it names.

        Raises:
            InputError: There is no such field, or the values do not fit together.

        Example:
            >>> config = TrainConfig(steps=100, lr_steps=50).updated(steps=200)
            >>> config.steps, config.lr_steps
            (200, 50)
            >>> config.updated(steps=0)
            Traceback (most recent call last):
            msgan.types.InputError: steps: expected at least 1, not 0
        """
        try:
            return type(self).model_validate(self._merged({**(every or {}), **changes}))
        except ValidationError as error:
            raise InputError(rule(error)) from None

    def _merged(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """All values with ``changes``, part by part."""
        merged = self.model_dump()
        for name, value in changes.items():
            part = getattr(self, str(name), None)
            if isinstance(value, Mapping) and isinstance(part, Model):
                value = part._merged(value)
            merged[name] = value.model_dump() if isinstance(value, BaseModel) else value
        return merged


def _padding(value: Any) -> Any:
    """YAML's ``.nan`` as the word; what is neither that nor a number is refused in one line."""
    if value is None or value == "nan":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or isinf(value):
        raise ValueError(f"padding {value!r}: expected nan or a number, as -2000")
    return "nan" if isnan(value) else value


class IntensityRange(Model):
    """How the values of one modality become [-1, 1].

    Attributes:
        intensity: ``window``: ``low`` and ``high`` are source values, as of a CT in HU;
            ``percentile``: ``high`` is one of the foreground, as of an MR.
        low: Source value shown as -1; None: the foreground's minimum.
        high: See above; the percentile 100 is the maximum.
        foreground: Voxels above this source value are foreground.
    """

    intensity: Literal["percentile", "window"] = "percentile"
    low: float | None = 0.0
    high: float = 99.5
    foreground: float = 0.0


class Preparation(Model):
    """How a file becomes an image in [-1, 1] on the working grid.

    The spacing, not the shape, is the same for all subjects, so that a voxel means the same
    everywhere. ``spacing_mm = None`` keeps each source's own spacing: nothing is interpolated.

    Attributes:
        spacing_mm: Side of a voxel of the finest scale along each axis, in mm; None: that of each
            source. A training writes the median of its subjects.
        scales: How often the resolution doubles: the scales are s0 to s(scales). None: until the
            longest side of s0 is at most ``longest``.
        longest: Longest side of s0 in voxels, where ``scales`` is None.
        intensity: How values are scaled. ``percentile``: ``high`` is a percentile of the
            foreground, as for MR; ``window``: ``low`` and ``high`` are source values, as of a CT in
            HU.
        low: Source value shown as -1 (black); None: the smallest value of the foreground.
        high: Shown as 1 (white): a percentile of the foreground, or a source value.
        foreground: Voxels above this source value are foreground.
        crop: Box that is translated: around the ``foreground``, or around the ``lungs`` of a chest
            CT (3D, in HU).
        margin: Voxels kept around that box.
        body: What lies outside the body (:func:`msgan.data.body.body_mask`) is background, and
            nothing inside is: dark bone of an MR, gas in a CT. For MR to CT, whose intensities are
            matched by rank: air and a table have ranks too. Costs a bit a voxel of host memory.
        padding: Source value, or ``nan``, of voxels that were never measured: they are background.
        ranges: Scaling of modalities whose values differ in kind from the target's, as of MR where
            the target is a CT; by modality.
    """

    spacing_mm: tuple[Annotated[float, Field(gt=0, le=1000)], ...] | None = None
    scales: int | None = Field(None, ge=1, le=12, description="n; None: chosen from ``longest``")
    longest: int = Field(
        64, ge=8, le=LARGEST, description="longest side of s0 where ``scales`` is None"
    )
    intensity: Literal["percentile", "window"] = "percentile"
    low: float | None = Field(0.0, description="source value shown as -1; None: the minimum")
    high: float = Field(99.5, description="percentile of the foreground, or source value")
    foreground: float = Field(0.0, description="voxels above this source value are foreground")
    crop: Literal["foreground", "lungs"] = Field(
        "foreground", description="what is translated; lungs: of a chest CT in HU, 3D"
    )
    margin: int = Field(3, ge=0, le=LARGEST, description="voxels kept around the crop")
    body: bool = Field(
        False, description="all outside the body is background, nothing inside; for MR to CT"
    )
    padding: Annotated[Literal["nan"] | float | None, BeforeValidator(_padding)] = Field(
        None, description="nan or a source value: voxels that are background, whatever else"
    )
    ranges: dict[Annotated[str, Field(pattern="^[a-z0-9_-]+$")], IntensityRange] = Field(
        default_factory=dict,
        max_length=64,
        description="of modalities whose values differ in kind from the target's, as MR from CT",
    )

    def of(self, modality: str | None) -> Preparation:
        """That of one modality: with its own range where ``ranges`` states one.

        Example:
            >>> ct = Preparation(intensity="window", low=-1024, high=3000, foreground=-300)
            >>> both = ct.updated(ranges={"mr": IntensityRange(high=100)})
            >>> both.of("mr").high, both.of("ct").high, both.of("mr").ranges
            (100.0, 3000.0, {})
        """
        if not self.ranges:
            return self
        own = self.ranges.get(modality or "")
        return self.updated({**(own.model_dump() if own else {}), "ranges": {}})

    def padded(self, padding: Literal["nan"] | float | None) -> Preparation:
        """The same with another padding; None leaves it as it is."""
        return self if padding is None else self.updated(padding=padding)

    @model_serializer(mode="wrap")
    def _without_default(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No key for what is not asked for: the hash of such a run is that of an older run."""
        content: dict[str, Any] = whole(self)
        if not self.body:
            content.pop("body", None)
        if self.padding is None:
            content.pop("padding", None)
        if not self.ranges:
            content.pop("ranges", None)
        return content


class SketchConfig(Model):
    """Weighted Canny edges (extended paper, section 2.2) and, optionally, further channels.

    The channel ``image`` is the image itself and no sketch; it is for paired cascades and CycleGAN.
    ``auto_context`` is what another run made of it (:attr:`CascadeConfig.auto_context`).

    Attributes:
        channels: What a sketch consists of, one or more of :data:`CHANNELS`.
        sigma: Standard deviation of the Gaussian smoothing before gradients, voxels of the scale.
        low: Canny threshold that a voxel must exceed to continue an edge: a share of the response
            to a step over the whole range, or of the surroundings with ``weight: local``.
        high: Canny threshold, in the same unit, that a voxel must exceed to begin an edge.
        steps: How many voxels an edge is continued from where it began; bounded, so that tiles
            agree.
        weight: What an edge is weighted by: its ``gradient``, or its gradient relative to those
            around it (``local``), which depends less on the modality.
    """

    channels: tuple[str, ...] = Field(("edges",), max_length=16)
    sigma: float = Field(1.0, gt=0, le=100, description="Gaussian smoothing, voxels of the scale")
    low: float = Field(0.1, ge=0)
    high: float = Field(0.2, ge=0)
    steps: int = Field(8, ge=0, le=1000, description="bound on hysteresis, so that tiles agree")
    weight: Literal["gradient", "local"] = "gradient"

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not self.channels:
            raise ValueError(f"sketch channels: expected at least one of {', '.join(CHANNELS)}")
        for name in self.channels:
            if name not in CHANNELS:
                raise ValueError(f"sketch channel {name!r} is none of {', '.join(CHANNELS)}")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"sketch threshold low {self.low} exceeds high {self.high}")
        return self


class ConditioningAugmentation(Model):
    """What keeps the errors of one scale from the next (extended paper, section 2.2).

    Attributes:
        noise: Standard deviation of the noise added to contexts, images being in [-1, 1].
        blur_share: Share of the contexts that are blurred.
        blur_sigma: Standard deviation of that blur, voxels of the context.
        half_share: Share of the contexts of which the finer half of the resolution is removed.
        sketch_noise: Standard deviation of the noise added to sketches, which are in [0, 1].
        generated_share: Share of the contexts that come from the trained scales below instead of
            the real image; above 0, scales are trained in order.
    """

    noise: float = Field(0.05, ge=0, description="standard deviation, image in [-1, 1]")
    blur_share: float = Field(0.3, ge=0, le=1)
    blur_sigma: float = Field(1.0, gt=0, le=100, description="voxels of the context")
    half_share: float = Field(0.2, ge=0, le=1)
    sketch_noise: float = Field(0.01, ge=0)
    generated_share: float = Field(
        0.0, ge=0, le=1, description="share of contexts that the scales below have made"
    )


class ContrastAugmentation(Model):
    """Random recolouring of the target image before its sketch is taken.

    The cascade is trained on sketches of the target and run on sketches of another modality;
    edges that are strong in one are weak in the other. Differs: the papers only add noise.

    Attributes:
        share: Share of the samples whose sketch is that of a recoloured image.
        variants: How many recoloured copies are made of each subject and kept in the cache.
        knots: Points of the random piecewise-linear curve of intensities.
        noise: Largest standard deviation of the noise that is added to a recoloured image.
        kind: What is drawn: ``curve`` a piecewise-linear curve of the intensity; ``rich`` curves,
            clusters and random convolutions that differ between places, blur, bias and textured
            noise (MR); ``kernel`` other kernels of the same scan (CT), HU as they are.
        fresh: Of the samples from recoloured images, the share whose appearance is drawn for it
            alone, instead of one of ``variants`` in the cache.
        sharper: Of the kernels, the share that is sharper than the target's; the others are softer,
            and no match gives back what they have lost.
    """

    share: float = Field(0.0, ge=0, le=1, description="share of patches from recoloured images")
    variants: int = Field(4, ge=1, le=1000, description="recoloured sketches made of each subject")
    knots: int = Field(5, ge=2, le=1000, description="knots of the random piecewise-linear curve")
    noise: float = Field(0.02, ge=0, description="largest standard deviation added after")
    kind: Literal["curve", "rich", "kernel"] = "curve"
    fresh: float = Field(0.0, ge=0, le=1, description="share of recoloured samples drawn anew")
    sharper: float = Field(0.5, ge=0, le=1, description="share of kernels sharper than the target")

    @model_serializer(mode="wrap")
    def _without_defaults(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No key for what older runs could not state: the hash of such a run stays."""
        content: dict[str, Any] = whole(self)
        for name in ("kind", "fresh", "sharper"):
            if getattr(self, name) == type(self).model_fields[name].default:
                content.pop(name, None)
        return content


class Guidance(Model):
    """What of the source image itself guides a translation, beside its sketch.

    Off, as in the papers, only the sketch of the source is seen. Differs: a sketch loses what
    tissue a region is, and what can be matched without pairs is worth more than what a small
    network learns in minutes.

    Attributes:
        match: How the source is brought to the target before it is used: ``histogram`` by a curve
            on its intensities (MR), ``spectrum`` by a filter (CT); ``auto`` is decided by the
            target's unit when training begins.
        student: The estimate at s0 is smoothed by a regression on the source's local features.
        detail: The generators of s1..sn see the source and add to its detail.
        redraw: In a translation s0 draws from the sketch of the matched source too, which looks
            more like the target's than that of the source; the mean of both is taken. With
            ``histogram``, where it is clear which way round the source is.
    """

    match: Literal["none", "auto", "histogram", "spectrum"] = "none"
    student: bool = False
    detail: bool = False
    redraw: bool = False

    @property
    def on(self) -> bool:
        """Whether anything of the source is used beside its sketch."""
        return self.match != "none"

    @model_validator(mode="after")
    def _based(self) -> Self:
        if not self.on and (self.student or self.detail):
            raise ValueError("guidance: student and detail need a match: auto, histogram, spectrum")
        if self.redraw and self.match not in ("auto", "histogram"):
            raise ValueError("guidance: redraw needs a match: auto, histogram")
        return self

    @model_serializer(mode="wrap")
    def _without_redraw(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No key for what older runs could not state: the hash of such a run stays."""
        content: dict[str, Any] = whole(self)
        if not self.redraw:
            content.pop("redraw")
        return content


class Cycle(Model):
    """CycleGAN (Zhu et al. 2017): a source is translated directly, and learnt from without pairs.

    Attributes:
        source: Modality that is translated.
        weight: Of the cycle loss beside the adversarial loss (section 4: 10).
        identity: Weight of the identity loss, as a share of that (section 5.2, for paintings: 0.5).
        pool: Generated patches that are kept to be shown to D again (section 4: 50).
    """

    source: str = Field(min_length=1)
    weight: float = Field(10.0, ge=0)
    identity: float = Field(0.0, ge=0)
    pool: int = Field(50, ge=0, le=LARGEST)


class Perceptual(Model):
    """The perceptual loss of 3D-mDAUNet (Ha et al. 2025, eq. 4); without it the term is off.

    Attributes:
        backbone: Hash of the weights of the network whose features are compared.
        weight: Of the term (lambda 2 of eq. 2).
    """

    backbone: str = Field(min_length=1)
    weight: float = Field(1.0, gt=0)


class NetworkFamily(Model):
    """Sizes of the networks of a family, and in what it differs from others.

    Attributes:
        family: Its name, as configurations state it.
        patch: The only side of a detail patch; None: any, but see :meth:`misfit`.
        pairs: It learns from pairs and is scale n alone, which reads the image itself.
        blended: Whole patches are joined by Gaussian weights; else by a plain mean.
        sliced: It is trained on slices of volumes.
        perceptual: It may have a perceptual loss.
        detail: Its HR generators may see the source (``guidance.detail``).
        fixed: The only values that other settings may have, by name.
        title, paper: What cards of models call a family of pairs, and cite.
    """

    if TYPE_CHECKING:
        family: str  # a field, at another place in each class
    patch: ClassVar[int | None] = None
    pairs: ClassVar[bool] = False
    blended: ClassVar[bool] = False
    sliced: ClassVar[bool] = False
    perceptual: ClassVar[bool] = False
    detail: ClassVar[bool] = False
    fixed: ClassVar[Mapping[str, Any]] = {}
    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""

    def misfit(self, patch: int) -> str | None:
        """What is wrong with patches of that side; None: they suit."""
        return None

    def distances(self, step: int, steps: int) -> dict[str, float]:
        """Weights of what G of a family of pairs is trained on beside L1 and L2, after ``step`` of
        ``steps``: ``features``, which D computes, and :data:`msgan.training.pairs.DISTANCES`.
        """
        return {}

    def _merged(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Of another family: what it shares with this one."""
        fields = FAMILIES.get(str(changes.get("family")), type(self)).model_fields
        merged = super()._merged(changes)
        return {name: merged[name] for name in merged if name in fields or name in changes}


class CascadeNetwork(NetworkFamily):
    """What the networks of a cascade's families have.

    Attributes:
        lr_width: Features of the first level of the generator of s0 (LR), doubled at each further.
        lr_levels: Levels of resolution of that generator.
        dropout: Share of features that dropout sets to 0 in training.
        hr_width: Features of the generators of s1..sn (HR).
        hr_blocks: Residual blocks of each of them.
        discriminator_width: Features of the first level of the discriminator D.
        conditional: Whether D sees sketch and context beside the image that it judges.
    """

    lr_width: int = Field(64, ge=1, le=WIDEST, description="features of the LR U-Net's first level")
    lr_levels: int = Field(4, ge=1, le=12)
    dropout: float = Field(0.2, ge=0, lt=1)
    hr_width: int = Field(64, ge=1, le=WIDEST, description="features of the HR generators")
    hr_blocks: int = Field(6, ge=1, le=200)
    discriminator_width: int = Field(64, ge=1, le=WIDEST)
    conditional: bool = Field(True, description="whether D sees sketch and context too")

    @model_validator(mode="after")
    def _widest(self) -> Self:
        if self.lr_width << (self.lr_levels - 1) > LARGEST:
            raise ValueError(
                f"lr_width {self.lr_width} doubles in each of lr_levels {self.lr_levels} but "
                f"the first: expected at most {LARGEST} features in the last"
            )
        return self


class MeganNetwork(CascadeNetwork):
    """Sizes of the published networks.

    Attributes:
        family: The published networks (Uzunova et al. 2020).
        patch: Side of the only patches that the generators of s1..sn run at, voxels.
        lr_border: s0 sees the image to its border and nothing around it.
    """

    patch: ClassVar[int | None] = 32
    lr_border: ClassVar = 0
    family: Literal["megan"] = "megan"

    @model_validator(mode="before")
    @classmethod
    def _borderless(cls, given: Any) -> Any:
        """Accept the border of 0 that files of older runs state."""
        if not isinstance(given, Mapping):
            return given
        if border := given.get("lr_border"):
            raise ValueError(
                f"lr_border {shown(border)}: the published network (family megan) sees the image "
                "to its border: expected 0"
            )
        return {name: value for name, value in given.items() if name != "lr_border"}


class SeamlessNetwork(CascadeNetwork):
    """Sizes of the networks whose tiles join exactly; patches of any side.

    Attributes:
        family: The networks of this package, the default.
        lr_border: Voxels of background around an image that s0 sees, on its own grid.
    """

    detail: ClassVar[bool] = True
    family: Literal["seamless"] = "seamless"
    lr_border: int = Field(
        0, ge=0, le=LARGEST, description="what s0 sees around an image, voxels of s0"
    )

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        step = 2 ** (self.lr_levels - 1)  # so that strides fall where they fall without a border
        if self.lr_border % step:
            raise ValueError(
                f"lr_border {self.lr_border} is not a multiple of {step}, which is "
                f"2^(lr_levels - 1) for lr_levels {self.lr_levels}"
            )
        return self


class PairNetwork(NetworkFamily):
    """Sizes of a family of pairs; what would do nothing in it, or harm, is fixed.

    Attributes:
        discriminator_width: Features of the first level of the discriminator D.
    """

    pairs: ClassVar[bool] = True
    blended: ClassVar[bool] = True
    fixed: ClassVar[Mapping[str, Any]] = {
        "sketch.channels": ("image",),
        "drop_inputs": ("context",),
        "labels": (),
        "conditioning.generated_share": 0,
        "training.gradient_weight": 0,
        "training.discriminator_accuracy": 1,
    }
    family: str
    discriminator_width: int = Field(64, ge=1, le=WIDEST, description="features of D's first level")


class MdaunetNetwork(PairNetwork):
    """Sizes of 3D-mDAUNet (Ha et al. 2025).

    The last three fields switch off, one by one, what table 2 leaves out; its fourth switch, the
    plain loss, is ``training.gan``: ``log``. D sees images alone.

    Attributes:
        family: The networks of 3D-mDAUNet, which learns from pairs.
        features: Features of each level of the generator G, finest first.
        growth: Features that each convolution of a residual dense block adds, by level.
        blocks: Residual dense blocks of each level.
        multi_input: Whether the coarser levels of G see the image too.
        multi_output: Whether the coarser levels of G make an image too, which D judges.
        voxelwise: Whether D judges each voxel, or else the whole patch.
    """

    perceptual: ClassVar[bool] = True
    fixed: ClassVar[Mapping[str, Any]] = {**PairNetwork.fixed, "training.l2_weight": 0}
    title: ClassVar[str] = "3D-mDAUNet (Ha et al. 2025)"
    paper: ClassVar[str] = (
        "Ha J., Park J. S., Crandall D., Garyfallidis E., Zhang X.: Multi-resolution guided 3D "
        "GANs for medical image translation. 2025."
    )
    family: Literal["mdaunet"] = "mdaunet"
    features: tuple[Annotated[int, Field(ge=1, le=LARGEST)], ...] = Field(
        (64, 128, 256, 512), min_length=2, max_length=8, description="of each level, finest first"
    )
    growth: tuple[Annotated[int, Field(ge=1, le=LARGEST)], ...] = Field(
        (32, 64, 128, 256), description="of the residual dense blocks of each level"
    )
    blocks: int = Field(2, ge=1, le=200, description="residual dense blocks of each level")
    multi_input: bool = Field(True, description="whether G's lower levels see the image")
    multi_output: bool = Field(True, description="whether its lower levels give an image, judged")
    voxelwise: bool = Field(True, description="whether D judges voxels, and not whole patches")

    @model_validator(mode="after")
    def _same_levels(self) -> Self:
        if len(self.growth) != len(self.features):
            raise ValueError(
                f"growth {self.growth} has {len(self.growth)} levels, features {self.features} "
                f"has {len(self.features)}"
            )
        return self

    @property
    def images(self) -> int:
        """How many G makes, and D sees."""
        return len(self.features) if self.multi_output else 1

    def misfit(self, patch: int) -> str | None:
        """All levels must be able to halve it."""
        step = 1 << (len(self.features) - 1)
        if not patch % step:
            return None
        return f"is not a multiple of {step}, to which the {len(self.features)} levels reduce it"


class EaGanNetwork(PairNetwork):
    """Sizes of Ea-GAN (Yu et al. 2019) and its edge loss. D sees the source too.

    Attributes:
        family: The networks of Ea-GAN, which learns from pairs.
        width: Features of the U-Net's first level; it has as many levels as halve a patch to one
            voxel (published: seven of 128).
        edges_judged: Whether D sees the Sobel map of an image beside it: dEa-GAN, else gEa-GAN.
        edge_weight: Weight of the distance between the Sobel maps.
        edge_rise: Share of all steps in which this weight rises from 0 (published: 20 of 200
            epochs).
    """

    title: ClassVar[str] = "Ea-GAN (Yu et al. 2019)"
    paper: ClassVar[str] = (
        "Yu B., Zhou L., Wang L., Shi Y., Fripp J., Bourgeat P.: Ea-GANs: edge-aware generative "
        "adversarial networks for cross-modality MR image synthesis. IEEE Transactions on Medical "
        "Imaging, 2019."
    )
    family: Literal["ea_gan"] = "ea_gan"
    width: int = Field(64, ge=1, le=WIDEST, description="features of G's first level")
    edges_judged: bool = Field(True, description="whether D sees Sobel maps: dEa-GAN, else gEa-GAN")
    edge_weight: float = Field(100.0, ge=0, description="of the distance of Sobel maps")
    edge_rise: float = Field(0.1, ge=0, le=1, description="share of steps in which it rises")

    def misfit(self, patch: int) -> str | None:
        """All levels halve it, down to one voxel."""
        if patch in (8, 16, 32, 64, 128):
            return None
        return "is none of 8, 16, 32, 64 and 128, which levels can halve to one voxel"

    def distances(self, step: int, steps: int) -> dict[str, float]:
        """Of Sobel maps."""
        rise = self.edge_rise * steps
        weight = self.edge_weight * min(1.0, step / rise if rise else 1.0)
        return {"edges": weight} if self.edge_weight else {}


class ResvitNetwork(PairNetwork):
    """Sizes of ResViT (Dalmaz et al. 2022), which translates slices. D sees the source too.

    Attributes:
        family: The networks of ResViT, which learns from pairs.
        width: Features of the first convolution of the generator.
        tokens: Features of a token of the transformer.
        depth: Layers of the transformer.
        heads: Heads of its attention; they divide ``tokens``.
        dropout: Share of the features of tokens that dropout sets to 0 in training.
    """

    sliced: ClassVar[bool] = True
    title: ClassVar[str] = "ResViT (Dalmaz et al. 2022)"
    paper: ClassVar[str] = (
        "Dalmaz O., Yurt M., Cukur T.: ResViT: residual vision transformers for multimodal medical "
        "image synthesis. IEEE Transactions on Medical Imaging, 2022."
    )
    family: Literal["resvit"] = "resvit"
    width: int = Field(64, ge=1, le=WIDEST, description="features of G's first convolution")
    tokens: int = Field(768, ge=1, le=LARGEST, description="features of a token")
    depth: int = Field(12, ge=1, le=200, description="layers of the transformer")
    heads: int = Field(12, ge=1, le=WIDEST, description="of its attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="of its tokens")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.tokens % self.heads:
            raise ValueError(f"tokens {self.tokens} is not a multiple of heads {self.heads}")
        return self

    def misfit(self, patch: int) -> str | None:
        """A token is 16 pixels wide."""
        return "is not a multiple of 16, the side of a token" if patch % 16 else None


class PtnetNetwork(PairNetwork):
    """Sizes of PTNet3D (Zhang et al. 2022) and its feature loss. D sees the source too.

    Attributes:
        family: The networks of PTNet3D, which learns from pairs.
        width: Features of the first performer of the generator.
        tokens: Features of a token of the bottleneck.
        depth: Layers of the transformers of the bottleneck and of the global branch.
        heads: Heads of the bottleneck's attention; they divide ``tokens``.
        global_tokens: Features of a token of the global branch.
        global_heads: Heads of the global branch's attention; they divide ``global_tokens``.
        feature_weight: Weight of the distance between the discriminator's features of real and
            generated images.
    """

    title: ClassVar[str] = "PTNet3D (Zhang et al. 2022)"
    paper: ClassVar[str] = (
        "Zhang X., He X., Guo J., Ettehadi N., Aw N., Semanek D., Posner J., Laine A., Wang Y.: "
        "PTNet3D: a 3D high-resolution longitudinal infant brain MRI synthesizer based on "
        "transformers. IEEE Transactions on Medical Imaging, 2022."
    )
    family: Literal["ptnet"] = "ptnet"
    width: int = Field(16, ge=2, le=WIDEST, description="features of G's first performer")
    tokens: int = Field(256, ge=1, le=LARGEST, description="features of a bottleneck's token")
    depth: int = Field(9, ge=1, le=200, description="layers of both transformers")
    heads: int = Field(4, ge=1, le=WIDEST, description="of the bottleneck's attention")
    global_tokens: int = Field(64, ge=1, le=LARGEST, description="features of a global token")
    global_heads: int = Field(2, ge=1, le=WIDEST, description="of the global branch's attention")
    feature_weight: float = Field(10.0, ge=0, description="of the distance of D's features")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        for name in ("", "global_"):
            tokens, heads = getattr(self, f"{name}tokens"), getattr(self, f"{name}heads")
            if tokens % heads:
                raise ValueError(f"{name}tokens {tokens} is not a multiple of {name}heads {heads}")
        return self

    def misfit(self, patch: int) -> str | None:
        """The bottleneck has an eighth of the resolution."""
        return "is not a multiple of 8, the side of a token" if patch % 8 else None

    def distances(self, step: int, steps: int) -> dict[str, float]:
        """Of the features of D."""
        return {"features": self.feature_weight} if self.feature_weight else {}


_ALL = MeganNetwork, SeamlessNetwork, MdaunetNetwork, EaGanNetwork, ResvitNetwork, PtnetNetwork
FAMILIES: dict[str, type[NetworkFamily]] = {own.model_fields["family"].default: own for own in _ALL}
"""Their networks are in :data:`msgan.networks.families.FAMILIES`."""


def _of_a_family(given: Any) -> Any:
    """Sizes of the stated family, of ``seamless`` where none is, as in files of YAML."""
    if not isinstance(given, Mapping):
        return given
    family = given.get("family", "seamless")
    if family not in tuple(FAMILIES):
        expected = " or ".join(map(repr, FAMILIES))
        raise ValueError(f"family {shown(repr_of(family))}: expected {expected}")
    return FAMILIES[family].model_validate(given)


NetworkConfig = Annotated[SerializeAsAny[NetworkFamily], BeforeValidator(_of_a_family)]
"""Sizes of the networks of a cascade, of one family."""


def network_of(family: str = "seamless", **sizes: Any) -> NetworkFamily:
    """The sizes of a family's networks."""
    return FAMILIES[family](**sizes)


class TrainConfig(Model):
    """Optimisation of each scale.

    Attributes:
        steps: Updates of the generator of each of the scales s1..sn.
        lr_steps: Updates of the generator of s0.
        batch: Patches of one step at s1..sn; several processes share them.
        lr_batch: Images, or crops, of one step at s0; several processes share them.
        patch: Side of the patches that s1..sn are trained on, voxels.
        lr_patch: Side of the crops that s0 is trained on, voxels; None: whole images.
        label_share: Share of the patches, and of the crops of s0, whose centre is a labelled voxel.
        learning_rate: Learning rate of Adam, of generators and discriminators.
        decay: How the learning rate falls: not at all, along a cosine to a fiftieth, linearly to 0
            in the second half, or by half after every quarter of the steps (``step``).
        beta1: Decay of Adam's mean of gradients.
        gan: Adversarial loss: of the paper (``log``), least squares, these with smoothed labels
            (Ea-GAN), or relativistic (3D-mDAUNet), with means over the batch and its voxels or over
            the batch alone.
        gan_weight: Weight of the adversarial loss of the generator.
        l1_weight: Weight of the mean absolute difference from the real image.
        l2_weight: Weight of the mean squared difference from the real image.
        gradient_weight: Weight of the gradient difference from the real image (MedSynth).
        discriminator_accuracy: Share of right answers above which the discriminator is not updated.
        ema: Decay of the moving average of the generator's weights, which is what is kept.
        mirror: Axes along which samples are mirrored at random.
        validate_every: Steps between two validations; the best weights are kept.
        patience: Validations without a better result after which a training ends.
        checkpoint_every: Steps between two checkpoints, from which a training can be resumed.
        precision: Of the numbers in networks: 32 bits, or 16 where that is enough
            (``16-mixed``, ``bf16-mixed``).
    """

    steps: int = Field(..., ge=1, le=MOST_STEPS, description="generator updates of each HR scale")
    lr_steps: int = Field(..., ge=1, le=MOST_STEPS, description="generator updates of s0")
    batch: int = Field(1, ge=1, le=LARGEST)
    lr_batch: int = Field(1, ge=1, le=LARGEST)
    patch: int = Field(32, ge=4, le=LARGEST, description="side of a detail patch, voxels")
    lr_patch: int | None = Field(
        None, ge=1, le=LARGEST, description="side of an s0 crop; None: the whole image"
    )
    label_share: float = Field(
        0.0, ge=0, le=1, description="share of patches and s0 crops about a labelled voxel"
    )
    learning_rate: float = Field(2e-4, gt=0)
    decay: Literal["constant", "cosine", "linear", "step"] = Field(
        "constant", description="linear: to 0, over the second half; step: halved every quarter"
    )
    beta1: float = Field(0.5, ge=0, lt=1)
    gan: Literal[
        "log", "least_squares", "least_squares_smooth", "relativistic", "relativistic_batch"
    ] = "least_squares"
    gan_weight: float = Field(1.0, ge=0)
    l1_weight: float = Field(10.0, ge=0)
    l2_weight: float = Field(0.0, ge=0)
    gradient_weight: float = Field(0.0, ge=0, description="of the gradient difference")
    discriminator_accuracy: float = Field(0.8, gt=0, le=1, description="D rests above this")
    ema: float = Field(0.999, ge=0, lt=1)
    mirror: tuple[int, ...] = Field((), max_length=3, description="axes flipped at random")
    validate_every: int = Field(500, ge=1, le=MOST_STEPS)
    patience: int = Field(
        100, ge=1, le=MOST_STEPS, description="validations without a better result"
    )
    checkpoint_every: int = Field(500, ge=1, le=MOST_STEPS)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"


class CascadeConfig(Model):
    """Everything that decides what a trained cascade is, apart from the data and the code.

    ``drop_inputs`` names what the generators of s1..sn do not see, in training and in translation:
    the sketch is 0 (labels too), the context is background. A cascade without context needs no
    scale below the last. s0 always sees its sketch.

    ``paired`` names the modality of the image that sketches are taken from in training, instead
    of the target's own; a subject then needs both images, on one grid.

    ``auto_context`` states the weights whose results are the sketch's channel of that name.

    ``cycle`` makes of scale n a CycleGAN (:class:`msgan.methods.cyclegan.CycleGan`). The family
    ``mdaunet`` makes of it a 3D-mDAUNet (:class:`msgan.methods.mdaunet.MDAUNet`), which alone may
    have a ``perceptual`` loss, and the other families of pairs (:class:`PairNetwork`) what it is
    compared with.

    Attributes:
        dims: Number of axes of the images: 2 or 3.
        seed: Decides all random numbers: the same seed gives the same weights on a CPU.
        preparation: How a file becomes an image on the working grid.
        sketch: What the sketches show.
        conditioning: What is done to contexts and sketches in training.
        contrast: Random recolouring of the target before its sketch is taken, in training.
        guidance: What of the source is used beside its sketch.
        labels: Values of the label map that are drawn over the sketch, in this order.
        drop_inputs: What the generators of s1..sn do not see: ``sketch`` or ``context``.
        paired: Modality that sketches are taken from in training; None: the target itself.
        auto_context: Hash of the weights whose results are the sketch's channel ``auto_context``.
        cycle: Makes of scale n a CycleGAN; None: a cascade.
        perceptual: Perceptual loss of 3D-mDAUNet; None: without.
        network: Family and sizes of the networks.
        training: How each scale is trained.
    """

    dims: Literal[2, 3] = 3
    seed: int = Field(0, ge=-(1 << 63), lt=1 << 64)
    preparation: Preparation = Preparation()
    sketch: SketchConfig = SketchConfig()
    conditioning: ConditioningAugmentation = ConditioningAugmentation()
    contrast: ContrastAugmentation = ContrastAugmentation()
    guidance: Guidance = Guidance()
    labels: tuple[Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)], ...] = Field(
        (), max_length=256, description="label values overlaid on the sketch, in order"
    )
    drop_inputs: tuple[Literal["sketch", "context"], ...] = Field(
        (), description="what the generators of s1..sn do not see"
    )
    paired: str | None = Field(
        None, min_length=1, description="modality the sketch is taken from in training"
    )
    auto_context: str | None = Field(
        None, min_length=1, description="hash of the weights that made the channel auto_context"
    )
    cycle: Cycle | None = Field(None, description="scale n is a CycleGAN")
    perceptual: Perceptual | None = Field(None, description="perceptual loss of 3D-mDAUNet")
    network: NetworkConfig = SeamlessNetwork()
    training: TrainConfig

    def unguided(self) -> Self:
        """The same of which the sketch alone is seen, as in the papers; no other CT kernels."""
        changed = {"guidance": Guidance()}
        if self.contrast.kind == "kernel":
            return self.updated(changed, contrast=ContrastAugmentation())
        return self.updated(changed)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        patch, family = self.training.patch, self.network.family
        if self.network.patch not in (None, patch):
            raise ValueError(
                f"patch size {patch}: the {family} family runs at {self.network.patch} only"
            )
        spacing = self.preparation.spacing_mm
        if spacing is not None and len(spacing) != self.dims:
            raise ValueError(f"spacing {spacing} has {len(spacing)} axes, dims is {self.dims}")
        if any(axis not in range(self.dims) for axis in self.training.mirror):
            raise ValueError(f"mirror axes {self.training.mirror} do not fit dims {self.dims}")
        if len(self.drop_inputs) > 1:  # twice the same, or nothing left to see
            raise ValueError(
                f"drop_inputs {self.drop_inputs}: expected none or one of sketch, context"
            )
        if "image" in self.sketch.channels and self.paired is None and self.cycle is None:
            raise ValueError("sketch channel image shows the target itself: it needs paired")
        if self.auto_context is not None and self.paired is None:
            raise ValueError(
                f"auto_context {self.auto_context}: results of a source image need paired"
            )
        if ("auto_context" in self.sketch.channels) != (self.auto_context is not None):
            raise ValueError(
                f"sketch channels {self.sketch.channels} and auto_context {self.auto_context}: "
                "the channel auto_context and the weights that make it need each other"
            )
        if self.paired is not None and self.contrast.share:
            # Recolouring stands in for the source's contrast, which a pair has.
            raise ValueError(
                f"contrast share {self.contrast.share:g} recolours the target, but the sketch is "
                f"of the {self.paired} image (paired): expected 0"
            )
        if self.guidance.on and (self.paired is not None or self.drop_inputs):
            raise ValueError("guidance: needs a cascade that is neither paired nor drops inputs")
        if self.guidance.match == "spectrum" and self.contrast.share and self.contrast.fresh:
            raise ValueError(
                f"contrast.fresh {self.contrast.fresh:g}: an image drawn anew is not matched to "
                "the target's spectrum (guidance.match spectrum): expected 0"
            )
        return self

    @model_validator(mode="after")
    def _as_cycle(self) -> Self:
        """What is a setting of a cascade and would do nothing, or harm, in a CycleGAN."""
        fixed = {
            "sketch.channels": ("image",),
            "drop_inputs": ("context",),
            "paired": None,
            "labels": (),
            "contrast.share": 0,
            "guidance.match": "none",
            "network.family": "seamless",
            "network.conditional": False,
            "training.gan": "least_squares",
        }
        if self.cycle is not None:
            self._require("cycle", fixed)
        return self

    @model_validator(mode="after")
    def _as_family(self) -> Self:
        """What the family of the networks needs, and what it has not."""
        net = self.network
        if self.perceptual is not None and not net.perceptual:
            raise ValueError(f"perceptual: the {net.family} family has no such loss: expected none")
        if net.pairs and self.paired is None:
            raise ValueError(f"paired: the {net.family} family learns from pairs: name the source")
        if self.guidance.detail and not net.detail:
            raise ValueError(f"guidance.detail: needs the seamless family, not {net.family}")
        if misfit := net.misfit(self.training.patch):
            raise ValueError(f"patch size {self.training.patch} {misfit} ({net.family})")
        self._require(net.family, net.fixed)
        return self

    def _require(self, kind: str, fixed: Mapping[str, Any]) -> None:
        for name, expected in fixed.items():
            if (value := attrgetter(name)(self)) != expected:
                raise ValueError(f"{kind}: {name} is {value}: expected {expected}")

    @property
    def single_scale(self) -> bool:
        """Whether scale n is all there is, whatever the number of scales."""
        return self.cycle is not None or self.network.pairs

    @property
    def drawn(self) -> bool:
        """Whether what s0 draws is used.

        A source whose spectrum was matched is itself the estimate at s0, but for labels.
        """
        return self.guidance.match != "spectrum" or bool(self.labels)

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No key for what is off: the hash of a run without it is that of an older run."""
        content: dict[str, Any] = whole(self)
        if not self.guidance.on:
            content.pop("guidance", None)
        for name in ("cycle", "perceptual"):
            if getattr(self, name) is None:
                content.pop(name, None)
        return content

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the configuration as YAML, atomically."""
        write_text(path, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CascadeConfig:
        """Read a configuration; one clear error names file, key and rule."""
        path = Path(path)
        try:
            return cls.model_validate(upgraded(yaml_of(path), path))
        except FileNotFoundError:
            raise InputError(f"{path}: no such configuration") from None
        except ValidationError as error:
            raise InputError(f"{path}: {rule(error)}") from None
