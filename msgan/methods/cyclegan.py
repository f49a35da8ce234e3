"""CycleGAN (Zhu et al. 2017): translation between two domains of images, without pairs."""

from __future__ import annotations

import os
from typing import Any, Self

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort
from msgan.methods import cascade
from msgan.methods.trained import TrainedMethod
from msgan.runs.run import Run
from msgan.translate import GeneratedScale, Generation
from msgan.types import InputError

RATE = 2e-4
"""Learning rate (section 4)."""


class CycleGan(TrainedMethod):
    """CycleGAN on patches, the baseline that sees both domains and no pairs.

    G makes the target from the source image and F the source from the target, each judged by a
    discriminator of its own; what has gone there and back shall be what it was (weight 10). G alone
    translates. That an image of the domain that is made shall stay as it is can be asked for as
    well (``identity``); the paper does so for paintings, and between contrasts of a brain it kept
    G from changing anything.

    It is scale n of a cascade's run that reads the image itself, so it is resumed, kept and tiled
    like one. Patches of both domains are drawn independently, each from all training subjects
    that have an image of it.

    Differs: Zhu et al. train on whole images of 256^2, one at a time, with ResNets of 9 blocks that
    pad, normalise over the image and end in a tanh, and a D that sees 70^2. Here G, F, D, patches,
    batch and steps are the cascade's, so that methods of a table differ in what they learn from,
    and tiles join exactly; a moving average of G is kept. The learning rate is theirs: at the
    cascade's, five times as high, G and F of brains ended in checkerboards. Patches are read with
    the halos of both generators, so nothing is padded on the way there and back; those that are
    compared have half the cascade's side.
    """

    name = "CycleGAN"

    def __init__(self, run: Run, device: str = "auto") -> None:
        """Use scale n of ``run``.

        Raises:
            InputError: The run is none of a CycleGAN.
        """
        if run.config.cycle is None:
            raise InputError(f"{run.folder}: was not trained as a CycleGAN")
        super().__init__(run, device)

    @classmethod
    def configured(
        cls,
        config: CascadeConfig,
        source: str | None = None,
        *,
        rate: float = RATE,
        **weights: Any,
    ) -> CascadeConfig:
        """A cascade's configuration as this method's.

        Args:
            config: Of the cascade it is compared with.
            source: Modality that is translated.
            rate: Learning rate.
            weights: Fields of :class:`msgan.config.Cycle`.

        Raises:
            InputError: No source is stated, or a weight is none.
        """
        if source is None:
            raise InputError(f"source None: {cls.name} learns from both domains: name the source")
        half = max(4, config.training.patch // 4 * 2)
        return config.unguided().updated(
            cycle={"source": source, **weights},
            drop_inputs=("context",),
            labels=(),
            sketch={"channels": ("image",)},
            conditioning={"sketch_noise": 0.0, "generated_share": 0.0},
            contrast={"share": 0.0},
            network={"family": "seamless", "conditional": False},
            training={
                "gan": "least_squares",
                "gan_weight": 1.0,
                "l1_weight": 0.0,
                "l2_weight": 0.0,
                "gradient_weight": 0.0,
                "discriminator_accuracy": 1.0,
                "learning_rate": rate,
                "beta1": 0.5,
                "decay": "linear",
                "patch": half,
            },
        )

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        source: str | None,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str],
        *,
        weight: float = 10.0,
        identity: float = 0.0,
        pool: int = 50,
        rate: float = RATE,
        **options: Any,
    ) -> Self:
        """Train it, or go on where its training stopped.

        Args:
            cohort: Subjects; those with an image of either domain are used.
            source: Modality that is translated.
            target: Modality that is learnt.
            config: Of a cascade; see :meth:`configured`.
            out: Run folder.
            weight: Of the cycle loss.
            identity: Weight of the identity loss, as a share of that.
            pool: Generated patches that are kept to be shown to D again.
            rate: Learning rate.
            options: See :func:`msgan.methods.cascade.fit`.

        Raises:
            InputError: See :func:`msgan.methods.cascade.fit`.
        """
        weights = {"weight": weight, "identity": identity, "pool": pool}
        own = cls.configured(config, source, rate=rate, **weights)
        run = cascade.fit(cohort, target, own, out, **options)
        return cls(run, options.get("device", "auto"))

    @property
    def generation(self) -> Generation:
        """Scale n alone."""
        return Generation(self.name, (GeneratedScale.whole(self.run, f"y{self.run.scales}"),))
