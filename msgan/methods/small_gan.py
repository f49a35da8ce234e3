"""The small GAN: an image as large as one network can make, enlarged by linear interpolation."""

from __future__ import annotations

from msgan.config import CascadeConfig
from msgan.methods.trained import TrainedMethod
from msgan.translate import GeneratedScale, Generation


class SmallGan(TrainedMethod):
    """The second baseline of the extended paper (section 3.2.1, table 1).

    The low-resolution GAN makes s0, which trilinear interpolation brings to the size of s_n. It
    is scale 0 of a cascade and nothing else, so that a trained cascade's own s0 may serve: the
    table then says what the scales above it add. Neither the image nor the result is held in
    memory: coarser scales lie in the scratch folder, s_n is interpolated as it is written.
    """

    name = "small GAN"
    trained = (0,)

    @classmethod
    def configured(cls, config: CascadeConfig, source: str | None = None) -> CascadeConfig:
        """As it is."""
        return config

    @property
    def generation(self) -> Generation:
        """Scale 0 alone; the others need not be trained."""
        return Generation(self.name, (GeneratedScale(self.run, 0, "y0"),), enlarged=True)
