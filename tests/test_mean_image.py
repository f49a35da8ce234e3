"""A row that sees nothing of the image it is asked for."""

from pathlib import Path

import numpy as np
import pytest
from tree import untrained

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.volume import open_volume, write_volume
from msgan.methods.mean_image import SIDE, MeanImage
from msgan.types import Array, InputError

WINDOW = Preparation(intensity="window", low=0.0, high=10.0, scales=1, foreground=-1.0)


def subject(folder: Path, name: str, image: Array, split: str = "train") -> Subject:
    path = folder / f"{name}.nii"
    write_volume(path, Grid(image.shape, np.eye(image.ndim + 1)), lambda b: image[b.slices])
    return Subject(name, {"x": path}, split=split)


def made(row: MeanImage, who: Subject, out: Path) -> Array:
    row.translate(who, out, modality="x")
    with open_volume(out) as volume:
        return volume.whole()


def test_it_is_the_mean_of_the_training_images_and_of_no_other(tmp_path: Path, dims: int) -> None:
    waves = np.stack(np.meshgrid(*[np.linspace(0, 6, 40)] * dims, indexing="ij"))
    a, b, c = ((5 + 4 * np.sin(waves + k).prod(0)).astype(np.float32) for k in range(3))
    test = subject(tmp_path, "c", c, "test")
    cohort = Cohort((subject(tmp_path, "a", a), subject(tmp_path, "b", b), test))
    row = MeanImage.fit(cohort, None, "x", untrained(WINDOW))
    assert row.mean.shape == (SIDE,) * dims
    got = made(row, test, tmp_path / "out.nii")
    assert np.abs(a - b).max() > 3
    np.testing.assert_allclose(got, (a + b) / 2, atol=0.3)
    assert np.abs(got - (a + b) / 2).mean() < 0.03


def test_it_fits_images_of_any_size(tmp_path: Path) -> None:
    def ramp(n: int, m: int) -> Array:
        y, x = np.mgrid[:n, :m]
        return (4 * (y + 0.5) / n + 5 * (x + 0.5) / m).astype(np.float32)

    test = subject(tmp_path, "t", ramp(50, 300), "test")
    train = (subject(tmp_path, "a", ramp(400, 260)), subject(tmp_path, "b", ramp(64, 200)))
    row = MeanImage.fit(Cohort((*train, test)), None, "x", untrained(WINDOW))
    got = made(row, test, tmp_path / "out.nii")
    assert got.shape == (50, 300)
    np.testing.assert_allclose(got, ramp(50, 300), atol=0.15)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    flat = np.arange(256, dtype=np.float32).reshape(16, 16)
    test = subject(tmp_path, "t", flat, "test")
    with pytest.raises(InputError, match="no training subject has a x image"):
        MeanImage.fit(Cohort((test,)), None, "x", untrained(WINDOW))
    row = MeanImage.fit(Cohort((subject(tmp_path, "a", flat),)), None, "x", untrained(WINDOW))
    solid = subject(tmp_path, "s", np.arange(4096, dtype=np.float32).reshape(16, 16, 16))
    with pytest.raises(InputError, match="image of 3 axes, mean image was fitted to 2"):
        row.translate(solid, tmp_path / "out.nii", modality="x")
