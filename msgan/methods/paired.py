"""What a network of the same size does with pairs: an upper reference for unpaired methods."""

from __future__ import annotations

import os
from typing import Any

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject
from msgan.methods import cascade
from msgan.training.run import Run
from msgan.translate import Translation, translate
from msgan.types import InputError


class PairedRegression:
    """The HR generator of s_n from the source image itself, by L1 on aligned pairs.

    The papers compare unpaired methods with each other and with paired ones of other sizes. This
    row has the cascade's own generator, preparation and steps, and what the cascade has not: the
    images of both modalities of each training subject, and no sketch between them. What it
    reaches is what the cascade could at most be asked for; what it does not, no sketch can give.
    It sees no context, so it is one scale, s_n, and looks as far as its halo.

    Without context the generator begins at background instead of at an interpolation of the scale
    below, and a regression is a reference only when it has converged: the 120 steps of the preset
    ``smoke`` are too few, the 1500 of ``small`` are not.
    """

    name = "paired regression"

    def __init__(self, run: Run, device: str = "auto") -> None:
        """Use scale n of ``run``.

        Raises:
            InputError: The run was not trained on pairs.
        """
        if run.config.paired is None:
            raise InputError(f"{run.folder}: was not trained on pairs")
        self.run = run
        self.device = device

    @classmethod
    def configured(cls, config: CascadeConfig, source: str) -> CascadeConfig:
        """A cascade's configuration as this row's: pairs, the image as sketch, L1 alone.

        Args:
            config: Of the cascade it is compared with.
            source: Modality that is translated.
        """
        plain = config.model_dump()
        plain |= {"paired": source, "blind": ("context",)}
        plain["sketch"] |= {"channels": ("image",)}
        plain["training"] |= {"gan_weight": 0.0}
        plain["contrast"] |= {"share": 0.0}
        return CascadeConfig.model_validate(plain)

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        source: str,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str],
        **options: Any,
    ) -> PairedRegression:
        """Train s_n; see :func:`msgan.methods.cascade.fit`.

        Args:
            cohort: Subjects; those with both images, on one grid, are used.
            source: Modality that is translated.
            target: Modality that is learnt.
            config: Of the cascade; see :meth:`configured`.
            out: Run folder.
        """
        config = cls.configured(config, source)
        run = cascade.fit(cohort, target, config, out, **options)
        return cls(run, options.get("device", "auto"))

    def translate(
        self,
        subject: Subject | str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        modality: str | None = None,
        tile: int | None = None,
        memory: int | None = None,
    ) -> Translation:
        """Translate one image; see :func:`msgan.translate.translate`.

        Args:
            subject: Image file or subject of a cohort.
            out: File to write; its suffix decides the format.
            modality: Which image of a subject; None: the modality it was trained to translate.
            tile: Side of a tile, even; None takes the largest that fits.
            memory: Bytes of host memory for the process; None: as for a cascade.
        """
        wanted = modality or self.run.config.paired
        options = {"modality": wanted, "tile": tile, "memory": memory, "device": self.device}
        return translate(self.run, subject, out, **options)  # type: ignore[arg-type]
