"""Methods that learn from pairs of images and read the source itself: 3D-mDAUNet, its rivals."""

from __future__ import annotations

import os
from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from msgan import presets
from msgan.config import CascadeConfig, PairNetwork
from msgan.data.cohort import Cohort
from msgan.methods import cascade
from msgan.methods.trained import TrainedMethod
from msgan.runs.run import Run
from msgan.types import InputError


def of_pairs(config: CascadeConfig, source: str | None, name: str) -> CascadeConfig:
    """A cascade's configuration as one of pairs, of which the source image itself is seen.

    Args:
        config: Of the cascade.
        source: Modality that is translated.
        name: Of the method, for what is said of a fault.

    Raises:
        InputError: No source is stated.
    """
    if source is None:
        raise InputError(f"source None: the {name} is trained on pairs: name the source")
    return config.unguided().updated(
        paired=source,
        drop_inputs=("context",),
        labels=(),
        sketch={"channels": ("image",)},
        conditioning={"sketch_noise": 0.0, "generated_share": 0.0},
        contrast={"share": 0.0},
    )


class ImagePairs(TrainedMethod, ABC):
    """A method of one family of pairs, which is scale n of a cascade's run.

    Patches are blended by Gaussian weights out of core (:mod:`msgan.translate.overlap`); a moving
    average of the generator, the best on validation, is kept. Preparation, seed, steps and
    validation are those of the cascade it is compared with.

    Attributes:
        network: Its family.
        variant: Settings of the family that make of it this method.
    """

    network: ClassVar[type[PairNetwork]]
    variant: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, run: Run, device: str = "auto") -> None:
        """Use scale n of ``run``.

        Raises:
            InputError: The run is none of this method.
        """
        if not self._is_one(run.config):
            raise InputError(f"{run.folder}: was not trained as a {self.name}")
        super().__init__(run, device)

    @classmethod
    def _is_one(cls, config: CascadeConfig) -> bool:
        net = config.network
        return isinstance(net, cls.network) and net == net.updated(cls.variant)

    @classmethod
    def configured(
        cls, config: CascadeConfig, source: str | None = None, *, size: str | None = None
    ) -> CascadeConfig:
        """A cascade's configuration as this method's.

        Args:
            config: Of the cascade it is compared with. One of this method keeps its sizes, unless
                others are named.
            source: Modality that is translated.
            size: Row of its table in :mod:`msgan.presets`; None: that of the configuration, else
                ``small``.

        Raises:
            InputError: No source is stated, or there is no such size.
        """
        own = of_pairs(config, source, cls.name)
        if size is None and cls._is_one(config):
            return own
        changes = presets.of_pairs(cls.network, size or "small")
        changes["network"] = {**changes["network"], **cls.variant}
        return own.updated(changes, perceptual=None)

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        source: str | None,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str],
        *,
        size: str | None = None,
        **options: Any,
    ) -> Self:
        """Train it, or go on where its training stopped.

        Args:
            cohort: Subjects; those with both images are used.
            source: Modality that is translated.
            target: Modality that is learnt.
            config: See :meth:`configured`, as for ``size``.
            out: Run folder.
            size: See above.
            options: See :func:`msgan.methods.cascade.fit`.

        Raises:
            InputError: See :func:`msgan.methods.cascade.fit`.
        """
        own = cls.configured(config, source, size=size)
        run = cascade.fit(cohort, target, own, out, **options)
        return cls(run, options.get("device", "auto"))
