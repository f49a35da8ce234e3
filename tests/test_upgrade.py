"""Configurations of older runs and models are read in today's words."""

import json
from pathlib import Path

import pytest
import yaml

from msgan.config import CascadeConfig
from msgan.data.intensity import IntensityMap
from msgan.runs.bundled import bundled
from msgan.runs.run import Run
from msgan.types import InputError
from msgan.upgrade import upgraded

OLD = """\
dims: 3
seed: 2020
preparation: {spacing_mm: [1.5, 1.5, 1.5], scales: 1, low: 0.0, high: 99.5}
sketch: {channels: [image, previous], low: 0.1, high: 0.2}
degradation: {noise: 0.07, made_share: 1.0}
labels: []
blind: [context]
paired: t1
previous: abc
network: {family: paper, low_width: 16, low_levels: 3, high_width: 12, high_blocks: 2}
training: {steps: 30, low_steps: 60, batch: 2, low_batch: 4, patch: 32, low_patch: 16}
"""


def load(folder: Path, text: str) -> CascadeConfig:
    path = folder / "config.yaml"
    path.write_text(text)
    return CascadeConfig.load(path)


def test_an_old_configuration_is_read_in_the_words_of_today(tmp_path: Path) -> None:
    config = load(tmp_path, OLD)
    assert (config.network.family, config.drop_inputs, config.auto_context) == (
        "megan",
        ("context",),
        "abc",
    )
    assert config.sketch.channels == ("image", "auto_context")
    assert (config.conditioning.noise, config.conditioning.generated_share) == (0.07, 1.0)
    network, training = config.network, config.training
    assert (network.lr_width, network.lr_levels, network.lr_border) == (16, 3, 0)
    assert (network.hr_width, network.hr_blocks) == (12, 2)
    assert (training.lr_steps, training.lr_batch, training.lr_patch) == (60, 4, 16)
    # Intensities and thresholds are low and high as before.
    assert (config.preparation.low, config.preparation.high) == (0.0, 99.5)
    assert (config.sketch.low, config.sketch.high) == (0.1, 0.2)


def test_what_is_said_in_the_words_of_today_stays(tmp_path: Path) -> None:
    config = load(tmp_path, OLD)
    content = config.model_dump(mode="json")
    assert upgraded(content, tmp_path) == content
    config.save(tmp_path / "again.yaml")
    assert CascadeConfig.load(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "blind: [context]",
            "blind: [context]\ndrop_inputs: []",
            "blind is the older name of drop",
        ),
        ("low_steps: 60", "low_steps: 60, lr_steps: 60", r"training\.low_steps is the older name"),
        ("low_width: 16", "low_wide: 16", r"network\.low_wide: no such setting"),
        ("family: paper", "family: papers", "family.*expected 'megan' or 'seamless'"),
        ("training: {", "training: [{", "config.yaml: not YAML"),
        (OLD, "- 1\n", "config.yaml: configuration: expected keys and values"),
        ("network: {", "network: 3\nlabels2: {", r"network: .*(expected|a network)"),
    ],
)
def test_what_cannot_be_upgraded_is_one_clear_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, OLD.replace(old, new))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_models_of_the_package_need_no_upgrade() -> None:
    for folder in bundled().values():
        content = yaml.safe_load((folder / "config.yaml").read_text())
        assert upgraded(content, folder) == content
        assert Run.open(folder).config.network.lr_width == content["network"]["lr_width"]


def test_an_older_run_is_opened_and_not_continued(tmp_path: Path) -> None:
    config = load(tmp_path, OLD)
    run = Run(tmp_path / "run", config, "t2", IntensityMap(0.0, 1.0), {"p0": "0" * 64})
    run.create()
    run.create()  # the same
    (run.folder / "config.yaml").write_text(OLD)
    card = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps(card | {"key": "0" * 16}))
    assert Run.open(run.folder).config == config
    with pytest.raises(InputError, match=r"holds another run .*the names of an older version"):
        run.create()
