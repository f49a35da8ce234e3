"""Prepared subjects on disk: scales, sketches, labels, recoloured variants."""

import os
import shutil
import sys

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from training import (
    ALL,
    made,
    patches,
    shape_of,
    tiny,
    with_,
)

from msgan import pyramid, sketch
from msgan.config import (
    ContrastAugmentation,
)
from msgan.data.cohort import prepare
from msgan.data.grid import Grid
from msgan.data.volume import write_volume
from msgan.pyramid import halve
from msgan.training import cache
from msgan.types import Box, InputError

pytestmark = pytest.mark.usefixtures("one_thread")


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


@pytest.mark.parametrize("name", ["labelled_s0", "image_s1", "sketch_s1_0"])
@pytest.mark.parametrize("left", [0, 54, 0.5], ids=["nothing", "half a header", "half"])
def test_a_file_that_was_cut_short_is_one_line(tmp_path, name, left):
    made(tmp_path, tiny(2))
    (file,) = (tmp_path / "cache").rglob(f"{name}.npy")
    data = file.read_bytes()
    file.write_bytes(data[: left if left != 0.5 else (len(data) - 1) // 2])
    with pytest.raises(InputError, match=rf"{name}\.npy: damaged: .+: remove .+ made again"):
        made(tmp_path, tiny(2))
    shutil.rmtree(file.parent)
    assert made(tmp_path, tiny(2)).images[2].std() > 0


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
    crops = with_(with_(config, "training", label_share=1.0, lr_patch=4), "network", lr_border=2)
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
    drawn = patches([subject], config, 2, augmented=False)
    # A recoloured sample has the sketch of a variant and the detail of the image itself.
    recoloured = 0
    for k in range(40):
        batch = drawn.draw("train", k, [0])
        variant = [torch.isin(batch.reads[0].half(), v).all().item() for v in subject.sketches[2]]
        recoloured += not variant[0]
        assert torch.isin(batch.targets[0], subject.images[2]).all()
    assert 8 < recoloured < 32
