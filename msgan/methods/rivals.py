"""The methods that table 1 of Ha et al. 2025 compares, and how long each is trained here.

A step of one method takes many times what a step of another takes, so equal steps would favour the
slow ones; and trainings that stop by the clock could not be repeated. So all that learn from pairs
are trained for the number of steps that takes each the same time, by what a step was measured to
take. A slower network has thus seen fewer samples; what each would reach without a limit of time,
such a table does not say. In the preset ``published`` each has the steps of its authors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgan import presets
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort
from msgan.methods.baselines import HistogramMatched, Source, baselines
from msgan.methods.ea_gan import DEaGan, GEaGan
from msgan.methods.mdaunet import ABLATIONS, MDAUNet
from msgan.methods.paired import PairedRegression
from msgan.methods.ptnet import PTNet3D
from msgan.methods.resvit import ResViT
from msgan.methods.shared import fit_cached
from msgan.methods.trained import Cascade, TrainedMethod
from msgan.runs.run import Run

SECONDS: Mapping[str, float | None] = {"smoke": 1.0, "small": 75.0, "published": None}
"""Of training, by preset, on one core that other work shares; None: the steps of the authors."""

CASCADE: Mapping[str, Mapping[str, Any]] = {"small": {"lr_steps": 1100, "steps": 400}}
"""Steps of the cascade where they are not the preset's; about four times :data:`SECONDS`, for two
generators and two discriminators that never see a pair."""

CT_CASCADE: Mapping[str, Mapping[str, Any]] = {"smoke": {"lr_steps": 20, "steps": 10}}
"""Likewise of the cascade of CTs: in ``smoke`` no other notebook trains it."""


FEWEST = 10
"""Steps between two validations, which take as long as some of them; the last step has one."""


@dataclass(frozen=True)
class Rival:
    """A method that learns from pairs.

    Attributes:
        method: With networks of its own, or of the cascade's sizes.
        pace: Seconds of a step at ``small``: processor time of one thread of an x86-64 with two
            cores that other work shared, PyTorch 2.13, a mean over at least 3 steps.
        sized: Whether its sizes are a row of a preset's table.
        training: What differs from that row at ``small``.
    """

    method: type[TrainedMethod]
    pace: float
    sized: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)

    def configured(
        self, config: CascadeConfig, source: str, preset: str, seconds: float | None = None
    ) -> CascadeConfig:
        """The configuration of its training; as of its rivals.

        Args:
            config: Of the cascade; its preparation is theirs.
            source: Modality that is translated.
            preset: Decides the sizes.
            seconds: Of training; None: :data:`SECONDS` of the preset.
        """
        sizes = {"size": preset} if self.sized else {}
        own = self.method.configured(config, source, **sizes)
        if (seconds := SECONDS[preset] if seconds is None else seconds) is None:
            return own
        steps = max(1, round(seconds / self.pace))
        every = max(FEWEST, steps // 4)
        training = {"steps": steps, "validate_every": every, "checkpoint_every": every}
        return own.updated(training={**training, **(self.training if preset == "small" else {})})


RIVALS = (
    Rival(PairedRegression, 0.044, sized=False),
    # Four times as many steps on an eighth of the voxels: with 32 it would have some fifty.
    Rival(MDAUNet, 0.275, training={"patch": 16}),
    Rival(GEaGan, 0.174),
    Rival(DEaGan, 0.247),
    Rival(ResViT, 0.285),
    Rival(PTNet3D, 0.62),
)
"""In the order of a table."""

METHODS: Mapping[str, type[TrainedMethod]] = {
    Cascade.name: Cascade,
    **{rival.method.name: rival.method for rival in RIVALS},
}
"""All that are trained, by name."""

WITHOUT = {f"no {what}": what for what in ABLATIONS}
"""Rows of table 2, and what each leaves out."""


def cascade_config(preset: str, *, ct: bool = False, seed: int = 0) -> CascadeConfig:
    """The cascade that the others are compared with; its preparation is theirs.

    Args:
        preset: One of :data:`msgan.presets.PRESETS`.
        ct: HU to HU, where the source's numbers cannot be trusted: networks as for MR, and where
            the preset is guided the source is matched by a curve on its values, not by a filter.
        seed: Of all trainings.
    """
    config = presets.preset(preset, "brain", seed=seed).updated(training=CASCADE.get(preset, {}))
    if not ct:
        return config
    scales = config.preparation.scales
    guided = {"guidance": {"match": "histogram"}} if config.guidance.on else {}
    preparation = presets.preset(preset, "thorax").preparation.updated(scales=scales)
    training = {"label_share": 0.0, **CT_CASCADE.get(preset, {})}
    return config.updated(preparation=preparation, labels=(), training=training, **guided)


def configurations(preset: str, source: str, target: str, *, seed: int = 0) -> dict[str, Any]:
    """What each method is trained as, by the name of its row; without the rows of table 2.

    Args:
        preset: Decides the sizes and the time (:data:`SECONDS`).
        source: Modality that is translated.
        target: Modality that is learnt; ``ct`` is in HU.
        seed: Of all trainings.
    """
    config = cascade_config(preset, ct=target == "ct", seed=seed)
    own = {rival.method.name: rival.configured(config, source, preset) for rival in RIVALS}
    return {Cascade.name: config, **own}


def ablations(config: CascadeConfig) -> dict[str, CascadeConfig]:
    """3D-mDAUNet without one of its parts, as in table 2, by the name of the row.

    Args:
        config: Of the whole method; all else stays, steps included.
    """
    return {row: config.updated(ABLATIONS[what]) for row, what in WITHOUT.items()}


Key = tuple[str, str, int, str]
"""Source, target, number of the fold, row of the table."""


def trainings(
    cohorts: Mapping[tuple[str, str, int], Cohort],
    preset: str,
    root: str | os.PathLike[str],
    *,
    device: str = "auto",
    seed: int = 0,
) -> dict[Key, Callable[[], Run]]:
    """All trainings of tables 1 and 2, for :func:`msgan.methods.workers.run_parallel`.

    Args:
        cohorts: Who is trained on, by source, target and fold. Table 2 is of the first source and
            target.
        preset: See :func:`configurations`.
        root: See :func:`msgan.methods.shared.fit_cached`.
        device: Likewise.
        seed: Of all trainings.
    """
    jobs: dict[Key, Callable[[], Run]] = {}
    first = next(iter(cohorts), None)
    for (source, target, fold), cohort in cohorts.items():
        configs = configurations(preset, source, target, seed=seed)
        if first is not None and (source, target) == first[:2]:
            configs |= ablations(configs[MDAUNet.name])
        for name, config in configs.items():
            job = partial(fit_cached, cohort, target, config, root, device=device)
            jobs[source, target, fold, name] = job
    return jobs


def compared(
    runs: Mapping[str, Run], cohort: Cohort, *, device: str = "auto"
) -> dict[str, TrainedMethod | Source | HistogramMatched]:
    """The methods of a table: three without a network, and those that were trained.

    Args:
        runs: By the name of their row, the cascade among them.
        cohort: Who was trained on.
        device: That networks run on.
    """
    first = runs[Cascade.name]
    simple = baselines(cohort, first.target, first.config.preparation)
    trained = {name: METHODS.get(name, MDAUNet)(run, device) for name, run in runs.items()}
    return {**{name: row for name, row in simple.items() if "slope" not in name}, **trained}
