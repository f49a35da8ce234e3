"""3D-mDAUNet: its step and its training, its patches blended as MONAI blends them, its cards."""

import json
import subprocess
import sys
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import changed, equal, head, pairs, randomised, reader, stored, tiny, whole
from program import fails, msgan_cli
from test_processes import launched
from training import fabric, rows, twins
from vgg_files import save_state, vgg_state

from msgan import losses, presets, pyramid, translate
from msgan.config import CascadeConfig, MdaunetNetwork
from msgan.data.cohort import prepare
from msgan.memory import mdaunet as counted
from msgan.methods.cascade import fit
from msgan.methods.mdaunet import ABLATIONS, MDAUNet
from msgan.methods.paired import PairedRegression
from msgan.networks import inference
from msgan.networks.mdaunet import ImageDiscriminator, MdaunetGenerator, VoxelDiscriminator
from msgan.networks.vgg import Vgg19Features
from msgan.runs.model import card_of
from msgan.runs.run import Run
from msgan.sketch import DrawnSketch, sketch_reader
from msgan.training import checkpoint
from msgan.training.batches import Batch, Patches
from msgan.training.loop import learning_rate
from msgan.training.mdaunet import MdaunetStep
from msgan.training.step import build_generator
from msgan.translate import overlap
from msgan.translate.overlap import OverlapScale, Window, blended
from msgan.translate.scale import BACKGROUND, SNAP, make
from msgan.types import Box, InputError

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def configured(dims=2, without=None, features=None, **training) -> CascadeConfig:
    """Three levels at patches of 16."""
    config = MDAUNet.configured(tiny(dims), "t1", size="smoke", without=without, features=features)
    sizes = {"features": (6, 8, 10), "growth": (3, 4, 4), "discriminator_width": 3}
    return config.updated(network=sizes, training=training)


def features(seed=0) -> torch.nn.Module:
    """Stands for VGG-19: slices of three colours in, features out."""
    torch.manual_seed(seed)
    layers = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.nn.ReLU()
    return torch.nn.Sequential(*layers)


def a_batch(dims: int, side=16, seed=0) -> Batch:
    """A pair: the target is dark where the source is bright."""
    image = torch.from_numpy(head((side,) * dims, seed, low=20))[None, None] / 100
    target = torch.where(image > 0, 1.2 - image, 0)
    return Batch((image,), (2 * target - 1,))


# --- one step ----------------------------------------------------------------------------------


@pytest.mark.parametrize("without", [None, *ABLATIONS])
def test_a_step_minimises_the_objectives_of_the_paper(dims, without):
    """Eqs. 1 and 2 recomputed from the networks alone, with every part left out in turn."""
    seen = features()
    config = configured(dims, without, seen, l1_weight=0.7, gan_weight=0.03)
    config = config.updated(perceptual={"weight": 0.4})
    step = MdaunetStep(config, 2, fabric(), seen)
    g, d = deepcopy((step.generator, step.discriminator))
    batch = a_batch(dims)
    count = 1 if without == "multi-resolution output" else 3

    def every(x):
        return [x[(..., *[slice(None, None, 1 << k)] * dims)] for k in range(count)]

    fake = [(x + 1) / 2 for x in g(*batch.reads)]
    real = every((batch.targets[0] + 1) / 2)
    assert [x.shape for x in fake] == [x.shape for x in real]
    gan = losses.ADVERSARIAL["log" if without == "relativistic loss" else "relativistic"]

    halves = [x.chunk(2) for x in d(*(torch.cat((r, f.detach())) for r, f in zip(real, fake)))]  # noqa: B905
    assert len(halves) == (1 if without == "voxel-wise discriminator" else count)
    of_d = gan.discriminator([h[0] for h in halves], [h[1] for h in halves])
    other = torch.optim.Adam(d.parameters(), 1e-3, (0.9, 0.99))
    of_d.backward()
    other.step()

    l1 = sum((f - r).abs().mean() for f, r in zip(fake, real, strict=True)) / count
    perceptual = losses.perceptual(seen, fake[0], real[0])
    d.requires_grad_(False)
    true = d(*real) if gan.relative else ()
    adversarial = gan.generator(true, d(*fake))
    loss = 0.7 * l1 + 0.4 * perceptual + 0.03 * adversarial
    own = torch.optim.Adam(g.parameters(), 1e-3, (0.9, 0.99))
    loss.backward()
    own.step()

    values = step.update(batch, 0, 1e-3)
    expected = {"loss": loss, "adversarial": adversarial, "discriminator": of_d}
    expected |= {"perceptual": perceptual, "l1": 2 * (fake[0] - real[0]).abs().mean()}
    for name, value in expected.items():
        assert values[name].item() == pytest.approx(value.item(), rel=1e-4), name
    for found, wanted in ((step.generator, g), (step.discriminator, d)):
        for a, b in zip(found.parameters(), wanted.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_each_ablation_changes_what_it_names_and_nothing_else(dims):
    base = configured(dims).model_dump()
    for name, part in ABLATIONS.items():
        config = configured(dims, name)
        expected = {k: dict(v) if isinstance(v, dict) else v for k, v in base.items()}
        for where, values in part.items():
            assert all(expected[where][k] != v for k, v in values.items())
            expected[where] |= values
        assert config.model_dump() == expected
        step = MdaunetStep(config, 2, fabric())
        plain = name == "voxel-wise discriminator"
        assert type(step.discriminator) is (ImageDiscriminator if plain else VoxelDiscriminator)
        images = 1 if name == "multi-resolution output" else 3
        assert len(step.generator(*a_batch(dims).reads)) == images
    with pytest.raises(InputError, match="without 'all': is none of multi-resolution input, "):
        configured(dims, "all")


@pytest.mark.parametrize("gan", ["relativistic", "relativistic_batch"])
def test_it_overfits_one_small_pair(dims, gan):
    torch.manual_seed(0)
    side = 16 if dims == 2 else 8
    config = configured(dims, gan=gan, ema=0.5, patch=side)
    step = MdaunetStep(config, 2, fabric())
    batch = a_batch(dims, side)
    first = float(step.score(batch))
    for k in range(150):
        values = step.update(batch, k, 5e-3)
    assert float(step.score(batch)) < 0.15 * first
    assert float(values["l1"]) < 0.15 * first
    coarse = step.ema(*batch.reads)[-1]
    target = batch.targets[0][(..., *[slice(None, None, 4)] * dims)]
    assert (coarse - target).abs().mean() < 0.3 * first


def test_a_checkpoint_holds_everything(dims, tmp_path):
    """The estimates of the spectral norm too, which every call moves on."""
    config = configured(dims)
    torch.manual_seed(1)
    steps = [MdaunetStep(config, 2, fabric()) for _ in range(2)]
    for k in range(3):
        steps[0].update(a_batch(dims), k, 1e-2)
    checkpoint.save(steps[0], tmp_path / "c.safetensors", {"step": 3})
    assert checkpoint.load(steps[1], tmp_path / "c.safetensors") == {"step": 3}
    one, other = (step.update(a_batch(dims), 3, 1e-2) for step in steps)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_patches_lie_about_a_voxel_of_the_foreground(dims):
    config = configured(dims)
    subject = twins(dims)
    for image in subject.images:
        image[image < 0.5] = -1
    step = MdaunetStep(config, 2, fabric())
    drawn = Patches([subject], config, 2, step.geometry)
    starts = set()
    for k in range(8):
        sample = drawn.decide("train", 0, k)
        assert sample.reads == sample.targets
        (box,) = sample.targets
        assert box.size == (16,) * dims
        assert subject.images[2][(0, *(a + 8 for a in box.start))] > -1
        starts |= {a % 2 for a in box.start}
    assert starts == {0, 1}  # anywhere, not at multiples of anything
    batch = drawn.draw("train", 0, range(2))
    (source,), (target,) = batch.reads, batch.targets
    assert torch.equal(source[target > -1], target[target > -1])


def test_the_rate_is_halved_after_every_quarter():
    settings = configured(learning_rate=0.8).training
    assert settings.decay == "step"
    rates = [learning_rate(settings, k, 100) for k in range(100)]
    assert [rates[k] for k in (0, 24, 25, 49, 50, 74, 75, 99)] == pytest.approx(
        [0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1]
    )


# --- training ----------------------------------------------------------------------------------


def test_an_interrupted_training_goes_on_bit_by_bit(dims, tmp_path):
    cohort = pairs(tmp_path, dims)
    seen = features()
    config = configured(dims, steps=8, validate_every=4, checkpoint_every=3)

    def train(name, report=None):
        options = {"device": "cpu", "report": report, "features": seen}
        return MDAUNet.fit(cohort, "t1", "t2", config, tmp_path / name, **options)

    def interrupt(path):
        def saved(step, where, about):
            whole(step, where, about)
            raise KeyboardInterrupt

        whole = checkpoint.save
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "save", saved)
            with pytest.raises(KeyboardInterrupt):
                train(path)

    train("whole")
    interrupt("broken")
    assert not (tmp_path / "broken" / "s2" / "done.json").exists()
    train("broken")
    assert equal(tmp_path / "whole", tmp_path / "broken", 2)
    clocks = ("seconds", "waited")
    one, other = (
        [{k: v for k, v in row.items() if k not in clocks} for row in rows(tmp_path / n / "s2")]
        for n in ("whole", "broken")
    )
    assert one == other
    assert {"perceptual", "adversarial", "discriminator", "l1", "loss"} <= one[-1].keys()


def test_it_learns_what_pairs_say(tmp_path):
    cohort = pairs(tmp_path, 2, ("train",) * 3 + ("val", "test"))
    config = configured(steps=150, learning_rate=5e-3, ema=0.9, validate_every=75)
    config = config.updated(preparation={"intensity": "window", "high": 100.0})
    method = MDAUNet.fit(cohort, "t1", "t2", config, tmp_path / "run", device="cpu")
    target = whole(cohort["s4"].images["t2"])
    inside = target > 0
    method.translate(cohort["s4"], tmp_path / "made.nii")
    error = np.abs(whole(tmp_path / "made.nii") - target)[inside].mean()
    flat = np.abs(target - np.median(target[inside]))[inside].mean()
    assert error < 0.5 * flat
    # The command translates a run's folder the same way.
    run = Run.open(tmp_path / "run")
    source = cohort["s4"].images["t1"]
    translate.translate(run, source, tmp_path / "again.nii", device="cpu", modality="t1")
    np.testing.assert_array_equal(whole(tmp_path / "again.nii"), whole(tmp_path / "made.nii"))


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    lines = ["subject,role,modality,path,licence,citation,split"]
    for subject in pairs(tmp_path, 2):
        for modality, path in subject.images.items():
            lines.append(f"{subject.name},image,{modality},{path.name},none,none,{subject.split}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    configured(steps=8, validate_every=4).save(tmp_path / "own.yaml")
    words = ["train", str(tmp_path / "manifest.csv"), "--target", "t2", "--device", "cpu"]
    words += ["--config", str(tmp_path / "own.yaml"), "--out"]
    command = [sys.executable, "-m", "msgan.cli", *words, str(tmp_path / "one")]
    one = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    for process in (one, *launched("torchrun", [*words, str(tmp_path / "two")])):
        assert process.returncode == 0, process.stderr
    left, right = (rows(tmp_path / name / "s2")[-1] for name in ("one", "two"))
    for name in ("loss", "l1", "adversarial", "discriminator"):
        assert left[name] == pytest.approx(right[name], rel=1e-3), name


# --- blended patches ---------------------------------------------------------------------------


def monai_blend(image: torch.Tensor, patch: int, generator) -> np.ndarray:
    """MONAI's sliding window over (1, *spatial) as a whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.inferers import sliding_window_inference

    size = (patch,) * (image.ndim - 1)
    made = sliding_window_inference(
        image[None], size, 1, lambda x: generator(x)[0], 0.625, "gaussian", 0.125
    )
    return made[0, 0].numpy()


def own_blend(drawn: DrawnSketch, tile: int, window: Window, generator, path: Path):
    dims, shape = len(drawn.shape), drawn.shape
    fast = inference.optimised(generator, CPU, whole=True)
    scale = OverlapScale(fast, drawn, shape, (tile,) * dims, CPU, window=window)
    sides = overlap.slot(scale.tile, window)
    store = pyramid.Store.create(path, overlap.spread(shape, scale.tile, window), chunk=sides)
    for _, box, values in make(scale, range(len(scale))):
        store.write(box, values)
    return overlap.joined(store.read, shape, scale.tile, window)


def trained_like(dims: int, patch: int) -> MdaunetGenerator:
    """Weights with which patches disagree where they overlap."""
    network = randomised(MdaunetGenerator(dims, (4, 6, 8), (2, 3, 4), patch), 5)
    for conv in network.make:
        conv.weight *= 1.0 if dims == 2 else 0.7
        torch.nn.init.constant_(conv.bias, 0.5 if dims == 2 else 0.7)
    return network


SHAPES = {2: [(50, 37), (16, 41), (9, 23), (16, 16)], 3: [(27, 22, 16), (19, 13, 30)]}


@pytest.mark.parametrize("case", range(4))
def test_blending_is_monai_s(dims, tmp_path, case):
    """Of any tile, on images smaller than a patch as well: within 2e-6 of the range of 2."""
    if case >= len(SHAPES[dims]):
        pytest.skip("fewer shapes in 3D")
    shape, patch = SHAPES[dims][case], 16
    generator, window = trained_like(dims, patch), blended(patch)
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))
    image[:, : shape[0] // 3] = 0  # nothing but background in some patches
    drawn = DrawnSketch(lambda box: image[(slice(None), *box.slices)].numpy(), shape)
    expected = monai_blend(image, patch, generator)
    assert expected.std() > 0.05
    near = np.abs(expected - (BACKGROUND + SNAP)) < 1e-4  # snapped or not: a matter of rounding
    expected = np.where(expected < BACKGROUND + SNAP, BACKGROUND, expected)
    for tile in (6, 12, 24):
        made = own_blend(drawn, tile, window, generator, tmp_path / f"{tile}.zarr")
        found = made(Box.whole(shape))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[~near], expected[~near], rtol=0, atol=4e-6)
        for box in Box.whole(shape).tiles((7, 11, 5)[:dims]):
            np.testing.assert_array_equal(made(box), found[box.slices])
    mean = own_blend(drawn, 12, Window(16, 6, inside=True), generator, tmp_path / "mean.zarr")
    if min(shape) > patch:  # else there is nothing to weigh along an axis
        assert np.abs(mean(Box.whole(shape)) - found).max() > 0.01


def test_windows_are_those_of_the_paper(dims):
    """Overlap .625, sigma .125 of the side, at the sides of all presets; weights as in MONAI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.data.utils import compute_importance_map
    for patch in (16, 32, 96):
        window = blended(patch)
        assert window.stride == int(patch * (1 - 0.625))
        if patch**dims < 1e6:
            expected = compute_importance_map((patch,) * dims, "gaussian", 0.125)
            np.testing.assert_allclose(window.weights(dims), expected, rtol=1e-5)
    assert blended(16).starts(40) == [0, 6, 12, 18, 24]
    assert blended(16).starts(41) == [0, 6, 12, 18, 24, 25]  # the last ends with the image
    assert blended(16).starts(11) == [-2]
    assert [blended(96).together(3), blended(32).together(3)] == [1, 8]


def test_a_translation_is_the_blend_of_the_whole_image(dims, tmp_path, scratch):
    """From file to file, cropped and resampled: against MONAI on the working grid, to 1e-4."""
    cohort = pairs(tmp_path, dims)
    config = configured(dims, steps=2, validate_every=1)
    method = MDAUNet.fit(cohort, "t1", "t2", config, tmp_path / "run", device="cpu")
    network = trained_like(dims, 16)
    run = method.run
    own = run.config.updated(network={"features": (4, 6, 8), "growth": (2, 3, 4)})
    run = Run(tmp_path / "other", own, "t2", run.intensity, {"a": "00"})
    run.create()
    checkpoint.save_weights(network, run.folder_of(2) / "generator.safetensors", {"step": 1})
    image = head((70, 52) if dims == 2 else (34, 27, 30))
    source = stored(tmp_path / "x.nii", image, spacing=1.3)
    results = []
    for tile in (6, 12, None):
        MDAUNet(run, "cpu").translate(source, tmp_path / "o.nii", tile=tile)
        results.append(whole(tmp_path / "o.nii"))
    high = run.intensity.high - run.intensity.low
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=0, atol=1e-4 * high)
    with prepare(source, None, own.preparation) as ready:
        shape = ready.grid.shape
        drawn = sketch_reader(ready.read, shape, own.sketch, rim=1)(Box.whole(shape))
        made = monai_blend(torch.from_numpy(drawn), 16, network)
        made = np.where(made < BACKGROUND + SNAP, BACKGROUND, made).astype(np.float32)
        expected = ready.to_source(reader(made), run.intensity)(Box.whole(image.shape))
    apart = np.abs(results[0] - expected)
    assert np.quantile(apart, 0.999) < 1e-4 * high  # the rest are voxels that are nearly background
    assert apart.max() < 1.01 * SNAP / 2 * high
    assert results[0].std() > 0.05 * high
    assert list(scratch.iterdir()) == []


def test_memory_does_not_grow_with_the_image(tmp_path, monkeypatch):
    """Nothing larger than a block with its patches is read, and a store holds the sums."""
    asked, drawn, read_store = [], [], pyramid.Store.read

    def seen(self, box):
        asked.append(box.voxels)
        return read_store(self, box)

    def read(box):
        drawn.append(box.voxels)
        return np.ones((1, *box.size), np.float32)

    monkeypatch.setattr(pyramid.Store, "read", seen)
    window = blended(16)
    for side in (90, 180):
        asked.clear()
        drawn.clear()
        shape = (side, side - 10)
        sketch = DrawnSketch(read, shape)
        made = own_blend(sketch, 12, window, trained_like(2, 16), tmp_path / f"{side}.zarr")
        for box in Box.whole(shape).tiles((32, 32)):
            assert made(box).shape == box.size
        assert max(drawn) == 22**2
        assert max(asked) <= 22**2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_makes_the_same_bytes(tmp_path, scratch):
    distributed = pytest.importorskip("distributed")
    from msgan.translate.cluster import Cluster

    cohort = pairs(tmp_path, 2)
    config = configured(steps=2, validate_every=1)
    method = MDAUNet.fit(cohort, "t1", "t2", config, tmp_path / "run", device="cpu")
    method.translate(cohort["s3"], tmp_path / "alone.nii", tile=12)
    workers = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with workers, Cluster(workers.scheduler_address) as cluster:
        method.translate(cohort["s3"], tmp_path / "o.nii", tile=12, engine=cluster)
    assert (tmp_path / "o.nii").read_bytes() == (tmp_path / "alone.nii").read_bytes()


# --- settings, sizes and cards -----------------------------------------------------------------


def test_published_sizes_are_of_the_memory_that_the_paper_states():
    """Counted tensors, GB: 35 a step with batch 3, of which libraries take a part; 16 at least."""
    config = MDAUNet.configured(presets.preset("published"), "t1", size="published")
    assert (config.training.batch, config.training.patch, config.dims) == (3, 96, 3)
    assert (config.training.learning_rate, config.training.precision) == (1e-4, "16-mixed")
    assert 0.8 * 35 < counted.training_bytes(config, 3) / 1e9 < 35
    assert 0.7 * 16 < counted.training_bytes(config, 1) / 1e9 < 16
    assert 0.9 * 1.6 < counted.translation_bytes(config) / 1e9 < 1.1 * 1.6
    seen = counted.training_bytes(config, 1) - counted.training_bytes(config, 1, perceptual=False)
    assert 0.5e9 < seen < 3e9


@pytest.mark.parametrize("name", presets.PRESETS)
@pytest.mark.parametrize("anatomy", presets.ANATOMIES)
def test_every_preset_has_one(name, anatomy, tmp_path):
    config = presets.preset(name, anatomy)
    own = MDAUNet.configured(config, "t1", size=name)
    assert isinstance(own.network, MdaunetNetwork)
    assert own.paired == "t1"
    assert (own.training.gan, own.training.gan_weight) == ("relativistic", 1e-4)
    assert own.training.l1_weight == 1
    assert own.training.beta1 == 0.9
    if name != "published":
        assert own.training.steps == config.training.steps
    own.save(tmp_path / "c.yaml")
    assert CascadeConfig.load(tmp_path / "c.yaml") == own
    assert "perceptual" not in config.model_dump()
    assert MDAUNet.configured(own, "t1") == own
    with torch.device("meta"):
        made = build_generator(own, 0).geometry
    assert made.patch == own.training.patch
    assert len(made.makes) == 4


def test_the_card_says_whether_the_perceptual_loss_is_on(tmp_path):
    cohort, seen = pairs(tmp_path, 2), features()
    config = tiny(steps=1, validate_every=1)
    for name, network in (("off", None), ("on", seen)):
        options = {"device": "cpu", "size": "smoke", "features": network}
        run = MDAUNet.fit(cohort, "t1", "t2", config, tmp_path / name, **options).run
        said = json.loads((tmp_path / name / "run.json").read_text())["perceptual_loss"]
        assert said.startswith(name)
        assert Run.open(tmp_path / name) == run
        assert f"Perceptual loss: {said}" in " ".join(card_of(run).split())
    assert checkpoint.fingerprint(seen) in said
    assert checkpoint.fingerprint(features(1)) != checkpoint.fingerprint(seen)
    assert checkpoint.fingerprint(deepcopy(seen)) == checkpoint.fingerprint(seen)


def test_the_command_takes_vgg_19_from_the_file_that_is_named(tmp_path, monkeypatch):
    """The run of Python and that of the command are one: the latter finds nothing left to do."""
    cohort = pairs(tmp_path, 2)
    file = save_state(tmp_path / "vgg19.pth", vgg_state(19))
    seen = Vgg19Features(file)
    config = configured(features=seen, steps=2, validate_every=1)
    run = MDAUNet.fit(cohort, "t1", "t2", config, tmp_path / "run", device="cpu", features=seen).run
    assert rows(tmp_path / "run" / "s2")[-1]["perceptual"] > 0
    lines = ["subject,role,modality,path,licence,citation,split"]
    lines += [
        f"{s.name},image,{m},{path.name},none,none,{s.split}"
        for s in cohort
        for m, path in s.images.items()
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    run.config.save(tmp_path / "own.yaml")
    words = ["train", tmp_path / "manifest.csv", "--target", "t2", "--device", "cpu"]
    words += ["--config", tmp_path / "own.yaml", "--out", tmp_path / "run", "--resume"]
    monkeypatch.delenv("MSGAN_VGG19", raising=False)
    assert "perceptual: MSGAN_VGG19 names no file" in fails(*words)
    monkeypatch.setenv("MSGAN_VGG19", str(file))
    assert "finished before" in msgan_cli(*words).stdout


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    cohort, own, seen = pairs(tmp_path, 2), configured(), features()
    plain = PairedRegression.fit(
        cohort, "t1", "t2", tiny(steps=1, validate_every=1), tmp_path / "plain", device="cpu"
    )
    stated = configured(features=seen)

    def trained(source="t1", config=own, **options):
        MDAUNet.fit(cohort, source, "t2", config, tmp_path / "r", device="cpu", **options)

    def made(**changes):
        return lambda: own.updated(changes)

    cases = [
        (lambda: trained(None), "source None: the 3D-mDAUNet is trained on pairs"),
        (lambda: trained("t2"), "paired t2: is the target itself"),
        (lambda: trained("flair"), "no training subject has both a flair and a t2 image"),
        (lambda: trained(scales=[0]), "scale 0 does not exist: there are 2 to 2"),
        (lambda: trained(size="huge"), "size 'huge' is none of smoke, small, published"),
        (lambda: MDAUNet(plain.run), "plain: was not trained as a 3D-mDAUNet"),
        (lambda: fit(cohort, "t2", stated, tmp_path / "r"), "perceptual .*: needs the network of"),
        (
            lambda: fit(cohort, "t2", stated, tmp_path / "r", features=features(1)),
            "perceptual .*: needs the network of these weights, and no other",
        ),
        (made(training={"patch": 18}), "patch size 18 is not a multiple of 4"),
        (made(labels=(1,)), r"mdaunet: labels is \(1,\): expected \(\)"),
        (made(paired=None, sketch={"channels": ("edges",)}), "paired: the mdaunet family learns"),
        (made(training={"l2_weight": 1.0}), r"mdaunet: training\.l2_weight is 1\.0: expected 0"),
        (made(drop_inputs=()), r"mdaunet: drop_inputs is \(\)"),
        (made(network={"growth": (4, 4)}), r"growth \(4, 4\) has 2 levels, features"),
        (
            lambda: tiny().updated(perceptual={"backbone": "0"}),
            "perceptual: the seamless family has no such loss",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "r").exists()
    method = MDAUNet.fit(cohort, "t1", "t2", configured(steps=1), tmp_path / "ok", device="cpu")
    with pytest.raises(InputError, match="tile 16: expected a multiple of the stride 6"):
        method.translate(cohort["s3"], tmp_path / "o.nii", tile=16)


def test_other_families_are_had_back_from_it():
    """A configuration of any method can be made that of another."""
    assert changed(tiny(), training=configured().training.model_dump() | {"patch": 16})
    back = configured().updated(network={"family": "seamless"}, training={"gan": "least_squares"})
    assert back.network.family == "seamless"
    assert back.network.discriminator_width == 3
