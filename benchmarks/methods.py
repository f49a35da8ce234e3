"""The methods that the benchmarks on real images compare: one table.

A candidate is fitted as every method of the package, ``fit(cohort, source, target, config, out)``,
and says what it has seen of the training people: nothing but statistics of their target images,
those images, images of source and target without knowing which belong together (unpaired), or
pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from msgan import presets
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort
from msgan.methods.baselines import HistogramMatched, SlopeTransfer, Source
from msgan.methods.cascade import fit
from msgan.methods.matched import SpectrumMatched
from msgan.methods.mean_image import MeanImage
from msgan.methods.non_local_means import NonLocalMeans
from msgan.methods.paired import PairedRegression
from msgan.methods.patch_gan import PatchGan
from msgan.methods.rivals import RIVALS, Rival, cascade_config
from msgan.methods.small_gan import SmallGan
from msgan.methods.trained import Cascade
from msgan.studies.table import Fixed, Method

STATISTICS, TARGET, UNPAIRED, PAIRS = "the target's statistics", "target", "unpaired", "pairs"
"""What a method sees of the training people."""

GUIDED = presets.GUIDED.model_dump()
"""All of what may guide a translation."""

MEMORY = 8 * 2**30
"""Bytes of host memory: what training leaves behind may fill the 2 GiB that are usual."""

SIZES = ("lr_width", "lr_levels", "hr_width", "hr_blocks", "discriminator_width")


def cycle_gan(*arguments: Any, **options: Any) -> Method:
    """Fit a CycleGAN; its module is loaded when it is asked for."""
    from msgan.methods.cyclegan import CycleGan

    fitted: Method = CycleGan.fit(*arguments, **options)
    return fitted


def published(config: CascadeConfig) -> CascadeConfig:
    """The published family, sketch and losses, with the widths, batch and steps of ``config``.

    The published widths and batch would take weeks on two cores. Its patches have side 32.
    """
    chosen = presets.preset("published", dims=config.dims, seed=config.seed)
    own, names = config.training, ("steps", "lr_steps", "batch", "lr_batch", "validate_every")
    return chosen.updated(
        preparation=config.preparation,
        labels=config.labels,
        network={name: getattr(config.network, name) for name in SIZES},
        training={name: getattr(own, name) for name in names},
    )


@dataclass(frozen=True)
class Candidate:
    """A method that is compared.

    Attributes:
        name: In a table.
        fit: As every method is fitted.
        sees: What of the training people.
        trained: Whether networks are trained.
        guidance: What of the source guides it; the others see its sketch.
        changed: Makes its configuration of the benchmark's.
    """

    name: str
    fit: Callable[..., Method] = field(repr=False)
    sees: str
    trained: bool = True
    guidance: Mapping[str, Any] = field(default_factory=dict)
    changed: Callable[[CascadeConfig], CascadeConfig] = field(default=lambda c: c, repr=False)

    @property
    def per_source(self) -> bool:
        """Whether it is fitted anew for each source: whether it sees source images."""
        return self.sees in (UNPAIRED, PAIRS)

    def configured(self, config: CascadeConfig, match: str = "auto") -> CascadeConfig:
        """Its configuration; ``match`` is what ``auto`` stands for."""
        chosen = self.changed(config)
        if not self.guidance:
            return chosen.unguided()
        guidance = dict(self.guidance)
        if guidance["match"] == "auto":
            guidance["match"] = match
        kernels = guidance["match"] == "spectrum"
        return chosen.updated(
            guidance=guidance,
            contrast=presets.KERNEL_CONTRAST.model_dump() if kernels else {},
            conditioning={"generated_share": 1.0},
        )


# fmt: off
CANDIDATES = (
    Candidate("source", Source.fit, STATISTICS, trained=False),
    Candidate("histogram-matched", HistogramMatched.fit, STATISTICS, trained=False),
    Candidate("inverted, matched", partial(HistogramMatched.fit, inverted=True), STATISTICS,
        trained=False),
    Candidate("histogram-matched + slope transfer", SlopeTransfer.fit, STATISTICS, trained=False),
    Candidate("inverted, matched + slope transfer", partial(SlopeTransfer.fit, inverted=True),
        STATISTICS, trained=False),
    Candidate("spectrum-matched", SpectrumMatched.fit, STATISTICS, trained=False),
    Candidate("non-local means", NonLocalMeans.fit, STATISTICS, trained=False),
    Candidate("mean image", MeanImage.fit, TARGET, trained=False),
    Candidate("small GAN", SmallGan.fit, TARGET),
    Candidate("patch GAN", PatchGan.fit, TARGET),
    Candidate("published", Cascade.fit, TARGET, changed=published),
    Candidate("cascade", Cascade.fit, TARGET),
    Candidate("cascade, match", Cascade.fit, TARGET, guidance={"match": "auto"}),
    Candidate("cascade, match and student", Cascade.fit, TARGET,
        guidance={"match": "auto", "student": True}),
    Candidate("cascade, guided", Cascade.fit, TARGET, guidance=GUIDED),
    Candidate("CycleGAN", cycle_gan, UNPAIRED),
    Candidate("paired regression", PairedRegression.fit, PAIRS),
)
# fmt: on
"""In the order of a table; a benchmark names those it compares."""


def fit_rival(
    rival: Rival,
    seconds: float | None,
    cohort: Cohort,
    source: str,
    target: str,
    config: CascadeConfig,
    out: Path,
) -> Method:
    """Train a method of notebook 12 in its sizes of ``small``; of ``config`` it has the images.

    Args:
        rival: The method.
        seconds: Of training, about; None: as many steps as ``config`` has at its finest scale.
        cohort: Training people.
        source: Modality that is translated.
        target: Modality that is made.
        config: Of the benchmark.
        out: Its run folder.
    """
    small = cascade_config("small", ct=target == "ct").updated(preparation=config.preparation)
    own = rival.configured(small, source, "small", seconds)
    if seconds is None:
        names = ("steps", "validate_every", "checkpoint_every")
        own = own.updated(training={name: getattr(config.training, name) for name in names})
    return rival.method(fit(cohort, target, own, out))


def equal_time(seconds: float | None) -> list[Candidate]:
    """The methods of notebook 12 that learn from pairs, each trained for as many steps as take it
    this long (:mod:`msgan.methods.rivals`); None: for those of the configuration."""
    return [Candidate(r.method.name, partial(fit_rival, r, seconds), PAIRS) for r in RIVALS]


def candidates(names: Sequence[str], *own: Candidate) -> list[Candidate]:
    """Those of the table with these names, and of a benchmark's ``own``.

    Raises:
        SystemExit: There is no such method.
    """
    table = {candidate.name: candidate for candidate in (*CANDIDATES, *own)}
    if unknown := [name for name in names if name not in table]:
        raise SystemExit(f"no method {unknown[0]!r}; there are: {', '.join(table)}")
    return [table[name] for name in names]


@dataclass(frozen=True)
class Fitted:
    """A method that has seen the training people, and how long that took."""

    candidate: Candidate
    method: Method
    seconds: float

    def translating(self, **options: Any) -> Method:
        """The method as it translates, with the memory that a process which has trained needs."""
        return Fixed(self.method, memory=MEMORY, **options)


def fitted(
    candidate: Candidate,
    cohort: Cohort,
    source: str,
    target: str,
    config: CascadeConfig,
    out: Path,
    *,
    match: str = "auto",
) -> Fitted:
    """Fit a method in a folder of its own below ``out``; a training that was stopped goes on."""
    start = perf_counter()
    folder = out / candidate.name.replace(" ", "_").replace(",", "")
    method = candidate.fit(cohort, source, target, candidate.configured(config, match), folder)
    return Fitted(candidate, method, perf_counter() - start)
