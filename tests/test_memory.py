import pytest
import torch
from torch import nn

from msgan.config import CascadeConfig, NetworkConfig, SketchConfig, TrainConfig
from msgan.memory import largest_tile, peak_bytes, tile_bytes
from msgan.networks import layers
from msgan.networks.high import FAMILIES
from msgan.patches import Cut
from msgan.types import Box, InputError


def config(dims: int, family: str = "seamless") -> CascadeConfig:
    return CascadeConfig(
        dims=dims,
        sketch=SketchConfig(channels=("edges", "ridges")),
        network=NetworkConfig(family=family),
        training=TrainConfig(steps=1, low_steps=1),
    )


def generator(dims: int, family: str = "seamless", width: int = 8) -> nn.Module:
    return FAMILIES[family](dims, 2, width, 1)


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


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_of_a_tile_hold_at_least_its_inputs_and_output(dims, family):
    network = generator(dims, family)
    tile = network.patch or 16
    side = tile - 2 * network.rim
    cut = Cut.of(network, Box((0,) * dims, (side,) * dims))
    least = 4 * (2 * cut.sketch.voxels + cut.context.voxels + cut.detail.voxels)
    need = tile_bytes(network, config(dims, family), tile)
    assert least < need < 1000 * least
    assert next(network.parameters()).device.type == "cpu"  # it was left where it is


def test_larger_tiles_and_wider_networks_need_more(dims):
    tiles = (8, 16, 32)
    sizes = [tile_bytes(generator(dims), config(dims), t) for t in tiles]
    assert sizes == sorted(set(sizes))
    wide = tile_bytes(generator(dims, width=16), config(dims), 16)
    assert sizes[1] < wide


def test_the_largest_tile_fits_and_grows_with_memory(dims):
    network = generator(dims)
    previous = 0
    for megabytes in (8, 16, 64, 256, 1024):
        memory = megabytes << 20
        tile = largest_tile(network, memory, config(dims))
        assert tile % 2 == 0
        assert tile >= previous
        assert tile_bytes(network, config(dims), tile) <= memory
        previous = tile
    assert previous > largest_tile(network, 8 << 20, config(dims))


def test_the_published_family_runs_at_its_own_size_only(dims):
    network = generator(dims, "paper", 2)
    assert largest_tile(network, 1 << 40, config(dims, "paper")) == 32


@pytest.mark.parametrize("family", FAMILIES)
def test_too_little_memory_is_an_error_that_names_the_sizes(dims, family):
    with pytest.raises(InputError) as error:
        largest_tile(generator(dims, family), 1 << 14, config(dims, family))
    text = str(error.value)
    smallest = 32 if family == "paper" else 8 if dims == 3 else 16
    need = tile_bytes(generator(dims, family), config(dims, family), smallest)
    assert "memory 0 MiB" in text
    assert f"tile of side {smallest}" in text
    assert f"needs {need / 2**20:.0f} MiB" in text
    assert "\n" not in text


def measured(network: nn.Module, cut: Cut) -> int:
    """Peak of PyTorch's allocator on this CPU, the scratch of its kernels included."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with (
        torch.inference_mode(),
        torch.profiler.profile(activities=activities, profile_memory=True) as trace,
    ):
        network(torch.zeros(1, 2, *cut.sketch.size), torch.zeros(1, 1, *cut.context.size))
    events = [e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN kernels")
# In 3D on both sides of the size from which PyTorch takes another kernel.
@pytest.mark.parametrize(
    ("dims", "family", "width", "tile"),
    [
        (2, "seamless", 16, 256),
        (2, "seamless", 64, 64),
        (2, "paper", 64, 32),
        (3, "seamless", 16, 16),
        (3, "seamless", 16, 32),
        (3, "seamless", 16, 64),
        (3, "seamless", 64, 24),
        (3, "paper", 16, 32),
    ],
)
def test_predicted_bytes_bound_what_is_measured(dims, family, width, tile):
    network = generator(dims, family, width).eval()
    side = tile - 2 * network.rim
    peak = measured(network, Cut.of(network, Box((0,) * dims, (side,) * dims)))
    predicted = tile_bytes(network, config(dims, family), tile)
    assert peak <= predicted <= 2.2 * peak
