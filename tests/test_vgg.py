"""VGG from a file in torchvision's layout, and what is no such file."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from vgg_files import features_of, save_state, vgg_state

from msgan.networks import vgg
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Both files, which are gone after the tests: they are large."""
    folder = tmp_path_factory.mktemp("vgg")
    save_state(folder / "vgg19.safetensors", vgg_state(19))
    classifier = {"classifier.0.weight": torch.zeros(2, 2)}
    torch.save(
        {**vgg_state(16), **classifier},
        folder / "vgg16.pth",
        _use_new_zipfile_serialization=False,  # as torchvision's own file
    )
    yield folder
    shutil.rmtree(folder)


def test_the_layers_have_torchvisions_numbers() -> None:
    """Its last convolutions are features.28 and features.34; 14.7 and 20.0 million numbers."""
    for depth, last, numbers in ((16, 28, 14_714_688), (19, 34, 20_024_384)):
        with torch.device("meta"):
            network = vgg.vgg(depth)
        assert max(int(name.split(".")[0]) for name in network.state_dict()) == last
        assert sum(p.numel() for p in network.parameters()) == numbers
        assert len(network) == {16: 31, 19: 37}[depth]


def test_blocks_of_vgg16_are_those_of_a_plain_computation(folder: Path) -> None:
    image = np.random.default_rng(0).normal(size=(3, 35, 33))
    expected = features_of(image, vgg_state(16), 16)
    x = torch.from_numpy(image).float()[None]
    for k, block in enumerate(vgg.vgg16_blocks(folder / "vgg16.pth")):
        x = block(x)
        assert x.shape[1:] == (vgg.WIDTHS[k], 35 >> k, 33 >> k)
        np.testing.assert_allclose(x[0].numpy(), expected[k], atol=1e-4 * expected[k].max())


def test_features_of_vgg19_are_those_of_a_plain_computation(folder: Path) -> None:
    network = vgg.Vgg19Features(folder / "vgg19.safetensors")
    grey = torch.rand(1, 1, 32, 48, requires_grad=True)
    found = network(vgg.as_photograph(grey))
    three = np.repeat(grey[0].detach().double().numpy(), 3, axis=0)
    mean, deviation = (np.reshape(v, (3, 1, 1)) for v in (vgg.MEAN, vgg.DEVIATION))
    expected = features_of((three - mean) / deviation, vgg_state(19), 19)[-1]
    assert found.shape == (1, 512, 2, 3)
    np.testing.assert_allclose(found[0].detach().numpy(), expected, atol=1e-4 * expected.max())
    found.sum().backward()
    assert grey.grad is not None
    assert (grey.grad != 0).float().mean() > 0.99  # gradients pass, to every pixel
    assert not any(p.requires_grad for p in network.parameters())


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    before = torch.get_rng_state()
    vgg.load_vgg(16, folder / "vgg16.pth")
    assert torch.equal(before, torch.get_rng_state())


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in vgg_state(16).items()}
    path = save_state(tmp_path / "half.safetensors", state)
    network = vgg.load_vgg(16, path)
    path.unlink()
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    torch.testing.assert_close(network[0].weight.data, state["features.0.weight"].float())


def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, folder: Path) -> None:
    narrow = vgg_state(16, divide=4)
    first = {
        f"features.0.{n}": torch.zeros(s) for n, s in (("weight", (64, 3, 3, 3)), ("bias", 64))
    }
    owner = r"not of torchvision's vgg16"
    faults = {
        tmp_path / "absent.pth": "no such file",
        tmp_path: "no such file",
        save_state(tmp_path / "narrow.pth", narrow): (
            rf"{owner}: features\.0\.weight has shape \(16, 3, 3, 3\), expected \(64, 3, 3, 3\)"
        ),
        folder / "vgg19.safetensors": rf"{owner}: unknown features\.\d+\.",
        save_state(tmp_path / "norm.pth", {**first, "features.1.weight": torch.ones(64)}): (
            rf"{owner}: unknown features\.1\.weight"
        ),
        save_state(tmp_path / "less.safetensors", first): rf"{owner}: no features\.2\.weight",
        save_state(
            tmp_path / "nan.safetensors", {**first, "features.0.bias": torch.full((64,), torch.nan)}
        ): r"features\.0\.bias: expected finite numbers",
        save_state(
            tmp_path / "whole.pth", {**first, "features.0.bias": torch.zeros(64, dtype=torch.int)}
        ): r"features\.0\.bias: expected finite numbers",
        save_state(tmp_path / "list.pth", [torch.zeros(1)]): "not a state dict",
        save_state(tmp_path / "other.pth", {"fc.weight": torch.zeros(1)}): f"{owner}: no features",
    }
    torch.save(narrow, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_state(tmp_path / "new.safetensors", narrow)
    for whole in ("narrow.pth", "old.pth", "new.safetensors"):
        content = (tmp_path / whole).read_bytes()
        for share in (0.0, 0.01, 0.67, 0.999):
            cut = tmp_path / f"{share}_{whole}"
            cut.write_bytes(content[: int(len(content) * share)])
            faults[cut] = "cannot be read as weights"
    for path, message in faults.items():
        with pytest.raises(InputError, match=rf"^[^\n]*{path.name}: {message}[^\n]*$"):
            vgg.load_vgg(16, path)


def test_files_are_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in vgg.FILES.values():
        monkeypatch.delenv(name, raising=False)
    assert vgg.weights_file(16) is None
    monkeypatch.setenv("MSGAN_VGG19", "there/vgg19.pth")
    assert vgg.weights_file(19) == Path("there/vgg19.pth")
    assert vgg.weights_file(16) is None
