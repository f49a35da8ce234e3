"""The baselines: curves on intensities, learnt without the test subject's own target."""

from pathlib import Path

import numpy as np
import pytest

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.volume import open_volume, write_volume
from msgan.methods import baselines
from msgan.studies.table import range_of, result_path, score_file, score_table
from msgan.types import InputError

PREPARATION = Preparation(scales=1, margin=1, high=100.0)


def save(path: Path, image: np.ndarray, affine: np.ndarray | None = None) -> Path:
    grid = Grid(image.shape, np.diag([2.0] * image.ndim + [1.0]) if affine is None else affine)
    write_volume(path, grid, lambda box: image[box.slices].astype(np.float32))
    return path


def scene(dims: int, seed: int) -> np.ndarray:
    """A box of foreground with values from 1 to 101 in a border of zeros."""
    x = np.zeros((20, 18, 16)[:dims])
    inner = x[(slice(2, -3),) * dims]
    inner[:] = 1 + 100 * np.random.default_rng(seed).random(inner.shape) ** 2
    return x


def squared(x: np.ndarray) -> np.ndarray:
    """Another contrast of the same things: monotonic, of another range."""
    return np.where(x > 0, 10 + (x / 10) ** 2, 0)


def inverse(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, 210 - 2 * x, 0)


def cohort(folder: Path, dims: int, contrast) -> Cohort:
    subjects = []
    for k, split in enumerate(("train", "train", "test")):
        x = scene(dims, k)
        t2 = contrast(x) if split == "train" else 3 * contrast(x)  # must not be learnt from
        images = {"t1": save(folder / f"{k}_t1.nii", x), "t2": save(folder / f"{k}_t2.nii", t2)}
        subjects.append(Subject(f"s{k}", images, split=split))
    return Cohort(tuple(subjects))


@pytest.mark.parametrize(
    ("contrast", "name"), [(squared, "histogram-matched"), (inverse, "inverted, matched")]
)
def test_a_curve_is_found_from_histograms(tmp_path: Path, dims: int, contrast, name: str) -> None:
    study = cohort(tmp_path, dims, contrast)
    rows = baselines.baselines(study, "t2", PREPARATION)
    names = ["histogram-matched", "inverted, matched"]
    assert list(rows) == ["source", *names, *(f"{n} + slope transfer" for n in names)]
    out = tmp_path / "out.nii"
    rows[name].translate(study["s2"], out, modality="t1")
    x = scene(dims, 2)
    with open_volume(out) as made:
        y = made.whole()
        assert made.grid.same_as(Grid(x.shape, np.diag([2.0] * dims + [1.0])))
    wanted = contrast(x)
    inside = x > 0
    assert (y[~inside] == 0).all()
    assert np.abs(y - wanted)[inside].mean() < 0.04 * wanted.max()
    worse = {"histogram-matched": "inverted, matched", "inverted, matched": "histogram-matched"}
    rows[worse[name]].translate(study["s2"], out, modality="t1")
    with open_volume(out) as made:
        assert np.abs(made.whole() - wanted)[inside].mean() > 0.15 * wanted.max()


def test_the_source_row_is_the_source_in_the_target_s_range(tmp_path: Path, dims: int) -> None:
    study = cohort(tmp_path, dims, squared)
    row = baselines.baselines(study, "t2", PREPARATION)["source"]
    row.translate(study["s2"], tmp_path / "out.nii", modality="t1")
    x, high = scene(dims, 2), row.profile.intensity.high
    with open_volume(tmp_path / "out.nii") as made:
        np.testing.assert_allclose(made.whole(), x / x.max() * high, rtol=1e-4, atol=1e-3)


def test_the_test_subject_s_target_is_not_looked_at(tmp_path: Path) -> None:
    study = cohort(tmp_path, 2, squared)
    known = baselines.Profile.of(study, "t2", PREPARATION)
    without = Cohort(study.subjects[:2])
    other = baselines.Profile.of(without, "t2", PREPARATION)
    assert known.intensity == other.intensity
    np.testing.assert_array_equal(known.quantiles, other.quantiles)
    with pytest.raises(InputError, match="no training subject has a t2 image"):
        baselines.Profile.of(Cohort(study.subjects[2:]), "t2", PREPARATION)


def test_the_target_s_range_is_the_median_subject_s(tmp_path: Path) -> None:
    x = scene(2, 0)
    subjects = [
        Subject(f"{k}", {"t2": save(tmp_path / f"{k}.nii", k * x)}, split="train")
        for k in (1, 2, 9)
    ]
    profile = baselines.Profile.of(Cohort(tuple(subjects)), "t2", PREPARATION)
    assert profile.intensity.high == pytest.approx(2 * x.max(), rel=1e-4)


def test_a_table_has_a_line_for_each_method_and_subject(tmp_path: Path, dims: int) -> None:
    study = cohort(tmp_path, dims, inverse)
    rows = baselines.baselines(study, "t2", PREPARATION)
    intensity = rows["source"].profile.intensity
    no_target = Subject("lonely", {"t1": study["s0"].images["t1"]}, split="test")
    subjects = [study["s1"], study["s2"], no_target]
    table = score_table(rows, subjects, "t1", "t2", intensity, PREPARATION, tmp_path / "out")
    assert list(table["method"]) == list(rows) * 2
    assert list(table["subject"]) == ["s1"] * len(rows) + ["s2"] * len(rows)
    assert (table["voxels"] == (scene(dims, 0) > 0).sum()).all()
    assert set(table["region"]) == {"foreground"}
    assert set(table["dims"]) == {f"{dims}D"}
    assert set(table["range"]) == {range_of(PREPARATION, intensity.unit)}
    assert table.groupby("method")["mae"].mean().idxmin().startswith("inverted, matched")
    assert table.groupby("method")["ssim"].mean().idxmax().startswith("inverted, matched")
    assert result_path(tmp_path / "out", "inverted, matched", "s2").is_file()
    with pytest.raises(InputError, match="no subject has both a t1 and a t2 image"):
        score_table(rows, [no_target], "t1", "t2", intensity, PREPARATION, tmp_path)


def test_the_range_of_scores_is_said_in_words() -> None:
    window = Preparation(intensity="window", low=-1024, high=1024)
    assert range_of(window, "HU") == "-1024 to 1024 HU"
    assert range_of(window, "") == "-1024 to 1024"
    shares = Preparation(low=None, high=99.5)
    assert range_of(shares, "a.u.") == "the minimum to percentile 99.5 of the foreground"


def test_a_perfect_translation_scores_perfectly_whatever_its_unit(tmp_path: Path) -> None:
    study = cohort(tmp_path, 2, squared)
    subject = study["s2"]
    intensity = baselines.Profile.of(study, "t2", PREPARATION).intensity
    real = 3 * squared(scene(2, 2))
    out = save(tmp_path / "out.nii", real / real.max() * intensity.high)
    score = score_file(out, subject, "t2", intensity, PREPARATION)
    assert score.ssim == pytest.approx(1, abs=1e-5)
    assert score.mae == pytest.approx(0, abs=1e-6)
    half = save(tmp_path / "half.nii", real / real.max() * intensity.high / 2)
    inside = real > 0
    wanted = (real[inside] / real.max() / 2).mean()
    score = score_file(half, subject, "t2", intensity, PREPARATION)
    assert score.mae == pytest.approx(wanted, rel=1e-4)


def test_only_what_the_mask_holds_is_scored(tmp_path: Path) -> None:
    x = scene(2, 0)
    mask = np.zeros(x.shape)
    mask[4:-5, 4:-5] = 1
    path = save(tmp_path / "m.nii", mask)
    image = save(tmp_path / "x.nii", x)
    subject = Subject("a", {"t2": image}, mask=path, split="train")
    profile = baselines.Profile.of(Cohort((subject,)), "t2", PREPARATION)
    score = score_file(image, subject, "t2", profile.intensity, PREPARATION)
    assert score.voxels == mask.sum()
    shifted = np.diag([2.0, 2.0, 1.0])
    shifted[0, 2] = 1
    elsewhere = save(tmp_path / "y.nii", x, shifted)
    with pytest.raises(InputError, match=r"y\.nii: grid .* is not the real image's"):
        score_file(elsewhere, subject, "t2", profile.intensity, PREPARATION)
