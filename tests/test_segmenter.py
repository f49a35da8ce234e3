"""Segmentation networks learn, are the same again, and say what synthetic images are worth."""

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import stored, whole
from scipy.ndimage import gaussian_filter

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.volume import open_volume
from msgan.metrics import dice
from msgan.phantoms import brain as phantom
from msgan.studies import crossval
from msgan.studies.agreement import Agreement
from msgan.studies.applicability import (
    REAL,
    SOURCE,
    applicability,
    applicability_table,
    structure_dice,
)
from msgan.studies.pretrained import QUIET, WEIGHTS, BrainMask, TotalSegmentator
from msgan.studies.segmenter import (
    SIZES,
    SegmenterConfig,
    TrainedSegmenter,
    segmenter_config,
    train_segmenter,
)
from msgan.studies.table import Result, result_path
from msgan.types import Box, InputError

pytestmark = pytest.mark.usefixtures("one_thread")

PREPARATION = Preparation(intensity="percentile", low=0.0, high=99.5)
QUICK = SegmenterConfig((4, 8), patch=16, batch=4, steps=60)


# --- people ------------------------------------------------------------------------------------


def person(folder: Path, dims: int, k: int, split: str) -> Subject:
    """A ball is bright in T2 and not to be seen in T1, where a ball elsewhere is bright."""
    side = 40 if dims == 2 else 20
    axes = np.stack(np.meshgrid(*[np.arange(side)] * dims, indexing="ij"))
    random = np.random.default_rng(k)
    seats = random.integers(side // 4 + 1, side - side // 4, (2, dims))
    balls = [((axes - s.reshape(-1, *[1] * dims)) ** 2).sum(0) < (side / 6) ** 2 for s in seats]
    noise = gaussian_filter(random.normal(size=axes.shape[1:]), 1) * 20
    images = {}
    for modality, ball in zip(("t2", "t1"), balls, strict=True):
        image = (100 + noise + np.where(ball, 120, 0)).astype(np.float32)
        images[modality] = stored(folder / f"{k}_{modality}.nii", image)
    drawn = np.where(balls[0], 1 + 3 * (axes[0] % 2), 0).astype(np.uint8)  # labels 1 and 4
    return Subject(
        f"s{k}", images, stored(folder / f"{k}_l.nii", drawn, dtype=np.uint8), split=split
    )


def people(folder: Path, dims: int, splits=("train", "train", "val", "test", "test")) -> Cohort:
    folder.mkdir(exist_ok=True)
    return Cohort(tuple(person(folder, dims, k, split) for k, split in enumerate(splits)))


def weights(segmenter: TrainedSegmenter) -> torch.Tensor:
    return torch.cat([value.ravel() for value in segmenter.network.state_dict().values()])


def train(cohort: Cohort, modality: str = "t2", config=QUICK, **options) -> TrainedSegmenter:
    trained = cohort.split("train").subjects
    return train_segmenter(trained, modality, PREPARATION, config, device="cpu", **options)


# --- the network -------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_a_tumour_of_a_phantom(tmp_path, scratch):
    """Of one person, whose image it has seen."""
    cohort = Cohort.from_manifest(
        phantom.write_cohort(tmp_path, subjects=1, size=32, seed=3, folds=1, test_share=0.0),
        tmp_path,
    )
    segmenter = train(cohort, "flair", config=replace(segmenter_config("smoke"), steps=60))
    assert structure_dice(segmenter, cohort.subjects[0], "flair") > 0.7
    assert list(scratch.iterdir()) == []


def test_the_same_seed_gives_the_same_weights(tmp_path):
    cohort, short = people(tmp_path, 2), replace(QUICK, steps=3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = weights(train(cohort, config=short))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    lines = []
    assert torch.equal(weights(train(cohort, config=short, report=lines.append)), first)
    assert len(lines) == 1
    assert lines[0].startswith("step 3 of 3: loss ")
    other = weights(train(cohort, config=replace(short, seed=1)))
    assert not torch.equal(other, first)


def test_a_segmentation_lies_on_the_grid_of_the_file(tmp_path, dims, scratch):
    """Turned, cropped and of another spacing; of any block it is nearly the same."""
    cohort = people(tmp_path, dims)
    segmenter = train(cohort)
    tested = cohort["s3"]
    image, drawn = whole(tested.images["t2"]), whole(tested.labels)
    with ExitStack() as stack:
        read = segmenter.segment(tested, stack, "t2")
        found = read(Box.whole(image.shape))
        assert found.dtype == np.uint8
        assert dice(found, drawn) > 0.9
        box = Box((3,) * dims, (9,) * dims)
        np.testing.assert_array_equal(read(box), found[box.slices])
        small = replace(segmenter, config=replace(QUICK, block=13))
        tiled = small.segment(tested.images["t2"], stack)(Box.whole(image.shape))
        assert dice(tiled, found) > 0.95
        turned = np.flip(image, 0).swapaxes(0, 1)
        affine = np.eye(dims + 1)
        affine[:2, :2] = [[0, -1], [1, 0]]  # of the axes as they lie now
        affine[0, -1] = image.shape[0] - 1
        path = stored(tmp_path / "turned.nii", np.ascontiguousarray(turned), affine)
        again = segmenter.segment(path, stack)(Box.whole(turned.shape))
        assert dice(np.flip(again.swapaxes(0, 1), 0), found) > 0.97
    assert list(scratch.iterdir()) == []


def test_memory_does_not_grow_with_the_image(tmp_path, monkeypatch):
    """Neither training nor segmenting sees more than a block and its windows at once."""
    seen = []
    monkeypatch.setattr(
        TrainedSegmenter, "_logits", lambda self, image: seen.append(image.shape) or image
    )
    for side in (100, 200):
        image = np.random.default_rng(0).uniform(1, 2, (side, side)).astype(np.float32)
        path = stored(tmp_path / f"{side}.nii", image)
        segmenter = TrainedSegmenter(torch.nn.Identity(), 2, replace(QUICK, block=32), PREPARATION)
        with ExitStack() as stack:
            segmenter.segment(path, stack)
        assert max(max(shape) for shape in seen) == 32 + 16


def test_settings_are_held_to_their_rules():
    assert {name: segmenter_config(name, seed=2).seed for name in SIZES} == dict.fromkeys(SIZES, 2)
    with pytest.raises(InputError, match="segmenter 'big' is none of smoke, small, published"):
        segmenter_config("big")
    for change, message in (
        ({"steps": 0}, "steps 0: expected at least 1"),
        ({"widths": (8,)}, r"widths \(8,\): expected two or more"),
        ({"patch": 20}, "patch 20: expected a multiple of 8"),
        ({"learning_rate": 0.0}, "learning rate 0: expected a positive"),
        ({"labelled": 1.5}, "labelled 1.5: expected a share"),
        ({"overlap": 1.0}, "overlap 1: expected a share"),
    ):
        with pytest.raises(InputError, match=message):
            SegmenterConfig(**change)


def test_people_it_cannot_learn_from_are_refused(tmp_path, monkeypatch):
    cohort = people(tmp_path, 2, ("train",))
    one = cohort.subjects[0]
    empty = stored(tmp_path / "none.nii", np.zeros((40, 40), np.uint8), dtype=np.uint8)
    for own, message in (
        ((), "nobody to train a segmenter of t2 on"),
        ((replace(one, labels=None),), "s0: no labels to train a segmenter on"),
        ((replace(one, labels=empty),), "none of 1 people to train on has a whole tumour"),
    ):
        with pytest.raises(InputError, match=message):
            train_segmenter(own, "t2", PREPARATION, QUICK, device="cpu")
    with pytest.raises(InputError, match="loss nan at step 2: lower learning_rate"):
        train(cohort, config=replace(QUICK, learning_rate=1e30))
    segmenter = TrainedSegmenter(torch.nn.Identity(), 3, QUICK, PREPARATION)
    with ExitStack() as stack, pytest.raises(InputError, match="image of 2 axes, the segmenter"):
        segmenter.segment(one, stack, "t2")
    with pytest.raises(InputError, match="s0: no labels to compare with"):
        structure_dice(segmenter, replace(one, labels=None), "t2")
    monkeypatch.setitem(sys.modules, "monai.losses", None)
    with pytest.raises(InputError, match=r"needs MONAI: pip install 'msgan\[segmentation\]'"):
        train(cohort)


# --- synthetic to real -------------------------------------------------------------------------


class Copies:
    """A translator that is perfect: it writes the real image, in another unit."""

    def translate(self, subject, out, *, modality=None):
        assert modality == "t1"
        out.parent.mkdir(parents=True, exist_ok=True)
        stored(out, 7 * whole(subject.images["t2"]))


def test_bounds_lie_where_they_must(tmp_path):
    """What is not to be seen in the source cannot be learnt from it; from a copy it can."""
    cohort = people(tmp_path / "data", 2)
    table = applicability(
        {"copies": Copies()}, cohort, "t1", "t2", PREPARATION, QUICK, tmp_path / "out", device="cpu"
    )
    assert list(table.columns) == [
        *("task", "method", "subject", "dice", "trained", "region", "dims", "range")
    ]
    assert set(table["subject"]) == {"s3", "s4"}
    assert set(table["trained"]) == {3}
    assert set(table["dims"]) == {"2D"}
    means = table.groupby("method")["dice"].mean()
    assert means[REAL] > 0.9
    assert means["copies"] == pytest.approx(means[REAL], abs=0.02)
    assert means[SOURCE] < means[REAL] - 0.3
    shown = crossval.summary(table, ("dice",))
    assert list(shown.columns) == ["n", "Dice"]
    assert set(shown["n"]) == {2}
    tests = crossval.significance(table, REAL, ("dice",))
    assert set(tests["method"]) == {"copies", SOURCE}
    assert sorted(p.name for p in (tmp_path / "out" / "copies").iterdir()) == [
        f"s{k}.nii" for k in range(3)
    ]


def test_labels_choose_what_is_segmented(tmp_path):
    """Only the voxels of label 4 count: half of the ball."""
    tested = people(tmp_path, 2, ("test",)).subjects[0]
    drawn = whole(tested.labels)

    class Everything(TrainedSegmenter):
        def segment(self, image, stack, modality=None):
            return lambda box: (drawn > 0)[box.slices].astype(np.uint8)

    ball = Everything(torch.nn.Identity(), 2, QUICK, PREPARATION)
    assert structure_dice(ball, tested, "t2") == 1
    part, full = (drawn == 4).sum(), (drawn > 0).sum()
    assert structure_dice(ball, tested, "t2", (4,)) == pytest.approx(2 * part / (part + full))


def test_tables_without_people_or_images_are_refused(tmp_path):
    cohort = people(tmp_path, 2, ("train", "test"))

    def table(synthetic, own):
        applicability_table(synthetic, own, "t1", "t2", PREPARATION, QUICK, device="cpu")

    for synthetic, own, message in (
        ({REAL: {}}, cohort, "method 'real images': that is the name of a bound"),
        ({"m": {}}, cohort, "m: no synthetic image of s0"),
        ({}, cohort.split("test"), "nobody of split train or val has a t1 and a t2 image and"),
        ({}, cohort.split("train"), "nobody of split test has"),
    ):
        with pytest.raises(InputError, match=message):
            table(synthetic, own)


# --- existing segmenters -----------------------------------------------------------------------


class Threshold:
    """Bright is 1, brighter is 2; 3 is never found."""

    def __init__(self):
        self.calls = []
        self.structures = {"bright": (1,), "brighter": (2,), "absent": (3,)}

    def segment(self, image, stack):
        self.calls.append(Path(image).name)
        with open_volume(image, check=False) as opened:
            values = opened.whole()
        labels = (values > 50).astype(np.int32) + (values > 150)
        return lambda box: labels[box.slices]


def test_segmentations_of_both_images_are_compared(tmp_path, dims):
    tested = people(tmp_path, dims, ("test",)).subjects[0]
    real = whole(tested.images["t2"])
    path = result_path(tmp_path, "m", "s0")
    path.parent.mkdir()
    stored(path, np.roll(real, 2, 0))
    segmenter = Threshold()
    agreement = Agreement(segmenter, ("brighter", "absent"))
    result = Result("m", path, tested, "t1", "t2")
    found = agreement(result)
    expected = dice(np.roll(real, 2, 0) > 150, real > 150)
    between = [(image > 50) & (image <= 150) for image in (np.roll(real, 2, 0), real)]
    assert list(found) == ["brighter_dice", "absent_dice", "dice"]
    assert found["brighter_dice"] == pytest.approx(expected)
    assert np.isnan(found["absent_dice"])
    assert found["dice"] == pytest.approx((expected + dice(*between)) / 2)
    same = agreement(replace(result, path=tested.images["t2"]))
    assert same["dice"] == 1
    assert segmenter.calls == ["0_t2.nii", "s0.nii", "0_t2.nii"]  # the real one once
    dark = stored(tmp_path / "dark.nii", np.zeros_like(real))
    assert agreement(replace(result, path=dark))["brighter_dice"] == 0
    other = stored(tmp_path / "other.nii", real, spacing=2.0)
    with pytest.raises(InputError, match=r"other\.nii: grid .* is not the real image's"):
        agreement(replace(result, path=other))
    with pytest.raises(InputError, match="structure 'heart' is none of bright, brighter, absent"):
        Agreement(segmenter, ("heart",))


def test_what_a_trained_segmenter_sees_can_be_compared_too(tmp_path):
    cohort = people(tmp_path, 2)
    agreement = Agreement(train(cohort, config=replace(QUICK, steps=20)), ("whole tumour",))
    result = Result("m", cohort["s3"].images["t2"], cohort["s3"], "t1", "t2")
    assert agreement(result) == {"whole tumour_dice": 1, "dice": 1}


def fake(monkeypatch, name: str, **contents) -> None:
    """A module of that name, as others would have installed it."""
    made = ModuleType(name)
    vars(made).update(contents)
    monkeypatch.setitem(sys.modules, name, made)


def volume(folder: Path, name: str = "x.nii"):
    image = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return image, stored(folder / name, image, np.diag([2.0, 3.0, 4.0, 1.0]))


def test_organs_come_from_local_weights_and_nothing_is_sent(tmp_path, monkeypatch):
    """What TotalSegmentator is called with, and the settings it would find."""
    calls, image, path = [], *volume(tmp_path)

    def totalsegmentator(input, output, **options):
        home = Path(os.environ["TOTALSEG_HOME_DIR"])
        calls.append((options, os.environ["TOTALSEG_WEIGHTS_PATH"]))
        assert '"send_usage_stats": false' in (home / "config.json").read_text()
        assert output is None
        np.testing.assert_array_equal(input.affine, np.diag([2.0, 3.0, 4.0, 1.0]))
        os.environ["NNUNET_RESULTS"] = "elsewhere"
        return nib.Nifti1Image((input.get_fdata() > 10).astype(np.uint8) * 2, input.affine)

    fake(monkeypatch, "totalsegmentator")
    fake(monkeypatch, "totalsegmentator.python_api", totalsegmentator=totalsegmentator)
    names = {"total_mr": {1: "spleen", 2: "liver"}}
    fake(monkeypatch, "totalsegmentator.map_to_binary", class_map=names)
    (tmp_path / WEIGHTS["total_mr", True][0]).mkdir()
    monkeypatch.delenv("NNUNET_RESULTS", raising=False)
    organs = TotalSegmentator(tmp_path, "total_mr", fast=True, device="cpu")
    assert organs.structures == {"spleen": (1,), "liver": (2,)}
    before = dict(os.environ)
    with ExitStack() as stack:
        found = organs.segment(path, stack)(Box.whole(image.shape))
    np.testing.assert_array_equal(found, np.where(image > 10, 2, 0))
    options = {"ml": True, "task": "total_mr", "fast": True, "device": "cpu", "quiet": True}
    assert calls == [(options, str(tmp_path))]
    assert dict(os.environ) == before
    assert QUIET["send_usage_stats"] is False


def test_organs_are_refused_without_weights_or_package(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="task 'heart' is none of total, total_mr"):
        TotalSegmentator(tmp_path, "heart")
    for part in WEIGHTS["total", False]:
        with pytest.raises(InputError, match=f"no folder {part}, .*nothing is downloaded"):
            TotalSegmentator(tmp_path)
        (tmp_path / part).mkdir()
    monkeypatch.setitem(sys.modules, "totalsegmentator", None)
    organs = TotalSegmentator(tmp_path, device="cpu")
    with pytest.raises(InputError, match=r"pip install 'msgan\[organs\]'"):
        organs.segment(volume(tmp_path)[1], ExitStack())


def test_the_brain_is_what_deepbet_finds(tmp_path, monkeypatch):
    image, path = volume(tmp_path)

    class BrainExtraction:
        def __init__(self, no_gpu):
            assert no_gpu

        def run(self, picture):
            if picture.get_fdata().max() > 100:
                raise AssertionError("Not enough foreground to calculate bounding box")
            mask = nib.Nifti1Image((picture.get_fdata() > 5).astype(np.uint8), picture.affine)
            return picture, mask, 1.0

    fake(monkeypatch, "deepbet", BrainExtraction=BrainExtraction)
    brain = BrainMask("cpu")
    bright = stored(tmp_path / "bright.nii", 100 * image)
    with ExitStack() as stack:
        found = brain.segment(path, stack)(Box.whole(image.shape))
        np.testing.assert_array_equal(found, image > 5)
        assert not brain.segment(bright, stack)(Box.whole(image.shape)).any()
    with pytest.raises(InputError, match=r"flat\.nii: image of 2 axes: expected 3"):
        brain.segment(stored(tmp_path / "flat.nii", image[0]), ExitStack())
    result = Result("m", path, Subject("a", {"t1": path}), "t2", "t1")
    assert Agreement(brain, ("brain",))(result) == {"brain_dice": 1, "dice": 1}
    monkeypatch.setitem(sys.modules, "deepbet", None)
    with pytest.raises(InputError, match=r"needs deepbet: pip install 'msgan\[brain\]'"):
        BrainMask("cpu").segment(path, ExitStack())


@pytest.mark.slow
def test_deepbet_finds_the_brain_of_a_real_head(shared_data):
    pytest.importorskip("deepbet")
    path = shared_data / "brain_ms_raw" / "long_patient01__study1_T1W.nii.gz"
    with ExitStack() as stack:
        found = BrainMask("cpu").segment(path, stack)(Box.whole((320, 320, 39)))
    millilitres = found.sum() * 0.71875**2 * 3 / 1000
    assert 1100 < millilitres < 1600
