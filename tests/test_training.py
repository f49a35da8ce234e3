import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from safetensors import safe_open
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close

from msgan import pyramid, seeds, sketch
from msgan.config import (
    CascadeConfig,
    ContrastAugmentation,
    Degradation,
    Preparation,
    SketchConfig,
    TrainConfig,
    network_of,
)
from msgan.data.cohort import prepare
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.volume import write_volume
from msgan.networks import layers
from msgan.networks.discriminators import condition
from msgan.networks.generator import Geometry, View
from msgan.pyramid import halve
from msgan.training import cache, checkpoint, loop
from msgan.training.batches import Batch, Patches, Prefetch
from msgan.training.cache import CachedSubject, cached
from msgan.training.log import LOG, Log
from msgan.training.loop import learning_rate, train_scale
from msgan.training.run import Run
from msgan.training.step import Step, build_generator
from msgan.types import Box, InputError

ALL = ("edges", "self_similarity", "ridges")
QUIET = Degradation(noise=0, sketch_noise=0, blur_share=0, half_share=0)


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(dims: int, **training) -> CascadeConfig:
    options = {"steps": 40, "low_steps": 40, "batch": 2, "patch": 8, "learning_rate": 2e-3}
    return CascadeConfig(
        dims=dims,
        preparation=Preparation(scales=2, margin=0),
        sketch=SketchConfig(low=0.05, high=0.1, sigma=0.8, steps=2),
        network=network_of(
            low_width=2, low_levels=2, high_width=4, high_blocks=1, discriminator_width=2
        ),
        training=TrainConfig(**options | training),
    )


def with_(config: CascadeConfig, part: str, **changes) -> CascadeConfig:
    changed = getattr(config, part).model_copy(update=changes)
    return config.model_copy(update={part: changed})


def head(shape, seed=0) -> np.ndarray:
    """A textured ellipsoid, 5 to 100, on a background of 0."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = sum(a**2 for a in axes) < 0.8
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    texture = (noise - noise.min()) / np.ptp(noise)
    return np.where(inside, 5 + 95 * texture, 0).astype(np.float32)


def stored(path: Path, image: np.ndarray) -> Path:
    grid = Grid.from_spacing(image.shape, (1.0,) * image.ndim)
    write_volume(path, grid, lambda box: image[box.slices])
    return path


def shape_of(dims: int) -> tuple[int, ...]:
    return (48, 40) if dims == 2 else (24, 16, 20)


def made(folder: Path, config: CascadeConfig, seed=0, labels=None) -> CachedSubject:
    path = stored(folder / f"{seed}.nii", head(shape_of(config.dims), seed))
    with prepare(path, None, config.preparation, labels) as subject:
        return cached(subject, config, "data", folder / "cache")


def twins(dims: int, channels: int = 1, seed: int = 0, shape=None) -> CachedSubject:
    """Random images whose sketch is the image itself, so that misplaced patches show."""
    finest = shape or shape_of(dims)
    image = torch.from_numpy(np.random.default_rng(seed).uniform(-0.9, 0.9, size=(1, *finest)))
    images = [image.float()]
    for _ in range(2):
        images.insert(0, halve(images[0], dims))
    drawn = [(), *[(x.expand(channels, *x.shape[1:]).clone(),) for x in images[1:]]]
    return CachedSubject(f"twin{seed}", tuple(images), tuple(drawn))


def fabric(precision="32-true") -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision=precision)


def same(a: Batch, b: Batch) -> bool:
    pairs = zip((*a.reads, *a.targets), (*b.reads, *b.targets), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def moved(batch: Batch, change) -> Batch:
    return Batch(tuple(map(change, batch.reads)), tuple(map(change, batch.targets)))


def patches(subjects, config, scale, **options) -> Patches:
    geometry = build_generator(config, scale).geometry
    return Patches(subjects, config, scale, geometry, **options)


# --- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0, 2])
def test_a_sample_is_decided_by_seed_scale_step_and_its_number(dims, scale):
    config = tiny(dims, mirror=(0,))
    subjects = [twins(dims, seed=k) for k in range(3)]
    drawn = patches(subjects, config, scale)
    batch = drawn.draw("train", 5, range(4))
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    other = patches(subjects, config, scale)
    other.draw("train", 9, [0])
    for k in (3, 0):  # alone, in another order, from another sampler: as on another process
        alone = other.draw("train", 5, [k])
        assert same(alone, moved(batch, lambda x, k=k: x[k : k + 1]))
    assert not same(drawn.draw("train", 6, range(4)), batch)
    assert not same(drawn.draw("validation", 5, range(4)), batch)
    reseeded = config.model_copy(update={"seed": 1})
    assert not same(patches(subjects, reseeded, scale).draw("train", 5, range(4)), batch)
    assert not torch.equal(batch.reads[0][0], batch.reads[0][1])


@pytest.mark.parametrize("family", ["seamless", "paper"])
def test_sketch_context_and_detail_lie_on_each_other(dims, family):
    config = with_(tiny(dims, patch=8), "network", family=family)
    drawn = patches([twins(dims)], config, 2, degraded=False)
    batch = drawn.draw("train", 0, range(12))
    side = 32 if family == "paper" else 8
    (detail,) = batch.targets
    assert detail.shape == (12, 1, *[side] * dims)
    views = zip(batch.reads, drawn.geometry.reads, strict=True)
    fine, coarse = (layers.crop(x, view.halo) for x, view in views)
    assert_close(coarse, halve(detail, dims))
    # Outside the image the sketch is 0 and the image is background.
    assert_close(fine, detail.where(detail > -1, 0.0))
    assert (detail > -1).float().mean() > 0.1


def test_patches_are_centred_on_foreground(dims):
    shape = shape_of(dims)
    image = torch.full((1, *shape), -1.0)
    image[(0, *[slice(n // 2, n // 2 + 8) for n in shape])] = 0.5
    images = [image]
    for _ in range(2):
        images.insert(0, halve(images[0], dims))
    subject = CachedSubject("a", tuple(images), ((), *[(x,) for x in images[1:]]))
    drawn = patches([subject], tiny(dims), 2, degraded=False)
    (detail,) = drawn.draw("train", 0, range(40)).targets
    middle = detail[(..., *[slice(4, 6)] * dims)].flatten(1).amax(dim=1)
    # Seldom 50 tries find none; without looking for foreground one patch in 15 would be on it.
    assert (middle > -1).float().mean() > 0.6


def test_every_subject_is_drawn(dims):
    subjects = [twins(dims, seed=k) for k in range(3)]
    drawn = patches(subjects, tiny(dims), 0, degraded=False)
    seen = {
        next(s.name for s in subjects if torch.equal(s.images[0][None], batch.targets[0]))
        for batch in (drawn.draw("train", k, [0]) for k in range(30))
    }
    assert seen == {s.name for s in subjects}


def test_whole_images_of_different_shapes_are_padded_together(dims):
    shapes = [(16, 24, 8)[:dims], (24, 8, 16)[:dims]]
    subjects = [twins(dims, shape=s, seed=k) for k, s in enumerate(shapes)]
    drawn = patches(subjects, tiny(dims), 0, degraded=False)
    batch = drawn.draw("train", 0, range(8))
    size = (6, 6, 4)[:dims]
    assert batch.targets[0].shape == (8, 1, *size)
    assert batch.reads[0].shape == (8, 1, *[2 * n for n in size])
    for sketched, detail in zip(batch.reads[0], batch.targets[0], strict=True):
        inside = detail > -1
        assert_close(halve(sketched, dims)[inside], detail[inside])
        assert not halve(sketched, dims)[~inside].any()


def test_crops_of_s0_keep_sketch_and_image_together(dims):
    drawn = patches([twins(dims)], tiny(dims, low_patch=4), 0, degraded=False)
    batch = drawn.draw("train", 0, range(6))
    (sketched,), (detail,) = batch.reads, batch.targets
    assert detail.shape == (6, 1, *[4] * dims)
    assert_close(halve(sketched, dims), detail)
    assert len({tuple(x.flatten().tolist()) for x in detail}) > 1


@pytest.mark.parametrize("side", [None, 5])
def test_s0_sees_background_around_the_image(dims, side):
    config = with_(tiny(dims, low_patch=side), "network", low_border=2)
    subject = twins(dims)
    drawn = patches([subject], config, 0, degraded=False)
    shape = subject.images[0].shape[1:]
    boxes = [drawn.decide("train", k, 0).targets[0] for k in range(200)]
    size = [n + 4 if side is None else min(side, n + 4) for n in shape]
    assert {box.size for box in boxes} == {tuple(size)}
    for axis, n in enumerate(shape):  # crops lie anywhere from border to border
        assert min(box.start[axis] for box in boxes) == -2
        assert max(box.stop[axis] for box in boxes) == n + 2
    batch = drawn.draw("train", 0, range(8))
    (detail,) = batch.targets
    assert_close(halve(batch.reads[0], dims), detail.where(detail > -1, 0.0))
    assert bool((detail == -1).any())


def test_the_sketch_of_a_mirrored_image_is_the_mirrored_sketch(dims):
    config = SketchConfig(channels=ALL, low=0.05, high=0.1, steps=2)
    side = 2 * sketch.halo(config) + 9
    image = torch.from_numpy(head((side,) * dims))[None, None] / 50 - 1
    drawn = sketch.sketch(image, config)
    for axis in range(dims):
        expected = sketch.sketch(image.flip(2 + axis), config)
        assert_close(sketch.mirror(drawn, axis, config), expected, rtol=0, atol=1e-5)
        assert not torch.allclose(drawn.flip(2 + axis), expected, atol=1e-3)  # it is directed


def test_mirrored_patches_have_the_sketch_of_their_own_detail(dims, tmp_path):
    """Cut, cached, mirrored: what a patch's sketch shows is what its detail would give."""
    base = with_(tiny(dims, patch=26), "sketch", channels=ALL)
    # Background around: outside the image a sketch is 0, whatever lies at its border.
    base = with_(base, "preparation", margin=12)
    path = stored(tmp_path / "a.nii", np.pad(head(shape_of(dims)), 12))
    with prepare(path, None, base.preparation) as opened:
        subject = cached(opened, base, "data", tmp_path)
    margin, size = sketch.halo(base.sketch), range(10)
    plain = patches([subject], base, 2, degraded=False).draw("train", 0, size)
    flips: dict[tuple[int, ...], int] = {}
    mirrored = with_(base, "training", mirror=tuple(range(dims)))
    drawn = patches([subject], mirrored, 2, degraded=False)
    batch = drawn.draw("train", 0, size)
    (around, context), (detail,) = batch.reads, batch.targets
    halo, wide = (view.halo for view in drawn.geometry.reads)
    inner = layers.crop(around, halo + margin)
    expected = sketch.sketch(detail, base.sketch)
    assert expected.std() > 0.05
    assert_close(inner, expected, rtol=0, atol=2e-3)  # kept in half precision
    coarse = layers.crop(context, wide)
    assert_close(coarse, halve(detail, dims))
    for one, other in zip(plain.targets[0], detail, strict=True):
        axes = [
            tuple(1 + a for a in range(dims) if bits >> a & 1)
            for bits in range(2**dims)
            if torch.equal(one.flip([1 + a for a in range(dims) if bits >> a & 1]), other)
        ]
        assert axes
        flips[axes[0]] = flips.get(axes[0], 0) + 1
    assert len(flips) > 1


def test_only_training_patches_of_a_degraded_sampler_are_degraded(dims):
    subject = twins(dims)
    clean = patches([subject], tiny(dims), 2, degraded=False).draw("train", 0, range(6))
    loud = patches([subject], tiny(dims), 2).draw("train", 0, range(6))
    assert torch.equal(clean.targets[0], loud.targets[0])
    sketched, context = (x - y for x, y in zip(loud.reads, clean.reads, strict=True))
    assert context.std() > 0.03
    assert 0.005 < sketched.std() < 0.02


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_prefetched_batches_are_those_that_are_drawn(dims, depth):
    drawn = patches([twins(dims)], tiny(dims), 1)
    ahead = Prefetch(drawn, "train", range(2), depth=depth)
    try:
        for step in (0, 1, 2, 7, 3, 3):
            assert same(ahead.get(step), drawn.draw("train", step, range(2)))
        assert ahead.waited > 0
    finally:
        ahead.close()


def test_as_many_batches_as_asked_are_drawn_ahead():
    class Counter:
        def __init__(self):
            self.steps = []

        def draw(self, purpose, step, samples):
            self.steps.append(step)
            return step

    drawn = Counter()
    ahead = Prefetch(drawn, "train", range(1), depth=2, stop=6)
    assert ahead.get(0) == 0
    ahead._pool.submit(lambda: None).result()  # all that was begun is done
    assert drawn.steps == [0, 1, 2]
    assert [ahead.get(k) for k in range(1, 6)] == [1, 2, 3, 4, 5]
    ahead._pool.submit(lambda: None).result()
    ahead.close()
    assert drawn.steps == [0, 1, 2, 3, 4, 5]  # each once, and none after the last


def test_an_error_while_drawing_ahead_is_raised_where_the_batch_is_asked_for():
    class Broken:
        def draw(self, purpose, step, samples):
            raise OSError(f"step {step}")

    ahead = Prefetch(Broken(), "train", range(1))
    try:
        for step in (0, 1):
            with pytest.raises(OSError, match=f"step {step}"):
                ahead.get(step)
    finally:
        ahead.close()


gpu = pytest.mark.gpu
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@gpu
@cuda
@pytest.mark.parametrize("scale", [0, 2])
def test_a_gpu_cuts_the_same_patches_and_is_not_waited_for(dims, scale):
    config = with_(tiny(dims, mirror=(0,)), "sketch", channels=ALL)
    count = sketch.channels(config.sketch, dims)
    there = torch.device("cuda", 0)
    here = [twins(dims, count, seed=k) for k in range(2)]
    moved = [s.to(there) for s in here]
    expected = patches(here, config, scale, degraded=False).draw("train", 1, range(4))
    noisy = []
    for subjects in (here, moved):  # memory maps and pinned copies; all of it on the device
        clean = patches(subjects, config, scale, degraded=False, device=there)
        batch = clean.draw("train", 1, range(4))
        assert {x.device for x in (*batch.reads, *batch.targets)} == {there}
        assert same(moved(batch, torch.Tensor.cpu), expected)
        loud = patches(subjects, config, scale, device=there)
        loud.draw("train", 0, range(4))
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            noisy.append(loud.draw("train", 1, range(4)))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert same(*noisy)
    assert not torch.equal(noisy[0].reads[0].cpu(), expected.reads[0])


# --- cache -----------------------------------------------------------------------------------


def test_cached_scales_and_sketches_are_those_of_the_image(dims, tmp_path, monkeypatch):
    monkeypatch.setitem(pyramid.CHUNK, dims, 12)  # more than one tile
    config = with_(tiny(dims), "sketch", channels=ALL)
    subject = made(tmp_path, config)
    images = [subject.images[2]]
    for _ in range(2):
        images.insert(0, halve(images[0], dims))
    for kept, expected in zip(subject.images, images, strict=True):
        assert kept.dtype == torch.float32
        assert_close(kept, expected, rtol=0, atol=1e-6)
    assert subject.sketches[0] == ()
    for i in (1, 2):
        (kept,) = subject.sketches[i]
        whole = images[i][0].numpy()
        around = np.pad(whole, 1, constant_values=-1)
        read = sketch.sketch_reader(
            lambda b, w=around: w[b.shifted((1,) * w.ndim).slices],
            whole.shape,
            config.sketch,
            rim=1,
        )
        expected = read(Box.whole(whole.shape))
        np.testing.assert_allclose(kept.float(), expected, rtol=0, atol=1e-3)
        assert expected.max() > 0.3
    sizes = [t.numel() * t.element_size() for t in (*images, *(s[0] for s in subject.sketches[1:]))]
    assert subject.bytes == sum(sizes)


def test_the_cache_is_made_once_and_for_each_configuration(dims, tmp_path, monkeypatch):
    config = tiny(dims)
    made(tmp_path, config)
    before = sorted(p.name for p in (tmp_path / "cache").iterdir())
    monkeypatch.setattr(cache, "_compute", None)
    made(tmp_path, with_(config, "training", steps=7))  # nothing cached depends on it
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == before
    assert len(before) == 1
    with pytest.raises(TypeError):
        made(tmp_path, with_(config, "sketch", sigma=1.1))
    assert cache.key(config, "data") != cache.key(config, "other")


def test_an_interrupted_cache_is_absent(dims, tmp_path, monkeypatch):
    config, write, calls = tiny(dims), cache._write, []

    def interrupted(path, *rest):
        calls.append(path)
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(path, *rest)

    monkeypatch.setattr(cache, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, config)
    assert os.listdir(tmp_path / "cache") == []


def test_two_processes_may_make_the_same_cache(dims, tmp_path, monkeypatch):
    config, compute = tiny(dims), cache._compute
    made(tmp_path / "other", config)

    def overtaken(*words):
        compute(*words)
        ready = next((tmp_path / "other" / "cache").iterdir())
        ready.rename(tmp_path / "cache" / ready.name)

    monkeypatch.setattr(cache, "_compute", overtaken)
    assert made(tmp_path, config).images[2].std() > 0
    assert len(os.listdir(tmp_path / "cache")) == 1


def test_all_of_a_box_is_announced_and_little_else(dims, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(cache, "_madvise", lambda: lambda *call: told.append(call))
    page, shape = 64, (5, 12, 10)[-dims:]
    monkeypatch.setattr(cache.mmap, "PAGESIZE", page)
    np.save(tmp_path / "a.npy", np.zeros((2, *shape), np.float16))
    image = cache.load(tmp_path / "a.npy")
    begin, size = image.data_ptr(), image.numel() * image.element_size()
    assert told == [(begin // page * page, size + begin % page, cache.mmap.MADV_RANDOM)]
    told.clear()
    box = Box((-1, 3, 2)[-dims:], (4, 4, 5)[-dims:])
    cache.announce(image, box)
    assert {what for _, _, what in told} == {cache.mmap.MADV_WILLNEED}
    assert all(start % page == 0 for start, *_ in told)
    announced = {a for start, size, _ in told for a in range(start, start + size)}
    offsets = torch.arange(image.numel()).view(image.shape)
    rows = box.clipped(shape).slices[:-1]  # whole rows: they lie in one piece
    wanted = {begin + 2 * k for k in offsets[(slice(None), *rows)].flatten().tolist()}
    assert wanted <= announced
    assert len(announced) <= 2 * len(wanted) + (page - 1) * len(told)
    told.clear()
    cache.announce(image, Box((50,) * dims, (3,) * dims))  # outside
    assert told == []


@pytest.mark.skipif(sys.platform != "linux", reason="the system takes no advice")
def test_advice_on_maps_is_taken(dims, tmp_path):
    image = made(tmp_path, tiny(dims)).images[2]
    advise, refused = cache._madvise(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_madvise", lambda: lambda *call: refused.append(advise(*call)))
        cache.announce(image, Box.whole(image.shape[1:]))
    assert refused
    assert not any(refused)


def test_labels_are_laid_over_the_sketch(dims, tmp_path):
    config = tiny(dims).model_copy(update={"labels": (1, 3)})
    labels = np.zeros(shape_of(dims), np.float32)
    place = tuple(n // 2 for n in labels.shape)
    labels[tuple(slice(p, p + 4) for p in place)] = 3
    labels[place] = 1
    path = tmp_path / "labels.nii"
    grid = Grid.from_spacing(labels.shape, (1.0,) * dims)
    write_volume(path, grid, lambda box: labels[box.slices], dtype=np.uint8)
    subject = made(tmp_path, config, labels=path)
    plain = made(tmp_path / "plain", config)
    with prepare(tmp_path / "0.nii", None, config.preparation, path) as opened:
        drawn = opened.read_labels(Box.whole(opened.grid.shape))
    assert (drawn == 1).sum() == 1
    # Where a voxel of s_1 covers both labels, the larger stays.
    for i, expected in ((2, drawn), (1, pyramid.halve_labels(drawn))):
        grey, own = (s.sketches[i][0][0].float().numpy() for s in (subject, plain))
        # The k-th of two labels has the grey value (256 k / 2 - 1) / 255.
        wanted = np.select([expected == 1, expected == 3], [127 / 255, 1.0], own)
        np.testing.assert_allclose(grey, wanted, atol=1e-3)
        assert (expected == 3).sum() >= 2**dims


def test_a_share_of_patches_is_about_labelled_voxels(dims, tmp_path):
    config = with_(tiny(dims, label_share=0.4), "contrast", share=0.0)
    config = config.model_copy(update={"labels": (1, 3)})
    labels = np.zeros(shape_of(dims), np.uint8)
    labels[tuple(slice(4, 6) for _ in labels.shape)] = 3
    labels[tuple(3 * n // 4 for n in labels.shape)] = 1
    path = tmp_path / "labels.nii"
    grid = Grid.from_spacing(labels.shape, (1.0,) * dims)
    write_volume(path, grid, lambda box: labels[box.slices], dtype=np.uint8)
    subject = made(tmp_path, config, labels=path)
    with prepare(tmp_path / "0.nii", None, config.preparation, path) as opened:
        there = opened.read_labels(Box.whole(opened.grid.shape))
    halves = [there]
    for _ in range(2):
        halves.insert(0, pyramid.halve_labels(halves[0]))
    for i, expected in enumerate(halves):
        found = sorted(map(tuple, subject.labelled[i].tolist()))
        assert found == sorted(map(tuple, np.argwhere(expected).tolist()))
    drawn = patches([subject], config, 2)
    known = {tuple(c // 2 * 2 for c in voxel) for voxel in subject.labelled[2].tolist()}

    def about(share: float) -> float:
        sampler = patches([subject], with_(config, "training", label_share=share), 2)
        boxes = [sampler.decide("train", k, 0).targets[0] for k in range(300)]
        return np.mean([tuple(a + 4 for a in box.start) in known for box in boxes])

    assert 0.33 < about(0.4) < 0.55
    assert about(1.0) == 1
    assert about(0.0) < 0.1
    # Of s0 crops: about the voxel as far as the image and its border go.
    crops = with_(with_(config, "training", label_share=1.0, low_patch=4), "network", low_border=2)
    seen = []
    for k in range(40):
        box = patches([subject], crops, 0).decide("train", k, 0).targets[0]
        inside = [
            all(a <= v < b for a, v, b in zip(box.start, voxel, box.stop, strict=True))
            for voxel in subject.labelled[0].tolist()
        ]
        assert any(inside)
        seen.append(inside)
        assert all(a >= -2 for a in box.start)
        ends = zip(box.stop, subject.images[0].shape[1:], strict=True)
        assert all(b <= n + 2 for b, n in ends)
    assert np.any(seen, axis=0).all()  # each of them, at both ends of the image
    assert not np.all(seen, axis=0).any()
    bare = made(tmp_path / "bare", config)
    assert [len(places) for places in bare.labelled] == [0, 0, 0]
    assert patches([bare], config, 2).decide("train", 0, 0).targets[0].size == (8,) * dims
    assert drawn.draw("train", 0, range(2)).targets[0].shape == (2, 1, *[8] * dims)


def test_labelled_voxels_are_a_fair_draw_of_all(dims, monkeypatch):
    """However the map is cut into parts, and no more of them than are kept."""
    labels = np.zeros((40,) * dims, np.uint8)
    labels[8:] = 2
    monkeypatch.setattr(cache, "LABELLED", 500)
    monkeypatch.setattr(pyramid, "CHUNK", {2: 16, 3: 16})
    found = cache.labelled(lambda box: labels[box.slices], labels.shape, np.random.default_rng(0))
    assert found.shape == (500, dims)
    assert len({tuple(v) for v in found.tolist()}) == 500
    assert labels[tuple(found.T)].all()
    np.testing.assert_allclose(found.mean(axis=0), [23.5, *[19.5] * (dims - 1)], atol=2)


def test_recoloured_variants_are_other_sketches_of_the_same_image(dims, tmp_path):
    config = tiny(dims).model_copy(update={"contrast": ContrastAugmentation(share=0.5, variants=2)})
    subject = made(tmp_path, config)
    first, *others = subject.sketches[2]
    assert len(others) == 2
    assert not torch.equal(others[0], others[1])
    own = made(tmp_path / "plain", tiny(dims))
    assert torch.equal(own.sketches[2][0], first)
    drawn = patches([subject], config, 2, degraded=False)
    # A recoloured sample has the sketch of a variant and the detail of the image itself.
    recoloured = 0
    for k in range(40):
        batch = drawn.draw("train", k, [0])
        variant = [torch.isin(batch.reads[0].half(), v).all().item() for v in subject.sketches[2]]
        recoloured += not variant[0]
        assert torch.isin(batch.targets[0], subject.images[2]).all()
    assert 8 < recoloured < 32


# --- one step --------------------------------------------------------------------------------


def test_the_condition_of_d_lies_on_the_image(dims):
    """In a linear ramp, context, sketch and detail have the same value at the same place."""
    config = tiny(dims)
    first, above = (build_generator(config, i).geometry for i in (0, 1))
    halo, side = above.reads[0].halo, 8

    def ramp(start, step, count):
        axes = torch.meshgrid(*[start + step * torch.arange(count)] * dims, indexing="ij")
        return sum((k + 1) * a for k, a in enumerate(axes))[None, None]

    sketched = ramp(-halo, 1.0, side + 2 * halo)
    context = ramp(0.5 - halo, 2.0, (side + 2 * halo) // 2)
    detail = ramp(0, 1.0, side)
    seen = condition((sketched, context), above, aligned=True)
    assert_close(seen, detail.expand(1, 2, *[side] * dims), rtol=0, atol=1e-4)
    assert_close(condition((sketched,), first, aligned=True), halve(sketched, dims))
    # Also of a grid four times as coarse, whose halo is none.
    far = Geometry((View("source", -2),), align=4)
    coarse = condition((ramp(1.5, 4.0, side // 4),), far, aligned=True)
    assert_close(coarse[(..., *[4] * dims)], detail[(..., *[4] * dims)], rtol=0, atol=2.0 * dims)
    assert coarse.shape == detail.shape


@pytest.mark.parametrize(("limit", "rests"), [(0.4, True), (0.5, False)])
def test_d_rests_while_it_is_right_too_often(dims, limit, rests):
    config = tiny(dims, discriminator_accuracy=limit)
    torch.manual_seed(0)
    step = Step(config, 1, fabric())
    with torch.no_grad():
        for parameter in step.discriminator.parameters():
            parameter.zero_()  # the same verdict on everything: right half of the time
    before = [p.clone() for p in step.discriminator.parameters()]
    generator = [p.clone() for p in step.generator.parameters()]
    batch = patches([twins(dims)], config, 1).draw("train", 0, range(2))
    values = step.update(batch, 0, 1e-3)
    assert values["accuracy"] == 0.5
    after = list(step.discriminator.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) == rests
    moved = zip(generator, step.generator.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)
    assert all(p.requires_grad for p in after)


def test_the_adversarial_loss_reaches_the_generator_and_not_the_discriminator(dims):
    config = tiny(dims, l1_weight=0.0, gan_weight=1.0)
    torch.manual_seed(3)
    step = Step(config, 0, fabric())
    step._update_discriminator = lambda *batch: {}  # D rests
    batch = patches([twins(dims)], config, 0).draw("train", 0, range(2))
    before = [p.clone() for p in step.discriminator.parameters()]
    first = step.update(batch, 0, 1e-2)["adversarial"]
    for k in range(1, 15):
        last = step.update(batch, k, 1e-2)["adversarial"]
    assert last < 0.9 * first
    moved = zip(before, step.discriminator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in moved)


def test_d_judges_the_middle_of_larger_patches(dims, monkeypatch):
    monkeypatch.setattr("msgan.training.step.JUDGED", 6)
    config, seen = tiny(dims), []
    step = Step(config, 1, fabric())
    step.discriminator.register_forward_hook(lambda module, inputs, out: seen.append(inputs))
    batch = patches([twins(dims)], config, 1).draw("train", 0, range(2))
    step.update(batch, 0, 1e-3)
    (both, (images,)), (_, (shown,)) = seen  # D's own update, then G's
    assert both.shape[2:] == images.shape[2:] == shown.shape[2:] == (6,) * dims
    assert torch.equal(images[:2], layers.crop(batch.targets[0], 1))
    every = condition(batch.reads, step.generator.geometry, aligned=True)
    assert_close(both[:2], layers.crop(every, 1))


def test_without_weight_there_is_no_discriminator(dims):
    step = Step(tiny(dims, gan_weight=0.0), 1, fabric())
    assert step.discriminator is None
    assert set(step.modules()) == {"generator", "average"}
    batch = patches([twins(dims)], tiny(dims), 1).draw("train", 0, range(2))
    values = step.update(batch, 0, 1e-3)
    assert set(values) == {"l1", "loss"}
    assert values["loss"] == 10 * values["l1"]


def test_the_average_follows_exponentially(dims):
    config = tiny(dims, ema=0.6, gan_weight=0.0, learning_rate=0.01)
    torch.manual_seed(0)
    step = Step(config, 1, fabric())
    expected = [p.detach().clone() for p in step.generator.parameters()]
    drawn = patches([twins(dims)], config, 1)
    for k in range(12):
        step.update(drawn.draw("train", k, range(2)), k, 0.01)
        decay = min(0.6, (1 + k) / (10 + k))
        for mean, value in zip(expected, step.generator.parameters(), strict=True):
            mean.mul_(decay).add_(value.detach(), alpha=1 - decay)
    for mean, kept in zip(expected, step.average.parameters(), strict=True):
        assert_close(kept, mean, rtol=1e-4, atol=1e-6)
        assert not kept.requires_grad
    own = zip(step.average.parameters(), step.generator.parameters(), strict=True)
    assert any(not torch.allclose(a, b) for a, b in own)


# --- the loop --------------------------------------------------------------------------------


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(folder / loop.WEIGHTS), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("scale", [0, 1])
def test_the_loss_falls(dims, tmp_path, scale):
    config = tiny(dims, gan_weight=0.05, validate_every=20, ema=0.8, learning_rate=5e-3)
    subject = made(tmp_path, config)
    about = train_scale(config, scale, [subject], [subject], tmp_path / "s", fabric())
    assert about["step"] == 40
    found = rows(tmp_path / "s")
    assert [row["step"] for row in found] == [20, 40]
    fresh = Step(config, scale, fabric())
    batch = patches([subject], config, scale).draw("validation", 0, range(16 if scale else 1))
    with torch.no_grad():
        start = (fresh.average(*batch.reads)[0] - batch.targets[0]).abs().mean()
        checkpoint.load_weights(fresh.average, tmp_path / "s" / loop.WEIGHTS)
        end = (fresh.average(*batch.reads)[0] - batch.targets[0]).abs().mean()
    assert end < (0.85 if scale == 0 else 0.97) * start
    assert end.item() == pytest.approx(about["best"], rel=1e-3)


@pytest.mark.parametrize("scale", [0, 2])
def test_an_interrupted_training_goes_on_bit_by_bit(dims, tmp_path, scale):
    config = tiny(dims, checkpoint_every=15, validate_every=10, gan_weight=0.1, mirror=(0,))
    subjects = [made(tmp_path, config, seed=k) for k in range(2)]

    def train(folder, report=None):
        return train_scale(config, scale, subjects, subjects[:1], folder, fabric(), report)

    whole = train(tmp_path / "whole")

    def interrupt(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", interrupt)
    assert [row["step"] for row in rows(tmp_path / "broken")] == [20]  # the checkpoint is of 15
    with (tmp_path / "broken" / LOG).open("a") as log:
        log.write('{"step": 21, "hal')  # the line a killed process was writing
    about = train(tmp_path / "broken")
    clocks = ("seconds", "waited")
    assert {k: v for k, v in about.items() if k not in clocks} == {
        k: v for k, v in whole.items() if k not in clocks
    }
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    one, other = rows(tmp_path / "whole"), rows(tmp_path / "broken")
    assert [row["step"] for row in other] == [20, 40]
    for left, right in zip(one, other, strict=True):
        assert {k: v for k, v in left.items() if k not in clocks} == {
            k: v for k, v in right.items() if k not in clocks
        }
    # Ended: nothing is trained again.
    before = (tmp_path / "broken" / loop.WEIGHTS).stat().st_mtime_ns
    train(tmp_path / "broken", interrupt)
    assert (tmp_path / "broken" / loop.WEIGHTS).stat().st_mtime_ns == before


def test_tensorboard_reads_the_curves_of_a_resumed_training(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for step, values in ((0, (1, 2, 3)), (20, (3, 4))):  # resumed from a checkpoint of step 20
        log = Log(tmp_path, step)
        for at in values:
            log.write({"scale": 0, "step": 10 * at, "l1": at / 2 + step})
        log.close()
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert board.Tags()["scalars"] == ["l1"]
    assert {e.step: e.value for e in board.Scalars("l1")} == {10: 0.5, 20: 1.0, 30: 21.5, 40: 22.0}


def test_clocks_go_on_where_the_checkpoint_stopped(tmp_path, monkeypatch):
    """Neither the pause nor the steps that were lost count; what was spent before does."""
    now = [0.0]

    def tick():
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(loop, "perf_counter", tick)
    monkeypatch.setattr("msgan.training.batches.perf_counter", tick)
    config = tiny(2, checkpoint_every=15)
    subject = twins(2)

    def interrupt(row):
        raise KeyboardInterrupt

    train_scale(config, 1, [subject], [subject], tmp_path / "whole", fabric())
    with pytest.raises(KeyboardInterrupt):
        train_scale(config, 1, [subject], [subject], tmp_path / "broken", fabric(), interrupt)
    now[0] += 1000
    train_scale(config, 1, [subject], [subject], tmp_path / "broken", fabric())
    one, other = rows(tmp_path / "whole"), rows(tmp_path / "broken")
    assert one[-1]["seconds"] > 2 * one[-1]["waited"] > 0
    for left, right in zip(one, other, strict=True):
        assert right["waited"] == left["waited"]
        assert right["seconds"] == pytest.approx(left["seconds"], abs=2)


def test_training_stops_when_validation_does(dims, tmp_path):
    config = tiny(dims, learning_rate=1e-30, validate_every=2, patience=3, gan_weight=0.0)
    subject = twins(dims)
    about = train_scale(config, 1, [subject], [subject], tmp_path, fabric())
    # The first validation is the best; three more without a better one.
    assert (about["step"], about["best_step"], about["stale"]) == (8, 2, 3)
    # And it stays stopped.
    assert train_scale(config, 1, [subject], [subject], tmp_path, fabric())["step"] == 8


def test_the_best_weights_are_kept(dims, tmp_path, monkeypatch):
    config = tiny(dims, steps=5, validate_every=1, gan_weight=0.0, ema=0.5)
    subject = twins(dims)
    scores = iter([0.5, 0.3, 0.2, 0.4, 0.2])
    seen = []

    def scripted(step, judge, about, folder, fabric):
        value = next(scores)
        seen.append({k: v.clone() for k, v in step.average.state_dict().items()})
        monkeypatch.setattr(loop.losses, "l1", lambda fake, real: torch.tensor(value))
        try:
            validate(step, judge, about, folder, fabric)
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(loop, "_validate", scripted)

    validate = loop._validate
    monkeypatch.setattr(loop, "_validate", scripted)
    about = train_scale(config, 1, [subject], [subject], tmp_path, fabric())
    assert about["best"] == pytest.approx(0.2)
    assert about["best_step"] == 3  # an equal score later is not better
    assert about["stale"] == 2
    kept = weights(tmp_path)
    assert all(torch.equal(kept[k], seen[2][k]) for k in kept)
    assert any(not torch.equal(kept[k], seen[4][k]) for k in kept)


def test_all_processes_follow_one_validation_score(tmp_path):
    """Else one of them may stop, and the others wait for it for ever."""
    config = tiny(2, steps=2, validate_every=1, gan_weight=0.0)
    used = fabric()
    alone = train_scale(config, 1, [twins(2)], [twins(2)], tmp_path / "alone", used)
    reduce = used.all_reduce

    def with_another(value, group=None, reduce_op="mean"):
        """Another process whose scores are higher by 1."""
        value = reduce(value, group, reduce_op)
        return value + 0.5 if value.dtype == torch.float64 else value

    used.all_reduce = with_another
    about = train_scale(config, 1, [twins(2)], [twins(2)], tmp_path / "two", used)
    assert about["best"] == alone["best"] + 0.5


def test_learning_rates():
    constant = tiny(2, learning_rate=0.1).training
    assert {learning_rate(constant, k, 10) for k in range(10)} == {0.1}
    cosine = tiny(2, learning_rate=0.1, decay="cosine").training
    rates = [learning_rate(cosine, k, 100) for k in range(100)]
    assert rates[0] == 0.1
    assert rates[50] == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.002)


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    class Three:
        world_size, global_rank = 3, 0

    with pytest.raises(InputError, match="batch 2 is not a multiple of the 3 processes"):
        train_scale(tiny(2), 1, [twins(2)], [twins(2)], tmp_path, Three())


def test_initial_weights_differ_between_scales_and_seeds(dims, tmp_path):
    def first(scale, seed):
        config = tiny(dims, steps=1, low_steps=1, learning_rate=1e-30, gan_weight=0.0)
        config = config.model_copy(update={"seed": seed})
        folder = tmp_path / f"{scale}-{seed}"
        train_scale(config, scale, [twins(dims)], [twins(dims)], folder, fabric())
        return torch.cat([w.flatten() for w in weights(folder).values()])

    assert not torch.equal(first(1, 0), first(2, 0))
    assert not torch.equal(first(1, 0), first(1, 1))
    assert seeds.derive(0, "weights", 1) != seeds.derive(0, "weights", 2)


def test_mixed_precision_runs_on_the_cpu(dims, tmp_path):
    config = tiny(dims, steps=4, precision="bf16-mixed", validate_every=2, gan_weight=0.5)
    subject = twins(dims)
    seen: list[dict] = []
    about = train_scale(
        config, 1, [subject], [subject], tmp_path, fabric("bf16-mixed"), seen.append
    )
    assert about["step"] == 4
    assert np.isfinite([seen[-1][k] for k in ("l1", "loss", "adversarial", "discriminator")]).all()
    assert all(w.dtype == torch.float32 for w in weights(tmp_path).values())


@gpu
@cuda
def test_half_precision_runs_on_the_gpu(dims, tmp_path):
    config = tiny(dims, steps=6, precision="16-mixed", validate_every=2, gan_weight=0.5)
    subject = twins(dims).to(torch.device("cuda"))
    there = Fabric(accelerator="cuda", devices=1, precision="16-mixed")
    about = train_scale(config, 1, [subject], [subject], tmp_path, there)
    assert np.isfinite(about["best"])


def half() -> Fabric:
    """Fabric replaces 16-mixed on a CPU; the plugin itself runs there, scaler and all."""
    # Large enough for the first updates to overflow: then they are not made, and it is halved.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30, growth_interval=3)
    return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))


def test_an_interrupted_training_goes_on_with_the_scale_of_its_gradients(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 18)
    config = tiny(2, steps=24, checkpoint_every=15, validate_every=6, gan_weight=0.5)
    subject = twins(2)

    def train(folder, report=None):
        used = half()
        train_scale(config, 1, [subject], [subject], folder, used, report)
        return used.strategy.precision.state_dict()

    def interrupt(row):
        raise KeyboardInterrupt

    whole = train(tmp_path / "whole")
    assert 0 < whole["scale"] < 2.0**30
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", interrupt)
    assert train(tmp_path / "broken") == whole
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_scale_of_gradients_is_kept_without_pickles(dims, tmp_path):
    config = tiny(dims)
    one, two, plain = Step(config, 1, half()), Step(config, 1, half()), Step(config, 1, fabric())
    state = {"scale": 2.0**-20 / 3, "_growth_tracker": 2}
    one.precision.load_state_dict(one.precision.state_dict() | state)
    checkpoint.save(one, tmp_path / "half", {"step": 1})
    checkpoint.save(plain, tmp_path / "full", {"step": 1})
    with safe_open(str(tmp_path / "half"), framework="pt") as file:
        assert json.loads(file.metadata()["precision"]).items() >= state.items()
    assert checkpoint.load(two, tmp_path / "half") == {"step": 1}
    assert two.precision.state_dict() == one.precision.state_dict()
    # Files of another precision, and of before, say nothing of it.
    checkpoint.load(two, tmp_path / "full")
    assert two.precision.state_dict() == one.precision.state_dict()
    checkpoint.load(plain, tmp_path / "half")


# --- files -----------------------------------------------------------------------------------


def test_a_checkpoint_holds_tensors_only(dims, tmp_path):
    config = tiny(dims, steps=3, checkpoint_every=2)
    train_scale(config, 1, [twins(dims)], [twins(dims)], tmp_path, fabric())
    for name in (loop.CHECKPOINT, loop.WEIGHTS):
        data = (tmp_path / name).read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])  # safetensors: a JSON header, then numbers
        about = json.loads(header.pop("__metadata__")["about"])
        assert about["step"] == 3
        end = max(entry["data_offsets"][1] for entry in header.values())
        assert len(data) == 8 + size + end
        assert {entry["dtype"] for entry in header.values()} == {"F32"}
    left = {p.name.split(".")[0] for p in tmp_path.iterdir()}
    assert left == {"checkpoint", "generator", "metrics", "events"}


def test_no_code_loads_pickles():
    """Tensors alone may be read of weights that others distribute so."""
    import msgan

    for path in Path(msgan.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        own = re.sub(r"torch\.load\([^()]*weights_only=True\)", "", text)
        assert not re.search(r"torch\.(load|save)\(|import pickle|allow_pickle=True", own), path


def test_a_checkpoint_restores_weights_and_optimisers(dims, tmp_path):
    config = tiny(dims, discriminator_accuracy=1.0)
    drawn = patches([twins(dims)], config, 1)
    torch.manual_seed(0)
    one = Step(config, 1, fabric())
    for k in range(3):
        one.update(drawn.draw("train", k, range(2)), k, 1e-3)
    checkpoint.save(one, tmp_path / "c", {"step": 3, "best": float("inf")})
    torch.manual_seed(1)
    two = Step(config, 1, fabric())
    assert checkpoint.load(two, tmp_path / "c") == {"step": 3, "best": float("inf")}
    for step in (one, two):
        step.update(drawn.draw("train", 3, range(2)), 3, 1e-3)
    for name, module in one.modules().items():
        other = two.modules()[name].state_dict()
        assert all(torch.equal(v, other[k]) for k, v in module.state_dict().items()), name


def test_bad_checkpoints_are_refused(dims, tmp_path):
    step = Step(tiny(dims), 1, fabric())
    path = tmp_path / "c.safetensors"
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint.load(step, path)
    checkpoint.save(step, path, {})
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-10]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="not a safetensors file"):
            checkpoint.load(step, path)
    path.write_bytes(whole)
    with pytest.raises(InputError, match="is on one side only"):
        checkpoint.load(Step(with_(tiny(dims), "network", high_blocks=2), 1, fabric()), path)
    with pytest.raises(InputError, match=r"has shape .*, expected "):
        checkpoint.load(Step(with_(tiny(dims), "network", high_width=5), 1, fabric()), path)


def a_run(folder: Path, dims=2, **changes) -> Run:
    run = Run(folder, tiny(dims), "t2", IntensityMap(0.0, 80.0, "a.u."), {"a": "00", "b": "11"})
    return replace(run, **changes)


def test_a_run_folder_is_read_back(dims, tmp_path):
    run = a_run(tmp_path / "run", dims)
    run.create()
    run.create()  # the same run goes on
    assert Run.open(run.folder) == run
    card = json.loads((run.folder / "run.json").read_text())
    assert card["key"] == run.key
    assert card["seed"] == 0
    assert card["versions"]["torch"] == torch.__version__
    assert not run.finished(0)
    with pytest.raises(InputError, match="scale 1 of 2 is not trained yet"):
        run.generator(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": tiny(2, steps=41)}, "training.steps is 40 there and 41 here"),
        ({"config": tiny(2).model_copy(update={"seed": 4})}, "seed is 0 there and 4 here"),
        ({"target": "t1"}, "target is t2 there and t1 here"),
        ({"data": {"a": "00", "b": "12"}}, "data.b is 11 there and 12 here"),
        ({"data": {"a": "00"}}, "data.b is 11 there and None here"),
    ],
)
def test_another_run_is_refused(tmp_path, changes, message):
    run = a_run(tmp_path)
    run.create()
    with pytest.raises(InputError, match=re.escape(message)) as error:
        replace(run, **changes).create()
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(error.value)


def test_a_run_of_another_version_is_refused(tmp_path, monkeypatch):
    a_run(tmp_path).create()
    monkeypatch.setattr("msgan.__version__", "999")
    with pytest.raises(InputError, match="this is 999"):
        a_run(tmp_path).create()


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        a_run(tmp_path).create()
    assert os.listdir(tmp_path) == ["thesis.doc"]


def test_a_run_killed_while_it_was_created_can_be_created(tmp_path):
    run = a_run(tmp_path)
    run.create()
    (tmp_path / "run.json").rename(tmp_path / ".partial-1.json")
    run.create()
    assert Run.open(tmp_path) == run


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("run.json", "{", "run.json: not JSON"),
        ("run.json", "[]", "run.json: not a JSON object"),
        ("run.json", '{"target": "t2"}', "run.json: has no 'intensity'"),
        ("run.json", '{"intensity": 3}', "run.json: "),
        ("config.yaml", "dims: 2", "config.yaml: training: is missing"),
    ],
)
def test_damaged_run_folders_are_refused(tmp_path, file, text, message):
    a_run(tmp_path).create()
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        Run.open(tmp_path)
    assert "\n" not in str(error.value)


def test_other_folders_are_no_runs(tmp_path):
    with pytest.raises(InputError, match=r"not a run folder: it has no run\.json"):
        Run.open(tmp_path)
    with pytest.raises(InputError, match="not a run folder"):
        Run.open(tmp_path / "none")


def test_a_training_that_diverges_says_so(dims, tmp_path):
    config = tiny(dims, learning_rate=1e30, low_steps=40, gan_weight=0.0)
    subject = twins(dims)
    with pytest.raises(InputError, match="loss is nan at step 20: try a smaller learning_rate"):
        train_scale(config, 0, [subject], [subject], tmp_path, fabric())


# --- several processes -----------------------------------------------------------------------

LAUNCHERS = ("torchrun", "srun")


def port() -> int:
    """One that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launched(launcher: str, words: list[str]) -> list[subprocess.CompletedProcess]:
    """``python -m msgan.cli words`` in two processes, as torchrun or srun would start them."""
    told = ("SLURM", "COVERAGE", "RANK", "WORLD", "LOCAL_", "MASTER", "MSGAN")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(told)}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "msgan.cli", *words]
    if launcher == "torchrun":
        elastic = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        starts = [([sys.executable, *elastic, *command[1:]], environment)]
    else:
        job = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
        job |= {"SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "train", "SLURM_NODEID": "0"}
        job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port())}
        starts = [
            (command, environment | job | {"SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)})
            for k in range(2)
        ]
    running = [
        subprocess.Popen(c, env=e, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for c, e in starts
    ]
    try:
        said = [process.communicate(timeout=120) for process in running]
    finally:
        for process in running:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *text)
        for process, text in zip(running, said, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "gan"),
    [*((name, "least_squares") for name in LAUNCHERS), (LAUNCHERS[0], "relativistic")],
)
def test_the_program_trains_in_two_processes(tmp_path, launcher, gan):
    rows_of = ["subject,role,modality,path,licence,citation,split"]
    for k, split in enumerate(("train", "train", "val")):
        stored(tmp_path / f"{k}.nii", head((48, 40), k))
        rows_of.append(f"p{k},image,t2,{k}.nii,none,none,{split}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows_of))
    steps = {"steps": 5, "low_steps": 5, "batch": 2, "low_batch": 2, "validate_every": 5}
    # Whether D rests is decided by few logits, of which one may lie on either side.
    steps |= {"gan": gan, "discriminator_accuracy": 1.0 if gan == "relativistic" else 0.8}
    # Dropout is drawn for each process.
    with_(tiny(2, **steps), "network", dropout=0.0).save(tmp_path / "tiny.yaml")
    words = ["train", str(tmp_path / "manifest.csv"), "--target", "t2", "--device", "cpu"]
    words += ["--config", str(tmp_path / "tiny.yaml")]
    one = subprocess.run(
        [sys.executable, "-m", "msgan.cli", *words, "--out", str(tmp_path / "one")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    done = launched(launcher, [*words, "--out", str(tmp_path / "two")])
    for process in (one, *done):
        assert process.returncode == 0, process.stderr
    said = "".join(d.stdout for d in done)
    assert said.count("ready") == 1, said  # one process speaks for all
    for scale in range(3):
        one, two = (rows(tmp_path / name / f"s{scale}") for name in ("one", "two"))
        assert [row["step"] for row in two] == [5]  # one process writes
        assert two[-1]["l1"] == pytest.approx(one[-1]["l1"], rel=1e-2)
        start, *trained = (
            torch.cat([w.flatten() for _, w in sorted(found.items())])
            for found in (
                begun(tiny(2), scale),
                weights(tmp_path / "one" / f"s{scale}"),
                weights(tmp_path / "two" / f"s{scale}"),
            )
        )
        assert (trained[1] - trained[0]).norm() < 0.1 * (trained[0] - start).norm()


def begun(config: CascadeConfig, scale: int) -> dict[str, torch.Tensor]:
    """The weights a scale starts from."""
    torch.manual_seed(seeds.derive(config.seed, "weights", scale))
    return build_generator(config, scale).state_dict()
