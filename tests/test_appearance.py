"""Random appearances of an image: any tiling, one seed, cached and drawn anew."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import head, stored
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close
from training import ALL, cuda, gpu, patches, same, shape_of, tiny, with_

from msgan import pyramid, sketch
from msgan.appearance import Appearance, colours, levels
from msgan.appearance.colours import Clusters, Convolutions, Curve
from msgan.appearance.places import Field, Filter, Slices
from msgan.config import ContrastAugmentation
from msgan.data.cohort import prepare
from msgan.data.grid import Grid
from msgan.data.volume import write_volume
from msgan.pyramid import halve
from msgan.training import cache
from msgan.training.cache import cached
from msgan.training.fresh import FreshImage
from msgan.types import Box, read_extended

pytestmark = pytest.mark.usefixtures("one_thread")

RICH = ContrastAugmentation(share=1, noise=0.08, kind="rich")
KERNEL = ContrastAugmentation(share=1, noise=0.08, kind="kernel")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def texture(shape, seed=0):
    """A smooth texture with background around."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    noise = noise / np.abs(noise).max()
    return torch.from_numpy(np.where(sum(a**2 for a in axes) < 0.9, noise, -1)).float()


def drawn(config, dims, seed, image=None):
    return Appearance.draw(config, dims, seed, None if image is None else levels(image))


def applied(appearance, image, box=None, factor=1, seed=0):
    """A box of an image, in an appearance."""
    box = box or Box.whole(image.shape)
    around = box.grown(appearance.halo(factor))
    near = read_extended(lambda b: image[b.slices], Box.whole(image.shape), around)
    return appearance.apply(near, box, tuple(image.shape), generator(seed), factor)


def silent(config):
    return config.model_copy(update={"noise": 0.0})


# --- one appearance ------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [RICH, KERNEL], ids=lambda c: c.kind)
@pytest.mark.parametrize("factor", [1, 2])
def test_a_patch_with_its_halo_is_that_of_the_whole_image(dims, config, factor):
    image = texture((40, 36, 30)[:dims])
    box = Box((5, 11, 9)[:dims], (9, 12, 7)[:dims])
    beyond = Box((-4, 30, -3)[:dims], (9, 12, 7)[:dims])
    for seed in range(40):
        appearance = drawn(silent(config), dims, seed, image)
        wide = Box.whole(image.shape).grown(12)
        whole = applied(appearance, image, wide, factor)
        for part in (box, beyond):
            alone = applied(appearance, image, part, factor)
            assert_close(alone, whole[part.inside(wide).slices], rtol=0, atol=2e-4)


@pytest.mark.parametrize("config", [RICH, KERNEL], ids=lambda c: c.kind)
def test_background_stays_background_and_the_range_is_kept(dims, config):
    image = texture((40, 36, 30)[:dims])
    different = 0
    for seed in range(30):
        out = applied(drawn(config, dims, seed, image), image)
        assert (out[image == -1] == -1).all()
        assert out.min() >= -1
        assert out.max() <= 1
        assert out.isfinite().all()
        different += bool((out - image)[image > -1].abs().mean() > 0.02)
    assert different > 25


def test_a_kernel_whose_image_is_filtered_again_is_cut_off_at_air_alone(dims):
    image, above = texture((40, 36, 30)[:dims]), 0
    for seed in range(30):
        whole, cut = (
            applied(Appearance.draw(silent(KERNEL), dims, seed, cut=each), image)
            for each in (False, True)
        )
        assert_close(whole.clamp(max=1), cut, rtol=0, atol=0)
        above += bool(whole.max() > 1)
    assert above > 5


@pytest.mark.parametrize("config", [RICH, KERNEL], ids=lambda c: c.kind)
def test_a_seed_decides_an_appearance_and_another_generator_the_noise(dims, config):
    image = texture((24, 20, 16)[:dims])
    one, other = (applied(drawn(config, dims, 3, image), image) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, applied(drawn(config, dims, 4, image), image))
    loud = applied(drawn(config, dims, 3, image), image, seed=1)
    quiet = applied(drawn(silent(config), dims, 3, image), image)
    assert not torch.equal(one, loud)
    inside = (image > -1) & (quiet.abs() < 0.7)
    assert 0.001 < (loud - quiet)[inside].std() < 0.085
    assert (loud - quiet)[inside].mean().abs() < 0.02


def test_all_kinds_of_colours_and_places_are_drawn(dims):
    many = [drawn(RICH, dims, seed) for seed in range(200)]
    kinds = {type(colour) for one in many for colour in one.colours}
    assert kinds == {Curve, Clusters, Convolutions}
    for share in (
        sum(len(one.colours) == 2 for one in many),
        sum(one.bias is not None for one in many),
        sum(any(s for _, s in one.filter.terms) for one in many),
        sum(one.slices.thickness > 1 for one in many),
        sum(any(s for _, s in one.texture.terms) for one in many),
    ):
        assert 20 < share < 180
    curves = [c.values.diff() for one in many for c in one.colours if isinstance(c, Curve)]
    steady = sum(bool((c >= 0).all() or (c <= 0).all()) for c in curves)
    assert 10 < steady < len(curves) - 10  # the others turn
    assert max(max(one.halo()) for one in many) <= 4 + 5 + 8


def test_recolouring_keeps_the_background_and_maps_voxel_by_voxel(dims):
    image = texture((12,) * dims)
    config = ContrastAugmentation(share=1.0, noise=0.0, knots=5)
    appearance = Appearance.draw(config, dims, 1)
    assert appearance.halo() == (0,) * dims
    out = applied(appearance, image)
    assert (out[image == -1] == -1).all()
    assert (out - image).abs().max() > 0.1
    # Any order of the voxels gives the same voxels.
    order = torch.randperm(image.numel(), generator=generator(5))
    shuffled = applied(appearance, image.flatten()[order].view(image.shape))
    assert torch.equal(shuffled.flatten(), out.flatten()[order])


def test_recolouring_is_a_continuous_curve_and_differs_between_variants():
    grey = torch.linspace(-0.99, 1, 4001)
    config = ContrastAugmentation(share=1.0, noise=0.0, knots=4)
    curves = [applied(Appearance.draw(config, 2, k), grey[None])[0] for k in range(12)]
    for curve in curves:
        assert curve.diff().abs().max() < 0.003  # at most 1.8 over a third of the range
        slopes = curve.diff() / grey.diff()
        bends = (slopes.diff().abs() > 0.01).nonzero().flatten()
        knots = (grey[bends + 1][:, None] - torch.tensor([-1 / 3, 1 / 3])).abs().amin(dim=1)
        assert knots.max() < 0.002
    assert min((a - b).abs().max() for a, b in pairwise(curves)) > 0.05
    falling = sum(bool((c.diff() < -1e-5).any()) for c in curves)
    assert falling > 0  # bright may become dark


def test_recolouring_draws_what_it_always_has():
    """Knots, then the strength of the noise, from one generator: older caches stay valid."""
    image, config = texture((20, 30)), ContrastAugmentation(share=1.0, noise=0.1)
    rng = generator(7)
    values = torch.rand(config.knots, generator=rng) * 1.8 - 0.8
    strength = config.noise * float(torch.rand((), generator=rng))
    place = (image + 1) / 2 * (config.knots - 1)
    low = place.floor().clamp(max=config.knots - 2).long()
    expected = torch.lerp(values[low], values[low + 1], place - low)
    expected = expected + strength * torch.randn(image.shape, generator=generator(3))
    expected = torch.where(image > -1, expected.clamp(-1, 1), -1.0)
    assert torch.equal(applied(Appearance.draw(config, 2, 7), image, seed=3), expected)


# --- its parts -----------------------------------------------------------------------------------


def test_levels_are_quantiles_of_the_foreground(dims, monkeypatch):
    image = torch.full((20,) * dims, -1.0)
    image[5:] = torch.rand((15, *[20] * (dims - 1)), generator=generator())
    assert_close(levels(image), torch.linspace(0, 1, colours.LEVELS), rtol=0, atol=0.15)
    assert levels(image).diff().min() > 0
    monkeypatch.setattr(colours, "SAMPLED", 100)
    assert_close(levels(image), torch.linspace(0, 1, colours.LEVELS), rtol=0, atol=0.3)
    nothing = levels(torch.full((4,) * dims, -1.0))
    assert_close(nothing, torch.linspace(-1, 1, colours.LEVELS))


def test_clusters_have_their_own_means_and_gains():
    clusters = Clusters(
        torch.tensor([-0.5, 0.0, 0.5]), torch.tensor([0.9, -0.7, 0.1]), torch.tensor([0.0, 1, -1])
    )
    image = torch.tensor([-0.9, -0.3, -0.2, 0.1, 0.4, 0.6])
    expected = torch.tensor([0.9, 0.9, -0.9, -0.6, 0.2, 0.0])
    assert_close(clusters(image), expected)


def test_random_convolutions_keep_the_energy_of_flat_regions(dims):
    given = torch.linspace(-0.6, 0.9, 17)
    halos = set()
    for seed in range(30):
        layers = Convolutions.draw(generator(seed), dims, given)
        halos.add(layers.halo)
        side = 2 * layers.halo + 1
        flat = torch.stack([layers(torch.full((side,) * dims, v.item())) for v in given]).flatten()
        assert_close(flat.mean(), given.mean(), rtol=0, atol=1e-2)
        assert 0.1 * given.std() < flat.std() < 1.02 * given.std()
    assert halos >= {1, 2, 3}


def test_a_field_is_smooth_and_the_same_at_every_scale(dims):
    shape = (48, 40, 32)[:dims]
    field = Field.draw(generator(1), dims)
    whole = field(Box.whole(shape), shape, torch.device("cpu"))
    assert whole.std() > 0.3
    assert max(whole.diff(dim=a).abs().max() for a in range(dims)) < 0.8
    coarse = tuple(n // 2 for n in shape)
    below = field(Box.whole(coarse), coarse, torch.device("cpu"))
    assert_close(below, halve(whole, dims), rtol=0, atol=0.1)


def test_kernels_change_fine_detail_within_slices_only(dims):
    flat = torch.full((40, 40, 12)[:dims], 0.3)
    noise = 0.05 * torch.randn(flat.shape, generator=generator())
    ramp = torch.linspace(-0.5, 0.5, flat.shape[-1])
    softer = sharper = 0
    for seed in range(30):
        kernel = drawn(silent(KERNEL), dims, seed)
        assert_close(applied(kernel, flat), flat, rtol=0, atol=1e-5)  # HU stay HU
        if dims == 3:
            levels_ = flat * 0 + ramp
            assert_close(applied(kernel, levels_), levels_, rtol=0, atol=1e-5)
        out = applied(kernel, flat + noise) - flat
        softer += bool(out.std() < 0.95 * noise.std())
        sharper += bool(out.std() > 1.05 * noise.std())
    assert softer > 5
    assert sharper > 5


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_kernels_are_as_often_sharper_as_asked(dims, share):
    flat = torch.full((40, 40, 12)[:dims], 0.3)
    noise = 0.05 * torch.randn(flat.shape, generator=generator())
    config = silent(KERNEL).updated(sharper=share)
    for seed in range(20):
        changed = applied(drawn(config, dims, seed), flat + noise).std() - noise.std()
        assert changed > 0 if share else changed < 1e-6


def test_coloured_noise_has_the_stated_strength(dims):
    image = torch.zeros((64, 64, 24)[:dims])
    for texture_ in (
        Filter(((1.0, 0.0),)),
        Filter(((1.0, 1.0),)),
        Filter(((3.0, 0.0), (-2.0, 1.0)), True),
    ):
        noisy = applied(Appearance(dims, noise=0.05, texture=texture_), image)
        assert abs(noisy.std() - 0.05) < 0.005


def test_thick_slices_are_means_with_lines_between(dims):
    image = torch.randn((24, 12, 12)[:dims], generator=generator())
    slices = Slices(0, 4)
    box = Box((8, *[0] * (dims - 1)), (8, *image.shape[1:]))
    found = slices(image[:24], box)  # halo 8 on both sides
    middle = (image[8:12].mean(dim=0), image[12:16].mean(dim=0))
    for k in range(4):  # voxels 10..13 lie 0.5..3.5 voxels above the middle of slice 2, at 9.5
        share = (k + 0.5) / 4
        assert_close(found[2 + k], middle[0] * (1 - share) + middle[1] * share)
    assert slices.at(2) == Slices(0, 2)
    assert slices.at(8).halo(dims) == (0,) * dims


def test_without_anything_an_image_appears_as_it_is(dims):
    image = texture((20,) * dims)
    assert torch.equal(applied(Appearance(dims), image), image)


# --- in a run ------------------------------------------------------------------------------------


def test_older_configurations_keep_their_hash(dims):
    assert set(ContrastAugmentation(share=0.5).model_dump()) == {
        "share",
        "variants",
        "knots",
        "noise",
    }
    config = with_(tiny(dims), "contrast", kind="rich", fresh=0.5)
    assert config.model_dump()["contrast"]["kind"] == "rich"
    assert type(config).model_validate(config.model_dump()) == config
    assert cache.key(config, "a") != cache.key(tiny(dims), "a")


def cached_with(folder, config, labelled=True, bleeding=False, seed=0):
    """A cached subject, with labels, whose image goes on beyond its faces or not."""
    shape = shape_of(config.dims)
    image = head(shape, seed)
    if bleeding:
        image = image + 10
    folder.mkdir(exist_ok=True)
    path = stored(folder / f"{seed}.nii", image)
    marks = None
    if labelled:
        labels = np.zeros(shape, np.uint8)
        labels[tuple(slice(n // 2, n // 2 + 4) for n in shape)] = 3
        labels[tuple(n // 2 for n in shape)] = 1
        labels[tuple(slice(0, 2) for n in shape)] = 1  # at the border
        marks = folder / "labels.nii"
        grid = Grid.from_spacing(shape, (1.0,) * config.dims)
        write_volume(marks, grid, lambda box: labels[box.slices], dtype=np.uint8)
    with prepare(path, None, config.preparation, marks) as subject:
        return cached(subject, config, "data", folder / "cache")


def anew(dims, kind="rich", labels=(1, 3), **contrast):
    config = with_(tiny(dims), "sketch", channels=ALL)
    options = {"share": 1.0, "variants": 1, "kind": kind, "fresh": 1.0} | contrast
    return config.updated(contrast=options, labels=labels, training={"mirror": (0, 1)})


@pytest.mark.parametrize("bleeding", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("scale", [0, 1, 2])
def test_as_it_is_a_fresh_sketch_is_that_of_the_cache(
    dims, tmp_path, monkeypatch, bleeding, labelled, scale
):
    config = anew(dims)
    subject = cached_with(tmp_path, config, labelled, bleeding)
    assert (subject.rims is not None) == bleeding
    monkeypatch.setattr(Appearance, "draw", lambda config, dims, *rest: Appearance(dims))
    sampler = patches([subject], config, scale, augmented=False)
    drawn_anew = sampler.draw("train", 0, range(8))
    assert all(sampler.decide("train", 0, k).fresh for k in range(8))
    own = cache.CachedSubject(  # the image's own sketch in the place of the variant's
        subject.name,
        subject.images,
        ((), *[(first, first) for first, *_ in subject.sketches[1:]]),
        subject.labelled,
        rims=subject.rims,
    )
    plain = patches([own], config.updated(contrast={"fresh": 0.0}), scale, augmented=False)
    expected = plain.draw("train", 0, range(8))
    assert same(drawn_anew, expected)
    assert drawn_anew.reads[0].std() > 0.05


def test_a_fresh_sketch_shows_another_appearance_and_the_same_labels(dims, tmp_path):
    config = anew(dims)
    subject = cached_with(tmp_path, config)
    box = Box.whole(subject.shape(2))

    def anew_with(seed):
        around = box.grown(sketch.halo(config.sketch))
        return FreshImage(subject, config, 2, around, seed, torch.device("cpu")).sketch(box)

    first, other = anew_with(1), anew_with(2)
    own = subject.sketches[2][0]
    assert first.shape == own.shape
    assert first.dtype == own.dtype
    assert not torch.equal(first, other)
    inside = subject.label_maps[2][0] > 0
    assert inside.any()
    for found in (first, other):
        assert torch.equal(found[:, inside], own[:, inside])
    assert not torch.equal(first[:, ~inside], own[:, ~inside])
    assert torch.equal(first, anew_with(1))


def test_a_share_of_recoloured_samples_is_fresh(dims, tmp_path):
    config = anew(dims, share=0.5, fresh=0.5, variants=2)
    subject = cached_with(tmp_path, config)
    sampler = patches([subject], config, 2)
    samples = [sampler.decide("train", k, 0) for k in range(300)]
    assert 100 < sum(bool(s.variant) for s in samples) < 200
    assert 45 < sum(s.fresh for s in samples) < 110
    assert all(s.variant for s in samples if s.fresh)
    batch = sampler.draw("train", 1, range(6))
    for k in (4, 0):  # alone, in another order
        alone = sampler.draw("train", 1, [k])
        assert torch.equal(alone.reads[0][0], batch.reads[0][k])
    # What is drawn anew changes nothing else of a sample.
    none = patches([subject], config.updated(contrast={"fresh": 0.0}), 2)
    for k, sample in enumerate(samples):
        other = none.decide("train", k, 0)
        assert (other.reads, other.variant, other.seed) == (
            sample.reads,
            sample.variant,
            sample.seed,
        )


@pytest.mark.parametrize("kind", ["rich", "kernel"])
def test_a_cached_variant_is_one_appearance_however_it_is_cut(dims, tmp_path, monkeypatch, kind):
    config = anew(dims, kind, labels=(), variants=3, noise=0.0)
    one = cached_with(tmp_path / "one", config)
    monkeypatch.setitem(pyramid.CHUNK, dims, 12)
    other = cached_with(tmp_path / "other", config)
    for scale in (1, 2):
        for a, b in zip(one.sketches[scale], other.sketches[scale], strict=True):
            far = (a.float() - b.float()).abs() > 2e-3  # an edge decided by the last bit
            assert far.float().mean() < 2e-3
        assert not torch.equal(one.sketches[scale][0], one.sketches[scale][1])
        assert not torch.equal(one.sketches[scale][1], one.sketches[scale][2])


def test_labels_are_kept_only_where_they_are_laid_over_fresh_sketches(dims, tmp_path):
    plain = cached_with(tmp_path / "plain", anew(dims, fresh=0.0))
    assert plain.label_maps == ()
    assert cached_with(tmp_path / "bare", anew(dims), labelled=False).label_maps == ()
    kept = cached_with(tmp_path / "kept", anew(dims))
    assert [x.shape for x in kept.label_maps] == [x.shape for x in kept.images]
    assert kept.bytes - plain.bytes == sum(4 * x.numel() for x in kept.label_maps)
    for places, marks in zip(kept.labelled, kept.label_maps, strict=True):
        assert len(places) == int((marks > 0).sum())


@gpu
@cuda
@pytest.mark.parametrize("kind", ["rich", "kernel"])
def test_a_gpu_draws_the_same_appearances(dims, tmp_path, kind):
    config = anew(dims, kind, noise=0.0)
    there = torch.device("cuda", 0)
    subject = cached_with(tmp_path, config)
    here = patches([subject], config, 2, augmented=False).draw("train", 0, range(6))
    for moved in (subject, subject.to(there)):
        batch = patches([moved], config, 2, augmented=False, device=there)
        found = batch.draw("train", 0, range(6))
        assert {x.device for x in found.reads} == {there}
        far = (found.reads[0].cpu() - here.reads[0]).abs() > 5e-3
        assert far.float().mean() < 5e-3
        assert torch.equal(found.targets[0].cpu(), here.targets[0])
