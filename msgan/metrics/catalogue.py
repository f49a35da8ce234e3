"""The catalogue of metrics: their names, units, digits and direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One score of a translated image against the real one, intensities in [0, 1].

    Attributes:
        name: Of its column; a column of another region ends in ``_name``.
        label: As it is read.
        unit: Of its values; empty where they have none.
        digits: Behind the point.
        better: Which end is better.
        range: Smallest and largest value it can have.
        meaning: In words, with its best value.
        caveat: What it is known not to say; empty where nothing is known.
    """

    name: str
    label: str
    unit: str
    digits: int
    better: Literal["higher", "lower"]
    range: tuple[float, float]
    meaning: str
    caveat: str = ""

    @property
    def header(self) -> str:
        """Label and unit: ``PSNR (dB)``."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def text(self, value: float) -> str:
        """A value with the metric's digits; a dash where it is not finite."""
        if not math.isfinite(value):
            return "–"
        return f"{round(value, self.digits) + 0.0:.{self.digits}f}"  # no minus before a zero


CATALOGUE: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            *("ssim", "SSIM", "", 3, "higher", (-1, 1), "structural similarity, 1 is best"),
            # Ha et al., table 1: Ea-GAN .944 and .869, 3D-mDAUNet .940 and .880 (FLAIR, tumours);
            # Ea-GAN .856 and .725, ResViT .847 and .780 (CT from T1, organs).
            caveat="a higher SSIM can go with a lower Dice of a segmentation that uses the image",
        ),
        Metric(
            *("mae", "MAE", "", 3, "lower", (0, 1)),
            "mean absolute error as a share of the intensity range, 0 is best",
        ),
        Metric("mse", "MSE", "", 4, "lower", (0, 1), "mean squared error, 0 is best"),
        Metric(
            *("psnr", "PSNR", "dB", 1, "higher", (0, math.inf)),
            "peak signal-to-noise ratio in dB, more is better",
        ),
        Metric(
            *("nmse", "NMSE", "", 3, "lower", (0, math.inf)),
            "squared error as a share of the real image's squared intensities, 0 is best",
        ),
        Metric(
            *("lpips", "LPIPS", "", 3, "lower", (0, math.inf)),
            "difference of a network's features, slice by slice, 0 is best",
            caveat="the network was trained on photographs and sees slices, not volumes",
        ),
        Metric("dice", "Dice", "", 3, "higher", (0, 1), "overlap of two masks, 1 is best"),
    )
}
"""By name of the column."""

SIMILARITY = ("ssim", "mae", "mse", "psnr", "nmse")
"""Scores of an image pair, as tables order them (:class:`msgan.metrics.Scores`)."""


def metric_of(column: str) -> Metric | None:
    """The metric of a column, such as ``psnr`` of ``lung_psnr``; None for any other column."""
    return CATALOGUE.get(column.rpartition("_")[2])


def header_of(column: str) -> str:
    """How a column is headed: ``lung PSNR (dB)`` of ``lung_psnr``, others by their own name.

    Example:
        >>> header_of("lung_psnr"), header_of("subject")
        ('lung PSNR (dB)', 'subject')
    """
    metric = metric_of(column)
    if metric is None:
        return column
    return f"{column.rpartition('_')[0]} {metric.header}".strip()
