"""Ea-GAN (Yu et al. 2019): translation learnt from pairs and their edges, a rival of 3D-mDAUNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from msgan.config import EaGanNetwork
from msgan.methods.image_pairs import ImagePairs


class DEaGan(ImagePairs):
    """dEa-GAN: G is trained on the distance of Sobel maps, and D sees them too (section III).

    L1, edges, least squares with smoothed labels; the weight of the edges rises over the first
    tenth of the steps (20 of 200 epochs of the public code).

    Differs: overlapping patches are blended by Gaussian weights instead of a plain mean; real and
    generated patches that D has seen are not kept to be shown again; statistics of batch
    normalisation are those of training, and dropout is off, where the public code translates with
    the statistics of the patch; a moving average of G is kept.
    """

    name = "dEa-GAN"
    network = EaGanNetwork
    variant: ClassVar[Mapping[str, Any]] = {"edges_judged": True}


class GEaGan(ImagePairs):
    """gEa-GAN: as :class:`DEaGan`, but D sees images without their Sobel maps (section III)."""

    name = "gEa-GAN"
    network = EaGanNetwork
    variant: ClassVar[Mapping[str, Any]] = {"edges_judged": False}
