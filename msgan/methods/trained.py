"""What all methods that train networks share: one way to fit, one way to translate."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self, Unpack

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort
from msgan.methods import cascade
from msgan.runs.run import Run
from msgan.translate import Generation, Translation, translated
from msgan.translate.maker import Options, Source
from msgan.types import InputError


class TrainedMethod(ABC):
    """A method whose networks are those of a cascade's run, under a configuration of its own.

    Attributes:
        name: Of its row in a table.
        trained: Scales that are trained; None: all that a translation needs.
    """

    name: ClassVar[str]
    trained: ClassVar[tuple[int, ...] | None] = None

    def __init__(self, run: Run, device: str = "auto") -> None:
        self.run = run
        self.device = device

    @classmethod
    @abstractmethod
    def configured(cls, config: CascadeConfig, source: str | None = None) -> CascadeConfig:
        """A cascade's configuration as this method's.

        Args:
            config: Of the cascade it is compared with.
            source: Modality that is translated; methods without pairs learn from the target alone.

        Raises:
            InputError: The method cannot be trained so.
        """

    @property
    def generation(self) -> Generation:
        """What its networks make of an image."""
        return Generation.of(self.run, self.name)

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        source: str | None,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str],
        **options: Any,
    ) -> Self:
        """Train it, or go on where its training stopped.

        Args:
            cohort: Subjects; see :func:`msgan.methods.cascade.fit`.
            source: Modality that is translated; methods without pairs take any, None included.
            target: Modality that is learnt.
            config: Of a cascade; see :meth:`configured`.
            out: Run folder.
            options: See :func:`msgan.methods.cascade.fit`.

        Raises:
            InputError: See :func:`msgan.methods.cascade.fit`.
        """
        if cls.trained is not None:
            if "scales" in options:
                asked, own = options["scales"], ", ".join(map(str, cls.trained))
                raise InputError(f"scales {asked}: the {cls.name} trains scale {own} only")
            options["scales"] = cls.trained
        run = cascade.fit(cohort, target, cls.configured(config, source), out, **options)
        return cls(run, options.get("device", "auto"))

    def translate(
        self, subject: Source, out: str | os.PathLike[str], **options: Unpack[Options]
    ) -> Translation:
        """Translate one image; see :func:`msgan.translate.frame.translated`."""
        options.setdefault("device", self.device)
        return translated(self.generation, subject, out, **options)


class Cascade(TrainedMethod):
    """The multi-scale patch GAN itself (Uzunova et al.)."""

    name = "cascade"

    def __init__(self, run: Run, device: str = "auto", recolourings: int = 0) -> None:
        super().__init__(run, device)
        self.recolourings = recolourings

    @property
    def generation(self) -> Generation:
        """See :class:`TrainedMethod`; s0 may draw from recoloured copies of the image too."""
        return Generation.of(self.run, self.name, recolourings=self.recolourings)

    @classmethod
    def configured(cls, config: CascadeConfig, source: str | None = None) -> CascadeConfig:
        """As it is."""
        return config
