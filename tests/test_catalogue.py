import math
from dataclasses import fields

import numpy as np
import pytest

from msgan.metrics import CATALOGUE, SIMILARITY, Scores, header_of, metric_of, scores
from msgan.report import document


def test_every_similarity_is_a_score_and_every_score_has_an_entry():
    counts = {"voxels", "ssim_voxels"}
    settings = {"data_range", "black", "mask", "dims", "window", "sigma"}
    assert {f.name for f in fields(Scores)} - counts - settings == set(SIMILARITY)
    assert set(SIMILARITY) <= set(CATALOGUE)
    assert all(name == metric.name for name, metric in CATALOGUE.items())


def test_the_better_end_is_that_of_equal_images(dims):
    rng = np.random.default_rng(0)
    real = rng.random((12,) * dims)
    fake = (real + rng.normal(0, 0.1, real.shape)).clip(0, 1)
    equal = scores(real, real, data_range=1.0).as_row()
    noisy = scores(fake, real, data_range=1.0).as_row()
    for name in SIMILARITY:
        metric = CATALOGUE[name]
        assert (equal[name] > noisy[name]) == (metric.better == "higher")
        best = metric.range[metric.better == "higher"]
        assert equal[name] == pytest.approx(best)
        assert all(metric.range[0] <= row[name] <= metric.range[1] for row in (equal, noisy))


def test_columns_are_named_by_their_last_part():
    assert header_of("psnr") == "PSNR (dB)"
    assert header_of("left_lung_psnr") == "left_lung PSNR (dB)"
    assert header_of("seconds") == "seconds"
    assert metric_of("lung_dice") is CATALOGUE["dice"]
    assert metric_of("emphysema") is None


def test_pages_say_what_is_known_against_a_metric():
    caveats = {name: metric.caveat for name, metric in CATALOGUE.items() if metric.caveat}
    assert set(caveats) == {"ssim", "lpips"}
    assert "lower Dice" in caveats["ssim"]
    words = document._better()
    assert all(f"{CATALOGUE[name].label}: {text}" in words for name, text in caveats.items())
    assert words.startswith("SSIM, PSNR, Dice: higher is better; MAE, MSE, NMSE, LPIPS: lower")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("psnr", 24.04, "24.0"), ("ssim", -0.0001, "0.000"), ("mse", 0.00444, "0.0044")],
)
def test_numbers_have_the_digits_of_their_metric(name, value, text):
    assert CATALOGUE[name].text(value) == text
    assert CATALOGUE[name].text(math.nan) == CATALOGUE[name].text(math.inf) == "–"
