"""PTNet3D (Zhang et al. 2022): patches translated by performers, a rival of 3D-mDAUNet."""

from __future__ import annotations

from msgan.config import PtnetNetwork
from msgan.methods.image_pairs import ImagePairs


class PTNet3D(ImagePairs):
    """PTNet3D: squared differences of weight 100, a least-squares GAN and the features of its D.

    Weights are those of the public code. The adversarial loss is the sum over the three resolutions
    of D, here three times their mean; the features of D, of weight 10, are compared at each.

    Differs: the authors also compare the features of a network trained on videos, of which no
    weights come with the package; that term is left out. D is updated before G, not after it.
    Overlapping patches are blended by Gaussian weights instead of a plain mean; a moving average of
    G is kept. What its networks do otherwise is said in
    :class:`msgan.networks.ptnet.PtnetGenerator`.
    """

    name = "PTNet3D"
    network = PtnetNetwork
