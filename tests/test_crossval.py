"""Everybody is tested once, by methods that have not seen them, and scored where it says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.volume import open_volume, write_volume
from msgan.metrics import mae
from msgan.studies.crossval import (
    Fitted,
    Fold,
    cross_validate,
    folds_of,
    significance,
    summary,
    task_folder,
)
from msgan.studies.lung import emphysema_index, lung_measures, with_lungs
from msgan.studies.seams import Seams
from msgan.studies.table import Fixed, Result, result_path, score_file, score_regions
from msgan.types import Array, Box, InputError

CT = Preparation(
    scales=1, intensity="window", low=-1024.0, high=1024.0, foreground=-300.0, margin=1
)
RANGE = IntensityMap.window(-1024, 1024, "HU")


def save(path: Path, image: Array) -> Path:
    grid = Grid.from_spacing(image.shape, (2.0,) * image.ndim)
    write_volume(path, grid, lambda box: image[box.slices].astype(np.float32), unit="HU")
    return path


def chest(dims: int, seed: int) -> tuple[Array, Array]:
    """Air, a body, in it a lung with emphysema in a quarter, and bone; and where the lung is."""
    image = np.full((24, 26, 16)[:dims], -1000.0)
    lung = np.zeros(image.shape, bool)
    image[(slice(2, 22), slice(3, 23))] = 40 + seed
    image[(slice(3, 6), slice(6, 20))] = 500
    lung[(slice(8, 20), slice(7, 19))] = True
    image[lung] = -860 - seed
    image[(slice(8, 14), slice(7, 13))] = -970
    return image + np.random.default_rng(seed).normal(0, 3, image.shape), lung


def study(folder: Path, dims: int, subjects: int = 4) -> Cohort:
    made = []
    for k in range(subjects):
        image, lung = chest(dims, k)
        images = {
            "soft": save(folder / f"{k}_soft.nii", image),
            "sharp": save(folder / f"{k}_sharp.nii", image + 20),
        }
        regions = {"lung": save(folder / f"{k}_lung.nii", lung)}
        made.append(Subject(f"s{k}", images, fold=k % 2, regions=regions))
    return Cohort(tuple(made))


class Shifted:
    """Adds a constant; remembers whom it was fitted on and has translated."""

    def __init__(self, hu: float, trained: Cohort | None = None) -> None:
        self.hu = hu
        self.trained = trained
        self.seen: list[str] = []

    def translate(self, subject, out, *, modality=None, further: float = 0.0) -> None:
        self.seen.append(subject.name)
        if self.trained is not None:
            assert subject.name not in self.trained.names
        with open_volume(subject.images[modality]) as volume:
            image = volume.read(Box.whole(volume.grid.shape)) + self.hu + further
        save(out, image)


def test_folds_are_those_of_the_manifest(tmp_path: Path) -> None:
    cohort = study(tmp_path, 2)
    folds = folds_of(cohort, 7)
    assert [f.number for f in folds] == [0, 1]
    assert [f.test.names for f in folds] == [("s0", "s2"), ("s1", "s3")]
    assert [f.train.names for f in folds] == [("s1", "s3"), ("s0", "s2")]
    assert {s.split for f in folds for s in f.train} == {"train"}
    assert {s.split for f in folds for s in f.test} == {"test"}
    assert [f.number for f in folds_of(cohort, 2, (1,))] == [1]


def test_a_split_of_the_manifest_does_not_leave_people_out(tmp_path: Path) -> None:
    splits = dict(zip(("s0", "s1", "s2", "s3"), ("test", "test", "val", "train"), strict=True))
    cohort = Cohort(tuple(replace(s, split=splits[s.name]) for s in study(tmp_path, 2)))
    first, second = folds_of(cohort, 2)
    assert [s.split for s in first.train] == ["train", "train"]
    assert [s.split for s in second.train] == ["train", "val"]
    assert [s.split for s in second.test] == ["test", "test"]


def test_folds_are_dealt_where_none_are_stated(tmp_path: Path) -> None:
    cohort = Cohort(tuple(replace(s, fold=None) for s in study(tmp_path, 2)))
    folds = folds_of(cohort, 4)
    assert [len(f.test) for f in folds] == [1] * 4
    assert sorted(n for f in folds for n in f.test.names) == list(cohort.names)


@pytest.mark.parametrize(
    ("change", "folds", "chosen", "message"),
    [
        (None, 1, None, "1 folds: expected at least 2"),
        (0, 2, None, "1 of 4 subjects state a fold: all or none must"),
        (None, 2, (2,), "fold 2 does not exist: there are 0 to 1"),
    ],
)
def test_bad_folds_are_refused(tmp_path: Path, change, folds, chosen, message: str) -> None:
    subjects = [replace(s, fold=None) for s in study(tmp_path, 2)]
    subjects[0] = replace(subjects[0], fold=change)
    with pytest.raises(InputError, match=f"^{message}$"):
        folds_of(Cohort(tuple(subjects)), folds, chosen)


def validated(tmp_path: Path, dims: int, **options) -> tuple[pd.DataFrame, list[Fold]]:
    folds = folds_of(study(tmp_path, dims), 2)
    fit: Callable[[Fold, str], Fitted] = lambda fold, source: Fitted(  # noqa: E731
        {
            "good": Shifted(-20 if source == "sharp" else 0, fold.train),
            "bad": Fixed(Shifted(-20, fold.train), further=100.0),
        },
        RANGE,
    )
    tasks = [("sharp", "soft"), ("soft", "soft")]
    return cross_validate(folds, fit, tasks, CT, tmp_path / "out", **options), folds


def test_everybody_is_tested_once_by_who_has_not_seen_them(tmp_path: Path, dims: int) -> None:
    said: list[str] = []
    table, folds = validated(tmp_path, dims, regions=("body", "lung", "image"), report=said.append)
    assert list(table.columns[:4]) == ["task", "fold", "method", "subject"]
    assert table.groupby(["task", "method"])["subject"].nunique().eq(4).all()
    assert len(table) == 2 * 2 * 4
    assert len(said) == 4
    assert set(table["task"]) == {"sharp→soft", "soft→soft"}
    good, bad = (table[table["method"] == m] for m in ("good", "bad"))
    sharp = bad[bad["task"] == "sharp→soft"]
    assert good["mae"].max() < 1e-6
    assert good["ssim"].min() > 1 - 1e-6
    assert np.allclose(sharp["mae"], 100 / 2048, atol=1e-6)
    body, lung = 400 * (16 if dims == 3 else 1), 144 * (16 if dims == 3 else 1)
    assert (table["voxels"] == body).all()
    assert (table["lung_voxels"] == lung).all()
    assert (table["image_voxels"] == 24 * 26 * (16 if dims == 3 else 1)).all()
    assert (table["seconds"] > 0).all()
    there = task_folder(tmp_path / "out", "sharp", "soft", folds[1])
    assert result_path(there, "bad", "s3").is_file()


def test_leaks_are_refused(tmp_path: Path) -> None:
    fold, other = folds_of(study(tmp_path, 2), 2)
    leaky = Fold(0, Cohort((*fold.train, fold.test.subjects[0])), fold.test)
    for folds, message in (
        ([leaky], "fold 0: s0 is tested and trained on too"),
        ([fold, replace(other, test=fold.test, train=fold.train)], "s0 is tested and tested twice"),
        ([], "0 folds and 1 tasks: expected at least one each"),
    ):
        with pytest.raises(InputError, match=message):
            cross_validate(folds, lambda *_: Fitted({}, RANGE), [("a", "b")], CT, tmp_path)


def test_summary_and_tests_are_within_a_task(tmp_path: Path) -> None:
    table, _ = validated(tmp_path, 2)
    table["mae"] += np.linspace(0, 1e-3, len(table))  # spread for the t-test
    short = summary(table, ("mae", "psnr"))
    assert list(short.columns) == ["n", "MAE", "PSNR (dB)"]
    assert short.loc[("sharp→soft", "bad"), "n"] == 4
    values = table[(table["task"] == "sharp→soft") & (table["method"] == "bad")]["mae"]
    assert short.loc[("sharp→soft", "bad"), "MAE"] == f"{values.mean():.3f} ± {values.std():.3f}"
    table["lung_psnr"] = table["psnr"] + 1
    lungs = summary(table, ("psnr",), region="lung")
    assert list(lungs.columns) == ["n", "lung PSNR (dB)"]
    assert list(lungs["lung PSNR (dB)"]) != list(short["PSNR (dB)"])
    with pytest.raises(InputError, match="no column 'dice'"):
        summary(table, ("dice",))
    tests = significance(table, "good", ["mae"])
    assert list(tests["task"]) == ["sharp→soft", "soft→soft"]
    assert (tests["difference"] > 0).all()
    worst = tests["t_p"].min() * 2  # Holm over both tasks
    assert tests["t_p_holm"].min() == pytest.approx(min(worst, 1))


def test_lungs_are_no_background(tmp_path: Path, dims: int) -> None:
    """Below the threshold of the foreground, yet scored against what they are."""
    subject = study(tmp_path, dims).subjects[1]
    image, lung = chest(dims, 1)
    wrong = np.where(lung, image + 64, image)
    path = save(tmp_path / "wrong.nii", wrong)
    scored = score_regions(path, subject, "soft", RANGE, CT, ("lung", "body", "foreground"))
    assert scored["lung"].mae == pytest.approx(64 / 2048, rel=1e-4)
    assert scored["lung"].mask == "lung"
    assert scored["body"].mae == pytest.approx(64 / 2048 * lung.sum() / (400 * image[0, 0].size))
    assert scored["foreground"].mae == pytest.approx(0, abs=1e-6)
    single = score_file(path, subject, "soft", RANGE, CT, "lung")
    assert single == scored["lung"]
    unit = [(np.clip(v, -1024, 1024) + 1024) / 2048 for v in (wrong, image)]
    assert single.mae == pytest.approx(mae(*unit, mask=lung), rel=1e-4)
    with pytest.raises(
        InputError, match="s1: region 'liver' is none of foreground, body, image, l"
    ):
        score_file(path, subject, "soft", RANGE, CT, "liver")


def test_a_lesion_is_where_the_labels_are(tmp_path: Path, dims: int) -> None:
    image, lung = chest(dims, 0)
    labels = save(tmp_path / "labels.nii", 4 * lung)
    real = save(tmp_path / "real.nii", image)
    wrong = save(tmp_path / "wrong.nii", image + 64 * lung)
    subject = Subject("s", {"soft": real}, labels=labels)
    scored = score_regions(wrong, subject, "soft", RANGE, CT, ("image", "lesion"))
    assert scored["lesion"].voxels == lung.sum()
    assert scored["lesion"].mae == pytest.approx(64 / 2048, rel=1e-4)
    with pytest.raises(InputError, match="'lesion' is none of foreground, body, image"):
        score_file(wrong, replace(subject, labels=None), "soft", RANGE, CT, "lesion")


def test_hu_and_emphysema_are_measured(tmp_path: Path, dims: int) -> None:
    subject = study(tmp_path, dims).subjects[0]
    image, lung = chest(dims, 0)
    changed = image.copy()
    changed[image > 250] -= 30
    changed[(image > 0) & (image < 100)] += 7
    changed[lung] -= 95  # -860 becomes emphysema
    result = Result("m", save(tmp_path / "m.nii", changed), subject, "sharp", "soft")
    found = lung_measures(result)
    assert found["bone_hu"] == pytest.approx(-30, abs=1e-3)
    assert found["soft_hu"] == pytest.approx(7, abs=1e-3)
    assert found["lung_hu"] == pytest.approx(-95, abs=1e-3)
    assert found["emphysema_real"] == pytest.approx(0.25)
    assert found["emphysema"] > 0.9
    assert found["emphysema_error"] == found["emphysema"] - found["emphysema_real"]
    assert np.isnan(found["emphysema_true"])
    assert found["emphysema"] == emphysema_index(result.path, subject.regions["lung"])
    nearly = save(tmp_path / "nearly.nii", np.where(lung, image - 75, image))  # -935: not yet
    assert lung_measures(replace(result, path=nearly))["emphysema"] == pytest.approx(0.25, abs=0.03)
    holes = save(tmp_path / "holes.nii", image < -955)
    known = replace(subject, regions={**subject.regions, "emphysema": holes})
    assert lung_measures(replace(result, subject=known))["emphysema_true"] == pytest.approx(0.25)
    bare = lung_measures(replace(result, subject=replace(subject, regions={})))
    assert set(bare) == {"soft_hu", "bone_hu"}
    empty = replace(subject, regions={"lung": save(tmp_path / "none.nii", 0 * image)})
    with pytest.raises(InputError, match=r"none\.nii: no voxel is lung"):
        lung_measures(replace(result, subject=empty))


def test_lungs_are_found_where_the_manifest_names_none(tmp_path: Path) -> None:
    from msgan.phantoms.thorax import thorax

    phantom = thorax(0, 1, size=64, severity=0.1)
    whole = Box.whole(phantom.shape)
    path = tmp_path / "b20f.nii"
    write_volume(path, Grid(phantom.shape, phantom.affine), phantom.b20f, unit="HU")
    named = study(tmp_path, 3, 1).subjects[0]
    cohort = Cohort((Subject("a", {"b20f": path}), named, Subject("c", {"b50f": path})))
    first, second, third = with_lungs(cohort, "b20f", tmp_path)
    with open_volume(first.regions["lung"]) as volume:
        found = volume.read(whole) > 0
    lung = phantom.lung(whole) > 0
    assert 2 * (found & lung).sum() / (found.sum() + lung.sum()) > 0.85
    assert (second, dict(third.regions)) == (named, {})
    when = first.regions["lung"].stat().st_mtime_ns
    assert with_lungs(cohort, "b20f", tmp_path)["a"].regions["lung"].stat().st_mtime_ns == when


def test_seams_show_at_a_method_s_own_tiles(tmp_path: Path, dims: int) -> None:
    """Also where the working grid begins elsewhere than the file."""
    subject = study(tmp_path, dims, 1).subjects[0]
    image, _ = chest(dims, 0)
    seams = Seams({"tiled": 8}, CT, pool=1)
    smooth = np.full(image.shape, 40.0) + np.random.default_rng(1).normal(0, 3, image.shape)
    stepped = smooth.copy()
    for axis, first in enumerate((1, 2, 0)[:dims]):  # the body's corner less the margin
        for turn, k in enumerate(range(first, image.shape[axis], 8)):
            stepped[(slice(None),) * axis + (slice(k, None),)] += 30 * (-1) ** turn
    plain, cut = (
        Result("tiled", save(tmp_path / f"{n}.nii", v), subject, "sharp", "soft")
        for n, v in (("plain", smooth), ("cut", stepped))
    )
    whole, made = seams(plain), seams(cut)
    assert made["seam"] > 1.5 * whole["seam"]
    assert made["seam_p"] < 0.05 < whole["seam_p"]
    assert all(np.isnan(v) for v in seams(replace(cut, method="other")).values())
    with pytest.raises(InputError, match="tile 3: expected at least 4 voxels"):
        Seams({"tiled": 3}, CT)(cut)
