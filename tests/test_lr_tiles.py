import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from msgan.networks.lr_generators import LocalLowGenerator, MeganLowGenerator
from msgan.types import Box


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that let every voxel count, biases that let every zero of the padding count."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = 1.4 * noise / parameter[0].numel() ** 0.5
        else:
            parameter.data += 0.3 * noise
    return network.eval().requires_grad_(False)


def local(dims: int, levels: int, width: int = 3, border: int = 0) -> LocalLowGenerator:
    return randomised(LocalLowGenerator(dims, 2, width, levels, 0.2, border))


def made(network, sketch, boxes):
    """The image from its boxes, each made alone from the sketch of its own cut."""
    shape = tuple(n // 2 for n in sketch.shape[2:])
    out = torch.full((1, 1, *shape), torch.nan, dtype=sketch.dtype)
    border = network.geometry.border
    beyond = F.pad(sketch, [2 * border] * 2 * len(shape))
    origin = Box.whole(shape).grown(border)
    for box in boxes:
        cut = network.geometry.cut(box, shape)
        detail, core = cut.detail, cut.core
        assert cut.reads == (detail.scaled(2),)
        (part,) = network(beyond[(..., *detail.inside(origin).scaled(2).slices)])
        assert part.shape[2:] == detail.size
        out[(..., *core.slices)] = part[(..., *core.inside(detail).slices)]
    return out


def whole_and_tiles(dims, levels, shape, side, border=0):
    """In double precision: what is left between them is a mistake, not rounding."""
    network = local(dims, levels, border=border).double()
    sketch = torch.rand(1, 2, *[2 * n for n in shape], generator=torch.manual_seed(1)).double()
    whole = made(network, sketch, [Box.whole(shape)])
    assert torch.equal(whole, network(sketch)[0]) == (not border)
    assert whole.std() > 0.1
    boxes = list(Box.whole(shape).tiles(side))
    cuts = [network.geometry.cut(box, shape).detail for box in boxes]
    assert any(cut.size != tuple(shape) for cut in cuts), "every tile saw the whole image"
    return whole, made(network, sketch, boxes)


# Sides that are no multiples of anything, tiles that start and end anywhere.
@torch.no_grad()
@pytest.mark.parametrize(
    ("levels", "shape", "side"),
    [
        (1, (17, 23), (5, 7)),
        (1, (3, 31), (2, 4)),
        (2, (17, 53), (5, 9)),
        (2, (50, 1), (3, 1)),
        (3, (5, 131), (5, 13)),
        (3, (97, 90), (20, 33)),
        (4, (3, 251), (3, 40)),
    ],
)
def test_any_tiling_gives_the_whole_image_2d(levels, shape, side):
    whole, tiled = whole_and_tiles(2, levels, shape, side)
    assert_close(tiled, whole, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize(
    ("levels", "shape", "side"),
    [(1, (7, 13, 9), (3, 4, 5)), (2, (3, 5, 51), (2, 5, 8)), (3, (1, 2, 121), (1, 2, 9))],
)
def test_any_tiling_gives_the_whole_image_3d(levels, shape, side):
    whole, tiled = whole_and_tiles(3, levels, shape, side)
    assert_close(tiled, whole, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize(
    ("levels", "shape", "side", "border"),
    [(1, (17, 23), (5, 7), 3), (2, (17, 53), (5, 9), 2), (3, (5, 131), (5, 13), 8)],
)
def test_any_tiling_gives_the_whole_image_and_its_border(levels, shape, side, border):
    whole, tiled = whole_and_tiles(2, levels, shape, side, border)
    assert_close(tiled, whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.slow
def test_the_halo_is_what_gradients_reach(dims, levels):
    """One axis long enough for it; the other ones do not matter."""
    network = local(dims, levels, width=6).double()
    halo, align = network.geometry.rim, network.geometry.align
    side = 2 * (2 * halo + 4 * align)
    sketch = torch.rand(1, 2, *[4] * (dims - 1), side, dtype=torch.float64)
    reach = 0
    for place in range(align):
        voxel = halo + 2 * align + place
        voxel += -(voxel - place) % align  # every place between the strides
        image = sketch.clone().requires_grad_()
        network(image)[0][..., voxel].sum().backward()
        seen = image.grad.abs().flatten(0, -2).amax(dim=0).nonzero().flatten()
        assert seen[0] > 0
        assert seen[-1] < side - 1
        reach = max(reach, voxel - int(seen[0]) // 2, int(seen[-1]) // 2 - voxel)
    assert reach == halo


def test_a_cut_is_aligned_inside_and_ends_with_the_image(dims):
    made = local(dims, 3).geometry
    assert made.align == 4
    shape = (333,) * dims
    cut = made.cut(Box((150,) * dims, (9,) * dims), shape)
    core, detail = cut.core, cut.detail
    assert core == Box((150,) * dims, (9,) * dims)
    for a, b, start, stop in zip(core.start, core.stop, detail.start, detail.stop, strict=True):
        assert start % 4 == stop % 4 == 0
        assert 0 <= a - start - made.rim < 4
        assert 0 <= stop - b - made.rim < 4
    cut = made.cut(Box((330,) * dims, (9,) * dims), shape)
    assert cut.core.stop == cut.detail.stop == shape
    assert all(a % 4 == 0 for a in cut.detail.start)
    assert made.cut(Box((-5,) * dims, (9,) * dims), shape).detail.start == (0,) * dims
    made = local(dims, 3, border=8).geometry
    cut = made.cut(Box((330,) * dims, (9,) * dims), shape)
    assert cut.core.stop == shape
    assert cut.detail.stop == (341,) * dims
    assert all(a % 4 == 0 for a in cut.detail.start)
    assert made.cut(Box((-5,) * dims, (9,) * dims), shape).detail.start == (-8,) * dims


def test_the_published_family_sees_the_whole_image(dims):
    made = MeganLowGenerator(dims, 1, 4, 2, 0.0).geometry
    assert (made.whole, made.exact, made.rim, made.align, made.border) == (True, False, 0, 1, 0)
    shape = (16, 12, 20)[:dims]
    core = Box((4,) * dims, (8,) * dims)
    cut = made.cut(core, shape)
    assert (cut.detail, cut.core) == (Box.whole(shape), core)
