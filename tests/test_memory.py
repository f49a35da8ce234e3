import numpy as np
import pytest
import torch
from helpers import CASCADES
from torch import nn

from msgan import pyramid
from msgan.config import CascadeConfig, SketchConfig, TrainConfig, network_of
from msgan.memory import tiles
from msgan.memory.count import counted, peak_bytes
from msgan.networks import inference, layers
from msgan.patches import Block, Tiling
from msgan.translate.scratch import chunk


def config(dims: int, family: str = "seamless") -> CascadeConfig:
    return CascadeConfig(
        dims=dims,
        sketch=SketchConfig(channels=("edges", "ridges")),
        network=network_of(family=family),
        training=TrainConfig(steps=1, lr_steps=1),
    )


def generator(dims: int, family: str = "seamless", width: int = 8) -> nn.Module:
    return CASCADES[family].hr(dims, 2, width, 1)


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def test_bytes_of_a_network_counted_by_hand(dims):
    """x -conv-> a -relu-> b -conv-> c; each step frees what nothing needs any more."""
    first, second = (layers.conv(dims, c, o, 3, padding=1).to("meta") for c, o in ((2, 5), (5, 3)))
    voxels = 8**dims * 4

    def inference() -> torch.Tensor:
        with torch.inference_mode():
            x = first(meta(1, 2, *[8] * dims))  # 2 + 5 channels, then 5
            x = torch.relu(x)  # 5 + 5, then 5
            return second(x)  # 5 + 3

    assert peak_bytes(inference) == 10 * voxels

    def kept() -> list[torch.Tensor]:
        x = meta(1, 2, *[8] * dims)
        a = first(x)
        b = torch.relu(a)
        return [x, a, b, second(b)]

    assert peak_bytes(kept) == 15 * voxels


def test_views_and_work_in_place_cost_nothing(dims):
    def work() -> torch.Tensor:
        x = meta(4, *[8] * dims)
        y = x.view(2, 2, *[8] * dims).flip(0)
        y.add_(1)
        return y[0].transpose(0, 1)

    assert peak_bytes(work) == 2 * 4 * 8**dims * 4


def test_training_keeps_what_the_backward_pass_needs(dims):
    layer = layers.conv(dims, 1, 4, 3, padding=1).to("meta")
    weights = sum(p.numel() for p in layer.parameters())
    out, image = 4 * 8**dims, 8**dims

    def work() -> None:
        y = layer(meta(1, 1, *[8] * dims))
        y.sigmoid().sum().backward()

    # x, y, sigmoid(y) and at least one gradient of that size; the gradient of the weights.
    peak = peak_bytes(work)
    layer.zero_grad()
    assert 4 * (image + 3 * out) <= peak <= 4 * (image + 4 * out + weights + 8)


def test_counting_computes_nothing(dims):
    side = 100_000 if dims == 2 else 2_000
    layer = layers.conv(dims, 1, 1, 3, padding=1).to("meta")
    assert peak_bytes(lambda: layer(meta(1, 1, *[side] * dims))) == 8 * side**dims


def ready(dims: int, family: str = "seamless", width: int = 8) -> nn.Module:
    return inference.optimised(generator(dims, family, width), torch.device("cpu"))


@pytest.mark.parametrize("family", CASCADES)
def test_a_tile_needs_at_least_its_inputs_and_output(dims, family):
    network, tile = ready(dims, family), (40,) * dims
    block = Tiling(network.geometry, tile, tile)[0]
    need = tiles.need(network, config(dims, family), tile, tile)
    boxes = [(*cut.reads, cut.core) for cut in block.cuts]
    least = sum(2 * s.voxels + c.voxels + d.voxels for s, c, d in boxes)
    assert 4 * least < need.network - tiles.KERNELS < 4000 * least
    assert need.beside > 4 * sum(box.voxels for box in (*block.reads, block.core))
    assert next(network.parameters()).device.type == "cpu"  # it was left where it is


def test_operations_are_those_of_the_convolutions(dims):
    """Of the published network, layer by layer."""
    network = CASCADES["megan"].hr(dims, 2, 8, 1)
    work = [(32, 3, 3, 8), (16, 4, 8, 16), (8, 4, 16, 32), (8, 3, 32, 32), (8, 3, 32, 32)]
    work += [(8, 4, 32, 16), (16, 4, 16, 8), (32, 7, 8, 1)]  # a transposed one by its input
    expected = sum(2 * (side * kernel) ** dims * i * o for side, kernel, i, o in work)
    inputs = [meta(1, c, *[32] * dims) for c in (2, 1)]
    network = network.to("meta")
    assert counted(lambda: network(*inputs)).flops == expected


def test_larger_tiles_and_wider_networks_need_more(dims):
    sides = (8, 16, 32)
    needs = [tiles.need(ready(dims), config(dims), (t,) * dims, (t,) * dims) for t in sides]
    for name in ("network", "beside", "flops"):
        values = [getattr(need, name) for need in needs]
        assert values == sorted(set(values))
    wide = tiles.need(ready(dims, width=16), config(dims), (16,) * dims, (16,) * dims)
    assert needs[1].network < wide.network
    assert needs[1].beside == wide.beside


def test_a_tile_of_a_form_is_counted_once(dims, monkeypatch):
    made, count = [], tiles._counted
    monkeypatch.setattr(
        tiles, "_counted", lambda form, work: made.append(form) or count(form, work)
    )
    form, wide = ready(dims), ready(dims, width=16)
    asked = [(form, 16), (form, 16), (wide, 16), (form, 8), (form, 16)]
    needs = [tiles.need(own, config(dims), (t,) * dims, (t,) * dims) for own, t in asked]
    assert made == [form, wide, form]
    assert needs[0] == needs[1] == needs[4]
    assert len({need.network for need in needs}) == 3


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tiles_to_try_split_an_image_evenly(dims, device):
    for shape in ((182, 218, 183), (64, 64, 64), (1000, 30, 2)):
        shape = shape[:dims]
        found = list(tiles.candidates(shape, device))
        assert len(set(found)) == len(found)
        for tile in found:
            for n, side in zip(shape, tile, strict=True):
                assert side % 2 == 0
                assert all(c >= side / 16 for c in chunk((side,) * dims))
                # No fewer tiles of this side would do, and the last is not a sliver.
                count = -(-n // side)
                assert n - (count - 1) * side > 0
                assert count * side - n < 2 * count * -(-side // pyramid.CHUNK[dims])
        sizes = [np.prod(tile) for tile in found]
        assert sizes == sorted(sizes, reverse=True)
    core = list(tiles.candidates((100,) * dims, device, core=20))
    assert core[-1] == (20,) * dims
    assert all(side % 20 == 0 for tile in core for side in tile)


def test_s0_needs_its_halo_until_the_image_ends(dims):
    network = inference.optimised(CASCADES["seamless"].lr(dims, 2, 4, 2, 0.0), torch.device("cpu"))
    small, large = (8,) * dims, (16,) * dims
    wide = (128,) * dims
    needs = [tiles.need(network, config(dims), wide, tile) for tile in (small, large, wide)]
    assert needs[0].network < needs[1].network < needs[2].network
    alone = tiles.need(network, config(dims), small, small)
    assert alone.network < needs[0].network


def measured(network: nn.Module, block: Block) -> int:
    """Peak of PyTorch's allocator on this CPU, the scratch of its kernels included."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with (
        torch.inference_mode(),
        torch.profiler.profile(activities=activities, profile_memory=True) as trace,
    ):
        count, cut = len(block.cuts), block.cuts[0]
        sketch, context = (box.size for box in cut.reads)
        network.core(torch.zeros(count, 2, *sketch), torch.zeros(count, 1, *context))
    events = [e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN kernels")
@pytest.mark.parametrize(
    ("dims", "family", "width", "tile"),
    [
        (2, "seamless", 16, 256),
        (2, "seamless", 64, 64),
        (2, "megan", 64, 40),
        (3, "seamless", 16, 32),
        (3, "seamless", 16, 64),
        (3, "seamless", 64, 24),
        (3, "megan", 16, 40),
    ],
)
def test_predicted_bytes_bound_what_is_measured(dims, family, width, tile):
    network = ready(dims, family, width)
    sides = (tile,) * dims
    peak = measured(network, Tiling(network.geometry, sides, sides)[0])
    predicted = tiles.need(network, config(dims, family), sides, sides).network
    assert peak <= predicted <= 2.2 * peak + tiles.KERNELS
