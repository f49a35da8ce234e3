"""ResViT (Dalmaz et al. 2022): slices translated with a transformer, a rival of 3D-mDAUNet."""

from __future__ import annotations

from msgan.config import ResvitNetwork
from msgan.methods.image_pairs import ImagePairs


class ResViT(ImagePairs):
    """ResViT: L1 of weight 100 and a least-squares GAN, on slices (section II.B).

    A volume is trained on as axial slices through its foreground and translated slice by slice; of
    slices larger than a patch, patches are blended. What its transformer is left without is said in
    :class:`msgan.networks.resvit.ResvitGenerator`.

    Differs: the authors translate from one or several sources by one model; here it is from one.
    Slices that D has seen are not kept to be shown again; a moving average of G is kept.
    """

    name = "ResViT"
    network = ResvitNetwork
