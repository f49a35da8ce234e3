import numpy as np
import pytest
import torch
from torch.testing import assert_close

from msgan.networks.generator import Geometry, View
from msgan.networks.hr_generators import MeganGenerator, SeamlessGenerator
from msgan.patches import Tiling, crop_padded
from msgan.types import Box


def generator(family: str, dims: int, blocks: int = 1) -> Geometry:
    if family == "megan":
        return MeganGenerator(dims, 1, 2, 1).geometry
    return SeamlessGenerator(dims, 1, 2, blocks).geometry


@pytest.mark.parametrize("blocks", [1, 3])
def test_the_cut_of_the_seamless_family(dims, blocks):
    core = Box((4, -6, 0)[:dims], (8, 10, 2)[:dims])
    made = generator("seamless", dims, blocks)
    cut = made.cut(core, (40,) * dims)
    sketch, context = cut.reads
    assert cut.core == cut.detail == core
    assert context == Box((2, -3, 0)[:dims], (4, 5, 1)[:dims]).grown(made.reads[1].halo)
    assert sketch == core.grown(made.reads[0].halo)
    assert context.scaled(2) == sketch


def test_the_cut_of_the_megan_family(dims):
    cut = generator("megan", dims).cut(Box((20,) * dims, (20,) * dims), (40,) * dims)
    sketch, context = cut.reads
    assert cut.detail == sketch == Box((14,) * dims, (32,) * dims)
    # 32 voxels at half the resolution see twice the width around the same centre.
    assert context == Box((-1,) * dims, (32,) * dims)
    wide = context.scaled(2)
    middle = [tuple(a + b for a, b in zip(x.start, x.stop, strict=True)) for x in (wide, cut.core)]
    assert middle[0] == middle[1]


def test_a_generator_may_read_and_make_several_resolutions(dims):
    """As the next paper has it: patches of 96 of the source, two coarser ones in the same place."""
    sources = tuple(View("source", -k) for k in range(3))
    made = Geometry(sources, tuple(View("target", -k) for k in range(3)), align=4, patch=96)
    core = Box((-4, 8, 100)[:dims], (96,) * dims)
    cut = made.cut(core, (200,) * dims)
    assert cut.core == cut.detail == core
    assert cut.reads == made.make_boxes(core)
    for k, box in enumerate(cut.reads):
        assert box.scaled(2**k) == core
    with pytest.raises(ValueError, match="multiples of 4 voxels"):
        made.cut(core.shifted((2,) * dims), (200,) * dims)
    with pytest.raises(ValueError, match="align 2 is not a multiple of 4"):
        Geometry(sources)
    with pytest.raises(ValueError, match="border 6 is not a multiple of align 4"):
        Geometry((View("sketch", 1),), align=4, border=6)


def test_a_generator_of_neither_side_nor_exact_tiles_makes_the_whole_image(dims):
    made = Geometry((View("sketch", 0, 3), View("below", -1)), rim=2)
    cut = made.cut(Box((4,) * dims, (2,) * dims), (20,) * dims)
    assert made.whole
    assert cut.detail == Box((-2,) * dims, (24,) * dims)
    assert [box.size for box in cut.reads] == [(30,) * dims, (12,) * dims]


def test_cuts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="even voxels"):
        generator("seamless", 2).cut(Box((1, 0), (8, 8)), (40, 40))
    with pytest.raises(ValueError, match="even voxels"):
        generator("seamless", 2).cut(Box((0, 0), (8, 7)), (40, 40))
    with pytest.raises(ValueError, match="not a patch of side 32"):
        generator("megan", 2).cut(Box((0, 0), (20, 22)), (40, 40))
    for shape, tile in (((8, 9), 4), ((8, 8), 3)):
        with pytest.raises(ValueError, match="must be even"):
            Tiling(generator("seamless", 2), shape, (tile, tile))
    with pytest.raises(ValueError, match="not a multiple of the kept side 20"):
        Tiling(generator("megan", 2), (60, 60), (40, 30))


@pytest.mark.parametrize("shift", [0, 6])
@pytest.mark.parametrize("family", ["megan", "seamless"])
def test_cores_cover_the_image_once(dims, family, shift):
    shape = (46, 40, 22)[:dims]
    made = generator(family, dims)
    tile = (40, 20, 40)[:dims] if family == "megan" else (16, 24, 8)[:dims]
    tiling = Tiling(made, shape, tile, shift)
    count = np.zeros(shape, int)
    assert len(tiling) == len(list(tiling))
    for block in tiling:
        assert max(block.core.size) <= max(tile)
        cores = np.zeros(shape, int)
        for cut in block.cuts:
            assert cut.detail.size == (32,) * dims or family == "seamless"
            assert cut.core.clipped(shape).voxels
            cores[cut.core.clipped(shape).slices] += 1
            for part, hull in zip(cut.reads, block.reads, strict=True):
                assert part.inside(hull).clipped(hull.size) == part.inside(hull)
        own = np.zeros(shape, int)
        own[block.core.slices] = 1
        assert (cores == own).all()
        count += own
    assert (count == 1).all()
    with pytest.raises(IndexError):
        tiling[len(tiling)]


def test_a_block_of_published_patches_reads_what_they_share_once():
    tiling = Tiling(generator("megan", 3), (80, 80, 80), (40, 40, 40))
    block = tiling[len(tiling) - 1]
    assert len(block.cuts) == 8
    assert [box.size for box in block.reads] == [(52,) * 3, (42,) * 3]


def test_cropping_out_of_the_image_fills(dims):
    image = torch.arange(6.0**dims).reshape(1, 1, *(6,) * dims)
    padded = torch.full((1, 1, *(16,) * dims), -1.0)
    padded[(..., *[slice(5, 11)] * dims)] = image
    for box in Box((-5,) * dims, (16,) * dims).tiles((4, 7, 5)[:dims]):
        out = crop_padded(image, box, -1.0)
        assert out.dtype == image.dtype
        assert_close(out, padded[(..., *box.shifted((5,) * dims).slices)], rtol=0, atol=0)


@pytest.mark.parametrize("family", ["megan", "seamless"])
def test_stitching_the_crops_gives_the_image(dims, family):
    shape = (46, 40, 22)[:dims]
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, *shape)))
    out = torch.full_like(image, torch.nan)
    for block in Tiling(generator(family, dims), shape, (20,) * dims):
        for cut in block.cuts:
            detail = crop_padded(image, cut.detail, 0.0)
            inside = cut.core.clipped(shape)
            out[(..., *inside.slices)] = detail[(..., *inside.inside(cut.detail).slices)]
    assert_close(out, image, rtol=0, atol=0)
