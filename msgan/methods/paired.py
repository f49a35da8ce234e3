"""What a network of the same size does with pairs: an upper reference for unpaired methods."""

from __future__ import annotations

from msgan.config import CascadeConfig
from msgan.methods.trained import TrainedMethod
from msgan.runs.run import Run
from msgan.types import InputError


class PairedRegression(TrainedMethod):
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
        super().__init__(run, device)

    @classmethod
    def configured(cls, config: CascadeConfig, source: str | None = None) -> CascadeConfig:
        """A cascade's configuration as this row's: pairs, the image as sketch, L1 alone.

        Raises:
            InputError: No source is stated.
        """
        if source is None:
            raise InputError(f"source None: the {cls.name} is trained on pairs: name the source")
        return config.unguided().updated(
            paired=source,
            drop_inputs=("context",),
            sketch={"channels": ("image",)},
            training={"gan_weight": 0.0},
            contrast={"share": 0.0},
        )
