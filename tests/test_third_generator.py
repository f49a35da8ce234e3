"""Generators and a family that this package does not know, by what it asks of them."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from helpers import cohort_in, pairs, source_in, tiny, whole
from test_cascade import rows
from torch import nn
from torch.testing import assert_close

from msgan import config as configuration
from msgan.config import PairNetwork
from msgan.data.volume import open_volume
from msgan.memory.training import step_cost
from msgan.methods.cascade import fit
from msgan.methods.image_pairs import ImagePairs, of_pairs
from msgan.networks import families, inference, layers
from msgan.networks.cyclegan import as_image
from msgan.networks.generator import Generator, Geometry, View
from msgan.pyramid import halve, upsample
from msgan.runs.model import export
from msgan.runs.run import Run
from msgan.training.step import build_generator
from msgan.translate import translate
from msgan.translate.scale import ImageSource, TiledScale, make
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


class TwoResolutions(Generator):
    """Makes a scale and its half from the context and, unpadded, the sketch."""

    def __init__(self, dims, channels, width, blocks):
        super().__init__()
        self.geometry = Geometry(
            (View("below", -1, halo=2), View("sketch", 0, halo=2)),
            (View("target", 0), View("target", -1)),
            exact=True,
        )
        self.first = layers.conv(dims, channels, width, 3)
        self.last = layers.conv(dims, width, 1, 3)

    def forward(self, context, sketch):
        base = upsample(layers.crop(context, 1), context.ndim - 2)
        image = base + self.last(torch.tanh(self.first(sketch)))
        return image, halve(image, image.ndim - 2)


class Patchwise(Generator):
    """Runs at one size and pads; keeps less than it makes."""

    def __init__(self, dims, channels, width, blocks):
        super().__init__()
        self.geometry = Geometry((View("sketch", 0), View("below", -1, halo=1)), rim=2, patch=12)
        self.body = layers.conv(dims, channels + 1, 1, 5, padding=2)

    def forward(self, sketch, context):
        base = upsample(context, context.ndim - 2)
        return (self.body(torch.cat((sketch, base), dim=1)),)


class Framed(Generator):
    """Pads, sees a border of 4 voxels around the image, and has exact tiles all the same."""

    def __init__(self, dims, channels, width, blocks):
        super().__init__()
        reads = (View("sketch", 0), View("below", -1))
        self.geometry = Geometry(reads, rim=3, align=2, border=4, exact=True)
        self.body = layers.conv(dims, channels + 1, 1, 3, padding=1)

    def forward(self, sketch, context):
        for axis in range(2, context.ndim):
            context = context.repeat_interleave(2, axis)
        return (self.body(torch.cat((sketch, context), dim=1)),)


KINDS = (TwoResolutions, Patchwise, Framed)


@pytest.fixture
def seamless(monkeypatch):
    """Puts another generator into the place of the seamless family's."""

    def become(kind):
        own = replace(families.FAMILIES["seamless"], hr=kind)
        monkeypatch.setitem(families.FAMILIES, "seamless", own)

    return become


@pytest.mark.parametrize("gan", ["least_squares", "relativistic"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_and_translates(kind, gan, dims, tmp_path, seamless):
    seamless(kind)
    config, cohort = tiny(dims, gan=gan, steps=20, mirror=(0,)), cohort_in(tmp_path, dims)
    run = fit(cohort, "t2", config, tmp_path / "run", device="cpu")
    assert type(Run.open(run.folder).generator(1)) is kind
    (row,) = rows(run.folder, 2)
    assert row["step"] == 20
    assert {"adversarial", "discriminator", "accuracy"} < row.keys()
    assert np.isfinite(row["loss"])
    translate(run, cohort["s2"], tmp_path / "out.nii", device="cpu")
    with open_volume(tmp_path / "out.nii") as result, open_volume(tmp_path / "2.nii") as source:
        assert result.grid == source.grid
        assert result.whole().std() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_any_tiling_gives_one_image(kind, dims, seamless):
    """That of one call where the geometry says so; else at least all of it, once."""
    seamless(kind)
    generator = build_generator(tiny(dims), 1).requires_grad_(False)
    shape, rng = (40, 28, 16)[:dims], np.random.default_rng(0)
    inside = (..., *(slice(6, 16),) * dims)
    drawn, below = np.zeros((1, *shape), np.float32), np.full(shape, -1, np.float32)
    below = below[(slice(None, None, 2),) * dims].copy()
    drawn[inside] = rng.random((10,) * dims)
    below[(slice(3, 8),) * dims] = rng.uniform(-1, 1, (5,) * dims)
    ready = inference.optimised(generator, CPU)
    assert ready.geometry == generator.geometry

    class Drawn(ImageSource):
        def load(self, box):
            inside, out = box.clipped(shape), np.zeros((1, *box.size), np.float32)
            out[0][inside.inside(box).slices] = drawn[0][inside.slices]
            return out[0]

    sketch = Drawn(None, shape, CPU)
    known = {"sketch": sketch, "below": ImageSource(lambda b: below[b.slices], below.shape, CPU)}
    reads = tuple(known[view.image] for view in generator.geometry.reads)
    images = []
    for tile in (8, 16, 40):
        scale = TiledScale(ready, reads, shape, (tile,) * dims, CPU)
        out = np.full(shape, np.nan, np.float32)
        for _, box, values in make(scale, range(len(scale))):
            out[box.slices] = values
        images.append(out)
    assert images[0].std() > 0.02
    for other in images[1:]:
        assert_close(other, images[0], rtol=0, atol=1e-5)


class MirrorNetwork(PairNetwork):
    """Sizes of a family of pairs."""

    title: ClassVar[str] = "Mirror (nobody 2026)"
    paper: ClassVar[str] = "Nobody N.: Mirrors. 2026."
    family: Literal["mirror"] = "mirror"
    width: int = 4

    def misfit(self, patch):
        return "is not a multiple of 4" if patch % 4 else None

    def distances(self, step, steps):
        return {"edges": step / steps, "features": 0.5}


class Mirror(Generator):
    def __init__(self, dims, patch, width):
        super().__init__()
        self.geometry = Geometry((View("sketch", 0),), patch=patch)
        first, last = layers.conv(dims, 1, width, 3, padding=1), layers.conv(dims, width, 1, 1)
        self.body = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, image):
        return (-as_image(image) + self.body(image),)


class MirrorJudge(nn.Module):
    def __init__(self, dims, width):
        super().__init__()
        self.first, self.last = layers.conv(dims, 2, width, 3), layers.conv(dims, width, 1, 3)

    def forward(self, source, image):
        features = torch.relu(self.first(torch.cat((source, image), dim=1)))
        return ((features, self.last(features)),)


class MirrorMethod(ImagePairs):
    name = "mirror"
    network = MirrorNetwork


def test_a_family_is_a_class_of_sizes_its_networks_and_a_row(tmp_path, monkeypatch):
    monkeypatch.setitem(configuration.FAMILIES, "mirror", MirrorNetwork)
    row = families.PairFamily(
        lambda net, dims, patch: Mirror(dims, patch, net.width),
        lambda net, dims: MirrorJudge(dims, net.discriminator_width),
    )
    monkeypatch.setitem(families.FAMILIES, "mirror", row)
    training = {"discriminator_accuracy": 1.0, "patch": 12, "steps": 2}
    config = of_pairs(tiny(2), "t1", "mirror").updated(
        network={"family": "mirror", "discriminator_width": 2}, training=training
    )
    assert type(config.network) is MirrorNetwork
    for changes, line in (
        (
            {"paired": None, "sketch": {"channels": ("edges",)}},
            "paired: the mirror family learns from pairs",
        ),
        ({"training": {"patch": 6}}, r"patch size 6 is not a multiple of 4 \(mirror\)"),
        ({"labels": (1,)}, r"mirror: labels is \(1,\): expected \(\)"),
        ({"network": {"width": "wide"}}, "network.width: expected a whole number, not 'wide'"),
        ({"perceptual": {"backbone": "a"}}, "the mirror family has no such loss"),
    ):
        with pytest.raises(InputError, match=line):
            config.updated(changes)
    assert step_cost(config, 2).judging > 0
    method = MirrorMethod.fit(
        pairs(tmp_path, 2), "t1", "t2", config, tmp_path / "run", device="cpu"
    )
    run = Run.open(tmp_path / "run")
    assert run.config.network == config.network
    assert run.config.single_scale
    (row,) = rows(run.folder, 2)
    assert {"l1", "edges", "features", "adversarial"} < row.keys()
    method.translate(source_in(tmp_path, 2), tmp_path / "o.nii", modality="t1")
    assert whole(tmp_path / "o.nii").std() > 0
    card = (export(run, tmp_path / "model") / "README.md").read_text()
    assert "Mirror (nobody 2026): one network translates the source image itself" in card
    assert "Nobody N.: Mirrors. 2026." in card
    assert "A result is as good as what its source shows." in card
