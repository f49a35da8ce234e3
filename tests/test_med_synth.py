"""MedSynth: its losses, what its second model sees, and the row of a table."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import changed, equal, head, pairs, run_of, stored, tiny, whole
from torch.testing import assert_close

from msgan import losses
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.volume import open_volume
from msgan.methods.baselines import Profile, Source
from msgan.methods.cascade import fit
from msgan.methods.med_synth import MedSynth, _of_training, weights_hash
from msgan.methods.paired import PairedRegression
from msgan.methods.refine import refine
from msgan.methods.shared import run_key
from msgan.phantoms.brain import brain
from msgan.runs.run import Run
from msgan.sketch import images, sketch_reader, stacked
from msgan.training.step import build_discriminator, build_generator
from msgan.translate import Limits, plan, translate
from msgan.translate.scale import constant
from msgan.types import Box, InputError

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def trained(folder: Path, cohort: Cohort, config: CascadeConfig, **options) -> MedSynth:
    return MedSynth.fit(cohort, "t1", "t2", config, folder, device="cpu", **options)


# --- losses ----------------------------------------------------------------------------------


def test_images_with_equal_steps_have_no_gradient_difference(dims):
    real = torch.rand(2, 1, *(7, 5, 6)[:dims])
    assert losses.gradient_difference(real, real) == 0
    assert losses.gradient_difference(real + 3, real) < 1e-12  # the level does not count
    assert losses.gradient_difference(-real, real) == 0  # nor the direction of a step
    assert losses.l2(real + 3, real) == pytest.approx(9, rel=1e-6)
    flat = torch.zeros_like(real).requires_grad_()
    noisy = (flat + 0.1 * torch.rand(real.shape)).detach().requires_grad_()
    losses.gradient_difference(noisy, 5 * real).backward()
    assert noisy.grad.abs().max() > 0


def test_known_value_of_the_gradient_difference(dims):
    # Steps of 2 along the first axis where the real ones are 0.5, and none along the others.
    shape = (4, 3, 3)[:dims]
    ramp = torch.arange(4.0).view(1, 1, 4, *[1] * (dims - 1)).expand(1, 1, *shape)
    assert_close(losses.gradient_difference(2 * ramp, -0.5 * ramp), torch.tensor(2.25))
    # Rotated, it is the same.
    turned = ramp.transpose(2, -1)
    assert_close(losses.gradient_difference(2 * turned, -0.5 * turned), torch.tensor(2.25))


def test_each_loss_moves_the_weights_and_is_logged(tmp_path):
    cohort, seen = pairs(tmp_path, 2), {}
    plain = MedSynth.configured(tiny(), "t1")
    cases = {"both": {}, "l2": {"gradient_weight": 0.0}, "gradient": {"l2_weight": 0.0}}
    for name, change in cases.items():
        training = {**plain.training.model_dump(), **change, "gan_weight": 0.0}
        seen[name] = []
        config = changed(plain, training=training)
        fit(cohort, "t2", config, tmp_path / name, device="cpu", report=seen[name].append)
    (row,) = seen["both"]
    assert row["loss"] == pytest.approx(row["l2"] + row["gradient_difference"], rel=1e-6)
    assert "gradient_difference" not in seen["l2"][0]
    assert "l2" not in seen["gradient"][0]
    folders = [tmp_path / name for name in cases]
    assert not any(equal(a, b, 2) for a, b in zip(folders, folders[1:] + folders[:1], strict=True))


def test_the_discriminator_sees_the_image_alone(dims):
    config = MedSynth.configured(tiny(dims), "t1")
    judge = build_discriminator(config, 2)
    image = torch.rand(1, 1, *[32] * dims)
    (logits,) = judge(image[:, :0], (image,))
    assert logits.shape[:2] == (1, 1)
    conditional = build_discriminator(changed(config, network={"conditional": True}), 2)
    with pytest.raises(RuntimeError):
        conditional(image[:, :0], (image,))


# --- what the second model sees --------------------------------------------------------------


def test_the_previous_result_is_a_channel_of_its_own(dims):
    config = MedSynth.configured(tiny(dims), "t1", auto_context="x").sketch
    rng = np.random.default_rng(0)
    source, made = (rng.uniform(-1, 1, (9, 7, 8)[:dims]).astype(np.float32) for _ in range(2))
    read = stacked(lambda box: source[box.slices], lambda box: made[box.slices])
    drawn = sketch_reader(read, source.shape, config)
    box = Box.whole(source.shape)
    assert images(config) == 2
    np.testing.assert_allclose(drawn(box), (np.stack([source, made]) + 1) / 2, rtol=0, atol=1e-7)
    around = np.pad(drawn(box), [(0, 0), *[(2, 2)] * dims], mode="edge")
    np.testing.assert_array_equal(drawn(box.grown(2)), around)
    for tile in box.tiles((4,) * dims):
        np.testing.assert_array_equal(drawn(tile), drawn(box)[(slice(None), *tile.slices)])


def test_the_second_model_is_trained_on_what_the_first_makes(tmp_path):
    """Its cached channel is the first one's result on the training grid; another changes it."""
    cohort, config = pairs(tmp_path, 2), tiny(2, learning_rate=2e-2, steps=8)
    method = trained(tmp_path / "runs", cohort, config)
    first, second = method.runs
    assert [run.finished(2) for run in method.runs] == [True, True]
    assert [run.config.training.steps for run in method.runs] == [4, 4]  # of 8
    assert second.config.auto_context == weights_hash(first)
    prep = first.config.preparation
    caches = sorted((tmp_path / "runs" / "cache").glob("s0-*/sketch_s2_0.npy"))
    by_channels = {np.load(path).shape[0]: np.load(path) for path in caches}
    assert sorted(by_channels) == [1, 2]
    with (
        prepare(cohort["s0"], "t2", prep) as target,
        prepare(cohort["s0"], "t1", prep, grid=target.grid) as source,
    ):
        made = _of_training((first,), CPU, source, tmp_path / "m")(Box.whole(target.grid.shape))
    assert made.std() > 0.01
    np.testing.assert_allclose(by_channels[2][1], (made + 1) / 2, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(by_channels[2][0], by_channels[1][0])
    assert not [p for p in (tmp_path / "runs" / "cache").glob("*/*") if p.suffix != ".npy"]
    # Other weights of the first are another run of the second.
    assert MedSynth.configured(config, "t1", "a") != MedSynth.configured(config, "t1", "b")


def test_another_result_of_the_first_changes_that_of_the_second(dims, tmp_path):
    config = MedSynth.configured(tiny(dims), "t1", auto_context="x")
    torch.manual_seed(0)
    generator = build_generator(config, 2).requires_grad_(False).eval()
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    generator.last.bias.fill_(1.0)  # it adds to background
    shape, rng = (20, 16, 12)[:dims], np.random.default_rng(0)
    source, made = (rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(2))
    other = made.copy()
    other[(0,) * dims] *= -1

    def result(previous, name):
        seen = stacked(lambda box: source[box.slices], lambda box: previous[box.slices])
        drawn = sketch_reader(seen, shape, config.sketch)
        read = refine(generator, drawn, constant(-1.0), shape, tmp_path / name, tile=8)
        return read(Box.whole(shape))

    change = np.abs(result(made, "a") - result(other, "b"))
    reach = generator.geometry.reads[0].halo
    assert change.max() > 1e-3
    assert change[tuple(slice(reach + 2, None) for _ in shape)].sum() == 0


# --- the row of a table ----------------------------------------------------------------------


@pytest.mark.slow
def test_killed_and_asked_again_it_is_the_same(tmp_path):
    """Whole runs are found again, a broken one ends bit-identical, in folders of one name."""
    cohort = pairs(tmp_path, 2)
    config = tiny(steps=42, checkpoint_every=6, learning_rate=1e-2)

    def stamps():
        files = (p for p in (tmp_path / "a").rglob("*") if p.is_file())
        return {p: p.stat().st_mtime_ns for p in files}

    unbroken, before = trained(tmp_path / "a", cohort, config), stamps()
    again = trained(tmp_path / "a", cohort, config)
    assert [r.folder for r in again.runs] == [r.folder for r in unbroken.runs]
    assert stamps() == before

    class Killed(Exception):
        pass

    # Of 21 steps each, rows come after 20 and 21: the first model dies, then the second.
    for rows in (1, 3):
        left = [rows]

        def stop(row, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        with pytest.raises(Killed):
            trained(tmp_path / "b", cohort, config, report=stop)
    assert len(list((tmp_path / "b").glob("t2-*/s2/done.json"))) == 1
    broken = trained(tmp_path / "b", cohort, config)
    for one, other in zip(broken.runs, unbroken.runs, strict=True):
        assert one.folder.name == other.folder.name
        assert equal(one.folder, other.folder, 2)
    other = MedSynth.configured(changed(config, seed=1), "t1", models=2)
    assert run_key(cohort, "t2", other) not in {r.folder.name[-16:] for r in unbroken.runs}


@pytest.mark.slow
def test_grid_unit_and_tiles(dims, tmp_path):
    cohort, refinements = pairs(tmp_path, dims), 4 - dims  # three models in 2D, two in 3D
    config = tiny(dims, learning_rate=2e-2, ema=0.5, steps=12 * (1 + refinements))
    method = trained(tmp_path / "runs", cohort, config, refinements=refinements)
    assert len(method.runs) == 1 + refinements
    source = cohort["s3"].images["t1"]
    method.translate(source, tmp_path / "large.nii")
    method.translate(cohort["s3"], tmp_path / "small.nii", tile=8)
    with open_volume(tmp_path / "large.nii") as made, open_volume(source) as given:
        assert made.grid == given.grid
    large, small = whole(tmp_path / "large.nii"), whole(tmp_path / "small.nii")
    low, high = method.runs[0].intensity.low, method.runs[0].intensity.high
    assert high > 50
    assert large.std() > 0.01 * (high - low)  # a thousand times what tiles may differ by
    assert large.min() >= low
    assert large.max() <= high
    np.testing.assert_allclose(small, large, rtol=0, atol=1e-5 * (high - low))


def test_patches_of_the_published_family_are_averaged(tmp_path):
    cohort = pairs(tmp_path, 2, splits=("train", "test"))
    network = {"family": "megan"}
    method = trained(tmp_path / "runs", cohort, tiny(2, network, patch=32, steps=2))
    method.translate(cohort["s1"], tmp_path / "a.nii")
    method.translate(cohort["s1"], tmp_path / "b.nii", tile=27)
    made = whole(tmp_path / "a.nii")
    assert made.std() > 0
    np.testing.assert_allclose(whole(tmp_path / "b.nii"), made, rtol=0, atol=1e-3)
    with pytest.raises(InputError, match="tile 20: expected a multiple of the stride 27"):
        method.translate(cohort["s1"], tmp_path / "c.nii", tile=20)


def model(folder: Path, after: str | None = None) -> Run:
    """One of the models, with random weights."""
    return run_of(folder, MedSynth.configured(tiny(2), "t1", after))


def test_models_are_those_that_were_trained_one_after_the_other(tmp_path):
    first = model(tmp_path / "first")
    known = weights_hash(first)
    second = model(tmp_path / "second", known)
    assert MedSynth([first, second], "cpu").runs == (first, second)
    unpaired = run_of(tmp_path / "unpaired", tiny(2))
    other = model(tmp_path / "other", "abc")
    for runs, message in (
        ([], "runs: expected at least one model"),
        ([first, unpaired], "unpaired: was not trained on pairs"),
        ([second], f"second: sees results of {known}, not of None"),
        ([first, first], f"first: sees results of None, not of {known}"),
        ([first, other], f"other: sees results of abc, not of {known}"),
    ):
        with pytest.raises(InputError, match=message):
            MedSynth(runs, "cpu")


def test_a_model_that_sees_another_does_not_translate_alone(tmp_path):
    second = model(tmp_path / "second", "abc")
    source = stored(tmp_path / "t1.nii", head((20, 16)))
    with pytest.raises(InputError, match=r"second: sees results of the weights abc: .* both runs"):
        translate(second, source, tmp_path / "o.nii", device="cpu")
    assert not (tmp_path / "o.nii").exists()


def test_pairs_and_a_number_of_models_are_needed(tmp_path):
    cohort = pairs(tmp_path / "images", 2)
    with pytest.raises(InputError, match="source None: MedSynth is trained on pairs: name the"):
        MedSynth.configured(tiny(2))
    with pytest.raises(InputError, match="refinements -1: expected 0 or more"):
        trained(tmp_path / "runs", cohort, tiny(2), refinements=-1)
    assert not (tmp_path / "runs").exists()


def test_the_time_of_patches_that_are_averaged_is_told(tmp_path):
    config = MedSynth.configured(tiny(2, {"family": "megan"}, patch=32), "t1")
    method = MedSynth([run_of(tmp_path / "run", config)], "cpu")
    source = stored(tmp_path / "t1.nii", head((40, 36)))
    with prepare(source, None, config.preparation) as ready:
        told = plan(method.generation, ready, CPU, Limits(), probe=True)
        assert told.seconds is not None
        assert 0 < told.seconds < 60
        assert plan(method.generation, ready, CPU, Limits()).seconds is None


@pytest.mark.slow
def test_it_beats_the_source_on_someone_new(tmp_path):
    """FLAIR to T2 in slices of brain phantoms; nothing of the one tested is trained on."""
    subjects = []
    for person, splits in ((0, ("train", "train", "val")), (1, ("test",))):
        images = brain(0, person, size=48).images
        for k, split in enumerate(splits):
            height = 18 + 3 * k
            name = f"p{person}z{height}"
            files = {
                m: stored(tmp_path / f"{name}_{m}.nii", images[m][:, :, height])
                for m in ("flair", "t2")
            }
            subjects.append(Subject(name, files, split=split))
    cohort, person = Cohort(tuple(subjects)), subjects[-1]
    options = {"learning_rate": 5e-3, "beta1": 0.9, "decay": "cosine", "ema": 0.9}
    config = tiny(2, {"hr_width": 8}, steps=240, patch=16, validate_every=60, **options)
    method = MedSynth.fit(cohort, "flair", "t2", config, tmp_path / "r", device="cpu")
    prep = method.runs[0].config.preparation
    source = Source(Profile.of(cohort, "t2", prep), prep)
    source.translate(person, tmp_path / "source.nii", modality="flair")
    method.translate(person, tmp_path / "made.nii")
    real = whole(person.images["t2"])
    error = {
        name: np.abs(whole(tmp_path / f"{name}.nii") - real)[real > 0].mean()
        for name in ("source", "made")
    }
    assert error["made"] < 0.8 * error["source"], error


@pytest.mark.slow
def test_what_makes_no_sense_is_refused(tmp_path):
    cohort, config = pairs(tmp_path, 2), tiny()
    method = trained(tmp_path / "runs", cohort, config)
    first, second = method.runs
    unpaired = fit(cohort, "t2", config, tmp_path / "u", device="cpu", scales=[])
    fresh = fit(
        cohort, "t2", MedSynth.configured(config, "t1"), tmp_path / "f", device="cpu", scales=[]
    )
    other = PairedRegression.fit(cohort, "t1", "t2", config, tmp_path / "p", device="cpu").run
    cases = [
        (lambda: MedSynth([]), "runs: expected at least one model"),
        (lambda: MedSynth([unpaired]), "u: was not trained on pairs"),
        (lambda: MedSynth([second]), f"sees results of {weights_hash(first)}, not of None"),
        (lambda: MedSynth([other, second]), f"not of {weights_hash(other)}"),
        (lambda: weights_hash(fresh), "f: scale 2 of 2 is not trained yet"),
        (lambda: trained(tmp_path, cohort, config, refinements=-1), "refinements -1: expected 0"),
        (
            lambda: fit(cohort, "t2", second.config, tmp_path / "x", device="cpu"),
            f"auto_context {weights_hash(first)}: needs the run of these weights",
        ),
        (lambda: translate(second, cohort["s3"], tmp_path / "o.nii", modality="t1"), "both runs"),
        (lambda: method.translate(cohort["s3"], tmp_path / "o.nii", tile=7), "tile 7: expected"),
        (lambda: method.translate(cohort["s3"], tmp_path / "o.xyz"), "unknown suffix"),
        (
            lambda: method.translate(stored(tmp_path / "v.nii", head((8, 8, 8))), "o.nii"),
            r"v\.nii: image of 3 axes, the run was trained on 2",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "o.nii").exists()
    image = {"channels": ("image",)}
    for change, message in (
        ({"auto_context": "x"}, "auto_context x: results of a source image need paired"),
        ({"auto_context": "x", "paired": "t1", "sketch": image}, "need each other"),
        ({"paired": "t1", "sketch": {"channels": ("image", "auto_context")}}, "need each other"),
    ):
        with pytest.raises(ValueError, match=message):
            changed(config, **change)
