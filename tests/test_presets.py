import pytest

from msgan import sketch
from msgan.config import CascadeConfig, Guidance
from msgan.presets import ANATOMIES, PRESETS, TABLE, Sizes, preset, sizes
from msgan.training.step import build_discriminator, build_generator
from msgan.types import InputError


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_built_stored_and_read(tmp_path, dims, name):
    import torch

    config = preset(name, dims=dims, seed=5)
    assert (config.dims, config.seed) == (dims, 5)
    # Nothing went past validation on its way (model_copy does not validate).
    assert CascadeConfig.model_validate(config.model_dump()) == config
    config.save(tmp_path / "config.yaml")
    assert CascadeConfig.load(tmp_path / "config.yaml") == config
    assert sketch.channels(config.sketch, dims) > 0
    with torch.device("meta"):
        for scale in (0, 1):
            build_generator(config, scale)
            build_discriminator(config, scale)


def test_the_published_preset_is_what_was_published(dims):
    """Facts of the papers and of the first author's code only."""
    config = preset("published", dims=dims)
    net, training, conditioning = config.network, config.training, config.conditioning
    assert net.family == "megan"
    assert {net.lr_width, net.hr_width, net.discriminator_width} == {64}
    assert (net.hr_blocks, net.lr_levels, net.dropout) == (6, 4, 0.2)
    assert (training.patch, training.lr_patch, config.preparation.longest) == (32, None, 64)
    assert (training.learning_rate, training.beta1) == (2e-4, 0.5)
    assert (training.gan, training.gan_weight, training.l1_weight) == ("least_squares", 1, 10)
    assert training.discriminator_accuracy == 0.8
    assert (conditioning.blur_share, conditioning.half_share) == (0.3, 0.2)
    assert (config.sketch.channels, conditioning.sketch_noise) == (("edges",), 0.01)
    assert config.contrast.share == 0


@pytest.mark.parametrize("name", PRESETS)
def test_thorax_presets_are_in_hu_and_change_nothing_else(name, dims):
    config, base = (preset(name, a, dims=dims, seed=5) for a in ("thorax", "any"))
    assert CascadeConfig.model_validate(config.model_dump()) == config
    assert (config.dims, config.seed, config.network.family) == (dims, 5, base.network.family)
    ct = config.preparation
    assert (ct.intensity, ct.low, ct.scales) == (
        "window",
        -1024,
        {"published": 3, "small": 2}.get(name, 1),
    )
    assert -855 < ct.foreground < -100  # lungs and air are below, fat and tissue above
    assert ct.high > 650  # the phantom's bone
    assert (config.sketch.channels, config.labels) == (("edges",), ())
    guided = name != "published"
    assert (config.guidance.match, config.guidance.student) == (
        "spectrum" if guided else "none",
        False,
    )
    assert (config.contrast.share > 0, config.contrast.kind == "kernel") == (guided, guided)


@pytest.mark.parametrize("name", PRESETS)
def test_xray_presets_are_2d_and_draw_one_modality(name):
    config, base = (preset(name, a, dims=2, seed=5) for a in ("xray", "any"))
    assert CascadeConfig.model_validate(config.model_dump()) == config
    assert (config.dims, config.seed, config.network.family) == (2, 5, base.network.family)
    assert config.sketch.channels == ("edges",)
    assert config.contrast.share == 0  # no other modality is ever seen
    assert set(config.training.mirror) <= {1}  # nobody stands on their head


@pytest.mark.parametrize("anatomy", ["brain", "thorax"])
def test_unguided_is_the_cascade_of_the_sketch_alone(anatomy):
    guided = preset("small", anatomy)
    plain = guided.unguided()
    assert guided.guidance.on
    assert plain.guidance == Guidance()
    assert plain.contrast.share == (0 if anatomy == "thorax" else guided.contrast.share)
    same = {"guidance": guided.guidance, "contrast": guided.contrast}
    assert plain.updated(same) == guided


def test_an_unknown_preset_is_refused():
    with pytest.raises(InputError, match=r"preset 'huge' is none of .*smoke.*published"):
        preset("huge")
    with pytest.raises(InputError, match=r"preset 'huge' is none of .*smoke.*published"):
        preset("huge", "thorax")
    with pytest.raises(InputError, match=r"preset 'huge' is none of .*smoke.*published"):
        sizes("huge", "xray")
    with pytest.raises(InputError, match=r"anatomy 'knee' is none of any, brain, thorax, xray"):
        preset("smoke", "knee")
    with pytest.raises(InputError, match="dims 3: X-rays have 2"):
        preset("smoke", "xray", dims=3)
    with pytest.raises(InputError, match="anatomy 'any' has no phantoms: brain, thorax, xray have"):
        sizes("smoke", "any")


def test_the_table_has_a_row_for_each_and_no_column_that_counts_for_nothing():
    assert set(TABLE) == {(name, anatomy) for name in PRESETS for anatomy in ANATOMIES}
    for (name, anatomy), row in TABLE.items():
        config = preset(name, anatomy)
        parts = (config, config.preparation, config.conditioning, config.network, config.training)
        known = {field for part in parts for field in type(part).model_fields}
        assert set(row) <= known | set(Sizes.__dataclass_fields__)


def test_a_study_is_as_large_as_published():
    assert [sizes("published", a).size for a in ANATOMIES[1:]] == [192, 512, 2048]
    assert (sizes("published", "thorax").subjects, sizes("published", "thorax").folds) == (56, 5)
    assert (sizes("published", "brain").folds, sizes("published", "xray").folds) == (4, 0)
    assert sizes("smoke", "brain").measured == (0,)
    assert sizes("small", "brain").measured is None


def test_background_lies_around_brains_alone():
    """A radiograph shows body to its edge, a CT's box ends at the skin."""
    for config in (preset("small"), preset("small", dims=2), preset("small", "brain")):
        assert config.training.lr_patch
        assert config.network.lr_border
    for config in (preset("small", "thorax"), preset("small", "xray")):
        assert not config.network.lr_border
