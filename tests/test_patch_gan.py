"""Cascades that see no sketch or no context, and the patch GAN, which is one of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import blind, cohort_in, head, randomised, source_in, stored, tiny, untrained, whole

from msgan import pyramid, translate
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, prepare
from msgan.data.intensity import IntensityMap
from msgan.data.volume import open_volume
from msgan.methods.cascade import fit
from msgan.methods.patch_gan import PatchGan
from msgan.methods.small_gan import SmallGan
from msgan.networks import inference
from msgan.networks.hr_generators import MeganGenerator
from msgan.patches import crop_padded
from msgan.runs.run import Run
from msgan.sketch import DrawnSketch, sketch_reader
from msgan.training.batches import BACKGROUND, Patches
from msgan.training.cache import CachedSubject
from msgan.training.step import build_generator
from msgan.translate import overlap
from msgan.translate.overlap import OverlapScale, patches
from msgan.translate.scale import SNAP, make
from msgan.translate.scratch import Scratch, StoredScale
from msgan.types import Box, InputError

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


# --- blind to something ----------------------------------------------------------------------


def test_without_context_only_the_last_scale_is_used(dims, tmp_path, scratch, monkeypatch):
    """Neither trained nor computed nor stored is what lies below; it is there for who asks."""
    cohort = cohort_in(tmp_path, dims)
    config = blind(tiny(dims, steps=20, learning_rate=1e-2), "context")  # past background
    run = fit(cohort, "t2", config, tmp_path / "run", device="cpu")
    assert (run.first, list(run.used)) == (2, [2])
    assert [run.finished(i) for i in range(3)] == [False, False, True]
    made, stage = [], Scratch.stage
    monkeypatch.setattr(Scratch, "stage", lambda self, *a: made.append(a[0]) or stage(self, *a))
    out = tmp_path / "out.nii"
    done = translate.translate(run, cohort["s2"], out, device="cpu", keep=tmp_path / "kept")
    assert made == ["s2", "y2"]
    assert {p.name for p in (tmp_path / "kept").glob("y*")} == {"y2.nii"}
    assert [scale.name for scale in done.plan.scales] == ["s2"]
    assert done.plan.tiles == (done.plan.scales[0].tile,)
    assert list(scratch.iterdir()) == []

    # Scale 0 can be trained into the same run, as another row of the table.
    fit(cohort, "t2", config, tmp_path / "run", device="cpu", scales=[0])
    SmallGan(run, "cpu").translate(cohort["s2"], tmp_path / "small.nii")
    translate.translate(run, cohort["s2"], tmp_path / "again.nii", device="cpu")
    np.testing.assert_array_equal(whole(out), whole(tmp_path / "again.nii"))
    assert np.ptp(whole(tmp_path / "small.nii")) > 0


@pytest.mark.parametrize("what", ["context", "sketch"])
def test_tiles_give_what_the_generator_makes_of_the_whole(dims, tmp_path, what):
    """What the last scale is blind to is constant for every tile, and beyond the image."""
    run = untrained(tmp_path / "run", blind(tiny(dims), what))
    source, results = source_in(tmp_path, dims), []
    for tile in (None, 8):
        out = tmp_path / f"{tile}.nii"
        kept = tmp_path / f"kept{tile}"
        translate.translate(run, source, out, device="cpu", tile=tile, keep=kept)
        results.append(run.intensity.to_unit(whole(kept / "y2.nii")))
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=1e-4)
    with prepare(source, None, run.config.preparation) as ready:
        shape, generator = ready.grid.shape, run.generator(2)
        seen, below = generator.geometry.cut(Box.whole(shape), shape).reads
        image = sketch_reader(ready.read, shape, run.config.sketch, rim=1)(seen)
    drawn = torch.from_numpy(image)[None] * (what != "sketch")
    if what == "context":
        around = torch.full((1, 1, *below.size), BACKGROUND)
    else:
        context = torch.from_numpy(run.intensity.to_unit(whole(kept / "y1.nii")))
        around = crop_padded(context[None, None].float(), below, BACKGROUND)
    expected = generator(drawn, around)[0][0, 0].clamp(-1, 1).numpy()
    expected = np.where(expected < BACKGROUND + SNAP, BACKGROUND, expected)
    near = np.abs(expected - (BACKGROUND + SNAP)) < 1e-4  # snapped or not: a matter of rounding
    np.testing.assert_allclose(results[0][~near], expected[~near], rtol=0, atol=1e-4)
    assert expected.std() > 0.05


def test_without_sketch_s0_still_sees_its_own(dims, tmp_path):
    """Of the same weights, a run that is blind to the sketch differs from s1 on."""
    source, kept = source_in(tmp_path, dims), {}
    for name, config in (("seeing", tiny(dims)), ("blind", blind(tiny(dims), "sketch"))):
        run = untrained(tmp_path / name, config)
        assert list(run.used) == [0, 1, 2]
        folder = tmp_path / f"{name}_kept"
        translate.translate(run, source, tmp_path / "o.nii", device="cpu", keep=folder)
        kept[name] = [whole(folder / f"y{i}.nii") for i in range(3)]
    np.testing.assert_array_equal(kept["seeing"][0], kept["blind"][0])
    assert kept["blind"][0].std() > 1
    for i in (1, 2):
        assert np.abs(kept["seeing"][i] - kept["blind"][i]).max() > 1


@pytest.mark.parametrize("what", ["context", "sketch"])
@pytest.mark.parametrize("augmented", [True, False])
def test_batches_hide_what_the_generators_are_blind_to(dims, what, augmented):
    """Also the noise that is laid on both, and for D and the validation, which take batches."""
    rng = np.random.default_rng(0)
    config = blind(tiny(dims, mirror=(0,)), what)
    sizes = [(8 * 2**i,) * dims for i in range(3)]
    images = tuple(torch.from_numpy(rng.uniform(-0.9, 1, (1, *n)).astype("f4")) for n in sizes)
    sketches = ((), *(((i + 1) / 2,) for i in images[1:]))
    subject = CachedSubject("s", images, sketches)
    for scale in range(3):
        geometry = build_generator(config, scale).geometry
        drawn = Patches([subject], config, scale, geometry, augmented).draw("train", 0, [0, 1])
        assert drawn.targets[0].std() > 0.1
        sketch, *context = drawn.reads
        if scale == 0:  # sees its sketch whatever the others do
            assert sketch.std() > 0.1
            assert not context
        elif what == "sketch":
            assert not sketch.any()
            assert context[0].std() > 0.1
        else:
            assert (context[0] == BACKGROUND).all()
            assert sketch.std() > 0.1


def test_interrupted_it_goes_on(dims, tmp_path, scratch, monkeypatch):
    run = untrained(tmp_path / "run", blind(tiny(dims), "context"))
    source, out = source_in(tmp_path, dims), tmp_path / "out.nii"
    options = {"device": "cpu", "tile": 8}
    translate.translate(run, source, tmp_path / "unbroken.nii", **options)
    write, pieces = StoredScale.write, []

    def interrupted(self, number, box, values):
        write(self, number, box, values)
        pieces.append((self.store.path.name, number))
        if len(pieces) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(StoredScale, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        translate.translate(run, source, out, **options)
    assert not out.exists()
    translate.translate(run, source, out, **options)
    assert len(set(pieces)) == len(pieces) > 6  # none was made twice
    np.testing.assert_array_equal(whole(out), whole(tmp_path / "unbroken.nii"))
    assert list(scratch.iterdir()) == []


def test_background_is_computed_once(tmp_path, monkeypatch):
    """A block without edges around is what the generator makes of nothing."""
    run = untrained(tmp_path / "run", blind(tiny(2), "context"))
    image = np.zeros((160, 160), np.float32)
    image[20:40, 20:40] = head((20, 20))
    image[158, 158] = 50  # so that the working grid is the whole image
    calls, core = [], inference.SeamlessInference.core

    def counted(self, sketch, context):
        if not sketch.is_meta:  # else it is the plan that counts
            calls.append(bool(sketch.any()))
        return core(self, sketch, context)

    monkeypatch.setattr(inference.SeamlessInference, "core", counted)
    source = stored(tmp_path / "x.nii", image)
    translate.translate(run, source, tmp_path / "o.nii", device="cpu", tile=16)
    assert calls.count(False) <= 1
    assert 1 <= calls.count(True) < 30


def test_what_makes_no_sense_is_refused(tmp_path):
    cohort = cohort_in(tmp_path)
    for words in (("sketch", "context"), ("context", "context")):
        with pytest.raises(ValueError, match="expected none or one of sketch, context"):
            blind(tiny(), *words)
    with pytest.raises(ValueError, match="'sketch' or 'context'"):
        blind(tiny(), "labels")
    with pytest.raises(InputError, match="a patch GAN sees the sketch and nothing else"):
        PatchGan.configured(blind(tiny(), "sketch"))
    run = fit(cohort, "t2", tiny(), tmp_path / "run", device="cpu", scales=[2])
    with pytest.raises(InputError, match="run: not a patch GAN"):
        PatchGan(run)
    with pytest.raises(InputError, match=r"drop_inputs is .*there and .*here"):
        fit(cohort, "t2", blind(tiny(), "context"), tmp_path / "run", device="cpu")
    config = blind(tiny(), "context")
    untrained(tmp_path / "none", config, scales=[0, 1])
    with pytest.raises(InputError, match="scale 2 of 2 is not trained yet"):
        translate.translate(Run.open(tmp_path / "none"), tmp_path / "0.nii", tmp_path / "o.nii")


# --- the row of a table ----------------------------------------------------------------------


def test_fit_and_translate(dims, tmp_path):
    cohort = cohort_in(tmp_path, dims)
    config = tiny(dims, steps=20, learning_rate=1e-2)
    method = PatchGan.fit(cohort, None, "t2", config, tmp_path / "run", device="cpu")
    assert method.run.config == Run.open(tmp_path / "run").config
    assert method.run.config.drop_inputs == ("context",)
    results = []
    for tile in (None, 8):
        method.translate(cohort["s2"], tmp_path / "out.nii", modality="t2", tile=tile)
        results.append(whole(tmp_path / "out.nii"))
    with open_volume(tmp_path / "out.nii") as result, open_volume(tmp_path / "2.nii") as source:
        assert result.grid == source.grid
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=1e-4 * results[0].max())
    assert results[0].std() > 1


# --- the published family: whole patches that overlap ----------------------------------------


def megan(dims: int, scales=1) -> CascadeConfig:
    sizes = {"family": "megan", "hr_width": 2}
    config = tiny(dims, network=sizes, preparation={"scales": scales}, patch=32)
    return PatchGan.configured(config)


def naive(generator, drawn: torch.Tensor, shape=None) -> np.ndarray:
    """Patches of the whole padded sketch (C, *shape), added and divided in NumPy."""
    shape = shape or drawn.shape[1:]
    starts = [np.arange(0, max(n - 32, 0) + 27, 27) for n in shape]
    room = [int(s[-1]) + 32 for s in starts]
    assert all(r >= n for r, n in zip(room, shape, strict=True))
    padded = torch.zeros((drawn.shape[0], *room))
    known = tuple(slice(min(n, r)) for n, r in zip(drawn.shape[1:], room, strict=True))
    padded[(slice(None), *known)] = drawn[(slice(None), *known)]
    total, count = np.zeros(room), np.zeros(room)
    for start in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, len(shape)):
        where = tuple(slice(a, a + 32) for a in start)
        patch = padded[(None, slice(None), *where)]
        (made,) = generator(patch, torch.full_like(patch[:, :1], -1.0))
        total[where] += made[0, 0].double().numpy()
        count[where] += 1
    assert set(np.unique(count)) <= {1, 2, 4, 8}
    return (total / count)[tuple(slice(n) for n in shape)]


def averaged(scale: OverlapScale, path: Path):
    """The image, of sums that a store holds."""
    spread, slot = overlap.spread(scale.shape, scale.tile), overlap.slot(scale.tile)
    store = pyramid.Store.create(path, spread, chunk=slot)
    for _, box, values in make(scale, range(len(scale))):
        store.write(box, values)
    return overlap.joined(store.read, scale.shape, scale.tile)


@pytest.mark.parametrize("tile", [27, 54, 108])
def test_patches_are_averaged_where_they_overlap(dims, tmp_path, tile):
    """Of any tile the same, at the border of the image too."""
    shape = (100, 31) if dims == 2 else (60, 59, 30)
    generator = randomised(MeganGenerator(dims, 2, 2, 1), 3)
    drawn = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
    drawn[:, :50] = 0  # nothing but background in some patches
    read = DrawnSketch(lambda box: drawn[(slice(None), *box.slices)].numpy(), shape)
    fast = inference.optimised(generator, CPU, whole=True)
    scale = OverlapScale(fast, read, shape, (tile,) * dims, CPU)
    image = averaged(scale, tmp_path / "sums.zarr")
    found = image(Box.whole(shape))
    assert found.dtype == np.float32
    expected = naive(generator, drawn)
    expected = np.where(expected < BACKGROUND + SNAP, BACKGROUND, expected)
    near = np.abs(expected - (BACKGROUND + SNAP)) < 1e-4
    np.testing.assert_allclose(found[~near], expected[~near], rtol=0, atol=1e-4)
    assert expected.std() > 0.05
    for box in Box.whole(shape).tiles((23, 17, 29)[:dims]):
        np.testing.assert_array_equal(image(box), found[box.slices])
    assert len(scale) == np.prod([-(-k // (tile // 27)) for k in patches(shape)])


def test_patches_cover_an_image_of_any_size():
    for n, count in {1: 1, 32: 1, 33: 2, 59: 2, 60: 3, 512: 19}.items():
        assert patches((n,)) == (count,)
        assert 27 * (count - 1) + 32 >= n
        assert count == 1 or 27 * (count - 2) + 32 < n
        covered = sum((k * 27 <= np.arange(n)) & (np.arange(n) < k * 27 + 32) for k in range(count))
        found = overlap.total_weight(Box((0,), (n,)), (n,), overlap.MEAN)
        np.testing.assert_array_equal(found, covered)


@pytest.mark.slow
def test_the_published_family_translates(dims, tmp_path, scratch):
    """Labels, a grid of its own, and tiles of two sizes."""
    config = megan(dims).model_copy(update={"labels": (1,)})
    run = untrained(tmp_path / "run", config)
    image = head((90, 70) if dims == 2 else (50, 44, 36))
    source = stored(tmp_path / "x.nii", image, spacing=1.5)
    results = []
    for tile in (27, 54, None):
        PatchGan(run, "cpu").translate(source, tmp_path / "o.nii", tile=tile)
        results.append(whole(tmp_path / "o.nii"))
    assert results[0].shape == image.shape
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=1e-4 * 80)
    np.testing.assert_allclose(results[2], results[0], rtol=0, atol=1e-4 * 80)
    with prepare(source, None, config.preparation) as ready:
        shape = ready.grid.shape
        box = Box((0,) * dims, tuple(n + 32 for n in shape))
        drawn = sketch_reader(ready.read, shape, config.sketch, rim=1)(box)
        unit = naive(run.generator(1), torch.from_numpy(drawn), shape)
        unit = np.where(unit < BACKGROUND + SNAP, BACKGROUND, unit).astype(np.float32)
        back = ready.to_source(lambda box: unit[box.slices], run.intensity)
        expected = back(Box.whole(image.shape))
    apart = np.abs(results[0] - expected)
    assert np.quantile(apart, 0.999) < 1e-4 * 80  # the rest are voxels that are nearly background
    assert apart.max() < 1.01 * SNAP / 2 * 80
    assert results[0].std() > 1
    # The scheme of the cascade trims patches instead.
    translate.translate(run, source, tmp_path / "trimmed.nii", device="cpu")
    assert np.abs(whole(tmp_path / "trimmed.nii") - results[0]).max() > 1
    assert list(scratch.iterdir()) == []

    cohort = Cohort((replace(cohort_in(tmp_path, dims)["s0"], images={"t1": source}),))
    marks = np.zeros(image.shape, np.float32)
    marks[tuple(slice(n // 2, n // 2 + 6) for n in image.shape)] = 1
    subject = replace(cohort["s0"], labels=stored(tmp_path / "seg.nii", marks, spacing=1.5))
    PatchGan(run, "cpu").translate(subject, tmp_path / "l.nii", modality="t1")
    assert np.abs(whole(tmp_path / "l.nii") - results[0]).max() > 1


def test_the_published_family_refuses_in_one_line(tmp_path):
    run = untrained(tmp_path / "run", megan(2))
    source = source_in(tmp_path, 2)
    cases = [
        ("tile 20: expected a multiple of the stride 27", {"tile": 20}),
        (r"memory 1\.0 MiB: the smallest tile of s1, 27 x 27 voxels, needs", {"memory": 1 << 20}),
    ]
    for message, options in cases:
        with pytest.raises(InputError, match=message) as caught:
            PatchGan(run, "cpu").translate(source, tmp_path / "o.nii", **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="unknown suffix"):
        PatchGan(run, "cpu").translate(source, tmp_path / "o.xyz")
    none = Run(tmp_path / "none", megan(2), "t2", IntensityMap(0.0, 1.0), {})
    with pytest.raises(InputError, match="scale 1 of 1 is not trained yet"):
        PatchGan(none, "cpu").translate(source, tmp_path / "o.nii")


def test_memory_does_not_grow_with_the_image(tmp_path, monkeypatch):
    """Nothing larger than a tile with its surroundings is read, and a store holds the sums."""
    asked, read_store = [], pyramid.Store.read

    def seen(self, box):
        asked.append(box.voxels)
        return read_store(self, box)

    monkeypatch.setattr(pyramid.Store, "read", seen)
    generator = inference.optimised(randomised(MeganGenerator(2, 1, 2, 1), 0), CPU, whole=True)
    drawn = []

    def read(box):
        drawn.append(box.voxels)
        return np.ones((1, *box.size), np.float32)

    shape = (300, 280)
    scale = OverlapScale(generator, DrawnSketch(read, shape), shape, (54, 54), CPU)
    image = averaged(scale, tmp_path / "sums.zarr")
    for box in Box.whole(shape).tiles((64, 64)):
        assert image(box).shape == box.size
    assert max(drawn) == 59**2
    assert max(asked) <= 64**2
    largest = [overlap.need(generator, megan(2), (27 * k,) * 2).beside for k in (1, 2, 4)]
    assert largest == sorted(largest)
    assert 4 * largest[0] > largest[1] > 2 * largest[0]


def test_sums_of_other_blocks_are_not_gone_on_with(tmp_path, scratch, monkeypatch):
    """Stopped when all sums are there, and begun again with another tile."""
    run = untrained(tmp_path / "run", megan(2))
    method, source = PatchGan(run, "cpu"), stored(tmp_path / "x.nii", head((90, 70)))
    method.translate(source, tmp_path / "whole.nii", tile=54)

    def stopped(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(overlap, "joined", stopped)
        with pytest.raises(KeyboardInterrupt):
            method.translate(source, tmp_path / "o.nii", tile=27)
    assert list(scratch.iterdir())
    method.translate(source, tmp_path / "o.nii", tile=54)
    np.testing.assert_array_equal(whole(tmp_path / "o.nii"), whole(tmp_path / "whole.nii"))
