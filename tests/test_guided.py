"""Generators that see the source: detail by slope transfer, and what is learnt on top."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import changed, cohort_in, stored, tiny, whole
from scipy.ndimage import maximum_filter
from test_networks import randomised
from torch.testing import assert_close

from msgan import sketch
from msgan.data.cohort import Cohort, prepare
from msgan.match import slope
from msgan.memory import tiles
from msgan.methods.cascade import fit
from msgan.networks.discriminators import condition
from msgan.networks.hr_generators import GuidedGenerator
from msgan.networks.inference import GuidedInference, optimised
from msgan.patches import Tiling
from msgan.pyramid import enlarge, extended, halve
from msgan.training import cache
from msgan.training.batches import Patches
from msgan.training.cache import bytes_of, cached, key
from msgan.training.step import build_generator
from msgan.translate import contexts, translate
from msgan.translate.generation import Generation
from msgan.translate.plan import Limits, plan
from msgan.types import Box, InputError, read_padded

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SHAPE = (36, 26, 30)
HOLE = (slice(16, 20), slice(8, 14), slice(10, 16))
"""Blocks that a label hides, in the middle of :data:`SHAPE`."""


def scene(dims, seed=0):
    """Sketch (2, *s_i), context and source, with background at one end of the image."""
    rng, shape = np.random.default_rng(seed), SHAPE[:dims]
    sketch = rng.random((2, *shape)).astype(np.float32)
    source = rng.uniform(-0.95, 1, shape).astype(np.float32)
    context = rng.uniform(-0.95, 1, [n // 2 for n in shape]).astype(np.float32)
    source[:9], context[:4], sketch[:, :9] = -1, -1, 0
    return sketch, context, source


def of(image, dims):
    """A reader of any box of an image whose last axes are those of space."""
    return extended(lambda box: image[(..., *box.slices)], image.shape[-dims:])


def tiled(generator, images, tile):
    """The image that a generator, or a form of it, makes tile by tile."""
    shape = images[2].shape
    reads = [of(image, len(shape)) for image in images]
    out = torch.full(shape, torch.nan)
    for block in Tiling(generator.geometry, shape, (tile,) * len(shape)):
        parts = [read(box) for read, box in zip(reads, block.reads, strict=True)]
        parts = [torch.from_numpy(x)[(None,) * (len(shape) + 2 - x.ndim)] for x in parts]
        made = generator.core(*parts) if hasattr(generator, "core") else generator(*parts)[0]
        out[block.core.slices] = made[0, 0]
    return out


def guided(dims, blocks=1):
    return randomised(GuidedGenerator(dims, 2, 6, blocks))


# --- the layer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [True, False])
@torch.no_grad()
def test_a_fresh_generator_is_the_slope_transfer(dims, masked, monkeypatch):
    monkeypatch.setitem(slope.slope_transfer.__kwdefaults__, "masked", masked)
    images, everything = scene(dims), Box.whole(SHAPE[:dims])
    torch.manual_seed(0)
    generator = GuidedGenerator(dims, 2, 6, 1)
    expected = slope.carried(of(images[2], dims), of(images[1], dims), masked=masked)(everything)
    assert_close(tiled(generator, images, 40).numpy(), expected, rtol=0, atol=1e-5)
    assert (expected[:9] == -1).all()
    # It is more than interpolation, and can learn.
    assert (
        np.abs(expected - enlarge(of(images[1], dims), images[1].shape)(everything)).mean() > 0.05
    )
    with torch.enable_grad():
        boxes = generator.geometry.read_boxes(everything)
        parts = [of(x, dims)(box) for x, box in zip(images, boxes, strict=True)]
        parts = [torch.from_numpy(x)[(None,) * (dims + 2 - x.ndim)] for x in parts]
        generator(*parts)[0].square().sum().backward()
    assert all(p.grad is not None for p in generator.parameters())
    assert generator.rest.last.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_of_a_matched_spectrum_faint_detail_is_carried(dims):
    rng = np.random.default_rng(0)
    source = rng.normal(0, 0.01, (24,) * dims).astype(np.float32)  # 10 HU
    coarse = halve(torch.from_numpy(source)[None, None], dims)
    inside = source[(slice(2 * slope.rim(), -2 * slope.rim()),) * dims]
    for match, least, most in (("spectrum", 0.9, 1.01), ("histogram", 0.0, 0.2)):
        config = changed(config_of(dims), guidance={"match": match, "detail": True})
        floor = build_generator(config, 1).floor
        out = slope.slope_transfer(torch.from_numpy(source)[None, None], coarse, floor=floor)
        share = (out[0, 0].numpy() * inside).sum() / (inside * inside).sum()
        blurred = 0.5**dims  # the share of white noise that halving leaves
        assert least < share < most + blurred, match


@torch.no_grad()
def test_any_tiling_gives_the_whole_image(dims):
    generator, images = guided(dims), scene(dims)
    images[2][HOLE[:dims]] = slope.HIDDEN
    image = tiled(generator, images, 40)
    assert image.std() > 0.1
    for tile in (8, 16, 24):
        assert_close(tiled(generator, images, tile), image, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_fast_form_makes_the_same(dims):
    generator, images = guided(dims, blocks=2), scene(dims)
    fast = optimised(generator, CPU)
    assert type(fast) is GuidedInference
    expected = tiled(generator, images, 40)
    for tile in (16, 40):  # of a randomised network that adds a tenth of an image and more
        assert_close(tiled(fast, images, tile), expected, rtol=0, atol=3e-5)


def test_the_stated_halos_are_needed_and_enough(dims):
    generator, tile = guided(dims).double(), 8
    boxes = generator.geometry.read_boxes(Box.whole((tile,) * dims))
    rng = torch.Generator().manual_seed(0)
    reads = [
        torch.rand(1, c, *box.size, generator=rng).double().requires_grad_()
        for c, box in zip((2, 1, 1), boxes, strict=True)
    ]
    (out,) = generator(*reads)
    assert out.shape == (1, 1, *[tile] * dims)
    out.sum().backward()
    for x in reads:  # to the outermost voxels of what is read
        assert x.grad[(0, 0, 0)].abs().amax() > 0
        assert x.grad[(0, 0, -1)].abs().amax() > 0


@torch.no_grad()
def test_the_discriminator_sees_the_source_where_it_lies(dims):
    generator, tile = guided(dims), 12
    boxes = generator.geometry.read_boxes(Box.whole((tile,) * dims))
    sketch, context, source = (
        torch.rand(2, c, *box.size) for c, box in zip((2, 1, 1), boxes, strict=True)
    )
    seen = condition((sketch, context, source), generator.geometry, aligned=True)
    assert seen.shape == (2, 4, *[tile] * dims)
    halo = generator.geometry.reads[2].halo
    inner = (slice(halo, -halo),) * dims
    assert torch.equal(seen[:, 3:], source[(..., *inner)])


# --- labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [True, False])
def test_what_is_hidden_has_no_say_in_a_slope_transfer(dims, masked):
    """There it is the enlarged estimate; around, as if a window ended there."""
    _, y, x = scene(dims)
    hole, everything = HOLE[:dims], Box.whole(SHAPE[:dims])
    inside = np.zeros(x.shape, bool)
    inside[hole] = True
    x[inside] = slope.HIDDEN
    out = slope.carried(of(x, dims), of(y, dims), masked=masked)(everything)
    smooth = enlarge(of(y, dims), y.shape)(everything)
    np.testing.assert_allclose(out[inside], smooth[inside], rtol=0, atol=1e-5)
    # The estimate in the label, a bright tumour, changes no slope around it.
    other, coarse = y.copy(), tuple(slice(s.start // 2, s.stop // 2) for s in hole)
    other[coarse] = 0.9
    moved = np.abs(slope.carried(of(x, dims), of(other, dims), masked=masked)(everything) - out)
    beside = np.zeros(x.shape, bool)  # what interpolation reaches
    beside[tuple(slice(s.start - 2, s.stop + 2) for s in hole)] = True
    assert moved[~beside].max() == 0
    assert moved[inside].max() > 0.3


def test_a_hole_in_the_body_is_filled_and_its_outside_is_not(dims):
    """A few voxels of 0 inside an image are no background; those of a face and beyond are."""
    _, y, x = scene(dims)
    everything, hole = Box.whole(SHAPE[:dims]), (slice(20, 22), *(slice(12, 13),) * (dims - 1))
    before = slope.carried(of(x, dims), of(y, dims))(everything)
    x[hole] = -1
    out = slope.carried(of(x, dims), of(y, dims))(everything)
    assert (out[hole] > -1).all()
    np.testing.assert_array_equal(out == -1, before == -1)
    assert (out[:9] == -1).all()


@pytest.mark.parametrize("margin", [0, 3])
def test_labels_hide_the_source_within_a_margin(dims, margin):
    _, _, x = scene(dims)
    labels = np.zeros(x.shape, np.uint8)
    labels[(slice(12, 14),) * dims] = 2
    hidden = slope.hiding(of(x, dims), of(labels, dims), x.shape, margin)
    expected = x.copy()
    expected[(slice(12 - margin, 14 + margin),) * dims] = slope.HIDDEN
    everything = Box.whole(x.shape)
    np.testing.assert_array_equal(hidden(everything), expected)
    for box in everything.tiles((7, 9, 11)[:dims]):
        np.testing.assert_array_equal(hidden(box), expected[box.slices])
    assert hidden(everything).dtype == np.float32


def test_a_voxel_around_a_label_is_hidden_unless_told_otherwise(dims):
    """On the border of a label voxels are partly filled: they show what is in it."""
    x, labels = np.zeros((9,) * dims, np.float32), np.zeros((9,) * dims, np.uint8)
    labels[(4,) * dims] = 1
    hidden = slope.hiding(of(x, dims), of(labels, dims), x.shape)(Box.whole(x.shape))
    expected = np.zeros(x.shape, bool)
    expected[(slice(3, 6),) * dims] = True
    np.testing.assert_array_equal(hidden == slope.HIDDEN, expected)


def test_beyond_an_image_that_ends_nothing_is_hidden():
    labels, x = np.ones((8, 8), np.uint8), np.full((8, 8), 0.5, np.float32)
    ending = slope.hiding(lambda box: read_padded(of(x, 2), (8, 8), box, -1), of(labels, 2), (8, 8))
    going_on = slope.hiding(of(x, 2), of(labels, 2), (8, 8))
    around = Box((-3, 0), (5, 4))
    assert (ending(around)[:3] == -1).all()
    assert (ending(around)[3:] == slope.HIDDEN).all()
    assert (going_on(around) == slope.HIDDEN).all()
    assert (ending(Box((20, 20), (2, 2))) == -1).all()


@torch.no_grad()
def test_nothing_of_the_source_passes_a_label(dims):
    """Whatever the source shows there, or within the margin, not a voxel changes; farther off it
    changes what is near it."""
    generator, (sketch, context, source) = guided(dims), scene(dims)
    labels = np.zeros(source.shape, np.uint8)
    labels[(slice(16, 19), slice(11, 14), slice(12, 15))[:dims]] = 1
    results = []
    for reach in (0, slope.MARGIN, slope.MARGIN + 1):
        changed = source.copy()
        if reach:
            near = np.argwhere(labels)
            place = tuple(
                slice(a - reach, b + reach + 1)
                for a, b in zip(near.min(0), near.max(0), strict=True)
            )
            changed[place] = -changed[place]
        seen = slope.hiding(of(changed, dims), of(labels, dims), source.shape)
        images = sketch, context, seen(Box.whole(source.shape))
        results.append(tiled(generator, images, 40))
    assert torch.equal(results[0], results[1])
    assert (results[2] - results[0]).abs().max() > 0.01


# --- training and translation ------------------------------------------------------------------


def config_of(dims, labels=(), **contrast):
    """Guided, each subject with three appearances, every context made by the scales below."""
    return changed(
        tiny(dims, steps=6, lr_steps=6, learning_rate=1e-2),
        guidance={"match": "histogram", "detail": True},
        labels=labels,
        contrast={"share": 0.5, "variants": 2, "noise": 0.1} | contrast,
        conditioning={"generated_share": 1.0},
    )


def lesions(folder, cohort):
    """The cohort with a label in each head."""
    subjects = []
    for subject in cohort:
        image = whole(subject.images["t2"])
        labels = np.zeros(image.shape, np.float32)
        labels[tuple(slice(n // 2, n // 2 + 5) for n in image.shape)] = 2
        path = stored(folder / f"{subject.name}_labels.nii", labels, dtype=np.uint8)
        subjects.append(replace(subject, labels=path))
    return Cohort(tuple(subjects))


def cached_of(folder, config, cohort, name="s0"):
    with prepare(cohort[name], "t2", config.preparation, values=config.labels) as opened:
        sizes = bytes_of(opened, config)
        labels = opened.read_labels(Box.whole(opened.grid.shape)) if config.labels else None
        return cached(opened, config, "data", folder / "cache"), sizes, labels


@pytest.mark.parametrize("labels", [(), (2,)])
def test_the_cache_keeps_what_each_sketch_is_of(dims, labels, tmp_path):
    config, cohort = config_of(dims, labels), lesions(tmp_path, cohort_in(tmp_path, dims))
    subject, (most, _), marks = cached_of(tmp_path, config, cohort)
    assert len(subject.sources[0]) == 0
    assert [len(variants) for variants in subject.sources] == [0, 3, 3]
    (coarse, fine) = subject.sources[1:]
    for k in range(3):
        seen = np.asarray(fine[k][0] > slope.HIDDEN)
        assert seen.all() == (not labels)
        # Scales agree where nothing is hidden: an appearance is drawn once.
        half = halve(fine[k], dims)
        known = (coarse[k] > slope.HIDDEN) & (halve((fine[k] > slope.HIDDEN).float(), dims) == 1)
        assert known.sum() > 50
        assert_close(half[known], coarse[k][known], rtol=0, atol=1e-6)
    if labels:
        hidden = maximum_filter(marks != 0, 2 * slope.MARGIN + 1)
        np.testing.assert_array_equal(fine[0][0] == slope.HIDDEN, hidden)
        shown = ~torch.from_numpy(hidden)[None]
        assert torch.equal(fine[0][shown], subject.images[2][shown])
    else:
        assert fine[0] is subject.images[2]
    assert (fine[1] - fine[2]).abs().max() > 0.1
    assert subject.bytes == most
    moved = subject.to(CPU)
    assert moved.bytes == most
    assert all(torch.equal(a, b) for a, b in zip(moved.sources[2], fine, strict=True))
    if not labels:  # the sketch is of the appearance that is kept
        image, shape = fine[1][0].numpy(), subject.shape(2)
        around = np.pad(image, 1, constant_values=-1)
        read = sketch.sketch_reader(
            lambda box: around[box.shifted((1,) * dims).slices], shape, config.sketch, rim=1
        )
        drawn = read(Box.whole(shape))
        np.testing.assert_allclose(drawn, subject.sketches[2][1].float(), rtol=0, atol=2e-3)


def test_what_is_kept_is_no_worse_than_the_slope_transfer(tmp_path):
    harmful = config_of(2).updated(training={"learning_rate": 0.5, "ema": 0.0})
    run = fit(cohort_in(tmp_path), "t2", harmful, tmp_path / "run", device="cpu")
    for scale in (1, 2):
        done = json.loads((run.folder_of(scale) / "done.json").read_text())
        assert done["best_step"] == 0
        assert done["best"] < done["validation_l1"]
        assert (run.generator(scale).rest.last.weight == 0).all()


def test_without_guidance_nothing_is_kept_and_the_key_stays(tmp_path):
    plain = changed(config_of(2), guidance={"match": "none", "detail": False})
    cohort = cohort_in(tmp_path)
    subject, (most, _), _ = cached_of(tmp_path, plain, cohort)
    assert subject.sources == ()
    assert subject.bytes == most
    assert not list((tmp_path / "cache").rglob("source_*"))
    assert key(plain, "data") != key(config_of(2), "data")
    assert key(plain, "data") == key(changed(plain, training=plain.training.model_dump()), "data")
    geometry = build_generator(config_of(2), 1).geometry
    with pytest.raises(InputError, match="the generator reads source, which is not cached"):
        Patches([subject], plain, 1, geometry)


def test_patches_see_the_source_of_their_own_sketch(dims, tmp_path):
    config = config_of(dims).updated(training={"mirror": (0,)})
    subject, _, _ = cached_of(tmp_path, config, cohort_in(tmp_path, dims))
    geometry, seen = build_generator(config, 2).geometry, set()
    patches = Patches([subject], config, 2, geometry)
    for step in range(12):
        sample = patches.decide("train", step, 0)
        (source,) = patches.draw("train", step, [0]).reads[2]
        image = np.asarray(subject.sources[2][sample.variant][0])
        box = sample.reads[2]
        expected = read_padded(lambda b, a=image: a[b.slices], image.shape, box, -1.0)
        flipped = np.flip(expected, sample.mirrored) if sample.mirrored else expected
        np.testing.assert_array_equal(source[0], flipped)
        seen.add(sample.variant)
    assert len(seen) > 1


def test_a_generator_that_sees_the_source_never_sees_the_target_in_its_place(dims, tmp_path):
    config = config_of(dims)
    subject, _, _ = cached_of(tmp_path, config, cohort_in(tmp_path, dims))
    seen = {}
    for scale in (0, 2):
        geometry = build_generator(config, scale).geometry
        patches = Patches([subject], config, scale, geometry)
        seen[scale] = {patches.decide("train", step, 0).variant for step in range(24)}
    assert 0 in seen[0]
    assert seen[2]
    assert 0 not in seen[2]


def test_a_fresh_sample_sees_the_source_that_its_sketch_is_of(dims, tmp_path):
    labels = (2,)
    config = config_of(dims, labels, fresh=1.0, share=1.0)
    cohort = lesions(tmp_path, cohort_in(tmp_path, dims))
    subject, (most, _), marks = cached_of(tmp_path, config, cohort)
    assert subject.bytes == most
    geometry = build_generator(config, 2).geometry
    seen, plain = (
        Patches([s], config, 2, geometry, augmented=False)
        for s in (subject, replace(subject, label_maps=()))
    )
    hidden = maximum_filter(marks != 0, 2 * slope.MARGIN + 1)
    halo, wide = (geometry.reads[k].halo for k in (0, 2))
    for step in range(3):
        sample = seen.decide("train", step, 0)
        assert sample.fresh
        (source,) = seen.draw("train", step, [0]).reads[2][0].numpy()
        box = sample.reads[2]
        expected = read_padded(lambda b: hidden[b.slices], hidden.shape, box, False)
        np.testing.assert_array_equal(source == slope.HIDDEN, expected)
        # Without labels the sketch of that source is the sample's.
        batch = plain.draw("train", step, [0])
        around = batch.reads[2]
        assert (around[0, 0][torch.from_numpy(~expected)].numpy() == source[~expected]).all()
        drawn = sketch.sketch(around, config.sketch)
        near = wide - halo - sketch.halo(config.sketch)
        inner = (..., *(slice(near, -near or None),) * dims)
        box = sample.reads[0]  # of the image alone: beyond an image that ends there is no sketch
        image = (..., *box.clipped(subject.shape(2)).inside(box).slices)
        assert_close(drawn[inner][image], batch.reads[0][image], rtol=0, atol=2e-3)
    assert not torch.equal(*(seen.draw("train", k, [0]).reads[2] for k in (0, 1)))


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def trained(request, tmp_path_factory):
    """A guided run with labels, and its cohort."""
    folder = tmp_path_factory.mktemp("guided")
    cohort = lesions(folder, cohort_in(folder, request.param))
    # Steps so small that the validation improves on every processor, whatever it rounds.
    gentle = config_of(request.param, (2,)).updated(
        training={"steps": 20, "learning_rate": 5e-4, "validate_every": 2}
    )
    run = fit(cohort, "t2", gentle, folder / "run", device="cpu")
    assert type(run.generator(2)) is GuidedGenerator
    assert run.generator(2).rest.last.weight.abs().sum() > 0
    return run, cohort, folder


def test_contexts_are_what_a_translation_makes(trained, tmp_path, monkeypatch):
    """Of the image's own sketch and source, labels and all."""
    run, cohort, _ = trained
    monkeypatch.setattr(cache, "SKETCH_DTYPE", "float32")  # else halves are compared
    monkeypatch.setattr(contexts, "MEMORY", 0)
    labels = cohort["s1"].labels
    translate(
        run, cohort["s1"], tmp_path / "o.nii", labels=labels, device="cpu", keep=tmp_path / "kept"
    )
    with prepare(cohort["s1"], "t2", run.config.preparation, values=(2,)) as opened:
        subject = cached(opened, run.config, "data", tmp_path / "cache")
    for scale in (1, 2):
        found = contexts.generate_contexts(run, {"s1": subject}, scale, CPU)["s1"].generated
        expected = run.intensity.to_unit(whole(tmp_path / "kept" / f"y{scale - 1}.nii"))
        np.testing.assert_allclose(found[0][0], expected, rtol=0, atol=2e-4)
        assert (found[1] - found[0]).abs().max() > 1e-3


def test_a_run_knows_how_wrong_its_drawings_are(trained, tmp_path):
    """Of recoloured training images, outside labels; kept in its profile and not measured again."""
    run, cohort, folder = trained
    totals = np.zeros(2)
    for subject in map(cohort.__getitem__, run.data):
        with prepare(subject, "t2", run.config.preparation, values=(2,)) as opened:
            found = cached(opened, run.config, run.data[subject.name], folder / "run" / "cache")
        scene, shape = replace(found), found.shape(0)
        generator = optimised(run.generator(0), CPU)
        for variant in range(1, len(found.sketches[1])):
            blocks = contexts._scale(run, generator, scene, 0, variant, None, CPU)
            drawn = np.empty(shape, np.float32)
            for number in range(len(blocks)):
                box, values = blocks.compute(blocks.load(number))
                drawn[box.slices] = values
            truth, marks = (t[0][0].numpy() for t in (found.images, found.label_maps))
            seen = (drawn > -1) & (truth > -1) & (marks == 0)
            totals += seen.sum(), np.square(drawn - truth, dtype=np.float64)[seen].sum()
    assert run.profile.error == pytest.approx(totals[1] / totals[0], rel=1e-3)


def test_half_of_the_contexts_are_those_of_a_known_polarity(trained, tmp_path, monkeypatch):
    """As in a translation whose modality is known; of the others agreement decides."""
    run, cohort, _ = trained
    with prepare(cohort["s1"], "t2", run.config.preparation, values=(2,)) as opened:
        subject = cached(opened, run.config, "data", tmp_path / "cache")
    asked = []
    original = contexts.matching

    def watched(*arguments, **options):
        asked.append((options["inverted"], options["by"]))
        return original(*arguments, **options)

    monkeypatch.setattr(contexts, "matching", watched)
    contexts.generate_contexts(run, {"s2": subject}, 1, CPU)
    assert len(asked) == len(subject.sketches[1]) > 1
    assert [way is None for way, _ in asked] == [k % 2 == 0 for k in range(len(asked))]
    turned = []
    unmarked = subject.label_maps[0][0].numpy() == 0
    for image in subject.sources[-1][1::2]:
        shown, truth = image.float(), subject.images[0][0].numpy()
        for _ in range(2):
            shown = halve(shown, truth.ndim)
        seen = (shown[0].numpy() > -1) & (truth > -1) & unmarked
        turned.append(np.corrcoef(shown[0].numpy()[seen], truth[seen])[0, 1] < 0)
    assert [way for way, _ in asked[1::2]] == turned
    assert {by for _, by in asked} == {"modalities"}


def test_tiles_of_a_translation_agree_and_are_planned(trained, tmp_path):
    run, cohort, _ = trained
    images = []
    for tile in (None, 8, 14):
        done = translate(run, cohort["s2"], tmp_path / "o.nii", device="cpu", tile=tile)
        images.append(run.intensity.to_unit(whole(tmp_path / "o.nii")))
    assert np.ptp(images[0]) > 0.5
    assert len({scale.tiles for scale in done.plan.scales}) > 1
    for other in images[1:]:
        np.testing.assert_allclose(other, images[0], rtol=0, atol=2e-5)


def test_a_plan_tells_what_a_guided_tile_takes_and_how_long(trained):
    run, cohort, _ = trained
    plain = run.config.updated(guidance={"match": "none", "detail": False}).updated(labels=())
    with torch.device("meta"):
        meta = torch.device("meta")
        forms = [optimised(build_generator(c, 2), meta) for c in (run.config, plain)]
    shape = (48,) * run.config.dims
    more, less = (tiles.need(form, run.config, shape, shape) for form in forms)
    assert more.network > less.network
    assert more.beside > less.beside
    assert more.flops > less.flops
    with prepare(cohort["s2"], "t2", run.config.preparation, values=(2,)) as opened:
        planned = plan(Generation.of(run), opened, CPU, Limits(), probe=True)
    assert planned.seconds > 0
