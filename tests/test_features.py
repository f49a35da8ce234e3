import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from msgan.metrics.frechet import Moments, frechet_distance
from msgan.networks import features
from msgan.networks.features import HASHES, InceptionFeatures, SeededFeatures
from msgan.types import InputError


def patches(dims: int, seed: int = 0, count: int = 120) -> torch.Tensor:
    """Smooth random textures in [-1, 1]."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-0.6, 0.6, (count, 1, *[6] * dims))).float()
    mode = {2: "bilinear", 3: "trilinear"}[dims]
    return nn.functional.interpolate(coarse, scale_factor=2, mode=mode)


def moments(net: SeededFeatures, images: torch.Tensor) -> Moments:
    return Moments.of(net(images).numpy())


def test_weights_are_those_of_any_machine(dims: int) -> None:
    assert SeededFeatures(dims).weights_hash() == HASHES[dims]
    assert SeededFeatures(dims, seed=1).weights_hash() != HASHES[dims]
    torch.manual_seed(5)
    assert SeededFeatures(dims).weights_hash() == HASHES[dims]


def test_features_are_of_the_stated_size_and_never_learn(dims: int) -> None:
    net = SeededFeatures(dims, side=8)
    found = net(torch.zeros(3, 1, *[8] * dims))
    assert found.shape == (3, net.size)
    assert not any(p.requires_grad for p in net.parameters())
    assert "not comparable" in net.label


def test_features_of_a_patch_depend_on_that_patch_only(dims: int) -> None:
    net, images = SeededFeatures(dims), patches(dims, count=4)
    torch.testing.assert_close(net(images)[2:3], net(images[2:3]))


def test_contrast_filters_see_no_brightness(dims: int) -> None:
    net = SeededFeatures(dims)
    dark, bright = (net(torch.full((1, 1, *[16] * dims), v)) for v in (-0.5, 0.5))
    assert dark[0, :16].tolist() == pytest.approx([0.25, *[0] * 15], abs=1e-5)
    assert bright[0, :16].tolist() == pytest.approx([0.75, *[0] * 15], abs=1e-5)


def test_more_noise_and_more_blur_are_farther_away(dims: int) -> None:
    net, images = SeededFeatures(dims), patches(dims)
    other = moments(net, patches(dims, seed=1))
    noise = torch.from_numpy(np.random.default_rng(2).normal(size=images.shape)).float()
    noisy = [frechet_distance(moments(net, images + s * noise), other) for s in (0, 0.1, 0.2, 0.4)]
    assert noisy[0] < noisy[1] < noisy[2] < noisy[3]
    blurred, distances = images, []
    for _ in range(3):
        distances.append(frechet_distance(moments(net, blurred), other))
        for axis in range(2, 2 + dims):
            blurred = (blurred + blurred.roll(1, axis) + blurred.roll(-1, axis)) / 3
    assert distances[0] < distances[1] < distances[2]
    assert noisy[0] < 0.25 * noisy[1]  # other textures of one kind are near


@pytest.mark.parametrize("call", [lambda: SeededFeatures(1), lambda: SeededFeatures(3, side=4)])
def test_networks_that_do_not_exist_are_refused(call) -> None:
    with pytest.raises(InputError, match=r"^features of dims \d, side \d+: expected[^\n]+$"):
        call()


# --- Inception -----------------------------------------------------------------------------------


class Small(nn.Module):
    """In the place of torchvision's network: the same names where it matters, and tiny."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, features.INCEPTION_SIZE, 3, stride=64)
        self.norm = nn.BatchNorm2d(features.INCEPTION_SIZE)
        self.fc: nn.Module = nn.Linear(features.INCEPTION_SIZE, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (3, 299, 299)
        assert x.abs().max() <= 1
        return self.fc(self.norm(self.stem(x)).mean((2, 3)))


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    def inception_v3(*, weights, aux_logits, init_weights, transform_input) -> nn.Module:
        assert (weights, aux_logits, transform_input) == (None, False, False)
        return Small()

    models = types.ModuleType("torchvision.models")
    models.inception_v3 = inception_v3
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


def save(path: Path, state: dict) -> Path:
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_inception_is_loaded_from_a_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(3)
    wanted = Small().eval()
    state = {**wanted.state_dict(), "AuxLogits.fc.weight": torch.zeros(10, 4)}
    path = save(tmp_path / f"weights{suffix}", state)
    net = InceptionFeatures(path)
    images = torch.rand(2, 1, 64, 80) * 2 - 1
    found = net(images)
    assert found.shape == (2, net.size)
    wanted.fc = nn.Identity()
    resized = nn.functional.interpolate(images, (299, 299), mode="bilinear", antialias=True)
    torch.testing.assert_close(found, wanted(resized.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(net.train()(images[:1]), found[:1])  # no statistics of a batch
    assert path.name in net.label


@pytest.mark.usefixtures("torchvision")
def test_inception_is_used_where_its_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dims: int
) -> None:
    monkeypatch.delenv(features.INCEPTION, raising=False)
    assert [e.dims for e in features.extractors(dims)] == [dims]
    path = save(tmp_path / "weights.pth", Small().state_dict())
    monkeypatch.setenv(features.INCEPTION, str(path))
    assert [type(e) for e in features.extractors(dims)] == [SeededFeatures, InceptionFeatures]


class Trap:
    """What a pickle may do when it is read."""

    def __reduce__(self):
        return Path.touch, (Path("opened"),)


@pytest.mark.usefixtures("torchvision")
def test_no_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"stem.weight": Trap()}, "evil.pth")
    with pytest.raises(InputError, match=r"^evil\.pth: cannot be read as weights[^\n]*$"):
        InceptionFeatures("evil.pth")
    assert not Path("opened").exists()
    torch.load("evil.pth", weights_only=False)
    assert Path("opened").exists()  # the trap works


@pytest.mark.usefixtures("torchvision")
def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    state = Small().state_dict()
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    less = {k: v for k, v in state.items() if k != "stem.bias"}
    faults = {
        tmp_path / "absent.pth": "no such file",
        tmp_path / "text.pth": "cannot be read as weights",
        tmp_path / "text.safetensors": "cannot be read as weights",
        save(tmp_path / "less.pth", less): r"not of torchvision's inception_v3: .*stem\.bias",
        save(tmp_path / "list.pth", [torch.zeros(1)]): "not a state dict",
        save(tmp_path / "tf.pth", {**state, "fc.weight": torch.zeros(1008, 2048)}): "TensorFlow",
    }
    for path, message in faults.items():
        with pytest.raises(InputError, match=rf"^[^\n]*{path.name}: {message}[^\n]*$"):
            InceptionFeatures(path)


def test_without_torchvision_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    path = save(tmp_path / "weights.pth", Small().state_dict())
    with pytest.raises(InputError, match=r"^torchvision cannot .*msgan\[inception\]'$"):
        InceptionFeatures(path)


@pytest.mark.slow
def test_the_real_network_takes_its_own_weights(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="the extra 'inception' is not installed")
    torch.manual_seed(0)
    path = save(tmp_path / "random.pth", features._inception().state_dict())
    found = InceptionFeatures(path)(torch.rand(1, 1, 96, 96) * 2 - 1)
    assert found.shape == (1, 2048)
    assert found.isfinite().all()
