import pytest

from msgan import sketch
from msgan.config import CascadeConfig
from msgan.presets import PRESETS, brain, preset, thorax, xray
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
    config = preset("paper", dims)
    net, training, degradation = config.network, config.training, config.degradation
    assert net.family == "paper"
    assert {net.low_width, net.high_width, net.discriminator_width} == {64}
    assert (net.high_blocks, net.low_levels, net.dropout) == (6, 4, 0.2)
    assert (training.patch, training.low_patch, config.preparation.longest) == (32, None, 64)
    assert (training.learning_rate, training.beta1) == (2e-4, 0.5)
    assert (training.gan, training.gan_weight, training.l1_weight) == ("least_squares", 1, 10)
    assert training.discriminator_accuracy == 0.8
    assert (degradation.blur_share, degradation.half_share) == (0.3, 0.2)
    assert (config.sketch.channels, degradation.sketch_noise) == (("edges",), 0.01)
    assert config.contrast.share == 0


@pytest.mark.parametrize("name", PRESETS)
def test_thorax_presets_are_in_hu_and_change_nothing_else(name, dims):
    config, base = thorax(name, dims, seed=5), preset(name, dims, seed=5)
    assert CascadeConfig.model_validate(config.model_dump()) == config
    assert (config.dims, config.seed, config.network.family) == (dims, 5, base.network.family)
    ct = config.preparation
    assert (ct.intensity, ct.low, ct.scales) == (
        "window",
        -1024,
        {"paper": 3, "small": 2}.get(name, 1),
    )
    assert -855 < ct.foreground < -100  # lungs and air are below, fat and tissue above
    assert ct.high > 650  # the phantom's bone
    assert (config.sketch.channels, config.contrast.share, config.labels) == (("edges",), 0, ())


@pytest.mark.parametrize("name", PRESETS)
def test_xray_presets_are_2d_and_draw_one_modality(name):
    config, base = xray(name, seed=5), preset(name, 2, seed=5)
    assert CascadeConfig.model_validate(config.model_dump()) == config
    assert (config.dims, config.seed, config.network.family) == (2, 5, base.network.family)
    assert config.sketch.channels == ("edges",)
    assert config.contrast.share == 0  # no other modality is ever seen
    assert set(config.training.mirror) <= {1}  # nobody stands on their head


def test_an_unknown_preset_is_refused():
    with pytest.raises(InputError, match=r"preset 'huge' is none of .*smoke.*paper"):
        preset("huge")
    with pytest.raises(InputError, match=r"preset 'huge' is none of .*smoke.*paper"):
        thorax("huge")
    with pytest.raises(InputError, match=r"preset 'huge' is none of .*smoke.*paper"):
        xray("huge")


def test_background_lies_around_brains_alone():
    """A radiograph shows body to its edge, a CT's box ends at the skin."""
    for config in (preset("small"), preset("small", 2), brain("small")):
        assert config.training.low_patch
        assert config.network.low_border
    for config in (thorax("small"), xray("small")):
        assert not config.network.low_border
