"""3D-mDAUNet (Ha et al. 2025): translation learnt from pairs at several resolutions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

from torch import nn

from msgan.config import CascadeConfig, MdaunetNetwork
from msgan.data.cohort import Cohort
from msgan.methods import cascade
from msgan.methods.image_pairs import ImagePairs
from msgan.training.checkpoint import fingerprint
from msgan.types import InputError

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "multi-resolution input": {"network": {"multi_input": False}},
    "multi-resolution output": {"network": {"multi_output": False}},
    "voxel-wise discriminator": {"network": {"voxelwise": False}},
    "relativistic loss": {"training": {"gan": "log"}},
}
"""What the rows of table 2 leave out, (a) to (d), and the settings that leave it out."""


class MDAUNet(ImagePairs):
    """3D-mDAUNet, the paired method of the second paper (Ha et al. 2025).

    It is scale n of a cascade's run that reads the image itself: trained on aligned pairs by L1,
    a voxel-wise relativistic GAN and, where a network for it is given, a 2.5D perceptual loss, all
    in [0, 1]; translated patch by patch, blended by Gaussian weights out of core
    (:mod:`msgan.translate.overlap`).

    Differs: the paper clips MR to its own minimum and maximum and CT to -1024 to 3000 HU, and
    scales both to [0, 1]; here the preparation is that of the methods it is compared with (the
    paper's is :func:`msgan.presets.published_preparation`), the inside is [-1, 1], which the
    networks map to [0, 1], and a moving average of the generator is kept. The perceptual loss is
    off unless a network is given: no weights come with the package.
    """

    name = "3D-mDAUNet"
    network = MdaunetNetwork

    @classmethod
    def configured(
        cls,
        config: CascadeConfig,
        source: str | None = None,
        *,
        size: str | None = None,
        without: str | None = None,
        features: nn.Module | None = None,
    ) -> CascadeConfig:
        """A cascade's configuration as this method's.

        Args:
            config: Of the cascade it is compared with: preparation, seed, steps, validation. One of
                this method keeps its sizes, unless others are named.
            source: Modality that is translated.
            size: Row of :data:`msgan.presets.MDAUNET`; None: that of the configuration, else
                ``small``.
            without: What is left out, of :data:`ABLATIONS`.
            features: Of the perceptual loss, see :func:`msgan.losses.perceptual`; None: it is off.

        Raises:
            InputError: No source is stated, or there is no such size or ablation.
        """
        own = super().configured(config, source, size=size)
        seen = {"backbone": fingerprint(features)} if features is not None else None
        own = own.updated(perceptual=seen)
        if without is None:
            return own
        if without not in ABLATIONS:
            raise InputError(f"without {without!r}: is none of {', '.join(ABLATIONS)}")
        return own.updated(ABLATIONS[without])

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
        without: str | None = None,
        features: nn.Module | None = None,
        **options: Any,
    ) -> Self:
        """Train it, or go on where its training stopped.

        Args:
            cohort: Subjects; those with both images are used.
            source: Modality that is translated.
            target: Modality that is learnt.
            config: See :meth:`configured`, as for ``size``, ``without`` and ``features``.
            out: Run folder.
            size: See above.
            without: See above.
            features: See above.
            options: See :func:`msgan.methods.cascade.fit`.

        Raises:
            InputError: See :func:`msgan.methods.cascade.fit`.
        """
        own = cls.configured(config, source, size=size, without=without, features=features)
        run = cascade.fit(cohort, target, own, out, features=features, **options)
        return cls(run, options.get("device", "auto"))
