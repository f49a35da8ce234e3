"""Cascades whose sketch is that of another modality's image, and paired regression."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import changed, equal, head, pairs, stored, tiny, whole

from msgan.config import SketchConfig
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.methods.cascade import fit
from msgan.methods.paired import PairedRegression
from msgan.methods.patch_gan import PatchGan
from msgan.methods.shared import run_key
from msgan.runs.run import Run
from msgan.sketch import channels, halo, mirror, sketch, sketch_reader
from msgan.training import cache
from msgan.training.cache import cached
from msgan.types import Box, InputError

pytestmark = pytest.mark.usefixtures("one_thread")


# --- the image as a sketch -------------------------------------------------------------------


def test_the_image_is_a_channel_without_halo(dims):
    config = SketchConfig(channels=("image",))
    assert (halo(config), channels(config), channels(config, dims)) == (0, 1, 1)
    image = np.random.default_rng(0).uniform(-1, 1, (13, 9, 11)[:dims]).astype(np.float32)
    read = sketch_reader(lambda box: image[box.slices], image.shape, config)
    found = read(Box.whole(image.shape))
    np.testing.assert_allclose(found[0], (image + 1) / 2, rtol=0, atol=1e-7)
    for box in Box.whole(image.shape).tiles((5, 4, 7)[:dims]):
        np.testing.assert_array_equal(read(box), found[(slice(None), *box.slices)])
    outside = read(Box.whole(image.shape).grown(2))
    np.testing.assert_array_equal(outside[0], np.pad(found[0], 2, mode="edge"))
    # Background is 0 wherever it is.
    part = torch.full((1, 1, *image.shape), -1.0)
    assert not sketch(part, config).any()
    drawn = torch.from_numpy(found)[None]
    for axis in range(dims):
        assert torch.equal(mirror(drawn, axis, config), drawn.flip(2 + axis))


def test_beside_edges_it_is_one_more_channel(dims):
    both = SketchConfig(channels=("edges", "image"), sigma=0.8)
    image = torch.rand(1, 1, *(30,) * dims) * 2 - 1
    drawn, n = sketch(image, both), halo(both)
    inner = image[(..., *(slice(n, -n),) * dims)]
    torch.testing.assert_close(drawn[:, 1:], (inner + 1) / 2)
    edges = sketch(image, SketchConfig(sigma=0.8))
    torch.testing.assert_close(drawn[:, :1], edges)


# --- what is trained on ----------------------------------------------------------------------


def test_sketches_are_those_of_the_source_on_the_target_s_grid(dims, tmp_path):
    """The grid follows the target's foreground; the source's range is its own."""
    (subject, *_) = pairs(tmp_path, dims, splits=("train",))
    wide = 3 * whole(subject.images["t1"])
    wide[wide == 0] = 30  # a foreground of its own would be the whole image
    subject = replace(subject, images={**subject.images, "t1": stored(tmp_path / "w.nii", wide)})
    config = changed(tiny(dims), paired="t1", sketch={"channels": ("image", "edges"), "sigma": 0.8})
    prep = config.preparation
    with prepare(subject, "t2", prep) as target:
        with prepare(subject, "t1", prep, grid=target.grid) as source:
            ready = cached(target, config, "data", tmp_path / "cache", source)
            alone = cached(target, changed(config, seed=1), "data", tmp_path / "cache")
            shape = target.grid.shape
            shown = source.read(Box.whole(shape))
            real = target.read(Box.whole(shape))
            drawn = sketch_reader(source.read, shape, config.sketch, rim=1)(Box.whole(shape))
        assert source.intensity.high > 2 * target.intensity.high
    assert alone.rims is None  # the target's own image ends in background
    rim, wide = ready.rims
    inner, seen = ((slice(n, -n),) * dims for n in (rim, wide))
    np.testing.assert_array_equal(ready.images[2][0][inner], real)
    np.testing.assert_allclose(ready.sketches[2][0][:, *seen], drawn, rtol=0, atol=1e-3)
    np.testing.assert_allclose(ready.sketches[2][0][0][seen], (shown + 1) / 2, rtol=0, atol=1e-3)
    np.testing.assert_allclose(alone.sketches[2][0][0], (real + 1) / 2, rtol=0, atol=1e-3)
    coarse = shown.reshape([k for n in shape for k in (n // 2, 2)])
    coarse = coarse.mean(axis=tuple(range(1, 2 * dims, 2)))
    np.testing.assert_allclose(ready.sketches[1][0][0][seen], (coarse + 1) / 2, rtol=0, atol=1e-3)
    kept = {p.name for p in (tmp_path / "cache").glob("*/*")}
    assert all(name.endswith(".npy") for name in kept)


@pytest.mark.slow
def test_whatever_decides_the_weights_is_in_the_keys(tmp_path):
    cohort, plain = pairs(tmp_path, 2), tiny()
    paired, other = changed(plain, paired="t1"), changed(plain, paired="flair")
    configs = [plain, paired, other, PatchGan.configured(plain)]
    configs += [changed(plain, drop_inputs=("sketch",)), PairedRegression.configured(plain, "t1")]
    assert len({run_key(cohort, "t2", c) for c in configs}) == len(configs)
    assert cache.key(plain, "d") != cache.key(paired, "d") != cache.key(other, "d")
    # What is blind is decided after the cache.
    assert cache.key(plain, "d") == cache.key(PatchGan.configured(plain), "d")

    def keys():
        run = fit(cohort, "t2", paired, tmp_path / "a", device="cpu", scales=[])
        return run.data["s0"], run_key(cohort, "t2", paired), run_key(cohort, "t2", plain)

    before = keys()
    stored(cohort["s0"].images["t1"], 2 * head((48, 40), 7))
    with pytest.raises(InputError, match=r"data\.s0 is"):
        keys()
    (tmp_path / "a" / "run.json").unlink()
    (tmp_path / "a").rename(tmp_path / "old")
    after = keys()
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert before[2] == after[2]  # whoever does not use it does not care
    flair = stored(tmp_path / "flair.nii", head((48, 40), 3))
    more = Cohort((*cohort.subjects, Subject("s9", {"t2": flair}, split="train")))
    assert run_key(more, "t2", paired) == run_key(cohort, "t2", paired)
    assert run_key(more, "t2", plain) != run_key(cohort, "t2", plain)


def test_a_cascade_can_be_trained_on_the_source_s_edges(tmp_path):
    """All scales, s0 too; subjects without a pair are left out."""
    cohort = pairs(tmp_path, 2)
    single = replace(cohort["s0"], name="single", images={"t2": cohort["s0"].images["t2"]})
    more = Cohort((*cohort.subjects, single))
    config = changed(tiny(), paired="t1")
    run = fit(more, "t2", config, tmp_path / "run", device="cpu")
    assert sorted(run.data) == ["s0", "s1", "s2"]
    assert [run.finished(i) for i in range(3)] == [True] * 3
    fit(cohort, "t2", tiny(), tmp_path / "plain", device="cpu")
    assert not any(equal(run.folder, tmp_path / "plain", i) for i in range(3))


# --- the row of a table ----------------------------------------------------------------------


@pytest.mark.slow
def test_pairs_are_learnt_from(dims, tmp_path):
    """What T2 is of T1 shows in pairs; a network that has seen T2 alone keeps T1's contrast."""
    cohort, seen = pairs(tmp_path, dims), {}
    config = tiny(
        dims,
        network={"hr_width": 8},
        preparation={"intensity": "window", "high": 100.0},  # T2 is one function of T1 in all
        steps=300 if dims == 2 else 400,
        patch=16,
        learning_rate=5e-3,
        beta1=0.9,
        decay="cosine",
        ema=0.9,
        validate_every=100,
    )
    paired = PairedRegression.fit(cohort, "t1", "t2", config, tmp_path / "p", device="cpu")
    unpaired = PatchGan.fit(cohort, None, "t2", config, tmp_path / "u", device="cpu")
    assert [paired.run.finished(i) for i in range(3)] == [False, False, True]
    target = whole(cohort["s3"].images["t2"])
    inside = target > 0
    for name, method in (("paired", paired), ("unpaired", unpaired)):
        method.translate(cohort["s3"], tmp_path / f"{name}.nii", modality="t1")
        seen[name] = np.abs(whole(tmp_path / f"{name}.nii") - target)[inside].mean()
    flat = np.abs(target - np.median(target[inside]))[inside].mean()
    assert seen["paired"] < 0.6 * min(seen["unpaired"], flat), (seen, flat)
    # The modality it learnt from is the default, for a subject and for a file; tiles agree.
    for source in (cohort["s3"], cohort["s3"].images["t1"]):
        paired.translate(source, tmp_path / "again.nii", tile=8)
        found = whole(tmp_path / "again.nii")
        np.testing.assert_allclose(found, whole(tmp_path / "paired.nii"), rtol=0, atol=1e-4 * 100)


def test_it_is_the_cascade_s_generator_with_pairs_alone(dims):
    config = tiny(dims, gan_weight=0.7)
    config = changed(config, contrast={"share": 0.5}, labels=(1,), drop_inputs=("sketch",))
    made = PairedRegression.configured(config, "t1")
    assert (made.paired, made.drop_inputs, made.sketch.channels) == ("t1", ("context",), ("image",))
    assert (made.training.gan_weight, made.contrast.share) == (0, 0)
    assert made.network == config.network
    assert made.labels == config.labels
    assert made.training.steps == config.training.steps
    assert PairedRegression.configured(made, "t1") == made


def test_what_makes_no_sense_is_refused(tmp_path):
    cohort, plain = pairs(tmp_path, 2), tiny()
    image = {"channels": ("image",)}
    cases = [
        ({"sketch": image}, "sketch channel image shows the target itself: it needs paired"),
        ({"paired": "t1", "contrast": {"share": 0.5}}, r"contrast share 0\.5 recolours the target"),
        ({"paired": ""}, "paired"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            changed(plain, **change)
    paired = changed(plain, paired="t1")
    apart = replace(cohort["s1"], images={
        "t1": stored(tmp_path / "x.nii", head((46, 40))), "t2": cohort["s1"].images["t2"]
    })  # fmt: skip
    t2_only = replace(cohort["s0"], images={"t2": cohort["s0"].images["t2"]})
    cases = [
        (cohort, "t2", changed(plain, paired="t2"), "paired t2: is the target itself"),
        (Cohort((t2_only,)), "t2", paired, "no training subject has both a t1 and a t2 image"),
        (cohort, "flair", paired, "no training subject has both a t1 and a flair image"),
        (Cohort((apart,)), "t2", paired, r"x\.nii: its grid .* is not"),
    ]
    for some, target, config, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            fit(some, target, config, tmp_path / "run", device="cpu")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()
    run = fit(cohort, "t2", plain, tmp_path / "plain", device="cpu", scales=[2])
    with pytest.raises(InputError, match="plain: was not trained on pairs"):
        PairedRegression(run)
    method = PairedRegression.fit(cohort, "t1", "t2", plain, tmp_path / "run", device="cpu")
    assert Run.open(tmp_path / "run") == method.run
    with pytest.raises(InputError, match="no t1 image"):
        method.translate(t2_only, tmp_path / "o.nii")
