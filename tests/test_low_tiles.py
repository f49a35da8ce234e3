import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from msgan.networks.low import LocalLowGenerator, PaperLowGenerator, low_cut
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
    beyond = F.pad(sketch, [2 * network.border] * 2 * len(shape))
    origin = Box.whole(shape).grown(network.border)
    for box in boxes:
        detail, core = low_cut(network, box, shape)
        part = network(beyond[(..., *detail.inside(origin).scaled(2).slices)])
        assert part.shape[2:] == detail.size
        out[(..., *core.slices)] = part[(..., *core.inside(detail).slices)]
    return out


def whole_and_tiles(dims, levels, shape, side, border=0):
    """In double precision: what is left between them is a mistake, not rounding."""
    network = local(dims, levels, border=border).double()
    sketch = torch.rand(1, 2, *[2 * n for n in shape], generator=torch.manual_seed(1)).double()
    whole = made(network, sketch, [Box.whole(shape)])
    assert torch.equal(whole, network(sketch)) == (not border)
    assert whole.std() > 0.1
    boxes = list(Box.whole(shape).tiles(side))
    cuts = [low_cut(network, box, shape)[0] for box in boxes]
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
def test_the_halo_is_what_gradients_reach(dims, levels):
    """One axis long enough for it; the other ones do not matter."""
    network = local(dims, levels, width=6).double()
    side = 2 * (2 * network.halo + 4 * network.align)
    sketch = torch.rand(1, 2, *[4] * (dims - 1), side, dtype=torch.float64)
    reach = 0
    for place in range(network.align):
        voxel = network.halo + 2 * network.align + place
        voxel += -(voxel - place) % network.align  # every place between the strides
        image = sketch.clone().requires_grad_()
        network(image)[..., voxel].sum().backward()
        seen = image.grad.abs().flatten(0, -2).amax(dim=0).nonzero().flatten()
        assert seen[0] > 0
        assert seen[-1] < side - 1
        reach = max(reach, voxel - int(seen[0]) // 2, int(seen[-1]) // 2 - voxel)
    assert reach == network.halo


def test_a_cut_is_aligned_inside_and_ends_with_the_image(dims):
    network = local(dims, 3)
    assert network.align == 4
    shape = (333,) * dims
    detail, core = low_cut(network, Box((150,) * dims, (9,) * dims), shape)
    assert core == Box((150,) * dims, (9,) * dims)
    for a, b, start, stop in zip(core.start, core.stop, detail.start, detail.stop, strict=True):
        assert start % 4 == stop % 4 == 0
        assert 0 <= a - start - network.halo < 4
        assert 0 <= stop - b - network.halo < 4
    detail, core = low_cut(network, Box((330,) * dims, (9,) * dims), shape)
    assert core.stop == detail.stop == shape
    assert all(a % 4 == 0 for a in detail.start)
    assert low_cut(network, Box((-5,) * dims, (9,) * dims), shape)[0].start == (0,) * dims
    network.border = 8
    detail, core = low_cut(network, Box((330,) * dims, (9,) * dims), shape)
    assert core.stop == shape
    assert detail.stop == (341,) * dims
    assert all(a % 4 == 0 for a in detail.start)
    assert low_cut(network, Box((-5,) * dims, (9,) * dims), shape)[0].start == (-8,) * dims


def test_the_published_family_sees_the_whole_image(dims):
    network = PaperLowGenerator(dims, 1, 4, 2, 0.0)
    assert (network.tile_exact, network.halo, network.align) == (False, 0, 1)
    shape = (16, 12, 20)[:dims]
    core = Box((4,) * dims, (8,) * dims)
    assert low_cut(network, core, shape) == (Box.whole(shape), core)
