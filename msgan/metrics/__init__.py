"""Numbers about images: similarity to the real image, and seams left by tiles."""

from msgan.metrics.errors import mae, mse, nmse, psnr, psnr_from_mse
from msgan.metrics.seams import SeamScore, seam_score, seam_score_of
from msgan.metrics.similarity import Scores, scores, scores_of, ssim
from msgan.metrics.structure import ssim_map

__all__ = [
    "Scores",
    "SeamScore",
    "mae",
    "mse",
    "nmse",
    "psnr",
    "psnr_from_mse",
    "scores",
    "scores_of",
    "seam_score",
    "seam_score_of",
    "ssim",
    "ssim_map",
]
