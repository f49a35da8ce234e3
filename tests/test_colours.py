"""Colours stay apart for readers who lack the red or the green cones.

What they see: Machado, Oliveira and Fernandes, IEEE TVCG 15(6), 2009, the matrices for severity
1.0, on linear light. How far apart: CIEDE2000, of which 1 is just noticeable.
"""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from skimage.color import deltaE_ciede2000, rgb2lab

from msgan import plots
from msgan.plots.style import APART, LABELS, SKETCH, colours, label_colour, rgb

EYES = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
ENOUGH = 14.0
"""Lines and outlines are thin, so far more than what is just noticeable on two large fields."""


def seen(palette: Any, eyes: str) -> np.ndarray:
    """CIELAB of colours (n, 3) in [0, 1] as they are seen."""
    c = np.asarray(palette, float)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    c = (linear @ EYES[eyes].T).clip(0, 1)
    c = np.where(c <= 0.0031308, c * 12.92, 1.055 * c ** (1 / 2.4) - 0.055)
    return rgb2lab(c[None])[0]


def nearest(palette: Any, eyes: str) -> float:
    """Distance of the two colours that are most alike."""
    lab = seen(palette, eyes)
    return min(float(deltaE_ciede2000(a, b)) for a, b in combinations(lab, 2))


@pytest.fixture(params=EYES)
def eyes(request: pytest.FixtureRequest) -> str:
    return request.param


def test_lines_are_told_apart_by_colour(eyes: str) -> None:
    assert nearest(colours()[:APART], eyes) > ENOUGH
    assert nearest([*colours()[:APART], (1, 1, 1)], eyes) > ENOUGH  # and from the paper


def test_labels_and_the_sketch_are_told_apart_on_black_and_gray(eyes: str) -> None:
    labels = [label_colour(value) for value in range(1, len(LABELS) + 1)]
    assert labels[0] == label_colour(len(LABELS) + 1)
    assert nearest([*labels, rgb(SKETCH), (0, 0, 0)], eyes) > ENOUGH


def test_the_sign_of_a_difference_is_seen(eyes: str) -> None:
    blue, pale, white, rose, red = colormaps["RdBu_r"](np.linspace(0.05, 0.95, 5))[:, :3]
    assert nearest([blue, pale, white, rose, red], eyes) > ENOUGH
    lightness = seen([blue, pale, white, rose, red], eyes)[:, 0]
    assert (np.diff(lightness[:3]) > 0).all()
    assert (np.diff(lightness[2:]) < 0).all()


def test_more_curves_than_colours_have_other_dashes() -> None:
    import pandas as pd

    n = APART + 2
    table = pd.DataFrame({"run": np.repeat(range(n), 2), "step": [0, 1] * n, "loss": range(2 * n)})
    lines = plots.curves(table, x="step", hue="run").axes[0].lines
    looks = [(line.get_color(), line.get_linestyle()) for line in lines]
    assert len(looks) == len(set(looks)) == n


def test_what_the_eye_confuses_is_near() -> None:
    red, green = (0.60, 0.30, 0.10), (0.42, 0.42, 0.10)
    assert nearest([red, green], "deuteranopia") < ENOUGH / 2
    assert nearest([red, green], "usual") > 1.5 * ENOUGH
    assert nearest([(0.5, 0.5, 0.5), (1, 1, 1)], "protanopia") == pytest.approx(
        nearest([(0.5, 0.5, 0.5), (1, 1, 1)], "usual"), abs=0.1
    )
