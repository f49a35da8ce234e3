"""Samples of a batch: where patches lie, what is drawn ahead, what a GPU cuts."""

import numpy as np
import pytest
import torch
from helpers import head, stored
from torch.testing import assert_close
from training import ALL, cuda, gpu, moved, patches, same, shape_of, tiny, twins, with_

from msgan import sketch
from msgan.config import (
    SketchConfig,
)
from msgan.data.cohort import prepare
from msgan.networks import layers
from msgan.pyramid import halve
from msgan.training.batches import Prefetch
from msgan.training.cache import CachedSubject, cached

pytestmark = pytest.mark.usefixtures("one_thread")


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


@pytest.mark.parametrize("family", ["seamless", "megan"])
def test_sketch_context_and_detail_lie_on_each_other(dims, family):
    config = with_(tiny(dims, patch=8), "network", family=family)
    drawn = patches([twins(dims)], config, 2, augmented=False)
    batch = drawn.draw("train", 0, range(12))
    side = 32 if family == "megan" else 8
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
    drawn = patches([subject], tiny(dims), 2, augmented=False)
    (detail,) = drawn.draw("train", 0, range(40)).targets
    middle = detail[(..., *[slice(4, 6)] * dims)].flatten(1).amax(dim=1)
    # Seldom 50 tries find none; without looking for foreground one patch in 15 would be on it.
    assert (middle > -1).float().mean() > 0.6


def test_every_subject_is_drawn(dims):
    subjects = [twins(dims, seed=k) for k in range(3)]
    drawn = patches(subjects, tiny(dims), 0, augmented=False)
    seen = {
        next(s.name for s in subjects if torch.equal(s.images[0][None], batch.targets[0]))
        for batch in (drawn.draw("train", k, [0]) for k in range(30))
    }
    assert seen == {s.name for s in subjects}


def test_whole_images_of_different_shapes_are_padded_together(dims):
    shapes = [(16, 24, 8)[:dims], (24, 8, 16)[:dims]]
    subjects = [twins(dims, shape=s, seed=k) for k, s in enumerate(shapes)]
    drawn = patches(subjects, tiny(dims), 0, augmented=False)
    batch = drawn.draw("train", 0, range(8))
    size = (6, 6, 4)[:dims]
    assert batch.targets[0].shape == (8, 1, *size)
    assert batch.reads[0].shape == (8, 1, *[2 * n for n in size])
    for sketched, detail in zip(batch.reads[0], batch.targets[0], strict=True):
        inside = detail > -1
        assert_close(halve(sketched, dims)[inside], detail[inside])
        assert not halve(sketched, dims)[~inside].any()


def test_crops_of_s0_keep_sketch_and_image_together(dims):
    drawn = patches([twins(dims)], tiny(dims, lr_patch=4), 0, augmented=False)
    batch = drawn.draw("train", 0, range(6))
    (sketched,), (detail,) = batch.reads, batch.targets
    assert detail.shape == (6, 1, *[4] * dims)
    assert_close(halve(sketched, dims), detail)
    assert len({tuple(x.flatten().tolist()) for x in detail}) > 1


@pytest.mark.parametrize("side", [None, 5])
def test_s0_sees_background_around_the_image(dims, side):
    config = with_(tiny(dims, lr_patch=side), "network", lr_border=2)
    subject = twins(dims)
    drawn = patches([subject], config, 0, augmented=False)
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
    plain = patches([subject], base, 2, augmented=False).draw("train", 0, size)
    flips: dict[tuple[int, ...], int] = {}
    mirrored = with_(base, "training", mirror=tuple(range(dims)))
    drawn = patches([subject], mirrored, 2, augmented=False)
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
    clean = patches([subject], tiny(dims), 2, augmented=False).draw("train", 0, range(6))
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


@gpu
@cuda
@pytest.mark.parametrize("scale", [0, 2])
def test_a_gpu_cuts_the_same_patches_and_is_not_waited_for(dims, scale):
    config = with_(tiny(dims, mirror=(0,)), "sketch", channels=ALL)
    count = sketch.channels(config.sketch, dims)
    there = torch.device("cuda", 0)
    here = [twins(dims, count, seed=k) for k in range(2)]
    moved = [s.to(there) for s in here]
    expected = patches(here, config, scale, augmented=False).draw("train", 1, range(4))
    noisy = []
    for subjects in (here, moved):  # memory maps and pinned copies; all of it on the device
        clean = patches(subjects, config, scale, augmented=False, device=there)
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
