"""LPIPS: the network against a plain computation, and slices of images of any size."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import reader
from program import fails, msgan_cli
from scipy.ndimage import gaussian_filter
from test_crossval import CT, RANGE, Shifted, save, study
from vgg_files import features_of, head_state, save_state, vgg_state

from msgan import metrics
from msgan.data.volume import open_volume
from msgan.metrics import header_of
from msgan.networks import lpips as network_module
from msgan.networks import vgg
from msgan.networks.lpips import Lpips
from msgan.studies.perceptual import Perceptual
from msgan.studies.table import Result, score_table
from msgan.types import Array, Box, InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Both files, which are gone after the tests: they are large."""
    folder = tmp_path_factory.mktemp("lpips")
    save_state(folder / "vgg16.safetensors", vgg_state(16))
    save_state(folder / "heads.pth", head_state())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def network(folder: Path) -> Lpips:
    return Lpips(folder / "vgg16.safetensors", folder / "heads.pth")


def images(shape: tuple[int, ...], seed: int = 0) -> tuple[Array, Array]:
    """In [-1, 1], smooth, and the same with noise."""
    rng = np.random.default_rng(seed)
    real = gaussian_filter(rng.normal(size=shape), 1.5)
    real /= abs(real).max()
    fake = np.clip(real + rng.normal(0, 0.2, shape), -1, 1)
    return fake.astype(np.float32), real.astype(np.float32)


def plain(fake: Array, real: Array, state: dict, heads: dict) -> float:
    """Of one slice, by NumPy alone."""
    shift, scale = ([[[-0.030]], [[-0.088]], [[-0.188]]], [[[0.458]], [[0.448]], [[0.450]]])
    both = [
        features_of((np.repeat(image[None].astype(float), 3, 0) - shift) / scale, state, 16)
        for image in (fake, real)
    ]
    total = 0.0
    for k, (f, r) in enumerate(zip(*both, strict=True)):
        f, r = (x / np.sqrt((x**2).sum(0)) for x in (f, r))
        head = heads[f"lin{k}.model.1.weight"].double().numpy()[0]
        total += (head * (f - r) ** 2).sum(0).mean()
    return total


class Blocks:
    """In the place of the network: blurred absolute differences, halved four times."""

    stride = 16

    def __init__(self, reach: int = 32) -> None:
        self.reach = reach
        self.seen: list[tuple[int, ...]] = []

    def maps(self, fake: Array, real: Array) -> list[Array]:
        self.seen.append(fake.shape)
        assert fake.dtype == real.dtype == np.float32
        found = [gaussian_filter(abs(fake - real), (0, 6, 6), mode="constant", truncate=5)]
        for _ in range(4):
            image = found[-1]
            b, h, w = image.shape[0], image.shape[1] // 2, image.shape[2] // 2
            found.append(image[:, : 2 * h, : 2 * w].reshape(b, h, 2, w, 2).max(axis=(2, 4)))
        return found

    def of_slices(self, fake: Array, real: Array) -> Array:
        return sum(m.mean(axis=(1, 2)) for m in self.maps(fake, real))


# --- the network -------------------------------------------------------------------------------


def test_a_slice_is_compared_as_a_plain_computation_does(network: Lpips) -> None:
    fake, real = images((37, 34))
    expected = plain(fake, real, vgg_state(16), head_state())
    assert expected > 0.01
    found = metrics.lpips(fake, real, network, data_range=2.0, black=-1.0)
    assert found == pytest.approx(expected, rel=1e-4)
    assert metrics.lpips(real, fake, network, data_range=2.0, black=-1.0) == pytest.approx(found)


def test_it_agrees_with_torchmetrics(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network, on our weights, with the heads that both read from its wheel."""
    theirs = pytest.importorskip(
        "torchmetrics.functional.image.lpips", reason="the extra 'perceptual' is not installed"
    )
    path = folder / "vgg16.safetensors"
    layers = vgg.load_vgg(16, path)
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_: layers)
    reference = theirs._NoTrainLpips(net="vgg")
    fake, real = images((48, 40))
    both = (torch.from_numpy(image).expand(1, 3, -1, -1) for image in (fake, real))
    with torch.inference_mode():
        expected = reference(*both).item()
    found = metrics.lpips(fake, real, Lpips(path), data_range=2.0, black=-1.0)
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected > 0.01


def test_features_depend_on_no_voxel_farther_than_stated() -> None:
    """Means in the place of the weights: every voxel in the field of view has an influence."""
    layers = vgg.vgg(16)[:-1]
    for layer in layers:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.constant_(layer.weight, 1 / (9 * layer.in_channels))
            torch.nn.init.zeros_(layer.bias)
    cell = 10

    def seen(row: int) -> bool:
        image = torch.zeros(1, 3, 400, 16)
        image[:, :, row] = 1e12
        with torch.inference_mode():
            return bool(layers(image)[0, 0, cell, 0] > 0)

    first, last = 16 * cell, 16 * cell + 15
    assert [seen(first - 91), seen(first - 90), seen(last + 90), seen(last + 91)] == [
        *(False, True, True, False)
    ]
    assert Lpips.reach >= 90
    assert Lpips.reach % Lpips.stride == 0


def test_large_slices_are_compared_in_squares(network: Lpips) -> None:
    fake, real = images((16, 300))
    args = (reader(fake), reader(real), real.shape, network)
    whole = metrics.lpips_of(*args, data_range=2.0, black=-1.0)
    parts = metrics.lpips_of(*args, data_range=2.0, black=-1.0, side=128)
    assert parts == pytest.approx(whole, rel=1e-5)


def test_the_label_says_which_file(network: Lpips, folder: Path) -> None:
    assert network.label.startswith("LPIPS 0.1, VGG-16 of torchvision, vgg16.safetensors (sha256 ")
    assert not any(p.requires_grad for p in network.parameters())


def test_without_its_files_it_says_what_to_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, heads = folder / "vgg16.safetensors", folder / "heads.pth"
    monkeypatch.delenv("MSGAN_VGG16", raising=False)
    with pytest.raises(InputError, match=r"^LPIPS needs the weights .* MSGAN_VGG16 to name"):
        Lpips(heads=heads)
    monkeypatch.setenv("MSGAN_VGG16", str(path))
    assert "vgg16.safetensors" in Lpips(heads=heads).label
    monkeypatch.setattr(network_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^LPIPS needs its linear heads, .*msgan\[perceptual\]'$"):
        Lpips(path)
    with pytest.raises(InputError, match=r"none\.pth: no such file: expected the weights of the"):
        Lpips(path, tmp_path / "none.pth")
    alex = {"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}
    alex |= {"lin1.model.1.weight": torch.zeros(1, 192, 1, 1)}
    with pytest.raises(InputError, match=r"alex\.pth: not of the linear heads .* for VGG: lin1"):
        Lpips(path, save_state(tmp_path / "alex.pth", alex))


# --- images of any size ------------------------------------------------------------------------


def test_it_is_the_mean_of_three_views_and_their_slices() -> None:
    fake, real = images((22, 19, 17))
    blocks = Blocks()
    views = [
        blocks.of_slices(*(np.moveaxis(image, axis, 0) for image in (fake, real))).mean()
        for axis in range(3)
    ]
    found = metrics.lpips(fake, real, blocks, data_range=2.0, black=-1.0)
    assert found == pytest.approx(np.mean(views), rel=1e-5)
    turned = (np.transpose(image, (2, 0, 1)) for image in (fake, real))
    assert metrics.lpips(*turned, blocks, data_range=2.0, black=-1.0) == pytest.approx(found)


def test_every_so_many_slices_come_from_the_middle_of_their_steps() -> None:
    fake, real = images((22, 19, 17))
    blocks = Blocks()
    views = [
        blocks.of_slices(*(np.moveaxis(image, axis, 0)[2::5] for image in (fake, real))).mean()
        for axis in range(3)
    ]
    found = metrics.lpips(fake, real, blocks, data_range=2.0, black=-1.0, every=5)
    assert found == pytest.approx(np.mean(views), rel=1e-5)
    one = metrics.lpips(fake, real, blocks, data_range=2.0, black=-1.0, every=100)
    last = [
        blocks.of_slices(*(np.moveaxis(image, axis, 0)[-1:] for image in (fake, real))).mean()
        for axis in range(3)
    ]
    assert one == pytest.approx(np.mean(last), rel=1e-5)


def test_squares_do_not_change_it_and_bound_what_is_read(dims: int) -> None:
    fake, real = images({2: (150, 83), 3: (83, 70, 37)}[dims])
    blocks, sizes = Blocks(), []

    def read(box: Box) -> Array:
        sizes.append(box.voxels)
        return fake[box.slices]

    args = (reader(real), real.shape, blocks)
    whole = metrics.lpips_of(reader(fake), *args, data_range=2.0, black=-1.0)
    parts = metrics.lpips_of(read, *args, data_range=2.0, black=-1.0, side=16)
    assert parts == pytest.approx(whole, rel=1e-5)
    assert max(sizes) <= (16 + 2 * blocks.reach) ** 2
    narrow = Blocks(reach=0)  # what the margin is for
    wrong = metrics.lpips_of(read, *args[:2], narrow, data_range=2.0, black=-1.0, side=16)
    assert abs(wrong / whole - 1) > 1e-2


def test_slices_count_that_show_the_mask() -> None:
    fake, real = images((22, 19, 17))
    mask = np.zeros(real.shape, bool)
    mask[4:9, 3:7, 6] = True
    blocks = Blocks()
    cuts = (slice(4, 9), slice(3, 7), slice(6, 7))
    views = [
        blocks.of_slices(*(np.moveaxis(image, a, 0)[cut] for image in (fake, real))).mean()
        for a, cut in enumerate(cuts)
    ]
    for side in (512, 16):
        found = metrics.lpips_of(
            *(reader(fake), reader(real), real.shape, blocks),
            **{"data_range": 2.0, "black": -1.0, "read_mask": reader(mask), "side": side},
        )
        assert found == pytest.approx(np.mean(views), rel=1e-5)


def test_equal_slices_need_no_network_and_count_as_zero(dims: int) -> None:
    fake, real = images((20,) * dims)
    blocks = Blocks()
    assert metrics.lpips(real, real, blocks, data_range=2.0, black=-1.0) == 0.0
    assert blocks.seen == []
    half = fake.copy()
    half[:10] = real[:10]
    found = metrics.lpips(half, real, blocks, data_range=2.0, black=-1.0)
    assert 0 < found < metrics.lpips(fake, real, blocks, data_range=2.0, black=-1.0)


def test_intensities_are_shown_in_the_networks_range(dims: int) -> None:
    """As linear maps to [-1, 1], clipped to it."""
    fake, real = images((20,) * dims)
    blocks = Blocks()
    expected = metrics.lpips(fake, real, blocks, data_range=2.0, black=-1.0)
    hu = (1000 * image + 50 for image in (fake, real))
    assert metrics.lpips(*hu, blocks, data_range=2000, black=-950) == pytest.approx(expected, 1e-4)
    far = np.where(fake > 0.99, 40.0, fake)
    bright = np.where(fake > 0.99, 1.0, fake)
    one, other = (metrics.lpips(a, real, blocks, data_range=2.0, black=-1.0) for a in (far, bright))
    assert one == pytest.approx(other)


def test_bad_input_is_named() -> None:
    image = np.zeros((20, 20, 20), np.float32)
    nan = image.copy()
    nan[3, 4, 5] = np.nan
    bad = [
        ({"fake": image[1:]}, "expected the same shape"),
        ({"fake": nan}, "fake: 1 voxels are NaN"),
        ({"fake": image[..., :15], "real": image[..., :15]}, "a side is shorter than 16 voxels"),
        ({"data_range": 0.0}, "data_range 0"),
        ({"every": 0}, "every 0"),
        ({"mask": np.zeros(image.shape, bool)}, "mask: empty mask"),
    ]
    for change, message in bad:
        given = {"fake": image, "real": image, "data_range": 1.0, "network": Blocks(), **change}
        with pytest.raises(InputError, match=message):
            metrics.lpips(**given)
    args = (reader(image), reader(image), image.shape, Blocks())
    with pytest.raises(InputError, match=r"side 24: expected .* a multiple of 16"):
        metrics.lpips_of(*args, data_range=1.0, side=24)
    with pytest.raises(InputError, match=r"for a box of size"):
        metrics.lpips_of(lambda _: image, *args[1:], data_range=1.0, side=16)


# --- tables and commands -----------------------------------------------------------------------


def test_the_column_of_a_table(tmp_path: Path) -> None:
    """Of slices that show the region; around the foreground the real image is background."""
    subject = study(tmp_path, 3, 1).subjects[0]
    with open_volume(subject.images["soft"]) as volume:
        real = volume.whole()
    made = save(tmp_path / "made.nii", real + np.random.default_rng(3).normal(0, 90, real.shape))
    with open_volume(made) as volume:
        fake = RANGE.to_unit(volume.whole())
    result = Result("m", made, subject, "sharp", "soft")
    blocks = Blocks()
    foreground = real > CT.foreground
    unit = {"data_range": 2.0, "black": -1.0}
    expected = metrics.lpips(
        *(fake, np.where(foreground, RANGE.to_unit(real), -1), blocks), mask=foreground, **unit
    )
    assert Perceptual(blocks, RANGE, CT)(result) == {"lpips": pytest.approx(expected)}
    with open_volume(subject.regions["lung"]) as volume:
        lung = volume.whole() != 0
    expected = metrics.lpips(fake, RANGE.to_unit(real), blocks, mask=lung, every=3, **unit)
    found = Perceptual(blocks, RANGE, CT, "lung", every=3)(result)
    assert found == {"lpips": pytest.approx(expected)}
    same = replace(result, path=subject.images["soft"])
    assert Perceptual(blocks, RANGE, CT, "image")(same) == {"lpips": 0.0}
    with pytest.raises(InputError, match="region 'heart' is none of"):
        Perceptual(blocks, RANGE, CT, "heart")(result)


def test_score_tables_take_it_as_a_measure_and_have_nmse(tmp_path: Path) -> None:
    cohort = study(tmp_path, 2, 2)
    table = score_table(
        {"shifted": Shifted(60.0)},
        cohort,
        *("sharp", "soft", RANGE, CT, tmp_path / "out"),
        measures=(Perceptual(Blocks(), RANGE, CT),),
    )
    assert (table["lpips"] > 0).all()
    assert header_of("lpips") == "LPIPS"
    for subject, found in zip(cohort, table["nmse"], strict=True):
        with open_volume(subject.images["soft"]) as volume:
            real = volume.whole().astype(float)
        with open_volume(subject.images["sharp"]) as volume:
            fake = volume.whole().astype(float) + 60
        inside = real > CT.foreground
        f, r = ((image[inside] + 1024) / 2048 for image in (fake, real))
        assert found == pytest.approx(((f - r) ** 2).sum() / (r**2).sum(), rel=1e-4)


def test_the_command_adds_it_on_request(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, real = images((16, 18, 17))
    paths = [save(tmp_path / f"{k}.nii", 500 * (x + 1)) for k, x in enumerate((fake, real))]
    weights, heads = folder / "vgg16.safetensors", folder / "heads.pth"
    monkeypatch.setattr(network_module, "_shipped_heads", lambda: heads)
    scaled = ("--data-range", 1000, "--black", 0, "--json", tmp_path / "scores.json")
    done = msgan_cli("evaluate", *paths, *scaled, "--lpips", weights)
    content = json.loads((tmp_path / "scores.json").read_text())["lpips"]
    expected = metrics.lpips(fake, real, Lpips(weights, heads), data_range=2.0, black=-1.0)
    assert content["value"] == pytest.approx(expected, rel=1e-3)
    assert f"lpips {content['value']:.4g}, whole image, slices of three views" in done.stdout
    assert content["network"] in done.stdout
    before = weights.read_bytes()[:1000]
    line = fails("evaluate", *paths, "--lpips", weights, "--json", weights, "--force")
    assert "vgg16.safetensors" in line
    assert weights.read_bytes()[:1000] == before
    line = fails("evaluate", *paths, "--lpips", tmp_path / "none.pth")
    assert "none.pth: no such file: expected the weights of torchvision's vgg16" in line
