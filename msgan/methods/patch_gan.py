"""The patch GAN: the HR generator of the last scale without what lower scales know."""

from __future__ import annotations

from msgan.config import CascadeConfig
from msgan.methods.trained import TrainedMethod
from msgan.runs.run import Run
from msgan.translate import GeneratedScale, Generation
from msgan.types import InputError

BLIND = "context"


class PatchGan(TrainedMethod):
    """The first baseline of the extended paper (section 3.2.1, table 1).

    Scale n of a cascade, trained and run without the image of the scale below, whose place is
    background. Nothing else is changed, so the table says what the lower scales add.

    Of the family ``megan`` whole patches of 32^d are laid 27 voxels apart and averaged over the 5
    voxels in which they overlap (:mod:`msgan.translate.overlap`); sides of a tile are multiples of
    27. Of ``seamless``, patches that overlap are equal where they do, and an average would change
    nothing: the plain tiles of a translation are taken, and their sketch's halo is larger than the
    5 voxels.
    """

    name = "patch GAN"

    def __init__(self, run: Run, device: str = "auto") -> None:
        """Use scale n of ``run``; the others need not be trained.

        Raises:
            InputError: The run's generators see the scale below.
        """
        if BLIND not in run.config.drop_inputs:
            raise InputError(
                f"{run.folder}: not a patch GAN: its drop_inputs is {run.config.drop_inputs}"
            )
        super().__init__(run, device)

    @classmethod
    def configured(cls, config: CascadeConfig, source: str | None = None) -> CascadeConfig:
        """A cascade's configuration without context.

        Raises:
            InputError: The cascade sees no sketch; nothing would be left.
        """
        if "sketch" in config.drop_inputs:
            raise InputError(
                f"drop_inputs {config.drop_inputs}: a patch GAN sees the sketch and nothing else"
            )
        return config.unguided().updated(drop_inputs=(BLIND,))

    @property
    def generation(self) -> Generation:
        """Scale n alone."""
        return Generation(self.name, (GeneratedScale.whole(self.run, f"y{self.run.scales}"),))
