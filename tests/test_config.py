import pytest
import yaml
from pydantic import ValidationError

from msgan.config import (
    FAMILIES,
    CascadeConfig,
    MeganNetwork,
    Preparation,
    SeamlessNetwork,
    SketchConfig,
    TrainConfig,
    network_of,
)
from msgan.types import InputError

TRAINING = TrainConfig(steps=3, lr_steps=2)


def test_a_stored_configuration_is_read_back(tmp_path, dims):
    config = CascadeConfig(
        dims=dims,
        seed=7,
        preparation=Preparation(spacing_mm=(0.1,) * dims, scales=3, low=None),
        sketch=SketchConfig(channels=("edges", "ridges"), weight="local"),
        labels=(1, 2, 4),
        network=network_of(family="megan", dropout=0.0),
        training=TRAINING.model_copy(update={"mirror": (0, 1), "lr_patch": 32}),
    )
    path = tmp_path / "new" / "config.yaml"
    config.save(path)
    assert CascadeConfig.load(path) == config
    # Human-readable: plain YAML with every option in it.
    plain = yaml.safe_load(path.read_text())
    assert plain["training"]["learning_rate"] == config.training.learning_rate
    assert plain["labels"] == [1, 2, 4]


def test_a_configuration_does_not_change():
    config = CascadeConfig(training=TRAINING)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
    with pytest.raises(ValueError, match="frozen"):
        config.training.steps = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"steps": 1, "lr_steps": 1, "lerning_rate": 1}}, "training.lerning_rate"),
        ({"colour": 1}, "colour: no such setting"),
        ({"dims": 4}, "dims: expected 2 or 3, not 4"),
        ({"training": {"lr_steps": 1}}, "training.steps: is missing"),
        ({"training": {"steps": 0, "lr_steps": 1}}, "training.steps: expected at least 1, not 0"),
        ({"network": {"dropout": 1.0}}, "network.dropout: expected less than 1.*, not 1.0"),
        ({"conditioning": {"blur_share": 1.1}}, "conditioning.blur_share"),
        ({"sketch": {"low": 0.5, "high": 0.2}}, "sketch.*low 0.5 exceeds high 0.2"),
        (
            {
                "network": {"family": "megan"},
                "training": {"steps": 1, "lr_steps": 1, "patch": 30},
            },
            "patch size 30: the megan family runs at 32 only",
        ),
        (
            {"network": {"lr_levels": 3, "lr_border": 6}},
            r"lr_border 6 is not a multiple of 4, which is 2\^\(lr_levels - 1\)",
        ),
        ({"network": {"family": "megan", "lr_border": 8}}, "lr_border 8.*expected 0"),
        (
            {"network": {"family": "other"}},
            "network: family 'other': expected 'megan' or 'seamless'",
        ),
        ({"network": {"family": [1]}}, "network: family .*expected 'megan' or 'seamless'"),
        ({"network": None}, "network: expected keys and values, not nothing"),
        ({"network": {"width": 3}}, "network.width: no such setting"),
        ({"network": {"lr_width": 1024}}, "network: lr_width 1024 doubles"),
        ({"dims": 2, "preparation": {"spacing_mm": [1, 1, 1]}}, "3 axes, dims is 2"),
        (
            {"dims": 2, "training": {"steps": 1, "lr_steps": 1, "mirror": [2]}},
            r"mirror axes \(2,\) do not fit dims 2",
        ),
        ({"guidance": {"student": True}}, "guidance: student and detail need a match: auto, hist"),
        (
            {"guidance": {"match": "auto"}, "paired": "t1"},
            "guidance: needs a cascade that is neither paired nor drops inputs",
        ),
        (
            {"guidance": {"match": "auto"}, "drop_inputs": ["sketch"]},
            "guidance: needs a cascade that is neither paired nor drops inputs",
        ),
        (
            {"guidance": {"match": "spectrum"}, "contrast": {"share": 0.5, "fresh": 0.25}},
            r"contrast\.fresh 0\.25: an image drawn anew is not matched .*: expected 0",
        ),
        (
            {
                "guidance": {"match": "histogram", "detail": True},
                "network": {"family": "megan"},
                "training": {"steps": 1, "lr_steps": 1, "patch": 32},
            },
            r"guidance\.detail: needs the seamless family, not megan",
        ),
        ({"auto_context": "abc"}, "auto_context abc: results of a source image need paired"),
        (
            {"auto_context": "abc", "paired": "t1"},
            r"sketch channels \('edges',\) and auto_context abc: .* need each other",
        ),
        (
            {"paired": "t1", "sketch": {"channels": ["image", "auto_context"]}},
            "auto_context None: .* need each other",
        ),
    ],
)
def test_errors_name_file_key_and_rule_in_one_line(tmp_path, change, message):
    path = tmp_path / "config.yaml"
    plain = CascadeConfig(training=TRAINING).model_dump(mode="json") | change
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(InputError, match=message) as error:
        CascadeConfig.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "just words", "a: [", "\tx: 1"])
def test_files_that_are_no_configuration_are_refused(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        CascadeConfig.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such configuration"):
        CascadeConfig.load(tmp_path / "none.yaml")


def test_updated_changes_what_it_names_and_validates_the_whole():
    config = CascadeConfig(training=TRAINING, labels=(1,))
    changed = config.updated(
        training={"steps": 7}, labels=(2, 3), preparation=Preparation(margin=5)
    )
    assert changed.training == TrainConfig(**{**TRAINING.model_dump(), "steps": 7})
    assert (changed.labels, changed.preparation.margin) == ((2, 3), 5)
    assert config.updated() == config
    assert changed.network == config.network
    for changes, message in (
        ({"training": {"stepz": 7}}, "training.stepz: no such setting"),
        ({"network": {"family": "megan", "lr_border": 8}}, "the published network"),
        ({"network": {"family": "megan"}, "training": {"patch": 16}}, "16: .* runs at 32 only"),
        ({"seed": "many"}, "seed: "),
        ({"training": {"mirror": (5,)}}, r"mirror axes \(5,\) do not fit"),
    ):
        with pytest.raises(InputError, match=message):
            config.updated(**changes)


def test_channels_are_those_that_can_be_drawn():
    from msgan.config import CHANNELS
    from msgan.sketch import CHANNELS as DRAWN

    assert set(CHANNELS) == set(DRAWN)
    for channels, message in (((), "expected at least one"), (("edgez",), "'edgez' is none of")):
        with pytest.raises(InputError, match=message):
            CascadeConfig(training=TRAINING).updated(sketch={"channels": channels})


def test_a_family_is_seamless_where_none_is_stated(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("network: {lr_border: 8}\ntraining: {steps: 1, lr_steps: 1}\n")
    assert CascadeConfig.load(path).network == SeamlessNetwork(lr_border=8)


def test_another_family_keeps_what_both_have():
    config = CascadeConfig(network=network_of(lr_border=8, hr_width=7), training=TRAINING)
    paper = config.updated(network={"family": "megan", "dropout": 0.0})
    assert paper.network == MeganNetwork(hr_width=7, dropout=0.0)
    assert paper.network.lr_border == 0
    assert paper.updated(network={"family": "seamless"}).network == network_of(
        hr_width=7, dropout=0.0
    )
    # Of one family nothing is lost, and what only the other has is no setting.
    assert config.updated(network={"family": "seamless"}) == config
    with pytest.raises(InputError, match=r"network\.rim: no such setting"):
        config.updated(network={"family": "megan", "rim": 6})


def test_families_are_those_that_can_be_built():
    from msgan.networks import families

    assert FAMILIES.keys() == families.FAMILIES.keys()
    for name, family in FAMILIES.items():
        assert family.model_fields["family"].default == name
        kind = families.PairFamily if family.pairs else families.CascadeFamily
        assert type(families.FAMILIES[name]) is kind
        assert bool(family.title) == bool(family.paper) == family.pairs


def test_the_published_network_is_no_word():
    with pytest.raises(ValidationError, match="MeganNetwork"):
        MeganNetwork.model_validate("large")


def test_what_only_one_family_has_is_stored_for_it_alone():
    """Files of older runs state a border of 0 for the published networks."""
    assert "lr_border" not in MeganNetwork().model_dump()
    assert MeganNetwork(lr_border=0) == MeganNetwork()
    assert set(SeamlessNetwork().model_dump()) - set(MeganNetwork().model_dump()) == {"lr_border"}
