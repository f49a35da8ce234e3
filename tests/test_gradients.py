"""Gradient correlation: whether edges are where the real image has them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import reader
from scipy import ndimage
from test_crossval import CT, RANGE, save, study
from test_metrics import SIDE, pair

from msgan import metrics
from msgan.data.volume import open_volume
from msgan.metrics import gradients
from msgan.studies.gradients import Gradients
from msgan.studies.seams import Seams
from msgan.studies.table import Result, score_file
from msgan.types import Box, InputError


def inner(dims: int) -> tuple[slice, ...]:
    return (slice(1, -1),) * dims


def test_it_is_the_mean_of_the_correlations_of_sobel_images(dims: int) -> None:
    fake, real = pair(dims)
    expected = []
    for axis in range(dims):
        f, r = (ndimage.sobel(image.astype(float), axis)[inner(dims)] for image in (fake, real))
        np.testing.assert_allclose(gradients.sobel(fake.astype(float), axis), f, atol=1e-12)
        expected.append(np.corrcoef(f.ravel(), r.ravel())[0, 1])
    found = metrics.gradient_correlation(fake, real)
    assert found == pytest.approx(np.mean(expected), abs=1e-12)
    assert 0.05 < found < 0.95


def test_known_values(dims: int) -> None:
    """Grey values do not count; inverted edges do; strangers have nothing in common."""
    _, real = pair(dims)
    other = pair(dims, seed=5)[1]
    assert metrics.gradient_correlation(real, real) == pytest.approx(1.0)
    assert metrics.gradient_correlation(3 * real - 7, real) == pytest.approx(1.0, abs=1e-5)
    assert metrics.gradient_correlation(-real, real) == pytest.approx(-1.0)
    assert abs(metrics.gradient_correlation(other, real)) < 0.15
    flat = np.full_like(real, 0.3)
    assert metrics.gradient_correlation(flat, real) == 0.0
    ramp = np.broadcast_to(np.linspace(0, 1, real.shape[-1], dtype=np.float32), real.shape)
    assert metrics.gradient_correlation(ramp, real) == 0.0  # as steep everywhere: no edge


def test_more_noise_and_more_blur_score_lower(dims: int) -> None:
    _, real = pair(dims)
    noisy = [metrics.gradient_correlation(pair(dims, noise=s)[0], real) for s in (0.02, 0.1, 0.4)]
    blurred = [
        metrics.gradient_correlation(ndimage.gaussian_filter(real, s), real) for s in (0.5, 1.5, 4)
    ]
    assert noisy == sorted(noisy, reverse=True)
    assert blurred == sorted(blurred, reverse=True)
    moved = metrics.gradient_correlation(np.roll(real, 4, axis=0), real)
    assert moved < blurred[1]


def test_an_axis_without_edges_is_left_out(dims: int) -> None:
    step = np.zeros(SIDE[dims])
    step[12:] = 1
    assert metrics.gradient_correlation(step, step) == pytest.approx(1.0)
    assert metrics.gradient_correlation(step.copy(), np.roll(step, 1, 0)) < 0.9


def test_it_does_not_depend_on_blocks(dims: int) -> None:
    fake, real = pair(dims)
    mask = np.random.default_rng(1).random(real.shape) > 0.02
    shape, asked = real.shape, []

    def read(box: Box) -> np.ndarray:
        asked.append(box.voxels)
        return fake[box.slices]

    for read_mask in (None, reader(mask)):
        whole = metrics.gradient_correlation_of(
            reader(fake), reader(real), shape, read_mask=read_mask
        )
        for block in (1, 4, 9):
            part = metrics.gradient_correlation_of(
                read, reader(real), shape, read_mask=read_mask, block=(block,) * dims
            )
            assert part == pytest.approx(whole, abs=1e-12)
            assert max(asked) <= (block + 2) ** dims
            asked.clear()


def test_what_lies_outside_the_mask_does_not_count(dims: int) -> None:
    """Nor does the outline of the mask, which would be the strongest edge of all."""
    fake, real = pair(dims)
    mask = np.zeros(real.shape, bool)
    mask[tuple(slice(3, -4) for _ in range(dims))] = True
    inside = metrics.gradient_correlation(fake, real, mask=mask)
    cut = tuple(slice(3, -4) for _ in range(dims))
    assert inside == pytest.approx(metrics.gradient_correlation(fake[cut], real[cut]), abs=1e-12)
    both = (np.where(mask, image, 9.0) for image in (fake, real))
    assert metrics.gradient_correlation(*both, mask=mask) == pytest.approx(inside, abs=1e-12)


def test_bad_input_is_refused() -> None:
    image = np.random.default_rng(0).random((9, 8))
    hole = np.ones((9, 8), bool)
    hole[::2] = False
    flat = np.ones((9, 8))
    for fake, real, mask, message in [
        (image, image[1:], None, "expected the same shape"),
        (image, image, hole[1:], "expected the same shape"),
        (image[0], image[0], None, "expected 2 or 3 axes"),
        (image * np.nan, image, None, "fake: 72 voxels are NaN"),
        (image, image, hole, "no voxel has all its neighbours inside"),
        (image[:2], image[:2], None, "no voxel has all its neighbours inside"),
        (flat, 2 * flat, None, "images: neither has an edge"),
    ]:
        with pytest.raises(InputError, match=message):
            metrics.gradient_correlation(fake, real, mask=mask)
    with pytest.raises(InputError, match=r"array of shape \(9, 8\) for a box of size"):
        metrics.gradient_correlation_of(reader(image), lambda _: image, (9, 8), block=(4, 4))


def test_the_column_of_a_table(tmp_path: Path, dims: int) -> None:
    """Of the region that was asked for, whatever the other parts are like."""
    subject = study(tmp_path, dims, 1).subjects[0]
    with open_volume(subject.images["soft"]) as volume:
        real = volume.whole()
    with open_volume(subject.regions["lung"]) as volume:
        lung = volume.whole() != 0
    noise = np.random.default_rng(3).normal(0, 400, real.shape)
    made = save(tmp_path / "made.nii", np.where(lung, 0.5 * real + 100, noise))
    result = Result("m", made, subject, "sharp", "soft")
    assert Gradients(CT, "lung")(result)["gradient"] == pytest.approx(1.0, abs=1e-4)
    assert Gradients(CT, "body")(result)["gradient"] < 0.9
    assert list(Gradients(CT)(result)) == ["gradient"]
    masked = replace(subject, mask=subject.regions["lung"])
    lowest = CT.model_copy(update={"foreground": -2000.0})
    of_mask = Gradients(lowest)(replace(result, subject=masked))
    assert of_mask == Gradients(CT, "lung")(result)
    flat = save(tmp_path / "flat.nii", np.full(real.shape, -1000.0))
    assert Gradients(CT, "lung")(replace(result, path=flat))["gradient"] == 0.0
    assert score_file(flat, subject, "soft", RANGE, CT, "lung").mae > 0.01
    assert Seams({"m": 8}, CT)(replace(result, path=flat))["seam"] == 1.0
    with pytest.raises(InputError, match="region 'heart' is none of foreground, body, image, lung"):
        Gradients(CT, "heart")(result)
    small = save(tmp_path / "small.nii", real[1:])
    with pytest.raises(InputError, match="is not the real image's"):
        Gradients(CT)(replace(result, path=small))
