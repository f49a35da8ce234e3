"""Metrics: similarity to the real image, overlap, seams between tiles, distance of domains."""

from msgan.metrics.catalogue import CATALOGUE, SIMILARITY, Metric, header_of, metric_of
from msgan.metrics.errors import mae, mse, nmse, psnr, psnr_from_mse
from msgan.metrics.frechet import Estimate, Moments, Stream, frechet_distance, jackknife
from msgan.metrics.gradients import gradient_correlation, gradient_correlation_of
from msgan.metrics.overlap import dice, dice_of
from msgan.metrics.perceptual import lpips, lpips_of
from msgan.metrics.seams import SeamScore, seam_score, seam_score_of
from msgan.metrics.similarity import Scores, regional_scores_of, scores, scores_of, ssim
from msgan.metrics.structure import ssim_map

__all__ = [
    "CATALOGUE",
    "SIMILARITY",
    "Estimate",
    "Metric",
    "Moments",
    "Scores",
    "SeamScore",
    "Stream",
    "dice",
    "dice_of",
    "frechet_distance",
    "gradient_correlation",
    "gradient_correlation_of",
    "header_of",
    "jackknife",
    "lpips",
    "lpips_of",
    "mae",
    "metric_of",
    "mse",
    "nmse",
    "psnr",
    "psnr_from_mse",
    "regional_scores_of",
    "scores",
    "scores_of",
    "seam_score",
    "seam_score_of",
    "ssim",
    "ssim_map",
]
