"""Generators that see the source: detail by slope transfer, and what is learnt on top."""

import numpy as np
import pytest
import torch
from test_networks import randomised
from torch.testing import assert_close

from msgan.match import slope
from msgan.networks.discriminators import condition
from msgan.networks.hr_generators import GuidedGenerator
from msgan.networks.inference import GuidedInference, optimised
from msgan.patches import Tiling
from msgan.pyramid import enlarge, extended
from msgan.types import Box

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
    images, whole = scene(dims), Box.whole(SHAPE[:dims])
    torch.manual_seed(0)
    generator = GuidedGenerator(dims, 2, 6, 1)
    expected = slope.carried(of(images[2], dims), of(images[1], dims), masked=masked)(whole)
    assert_close(tiled(generator, images, 40).numpy(), expected, rtol=0, atol=1e-5)
    assert (expected[:9] == -1).all()
    # It is more than interpolation, and can learn.
    assert np.abs(expected - enlarge(of(images[1], dims), images[1].shape)(whole)).mean() > 0.05
    with torch.enable_grad():
        boxes = generator.geometry.read_boxes(whole)
        parts = [of(x, dims)(box) for x, box in zip(images, boxes, strict=True)]
        parts = [torch.from_numpy(x)[(None,) * (dims + 2 - x.ndim)] for x in parts]
        generator(*parts)[0].square().sum().backward()
    assert all(p.grad is not None for p in generator.parameters())
    assert generator.rest.last.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_any_tiling_gives_the_whole_image(dims):
    generator, images = guided(dims), scene(dims)
    images[2][HOLE[:dims]] = slope.HIDDEN
    whole = tiled(generator, images, 40)
    assert whole.std() > 0.1
    for tile in (8, 16, 24):
        assert_close(tiled(generator, images, tile), whole, rtol=0, atol=1e-5)


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
    hole, whole = HOLE[:dims], Box.whole(SHAPE[:dims])
    inside = np.zeros(x.shape, bool)
    inside[hole] = True
    x[inside] = slope.HIDDEN
    out = slope.carried(of(x, dims), of(y, dims), masked=masked)(whole)
    smooth = enlarge(of(y, dims), y.shape)(whole)
    np.testing.assert_allclose(out[inside], smooth[inside], rtol=0, atol=1e-5)
    # The estimate in the label, a bright tumour, changes no slope around it.
    other, coarse = y.copy(), tuple(slice(s.start // 2, s.stop // 2) for s in hole)
    other[coarse] = 0.9
    moved = np.abs(slope.carried(of(x, dims), of(other, dims), masked=masked)(whole) - out)
    beside = np.zeros(x.shape, bool)  # what interpolation reaches
    beside[tuple(slice(s.start - 2, s.stop + 2) for s in hole)] = True
    assert moved[~beside].max() == 0
    assert moved[inside].max() > 0.3


@pytest.mark.parametrize("margin", [0, 3])
def test_labels_hide_the_source_within_a_margin(dims, margin):
    _, _, x = scene(dims)
    labels = np.zeros(x.shape, np.uint8)
    labels[(slice(12, 14),) * dims] = 2
    hidden = slope.hiding(of(x, dims), of(labels, dims), margin=margin)
    expected = x.copy()
    expected[(slice(12 - margin, 14 + margin),) * dims] = slope.HIDDEN
    whole = Box.whole(x.shape)
    np.testing.assert_array_equal(hidden(whole), expected)
    for box in whole.tiles((7, 9, 11)[:dims]):
        np.testing.assert_array_equal(hidden(box), expected[box.slices])
    assert hidden(whole).dtype == np.float32


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
        seen = slope.hiding(of(changed, dims), of(labels, dims))
        images = sketch, context, seen(Box.whole(source.shape))
        results.append(tiled(generator, images, 40))
    assert torch.equal(results[0], results[1])
    assert (results[2] - results[0]).abs().max() > 0.01
