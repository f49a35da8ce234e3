"""What the benchmarks on real images compute and whom they train and test on."""

# ruff: noqa: E402

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import stored, whole
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import cohort_s0
import drawings
import limbs
import methods
import quality_minutes
import real_brain
import real_thorax
import records
import two_kernels

from msgan import presets
from msgan.config import MeganNetwork
from msgan.data.cohort import Cohort, Subject
from msgan.data.manifest import read_manifest
from msgan.runs.bundled import located
from msgan.runs.run import Run
from msgan.types import Box

MANIFESTS = ROOT / "data_manifests"
SCRIPTS = (real_brain, real_thorax, two_kernels, limbs, quality_minutes)


# --- the table of methods ----------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.NAME)
def test_every_method_of_a_benchmark_is_in_the_table(script):
    more = {limbs: (*limbs.MEANS, *methods.equal_time(1)), quality_minutes: quality_minutes.STEADY}
    own = more.get(script, ())
    found = methods.candidates(script.COMPARED, *own)
    assert [candidate.name for candidate in found] == list(script.COMPARED)


def test_a_method_that_does_not_exist_is_named():
    with pytest.raises(SystemExit, match="no method 'cascad'"):
        methods.candidates(["source", "cascad"])


def test_methods_say_what_they_see_and_only_those_of_two_domains_are_fitted_for_each_source():
    table = {candidate.name: candidate for candidate in methods.CANDIDATES}
    assert len(table) == len(methods.CANDIDATES)
    assert [n for n, candidate in table.items() if candidate.per_source] == [
        "CycleGAN",
        "paired regression",
    ]
    assert not table["mean image"].trained
    assert table["cascade, guided"].sees == methods.TARGET


def test_guidance_is_what_the_method_says_matched_as_the_benchmark_says():
    table = {candidate.name: candidate for candidate in methods.CANDIDATES}
    config = presets.preset("smoke")
    assert config.guidance.on
    assert table["cascade"].configured(config, "histogram") == config.unguided()
    guided = table["cascade, guided"].configured(config, "histogram").guidance
    assert (guided.match, guided.student, guided.detail) == ("histogram", True, True)


def test_the_published_method_sees_edges_alone_in_networks_of_the_same_size():
    config = presets.preset("small", "brain", seed=3)
    published = methods.published(config)
    assert isinstance(published.network, MeganNetwork)
    assert published.sketch.channels == ("edges",)
    assert published.contrast.share == 0
    assert published.conditioning.generated_share == 0
    assert published.network.hr_width == config.network.hr_width
    assert published.training.steps == config.training.steps
    assert published.training.learning_rate != config.training.learning_rate
    assert (published.labels, published.seed) == (config.labels, 3)


# --- records -----------------------------------------------------------------------------------


def test_methods_that_are_not_measured_again_are_kept(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"brain": {"old": {"ssim": 0.5}}, "git": "aaa"}))
    new = {"brain": {"new": {"ssim": 0.6}}, "methods": {"new": {"git": "bbb"}}, "git": "bbb"}
    whole = records.record(path, new)
    assert whole == json.loads(path.read_text())
    assert whole["brain"] == {"old": {"ssim": 0.5}, "new": {"ssim": 0.6}}
    assert (whole["git"], whole["before"]) == ("bbb", {"git": "aaa"})
    again = records.record(path, {"brain": {"new": {"ssim": 0.7}}})
    assert again["brain"] == {"old": {"ssim": 0.5}, "new": {"ssim": 0.7}}
    assert again["before"] == {"git": "aaa"}


def test_images_are_found_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv(records.SHARED_DATA, str(tmp_path))
    assert records.data_folder() == tmp_path
    monkeypatch.delenv(records.SHARED_DATA)
    assert records.data_folder() == ROOT.parent / "shared" / "data"


def test_a_quick_run_makes_no_record(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["x", "--quick", "--data", str(tmp_path), "--out", "o"])
    given = records.parsed(records.options("limbs", "Doc.", ("a",)), "limbs")
    assert (given.json, given.picture) == (Path("o/quick/limbs.json"), Path("o/quick/limbs.png"))
    monkeypatch.setattr("sys.argv", ["x", "--data", str(tmp_path)])
    given = records.parsed(records.options("limbs", "Doc.", ("a",)), "limbs")
    assert given.json == ROOT / "benchmarks" / "limbs.json"


# --- s0 of a cohort ----------------------------------------------------------------------------


def test_s0_has_the_same_steps_a_head_and_draws_people_it_has_not_seen():
    count = max(map(max, cohort_s0.HEADS.values())) + 1 + cohort_s0.TESTED
    tested = set(range(count)[-cohort_s0.TESTED :])
    for heads in cohort_s0.HEADS.values():
        config = cohort_s0.config(len(heads))
        assert not tested & set(heads)
        assert config.training.lr_steps == cohort_s0.STEPS * len(heads)
        assert not config.guidance.on


# --- more drawings than one --------------------------------------------------------------------


def test_rows_differ_in_what_is_drawn_and_in_nothing_else():
    run = Run.open(located(drawings.MODEL))
    for name, (copies, redraw) in drawings.ROWS.items():
        made = drawings.method(run, copies, redraw).generation
        assert made.recolourings == copies
        assert any(scale.matched for scale in made.scales) == redraw == ("redraw" in name)
        assert made.last.folder == run.folder


# --- brains ------------------------------------------------------------------------------------


def test_nobody_is_trained_and_tested_on_and_labels_are_drawn_in_one_study_only():
    for study in real_brain.STUDIES.values():
        assert not set(study.train) & set(study.test)
    assert [n for n, s in real_brain.STUDIES.items() if s.labels] == ["ms"]


@pytest.mark.parametrize("name", real_brain.STUDIES)
def test_only_cascades_of_the_first_study_see_labels(name):
    study = real_brain.STUDIES[name]
    config = real_brain.config(study)
    seen = {
        candidate.name
        for candidate in methods.CANDIDATES
        if real_brain.configured(candidate, config).labels
    }
    cascades = {
        candidate.name
        for candidate in methods.CANDIDATES
        if candidate.trained and not candidate.per_source
    }
    assert seen == (cascades if name == "ms" else set())


def test_people_of_a_study_are_split_as_it_says(shared_data):
    cohort = real_brain.cohort_of(real_brain.STUDIES["tumours"], shared_data)
    assert cohort.split("train").names == ("patient19", "patient26")
    assert cohort.split("test").names == ("TCGA-DU-7294", "TCGA-FG-6692")
    assert all(s.labels is not None for s in cohort)


def test_scores_of_several_regions_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    real = rng.random((20, 18, 16))
    fake = np.clip(real + 0.1 * rng.normal(size=real.shape), 0, 1)
    mask = np.zeros(real.shape, bool)
    mask[4:14, 4:14, 4:12] = True
    both = real_brain.scored(fake, real, {"all": None, "part": mask})
    alone = real_brain.metrics.scores(fake, real, data_range=1.0, mask=mask)
    assert both["part"] == {"ssim": alone.ssim, "mae": alone.mae, "psnr": alone.psnr}
    assert both["all"]["mae"] == pytest.approx(np.abs(fake - real).mean())


# --- kernels -----------------------------------------------------------------------------------


def noisy_slices(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(48, 48, 2)).astype(np.float32)


def test_a_filter_that_is_equal_in_all_directions_is_found_again():
    sharp = noisy_slices()
    soft = two_kernels.applied(sharp, two_kernels.gaussian(1.2))
    mask = np.zeros(sharp.shape, bool)
    mask[16:32, 16:32] = True
    found = two_kernels.radial_filter(sharp, soft, mask)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, two_kernels.gaussian(1.2), rtol=0, atol=2e-3)
    assert two_kernels.best_width(sharp, soft, mask) == pytest.approx(1.2)


def test_a_gaussian_filter_is_that_of_scipy():
    sharp = noisy_slices()
    other = gaussian_filter(sharp, (1.5, 1.5, 0), mode="nearest", truncate=10)
    np.testing.assert_allclose(
        two_kernels.applied(sharp, two_kernels.gaussian(1.5)), other, rtol=0, atol=1e-5
    )


def test_rings_share_no_voxel_and_fill_the_disc():
    total = np.sum(list(two_kernels.rings(6)), axis=0)
    axis = np.arange(-6, 7)
    assert total.max() == 1
    assert (total[np.hypot(axis[:, None], axis) <= 6] == 1).all()


def test_halves_of_the_phantom_do_not_overlap(shared_data, tmp_path):
    cohort = two_kernels.halves(shared_data, tmp_path, middle=16)
    known, unseen = cohort
    assert (known.split, unseen.split) == ("train", "test")
    with two_kernels.open_volume(unseen.images["ub"]) as volume:
        start = volume.grid.affine @ (0, 0, 0, 1)
    real = shared_data / "ct_two_kernels" / two_kernels.FILES["ub"]
    with two_kernels.open_volume(real) as volume:
        where = np.linalg.solve(volume.grid.affine, start)[:3]
        np.testing.assert_allclose(where, (248, 248, 24), atol=1e-3)
        part = volume.read(Box((248, 248, 24), (16, 16, 24)))
    np.testing.assert_array_equal(whole(unseen.images["ub"]), part)


# --- chests ------------------------------------------------------------------------------------


def test_slices_are_averaged_in_pairs():
    image = np.arange(5.0).reshape(1, 1, 5)
    np.testing.assert_array_equal(real_thorax.in_pairs(image), [[[0.5, 2.5]]])


def test_an_image_without_truth_is_measured_in_its_lungs(tmp_path):
    image = np.full((80, 8, 4), 40.0, np.float32)
    image[:40] = -800
    image[:10] = -980
    image[70:] = 400
    ct = stored(tmp_path / "a.nii", image, unit="HU")
    lung = stored(tmp_path / "lung.nii", (image < -500).astype(np.uint8), dtype=np.uint8)
    person = Subject("p", {real_thorax.SOURCE: ct}, regions={"lung": lung})
    found = real_thorax.without_truth(ct, person)
    known = {"emphysema index, %": 25, "mean HU, lung": -845, "mean HU, soft tissue": 40}
    assert found == pytest.approx({**known, "mean HU, bone": 400}, rel=0.05)


def test_power_of_white_noise_is_its_variance_at_every_frequency(tmp_path):
    noise = 50 * np.random.default_rng(0).normal(size=(128, 128, 4)).astype(np.float32)
    ct = stored(tmp_path / "a.nii", noise, unit="HU")
    window = real_thorax.IntensityMap(-1024.0, 1024.0, "HU")
    found = real_thorax.noise_power(ct, window)
    assert len(found) == real_thorax.BANDS
    # The mean of each patch is taken off, which the lowest band lacks.
    np.testing.assert_allclose(list(found.values())[1:], 2500, rtol=0.1)


# --- limbs -------------------------------------------------------------------------------------


def test_folds_of_the_limbs_are_thirteen_people_each_dealt_by_name():
    cohort = Cohort.from_manifest(read_manifest(MANIFESTS / "mr_ct.csv"), ROOT)
    assert [len(test) for _, test in cohort.folds(limbs.FOLDS)] == [13, 13]
    dealt = cohort.with_folds(limbs.FOLDS)
    assert [s.fold for s in cohort] == [s.fold for s in dealt]


def test_t1_and_ct_share_a_range():
    low, high = limbs.RANGE
    np.testing.assert_array_equal(limbs.as_ct_range(np.array([0, limbs.T1_HIGH])), [low, high])


def test_hu_errors_by_tissue():
    real = np.array([[-1000.0, -100, 50, 600, 800]])
    fake = np.array([[-1000.0, -80, 60, 100, 900]])
    found = limbs.hu_errors(fake, real, real > -300, np.array([[True, True, True, True, False]]))
    assert found == {
        "mae_hu, both bodies": (20 + 10 + 500) / 3,
        "mae_hu, limb": (20 + 10 + 500 + 100) / 4,
        "mae_hu, soft tissue": 15,
        "mae_hu, bone": 300,
        "dice of bone": 2 / 3,
    }
    inside = real[:, :3] > -300
    none = limbs.hu_errors(real[:, :3], real[:, :3], inside, inside)
    assert np.isnan(none["mae_hu, bone"])
    assert np.isnan(none["dice of bone"])
    assert limbs.clean({"a": [float("nan"), 1.0]}) == {"a": [None, 1.0]}


def test_methods_are_tested_against_one_on_the_same_people():
    def line(error, bone):
        return {"ssim": 0.5, "mae_hu, limb": error, "mae_hu, bone": bone}

    mine = {f"p{k}": line(100.0 + k, 300.0 + k) for k in range(6)}
    other = {f"p{k}": line(110.0 + 2 * k, None if k == 5 else 300.0) for k in range(6)}
    found = limbs.tests({limbs.REFERENCE: mine, "other": other})
    error = found[f"limb, mae_hu, limb, minus {limbs.REFERENCE}"]["other"]
    assert (error["n"], error["difference"]) == (6, 12.5)
    bone = found[f"limb, mae_hu, bone, minus {limbs.REFERENCE}"]["other"]
    assert (bone["n"], bone["difference"]) == (5, -2.0)  # one has no bone
    assert limbs.tests({"other": other}) == {}


def test_methods_of_equal_time_take_the_images_of_the_benchmark(tmp_path, monkeypatch):
    asked = []

    def fit(*words):
        asked.append(words)
        return SimpleNamespace(config=words[2])

    monkeypatch.setattr(methods, "fit", fit)
    table = {one.name: one for one in methods.equal_time(150)}
    assert set(limbs.COMPARED) >= set(table)
    assert {one.sees for one in table.values()} == {methods.PAIRS}
    config = limbs.config()
    for rival, one in zip(methods.RIVALS, table.values(), strict=True):
        one.fit("people", "t1", "ct", one.configured(config), tmp_path)
        people, target, own, out = asked[-1]
        assert (people, target, out) == ("people", "ct", tmp_path)
        assert own.preparation == config.preparation
        assert own.paired == "t1"
        assert own.training.steps == round(150 / rival.pace)
    config = quality_minutes.with_rounds(config, 60)
    for one in methods.equal_time(None):
        one.fit("people", "t1", "ct", one.configured(config), tmp_path)
        own = asked[-1][2]
        assert (own.training.steps, own.training.validate_every) == (120, 30)


# --- minutes -----------------------------------------------------------------------------------


def test_rounds_fill_the_time_that_is_left_after_a_start():
    assert quality_minutes.rounds_in(2, (10, 30.0), (30, 50.0)) == 100  # 20 s, then 1 s each
    assert quality_minutes.rounds_in(0.1, (10, 30.0), (30, 50.0)) == 1


def test_steps_of_a_round_are_three_and_two():
    config = quality_minutes.with_rounds(presets.preset("smoke", "brain"), 50)
    assert (config.training.lr_steps, config.training.steps) == (150, 100)
    assert config.training.validate_every == 25


def test_the_curve_is_drawn_of_what_is_recorded(tmp_path):
    lines = [{"minutes": t, "took": 1.1 * t, "ssim": 0.1 * t, "psnr": t, "mae": 1} for t in (2, 5)]
    report = quality_minutes.tables({"cascade": lines})
    assert report["SSIM inside the brain, by minutes"] == {"cascade": {"2": 0.2, "5": 0.5}}
    report["methods"] = {"cascade": {"2": {"threads": 1}, "5": {"threads": 2}}}
    assert quality_minutes.cores(report) == "1 thread or 2 threads"
    quality_minutes.figure(report, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()
